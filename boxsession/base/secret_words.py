r"""Names whose value is a secret, and command lines that contain one. Pure."""
from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ['AUTH_WORD', 'HINT', 'LOGIN_WORD', 'NAME_LENGTH', 'SENSITIVE', 'TAKES_SECRET', 'Span', 'behind_user',
           'command_line', 'is_sensitive', 'know_command', 'line_end', 'login_password']

# Start and stop offsets in a text.
Span = tuple[int, int]

# A text without any of these has no secret. A backslash or `..` may spell one of the other words.
HINT = re.compile(rb'p(?:ass|w|sk|in)|s(?:ecret|chema)|c(?:red|ookie)|ke(?:y|nnwort)|token|login|auth|bearer|jwt|otp|[@\\]'
                   rb'|\.\.|\A\s*(?:l[ogin]{2,6}|su)\s', re.IGNORECASE)
# Names whose value is a secret.
SENSITIVE = re.compile(rb'passw|passphrase|passcode|pwd|secret|token|credential|kennwort|login|bearer|authorization|apikey'
                       rb'|accesskey|oauth|cookie|jwt|(?:pass|pw|psk)(?![a-z])'
                       rb'|(?<![a-z])(?:key|passkey|auth|creds?|otp|pin)(?![a-z])', re.IGNORECASE)
_SENSITIVE_CAMEL = re.compile(rb'[a-z](?:Key|Auth|Creds?|Otp|Pin)(?![a-z])')
# Maximum length of a name that is examined.
NAME_LENGTH = 128
# Commands of other systems (Redis, FTP, POP3, IMAP) whose arguments are secrets, in quotes or not.
AUTH_WORD = re.compile(rb'auth(?:enticate)?|pass', re.IGNORECASE)
# Words that, with other words after them on a line, are probably a mistyped \login or such a command.
LOGIN_WORD = re.compile(rb'l[ogin]{2,6}|su|%s|\w*(?:login|passw)\w*' % AUTH_WORD.pattern, re.IGNORECASE)
# Functions with such names take a secret, also if they are passed to another function (pcall).
TAKES_SECRET = re.compile(rb'passw|login', re.IGNORECASE)
# Commands whose arguments are not secret.
_COMMANDS = {b'help', b'h', b'set', b's', b'quit', b'q', b'sessions', b'show', b'cancel', b'kill', b'complete',
             b'traceback', b'log', b'tail', b'changes', b'greenlets', b'where', b'gkill', b'threads', b'memory', b'loop',
             b'profile', b'watch', b'trace', b'stack', b'count', b'watches', b'unwatch'}
# Commands of the program with a parameter that is a secret: all their arguments are removed.
_SECRET_COMMANDS: set[bytes] = set()
# The name is at most 64 bytes: all commands are shorter.
_COMMAND = re.compile(rb'\\[\\ \t]{0,64}(\S{0,64})')
# A word in quotes, or a word without blanks and quotes.
_SHELL_WORD = re.compile(rb'''"([^"]+)"|'([^']+)'|[^\s'"]+''')
_ARGUMENTS = re.compile(rb'[ \t]*(\S+)(?:[ \t]+(?=\S))?')
# A login command, also inside of a string for console.eval.
_LOGIN_COMMAND = re.compile(rb'\\\s*login\s+\S+\s([^\n]*)')


def is_sensitive(name: bytes) -> bool:
    """Whether the value of a variable, field or parameter with this name is a secret."""
    return len(name) <= NAME_LENGTH and (SENSITIVE.search(name) is not None or _SENSITIVE_CAMEL.search(name) is not None)


def command_line(text: bytes, start: int, is_first: bool, takes_all: bool) -> tuple[int, list[Span]] | None:
    r"""Reads a command line that begins at a backslash.

    Args:
        start: the offset of the backslash.
        is_first: it is the first token of its line. If not, only a login counts as a command.
        takes_all: the command is the whole statement: all lines are its arguments.

    Returns:
        The offset at which the search goes on, and the secrets; None if this is not a command.
    """
    match = _COMMAND.match(text, start)
    assert match is not None
    name = match[1].lower()
    if not is_first and not LOGIN_WORD.fullmatch(name):
        return None
    # `\set: ...` is the error of a command.
    if name in _COMMANDS or name[-1:] == b':' and name[:-1] in _COMMANDS:
        return match.end(), []
    stop = len(text) if takes_all else line_end(text, start)
    if name in _SECRET_COMMANDS:
        # Each word is a secret of its own, since an error may quote one of them.
        return stop, [word.span(word.lastindex or 0) for word in _SHELL_WORD.finditer(text, min(match.end(), stop), stop)]
    return stop, behind_user(text, min(match.end(), stop), stop)


def line_end(text: bytes, at: int) -> int:
    """The offset of the end of the line that contains offset `at`."""
    stop = text.find(b'\n', at)
    return len(text) if stop < 0 else stop


def behind_user(text: bytes, start: int, stop: int) -> list[Span]:
    """The text after the first word; the first word itself if no other one follows."""
    match = _ARGUMENTS.match(text, start, stop)
    if match is None:
        return [(start, stop)] if text[start:stop].strip() else []
    secret = match.end() if text[match.end():stop].strip() else match.start(1)
    return [(secret, stop)]


def know_command(name: str, parameters: Iterable[str]) -> None:
    r"""Registers a command of the program. Its arguments are kept from now on, as those of `\set` are.

    Args:
        parameters: the names of its parameters. If one of them is_sensitive(), all arguments are removed instead.
    """
    known = name.lower().encode()
    if any(is_sensitive(parameter.encode()) for parameter in parameters):
        _SECRET_COMMANDS.add(known)
        _COMMANDS.discard(known)
    elif known not in _SECRET_COMMANDS:
        _COMMANDS.add(known)


def login_password(statement: bytes) -> bytes | None:
    r"""The password in a statement that contains `\login USER PASSWORD`; None without such a command."""
    match = _LOGIN_COMMAND.search(statement)
    return match and match[1].strip(b' \t\r"\')]}')
