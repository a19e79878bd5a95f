"""What people see: colours where the terminal has them, a pager where a reply is longer than the screen.

The import of Pygments; without it there are no colours.
"""
from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

from boxsession.client.values import visible

__all__ = ['Screen']

# Beyond this nobody reads, and colouring takes longer than the statement.
_COLOURED_BYTES = 1 << 16


class Screen:
    """Standard output, when it is a terminal.

    Args:
        plain: no colours.
    """

    def __init__(self, plain: bool = False):
        self._formatter = None
        if not plain and not os.environ.get('NO_COLOR') and os.environ.get('TERM', 'dumb') != 'dumb':
            try:
                from pygments.formatters import TerminalFormatter

                self._formatter = TerminalFormatter()
            except ImportError:
                pass

    def say(self, message: str) -> None:
        """A line of the client's own."""
        print(visible(message), flush=True)

    def show(self, data: bytes, form: str) -> None:
        """A reply in one of the formats (`boxsession.client.values`); one longer than the screen by the pager."""
        text = visible(data.decode(errors='backslashreplace'))
        size = shutil.get_terminal_size()
        # The line behind the last is the prompt's.
        rows = sum(1 + max(0, len(line) - 1) // size.columns for line in text.split('\n', size.lines + 1))
        is_long = rows > size.lines
        if self._formatter is not None and len(data) <= _COLOURED_BYTES:
            text = self._coloured(text, form)
        if is_long and self._paged(text):
            return
        sys.stdout.write(text)
        sys.stdout.flush()

    def _coloured(self, text, form):
        from pygments import highlight
        from pygments.lexers import JsonLexer, LuaLexer, YamlLexer

        lexer = {'yaml': YamlLexer, 'json': JsonLexer}.get(form, LuaLexer)
        return highlight(text, lexer(stripnl=False, ensurenl=False), self._formatter)

    @staticmethod
    def _paged(text) -> bool:
        command = shlex.split(os.environ.get('PAGER') or 'less')
        environment = {'LESS': 'FRX', **os.environ}
        if not command or shutil.which(command[0]) is None:
            return False
        pager = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        try:
            pager.communicate(text.encode(errors='replace'))
        except BrokenPipeError:                 # who has seen enough leaves it
            pass
        except KeyboardInterrupt:               # the pager has its own use of it
            pager.stdin.close()
            pager.wait()
        return True
