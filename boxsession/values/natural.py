"""Which plain value stands in Lua for a Python object of the standard library's types, and back.

Imported when the first such value is packed: `boxsession connect` does not pay for these imports.
"""
from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from collections import UserString
from collections.abc import Mapping, Sequence, Set, ValuesView
from pathlib import PurePath
from typing import Any

__all__ = ['NO_VALUE', 'Extension', 'NoValue', 'alike', 'from_extension', 'natural', 'natural_key']

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


def _packed_decimal(value: decimal.Decimal) -> Extension:
    """Packed BCD: the scale as a msgpack integer, two digits in a byte, and the sign in the last half byte."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if len(digits) + max(exponent, 0) > _DIGITS_MAX or exponent < -_DIGITS_MAX:
        raise ValueError(f'decimal {value} has more than {_DIGITS_MAX} digits: return it as a string')
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
    if isinstance(new, str):
        if isinstance(old, (datetime.date, datetime.time)):
            return kind.fromisoformat(new)
        if isinstance(old, (uuid.UUID, PurePath)):
            return kind(new)
        if isinstance(old, (bytes, bytearray)):
            return kind(new.encode())
    if isinstance(old, decimal.Decimal) and isinstance(new, (str, int, float)):
        return kind(str(new))
    if isinstance(old, datetime.timedelta) and isinstance(new, (int, float)):
        return datetime.timedelta(seconds=new)
    if isinstance(new, list):
        if isinstance(old, Mapping) and not new:
            return {}                           # an empty table of Lua arrives as a list
        if isinstance(old, tuple) and not hasattr(old, '_fields') or isinstance(old, (Set, Sequence)):
            return kind(new)
    if isinstance(new, dict) and (dataclasses.is_dataclass(old) or isinstance(old, tuple) and hasattr(old, '_fields')):
        return kind(**new)
    return new
