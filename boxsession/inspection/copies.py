"""Copies of values of the program, for a reader that makes text of them later. Pure: no code of the program runs.

A copy is made inside of a call of the program. So it is cheap: at most some hundred parts, and no secrets are searched. The
text is made, without secrets, by the reader.
"""
from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections import deque
from itertools import chain, islice
from types import MemberDescriptorType
from typing import Any, NamedTuple

from boxsession.base.secret_words import is_sensitive
from boxsession.inspection.frames import utf8
from boxsession.inspection.shown import class_name, module_name, named, shown
from boxsession.inspection.static import in_class, variables

__all__ = ['DEPTH', 'Copier', 'Copy', 'text_of']

# Levels of nesting, unless the caller wants others; items of a collection; parts of all copies of one
# call; characters of a text; and of the first item of a pair that may say that the second is a secret.
DEPTH, _ITEMS, _PARTS, _CHARACTERS, _HEADER = 2, 10, 300, 4000, 40
_COLLECTIONS = {id(list): '[]', id(tuple): '()', id(set): '{}', id(frozenset): '{}', id(dict): '{}'}
# The methods of these iterate over any object of a subclass, without its own code.
_BASES: tuple[tuple[Any, str], ...] = (
    (dict, '{}'), (list, '[]'), (tuple, '()'), (set, '{}'), (frozenset, '{}'), (deque, '[]'))
_ZONES = {id(type(None)), id(datetime.timezone)}
_SLOTS, _DIGITS_SIZE = 30, 300
_PLAIN = {id(kind) for kind in (str, bytes, bytearray, bool, int, float, complex, type(None))}


class Copy(NamedTuple):
    """A collection or an object.

    Attributes:
        opening, closing: what is around its items.
        items: a key or a name as text ('' for another key; None: the name of the whole); the text before the item; and the
            copy of the item.
        length: the number of all items.
    """

    opening: str
    closing: str
    items: list[tuple[Any, str, str | Copy]]
    length: int


class Copier:
    """Copies the values of one call.

    Args:
        depth: levels of nesting. 0: only plain values.
    """

    def __init__(self, depth: int = DEPTH):
        self._depth = depth
        self._left = _PARTS

    def copy(self, value: Any, level: int = 0) -> str | Copy:
        """A copy of a value: the text of a plain one."""
        kind = type(value)
        key = id(kind)
        if key in _PLAIN:
            return shown(value)
        self._left -= 1
        if level >= self._depth or self._left <= 0:
            return _folded(value, kind)
        try:
            brackets = _COLLECTIONS.get(key)
            if brackets is None:
                return self._object(value, kind, level)
            if kind is dict:
                items = [(_name(name), f'{_key(name)}: ', self.copy(item, level + 1))
                         for name, item in islice(value.items(), _ITEMS)]
            else:
                items = [(None, '', self.copy(item, level + 1)) for item in islice(value, _ITEMS)]
            return Copy(brackets[0], brackets[1], items, len(value))
        except RuntimeError:                # another thread has changed it meanwhile
            return f'<{kind.__name__} that changes>'

    def _object(self, value, kind, level):
        if issubclass(kind, BaseException):
            return f'{class_name(kind).removeprefix("builtins.")}{shown(BaseException.__dict__["args"].__get__(value))}'
        if issubclass(kind, type):
            return f'<class {class_name(value)}>'
        text = _of_library(value, kind)
        if text:
            return text
        if issubclass(kind, str):
            return f'<{class_name(kind)} {shown(str.__str__(value))}>'
        for base, brackets in _BASES:
            if issubclass(kind, base):
                return self._subclass(value, kind, base, brackets, level)
        own, slots = variables(value), _slots(value, kind)
        if not own and not slots or module_name(kind) in ('builtins', 'types'):
            return f'<{class_name(kind)}>'
        fields = islice(chain(slots.items(), own.items()), _ITEMS)
        items = [(name, f'{name}=', self.copy(item, level + 1)) for name, item in fields if type(name) is str]
        return Copy(f'<{class_name(kind)} ', '>', items, len(own) + len(slots))

    def _subclass(self, value, kind, base, brackets, level):
        """A collection of another class: `<collections.Counter {'tea': 2}>`; a named tuple with its names."""
        length = base.__len__(value)
        fields = in_class(kind, '_fields') if base is tuple else None
        if base is dict:
            items = [(_name(name), f'{_key(name)}: ', self.copy(item, level + 1))
                     for name, item in islice(dict.items(value), _ITEMS)]
        elif type(fields) is tuple and len(fields) == length and all(type(name) is str for name in fields):
            items = [(name, f'{name}=', self.copy(item, level + 1))
                     for name, item in islice(zip(fields, tuple.__iter__(value), strict=True), _ITEMS)]
            brackets = ('', '')
        else:
            items = [(None, '', self.copy(item, level + 1)) for item in islice(base.__iter__(value), _ITEMS)]
        return Copy(f'<{class_name(kind)} {brackets[0]}', f'{brackets[1]}>', items, length)


def _of_library(value, kind):
    """The text of a value of Python's library that is no collection; '' for others. No code of a subclass runs."""
    if kind is decimal.Decimal and decimal.Decimal.__sizeof__(value) <= _DIGITS_SIZE:
        return f"Decimal('{value}')"
    if kind is datetime.datetime:
        zone = type(value.tzinfo)
        more = '' if id(zone) in _ZONES else f' {class_name(zone)}'
        return f'<datetime {(value.replace(tzinfo=None) if more else value).isoformat()}{more}>'
    if kind is datetime.date:
        return f'<date {value.isoformat()}>'
    if kind is datetime.timedelta:
        return f'<timedelta {value}>'
    if kind is uuid.UUID:
        digits = f'{value.int:032x}'
        return f"UUID('{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}')"
    if issubclass(kind, enum.Enum):
        name = variables(value).get('_name_')
        return f'<{class_name(kind)}.{name}>' if type(name) is str else ''
    return ''


def _slots(value, kind):
    """What is stored in the slots of an object of a class in Python."""
    found: dict[str, Any] = {}
    for base in reversed(type.__dict__['__mro__'].__get__(kind)):
        own = type.__dict__['__dict__'].__get__(base)
        if '__slots__' not in own:
            continue
        declared = own['__slots__']
        if type(declared) is str:
            declared = (declared,)
        elif type(declared) not in (tuple, list):
            continue
        for name in [name for name in islice(declared, _SLOTS) if type(name) is str]:
            member = own.get(name)
            if member is None and name.startswith('__'):
                name = f'_{type.__dict__["__name__"].__get__(base).lstrip("_")}{name}'
                member = own.get(name)
            if type(member) is MemberDescriptorType and len(found) < _SLOTS:
                try:
                    found[name] = member.__get__(value, kind)
                except AttributeError:
                    pass            # it is not set
    return found


def _name(key):
    # Another object would live until the copy is read.
    return key if type(key) is str or type(key) is bytes else ''


def _key(name):
    return shown(name) if id(type(name)) in _PLAIN else f'<{class_name(type(name))}>'


def _folded(value, kind):
    brackets = _COLLECTIONS.get(id(kind))
    if brackets is not None:
        return f'{brackets[0]}... ({len(value)}){brackets[1]}' if len(value) else brackets
    text = _of_library(value, kind)
    if text:
        return text
    return f'<{class_name(kind)}>' if not issubclass(kind, type) else f'<class {class_name(value)}>'


def text_of(name: str, copy: str | Copy) -> str:
    """The text of a copy, without secrets: by the name of the variable, by the keys and fields, or by the text itself.

    Args:
        name: of a variable, or the text of an expression: of one with a secret nothing is shown.
    """
    if not name.isidentifier() and _is_secret(name):
        return '***'
    return _text(name, copy)[:_CHARACTERS]


def _text(name: Any, copy: str | Copy) -> str:
    if isinstance(copy, str):
        # Numbers, None and the like have no secrets, unless their name says so.
        return named(name, copy) if '"' in copy or "'" in copy or _is_secret(name) else utf8(copy)
    if _is_secret(name):
        return '***'
    if len(copy.items) == copy.length == 2 and copy.items[0][0] is None and isinstance(first := copy.items[0][2], str) \
            and len(first) <= _HEADER and _is_secret(first):
        return f'{copy.opening}{utf8(first)}, ***{copy.closing}'        # a pair, as of headers of HTTP
    items: list[str] = []
    size = 0
    for key, before, item in copy.items:
        items.append(utf8(before) + _text(name if key is None else key, item))
        size += len(items[-1])
        if size > _CHARACTERS:          # the rest would be cut off
            break
    more = f', ... ({copy.length})' if copy.length > len(items) else ''
    return copy.opening + ', '.join(items) + more + copy.closing


def _is_secret(name: Any) -> bool:
    if type(name) is str:
        name = name.encode(errors='backslashreplace')
    return type(name) is bytes and is_sensitive(name)
