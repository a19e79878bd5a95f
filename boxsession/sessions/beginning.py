"""The settings with which our client begins: they are not recorded, and not counted as statements."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from boxsession.protocol.client import OPENING

__all__ = ['Beginning', 'is_opening']

_LONGEST = max(map(len, OPENING))


def is_opening(statement: bytes) -> bool:
    """Whether this is one of the settings with which our client begins."""
    return len(statement) <= _LONGEST and statement in OPENING


class Beginning:
    """Leaves these settings out of a session's number of statements.

    Args:
        inner: the evaluator to which statements go.
        leave_out: called for each of the settings before it runs.
        has_begun: called before the first other statement.
    """

    __slots__ = ('_inner', '_leave_out', '_has_begun')

    def __init__(self, inner: Any, leave_out: Callable[[], None], has_begun: Callable[[], None]):
        self._inner = inner
        self._leave_out = leave_out
        self._has_begun = has_begun

    def statement(self, text: bytes, may_continue: bool = False) -> Any:
        if is_opening(text):
            self._leave_out()
        else:
            self._has_begun()
        return self._inner.statement(text, may_continue)
