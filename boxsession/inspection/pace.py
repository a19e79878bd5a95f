"""How a long look into the program shares the event loop with it. Pure.

A look is no turn of the scheduler: with the share of a session it would take ten times as long, and what it shows would no
longer be true. It works for some milliseconds, then rests for a fifth of that, and so on. So it ends soon, and the
program's events wait for a few milliseconds. Looks that follow each other get a quarter of the loop's time, after some.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

__all__ = ['Pace']

# Work between two rests, in seconds; the rest for each second of work.
_WORK, _REST = 0.004, 0.2
# The least time for each second of work, over all looks, and how far they may be ahead of it, in seconds.
_PRICE, _CREDIT = 4.0, 4.0


class Pace:
    """The pace of the looks of one console: `with pace:` is one look.

    Args:
        wait: lets the loop go on for this number of seconds at least.
        lock: lets one look run at a time.
        clock: a monotonic clock.
    """

    def __init__(self, wait: Callable[[float], None], lock: AbstractContextManager[Any] | None = None,
                 clock: Callable[[], float] = time.monotonic):
        self.wait = wait
        self._lock = lock or nullcontext()
        self._clock = clock
        self._began = 0.0       # the work since the last rest
        self._paid_at = 0.0     # when all looks are paid for

    def __enter__(self) -> None:
        """Begins a look: what follows runs outside of the scheduler."""
        self._lock.__enter__()
        try:
            self.wait(max(0.0, self._paid_at - self._clock() - _CREDIT))
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        self._began = self._clock()

    def __exit__(self, *raised: object) -> None:
        self._lock.__exit__(None, None, None)

    def __call__(self) -> None:
        """Rests if it is time to. To be called at least every millisecond."""
        if self._clock() - self._began >= _WORK:
            self.rest()

    def rest(self) -> None:
        """Rests in any case, as before and after a step that takes long."""
        now = self._clock()
        used = now - self._began
        self._paid_at = max(now, self._paid_at) + used * _PRICE
        self.wait(used * _REST)
        self._began = self._clock()
