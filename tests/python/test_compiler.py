"""Statements in Python as the compiler makes them: results, errors, completeness, and the checks."""
from __future__ import annotations

import builtins
import contextlib
import importlib.util
import io
import sys
import types
import unittest
import warnings
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxsession.python.compiler import NAME, SOURCE_MAX, Compiler, described, surroundings


class Cancelled(BaseException):
    pass


class Alarm:
    """Becomes busy after a number of looks, as if a slice were over or a client had cancelled. Then its tick raises."""

    def __init__(self, looks=10 ** 9, ticks=10 ** 9):
        self.looks, self.ticks = looks, ticks
        self.ticked = 0

    def __len__(self):
        self.looks -= 1
        return self.looks < 0

    def tick(self):
        self.ticked += 1
        if self.ticked > self.ticks:
            raise Cancelled
        return True


def run(text, alarm=None, names=None, compiler=None):
    alarm = Alarm() if alarm is None else alarm
    names = {} if names is None else names
    names['__builtins__'] = surroundings(alarm, alarm.tick, {})
    return (compiler or Compiler()).compile(text).run(names, names['__builtins__'])


def failure(text, names=None):
    with pytest.raises(Exception) as caught:
        run(text, names=names)
    return described(caught.value)


# Results --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('text, result', [
    ('1 + 1', 2), ('x = 1', None), ('x = 1; x + 1', 2), ('', None), ('# nothing', None), ("'text'", 'text'),
    ('if True:\n  7\n', None), ('def f():\n  "doc"\n  return 1\nf(), f.__doc__', (1, 'doc')), ('None', None),
    ('[x for x in range(5) if x % 2]', [1, 3]), ('(lambda x, *, y=2: x + y)(1)', 3), ('(lambda: 0)()', 0),
    ('{k: v for k, v in zip("ab", (1, 2))}', {'a': 1, 'b': 2}), ('list((lambda: (yield 5))())', [5]),
    ('class A:\n  "doc"\n  x = [n for n in range(2)]\nA.__doc__, A.x', ('doc', [0, 1])),
    ('sum(x * y for x in range(3) for y in range(x))', 2), ('(y := 3) + y', 6),
    ('try:\n  1 / 0\nexcept ZeroDivisionError as e:\n  x = 1\nelse:\n  x = 2\nfinally:\n  z = 3\nx, z', (1, 3)),
    ('sorted(set(globals()) - {"__builtins__"})', []), ('a, b = 1, 2\ndir()', ['__builtins__', 'a', 'b']),
])
def test_the_last_expression_is_the_result(text, result):
    assert run(text) == result


def test_names_and_futures_stay_for_the_next_statement():
    compiler, names = Compiler(), {}
    run('from __future__ import annotations\ndef f(x: unknown): pass', names=names, compiler=compiler)
    assert run('def g(x: unknown): pass\ng.__annotations__, f.__annotations__', names=names, compiler=compiler) == (
        {'x': 'unknown'}, {'x': 'unknown'})


def test_the_futures_of_the_compiler_itself_do_not_hold():
    assert run('def f(x: int): pass\nf.__annotations__') == {'x': int}


def test_a_check_does_not_look_into_the_names_of_a_class():
    assert run('class Names(dict):\n'
               '  def __missing__(self, name):\n'
               '    asked.append(name)\n'
               '    raise KeyError(name)\n'
               'class Meta(type):\n'
               '  @classmethod\n'
               '  def __prepare__(cls, name, bases): return Names()\n'
               'class A(metaclass=Meta):\n'
               '  "doc"\n'
               '  for number in (1, 2): pass\n'
               'A.number, asked', names={'asked': []}) == (2, ['__name__'])


# Errors ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('text, error', [
    ('x = 1\n1 / 0', 'ZeroDivisionError: division by zero (statement:2)'),
    ('def f():\n  for x in [1]:\n\n    raise KeyError(5)\nf()', 'KeyError: 5 (statement:4)'),
    ('1 +', 'SyntaxError: invalid syntax (statement:1)'),
    ('x = 1\n  y = 2', 'IndentationError: unexpected indent (statement:2)'),
    ('raise ValueError', 'ValueError (statement:1)'), ('raise SyntaxError("no")', 'SyntaxError: no'),
    ('raise SyntaxError("no", (None, 3, 1, "x"))', 'SyntaxError: no (statement:3)'),
    ('x = 1\nreturn 1', "SyntaxError: 'return' outside function (statement:2)"),
    ('class E(Exception):\n  def __str__(self): 1 / 0\nraise E', 'E: <its message raised ZeroDivisionError> (statement:3)'),
])
def test_errors_name_the_line(text, error):
    assert failure(text) == error


def test_an_error_in_another_file_names_both_places():
    code = compile('\n\ndef sell(): raise OSError("sold out")', 'shop.py', 'exec')
    shop = {}
    exec(code, shop)
    assert failure('\nsell()', {'sell': shop['sell']}) == 'OSError: sold out (shop.py:3, from statement:2)'


@pytest.mark.parametrize('text, error', [
    ('1\0', 'SyntaxError: source code'), ('(' * 150 + '-' * 30_000, 'SyntaxError: '), ('-' * 9000 + '1', 'SyntaxError: '),
    ('x' * (SOURCE_MAX + 1), 'SyntaxError: the statement has 16385 characters, more than 16384'),
    ('9' * 5000, 'SyntaxError: '),
])
def test_text_that_cannot_be_compiled_is_a_syntax_error(text, error):
    with pytest.raises(SyntaxError) as caught:
        Compiler().compile(text)
    assert described(caught.value).startswith(error)
    assert not Compiler().is_incomplete(text) or text[0] == '('


def test_a_long_chain_of_operators_is_a_number_or_an_error():
    try:
        assert run('1 + ' * 4000 + '1') == 4001             # Python 3.13
    except SyntaxError as error:
        assert described(error) == 'SyntaxError: the statement is nested too deeply'


def test_a_long_message_is_cut():
    assert described(ValueError('x' * 5000)) == f'ValueError: {"x" * 4096}... (5000)'


# Completeness ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('text', [
    'def f():', 'def f():\n  return 1', 'if 1: pass', '(1,', '"""a', 'x = \\', '@dec', 'class A:\n  x = 1\n@dec',
    'if x:\n\n',
    'try:\n  x\n', 'with x:', 'if x:\n  a\nelse:', 'if 1:\n  x\n\n  y', 'a = 1\ndef f():\n  x', 'match x:\n  case 1: pass',
    'f(1,\n\n  2', 'async def f():\n  pass',
])
def test_incomplete(text):
    assert Compiler().is_incomplete(text)


@pytest.mark.parametrize('text', [
    'x = 1', '', '# c', '   ', 'def f():\n  return 1\n', 'def f():\n  return 1\n  ', 'if 1: pass\n', 'print(1))', '1 +',
    "'abc",
    'def f():\n  return 1\nf()', 'a = 1\nb = 2', 'f(1,\n2)', 'x = [\n1]', 'lambda: 1', 'match = 1', 'x if y else z',
])
def test_complete(text):
    assert not Compiler().is_incomplete(text)


# Checks ---------------------------------------------------------------------------------------------------------------

ENDLESS = {
    'while': 'while True: pass',
    'while in a condition': 'while [x for x in range(3)]: pass',
    'else': 'while True:\n  for x in (): pass\n  else: continue',
    'for': 'import itertools\nfor x in itertools.count(): pass',
    'comprehension': 'import itertools\n[0 for x in itertools.count() if False]',
    'dictionary': 'import itertools\n{x: 0 for x in itertools.count() if False}',
    'inner comprehension': 'import itertools\n{0 for y in (1,) for x in itertools.count() if False}',
    'generator expression': 'import itertools\nany(False for x in itertools.count())',
    'generator': 'def f():\n  while True: yield 0\nsum(f())',
    'generator of a generator': 'def f():\n  while True: yield 0\ndef g(): yield from f()\nsum(g())',
    'recursion': 'def f():\n  try: f()\n  finally: f()\nf()',
    'lambda': 'f = lambda: f()\nimport sys\nwhile True:\n  try: f()\n  except RecursionError: pass',
    'lambda as a sentinel': 'sum(iter(lambda: 0, 1))',
    'sorted': 'sorted(range(10**9 if 0 else 1000), key=lambda x: [x for x in iter(int, 1) if 0])',
    'class body': 'class A:\n  while True: pass',
    'BaseException': 'while True:\n  try:\n    while True: pass\n  except BaseException: pass',
    'BaseException in a function': 'def f():\n  while True:\n    try: f()\n    except BaseException: pass\nf()',
    'everything': 'while True:\n  try:\n    while True: pass\n  except: continue\n  finally: continue',
    'finally': 'try: 1 / 0\nfinally:\n  while True: pass',
    'finally after finally': 'def f():\n  try: f()\n  finally:\n    try: f()\n    finally: f()\nf()',
    'suppress': 'import contextlib\nwhile True:\n  with contextlib.suppress(BaseException):\n    while True: pass',
    'exit': 'class A:\n  def __enter__(self): pass\n  def __exit__(self, *a): return True\n'
            'while True:\n  with A():\n    while True: pass',
    'special methods': 'class A:\n  def __iter__(self): return self\n  def __next__(self): return 0\nsum(A())',
    'property': 'class A:\n  @property\n  def x(self): return self.x\n  def __getattr__(self, name): return self.x\nA().x',
    'await': 'async def f():\n  while True: pass\nf().send(None)',
    'asynchronous comprehension': 'class A:\n  def __aiter__(self): return self\n  async def __anext__(self): return 0\n'
                                  'async def f(): [0 async for x in A() if 0]\nf().send(None)',
    'asynchronous for': 'class A:\n  def __aiter__(self): return self\n  async def __anext__(self): return 0\n'
                        'async def f():\n  async for x in A(): pass\nf().send(None)',
}
if sys.version_info >= (3, 11):
    ENDLESS['groups'] = 'while True:\n  try:\n    while True: pass\n  except* BaseException: pass'


@pytest.mark.parametrize('text', ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_preempted_and_ended(text):
    alarm = Alarm(looks=300, ticks=50)      # preempted 50 times, then cancelled
    with pytest.raises(BaseException) as caught:
        run(text, alarm)
    assert alarm.ticked > 50
    found = caught.value
    assert isinstance(found, Cancelled) or isinstance(found.__context__, Cancelled) or 'Cancelled' in repr(found)


@pytest.mark.parametrize('ticks', [0, 1, 7])
def test_a_handler_ends_at_its_beginning_while_the_cancellation_lasts(ticks):
    done = []
    with pytest.raises(Cancelled):
        run('try:\n  while True: pass\nexcept BaseException:\n  done.append(1)', Alarm(5, ticks), {'done': done})
    assert not done


def test_a_preempted_statement_goes_on_as_if_nothing_had_been():
    text = ('def f(n): return n if n < 2 else f(n - 1) + f(n - 2)\n'
            '[f(x) for x in range(10)], {x: (lambda: x)() for x in range(3)}, sum(x for x in range(5))')
    alarm = Alarm(looks=0)                  # each check ticks
    assert run(text, alarm) == run(text)
    assert alarm.ticked > 100


# The same as Python ---------------------------------------------------------------------------------------------------

# Tests of the language in Python's own test suite: run as statements, each has to end as it does without checks.
SUITES = ['test_grammar', 'test_scope', 'test_listcomps', 'test_generators', 'test_named_expressions', 'test_with',
          'test_patma', 'test_contextlib', 'test_dataclasses', 'test_setcomps', 'test_dictcomps', 'test_genexps',
          'test_augassign', 'test_exception_group', 'test_except_star', 'test_decorators', 'test_class', 'test_super',
          'test_raise', 'test_exception_variations', 'test_string_literals', 'test_heapq', 'test_bisect',
          'test_textwrap', 'test_fractions', 'test_property', 'test_type_params', 'test_unpack_ex', 'test_keywordonlyarg']


def _source(name):
    try:
        found = importlib.util.find_spec(f'test.{name}')
    except ModuleNotFoundError:
        found = None
    if found is None or not found.origin:
        pytest.skip('this Python has no such test')
    path = Path(found.origin)
    return (path / '__init__.py' if path.is_dir() else path).read_text()


def _outcomes(name, execute):
    module = types.ModuleType(f'test.{name}')
    module.__file__ = f'/{name}.py'
    kept = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        with (warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()),
              contextlib.redirect_stdout(io.StringIO())):
            warnings.simplefilter('ignore')
            execute(module.__dict__)
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromModule(module).run(result)
    finally:
        sys.modules.pop(module.__name__)
        if kept is not None:
            sys.modules[module.__name__] = kept
    bad = Counter(str(test).split(' (')[0] for test, _ in result.failures + result.errors)
    return result.testsRun, len(result.skipped), bad


@pytest.mark.parametrize('name', SUITES)
def test_the_tests_of_python_end_as_without_checks(name, monkeypatch):
    monkeypatch.setattr('boxsession.python.compiler.SOURCE_MAX', 1 << 30)
    source = _source(name)
    alarm = Alarm(looks=0)                  # all checks tick

    def as_statement(names):
        names['__builtins__'] = surroundings(alarm, alarm.tick, {})
        Compiler().compile(source).run(names, names['__builtins__'])

    expected = _outcomes(name, lambda names: exec(compile(source, NAME, 'exec', dont_inherit=True), names))
    assert _outcomes(name, as_statement) == expected
    assert alarm.ticked or not expected[0]


_TERMS = st.recursive(
    st.sampled_from(['0', '1', 'a', 'b', '[]', 'None', '"s"']),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda two: f'({two[0]}, {two[1]})'),
        st.tuples(inner, inner).map(lambda two: f'({two[0]} or {two[1]})'),
        inner.map(lambda one: f'[({one}, a) for a in range(3) if a]'), inner.map(lambda one: f'(lambda b=1: {one})()'),
        inner.map(lambda one: f'list({one} for x in (1, 2))'), inner.map(lambda one: f'{{a: {one} for a in (1, b)}}'),
        inner.map(lambda one: f'(c := {one})')), max_leaves=8)


def _block(lines):
    return '\n'.join('  ' + line for line in '\n'.join(lines).split('\n'))


_PROGRAMS = st.recursive(
    st.one_of(_TERMS.map(lambda term: f'out.append({term})'), _TERMS.map(lambda term: f'a = {term}'),
              st.sampled_from(['1 / 0', 'pass', 'b = 2', 'raise KeyError(a)', 'del a'])),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda body: f'for x in range(2):\n{_block(body)}'),
        st.lists(inner, min_size=1, max_size=3).map(lambda body: f'n = 0\nwhile n < 2:\n  n += 1\n{_block(body)}'),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda body: f'def f():\n  "doc"\n  global a, b, n\n{_block(body)}\nout.append(f())'),
        st.lists(inner, min_size=1, max_size=3).map(lambda body: f'class A:\n  a = 5\n{_block(body)}\nout.append(A.a)'),
        st.tuples(st.lists(inner, min_size=1, max_size=2), st.lists(inner, min_size=1, max_size=2)).map(
            lambda two: f'try:\n{_block(two[0])}\nexcept Exception as e:\n{_block(two[1])}\nfinally:\n  out.append(3)')),
    max_leaves=8)


def _ended(execute):
    names = {'out': [], 'a': 1, 'b': 1, 'n': 0}
    try:
        execute(names)
        problem = ''
    except Exception as error:
        problem = described(error)
    names.pop('__builtins__', None)
    return problem, repr(names['out']), repr({key: value for key, value in names.items() if key not in ('A', 'f')})


@settings(max_examples=300, deadline=None)
@given(_PROGRAMS)
def test_programs_end_as_without_checks(text):
    alarm = Alarm(looks=0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert _ended(lambda names: run(text, alarm, names)) == _ended(
            lambda names: exec(compile(text, NAME, 'exec', dont_inherit=True), names))


def test_no_name_of_a_statement_replaces_a_check():
    names = surroundings([], lambda: None, {})
    assert not [name for name in names if name.isidentifier() and name not in vars(builtins)]
