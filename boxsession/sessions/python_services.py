"""Services for sessions that use Python."""
from __future__ import annotations

from collections.abc import Callable
from textwrap import fill
from typing import Any

from boxsession.base.errors import StatementError
from boxsession.python.completion import complete
from boxsession.python.evaluator import MODES, PythonEvaluator
from boxsession.sessions.caller import Console, caller_id

__all__ = ['PythonServices']


# Maximum number of names that \help lists, and the length of its lines.
_NAMES_MAX, _WIDTH = 200, 76


class PythonServices:
    """The services for sessions that use Python."""

    def __init__(self, running: Console):
        self._running = running

    def table(self) -> dict[str, Callable]:
        """All services, by name."""
        return {'show': self.show, 'python_scope': self.scope, 'python_complete': self.complete, 'python_mode': self.mode,
                'python_names': self.names}

    def _evaluator(self) -> PythonEvaluator:
        found = self._running.python.of(caller_id())
        if found is None:
            raise StatementError('this session has not used Python: \\set language python switches to it')
        return found

    def show(self, depth: float = 1) -> Any:
        """The last value of a statement in Python: its type, identity and fields, on so many levels."""
        return self._evaluator().show(int(depth))

    def complete(self, text: str | bytes) -> list[str]:
        """The completions of a text in Python: see completion.py."""
        return complete(text if isinstance(text, str) else text.decode(errors='replace'), self._evaluator().scopes())

    def names(self) -> str:
        """The names that the program gives to statements in Python, in lines."""
        names = sorted(self._running.python.namespace)
        more = [f'... ({len(names)})'] if len(names) > _NAMES_MAX else []
        return fill(', '.join(names[:_NAMES_MAX] + more), _WIDTH, initial_indent='  ', subsequent_indent='  ',
                    break_long_words=False)

    def mode(self, name: str) -> Any:
        """Where statements in Python run: 'live', or in a 'snapshot'. Without a name, shows it."""
        found = self._evaluator()
        if not name:
            return {'python': found.mode}
        if name not in MODES:
            raise StatementError(f'Specify python: {", ".join(MODES)}.')
        found.mode = name
        return True

    def scope(self, name: str) -> bool:
        """Where new names of statements in Python are kept: 'session', or 'global' for those of all sessions."""
        found = self._running.python.of(caller_id())
        if found is not None:
            found.has_own_scope = name == 'session'
        return True
