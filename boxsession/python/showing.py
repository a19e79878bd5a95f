r"""An object as its type, identity and fields, for `\show`. No code of the object's class runs."""
from __future__ import annotations

from itertools import islice
from types import GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

from boxsession.python.values import content_of, is_plain, named, of_class

__all__ = ['fields_of', 'shown']

# Fields, or items of a collection, that are shown of each object.
_MOST = 100
_BASES, _NAMES = type.__dict__['__mro__'].__get__, type.__dict__['__dict__'].__get__


def shown(value: Any, depth: int) -> dict[str, Any]:
    """A map that shows an object. Plain data in it is left as it is.

    Args:
        depth: on how many levels of objects their fields are shown. Deeper objects are left as they are.
    """
    row: dict[str, Any] = {'type': _class_name(value), 'id': hex(id(value))}
    is_collection = content_of(value) is not None
    if is_plain(value):
        row['value'] = value
    elif is_collection:
        row['items'] = _inner(value, depth)
    fields = {} if is_plain(value) else fields_of(value)
    if fields or not is_plain(value) and not is_collection:
        row['fields'] = {name: _inner(field, depth) for name, field in islice(fields.items(), _MOST)}
    if len(fields) > _MOST:
        row['more'] = f'{len(fields) - _MOST} more fields'
    return row


def _inner(value: Any, depth: int) -> Any:
    content = content_of(value)
    if content is None:
        return value if is_plain(value) or depth <= 1 else shown(value, depth - 1)
    items = list(islice(content.items, _MOST))
    if content.is_map:
        return {key: value if content_of(value) is not None else _inner(value, depth) for key, value in items}
    return [item if content_of(item) is not None else _inner(item, depth) for item in items]


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of an object, as they are stored: in its dict, and in its slots."""
    found: dict[str, Any] = {}
    own = of_class(value, '__dict__')
    if type(own) is GetSetDescriptorType and not issubclass(type(value), type):
        is_module = issubclass(type(value), ModuleType)
        found.update((name, field) for name, field in dict.items(own.__get__(value))
                     if type(name) is str and not (is_module and name.startswith('__')))
    for base in _BASES(type(value)):
        for name, slot in _NAMES(base).items():
            if type(slot) is MemberDescriptorType and not name.startswith('__') and name not in found:
                try:
                    found[name] = slot.__get__(value)
                except AttributeError:              # not set
                    pass
    return found


def _class_name(value: Any) -> str:
    module = of_class(value, '__module__')
    name = named(value)[1:-1]
    return f'{module}.{name}' if type(module) is str and module != 'builtins' else name
