"""Values of the program as short text. Calls no code of the program: no repr, no property, no iterator.

Only a caller that passes `describe` lets code run: this function makes the text of objects of the program's classes.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from boxsession.base.redaction import ANY, redacted
from boxsession.inspection.frames import utf8

__all__ = ['Describe', 'assignment', 'class_name', 'cut', 'module_name', 'named', 'shown']

# Characters of a string, items of a collection, and levels of nesting that are shown; bytes of a whole value.
_CHARACTERS, _ITEMS, _LEVELS, _BYTES = 100, 10, 3, 500
# Types by their addresses: a comparison with a class may call code of its metaclass.
_SCALARS = {id(kind) for kind in (bool, int, float, complex, type(None))}
_TEXTS = {id(kind) for kind in (str, bytes, bytearray)}
_BRACKETS = {id(list): '[]', id(tuple): '()', id(set): '{}', id(frozenset): '{}', id(dict): '{}'}
# An int of more bits is not written out: that takes quadratic time.
_BITS = 256


# A password of `user:password@host` whose end is cut off cannot be recognized: its beginning is removed at the cut.
_END_OF_PASSWORD, _PASSWORD = re.compile(r'[^\s@]{0,1000}@'), re.compile(r':[^\s@]{0,1000}\Z')
_END_OF_BYTES, _PASSWORD_BYTES = re.compile(rb'[^\s@]{0,1000}@'), re.compile(rb':[^\s@]{0,1000}\Z')


# Takes an object and the name of its class.
Describe = Callable[[Any, str], str]


def shown(value: Any, describe: Describe | None = None, level: int = 0) -> str:
    """The value as text, cut. Without `describe`, objects of the program's classes are shown by their class."""
    kind = type(value)
    if id(kind) in _SCALARS:
        return f'<int of {value.bit_length()} bits>' if kind is int and value.bit_length() > _BITS else repr(value)
    if id(kind) in _TEXTS:
        return repr(cut(value, _CHARACTERS)) + (f'... ({len(value)})' if len(value) > _CHARACTERS else '')
    if id(kind) in _BRACKETS:
        return _collection(value, kind, describe, level)
    if kind is type:
        return f'<class {class_name(value)}>'
    return describe(value, class_name(kind)) if describe is not None else f'<{class_name(kind)}>'


def cut(value: Any, most: int) -> Any:
    """The first characters of a str, or bytes of a bytes or bytearray, without the part of a password in a URL."""
    if len(value) <= most:
        return value
    part = value[:most]
    if type(value) is str:
        return _PASSWORD.sub(':***', part) if _END_OF_PASSWORD.match(value, most) else part
    return _PASSWORD_BYTES.sub(b':***', part) if _END_OF_BYTES.match(value, most) else part


def _collection(value, kind, describe, level):
    brackets = _BRACKETS[id(kind)]
    opening, closing = brackets[0], brackets[1]
    if level == _LEVELS:
        return f'{opening}... ({len(value)}){closing}'
    try:
        if kind is dict:
            items = [f'{shown(key, describe, level + 1)}: {named(key, shown(item, describe, level + 1))}'
                     for key, item in _first(value.items())]
        else:
            items = [shown(item, describe, level + 1) for item in _first(value)]
    except RuntimeError:        # another thread has changed it meanwhile
        return f'<{kind.__name__} that changes>'
    return opening + ', '.join(items) + (f', ... ({len(value)})' if len(value) > len(items) else '') + closing


def _first(iterable):
    return [item for item, _ in zip(iterable, range(_ITEMS), strict=False)]


def class_name(kind: type) -> str:
    """The module and name of a class. No code of its metaclass runs."""
    module, name = module_name(kind), type.__dict__['__qualname__'].__get__(kind)
    if type(name) is not str:           # of a class of the program
        name = str.__getitem__(name, slice(None))
    return f'{module}.{name}' if module else name


def module_name(kind: type) -> str:
    """The module of a class; '' if that is no text. No code of its metaclass runs."""
    module = type.__dict__['__module__'].__get__(kind)
    return module if type(module) is str else ''


def assignment(name: str, value: Any, describe: Describe | None = None) -> str:
    """The text of a variable's value. A secret, by the name of the variable or by the value, is cut out."""
    return named(name, shown(value, describe))


def named(name: Any, text: str) -> str:
    """The text of a value of this name. A secret, by the name or by the text, is cut out."""
    text = utf8(text)
    if type(name) is bytes:             # as headers of HTTP
        name = name.decode(errors='replace')
    if type(name) is not str or len(name) > _CHARACTERS:
        return text
    name = utf8(name)
    return redacted(f'{name} = {text}'.encode(), _BYTES, languages=ANY).removeprefix(f'{name} = ')
