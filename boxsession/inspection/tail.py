"""A handler that keeps log records for one reader. It never slows the program down.

It runs in any thread of the program. It takes no lock, does not switch greenlets, calls no code of the program and never
raises. If its queue is full, it only counts.
"""
from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from gevent import getcurrent, monkey

from boxsession.inspection.loggers import ROOT, above, fields, find, logging_lock, named, plain_level
from boxsession.inspection.records import exception_text, message, name_text

__all__ = ['QUEUE', 'Record', 'Tail']

# Records in the queue; each has at most some 4000 characters.
QUEUE = 1000
# The end of the year 9999, in seconds since the epoch.
_LAST_SECOND = 253402300800.0
_ident = monkey.get_original('_thread', 'get_ident')


class Record(NamedTuple):
    """A log record as text."""

    created: float          # seconds since the epoch; 0 if unknown
    level: int
    logger: str
    message: str
    exception: str


class Tail(logging.Handler):
    """The handler. It is on the lists of the loggers only between begin() and end().

    Args:
        name: the name of the logger whose records it keeps, with those of the loggers below.
        level: the lowest level.
        text: a part of the message; '' for all records.
        wake: called if the first record comes after `is_woken` was reset. Callable from any thread.

    Attributes:
        queue: the records. The reader takes them from the left.
        is_woken: set by the handler, reset by the reader before it looks into the queue.
    """

    def __init__(self, name: str, level: int, text: str, wake: Callable[[], None]):
        # Not logging.Handler's: that waits for the lock of logging, and keeps a list of all handlers.
        logging.Filterer.__init__(self)
        self._name: str | None = None
        self.level, self.formatter, self.lock = level, None, None
        self._closed = False
        self.queue: deque[Record] = deque()
        self.is_woken = False
        self._target = name
        self._text = text
        self._wake = wake
        self._attached: set[str] = set()
        self._is_alone = False              # logging's last resort would handle some records if this handler was not there
        self._has_ended = False
        self._dropped: dict[int, int] = {}  # by thread, so that no count is lost
        # Records of the reader's own greenlet are made by sending what this handler keeps.
        self._reader, self._thread = getcurrent(), _ident()

    # What the program calls

    def handle(self, record: logging.LogRecord) -> Any:
        """Keeps a record, or counts it."""
        if self._has_ended:
            return
        thread = _ident()
        if thread == self._thread and getcurrent() is self._reader:
            return
        try:
            if self._is_alone:
                self._leave_to_last_resort(record)
            if len(self.queue) >= QUEUE:
                self._dropped[thread] = self._dropped.get(thread, 0) + 1
                return
            found: dict[str, Any] = object.__getattribute__(record, '__dict__')
            text = message(found)
            if self._text not in text:
                return
            # The program may have put anything into these fields.
            created, name = found['created'], found['name']
            self.queue.append(Record(created if type(created) is float and 0 <= created < _LAST_SECOND else 0.0,
                                     plain_level(found['levelno']), name_text(name), text, exception_text(found)))
            if not self.is_woken:
                self.is_woken = True
                self._wake()
        except Exception:
            self._dropped[thread] = self._dropped.get(thread, 0) + 1

    emit = handle

    def createLock(self) -> None:
        """There is no lock."""

    def close(self) -> None:
        """The program closes handlers that it removes: the tail goes on."""

    def _leave_to_last_resort(self, record):
        last, found = logging.lastResort, object.__getattribute__(record, '__dict__')
        if last is None or found['levelno'] < last.level:
            return
        if not _others(logging.root.manager.loggerDict.get(found['name'], logging.root), self):
            last.handle(record)

    # What the reader calls

    @property
    def dropped(self) -> int:
        """The number of records that were not kept."""
        return sum(list(self._dropped.values()))

    def begin(self) -> None:
        """Adds itself to the logger, and to those below that do not pass their records on.

        Raises:
            NotPossible: the logger does not exist.
        """
        find(self._target)
        self.look()

    def look(self) -> bool:
        """Adds itself where it is missing. Returns whether the program had removed it."""
        was_removed, is_alone = False, False
        loggers = named()
        wanted = {name: logger for name, logger in loggers.items() if self._is_source(name, logger)}
        for name in self._attached - wanted.keys():
            if name not in loggers or _remove(loggers[name], self):
                self._attached.discard(name)
        for name, logger in wanted.items():
            handlers = fields(logger)['handlers']
            if not any(handler is self for handler in list(handlers)):
                was_removed = was_removed or name in self._attached
                handlers.append(self)
                self._attached.add(name)
            is_alone = is_alone or not _others(logger, self)
        self._is_alone = is_alone
        return was_removed

    def _is_source(self, name, logger):
        if name == self._target:
            return True
        is_below = self._target == ROOT or name.startswith(self._target + '.')
        return is_below and fields(logger).get('propagate') in (False, 0)

    def stop(self) -> None:
        """Keeps no more records."""
        self._has_ended = True

    def end(self) -> bool:
        """Removes itself from all loggers. False: logging's lock was taken, so this must be called again in a moment."""
        self._has_ended = True
        loggers = named()
        for name in list(self._attached):
            if name not in loggers or _remove(loggers[name], self):
                self._attached.discard(name)
        return not self._attached


def _others(logger: Any, handler: logging.Handler) -> bool:
    """Whether records of the logger reach another handler."""
    for one in above(logger):
        found = fields(one)
        if any(other is not handler for other in list(found.get('handlers') or ())):
            return True
        if found.get('propagate') in (False, 0):
            return False
    return False


def _remove(logger: logging.Logger, handler: logging.Handler) -> bool:
    """Removes a handler, without a wait for logging's lock. False if the lock was taken."""
    with logging_lock() as is_held:
        if is_held:
            handlers = fields(logger)['handlers']
            for index, other in enumerate(handlers):
                if other is handler:
                    del handlers[index]
                    break
    return is_held
