"""Values of the binary protocol for Lua, and back: as packed strings (boxsession/lua/expose.lua has the grammar).

Values are as msgpack gives them: None, bool, int of up to 64 bits, float, bytes, list, dict, and extension values.
"""
from __future__ import annotations

import math
from typing import Any

from boxsession.output.tagged import tokens
from boxsession.protocol.iproto import Extension

__all__ = ['pack_values', 'unpack_values']

# Above this a Lua number no longer holds every whole number.
_EXACT_MAX = 2 ** 53
_WIDE_MIN, _WIDE_END = -2 ** 63, 2 ** 64
_NONE, _TRUE, _FALSE, _NULL = b'N', b't', b'f', b'Z'
_CONSTANTS = {'N': None, 'Z': None, 't': True, 'f': False}
_NOTHING = b'L]'


def pack_values(values) -> bytes:
    """A list of values.

    Raises:
        ValueError: there is something that cannot be a key in Lua.
    """
    if not values:
        return _NOTHING
    out = [b'L']
    for value in values:
        _pack(out, value, _NONE)
    out.append(b']')
    return b''.join(out)


def _pack(out, value, null=_NULL):
    kind = type(value)
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
        for item in value:
            _pack(out, item)
        out.append(b']')
    elif kind is dict:
        out.append(b'M')
        for key, item in value.items():
            if key is None or key != key:
                raise ValueError('nil or nan cannot be a key')
            _pack(out, key)
            _pack(out, item)
        out.append(b'}')
    else:
        out.append(b'E%d:%c%s' % (len(value.data) + 1, value.code, value.data))


def unpack_values(packed: bytes) -> list[Any]:
    """The values that Lua packed: as pack_values() takes them, but strings as str, with what is not UTF-8 as surrogates."""
    stream = tokens(packed)
    return _unpack(next(stream), stream)


def _unpack(token, stream):
    mark, data = token
    if mark == 's':
        return data.decode(errors='surrogateescape')
    if mark == 'n':
        return _number(data)
    if mark == 'L':
        items = []
        for inner in stream:
            if inner[0] == ']':
                return items
            items.append(_unpack(inner, stream))
    if mark == 'M':
        mapping = {}
        for inner in stream:
            if inner[0] == '}':
                return mapping
            key = _unpack(inner, stream)
            if isinstance(key, (list, dict)):
                raise ValueError('a table cannot be a key')
            mapping[key] = _unpack(next(stream), stream)
    if mark == 'I':
        return int(data)
    if mark == 'E':
        return Extension(data[0], data[1:])
    return _CONSTANTS[mark]


def _number(digits):
    try:
        return int(digits)
    except ValueError:
        pass
    number = float(digits)
    # As Tarantool writes them: whole numbers of 64 bits as such, whatever they were.
    if math.isfinite(number) and number == math.floor(number) and _WIDE_MIN <= number < _WIDE_END:
        return int(number)
    return number
