"""What is counted of a console while it runs."""
from __future__ import annotations

from collections import Counter

from boxsession.base.histogram import Histogram
from boxsession.base.session import TYPES

__all__ = ['ERROR_KINDS', 'Counters']

# What statements and requests end in, if not well. `input`: what came was not run.
ERROR_KINDS = ('syntax', 'runtime', 'denied', 'timeout', 'cancelled', 'memory', 'output', 'input')


class Counters:
    """The counters of one console.

    Attributes:
        hits: how often a limit was met, by the name of its setting; and what else is counted.
        seconds_taken: how long statements and requests took, by the type of their session.
    """

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.seconds_taken = {kind: Histogram() for kind in TYPES}

    def count_error(self, kind: str) -> None:
        """One more of ERROR_KINDS, of those that Lua does not count."""
        self.hits[f'errors.{kind}'] += 1
