r"""Values as Lua text: `\set output lua,line` and `lua,block`, as Tarantool 2.6 writes them, its quirks included.

A table that is met again is `{nil}`; backslashes are not doubled; a whole-number key that equals the number of entries
before it is left out; the reply ends with `;` and without a line feed.
"""
from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from boxsession.output.tagged import Token, is_printable

__all__ = ['values']

_KEYWORDS = frozenset(b'''and break do else elseif end false for function if in local nil not or repeat return then
                          true until while'''.split())
_NAME = re.compile(rb'\w*', re.ASCII)
_ESCAPED = re.compile(rb'[\x00-\x1f"\'\x7f-\xff]')
_ESCAPES = {b'\0': b'\\0', b'\a': b'\\a', b'\b': b'\\b', b'\t': b'\\t', b'\n': b'\\n', b'\v': b'\\v', b'\f': b'\\f',
            b'\r': b'\\r', b'"': b'\\"', b"'": b"\\'"}
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
    """Writes the tokens of one value. `out` grows; nothing else is kept."""

    def __init__(self, tokens: Iterable[Token], block: bool):
        self.tokens = iter(tokens)
        self.block = block
        self.out: list[bytes] = []

    def value(self, token: Token, depth: int) -> None:
        mark, data = token
        out = self.out
        if mark == '&':
            self.value(next(self.tokens), depth)
        elif mark == '*':
            self._table(iter([self._write(b'nil')]), depth)
        elif mark in 'sq':
            out.append(b'"%s"' % _text(data))
        elif mark == 'n':
            out.append(data)
        elif mark in 'Ll':
            self._table(self._list_items(depth + 1), depth)
        elif mark in 'Mm':
            self._table(self._map_items(depth + 1), depth)
        else:
            out.append(_WORDS[mark])

    def _write(self, data: bytes):
        """A step that writes `data`, for a table whose content is known."""
        return lambda: self.out.append(data)

    def _table(self, items, depth: int) -> None:
        out = self.out
        inner = b'\n' + b'  ' * (depth + 1) if self.block else b''
        out.append(b'{')
        first = True
        for write_item in items:
            if not first:
                out.append(b',' if self.block else b', ')
            out.append(inner)
            write_item()
            first = False
        if self.block:
            out.append(b'\n\n' + b'  ' * depth if first else b'\n' + b'  ' * depth)
        out.append(b'}')

    def _list_items(self, depth: int):
        for token in self.tokens:
            if token[0] == ']':
                return
            yield lambda token=token: self.value(token, depth)

    def _map_items(self, depth: int):
        position = 0
        for token in self.tokens:
            mark, data = token
            if mark == '}':
                return
            if mark in 'LlMm&*':
                # A table as a key stands as an item of its own, in front of its value.
                yield lambda token=token: self.value(token, depth)
                yield lambda: self.value(next(self.tokens), depth)
            else:
                yield lambda mark=mark, data=data, position=position: self._entry(mark, data, position, depth)
            position += 1

    def _entry(self, mark: str, data: bytes, position: int, depth: int) -> None:
        if mark in 'sq':
            self.out.append(_key(data) + b' = ')
        elif mark == 'n':
            whole = data.lstrip(b'-').isdigit()
            if data != b'%d' % position:
                self.out.append((b'[%s] = ' if whole else b'%s = ') % data)
        else:
            self.out.append(_WORDS[mark] + b' = ')
        self.value(next(self.tokens), depth)


def values(tokens: Iterable[Token], *, block: bool) -> bytes:
    """The values, separated by commas and ended by `;`."""
    stream = iter(tokens)
    written = []
    for token in stream:
        writer = _Writer(stream, block)
        writer.value(token, 0)
        written.append(b''.join(writer.out))
    return b', '.join(written) + b';'
