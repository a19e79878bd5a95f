"""A timer of the kernel that sends a signal to the main thread.

A POSIX timer of its own: signal.setitimer() has one timer for the process, which may be the program's. The signal goes to
one thread: the main thread runs Python's signal handlers, and a signal that another thread gets would not end its sleep.
"""
from __future__ import annotations

import ctypes
import time
from typing import Any

from gevent import monkey

from boxsession.python.clock import TimerSetting

__all__ = ['Alarm']

_native_id = monkey.get_original('_thread', 'get_native_id')

_MONOTONIC, _TO_THREAD = 1, 4
# The time after which a signal that has not come is taken for lost, in seconds.
_LOST_SECONDS = 1.0


class _Event(ctypes.Structure):
    """sigevent: a value, the signal, how it is sent, and the thread; 64 bytes in all."""

    _fields_ = [('value', ctypes.c_void_p), ('signal', ctypes.c_int), ('notify', ctypes.c_int), ('thread', ctypes.c_int),
                ('rest', ctypes.c_int * 11)]


def _library() -> Any:
    for name in None, 'librt.so.1':             # glibc before 2.34 has timers in a library of their own
        try:
            found = ctypes.CDLL(name, use_errno=True)
            found.timer_settime.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
            found.timer_delete.argtypes = [ctypes.c_void_p]
            return found
        except (OSError, AttributeError):
            pass
    return None


_LIBRARY = _library()


class Alarm:
    """A timer that expires once after each set(). Of the main thread.

    Args:
        number: the signal.

    Attributes:
        late: by time.monotonic(): after this it has to be set again. 0 if it is not set.
    """

    __slots__ = ('late', '_number', '_timer', '_setting')

    def __init__(self, number: int) -> None:
        self.late = 0.0
        self._number = number
        self._timer: int | None = None
        self._setting = TimerSetting()

    def set(self, seconds: float) -> bool:
        """Sends the signal after this time, which is shorter than a second. False if the system has no such timer."""
        if self._timer is None and not self._create():
            return False
        self.late = time.monotonic() + seconds + _LOST_SECONDS
        self._setting.nanoseconds = int(seconds * 1e9)
        _LIBRARY.timer_settime(self._timer, 0, ctypes.byref(self._setting), None)
        return True

    def _create(self) -> bool:
        timer = ctypes.c_void_p()
        event = _Event(None, self._number, _TO_THREAD, _native_id())
        if _LIBRARY is None or _LIBRARY.timer_create(_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)):
            return False
        self._timer = timer.value or 0          # the first timer of a process is number 0
        return True

    def has_expired(self) -> bool:
        """Whether a signal can be the timer's. Then the timer is not set any more."""
        if not self.late or time.monotonic() < self.late - _LOST_SECONDS:
            return False
        self.late = 0.0
        return True

    def close(self) -> None:
        """Deletes the timer. set() makes a new one."""
        if self._timer is not None:
            _LIBRARY.timer_delete(self._timer)
        self.forget()

    def forget(self) -> None:
        """In a forked child: it has no timers."""
        self._timer, self.late = None, 0.0
