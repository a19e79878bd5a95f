r"""Exceptions of exposed functions: logs them with their tracebacks, and keeps each session's last one for \traceback."""
from __future__ import annotations

import logging
import time
from collections.abc import Collection

from boxsession.base.errors import type_name
from boxsession.base.redaction import ANY, redacted_error
from boxsession.base.session import current_session
from boxsession.inspection.tracebacks import traceback_text
from boxsession.operations import logs
from boxsession.sessions.caller import Console

__all__ = ['Failures']

log = logging.getLogger('boxsession')

# Of a longer text, only the start is shown.
_BYTES = 1 << 14


class Failures:
    """Records the exceptions of exposed functions.

    The secrets of the session's statement are removed from their texts.
    """

    def __init__(self, running: Console):
        self._running = running

    def record(self, name: str, error: BaseException, secrets: Collection[str]) -> None:
        """Logs an exception, and keeps its traceback in the current session.

        Args:
            name: the name of the exposed function.
            secrets: texts to remove: arguments that are secrets.
        """
        session = current_session()
        text = traceback_text(error)
        for secret in secrets:
            text = text.replace(secret, '***')
        connection = self._running.registry.of_id(session.id) if session is not None else None
        statement = connection.under_way() if connection is not None else None
        text = redacted_error(statement or b'', text.encode(errors='backslashreplace'), _BYTES,
                              languages=session.languages if session is not None else ANY)
        if session is not None:
            at = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())
            session.traceback = f'{name} raised {type_name(error)} at {at}\n\n{text}'
        record = log.makeRecord(log.name, logging.WARNING, __file__, 0, '%s raised %s', (name, type_name(error)), None)
        # A line of the exception must not look like a line of the log.
        record.exc_text = '\n'.join('    ' + logs.one_line(line) for line in text.splitlines())
        if log.isEnabledFor(logging.WARNING):
            log.handle(record)
