"""What leaves Lua, as the bytes that go to the client.

Final text passes; a tagged string (its first byte says which kind) goes through a formatter. Pure: bytes in, bytes out.
"""
from __future__ import annotations

from collections.abc import Iterator

from boxsession.values import lua_text as lua
from boxsession.values import yaml
from boxsession.values.limits import UNLIMITED, Limits
from boxsession.values.packed import Tagged, tokens

__all__ = ['push_pieces', 'reply_document', 'reply_pieces']

# The first bytes of tagged strings, as boxsession/lua/wire/format.lua has them.
_YAML_LIST, _YAML_ONE, _LUA_LINE, _LUA_BLOCK, _LUA_LINE_ONE, _LUA_BLOCK_ONE = range(1, 7)

# A document's pieces are joined to some of about so many bytes.
_PIECE = 1 << 16
# A push is told from a reply by its tag (Tarantool 1.10 and later).
_PUSH_TAG = b'%TAG !push! tag:tarantool.io/push,2018\n'
_PUSH_COMMENT = b'-- Push\n'


def reply_document(data: Tagged, limits: Limits = UNLIMITED) -> bytes:
    """reply_pieces() in one."""
    return b''.join(reply_pieces(data, limits))


def reply_pieces(data: Tagged, limits: Limits = UNLIMITED) -> list[bytes]:
    """The document of a reply, in pieces: one where it is short.

    Raises only what a pause raises: what cannot be formatted becomes an error document.
    """
    kind = data[0] if isinstance(data, bytes) else data[0][0]
    if kind > _LUA_BLOCK_ONE:
        assert isinstance(data, bytes)          # only a tagged string may be in several
        return [data]
    try:
        return _format(kind, data, limits)
    except Exception as error:                  # a formatter's defect is the statement's error, not the session's end
        text = str(error) if str(error) == limits.message else \
            f'console: an exception occurred when formatting the output: {type(error).__name__}: {error}'
        tagged = text.encode(errors='replace')
        end = b'' if kind in (_YAML_LIST, _YAML_ONE) else b's1:;'
        return _format(kind, b'\0%sMs5:errors%d:%s}' % (end, len(tagged), tagged), UNLIMITED)


def push_pieces(data: bytes, limits: Limits = UNLIMITED) -> list[bytes]:
    """The document of a push, with what marks it as one, in pieces."""
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
    """The same in fewer, longer pieces."""
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
