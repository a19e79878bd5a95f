"""The greeting: 128 bytes in two lines. Tarantool's clients recognise a console by it."""
from __future__ import annotations

import re

__all__ = ['GREETING_BYTES', 'console_greeting', 'is_ours', 'protocol_of']

GREETING_BYTES = 128
_LINE_WIDTH = 63

# Clients match `Tarantool <x.y.z> (Lua console)`. The version is that of the Tarantool whose behaviour we copy.
_GREETING = re.compile(rb'Tarantool \d+\.\d+\.\d+\S* \((?:Lua console|(Binary))\)')
_CONSOLE_LINE = 'Tarantool 2.6.0 (Lua console)'


def console_greeting(version: str) -> bytes:
    """The greeting of a text console: two lines of 63 columns, each with a line feed."""
    second = f'boxsession {version}, \\help for help'
    return f'{_CONSOLE_LINE:<{_LINE_WIDTH}}\n{second[:_LINE_WIDTH]:<{_LINE_WIDTH}}\n'.encode()


def protocol_of(greeting: bytes) -> str | None:
    """The protocol of the server that sent a greeting: 'text' or 'binary'; None if this is not a greeting."""
    found = _GREETING.match(greeting)
    if found is None or len(greeting) < GREETING_BYTES:
        return None
    return 'binary' if found[1] else 'text'


def is_ours(greeting: bytes) -> bool:
    """Whether a greeting comes from a text console of boxsession, not of Tarantool."""
    return b'\nboxsession ' in greeting
