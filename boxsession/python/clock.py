"""Tells running code that its time slice is over.

Python code can only look at a value. A timer of the kernel writes that value: a thread reads the timer's file into it, and
meanwhile needs no GIL, which the code keeps for 5 ms and longer.
"""
from __future__ import annotations

import ctypes
import os
from functools import partial

from gevent import monkey

from boxsession.base.own_threads import start_thread

__all__ = ['Clock', 'TimerSetting']

_get_ident = monkey.get_original('_thread', 'get_ident')

_libc = ctypes.CDLL(None, use_errno=True)
_CLOEXEC, _SIZE = os.O_CLOEXEC, 8
_MONOTONIC = 1


class TimerSetting(ctypes.Structure):
    """itimerspec: a period, which is 0, and the time until the timer expires, in seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ('period', 'period_ns', 'seconds', 'nanoseconds')]


class Clock:
    """The clock of one event loop.

    Attributes:
        busy: true when running code has to call the scheduler. It may be true too early.
        thread: the identifier of the loop's thread; 0 before start().
    """

    __slots__ = ('busy', 'thread', '_timer', '_setting', '_is_closed')

    def __init__(self) -> None:
        self.busy = ctypes.c_uint64(1)
        self.thread = 0
        self._timer = -1
        self._setting = TimerSetting()
        self._is_closed = False

    def start(self) -> None:
        """Starts the timer's thread, unless it runs.

        Raises:
            OSError: the process has too many open files.
        """
        if self._timer >= 0:
            return
        self._timer = _libc.timerfd_create(_MONOTONIC, _CLOEXEC)
        if self._timer < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        self.thread = _get_ident()
        start_thread(partial(_copy_expirations, self))

    def set(self, seconds: float) -> None:
        """Makes `busy` true after this time, and false until then."""
        self.busy.value = 0
        self._setting.nanoseconds = min(max(int(seconds * 1e9), 1), 999_999_999)
        _libc.timerfd_settime(self._timer, 0, ctypes.byref(self._setting), None)

    def ring(self) -> None:
        """Makes `busy` true. Callable from any thread."""
        self.busy.value = 1

    def close(self) -> None:
        """Ends the thread."""
        self._is_closed = True
        if self._timer >= 0:
            self.set(1e-9)


def _copy_expirations(clock: Clock) -> None:
    """The thread: each read() returns when the timer expires."""
    timer, busy = clock._timer, ctypes.byref(clock.busy)
    while not clock._is_closed:
        _libc.read(timer, busy, _SIZE)
    clock._timer = -1
    os.close(timer)
