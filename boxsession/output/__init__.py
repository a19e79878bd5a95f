"""What leaves Lua, as the bytes that go to the client.

Final text passes; a tagged string (its first byte says which kind) goes through a formatter. Pure: bytes in, bytes out.
"""
from __future__ import annotations

from boxsession.output import lua, yaml
from boxsession.output.limits import UNLIMITED, Limits
from boxsession.output.tagged import tokens

__all__ = ['push_document', 'reply_document']

# The first bytes of tagged strings, as boxsession/lua/format.lua has them.
_YAML_LIST, _YAML_ONE, _LUA_LINE, _LUA_BLOCK, _LUA_LINE_ONE, _LUA_BLOCK_ONE = range(1, 7)

# A push is told from a reply by its tag (Tarantool 1.10 and later).
_PUSH_TAG = b'%TAG !push! tag:tarantool.io/push,2018\n'
_PUSH_COMMENT = b'-- Push\n'


def reply_document(data: bytes, limits: Limits = UNLIMITED) -> bytes:
    """The document of a reply. Raises only what a pause raises: what cannot be formatted becomes an error document."""
    kind = data[0]
    if kind > _LUA_BLOCK_ONE:
        return data
    try:
        return _format(kind, data, limits)
    except Exception as error:                  # a formatter's defect is the statement's error, not the session's end
        text = str(error) if str(error) == limits.message else \
            f'console: an exception occurred when formatting the output: {type(error).__name__}: {error}'
        tagged = text.encode(errors='replace')
        end = b'' if kind in (_YAML_LIST, _YAML_ONE) else b's1:;'
        return _format(kind, b'\0%sMs5:errors%d:%s}' % (end, len(tagged), tagged), UNLIMITED)


def push_document(data: bytes, limits: Limits = UNLIMITED) -> bytes:
    """The document of a push, with what marks it as one."""
    document = reply_document(data, limits)
    kind = data[0]
    if kind in (_LUA_LINE_ONE, _LUA_BLOCK_ONE):
        return _PUSH_COMMENT + document
    return _PUSH_TAG + document


def _format(kind: int, data: bytes, limits: Limits) -> bytes:
    if kind == _YAML_LIST or kind == _YAML_ONE:
        return yaml.document(tokens(data, 1), as_list=kind == _YAML_LIST, limits=limits)
    return lua.values(tokens(data, 1), block=kind in (_LUA_BLOCK, _LUA_BLOCK_ONE), limits=limits)
