"""The client's end of the binary protocol: splits what a server sends into frames. Pure.

(The server's end has its own, in iproto.py: it reads on after an invalid request.)
"""
from __future__ import annotations

__all__ = ['BadLength', 'Frames']


class BadLength(Exception):
    """The bytes do not begin with the length of a frame, or the frame is too long.

    Attributes:
        length: the length, in bytes; None if there is none.
    """

    def __init__(self, length: int | None):
        super().__init__(length)
        self.length = length


class Frames:
    """Splits bytes into frames.

    Args:
        max_bytes: maximum length of a frame; 0 for no limit.
    """

    def __init__(self, max_bytes: int = 0):
        self.max_bytes = max_bytes
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> None:
        """Takes bytes from the server."""
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """The next frame without its length; None if more bytes are needed.

        Raises:
            BadLength: do not call this again.
        """
        buffer = self._buffer
        if not buffer:
            return None
        first = buffer[0]
        width = 1 << first - 0xcc if 0xcc <= first <= 0xcf else 0
        if not width and first >= 0x80:
            raise BadLength(None)
        if len(buffer) <= width:
            return None
        length = int.from_bytes(buffer[1:1 + width], 'big') if width else first
        if self.max_bytes and length > self.max_bytes:
            raise BadLength(length)
        end = 1 + width + length
        if len(buffer) < end:
            return None
        frame = bytes(memoryview(buffer)[1 + width:end])
        del buffer[:end]
        return frame
