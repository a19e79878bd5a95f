"""Finds objects of the process, and reads the fields of greenlets. No code of the program's classes runs."""
from __future__ import annotations

import functools
import gc
import sys
import types
from collections.abc import Callable, Iterator
from itertools import compress
from typing import Any

import gevent
from gevent import monkey
from gevent.hub import Hub
from gevent.lock import BoundedSemaphore
from greenlet import getcurrent, greenlet

from boxsession.base.stacks import frames_from, frames_of_thread
from boxsession.inspection.frames import frames_of_program, utf8
from boxsession.inspection.pace import Pace
from boxsession.scheduler.loop import rest

__all__ = ['field', 'frame_of', 'frames_and_state', 'frames_among', 'has_ended', 'instances', 'is_hub',
           'kinds_of_greenlets', 'new_pace', 'parent_of', 'target']

_thread_id = monkey.get_original('_thread', 'get_ident')

# Objects that are looked at between two looks at the clock: about half a millisecond.
_OBJECTS = 8000

# The fields of a greenlet, even if a class of the program has its own of the same name.
frame_of: Callable[[greenlet], Any] = greenlet.__dict__['gr_frame'].__get__
parent_of: Callable[[greenlet], Any] = greenlet.__dict__['parent'].__get__
_is_dead: Callable[[greenlet], bool] = greenlet.__dict__['dead'].__get__


def new_pace() -> Pace:
    """A pace for looks of the calling thread's greenlets."""
    return Pace(rest, BoundedSemaphore())


def instances(base: type, pace: Pace) -> list[Any]:
    """The objects of a class and of its subclasses, about in the order of their creation.

    To read the objects of the process is one step of C: 5 to 30 ms for a million of them, an eighth of what a full garbage
    collection takes. Objects that gc.freeze() has hidden are not among them.
    """
    # By the types' addresses: isinstance() may call a property of the program.
    kinds = _kinds(base)
    pace.rest()
    objects = gc.get_objects()
    pace.rest()
    found: list[Any] = []
    while objects:
        piece = objects[-_OBJECTS:]
        del objects[-_OBJECTS:]
        piece.reverse()
        found += compress(piece, map(kinds.__contains__, map(id, map(type, piece))))
        del piece
        pace()
    found.reverse()
    return found


def kinds_of_greenlets() -> dict[int, type]:
    """The classes of greenlets, by their addresses."""
    return _kinds(greenlet)


def _kinds(base: type) -> dict[int, type]:
    """A class and its subclasses, by their addresses: a set would call the __hash__ of a metaclass."""
    found: dict[int, type] = {}
    to_do: list[type] = [base]
    while to_do:
        kind = to_do.pop()
        if id(kind) not in found:
            found[id(kind)] = kind
            to_do += type.__subclasses__(kind)
    return found


def frames_among(objects: list[Any], pause: Callable[[], None]) -> Iterator[Any]:
    """The frames of all threads, and of the greenlets among `objects`, without those of this package.

    Args:
        pause: lets others run. Called from time to time.
    """
    kinds = _kinds(greenlet)
    for thread in list(sys._current_frames()):
        # Of this thread without the frame that reads: a list of its own frame is a cycle.
        yield from frames_of_program(frames_from(iter((sys._getframe(1),))) if thread == _thread_id() else
                                     frames_of_thread(thread))
    for start in range(0, len(objects), _OBJECTS):
        pause()
        for found in [item for item in objects[start:start + _OBJECTS] if id(type(item)) in kinds]:
            if not _is_dead(found):
                yield from frames_of_program(frames_from(map(frame_of, (found,))))


def is_hub(found: greenlet) -> bool:
    return issubclass(type(found), Hub)


def field(found: greenlet, name: str) -> Any:
    """An attribute of a greenlet; None without it."""
    try:
        return object.__getattribute__(found, name)
    except AttributeError:
        return None


def has_ended(found: greenlet) -> bool:
    # gevent's own field also says so of a greenlet that was killed before it began.
    return bool(_is_dead(found) or issubclass(type(found), gevent.Greenlet) and gevent.Greenlet.dead.__get__(found))


def frames_and_state(found: greenlet) -> tuple[list[Any], str]:
    """The stack of a greenlet, the innermost frame first, and its state. There is none if it has not begun or runs in
    another thread."""
    kind = 'hub' if is_hub(found) else ''
    if found is getcurrent():
        return frames_from(iter((sys._getframe(1),))), kind or 'running'
    frames = frames_from(map(frame_of, (found,)))
    if frames:
        return frames, kind or 'waiting'
    return frames, kind or ('running in another thread' if greenlet.__bool__(found) else 'not started')


def target(found: greenlet) -> str:
    """The function that a greenlet will run, or has begun to run."""
    run: Any = field(found, '_run') if issubclass(type(found), gevent.Greenlet) else None
    while True:
        kind = type(run)
        if kind is functools.partial:
            run = run.func
        elif kind is types.MethodType:
            run = run.__func__
        else:
            break
    if kind is types.FunctionType or kind is types.BuiltinFunctionType:
        module = run.__module__
        return utf8(f'{module if type(module) is str else ""}:{run.__qualname__}')
    return utf8(type.__dict__['__qualname__'].__get__(type(found) if run is None else kind))
