"""The counters of a running console."""
from __future__ import annotations

from collections import Counter

from boxsession.base.histogram import Histogram
from boxsession.base.session import TYPES

__all__ = ['ERROR_KINDS', 'PYTHON_STATEMENTS', 'Counters']

# Kinds of errors of statements and requests. `input`: the input was too long, unfinished or foreign, and did not run.
ERROR_KINDS = ('syntax', 'runtime', 'denied', 'timeout', 'cancelled', 'memory', 'output', 'input')
# The counter of the statements in Python that were answered.
PYTHON_STATEMENTS = 'statements.python'


class Counters:
    """The counters of one console.

    Attributes:
        hits: how often a limit was reached, by the name of its setting; other counters as well, such as `errors.KIND`.
        seconds_taken: durations of statements and requests, by session type.
    """

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.seconds_taken = {kind: Histogram() for kind in TYPES}

    def count_error(self, kind: str) -> None:
        """Counts an error of one of ERROR_KINDS that Lua does not count itself."""
        self.hits[f'errors.{kind}'] += 1
