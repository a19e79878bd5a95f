"""The evaluators of a console's sessions that use Python."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from boxsession.base.counters import Counters
from boxsession.base.session import Session
from boxsession.inspection.stopper import Stopper
from boxsession.lua.evaluator import Evaluator
from boxsession.python.evaluator import PythonEvaluator
from boxsession.python.shared import Shared
from boxsession.scheduler.dispatcher import Dispatcher

__all__ = ['Evaluators']


class Evaluators:
    """The evaluators, by session. They live as long as their sessions, also while these use another language.

    Args:
        stopper: ends statements that hold the event loop.
        namespace, output_bytes: as for `Shared`.

    Attributes:
        namespace: names that the program gives to statements, and their values.
    """

    def __init__(self, dispatcher: Dispatcher, stopper: Stopper, counters: Counters, namespace: Mapping[str, Any],
                 output_bytes: Callable[[], int]):
        self._shared = Shared(dispatcher, stopper, counters, namespace, output_bytes)
        self._of_sessions: dict[int, PythonEvaluator] = {}
        self.namespace = namespace

    def evaluator(self, own: Evaluator, session: Session) -> PythonEvaluator:
        """The evaluator of a session. `own` is its Lua evaluator."""
        found = self._of_sessions.get(session.id)
        if found is None:
            found = self._of_sessions[session.id] = PythonEvaluator(own, session, self._shared)
        found.command_ran()             # the session has used another language
        return found

    def of(self, session_id: int) -> PythonEvaluator | None:
        """The evaluator of a session; None if it has not used Python."""
        return self._of_sessions.get(session_id)

    def end(self, session_id: int) -> None:
        """A session has ended."""
        found = self._of_sessions.pop(session_id, None)
        if found is not None:
            found.end()

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Applies the settings in force, given by dotted name."""
        self._shared.configure(settings)

    def give_up(self) -> None:
        """In a forked child: interrupts no statement any more."""
        self._shared.interrupts.give_up()

    def close(self) -> None:
        """The console stops. All sessions have ended."""
        self._shared.close()
