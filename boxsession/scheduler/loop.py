"""Adapts gevent's event loop to turns.py.

All watchers of a console have the lowest priority. So the program's own events come first in each iteration, and can be
told from ours. Two check watchers count the pending events: one runs before the program's watchers, one after them. The
difference is the number of the program's events.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gevent import get_hub
from gevent.hub import Waiter

__all__ = ['PRIORITY', 'EventLoop', 'rest']

# libev's lowest priority, and the one above it.
PRIORITY, _BEHIND_OTHERS = -2, -1
# libev's highest priority.
_FIRST = 2
# Events are counted for this time after the last task left the lanes, in seconds.
_WATCHED_SECONDS, _FOR_EVER = 0.01, float('inf')


class _Timer:
    """A timer that can be started many times. See turns.Timer."""

    __slots__ = ('_loop', '_callback', '_next', '_later')

    def __init__(self, loop: Any, callback: Callable[[], None]):
        self._loop = loop
        self._callback = callback
        self._next: Any = loop.timer(0.0, priority=PRIORITY)
        self._later: Any = None

    def start(self, seconds: float) -> None:
        if self._next is None:              # closed
            return
        if seconds <= 0:
            self._next.start(self._callback)
            return
        self._close_later()
        self._later = self._loop.timer(seconds, priority=PRIORITY)
        self._later.start(self._callback, update=True)

    def _close_later(self) -> None:
        if self._later is not None:
            self._later.stop()
            self._later.close()

    def close(self) -> None:
        self._close_later()
        self._next.stop()
        self._next.close()
        self._next = None


class EventLoop:
    """The event loop of the calling thread's hub."""

    def __init__(self) -> None:
        self._loop = get_hub().loop
        self._timers: list[_Timer] = []
        # close() must close these: a watcher refers to its callback, and so to the whole console.
        self._before = self._loop.check(priority=_FIRST)
        self._behind = self._loop.check(priority=_BEHIND_OTHERS)
        self._is_watching = self._is_closed = False
        self._watched_until = _FOR_EVER
        self._pending = 0
        self._had_events = False

    now = staticmethod(time.monotonic)
    processor_time = staticmethod(time.thread_time)

    def timer(self, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(self._loop, callback)
        self._timers.append(timer)
        return timer

    def watch(self, on: bool) -> None:
        """Starts or stops counting the program's events.

        Counting stops some milliseconds late: one iteration without such events proves nothing.
        """
        if not on:
            self._watched_until = time.monotonic() + _WATCHED_SECONDS
            return
        self._watched_until = _FOR_EVER
        if not self._is_watching and not self._is_closed:
            self._is_watching = True
            self._had_events, self._pending = False, 0
            self._before.start(self._count_before)
            self._behind.start(self._count_behind)

    def _stop_watching(self) -> None:
        self._is_watching = False
        self._before.stop()
        self._behind.stop()

    def _count_before(self) -> None:
        self._pending = self._loop.pendingcnt

    def _count_behind(self) -> None:
        # One of the pending events was the call of this function.
        if self._pending - self._loop.pendingcnt > 1:
            self._had_events = True
        if self._watched_until is not _FOR_EVER and time.monotonic() > self._watched_until:
            self._stop_watching()

    def had_other_events(self) -> bool:
        """Whether the program had events since the last call."""
        had, self._had_events = self._had_events, False
        return had

    def close(self) -> None:
        """Closes all watchers and timers."""
        self._stop_watching()
        self._is_closed = True
        for watcher in (self._before, self._behind, *self._timers):
            watcher.close()
        self._timers.clear()


def rest(seconds: float) -> None:
    """Waits behind the program's events, outside of the scheduler: what follows is no turn, and limits its own use.

    Only for Python that a statement has called. If the statement is cancelled, its exception is raised here.
    """
    waiter: Any = Waiter()
    timer = get_hub().loop.timer(seconds, priority=PRIORITY)
    timer.start(waiter.switch, None, update=True)
    try:
        waiter.get()
    finally:
        timer.stop()
        timer.close()
