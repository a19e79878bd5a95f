"""Services that look into the program (lua/library/inspect.lua): greenlets and threads."""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from boxsession.base.errors import StatementError
from boxsession.base.session import current_session, described_caller
from boxsession.inspection import threads
from boxsession.inspection.greenlets import Greenlets, NotPossible
from boxsession.inspection.pace import Pace
from boxsession.sessions.caller import Console

__all__ = ['InspectionServices']

log = logging.getLogger('boxsession')

# Characters of a filter.
_FILTER = 500


class InspectionServices:
    """The services, as in inspection/. Their ids are numbers from Lua."""

    def __init__(self, running: Console, pace: Pace):
        self._running = running
        self._greenlets = Greenlets(pace)

    def table(self) -> dict[str, Callable]:
        """The services, by name."""
        return {'greenlets': self.greenlets, 'where': self.where, 'gkill': self.gkill, 'threads': self.threads}

    def greenlets(self, words: str | bytes = '') -> list[dict[str, Any]]:
        """See Greenlets.groups()."""
        text = words if isinstance(words, str) else words.decode(errors='replace')
        if len(text) > _FILTER:
            raise StatementError(f'the filter has {len(text)} characters: expected up to {_FILTER}')
        return self._greenlets.groups(text)

    def where(self, number: float, with_locals: bool = False, with_repr: bool = False) -> dict[str, Any]:
        """See Greenlets.whole()."""
        try:
            return self._greenlets.whole(number, with_locals, with_repr)
        except NotPossible as error:
            raise StatementError(str(error)) from None

    def gkill(self, number: float) -> bool:
        """See Greenlets.kill()."""
        try:
            has_ended = self._greenlets.kill(number)
        except NotPossible as error:
            raise StatementError(str(error)) from None
        log.info('greenlet %d is ended by %s', number, described_caller())
        self._running.audit.event('gkill', current_session(), target=int(number), ended=has_ended)
        return has_ended

    def threads(self) -> list[dict[str, Any]]:
        """See threads.listed()."""
        return threads.listed(self._running.monitor.thread, self._running.monitor.native_thread)
