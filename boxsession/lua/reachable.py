"""Which objects of the program statements may enter through live data, by an allow-list.

An attribute of a generator, a thread or a logger leads to frames, and from these to every function of the process. So
attributes are read only from objects of the program's own classes.
"""
from __future__ import annotations

import dataclasses
import functools
import re
import sys
from collections.abc import AsyncGenerator, Coroutine, Generator, Mapping, MutableSequence, Sequence, Set
from types import FunctionType, MethodType
from typing import Any

from boxsession.values.natural import NO_VALUE, natural

__all__ = ['has_parts', 'is_copied', 'is_public', 'may_call']

_SCALARS = (bool, int, float, str, bytes, bytearray, memoryview)
# Packages whose classes and functions are not the program's own.
_FOREIGN = frozenset({*sys.stdlib_module_names, *sys.builtin_module_names, 'gevent', 'greenlet', 'zope', 'lupa',
                      '_cffi_backend', 'boxsession'})
# Classes of the standard library that hold attributes for the program.
_HOLDERS = {('types', 'SimpleNamespace'), ('argparse', 'Namespace')}
# What the program's own classes may be derived from.
_BASES = {*_HOLDERS, ('builtins', 'object'), ('abc', 'ABC'), ('typing', 'Generic'), ('typing', 'Protocol'),
          ('argparse', '_AttributeHolder'), ('contextlib', 'AbstractContextManager')}
_BASE_MODULES = {'collections.abc'}
_RUNNING = (Generator, AsyncGenerator, Coroutine)
# Attributes of generators, greenlets, coroutines, frames, tracebacks and code; and what begins with an underscore.
_INTERNAL = re.compile('_|(?:gi|gr|cr|ag|f|tb|co)_')


def _is_foreign(module: Any) -> bool:
    return not isinstance(module, str) or module.partition('.')[0] in _FOREIGN or module.startswith('_cython_')


def _place(kind: type) -> tuple[Any, Any]:
    """The module and the name of a class. A metaclass could say something else."""
    return type.__getattribute__(kind, '__module__'), type.__getattribute__(kind, '__qualname__')


def _is_own_class(kind: type) -> bool:
    module, name = _place(kind)
    if _is_foreign(module) and (module, name) not in _HOLDERS:
        # Classes of make_dataclass() are in `types`.
        if module != 'types' or not dataclasses.is_dataclass(kind):
            return False
    return all(not _is_foreign(base[0]) or base in _BASES or base[0] in _BASE_MODULES
               for base in map(_place, type.__getattribute__(kind, '__mro__')[1:]))


def _is_own(value: Any) -> bool:
    """Whether a value is an object of a class of the program, whose attributes may be read."""
    kind = type(value)
    return not issubclass(kind, (type, *_RUNNING)) and _is_own_class(kind)


def has_parts(value: Any) -> bool:
    """Whether a value is read and changed part by part: a mapping, a list, or an object of the program."""
    if isinstance(value, (Mapping, MutableSequence)) and not isinstance(value, _SCALARS):
        return True
    return not is_copied(value) and _is_own(value)


def is_copied(value: Any) -> bool:
    """Whether a value that is no mapping is copied as a whole. Of one that has no parts either, only the type is shown."""
    if value is None or isinstance(value, (*_SCALARS, Sequence, Set)) or hasattr(type(value), '__serialize__'):
        return True
    try:
        plain = natural(value)
    except ValueError:                      # a decimal that is too long
        return True
    return plain is not NO_VALUE and type(plain) is not dict       # of a dataclass


def may_call(value: Any) -> bool:
    """Whether a member can be called: a function of the program, or a method of an object that may be entered."""
    if isinstance(value, functools.partial):                    # of a partialmethod
        return may_call(value.func)
    if isinstance(value, functools._lru_cache_wrapper):
        return may_call(value.__wrapped__)
    if isinstance(value, FunctionType):
        return not _is_foreign(value.__module__)
    if isinstance(value, MethodType):
        owner = value.__self__
        return (_is_own_class(owner) if isinstance(owner, type) else _is_own(owner)) and may_call(value.__func__)
    return _is_own(value)


def is_public(owner: Any, name: Any) -> bool:
    """Whether a statement may use the attribute of this name, if there is one."""
    if not isinstance(name, str) or not name.isidentifier() or _INTERNAL.match(name):
        return False
    # A field that is hidden from repr() may be a secret.
    fields = dataclasses.fields(owner) if dataclasses.is_dataclass(owner) else ()
    return all(field.repr or field.name != name for field in fields)
