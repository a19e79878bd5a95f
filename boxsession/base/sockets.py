"""What is done to sockets at either end of a connection."""
from __future__ import annotations

import socket
import struct
from typing import Any

__all__ = ['reset']

_LINGER_RESET = struct.pack('ii', 1, 0)


def reset(sock: Any) -> None:
    """Ends a connection with a reset: what runs at the other end is to know that nobody waits."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    except OSError:
        pass
    sock.close()
