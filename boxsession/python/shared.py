"""What the statements in Python of all sessions of a console share."""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from boxsession.base.counters import Counters
from boxsession.base.errors import type_name
from boxsession.base.redaction import PYTHON, redacted_error
from boxsession.inspection.stopper import Stopper
from boxsession.inspection.tracebacks import of_others, traceback_text
from boxsession.python.checks import Growth
from boxsession.python.clock import Clock
from boxsession.python.functions import Quit
from boxsession.python.interrupts import Interrupts
from boxsession.python.link import Link
from boxsession.python.output import Printed, Redirection
from boxsession.python.snapshot import SnapshotError, Snapshots, Work
from boxsession.python.values import NONE
from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.scheduler.task import Task

__all__ = ['Shared']

# Of a longer traceback, only the start is shown, in bytes.
_BYTES = 1 << 14
_TRACEBACK = BaseException.__dict__['__traceback__']


class Shared:
    """Objects and settings of one console.

    Args:
        stopper: ends statements that hold the event loop.
        namespace: names that the program gives to statements, and their values.
        output_bytes: returns the maximum size of a reply in bytes; 0 for no limit.

    Attributes:
        names: what statements know as `shared`, and the names of those under `\\\\set scope global`.
        kept_bytes: the maximum size of the results that a session keeps (limits.kept_bytes); 0 for no limit.
    """

    def __init__(self, dispatcher: Dispatcher, stopper: Stopper, counters: Counters, namespace: Mapping[str, Any],
                 output_bytes: Callable[[], int]):
        self.dispatcher = dispatcher
        self.counters = counters
        self.namespace = namespace
        self.output_bytes = output_bytes
        self.clock = Clock()
        self.interrupts = Interrupts(stopper, dispatcher.deadlines, self.clock)
        self.growth = Growth(counters.hits)
        self.redirection = Redirection()
        self.snapshots = Snapshots()
        self.names: dict[str, Any] = {}
        self.kept_bytes = 0

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Applies the settings in force, given by dotted name."""
        self.kept_bytes = settings['limits.kept_bytes']
        self.growth.most = settings['limits.python_memory_bytes']

    def begin(self, task: Task) -> None:
        """One more session uses Python. This is its task."""
        self.clock.start()
        self.interrupts.start()
        self.redirection.begin()
        task.ring = self.clock.ring
        assert task.host is not None
        task.host.control('awake')          # the session keeps its greenlet: statements may take locks for it

    def end(self) -> None:
        """One session less uses Python."""
        self.interrupts.stop()
        self.redirection.end()

    def begin_statement(self, task: Task) -> None:
        """A statement of a task begins."""
        task.began = time.monotonic()
        self.growth.begin()
        self.interrupts.begin(task)

    def close(self) -> None:
        """The console stops."""
        self.clock.close()
        self.growth.close()
        self.snapshots.close()

    def in_snapshot(self, task: Task, statement: Callable[[], Any], other: Callable[[Any], str], printed: Printed,
                    link: Link) -> bytes:
        """Runs a statement of a task in a forked child. Returns its packed value; b'' if that is None.

        Args:
            statement: runs the statement, and returns its value.
            other: gives the text of values that are not plain data.
            printed: gets what the statement prints.
            link: is cut in the child.

        Raises:
            SnapshotError: the statement has ended with an error.
            Quit: it has called exit().
        """
        def run() -> Any:
            # In the child: no clock rings, and all that is printed goes to its sys.stdout, the pipe to the parent.
            self.clock.busy.value, link.is_cut = 0, True
            printed.redirect(print)
            return statement()

        most, seconds = self.output_bytes(), self.dispatcher.deadlines.seconds.get(task.limit, 0)
        outcome = self.snapshots.run(Work(run, most or 1 << 62, seconds, self.growth.most, other),
                                     lambda data: printed.write(data.decode(errors='surrogateescape')), most)
        limit = 'limits.python_memory_bytes' if outcome.kind == 'MemoryError' and self.growth.most else outcome.limit
        if limit:
            self.counters.hits[limit] += 1
        if outcome.kind == Quit.__name__:
            raise Quit
        if outcome.error:
            raise SnapshotError(outcome)
        return b'' if outcome.value == NONE else outcome.value

    def count_error(self, error: BaseException, kind: str) -> None:
        """Counts the error of a statement: as one of memory, or of this kind."""
        name = error.kind if type(error) is SnapshotError else type_name(error)
        self.counters.count_error('memory' if name == 'MemoryError' else kind)

    def traceback(self, error: BaseException, statement: bytes) -> Callable[[], str]:
        """The text for \\traceback, made when it is wanted. The secrets of the statement are removed."""
        _TRACEBACK.__set__(error, of_others(_TRACEBACK.__get__(error)))         # no code of its class
        raised = time.time()

        def text() -> str:
            at = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(raised))
            kind, found = type_name(error), ''
            if type(error) is SnapshotError:
                kind, found = error.kind or kind, error.traceback
            told = redacted_error(statement, (found or traceback_text(error)).encode(errors='backslashreplace'), _BYTES,
                                  languages=(PYTHON,))
            return f'the statement raised {kind} at {at}\n\n{told}'
        return text
