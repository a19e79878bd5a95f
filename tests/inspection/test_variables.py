"""The variables of frames as text, and repr() within limits: inspection/variables.py and reprs.py."""
from __future__ import annotations

import sys
import threading
from collections import defaultdict, deque

import gevent
import pytest
from greenlet import getcurrent, greenlet

from boxsession.base.stacks import frames_from
from boxsession.inspection.reprs import Reprs
from boxsession.inspection.variables import variables


def text(value):
    return Reprs()(value, 'Class')


def with_repr(function):
    return type('Made', (), {'__repr__': function})()


def endless(self):
    while True:
        pass


def stubborn(self):
    while True:
        try:
            endless(self)
        except Exception:
            pass


def raising(self):
    raise KeyError('x')


def leaving(self):
    sys.exit(1)


def waiting(self):
    gevent.sleep(0.1)
    return 'waited'


def waiting_quietly(self):
    try:
        gevent.sleep(0.1)
    except Exception:
        pass
    return 'waited'


def switching(self):
    return str(getcurrent().parent.switch())


def deep(self):
    return deep(self)


class TestReprs:
    @pytest.mark.parametrize(('function', 'shown'), [
        (lambda self: 'short', 'short'),
        (lambda self: 'x' * 500, 'x' * 100 + '... (500)'),
        (lambda self: 5, '<Class: repr raised TypeError>'),
        (endless, '<Class: repr took too long>'), (stubborn, '<Class: repr took too long>'),
        (raising, '<Class: repr raised KeyError>'), (leaving, '<Class: repr raised SystemExit>'),
        (waiting, '<Class: repr waits>'), (waiting_quietly, '<Class: repr waits>'), (switching, '<Class: repr waits>')])
    def test_ends(self, function, shown):
        before = sys.gettrace()
        assert shown == text(with_repr(function))
        assert sys.gettrace() is before

    def test_a_recursion_without_an_end(self):
        assert text(with_repr(deep)) in ('<Class: repr raised RecursionError>', '<Class: repr took too long>')

    @pytest.mark.parametrize('value', [
        defaultdict(list, {number: 1 for number in range(5000)}), deque(range(5000)),
        type('Names', (list,), {})([1] * 5000), type('Text', (str,), {})('x' * 5000)])
    def test_large_collections_have_none(self, value):
        assert '<Class of 5000 items>' == text(value)

    @pytest.mark.parametrize('secret', [
        'User(password=geheim)', "User(password='geheim', age=5)", "{'token': 'geheim'}", 'Authorization: Bearer geheim',
        'x' * 80 + " apiKey='geheim" + 'x' * 80])
    def test_secrets_are_cut_out(self, secret):
        shown = text(with_repr(lambda self: secret))
        assert 'gehei' not in shown and '***' in shown

    def test_all_calls_share_the_time(self):
        reprs = Reprs()
        assert '<Class: repr took too long>' == reprs(with_repr(endless), 'Class')
        assert '<Class: repr took too long>' == reprs(with_repr(lambda self: 'short'), 'Class')

    def test_a_debugger_goes_on(self):
        events = []

        def trace(frame, event, argument):
            events.append(event)
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            assert 'short' == text(with_repr(lambda self: 'short'))
            assert sys.gettrace() is trace
        finally:
            sys.settrace(before)

    def test_others_are_not_traced(self):
        """A repr that switches by itself into another greenlet, which then runs for long."""
        def other():
            for _ in range(50_000):
                pass
            done.append(sys.gettrace())
        done = []
        assert '<Class: repr took too long>' != text(with_repr(lambda self: str(greenlet(other).switch())))
        assert 1 == len(done)


def frames_of(function, *args):
    """A greenlet that waits in a function, and its stack."""
    made = greenlet(function)
    made.switch(*args)
    return made, frames_from(iter((made.gr_frame,)))


class TestVariables:
    def test_at_most_fifty_of_a_call(self):
        namespace = {'switch': getcurrent().switch}
        exec('def many():\n' + ''.join(f'    v{number} = {number}\n' for number in range(60)) + '    switch()', namespace)
        kept, frames = frames_of(namespace['many'])
        row, = variables(frames, lambda: None)
        assert 52 == len(row) and '10 more variables' == row['...']

    def test_at_most_thirty_calls(self):
        def nest(level):
            return nest(level - 1) if level else main.switch()
        main = getcurrent()
        kept, frames = frames_of(nest, 50)
        rows = variables(frames, lambda: None)
        assert 31 == len(rows) and '... 21 more calls' == rows[-1]['call']

    def test_what_the_program_keeps_of_locals_stays(self):
        def run(order):
            context = locals()
            main.switch()
            return context
        main = getcurrent()
        kept, frames = frames_of(run, 7)
        assert 'order' in str(variables(frames, lambda: None))
        assert 7 == kept.switch()['order']

    def test_the_values_are_read_before_others_run(self):
        def run():
            value = 'first'
            main.switch()
            value = 'second'
            main.switch(value)
        main = getcurrent()
        kept, frames = frames_of(run)
        switched = []

        def pause():
            if not switched:
                switched.append(kept.switch())
        assert "'first'" == variables(frames, pause)[0]['value'] and ['second'] == switched


def test_in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(text(with_repr(endless))))
    thread.start()
    thread.join()
    assert ['<Class: repr took too long>'] == found
