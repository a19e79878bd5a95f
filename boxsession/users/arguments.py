"""The arguments of box.schema: names and options, checked as Tarantool 2.6 checks them."""
from __future__ import annotations

from typing import Any

from boxsession.base.errors import ClientError

__all__ = ['checked_key', 'checked_name', 'checked_object', 'checked_options', 'text']


def text(value: Any) -> str:
    """A value as error texts show it."""
    if value is None:
        return 'nil'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f'{value:g}'
    if isinstance(value, (dict, list)):
        return f'table: {id(value):#x}'
    return value.decode(errors='replace') if isinstance(value, bytes) else str(value)


def checked_key(name: Any) -> Any:
    """Checks the name or id of a user, role or function that is looked up; nil is neither.

    Raises:
        ClientError: it cannot be a key in Tarantool's spaces.
    """
    is_id = isinstance(name, (int, float)) and not isinstance(name, bool) and 0 <= name < 1 << 64 and name == name // 1
    if name is not None and not is_id and not isinstance(name, (str, bytes)):
        raise ClientError('KEY_PART_TYPE', 0, 'unsigned')
    return name


def checked_object(name: Any) -> Any:
    """Checks the name or id of the object of a grant. `{if_not_exists = true}` is there if a nil was forgotten.

    Raises:
        ClientError: it is of another type.
    """
    if name is not None and (isinstance(name, bool) or not isinstance(name, (str, bytes, int, float))):
        raise ClientError('ILLEGAL_PARAMS', 'wrong object name type')
    return checked_key(name)


def checked_name(name: Any) -> str:
    """Checks the name of a new user, role or function.

    Raises:
        ClientError: it is missing, no string, empty or not printable.
    """
    if name is None:
        raise ClientError('EXACT_MATCH', 1, 0)
    if not isinstance(name, str) or not name or not name.replace(' ', 'x').isprintable():
        raise ClientError('IDENTIFIER', text(name).partition('\0')[0] if isinstance(name, (str, bytes)) else text(name))
    return name


def checked_options(options: Any, **types: type) -> dict[str, Any]:
    """Checks a table of options.

    Args:
        options: the table, or nil.
        types: the known options, with the type of each.

    Raises:
        ClientError: it is no table, or an option is unknown or has the wrong type.
    """
    if options is None or options == []:        # []: an empty Lua table
        return {}
    if not isinstance(options, dict):
        raise ClientError('ILLEGAL_PARAMS', 'options should be a table')
    for name, value in options.items():
        if name not in types:
            raise ClientError('ILLEGAL_PARAMS', f"unexpected option '{text(name)}'")
        expected = types[name]
        if isinstance(value, bytes) and expected is str:
            continue
        if not isinstance(value, expected):
            word = {str: 'string', bool: 'boolean'}[expected]
            raise ClientError('ILLEGAL_PARAMS', f"options parameter '{name}' should be of type {word}")
    return options
