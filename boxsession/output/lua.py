r"""Values as Lua text: `\set output lua,line` and `lua,block`, as Tarantool 2.6 writes them, its quirks included.

A table that is met again is `{nil}`; backslashes are not doubled; a whole-number key that equals the number of entries
before it is left out; the reply ends with `;`, or what else was chosen, and without a line feed.
"""
from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from boxsession.output.limits import UNLIMITED, Limits
from boxsession.output.tagged import Token, is_printable

__all__ = ['values']

_KEYWORDS = frozenset(b'''and break do else elseif end false for function if in local nil not or repeat return then
                          true until while'''.split())
_NAME = re.compile(rb'\w*', re.ASCII)
_ESCAPED = re.compile(rb'[\x00-\x1f"\'\x7f-\xff]')
_ESCAPES = {b'\0': b'\\0', b'\a': b'\\a', b'\b': b'\\b', b'\t': b'\\t', b'\n': b'\\n', b'\v': b'\\v', b'\f': b'\\f',
            b'\r': b'\\r', b'"': b'\\"', b"'": b"\\'"}
_STEP = 256         # tokens between two pauses
_WORDS = {'N': b'nil', 'Z': b'box.NULL', 't': b'true', 'f': b'false'}


def _escape(match: re.Match) -> bytes:
    char = match.group()
    return _ESCAPES.get(char) or b'\\x%02x' % char[0]


def _text(data: bytes) -> bytes:
    """A string's characters as they stand between the quotes; base64 where it is not text."""
    if not is_printable(data):
        return base64.b64encode(data)
    return _ESCAPED.sub(_escape, data)


def _key(data: bytes) -> bytes:
    text = _text(data)
    if _NAME.fullmatch(text) and text not in _KEYWORDS:
        return text
    return b'["%s"]' % text


class _Writer:
    """Writes tokens. `out` grows; nothing else is kept."""

    def __init__(self, tokens: Iterator[Token], block: bool, limits: Limits):
        self.tokens = _paused(tokens, limits)
        self.block = block
        self.out: list[bytes] = []

    def value(self, token: Token, depth: int) -> None:
        mark, data = token
        out = self.out
        if mark in 'sq':
            out.append(b'"%s"' % _text(data))
        elif mark == 'n':
            out.append(data)
        elif mark in 'Ll':
            self._list(depth)
        elif mark in 'Mm':
            self._map(depth)
        elif mark == '&':
            self.value(next(self.tokens), depth)
        elif mark == '*':
            self._open(depth, is_first=True)
            out.append(b'nil')
            self._close(depth, is_empty=False)
        else:
            out.append(_WORDS[mark])

    def _open(self, depth: int, is_first: bool) -> None:
        """Goes to where an item of a table at `depth` stands."""
        self.out.append(b'{' if is_first else b',' if self.block else b', ')
        if self.block:
            self.out.append(b'\n' + b'  ' * (depth + 1))

    def _close(self, depth: int, is_empty: bool) -> None:
        if self.block:
            self.out.append((b'{\n\n' if is_empty else b'\n') + b'  ' * depth + b'}')
        else:
            self.out.append(b'{}' if is_empty else b'}')

    def _list(self, depth: int) -> None:
        is_first = True
        for token in self.tokens:
            if token[0] == ']':
                break
            self._open(depth, is_first)
            self.value(token, depth + 1)
            is_first = False
        self._close(depth, is_empty=is_first)

    def _map(self, depth: int) -> None:
        position = 0
        for token in self.tokens:
            if token[0] == '}':
                break
            self._open(depth, is_first=position == 0)
            if token[0] in 'LlMm&*':
                # A table as a key stands as an item of its own, in front of its value.
                self.value(token, depth + 1)
                self._open(depth, is_first=False)
            else:
                self._key(token, position)
            self.value(next(self.tokens), depth + 1)
            position += 1
        self._close(depth, is_empty=position == 0)

    def _key(self, token: Token, position: int) -> None:
        mark, data = token
        if mark in 'sq':
            self.out.append(_key(data) + b' = ')
        elif mark == 'n':
            if data != b'%d' % position:
                whole = data.lstrip(b'-').isdigit()
                self.out.append((b'[%s] = ' if whole else b'%s = ') % data)
        else:
            self.out.append(_WORDS[mark] + b' = ')


def _paused(tokens, limits):
    for number, token in enumerate(tokens):
        if number % _STEP == 0:
            limits.pause()
        yield token


def values(tokens: Iterator[Token], *, block: bool, limits: Limits = UNLIMITED) -> bytes:
    """The values, separated by commas. The first token is no value: its text ends the document.

    Raises:
        ValueError: they are too long.
    """
    mark, end = next(tokens, ('', b''))
    if mark != 's':
        raise ValueError('Lua output needs to know what ends it')
    writer = _Writer(tokens, block, limits)
    is_first = True
    for token in writer.tokens:
        if not is_first:
            writer.out.append(b', ')
        if token[0] == 'X':
            limits.cut()
            writer.out.append(b'{error = "%s"}' % limits.message.encode())
            break
        writer.value(token, 0)
        is_first = False
    writer.out.append(end)
    document = b''.join(writer.out)
    if limits.is_over(len(document) // 2):      # block style and escapes may double what was counted
        limits.cut()
        raise ValueError(limits.message)
    return document
