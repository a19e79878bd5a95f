"""The packed string: a serialised value that passes between Lua, Python and the formatters.

This module is the writer and reader for Python, boxsession/lua/wire/packed.lua the one for Lua. The grammar:

    N nil    Z box.NULL    t true    f false
    n<length>:<digits>      a number, as text
    s<length>:<bytes>       a string        q<length>:<bytes>   a string that looks like a number
    L values... ]           a list          l values... ]       a list to write in flow style
    M (key value)... }      a map           m (key value)... }  a map to write in flow style
    &<length>:<name>        an anchor: names the value that follows
    *<length>:<name>        an alias: the value of that name again
    X                       the output was truncated here, between values that are in no list or map

    I<length>:<digits>      a 64-bit integer that a Lua number cannot hold exactly
    E<length>:<code><bytes> an extension value of msgpack: the byte of its code, and its bytes

Only values for a formatter contain q and X. E is only in values for or from Python code.

A tagged string is a packed string after a byte that names the formatter (values/documents.py). For Lua output, a string in
front of all values is the end of the document.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ['Tagged', 'Token', 'Unpackable', 'is_printable', 'is_printable_piece', 'pack', 'pieces', 'text', 'tokens',
           'tree', 'unpack']

Token = tuple[str, bytes]
# In several strings if a text is long: the text is then a string of its own.
Tagged = bytes | tuple[bytes, ...]

_WITH_TEXT = frozenset(b'nsq&*IE')
# A Lua number holds every integer up to this.
_EXACT_MAX = 2 ** 53
_WHOLE_MIN, _WHOLE_MAX = -2 ** 63, 2 ** 64 - 1
_DEEPEST = 100
# Number of tokens between two pauses. Strings of up to _SHORT bytes are unpacked without a pause.
_STEP = 256
_SHORT = 1 << 12
_GONE = object()
_WORDS = {'N': None, 'Z': None, 't': True, 'f': False}


def tokens(data: Tagged, start: int = 0) -> Iterator[Token]:
    """The tokens of a packed or tagged string from `start` on: (mark, text). The text is b'' if the mark has none."""
    rest = iter((data,) if isinstance(data, bytes) else data)
    for piece in rest:
        at, end = start, len(piece)
        start = 0
        while at < end:
            mark = piece[at]
            if mark in _WITH_TEXT:
                colon = piece.index(b':', at)
                stop = colon + 1 + int(piece[at + 1:colon])
                yield chr(mark), piece[colon + 1:stop] if stop <= end else next(rest)
                at = stop
            else:
                yield chr(mark), b''
                at += 1


def text(mark: bytes, data: bytes) -> bytes:
    """A token with a text."""
    return b'%s%d:%s' % (mark, len(data), data)


# Python's values ------------------------------------------------------------------------------------------------------

def _go_on() -> None:
    pass


class Unpackable(ValueError, TypeError):
    """A value cannot be passed to or from Lua. The message has the path into the value, as Lua writes it: `.orders[3].at`.

    Attributes:
        kind: the name of the exception that fits: 'TypeError' or 'ValueError'.
    """

    # Of a longer path, only this many of the first keys are shown.
    _SHOWN, _KEY_SHOWN = 12, 60

    def __init__(self, kind: str, reason: str, form: str = '{path}: {reason}'):
        super().__init__(reason)
        self.kind = kind
        self._reason = reason
        self._form = form
        self._keys: list[Any] = []              # the innermost first

    def inside(self, key: Any) -> None:
        """Adds the key of the container that has the value; a list counts from 1."""
        self._keys.append(key)

    def __str__(self) -> str:
        keys = self._keys[::-1]
        path = ''.join(map(self._step, keys[:self._SHOWN])) + ('...' if len(keys) > self._SHOWN else '')
        return self._form.format(path=path, reason=self._reason) if path else self._reason

    def _step(self, key: Any) -> str:
        if isinstance(key, bytes):
            key = key.decode(errors='backslashreplace')
        if isinstance(key, str):
            return f'.{key}' if key.isidentifier() and len(key) <= self._KEY_SHOWN else f'["{key[:self._KEY_SHOWN]}"]'
        return f'[{key}]' if isinstance(key, (int, float)) else f'[{type(key).__name__}]'


class _Out(list[bytes]):
    """The pieces of a packed string.

    Attributes:
        done: the joined pieces of a long string.
        pause, other: as in pack().
    """

    __slots__ = ('done', 'pause', 'other')

    def __init__(self, pause: Callable[[], None], other: Callable[[Any], Any] | None):
        self.done: list[bytes] = []
        self.pause = pause
        self.other = other


def pack(value: Any, pause: Callable[[], None] = _go_on, other: Callable[[Any], Any] | None = None) -> bytes:
    """Packs a Python value for Lua. Bytes and str become strings; lists, tuples and sets lists; mappings maps. Other types
    of the standard library are packed as values/natural.py says.

    Other greenlets may change the value during a pause. Each collection is packed with the items that it has when its
    packing begins, without the keys that a mapping loses later.

    Args:
        pause: called now and then, so that other greenlets can run.
        other: called with a value of another type; returns a value that can be packed.

    Raises:
        Unpackable: a value is of another type and has no `__serialize__`; or it is nested too deeply, has a key that Lua
            does not allow, or is an integer of more than 64 bits.
    """
    out = _Out(pause, other)
    _pack(out, value, 0)
    if not out.done:
        return b''.join(out)
    out.done.append(b''.join(out))
    return b''.join(out.done)


def _pack(out: _Out, value: Any, depth: int) -> None:
    if depth > _DEEPEST:
        raise Unpackable('ValueError', f'value is nested deeper than {_DEEPEST}', '{reason}: {path}')
    if len(out) > _STEP:
        out.done.append(b''.join(out))
        out.clear()
        out.pause()
    if value is None:
        out.append(b'Z' if depth else b'N')
    elif value is True or value is False:
        out.append(b't' if value else b'f')
    elif isinstance(value, int):
        value = int.__int__(value)              # a subclass may override its conversions
        if -_EXACT_MAX <= value <= _EXACT_MAX:
            out.append(text(b'n', b'%d' % value))
        elif _WHOLE_MIN <= value <= _WHOLE_MAX:
            out.append(text(b'I', b'%d' % value))
        else:
            raise Unpackable('ValueError', f'integer of {value.bit_length()} bits does not fit 64 bits: return it as a '
                                           'string')
    elif isinstance(value, float):
        out.append(text(b'n', float.__repr__(value).encode()))
    elif isinstance(value, str):
        out.append(text(b's', str.encode(value, errors='surrogateescape')))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        out.append(text(b's', memoryview(value).tobytes()))
    elif isinstance(value, Mapping):
        _pack_map(out, value, depth)
    elif isinstance(value, (list, tuple, set, frozenset)):
        if isinstance(value, tuple) and hasattr(value, '_fields'):
            _pack_map(out, dict(zip(value._fields, value, strict=False)), depth)
        else:
            _pack_list(out, value, depth)
    elif hasattr(type(value), '__serialize__'):
        _pack(out, value.__serialize__(), depth + 1)
    else:
        _pack_other(out, value, depth)


def _pack_list(out: _Out, value: Any, depth: int) -> None:
    out.append(b'L')
    number = 0
    try:
        for item in tuple(value):
            number += 1
            _pack(out, item, depth + 1)
    except Unpackable as error:
        error.inside(number)
        raise
    out.append(b']')


def _pack_map(out: _Out, value: Mapping[Any, Any], depth: int) -> None:
    out.append(b'M')
    key: Any = None
    try:
        for key in tuple(value):
            item = value.get(key, _GONE)
            if item is not _GONE:
                _pack_key(out, key, depth + 1)
                _pack(out, item, depth + 1)
    except Unpackable as error:
        error.inside(key)
        raise
    out.append(b'}')


def _pack_key(out: _Out, key: Any, depth: int) -> None:
    if not isinstance(key, str):
        if isinstance(key, int):
            key = key if -_EXACT_MAX <= key <= _EXACT_MAX else '%d' % key
        else:
            from boxsession.values.natural import natural_key
            key = natural_key(key)
        if key is None or key != key:
            raise Unpackable('ValueError', f'{key!r} cannot be a key in Lua')
    _pack(out, key, depth)


def _pack_other(out: _Out, value: Any, depth: int) -> None:
    from boxsession.values.natural import NO_VALUE, Extension, natural
    try:
        plain = natural(value)
    except ValueError as error:
        raise Unpackable('ValueError', str(error)) from None
    if plain is NO_VALUE and out.other is not None:
        plain = out.other(value)
    if type(plain) is Extension:
        out.append(text(b'E', plain))
    elif plain is not NO_VALUE:
        _pack(out, plain, depth)
    else:
        raise Unpackable('TypeError', f'{type(value).__name__} cannot be passed to Lua: give it __serialize__, or return '
                                      'plain data')


def unpack(packed: bytes, start: int = 0, pause: Callable[[], None] = _go_on) -> Any:
    """Unpacks a value from Lua. A string becomes str if it is UTF-8, otherwise bytes. Whole numbers become int.

    Args:
        start: the offset at which the value begins.
        pause: called now and then, so that other greenlets can run.

    Raises:
        Unpackable: a table is the key of another table, or Python has no type for an object.
    """
    stream = tokens(packed, start)
    if len(packed) > _SHORT:
        stream = _pausing(stream, pause)
    return tree(stream, _scalar, _key)


def _pausing(stream: Iterator[Token], pause: Callable[[], None]) -> Iterator[Token]:
    for number, token in enumerate(stream):
        if not number % _STEP:
            pause()
        yield token


def _scalar(mark: str, data: bytes) -> Any:
    if mark in 'sq':
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data
    if mark == 'n':
        number = float(data)
        return int(number) if number.is_integer() else number
    if mark == 'I':
        return int(data)
    if mark == 'E':
        from boxsession.values.natural import from_extension
        try:
            return from_extension(data)
        except (ValueError, ArithmeticError) as error:
            raise Unpackable('ValueError', f'an extension value cannot be passed to Python: {error}') from None
    return _WORDS[mark]


def _key(key: Any) -> Any:
    if isinstance(key, (list, dict)):
        raise Unpackable('ValueError', 'a table cannot be a key in Python')
    return key


def tree(stream: Iterator[Token], scalar: Callable[[str, bytes], Any], key: Callable[[Any], Any]) -> Any:
    """Reads the next value of a stream of tokens into lists, dicts and scalars.

    Args:
        scalar: called with the mark and the text of any other token; returns its value.
        key: called with each key of a map; returns the key for the dict.

    Raises:
        RecursionError: the value is nested too deeply for Python.
    """
    return _tree(next(stream), stream, scalar, key, {})


def _tree(token: Token, stream: Iterator[Token], scalar: Callable[[str, bytes], Any], key: Callable[[Any], Any],
          anchors: dict[bytes, Any]) -> Any:
    mark, data = token
    name = None
    if mark == '&':
        name = data
        mark, data = next(stream)
    if mark in 'Ll':
        items: list[Any] = []
        if name is not None:
            anchors[name] = items
        for inner in stream:
            if inner[0] == ']':
                break
            items.append(_tree(inner, stream, scalar, key, anchors))
        return items
    if mark in 'Mm':
        mapping: dict[Any, Any] = {}
        if name is not None:
            anchors[name] = mapping
        for inner in stream:
            if inner[0] == '}':
                break
            found = key(_tree(inner, stream, scalar, key, anchors))
            mapping[found] = _tree(next(stream), stream, scalar, key, anchors)
        return mapping
    if mark == '*':
        return anchors[data]
    value = scalar(mark, data)
    if name is not None:
        anchors[name] = value
    return value


# Text -----------------------------------------------------------------------------------------------------------------

# Valid UTF-8 that does not count as text: U+0080 to U+009F, the byte order mark, the last two code points of each plane.
_HIDDEN = re.compile(rb'[\xc2\xef\xf0-\xf4](?:(?<=\xc2)[\x80-\x9f]|(?<=\xef)(?:\xbb\xbf|\xbf[\xbe\xbf])'
                     rb'|(?<=[\xf0-\xf4])[\x8f\x9f\xaf\xbf]\xbf[\xbe\xbf])')
# Size of the pieces of a long string, in bytes. A piece takes a few milliseconds at most.
_PIECE = 1 << 13


def pieces(data: bytes, pause: Callable[[], None]) -> Iterator[bytes]:
    """A string in pieces that end at the end of a character. If there are several, `pause` is called before each."""
    at, end = 0, len(data)
    if end <= _PIECE:
        yield data
        return
    while at < end:
        stop = min(at + _PIECE, end)
        for _ in range(3):
            if stop < end and data[stop] & 0xc0 == 0x80:
                stop -= 1
        pause()
        yield data[at:stop]
        at = stop


def is_printable_piece(data: bytes) -> bool:
    """is_printable() for a short string."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return _HIDDEN.search(data) is None


def is_printable(data: bytes, pause: Callable[[], None] = lambda: None) -> bool:
    """Whether a string is shown as text: valid UTF-8 without characters that Tarantool 2.6 treats as unprintable.

    These are the C1 controls (U+0080 to U+009F), the byte order mark and the last two code points of each plane. ASCII
    control characters count as text, since they have escapes.
    """
    if len(data) <= _PIECE:
        return is_printable_piece(data)
    return all(is_printable_piece(piece) for piece in pieces(data, pause))
