"""Finds clients that have left without the session reading anything."""
from __future__ import annotations

import select
import socket
from typing import Any

from gevent import monkey

__all__ = ['is_hung_up', 'sends_no_more', 'unread_input']

_poll = monkey.get_original('select', 'poll')       # gevent's would switch greenlets
# Input that unread_input() looks at, in bytes: about as much as waits in a socket.
_UNREAD_BYTES = 1 << 18


def is_hung_up(sock: Any) -> bool:
    """Whether the other end has closed both directions or reset the connection. A half-close is not a hang-up."""
    poller = _poll()
    poller.register(sock.fileno(), 0)
    return bool(poller.poll(0))


def sends_no_more(sock: Any) -> bool:
    """Whether the other end has closed its direction (a half-close), or has hung up. `sock` may be a file descriptor."""
    poller = _poll()
    poller.register(sock, select.POLLRDHUP)
    return bool(poller.poll(0))


def unread_input(sock: Any) -> tuple[bytes, bool]:
    """The input that waits in a socket, which stays there, and whether the other end has hung up."""
    poller = _poll()
    poller.register(sock.fileno(), select.POLLIN)
    events = sum(flags for _, flags in poller.poll(0))
    has_left = bool(events & (select.POLLHUP | select.POLLERR))
    # After an error, recv() would take the error, so that nobody else finds it.
    if not events & select.POLLIN or events & select.POLLERR:
        return b'', has_left
    try:
        return sock.recv(_UNREAD_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT), has_left
    except OSError:
        return b'', has_left
