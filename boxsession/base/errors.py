"""What can go wrong outside a statement. Each message says what was wrong and what to do about it."""
from __future__ import annotations

__all__ = ['BoxsessionError', 'ClientError', 'ConfigError', 'ListenError', 'ScriptError', 'StatementError', 'StoreError']


class Internal(BaseException):
    """The base of what this package throws into greenlets of its own. Never seen by users."""


class Stopped(Internal):
    """The console stops: nothing that runs for users may catch it."""


class BoxsessionError(Exception):
    """The base of all errors that this package raises on purpose."""


class ConfigError(BoxsessionError):
    """A setting is unknown, of the wrong type or impossible. One line for each problem found."""

    def __init__(self, problems: list[str]):
        super().__init__('\n'.join(problems))
        self.problems = problems


class ListenError(BoxsessionError):
    """An address cannot be listened on: `reason` says why, without the address."""

    def __init__(self, address: object, reason: str):
        super().__init__(f'cannot listen on {address}: {reason}')
        self.reason = reason


class ScriptError(BoxsessionError):
    """The init script cannot be read, does not compile or raised."""


class StatementError(BoxsessionError):
    """What a statement asked for cannot be done. The text is its error, word for word."""


class ClientError(BoxsessionError):
    """An error of Tarantool's, by the name of its code in lua/library/errors.lua, with what its message tells."""

    def __init__(self, name: str, *arguments: object):
        super().__init__(f'{name}: {", ".join(map(str, arguments))}')
        self.name = name
        self.arguments = arguments


class StoreError(BoxsessionError):
    """Users cannot be read or stored."""


class StatementCancelled(BaseException):
    """Raised inside an exposed Python function whose statement was cancelled."""
