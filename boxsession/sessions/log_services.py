"""Services for the program's log levels, and for the changes that sessions have made (lua/library/inspect_log.lua)."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from boxsession.base.errors import StatementError
from boxsession.base.session import current_session
from boxsession.inspection import loggers
from boxsession.inspection.loggers import Level, NotPossible
from boxsession.sessions.caller import Console, caller_id, check_not_ended
from boxsession.sessions.changes import until

__all__ = ['LogServices']

class LogServices:
    """The services."""

    def __init__(self, running: Console):
        self._running = running

    def table(self) -> dict[str, Callable]:
        """The services, by name."""
        return {'log_levels': self.levels, 'log_set': self.set_level, 'changes': self.changes, 'undo': self.undo}

    def levels(self, pattern: str | bytes = '') -> list[dict[str, Any]]:
        """See loggers.listed()."""
        try:
            return loggers.listed(_text(pattern), self._running.dispatcher.pause_call)
        except NotPossible as error:
            raise StatementError(str(error)) from None

    def set_level(self, name: str | bytes, level: str | bytes, duration: str | bytes | float | None = None,
                  keep: bool = False) -> dict[str, Any]:
        """Sets the level of a logger until the session ends, or for a time (a text such as 10m, or seconds).

        Raises:
            StatementError: the logger, the level or the time does not exist.
        """
        name = _text(name)
        try:
            logger = loggers.find(name)
            number = loggers.read_level(_text(level))
            seconds: float | None = None
            if duration is not None:
                seconds = loggers.read_duration(f'{duration:.0f}s' if isinstance(duration, (int, float))
                                                else _text(duration))
        except NotPossible as error:
            raise StatementError(str(error)) from None
        session = current_session()
        check = partial(check_not_ended, self._running.registry) if not keep else None
        place = Level(name, self._running.changes.clear_later)
        was = place.text(place.read() or 0)
        entry = self._running.changes.change(place, number, session, seconds, keep, check)
        told = {'name': name, 'level': place.text(number), 'was': was,
                'effective': loggers.level_name(loggers.level_of(logger)),
                'until': 'kept' if entry is None else until(entry)}
        hidden = loggers.hides(logger, number) if number else ''
        return told | ({'change': entry.number} if entry is not None else {}) | ({'note': hidden} if hidden else {})

    def changes(self) -> list[dict[str, Any]]:
        """See Changes.rows()."""
        return self._running.changes.rows()

    def undo(self, number: float | None, of_others: bool) -> list[dict[str, Any]]:
        """Undoes one change, or all of the calling session (None).

        Args:
            of_others: whether the caller may undo the changes of other sessions.

        Raises:
            StatementError: there is no such change, or it is another session's.
        """
        known = list(self._running.changes.journal)
        mine = [entry for entry in known if entry.owner == caller_id()]
        if number is None:
            found = mine
        else:
            found = [entry for entry in known if entry.number == number]
            if not found:
                listed = ', '.join(str(entry.number) for entry in known[:20])
                raise StatementError(f'there is no change {number:g}: ' + (f'expected one of {listed}' if listed else
                                                                           'no change is in force'))
            if found[0] not in mine and not of_others:
                raise StatementError(f'the change {number:g} was made by {found[0].who}: to undo the changes of others '
                                     'needs execute on universe')
        return [{'id': one.entry.number, 'what': one.entry.place.what, 'now': one.now, 'result': one.result}
                for one in self._running.changes.undo(found)]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors='replace')
