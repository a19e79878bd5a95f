"""The greeting: 128 bytes in two lines. Tarantool's clients recognise a console by it."""
from __future__ import annotations

import re

__all__ = ['GREETING_BYTES', 'SERVICE_NAME', 'console_greeting', 'is_of_rescue', 'is_ours', 'process_of', 'protocol_of',
           'rescue_greeting']

GREETING_BYTES = 128
_LINE_WIDTH = 63

# Clients match `Tarantool <x.y.z> (Lua console)`. The version is that of the Tarantool whose behaviour we copy.
_GREETING = re.compile(rb'Tarantool \d+\.\d+\.\d+\S* \((?:Lua console|(Binary))\)')
# The characters of a service's name.
SERVICE_NAME = r'[A-Za-z0-9._-]+'
_PROCESS = re.compile(rb'\\help for help; pid (\d{1,9})(?:, (%s))? *\n' % SERVICE_NAME.encode())
_RESCUE = ' rescue'
_CONSOLE_LINE = 'Tarantool 2.6.0 (Lua console)'


def console_greeting(version: str, pid: int = 0, name: str = '') -> bytes:
    """The greeting of a text console: two lines of 63 columns, each with a line feed.

    Args:
        version: the version of boxsession.
        pid: the process of the console; 0 leaves it out.
        name: the name of the service (SERVICE_NAME). It is cut where the line ends.
    """
    second = f'boxsession {version}, \\help for help'
    if pid:
        second += f'; pid {pid}' + (f', {name}' if name else '')
    return f'{_CONSOLE_LINE:<{_LINE_WIDTH}}\n{second[:_LINE_WIDTH]:<{_LINE_WIDTH}}\n'.encode()


def rescue_greeting(version: str, pid: int, name: str) -> bytes:
    """The greeting of a rescue listener: like that of a text console, so that clients of one can use it."""
    return console_greeting(version + _RESCUE, pid, name)


def is_of_rescue(greeting: bytes) -> bool:
    """Whether a greeting comes from a rescue listener."""
    return is_ours(greeting) and f'{_RESCUE}, \\help'.encode() in greeting


def process_of(greeting: bytes) -> tuple[int, str]:
    """The process and the name of the service, from a console's greeting: 0 and '' if it does not tell them."""
    found = _PROCESS.search(greeting) if is_ours(greeting) else None
    return (int(found[1]), (found[2] or b'').decode()) if found else (0, '')


def protocol_of(greeting: bytes) -> str | None:
    """The protocol of the server that sent a greeting: 'text' or 'binary'; None if this is not a greeting."""
    found = _GREETING.match(greeting)
    if found is None or len(greeting) < GREETING_BYTES:
        return None
    return 'binary' if found[1] else 'text'


def is_ours(greeting: bytes) -> bool:
    """Whether a greeting comes from a text console of boxsession, not of Tarantool."""
    return b'\nboxsession ' in greeting
