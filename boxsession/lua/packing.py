"""Values of the binary protocol, as a client has them, as packed strings (output/tagged.py has the grammar).

Values are as msgpack gives them: None, bool, int of up to 64 bits, float, bytes, list, dict, and extension values.
"""
from __future__ import annotations

from collections.abc import Callable

from boxsession.protocol.answers import EXTENSION, FALSE, LIST, MAP, NIL, TEXT, TRUE, BadAnswer, Reader
from boxsession.protocol.iproto import Extension

__all__ = ['first_string', 'pack_values', 'source_of']

# Above this a Lua number no longer holds every whole number.
_EXACT_MAX = 2 ** 53
_NONE, _TRUE, _FALSE, _NULL = b'N', b't', b'f', b'Z'
_NOTHING = b'L]'
_PAUSE_EVERY = 1000
# What is nested deeper is refused: by a number, since Python's own limit depends on its version.
_DEEPEST = 500
# msgpack's own extension, whose code is -1.
_TIMESTAMP = 255


def pack_values(values, pause: Callable[[], None] = lambda: None) -> bytes:
    """A list of values; `pause` is called now and then.

    Raises:
        ValueError: there is something that cannot be a key in Lua, or it is nested too deep.
    """
    if not values:
        return _NOTHING
    out = [b'L']
    for value in values:
        _pack(out, value, pause, 0, _NONE)
    out.append(b']')
    return b''.join(out)


def _pack(out, value, pause, depth, null=_NULL):
    kind = type(value)
    if depth > _DEEPEST:
        raise ValueError(f'nested too deep: more than {_DEEPEST} levels')
    if kind is bytes:
        out.append(b's%d:%s' % (len(value), value))
    elif kind is int:
        digits = b'%d' % value
        out.append(b'%s%d:%s' % (b'n' if -_EXACT_MAX <= value <= _EXACT_MAX else b'I', len(digits), digits))
    elif kind is float:
        digits = repr(value).encode()
        out.append(b'n%d:%s' % (len(digits), digits))
    elif value is None:
        out.append(null)
    elif kind is bool:
        out.append(_TRUE if value else _FALSE)
    elif kind is list:
        out.append(b'L')
        for number, item in enumerate(value, 1):
            _pack(out, item, pause, depth + 1)
            if not number % _PAUSE_EVERY:
                pause()
        out.append(b']')
    elif kind is dict:
        out.append(b'M')
        for key, item in value.items():
            if key is None or key != key:
                raise ValueError('nil or nan cannot be a key')
            _pack(out, key, pause, depth + 1)
            _pack(out, item, pause, depth + 1)
            if not len(out) % _PAUSE_EVERY:
                pause()
        out.append(b'}')
    else:
        code, data = (value.code, value.data) if kind is Extension else (_TIMESTAMP, value.to_bytes())
        out.append(b'E%d:%c%s' % (len(data) + 1, code, data))


# Requests' arguments, for people ---------------------------------------------------------------------------------------

def first_string(arguments: bytes) -> bytes | None:
    """The first of a list's values, given in msgpack, where it is a string."""
    try:
        reader = Reader(arguments)
        _, count = reader.head()
        kind, content = reader.head() if count else (None, None)
    except BadAnswer:
        return None
    return content if kind == TEXT else None


def source_of(arguments: bytes, most: int) -> bytes:
    """A list's values, given in msgpack, as Lua would write them: all of them, or little more than `most` bytes."""
    reader, out = Reader(arguments), bytearray()
    open_ = []          # of each collection: how many values are to come, and whether it is a map
    try:
        open_.append([reader.head()[1], False])
        while open_ and len(out) < most:
            left, is_map = open_[-1]
            if not left:
                open_.pop()
                out += b'}' if open_ else b''
                continue
            open_[-1][0] -= 1
            is_key = is_map and left % 2 == 0
            kind, content = reader.head()
            if out and not out.endswith((b'{', b' = ')):
                out += b', '
            if kind in (LIST, MAP):
                open_.append([content * (2 if kind == MAP else 1), kind == MAP])
                out += b'{'
                continue
            if kind in (TEXT, EXTENSION):
                text = content[:most].replace(b'\\', b'\\\\').replace(b'"', b'\\"')
                piece = b'"%s"' % text.replace(b'\n', b'\\n').replace(b'\r', b'\\r')
            elif kind == NIL:
                piece = b'null' if len(open_) > 1 else b'nil'
            else:
                piece = _LUA_WORDS.get(kind) or repr(content).encode()
            out += b'[%s] = ' % piece if is_key else piece
    except BadAnswer as error:
        out += b' (%s)' % str(error).encode()
    return bytes(out)


_LUA_WORDS = {FALSE: b'false', TRUE: b'true'}
