"""What was done, by whom: one JSON object a line, appended before the answer leaves.

Every entry has time, boot (an id of this run), event, session (0 for the server itself), user (who logged in),
effective_user, peer and listener. docs/security.rst lists the events and their fields.
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
        path: where to append; None for nowhere.
        required: whether statements are refused while it cannot be written.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | None, required: bool = False):
        self._boot = uuid.uuid4().hex
        self._fd = -1
        self.failures = 0               # entries that could not be written
        self._refused = 0               # statements that were refused meanwhile
        self.use(path, self.open(path), required)

    @staticmethod
    def open(path: str | None) -> int:
        """A descriptor of the file for use(); -1 for none.

        Raises:
            OSError: it cannot be opened.
        """
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600) if path else -1

    def use(self, path: str | None, fd: int, required: bool) -> None:
        """Records there from now on; the descriptor is taken over."""
        old, self._fd = self._fd, fd
        self._path = path
        self.is_on = path is not None
        self._required = required
        self._failing = False
        if old >= 0:
            os.close(old)

    def reopen(self) -> None:
        """Opens the file anew, after it was rotated."""
        if not self.is_on:
            return
        try:
            new = self.open(self._path)
        except OSError as error:
            log.error('cannot open the audit file %s anew: %s; the old one stays in use', self._path, error.strerror)
            return
        old, self._fd = self._fd, new
        os.close(old)

    def close(self) -> None:
        """Gives the file back."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self.is_on = -1, False

    @property
    def refuses(self) -> bool:
        """Whether no statement may run now, since it could not be recorded. Looks whether that has changed."""
        if not (self._required and self._failing):
            return False
        if self._write({'event': 'audit', 'time': _now(), 'boot': self._boot, 'message': 'can be written again',
                        'refused_statements': self._refused}):
            self._refused = 0
            return False
        self._refused += 1
        return True

    def event(self, event: str, session: Session | None, **fields) -> bool:
        """Records something; False where it had to be and could not. Without a session it is admin's, by the server."""
        if not self.is_on:
            return True
        who = {'session': 0, 'user': 'admin', 'effective_user': 'admin', 'peer': '', 'listener': ''}
        if session is not None:
            who = {'session': session.id, 'user': session.login, 'effective_user': session.user, 'peer': session.peer,
                   'listener': session.listener}
        return self._write({'time': _now(), 'boot': self._boot, 'event': event, **who, **fields})

    def statement(self, session: Session, user: str, statement: bytes, error: bytes, seconds: float,
                  pause: Callable[[], None] = lambda: None, **fields) -> bool:
        """Records a statement of a session that was `user`'s when it began.

        Args:
            error: what it ended in; empty where that was no error.
            pause: called now and then while a long one is looked through, to let others run.
            fields: what else is to be told.
        """
        if not self.is_on:
            return True
        return self.event('statement', session, **{
            'effective_user': user, 'statement': redacted(statement, pause=pause), 'ok': not error,
            'error': redacted_error(statement, error, pause=pause) if error else None,
            'milliseconds': round(seconds * 1000, 3), **fields})

    def _write(self, entry):
        line = json.dumps(entry, separators=(',', ':')).encode() + b'\n'
        try:
            written = os.write(self._fd, line)
            if written < len(line):
                os.write(self._fd, b'\n')
                raise OSError(0, 'the disk is full')
        except OSError as error:
            if not self._failing:
                log.error('the audit file %s cannot be written: %s%s', self._path, error.strerror,
                          '; statements are refused until it can' if self._required else '')
            self._failing = True
            self.failures += 1
            return not self._required
        if self._failing:
            log.warning('the audit file %s can be written again', self._path)
        self._failing = False
        return True


def _now() -> str:
    return datetime.fromtimestamp(time.time(), timezone.utc).isoformat(timespec='milliseconds').replace('+00:00', 'Z')
