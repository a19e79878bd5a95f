"""Python functions for Lua: what is exposed, and how arguments and results are copied.

Values travel as packed strings (boxsession/lua/expose.lua has the grammar, output/tagged.py reads it). Nothing that Lua
holds refers to a Python object.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from boxsession.errors import ClientError, StatementError, Stopped
from boxsession.output.tagged import tokens

__all__ = ['Calls']

# Above this a Lua number no longer holds every whole number.
_EXACT_MAX = 2 ** 53
_DEEPEST = 100
# Tokens between two pauses; what has fewer bytes is unpacked without any.
_STEP = 256
_SHORT = 1 << 12
_GONE = object()
_NAME = re.compile('[A-Za-z_][A-Za-z0-9_]*')
_KEYWORDS = frozenset("""and break do else elseif end false for function if in local nil not or repeat return then true
                         until while""".split())
# The name of a type, whatever its metaclass says.
_TYPE_NAME = type.__dict__['__name__'].__get__
_WORDS = {'N': None, 'Z': None, 't': True, 'f': False}


class Calls:
    """The functions that one Lua state can call, by number."""

    def __init__(self):
        self._functions: list[Callable] = []

    def describe(self, expose: Mapping[str, Any]) -> bytes:
        """What to make of each name, packed for expose.lua. Plain values are copied now."""
        for name in expose:
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _KEYWORDS or name == 'session':
                raise ValueError(f'cannot expose {name!r}: it is no name that Lua could use')
        return pack({name: self._spec(value, name) for name, value in expose.items()})

    def _spec(self, value, name):
        if isinstance(value, type) or callable(value) and not _public_methods(value):
            return {'call': self._number(value)}
        if isinstance(value, Mapping) and any(callable(inner) for inner in value.values()):
            return {'names': {key: self._spec(inner, f'{name}.{key}') for key, inner in value.items()}}
        try:
            return {'value': _checked(value)}
        except TypeError:
            methods = _public_methods(value)
            if not methods:
                raise ValueError(f'cannot expose {name!r}: {type(value).__name__} has no public methods') from None
            return {'names': {key: {'call': self._number(method)} for key, method in methods.items()}}

    def services(self, table: Mapping[str, Callable]) -> bytes:
        """The numbers of the program's own functions by name, packed."""
        return pack({name: self._number(function) for name, function in table.items()})

    def _number(self, function):
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


def _go_on() -> None:
    pass


def pack(value, pause: Callable[[], None] = _go_on) -> bytes:
    """A Python value for Lua. Bytes and str become strings, lists and tuples lists, mappings maps.

    Others may change the value whenever `pause` lets them in: what is packed of each collection is what it held when its
    turn came, without the keys that a mapping has lost since.

    Raises:
        TypeError: it is none of these and has no `__serialize__`.
        ValueError: it is nested too deep, or an integer that a Lua number cannot hold exactly.
    """
    out: list[bytes] = []
    done: list[bytes] = []
    _pack(out, value, 0, done, pause)
    if not done:
        return b''.join(out)
    done.append(b''.join(out))
    return b''.join(done)


def _pack(out, value, depth, done, pause):
    if depth > _DEEPEST:
        raise ValueError(f'value is nested deeper than {_DEEPEST}')
    if len(out) > _STEP:
        done.append(b''.join(out))
        out.clear()
        pause()
    if value is None:
        out.append(b'Z' if depth else b'N')
    elif value is True or value is False:
        out.append(b't' if value else b'f')
    elif isinstance(value, int):
        value = int.__int__(value)              # subclasses may say otherwise
        if not -_EXACT_MAX <= value <= _EXACT_MAX:
            raise ValueError(f'integer {value} does not fit a Lua number exactly: return it as a string')
        _pack_text(out, b'n', b'%d' % value)
    elif isinstance(value, float):
        _pack_text(out, b'n', float.__repr__(value).encode())
    elif isinstance(value, str):
        _pack_text(out, b's', str.encode(value, errors='surrogateescape'))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        _pack_text(out, b's', memoryview(value).tobytes())
    elif isinstance(value, Mapping):
        out.append(b'M')
        for key in tuple(value):
            item = value.get(key, _GONE)
            if item is _GONE:
                continue
            if key is None or key != key:
                raise ValueError(f'{key!r} cannot be a key in Lua')
            _pack(out, key, depth + 1, done, pause)
            _pack(out, item, depth + 1, done, pause)
        out.append(b'}')
    elif isinstance(value, (list, tuple, set, frozenset)):
        out.append(b'L')
        for item in tuple(value):
            _pack(out, item, depth + 1, done, pause)
        out.append(b']')
    elif hasattr(type(value), '__serialize__'):
        _pack(out, value.__serialize__(), depth + 1, done, pause)
    else:
        raise TypeError(f'{type(value).__name__} cannot be passed to Lua: give it __serialize__, or return plain data')


def _pack_text(out, mark, text):
    out.append(b'%s%d:%s' % (mark, len(text), text))


def unpack(packed: bytes, start: int = 0, pause: Callable[[], None] = _go_on):
    """A value that Lua packed. Strings come as str where they are UTF-8 and as bytes where not, whole numbers as int."""
    stream = tokens(packed, start)
    if len(packed) > _SHORT:
        stream = _pausing(stream, pause)
    return _unpack(next(stream), stream)


def _pausing(stream, pause):
    for number, token in enumerate(stream):
        if not number % _STEP:
            pause()
        yield token


def _unpack(token, stream):
    mark, data = token
    if mark == 's':
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data
    if mark == 'n':
        number = float(data)
        return int(number) if number.is_integer() else number
    if mark == 'L':
        items = []
        for inner in stream:
            if inner[0] == ']':
                break
            items.append(_unpack(inner, stream))
        return items
    if mark == 'M':
        mapping = {}
        for inner in stream:
            if inner[0] == '}':
                break
            key = _unpack(inner, stream)
            if isinstance(key, (list, dict)):
                raise ValueError('a table cannot be a key in Python')
            mapping[key] = _unpack(next(stream), stream)
        return mapping
    return _WORDS[mark]
