"""Services that follow the program's log for a session (lua/library/inspect_tail.lua)."""
from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from gevent import get_hub, getcurrent
from gevent.event import Event

from boxsession.base.errors import StatementCancelled, StatementError
from boxsession.base.redaction import redacted_text
from boxsession.base.session import current_session
from boxsession.inspection import loggers
from boxsession.inspection.loggers import NotPossible
from boxsession.inspection.tail import Tail
from boxsession.net.hangup import sends_no_more
from boxsession.scheduler.task import current_task
from boxsession.sessions.caller import Console
from boxsession.sessions.stream import Connection

__all__ = ['TailServices']

# Rows of one answer; tails at the same time; and how often a tail looks whether it is still wanted and on its loggers.
_ROWS, _TAILS, _LOOK_SECONDS = 20, 16, 1.0
_REMOVE_SECONDS = 0.05
_MOST = 30 * 24 * 3600
_REMOVED = 'the program has set up its logging again: the tail goes on, some records may be missing'


class _Reading:
    """One tail and its reader. Only the reader's greenlet calls its methods, except over() and close()."""

    def __init__(self, connection: Connection, name: str, level: int, text: str):
        loop = self.loop = get_hub().loop
        self.connection = connection
        self.greenlet, self.task = getcurrent(), current_task()
        # The session's own greenlet may run the next statement before anybody notices that this one was cancelled.
        self.statement = connection.under_way() if self.greenlet is connection.greenlet else None
        self.event = Event()
        self.watcher = loop.async_(ref=False)
        self.watcher.start(self.event.set)
        self.timer = loop.timer(_LOOK_SECONDS, _LOOK_SECONDS, ref=False)
        self.text = text
        self.tail = Tail(name, level, text, self.watcher.send)
        self.left = float('inf')        # records to show
        self.ends_at = float('inf')
        self.looked = time.monotonic()
        self.shown = self.told = 0      # records that were shown; dropped records that were told

    def is_over(self) -> bool:
        """Whether the statement has ended, without having said so."""
        if self.connection.is_over or self.greenlet.dead or self.task is None or self.task.killed:
            return True
        return self.statement is not None and self.connection.under_way() is not self.statement

    def has_left(self) -> bool:
        """Whether a tail without an end has lost its reader. A client that has left may look like a half-close."""
        return self.left == self.ends_at == float('inf') and sends_no_more(self.connection.session.fd)

    def rows(self, pause: Callable[[], None]) -> list[dict[str, Any]]:
        """The next rows; none if nothing has come."""
        rows: list[dict[str, Any]] = []
        tail = self.tail
        self.event.clear()
        tail.is_woken = False
        while tail.queue and len(rows) < _ROWS and self.left > 0:
            record = tail.queue.popleft()
            text = redacted_text(record.message.encode(errors='backslashreplace'))
            # Without secrets it must have the text, too: else one could find a secret by trying.
            if self.text in text:
                self.left -= 1
                self.shown += 1
                rows.append(_row(record, text))
            pause()
        dropped = tail.dropped - self.told
        if dropped:
            self.told += dropped
            rows.append({'dropped': dropped})
        return rows

    def close(self) -> None:
        """Removes the handler from all loggers."""
        for watcher in (self.timer, self.watcher):
            watcher.stop()
            watcher.close()
        self.event.set()
        self._remove()

    def _remove(self) -> None:
        if not self.tail.end():
            self.timer = self.loop.timer(_REMOVE_SECONDS, ref=False)
            self.timer.start(self._remove)


def _row(record, text):
    seconds = record.created
    row = {'time': time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds)) + f'.{int(seconds * 1000) % 1000:03}Z',
           'level': loggers.level_name(record.level), 'logger': record.logger, 'message': text}
    if record.exception:
        row['exception'] = redacted_text(record.exception.encode(errors='backslashreplace'))
    return row


class TailServices:
    """The services."""

    def __init__(self, running: Console):
        self._running = running
        self._open: dict[int, _Reading] = {}
        self._last_number = 0

    def table(self) -> dict[str, Callable]:
        """The services, by name."""
        return {'tail_open': self.open, 'tail_next': self.next, 'tail_close': self.close}

    def open(self, name: str | bytes, level: str | bytes | None, text: str | bytes | None, most: float | None,
             seconds: float | None) -> dict[str, Any]:
        """Begins to keep records. Returns the number of the tail, and a row that tells what is seen.

        Raises:
            StatementError: the logger or the level does not exist, a number is wrong, or there are too many tails.
        """
        session = current_session()
        connection = self._running.registry.of_id(session.id) if session is not None else None
        if connection is None:
            raise StatementError('a tail needs a session that reads it')
        for number, what in ((most, 'n'), (seconds, 'seconds')):
            if number is not None and not 0 < number <= _MOST:
                raise StatementError(f'{what} is {number:g}: expected a number above 0, up to {_MOST}')
        for other in [number for number, reading in self._open.items() if reading.greenlet is getcurrent()]:
            self.close(other)
        if len(self._open) >= _TAILS:
            raise StatementError(f'{_TAILS} tails are open, more are not possible: end one of them')
        try:
            logger, least = loggers.find(_text(name)), 0 if level is None else loggers.read_level(_text(level))
        except NotPossible as error:
            raise StatementError(str(error)) from None
        reading = _Reading(connection, _text(name), least, _text(text or ''))
        reading.left = float('inf') if most is None else most
        reading.ends_at = float('inf') if seconds is None else time.monotonic() + seconds
        self._last_number += 1
        number = self._last_number
        if self._last_number == 1:
            self._running.changes.at_end.append(self._session_ended)
        self._open[number] = reading
        reading.timer.start(partial(self._look, number))
        reading.tail.begin()
        hidden = loggers.hides(logger, least) if least else ''
        return {'number': number, 'first': {
            'tail': _text(name), 'level': loggers.level_name(least) if least else 'all',
            'logger_level': loggers.level_name(loggers.level_of(logger)), **({'note': hidden} if hidden else {})}}

    def next(self, number: int) -> dict[str, Any]:
        """Waits for records. Returns `rows`, and at the end `ended`: a row with the sums."""
        reading = self._open.get(number)
        if reading is None:
            return {'rows': [], 'ended': {'shown': 0, 'dropped': 0}}
        try:
            while True:
                rows, is_last = self._rows(reading)
                if is_last:
                    self.close(number)
                    return {'rows': rows, 'ended': {'shown': reading.shown, 'dropped': reading.tail.dropped}}
                if rows:
                    return {'rows': rows}
                reading.event.wait(max(0.0, min(_LOOK_SECONDS, reading.ends_at - time.monotonic())))
        except BaseException as error:
            task = reading.task
            if isinstance(error, StatementCancelled) and task.ending == 'cancelled':
                reason = task.reason or 'the statement was cancelled'
                task.reason = f'{reason}: {reading.shown} records were shown, {reading.tail.dropped} dropped'
            self.close(number)
            raise

    def _rows(self, reading):
        """The next rows, and whether they are the last ones."""
        now, rows = time.monotonic(), []
        if now - reading.looked >= _LOOK_SECONDS:
            reading.looked = now
            if reading.has_left():
                reading.ends_at = now
            elif reading.tail.look():
                rows.append({'note': _REMOVED})
        is_over = now >= reading.ends_at or reading.connection.is_over or not self._running.registry.is_accepting
        if is_over:
            reading.tail.stop()
        rows += reading.rows(self._running.dispatcher.pause_call)
        return rows, reading.left <= 0 or is_over and not reading.tail.queue

    def close(self, number: int) -> None:
        """Ends a tail."""
        reading = self._open.pop(number, None)
        if reading is not None:
            reading.close()

    def _look(self, number: int) -> None:
        """In the hub, each second: ends a tail whose statement was cancelled while it sent."""
        if self._open[number].is_over():
            self.close(number)

    def _session_ended(self, session_id: int | None) -> None:
        for number, reading in list(self._open.items()):
            if session_id is None or reading.connection.session.id == session_id:
                self.close(number)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors='replace')
