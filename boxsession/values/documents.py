"""Turns what leaves Lua into the bytes for the client. Pure: bytes in, bytes out.

Final text passes unchanged. A tagged string goes through the formatter that its first byte names.
"""
from __future__ import annotations

from collections.abc import Iterator

from boxsession.values import lua_text as lua
from boxsession.values import yaml
from boxsession.values.limits import UNLIMITED, Limits
from boxsession.values.packed import Tagged, tokens

__all__ = ['as_push', 'push_pieces', 'reply_document', 'reply_pieces']

# First bytes of tagged strings; boxsession/lua/wire/format.lua has the same numbers.
_YAML_LIST, _YAML_ONE, _LUA_LINE, _LUA_BLOCK, _LUA_LINE_ONE, _LUA_BLOCK_ONE = range(1, 7)

# The pieces of a document are joined into pieces of about this many bytes.
_PIECE = 1 << 16
# The tag distinguishes a push from a reply (Tarantool 1.10 and later).
_PUSH_TAG = b'%TAG !push! tag:tarantool.io/push,2018\n'
_PUSH_COMMENT = b'-- Push\n'
# The end of a push in Lua output, as a packed string.
_PUSH_END = b's1:;'


def reply_document(data: Tagged, limits: Limits = UNLIMITED) -> bytes:
    """reply_pieces() as one bytes object."""
    return b''.join(reply_pieces(data, limits))


def reply_pieces(data: Tagged, limits: Limits = UNLIMITED) -> list[bytes]:
    """The document of a reply, in pieces; a short one is one piece.

    If the values cannot be formatted, the result is an error document. The only exceptions raised are those of
    `limits.pause`.
    """
    kind = data[0] if isinstance(data, bytes) else data[0][0]
    if kind > _LUA_BLOCK_ONE:
        assert isinstance(data, bytes)          # only a tagged string can be in several pieces
        return [data]
    try:
        return _format(kind, data, limits)
    except Exception as error:                  # a formatter's bug must not end the session
        text = str(error) if str(error) == limits.message else \
            f'console: an exception occurred when formatting the output: {type(error).__name__}: {error}'
        tagged = text.encode(errors='replace')
        end = b'' if kind in (_YAML_LIST, _YAML_ONE) else b's1:;'
        return _format(kind, b'\0%sMs5:errors%d:%s}' % (end, len(tagged), tagged), UNLIMITED)


def as_push(data: bytes) -> bytes:
    """The tagged string of a push, made of that of a reply with one value."""
    if data[0] == _YAML_LIST:
        return bytes([_YAML_ONE]) + data[1:]
    colon = data.index(b':')
    kind = _LUA_LINE_ONE if data[0] == _LUA_LINE else _LUA_BLOCK_ONE
    return bytes([kind]) + _PUSH_END + data[colon + 1 + int(data[2:colon]):]


def push_pieces(data: bytes, limits: Limits = UNLIMITED) -> list[bytes]:
    """The document of a push, with the mark of a push, in pieces."""
    pieces = reply_pieces(data, limits)
    mark = _PUSH_COMMENT if data[0] in (_LUA_LINE_ONE, _LUA_BLOCK_ONE) else _PUSH_TAG
    return [mark + pieces[0]] if len(pieces) == 1 else [mark, *pieces]


def _format(kind: int, data: Tagged, limits: Limits) -> list[bytes]:
    if kind == _YAML_LIST or kind == _YAML_ONE:
        pieces = yaml.document_pieces(tokens(data, 1), as_list=kind == _YAML_LIST, limits=limits)
    else:
        pieces = lua.values_pieces(tokens(data, 1), block=kind in (_LUA_BLOCK, _LUA_BLOCK_ONE), limits=limits)
    return pieces if len(pieces) == 1 else list(_batches(pieces, limits))


def _batches(pieces: list[bytes], limits: Limits) -> Iterator[bytes]:
    """Joins pieces into fewer, longer ones."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield b''.join(batch)
            batch.clear()
            size = 0
            limits.pause()
    if batch:
        yield b''.join(batch)
