r"""The table of the console's backslash commands: their help, the rights that they need, and their functions.

lua/library/commands.lua has a function for each built-in command, with the same name. An embedding program may add Python
functions as commands. Lua calls them like exposed functions (lua/functions.py).
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
# Columns of the help text. A reply indents it by four.
_WIDTH = 76


@dataclass(frozen=True, slots=True)
class Command:
    r"""One command.

    Attributes:
        name: the name, without the backslash.
        forms: a pair for each form of the command: its arguments, and its purpose.
        aliases: other names of the command.
        access: the right that a user needs: 'execute' (execute on the command), 'read' (that, or read on universe), or
            None for no right.
        details: more text for `\help NAME`.
        function: the function of a program's command. It takes one string: the rest of the line.
    """

    name: str
    forms: tuple[tuple[str, str], ...]
    aliases: tuple[str, ...] = ()
    access: str | None = None
    details: str = ''
    function: Callable[[str], Any] | None = None

    def row(self) -> dict[str, Any]:
        """The command's description for Lua."""
        # The text of a program's command comes from a docstring: keep its line breaks.
        details = self.details if self.function else textwrap.fill(self.details, _WIDTH)
        return {'name': self.name, 'forms': [list(form) for form in self.forms], 'aliases': list(self.aliases),
                'access': self.access or '', 'details': details}


BUILT_IN = (
    Command('help', (('[NAME]', 'show this page, or details of a command or of a name that the program exposes'),),
            aliases=('h',)),
    Command('quit', (('', 'end the session, like ~. and Ctrl-D'),), aliases=('q',)),
    Command('login', (('USER PASSWORD', 'change the user of this session'),),
            details='The password is the rest of the line.'),
    Command('sessions', (('', 'list the connected sessions'),), access='execute'),
    Command('complete', (('TEXT', 'list the names that complete TEXT'),),
            details="Lists only names that this session's user can see: first their longest common prefix, then each name. "
                    'It runs no user code. If TEXT begins with a backslash, it lists commands. In Python, TEXT may be a '
                    "chain such as app.flags['ne: it finds what is stored in objects, classes, modules and dicts, at most "
                    '500 names.'),
    Command('cancel', (('ID', "stop a session's running statement"),), access='execute'),
    Command('kill', (('ID', 'end a session'),), access='execute'),
    Command('traceback', (('[ID]', 'show the last exception of a function of the program, in this or another session'),),
            access='read',
            details='Shows the exception with its traceback, without secrets. Another session needs execute on universe.'),
    Command('show', (('[DEPTH]', 'show the last value of a statement in Python: its type, identity and fields'),),
            details='With DEPTH, from 1 to 10, the fields of objects in it, too, on so many levels. No code of the object '
                    'runs.'),
    Command('log', (('[FILTER]', "list the program's loggers with their levels and handlers"),
                    ('LOGGER LEVEL [for TIME] [keep]', 'change the level of a logger until this session ends')),
            access='read',
            details='FILTER is the start of the names, or a pattern with * and ?. LEVEL is a name such as debug, a number, '
                    'or unset. TIME is 30s, 10m or 2h: then the old level comes back, or when the session ends, '
                    'whichever is first. With keep the end of the session changes nothing. A change needs execute on the '
                    'command.'),
    Command('tail', (('[LOGGER] [level=LEVEL] [match=TEXT] [n=NUMBER] [seconds=NUMBER]',
                      "show the program's log records as they come, until Ctrl-C"),), access='read',
            details='Shows the records of a logger and of those below it; without LOGGER, of all. Each comes as a '
                    'push. level=debug cannot show what the logger does not let through: the first push says so, and '
                    'how to change that. match=TEXT, or match="SEVERAL WORDS": only messages with this text. If the '
                    'client reads slowly, records are dropped and counted. Without n and seconds, the end of the '
                    'input ends it, too. Secrets are cut out. Arguments of a message that are objects of the '
                    "program's classes are shown by their class: none of their code runs."),
    Command('changes', (('', 'list what sessions have changed in the program for a time'),
                        ('undo N|all', 'undo a change by its id, or all changes of this session')), access='read',
            details='A change (\\log, \\memory trace) is undone when its session ends. If the program itself has set '
                    'another value meanwhile, that value stays. To undo needs execute on the command; the changes of '
                    'others, execute on universe.'),
    Command('greenlets', (('[FILTER]', 'list the greenlets of the process, grouped by equal stack'),), access='read',
            details='The most numerous group comes first. Each word of FILTER must be part of what a group shows; a word '
                    'that begins with - must not: -owner=console leaves out those of the console. A row has the number of '
                    "greenlets, the function that they run, the innermost place of the program's own code, whose they are, "
                    'the age of the oldest in seconds since it was first seen, and the ids of the up to five that were '
                    'seen first, for \\where and \\gkill.'),
    Command('where', (('ID [locals [repr]]', 'show the stack of a greenlet, who spawned it, and its statement'),),
            access='read',
            details="With the word locals: also the variables of each call, cut and without secrets. Objects of the "
                    "program's classes are shown by their class: none of their code runs. With repr they are shown by "
                    'their repr(), for 5 ms a variable at most. That runs code of the program, and needs execute on '
                    'universe.'),
    Command('gkill', (('ID', "end a greenlet of the program"),), access='execute',
            details="The hub and the console's own greenlets are refused. The value is whether it has ended within a "
                    'second.'),
    Command('loop', (('', 'show the lag of the event loop, its watchers, and who held it lately'),), access='read',
            details='The lag is how late the loop is at a beat, ten times a second: of the last minute, and since the '
                    'start as upper bounds. Watchers are counted by kind. The last 20 holds of more than 0.25 s are '
                    'listed, the latest first: when, how long, the session and its statement or the program, and the '
                    'stack.'),
    Command('threads', (('', 'list the threads of the process with their stacks'),), access='read', details=(
        "The thread of the event loop comes first. A thread that Python's module threading did not start has a stack, but "
        'no name and no native id. The threads of the system follow that cannot be assigned, with native ids but no '
        'stacks: such a thread is listed twice.')),
    Command('memory', (
        ('', "show the memory of the process, the garbage collector's generations, and Lua's memory"),
        ('types [N]', 'count the objects of each type, and their bytes: the N largest sums (20)'),
        ('who TYPE', 'show what refers to some objects of a type'),
        ('trace start [keep]', 'remember where memory is allocated from now on'),
        ('trace diff [N]', 'show the N lines (20) whose memory has grown most since the start'),
        ('trace stop', 'end this'),
    ), access='read', details=(
        'types and who look through all objects in pieces, so that others run in between. The size of an object is '
        'its own, without what it refers to. Numbers of strings, of numbers and of collections that hold only these '
        'are estimates. TYPE is a module and a name, a name, or a part of one. trace needs execute. It uses '
        'tracemalloc, which slows the whole program down, and ends with the session unless keep is said. The '
        "program's own tracing is never stopped. The word force reads very many blocks, which holds the loop.")),
    Command('profile', (
        ('SECONDS [HZ] [file=PATH]', "show which functions the event loop's thread runs, for up to 600 seconds"),
    ), access='execute', details=(
        "HZ samples are taken in a second: 100 if it is left out, up to 1000. The answer has each function's own "
        'share of the time, and its share with all that it calls; the functions that the greenlets run; and the '
        'shares of time in which the loop ran, was idle, and was held by code that waits. no_processor_percent is the '
        'share in which the loop could run, but other processes had the processors. file= writes all samples to a new '
        'file for https://www.speedscope.app. Each second the progress is pushed. One profile runs at a time. A '
        'cancel ends it and removes the file.')),
    Command('watch', (
        ('MODULE:FUNCTION [if EXPR] [show EXPR,...] [OPTIONS]',
         'show the calls of a function of the program as they end'),
    ), access='watch', details=(
        'Each call comes as a push: time, greenlet, session or request, arguments, result or exception, milliseconds. '
        'FUNCTION is a name, Class.method, Class.property (its setter: Class.property.fset) or outer.<locals>.inner. '
        'EXPR is a condition such as ms > 100 and args[0].total > 5. It may use the arguments by name, args, self, '
        'result, error, ms, stored attributes, items, comparisons, in, and, or, not, numbers and len(). No code of the '
        'program runs. OPTIONS are n=10 rate=10 depth=2 seconds=60: it ends after n calls or these seconds, with Ctrl-C '
        'and with the session; shows at most rate calls a second and counts the others; and shows values to that depth.')),
    Command('trace', (
        ('MODULE:FUNCTION [if EXPR] [OPTIONS]', 'show what calls of a function of the program call, with times'),
    ), access='watch', details=(
        'As watch. Each call has a trace: the functions in Python that it calls, how often, their milliseconds and errors, '
        'the longest first. OPTIONS are n=3 rate=10 depth=1 seconds=60; depth is the number of levels. While a call is '
        'traced, every call of the program takes about a microsecond more.')),
    Command('stack', (
        ('MODULE:FUNCTION [if EXPR] [OPTIONS]',
         'show who calls a function of the program, grouped by equal stacks'),
    ), access='watch', details=(
        'Each new stack comes as a push. The reply has the stacks with their numbers of calls, the most frequent one '
        'first. OPTIONS are n=100 rate=1000 depth=20 seconds=60; depth is the number of calls of a stack.')),
    Command('count', (
        ('MODULE:FUNCTION [if EXPR] [seconds=60]', 'show calls, errors and times of a function of the program each second'),
    ), access='watch', details=(
        'A push each second: the calls that have ended, those with an exception, and the percentiles of their '
        'milliseconds.')),
    Command('watches', (('', 'list the functions that are watched, in all sessions'),), access='watch'),
    Command('unwatch', (('ID|all', 'end a watch, or all watches of this session'),), access='watch', details=(
        'A watch of another session needs execute on universe; all are those of all sessions then.')),
    Command('set', (
        ('output yaml|lua[,line|,block]', 'set the format of values'),
        ('delimiter TEXT', 'a statement ends with TEXT at the end of a line (without TEXT: at the end of the line)'),
        ('continuation auto|on|off', 'auto: an incomplete statement continues on the next line; on: a statement continues '
                                     'after a backslash at the end of a line; off: each line is a statement'),
        ('prompt on|off', 'show a prompt'),
        ('scope session|global', "session: variables without `local` belong to this session (_G has the global ones)"),
        ('print on|off', 'on: print() writes to this session, not to the log'),
        ('python live|snapshot', 'snapshot: each statement in Python runs in a copy of the process (a fork), so it changes '
                                 'nothing in the program and holds nobody; live: in the process itself; without a name: '
                                 'show it'),
        ('language lua|python', 'set the language of statements; without a name: show it. The listener must allow it '
                                '(`languages`), and python needs a right'),
    ), aliases=('s',), details='Defaults: output yaml, prompt off, scope global, '
        "print off, python live, and the first of the listener's languages that the user may use. Abbreviations: o, d "
        '(delim), c, p, l (lang).'),
)


class Commands:
    """The commands of one console: the built-in commands, and the commands of its program."""

    def __init__(self):
        self._added: dict[str, Command] = {}
        self._taken = {name for command in BUILT_IN for name in (command.name, *command.aliases)}

    @property
    def added(self) -> tuple[Command, ...]:
        """The commands of the program."""
        return tuple(self._added.values())

    def names(self) -> frozenset[str]:
        """The names of all commands."""
        return frozenset((*(command.name for command in BUILT_IN), *self._added))

    def add(self, function: Callable, name: str | None = None, access: str = 'execute') -> Command:
        """Adds a function as a command: see `boxsession.Console.command`.

        Raises:
            ValueError: the name is invalid or taken, or the function cannot be a command.
        """
        if not callable(function):
            raise ValueError(f'a command is a function: a {type(function).__name__} cannot be called')
        if name is None:
            name = getattr(function, '__name__', '')
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f'{name!r} cannot be the name of a command: pass `name` with up to 64 letters, digits, - and '
                             '_; the first must be a letter or _')
        if name in self._taken:
            raise ValueError(f'\\{name} is a built-in command: pass another `name`')
        if name in self._added:
            raise ValueError(f'the command \\{name} exists already: pass another `name`')
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
    """The descriptions of commands for Lua. `numbers` are the functions' numbers, by command."""
    return [command.row() | ({'call': numbers[command.name]} if command.function else {}) for command in commands]
