"""The sockets of the consoles of this process, which a forked child must give up: they belong to its parent.

Closing them in the child is not enough. gevent's sockets and watchers close in later iterations of an event loop, and an
epoll that is changed in the child changes in the parent. So an empty epoll takes the place of each descriptor. All objects
remain valid, and no event ever comes.
"""
from __future__ import annotations

import os
from typing import Any
from weakref import WeakSet

from gevent import monkey

__all__ = ['give_up', 'own']

_epoll = monkey.get_original('select', 'epoll')
_owned: WeakSet[Any] = WeakSet()


def own(thing: Any) -> Any:
    """Notes a socket, or another object with a method fileno(). Returns it."""
    _owned.add(thing)
    return thing


def give_up() -> None:
    """In a forked child: closes the inherited descriptors of all sockets that the parent has noted."""
    with _epoll() as nothing:
        for thing in list(_owned):
            try:
                descriptor = thing.fileno()
                if descriptor >= 0:
                    os.dup2(nothing.fileno(), descriptor, inheritable=False)
            except (OSError, ValueError):       # it is closed
                pass
    _owned.clear()
