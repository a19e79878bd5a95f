"""What the statements in Python of all sessions of a console share."""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from boxsession.base.counters import Counters
from boxsession.base.errors import type_name
from boxsession.base.redaction import PYTHON, redacted_error
from boxsession.inspection.tracebacks import of_others, traceback_text
from boxsession.python.checks import Growth
from boxsession.python.clock import Clock
from boxsession.python.output import Redirection
from boxsession.scheduler.dispatcher import Dispatcher

__all__ = ['Shared']

# Of a longer traceback, only the start is shown, in bytes.
_BYTES = 1 << 14


class Shared:
    """Objects and settings of one console.

    Args:
        namespace: names that the program gives to statements, and their values.
        output_bytes: returns the maximum size of a reply in bytes; 0 for no limit.

    Attributes:
        names: what statements know as `shared`, and the names of those under `\\\\set scope global`.
        kept_bytes: the maximum size of the results that a session keeps (limits.kept_bytes); 0 for no limit.
    """

    def __init__(self, dispatcher: Dispatcher, counters: Counters, namespace: Mapping[str, Any],
                 output_bytes: Callable[[], int]):
        self.dispatcher = dispatcher
        self.counters = counters
        self.namespace = namespace
        self.output_bytes = output_bytes
        self.clock = Clock()
        self.growth = Growth(counters.hits)
        self.redirection = Redirection()
        self.names: dict[str, Any] = {}
        self.kept_bytes = 0

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Applies the settings in force, given by dotted name."""
        self.kept_bytes = settings['limits.kept_bytes']
        self.growth.most = settings['limits.python_memory_bytes']

    def begin(self) -> None:
        """One more session uses Python."""
        self.clock.start()
        self.redirection.begin()

    def end(self) -> None:
        """One session less uses Python."""
        self.redirection.end()

    def close(self) -> None:
        """The console stops."""
        self.clock.close()
        self.growth.close()

    def traceback(self, error: BaseException, statement: bytes) -> Callable[[], str]:
        """The text for \\traceback, made when it is wanted. The secrets of the statement are removed."""
        error.__traceback__ = of_others(error.__traceback__)
        at = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())

        def text() -> str:
            told = redacted_error(statement, traceback_text(error).encode(errors='backslashreplace'), _BYTES,
                                  languages=(PYTHON,))
            return f'the statement raised {type_name(error)} at {at}\n\n{told}'
        return text
