"""The greeting: 128 bytes in two lines, by which Tarantool's clients know a console."""
from __future__ import annotations

__all__ = ['GREETING_BYTES', 'console_greeting']

GREETING_BYTES = 128
_LINE_WIDTH = 63

# Clients match `Tarantool <x.y.z> (Lua console)`; the version is that of the console whose behaviour is kept.
_CONSOLE_LINE = 'Tarantool 2.6.0 (Lua console)'


def console_greeting(version: str) -> bytes:
    """Two lines of 63 columns, each with its line feed."""
    second = f'boxsession {version}, \\help for help'
    return f'{_CONSOLE_LINE:<{_LINE_WIDTH}}\n{second[:_LINE_WIDTH]:<{_LINE_WIDTH}}\n'.encode()
