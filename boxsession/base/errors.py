"""Errors outside of statements. Each message says what is wrong and what to do."""
from __future__ import annotations

__all__ = ['BoxsessionError', 'ClientError', 'ConfigError', 'ListenError', 'ScriptError', 'StatementError', 'StoreError',
           'printable', 'type_name']


# Reads a type's name. A metaclass cannot change the result.
_NAME_OF_TYPE = type.__dict__['__name__'].__get__


def type_name(error: BaseException) -> str:
    """The name of an exception's type. Runs no code of the program."""
    name: str = _NAME_OF_TYPE(type(error))
    return name


def printable(text: str) -> str:
    """A text of a user for an error message: control characters are escaped, line feeds, too."""
    return ''.join(character if character.isprintable() else repr(character)[1:-1] for character in text)


class Internal(BaseException):
    """Base of the exceptions that this package throws into its own greenlets. Users never see them."""


class Stopped(Internal):
    """The console stops. Code that runs for users must not catch it."""


class BoxsessionError(Exception):
    """Base of the errors that this package raises on purpose."""


class ConfigError(BoxsessionError):
    """Settings are unknown, have a wrong value, or cannot be used.

    Attributes:
        problems: one line for each problem.
    """

    def __init__(self, problems: list[str]):
        super().__init__('\n'.join(problems))
        self.problems = problems


class ListenError(BoxsessionError):
    """The server cannot listen on an address.

    Attributes:
        reason: why, without the address.
    """

    def __init__(self, address: object, reason: str):
        super().__init__(f'cannot listen on {address}: {reason}')
        self.reason = reason


class ScriptError(BoxsessionError):
    """The init script cannot be read, does not compile, or has raised an error."""


class StatementError(BoxsessionError):
    """A statement cannot do what it asked for. The message becomes the error of the statement, unchanged."""


class ClientError(BoxsessionError):
    """An error of Tarantool.

    Attributes:
        name: the name of its code, as in lua/library/errors.lua.
        arguments: the values for the placeholders of its message.
    """

    def __init__(self, name: str, *arguments: object):
        super().__init__(f'{name}: {", ".join(map(str, arguments))}')
        self.name = name
        self.arguments = arguments


class StoreError(BoxsessionError):
    """The file of users and grants cannot be read or written."""


class StatementCancelled(BaseException):
    """Raised in an exposed Python function when its statement is cancelled."""
