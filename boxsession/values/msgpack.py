"""Reads msgpack without making Python objects of it: values go straight to packed strings (values/packed.py), or to text.

So any key of a map is fine, no key collides with another one, and the memory that is needed is a small multiple of the
length. Pure.
"""
from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from boxsession.values.packed import text

__all__ = ['BadValue', 'Reader', 'first_string', 'source_of']

# A frame with more values, or deeper ones, is refused.
_VALUES_MAX, _DEEPEST = 2_000_000, 400

# Kinds of values.
NIL, FALSE, TRUE, INTEGER, FLOAT, TEXT, EXTENSION, LIST, MAP = range(9)
# What a first byte from 0xc0 on means. Of a number: its kind and format.
_NUMBERS = {
    0xca: (FLOAT, struct.Struct('>f')), 0xcb: (FLOAT, struct.Struct('>d')),
    0xcc: (INTEGER, struct.Struct('>B')), 0xcd: (INTEGER, struct.Struct('>H')),
    0xce: (INTEGER, struct.Struct('>I')), 0xcf: (INTEGER, struct.Struct('>Q')),
    0xd0: (INTEGER, struct.Struct('>b')), 0xd1: (INTEGER, struct.Struct('>h')),
    0xd2: (INTEGER, struct.Struct('>i')), 0xd3: (INTEGER, struct.Struct('>q')),
}
# Of all others: kind, how many bytes of length follow, and the length where none do.
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
    """What came is no msgpack, or over the limits."""


class Reader:
    """Reads msgpack, a value at a time.

    Raises:
        BadValue: by all methods, where it is not valid, or over the limits.
    """

    def __init__(self, data: bytes):
        self._data = data
        self._at = 0
        self._left = _VALUES_MAX

    @property
    def is_done(self) -> bool:
        return self._at >= len(self._data)

    def _take(self, count: int) -> bytes:
        start = self._at
        self._at += count
        if self._at > len(self._data):
            raise BadValue('a value is cut off')
        return self._data[start:self._at]

    def head(self) -> tuple[int, Any]:
        """The next value's kind, and its content: a number, a text, how many values a collection has."""
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
            raise BadValue('a value of no known kind')
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
        counts: list[int] = []          # of each collection that is open: how many values are to come
        ends: list[bytes] = []          # and what ends it
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
        """The values of the list that comes next, packed."""
        kind, count = self.head()
        if kind != LIST:
            raise BadValue('it holds no list of values')
        return [self.value() for _ in range(count)]

    def fields(self, wanted: dict[int, Callable[[Reader], Any]]) -> dict[int | None, Any]:
        """The map that comes next: of the keys in `wanted`, what their methods read. All others are passed over."""
        kind, count = self.head()
        if kind != MAP:
            raise BadValue('there is no map')
        methods = {text(b'n', b'%d' % key): (key, method) for key, method in wanted.items()}
        found: dict[int | None, Any] = {}
        for _ in range(count):
            key, method = methods.get(self.value(), (None, Reader.value))
            found[key] = method(self)
        return found


# Requests' arguments, for people ---------------------------------------------------------------------------------------

def first_string(arguments: bytes) -> bytes | None:
    """The first of a list's values, given in msgpack, where it is a string."""
    try:
        reader = Reader(arguments)
        _, count = reader.head()
        kind, content = reader.head() if count else (None, None)
    except BadValue:
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
    except BadValue as error:
        out += b' (%s)' % str(error).encode()
    return bytes(out)


_LUA_WORDS = {FALSE: b'false', TRUE: b'true'}
