"""What the end of a line may become: commands of the client, and what the server says."""
from __future__ import annotations

import re
from collections.abc import Callable

from boxsession.client.values import Unshowable, values

__all__ = ['completions']

# So many are offered, of so many characters.
_NAMES_MAX, _NAME_MAX = 1000, 200
_NAME = re.compile(r'(?<![\w.:])[\d.:]*([A-Za-z_][\w.:]*)$', re.ASCII)
_NAMED = re.compile(r'[\w.:]+[( ]?', re.ASCII)
_COMMAND = re.compile(r'\\[\w-]*', re.ASCII)
_COMMANDS = ('help', 'quit', 'login ', 'sessions', 'cancel ', 'kill ', 'set output ', 'set delimiter ',
             'set continuation ', 'set scope ', 'set print ')
_CHOICES = {'set output ': ('yaml', 'json', 'lua', 'lua,block'), 'set continuation ': ('auto', 'on', 'off'),
            'set scope ': ('session', 'global'), 'set print ': ('on', 'off')}

# Gives what the server says a text may become, None for nothing (`Link.completions`).
Ask = Callable[[str], bytes | None]


def completions(line: str, ask: Ask) -> tuple[int, list[str]]:
    """What the end of a line may become: how many characters are replaced, and by which names."""
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
    match = _NAME.search(line)
    if match is None:
        return 0, []
    names = _names(ask, match[1], _NAMED)
    return (len(match[1]), names) if names else (0, [])


def _names(ask: Ask, text: str, form: re.Pattern[str]) -> list[str]:
    """What the server says a text may become."""
    try:
        [names] = values(ask(text) or b'')
        # Only what a name can be gets into the line, whatever the server says.
        return [name for name in dict.fromkeys(name for name in names[1:1 + _NAMES_MAX] if isinstance(name, str))
                if name.startswith(text) and len(name) < _NAME_MAX and form.fullmatch(name)]
    except (Unshowable, ValueError, TypeError):
        return []
