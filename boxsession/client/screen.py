"""Output to a terminal: with colours if it has them, by a pager if a reply is longer than the screen.

Pygments makes the colours; without it there are none.
"""
from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from boxsession.client.streams import write, write_text
from boxsession.client.values import visible_pieces

if TYPE_CHECKING:
    from pygments.formatter import Formatter

__all__ = ['Screen']

# A larger reply has no colours: they would take longer than the statement.
_COLOURED_BYTES = 1 << 16


class Screen:
    """Standard output that is a terminal.

    Args:
        plain: True for no colours.
    """

    def __init__(self, plain: bool = False):
        self._formatter: Formatter[str] | None = None
        if not plain and not os.environ.get('NO_COLOR') and (os.environ.get('TERM') or 'dumb') != 'dumb':
            try:
                from pygments.formatters import TerminalFormatter

                self._formatter = TerminalFormatter()
            except ImportError:
                pass

    @property
    def columns(self) -> int:
        """The width of the terminal."""
        return _size().columns

    def say(self, message: str) -> None:
        """Shows a message of the client."""
        write(sys.stdout, f'{message}\n'.encode(errors='backslashreplace'))

    def show(self, data: bytes, form: str) -> None:
        """Shows a reply in the format `form` (`boxsession.client.values`, or 'table').

        If it is longer than the screen, by the pager.
        """
        size = _size()
        is_short = len(data) <= _COLOURED_BYTES
        # _rows() also counts the empty line after the last line feed: the prompt needs it.
        is_long = not is_short or self._rows(data, size) > size.lines
        formatter = self._formatter
        if not is_short or formatter is None or form == 'table':
            if not is_long or not self._paged(visible_pieces(data)):
                write(sys.stdout, data)
            return
        text = self._coloured(''.join(visible_pieces(data)), form, formatter)
        if not is_long or not self._paged([text]):
            write_text(sys.stdout, [text])

    @staticmethod
    def _rows(data, size):
        lines = ''.join(visible_pieces(data)).split('\n', size.lines + 1)
        return sum(1 + max(0, len(line) - 1) // size.columns for line in lines)

    @staticmethod
    def _coloured(text: str, form: str, formatter: Formatter[str]) -> str:
        from pygments import highlight
        from pygments.lexers import JsonLexer, LuaLexer, YamlLexer

        lexer = {'yaml': YamlLexer, 'json': JsonLexer}.get(form, LuaLexer)
        return highlight(text, lexer(stripnl=False, ensurenl=False), formatter)

    @staticmethod
    def _paged(pieces: Iterable[str]) -> bool:
        try:
            command = shlex.split(os.environ.get('PAGER') or 'less')
            if not command or shutil.which(command[0]) is None:
                return False
            pager = subprocess.Popen(command, stdin=subprocess.PIPE, env={'LESS': 'FRX', **os.environ})
        except (OSError, ValueError):           # it cannot be run; or $PAGER has an unclosed quotation mark
            return False
        assert pager.stdin is not None
        encoding = sys.stdout.encoding or 'utf-8'
        try:
            with pager.stdin as stdin:
                for piece in pieces:
                    stdin.write(piece.encode(encoding, errors='backslashreplace'))
        except (BrokenPipeError, KeyboardInterrupt):    # the user left the pager; Ctrl-C is for the pager
            pass
        while True:
            try:
                pager.wait()
                return True
            except KeyboardInterrupt:
                pass


def _size() -> os.terminal_size:
    size = shutil.get_terminal_size()
    if size.columns and size.lines:
        return size
    return os.terminal_size((size.columns or 80, size.lines or 24))     # the terminal does not know it (0 in Python 3.10)
