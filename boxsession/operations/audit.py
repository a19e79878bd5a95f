"""The audit file: records statements and other events as JSON, one object a line. A statement is recorded before its reply
is sent.

Every entry has time, boot (an id of this run), event, session (0 for the server itself), user (the user who logged in),
effective_user (the user that the statement ran as), peer and listener. docs/audit.rst lists the events and their
fields.
"""
from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone

from boxsession.base.redaction import redacted, redacted_error
from boxsession.base.session import Session

__all__ = ['Audit']

log = logging.getLogger('boxsession')


class Audit:
    """The audit file.

    Args:
        path: the file to append to; None records nothing.
        required: whether statements are refused while the file cannot be written.

    Attributes:
        failures: number of entries that could not be written.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str | None, required: bool = False):
        self._boot = uuid.uuid4().hex
        self._fd = -1
        self.failures = 0
        self._refused = 0               # statements refused since the file could not be written
        self.use(path, self.open(path), required)

    @staticmethod
    def open(path: str | None) -> int:
        """Opens the file, and returns its descriptor for use(); -1 if `path` is None.

        Raises:
            OSError: the file cannot be opened.
        """
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600) if path else -1

    def use(self, path: str | None, fd: int, required: bool) -> None:
        """Records to another file from now on. The descriptor `fd` belongs to this object then."""
        old, self._fd = self._fd, fd
        self._path = path
        self.is_on = path is not None
        self._required = required
        self._failing = False
        if old >= 0:
            os.close(old)

    def reopen(self) -> None:
        """Reopens the file, after it was rotated. If that fails, the old file stays in use."""
        if not self.is_on:
            return
        try:
            new = self.open(self._path)
        except OSError as error:
            log.error('cannot reopen the audit file %s: %s. The old file stays in use, even if it was renamed or deleted: '
                      'correct this, and send SIGUSR1 again', self._path, error.strerror)
            self.event('audit', None, message=f'{self._path} cannot be reopened: {error.strerror}; this file stays in use')
            return
        old, self._fd = self._fd, new
        os.close(old)

    def close(self) -> None:
        """Closes the file; records nothing from now on."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self.is_on = -1, False

    @property
    def refuses(self) -> bool:
        """Whether statements must be refused now, because they cannot be recorded. If a write has failed, tries again."""
        if not (self._required and self._failing):
            return False
        if self._write({'event': 'audit', 'time': _now(), 'boot': self._boot, 'message': 'can be written again',
                        'refused_statements': self._refused}):
            self._refused = 0
            return False
        self._refused += 1
        return True

    def event(self, event: str, session: Session | None, **fields) -> bool:
        """Records an event. Without a session it is recorded as done by admin, in session 0.

        Returns:
            False if it cannot be recorded although `required` is set, else True.
        """
        return self._write(self._entry(event, session, fields)) if self.is_on else True

    def _entry(self, event, session, fields):
        who = {'session': 0, 'user': 'admin', 'effective_user': 'admin', 'peer': '', 'listener': ''}
        if session is not None:
            who = {'session': session.id, 'user': session.login, 'effective_user': session.user, 'peer': session.peer,
                   'listener': session.listener}
            if session.peer_uid is not None:
                who |= {'peer_uid': session.peer_uid, 'peer_pid': session.peer_pid}
        return {'time': _now(), 'boot': self._boot, 'event': event, **who, **fields}

    def aside(self, event: str, session: Session, **fields) -> bool:
        """Like event(), for another thread than the loop's, while the loop may be held. It logs nothing: a log handler's
        lock may be held. It opens the file by its path, since the loop's thread may close the descriptor meanwhile."""
        path = self._path
        if not self.is_on or path is None:
            return True
        try:
            fd = self.open(path)
            try:
                written = os.write(fd, line := _line(self._entry(event, session, fields)))
                if written < len(line):
                    os.write(fd, b'\n')
                    raise OSError(0, 'the disk is full')
            finally:
                os.close(fd)
        except OSError:
            self.failures += 1
            return not self._required
        return True

    def statement(self, session: Session, user: str, statement: bytes, error: bytes, seconds: float,
                  pause: Callable[[], None] = lambda: None, **fields) -> bool:
        """Records a statement, without passwords.

        Args:
            user: the user that it ran as when it began.
            error: the text of its error; empty if it succeeded.
            seconds: how long it ran.
            pause: called from time to time while a long statement is searched for passwords, to let other sessions run.
            fields: further fields of the entry.

        Returns:
            As event().
        """
        if not self.is_on:
            return True
        languages = session.languages
        return self.event('statement', session, **{
            'effective_user': user, 'statement': redacted(statement, pause=pause, languages=languages), 'ok': not error,
            'error': redacted_error(statement, error, pause=pause, languages=languages) if error else None,
            'milliseconds': round(seconds * 1000, 3), **fields})

    def _write(self, entry):
        line = _line(entry)
        try:
            written = os.write(self._fd, line)
            if written < len(line):
                os.write(self._fd, b'\n')
                raise OSError(0, 'the disk is full')
        except OSError as error:
            if not self._failing:
                log.error('the audit file %s cannot be written: %s%s', self._path, error.strerror,
                          '; statements are refused until it can be written (audit.required)' if self._required else '')
            self._failing = True
            self.failures += 1
            return not self._required
        if self._failing:
            log.warning('the audit file %s can be written again', self._path)
        self._failing = False
        return True


def _line(entry) -> bytes:
    return json.dumps(entry, separators=(',', ':')).encode() + b'\n'


def _now() -> str:
    return datetime.fromtimestamp(time.time(), timezone.utc).isoformat(timespec='milliseconds').replace('+00:00', 'Z')
