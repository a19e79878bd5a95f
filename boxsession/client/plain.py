"""The editor without prompt_toolkit: readline gives history and completion, if Python has it."""
from __future__ import annotations

from collections.abc import Callable

from boxsession.client.history import History
from boxsession.client.python_lines import INDENT

try:
    import readline
except ImportError:                     # this Python was built without readline
    readline = None  # type: ignore[assignment]     # a module, or None

__all__ = ['PlainEditor']


class PlainEditor:
    """Reads statements from the terminal.

    Args:
        history: the earlier statements; new ones are added.
        is_whole: whether a text is a complete statement.
        complete: returns the completions of the end of a line: (how many characters they replace, names).
        language: returns the language of statements.
    """

    def __init__(self, history: History, is_whole: Callable[[str], bool], complete: Callable[[str], tuple[int, list[str]]],
                 language: Callable[[], str] = lambda: 'lua'):
        self._history = history
        self._is_whole = is_whole
        self._complete = complete
        self._language = language
        self._found: list[str] = []
        if readline is not None:
            readline.set_auto_history(False)
            readline.set_completer(self._candidate)
            # Without quotation marks: readline would add the closing one itself.
            readline.set_completer_delims(' \t\n()[]{}=+-*/%^<>~,;#')
            readline.parse_and_bind('tab: complete')
            for entry in history.entries:
                _remember(entry)

    def read(self, prompt: str, kept: str = '') -> str:
        """Reads a complete statement, maybe of several lines. `kept` is the text to begin with.

        Raises:
            KeyboardInterrupt, EOFError: Ctrl-C, Ctrl-D.
        """
        if readline is not None:
            # readline edits one line only. A longer text can be taken from the history.
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
            line = readline.get_line_buffer()[:readline.get_endidx()]
            if self._language() == 'python' and not line.strip():
                self._found = [text + INDENT]
            else:
                count, names = self._complete(line)
                # The text may be longer than what the names replace, or only its end (`flags['ne`).
                head, done = text[:max(0, len(text) - count)], max(0, count - len(text))
                self._found = [head + name[done:] for name in names]
        return self._found[state] if state < len(self._found) else None


def _remember(entry):
    try:
        readline.add_history(entry)
    except ValueError:                  # the locale's encoding lacks a character of it
        pass


def _insert(text):
    try:
        readline.insert_text(text)
    except ValueError:
        pass
