"""Writes short, plain documents in YAML without the emitter, in the same bytes. The emitter takes 20 times as long."""
from __future__ import annotations

import re
from collections.abc import Iterator

from boxsession.values.packed import Token, tokens

__all__ = ['quick_document']

# Longer packed strings are left to the emitter, in bytes: there it may be interrupted.
_BYTES = 1 << 11
# The emitter folds lines at a space behind this column.
_WIDTH = 72
_DEEPEST = 16
_PLAIN = re.compile(rb'[A-Za-z_/][\w./-]*(?: [\w./-]+)*')
_QUOTED = re.compile(rb'[\w.:+/-]*(?: [\w.:+/-]+)*')
_WORDS = {b'true': None, b'false': None, b'null': None, b'yes': None, b'no': None}
_MARKS = {'Z': b'null', 'N': b'null', 't': b'true', 'f': b'false'}


class _Other(Exception):
    pass


def quick_document(packed: bytes) -> bytes | None:
    """The document of a reply with one value; None if it needs the emitter.

    Args:
        packed: the packed value (see values/packed.py).
    """
    if len(packed) > _BYTES:
        return None
    out = [b'---\n- ']
    stream = tokens(packed)
    try:
        _write(next(stream), stream, out, 2, 0)
    except _Other:
        return None
    out.append(b'...\n')
    return b''.join(out)


def _write(token: Token, stream: Iterator[Token], out: list[bytes], column: int, depth: int) -> None:
    """Writes a value whose first line begins at `column`, up to the end of its last line."""
    mark = token[0]
    if depth > _DEEPEST:
        raise _Other
    if mark == 'L':
        _list(next(stream), stream, out, column, depth)
    elif mark == 'M':
        _map(next(stream), stream, out, column, depth)
    else:
        out.append(_scalar(token, column) + b'\n')


def _list(item: Token, stream: Iterator[Token], out: list[bytes], column: int, depth: int) -> None:
    if item[0] == ']':
        out.append(b'[]\n')
        return
    between = b''
    while item[0] != ']':
        out.append(between + b'- ')
        _write(item, stream, out, column + 2, depth + 1)
        between = b' ' * column
        item = next(stream)


def _map(key: Token, stream: Iterator[Token], out: list[bytes], column: int, depth: int) -> None:
    if key[0] == '}':
        out.append(b'{}\n')
        return
    between = b''
    while key[0] != '}':
        shown = _scalar(key, column)
        value = next(stream)
        kind = value[0]
        if kind == 'L' or kind == 'M':
            first = next(stream)
            inner = column if kind == 'L' else column + 2       # a list is written at the column of its key
            is_empty = first[0] in ']}'
            out.append(between + shown + (b': ' if is_empty else b':\n' + b' ' * inner))
            (_list if kind == 'L' else _map)(first, stream, out, inner, depth + 1)
        else:
            out.append(between + shown + b': ')
            out.append(_scalar(value, column + len(shown) + 2) + b'\n')
        between = b' ' * column
        key = next(stream)


def _scalar(token: Token, column: int) -> bytes:
    mark, data = token
    if column + len(data) > _WIDTH:
        raise _Other
    if mark == 's':
        if data in _WORDS or not _PLAIN.fullmatch(data):
            raise _Other
        return data
    if mark == 'n':
        return data
    if mark == 'q' and _QUOTED.fullmatch(data):
        return b"'" + data + b"'"
    try:
        return _MARKS[mark]
    except KeyError:
        raise _Other from None
