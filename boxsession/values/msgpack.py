"""Reads msgpack into packed strings (values/packed.py) or text, without Python objects. Pure.

So a map can have keys of any type, keys do not collide, and the memory used is a small multiple of the length.
"""
from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from boxsession.values.packed import text

__all__ = ['BadValue', 'Reader', 'first_string', 'source_of']

# Limits of a frame: number of values and depth.
_VALUES_MAX, _DEEPEST = 2_000_000, 400

# Kinds of values.
NIL, FALSE, TRUE, INTEGER, FLOAT, TEXT, EXTENSION, LIST, MAP = range(9)
# Meaning of a first byte from 0xc0 on. For numbers: kind and format.
_NUMBERS = {
    0xca: (FLOAT, struct.Struct('>f')), 0xcb: (FLOAT, struct.Struct('>d')),
    0xcc: (INTEGER, struct.Struct('>B')), 0xcd: (INTEGER, struct.Struct('>H')),
    0xce: (INTEGER, struct.Struct('>I')), 0xcf: (INTEGER, struct.Struct('>Q')),
    0xd0: (INTEGER, struct.Struct('>b')), 0xd1: (INTEGER, struct.Struct('>h')),
    0xd2: (INTEGER, struct.Struct('>i')), 0xd3: (INTEGER, struct.Struct('>q')),
}
# For all others: kind, number of bytes of the length, and the length if there are none.
_KINDS = {
    0xc0: (NIL, 0, 0), 0xc2: (FALSE, 0, 0), 0xc3: (TRUE, 0, 0),
    0xc4: (TEXT, 1, 0), 0xc5: (TEXT, 2, 0), 0xc6: (TEXT, 4, 0),
    0xc7: (EXTENSION, 1, 0), 0xc8: (EXTENSION, 2, 0), 0xc9: (EXTENSION, 4, 0),
    0xd4: (EXTENSION, 0, 1), 0xd5: (EXTENSION, 0, 2), 0xd6: (EXTENSION, 0, 4), 0xd7: (EXTENSION, 0, 8),
    0xd8: (EXTENSION, 0, 16),
    0xd9: (TEXT, 1, 0), 0xda: (TEXT, 2, 0), 0xdb: (TEXT, 4, 0),
    0xdc: (LIST, 2, 0), 0xdd: (LIST, 4, 0), 0xde: (MAP, 2, 0), 0xdf: (MAP, 4, 0),
}


class BadValue(ValueError):
    """The data is not valid msgpack, or exceeds the limits."""


class Reader:
    """Reads msgpack, one value at a time.

    Raises:
        BadValue: all methods raise it if the data is not valid or exceeds the limits.
    """

    def __init__(self, data: bytes):
        self._data = data
        self._at = 0
        self._left = _VALUES_MAX

    @property
    def is_done(self) -> bool:
        return self._at >= len(self._data)

    @property
    def position(self) -> int:
        """The number of bytes read."""
        return self._at

    def _take(self, count: int) -> bytes:
        start = self._at
        self._at += count
        if self._at > len(self._data):
            raise BadValue('a value is incomplete')
        return self._data[start:self._at]

    def head(self) -> tuple[int, Any]:
        """The kind of the next value and its content: a number, a text, or the number of items of a list or map."""
        self._left -= 1
        if self._left < 0:
            raise BadValue(f'it holds more than {_VALUES_MAX} values')
        first = self._take(1)[0]
        if first < 0x80:
            return INTEGER, first
        if first < 0x90:
            return MAP, first & 15
        if first < 0xa0:
            return LIST, first & 15
        if first < 0xc0:
            return TEXT, self._take(first & 31)
        if first >= 0xe0:
            return INTEGER, first - 256
        if first in _NUMBERS:
            kind, number = _NUMBERS[first]
            return kind, number.unpack(self._take(number.size))[0]
        if first not in _KINDS:
            raise BadValue('a value is of an unknown kind')
        kind, width, length = _KINDS[first]
        if width:
            length = int.from_bytes(self._take(width), 'big')
        if kind == TEXT:
            return kind, self._take(length)
        if kind == EXTENSION:
            return kind, b'extension %d: %s' % (self._take(1)[0], self._take(length).hex().encode())
        return kind, length

    def value(self) -> bytes:
        """The next value, packed."""
        out = bytearray()
        counts: list[int] = []          # for each open collection: number of values still to come
        ends: list[bytes] = []          # and the mark that ends it
        while True:
            kind, content = self.head()
            if kind in (LIST, MAP):
                if len(ends) == _DEEPEST:
                    raise BadValue(f'it is nested deeper than {_DEEPEST} levels')
                out += b'L' if kind == LIST else b'M'
                counts.append(content if kind == LIST else 2 * content)
                ends.append(b']' if kind == LIST else b'}')
            else:
                if kind == INTEGER or kind == FLOAT:
                    out += text(b'n', repr(content).encode())
                elif kind == TEXT or kind == EXTENSION:
                    out += text(b's', content)
                else:
                    out += {NIL: b'Z', FALSE: b'f', TRUE: b't'}[kind]
                if ends:
                    counts[-1] -= 1
            while ends and counts[-1] == 0:
                counts.pop()
                out += ends.pop()
                if ends:
                    counts[-1] -= 1
            if not ends:
                return bytes(out)

    def values(self) -> list[bytes]:
        """The items of the next value, which must be a list, packed."""
        kind, count = self.head()
        if kind != LIST:
            raise BadValue('it has no list of values')
        return [self.value() for _ in range(count)]

    def fields(self, wanted: dict[int, Callable[[Reader], Any]]) -> dict[int | None, Any]:
        """Reads the next value, which must be a map with integer keys.

        Args:
            wanted: the function that reads the value, by key. Other keys are skipped.

        Returns:
            The values by key; None is the key of a skipped value.
        """
        kind, count = self.head()
        if kind != MAP:
            raise BadValue('it has no map')
        methods = {text(b'n', b'%d' % key): (key, method) for key, method in wanted.items()}
        found: dict[int | None, Any] = {}
        for _ in range(count):
            key, method = methods.get(self.value(), (None, Reader.value))
            found[key] = method(self)
        return found


# Arguments of requests, for logs ---------------------------------------------------------------------------------------

def first_string(arguments: bytes) -> bytes | None:
    """The first item of a list in msgpack if it is a string; otherwise None."""
    try:
        reader = Reader(arguments)
        _, count = reader.head()
        kind, content = reader.head() if count else (None, None)
    except BadValue:
        return None
    return content if kind == TEXT else None


def source_of(arguments: bytes, most: int) -> bytes:
    """The items of a list in msgpack as Lua text, truncated to little more than `most` bytes."""
    reader, out = Reader(arguments), bytearray()
    open_ = []          # for each open collection: number of values still to come, and whether it is a map
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
    except BadValue as error:
        out += b' (%s)' % str(error).encode()
    return bytes(out)


_LUA_WORDS = {FALSE: b'false', TRUE: b'true'}
