"""The service that describes the event loop (lua/library/inspect_loop.lua)."""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from boxsession.base.histogram import Histogram
from boxsession.inspection import loop
from boxsession.inspection.pace import Pace
from boxsession.operations.monitor import Hold
from boxsession.sessions.caller import Console

__all__ = ['LoopServices']

_SHARES = {'median_ms': 0.5, 'p90_ms': 0.9, 'p99_ms': 0.99}


class LoopServices:
    """The service for `\\loop`."""

    def __init__(self, running: Console, pace: Pace):
        self._running = running
        self._pace = pace

    def table(self) -> dict[str, Callable]:
        """The services, by name."""
        return {'loop': self.loop}

    def loop(self) -> dict[str, Any]:
        """The loop's lag, its watchers, and who held it lately."""
        with self._pace:
            row = loop.described(self._pace)
        monitor = self._running.monitor
        row['lag'] = {'last_minute': _of_values(monitor.lags()), 'since_start': _of_histogram(monitor.lag, monitor.worst)}
        row['holds'] = [_hold(held) for held in monitor.holds()]
        return row


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _of_values(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds) or [0.0]
    row = {name: _ms(ordered[int((len(ordered) - 1) * share)]) for name, share in _SHARES.items()}
    return {**row, 'worst_ms': _ms(ordered[-1]), 'count': len(seconds)}


def _of_histogram(lag: Histogram, worst: float) -> dict[str, float]:
    """The shares are upper bounds: the histogram has no more."""
    row = {name: _ms(min(lag.at_most(share), worst)) for name, share in _SHARES.items()}
    return {**row, 'worst_ms': _ms(worst), 'count': sum(lag.counts)}


def _hold(held: Hold) -> dict[str, Any]:
    return {'at': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(held.at)), 'seconds': round(held.seconds, 1),
            'by': held.by, 'stack': held.stack}
