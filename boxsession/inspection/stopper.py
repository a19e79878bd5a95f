"""Stops the statement that holds the event loop.

Lua: the hook of its coroutine runs at the next instruction, and finds `Dispatcher.asked`. A function of the program, and a
statement in Python: a signal interrupts it, and the handler raises StatementCancelled. The handler runs in the main thread,
in whichever greenlet runs. So it raises only if that greenlet still runs the same statement, inside code of the program or
the statement, and not in code of the console, gevent, threading, logging or an import, which must not be left halfway. Code
of threading and logging that waits, as `queue.Queue().get()` does without gevent's patches, is ready for an exception.
(PyThreadState_SetAsyncExc cannot do this: its exception comes later, in another greenlet.)

The signal comes from the thread of a rescue listener, or from the alarm of python/interrupts.py.
"""
from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import CodeType
from typing import Any, Protocol

from gevent import getcurrent, monkey

from boxsession.base.errors import StatementCancelled
from boxsession.inspection.frames import file_is_of_console, file_is_of_gevent, file_is_of_program
from boxsession.inspection.insisting import insist
from boxsession.inspection.outside import is_running
from boxsession.inspection.reprs import READS, reads_for
from boxsession.lua import commands, signatures
from boxsession.lua.functions import call_program
from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.scheduler.task import StopRequest, Task, mark_of

__all__ = ['SIGNAL', 'Stopper', 'Watch', 'entries', 'is_run_by', 'may_raise', 'wait_for']

# Ignored where no handler is installed.
SIGNAL = signal.SIGURG
# How long a statement may take to end; how often it is interrupted; how long it may clean up before the next exception is
# raised in it. In seconds.
_SECONDS, _AGAIN_SECONDS, _CLEAN_UP_SECONDS = 1.0, 0.001, 0.1
_LEFT_ALONE = ('<frozen importlib', '<frozen zipimport')
# Code of the console around functions of the program, which keeps no state.
_STATELESS = (commands.__file__, signatures.__file__)
# The code that runs code of the program or of statements: an exception from there is its own business.
entries: set[CodeType] = {call_program.__code__, READS}
# A frame that is at the same instruction at all looks in this time waits there, in seconds.
_WAITS_SECONDS = 0.05
_MODULES_LEFT_ALONE = ('threading', '_threading_local', 'logging', 'importlib')

_new_lock = monkey.get_original('_thread', 'allocate_lock')
_thread_id = monkey.get_original('_thread', 'get_ident')
_sleep = monkey.get_original('time', 'sleep')


def wait_for(condition: Callable[[], Any], seconds: float) -> bool:
    """In another thread than the loop's: waits until a condition is true. False if it was not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        _sleep(_AGAIN_SECONDS)
    return True


class Watch(Protocol):
    """Finds out by itself which statements have to end."""

    def is_due(self) -> bool: ...               # whether the signal can be its own
    def look(self, greenlet: Any, frame: Any) -> Task | None: ...      # the task of the statement that has to end


class Stopper:
    """Stops statements of one console. stop() is for other threads, the rest for the loop's thread.

    Attributes:
        can_signal: whether functions of the program can be interrupted: the loop runs in the main thread.
        watch: is asked at each signal.
    """

    def __init__(self, dispatcher: Dispatcher):
        self._dispatcher = dispatcher
        self._lock = _new_lock()        # between the threads of rescue listeners: the loop's thread never takes it
        self._count = 0                 # listeners that have armed it
        self._thread = 0                # the main thread; 0 without a signal handler
        self._before: Any = None        # the handler of the program
        self.watch: Watch | None = None
        self._raised: Any = None        # the statement in which an exception was raised
        self._next_raise = 0.0          # when the next one may be raised in it

    @property
    def can_signal(self) -> bool:
        return self._thread != 0 and signal.getsignal(SIGNAL) == self._signalled

    def arm(self) -> None:
        """Installs the signal handler, if the loop runs in the main thread."""
        self._count += 1
        # None: a handler that is not Python's, which could not be called.
        if self._thread or signal.getsignal(SIGNAL) is None:
            return
        try:
            self._before = signal.signal(SIGNAL, self._signalled)
            self._thread = _thread_id()
        except ValueError:              # another thread than the main one
            pass

    def disarm(self) -> bool:
        """Removes the signal handler, as soon as it was called as often as arm(). Returns whether that is so."""
        self._count -= 1
        if self._count == 0 and self._thread:
            if self.can_signal:
                signal.signal(SIGNAL, self._before)
            self._thread, self._before = 0, None
        return self._count == 0

    def give_up(self) -> None:
        """In a forked child: gives the signal back, and stops nothing any more."""
        self._dispatcher.asked = None
        self._count = 1
        self.disarm()

    def forget(self, asked: StopRequest) -> None:
        """Ends a request that had no effect."""
        if self._dispatcher.asked is asked:
            self._dispatcher.asked = None

    # In another thread

    def stop(self, asked: StopRequest, is_ending: Callable[[], bool]) -> bool:
        """Cancels a statement that holds the loop. Returns whether it has ended within a second.

        Else the request stays: the statement is cancelled at the next opportunity.

        Args:
            asked: the statement.
            is_ending: whether the wait has to end.
        """
        task = asked.task
        with self._lock:
            self._raised = None
            self._dispatcher.asked = asked
            end = time.monotonic() + _SECONDS
            while not (is_over := _is_over(asked)) and time.monotonic() < end and not is_ending():
                if task.calling and self.can_signal:
                    signal.pthread_kill(self._thread, SIGNAL)
                task.interrupt()
                _sleep(_AGAIN_SECONDS)
            if is_over:
                self._dispatcher.asked = None
            return is_over

    # In the main thread

    def _signalled(self, number: int, frame: Any) -> None:
        asked, watch, current = self._dispatcher.asked, self.watch, getcurrent()
        is_due = watch is not None and watch.is_due()
        if asked is None and not is_due:
            if callable(self._before):
                self._before(number, frame)
            return
        task = None
        if asked is not None and is_run_by(asked.task, current) and asked.is_current:
            task = asked.task
            asked.meet(task)
        if watch is not None and is_due:
            task = watch.look(current, frame) or task
        if task is not None and task.calling and may_raise(frame):
            statement, now = (task, mark_of(task)), time.monotonic()
            if statement != self._raised or now >= self._next_raise:
                if statement == self._raised:
                    insist(frame, entries, StatementCancelled)
                self._raised, self._next_raise = statement, now + _CLEAN_UP_SECONDS
                raise StatementCancelled


def _is_over(asked: StopRequest) -> bool:
    """Whether the statement has ended, or was cancelled and does not run now."""
    return not asked.is_current or asked.task.killed and not is_running(asked.task.greenlet)


def is_run_by(task: Task, greenlet: Any) -> bool:
    """Whether a greenlet runs this task, or a repr() for it."""
    return greenlet is task.greenlet or greenlet is reads_for(task.greenlet)


def may_raise(frame: Any) -> bool:
    """Whether an exception may be raised in this frame: see above."""
    innermost, is_decided, waits = frame, False, False
    while frame is not None:
        if frame.f_code in entries:
            return True
        file = frame.f_code.co_filename
        if not is_decided and file not in _STATELESS:
            if file_is_of_console(file) or file_is_of_gevent(file) or file.startswith(_LEFT_ALONE):
                return False
            module = frame.f_globals.get('__name__')
            if type(module) is str and module.partition('.')[0] in _MODULES_LEFT_ALONE:
                waits = waits or _waiting.is_at(innermost)
                if not waits:
                    return False
            is_decided = file_is_of_program(file)
        frame = frame.f_back
    return False


class _Waiting:
    """Finds a frame that waits in C code: it stays at one instruction."""

    def __init__(self) -> None:
        self._place: Any = None
        self._since = 0.0

    def is_at(self, frame: Any) -> bool:
        """Whether the frame was there at the last look, too, and for some time."""
        place, now = (id(frame), frame.f_lasti), time.monotonic()
        if place != self._place:
            self._place, self._since = place, now
        return now - self._since >= _WAITS_SECONDS


_waiting = _Waiting()
