"""Live: exposes data of the program that statements read and change in place."""
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from typing import Any

from boxsession.base.errors import StatementError
from boxsession.lua import signatures
from boxsession.lua.reachable import has_parts, is_copied, is_public, may_call
from boxsession.values.natural import NO_VALUE, Extension, alike, from_key, natural, natural_key, shortened
from boxsession.values.packed import Unpackable, pack

__all__ = ['Live', 'LiveData', 'Whole', 'public_methods']

# The keys of a mapping that are looked at between two pauses.
_STEP = 1000


def _go_on() -> None:
    """Lets nothing else run."""


class Live:
    """Exposes an object itself instead of a copy: `expose={'flags': Live(FLAGS)}`.

    Statements read and write the keys of a mapping, the items of a list, and the public attributes and properties of other
    objects of the program's own classes, and of those inside them. They may call public methods.

    Args:
        value: a mapping, a list or an object of a class of the program, which it keeps and changes in place.

    Raises:
        TypeError: it is another value: one that can never change, a function, a class, a module, or an object of a class of
            the standard library or gevent.
    """

    __slots__ = ('value',)

    def __init__(self, value: Any):
        if not has_parts(value) or callable(value) and not _public_names(value):
            raise TypeError("Live() takes a mapping, a list or an object of one of the program's own classes, not "
                            f'{type(value).__name__}')
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


class _Place:
    """The owner of what is accessed, for messages: its name is only made when it is shown."""

    __slots__ = ('count', 'path', 'root')

    def __init__(self, root: str, path: list[Any]):
        self.root, self.path, self.count = root, path, 0

    def __str__(self) -> str:
        return self.root + ''.join(map(_step, self.path[:self.count]))

    def of(self, key: Any) -> str:
        """The name of a member."""
        return f'{self}{_step(key)}'


def _step(key: Any) -> str:
    text = shortened(str(key))
    return f'.{text}' if isinstance(key, str) and key.isidentifier() else f'[{text}]'


class _Keys:
    """Finds the keys of mappings that Lua has as strings, numbers or lists."""

    def __init__(self):
        # The mapping that was searched last, and its keys by what Lua has.
        self._owner: Any = None
        self._found: dict[Any, Any] = {}

    def real(self, owner: Mapping[Any, Any], key: Any, pause: Callable[[], None]) -> Any:
        """The key of a mapping that Lua has as `key`, or `key` if there is none."""
        if isinstance(key, list) and _has(owner, tuple(key)):
            return tuple(key)
        if isinstance(key, (list, dict)):
            raise StatementError('a table cannot be a key')
        first = next(iter(owner), '')
        if key in owner or isinstance(first, (str, int, float)):
            return key
        parsed = from_key(first, key)
        if parsed is not None and _has(owner, parsed):
            return parsed
        if self._owner is not owner or not _has(owner, self._found.get(key)):
            self._search(owner, pause)
        found = self._found.get(key)
        return found if found is not None and _has(owner, found) else key

    def _search(self, owner, pause):
        found: dict[Any, Any] = {}
        for number, real in enumerate(tuple(owner), 1):
            shown = _plain_key(real)
            if isinstance(shown, (str, int, float)):
                found.setdefault(shown, real)
            if not number % _STEP:
                pause()
        self._owner, self._found = owner, found


def _has(owner, key) -> bool:
    try:
        return key in owner
    except TypeError:                   # a list of lists, as a tuple
        return False


def _plain_key(real):
    shown = natural_key(real)
    if not isinstance(shown, (str, int, float)):
        plain = shown.decode(errors='replace') if isinstance(shown, bytes) else natural(shown)
        shown = shown if plain is NO_VALUE or isinstance(plain, (list, dict, Extension)) else plain
    return shown


class LiveData:
    """What Lua asks of one live object. A part is named by its path: a list of keys, that are looked up again each time.

    Args:
        name: the exposed name, for messages.
    """

    def __init__(self, name: str, live: Live):
        self._name = name
        self._root = live.value
        self._real_keys = _Keys()

    def __call__(self, operation: str, path: list[Any], *arguments: Any, pause: Callable[[], None] = _go_on) -> Any:
        """Does what an operation says.

        Args:
            pause: lets others run. Called from time to time while many keys are looked at.
        """
        found, place = self._root, _Place(self._name, path)
        for key in path:
            found = self._member(found, place, key, pause)
            if not has_parts(found):
                raise StatementError(f'{place.of(key)} has no parts any more: it is a {type(found).__name__}')
            place.count += 1
        operate: Callable[..., Any] = getattr(self, f'_{operation}')
        return operate(found, place, pause, *arguments)

    def _member(self, owner, place, key, pause):
        """The member of a value; None for a key that a mapping or list does not have."""
        if isinstance(owner, Mapping):
            found = owner.get(self._real_keys.real(owner, key, pause))
        elif isinstance(owner, Sequence):
            at = _offset(key)
            found = owner[at] if at is not None and at < len(owner) else None
        else:
            _check_name(owner, key, place)
            found = getattr(owner, key)
        return found.value if isinstance(found, Live) else found

    def _get(self, owner, place, pause, key):
        """A list of the kind of a member ('value', 'part' or 'method') and the value."""
        found = self._member(owner, place, key, pause)
        if callable(found):
            return ['method'] if may_call(found) else ['value', Whole.other(found)]
        if has_parts(found):
            return ['part']
        return ['value', found if is_copied(found) else Whole.other(found)]

    def _set(self, owner, place, pause, key, value, is_nil):
        if isinstance(owner, Mapping):
            _set_key(owner, place, self._real_keys.real(owner, key, pause), value, is_nil, pause)
        elif isinstance(owner, Sequence):
            _set_item(owner, place, key, value, is_nil, pause)
        else:
            _set_attribute(owner, place, key, value, pause)

    def _call(self, owner, place, pause, key, *arguments):
        found = self._member(owner, place, key, pause)
        if not callable(found) or not may_call(found):
            raise StatementError(f'{place.of(key)} is no method of an object of the program')
        return signatures.call(found, arguments)

    def _keys(self, owner, _place, pause):
        if not isinstance(owner, Mapping):
            return len(owner) if isinstance(owner, Sequence) else _attributes(owner)
        keys = []
        for key in tuple(owner):
            keys.append(natural_key(key))
            if not len(keys) % _STEP:
                pause()
        return keys

    def _size(self, owner, place, _pause):
        if not isinstance(owner, (Mapping, Sequence)):
            raise StatementError(f'{place} has no length: it is a {type(owner).__name__}')
        return len(owner)

    def _whole(self, owner, _place, _pause):
        if isinstance(owner, (Mapping, Sequence)):
            return Whole(owner)
        return Whole({name: _attribute(owner, name) for name in _attributes(owner)})

    def _help(self, owner, place, pause, key):
        """The text of help() about a member."""
        found = self._member(owner, place, key, pause)
        if callable(found) and may_call(found):
            return '\n\n'.join(filter(None, [signatures.shown(place.of(key), found), signatures.documentation(found)]))
        return f'{place.of(key)}: {type(found).__name__}'


def _offset(key):
    """The offset of an item in a list, for an index of Lua; None for what is no index."""
    return key - 1 if isinstance(key, int) and not isinstance(key, bool) and key >= 1 else None


def _set_key(owner: Any, place, key, value, is_nil, pause):
    if not is_nil:
        owner[key] = _like(owner.get(key), value, place, key, pause)
    elif key in owner:
        _check_old(owner[key], place, key)
        del owner[key]


def _set_item(owner: Any, place, key, value, is_nil, pause):
    at = _offset(key)
    if is_nil:
        raise StatementError(f'{place.of(key)} cannot be removed: box.NULL makes it None')
    if at == len(owner) and isinstance(owner, MutableSequence):
        owner.append(value)
    elif at is None or at >= len(owner):
        raise StatementError(f'{place} has {len(owner)} items: its item {shortened(str(key))} cannot be set')
    else:
        owner[at] = _like(owner[at], value, place, key, pause)


def _set_attribute(owner, place, key, value, pause):
    _check_name(owner, key, place)
    try:
        old = getattr(owner, key)
    except Exception:                   # a property that can be set, but not read now
        old = None
    if callable(old):
        raise StatementError(f'{place.of(key)} is a method of the program: it cannot be replaced')
    setattr(owner, key, _like(old, value, place, key, pause))


def _check_name(owner, key, place):
    """Refuses names of private and unknown attributes."""
    if not is_public(owner, key):
        raise StatementError(f'{place}: {shortened(repr(key))} is no public attribute')
    try:
        inspect.getattr_static(owner, key)
    except AttributeError:
        if not hasattr(owner, key):             # __getattr__() may know it
            raise StatementError(f'{place}: {type(owner).__name__} has no attribute {shortened(repr(key))}') from None


def _check_old(old, place, key):
    """Refuses to replace or remove what statements cannot enter, such as a lock or a log."""
    if old is not None and not has_parts(old) and not is_copied(old):
        raise StatementError(f'{place.of(key)} is a {type(old).__name__}: it cannot be replaced')


def _like(old, new, place, key, pause):
    """A value from Lua as what is written in the place of `old`: of the same type, and such that it can be read."""
    _check_old(old, place, key)
    try:
        value = alike(old, new)
        if value is not new:
            pack(value, pause, Whole.other)
        return value
    except (ValueError, TypeError, ArithmeticError, Unpackable) as error:
        raise StatementError(f'{place.of(key)} is a {type(old).__name__}: {shortened(str(error), 200)}') from None


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
        if not is_public(owner, name):
            continue
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
