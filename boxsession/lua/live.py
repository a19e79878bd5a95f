"""Live: exposes data of the program that statements read and change in place."""
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence, Set
from typing import Any

from boxsession.base.errors import StatementError
from boxsession.lua import signatures
from boxsession.values.natural import NO_VALUE, Extension, alike, natural, natural_key

__all__ = ['Live', 'LiveData', 'Whole', 'public_methods']

_SCALARS = (bool, int, float, str, bytes, bytearray, memoryview)


class Live:
    """Exposes an object itself instead of a copy: `expose={'flags': Live(FLAGS)}`.

    Statements read and write the keys of a mapping, the items of a list, and the public attributes and properties of other
    objects, and of those inside them. They may call public methods.

    Args:
        value: a mapping, a list or another object that the program keeps and changes in place.

    Raises:
        TypeError: the value can never change, or is a function.
    """

    __slots__ = ('value',)

    def __init__(self, value: Any):
        if value is None or not _has_parts(value) or callable(value) and not _public_names(value):
            raise TypeError(f'Live() takes a mapping, a list or an object with attributes, not {type(value).__name__}')
        self.value = value


class Whole:
    """A result that is shown as far as it can be: what cannot be passed to Lua becomes the name of its type."""

    __slots__ = ('value',)

    def __init__(self, value: Any):
        self.value = value

    @staticmethod
    def other(value: Any) -> str:
        """The text for a value that cannot be passed to Lua."""
        return f'<{type(value.value if isinstance(value, Live) else value).__name__}>'


class LiveData:
    """What Lua asks of one live object. A part is named by its path: a list of keys, that are looked up again each time.

    Args:
        name: the exposed name, for messages.
    """

    def __init__(self, name: str, live: Live):
        self._name = name
        self._root = live.value

    def __call__(self, operation: str, path: list[Any], *arguments: Any) -> Any:
        found = self._root
        for number, key in enumerate(path):
            found = _get(found, key, self._shown(path[:number]))
        operate: Callable[..., Any] = getattr(self, f'_{operation}')
        return operate(found, self._shown(path), *arguments)

    def _shown(self, path: list[Any]) -> str:
        return self._name + ''.join(f'.{key}' if isinstance(key, str) else f'[{key}]' for key in path)

    def _get(self, owner, name, key):
        """A list of the kind of a member ('value', 'part' or 'method') and the value."""
        found = _get(owner, key, name)
        if callable(found):
            return ['method']
        return ['part'] if _has_parts(found) else ['value', found]

    def _set(self, owner, name, key, value, is_nil):
        if isinstance(owner, Mapping):
            _set_key(owner, name, key, value, is_nil)
        elif isinstance(owner, Sequence):
            _set_item(owner, name, key, value, is_nil)
        else:
            _set_attribute(owner, name, key, value)

    def _call(self, owner, name, key, *arguments):
        found = _get(owner, key, name)
        if not callable(found):
            raise StatementError(f'{name}.{key} is no method')
        return signatures.call(found, arguments)

    def _keys(self, owner, _name):
        if isinstance(owner, Mapping):
            return [natural_key(key) for key in tuple(owner)]
        return len(owner) if isinstance(owner, Sequence) else _attributes(owner)

    def _size(self, owner, name):
        if not isinstance(owner, (Mapping, Sequence)):
            raise StatementError(f'{name} has no length: it is a {type(owner).__name__}')
        return len(owner)

    def _whole(self, owner, _name):
        if isinstance(owner, (Mapping, Sequence)):
            return Whole(owner)
        return Whole({name: _attribute(owner, name) for name in _attributes(owner)})

    def _help(self, owner, name, key):
        """The text of help() about a member."""
        found = _get(owner, key, name)
        if callable(found):
            return '\n\n'.join(filter(None, [signatures.shown(f'{name}.{key}', found), signatures.documentation(found)]))
        return f'{name}.{key}: {type(found).__name__}'


def _has_parts(value) -> bool:
    """Whether a value is read and changed part by part. Others are copied as a whole."""
    if isinstance(value, (MutableMapping, Mapping, MutableSequence)) and not isinstance(value, _SCALARS):
        return True
    if value is None or isinstance(value, (*_SCALARS, Sequence, Set)) or hasattr(type(value), '__serialize__'):
        return False
    try:
        plain = natural(value)
    except ValueError:
        return False
    return plain is NO_VALUE or type(plain) is dict     # of a dataclass


def _get(owner, key, name):
    """The member of a value; None for a key that a mapping or list does not have."""
    if isinstance(owner, Mapping):
        found = owner.get(_real_key(owner, key))
    elif isinstance(owner, Sequence):
        place = _place(key)
        found = owner[place] if place is not None and place < len(owner) else None
    else:
        _check_name(owner, key, name)
        found = getattr(owner, key)
    return found.value if isinstance(found, Live) else found


def _real_key(owner, key):
    """The key of a mapping that Lua has as `key`: it may be of a type that Lua sees as a string or number."""
    if isinstance(key, list) and tuple(key) in owner:
        return tuple(key)
    if isinstance(key, (list, dict)):
        raise StatementError('a table cannot be a key')
    if key in owner or not owner or isinstance(next(iter(owner)), (str, int, float)):
        return key
    for real in tuple(owner):
        shown = natural_key(real)
        if not isinstance(shown, (str, int, float)):
            plain = shown.decode(errors='replace') if isinstance(shown, bytes) else natural(shown)
            shown = shown if plain is NO_VALUE or isinstance(plain, (list, dict, Extension)) else plain
        if shown == key:
            return real
    return key


def _place(key):
    """The offset of an item in a list, for an index of Lua; None for what is no index."""
    return key - 1 if isinstance(key, int) and not isinstance(key, bool) and key >= 1 else None


def _set_key(owner: Any, name, key, value, is_nil):
    key = _real_key(owner, key)
    if not is_nil:
        owner[key] = _like(owner.get(key), value, f'{name}[{key!r}]')
    elif key in owner:
        del owner[key]


def _set_item(owner: Any, name, key, value, is_nil):
    place = _place(key)
    if is_nil:
        raise StatementError(f'{name}[{key}] cannot be removed: box.NULL makes it None')
    if place == len(owner) and isinstance(owner, MutableSequence):
        owner.append(value)
    elif place is None or place >= len(owner):
        raise StatementError(f'{name} has {len(owner)} items: its item {key} cannot be set')
    else:
        owner[place] = _like(owner[place], value, f'{name}[{key}]')


def _set_attribute(owner, name, key, value):
    _check_name(owner, key, name)
    try:
        old = getattr(owner, key)
    except Exception:                   # a property that can be set, but not read now
        old = None
    if callable(old):
        raise StatementError(f'{name}.{key} is a method of the program: it cannot be replaced')
    setattr(owner, key, _like(old, value, f'{name}.{key}'))


def _check_name(owner, key, name):
    """Refuses names of private and unknown attributes."""
    if not isinstance(key, str) or key.startswith('_') or not key.isidentifier():
        raise StatementError(f'{name}: {key!r} is no public attribute')
    try:
        inspect.getattr_static(owner, key)
    except AttributeError:
        if not hasattr(owner, key):             # __getattr__() may know it
            raise StatementError(f'{name}: {type(owner).__name__} has no attribute {key!r}') from None


def _like(old, new, name):
    try:
        return alike(old, new)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise StatementError(f'{name} is a {type(old).__name__}: {error}') from None


# Names of objects. Finding them runs no property. ----------------------------------------------------------------------

def _public_names(owner) -> list[str]:
    return [name for name in dir(owner) if not name.startswith('_')]


def _is_method(member) -> bool:
    return callable(member) or isinstance(member, (staticmethod, classmethod, functools.partialmethod,
                                                   functools.singledispatchmethod))


def public_methods(owner) -> dict[str, Callable[..., Any]]:
    """The public methods of an object, by name."""
    methods = {}
    for name in _public_names(owner):
        try:
            is_method = _is_method(inspect.getattr_static(owner, name))
        except AttributeError:                  # a name that only __getattr__() knows
            is_method = True
        if is_method:
            member = getattr(owner, name, None)
            if callable(member):
                methods[name] = member
    return methods


def _attributes(owner) -> list[str]:
    """The names of public attributes and properties."""
    names = []
    for name in _public_names(owner):
        try:
            is_method = _is_method(inspect.getattr_static(owner, name))
        except AttributeError:
            is_method = callable(getattr(owner, name, None))
        if not is_method:
            names.append(name)
    return names


def _attribute(owner, name):
    try:
        found = getattr(owner, name)
    except Exception as error:                  # shown with the others
        return f'<{type(error).__name__}>'
    return Whole.other(found) if callable(found) else found
