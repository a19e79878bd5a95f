"""Python functions for Lua: calls them, and copies their arguments and results.

Values are passed as packed strings (values/packed.py). Lua has no references to Python objects.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from boxsession.base.errors import ClientError, StatementCancelled, StatementError, Stopped, type_name
from boxsession.base.signals import hand_on
from boxsession.lua.live import LiveData, Whole
from boxsession.lua.signatures import secret_arguments
from boxsession.values.packed import Unpackable, pack, unpack

__all__ = ['Calls', 'Failed', 'call_program', 'ignore']


# Called with the name of a function, its exception, and its arguments that are secrets.
Failed = Callable[[str, BaseException, Collection[str]], None]


def ignore(_name: str, _error: BaseException, _secrets: Collection[str]) -> None:
    """Does nothing."""


def call_program(function: Callable, arguments: list[Any], pause: Callable[[], None]) -> Any:
    """Calls a function of the program. All of them are called here: inspection/stopper.py looks for this frame."""
    # In another thread (`call_in`) there is nothing to pause for.
    return function(*arguments, pause=pause) if type(function) is LiveData else function(*arguments)


class Calls:
    """The Python functions that one Lua state can call, by number.

    Args:
        failed: called if a function has raised an exception that is not one of this package.
        call_in: wraps the program's functions, so that they run in another thread. The console's own ones are not wrapped.
    """

    def __init__(self, failed: Failed = ignore, call_in: Callable[[Callable], Callable] = lambda function: function):
        self._functions: list[Callable] = []
        self._names: list[str] = []
        self._of_program: set[int] = set()
        self._failed = failed
        self._call_in = call_in

    def services(self, table: Mapping[str, Callable]) -> bytes:
        """Adds services. Returns their numbers by name, packed."""
        return pack({name: self.number(function, name) for name, function in table.items()})

    def number_of_program(self, function: Callable, name: str) -> int:
        """Adds a function of the program. Returns its number."""
        number = self.number(self._call_in(function), name)
        self._of_program.add(number)
        return number

    def number(self, function: Callable, name: str) -> int:
        """Adds a function. Returns its number."""
        self._functions.append(function)
        self._names.append(name)
        return len(self._functions) - 1

    def call(self, request: bytes, pause: Callable[[], None]) -> bytes:
        """Calls a function.

        Args:
            request: the function's number, ':', and the packed arguments.
            pause: lets other tasks run. Called from time to time while large values are copied.

        Returns:
            '=' and the packed result; '!' and the packed text of an exception; or '^' and a packed list of the name and
            arguments of one of Tarantool's errors.
        """
        colon = request.index(b':')
        number = int(request[:colon])
        arguments: list[Any] = []
        try:
            arguments = unpack(request, colon + 1, pause)
            function = self._functions[number]
            result = call_program(function, arguments, pause) if number in self._of_program else function(*arguments)
            if isinstance(result, Whole):
                return b'=' + pack(result.value, pause, Whole.other)
            return b'=' + pack(result, pause)
        except StatementError as error:
            return b'!' + pack(str(error))
        except ClientError as error:
            return b'^' + pack([error.name, *error.arguments])
        except Unpackable as error:
            return b'!' + pack(f'{error.kind}: {error}')
        except Stopped:
            raise
        except BaseException as error:          # gevent.Timeout and SystemExit are no Exception
            self._tell(number, arguments, error)
            return b'!' + pack(_described(error))

    def _tell(self, number, arguments, error):
        if not isinstance(error, StatementCancelled):
            hand_on(error)
            self._failed(self._names[number], error, secret_arguments(self._functions[number], arguments))


def _described(error: BaseException) -> bytes:
    """An exception's type and message. Reading them may run code of the program, which may fail."""
    try:
        name, text = type(error).__name__, str(error)
        described = f'{name}: {text}' if text else name
        try:
            return str.encode(described, errors='surrogateescape')
        except UnicodeEncodeError:
            return str.encode(described, errors='backslashreplace')
    except Stopped:
        raise
    except BaseException:
        return b'%s: its message cannot be shown' % type_name(error).encode(errors='backslashreplace')
