"""Attributes of objects, read without running code of the program: no property, no `__getattr__`."""
from __future__ import annotations

from types import GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

from boxsession.inspection.shown import class_name

__all__ = ['MISSING', 'NotStatic', 'attribute', 'in_class', 'names', 'variables']

MISSING: Any = object()
_MRO, _DICT = type.__dict__['__mro__'].__get__, type.__dict__['__dict__'].__get__
_MODULE_DICT: Any = vars(ModuleType)['__dict__'].__get__
# Classes of Python itself whose attributes in C run no other code, by their addresses.
_SAFE = {id(kind) for kind in (BaseException, OSError, StopIteration, SystemExit, ImportError, UnicodeDecodeError)}
# Characters of a name.
_LONGEST = 200


class NotStatic(Exception):
    """The attribute does not exist, or would run code. The text says which."""


def in_class(kind: type, name: str) -> Any:
    """What a class or one of its bases has under this name, as it is there; MISSING without it."""
    for base in _MRO(kind):
        found = _DICT(base).get(name, MISSING)
        if found is not MISSING:
            return found
    return MISSING


def variables(value: Any) -> dict[str, Any]:
    """The `__dict__` of an object, a module or a class; empty without it. Of a class it is a copy."""
    kind = type(value)
    if issubclass(kind, ModuleType):
        return _MODULE_DICT(value)
    if issubclass(kind, type):
        return dict(_DICT(value))
    for base in _MRO(kind):
        descriptor = _DICT(base).get('__dict__')
        if type(descriptor) is GetSetDescriptorType:
            found = descriptor.__get__(value, kind)
            return found if type(found) is dict else {}
    return {}


def attribute(value: Any, name: str) -> Any:
    """An attribute that is stored: in the object, in a slot, or as a plain value in its class.

    Raises:
        NotStatic: there is none, or it is a property or the like.
    """
    kind = type(value)
    if issubclass(kind, type):
        found = in_class(value, name)
        if found is MISSING:
            raise NotStatic(f'{class_name(value)} has no attribute {name}')
        return found
    own = variables(value)
    in_its_class = in_class(kind, name)
    descriptor = type(in_its_class)
    if descriptor is MemberDescriptorType or descriptor is GetSetDescriptorType and id(in_its_class.__objclass__) in _SAFE:
        try:
            return in_its_class.__get__(value, kind)
        except AttributeError:
            raise NotStatic(f'{class_name(kind)}.{name} is not set') from None
    is_data = in_its_class is not MISSING and (in_class(descriptor, '__set__') is not MISSING
                                               or in_class(descriptor, '__delete__') is not MISSING)
    if not is_data and name in own:
        return own[name]
    if in_its_class is MISSING:
        raise NotStatic(f'{class_name(kind)} has no attribute {name} that is stored')
    if in_class(descriptor, '__get__') is not MISSING:
        raise NotStatic(f'{class_name(kind)}.{name} is a {class_name(descriptor)}, whose code is not run')
    return in_its_class


def names(value: Any) -> list[str]:
    """The names of what an object, a module or a class stores."""
    kind = type(value)
    found = list(variables(value))
    if issubclass(kind, ModuleType):
        return [name for name in found if type(name) is str]
    for base in _MRO(value if issubclass(kind, type) else kind):
        found += [name for name in _DICT(base) if id(base) != id(object)]
    return [name for name in dict.fromkeys(name for name in found if type(name) is str) if len(name) <= _LONGEST]
