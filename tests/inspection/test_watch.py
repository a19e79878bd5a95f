"""`\\watch`, `\\stack` and `\\count`: live functions of the program, and that nothing remains of a watch."""

from __future__ import annotations

import collections
import datetime
import decimal
import functools
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import types
import uuid

import gevent
import greenlet
import pytest
import yaml
from conftest import BINARY, TEXT
from waiting import wait_for

import boxsession
from boxsession.inspection import watch_hooks, watch_swapped, watch_trees
from boxsession.inspection.copies import Copier, text_of
from boxsession.inspection.expression import Expression, Wrong
from boxsession.inspection.watch import CallWatch, Options, StackWatch, TraceWatch
from boxsession.inspection.watch_arguments import Call, arguments
from boxsession.inspection.watch_counts import CountWatch
from boxsession.inspection.watch_target import NotFound, find
from boxsession.inspection.watch_trees import rows, trees

HAS_MONITORING = sys.version_info >= (3, 12)


class Careful:
    """No code of it may run."""

    def __repr__(self):
        raise AssertionError('repr was called')

    __str__ = __len__ = __iter__ = __bool__ = __eq__ = __hash__ = __repr__

    @property
    def __class__(self):
        raise AssertionError('__class__ was asked')

    def __getattr__(self, name):
        raise AssertionError('__getattr__ was called')


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def login(user, password, headers=()):
    return user


class Order:
    def __bool__(self):
        raise AssertionError('bool() was called')

    @property
    def token(self):
        return self.password

    @token.setter
    def token(self, value):
        self.password = value

    def __init__(self, number, total=10):
        self.number, self.total, self.password = number, total, 'hunter2'

    def pay(self, amount, *more, currency='EUR', **options):
        if amount < 0:
            raise ValueError('too little')
        return {'paid': amount}

    @classmethod
    def made(cls, number):
        return cls(number)

    @staticmethod
    def checked(number):
        return number

    @property
    def label(self):
        return f'order {self.number}'

    @label.setter
    def label(self, value):
        self.number = value

    @decorated
    def wrapped(self, value):
        return value

    @functools.cached_property
    def cached(self):
        return 1


def plain(x, y=2, *more, size=5, **options):
    return x


def numbers(count):
    for number in range(count):  # noqa: UP028
        yield number
    return 'done'


def calling(count):
    for number in range(count):
        plain(number)
        yield number


async def waits(x):
    return x


@types.coroutine
def awaitable(x):
    return x
    yield


async def waits_for(x):
    await given(x)


@types.coroutine
def given(x):
    yield x


class Fails:
    """A value of an attribute whose code must not run."""

    def __eq__(self, other):
        raise AssertionError('== was called')

    __hash__ = None


class Texts(str):
    def __str__(self):
        raise AssertionError('str() was called')

    __format__ = __repr__ = __str__


class StrangeClass(type):
    @property
    def __name__(cls):
        raise AssertionError('__name__ of a metaclass was asked')


class Strange(metaclass=StrangeClass):
    pass


Strange.__module__, Strange.__qualname__ = Fails(), Texts('Strange')


class StrangeGreenlet(greenlet.greenlet):
    @property
    def parent(self):
        raise AssertionError('parent was asked')


def factorial(n):
    return 1 if n == 0 else n * factorial(n - 1)


def outer(v):
    def inner(x):
        return v + x

    class Local:
        def method(self):
            return v

    return inner, Local


@functools.lru_cache
def remembered(x):
    return x


part = functools.partial(plain, 1)
HERE = __name__


class Callable:
    class Inner:
        __module__, __qualname__ = 'logging.handlers', 'Callable.Inner'

        def __call__(self):
            return 1


CALLABLE = Callable.Inner()


def undeclared(function):
    # Without functools.wraps: its wrappers share their code.
    def wrapper(*args):
        return function(*args)
    return wrapper


bare, other_bare = undeclared(plain), undeclared(len)


def codes():
    functions = [
        plain,
        numbers,
        factorial,
        waits,
        Order.pay,
        Order.label.fget,
        Order.wrapped.__wrapped__,
        Order.made.__func__,
    ]
    return [function.__code__ for function in functions]


UNWATCHED = codes()


def nothing_is_watched():
    if HAS_MONITORING:
        return all(sys.monitoring.get_tool(number) is None for number in (3, 4)) and not watch_hooks._watchers
    return codes() == UNWATCHED and not watch_swapped._swaps and not watch_swapped.runs


@pytest.fixture(autouse=True)
def nothing_remains():
    yield
    wait_for(nothing_is_watched)
    assert all(code is was for code, was in zip(codes(), UNWATCHED, strict=True))


@pytest.fixture
def watched():
    """A function that begins a watch in this process, which ends after the test."""
    found = []

    def begin(name, kind=CallWatch, **options):
        target = find(f'{HERE}:{name}')
        watch = kind(target, Options(**{'rate': 1000, 'most': 1000, **options}), lambda: None)
        watch_hooks.add(target, watch, gc.get_objects, lambda: None)
        found.append(watch)
        return watch

    yield begin
    for watch in found:
        watch_hooks.remove(watch)
        assert watch.problems == 0


def seen(watch):
    """The calls: arguments, and the result or the exception, as text."""
    return [
        (
            {name: text_of(name, copy) for name, copy in one.arguments},
            text_of('result', one.result) if one.error is None else text_of('error', one.error),
        )
        for one in watch.queue
    ]


class TestTargets:
    @pytest.mark.parametrize(
        ('name', 'kind', 'code'),
        [
            ('plain', 'function', plain.__code__),
            ('Order.pay', 'method', Order.pay.__code__),
            ('Order.made', 'classmethod', Order.made.__func__.__code__),
            ('Order.checked', 'staticmethod', Order.checked.__code__),
            ('Order.label', 'property', Order.label.fget.__code__),
            ('Order.label.fset', 'method', Order.label.fset.__code__),
            ('Order.wrapped', 'method', Order.wrapped.__wrapped__.__code__),
            ('part', 'function', plain.__code__),
            ('remembered', 'function', remembered.__wrapped__.__code__),
            ('Order.cached', 'property', Order.__dict__['cached'].func.__code__),
            ('outer.<locals>.inner', 'function', outer(1)[0].__code__),
            ('outer.<locals>.Local.method', 'method', outer(1)[1].method.__code__),
        ],
    )
    def test_are_found(self, name, kind, code):
        target = find(f'{HERE}:{name}')
        assert [target.codes, target.kind] == [[code], kind]

    def test_a_decorator_without_wraps_is_told(self, watched):
        [note] = find(f'{HERE}:bare').notes
        assert 'wrapper is watched: the calls of all functions that share its code are shown' in note
        watch = watched('bare')
        bare(1)
        other_bare('ab')
        assert len(watch.queue) == 2
        assert [] == find(f'{HERE}:outer').notes

    @pytest.mark.parametrize(
        ('name', 'problem'),
        [
            (f'{HERE}:Order.pey', f"{HERE}:Order has no 'pey'. Near: pay"),
            (f'{HERE}:plane', 'Near: plain'),
            (f'{HERE}:outer.<locals>.iner', "defines no 'iner'. Near: inner"),
            (f'{HERE}:Order', 'is a class: watch a method'),
            ('time:sleep', 'time:sleep is a function in C'),
            ('builtins:dict.get', 'is a function in C'),
            ('shop.no:pay', "the module 'shop.no' is not imported"),
            ('js.on:loads', 'is not imported'),
            ('json', 'expected'),
            ('json.loads', 'such as json:loads'),
            ('json.decoder.JSONDecoder.decode', 'such as json.decoder:JSONDecoder.decode'),
            (f'{HERE}:CALLABLE', 'watch logging.handlers:Callable.Inner.__call__'),
            (':x', 'expected'),
            ('boxsession.users.passwords:password_matches', 'a function of the console'),
            (f'{HERE}:Order.label.fdel', 'has no fdel'),
            (f'{HERE}:HERE', 'is a builtins.str'),
            ('json:', 'expected'),
        ],
    )
    def test_near_misses_are_named(self, name, problem):
        with pytest.raises(NotFound, match='.*') as raised:
            find(name)
        assert problem in str(raised.value)

    def test_no_code_of_the_program_runs(self, monkeypatch):
        module = types.ModuleType('careful')
        module.thing = Careful()
        module.__getattr__ = lambda name: 1 / 0
        monkeypatch.setitem(sys.modules, 'careful', module)
        for name in ('careful:thing', 'careful:thing.pay', 'careful:other'):
            with pytest.raises(NotFound):
                find(name)


class TestCalls:
    def test_arguments_and_results(self, watched):
        watch = watched('plain')
        plain(1)
        plain(1, 3, 4, size=6, z=7)
        plain(x=2)
        assert [
            ({'x': '1', 'y': '2', 'more': '()', 'size': '5', 'options': '{}'}, '1'),
            ({'x': '1', 'y': '3', 'more': '(4)', 'size': '6', 'options': "{'z': 7}"}, '1'),
            ({'x': '2', 'y': '2', 'more': '()', 'size': '5', 'options': '{}'}, '2'),
        ] == seen(watch)

    def test_methods_exceptions_and_secrets(self, watched):
        watch = watched('Order.pay')
        with pytest.raises(ValueError, match='too little'):
            Order(7).pay(-1, token='abc')
        [(found, error)] = seen(watch)
        assert error == "ValueError('too little')"
        assert 'number=7' in found['self'] and 'hunter2' not in found['self'] and 'abc' not in found['options']

    @pytest.mark.parametrize(
        ('name', 'call'),
        [
            ('Order.made', lambda: Order.made(1)),
            ('Order.checked', lambda: Order.checked(1)),
            ('Order.label', lambda: Order(1).label),
            ('Order.label.fset', lambda: setattr(Order(1), 'label', 2)),
            ('Order.wrapped', lambda: Order(1).wrapped(1)),
            ('part', lambda: part()),
            ('Order.cached', lambda: Order(1).cached),
            ('remembered', lambda: remembered(object())),
            ('outer.<locals>.Local.method', lambda: Local().method()),
            ('outer.<locals>.inner', lambda: inner(1)),
        ],
    )
    def test_of_each_kind(self, watched, name, call):
        watch = watched(name)
        call()
        assert [1, 1] == [watch.shown, len(watch.queue)]

    def test_recursion(self, watched):
        watch = watched('factorial')
        assert factorial(3) == 6
        assert [({'n': str(n)}, str(result)) for n, result in ((0, 1), (1, 1), (2, 2), (3, 6))] == seen(watch)

    def test_generators_are_shown_once(self, watched):
        watch = watched('numbers')
        assert list(numbers(3)) == [0, 1, 2]
        two = [numbers(2), numbers(4)]
        assert [next(two[0]), next(two[1]), *two[0], *two[1]] == [0, 0, 1, 1, 2, 3]

        def through():
            assert (yield from numbers(1)) == 'done'

        list(through())
        assert [('3', 3), ('2', 2), ('4', 4), ('1', 1)] == [(one.arguments[0][1], one.values) for one in watch.queue]

    def test_coroutines(self, watched):
        watch = watched('waits')
        with pytest.raises(StopIteration):
            waits(5).send(None)
        assert [({'x': '5'}, '5')] == seen(watch)

    def test_awaited_generators(self, watched):
        watch = watched('awaitable')

        async def above():
            return await awaitable(3)

        with pytest.raises(StopIteration):
            above().send(None)
        assert [({'x': '3'}, '3')] == seen(watch)

    def test_defaults_that_the_program_changes(self, watched, monkeypatch):
        watch = watched('plain')
        monkeypatch.setattr(plain, '__defaults__', (8,))
        monkeypatch.setattr(plain, '__kwdefaults__', {'size': 9})
        plain(1)
        assert {'x': '1', 'y': '8', 'size': '9'}.items() <= seen(watch)[0][0].items()

    def test_in_threads_greenlets_and_the_hub(self, watched):
        watch = watched('plain')
        thread = threading.Thread(target=plain, args=(1,), name='worker')
        thread.start()
        thread.join()
        gevent.spawn(plain, 2).join()
        done = []
        gevent.get_hub().loop.run_callback(lambda: done.append(plain(3)))
        wait_for(lambda: done)
        assert ['thread worker', f'{HERE}:plain', 'hub'] == [one.where.greenlet for one in watch.queue]

    def test_a_watched_function_that_waits(self, watched):
        watch = watched('pausing')
        greenlets = [gevent.spawn(pausing, number) for number in range(5)]
        gevent.joinall(greenlets)
        assert {str(number): str(number) for number in range(5)} == {found['x']: result for found, result in seen(watch)}
        killed = gevent.spawn(pausing, -1000)
        gevent.sleep(0)
        killed.kill()
        assert seen(watch)[-1][1] == 'greenlet.GreenletExit()'

    def test_two_watches_of_one_function(self, watched):
        one, other = watched('plain'), watched('plain')
        plain(1)
        watch_hooks.remove(one)
        plain(2)
        assert [1, 2] == [len(one.queue), len(other.queue)]
        assert seen(other)[0][0]['x'] == '1'

    def test_a_watch_that_ends_in_the_middle_of_a_call(self):
        target = find(f'{HERE}:plain')
        watches = [CallWatch(target, Options(), lambda: None) for _ in range(3)]
        watches[0].end = lambda *_: [watch_hooks.remove(one) for one in watches]
        for watch in watches:
            watch_hooks.add(target, watch, gc.get_objects, lambda: None)
        assert plain(5) == 5
        assert nothing_is_watched()

    def test_a_watch_that_has_ended_waits_for_no_calls(self, watched):
        watched('plain')
        watch = watched('numbers')
        generator = numbers(2)
        next(generator)
        assert watch_hooks.unfinished(watch) == 1
        watch_hooks.remove(watch)
        assert not watch_hooks._runs and not watch_swapped.runs
        assert list(generator) == [1]

    def test_a_trace_of_a_generator_has_no_calls_of_its_caller(self, watched):
        watch = watched('calling', TraceWatch)
        for value in calling(3):
            factorial(value)
        assert [('plain', 3)] == [(row['function'], row['calls']) for row in rows(watch.queue[0].tree.root)]

    @pytest.mark.skipif(HAS_MONITORING, reason='code is exchanged before Python 3.12')
    def test_exchanged_code_is_known_as_long_as_it_is_used(self, watched):
        watch_hooks.remove(watched('numbers'))
        known = set(watch_swapped.ORIGINALS)
        watch = watched('numbers')
        generator = numbers(2)
        next(generator)
        watch_hooks.remove(watch)
        [key] = set(watch_swapped.ORIGINALS) - known
        assert key == id(generator.gi_code)
        assert list(generator) == [1]
        del generator
        watch_hooks.remove(watched('plain'))
        assert set(watch_swapped.ORIGINALS) <= known

    def test_a_trace_that_ends_when_a_call_begins(self, monkeypatch):
        target = find(f'{HERE}:plain')
        watch = TraceWatch(target, Options(), lambda: None)
        # As another thread may.
        begin = watch_trees.begin
        monkeypatch.setattr(watch_trees, 'begin', lambda tree: (watch.close(), begin(tree)))
        watch_hooks.add(target, watch, gc.get_objects, lambda: None)
        try:
            assert plain(1) == 1
        finally:
            watch_hooks.remove(watch)
        assert not trees and not watch.problems

    def test_no_code_of_classes_of_arguments_runs(self, watched):
        watch = watched('plain')
        thing = Strange()
        thing.field = 1
        plain(thing, Strange)
        assert f'<{HERE}.Strange' not in seen(watch)[0][0]['x'] and 'field=1' in seen(watch)[0][0]['x']

    def test_no_code_of_awaited_values_and_greenlets_runs(self, watched):
        watched('waits_for')
        waits_for(Strange()).send(None)
        watch = watched('plain')
        StrangeGreenlet(lambda: plain(1)).switch()
        assert len(watch.queue) == 1

    def test_no_code_of_arguments_runs(self, watched):
        watch = watched('plain')
        thing = Careful()
        assert plain(thing, [thing], {'a': thing}) is thing
        assert f'<{HERE}.Careful>' == seen(watch)[0][1]

    def test_no_argument_is_kept_alive(self, watched):
        import weakref

        watched('plain')
        watched('plain', condition=expression('ms > 1000'))
        order = Order(1)
        gone = weakref.ref(order)
        plain(order, [order], {order: 1})
        del order
        gc.collect()
        assert gone() is None

    def test_more_than_the_rate_are_counted(self, watched):
        watch = watched('plain', rate=2, most=10)
        for _ in range(1000):
            plain(1)
        assert 2 <= watch.shown <= 10 and watch.calls == watch.matches == 1000
        assert watch.not_shown == 1000 - watch.shown

    def test_conditions(self, watched):
        early = watched('plain', condition=expression('x > 5 and size in (5, 6)'))
        late = watched(
            'plain', condition=expression('result == 7 or error'), shows=(expression('x + 1'), expression('args[0]'))
        )
        for x in (1, 7, 9):
            plain(x)
        assert ['7', '9'] == [found['x'] for found, _ in seen(early)]
        assert [[('x + 1', '8'), ('args[0]', '7')]] == [one.shows for one in late.queue]

    def test_parameters_with_the_names_of_a_condition(self, watched):
        late = watched('named', condition=expression('result == 3'), shows=(expression('args[0]'),))
        named(1, 2, 3)
        assert [({'ms': '1', 'result': '2', 'args': '(3)'}, '3')] == seen(late)
        assert [[('args[0]', '1')]] == [one.shows for one in late.queue]

    def test_an_error_in_a_condition_is_told_once(self):
        target = find(f'{HERE}:plain')
        watch = CallWatch(target, Options(condition=expression('x.no > 1')), lambda: None)
        watch_hooks.add(target, watch, gc.get_objects, lambda: None)
        try:
            plain(Order(1))
            plain(Order(2))
        finally:
            watch_hooks.remove(watch)
        assert [f'x.no > 1: {HERE}.Order has no attribute no that is stored'] == list(watch.told)
        assert watch.problems == 2

    def test_secrets_cannot_be_found_by_trying(self, watched):
        watch = watched('secretive', shows=(expression('args'), expression('args[0]'), expression('x')))
        secretive('hunter2', {'pin': 1234})
        assert 'hunter2' not in str([one.shows for one in watch.queue]) and 'hunter2' not in str(seen(watch))
        assert '1234' not in str([(name, text_of(name, copy)) for name, copy in watch.queue[0].shows])
        with pytest.raises(Wrong, match='may be a secret'):
            Expression('password == "x"', {'password'})

    @pytest.mark.parametrize('condition', [None, 'ms >= 0', 'result == 1'])
    def test_the_consoles_own_calls_are_not_shown(self, watched, condition):
        watch = watched('library', condition=condition and expression(condition))
        by_console()
        assert watch.calls == 1 and not watch.queue
        library(1)
        assert watch.calls == 2 and len(watch.queue) == 1
        # The program's own functions are: the console calls those that it exposes.
        own = watched('plain')
        types.FunctionType((lambda: plain(1)).__code__.replace(co_filename=boxsession.__file__), globals())()
        assert len(own.queue) == 1

    def test_a_condition_that_slows_the_program_down_ends_the_watch(self, served, connect):
        client = connect(served)
        begin(client, f'\\watch {HERE}:plain if ' + ' or '.join(['"a" in x'] * 30))
        stop = []
        caller = gevent.spawn(calls_often, list(range(1000)), stop)
        assert 'the condition slows the program down' in document(client)[0]['ended']
        assert nothing_is_watched()
        stop.append(True)
        caller.join()

    def test_copies_take_a_part_of_the_time(self, watched):
        watch = watched('plain', depth=5, rate=1000)
        value = 'text'
        for _ in range(5):
            value = [value] * 10
        for _ in range(500):
            plain(value)
        assert 1 <= watch.shown < 400 and watch.not_shown == 500 - watch.shown

    def test_code_that_is_made_anew_for_each_call_is_not_kept(self, watched):
        import weakref

        watched('plain', StackWatch, most=100_000, rate=10_000)
        codes = []
        for number in range(1100):
            code = compile('plain(1)', f'file{number}', 'exec')
            codes.append(weakref.ref(code))
            exec(code, {'plain': plain})
        del code
        assert sum(one() is not None for one in codes) == 1000

    def test_stacks(self, watched):
        watch = watched('plain', StackWatch)

        def above():
            return plain(1)

        for _ in range(5):
            above()
        plain(1)
        groups = watch.groups()
        assert [5, 1] == [count for count, _ in groups]
        assert [call.name.rpartition('.')[2].rpartition(':')[2] for call in groups[0][1][:2]] == ['above', 'test_stacks']

    def test_stacks_of_a_recursion(self, watched):
        watch = watched('factorial', StackWatch, depth=9)
        factorial(3)
        stacks = [[call.name.rpartition('.')[2].rpartition(':')[2] for call in stack] for _, stack in watch.groups()]
        assert [0, 1, 2] == sorted(stack.index('test_stacks_of_a_recursion') for stack in stacks)[:3]
        assert not [call for _, stack in watch.groups() for call in stack if 'watch_swapped' in call.where]

    @pytest.mark.parametrize('condition', [None, 'ms >= 0'])
    def test_traces(self, watched, condition):
        watch = watched('traced', TraceWatch, depth=2, condition=condition and expression(condition))
        others = gevent.spawn(lambda: [(factorial(2), gevent.sleep(0)) for _ in range(50)])
        traced(3)
        with pytest.raises(ValueError, match='too little'):
            traced(-1)
        others.join()
        [tree, failed] = [rows(one.tree.root) for one in watch.queue]
        found = {row['function'].rpartition('.')[2]: row for row in tree}
        assert {'pausing', 'pay', '__init__', 'numbers'} <= found.keys() and 'factorial' not in found
        assert [1, 4] == [found[name]['calls'] for name in ('pay', 'numbers')]
        assert 'sleep' in {row['function'] for row in found['pausing']['trace']}
        assert not HAS_MONITORING or {row['function']: row.get('errors') for row in failed}['Order.pay'] == 1
        assert trees == {} and sys.getprofile() is None

    def test_the_end_of_a_trace_in_the_middle(self, watched):
        watch = watched('pausing', TraceWatch)
        greenlet = gevent.spawn(pausing, 4)
        gevent.sleep(0)
        assert len(trees) == 1
        watch.close()
        watch_hooks.remove(watch)
        assert trees == {}
        greenlet.join()
        assert greenlet.value == 4

    def test_counts(self, watched):
        watch = watched('Order.pay', CountWatch)
        for amount in (1, 2, -1):
            try:
                Order(1).pay(amount)
            except ValueError:
                pass
        second = watch.second()
        assert [3, 1] == [second.calls, second.errors]
        assert 0 < second.ms['p50'] <= second.ms['p90'] <= second.ms['p99'] <= second.ms['max']
        assert watch.second() == (0, 0, {})

    @pytest.mark.parametrize('condition', ['x > 1', 'result > 1'])
    def test_counts_with_a_condition(self, watched, condition):
        watch = watched('plain', CountWatch, condition=expression(condition))
        for x in range(4):
            plain(x)
        assert [2, 2] == [watch.counted, watch.second().calls]

    def test_arguments_are_bound_as_python_does(self):
        def function(a, b=2, /, c=3, *more, d, e=5, **rest):
            return locals()

        for args, kwargs in (((1,), {'d': 4}), ((1, 2, 3, 4, 5), {'d': 6, 'x': 7}), ((1,), {'c': 8, 'd': 9, 'b': 10})):
            call = Call(function.__code__, args, kwargs, function.__defaults__, function.__kwdefaults__, None)
            assert arguments(call, []) == function(*args, **kwargs)


def expression(text):
    return Expression(text, {'x', 'y', 'size', 'args', 'self', 'result', 'error', 'ms'})


def traced(n):
    Order(1).pay(n)
    pausing(5)
    return list(numbers(3))


def named(ms, result, *args):
    return 3


def secretive(password, x):
    return 1


library = types.FunctionType((lambda x: x).__code__.replace(co_filename=json.__file__), globals())
by_console = types.FunctionType((lambda: library(1)).__code__.replace(co_filename=boxsession.__file__), globals())


def calls_often(value, stop):
    while not stop:
        plain(value)
        gevent.sleep(0)


def pausing(x):
    gevent.sleep(0.001 * max(0, 5 - x))
    return x


inner, Local = outer(1)


class TestCopies:
    def test_depth_and_length(self):
        value = {'a': [[1]], 'b': list(range(20))}
        assert text_of('x', Copier(2).copy(value)) == "{'a': [[... (1)]], 'b': [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (20)]}"
        assert text_of('x', Copier(0).copy(value)) == '{... (2)}'

    @pytest.mark.parametrize(('value', 'text'), [
        (decimal.Decimal('1.50'), "Decimal('1.50')"),
        (datetime.datetime(2026, 11, 27, 3, tzinfo=datetime.timezone.utc), '<datetime 2026-11-27T03:00:00+00:00>'),
        (datetime.date(2026, 11, 27), '<date 2026-11-27>'),
        (datetime.timedelta(hours=3), '<timedelta 3:00:00>'),
        (uuid.UUID(int=5), "UUID('00000000-0000-0000-0000-000000000005')"),
        (collections.Counter('aab'), "<collections.Counter {'a': 2, 'b': 1}>"),
        (collections.defaultdict(list, a=[1]), "<collections.defaultdict {'a': [1]}>"),
        (collections.deque([1, 2]), '<collections.deque [1, 2]>'),
        (collections.namedtuple('Point', 'x password', module='shop')(1, 'hunter2'), '<shop.Point x=1, password='),
    ])
    def test_values_of_the_library(self, value, text):
        found = text_of('x', Copier(2).copy(value))
        assert found.startswith(text)
        assert 'collections' in text or 'shop' in text or text in text_of('x', Copier(1).copy([value]))
        assert 'hunter2' not in found

    def test_values_of_subclasses_without_their_code(self):
        def fails(*args):
            raise AssertionError

        names = ('__repr__', '__str__', '__iter__', '__len__', '__getitem__', '__getattribute__', 'items', '__eq__')
        for base, value, text in (
                (dict, [('a', 1)], "{'a': 1}"), (list, [1], '[1]'), (tuple, (1,), '(1)'), (str, 'ab', "'ab'")):
            kind = type('Own', (base,), dict.fromkeys(names, fails) | {'__module__': 'shop'})
            assert text_of('x', Copier(2).copy(kind(value))) == f'<shop.Own {text}>'

    def test_slots(self):
        class Slotted:
            __slots__ = ('x', 'password', 'unset', '__own')

        value = Slotted()
        value.x, value.password, value._Slotted__own = 1, 'hunter2', 5
        text = text_of('y', Copier(2).copy(value))
        assert 'Slotted x=1, password=' in text
        assert '_Slotted__own=5' in text and 'hunter2' not in text and 'unset' not in text

    def test_an_enumeration(self):
        assert text_of('x', Copier(2).copy(signal.SIGTERM)) == '<signal.Signals.SIGTERM>'

    def test_their_cost_is_bounded(self):
        value = 1
        for _ in range(5):
            value = [value] * 10
        copy = Copier(5).copy([value, value])

        def size(one):
            return 1 + sum(size(item) for _, _, item in one.items) if not isinstance(one, str) else 1

        assert size(copy) < 5000
        assert len(text_of('x', copy)) <= 4000


@pytest.fixture
def served(console):
    return console()


def document(client):
    return yaml.load(client.document(), yaml.CSafeLoader)


def begin(client, line=f'\\watch {HERE}:plain'):
    """Begins to watch; returns the first push."""
    client.send(line + '\n')
    return document(client)


class TestFromOutside:
    def test_calls_come_as_pushes(self, served, connect):
        client = connect(served)
        assert begin(client, f'\\watch {HERE}:plain if x > 1 show x * 2, size n=1')['parameters'] == [
            'x',
            'y',
            'more',
            'size',
            'options',
        ]
        plain(1)
        gevent.spawn(plain, 4).join()
        push = document(client)
        assert [
            f'{HERE}:plain',
            {'x': '4', 'y': '2', 'more': '()', 'size': '5', 'options': '{}'},
            '4',
            {'x * 2': '8', 'size': '5'},
        ] == [push[name] for name in ('greenlet', 'arguments', 'result', 'show')]
        assert {'time', 'ms'} <= push.keys()
        assert [{'ended': '1 call was shown', 'shown': 1, 'not_shown': 0}] == document(client)
        assert nothing_is_watched()

    def test_a_trace(self, served, connect):
        client = connect(served)
        assert begin(client, f'\\trace {HERE}:traced n=1')['trace'] == f'{HERE}:traced'
        traced(1)
        assert 'pay' in str(document(client)['trace'])
        assert document(client)[0]['shown'] == 1

    def test_no_secrets_are_shown(self, served, connect):
        client = connect(served)
        begin(client, f'\\watch {HERE}:login if len(headers) show args, args[1], user, headers n=1')
        login('joe', 'hunter2', [('Password', 'hunter2'), ['x-api-token', b'hunter2']])
        push = client.document().decode()
        client.document()
        assert 'hunter2' not in push and 'joe' in push
        for name in ('token', 'token.fset'):
            begin(client, f'\\watch {HERE}:Order.{name} show self n=1')
            order = Order(1)
            order.token, _ = 'hunter2', order.token
            assert 'hunter2' not in client.document().decode()
            client.document()

    def test_an_end_by_time(self, served, connect):
        client = connect(served)
        begin(client, f'\\watch {HERE}:plain seconds=0.05')
        assert [{'ended': '0.05 seconds have passed', 'shown': 0, 'not_shown': 0}] == document(client)

    def test_functions_of_box_inspect(self, served, connect):
        client = connect(served)
        begin(client, f"box.inspect.watch('{HERE}:plain', {{n = 1, ['if'] = 'x == 3'}})")
        plain(3)
        assert document(client)['arguments']['x'] == '3'
        assert document(client)[0]['shown'] == 1
        begin(client, f"box.inspect.count('{HERE}:plain', {{seconds = 0.3}})")
        plain(3)
        assert document(client)['calls'] == 1
        assert document(client)[0]['calls'] == 1
        begin(client, f"box.inspect.stack('{HERE}:plain', {{n = 1}})")
        plain(3)
        assert f'{HERE}:' in document(client)['stack'][0]
        [row] = document(client)[0]['stacks']
        assert [1, 100] == [row['calls'], row['percent']]

    @pytest.mark.parametrize(
        ('line', 'problem'),
        [
            ('\\watch', 'Usage: \\watch MODULE:FUNCTION'),
            (f'\\watch {HERE}:plain n=0', 'n is 0'),
            (f'\\watch {HERE}:plain if x()', 'only len() can be called'),
            (f'\\watch {HERE}:plain if z > 1', 'z is unknown here'),
            (f'\\watch {HERE}:plain what', "'what'' is not expected there"),
            ('\\watch time:sleep', 'a function in C'),
            (f'\\watch {HERE}:plain show x) + (y', 'a bracket is closed that was not opened'),
            (f'\\watch {HERE}:plain if x' + ' show ' * 2000, 'the expression has'),
            (f'\\count {HERE}:plain n=5', 'count has no n'),
            ('\\unwatch', 'Usage: \\unwatch ID|all'),
            ('\\unwatch 77', 'there is no watch 77'),
            (f"box.inspect.watch('{HERE}:plain', {{no = 1}})", 'has no no'),
            ('box.inspect.watch(1)', 'Usage'),
            (f"box.inspect.watch('{HERE}:plane')", 'Near: plain'),
            (f"box.inspect.watch('{HERE}:plane', {{}})", 'Near: plain'),
            (f'\\watch {HERE}:plain n=-1', 'n is -1: expected a number from 1 to 100000'),
            (f'\\watch {HERE}:plain n=1000000000', 'n is 1e+09: expected a number from 1'),
            (f'\\watch {HERE}:plain seconds=0', 'seconds is 0: expected a number above 0, 3600 at most'),
            (f'\\watch {HERE}:plain sec=1', 'watch has no sec. Usage'),
            (f'\\watch {HERE}:plain if n=1', 'if needs an expression'),
            (f'\\watch {HERE}:plain show x if x > 1 n=1', "if'' comes before ''show"),
            (f'\\watch {HERE}:plain n=2 if x n=1', 'n is there twice'),
        ],
    )
    def test_errors(self, served, connect, line, problem):
        assert problem.encode() in connect(served).reply(line)
        assert nothing_is_watched()

    def test_ctrl_c(self, served, connect):
        client = connect(served)
        begin(client, f'\\watch {HERE}:plain n=100')
        plain(1)
        document(client)
        other = connect(served)
        other.reply('\\cancel 1')
        assert '1 call was shown, 0 not' in client.document().decode()
        wait_for(nothing_is_watched)

    def test_ctrl_c_of_a_count(self, served, connect):
        client = connect(served)
        begin(client, f'\\count {HERE}:plain')
        plain(1)
        connect(served).reply('\\cancel 1')
        assert 'session 2: 1 call was counted' in client.document().decode()
        wait_for(nothing_is_watched)

    def test_numbers_before_the_condition(self, served, connect):
        client = connect(served)
        begin(client, f'\\watch {HERE}:plain n=1 rate=20 if x == 3 show size')
        plain(2)
        plain(3)
        assert document(client)['arguments']['x'] == '3'
        assert document(client)[0]['shown'] == 1

    @pytest.mark.parametrize('end', ['close', 'kill', 'stop'])
    def test_the_end_of_the_session(self, served, connect, end):
        client = connect(served)
        begin(client, f'\\watch {HERE}:plain n=100')
        assert not nothing_is_watched()
        if end == 'close':
            client.close()
        elif end == 'kill':
            connect(served).reply('\\kill 1')
        else:
            served.stop()
        wait_for(nothing_is_watched)

    def test_a_killed_client(self, console, tmp_path):
        console(listen=[{'address': f'unix:{tmp_path}/s'}])
        script = (
            'import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); '
            's.sendall(sys.argv[2].encode()); print(s.recv(1), flush=True); s.recv(100000000)\nwhile True: s.recv(1 << 20)'
        )
        client = subprocess.Popen(
            [sys.executable, '-c', script, f'{tmp_path}/s', f'\\watch {HERE}:plain n=1000\n'], stdout=subprocess.PIPE
        )
        try:
            wait_for(lambda: not nothing_is_watched())
            os.kill(client.pid, signal.SIGKILL)
            wait_for(nothing_is_watched)
        finally:
            client.kill()
            client.communicate()

    @pytest.mark.parametrize('end', ['seconds', 'unwatch'])
    def test_a_client_that_does_not_read(self, console, connect, tmp_path, end):
        served = console(listen=[{'address': f'unix:{tmp_path}/s'}, {'address': TEXT}])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f'{tmp_path}/s')
            seconds = 1 if end == 'seconds' else 60
            client.sendall(f'\\watch {HERE}:plain n=100000 rate=1000 seconds={seconds}\n'.encode())
            wait_for(lambda: not nothing_is_watched())
            stop = []
            caller = gevent.spawn(calls_often, ['text' * 25] * 10, stop)
            if end == 'unwatch':
                admin = connect(served.addresses[1])
                wait_for(lambda: admin.value('\\watches')[0]['calls'] > 2000)
                admin.reply('\\unwatch all')
            wait_for(nothing_is_watched)
            stop.append(True)
            caller.join()

    def test_watches_and_unwatch(self, served, connect):
        one, other = connect(served), connect(served)
        begin(one)
        [[row]] = [other.value('\\watches')]
        assert [1, 'watch', f'{HERE}:plain', 1] == [row[name] for name in ('id', 'kind', 'target', 'session')]
        assert [1] == other.value('\\unwatch all')
        assert 'ended by session 2' in document(one)[0]['ended']
        assert [] == other.value('\\watches')

    def test_rights(self, console, connect):
        served = console(listen=[{'address': TEXT, 'user': 'guest'}, {'address': TEXT}])
        guest, admin = (connect(address) for address in served.addresses)
        line = f'\\watch {HERE}:plain seconds=0.01'
        assert b'denied' in guest.reply(line)
        admin.reply("box.schema.user.grant('guest', 'execute', 'command')")
        assert b'denied' in guest.reply(line)
        admin.reply("box.schema.user.grant('guest', 'execute', 'watch')")
        begin(guest, line)
        assert document(guest)[0]['shown'] == 0
        begin(guest)
        admin.reply("box.schema.user.revoke('guest', 'execute', 'watch')")
        plain(1)
        assert b'denied' in guest.document()
        assert nothing_is_watched()
        assert b'denied' in guest.reply(line)

    def test_the_audit_file(self, console, connect, tmp_path):
        served = console(audit={'file': str(tmp_path / 'audit')})
        client = connect(served)
        begin(client, f'\\watch {HERE}:plain if x > 1 n=1')
        plain(5)
        document(client)
        document(client)
        assert 'hunter2' not in begin(client, f"\\watch {HERE}:login if user == 'password=hunter2' seconds=0.01")['if']
        client.document()
        assert 'hunter2' not in (tmp_path / 'audit').read_text()
        events = [json.loads(line) for line in (tmp_path / 'audit').read_text().splitlines()]
        start, stop = [event for event in events if event['event'] == 'watch'][:2]
        assert ['start', 'watch', f'{HERE}:plain', 'x > 1'] == [
            start[name] for name in ('operation', 'kind', 'target', 'condition')
        ]
        assert ['stop', '1 call was shown', 1, 0] == [stop[name] for name in ('operation', 'reason', 'shown', 'not_shown')]

    def test_a_binary_session(self, console, connect_binary):
        binary = connect_binary(console(listen=[{'address': TEXT}, BINARY]))
        sender = gevent.spawn(lambda: wait_for(lambda: not nothing_is_watched()) and plain(1))
        assert binary.eval(f"return box.inspect.watch('{HERE}:plain', {{n = 1}})")[0]['watch'] == f'{HERE}:plain'
        assert '1' == binary.receive()[1][0x30][0]['result']
        sender.join()
        binary.receive()

    def test_the_module_is_loaded_again(self, served, connect, tmp_path, monkeypatch):
        import importlib

        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(sys, 'dont_write_bytecode', True)
        (tmp_path / 'again.py').write_text('def work(x):\n    return x\n')
        again = importlib.import_module('again')
        try:
            client = connect(served)
            begin(client, '\\watch again:work n=2')
            again.work(1)
            assert document(client)['result'] == '1'
            (tmp_path / 'again.py').write_text('def work(x):\n    return x + 100\n')
            importlib.reload(again)
            assert 'another function now' in document(client)['note']
            again.work(1)
            assert document(client)['result'] == '101'
            document(client)
        finally:
            del sys.modules['again']

    def test_a_forked_child_is_not_watched(self, served, connect):
        client = connect(served)
        begin(client)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if nothing_is_watched() and plain(1) == 1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert not nothing_is_watched()
        plain(1)
        assert document(client)['result'] == '1'


@pytest.mark.skipif(not HAS_MONITORING, reason='sys.monitoring came with Python 3.12')
class TestOtherTools:
    def test_coverage_goes_on(self, watched):
        lines = []
        sys.monitoring.use_tool_id(1, 'coverage')
        try:
            sys.monitoring.register_callback(1, sys.monitoring.events.PY_START, lambda code, offset: lines.append(code))
            sys.monitoring.set_local_events(1, plain.__code__, sys.monitoring.events.PY_START)
            watch = watched('plain')
            plain(1)
            watch_hooks.remove(watch)
            plain(1)
            assert [2, 1] == [len(lines), len(watch.queue)]
        finally:
            sys.monitoring.set_local_events(1, plain.__code__, 0)
            sys.monitoring.register_callback(1, sys.monitoring.events.PY_START, None)
            sys.monitoring.free_tool_id(1)

    def test_no_free_id(self, served, connect):
        taken = []
        for number in (2, 3, 4, 5):
            sys.monitoring.use_tool_id(number, f'tool{number}')
            taken.append(number)
        try:
            assert b'no tool id of sys.monitoring is free: taken by tool4, tool3' in connect(served).reply(
                f'\\watch {HERE}:plain'
            )
        finally:
            for number in taken:
                sys.monitoring.free_tool_id(number)
