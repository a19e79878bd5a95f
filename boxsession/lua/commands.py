r"""The table of the console's backslash commands: what `\help` shows, who may call them, and what they run.

Built-in commands are functions of lua/library/commands.lua, which has one of each name here. An embedding program adds
functions of its own, which are called as exposed functions are (lua/functions.py).
"""
from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from boxsession.base import redaction
from boxsession.lua.arguments import Arguments

__all__ = ['BUILT_IN', 'Command', 'Commands', 'described']

_NAME = re.compile(r'[A-Za-z_][A-Za-z0-9_-]{0,63}')
_ACCESS = ('execute', 'read')
# In a reply the text is indented by four.
_WIDTH = 76


@dataclass(frozen=True, slots=True)
class Command:
    r"""One command.

    Attributes:
        name: without its backslash.
        forms: how it may be typed, each with the words behind the name and what that does.
        aliases: other names of it.
        access: the right that a user needs: 'execute' on the command, 'read' on universe or that, None for no right.
        details: what `\help NAME` shows besides.
        function: what a program's command runs, with one string: the rest of the line.
    """

    name: str
    forms: tuple[tuple[str, str], ...]
    aliases: tuple[str, ...] = ()
    access: str | None = None
    details: str = ''
    function: Callable[[str], Any] | None = None

    def row(self) -> dict[str, Any]:
        """What Lua gets of it."""
        # A program's docstring keeps its lines.
        details = self.details if self.function else textwrap.fill(self.details, _WIDTH)
        return {'name': self.name, 'forms': [list(form) for form in self.forms], 'aliases': list(self.aliases),
                'access': self.access or '', 'details': details}


BUILT_IN = (
    Command('help', (('[NAME]', 'this page, or more on one command'),), aliases=('h',)),
    Command('quit', (('', 'end the session; so do ~. and Ctrl-D'),), aliases=('q',)),
    Command('login', (('USER PASSWORD', 'go on as another user'),),
            details='The password is the rest of the line.'),
    Command('sessions', (('', 'who is connected'),), access='execute'),
    Command('complete', (('TEXT', 'the names that TEXT may become'),),
            details="As this session's user sees them: first their longest common beginning, then each. Nobody's code is "
                    'run for it. Behind a backslash these are the commands.'),
    Command('cancel', (('ID', 'stop the statement that a session runs'),), access='execute'),
    Command('kill', (('ID', 'end a session'),), access='execute'),
    Command('set', (
        ('output yaml|lua[,line|,block]', 'how values are shown'),
        ('delimiter TEXT', "statements end with TEXT at a line's end (without TEXT: with the line)"),
        ('continuation auto|on|off', "auto: an unfinished statement waits for more; on: after a backslash at the line's "
                                     'end; off: every line stands alone'),
        ('prompt on|off', 'show a prompt'),
        ('scope session|global', "session: names without `local` are this session's own (_G has the others)"),
        ('print on|off', 'print() shows its text here, not in the log'),
        ('language lua', 'the only one there is'),
    ), aliases=('s',), details='At the start: output yaml, prompt off, scope global, '
        'print off. Settings may be shortened: o, d (delim), c, p, l (lang).'),
)


class Commands:
    """The commands of one console: those that are built in, and those that its program adds."""

    def __init__(self):
        self._added: dict[str, Command] = {}
        self._taken = {name for command in BUILT_IN for name in (command.name, *command.aliases)}

    @property
    def added(self) -> tuple[Command, ...]:
        """Those of the program."""
        return tuple(self._added.values())

    def names(self) -> frozenset[str]:
        """The names of all."""
        return frozenset((*(command.name for command in BUILT_IN), *self._added))

    def add(self, function: Callable, name: str | None = None, access: str = 'execute') -> Command:
        """Adds a function as a command, as `boxsession.Console.command` says.

        Raises:
            ValueError: the name or the function cannot be a command's.
        """
        if not callable(function):
            raise ValueError(f'a command is a function: a {type(function).__name__} cannot be called')
        if name is None:
            name = getattr(function, '__name__', '')
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f'{name!r} cannot be the name of a command: pass `name` with up to 64 letters, digits, - and '
                             '_, of which the first is a letter or _')
        if name in self._taken:
            raise ValueError(f'\\{name} is a command of the console itself: pass another `name`')
        if name in self._added:
            raise ValueError(f'there is a command \\{name} already: pass another `name`')
        if access not in _ACCESS:
            raise ValueError(f'\\{name}: access is {access!r}: expected one of {", ".join(map(repr, _ACCESS))}')
        command = self._added[name] = _made(name, function, access)
        return command


def _made(name, function, access) -> Command:
    arguments = Arguments(name, function)
    documented = function.func if isinstance(function, functools.partial) else function
    first, _, rest = (inspect.getdoc(documented) or '').partition('\n')
    listed = ''.join(f'\n  {argument}: {words}' for argument, words in arguments.described)
    details = '\n\n'.join(filter(None, [rest.strip('\n').rstrip(), listed and f'Arguments:{listed}']))

    def run(line=''):
        return function(*arguments.read(line))

    redaction.know_command(name, arguments.names)
    return Command(name, ((arguments.usage, first.strip()),), access=access, details=details, function=run)


def described(commands: tuple[Command, ...], numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    """What Lua gets of commands, each of a program's with the number of its function."""
    return [command.row() | ({'call': numbers[command.name]} if command.function else {}) for command in commands]
