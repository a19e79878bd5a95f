"""Packs the value of a statement in Python for the formatters (the grammar of values/packed.py).

Plain data is packed as data: None, bool, int, float, str, bytes, lists, tuples, sets, dicts and their views, deques, named
tuples, dataclasses, enums, dates and times, UUIDs, decimals and paths. Anything else is a text that the caller gives.
No code of the program runs: collections are read by the methods of the built-in classes, fields from where they are stored.
The exceptions are time zones of datetimes.
"""
from __future__ import annotations

import dataclasses
import datetime
import enum
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import PurePath
from types import MemberDescriptorType
from typing import Any
from uuid import UUID

from boxsession.values.packed import text

__all__ = ['NONE', 'content_of', 'float_text', 'is_plain', 'looks_typed', 'named', 'of_class', 'packed']

# None, packed.
NONE = b'Z'

_DEEPEST = 100
# Number of values between two pauses.
_STEP = 256
# An integer with more bits is written in hexadecimal: in decimal, it would be one long operation, which Python may refuse.
_DECIMAL_BITS, _INTEGER_BITS = 14_000, 1 << 20
# Longer exponents of decimals are not written out.
_EXPONENT_MAX = 60
# Strings that some readers of YAML take for other types if they are not quoted.
_TYPED = re.compile(
    r'[-+.]?\d[\d_a-fA-FxXoO.:+\-TtZz ]*|[-+]?\.(inf|nan)|y|n|yes|no|on|off|true|false|null|nan|~|=|<<|', re.IGNORECASE)
_TYPED_MAX = 128
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_PLAIN = (str, bytes, bytearray, memoryview, enum.Enum, int, float, Decimal, datetime.timedelta)
_ITERATED: tuple[type, ...] = (list, tuple, set, frozenset, deque)


class _Full(Exception):
    pass


def looks_typed(value: str) -> bool:
    """Whether some reader of YAML takes a text for another type if it is not quoted."""
    return len(value) <= _TYPED_MAX and _TYPED.fullmatch(value) is not None


def float_text(value: float) -> str:
    """A number in YAML."""
    digits = float.__repr__(value)
    if digits in ('inf', '-inf', 'nan'):
        return digits.replace('inf', '.inf').replace('nan', '.nan')
    if 'e' in digits and '.' not in digits:
        return digits.replace('e', '.0e')           # YAML 1.1 needs the point
    return digits


def is_plain(value: Any) -> bool:
    """Whether a value is plain data, and no collection."""
    return value is None or issubclass(type(value), _PLAIN) or _short_text(value) is not None


def named(value: Any) -> str:
    """The name of a value's class, in angle brackets: `<Order>`."""
    return f'<{type.__dict__["__qualname__"].__get__(type(value))}>'


def packed(value: Any, most: int, other: Callable[[Any], str] = named, pause: Callable[[], None] = lambda: None) -> bytes:
    """Packs a value. Other greenlets may change collections during a pause.

    Args:
        most: about the maximum number of bytes. The rest is left out, behind the mark of a truncation.
        other: gives the text for a value that is not plain data.
        pause: called now and then, so that other greenlets can run; it may raise.
    """
    writer = _Writer(most, other, pause)
    try:
        writer.value(value, 0)
    except _Full:
        # The mark of a truncation is only allowed behind all collections.
        writer.out += [*reversed(writer.ends), b'X']
    return b''.join(writer.out)


class _Writer:
    """Writes one value.

    Attributes:
        out: the pieces of the packed string.
        ends: what is missing to end each open collection, the outermost first.
    """

    def __init__(self, most: int, other: Callable[[Any], str], pause: Callable[[], None]):
        self.out: list[bytes] = []
        self.ends: list[bytes] = []
        self._left = most
        self._other = other
        self._pause = pause
        self._count = 0
        self._open: set[int] = set()            # the ids of the collections that contain the current value

    def value(self, value: Any, depth: int) -> None:
        self._count += 1
        if not self._count % _STEP:
            self._pause()
        if value is None or value is True or value is False:
            self._put(NONE if value is None else b't' if value else b'f')
        elif issubclass(type(value), (str, bytes, bytearray, memoryview)):
            self._string(value)
        elif issubclass(type(value), enum.Enum):
            self.value(value._value_, depth)
        elif issubclass(type(value), (int, float, Decimal, datetime.timedelta)):
            self._number(value)
        elif (content := content_of(value)) is not None:
            self._collection(value, content, depth)
        else:
            self._string(_short_text(value) or self._other(value))

    def _put(self, piece: bytes) -> None:
        if len(piece) > self._left:
            raise _Full
        self._left -= len(piece)
        self.out.append(piece)

    def _string(self, value: Any) -> None:
        if issubclass(type(value), memoryview):
            if value.nbytes > self._left:
                raise _Full
            data, mark = value.tobytes(), b's'
        elif issubclass(type(value), (bytes, bytearray)):
            if len(value) > self._left:
                raise _Full
            data, mark = bytes(memoryview(value)), b's'
            if len(data) <= _TYPED_MAX and _TYPED.fullmatch(data.decode('latin-1')):
                mark = b'q'
        else:
            size = str.__len__(value)
            if size > self._left:
                raise _Full
            try:
                data = str.encode(value, errors='surrogateescape')
            except UnicodeEncodeError:
                data = str.encode(value, errors='surrogatepass')
            mark = b'q' if size <= _TYPED_MAX and _TYPED.fullmatch(value) else b's'
        self._put(text(mark, data))

    def _number(self, value: Any) -> None:
        if issubclass(type(value), int):
            self._integer(value)
        elif issubclass(type(value), Decimal):
            if not Decimal.is_finite(value):
                self._float(float('nan') if Decimal.is_nan(value) else float('-inf' if Decimal.is_signed(value) else 'inf'))
            elif abs(Decimal.adjusted(value)) > _EXPONENT_MAX or len(Decimal.as_tuple(value).digits) > 4 * _EXPONENT_MAX:
                self._put(text(b'q', Decimal.__str__(value).encode()))
            else:
                self._put(text(b'n', Decimal.__format__(value, 'f').encode()))
        else:
            self._float(value if issubclass(type(value), float) else datetime.timedelta.total_seconds(value))

    def _integer(self, value: int) -> None:
        bits = int.bit_length(value)
        if bits > _INTEGER_BITS:
            self._put(text(b's', b'<int of %d bits>' % bits))
        elif bits > _DECIMAL_BITS:
            self._put(text(b'n', int.__format__(value, '#x').encode()))
        else:
            self._put(text(b'n', int.__repr__(value).encode()))

    def _float(self, value: float) -> None:
        self._put(text(b'n', float_text(value).encode()))

    def _collection(self, value: Any, content: Content, depth: int) -> None:
        if id(value) in self._open:
            self._string(f'{named(value)[:-1]} that contains itself>')
        elif depth >= _DEEPEST:
            self._string(f'{named(value)[:-1]} nested deeper than {_DEEPEST}>')
        else:
            self._open.add(id(value))
            self._left -= 1                     # for the mark of its end
            if content.is_map:
                self._map(content.items, depth + 1)
            else:
                self._list(content.items, depth + 1)
            self._open.discard(id(value))

    def _begin(self, mark: bytes, end: bytes) -> None:
        self._put(mark)
        if self.ends and self.ends[-1] == b'Z}':
            self.ends[-1] = b'}'                # this is the value that it waits for
        self.ends.append(end)

    def _list(self, items: Iterator[Any], depth: int) -> None:
        self._begin(b'L', b']')
        try:
            for item in items:
                self.value(item, depth)
        except _Changed:
            self._string(_CHANGED)
        self.out.append(self.ends.pop())

    def _map(self, items: Iterator[tuple[Any, Any]], depth: int) -> None:
        self._begin(b'M', b'}')
        try:
            for key, item in items:
                if type(key) is str and key == '__builtins__':      # exec() adds it to global names
                    continue
                self._key(key)
                self.ends[-1] = b'Z}'
                self.value(item, depth)
                self.ends[-1] = b'}'
        except _Changed:
            self._string('...')
            self._string(_CHANGED)
        self.out.append(self.ends.pop())

    def _key(self, key: Any) -> None:
        if issubclass(type(key), enum.Enum):
            key = key._value_
        if issubclass(type(key), tuple) and len(key) <= _KEY_ITEMS and all(type(item) in _KEY_PARTS for item in key):
            self._string(tuple.__repr__(key))
        elif content_of(key) is not None:
            self._string(self._other(key))
        else:
            self.value(key, 0)


# Parts of a tuple that is shown as a key.
_KEY_ITEMS, _KEY_PARTS = 8, (int, str, bytes, bool, float, type(None))
_CHANGED = '<the collection changed while it was read>'


class _Changed(Exception):
    pass


def _while_unchanged(items: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from items
    except RuntimeError:
        raise _Changed from None


class Content:
    """What a collection contains: items, or pairs of keys and values."""

    __slots__ = ('is_map', 'items')

    def __init__(self, is_map: bool, items: Iterable[Any]):
        self.is_map = is_map
        self.items = _while_unchanged(items)


def content_of(value: Any) -> Content | None:
    """What a value contains; None if it is no collection."""
    if issubclass(type(value), dict):
        return Content(True, value.items() if type(value) is OrderedDict else dict.items(value))
    if issubclass(type(value), tuple):
        names = of_class(value, '_fields')
        if type(names) is tuple and len(names) == tuple.__len__(value):
            return Content(True, zip(names, tuple.__iter__(value), strict=True))
    for base in _ITERATED:
        if issubclass(type(value), base):
            return Content(False, base.__iter__(value))        # type: ignore[attr-defined]
    if type(value) in _VIEWS:
        return Content(False, value)
    fields = None if issubclass(type(value), type) else of_class(value, '__dataclass_fields__')
    return Content(True, _stored(value, fields)) if type(fields) is dict else None


def of_class(value: Any, name: str) -> Any:
    """An attribute of a value's class or its bases, as it is stored; None without one."""
    for base in _BASES(type(value)):
        found = _NAMES(base).get(name)
        if found is not None:
            return found
    return None


_BASES, _NAMES = type.__dict__['__mro__'].__get__, type.__dict__['__dict__'].__get__


def _stored(value: Any, fields: dict[str, Any]) -> list[tuple[str, Any]]:
    """The fields of a dataclass that its repr() would show, as they are stored."""
    found = []
    try:
        own = object.__getattribute__(value, '__dict__')
    except AttributeError:
        own = {}
    for name, field in fields.items():
        if type(field) is not dataclasses.Field or not field.repr or field._field_type is not _FIELD:  # type: ignore
            continue
        slot = of_class(value, name)
        if name in own:
            found.append((name, own[name]))
        elif type(slot) is MemberDescriptorType:
            try:
                found.append((name, slot.__get__(value)))
            except AttributeError:              # not set
                pass
    return found


_FIELD = dataclasses._FIELD            # type: ignore[attr-defined]     # no ClassVar, no InitVar


def _short_text(value: Any) -> str | None:
    """The text of a date, a time, an identifier or a path."""
    for base in (datetime.datetime, datetime.date, datetime.time):
        if issubclass(type(value), base):
            return base.isoformat(value)
    if issubclass(type(value), UUID):
        return UUID.__str__(value)
    return PurePath.__str__(value) if issubclass(type(value), PurePath) else None
