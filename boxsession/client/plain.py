"""Typing with readline alone: history, completion, statements of several lines."""
from __future__ import annotations

from collections.abc import Callable

from boxsession.client.history import History

try:
    import readline
except ImportError:                     # a Python that was built without it
    readline = None  # type: ignore[assignment]     # a module, or None

__all__ = ['PlainEditor']


class PlainEditor:
    """Reads statements from the terminal.

    Args:
        is_whole: whether a text is a whole statement.
        complete: what the end of a line may become: (how many characters it replaces, names).
    """

    def __init__(self, history: History, is_whole: Callable[[str], bool], complete: Callable[[str], tuple[int, list[str]]]):
        self._history = history
        self._is_whole = is_whole
        self._complete = complete
        self._found: list[str] = []
        if readline is not None:
            readline.set_auto_history(False)
            readline.set_completer(self._candidate)
            readline.set_completer_delims(' \t\n()[]{}=+-*/%^<>~,;#\'"')
            readline.parse_and_bind('tab: complete')
            for entry in history.entries:
                _remember(entry)

    def read(self, prompt: str, kept: str = '') -> str:
        """What is typed: a whole statement, line feeds inside it. `kept` is there to go on with.

        Raises:
            KeyboardInterrupt, EOFError: Ctrl-C, Ctrl-D.
        """
        if readline is not None:
            # Of several lines only the history can give them back whole.
            readline.set_startup_hook((lambda: _insert(kept)) if kept and '\n' not in kept else None)
        try:
            text = input(prompt)
            if readline is not None:
                readline.set_startup_hook(None)
            while not self._is_whole(text):
                text += '\n' + input(' ' * (len(prompt) - 2) + '> ')
        finally:
            if readline is not None:
                readline.set_startup_hook(None)
        if text.strip():
            if readline is not None and self._history.entries[-1:] != [text]:
                _remember(text)
            self._history.add(text)
        return text

    def _candidate(self, text, state):
        if state == 0:
            count, names = self._complete(readline.get_line_buffer()[:readline.get_endidx()])
            head = text[:len(text) - count]
            self._found = [head + name for name in names] if count <= len(text) else []
        return self._found[state] if state < len(self._found) else None


def _remember(entry):
    try:
        readline.add_history(entry)
    except ValueError:                  # the terminal's encoding cannot show it
        pass


def _insert(text):
    try:
        readline.insert_text(text)
    except ValueError:
        pass
