"""Operations on sockets that the server and the client share."""
from __future__ import annotations

import socket
import struct
from typing import Any

__all__ = ['reset']

_LINGER_RESET = struct.pack('ii', 1, 0)


def reset(sock: Any) -> None:
    """Closes a connection with a reset, so that the other end stops work whose result nobody reads."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    except OSError:
        pass
    sock.close()
