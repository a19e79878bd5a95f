"""The greenlets of the process: which run the same, since when, who spawned them, and their ends.

Nothing here keeps a greenlet or a frame alive.
"""
from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import gevent
from gevent.local import all_local_dicts_for_greenlet
from greenlet import getcurrent, greenlet

from boxsession.base.greenlets import TASK, UserGreenlet
from boxsession.inspection import living
from boxsession.inspection.frames import Call, calls, calls_of, own_call, signature, signature_of, started_by, utf8
from boxsession.inspection.living import frames_and_state, target
from boxsession.inspection.pace import Pace
from boxsession.inspection.register import Kept, Register
from boxsession.inspection.variables import variables

__all__ = ['Greenlets', 'NotPossible']

# Greenlets that are looked at between two looks at the clock.
_PIECE = 64
# Ids that are shown of a group, ids from which these are chosen, and groups that are shown.
_IDS, _SPARE_IDS, _GROUPS = 5, 500, 1000
# Of gevent's locals of one greenlet: objects, names of each, and characters of a name.
_LOCALS, _NAMES, _NAME = 50, 50, 100
# How long an end is waited for, in seconds.
_KILL_SECONDS = 1.0


class NotPossible(Exception):
    """The greenlet does not exist, or must not be ended. The text says why."""


@dataclass(slots=True)
class _Group:
    stack: list[Call]
    state: str
    owner: str          # 'program', 'console' or 'gevent'
    trimmed: int = 0
    ids: list[int] = field(default_factory=list)

    def trim(self) -> None:
        """Keeps the smallest numbers: those of the greenlets that were seen first."""
        self.ids.sort()
        self.trimmed += max(0, len(self.ids) - _IDS)
        del self.ids[_IDS:]

    @property
    def count(self) -> int:
        return self.trimmed + len(self.ids)


class Greenlets:
    """The greenlets of this process, by ids that are never reused.

    A greenlet gets its id, and its age begins, when it is first seen.

    Args:
        pace: shares the event loop with the program.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._register = Register()

    def groups(self, words: str = '') -> list[dict[str, Any]]:
        """The living greenlets, grouped by equal stacks and states; the most numerous group first.

        Args:
            words: each must be part of what a group shows; those that begin with `-` must not.
        """
        with self._pace:
            self._register.begin()
            return self._chosen(self._grouped(), words.split())

    def _grouped(self) -> dict[Any, _Group]:
        pace, frame_of, parent_of, hub = self._pace, living.frame_of, living.parent_of, gevent.get_hub()
        made: dict[Any, _Group] = {}
        register = self._register
        known, seen, forgets = register.numbers, register.seen, register.has_to_forget()
        kept = Kept({}, {})
        count = 0
        found = living.instances(greenlet, pace)
        found.reverse()         # to take pieces from its end
        while found:
            piece = found[-_PIECE:]
            del found[-_PIECE:]
            piece.reverse()
            # This loop takes most of the time.
            for one in piece:
                # Those of other threads may run meanwhile: they take the other way.
                frame = frame_of(one) if parent_of(one) is hub else None
                group = made.get(signature(frame)) if frame is not None else None
                if group is None:
                    frame = None
                    group = self._group(one, made)
                    if group is None:
                        continue
                number = known.get(id(one), 0)
                if not number or seen[number]() is not one:
                    number = register.number(one)
                if forgets:
                    kept.numbers[id(one)], kept.seen[number] = number, seen[number]
                count += 1
                ids = group.ids
                ids.append(number)
                if len(ids) > _SPARE_IDS:
                    group.trim()
            del one, piece, frame
            pace()
        register.living = count
        if forgets:
            register.keep(kept)
        return made

    def _group(self, found: greenlet, made: dict[Any, _Group]) -> _Group | None:
        """The group of a greenlet. None if it has ended."""
        if living.has_ended(found):
            return None
        frames, state = frames_and_state(found)
        if not frames and not living.is_hub(found):
            state = f'{state}: {target(found)}'
        key = signature_of(frames) if frames else state
        group = made.get(key)
        is_new = group is None
        if group is None:
            stack = calls_of(frames)
            group = made[key] = _Group(stack, state, _owner(found, stack))
        frames.clear()          # it may have the frame of this call
        if is_new:
            self._pace()
        return group

    def _chosen(self, made: dict[Any, _Group], words: list[str]) -> list[dict[str, Any]]:
        by_count: dict[int, list[_Group]] = {}
        for group in made.values():
            by_count.setdefault(group.count, []).append(group)
            self._pace()
        rows: list[dict[str, Any]] = []
        more = rest = 0
        for count in sorted(by_count, reverse=True):
            for group in by_count[count]:
                row = self._row(group)
                if not _fits(row, words):
                    pass
                elif len(rows) < _GROUPS:
                    rows.append(row)
                else:
                    more += 1
                    rest += count
                self._pace()
        if more:
            rows.append({'count': rest, 'run': '', 'at': '', 'where': '', 'state': f'in {more} more groups: give a FILTER',
                         'owner': '', 'age_s': 0.0, 'ids': []})
        return rows

    def _row(self, group: _Group) -> dict[str, Any]:
        at, run = own_call(group.stack), started_by(group.stack)
        group.trim()
        return {'count': group.count, 'run': run.name if run else '', 'at': at.name if at else '',
                'where': at.where if at else '', 'state': group.state, 'owner': group.owner,
                'age_s': self._register.age(group.ids[0]), 'ids': group.ids}

    def find(self, number: float) -> greenlet:
        """The living greenlet of an id.

        Raises:
            NotPossible: there is none.
        """
        found = self._register.get(number)
        if found is None or living.has_ended(found):
            raise NotPossible(f'there is no greenlet {number:.15g}, or it has ended: \\greenlets lists the living ones '
                              'with their ids')
        return found

    def whole(self, number: float, with_locals: bool = False, with_repr: bool = False) -> dict[str, Any]:
        """All that is known of one greenlet.

        Args:
            number: its id.
            with_locals: adds the variables of each call, cut and without secrets.
            with_repr: shows objects in them by their repr(), which runs code of the program.

        Raises:
            NotPossible: there is no such greenlet.
        """
        pace = Pace(self._pace.wait)            # it does not have to wait for looks at all of them
        with pace:
            return self._whole(number, pace if with_locals else None, with_repr)

    def _whole(self, number: float, pace: Pace | None, with_repr: bool) -> dict[str, Any]:
        found = self.find(number)
        frames, state = frames_and_state(found)
        stack = calls_of(frames)
        run = started_by(stack)
        row: dict[str, Any] = {'id': int(number), 'run': run.name if run else target(found), 'state': state,
                               'owner': _owner(found, stack), 'age_s': self._register.age(int(number))}
        task = living.field(found, TASK)
        if task is not None:
            row['statement'] = task.described()
        row['stack'] = [f'{call.where} {call.name}' for call in stack]
        if pace is not None:
            row['locals'] = variables(frames, pace, with_repr)
        frames.clear()
        spawner = living.field(found, 'spawning_greenlet')
        spawner = spawner() if callable(spawner) else None
        if spawner is not None:
            row['spawned_by'] = self._register.number(spawner)
        row['spawned_at'] = [f'{call.where} {call.name}' for call in calls(living.field(found, 'spawning_stack'))]
        row['greenlet_locals'] = [_names_of(kind, names) for (kind, _), names in
                                  all_local_dicts_for_greenlet(found)[:_LOCALS] if names]
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
        while not living.has_ended(found) and time.monotonic() < end:
            gevent.sleep(0.01)
        return living.has_ended(found)


def _names_of(kind: type, variables: dict[str, Any]) -> str:
    """The class of a gevent.local, and the names of a greenlet's variables in it."""
    names = sorted(name[:_NAME] for name in islice(variables, _NAMES) if type(name) is str)
    more = f', ... ({len(variables)})' if len(variables) > _NAMES else ''
    return utf8(f'{type.__dict__["__name__"].__get__(kind)}: {", ".join(names)}{more}')


def _fits(row: dict[str, Any], words: list[str]) -> bool:
    text = f'{row["run"]} {row["at"]} {row["where"]} {row["state"]} owner={row["owner"]}'
    return all(word[1:] not in text if word[0] == '-' and len(word) > 1 else word in text for word in words)


def _owner(found: greenlet, stack: list[Call]) -> str:
    """Whose greenlet it is: 'program', 'console' or 'gevent'."""
    if issubclass(type(found), UserGreenlet):
        return 'console'
    if living.is_hub(found):
        return 'gevent'
    run = started_by(stack)
    of_console = run.is_of_console if run is not None else target(found).startswith('boxsession.')
    return 'console' if of_console else 'program'


def _check_may_end(found: greenlet) -> None:
    hub, at = gevent.get_hub(), found
    if living.is_hub(found):
        raise NotPossible('a hub runs the event loop: it cannot be ended')
    if found is getcurrent():
        raise NotPossible('this greenlet runs your statement: \\quit ends the session')
    if living.parent_of(found) is None:
        raise NotPossible('this is the main greenlet of its thread: it cannot be ended')
    if _owner(found, calls_of(frames_and_state(found)[0])) == 'console':
        raise NotPossible("this greenlet is the console's own: \\kill ends a session, \\cancel its statement")
    while at is not None and at is not hub:
        at = living.parent_of(at)
    if at is None:
        raise NotPossible('this greenlet runs in another thread than the console: only its own thread can end it')
