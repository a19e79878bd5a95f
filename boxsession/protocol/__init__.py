"""Protocol cores: bytes in, events out. They use no sockets, clocks or greenlets."""
