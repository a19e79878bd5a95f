r"""Removes secrets from statements, so that logs, the audit file and lists can show them. Pure; linear in the length.

A statement is split into the tokens of Lua: names, literals, comments, operators. Only the following is removed:

* A literal in the position of a password: `password = '...'`, `passwd('ann', '...')`, `['token'] = '...'`. The same if it
  is joined by `..`, or assigned to a variable first (`local p = '...' passwd(p)`).
* The password in a URL, and in `user:password@host`.
* The text after the user's name in `\login USER PASSWORD`, in an unknown command, and in the same without `\` (which is
  not Lua and never runs). The text after a program's command that takes a secret.
* All literals of a statement that may reach a function for passwords other than by its name; only the literals of grant()
  and revoke() stay. Such a statement uses `x.passwd` as a value, passes `...` to it, computes a key with such a name
  (`t[('passwd')]`), or names `schema` and also computes any key or has such a name as a literal.

Names, operators and all other literals stay, so a statement cannot hide what it does. The content of literals and comments
is searched in the same way, since it may be code, JSON or a command line.

A secret is replaced by its length and a tag. Equal secrets have equal tags within one process. The tag is a hash with a
random key that exists only in memory, so a short password cannot be found by trying.
"""
from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Collection

from boxsession.base.secret_places import LUA, PYTHON, joined, secret_places, unescaped
from boxsession.base.secret_words import HINT, SENSITIVE, Span, know_command, login_password
from boxsession.base.tokens import STEP

__all__ = ['ANY', 'LUA', 'PYTHON', 'STATEMENT_BYTES', 'know_command', 'login_password', 'may_hold_secret', 'redacted',
           'redacted_arguments', 'redacted_error', 'redacted_text']

# The languages of a statement, if nobody knows which one it has: what is a secret in one of them is removed.
ANY = (LUA, PYTHON)

# Number of bytes of a statement that are searched and kept.
STATEMENT_BYTES = 1 << 16
_KEY = secrets.token_bytes(32)
_TAG_BYTES = 6
# An error is searched for at most this many secrets; with more, all of it is removed.
_FORMS_MAX = 64
_CHUNK_NAME = re.compile(rb'\[string "[^\n]*?"\]:')
# A shorter secret is removed from an error only as a whole word: it may be a part of any word.
_SHORT = 4
_RUN_AT_CUT = 1024
# The place for a value in a literal: an f-string, or a template.
_PLACE = re.compile(rb'\{[^{}]*\}|%\(\w+\)[a-z]|%[a-z]')


def _go_on() -> None:
    pass


def redacted(statement: bytes, most: int = STATEMENT_BYTES, brief: bool = False, pause: Callable[[], None] = _go_on,
             languages: Collection[str] = (LUA,)) -> str:
    """Removes the secrets of a statement.

    Args:
        most: number of bytes to search and keep. The rest is replaced by its length and tag.
        brief: for lists. A secret becomes `***`. If the statement is longer than `most`, all its literals are removed,
            since the rest, which is not searched, may use one as a password.
        pause: called now and then, so that other greenlets can run.
        languages: the languages that it may have. What is a secret in one of them is removed.
    """
    text = statement[:most]
    is_cut = len(statement) > most
    shown = _without(text, _secrets(text, is_cut, brief and is_cut, pause, languages), brief, pause)
    return f'{shown}... ({_told(statement[most:])})' if is_cut and not brief else shown


def redacted_text(text: bytes, most: int = STATEMENT_BYTES, pause: Callable[[], None] = _go_on) -> str:
    """Like redacted(), for a text that is not a statement, such as an error."""
    part = text[:most]
    spans = secret_places(part, 1, pause, languages=ANY) if HINT.search(part) else []
    shown = _without(part, spans, False, pause)
    return f'{shown}... ({_told(text[most:])})' if len(text) > most else shown


def redacted_arguments(name: bytes, source: bytes, data: bytes, most: int = STATEMENT_BYTES,
                       pause: Callable[[], None] = _go_on) -> str:
    """Removes the secrets of a request's arguments.

    Args:
        name: the function or expression that takes the arguments. If it deals with secrets, all literals are removed.
        source: the arguments as Lua text; it may end after `most` bytes.
        data: all arguments in any form, for the length and tag if they are too long.
        most: number of bytes to keep.
        pause: called now and then, so that other greenlets can run.
    """
    name = name[:most]
    takes_secret = SENSITIVE.search(name) is not None or b'schema' in name and b'[' in name
    shown = _without(source[:most], secret_places(source[:most], 0, pause, takes_secret), False, pause)
    return f'{shown}... (of {_told(data)})' if len(source) >= most else shown


def may_hold_secret(statement: bytes, languages: Collection[str] = ANY) -> bool:
    """Whether redacted() would remove something from a statement."""
    return bool(_secrets(statement, False, False, _go_on, languages))


def redacted_error(statement: bytes, error: bytes, most: int = STATEMENT_BYTES,
                   pause: Callable[[], None] = _go_on, languages: Collection[str] = (LUA,)) -> str:
    """Removes the secrets of a statement from its error. Lua quotes parts of the statement in its messages."""
    text = statement[:most]
    spans = _secrets(text, len(statement) > most, False, pause, languages) if error else []
    if spans:
        # Lua's name of the chunk, and the token that it quotes, may be a part of a secret.
        error = _CHUNK_NAME.sub(b'[string]:', error)
        at = error.find(b" near '")
        error = error if at < 0 else error[:at]
        forms = {form for start, stop in spans for secret in (text[start:stop].strip(),)
                 for value in (secret, *unescaped(secret, languages), *_pieces(secret))
                 for form in (value, repr(value.decode(errors='backslashreplace'))[1:-1].encode())} - {b''}
        if len(forms) > _FORMS_MAX:
            return f'*** ({_told(error)})'
        for form in sorted(forms, key=len, reverse=True):
            edge = rb'(?<![0-9A-Za-z])%s(?![0-9A-Za-z])' if len(form) < _SHORT else rb'%s'
            error = re.sub(edge % re.escape(form), b'***', error)
            pause()
    return redacted_text(error, most, pause)


def _pieces(secret: bytes) -> list[bytes]:
    """The texts of a template around the places for values: an error may have them with these."""
    pieces = _PLACE.split(secret) if b'{' in secret or b'%' in secret else []
    return [piece for piece in pieces if len(piece) >= _SHORT]


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


def _secrets(text: bytes, is_cut: bool, all_literals: bool, pause: Callable[[], None],
             languages: Collection[str]) -> list[Span]:
    """The secrets of a statement, in order, without overlaps."""
    spans = secret_places(text, 0, pause, all_literals, languages)
    if is_cut:
        # `user:password@host` may be truncated before its `@`: everything after a colon in the last word is a secret.
        last = re.search(rb'[^\s"\']*\Z', text[-_RUN_AT_CUT:])
        assert last is not None
        start = len(text) - len(last.group())
        colon = text.find(b':', start)
        if colon >= 0:
            spans = joined([*spans, (colon + 1, len(text))], pause)
    return spans
