"""The sockets of the consoles of this process, which a forked child must give up: they belong to its parent.

Closing them in the child is not enough. gevent's sockets and watchers close in later iterations of an event loop, and an
epoll that is changed in the child changes in the parent. So an empty epoll takes the place of each descriptor. All objects
remain valid, and no event ever comes.
"""
from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any
from weakref import WeakSet

from gevent import monkey

__all__ = ['give_up', 'own', 'replace_all', 'snapshots']

_epoll = monkey.get_original('select', 'epoll')
_owned: WeakSet[Any] = WeakSet()
# Has an item while this process forks a snapshot (python/snapshot.py), and for ever in that child. The child runs one
# statement and ends, so it gives up no console.
snapshots: list[bool] = []


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


def replace_all(kept: Collection[int]) -> None:
    """In a snapshot: closes all inherited descriptors but 0, 1, 2 and those that are kept.

    Any use of one is an error then (EBADF), and its number is not given to another file, which its owner would close.
    """
    nothing = os.open('/', os.O_PATH | os.O_CLOEXEC)
    for name in os.listdir('/proc/self/fd'):
        number = int(name)
        if number > 2 and number != nothing and number not in kept:
            os.dup2(nothing, number, inheritable=False)
