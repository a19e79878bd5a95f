"""Services that watch functions of the program for a session (lua/library/inspect_watch.lua)."""
from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from gevent import getcurrent

from boxsession.base.errors import StatementCancelled, StatementError
from boxsession.base.session import current_session
from boxsession.inspection.expression import Wrong
from boxsession.inspection.pace import Pace
from boxsession.inspection.watch_command import Misread, Request, read_line, read_options
from boxsession.inspection.watch_hooks import NotPossible, remove
from boxsession.inspection.watch_target import NotFound
from boxsession.sessions.caller import Console, caller_id
from boxsession.sessions.watching import Watching

__all__ = ['WatchServices']

log = logging.getLogger('boxsession')

_WATCHES = 16
_RELOADED = 'the name stands for another function now, as after a reload of the module: that is watched from now on'
_STOPS = 'the console stops'


class WatchServices:
    """The services."""

    def __init__(self, running: Console, pace: Pace):
        self._running, self._pace = running, pace
        self._open: dict[int, Watching] = {}
        self._last_number = 0

    def table(self) -> dict[str, Callable]:
        """The services, by name."""
        return {'watch_line': self.line, 'watch_options': self.options, 'watch_next': self.next, 'watch_close': self.close,
                'watches': self.watches, 'unwatch': self.unwatch}

    def line(self, kind: str | bytes, line: str | bytes) -> dict[str, Any]:
        """Begins to watch: the arguments of a command. See _begin()."""
        return self._begin(partial(read_line, _text(kind), _text(line)))

    def options(self, kind: str | bytes, target: str | bytes, options: dict[Any, Any] | list[Any]) -> dict[str, Any]:
        """Begins to watch: the arguments of a function. See _begin(). An empty table of Lua is a list."""
        given = {_text(name): _text(value) if isinstance(value, bytes) else value for name, value in dict(options).items()}
        return self._begin(partial(read_options, _text(kind), _text(target), given))

    def _begin(self, read: Callable[[], Request]) -> dict[str, Any]:
        """Returns the number of the watch, and a row that tells what is watched.

        Raises:
            StatementError: the target does not exist, an argument is wrong, or it is not possible now.
        """
        session = current_session()
        connection = self._running.registry.of_id(session.id) if session is not None else None
        if session is None or connection is None:
            raise StatementError('a watch needs a session that reads it')
        for other in [number for number, watching in self._open.items() if watching.greenlet is getcurrent()]:
            self.close(other)
        if len(self._open) >= _WATCHES:
            raise StatementError(f'{_WATCHES} watches are open, more are not possible: \\watches lists them, \\unwatch '
                                 'ends one')
        try:
            request = read()
            watching = Watching(connection, session, request, self._running.dispatcher.pause_call)
        except (Misread, NotFound, Wrong) as problem:
            raise StatementError(str(problem)) from None
        self._last_number += 1
        number = self._last_number
        if number == 1:
            self._running.changes.at_end.append(self._session_ended)
        self._open[number] = watching
        watching.timer.start(partial(self._look, number))
        try:
            self._running.audit.event('watch', session, operation='start', kind=request.kind, target=request.target,
                                      condition=watching.condition_text or None, number=number)
            log.info('%s watches %s (\\%s)', session.described, request.target, request.kind)
            self._arm(watching)
        except NotPossible as problem:
            self._end(number, str(problem))
            raise StatementError(str(problem)) from None
        except BaseException:
            self._end(number, 'the statement has failed')
            raise
        return {'number': number, 'first': {**watching.first(), 'id': number}}

    def _arm(self, watching):
        with self._pace:
            watching.begin(gc.get_objects, self._pace)
        self._check(watching)

    @staticmethod
    def _check(watching):
        if watching.watch.is_over:          # it was ended meanwhile
            remove(watching.watch)

    def next(self, number: int) -> dict[str, Any]:
        """Waits for calls. Returns `rows`, and at the end `ended`: a row with the sums."""
        number = int(number)
        watching = self._open.get(number)
        if watching is None:
            return {'rows': [], 'ended': {'ended': 'the watch was ended'}}
        try:
            while True:
                rows = self._reload(watching)
                reason = watching.reason or self._is_over(watching)
                if reason:
                    watching.stop()
                rows += watching.rows()
                if reason and not watching.watch.queue:
                    self._end(number, reason)
                    return {'rows': rows, 'ended': watching.ended()}
                if rows:
                    return {'rows': rows}
                watching.wait()
        except BaseException as error:
            task = watching.task
            if isinstance(error, StatementCancelled) and task is not None and task.ending == 'cancelled':
                reason = task.reason or 'the statement was cancelled'
                task.reason = f'{reason}: {watching.summary()}'
            self._end(number, 'the statement was cancelled')
            raise

    def _is_over(self, watching):
        if watching.watch.gave_up:
            return watching.watch.gave_up
        if watching.has_all():
            return watching.shown()
        if time.monotonic() >= watching.ends_at:
            seconds = watching.request.numbers['seconds']
            return '1 second has passed' if seconds == 1 else f'{seconds:g} seconds have passed'
        return '' if self._running.registry.is_accepting else _STOPS

    def _reload(self, watching):
        found = watching.reloaded()
        if found is None or watching.reason:
            return []
        try:
            with self._pace:
                watching.begin_again(found, gc.get_objects, self._pace)
            self._check(watching)
        except NotPossible as problem:
            return [{'note': str(problem)}]
        return [{'note': _RELOADED}]

    def close(self, number: int) -> None:
        """Ends a watch: its statement has failed."""
        self._end(int(number), 'the statement has ended')

    def _end(self, number: int, reason: str) -> None:
        watching = self._open.pop(number, None)
        if watching is None:
            return
        watching.close(reason)
        watch = watching.watch
        self._running.audit.event('watch', watching.session, operation='stop', kind=watching.request.kind,
                                  target=watching.request.target, reason=watching.reason, shown=watch.shown,
                                  not_shown=watch.not_shown, number=number)

    def _look(self, number: int) -> None:
        """In the hub: ends a watch that nobody reads any more, or that has ended."""
        watching = self._open[number]
        reason = watching.is_abandoned()
        if reason:
            self._end(number, reason)
        elif watching.has_ended():
            watching.stop()

    def _session_ended(self, session_id: int | None) -> None:
        for number, watching in list(self._open.items()):
            if session_id is None or watching.session.id == session_id:
                self._end(number, _STOPS if session_id is None else 'the session has ended')

    def watches(self) -> list[dict[str, Any]]:
        """The open watches."""
        now = time.monotonic()
        return [{'id': number, 'kind': one.request.kind, 'target': one.request.target, 'session': one.session.id,
                 'user': one.session.user, 'seconds': round(now - one.began, 1),
                 'ends_in': round(max(0.0, min(one.ends_at - now, one.request.numbers['seconds'])), 1),
                 'calls': one.watch.calls, 'shown': one.watch.shown} for number, one in sorted(self._open.items())]

    def unwatch(self, which: float | None, is_full: bool) -> list[int]:
        """Ends watches. Returns their ids.

        Args:
            which: an id; None for all: those of this session, or of all sessions.
            is_full: those of other sessions, too.

        Raises:
            StatementError: there is none, or it is another session's.
        """
        own, session = caller_id(), current_session()
        numbers = [number for number in self._open if which is None or number == which]
        if which is not None and not numbers:
            raise StatementError(f'there is no watch {which:g}: \\watches lists them')
        mine = [number for number in numbers if is_full or self._open[number].session.id == own]
        if which is not None and not mine:
            raise StatementError(f"watch {which:g} is another session's: to end it needs execute on universe")
        for number in mine:
            self._open[number].reason = f'ended by session {own}' + (f' ({session.user})' if session else '')
            self._open[number].event.set()
        return mine


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors='replace')
