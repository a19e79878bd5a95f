"""The changes that sessions have made to the program for a time, and how they are undone. Pure: no clock.

Several sessions may change the same place, for example the level of one logger. The last change is in force. If it is
undone, the one before it is in force again, at last the base: the value that the program had set. If the program itself
sets the place meanwhile, its value stays.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ['COVERED', 'GONE', 'LEFT', 'RESTORED', 'Entry', 'Journal', 'Place', 'Undone']

# What an undo has done.
RESTORED = 'restored'           # another value is in force now
COVERED = 'covered'             # a later change stays in force
LEFT = 'left as it is'          # the program has set another value meanwhile
GONE = 'gone'                   # the place does not exist any more


class Place(Protocol):
    """Something that can be changed. Two objects with equal keys are the same place."""

    @property
    def key(self) -> tuple[str, str]: ...
    @property
    def what(self) -> str: ...                      # its name for people
    def read(self) -> Any: ...                      # the present value; None if the place does not exist any more
    def write(self, value: Any) -> None: ...
    def text(self, value: Any) -> str: ...          # a value for people


@dataclass(slots=True)
class Entry:
    """One change in force, or covered by a later one.

    Attributes:
        number: its id.
        value: the value that it set.
        owner: id of the session that made it.
        who: the session with its user and client, for people.
        expires: the time when it ends, on the caller's clock; None for no time.
        stays: whether it outlives its session.
    """

    number: int
    place: Place
    value: Any
    owner: int
    who: str
    expires: float | None = None
    stays: bool = False


@dataclass(slots=True)
class Undone:
    """An undone change: its entry, what was done (RESTORED or another), and the value in force now as text."""

    entry: Entry
    result: str
    now: str


@dataclass(slots=True)
class _Stack:
    """The changes of one place, the last one in force. `written` is the value that the journal wrote last."""

    base: Any
    written: Any
    entries: list[Entry] = field(default_factory=list)


class Journal:
    """The changes of all sessions."""

    def __init__(self) -> None:
        self._stacks: dict[tuple[str, str], _Stack] = {}
        self._last_number = 0

    def __len__(self) -> int:
        return sum(len(stack.entries) for stack in self._stacks.values())

    def __iter__(self) -> Iterator[Entry]:
        """The changes, the oldest first."""
        return iter(sorted((entry for stack in self._stacks.values() for entry in stack.entries),
                           key=lambda entry: entry.number))

    def change(self, place: Place, value: Any, owner: int, who: str, expires: float | None = None,
               stays: bool = False) -> Entry:
        """Sets a value for a time. It replaces an earlier change of the same session, except that a change with a time is
        put over one without."""
        present = place.read()
        stack = self._stacks.get(place.key)
        if stack is None or stack.written != present:       # or the program has set it: its value is the new base
            stack = self._stacks[place.key] = _Stack(present, present)
        stack.entries = [entry for entry in stack.entries
                         if entry.owner != owner or entry.expires is None and expires is not None]
        self._last_number += 1
        entry = Entry(self._last_number, place, value, owner, who, expires, stays)
        stack.entries.append(entry)
        self._write(stack, place, value)
        return entry

    def adopt(self, place: Place, value: Any, old: Any, owner: int, who: str, stays: bool = False) -> Entry:
        """Records a change that a session has made already; `old` was there before."""
        self._last_number += 1
        entry = Entry(self._last_number, place, value, owner, who, stays=stays)
        self._stacks[place.key] = _Stack(old, value, [entry])
        return entry

    def forget(self, key: tuple[str, str]) -> None:
        """Forgets the changes of a place: somebody has undone them."""
        self._stacks.pop(key, None)

    def keep(self, place: Place, value: Any) -> list[Entry]:
        """Sets a value for good. Returns the changes of the place that were in force or covered: they are forgotten."""
        stack = self._stacks.pop(place.key, None)
        place.write(value)
        return stack.entries if stack is not None else []

    # Undo

    def undo(self, number: float) -> Undone | None:
        """Undoes one change; None if it does not exist."""
        for undone in self._undo_those(lambda entry: entry.number == number):
            return undone
        return None

    def end(self, owner: int) -> list[Undone]:
        """Undoes the changes of a session that has ended, the last one first."""
        return self._undo_those(lambda entry: entry.owner == owner and not entry.stays)

    def undo_of(self, owner: int | None) -> list[Undone]:
        """Undoes all changes of a session, or of all (None), the last one first."""
        return self._undo_those(lambda entry: owner is None or entry.owner == owner)

    def expire(self, now: float) -> list[Undone]:
        """Undoes the changes whose time is over."""
        return self._undo_those(lambda entry: entry.expires is not None and entry.expires <= now)

    def _undo_those(self, is_wanted: Callable[[Entry], bool]) -> list[Undone]:
        return [self._undo(entry) for entry in reversed(list(self)) if is_wanted(entry)]

    def _undo(self, entry: Entry) -> Undone:
        place = entry.place
        stack = self._stacks[place.key]
        was_last = stack.entries[-1] is entry
        stack.entries.remove(entry)
        if not stack.entries:
            del self._stacks[place.key]
        present = place.read()
        if present is None:
            return Undone(entry, GONE, '')
        if present != stack.written:
            return Undone(entry, LEFT, place.text(present))
        if not was_last:
            return Undone(entry, COVERED, place.text(present))
        value = stack.entries[-1].value if stack.entries else stack.base
        self._write(stack, place, value)
        return Undone(entry, RESTORED, place.text(value))

    @staticmethod
    def _write(stack: _Stack, place: Place, value: Any) -> None:
        place.write(value)
        stack.written = value

    # For lists and timers

    def old(self, entry: Entry) -> Any:
        """The value under a change: what an undo brings back if the change is in force."""
        stack = self._stacks[entry.place.key]
        at = next(index for index, other in enumerate(stack.entries) if other is entry)
        return stack.entries[at - 1].value if at else stack.base

    def state(self, entry: Entry) -> str:
        """Whether a change is in force: 'in force', COVERED, LEFT or GONE."""
        stack, present = self._stacks[entry.place.key], entry.place.read()
        if present is None:
            return GONE
        if present != stack.written:
            return LEFT
        return 'in force' if stack.entries[-1] is entry else COVERED

    def next_expiry(self) -> float | None:
        """The time when the next change ends; None if none does."""
        return min((entry.expires for entry in self if entry.expires is not None), default=None)
