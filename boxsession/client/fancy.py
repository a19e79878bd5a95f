"""The editor with prompt_toolkit: several lines, colours, and a menu of completions that never delays a key.

The only import of prompt_toolkit. Pygments colours the typed text.
"""
from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, Completion, ThreadedCompleter
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus, is_searching
from prompt_toolkit.history import History as BaseHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.lexers import DynamicLexer, PygmentsLexer
from pygments.lexers import LuaLexer, PythonLexer

from boxsession.client.history import History
from boxsession.client.python_lines import INDENT, indentation

__all__ = ['FancyEditor']


class _History(BaseHistory):
    def __init__(self, history: History):
        super().__init__()
        self._history = history

    def load_history_strings(self):
        return reversed(self._history.entries)

    def store_string(self, string):
        self._history.add(string)


class _Completer(Completer):
    def __init__(self, complete):
        self._complete = complete

    def get_completions(self, document, complete_event):
        count, names = self._complete(document.current_line_before_cursor)
        for name in names:
            yield Completion(name, start_position=-count)


class FancyEditor:
    """Reads statements from the terminal, like `boxsession.client.plain.PlainEditor`."""

    def __init__(self, history: History, is_whole: Callable[[str], bool], complete: Callable[[str], tuple[int, list[str]]],
                 language: Callable[[], str] = lambda: 'lua'):
        self._is_whole = is_whole
        self._language = language
        lexers = {'lua': PygmentsLexer(LuaLexer), 'python': PygmentsLexer(PythonLexer)}
        self._session: PromptSession[str] = PromptSession(
            history=_History(history), lexer=DynamicLexer(lambda: lexers[language()]),
            completer=ThreadedCompleter(_Completer(complete)), complete_while_typing=False, multiline=True,
            key_bindings=self._bindings(), enable_history_search=False,
            prompt_continuation=lambda width, number, wrapped: ' ' * (width - 2) + '> ', enable_suspend=True)

    def _bindings(self):
        bindings = KeyBindings()

        @bindings.add('enter', filter=has_focus(DEFAULT_BUFFER) & ~is_searching)
        def _(event):
            buffer = event.current_buffer
            if buffer.complete_state and buffer.complete_state.current_completion:
                buffer.complete_state = None
            elif self._is_whole(buffer.text):
                buffer.validate_and_handle()
            else:
                self._new_line(buffer)

        @bindings.add('escape', 'enter', filter=has_focus(DEFAULT_BUFFER))
        def _(event):
            self._new_line(event.current_buffer)

        @bindings.add('tab', filter=has_focus(DEFAULT_BUFFER) & Condition(self._is_in_margin))
        def _(event):
            event.current_buffer.insert_text(INDENT)

        return bindings

    def _is_in_margin(self):
        """Whether a tab indents a line of Python, instead of completing a name."""
        return self._language() == 'python' and not self._session.default_buffer.document.current_line_before_cursor.strip()

    def _new_line(self, buffer):
        line = buffer.document.current_line_before_cursor
        buffer.newline(copy_margin=False)
        if self._language() == 'python':
            buffer.insert_text(indentation(line))

    def read(self, prompt: str, kept: str = '') -> str:
        """Reads a complete statement, maybe of several lines. `kept` is the text to begin with.

        Raises:
            KeyboardInterrupt, EOFError: Ctrl-C, Ctrl-D.
        """
        return self._session.prompt(prompt, default=kept)
