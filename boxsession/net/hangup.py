"""Finds clients that have left without the session reading anything."""
from __future__ import annotations

import select
from typing import Any

from gevent import monkey

__all__ = ['is_hung_up', 'sends_no_more']

_poll = monkey.get_original('select', 'poll')       # gevent's would switch greenlets


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
