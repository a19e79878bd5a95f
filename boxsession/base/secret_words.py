r"""Names that say that their value is a secret, and the command lines that have one. Pure."""
from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ['HINT', 'LOGIN_WORD', 'NAME_LENGTH', 'SENSITIVE', 'TAKES_SECRET', 'Span', 'behind_user', 'command_line',
           'is_sensitive', 'know_command', 'line_end', 'login_password']

# Where something starts and stops in a text.
Span = tuple[int, int]

# Without one of these there is nothing to cut. A backslash or `..` may spell one of the others.
HINT = re.compile(rb'passw|passphrase|pwd|secret|token|credential|kennwort|login|auth|bearer|key|pass|pw|schema|[@\\]|\.\.'
                   rb'|\A\s*(?:l[ogin]{2,6}|su)\s', re.IGNORECASE)
# Names that say that their value is a secret.
SENSITIVE = re.compile(rb'passw|passphrase|pwd|secret|token|credential|kennwort|login|bearer|authorization|apikey'
                       rb'|accesskey|(?<![a-z])(?:key|pass|pw|auth)(?![a-z])', re.IGNORECASE)
_SENSITIVE_CAMEL = re.compile(rb'[a-z](?:Key|Pass|Pw|Auth)(?![a-z])')
NAME_LENGTH = 128
# Alone at a line's beginning, with words behind: somebody meant \login.
LOGIN_WORD = re.compile(rb'l[ogin]{2,6}|su|\w*(?:login|passw)\w*', re.IGNORECASE)
# Functions of such names take a secret, also where another function is to call them.
TAKES_SECRET = re.compile(rb'passw|login', re.IGNORECASE)
# Commands whose arguments are no secrets.
_COMMANDS = {b'help', b'h', b'set', b's', b'quit', b'q', b'sessions', b'cancel', b'kill', b'complete'}
# Those of the program whose arguments are all cut out, since one of them says that it is a secret.
_SECRET_COMMANDS: set[bytes] = set()
# A longer word is none of them.
_COMMAND = re.compile(rb'\\[\\ \t]{0,64}(\S{0,64})')
# What lies inside of quotes, or between blanks and quotes.
_SHELL_WORD = re.compile(rb'''"([^"]+)"|'([^']+)'|[^\s'"]+''')
_ARGUMENTS = re.compile(rb'[ \t]*(\S+)(?:[ \t]+(?=\S))?')
# A command, or one in a string that goes to console.eval.
_LOGIN_COMMAND = re.compile(rb'\\\s*login\s+\S+\s([^\n]*)')


def is_sensitive(name: bytes) -> bool:
    """Whether a name says that its value is a secret."""
    return len(name) <= NAME_LENGTH and (SENSITIVE.search(name) is not None or _SENSITIVE_CAMEL.search(name) is not None)


def command_line(text: bytes, start: int, is_first: bool, takes_all: bool) -> tuple[int, list[Span]] | None:
    r"""Where a command line that begins at a backslash goes on to be looked at, and its secrets; None where it is none.

    Args:
        is_first: nothing stands in front of it on its line; else only a login is one.
        takes_all: the statement is this command: all lines are its arguments.
    """
    match = _COMMAND.match(text, start)
    assert match is not None
    name = match[1].lower()
    if not is_first and not LOGIN_WORD.fullmatch(name):
        return None
    # An error of a command begins with its name and a colon.
    if name in _COMMANDS or name[-1:] == b':' and name[:-1] in _COMMANDS:
        return match.end(), []
    stop = len(text) if takes_all else line_end(text, start)
    if name in _SECRET_COMMANDS:
        # Word by word, since an error may quote one of them.
        return stop, [word.span(word.lastindex or 0) for word in _SHELL_WORD.finditer(text, min(match.end(), stop), stop)]
    return stop, behind_user(text, min(match.end(), stop), stop)


def line_end(text: bytes, at: int) -> int:
    """Where the line ends that goes on at a place."""
    stop = text.find(b'\n', at)
    return len(text) if stop < 0 else stop


def behind_user(text: bytes, start: int, stop: int) -> list[Span]:
    """What follows the first word; that word itself, if it is alone."""
    match = _ARGUMENTS.match(text, start, stop)
    if match is None:
        return [(start, stop)] if text[start:stop].strip() else []
    secret = match.end() if text[match.end():stop].strip() else match.start(1)
    return [(secret, stop)]


def know_command(name: str, parameters: Iterable[str]) -> None:
    r"""Says that a program has a command: what follows it is told from now on, as what follows `\set` is. Where the name of
    a parameter says that it is a secret, nothing of that is told."""
    known = name.lower().encode()
    if any(is_sensitive(parameter.encode()) for parameter in parameters):
        _SECRET_COMMANDS.add(known)
        _COMMANDS.discard(known)
    elif known not in _SECRET_COMMANDS:
        _COMMANDS.add(known)


def login_password(statement: bytes) -> bytes | None:
    r"""The password in a statement with a `\login USER PASSWORD` in it; None where there is no such command."""
    match = _LOGIN_COMMAND.search(statement)
    return match and match[1].strip(b' \t\r"\')]}')
