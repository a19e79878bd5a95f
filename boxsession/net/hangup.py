"""Finds clients that have left without the session reading anything."""
from __future__ import annotations

from typing import Any

from gevent import monkey

__all__ = ['is_hung_up']

_poll = monkey.get_original('select', 'poll')       # gevent's would switch greenlets


def is_hung_up(sock: Any) -> bool:
    """Whether the other end has closed both directions or reset the connection. A half-close is not a hang-up."""
    poller = _poll()
    poller.register(sock.fileno(), 0)
    return bool(poller.poll(0))
