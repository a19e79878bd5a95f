"""Services that profile the thread of the event loop (lua/library/inspect_profile.lua)."""
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import gevent

from boxsession.base.errors import StatementError
from boxsession.base.session import current_session, described_caller
from boxsession.inspection.objects import Refused
from boxsession.inspection.sampler import Sampler
from boxsession.sessions.caller import Console, caller_id

__all__ = ['ProfileServices']

log = logging.getLogger('boxsession')

_LONGEST, _MOST_RATE, _RATE = 600, 1000, 100
# Seconds between two reports of progress; between two looks whether the profile has ended.
_REPORT_SECONDS, _LOOK_SECONDS = 1.0, 0.05


class ProfileServices:
    """The services. Lua starts a profile, then asks for its progress until it has the result."""

    def __init__(self, running: Console):
        self._running = running
        self._samplers: dict[int, Sampler] = {}
        self._owners: dict[int, int] = {}       # ids of sessions, by the numbers of their profiles
        self._last_number = 0

    def table(self) -> dict[str, Callable]:
        """The services, by name."""
        return {'profile_start': self.start, 'profile_wait': self.wait}

    def start(self, seconds: float, rate: float | None = None, path: str | bytes = '') -> int:
        """Starts a profile. Returns its number.

        Args:
            seconds: how long.
            rate: samples in a second; None for the default.
            path: a new file for speedscope; '' for none.
        """
        if not 0 < seconds <= _LONGEST:
            raise StatementError(f'{seconds:g} seconds are not possible: expected more than 0, up to {_LONGEST}')
        rate = _RATE if rate is None else rate
        if not 1 <= rate <= _MOST_RATE:
            raise StatementError(f'{rate:g} samples a second are not possible: expected 1 to {_MOST_RATE}')
        text = path if isinstance(path, str) else path.decode(errors='surrogateescape')
        try:
            sampler = Sampler(seconds, rate, text)
        except Refused as problem:
            raise StatementError(str(problem)) from None
        log.info('a profile of %g s is made by %s', seconds, described_caller())
        self._running.audit.event('profile', current_session(), seconds=seconds, **({'file': text} if text else {}))
        self._last_number += 1
        if self._last_number == 1:
            self._running.changes.at_end.append(self._session_ended)
        self._samplers = {number: other for number, other in self._samplers.items() if other.result is None}
        self._samplers[self._last_number] = sampler
        self._owners = {number: owner for number, owner in self._owners.items() if number in self._samplers}
        self._owners[self._last_number] = caller_id()
        return self._last_number

    def _session_ended(self, session_id: int | None) -> None:
        """Ends the profiles of a session, or all: its statement may have ended while it sent the progress."""
        for number, owner in self._owners.items():
            sampler = self._samplers.get(number)
            if sampler is not None and (session_id is None or owner == session_id):
                sampler.discard()

    def wait(self, number: float) -> dict[str, Any]:
        """Waits for the end, at most a second: {result = ...}, or the progress so far.

        If the statement is cancelled, the profile ends and its file is removed.
        """
        sampler = self._samplers.get(int(number))
        if sampler is None:
            raise StatementError('the profile was given up: its client did not take the progress in time')
        sampler.asked = time.monotonic()
        try:
            end = sampler.asked + _REPORT_SECONDS
            while sampler.result is None and time.monotonic() < end:
                gevent.sleep(_LOOK_SECONDS)
        except BaseException:
            sampler.discard()
            raise
        if sampler.result is None:
            return sampler.profile.progress()
        del self._samplers[int(number)]
        sampler.release()
        if sampler.problem or not sampler.result:
            raise StatementError(sampler.problem or 'the profile failed: the log may say why')
        return {'result': sampler.result}
