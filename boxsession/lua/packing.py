"""Values of the binary protocol for Lua, and back: as packed strings (boxsession/lua/expose.lua has the grammar).

Values are as msgpack gives them: None, bool, int of up to 64 bits, float, bytes, list, dict, and extension values.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from boxsession.protocol.iproto import Extension, Timestamp

__all__ = ['first_string', 'pack_values', 'source_of', 'unpack_values']

# Above this a Lua number no longer holds every whole number.
_EXACT_MAX = 2 ** 53
_WIDE_MIN, _WIDE_END = -2 ** 63, 2 ** 64
_NONE, _TRUE, _FALSE, _NULL = b'N', b't', b'f', b'Z'
_CONSTANTS = {78: None, 90: None, 116: True, 102: False}
_WITH_TEXT = frozenset(b'nsIE')
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


def unpack_values(packed: bytes, pause: Callable[[], None] = lambda: None) -> list[Any]:
    """The values that Lua packed: as pack_values() takes them, but strings as str, with what is not UTF-8 as surrogates.

    Raises what `pause` raises, which is called now and then.
    """
    return _unpack(packed, 0, pause)[0]


def _unpack(packed, at, pause):
    """The value at `at`, and where it ends."""
    mark = packed[at]
    if mark in _WITH_TEXT:
        colon = packed.index(b':', at)
        stop = colon + 1 + int(packed[at + 1:colon])
        text = packed[colon + 1:stop]
        if mark == 110:                             # n
            return _number(text), stop
        if mark == 115:                             # s
            return text.decode(errors='surrogateescape'), stop
        if mark == 73:                              # I
            return int(text), stop
        if text[0] == _TIMESTAMP:
            return Timestamp.from_bytes(text[1:]), stop
        return Extension(text[0], text[1:]), stop
    at += 1
    if mark == 76:                                  # L
        items = []
        while packed[at] != 93:
            item, at = _unpack(packed, at, pause)
            items.append(item)
            if not len(items) % _PAUSE_EVERY:
                pause()
        pause()
        return items, at + 1
    if mark == 77:                                  # M
        mapping = {}
        while packed[at] != 125:
            key, at = _unpack(packed, at, pause)
            if isinstance(key, (list, dict)):
                raise ValueError('a table cannot be a key')
            if key in mapping:                      # True is 1 in Python
                raise ValueError(f'true and 1, or false and 0, cannot both be keys ({key})')
            mapping[key], at = _unpack(packed, at, pause)
            if not len(mapping) % _PAUSE_EVERY:
                pause()
        pause()
        return mapping, at + 1
    return _CONSTANTS[mark], at


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


def first_string(packed: bytes) -> bytes | None:
    """The first of packed values, where it is a string."""
    if packed[1:2] != b's':
        return None
    colon = packed.index(b':')
    return packed[colon + 1:colon + 1 + int(packed[2:colon])]


def source_of(packed: bytes, most: int) -> bytes:
    """Packed values as Lua would write them, for people; not much more than `most` bytes of them."""
    out, size, at, end = [], 0, 1, len(packed) - 1
    containers, is_key = [], False      # for each that is open: whether it is a mapping
    while at < end and size < most:
        mark = packed[at]
        if mark in _CLOSES:
            piece = b'}'
            containers.pop()
            at += 1
            is_key = bool(containers) and containers[-1]
            out.append(piece)
            size += 1
            continue
        if out and out[-1] not in (b'{', b' = '):
            out.append(b', ')
        if mark in _WITH_TEXT:
            colon = packed.index(b':', at)
            stop = colon + 1 + int(packed[at + 1:colon])
            piece = packed[colon + 1:min(stop, colon + 1 + most)]
            if mark == 115:                             # s
                piece = b'"%s"' % piece.replace(b'\\', b'\\\\').replace(b'"', b'\\"').replace(
                    b'\n', b'\\n').replace(b'\r', b'\\r')
            elif mark == 69:                            # E
                piece = b'"\\%d %s"' % (piece[0], piece[1:].hex().encode())
            at = stop
        elif mark in (76, 77):                          # L, M
            containers.append(mark == 77)
            is_key = mark == 77
            out.append(b'{')
            at += 1
            continue
        else:
            piece = _WORDS[mark]
            at += 1
        if is_key:
            out += b'[', piece, b']', b' = '
            is_key = False
        else:
            out.append(piece)
            is_key = bool(containers) and containers[-1]
        size += len(piece) + 2
    return b''.join(out)


_CLOSES = frozenset(b']}')
_WORDS = {78: b'nil', 90: b'null', 116: b'true', 102: b'false'}
