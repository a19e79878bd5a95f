"""Stops the statement that holds the event loop, from another thread.

Lua: the hook of its coroutine runs at the next instruction, and finds `Dispatcher.asked`. A function of the program: a
signal interrupts it, and the handler raises StatementCancelled. The handler runs in the main thread, in whichever greenlet
runs. So it raises only if that greenlet still runs the same statement, inside a function of the program, and not in code of
the console, gevent, threading, logging or an import, which must not be left halfway. (PyThreadState_SetAsyncExc cannot do
this: its exception comes later, in another greenlet.)
"""
from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

from gevent import getcurrent, monkey

from boxsession.base.errors import StatementCancelled
from boxsession.inspection.frames import file_is_of_console, file_is_of_gevent, file_is_of_program
from boxsession.inspection.outside import is_running
from boxsession.inspection.reprs import READS, reads_for
from boxsession.lua import commands, signatures
from boxsession.lua.functions import call_program
from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.scheduler.task import StopRequest

__all__ = ['SIGNAL', 'Stopper', 'wait_for']

# Ignored where no handler is installed.
SIGNAL = signal.SIGURG
# How long a statement may take to end; how often it is interrupted; how long it may clean up before the next exception is
# raised in it. In seconds.
_SECONDS, _AGAIN_SECONDS, _CLEAN_UP_SECONDS = 1.0, 0.001, 0.1
_LEFT_ALONE = ('<frozen importlib', '<frozen zipimport')
# Code of the console around functions of the program, which keeps no state.
_STATELESS = (commands.__file__, signatures.__file__)
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


class Stopper:
    """Stops statements of one console. stop() is for other threads, the rest for the loop's thread.

    Attributes:
        can_signal: whether functions of the program can be interrupted: the loop runs in the main thread.
    """

    def __init__(self, dispatcher: Dispatcher):
        self._dispatcher = dispatcher
        self._lock = _new_lock()        # between the threads of rescue listeners: the loop's thread never takes it
        self._count = 0                 # listeners that have armed it
        self._thread = 0                # the main thread; 0 without a signal handler
        self._before: Any = None        # the handler of the program
        self._next_raise = 0.0

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

    def disarm(self) -> None:
        """Removes the signal handler, as soon as it was called as often as arm()."""
        self._count -= 1
        if self._count == 0 and self._thread:
            if self.can_signal:
                signal.signal(SIGNAL, self._before)
            self._thread, self._before = 0, None

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
            self._next_raise = 0.0
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
        asked = self._dispatcher.asked
        if asked is None:
            if callable(self._before):
                self._before(number, frame)
            return
        task = asked.task
        current = getcurrent()
        if current is not task.greenlet and current is not reads_for(task.greenlet) or not asked.is_current:
            return
        asked.meet(task)
        now = time.monotonic()
        if task.calling and now >= self._next_raise and _may_raise(frame):
            self._next_raise = now + _CLEAN_UP_SECONDS
            raise StatementCancelled


def _is_over(asked: StopRequest) -> bool:
    """Whether the statement has ended, or was cancelled and does not run now."""
    return not asked.is_current or asked.task.killed and not is_running(asked.task.greenlet)


def _may_raise(frame: Any) -> bool:
    """Whether an exception may be raised in this frame: see above."""
    is_decided = False
    while frame is not None:
        if frame.f_code is call_program.__code__ or frame.f_code is READS:
            return True
        file = frame.f_code.co_filename
        if not is_decided and file not in _STATELESS:
            module = frame.f_globals.get('__name__')
            if file_is_of_console(file) or file_is_of_gevent(file) or file.startswith(_LEFT_ALONE) or (
                    type(module) is str and module.partition('.')[0] in _MODULES_LEFT_ALONE):
                return False
            is_decided = file_is_of_program(file)
        frame = frame.f_back
    return False
