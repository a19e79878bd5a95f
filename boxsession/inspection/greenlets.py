"""The greenlets of the process: which run the same, since when, who spawned them, and their ends.

Nothing here keeps a greenlet or a frame alive.
"""
from __future__ import annotations

import gc
import inspect
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from gevent.hub import Hub
from gevent.local import all_local_dicts_for_greenlet
from greenlet import getcurrent, greenlet

from boxsession.base.greenlets import TASK, UserGreenlet
from boxsession.inspection.frames import Call, calls, own_call, signature, started_by
from boxsession.inspection.shown import assignment

__all__ = ['Greenlets', 'NotPossible']

# Objects, and greenlets, that are looked at between two pauses.
_OBJECTS, _GREENLETS = 20_000, 200
# Ids that are shown of a group.
_IDS = 5
# How long an end is waited for, in seconds.
_KILL_SECONDS = 1.0


class NotPossible(Exception):
    """The greenlet does not exist, or must not be ended. The text says why."""


@dataclass(slots=True)
class _Group:
    stack: list[Call]
    state: str
    count: int = 0
    ids: list[int] = field(default_factory=list)
    since: float = float('inf')


class Greenlets:
    """The greenlets of this process, by ids that are never reused.

    A greenlet gets its id, and its age begins, when it is first seen.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[greenlet, tuple[int, float]] = WeakKeyDictionary()
        self._last = 0

    def _identity(self, found: greenlet) -> tuple[int, float]:
        known = self._known.get(found)
        if known is None:
            self._last += 1
            known = self._known[found] = self._last, time.monotonic()
        return known

    def groups(self, pause: Callable[[], None], words: str = '') -> list[dict[str, Any]]:
        """The living greenlets, grouped by equal stacks and states; the most numerous group first.

        Args:
            pause: lets others run. Called from time to time.
            words: each must be part of what a group shows.
        """
        made: dict[Any, _Group] = {}
        for found in _living(pause):
            frame, state = _frame_and_state(found)
            key = state, signature(frame) if frame is not None else _target(found)
            group = made.get(key)
            if group is None:
                group = made[key] = _Group(calls(frame), state if frame is not None else f'{state}: {_target(found)}')
            del frame
            number, since = self._identity(found)
            group.count += 1
            group.since = min(group.since, since)
            if len(group.ids) < _IDS:
                group.ids.append(number)
        del found
        now, wanted = time.monotonic(), words.split()
        rows = [_row(group, now) for group in sorted(made.values(), key=lambda group: (-group.count, group.ids[0]))]
        return [row for row in rows
                if all(word in f'{row["run"]} {row["at"]} {row["where"]} {row["state"]}' for word in wanted)]

    def find(self, number: float) -> greenlet:
        """The living greenlet of an id.

        Raises:
            NotPossible: there is none.
        """
        for found, (known, _) in list(self._known.items()):
            if known == number and not found.dead:
                return found
        raise NotPossible(f'there is no greenlet {number:g}, or it has ended: \\greenlets lists the living ones with their '
                          'ids')

    def whole(self, number: float, with_locals: bool = False) -> dict[str, Any]:
        """All that is known of one greenlet. `with_locals` adds the variables of each call, cut and without secrets.

        Raises:
            NotPossible: there is no such greenlet.
        """
        found = self.find(number)
        frame, state = _frame_and_state(found)
        stack = calls(frame)
        run = started_by(stack)
        row: dict[str, Any] = {'id': int(number), 'run': run.name if run else _target(found), 'state': state,
                               'age_s': round(time.monotonic() - self._known[found][1], 1)}
        task = getattr(found, TASK, None)
        if task is not None:
            row['statement'] = task.described()
        row['stack'] = [f'{call.where} {call.name}' for call in stack]
        if with_locals:
            row['locals'] = _locals(frame)
        del frame
        spawner = getattr(found, 'spawning_greenlet', None)
        spawner = spawner() if callable(spawner) else None
        if spawner is not None:
            row['spawned_by'] = self._identity(spawner)[0]
        row['spawned_at'] = [f'{call.where} {call.name}' for call in calls(getattr(found, 'spawning_stack', None))]
        row['greenlet_locals'] = [f'{kind.__name__}: {", ".join(sorted(map(str, names)))}'
                                  for (kind, _), names in all_local_dicts_for_greenlet(found) if names]
        return row

    def kill(self, number: float) -> bool:
        """Ends a greenlet, as gevent.kill() does. Returns whether it has ended within a second.

        Raises:
            NotPossible: there is no such greenlet, or it must not be ended.
        """
        found = self.find(number)
        _check_may_end(found)
        gevent.kill(found)
        end = time.monotonic() + _KILL_SECONDS
        while not found.dead and time.monotonic() < end:
            gevent.sleep(0.01)
        return bool(found.dead)


def _kinds() -> set[type]:
    found, to_do = {greenlet}, [greenlet]
    while to_do:
        more = [kind for kind in type.__subclasses__(to_do.pop()) if kind not in found]
        found.update(more)
        to_do += more
    return found


def _living(pause: Callable[[], None]) -> Iterator[greenlet]:
    """The greenlets that have not ended."""
    kinds = _kinds()
    objects = gc.get_objects()
    # From behind, and by the type: isinstance() may run a property of the program.
    found: list[greenlet] = []
    while objects:
        piece = objects[-_OBJECTS:]
        del objects[-_OBJECTS:]
        found += [item for item in piece if type(item) in kinds]
        del piece
        pause()
    while found:
        piece = found[-_GREENLETS:]
        del found[-_GREENLETS:]
        for item in piece:
            if not item.dead:
                yield item
        del piece
        pause()


def _frame_and_state(found: greenlet) -> tuple[Any, str]:
    """The innermost frame of a greenlet, and its state. The frame is None if it has not begun or runs elsewhere."""
    kind = 'hub' if isinstance(found, Hub) else ''
    if found is getcurrent():
        return sys._getframe(1), kind or 'running'
    frame = found.gr_frame
    if frame is not None:
        return frame, kind or 'waiting'
    return None, kind or ('running in another thread' if greenlet.__bool__(found) else 'not started')


def _target(found: greenlet) -> str:
    """The function that a greenlet will run, or has begun to run."""
    run = getattr(found, '_run', None) if isinstance(found, gevent.Greenlet) else None
    if run is None:
        return type(found).__name__
    run = getattr(run, 'func', run)         # functools.partial
    return f'{getattr(run, "__module__", "")}:{getattr(run, "__qualname__", type(run).__name__)}'


def _row(group: _Group, now: float) -> dict[str, Any]:
    at, run = own_call(group.stack), started_by(group.stack)
    return {'count': group.count, 'run': run.name if run else '', 'at': at.name if at else '',
            'where': at.where if at else '', 'state': group.state, 'age_s': round(max(0.0, now - group.since), 1),
            'ids': sorted(group.ids)}


def _locals(frame: Any) -> list[dict[str, Any]]:
    found = []
    for at, call in zip(_outwards(frame), calls(frame), strict=False):
        values = at.f_locals
        found.append({'call': call.name, **{name: assignment(name, value) for name, value in list(values.items())
                                            if type(name) is str}})
        # Before Python 3.13 the frame keeps this copy, and so the values in it, until it is asked again.
        if at.f_code.co_flags & inspect.CO_OPTIMIZED and sys.version_info < (3, 13):
            values.clear()
        del values, at
    return found


def _outwards(frame: Any) -> Iterator[Any]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _check_may_end(found: greenlet) -> None:
    hub, at = gevent.get_hub(), found
    if isinstance(found, Hub):
        raise NotPossible('a hub runs the event loop: it cannot be ended')
    if found is getcurrent():
        raise NotPossible('this greenlet runs your statement: \\quit ends the session')
    stack = calls(_frame_and_state(found)[0])
    started = started_by(stack)
    if found.parent is None:
        raise NotPossible('this is the main greenlet of its thread: it cannot be ended')
    if isinstance(found, UserGreenlet) or started is not None and started.is_of_console:
        raise NotPossible("this greenlet is the console's own: \\kill ends a session, \\cancel its statement")
    while at is not None and at is not hub:
        at = at.parent
    if at is None:
        raise NotPossible('this greenlet runs in another thread than the console: only its own thread can end it')
