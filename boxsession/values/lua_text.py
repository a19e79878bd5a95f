r"""Writes values as Lua text (`\set output lua,line` and `lua,block`), as Tarantool 2.6 does, including its quirks.

A repeated table is `{nil}`. Backslashes are not doubled. An integer key that equals the number of entries before it is left
out. The reply ends with `;` or the text that the user has chosen, without a line feed.
"""
from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator

from boxsession.values.limits import UNLIMITED, Limits
from boxsession.values.packed import Token, is_printable, pieces

__all__ = ['values', 'values_pieces']

_KEYWORDS = frozenset(b'''and break do else elseif end false for function if in local nil not or repeat return then
                          true until while'''.split())
_NAME = re.compile(rb'\w*', re.ASCII)
_UNESCAPED = bytes(code for code in range(32, 127) if code not in b'"\'')
# By byte: its form in a quoted string.
_WRITTEN = [bytes([code]) if code in _UNESCAPED else b'\\x%02x' % code for code in range(256)]
for _char, _escape in zip(b'\0\a\b\t\n\v\f\r"\'', b'0abtnvfr"\'', strict=True):
    _WRITTEN[_char] = b'\\%c' % _escape
_STEP = 256         # number of tokens between two pauses
_WHOLE_TRIPLES = 3 << 12
# Longer strings are never written as names.
_NAME_MAX = 1 << 12
# Numbers as YAML 1.1 writes them, and Lua.
_NAMED = {b'.inf': b'inf', b'-.inf': b'-inf', b'.nan': b'nan'}
_WORDS = {'N': b'nil', 'Z': b'box.NULL', 't': b'true', 'f': b'false'}


def _escaped(piece: bytes) -> bytes:
    return b''.join(map(_WRITTEN.__getitem__, piece)) if piece.translate(None, _UNESCAPED) else piece


def _text(data: bytes, pause: Callable[[], None]) -> Iterator[bytes]:
    """The content of a quoted string, in pieces; base64 if the string is not text."""
    if is_printable(data, pause):
        for piece in pieces(data, pause):
            yield _escaped(piece)
        return
    for at in range(0, len(data), _WHOLE_TRIPLES):
        pause()
        yield base64.b64encode(data[at:at + _WHOLE_TRIPLES])


class _Writer:
    """Writes tokens to the list `out`."""

    def __init__(self, tokens: Iterator[Token], block: bool, limits: Limits):
        self.tokens = _paused(tokens, limits)
        self.limits = limits
        self.block = block
        self.out: list[bytes] = []
        self._size = 0              # bytes of the strings that are not short

    def value(self, token: Token, depth: int) -> None:
        mark, data = token
        out = self.out
        if mark in 'sq':
            out.append(b'"')
            self._string(data)
            out.append(b'"')
        elif mark in 'nI':
            out.append(_NAMED.get(data, data))
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

    def _string(self, data: bytes) -> None:
        if len(data) <= _NAME_MAX and data.isascii():
            self.out.append(_escaped(data))
            return
        for piece in _text(data, self.limits.pause):
            self.out.append(piece)
            self._size += len(piece)
            _check(self._size, self.limits)

    def _open(self, depth: int, is_first: bool) -> None:
        """Writes what precedes an item of a table at `depth`."""
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
                # A table that is a key is written as an item, before its value.
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
            self._name(data)
        elif mark == 'n':
            data = _NAMED.get(data, data)
            if data != b'%d' % position:
                whole = data.lstrip(b'-').isdigit()
                self.out.append((b'[%s] = ' if whole else b'%s = ') % data)
        else:
            self.out.append(_WORDS[mark] + b' = ')


    def _name(self, data: bytes) -> None:
        text = b''.join(_text(data, self.limits.pause)) if len(data) <= _NAME_MAX else b'"'
        if _NAME.fullmatch(text) and text not in _KEYWORDS:
            self.out.append(text + b' = ')
        else:
            self.out.append(b'["')
            self._string(data)
            self.out.append(b'"] = ')


def _check(size: int, limits: Limits) -> None:
    if limits.is_over(size // 2):               # block style and escapes may double the size
        limits.cut()
        raise ValueError(limits.message)


def _paused(tokens: Iterator[Token], limits: Limits) -> Iterator[Token]:
    for number, token in enumerate(tokens):
        if number % _STEP == 0:
            limits.pause()
        yield token


def values(tokens: Iterator[Token], *, block: bool) -> bytes:
    """values_pieces() as one bytes object."""
    return b''.join(values_pieces(tokens, block=block))


def values_pieces(tokens: Iterator[Token], *, block: bool, limits: Limits = UNLIMITED) -> list[bytes]:
    """Writes values, separated by commas, in pieces.

    Args:
        tokens: a string token with the end of the document, then the values.
        block: one item per line; otherwise all on one line.
        limits: limits.message replaces the rest of truncated values.

    Raises:
        ValueError: the result is too long.
    """
    mark, end = next(tokens, ('', b''))
    if mark != 's':
        raise ValueError('Lua output needs a string token with its end first')
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
    _check(sum(map(len, writer.out)), limits)
    return writer.out
