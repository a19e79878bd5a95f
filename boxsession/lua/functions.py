"""Python functions for Lua: what is exposed, and how arguments and results are copied.

Values travel as packed strings (values/packed.py). Nothing that Lua holds refers to a Python object.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from boxsession.base.errors import ClientError, StatementError, Stopped
from boxsession.values.packed import pack, unpack

__all__ = ['Calls']

_NAME = re.compile('[A-Za-z_][A-Za-z0-9_]*')
_KEYWORDS = frozenset("""and break do else elseif end false for function if in local nil not or repeat return then true
                         until while""".split())
# The name of a type, whatever its metaclass says.
_TYPE_NAME = type.__dict__['__name__'].__get__


class Calls:
    """The functions that one Lua state can call, by number."""

    def __init__(self):
        self._functions: list[Callable] = []

    def describe(self, expose: Mapping[str, Any]) -> bytes:
        """What to make of each name, packed for library/expose.lua. Plain values are copied now."""
        for name in expose:
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _KEYWORDS or name == 'session':
                raise ValueError(f'cannot expose {name!r}: it is no name that Lua could use')
        return pack({name: self._spec(value, name) for name, value in expose.items()})

    def _spec(self, value, name):
        if isinstance(value, type) or callable(value) and not _public_methods(value):
            return {'call': self.number(value)}
        if isinstance(value, Mapping) and any(callable(inner) for inner in value.values()):
            return {'names': {key: self._spec(inner, f'{name}.{key}') for key, inner in value.items()}}
        try:
            return {'value': _checked(value)}
        except TypeError:
            methods = _public_methods(value)
            if not methods:
                raise ValueError(f'cannot expose {name!r}: {type(value).__name__} has no public methods') from None
            return {'names': {key: {'call': self.number(method)} for key, method in methods.items()}}

    def services(self, table: Mapping[str, Callable]) -> bytes:
        """The numbers of the program's own functions by name, packed."""
        return pack({name: self.number(function) for name, function in table.items()})

    def number(self, function: Callable) -> int:
        """The number by which Lua calls a function from now on."""
        self._functions.append(function)
        return len(self._functions) - 1

    def call(self, request: bytes, pause: Callable[[], None]) -> bytes:
        """Calls a function with packed arguments. Its result, packed, after '='; what it raised, in words, after
        '!', or as a list of an error's name and arguments after '^'.

        `pause` is called now and then while much is copied, to let others run; what it raises is told like anything else.
        """
        colon = request.index(b':')
        try:
            result = self._functions[int(request[:colon])](*unpack(request, colon + 1, pause))
            return b'=' + pack(result, pause)
        except StatementError as error:
            return b'!' + pack(str(error))
        except ClientError as error:
            return b'^' + pack([error.name, *error.arguments])
        except Stopped:
            raise
        except BaseException as error:          # also what is no Exception: a Timeout, sys.exit()
            return b'!' + pack(_described(error))


def _described(error: BaseException) -> bytes:
    """An exception's type and message. Both are code of whoever wrote it, and may fail."""
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


def _checked(value):
    pack(value)
    return value
