"""The log: lines to standard error or to a file, as text or as JSON, each with the id of its session.

Lines that clients cause are folded, so that no client can fill a disk: of the lines with the same template and the same
origin (the client's machine), the first few in each time window are written; at its end, one line gives the number of the
others.
"""
from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any, TextIO

from gevent import get_hub

from boxsession.base.address import peer_text
from boxsession.base.session import Session, current_session
from boxsession.operations.systemd import is_journal
from boxsession.users.passwords import throttled_address

__all__ = ['Folding', 'change', 'one_line', 'open_handler', 'origin', 'our_handlers', 'reopen', 'tell_repeated', 'use']

# The length of a window, and how many lines of one template and origin are written in it.
_WINDOW_SECONDS, _BURST = 10.0, 5
# How many pairs of template and origin are counted apart. Above that, all new origins of a template count as one.
_APART_MAX = 200
_MESSAGE_SHOWN = 500
_VISIBLE = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029) if code != 9}

# syslog's priorities. The journal reads them at the start of a line.
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


def one_line(text: str) -> str:
    """Escapes the characters of a text that could begin a new line, or change the terminal that shows it."""
    return text.translate(_VISIBLE)


class _OneLine(logging.Filter):
    """Escapes each message to one line: no text of a client may look like another log line. A filter of the logger, so it
    also works with the handlers of an embedding program."""

    def filter(self, record):
        message = record.getMessage()
        if not message.isprintable():
            record.template = record.msg
            record.msg, record.args = one_line(message), ()
        return True


logging.getLogger('boxsession').addFilter(_OneLine())


class _SessionFilter(logging.Filter):
    """Adds the id of the current session to a record; 0 without a session."""

    def filter(self, record):
        if not hasattr(record, 'session'):
            record.client = session = _session_of(record)
            record.session = session.id if session is not None else 0
        return True


def _session_of(record: logging.LogRecord) -> Session | None:
    """The session of a line: its `client` (an `extra`), or the one that runs in this greenlet."""
    return getattr(record, 'client', None) or current_session()


def origin(peer) -> dict[str, str]:
    """The argument `extra` for a line that a client without a session causes; `peer` is the address from accept()."""
    return {'origin': throttled_address(peer_text(peer))}


class _Repeats:
    """The lines of one template and origin in the current window."""

    __slots__ = ('began', 'count', 'record')

    def __init__(self, began):
        self.began = began
        self.count = 0
        self.record = None          # the last record that was not written


class Folding(logging.Filter):
    """Folds lines that clients cause. For a handler of an embedding program: `handler.addFilter(Folding(handler))`.

    Lines of the server itself (no session, no origin) are never folded, nor are lines that statements write by print() and
    the log module. Lines of threads other than the event loop's are not folded, either.
    """

    def __init__(self, handler: logging.Handler):
        super().__init__()
        self._handler = handler
        self._seen: dict[tuple, _Repeats] = {}      # the oldest window first
        self._timer: Any = None

    def filter(self, record):
        if record.name != 'boxsession' or hasattr(record, 'repeated'):
            return True
        where = getattr(record, 'origin', None)
        if where is None:
            session = _session_of(record)
            if session is None:
                return True
            where = throttled_address(session.peer)
        now = time.monotonic()
        self._tell(now)
        template = getattr(record, 'template', record.msg)
        key = record.levelno, template, where
        if key not in self._seen and len(self._seen) >= _APART_MAX:
            key = record.levelno, template, None
        repeats = self._seen.get(key)
        if repeats is None:
            repeats = self._seen[key] = _Repeats(now)
        repeats.count += 1
        if repeats.count <= _BURST:
            return True
        repeats.record = record
        # The arguments may be large, and the summary shows only the start of the message: so only that is kept.
        record.msg, record.args, record.exc_info = record.getMessage()[:_MESSAGE_SHOWN], (), None
        record.exc_text = None
        if self._timer is None:
            self._timer = get_hub().loop.timer(_WINDOW_SECONDS, ref=False)
        if not self._timer.active:
            self._timer.start(self._on_time)
        return False

    def _on_time(self):
        now = time.monotonic()
        self._tell(now)
        left = [repeats.began for repeats in self._seen.values() if repeats.record is not None]
        if left:
            self._timer.stop()
            self._timer.close()
            self._timer = get_hub().loop.timer(max(0.1, left[0] + _WINDOW_SECONDS - now), ref=False)
            self._timer.start(self._on_time)

    def _tell(self, now):
        """Writes the summaries of the windows that have ended."""
        while self._seen:
            key = next(iter(self._seen))
            if now - self._seen[key].began < _WINDOW_SECONDS:
                break
            self._tell_one(self._seen.pop(key), now)

    def _tell_one(self, repeats, now):
        last = repeats.record
        if last is None:
            return
        count, seconds = repeats.count - _BURST, now - repeats.began
        told = logging.makeLogRecord({
            'name': last.name, 'levelno': last.levelno, 'levelname': last.levelname, 'session': getattr(last, 'session', 0),
            'msg': '... repeated %d times in %.1f s, at last: %s', 'args': (count, seconds, last.getMessage()),
            'repeated': count, 'seconds': round(seconds, 1)})
        self._handler.handle(told)

    def tell_all(self) -> None:
        """Writes the summaries of all windows now."""
        now, seen, self._seen = time.monotonic(), self._seen, {}
        for repeats in seen.values():
            self._tell_one(repeats, now)

    def close(self) -> None:
        """Writes all summaries, and stops the timer."""
        self.tell_all()
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None


class _JsonFormatter(logging.Formatter):
    def format(self, record):
        entry = {'time': self.formatTime(record), 'level': record.levelname.lower(), 'logger': record.name,
                 'session': record.session, 'message': record.getMessage()}
        session = getattr(record, 'client', None)
        if session is not None:
            entry |= {'user': session.login, 'peer': session.peer}
            if session.peer_uid is not None:
                entry |= {'peer_uid': session.peer_uid, 'peer_pid': session.peer_pid}
        if record.exc_info:
            entry['exception'] = self.formatException(record.exc_info)
        elif record.exc_text:                   # without secrets (sessions/failures.py)
            entry['exception'] = record.exc_text
        if hasattr(record, 'repeated'):
            entry['repeated'], entry['seconds'] = record.repeated, record.seconds
        return json.dumps(entry, ensure_ascii=False)


class _TextFormatter(logging.Formatter):
    """Indents tracebacks: their lines may have any text, and must not look like log lines."""

    def formatException(self, exc_info):
        return '\n'.join('    ' + line for line in super().formatException(exc_info).splitlines())


class _JournalFormatter(logging.Formatter):
    """Adds the priority in front of each line of another formatter."""

    def __init__(self, inner):
        super().__init__()
        self._inner = inner

    def format(self, record):
        prefix = f'<{_PRIORITIES.get(record.levelno, 6)}>'
        return prefix + self._inner.format(record).replace('\n', '\n' + prefix)


class _Handler(logging.StreamHandler):
    """Writes to standard error or to a file. A line that cannot be written raises nothing.

    Args:
        path: the file to append to; None for standard error.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str | None):
        self._path = path
        self._failing = False
        super().__init__(sys.stderr if path is None else _opened(path))
        self.addFilter(_SessionFilter())
        self.folding = Folding(self)
        self.addFilter(self.folding)

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
        """Reopens the file, after it was rotated. If that fails, the old file stays in use."""
        if self._path is None:
            return
        try:
            new = _opened(self._path)
        except OSError as error:
            self._complain('cannot be reopened, the old file stays in use', error)
            logging.getLogger('boxsession').error(
                'log.file %s cannot be reopened: %s. The old file stays in use, even if it was renamed or deleted: correct '
                'this, and send SIGUSR1 again', self._path, error.strerror)
            return
        self.acquire()
        try:
            old, self.stream = self.stream, new
        finally:
            self.release()
        _close(old)

    def close(self):
        self.folding.close()
        super().close()
        if self._path is not None:
            _close(self.stream)


def _opened(path: str) -> TextIO:
    return open(path, 'a', encoding='utf-8', errors='backslashreplace')


def _close(stream):
    try:
        stream.close()
    except OSError:                     # its buffered lines cannot be written
        pass


def open_handler(target: str) -> logging.Handler:
    """Makes a handler that writes to `log.file`; '-' is standard error. See `use`.

    Raises:
        OSError: the file cannot be opened.
    """
    return _Handler(None if target == '-' else os.path.abspath(target))


def our_handlers() -> list[_Handler]:
    """The handlers that use() has set; empty in a program that sets up its own logging."""
    return [handler for handler in logging.getLogger('boxsession').handlers if isinstance(handler, _Handler)]


def use(handler: logging.Handler, level: str, format_name: str) -> None:
    """Makes `handler` the only one of the package's logger, and closes the former ones."""
    logger = logging.getLogger('boxsession')
    old = list(logger.handlers)
    logger.addHandler(handler)
    change(level, format_name)
    for other in old:
        logger.removeHandler(other)
        other.close()
    logger.propagate = False


def _formatter(name, in_journal):
    formatter: logging.Formatter
    if name == 'json':
        formatter = _JsonFormatter()
    else:
        # The journal adds the time, and the priority in front of the line gives the level.
        formatter = _TextFormatter('[%(session)d] %(message)s' if in_journal else
                                      '%(asctime)s %(levelname)s [%(session)d] %(message)s')
    formatter.converter = time.gmtime
    formatter.default_time_format, formatter.default_msec_format = '%Y-%m-%dT%H:%M:%S', '%s.%03dZ'
    return _JournalFormatter(formatter) if in_journal else formatter


def change(level: str, format_name: str) -> None:
    """Sets the log level, and the format of the handlers that use() has set. Handlers of an embedding program stay."""
    logging.getLogger('boxsession').setLevel(level.upper())
    for handler in our_handlers():
        handler.setFormatter(_formatter(format_name, handler.is_journal))


def tell_repeated() -> None:
    """Writes the summaries of all lines that were folded so far."""
    for handler in our_handlers():
        handler.folding.tell_all()


def reopen() -> None:
    """Reopens the log files, after they were rotated."""
    for handler in our_handlers():
        handler.reopen()
