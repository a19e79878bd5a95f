"""Log records as text. Calls no code of the program, and never raises.

A record's arguments are objects of the program. Texts, numbers, paths, dates and the like are formatted as logging does;
exceptions, too, if their text is made by Python's own code; objects of other classes are shown by their class.
"""
from __future__ import annotations

import datetime
import decimal
import pathlib
import uuid
import zoneinfo
from collections import deque
from types import TracebackType
from typing import Any

from boxsession.inspection.frames import utf8
from boxsession.inspection.shown import class_name, cut, shown

__all__ = ['exception_text', 'message', 'name_text']

# Characters of a message, of the text of an exception, and of one argument; calls of a traceback, the innermost ones.
_MESSAGE, _EXCEPTION, _ARGUMENT, _CALLS = 2000, 2000, 2000, 8
_NAME = 200
_BITS = 256
# Classes by their addresses: a comparison with a class may run code of its metaclass.
_PLAIN = {id(kind) for kind in (bool, float, type(None), uuid.UUID, decimal.Decimal, datetime.date, datetime.timedelta,
                                pathlib.PosixPath, pathlib.PurePosixPath)}
_TIMES = {id(datetime.datetime), id(datetime.time)}
_ZONES = {id(kind) for kind in (type(None), datetime.timezone, zoneinfo.ZoneInfo)}
_SIMPLE = {id(kind) for kind in (str, bytes, bool, int, float, type(None))}
# Exceptions whose __str__ shows their arguments only.
_ERRORS = {id(kind) for kind in (BaseException, KeyError, OSError)}
_MRO, _DICT, _ARGS = type.__dict__['__mro__'], type.__dict__['__dict__'], BaseException.__dict__['args']


class _As:
    """An argument that is shown as this text."""

    __slots__ = ('_text',)

    def __init__(self, text: str):
        self._text = text

    def __repr__(self) -> str:
        return self._text


def message(fields: dict[str, Any]) -> str:
    """The message of a record, cut, from the record's fields."""
    template, arguments = fields.get('msg'), fields.get('args')
    text = template if type(template) is str else str(_plain(template))
    try:
        if type(arguments) is tuple:
            if arguments:
                text %= tuple(map(_plain, arguments))
        elif type(arguments) is dict:
            text %= {name: _plain(value) for name, value in list(arguments.items()) if type(name) is str}
        elif arguments is not None:
            text = f'{text} {shown(arguments)}'
    except Exception:               # %d and an object that is shown by its class, for example
        text = f'{text} {shown(arguments)}'
    return cut(text, _MESSAGE)


def _plain(value: Any) -> Any:
    """An argument that can be formatted without code of the program."""
    kind = type(value)
    address = id(kind)
    if issubclass(kind, str):           # a text of another class is shown as what it holds
        return cut(value if kind is str else str.__getitem__(value, slice(0, 2 * _ARGUMENT)), _ARGUMENT)
    if kind is int:
        return value if value.bit_length() <= _BITS else _As(shown(value))
    if address in _PLAIN or address in _TIMES and id(type(value.tzinfo)) in _ZONES:
        return value
    if issubclass(kind, BaseException):
        return _As(_error(value))
    return _As(shown(value))


def name_text(name: Any) -> str:
    """The name of a record's logger, cut."""
    return utf8(str.__getitem__(name, slice(0, _NAME)) if issubclass(type(name), str) else shown(name))


def exception_text(fields: dict[str, Any]) -> str:
    """The exception of a record and its innermost calls, cut; '' without an exception."""
    info, text = fields.get('exc_info'), fields.get('exc_text')
    if type(info) is tuple and len(info) == 3 and issubclass(type(info[1]), BaseException):
        error = _error(info[1])
        lines = [f'{_kind(type(info[1]))}: {error}' if error else _kind(type(info[1]))]
        calls: deque[str] = deque(maxlen=_CALLS)
        found = info[2]
        while type(found) is TracebackType:
            code = found.tb_frame.f_code
            calls.append(f'  {code.co_filename}:{found.tb_lineno} {code.co_name}')
            found = found.tb_next
        return '\n'.join([cut(lines[0], _EXCEPTION // 2), *reversed(calls)])[:_EXCEPTION]
    return cut(text, _EXCEPTION) if type(text) is str else ''


def _kind(kind):
    return class_name(kind).removeprefix('builtins.')


def _error(error: BaseException) -> str:
    """The text of an exception, as str() gives it if that runs no code of the program."""
    arguments = _ARGS.__get__(error)
    for kind in _MRO.__get__(type(error)):
        own = _DICT.__get__(kind)
        if '__str__' in own:
            if id(kind) not in _ERRORS or any(id(type(argument)) not in _SIMPLE for argument in arguments):
                break
            if kind is OSError and id(type(OSError.__dict__['filename'].__get__(error))) not in _SIMPLE:
                break
            return cut(str(own['__str__'](error)), _ARGUMENT)
    return shown(arguments)
