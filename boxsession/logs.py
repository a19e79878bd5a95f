"""Log lines: to standard error or a file that can be opened anew, as text or as JSON, each with its session."""
from __future__ import annotations

import json
import logging
import os
import sys
import time

from boxsession.session import current_session
from boxsession.systemd import is_journal

__all__ = ['change', 'open_handler', 'our_handlers', 'reopen', 'use']

# syslog's numbers, which the journal reads in front of a line.
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


class _SessionFilter(logging.Filter):
    """Adds the session whose greenlet writes the line; 0 where there is none."""

    def filter(self, record):
        session = current_session()
        record.session = session.id if session is not None else 0
        return True


class _JsonFormatter(logging.Formatter):
    def format(self, record):
        entry = {'time': self.formatTime(record), 'level': record.levelname.lower(), 'logger': record.name,
                 'session': record.session, 'message': record.getMessage()}
        if record.exc_info:
            entry['exception'] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


class _JournalFormatter(logging.Formatter):
    """Puts the priority in front of each line that another formatter makes."""

    def __init__(self, inner):
        super().__init__()
        self._inner = inner

    def format(self, record):
        prefix = f'<{_PRIORITIES.get(record.levelno, 6)}>'
        return prefix + self._inner.format(record).replace('\n', '\n' + prefix)


class _Handler(logging.StreamHandler):
    """Writes to standard error, or to a file. A line that cannot be written never hurts who logs it.

    Args:
        path: of the file, which is appended to; None for standard error.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | None):
        self._path = path
        self._failing = False
        super().__init__(sys.stderr if path is None else self._open())
        self.addFilter(_SessionFilter())

    def _open(self):
        return open(self._path, 'a', encoding='utf-8', errors='backslashreplace')

    @property
    def is_journal(self) -> bool:
        return self._path is None and is_journal(self.stream)

    def flush(self):
        super().flush()
        self._failing = False

    def handleError(self, record):
        if not self._failing:
            self._failing = True
            self._complain('cannot be written', sys.exc_info()[1])

    def _complain(self, what, error):
        if self._path is not None:
            try:
                print(f'boxsession: log.file {self._path} {what}: {getattr(error, "strerror", None) or error}',
                      file=sys.stderr, flush=True)
            except OSError:
                pass

    def reopen(self) -> None:
        """Opens the file anew, after it was rotated; keeps the old one where that fails."""
        if self._path is None:
            return
        try:
            new = self._open()
        except OSError as error:
            self._complain('cannot be opened anew, the old one stays in use', error)
            return
        self.acquire()
        try:
            old, self.stream = self.stream, new
        finally:
            self.release()
        _close(old)

    def close(self):
        super().close()
        if self._path is not None:
            _close(self.stream)


def _close(stream):
    try:
        stream.close()
    except OSError:                     # what it still held cannot be written
        pass


def open_handler(target: str) -> logging.Handler:
    """Opens what `log.file` names; '-' is standard error. See `use`.

    Raises:
        OSError: it cannot be opened.
    """
    return _Handler(None if target == '-' else os.path.abspath(target))


def our_handlers() -> list[logging.Handler]:
    """What use() has set up: none in a program that does its logging itself."""
    return [handler for handler in logging.getLogger('boxsession').handlers if isinstance(handler, _Handler)]


def use(handler: logging.Handler, level: str, format_name: str) -> None:
    """Sends what the package logs to this handler alone, from now on."""
    logger = logging.getLogger('boxsession')
    old = list(logger.handlers)
    logger.addHandler(handler)
    change(level, format_name)
    for other in old:
        logger.removeHandler(other)
        other.close()
    logger.propagate = False


def _formatter(name, in_journal):
    if name == 'json':
        formatter = _JsonFormatter()
    else:
        # The journal has time and level already.
        formatter = logging.Formatter('[%(session)d] %(message)s' if in_journal else
                                      '%(asctime)s %(levelname)s [%(session)d] %(message)s')
    formatter.converter = time.gmtime
    formatter.default_time_format, formatter.default_msec_format = '%Y-%m-%dT%H:%M:%S', '%s.%03dZ'
    return _JournalFormatter(formatter) if in_journal else formatter


def change(level: str, format_name: str) -> None:
    """Sets the level, and how lines are written by what use() has set up; an embedding program's handlers stay."""
    logging.getLogger('boxsession').setLevel(level.upper())
    for handler in our_handlers():
        handler.setFormatter(_formatter(format_name, handler.is_journal))


def reopen() -> None:
    """Opens log files anew, after they were rotated."""
    for handler in our_handlers():
        handler.reopen()
