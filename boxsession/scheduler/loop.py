"""gevent's event loop, as turns.py needs it.

All watchers of a console have the lowest priority. So the program's own events come first in each iteration, and can be
told from ours: what is pending for the first of two check watchers and is not for the second was the program's.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gevent import get_hub

__all__ = ['PRIORITY', 'EventLoop']

# libev's lowest, and the one above it.
PRIORITY, _BEHIND_OTHERS = -2, -1
_FIRST = 2
# For how long events are still counted when nobody waits for a turn any more, in seconds.
_WATCHED_SECONDS, _FOR_EVER = 0.01, float('inf')


class _Timer:
    """A timer that is started again and again. See turns.Timer."""

    __slots__ = ('_loop', '_callback', '_next', '_later')

    def __init__(self, loop: Any, callback: Callable[[], None]):
        self._loop = loop
        self._callback = callback
        self._next: Any = loop.timer(0.0, priority=PRIORITY)
        self._later: Any = None

    def start(self, seconds: float) -> None:
        if self._next is None:              # closed: nobody gets a turn any more
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
    """The loop of the calling thread's hub."""

    def __init__(self) -> None:
        self._loop = get_hub().loop
        self._timers: list[_Timer] = []
        # Closed at the end: a watcher keeps its callback, and so the whole console.
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
        """Whether to count other events. They are counted a little longer: one iteration without any proves nothing."""
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
        # One of those that were pending was the call of this function.
        if self._pending - self._loop.pendingcnt > 1:
            self._had_events = True
        if self._watched_until is not _FOR_EVER and time.monotonic() > self._watched_until:
            self._stop_watching()

    def had_other_events(self) -> bool:
        """Whether the program had events since this was last asked."""
        had, self._had_events = self._had_events, False
        return had

    def close(self) -> None:
        """Gives the watchers back."""
        self._stop_watching()
        self._is_closed = True
        for watcher in (self._before, self._behind, *self._timers):
            watcher.close()
        self._timers.clear()
