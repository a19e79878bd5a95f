"""Which values exposed functions take and return: Python's types as Lua's, and back."""
from __future__ import annotations

import array
import datetime
import enum
import json
import uuid
from collections import OrderedDict, UserString, deque, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path, PurePosixPath

import pytest

from boxsession.values.packed import Unpackable, pack, unpack

UTC = datetime.timezone.utc
Point = namedtuple('Point', 'x y')


class Color(enum.Enum):
    RED = 'red'
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Order:
    id: int
    at: object
    token: str = field(default='secret', repr=False)
    _cache: object = None


# A value, what a client reads, and what an exposed function gets back.
VALUES = {
    'datetime': (datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), '2024-01-02T03:04:05+00:00', None),
    'naive': (datetime.datetime(2024, 1, 2, 3, 4, 5, 6), '2024-01-02T03:04:05.000006', None),
    'time': (datetime.time(3, 4), '03:04:00', None),
    'timedelta': (datetime.timedelta(minutes=1, milliseconds=500), 60.5, 60.5),
    'decimal': (Decimal('12.25'), 12.25, Decimal('12.25')),
    'uuid': (uuid.UUID(int=5), '00000000-0000-0000-0000-000000000005', uuid.UUID(int=5)),
    'enums': ([Color.RED, Color.BLUE, Level.LOW], ['red', 2, 1], ['red', 2, 1]),
    'dataclass': (Order(1, [Path('/a/b')]), {'id': 1, 'at': ['/a/b']}, {'id': 1, 'at': ['/a/b']}),
    'namedtuple': (Point(1, (2, 3)), {'x': 1, 'y': [2, 3]}, {'x': 1, 'y': [2, 3]}),
    'deque': (deque([1, 2]), [1, 2], [1, 2]),
    'views': ([{'a': 1}.keys(), {'a': 1}.values(), {'a': 1}.items()], [['a'], [1], [['a', 1]]], [['a'], [1], [['a', 1]]]),
    'sets': ([{1}, frozenset('a')], [[1], ['a']], [[1], ['a']]),
    'sequences': ([range(3), array.array('i', [4])], [[0, 1, 2], [4]], [[0, 1, 2], [4]]),
    'strings': ([PurePosixPath('b'), UserString('u'), bytearray(b'c')], ['b', 'u', 'c'], ['b', 'u', 'c']),
    'a map': ({1: 'a', 5: 'b'}, {1: 'a', 5: 'b'}, {1: 'a', 5: 'b'}),
    'a map of one': ([{1: 'a'}, {True: 1}], [{1: 'a'}, {True: 1}], [{1: 'a'}, {True: 1}]),
    'an empty map': (OrderedDict(), {}, {}),
    'keys': ({datetime.time(1): 1, uuid.UUID(int=5): 2, Decimal('0.5'): 3, Color.RED: 4, 2**60: 5, PurePosixPath('p'): 6},
             {'01:00:00': 1, '00000000-0000-0000-0000-000000000005': 2, '0.5': 3, 'red': 4, str(2**60): 5, 'p': 6}, None),
}
WHOLE = [2**53, 2**53 + 1, 10**16, 10**17 + 1, 2**63, 2**64 - 1, -2**53, -2**53 - 1, -10**18 - 7, -2**63]


@pytest.fixture
def client(console, connect):
    got = []
    values = {name: value for name, (value, _, _) in VALUES.items()}
    connected = connect(console(expose={'get': values.__getitem__, 'give': got.append, 'same': lambda *values: list(values),
                                        'whole': lambda number: WHOLE[number], 'bad': lambda: BAD[0],
                                        'decimal': Decimal}))
    connected.got = got
    return connected


@pytest.mark.parametrize('name', VALUES)
def test_python_values_are_natural_in_lua(client, name):
    _, shown, back = VALUES[name]
    # YAML reads times and dates as other types, JSON has no numbers as keys.
    if name in ('datetime', 'naive', 'time', 'keys'):
        assert shown == json.loads(client.value(f'require("json").encode(get("{name}"))'))
    else:
        assert shown == client.value(f'get("{name}")')
    client.reply(f'give(get("{name}"))')
    assert [shown if back is None else back] == client.got


@pytest.mark.parametrize('number', range(len(WHOLE)))
def test_whole_numbers_of_64_bits_keep_each_digit(client, number):
    assert f'---\n- {WHOLE[number]}\n...\n'.encode() == client.reply(f'whole({number})')
    client.reply(f'give(whole({number}))')
    assert [WHOLE[number]] == client.got
    assert [True] == client.values(f'whole({number}) == whole({number})')


@pytest.mark.parametrize('text', ['0', '-0.001', '1E+10', '12.50', '123456789012345678901234567890', '1E-30', '-7'])
def test_decimals_keep_each_digit(client, text):
    client.reply(f'give(decimal("{text}"))')
    assert [str(Decimal(text))] == list(map(str, client.got))
    assert f'---\n- {Decimal(text):f}\n...\n'.encode() == client.reply(f'decimal("{text}")')
    assert ['cdata'] == client.values('type(decimal("1"))')


def test_maps_stay_maps_in_all_formats(client):
    assert b'{"1":"a","5":"b"}' in client.reply('require("json").encode(get("a map"))')
    assert b'{}' in client.reply('require("json").encode(get("an empty map"))')
    client.send('\\set output lua\n')
    client.read_until(b';')
    client.send('get("a map")\n')
    assert client.read_until(b';').endswith(b'[5] = "b"};')


BAD = [None]


class Odd:
    pass


@pytest.mark.parametrize('value, message', [
    (Odd(), 'TypeError: Odd cannot be passed to Lua: give it __serialize__, or return plain data'),
    ({'orders': [1, 2, {'at': 1j}]}, 'TypeError: .orders[3].at: complex cannot be passed to Lua'),
    ([Point(0, Order(1, {'a b': [Odd]}))], 'TypeError: [1].y.at["a b"][1]: type cannot be passed to Lua'),
    ({'n': 2**64}, 'ValueError: .n: integer of 65 bits does not fit 64 bits: return it as a string'),
    ([-2**63 - 1], 'ValueError: [1]: integer of 64 bits does not fit 64 bits'),
    ({'a': {None: 1}}, 'ValueError: .a[NoneType]: None cannot be a key in Lua'),
    ([Decimal('1E+40')], 'ValueError: [1]: decimal 1E+40 has more than 38 digits: return it as a string'),
    ((number for number in [1]), 'TypeError: generator cannot be passed to Lua'),
])
def test_what_cannot_be_passed_is_told_with_its_place(client, value, message):
    BAD[0] = value
    assert client.error('bad()').startswith(message)
    assert [False] == client.values('(pcall(bad))')


@pytest.mark.parametrize('arguments, message', [
    ('{orders = {1, 2, {at = print}}}', 'cannot pass a function to Python: argument 1, .orders[3].at: pass plain data'),
    ('1, {["a b"] = {[2.5] = coroutine.create(print)}}', 'cannot pass a thread to Python: argument 2, ["a b"][2.5]'),
    ('1, 2, print', 'cannot pass a function to Python: argument 3: pass plain data'),
    ('{a = {[{}] = 1}}', 'a table cannot be a key in Python: argument 1, .a'),
    ('{{1}, {{2}, print}}', 'cannot pass a function to Python: argument 1, [2][2]'),
    ('box.error.new({reason = "x"})', 'cannot pass a userdata to Python: argument 1'),
])
def test_arguments_that_cannot_be_passed_are_told_with_their_place(client, arguments, message):
    assert client.error(f'same({arguments})').startswith(message)


def test_a_value_that_contains_itself_is_refused_with_a_short_path():
    value = {}
    value['again'] = value
    with pytest.raises(Unpackable, match=r'^value is nested deeper than 100: (\.again){12}\.\.\.$'):
        pack(value)


def test_what_lua_holds_as_an_object_comes_back():
    value = [Decimal('-1.50'), uuid.UUID(int=1), 2**64 - 1]
    assert value == unpack(pack(value))
    moment = datetime.datetime(2024, 5, 1, 12, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    data = (int(moment.timestamp()).to_bytes(8, 'little') + bytes(4) + (120).to_bytes(2, 'little') + bytes(2))
    assert [moment] == unpack(b'LE17:\x04%s]' % data)
    with pytest.raises(Unpackable):
        unpack(b'LE2:\x09x]')
