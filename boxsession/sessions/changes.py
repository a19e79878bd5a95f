"""The changes that sessions make to the program for a time: undone when the time is over, or the session ends."""
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
from gevent import get_hub

from boxsession.base.session import Session, current_session, described, described_caller
from boxsession.inspection.journal import RESTORED, Entry, Journal, Place, Undone
from boxsession.inspection.loggers import clear_caches
from boxsession.operations.audit import Audit

__all__ = ['Changes', 'until']

log = logging.getLogger('boxsession')

# How long after a failed try the loggers' caches are cleared again, in seconds.
_RETRY_SECONDS = 0.05


class Changes:
    """The journal of a console, with its timer, and with log lines and audit events for each change.

    Attributes:
        at_end: functions that are called with the id of each session that has ended, and with None when the console stops.
    """

    def __init__(self, audit: Audit, at_end_of_sessions: list[Callable[[int], None]]):
        self.journal = Journal()
        at_end_of_sessions.append(self.session_ended)
        self.at_end: list[Callable[[int | None], None]] = []
        self._audit = audit
        self._timers: dict[str, Any] = {}       # the running timers of the event loop, by what they do

    def change(self, place: Place, value: Any, session: Session | None, seconds: float | None = None,
               keep: bool = False, check: Callable[[], None] | None = None) -> Entry | None:
        """Sets a value until the session ends, or for some seconds; `keep`: also after the session's end. `check` is called
        before, also after a line of the log, which may have waited: it may raise.

        Returns the change; None if it is for good: without a session, or if it is kept and has no time.
        """
        was = place.text(place.read())
        tell = partial(self._tell_changed, place, place.text(value), was, session, seconds, keep)
        could_log = log.isEnabledFor(logging.INFO)
        if check is not None:
            check()
        if could_log:
            tell()              # before the change, which may be that of this log
        if check is not None:
            check()
        entry = None
        if (session is None or keep) and seconds is None:
            self.journal.keep(place, value)
        else:
            owner, who = (session.id, session.described) if session is not None else (0, described(None))
            expires = None if seconds is None else time.monotonic() + seconds
            entry = self.journal.change(place, value, owner, who, expires, keep or session is None)
            self._set_timer()
        if not could_log:
            tell()
        self._audit.event('change', session, what=place.what, value=place.text(value), was=was, seconds=seconds,
                          keep=keep or session is None)
        return entry

    @staticmethod
    def _tell_changed(place, value, was, session, seconds, keep):
        until = '' if seconds is None else f' for {seconds:g} s'
        until += ', and kept' if keep else ''
        log.info('%s is set to %s%s by %s; it was %s', place.what, value, until, described(session), was)

    def undo(self, entries: list[Entry]) -> list[Undone]:
        """Undoes these changes for the calling session, the last one first."""
        undone = [self.journal.undo(entry.number) for entry in sorted(entries, key=lambda entry: -entry.number)]
        return self._tell([one for one in undone if one is not None], f'undone by {described_caller()}', current_session())

    # Ends

    def session_ended(self, number: int) -> None:
        """Undoes the changes of a session."""
        for function in self.at_end:
            function(number)
        if self.journal:
            self._tell(self.journal.end(number), 'its session has ended')

    def close(self) -> None:
        """Undoes all changes: the console stops, and could not undo them later."""
        for function in self.at_end:
            function(None)
        self._tell(self.journal.undo_of(None), 'the console stops')
        self._stop_timers()

    def give_up(self) -> None:
        """In a forked child: undoes all changes, and tells nobody."""
        for function in self.at_end:
            function(None)
        self.journal.undo_of(None)
        self._stop_timers()

    def _tell(self, undone: list[Undone], why: str, session: Session | None = None) -> list[Undone]:
        for one in undone:
            place = one.entry.place
            if one.result == RESTORED:
                log.info('%s is %s again: %s; %s had set it to %s', place.what, one.now, why, one.entry.who,
                         place.text(one.entry.value))
            else:
                log.info('%s: the change of %s is over: %s; %s', place.what, one.entry.who, why, one.result)
            self._audit.event('undo', session, what=place.what, value=one.now, target=one.entry.owner, result=one.result,
                              reason=why)
        if undone:
            self._set_timer()
        return undone

    # Timers of the event loop

    def _set_timer(self) -> None:
        self._stop('expire')
        at = self.journal.next_expiry()
        if at is not None:
            # In a greenlet: the hub must not wait for handlers of the log.
            self._start('expire', max(0.001, at - time.monotonic()), partial(gevent.spawn, self._expire))

    def _expire(self) -> None:
        self._tell(self.journal.expire(time.monotonic()), 'its time is over')
        self._set_timer()           # the timer may be a little early

    def clear_later(self) -> None:
        """Clears the caches of the loggers in a moment."""
        self._start('clear', _RETRY_SECONDS, self._clear)

    def _clear(self) -> None:
        self._stop('clear')
        if not clear_caches():
            self.clear_later()

    def _start(self, name, seconds, function):
        self._stop(name)
        timer = self._timers[name] = get_hub().loop.timer(seconds, ref=False)
        timer.start(function, update=True)

    def _stop(self, name):
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.stop()
            timer.close()

    def _stop_timers(self):
        for name in list(self._timers):
            self._stop(name)

    # For lists

    def rows(self) -> list[dict[str, Any]]:
        """The changes, the oldest first."""
        return [self._row(entry) for entry in self.journal]

    def _row(self, entry):
        place, present = entry.place, entry.place.read()
        return {'id': entry.number, 'what': place.what, 'old': place.text(self.journal.old(entry)),
                'set': place.text(entry.value), 'now': '' if present is None else place.text(present),
                'state': self.journal.state(entry), 'by': entry.who, 'until': until(entry)}


def until(entry: Entry) -> str:
    """When a change ends, for people."""
    if entry.expires is None:
        return 'the console stops' if entry.stays else 'the session ends'
    return _when(entry.expires) + ('' if entry.stays else ', or the session ends')


def _when(at: float) -> str:
    """A time of the monotonic clock as date and time."""
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + at - time.monotonic()))
