"""Completion of the end of a line: the client's commands, and names that the server suggests."""
from __future__ import annotations

import re
from collections.abc import Callable

from boxsession.client.values import Unshowable, values

__all__ = ['completions']

# The most names that are offered, and the longest name in characters.
_NAMES_MAX, _NAME_MAX = 1000, 200
_NAME = re.compile(r'(?<![\w.:])[\d.:]*([A-Za-z_][\w.:]*)$', re.ASCII)
_NAMED = re.compile(r'[\w.:]+[( ]?', re.ASCII)
# In Python: a chain of names and of items with string keys, the last of which may be unfinished; and what is offered.
_KEYS = r"""\[(?:'[^'\\]*'|"[^"\\]*")\]"""
_CHAIN = re.compile(rf"""(?<![\w.)\]'"])[A-Za-z_]\w*(?:\.\w+|{_KEYS})*(?:\.\w*|\[(?:'[^'\\]*|"[^"\\]*)?)?$""", re.ASCII)
_IN_CHAIN = re.compile(rf'(?=[ -~]*$)\w+(?:\.\w+|{_KEYS})*[(: ]?', re.ASCII)
_CHAIN_MAX = 1000
_COMMAND = re.compile(r'\\[\w-]*', re.ASCII)
_COMMANDS = ('help', 'quit', 'login ', 'sessions', 'cancel ', 'kill ', 'set output ', 'set delimiter ',
             'set continuation ', 'set scope ', 'set print ', 'set language ', 'set python ')
_CHOICES = {'set output ': ('yaml', 'json', 'lua', 'lua,block'), 'set continuation ': ('auto', 'on', 'off'),
            'set scope ': ('session', 'global'), 'set print ': ('on', 'off'), 'set language ': ('lua', 'python'),
            'set python ': ('live', 'snapshot'), 'changes ': ('undo ',),
            'memory ': ('types', 'who ', 'trace start', 'trace diff', 'trace stop')}

# Returns the server's reply with the completions of a text, or None (`Link.completions`).
Ask = Callable[[str], bytes | None]


def completions(line: str, ask: Ask, language: str = 'lua') -> tuple[int, list[str]]:
    """The completions of the end of a line: how many characters they replace, and the names."""
    if line.startswith('\\'):
        typed = line[1:]
        for command, choices in _CHOICES.items():
            if typed.startswith(command):
                typed = typed[len(command):]
                return len(typed), [choice for choice in choices if choice.startswith(typed)]
        known = [command for command in _COMMANDS if command.startswith(typed)]
        if _COMMAND.fullmatch(line):
            words = {command.partition(' ')[0] for command in known}
            known += [name[1:] for name in _names(ask, line, _COMMAND) if name[1:] not in words]
        return len(typed), known
    match = _CHAIN.search(line[-_CHAIN_MAX:]) if language == 'python' else _NAME.search(line)
    if match is None:
        return 0, []
    text = match[match.lastindex or 0]
    names = _names(ask, text, _IN_CHAIN if language == 'python' else _NAMED)
    return (len(text), names) if names else (0, [])


def _names(ask: Ask, text: str, form: re.Pattern[str]) -> list[str]:
    """The completions of a text by the server."""
    try:
        [names] = values(ask(text) or b'')
        # The server is not trusted: only valid names that continue the text are offered.
        return [name for name in dict.fromkeys(name for name in names[1:1 + _NAMES_MAX] if isinstance(name, str))
                if name.startswith(text) and len(name) < _NAME_MAX and form.fullmatch(name)]
    except (Unshowable, ValueError, TypeError):
        return []
