"""Finds the code that a name stands for, such as `shop.orders:Order.pay`. Imports nothing, runs no code of the program."""
from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from boxsession.base.secret_words import is_sensitive
from boxsession.inspection.frames import file_is_of_console, utf8
from boxsession.inspection.shown import class_name, module_name
from boxsession.inspection.static import MISSING, NotStatic, attribute, in_class, names, variables

__all__ = ['ORIGINALS', 'NotFound', 'Target', 'code_of', 'find', 'functions_of', 'parameters', 'runs_as',
           'variables_of_function']

_LOCALS = '<locals>'
# Near names in an error; constants of nested code that are looked through; decorators around a function.
_NEAR, _NESTED, _DECORATORS = 5, 1000, 50
_ACCESSORS = ('fget', 'fset', 'fdel')
_KINDS = ((inspect.CO_ASYNC_GENERATOR, 'async generator'), (inspect.CO_COROUTINE, 'coroutine'),
          (inspect.CO_GENERATOR, 'generator'))
# Wrappers in C or in the library, and what they call.
_WRAPPERS: dict[int, Callable[[Any], Any]] = {
    id(staticmethod): staticmethod.__dict__['__func__'].__get__, id(classmethod): classmethod.__dict__['__func__'].__get__,
    id(functools.partial): functools.partial.__dict__['func'].__get__,
    id(MethodType): MethodType.__dict__['__func__'].__get__}
_IN_LIBRARY = {id(functools.partialmethod), id(functools.cached_property), id(functools.singledispatchmethod)}
# Before Python 3.12: the function's own code, by the id of the code that was put in its place.
ORIGINALS: dict[int, CodeType] = {}


class NotFound(Exception):
    """The name stands for no code in Python. The text says why, and what is near."""


@dataclass(slots=True)
class Target:
    """Code to watch.

    Attributes:
        name: what the user said.
        codes: the code objects; several if a function defines several functions of that name.
        kind: 'function', 'method', 'property' and so on.
        notes: what the user should know.
        has_self: the first parameter is the object or the class of a method.
        function: the function that was found; None for functions in functions.
    """

    name: str
    codes: list[CodeType]
    kind: str = 'function'
    notes: list[str] = field(default_factory=list)
    has_self: bool = False
    function: Any = None

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters, in the order of the signature."""
        return parameters(self.codes[0])

    @property
    def secret_name(self) -> str:
        """The name of the function or the property, if it is the name of a secret; else ''."""
        name = [part for part in self.name.split('.') if part not in _ACCESSORS][-1].rpartition(':')[2]
        return name if is_sensitive(name.encode(errors='backslashreplace')) else ''

    @property
    def is_setter(self) -> bool:
        """Whether it sets a property."""
        return self.name.endswith('.fset')

    @property
    def runs_as(self) -> str:
        """'generator', 'coroutine', 'async generator', or ''."""
        return runs_as(self.codes[0])


def runs_as(code: CodeType) -> str:
    """'generator', 'coroutine', 'async generator', or '' for other functions."""
    return next((name for flag, name in _KINDS if code.co_flags & flag), '')


def parameters(code: CodeType) -> list[str]:
    """The names of a code's parameters."""
    count = code.co_argcount + code.co_kwonlyargcount
    found = list(code.co_varnames[:count])
    if code.co_flags & inspect.CO_VARARGS:
        found.insert(code.co_argcount, code.co_varnames[count])
        count += 1
    if code.co_flags & inspect.CO_VARKEYWORDS:
        found.append(code.co_varnames[count])
    return found


def find(name: str) -> Target:
    """The code of a function.

    Args:
        name: `module:name`, or `module:Class.method`. `Class.property.fset` is the setter of a property, and
            `function.<locals>.inner` a function in a function.

    Raises:
        NotFound: there is none.
    """
    module_name, colon, path = name.partition(':')
    if not colon or not module_name or not path:
        raise NotFound(f"'{name}' is no name of a function: expected module:function or module:Class.method"
                       + _with_colon(name))
    module = sys.modules.get(module_name)
    if module is None:
        raise NotFound(_no_module(module_name))
    parts = path.split('.')
    if _LOCALS in parts:
        at = parts.index(_LOCALS)
        outer = _named(name, module, module_name, parts[:at])
        return _nested(name, outer, parts[at:])
    return _named(name, module, module_name, parts)


def _named(name, module, module_name, parts):
    found: Any = module
    owner: Any = None           # the class that the last part is in
    for number, part in enumerate(parts):
        where = ':'.join(filter(None, [module_name, '.'.join(parts[:number])]))
        if type(found) is property and part in _ACCESSORS:
            found = _accessor(found, part, where)
            continue
        owner, found = found, _member(found, part, where)
    return _unwrapped(name, owner, found)


def _member(value: Any, part: str, where: str) -> Any:
    kind = type(value)
    if issubclass(kind, type):
        found = in_class(value, part)
    elif issubclass(kind, ModuleType):
        found = variables(value).get(part, MISSING)
    else:
        # An object: its methods are in its class.
        found = in_class(kind, part)
        if found is MISSING or type(found) is not FunctionType and id(type(found)) not in _WRAPPERS \
                and type(found) is not property:
            try:
                found = attribute(value, part)
            except NotStatic:
                found = in_class(kind, part)
    if found is MISSING:
        near = _near(part, names(value))
        raise NotFound(f"{where} has no '{part}'" + (f'. Near: {near}' if near else ''))
    return found


def _with_colon(name):
    """A hint for `module.Class.method`."""
    module, rest = name, ''
    while '.' in module:
        module, _, part = module.rpartition('.')
        rest = f'{part}.{rest}' if rest else part
        if module in sys.modules and rest:
            return f', such as {module}:{rest}'
    return ''


def _near(wanted: str, known: list[str]) -> str:
    lower: dict[str, str] = {}
    for one in known:
        lower.setdefault(one.lower(), one)
    close = difflib.get_close_matches(wanted.lower(), list(lower), _NEAR, 0.6)
    return ', '.join(utf8(lower[one]) for one in close)


def _no_module(name):
    loaded = [one for one in list(sys.modules) if type(one) is str]
    near = _near(name, loaded)
    if not near:        # the last word alone: orders, for shop.orders
        near = ', '.join([one for one in loaded if one.rpartition('.')[2] == name.rpartition('.')[2]][:_NEAR])
    return f"the module '{name}' is not imported in this process, and a watch does not import it" \
        + (f'. Near: {near}' if near else '')


def _accessor(found: property, part: str, where: str) -> Any:
    function = property.__dict__[part].__get__(found)
    if function is None:
        raise NotFound(f'the property {where} has no {part}')
    return function


def _unwrapped(name: str, owner: Any, found: Any) -> Target:
    """The target of what has that name: the innermost function that it calls."""
    kind, notes = 'function', []
    is_in_class = owner is not None and not issubclass(type(owner), ModuleType)
    if is_in_class:
        kind = 'method'
    for _ in range(_DECORATORS):
        holder = type(found)
        if holder is FunctionType:
            inner = variables_of_function(found).get('__wrapped__', MISSING)
            if inner is MISSING or not _is_callable(inner):
                break
            notes.append(f'{class_name_of(found)} is a decorator: the function in it is watched')
            found = inner
        elif holder is property:
            kind = 'property'
            found = _accessor(found, 'fget', name)
        elif id(holder) in _WRAPPERS:
            if holder is staticmethod or holder is classmethod:
                kind = holder.__name__
            elif holder is MethodType:
                kind = 'method'
            found = _WRAPPERS[id(holder)](found)
        elif id(holder) in _IN_LIBRARY:
            kind = 'property' if holder is functools.cached_property else kind
            found = variables(found).get('func', None)
        elif (inner := variables(found).get('__wrapped__', MISSING)) is not MISSING and not issubclass(holder, type):
            notes.append(f'{class_name(holder)} is a decorator: the function in it is watched')
            found = inner
        else:
            break
    if type(found) is not FunctionType:
        raise NotFound(_no_function(name, found))
    code = code_of(found)
    if file_is_of_console(code.co_filename):
        raise NotFound(f'{name} is a function of the console, which sees what all sessions send: it cannot be watched')
    own_name = name.replace(':', '.').rpartition('.')[2]
    if code.co_flags & inspect.CO_NESTED and code.co_name != own_name and kind != 'property':
        notes.append(f'{class_name_of(found)} is watched: the calls of all functions that share its code are shown')
    has_self = kind in ('method', 'classmethod', 'property') and code.co_argcount > 0
    return Target(name, [code], kind, notes, has_self, found)


def code_of(function: FunctionType) -> CodeType:
    """The function's own code, also while it is watched."""
    code = function.__code__
    return ORIGINALS.get(id(code), code)


def variables_of_function(function: FunctionType) -> dict[str, Any]:
    """The attributes that were set on a function."""
    return FunctionType.__dict__['__dict__'].__get__(function)


def class_name_of(function: FunctionType) -> str:
    """The name of a function's code: that of a wrapper, not of what it wraps."""
    code = code_of(function)
    return utf8(getattr(code, 'co_qualname', code.co_name))


def _is_callable(value):
    kind = type(value)
    return kind is FunctionType or kind is property or id(kind) in _WRAPPERS or in_class(kind, '__call__') is not MISSING


def _no_function(name: str, found: Any) -> str:
    kind = type(found)
    if issubclass(kind, type):
        return f'{name} is a class: watch a method of it, such as {name}.__init__'
    if module_name(kind) == 'builtins' and kind.__name__ in ('builtin_function_or_method', 'method_descriptor',
                                                          'wrapper_descriptor', 'method-wrapper', 'classmethod_descriptor',
                                                          'getset_descriptor', 'member_descriptor'):
        return f'{name} is a function in C: only functions in Python can be watched'
    if issubclass(kind, ModuleType):
        return f'{name} is a module: watch a function of it'
    call = in_class(kind, '__call__')
    if type(call) is FunctionType:
        of_class = type.__dict__['__qualname__'].__get__(kind)
        return f'{name} is an object of {class_name(kind)}: watch {module_name(kind)}:{of_class}.__call__'
    if 'cython' in class_name(kind) or class_name(kind).endswith('cyfunction'):
        return f'{name} is a function of Cython: only functions in Python can be watched'
    return f'{name} is a {class_name(kind)}: only functions in Python can be watched'


def _nested(name: str, outer: Target, parts: list[str]) -> Target:
    """The target of a function that is defined in another one. `parts`: `<locals>` and the names, perhaps repeatedly."""
    codes = outer.codes
    in_class_body = False
    for part in parts:
        if part == _LOCALS:
            in_class_body = False
            continue
        inner = list(_constants(codes))
        found = [code for code in inner if code.co_name == part]
        if not found:
            near = _near(part, [code.co_name for code in inner if not code.co_name.startswith('<')])
            raise NotFound(f"{outer.name} defines no '{part}'" + (f'. Near: {near}' if near else ''))
        codes = found
        in_class_body = True
    notes = list(outer.notes)
    if len(codes) > 1:
        notes.append(f'{len(codes)} functions of this name are watched')
    is_method = len(parts) > 1 and parts[-2] != _LOCALS and in_class_body
    has_self = is_method and codes[0].co_varnames[:1] in (('self',), ('cls',))
    if not codes[0].co_flags & inspect.CO_OPTIMIZED:
        raise NotFound(f'{name} is a class: watch a method of it, such as {name}.__init__')
    return Target(name, codes, 'method' if is_method else 'function', notes, has_self)


def _constants(codes: list[CodeType]) -> Iterator[CodeType]:
    """The code that is defined in these, without what is defined in that again."""
    left = _NESTED
    for code in codes:
        for constant in code.co_consts:
            left -= 1
            if left < 0:
                return
            if type(constant) is CodeType:
                yield constant


def functions_of(codes: list[CodeType], objects: list[Any], pause: Callable[[], None]) -> list[FunctionType]:
    """The living functions with this code: one for each closure, also those that other modules have imported.

    Args:
        objects: the objects of the process, as gc.get_objects() gives them. The list is emptied.
        pause: lets others run. Called from time to time.
    """
    wanted = {id(code) for code in codes}
    found: list[FunctionType] = []
    while objects:
        piece = objects[-8000:]
        del objects[-8000:]
        found += [one for one in piece if type(one) is FunctionType and id(code_of(one)) in wanted]
        del piece
        pause()
    return found
