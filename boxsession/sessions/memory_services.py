"""Services that look into the memory of the process (lua/library/inspect_memory.lua)."""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from boxsession.base.errors import StatementError
from boxsession.base.session import current_session, described_caller
from boxsession.inspection import memory, referrers
from boxsession.inspection.objects import Refused, in_time
from boxsession.inspection.pace import Pace
from boxsession.inspection.tracing import Tracing
from boxsession.sessions.caller import Console, check_not_ended

__all__ = ['MemoryServices']

log = logging.getLogger('boxsession')

# Rows of an answer without a number, and at most.
_ROWS, _MOST_ROWS = 20, 1000
# Characters of a type's name.
_NAME = 500


class MemoryServices:
    """The services."""

    def __init__(self, running: Console, pace: Pace):
        self._running = running
        self._pace = pace
        self._tracing = Tracing()

    def table(self) -> dict[str, Callable]:
        """The services, by name."""
        return {'memory': self.memory, 'memory_types': self.types, 'memory_who': self.who,
                'trace_start': self.trace_start, 'trace_diff': self.trace_diff, 'trace_stop': self.trace_stop}

    def memory(self) -> dict[str, Any]:
        """See memory.overview(), and the memory that Lua uses."""
        row = memory.overview()
        row['lua'] = {'used_bytes': self._running.runtime.memory.used(),
                      'limit_bytes': self._running.settings['limits.lua_memory_bytes']}
        return row

    def types(self, most: float | None = None) -> dict[str, Any]:
        """See memory.types()."""
        return self._answer(lambda rest: memory.types(rest, _number_of_rows(most)))

    def who(self, name: str | bytes) -> dict[str, Any]:
        """See referrers.who()."""
        text = name if isinstance(name, str) else name.decode(errors='replace')
        if len(text) > _NAME:
            raise StatementError(f'the name of the type has {len(text)} characters: expected up to {_NAME}')
        return self._answer(lambda rest: referrers.who(rest, text))

    def trace_start(self, keeps: bool = False, force: bool = False) -> dict[str, Any]:
        """See Tracing.start(). Unless `keeps`, the tracing ends with the calling session."""
        session, tracing, registry = current_session(), self._tracing, self._running.registry
        stays = keeps or session is None
        if not stays:
            check_not_ended(registry)
        row = self._answer(lambda rest: tracing.start(in_time(rest), described_caller(), force))
        # At once: what follows may wait, and the session may end meanwhile. Also if it stays: it ends with the console.
        owner, who = (session.id, session.described) if session is not None else (0, described_caller())
        self._running.changes.journal.adopt(tracing, True, False, owner, who, stays)
        if not stays and registry.of_id(owner) is None:
            self.trace_stop()
            check_not_ended(registry)
        log.info('memory is traced by %s', described_caller())
        self._running.audit.event('trace', session, operation='start')
        row['ends'] = 'by \\memory trace stop' if stays else 'with this session, or by \\memory trace stop'
        return row

    def trace_diff(self, most: float | None = None, force: bool = False) -> dict[str, Any]:
        """See Tracing.diff()."""
        return self._answer(lambda rest: self._tracing.diff(in_time(rest), _number_of_rows(most), force))

    def trace_stop(self) -> bool:
        """See Tracing.stop()."""
        was_on = self._tracing.stop()
        if was_on:
            self._running.changes.journal.forget(self._tracing.key)
            log.info('memory is not traced any more, by %s', described_caller())
            self._running.audit.event('trace', current_session(), operation='stop')
        return was_on

    def _answer(self, ask):
        with self._pace:
            try:
                return ask(self._pace.rest)
            except Refused as problem:
                raise StatementError(str(problem)) from None


def _number_of_rows(most: float | None) -> int:
    if most is None:
        return _ROWS
    if not 1 <= most <= _MOST_ROWS or most != int(most):
        raise StatementError(f'{most:g} is no number of rows: expected 1 to {_MOST_ROWS}')
    return int(most)
