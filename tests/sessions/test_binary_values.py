"""Values through a live binary listener: what hypothesis makes, in every encoding that msgpack allows, comes back the same.

"The same" is what Lua can tell apart, and a real Tarantool is held to it, too:

* str and bin are both strings of bytes, and come back as str;
* numbers have one type: 1.0 comes back as 1, and so does any float that is whole and fits into 64 bits (-0.0 as 0); other
  floats stay floats, nan and the infinities too, and a float of 4 bytes is the double of the same value;
* nil stays where it is: as an argument, in an array, and as a value in a map (as box.NULL);
* a map comes back as one where it has a key that no array has; of the others see test_a_map_stays_a_map;
* the keys of a map are strings, integers of 64 bits and booleans, in any order; true and 1 are two keys in Lua, but not at
  one time here, since that is an error (test_binary.py);
* extension values come back byte by byte.
"""
from __future__ import annotations

import contextlib
import math
import struct

import msgpack
import pytest
from conftest import need, rounds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from iproto_client import BinaryClient

from boxsession import Console

# Long values of a failing example are shown whole.
pytestmark = pytest.mark.filterwarnings('ignore::hypothesis.errors.HypothesisWarning')

ORDER = settings(max_examples=rounds(40, 500),
                 suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp('values') / 'init.lua'
    path.write_text("box.schema.user.grant('guest', 'execute', 'universe') function echo(...) return ... end")
    console = Console([{'address': '127.0.0.1:0', 'protocol': 'binary'}],
                      config={'init': str(path), 'limits': {'drain_seconds': 0.2}})
    console.start()
    yield console.addresses[0]
    console.stop()


# What is sent: pairs of (bytes, what must come back). What must come back is plain data in which each kind of value differs
# from each other: see told().

def _integer_forms(value):
    forms = []
    if 0 <= value < 0x80:
        forms.append(bytes([value]))
    if -32 <= value < 0:
        forms.append(struct.pack('b', value))
    for code, letter, least, end in ((0xcc, 'B', 0, 1 << 8), (0xcd, 'H', 0, 1 << 16), (0xce, 'I', 0, 1 << 32),
                                     (0xcf, 'Q', 0, 1 << 64), (0xd0, 'b', -1 << 7, 1 << 7), (0xd1, 'h', -1 << 15, 1 << 15),
                                     (0xd2, 'i', -1 << 31, 1 << 31), (0xd3, 'q', -1 << 63, 1 << 63)):
        if least <= value < end:
            forms.append(bytes([code]) + struct.pack('>' + letter, value))
    return forms


def _sized_forms(count, fix, fix_end, codes):
    """The prefixes of something of a length; `codes` are those of the lengths of 1, 2 and 4 bytes, or None."""
    forms = [bytes([fix + count])] if count < fix_end else []
    for code, width in zip(codes, (1, 2, 4), strict=True):
        if code is not None and count < 1 << 8 * width:
            forms.append(bytes([code]) + count.to_bytes(width, 'big'))
    return forms


def _number(value):
    if math.isfinite(value) and value == math.floor(value) and -2 ** 63 <= value < 2 ** 64:
        return 'int', int(value)
    return 'float', repr(value)


EDGES = [edge + step for power in (5, 7, 8, 15, 16, 31, 32, 53, 63, 64) for edge in (1 << power, -1 << power)
         for step in (-1, 0, 1) if -1 << 63 <= edge + step < 1 << 64]
numbers = st.one_of(st.integers(-300, 300), st.sampled_from(EDGES), st.integers(-2 ** 63, 2 ** 64 - 1))


@st.composite
def integers(draw, values=numbers):
    value = draw(values)
    return draw(st.sampled_from(_integer_forms(value))), ('int', value)


doubles = st.one_of(st.floats(), st.integers(-2 ** 70, 2 ** 70).map(float)).map(
    lambda value: (b'\xcb' + struct.pack('>d', value), _number(value)))
floats = st.floats(width=32).map(lambda value: (b'\xca' + struct.pack('>f', value), _number(value)))
booleans = st.sampled_from([(b'\xc3', ('bool', True)), (b'\xc2', ('bool', False))])
nils = st.just((b'\xc0', ('nil',)))


@st.composite
def strings(draw):
    data = draw(st.one_of(st.binary(max_size=40), st.text(max_size=20).map(lambda text: text.encode()),
                          st.sampled_from([31, 32, 255, 256, 65535, 65536]).map(lambda count: b'\xff' * count)))
    forms = _sized_forms(len(data), 0xa0, 32, (0xd9, 0xda, 0xdb)) + _sized_forms(len(data), 0, 0, (0xc4, 0xc5, 0xc6))
    return draw(st.sampled_from(forms)) + data, ('str', data)


@st.composite
def decimals(draw):
    """As Tarantool writes them: a scale, and digits with a sign in their last half byte (0x0d is minus, of six signs)."""
    digits = str(draw(st.integers(0, 10 ** 38 - 1)))
    scale = draw(st.integers(0, len(digits)))
    sign = 'd' if draw(st.booleans()) and digits != '0' else 'c'
    packed = digits + sign if len(digits) % 2 else '0' + digits + sign
    return draw(extension_of(1, draw(st.sampled_from(_integer_forms(scale)[:1])) + bytes.fromhex(packed)))


@st.composite
def extension_of(draw, code, data):
    fixed = {1: b'\xd4', 2: b'\xd5', 4: b'\xd6', 8: b'\xd7', 16: b'\xd8'}
    forms = _sized_forms(len(data), 0, 0, (0xc7, 0xc8, 0xc9)) + ([fixed[len(data)]] if len(data) in fixed else [])
    return draw(st.sampled_from(forms)) + struct.pack('b', code) + data, ('ext', code, data)


uuids = st.binary(min_size=16, max_size=16).flatmap(lambda data: extension_of(2, data))
datetimes = st.one_of(
    st.integers(-2 ** 40, 2 ** 40).map(lambda seconds: struct.pack('<q', seconds)),
    st.builds(lambda seconds, nanoseconds, offset: struct.pack('<qihh', seconds, nanoseconds, offset, 0),
              st.integers(-2 ** 40, 2 ** 40), st.integers(0, 999999999), st.integers(-720, 840))).flatmap(
                  lambda data: extension_of(4, data))
others = st.tuples(st.integers(5, 127), st.binary(max_size=20)).flatmap(lambda pair: extension_of(*pair))
keys = st.one_of(strings(), integers(), booleans)


def _arrays(values):
    def join(items, form):
        forms = _sized_forms(len(items), 0x90, 16, (None, 0xdc, 0xdd))
        return (forms[form % len(forms)] + b''.join(data for data, _ in items),
                ('array', tuple(shown for _, shown in items)))
    return st.builds(join, st.one_of(st.lists(values, max_size=6), st.lists(values, min_size=15, max_size=17)),
                     st.integers(0, 2))


def _maps(values):
    def join(pairs, form):
        shown = {key[1] for key, _ in pairs}
        pairs = [(key, value) for key, value in pairs
                 if not (key[1][0] == 'bool' and ('int', int(key[1][1])) in shown)]
        if all(key[1][0] == 'int' and key[1][1] > 0 for key, _ in pairs):
            pairs.append(((b'\xa1m', ('str', b'm')), (b'\xc3', ('bool', True))))
        forms = _sized_forms(len(pairs), 0x80, 16, (None, 0xde, 0xdf))
        return (forms[form % len(forms)] + b''.join(key[0] + value[0] for key, value in pairs),
                ('map', frozenset((key[1], value[1]) for key, value in pairs)))
    return st.builds(join, st.lists(st.tuples(keys, values), max_size=5, unique_by=lambda pair: pair[0][1]),
                     st.integers(0, 2))


plain = st.one_of(nils, booleans, integers(), doubles, floats, strings())
# Tarantool 2.6 takes a uuid in its shortest form alone, and of a standard's variant.
known = st.one_of(plain, decimals(), st.uuids(version=4).map(
    lambda value: (b'\xd8\x02' + value.bytes, ('ext', 2, value.bytes))))


def _nested(leaves):
    values = st.recursive(leaves, lambda inner: st.one_of(_arrays(inner), _maps(inner)), max_leaves=12)

    @st.composite
    def arguments(draw):
        return draw(st.lists(values, max_size=4))
    return arguments()


def told(value):
    """Data of msgpack as the strategies tell it."""
    if value is None:
        return ('nil',)
    if type(value) is bool:
        return 'bool', value
    if type(value) is int:
        return 'int', value
    if type(value) is float:
        return 'float', repr(value)
    if type(value) is bytes:
        return 'str', value
    if type(value) is list:
        return 'array', tuple(map(told, value))
    if type(value) is tuple:
        pairs = frozenset((told(key), told(item)) for key, item in value)
        assert len(pairs) == len(value)
        return 'map', pairs
    if type(value) is msgpack.Timestamp:
        return 'ext', -1, value.to_bytes()
    return 'ext', value.code, value.data


def _echo(client, arguments, expression=b'\x27\xaareturn ...', kind=8):
    payload = bytes([0x82, 0, kind, 1, 7, 0x82]) + expression + b'\x21\xdd' + len(arguments).to_bytes(4, 'big')
    payload += b''.join(data for data, _ in arguments)
    client.sock.sendall(b'\xce' + len(payload).to_bytes(4, 'big') + payload)
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, object_pairs_hook=tuple)
    unpacker.feed(client.read(int.from_bytes(client.read(5)[1:], 'big')))
    header, body = (dict(part) for part in unpacker)
    assert (0, 7) == (header[0], header[1]), body
    return told(body[0x30])


def _hold(where, leaves, expression=b'\x27\xaareturn ...', kind=8):
    client = BinaryClient(where)

    @ORDER
    @given(_nested(leaves))
    def check(arguments):
        assert ('array', tuple(shown for _, shown in arguments)) == _echo(client, arguments, expression, kind)
    try:
        check()
    finally:
        client.close()


def test_any_value_in_any_encoding_comes_back_from_eval(address):
    _hold(address, st.one_of(plain, uuids, decimals(), datetimes, others))


def test_any_value_in_any_encoding_comes_back_from_call(address):
    _hold(address, st.one_of(plain, uuids, decimals(), datetimes, others), b'\x22\xa4echo', 10)


def _edges():
    for value in EDGES:
        yield [(form, ('int', value)) for form in _integer_forms(value)]
        yield [(b'\xcb' + struct.pack('>d', number), _number(number))
               for number in (float(value), value + 0.5, value * 1e30, math.nextafter(value, math.inf))]
    yield [(b'\xca' + struct.pack('>f', number), _number(struct.unpack('>f', struct.pack('>f', number))[0]))
           for number in (0.0, -0.0, 0.1, 1e38, 1e-45, math.inf, -math.inf, math.nan)]


@pytest.mark.parametrize('where', ['ours', pytest.param('theirs', marks=need('tarantool'))])
def test_each_number_at_an_edge(request, where):
    """Numbers at the limits of MessagePack's encodings, of exact integers in a double, and of 64 bits."""
    where = request.getfixturevalue('address' if where == 'ours' else 'tarantool_binary')
    with contextlib.closing(BinaryClient(where)) as client:
        for arguments in _edges():
            assert ('array', tuple(shown for _, shown in arguments)) == _echo(client, arguments)


@pytest.mark.parametrize('value', [{}, {1: 'a'}, {1: 'a', 2: 'b'}, {2: 'a'}, {'in': {}}, {1: None}], ids=repr)
def test_a_map_stays_a_map(address, value):
    with contextlib.closing(BinaryClient(address)) as client:
        assert [value] == client.eval('return ...', value)


def test_a_sparse_table_that_is_to_be_an_array_is_one(address):
    with contextlib.closing(BinaryClient(address)) as client:
        assert [[1, *[None] * 18, 1]] == client.eval(
            "return setmetatable({[1] = 1, [20] = 1}, {__serialize = 'array'})")


@need('tarantool')
def test_a_tarantool_means_the_same(tarantool_binary):
    _hold(tarantool_binary, known)
