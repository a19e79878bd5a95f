"""How an object refers to another one, in words: by an attribute, a key, a local variable. Calls no code of the program.

To find the name of an attribute, Python before 3.13 may make the `__dict__` of the object that is shown.
"""
from __future__ import annotations

import gc
import inspect
import sys
from collections import deque
from collections.abc import Container, Mapping
from types import (
    CellType,
    FrameType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

from boxsession.inspection.frames import calls, local_items
from boxsession.inspection.memory import mro, short_name

__all__ = ['described', 'local_variable', 'module_names', 'variables']

# A key or an attribute is named if it is an identifier of at most so many characters, in a dict of at most so many items.
# (A key of a large dict is data: it may be a secret, and would make each chain another one.)
_CHARACTERS, _ITEMS = 60, 200
_COLLECTIONS = (list, tuple, set, frozenset, deque)
_class_vars = type.__dict__['__dict__'].__get__
_module_vars: Any = vars(ModuleType)['__dict__'].__get__


def module_names() -> dict[int, str]:
    """The names of the imported modules, by the ids of their namespaces."""
    return {id(_module_vars(module)): str(name) for name, module in list(sys.modules.items())
            if any(base is ModuleType for base in mro(type(module)))}


def described(item: Any, target: Any, owner: Any, modules: Mapping[int, str]) -> str | tuple[str]:
    """How `item` refers to `target`. A tuple of the text if `item` is the `__dict__` of `owner`, which the text is about.

    Args:
        owner: something that refers to `item`, or None.
        modules: see module_names().
    """
    kind = type(item)
    if kind is dict:
        if id(item) in modules:
            return f'name {_key(item, target, sys.maxsize)} of module {modules[id(item)]}'
        if owner is not None and _has_for_dict(owner, item):
            return (_of_owner(owner, _key(item, target, sys.maxsize)),)
    if any(base is dict for base in mro(kind)):
        key = _key(item, target, _ITEMS)
        return f'{short_name(kind)} of {dict.__len__(item)}' + (f', key {key}' if key else '')
    for base in _COLLECTIONS:
        if any(one is base for one in mro(kind)):
            return f'{short_name(kind)} of {base.__len__(item)}'
    if kind is FrameType:
        names = [name for name, _ in variables(item, {id(target)})]
        return local_variable(names[0] if names else '', item)
    return _of_code(item, kind) or _of_owner(item, _attribute(item, kind, target))


def _of_code(item, kind):
    if kind is CellType:
        return 'variable of a closure'
    if kind is FunctionType:
        return f'function {item.__module__}.{item.__qualname__}' if type(item.__module__) is str else item.__qualname__
    if kind is MethodType:
        return f'bound method {item.__func__.__qualname__}' if type(item.__func__) is FunctionType else 'bound method'
    if kind is GeneratorType:
        return f'generator {item.__qualname__} {item.gi_code.co_filename}:{item.gi_code.co_firstlineno}'
    return None


def _of_owner(owner, name):
    kind = type(owner)
    if any(base is type for base in mro(kind)):
        whose = f'class {short_name(owner)}'
    elif any(base is ModuleType for base in mro(kind)):
        whose = 'a module'
    else:
        whose = short_name(kind)
    return f'attribute {name} of {whose}' if name else whose


def _has_for_dict(owner: Any, found: dict) -> bool:
    kind = type(owner)
    if any(base is type for base in mro(kind)):
        return any(one is found for one in gc.get_referents(_class_vars(owner)))
    return _instance_dict(owner, kind) is found


def _instance_dict(item: Any, kind: type) -> Any:
    """The object's `__dict__`; None if it has none, or if its class has made a property of it."""
    for base in mro(kind):
        descriptor = _class_vars(base).get('__dict__')
        if descriptor is not None:
            return descriptor.__get__(item, kind) if type(descriptor) is GetSetDescriptorType \
                else None
    return None


def _attribute(item: Any, kind: type, target: Any) -> str | None:
    """The name of the attribute that is `target`; None if it is none, or is no attribute of Python."""
    for base in mro(kind):
        for name, descriptor in list(_class_vars(base).items()):
            if type(descriptor) is MemberDescriptorType:
                try:
                    if descriptor.__get__(item, kind) is target:
                        return str(name)
                except AttributeError:          # a slot without a value
                    pass
    found = _instance_dict(item, kind)
    return _key(found, target, sys.maxsize) if type(found) is dict else None


def _key(found: Any, target: Any, most: int) -> str | None:
    """The name under which a dict has an object; None if there are more items than `most`, or the key is no name."""
    if dict.__len__(found) > most:
        return None
    try:
        key = next((key for key, value in dict.items(found) if value is target), None)
    except RuntimeError:                # another thread has changed it meanwhile
        return None
    return key if type(key) is str and len(key) <= _CHARACTERS and key.isidentifier() else None


def local_variable(name: str, frame: Any) -> str:
    """The description of a local variable."""
    call = calls(frame, 1)[0]
    return f'local variable {name} of {call.name} {call.where}'


def variables(frame: Any, wanted: Container[int]) -> list[tuple[str, int]]:
    """The local variables of a call whose values have one of these ids: the names and the ids."""
    if not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return []                       # its variables are a module's or a class's dict
    found, _ = local_items(frame)
    return [(name, id(value)) for name, value in found if id(value) in wanted]
