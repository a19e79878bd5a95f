"""Which plain value stands in Lua for a Python object of the standard library's types, and back.

Imported when the first such value is packed: `boxsession connect` does not pay for these imports.
"""
from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import uuid
from array import array
from collections import UserDict, UserList, UserString, deque
from collections.abc import Mapping, Sequence, Set, ValuesView
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

__all__ = ['NO_VALUE', 'Extension', 'NoValue', 'alike', 'from_extension', 'from_key', 'natural', 'natural_key', 'shortened']

# Codes of Tarantool's msgpack extensions (lua/library/extension.lua).
_DECIMAL, _UUID, _DATETIME = 1, 2, 4
# Tarantool's decimals have at most this many digits.
_DIGITS_MAX = 38
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class NoValue:
    """The type of NO_VALUE."""


NO_VALUE = NoValue()


class Extension(bytes):
    """The code and the bytes of a value that Lua keeps as an object."""


def natural(value: Any) -> Any:
    """A plainer value: None, bool, int, float, str, bytes, list, dict or Extension, or a container of any values.

    Returns:
        NO_VALUE if there is none.

    Raises:
        ValueError: a decimal is too long. The message says what to do.
    """
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return _packed_decimal(value) if value.is_finite() else float(value)
    if isinstance(value, uuid.UUID):
        return Extension(bytes([_UUID]) + value.bytes)
    if isinstance(value, (PurePath, UserString)):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # A field that is hidden from repr() may be a secret.
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)
                if field.repr and not field.name.startswith('_') and hasattr(value, field.name)}
    if isinstance(value, (Sequence, Set, ValuesView)):
        return list(value)
    return NO_VALUE


def natural_key(key: Any) -> Any:
    """The key of a Lua table for a key of a mapping. Lua compares objects as keys by identity, so they become text."""
    while isinstance(key, enum.Enum) and not isinstance(key, (str, int)):
        key = key.value
    return str(key) if isinstance(key, (decimal.Decimal, uuid.UUID)) else key


def from_key(like: Any, key: Any) -> Any:
    """The key of `like`'s type for a key from Lua: the inverse of natural_key(). None if there is none."""
    try:
        if isinstance(like, bytes) and isinstance(key, str):
            return key.encode()
        found = alike(like, key)
    except (ValueError, TypeError, ArithmeticError):
        return None
    return found if isinstance(found, type(like)) else None


def shortened(text: str, most: int = 60) -> str:
    """A text for a message, without what is longer."""
    return text if len(text) <= most else text[:most] + '...'


def _packed_decimal(value: decimal.Decimal) -> Extension:
    """Packed BCD: the scale as a msgpack integer, two digits in a byte, and the sign in the last half byte."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if len(digits) + max(exponent, 0) > _DIGITS_MAX or exponent < -_DIGITS_MAX:
        raise ValueError(f'decimal {shortened(str(value))} has more than {_DIGITS_MAX} digits: return it as a string')
    text = ''.join(map(str, digits)) + ('d' if sign else 'c')
    scale = -exponent
    packed_scale = bytes([scale]) if scale >= 0 else bytes([0xd0, scale & 0xff])
    return Extension(bytes([_DECIMAL]) + packed_scale + bytes.fromhex('0' * (len(text) % 2) + text))


def from_extension(packed: bytes) -> Any:
    """The Python value of an object in Lua: its code and bytes, as `Extension`.

    Raises:
        ValueError: Python has no type for it.
    """
    code, data = packed[0], packed[1:]
    if code == _UUID:
        return uuid.UUID(bytes=data)
    if code == _DECIMAL:
        scale, rest = (int.from_bytes(data[1:2], 'big', signed=True), data[2:]) if data[0] == 0xd0 else (
            data[0] - 256 if data[0] >= 0xe0 else data[0], data[1:])
        text = rest.hex()
        return decimal.Decimal(f'{"-" if text[-1] in "bd" else ""}{text[:-1]}E{-scale}')
    if code == _DATETIME:
        seconds, nanoseconds, minutes = (int.from_bytes(data[start:stop], 'little', signed=True)
                                         for start, stop in ((0, 8), (8, 12), (12, 14)))
        zone = datetime.timezone(datetime.timedelta(minutes=minutes))
        since = datetime.timedelta(seconds=seconds, microseconds=nanoseconds // 1000)
        return (_EPOCH + since).astimezone(zone)
    raise ValueError('Python has no type for it')


def alike(old: Any, new: Any) -> Any:
    """A plain value from Lua, as the type of the value that it replaces: the inverse of natural() where that is possible.

    Raises:
        ValueError, TypeError, ArithmeticError: `new` is no value of that type.
    """
    kind = type(old)
    if new is None or isinstance(new, kind):
        return new
    if isinstance(old, enum.Enum):
        return kind(new)
    if isinstance(old, str):
        return _like_str(old, new)
    if isinstance(new, str):
        if isinstance(old, (datetime.date, datetime.time)):
            return kind.fromisoformat(new)
        if isinstance(old, (uuid.UUID, PurePath, UserString)):
            return kind(new)
        if isinstance(old, (bytes, bytearray)):
            return kind(new.encode())
    if isinstance(old, decimal.Decimal) and isinstance(new, (str, int, float)):
        return _like_decimal(kind, new)
    if isinstance(old, datetime.timedelta) and isinstance(new, (int, float)):
        return datetime.timedelta(seconds=new)
    if isinstance(new, list):
        if isinstance(old, Mapping) and not new:
            return _like_mapping(old, {})       # an empty table of Lua arrives as a list
        if isinstance(old, (list, deque, UserList, array)):
            return _refilled_list(old, new)
        if isinstance(old, tuple) and not hasattr(old, '_fields') or isinstance(old, (Set, Sequence)):
            return kind(new)
    if isinstance(new, dict):
        if isinstance(old, Mapping):
            return _like_mapping(old, new)
        if dataclasses.is_dataclass(old) or isinstance(old, tuple) and hasattr(old, '_fields'):
            return kind(**new)
    return new


def _like_str(old: str, new: Any) -> Any:
    if isinstance(new, bytes):
        raise ValueError('the new value is not valid UTF-8')
    if isinstance(new, (list, dict)):
        raise ValueError('expected a string, not a table')
    if isinstance(new, str) and type(old) is not str:
        return type(old)(new)
    return new


def _like_decimal(kind: type[decimal.Decimal], new: Any) -> decimal.Decimal:
    # Checked first: the message of the exception would not say what was expected.
    value = kind(str(new))
    if not value.is_finite():
        raise ValueError(f'{shortened(str(new))} is no finite number')
    _packed_decimal(value)
    return value


def _refilled_list(old: Any, new: list[Any]) -> Any:
    copied = copy.copy(old)             # keeps the maximum of a deque, the type code of an array
    while len(copied):
        copied.pop()
    copied.extend(new)
    return copied


def _like_mapping(old: Mapping[Any, Any], new: dict[Any, Any]) -> Mapping[Any, Any]:
    if type(old) is dict:
        return new
    if isinstance(old, (dict, UserDict)):
        copied = copy.copy(old)         # keeps the function of a defaultdict
        copied.clear()
        copied.update(new)
        return copied
    if isinstance(old, MappingProxyType):
        return MappingProxyType(new)
    # A copy could share its content with the original, and a new one may need arguments.
    raise ValueError('it cannot be replaced as a whole: write its keys')
