"""Values of statements in Python as the client reads them."""
from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import uuid
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from boxsession.python.values import packed
from boxsession.values import lua_text
from boxsession.values.documents import reply_document
from boxsession.values.packed import pack, tokens

MOST = 1 << 20


def document(value, most=MOST, **options):
    return reply_document(b'\1' + packed(value, most, **options)).decode()


def read(value, **options):
    [found] = yaml.safe_load(document(value, **options))
    return found


class Color(enum.Enum):
    RED = 'red'


class Level(enum.IntEnum):
    HIGH = 3


Point = namedtuple('Point', 'x y')


@dataclasses.dataclass
class Order:
    number: int
    rows: list
    secret: str = dataclasses.field(default='abc', repr=False)

    @property
    def total(self):
        raise AssertionError('a property ran')


@dataclasses.dataclass
class Slotted:
    __slots__ = ('a', 'b')
    a: int
    b: int


class Trap:
    def __getattribute__(self, name):
        raise AssertionError(f'code of the program ran: {name}')

    __repr__ = __str__ = __iter__ = __len__ = __bool__ = __hash__ = None


class Trapped(dict):
    def __iter__(self):
        raise AssertionError('code of the program ran')

    items = keys = values = __getitem__ = __len__ = __iter__


@pytest.mark.parametrize('value', [
    None, True, False, 0, -5, 2 ** 63, 2 ** 64, 10 ** 400, -10 ** 400, 1.5, 1e16, 1e-7, -0.0, float('inf'), '', 'text',
    'a\nb', 'null', 'Yes', 'off', '~', 'y', '12', '1e5', '0x1F', '1:30', '1_000', '2024-01-01',
    '2024-01-01T00:00:00Z', '.inf', '=',
    '- a', 'a: b', '#', 'ä', '\x07', "it's", '"', [], {}, [[], {}], [1, [2, [3]]],
    {'a': None, 1: 2, False: 3, None: 4, 1.5: 5},
    {'1': 1, 1: 2}, 'x' * 5000, ' a ', b'\xff\0', 'nan', '<<',
], ids=lambda value: '')
def test_plain_data_is_read_back(value):
    assert read(value) == value


@pytest.mark.parametrize('value, expected', [
    ((1, 2), [1, 2]), (Point(1, 'a'), {'x': 1, 'y': 'a'}), ({5}, [5]), (frozenset('a'), ['a']), (deque([1]), [1]),
    (b'ab', 'ab'),
    (bytearray(b'12'), '12'), (memoryview(b'ab'), 'ab'), ({'a': 1}.keys(), ['a']), ({'a': 1}.values(), [1]),
    ({'a': 1}.items(), [['a', 1]]), (Counter('aab'), {'a': 2, 'b': 1}), (defaultdict(list, a=[1]), {'a': [1]}),
    (OrderedDict(a=1), {'a': 1}), (Color.RED, 'red'), (Level.HIGH, 3), ({Color.RED: Level.HIGH}, {'red': 3}),
    (datetime.datetime(2024, 1, 2, 3, 4, 5), '2024-01-02T03:04:05'), (datetime.date(2024, 1, 2), '2024-01-02'),
    (datetime.time(1, 30), '01:30:00'), (datetime.timedelta(minutes=1), 60.0), (Path('/tmp/a'), '/tmp/a'),
    (uuid.UUID(int=1), '00000000-0000-0000-0000-000000000001'), (Decimal('1.10'), 1.1), (Decimal('1E+3'), 1000),
    (Decimal('1E+900000'), '1E+900000'), (Decimal('-Infinity'), -math.inf), (Order, '<type>'), (object(), '<object>'),
    ({(1, 'a'): 2}, {"(1, 'a')": 2}),
    (1 << (1 << 21), '<int of 2097153 bits>'),
    ('\ud800', b'\xed\xa0\x80'), (range(3), '<range>'),
], ids=lambda value: '')
def test_other_types(value, expected):
    assert read(value) == expected


def test_objects_of_the_programs_classes():
    # Made here: an object that lives as long as the module would be seen by whoever looks at all objects of the process.
    assert read(Order(7, [Point(1, 2)])) == {'number': 7, 'rows': [{'x': 1, 'y': 2}]}
    assert read(Slotted(1, 2)) == {'a': 1, 'b': 2}
    assert read(Trap()) == '<Trap>' and read(Trapped(a=1)) == {'a': 1}


def test_a_long_integer_is_hexadecimal():
    assert read(2 ** 20_000) == 2 ** 20_000 and read(-2 ** 20_000) == -2 ** 20_000


def test_a_decimal_keeps_its_digits():
    assert document(Decimal('1.10')) == '---\n- 1.10\n...\n'


def test_nan_is_a_number():
    assert math.isnan(read(float('nan'))) and math.isnan(read(Decimal('NaN')))


def test_anything_else_is_the_text_of_the_caller():
    assert read([object(), {'a': print}], other=lambda value: f'a {type(value).__name__}') == [
        'a object', {'a': 'a builtin_function_or_method'}]


def test_a_collection_that_contains_itself_ends():
    value = [1]
    value.append({'again': value})
    assert read(value) == [1, {'again': '<list that contains itself>'}]


def test_the_same_value_twice_is_no_cycle():
    inner = [1]
    assert read([inner, inner]) == [[1], [1]]


def test_deep_nesting_ends():
    value = []
    for _ in range(1000):
        value = [value]
    assert b's29:<list nested deeper than 100>]' in packed(value, MOST)


def test_a_value_that_grows_without_end_is_cut():
    value = ['x']
    for _ in range(60):
        value = [value, value]
    assert len(packed(value, 10_000)) <= 10_200
    assert packed([1, 'x' * 100, 2], 50) == b'Ln1:1]X'


@pytest.mark.parametrize('value, kept', [
    ({'a': 1, 'b': 'x' * 100}, {'a': 1, 'b': None}), ({'a': 1, 'x' * 100: 1}, {'a': 1}),
    ([{'a': [1, b'x' * 100]}, 2], [{'a': [1]}]), ({'a': {'b': 'x' * 100}}, {'a': {'b': None}}),
])
def test_a_cut_value_is_read_up_to_the_cut(value, kept):
    first, second = yaml.safe_load(document(value, most=50))
    assert first == kept and 'truncated' in second['error']
    assert b'truncated' in reply_document(b'\3s1:;' + packed(value, 50))


def test_a_collection_that_changes_meanwhile():
    value = {number: 0 for number in range(1000)}
    found = read(value, pause=lambda: value.update({object(): 1}) if len(value) < 1001 else None)
    assert found['...'] == '<the collection changed while it was read>' and found[5] == 0


def test_others_run_while_a_long_value_is_packed():
    pauses = []
    packed(list(range(10_000)), MOST, pause=lambda: pauses.append(1))
    assert len(pauses) >= 10_000 // 256


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(
        st.characters(blacklist_categories=['Cs', 'Cc'], blacklist_characters='\u2028\u2029\ufeff'))),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text('abcdefg 019:-.~', min_size=1), inner)), max_leaves=20)


@settings(max_examples=300, deadline=None)
@given(_VALUES)
def test_any_plain_data_is_read_back(value):
    assert read(value) == value


def test_numbers_that_are_not_finite_are_those_of_lua_in_its_format():
    value = packed([math.inf, -math.inf, math.nan, {math.inf: 1}], 1 << 20)
    assert lua_text.values(tokens(pack('') + value), block=False) == b'{inf, -inf, nan, {inf = 1}}'
