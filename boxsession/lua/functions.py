"""Python functions for Lua: exposes them, and copies their arguments and results.

Values are passed as packed strings (values/packed.py). Lua has no references to Python objects.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from boxsession.base.errors import ClientError, StatementError, Stopped
from boxsession.values.natural import NoValue, natural
from boxsession.values.packed import Unpackable, pack, unpack

__all__ = ['Calls']

_NAME = re.compile('[A-Za-z_][A-Za-z0-9_]*')
_KEYWORDS = frozenset("""and break do else elseif end false for function if in local nil not or repeat return then true
                         until while""".split())
# Reads a type's name. A metaclass cannot change the result.
_TYPE_NAME = type.__dict__['__name__'].__get__


class Calls:
    """The Python functions that one Lua state can call, by number."""

    def __init__(self):
        self._functions: list[Callable] = []

    def describe(self, expose: Mapping[str, Any]) -> bytes:
        """Packs a description of each exposed name for library/expose.lua. Plain values are copied now.

        Raises:
            ValueError: a name or a value cannot be exposed.
        """
        for name in expose:
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _KEYWORDS or name == 'session':
                raise ValueError(f'cannot expose {name!r}: expected the name of a Lua variable, other than `session`')
        return pack({name: self._spec(value, name) for name, value in expose.items()})

    def _spec(self, value, name):
        if isinstance(value, type) or callable(value) and not _public_methods(value):
            return {'call': self.number(value)}
        if isinstance(value, Mapping) and any(callable(inner) for inner in value.values()):
            return {'names': {key: self._spec(inner, f'{name}.{key}') for key, inner in value.items()}}
        methods = {} if _is_data(value) else _public_methods(value)
        if methods:
            return {'names': {key: {'call': self.number(method)} for key, method in methods.items()}}
        try:
            pack(value)
        except Unpackable as error:
            reason = error if _is_data(value) else f'{type(value).__name__} has no public methods'
            raise ValueError(f'cannot expose {name!r}: {reason}') from None
        return {'value': value}

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


def _public_methods(value) -> dict[str, Callable]:
    if callable(value) and (hasattr(value, '__code__') or hasattr(value, '__self__')):
        return {}
    methods = {}
    for name in dir(value):
        if not name.startswith('_'):
            member = getattr(value, name, None)
            if callable(member):
                methods[name] = member
    return methods


def _is_data(value) -> bool:
    """Whether a value is exposed as a copy. Other types, such as a deque or a dataclass, may have methods to expose."""
    return (value is None or isinstance(value, (int, float, str, bytes, bytearray, memoryview, Mapping, list, tuple, set,
                                                frozenset))
            or hasattr(type(value), '__serialize__') or not isinstance(natural(value), (list, dict, NoValue)))
