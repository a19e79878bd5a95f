"""Python functions for Lua: calls them, and copies their arguments and results.

Values are passed as packed strings (values/packed.py). Lua has no references to Python objects.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping

from boxsession.base.errors import ClientError, StatementError, Stopped
from boxsession.lua.live import Whole
from boxsession.values.packed import Unpackable, pack, unpack

__all__ = ['Calls']

# Reads a type's name. A metaclass cannot change the result.
_TYPE_NAME = type.__dict__['__name__'].__get__


class Calls:
    """The Python functions that one Lua state can call, by number."""

    def __init__(self):
        self._functions: list[Callable] = []

    def services(self, table: Mapping[str, Callable]) -> bytes:
        """Adds services. Returns their numbers by name, packed."""
        return pack({name: self.number(function) for name, function in table.items()})

    def number(self, function: Callable) -> int:
        """Adds a function. Returns its number."""
        self._functions.append(function)
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
        try:
            result = self._functions[int(request[:colon])](*unpack(request, colon + 1, pause))
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
            return b'!' + pack(_described(error))


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
        return b'%s: its message cannot be shown' % _TYPE_NAME(type(error)).encode(errors='backslashreplace')
