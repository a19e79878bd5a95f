"""What a server of the binary protocol answers: bytes in, answers out. Pure.

Values do not become Python objects: they go straight from msgpack to the grammar of `boxsession.output.tagged`. So any key
of a map is fine, no key collides with another one, and the memory that a frame takes is a small multiple of its length.
"""
from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ['EXTENSION', 'FALSE', 'FLOAT', 'INTEGER', 'LIST', 'MAP', 'NEED_DATA', 'NIL', 'TEXT', 'TRUE', 'Answer', 'Answers',
           'BadAnswer', 'Reader']

NEED_DATA = None
_TYPE, _SYNC, _DATA, _MESSAGE = 0, 1, 0x30, 0x31
_PUSH, _ERROR_BIT = 128, 0x8000
# A frame with more values, or deeper ones, is refused.
_VALUES_MAX, _DEEPEST = 2_000_000, 400

# Kinds of values.
NIL, FALSE, TRUE, INTEGER, FLOAT, TEXT, EXTENSION, LIST, MAP = range(9)
# What a first byte from 0xc0 on means: kind, how many bytes of length or number follow, a fixed length or a format.
_KINDS = {
    0xc0: (NIL, 0, 0), 0xc2: (FALSE, 0, 0), 0xc3: (TRUE, 0, 0),
    0xc4: (TEXT, 1, 0), 0xc5: (TEXT, 2, 0), 0xc6: (TEXT, 4, 0),
    0xc7: (EXTENSION, 1, 0), 0xc8: (EXTENSION, 2, 0), 0xc9: (EXTENSION, 4, 0),
    0xca: (FLOAT, 4, '>f'), 0xcb: (FLOAT, 8, '>d'),
    0xcc: (INTEGER, 1, '>B'), 0xcd: (INTEGER, 2, '>H'), 0xce: (INTEGER, 4, '>I'), 0xcf: (INTEGER, 8, '>Q'),
    0xd0: (INTEGER, 1, '>b'), 0xd1: (INTEGER, 2, '>h'), 0xd2: (INTEGER, 4, '>i'), 0xd3: (INTEGER, 8, '>q'),
    0xd4: (EXTENSION, 0, 1), 0xd5: (EXTENSION, 0, 2), 0xd6: (EXTENSION, 0, 4), 0xd7: (EXTENSION, 0, 8),
    0xd8: (EXTENSION, 0, 16),
    0xd9: (TEXT, 1, 0), 0xda: (TEXT, 2, 0), 0xdb: (TEXT, 4, 0),
    0xdc: (LIST, 2, 0), 0xdd: (LIST, 4, 0), 0xde: (MAP, 2, 0), 0xdf: (MAP, 4, 0),
}


class BadAnswer(ValueError):
    """What came is no answer of the binary protocol, or one over the limits."""


@dataclass(slots=True)
class Answer:
    """What a server sends.

    Attributes:
        kind: 'ok', 'error' or 'push'.
        values: what it gives, each value packed (`boxsession.output.tagged`); for an error, its message alone.
    """

    kind: str
    sync: int
    values: list[bytes]


class Reader:
    """Reads msgpack, a value at a time.

    Raises:
        BadAnswer: by all methods, where it is not valid, or over the limits.
    """

    def __init__(self, data: bytes):
        self._data = data
        self._at = 0
        self._left = _VALUES_MAX

    @property
    def is_done(self) -> bool:
        return self._at >= len(self._data)

    def _take(self, count):
        start = self._at
        self._at += count
        if self._at > len(self._data):
            raise BadAnswer('a value is cut off')
        return self._data[start:self._at]

    def head(self):
        """The next value's kind, and its content: a number, a text, how many values a collection has."""
        self._left -= 1
        if self._left < 0:
            raise BadAnswer(f'it holds more than {_VALUES_MAX} values')
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
        kind, width, more = _KINDS.get(first) or (None, 0, 0)
        if kind is None:
            raise BadAnswer('a value of no known kind')
        number = self._take(width)
        if kind == INTEGER or kind == FLOAT:
            return kind, struct.unpack(more, number)[0]
        length = int.from_bytes(number, 'big') if width else more
        if kind == TEXT:
            return kind, self._take(length)
        if kind == EXTENSION:
            return kind, b'extension %d: %s' % (self._take(1)[0], self._take(length).hex().encode())
        return kind, length

    def value(self) -> bytes:
        """The next value, packed."""
        out = bytearray()
        open_ = []              # of each collection that is open: how many values are to come, and what ends it
        while True:
            kind, content = self.head()
            if kind == LIST or kind == MAP:
                if len(open_) == _DEEPEST:
                    raise BadAnswer(f'it is nested deeper than {_DEEPEST} levels')
                out += b'L' if kind == LIST else b'M'
                open_.append([content, b']'] if kind == LIST else [2 * content, b'}'])
            else:
                if kind == INTEGER or kind == FLOAT:
                    content = repr(content).encode()
                    out += b'n%d:%s' % (len(content), content)
                elif kind == TEXT or kind == EXTENSION:
                    out += b's%d:' % len(content)
                    out += content
                else:
                    out += {NIL: b'Z', FALSE: b'f', TRUE: b't'}[kind]
                if open_:
                    open_[-1][0] -= 1
            while open_ and open_[-1][0] == 0:
                out += open_.pop()[1]
                if open_:
                    open_[-1][0] -= 1
            if not open_:
                return bytes(out)

    def values(self) -> list[bytes]:
        """The values of the list that comes next, packed."""
        kind, count = self.head()
        if kind != LIST:
            raise BadAnswer('it holds no list of values')
        return [self.value() for _ in range(count)]

    def fields(self, wanted: dict[int, Callable]) -> dict:
        """The map that comes next: of the keys in `wanted`, what their methods read. All others are passed over."""
        kind, count = self.head()
        if kind != MAP:
            raise BadAnswer('there is no map')
        methods = {b'n%d:%d' % (len(str(key)), key): (key, method) for key, method in wanted.items()}
        found = {}
        for _ in range(count):
            key, method = methods.get(self.value(), (None, Reader.value))
            found[key] = method(self)
        return found


def _number(packed: bytes) -> int:
    mark, _, digits = packed.partition(b':')
    try:
        if mark[:1] == b'n':
            return int(digits)
    except ValueError:
        pass
    raise BadAnswer('its header has no numbers')


class Answers:
    """What comes from a server.

    Args:
        max_bytes: the longest frame; 0 for no limit.
    """

    def __init__(self, max_bytes: int = 0):
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> None:
        """Takes what came."""
        self._buffer += data

    def next_event(self) -> Answer | None:
        """The next answer, or NEED_DATA.

        Raises:
            BadAnswer: this is no answer, or one over the limits; nothing may be read any more.
        """
        buffer = self._buffer
        if not buffer:
            return NEED_DATA
        first = buffer[0]
        width = 1 << first - 0xcc if 0xcc <= first <= 0xcf else 0
        if not width and first >= 0x80:
            raise BadAnswer('it does not begin with a length')
        if len(buffer) <= width:
            return NEED_DATA
        length = int.from_bytes(buffer[1:1 + width], 'big') if width else first
        if self._max_bytes and length > self._max_bytes:
            raise BadAnswer(f'it is {length} bytes long, and --max-reply is {self._max_bytes}')
        if len(buffer) < 1 + width + length:
            return NEED_DATA
        frame = bytes(memoryview(buffer)[1 + width:1 + width + length])
        del buffer[:1 + width + length]
        return self._answer(Reader(frame))

    @staticmethod
    def _answer(reader):
        header = reader.fields({_TYPE: Reader.value, _SYNC: Reader.value})
        kind, sync = _number(header.get(_TYPE, b'n1:0')), _number(header.get(_SYNC, b'n1:0'))
        body = {} if reader.is_done else reader.fields({_DATA: Reader.values, _MESSAGE: Reader.value})
        if kind & _ERROR_BIT:
            return Answer('error', sync, [body.get(_MESSAGE, b's10:no message')])
        if kind not in (0, _PUSH):
            raise BadAnswer(f'it is of type {kind}')
        return Answer('push' if kind == _PUSH else 'ok', sync, body.get(_DATA, []))
