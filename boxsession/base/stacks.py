"""Reads the frames of stacks that may belong to another thread."""
from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from itertools import accumulate, chain, islice, repeat
from operator import itemgetter
from typing import Any

__all__ = ['DEPTH', 'frames_from', 'frames_of_thread']

# Calls of one stack that are read: a recursion without an end has some thousand.
DEPTH = 200


def frames_from(first: Iterator[Any]) -> list[Any]:
    """The stack of a frame that may run, or begin to run, in another thread: at most 200 frames, the innermost first.

    The whole stack is read by one call of C, so the GIL stays here: from Python 3.12 on, f_back of a frame may not be read
    if its greenlet has been switched since the frame was taken. The interpreter can crash then.

    Args:
        first: gives the innermost frame. An iterator of C (as of itertools), for the same reason.
    """
    found: deque[Any] = deque()
    try:
        found.extend(accumulate(chain(first, repeat('f_back', DEPTH - 1)), getattr))
    except (AttributeError, KeyError):          # None has no f_back; the thread has ended
        pass
    try:
        return [frame for frame in found if frame is not None]
    finally:
        found.clear()               # one of the frames may be this one: a cycle would keep them all


def frames_of_thread(identifier: int) -> list[Any]:
    """The stack of a thread, the innermost frame first; empty if the thread does not exist."""
    return frames_from(map(itemgetter(identifier), islice(iter(sys._current_frames, None), 1)))
