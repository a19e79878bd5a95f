r"""Completes names in Python, for `\complete`. It runs no code of the program.

Values are read as they are stored: instances by their `__dict__` and slots, classes and modules by their `__dict__`, dicts
by the methods of the built-in class. Properties and other descriptors, `__getattr__`, `__dir__`, metaclasses and methods of
subclasses are never called, so names that only these know are not found. Only plain strings are compared: other keys may
have an `__eq__` of their own.
"""
from __future__ import annotations

import _thread
import functools
import keyword
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    WrapperDescriptorType,
)
from typing import Any

__all__ = ['complete']

# The most names that are listed; the longest name, and the longest text to complete, in characters.
_NAMES_MAX, _NAME_MAX, _TEXT_MAX = 500, 200, 1000
# The most items of dicts that are looked at for one text, and the most of them that may match: so it takes a few ms.
_LOOKED_MAX, _FOUND_MAX = 20_000, 4_000

# A text is a name, then steps to attributes and to items with string keys, then the part to complete.
_FIRST = re.compile(r'(?:[^\W\d]\w*)?')
_STEP = re.compile(r"""\.(\w+)(?=[.\[])|\[(?:'([^'\\\n]*)'|"([^"\\\n]*)")\]""")
_LAST = re.compile(r"""\.(?P<name>\w*)|\[(?:(?P<quote>['"])(?P<key>[^'"\\\n]*))?""")
# What follows a keyword; a space for the others.
_AFTER_KEYWORD = {'True': '', 'False': '', 'None': '', 'break': '', 'continue': '', 'pass': '', 'else': ':', 'finally': ':',
                  'try': ':'}
_FUNCTIONS: tuple[type, ...] = (
    type, FunctionType, BuiltinFunctionType, MethodType, MethodDescriptorType, WrapperDescriptorType, MethodWrapperType,
    ClassMethodDescriptorType, staticmethod, classmethod, functools.partial, functools.partialmethod,
    type(functools.lru_cache(int)))
_CYTHON_FUNCTION = 'cython_function_or_method'
# Attributes of a class as `type` itself gives them: a metaclass can hide them.
_BASES, _NAMES, _NAME = (type.__dict__[name].__get__ for name in ('__mro__', '__dict__', '__name__'))
# Its `__dict__` may call `__init__` of a subclass.
_RUNS_CODE = _thread._local


class _NotStored(Exception):
    """The value is not stored, or reading it would run code."""


def complete(text: str, scopes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The completions of a text: their longest common prefix, then each of them; nothing if there are none.

    Args:
        text: a chain such as `app.flags['new'].ow`. The completions begin with it.
        scopes: the names that a statement finds: dicts, the innermost scope first.
    """
    if len(text) > _TEXT_MAX:
        return []
    first = _FIRST.match(text)
    assert first is not None
    reader, at = _Reader(), first.end()
    if at == len(text):
        return _listed([*_keywords(text), *reader.names(text, (reader.items(scope) for scope in scopes))])
    if not at:
        return []
    try:
        value = reader.name(first.group(), scopes)
        while step := _STEP.match(text, at):
            attribute, key, other_key = step.groups()
            if attribute is not None:
                value = reader.attribute(value, attribute)
            else:
                value = reader.item(value, key if key is not None else other_key)
            at = step.end()
        last = _LAST.fullmatch(text, at)
        if last is None:
            return []
        if last['name'] is not None:
            head, names = text[:last.start('name')], reader.names(last['name'], reader.namespaces(value))
        else:
            quote, key = last['quote'] or "'", last['key'] or ''
            head = f'{text[:at]}[{quote}'
            names = (f'{name}{quote}]' for name in reader.keys(value, key, quote))
    except _NotStored:
        return []
    return _listed(head + name for name in names)


def _listed(found: Iterable[str]) -> list[str]:
    names = sorted(set(islice(found, _FOUND_MAX)))
    if not names:
        return []
    common, last = names[0], names[-1]
    while not last.startswith(common):
        common = common[:-1]
    return [common, *names[:_NAMES_MAX]]


def _keywords(text: str) -> Iterator[str]:
    for word in keyword.kwlist if text else ():
        if word.startswith(text):
            yield word + _AFTER_KEYWORD.get(word, ' ')


class _Reader:
    """Reads stored values for one completion."""

    def __init__(self) -> None:
        self._left = _LOOKED_MAX

    # Lists

    def items(self, mapping: Any) -> Iterator[tuple[str, Any]]:
        """The items of a dict whose keys are plain strings. A thread that changes it, or the limit, ends them."""
        try:
            for key, value in mapping.items() if type(mapping) is _PROXY else dict.items(mapping):
                self._left -= 1
                if self._left < 0:
                    return
                if type(key) is str:
                    yield key, value
        except RuntimeError:
            pass

    def names(self, start: str, namespaces: Iterable[Iterator[tuple[str, Any]]]) -> Iterator[str]:
        """The names that begin with a text, those of functions with a bracket. Private ones only if the text is private."""
        seen = set()
        for items in namespaces:
            for name, value in items:
                if name.startswith(start) and name not in seen and len(name) <= _NAME_MAX and str.isidentifier(name) \
                        and (name[0] != '_' or start[:1] == '_'):
                    seen.add(name)
                    yield name + ('(' if _is_function(value) else '')

    def keys(self, value: Any, start: str, quote: str) -> Iterator[str]:
        """The keys of a dict that begin with a text and can stand between these quotation marks."""
        for key, _ in self.items(value) if issubclass(type(value), dict) else ():
            if key.startswith(start) and len(key) <= _NAME_MAX and key.isprintable() and quote not in key \
                    and '\\' not in key:
                yield key

    def namespaces(self, value: Any) -> Iterator[Iterator[tuple[str, Any]]]:
        """The namespaces in which the attributes of a value are stored."""
        if issubclass(type(value), type):
            kind = value
        else:
            kind = type(value)
            yield self.items(self._own(value))
        for base in _bases(kind):
            yield ((name, found) for name, found in self.items(_NAMES(base))
                   if type(found) is not MemberDescriptorType or kind is value or _is_set(found, value))

    # Single values

    def _find(self, mapping: Any, name: str) -> Any:
        for key, value in self.items(mapping):
            if key == name:
                return value
        raise _NotStored

    def name(self, name: str, scopes: Sequence[Mapping[str, Any]]) -> Any:
        """The value of a name."""
        for scope in scopes:
            try:
                return self._find(scope, name)
            except _NotStored:
                pass
        raise _NotStored

    def item(self, value: Any, key: str) -> Any:
        """An item of a dict."""
        if not issubclass(type(value), dict):
            raise _NotStored
        return self._find(value, key)

    def attribute(self, value: Any, name: str) -> Any:
        """An attribute of a value: what `value.name` would give, if that would run no code."""
        found = self._of_class(type(value), name)
        if type(found) is MemberDescriptorType:
            return _member(found, value)
        if found is not None and (self._defines(found, '__set__') or self._defines(found, '__delete__')):
            raise _NotStored
        try:
            if issubclass(type(value), type):
                return self._without_code(self._of_class(value, name))
            return self._find(self._own(value), name)
        except _NotStored:
            return self._without_code(found)

    def _without_code(self, found: Any) -> Any:
        """What is stored in a class, as its attribute; a function is as good as a method here."""
        if found is None or type(found) is not FunctionType and self._defines(found, '__get__'):
            raise _NotStored
        return found

    def _of_class(self, kind: type, name: str) -> Any:
        """What a class or its bases have stored under a name; None without it (and for None itself, which has no names)."""
        for base in _bases(kind):
            try:
                return self._find(_NAMES(base), name)
            except _NotStored:
                pass
        return None

    def _defines(self, value: Any, method: str) -> bool:
        return self._of_class(type(value), method) is not None

    def _own(self, value: Any) -> Any:
        """The `__dict__` of an instance; an empty one if it has none, or a class hides it."""
        for base in _bases(type(value)):
            try:
                found = self._find(_NAMES(base), '__dict__')
            except _NotStored:
                continue
            # A class may have anything under this name. The real one, of this class or a base, is made by C code.
            if type(found) in (GetSetDescriptorType, MemberDescriptorType) and found.__objclass__ is base \
                    and found.__name__ == '__dict__' and base is not _RUNS_CODE:
                try:
                    own = _member(found, value)
                except _NotStored:
                    continue
                if issubclass(type(own), dict):
                    return own
        return {}


_PROXY = type(type.__dict__)


def _bases(kind: type) -> tuple[type, ...]:
    bases: tuple[type, ...] | None = _BASES(kind)
    return bases or ()                  # None while the class is being made


def _member(descriptor: Any, value: Any) -> Any:
    """The value of a slot, or of a field of a C structure."""
    try:
        return descriptor.__get__(value)
    except (AttributeError, TypeError):         # it is not set; the descriptor is of another class
        raise _NotStored from None


def _is_set(descriptor: Any, value: Any) -> bool:
    try:
        _member(descriptor, value)
    except _NotStored:
        return False
    return True


def _is_function(value: Any) -> bool:
    return issubclass(type(value), _FUNCTIONS) or _NAME(type(value)) == _CYTHON_FUNCTION
