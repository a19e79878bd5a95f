"""Waits for the clients of sleeping sessions, for all of them with one watcher.

10,000 clients may leave in one moment, and the event loop calls the callbacks of all that is ready before anything else: so
only a few sockets of sleeping sessions are looked at in one iteration.
"""
from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, Protocol

from gevent import get_hub, monkey

from boxsession.scheduler.loop import PRIORITY

__all__ = ['Sleepers']

# The real one, also in a program that is patched.
_epoll = monkey.get_original('select', 'epoll')
# How many are looked at in one iteration of the loop.
_MOST = 32
_EVENTS, _LEFT = select.EPOLLIN | select.EPOLLRDHUP, select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_READ = 1               # libev's event mask


class Sleeper(Protocol):
    """A sleeping session."""

    def woken(self, has_left: bool) -> None: ...        # in the hub: its client has sent something, or left


class Sleepers:
    """The sockets of sleeping sessions.

    Args:
        greenlet: makes the greenlet in which a session goes on.
    """

    def __init__(self, greenlet: Callable[[Any], Any]):
        self.greenlet = greenlet
        self._epoll: Any = _epoll()
        self._asleep: dict[int, Sleeper] = {}
        self._watcher: Any = get_hub().loop.io(self._epoll.fileno(), _READ, priority=PRIORITY)

    def add(self, fd: int, session: Sleeper) -> None:
        """Wakes a session as soon as its client sends or leaves, once."""
        self._asleep[fd] = session
        self._epoll.register(fd, _EVENTS)
        if not self._watcher.active:
            self._watcher.start(self._ready)

    def remove(self, fd: int) -> None:
        """It is not asleep any more. To be called before its socket is closed."""
        if self._asleep.pop(fd, None) is not None and not self._epoll.closed:
            self._epoll.unregister(fd)

    def _ready(self) -> None:
        for fd, events in self._epoll.poll(0, _MOST):
            session = self._asleep.get(fd)
            if session is not None:             # one that was woken just now may have ended this one
                self.remove(fd)
                session.woken(bool(events & _LEFT))

    def close(self) -> None:
        """Gives back what it holds."""
        self._watcher.stop()
        self._watcher.close()
        self._epoll.close()
