"""Copies of values of the program, for a reader that makes text of them later. Pure: no code of the program runs.

A copy is made inside of a call of the program. So it is cheap: at most some hundred parts, and no secrets are searched. The
text is made, without secrets, by the reader.
"""
from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple

from boxsession.base.secret_words import is_sensitive
from boxsession.inspection.frames import utf8
from boxsession.inspection.shown import class_name, module_name, named, shown
from boxsession.inspection.static import variables

__all__ = ['DEPTH', 'Copier', 'Copy', 'text_of']

# Levels of nesting, unless the caller wants others; items of a collection; parts of all copies of one
# call; characters of a text; and of the first item of a pair that may say that the second is a secret.
DEPTH, _ITEMS, _PARTS, _CHARACTERS, _HEADER = 2, 10, 300, 4000, 40
_COLLECTIONS = {id(list): '[]', id(tuple): '()', id(set): '{}', id(frozenset): '{}', id(dict): '{}'}
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
        own = variables(value)
        if not own or module_name(kind) in ('builtins', 'types'):
            return f'<{class_name(kind)}>'
        items = [(name, f'{name}=', self.copy(item, level + 1)) for name, item in islice(own.items(), _ITEMS)
                 if type(name) is str]
        return Copy(f'<{class_name(kind)} ', '>', items, len(own))


def _name(key):
    # Another object would live until the copy is read.
    return key if type(key) is str or type(key) is bytes else ''


def _key(name):
    return shown(name) if id(type(name)) in _PLAIN else f'<{class_name(type(name))}>'


def _folded(value, kind):
    brackets = _COLLECTIONS.get(id(kind))
    if brackets is not None:
        return f'{brackets[0]}... ({len(value)}){brackets[1]}' if len(value) else brackets
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
