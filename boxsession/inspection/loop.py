"""The watchers of the event loop, by kind."""
from __future__ import annotations

from collections import Counter
from typing import Any

from gevent import get_hub

from boxsession.inspection.living import instances
from boxsession.inspection.pace import Pace

__all__ = ['described']

# Watchers that are looked at between two looks at the clock.
_PIECE = 500


def described(pace: Pace) -> dict[str, Any]:
    """The calling thread's event loop: what it waits with, and its watchers by kind: how many are active, and stopped."""
    loop = get_hub().loop
    found = instances(_base(loop), pace)
    active: Counter[str] = Counter()
    stopped: Counter[str] = Counter()
    while found:
        piece = found[-_PIECE:]
        del found[-_PIECE:]
        for watcher in piece:
            if watcher.loop is loop:
                (active if watcher.active else stopped)[type(watcher).__name__.strip('_')] += 1
        del watcher, piece
        pace()
    return {'backend': loop.backend, 'watchers': {kind: {'active': active[kind], 'stopped': stopped[kind]}
                                                  for kind in sorted({*active, *stopped})}}


def _base(loop: Any) -> type:
    """gevent's base class of watchers."""
    timer = loop.timer(0.0)
    try:
        return next(kind for kind in type(timer).__mro__ if kind.__name__ == 'watcher')
    finally:
        timer.close()
