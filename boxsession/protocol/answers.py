"""What a server of the binary protocol answers: bytes in, answers out. Pure.

Values do not become Python objects: they go straight from msgpack to the grammar of `boxsession.values.packed`.
"""
from __future__ import annotations

from dataclasses import dataclass

from boxsession.values.msgpack import BadValue, Reader

__all__ = ['NEED_DATA', 'Answer', 'Answers', 'BadAnswer']

NEED_DATA = None
_TYPE, _SYNC, _DATA, _MESSAGE = 0, 1, 0x30, 0x31
_PUSH, _ERROR_BIT = 128, 0x8000

class BadAnswer(ValueError):
    """What came is no answer of the binary protocol, or one over the limits."""


@dataclass(slots=True)
class Answer:
    """What a server sends.

    Attributes:
        kind: 'ok', 'error' or 'push'.
        values: what it gives, each value packed (`boxsession.values.packed`); for an error, its message alone.
    """

    kind: str
    sync: int
    values: list[bytes]


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
        try:
            return self._answer(Reader(frame))
        except BadValue as error:
            raise BadAnswer(str(error)) from None

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
