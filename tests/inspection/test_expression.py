"""Conditions of a watch: what they mean, and that they run no code of the program and have a bounded cost."""

from __future__ import annotations

import enum
import operator

import pytest
from conftest import rounds
from hypothesis import given, settings
from hypothesis import strategies as st

from boxsession.inspection.expression import Expression, Failed, Wrong, several
from boxsession.inspection.watch_command import Misread, read_line, read_options

NAMES = {'a', 'b', 'args', 'self', 'result', 'error', 'ms'}


class Careful:
    """No code of it may run."""

    kind = 'careful'

    def __init__(self):
        self.x = 5

    def __repr__(self):
        raise AssertionError('code of the program has run')

    __str__ = __len__ = __iter__ = __bool__ = __eq__ = __hash__ = __lt__ = __add__ = __getitem__ = __contains__ = __repr__
    __getattr__ = __call__ = __neg__ = __index__ = __repr__

    @property
    def computed(self):
        raise AssertionError('a property was asked')


class Slotted:
    __slots__ = ('x',)


class Text(str):
    __eq__ = __hash__ = __len__ = __getitem__ = __contains__ = Careful.__repr__


class Colour(str, enum.Enum):
    RED = 'red'


def value(text, **values):
    return Expression(text, NAMES).value(values)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('a + 1 > 5 and b', 'yes'),
        ('a * 2 - 1', 9),
        ('a == 5.0', True),
        ('not a', False),
        ('-a', -5),
        ('a / 2', 2.5),
        ('a // 2 + a % 3', 4),
        ('b in ("yes", "no")', True),
        ('"e" in b', True),
        ('a not in [1, 2]', True),
        ('1 < a < 9', True),
        ('1 < a < 3', False),
        ('args[0][1]', 2),
        ('args[1]["k"]', 'v'),
        ('args[-1]["k"] == "v"', True),
        ('len(args) == 2', True),
        ('len(b)', 3),
        ('self.x', 5),
        ('self.kind', 'careful'),
        ('error is None', True),
        ('b[0]', 'y'),
        ('result == None', True),
        ('self is not None', True),
        ('self in args', False),
        ('error or ms', 0.5),
        ('a == "5"', False),
        ('self == 5', False),
    ],
)
def test_values(text, expected):
    assert expected == value(text, a=5, b='yes', args=((1, 2), {'k': 'v'}), self=Careful(), error=None, ms=0.5, result=None)


def test_exceptions_enums_slots_and_texts_of_other_classes():
    slotted = Slotted()
    assert value('error.args[0] == "no" and error.errno == None', error=OSError('no'))
    assert value('a == "red" and a in ("red",)', a=Colour.RED) and value('a == "x" and len(a) == 1', a=Text('x'))
    with pytest.raises(Failed, match='is not set'):
        value('a.x', a=slotted)
    slotted.x = 1
    assert value('a.x', a=slotted) == 1


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('self.password', 'a secret'),
        ('a["token"]', 'a secret'),
        ('a()', 'only len'),
        ('len(a, b)', 'only len'),
        ('a.b()', 'only len'),
        ('lambda: 1', 'a function'),
        ('[x for x in a]', 'ListComp'),
        ('a if b else 1', 'if ... else'),
        ('(a := 1)', ':='),
        ('f"{a}"', 'an f-string'),
        ('a ** 9', 'operator'),
        ('a << 9', 'operator'),
        ('c', 'c is unknown'),
        ('__import__', 'unknown'),
        ('a[1:]', 'a slice'),
        ('{}', 'a dict'),
        ('a b', 'no expression'),
        ('', 'no expression'),
        ('1j', 'expected a number'),
        ('+'.join(['a'] * 400), 'parts'),
        ('a' * 2000, 'characters'),
        ('(' * 900, 'no expression'),
        ('~a', 'operator'),
        ('await a', 'no'),
        ('*a', 'no'),
    ],
)
def test_what_is_not_allowed(text, problem):
    with pytest.raises(Wrong) as raised:
        Expression(text, NAMES)
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    'text',
    [
        'a.computed',
        'a.no',
        'a.kind.upper',
        'a < 1',
        'a + 1',
        'a[0]',
        '1 in a',
        'len(a)',
        '-a',
        'a == self',
        'b[10]',
        'b["k"]',
        'ms / 0',
        'args',
        'args[0]',
        '"x" < 1',
        'b * 2',
        '1 in ms',
        'result["no"]',
        'self.x.y',
        'ms % 0',
        'ms * (2 - "1")',
    ],
)
def test_what_has_no_value(text):
    with pytest.raises(Failed):
        value(text, a=Careful(), self=Careful(), b=[1, 2], ms=1, result={'k': 1})


def test_the_cost_is_bounded():
    for text, found in (
        ('1 in a', list(range(5000))),
        ('a[1]', {number: 1 for number in range(5000)}),
        ('a * a', 1 << 300),
    ):
        with pytest.raises(Failed):
            value(text, a=found)
    assert not value('"y" in a', a='x' * 200_000 + 'y')


def test_several():
    assert ['a', 'b[0]', 'len(args)'] == [one.text for one in several('a, b[0], len(args)', NAMES)]


NUMBERS = st.integers(-1000, 1000) | st.floats(-1e6, 1e6) | st.booleans()


@given(NUMBERS, NUMBERS, st.sampled_from(['<', '<=', '>', '>=', '==', '!=', '+', '-', '*']))
@settings(max_examples=rounds(200, 5000))
def test_numbers_are_as_in_python(a, b, sign):
    python = {
        '<': operator.lt,
        '<=': operator.le,
        '>': operator.gt,
        '>=': operator.ge,
        '==': operator.eq,
        '!=': operator.ne,
        '+': operator.add,
        '-': operator.sub,
        '*': operator.mul,
    }[sign]
    assert python(a, b) == value(f'a {sign} b', a=a, b=b)


_ATOMS = st.sampled_from(
    ['a', 'b', 'self', 'args', '1', '"x"', 'None', 'self.x', 'self.computed', 'args[0]', 'len(b)', 'b["k"]']
)
_EXPRESSIONS = st.recursive(
    _ATOMS,
    lambda inner: (
        st.builds(
            '({} {} {})'.format,
            inner,
            st.sampled_from(['+', '*', '<', '==', 'in', 'and', 'or', 'is', 'not in', '%']),
            inner,
        )
        | st.builds('(not {})'.format, inner)
        | st.builds('{}[{}]'.format, inner, inner)
        | st.builds('len({})'.format, inner)
    ),
    max_leaves=8,
)


@given(_EXPRESSIONS)
@settings(max_examples=rounds(300, 10_000))
def test_no_expression_runs_code_of_the_program(text):
    careful = Careful()
    try:
        Expression(text, NAMES).is_true(
            {
                'a': careful,
                'b': {'k': careful, 'x': [careful]},
                'self': careful,
                'args': (careful, 'x', {careful.x: careful}),
            }
        )
    except (Failed, Wrong):
        pass


class TestCommand:
    def test_a_line(self):
        request = read_line('watch', 'shop:Order.pay if a == " show " and ms > 5 show a, b[0] n=3 rate=5/s seconds=2s')
        assert ['shop:Order.pay', 'a == " show " and ms > 5', 'a, b[0]', {'n': 3, 'rate': 5, 'depth': 2, 'seconds': 2}] == [
            request.target,
            request.condition,
            request.shows,
            request.numbers,
        ]
        assert read_line('watch', 'm:f if n == 5 and depth<=2').condition == 'n == 5 and depth<=2'

    @pytest.mark.parametrize(
        'line',
        [
            '',
            'm:f n=x',
            'm:f n=1 n=2',
            'm:f n=1000000',
            'm:f rate=0',
            'm:f seconds=-1',
            'm:f n=1.5.2',
            'm:f when x',
            'm:f show ',
            'm:f depth=3/s',
        ],
    )
    def test_wrong_lines(self, line):
        with pytest.raises(Misread):
            read_line('watch', line)

    @pytest.mark.parametrize('options', [{'n': True}, {'if': 5}, {'if': ''}, {'no': 1}, {'n': float('nan')}])
    def test_wrong_options(self, options):
        with pytest.raises(Misread):
            read_options('watch', 'm:f', options)

    @given(st.text('mf:. ifshowna=<>"12', max_size=40))
    @settings(max_examples=rounds(200, 5000))
    def test_any_line_is_read_or_refused(self, line):
        try:
            assert read_line('watch', line).target
        except Misread:
            pass


@pytest.mark.parametrize('text', ['x', 5, 1.5, b'x', None, True])
def test_equal_keys_and_items_are_found(text):
    class Text(str):
        __slots__ = ()

    others = {1: 1, 'y': 2, (1,): 3, Text('z'): 4, b'y': 5, 2.5: 6}
    values = {'x': {**others, text: 'found'}, 'y': text, 'args': [*others, text]}
    names = set(values)
    assert Expression('x[y]', names).value(values) == ({**others, text: 'found'})[text]
    assert Expression('y in x and y in args', names).value(values) is True
    assert Expression("'z' in x and x['z'] == 4", names).value(values) is True
    assert Expression("'no' in x", names).value(values) is False
