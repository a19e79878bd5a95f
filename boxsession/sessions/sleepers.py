"""Watches the sockets of all sleeping sessions with one watcher of the event loop.

10,000 clients may leave at the same moment. The event loop would call the callbacks of all their watchers in one iteration.
So only a few sockets of sleeping sessions are handled in one iteration.
"""
from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, Protocol

from gevent import get_hub, monkey

from boxsession.base.inherited import own
from boxsession.scheduler.loop import PRIORITY

__all__ = ['Sleepers']

# The unpatched epoll, also in a program that gevent has patched.
_epoll = monkey.get_original('select', 'epoll')
# Maximum sockets handled in one iteration of the loop.
_MOST = 32
_EVENTS, _LEFT = select.EPOLLIN | select.EPOLLRDHUP, select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_READ = 1               # libev's event mask


class Sleeper(Protocol):
    """A sleeping session."""

    def woken(self, has_left: bool) -> None: ...        # called in the hub when its client sends or leaves


class Sleepers:
    """The sockets of sleeping sessions.

    Args:
        greenlet: makes the greenlet in which a woken session continues.
    """

    def __init__(self, greenlet: Callable[[Any], Any]):
        self.greenlet = greenlet
        self._epoll: Any = _epoll()
        own(self)
        self._asleep: dict[int, Sleeper] = {}
        self._watcher: Any = get_hub().loop.io(self._epoll.fileno(), _READ, priority=PRIORITY)

    def fileno(self) -> int:
        """The descriptor of the epoll."""
        return self._epoll.fileno()

    def add(self, fd: int, session: Sleeper) -> None:
        """Adds a session. It is woken once, when its client sends or leaves."""
        self._asleep[fd] = session
        self._epoll.register(fd, _EVENTS)
        if not self._watcher.active:
            self._watcher.start(self._ready)

    def remove(self, fd: int) -> None:
        """Removes a session. Call it before the session's socket is closed."""
        if self._asleep.pop(fd, None) is not None and not self._epoll.closed:
            self._epoll.unregister(fd)

    def _ready(self) -> None:
        for fd, events in self._epoll.poll(0, _MOST):
            session = self._asleep.get(fd)
            if session is not None:             # None: a session woken in this loop has ended this one
                self.remove(fd)
                session.woken(bool(events & _LEFT))

    def close(self) -> None:
        """Closes the epoll and its watcher."""
        self._watcher.stop()
        self._watcher.close()
        self._epoll.close()
