"""The greeting: 128 bytes in two lines, by which Tarantool's clients know a console."""
from __future__ import annotations

import re

__all__ = ['GREETING_BYTES', 'console_greeting', 'is_ours', 'protocol_of']

GREETING_BYTES = 128
_LINE_WIDTH = 63

# Clients match `Tarantool <x.y.z> (Lua console)`; the version is that of the console whose behaviour is kept.
_GREETING = re.compile(rb'Tarantool \d+\.\d+\.\d+\S* \((?:Lua console|(Binary))\)')
_CONSOLE_LINE = 'Tarantool 2.6.0 (Lua console)'


def console_greeting(version: str) -> bytes:
    """Two lines of 63 columns, each with its line feed."""
    second = f'boxsession {version}, \\help for help'
    return f'{_CONSOLE_LINE:<{_LINE_WIDTH}}\n{second[:_LINE_WIDTH]:<{_LINE_WIDTH}}\n'.encode()


def protocol_of(greeting: bytes) -> str | None:
    """What a server speaks, 'text' or 'binary', by its greeting; None where this is none."""
    found = _GREETING.match(greeting)
    if found is None or len(greeting) < GREETING_BYTES:
        return None
    return 'binary' if found[1] else 'text'


def is_ours(greeting: bytes) -> bool:
    """Whether a text console is one of ours, not Tarantool's."""
    return b'\nboxsession ' in greeting
