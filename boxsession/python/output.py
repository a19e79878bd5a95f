"""Sends what the greenlets of a statement print to the statement's session.

A stand-in for sys.stdout asks each time who writes. It is there while at least one session uses Python.
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from gevent import getcurrent

__all__ = ['OWNER', 'Printed', 'Redirection', 'owner']

# The key of the session's evaluator in `spawn_tree_locals`. A greenlet shares that dict with those that it starts.
OWNER = 'boxsession'
# A longer line is sent in parts, in characters.
_LINE_MAX = 1 << 16


def owner() -> Any:
    """The evaluator whose statement runs in the calling greenlet, or in one that has started it; None without one."""
    try:
        tree = getattr(getcurrent(), 'spawn_tree_locals', None)
    except RuntimeError:            # Python writes the last output while it ends
        return None
    found = tree.get(OWNER) if tree else None
    return None if found is None or found.is_closed else found


class Printed:
    """The printed text of one session: each whole line, or all lines of one write, is one push.

    Args:
        send: sends a text as a push.
    """

    __slots__ = ('_send', '_rest')

    def __init__(self, send: Callable[[str], None]):
        self._send = send
        self._rest: list[str] = []      # the beginning of a line

    def write(self, text: str) -> None:
        """Takes printed text. It may wait for a slow client."""
        lines, end, rest = text.rpartition('\n')
        if end:
            whole = ''.join(self._rest) + lines
            self._rest = [rest] if rest else []
            self._send(whole)
        elif rest:
            self._rest.append(rest)
        if len(self._rest) > _LINE_MAX or rest and sum(map(len, self._rest)) > _LINE_MAX:
            self.flush()

    def write_line(self, text: str) -> None:
        """Takes a printed line."""
        self.write(f'{text}\n')

    def redirect(self, send: Callable[[str], None]) -> None:
        """Sends all that follows in another way."""
        self._send, self._rest = send, []

    def flush(self) -> None:
        """Sends the beginning of a line, too."""
        if self._rest:
            rest, self._rest = ''.join(self._rest), []
            self._send(rest)


class _Stdout:
    """Stands in for the program's sys.stdout."""

    def __init__(self, program: Any):
        self._program = program

    def write(self, text: str) -> int:
        found = owner()
        if found is None:
            written: int = self._program.write(text)
            return written
        if not isinstance(text, str):
            raise TypeError(f'write() argument must be str, not {type(text).__name__}')
        found.printed.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        found = owner()
        if found is None:
            if self._program is not None:
                self._program.flush()
        else:
            found.printed.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)


class Redirection:
    """Puts the stand-in in place of sys.stdout while it is needed."""

    def __init__(self) -> None:
        self._users = 0
        self._stand_in: _Stdout | None = None

    def begin(self) -> None:
        """One more session needs it."""
        self._users += 1
        if self._users == 1:
            self._stand_in = _Stdout(sys.stdout)
            sys.stdout = self._stand_in

    def end(self) -> None:
        """One session less needs it. If the program has replaced sys.stdout meanwhile, that stays."""
        self._users -= 1
        if self._users == 0 and self._stand_in is not None:
            if sys.stdout is self._stand_in:
                sys.stdout = self._stand_in._program
            self._stand_in = None
