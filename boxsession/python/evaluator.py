"""Runs the statements of one session in Python, in the session's greenlet and in the task of its Lua evaluator."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gevent import getcurrent

from boxsession.base.counters import PYTHON_STATEMENTS
from boxsession.base.errors import Internal, StatementCancelled
from boxsession.base.session import Session
from boxsession.base.signals import hand_on
from boxsession.inspection.reprs import Reprs
from boxsession.lua.evaluator import Evaluator
from boxsession.python.box import Box, Storage
from boxsession.python.checks import Checks
from boxsession.python.compiler import Compiler, Statement, described, surroundings
from boxsession.python.doubts import is_blank, is_doubtful
from boxsession.python.functions import Quit, functions
from boxsession.python.link import YAML, Link
from boxsession.python.output import OWNER, Printed
from boxsession.python.quick import quick_document
from boxsession.python.results import Results
from boxsession.python.shared import Shared
from boxsession.python.showing import shown
from boxsession.python.snapshot import SnapshotError
from boxsession.python.values import named, packed
from boxsession.scheduler.calls import begin_call, end_call
from boxsession.values.packed import Tagged, unpack

__all__ = ['MODES', 'PythonEvaluator']

# Where statements run: in this process, or in forked children.
MODES = ('live', 'snapshot')

# The document without values: final text.
_NOTHING = b'---\n...\n'
_CANCELLED = 'the statement was cancelled'
# Of the repr() of an object, the maximum number of characters; of those of all objects in a reply, the maximum time.
_REPR_MAX, _REPR_SECONDS = 4096, 0.02
# That time in a snapshot, which holds nobody.
_SNAPSHOT_REPR_SECONDS = 1.0


class PythonEvaluator:
    """Runs the statements of one session. Only the greenlet of that session may use it.

    Args:
        own: the session's Lua evaluator.
        shared: what all sessions share.

    Attributes:
        printed: takes what the greenlets of statements print.
        is_closed: the session has ended.
        mode: where statements run: one of MODES.
        has_own_scope: whether statements have the names of their session; False: those of all sessions (`shared`).
    """

    def __init__(self, own: Evaluator, session: Session, shared: Shared):
        self.own = own
        self.session = session
        self.is_closed = False
        self.mode = MODES[0]
        self.has_own_scope = True
        self._shared = shared
        self._dispatcher = shared.dispatcher
        self._compiler = Compiler()
        self._tree = {OWNER: self}          # for the greenlets that statements start
        self._checks = Checks(own.task, shared.dispatcher, shared.clock, shared.growth, self._tree)
        self._link = Link(own, self._checks, shared.dispatcher)
        self.printed = Printed(self._link.push_text)
        self._builtins = surroundings(shared.clock.busy, self._checks.check, {
            **functions(self.printed.write_line), **shared.namespace, 'shared': shared.names,
            'box': Box(session, self._link)})
        self._results = Results(self._builtins)
        self._names: dict[str, Any] = {'__name__': '__console__'}
        self._has_begun = False             # a statement has run
        self._failed = b''
        self._text = b''                    # the running statement, or the last one

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged:
        """Runs a statement. Returns a tagged string, or b'' if more lines are needed (see `Evaluator.statement`)."""
        self._failed, self._text = b'', text
        self._link.begin()
        source = text.decode(errors='surrogateescape')
        try:
            statement = self._compiler.compile(source)
        except SyntaxError as error:
            if may_continue and self._compiler.is_incomplete(source):
                return b''
            return self._failed_with(error, described(error), 'syntax')
        if may_continue and statement.is_block and source.rpartition('\n')[2].strip():
            return b''
        task, dispatcher = self.own.task, self._dispatcher
        if not self._has_begun:
            try:
                self._shared.begin(task)
            except OSError as error:            # too many open files
                return self._failed_with(error, described(error))
            self._has_begun = True
        if not task.is_clean:
            dispatcher.begin(task)
            if task.killed:                     # cancelled before it began
                return self._cancelled()
        dispatcher.running = task
        dispatcher.overruns.last = 0.0
        try:
            reply = self._run(statement)
        finally:
            dispatcher.has_ticked = True
        self._shared.counters.hits[PYTHON_STATEMENTS] += 1
        return reply

    def _run(self, statement: Statement) -> Tagged:
        task, greenlet = self.own.task, getcurrent()
        tree, greenlet.spawn_tree_locals = greenlet.spawn_tree_locals, self._tree
        timer = begin_call(self._dispatcher, task)
        reply: Tagged = _NOTHING
        try:
            self._shared.begin_statement(task)
            reply = self._reply_or_error(statement)
        except Quit:
            assert task.host is not None
            task.host.control('quit')
        except StatementCancelled:
            task.mark_killed('')
        finally:
            end_call(self._dispatcher, task, timer)
            self._shared.interrupts.end(task)
            greenlet.spawn_tree_locals = tree
        return self._cancelled() if task.killed else reply

    def _reply_or_error(self, statement: Statement) -> Tagged:
        """Runs a statement, and keeps its value or its exception. Raises only what ends it."""
        try:
            self.printed.flush()        # the beginning of a line of a statement that was cancelled
            value, reply = self._evaluated(statement, self._names if self.has_own_scope else self._shared.names)
            self.printed.flush()
            if value is not None:
                self._results.add(value, len(reply), self._shared.kept_bytes)
            return reply
        except (Internal, Quit, StatementCancelled):
            raise
        except BaseException as error:      # of any kind: those that end a program do not end the session
            hand_on(error)
            reply = self._failed_with(error, str(error) if type(error) is SnapshotError else described(error))
            self.printed.flush()
            return reply

    def _evaluated(self, statement: Statement, names: dict[str, Any]) -> tuple[Any, Tagged]:
        """Runs a statement. Returns its value, which is kept, and the reply."""
        def value() -> Any:
            found = statement.run(names, self._builtins)
            return found.copy() if type(found) is Storage else found

        if self.mode == 'live':
            found = value()
            return found, self._reply(found)
        content = self._shared.in_snapshot(self.own.task, value, _shown(_SNAPSHOT_REPR_SECONDS), self.printed, self._link)
        return None, self._link.style + content if content else self._reply(None)

    def _reply(self, value: Any) -> Tagged:
        style = self._link.style
        if value is None:
            return _NOTHING if style == YAML else style
        return style == YAML and quick_document(value) or style + self._packed(value)

    def _packed(self, value: Any) -> bytes:
        return packed(value, self._shared.output_bytes() or 1 << 62, _shown(_REPR_SECONDS), self._dispatcher.pause_call)

    def is_incomplete(self, text: bytes) -> bool:
        """Whether a statement is incomplete and waits for more lines. Does not run it."""
        return self._compiler.is_incomplete(text.decode(errors='surrogateescape'))

    def is_wrong(self, text: bytes) -> bool:
        """Whether a statement does not compile. Does not run it."""
        source = text.decode(errors='surrogateescape')
        try:
            Compiler().compile(source)
        except SyntaxError:
            return not self._compiler.is_incomplete(source)
        return False

    def is_blank(self, text: bytes) -> bool:
        """Whether a statement has only blanks and comments."""
        return is_blank(text)

    def is_doubtful(self, text: bytes, reply: Tagged | None) -> bool:
        """Whether another program may have sent a statement. `reply` is its reply; None if it did not run."""
        failed = b'' if reply is None else self._failed
        return is_doubtful(text, failed) or (reply is None or failed != b'') and self.is_wrong(text)

    def last_error(self) -> bytes:
        """The text of the last statement's error; b'' if it had none."""
        return self._failed

    def error(self, message: str) -> bytes:
        """Makes the reply with an error, in the session's output format."""
        return self.own.error(message)

    def command_ran(self) -> None:
        """A command or a statement has run in Lua: it may have changed the output format."""
        self._link.is_stale = True

    def left_remote(self) -> None:
        """Runs the console's on_client_disconnect hook."""
        self.own.left_remote()

    # Errors

    def _failed_with(self, error: BaseException, problem: str, kind: str = 'runtime') -> Tagged:
        self._results.add_error(error)
        self.session.traceback = self._shared.traceback(error, self._text)
        self._shared.count_error(error, kind)
        return self._error_reply(problem)

    def _cancelled(self) -> Tagged:
        task = self.own.task
        self._checks.cancelled()
        self._shared.counters.count_error(task.ending)
        return self._error_reply(task.reason or _CANCELLED)

    def _error_reply(self, problem: str) -> Tagged:
        self._failed = problem.encode(errors='backslashreplace')
        told = self._failed.decode()
        quick = quick_document({'error': told}) if self._link.style == YAML and not self._link.is_stale else None
        return quick or self.own.error(told)

    def show(self, depth: int) -> Any:
        """The last value as its type, identity and fields, in plain data: see showing.py."""
        return unpack(self._packed(shown(self._results.last, depth)))

    # Names

    def scopes(self) -> list[Mapping[str, Any]]:
        """The names that a statement finds, the innermost scope first."""
        return [self._names if self.has_own_scope else self._shared.names, self._builtins]

    def end(self) -> None:
        """The session has ended."""
        self.is_closed = self._checks.is_closed = True
        self._checks.cancelled()
        if self._has_begun:
            self._shared.end()


def _shown(seconds: float) -> Callable[[Any], str]:
    """Makes a function that gives the text of values that are not plain data. It has this time for all of them."""
    reprs = Reprs(_REPR_MAX, seconds)
    return lambda value: reprs(value, named(value)[1:-1])
