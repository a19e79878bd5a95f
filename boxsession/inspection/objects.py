"""The objects that the garbage collector tracks, looked through in pieces: others run in between.

Calls no code of the program. Nothing keeps an object alive after a scan.
"""
from __future__ import annotations

import gc
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

__all__ = ['Pause', 'Refused', 'in_time', 'parts', 'pieces', 'scan', 'taken_pieces']

# Objects between two looks at the clock, and seconds between two pauses.
_PIECE, _HELD = 200, 0.003
# A collection with more items is read in parts of this number.
_LARGE = 2000

# By their ids: to compare or to hash a class may run code of its metaclass.
_BASES = (list, tuple, dict, set, frozenset, deque)
_COLLECTIONS: dict[int, Any] = {id(kind): kind for kind in _BASES}

Pause = Callable[[], None]
# The process in which a scan runs; 0 without one. A forked child does not go on with its parent's.
_scanning = 0


class Refused(Exception):
    """The command cannot be run. The text says why."""


@contextmanager
def scan(let_others_run: Pause) -> Iterator[tuple[list[Any], Pause]]:
    """All objects that the collector tracks, as a list, and a function to call often: it pauses when that is due.

    Making the list is one call of Python, which holds the loop: about 10 ms for a million objects. The list is emptied at
    the end.

    Raises:
        Refused: another scan runs. Each would find the other's list as a referrer of everything.
    """
    global _scanning
    if _scanning == os.getpid():
        raise Refused('another statement looks through the memory: wait until it has ended')
    _scanning = os.getpid()
    found: list[Any] = []
    try:
        found = gc.get_objects()
        pause = in_time(let_others_run)
        yield found, pause
        while found:
            del found[-_PIECE:]
            pause()
    finally:
        try:
            while found:
                del found[-100 * _PIECE:]
        finally:
            _scanning = 0


def in_time(let_others_run: Pause) -> Pause:
    """A function that lets others run if the last time is some milliseconds ago. The first call does so at once."""
    last = 0.0

    def pause() -> None:
        nonlocal last
        if time.perf_counter() - last > _HELD:
            let_others_run()
            last = time.perf_counter()

    return pause


def pieces(found: list[Any], pause: Pause) -> Iterator[list[Any]]:
    """The objects in pieces."""
    for start in range(0, len(found), _PIECE):
        pause()
        yield found[start:start + _PIECE]


def taken_pieces(found: list[Any], pause: Pause) -> Iterator[list[Any]]:
    """The objects in pieces, from the end. Each piece is taken out of the list."""
    while found:
        pause()
        piece = found[-_PIECE:]
        del found[-_PIECE:]
        yield piece


def parts(item: Any, pause: Pause) -> Iterator[list[Any]]:
    """The objects that `item` refers to, those of a large collection in several parts. Of a large collection whose class is
    derived from a built-in one only the items are seen."""
    base = _collection(type(item))
    if base is None or base.__len__(item) <= _LARGE:
        yield from _taken(gc.get_referents(item), pause)
    elif base is list or base is tuple:
        for start in range(0, base.__len__(item), _LARGE):
            yield list(base.__getitem__(item, slice(start, start + _LARGE)))
            pause()
    else:
        for values in (dict.keys(item), dict.values(item)) if base is dict else (base.__iter__(item),):
            rest = iter(values)
            while True:
                try:
                    part = list(islice(rest, _LARGE))
                except RuntimeError:        # it was changed meanwhile: its other items are not seen
                    break
                if not part:
                    break
                yield part
                pause()


def _collection(kind: type) -> Any:
    """The built-in class of collections that a class is or is derived from; None for other classes."""
    base = _COLLECTIONS.get(id(kind))
    if base is None and issubclass(kind, _BASES):
        base = next(base for base in _BASES if issubclass(kind, base))
    return base


def _taken(found: list[Any], pause: Pause) -> Iterator[list[Any]]:
    """A list in parts, which are taken out of it: those of objects as functools.lru_cache are as long as their contents."""
    while len(found) > _LARGE:
        part = found[-_LARGE:]
        del found[-_LARGE:]
        yield part
        del part
        pause()
    yield found
