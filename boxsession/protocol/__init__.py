"""Wire protocols without a wire: bytes in, events out. Nothing here knows a socket, a clock or a greenlet."""
