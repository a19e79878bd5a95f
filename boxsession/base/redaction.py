r"""What may be kept of a statement: all of it but its secrets. Pure, and linear in the length of the text.

A statement is cut into the tokens of Lua: names, literals, comments, operators. Only these are ever cut out:

* a literal in the position of a password: `password = '...'`, `passwd('ann', '...')`, `['token'] = '...'`, also joined by
  `..` or kept in a variable first (`local p = '...' passwd(p)`);
* the userinfo's password of a URL or of `user:password@host`;
* what follows the user's name in `\login USER PASSWORD`, in a command that does not exist, and in the same without `\`,
  which is no Lua and never runs; what follows a program's command that takes a secret;
* all literals, but those of grant() and revoke(), where a statement may reach a password's function by another way than its
  name: it takes `x.passwd` as a value, passes `...` on to it, makes a key of such a name (`t[('passwd')]`), or deals with
  `box.schema` and makes any key, or has such a name as a literal.

Names, operators and all other literals stay, so a statement cannot hide what it does. Text inside of literals and comments
is looked through in the same way, since it may be code, JSON or a command line.

In place of a secret stand its length and a tag: equal secrets have equal tags within one process. The tag is a keyed hash,
and the key is random and kept in memory only, so nobody can find a short password by trying.
"""
from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable

from boxsession.base.lua_tokens import STEP, unescaped
from boxsession.base.secret_places import joined, secret_places
from boxsession.base.secret_words import SENSITIVE, Span, know_command, login_password

__all__ = ['STATEMENT_BYTES', 'know_command', 'login_password', 'may_hold_secret', 'redacted', 'redacted_arguments',
           'redacted_error', 'redacted_text']

# So much of a statement is kept, and looked at.
STATEMENT_BYTES = 1 << 16
_KEY = secrets.token_bytes(32)
_TAG_BYTES = 6
# An error is searched for so many secrets at most.
_FORMS_MAX = 64
_CHUNK_NAME = re.compile(rb'\[string "[^\n]*?"\]:')
# A secret that is shorter may be a part of any word.
_SHORT = 4
_RUN_AT_CUT = 1024


def _go_on() -> None:
    pass


def redacted(statement: bytes, most: int = STATEMENT_BYTES, brief: bool = False, pause: Callable[[], None] = _go_on) -> str:
    """A statement as it may be kept in a log, an audit file or a list.

    Args:
        most: so many bytes are kept, and looked at; of the rest only its length and tag are.
        brief: for lists: cuts are told by `***` alone, and of a statement that is longer all literals are cut, since
            what is not looked at may use one as a password.
        pause: called now and then, to let others run.
    """
    text = statement[:most]
    is_cut = len(statement) > most
    shown = _without(text, _secrets(text, is_cut, brief and is_cut, pause), brief, pause)
    return f'{shown}... ({_told(statement[most:])})' if is_cut and not brief else shown


def redacted_text(text: bytes, most: int = STATEMENT_BYTES, pause: Callable[[], None] = _go_on) -> str:
    """The same of a text that is no statement, such as an error's or a request's argument."""
    part = text[:most]
    shown = _without(part, secret_places(part, 1, pause), False, pause)
    return f'{shown}... ({_told(text[most:])})' if len(text) > most else shown


def redacted_arguments(name: bytes, source: bytes, data: bytes, most: int = STATEMENT_BYTES,
                       pause: Callable[[], None] = _go_on) -> str:
    """The arguments of a request, written as Lua.

    Args:
        name: the function or expression that takes them: where it deals with secrets, all of them are cut out.
        source: the arguments, at least `most` bytes of them.
        data: all of them in any form, for the tag of what is too long.
    """
    name = name[:most]
    takes_secret = SENSITIVE.search(name) is not None or b'schema' in name and b'[' in name
    shown = _without(source[:most], secret_places(source[:most], 0, pause, takes_secret), False, pause)
    return f'{shown}... (of {_told(data)})' if len(source) >= most else shown


def may_hold_secret(statement: bytes) -> bool:
    """Whether redacted() would cut something out of a statement."""
    return bool(_secrets(statement, False, False, _go_on))


def redacted_error(statement: bytes, error: bytes, most: int = STATEMENT_BYTES,
                   pause: Callable[[], None] = _go_on) -> str:
    """The error that a statement ended in, without the statement's secrets: Lua quotes the statement in its messages."""
    text = statement[:most]
    spans = _secrets(text, len(statement) > most, False, pause) if error else []
    if spans:
        # Lua's name of the chunk, and the token at which it stopped, may be a part of a secret.
        error = _CHUNK_NAME.sub(b'[string]:', error)
        at = error.find(b" near '")
        error = error if at < 0 else error[:at]
        forms = {form for start, stop in spans for secret in (text[start:stop].strip(),)
                 for form in (secret, unescaped(secret)[0])} - {b''}
        if len(forms) > _FORMS_MAX:
            return f'*** ({_told(error)})'
        for form in forms:
            edge = rb'(?<![0-9A-Za-z])%s(?![0-9A-Za-z])' if len(form) < _SHORT else rb'%s'
            error = re.sub(edge % re.escape(form), b'***', error)
            pause()
    return redacted_text(error, most, pause)


def _told(data: bytes) -> str:
    tag = hashlib.blake2b(data, key=_KEY, digest_size=_TAG_BYTES).hexdigest()
    return f'{len(data)} bytes, {tag}'


def _without(text: bytes, spans: list[Span], brief: bool, pause: Callable[[], None]) -> str:
    if not spans:
        return text.decode(errors='backslashreplace')
    pieces: list[str] = []
    at = 0
    for number, (start, stop) in enumerate(spans):
        if not number % STEP:
            pause()
        pieces.append(text[at:start].decode(errors='backslashreplace'))
        pieces.append('***' if brief else f'*** ({_told(text[start:stop])})')
        at = stop
    pieces.append(text[at:].decode(errors='backslashreplace'))
    return ''.join(pieces)


def _secrets(text: bytes, is_cut: bool, all_literals: bool, pause: Callable[[], None]) -> list[Span]:
    """Where the secrets of a statement are, in order, without overlaps."""
    spans = secret_places(text, 0, pause, all_literals)
    if is_cut:
        # The host that would tell a password may be behind the cut.
        last = re.search(rb'[^\s"\']*\Z', text[-_RUN_AT_CUT:])
        assert last is not None
        start = len(text) - len(last.group())
        colon = text.find(b':', start)
        if colon >= 0:
            spans = joined([*spans, (colon + 1, len(text))], pause)
    return spans
