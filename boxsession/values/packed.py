"""The packed string: a serialised value that passes between Lua, Python and the formatters.

This module is the writer and reader for Python, boxsession/lua/wire/packed.lua the one for Lua. The grammar:

    N nil    Z box.NULL    t true    f false
    n<length>:<digits>      a number, as text
    s<length>:<bytes>       a string        q<length>:<bytes>   a string that looks like a number
    L values... ]           a list          l values... ]       a list to write in flow style
    M (key value)... }      a map           m (key value)... }  a map to write in flow style
    &<length>:<name>        an anchor: names the value that follows
    *<length>:<name>        an alias: the value of that name again
    X                       the output was truncated here, after a value

Only values for a formatter contain q and X. The readers below also accept I<length>:<digits> (an integer that Lua cannot
hold) and E<length>:<code><bytes> (an extension value); nothing writes them.

A tagged string is a packed string after a byte that names the formatter (values/documents.py). For Lua output, a string in
front of all values is the end of the document.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ['Tagged', 'Token', 'is_printable', 'is_printable_piece', 'pack', 'pieces', 'text', 'tokens', 'tree', 'unpack']

Token = tuple[str, bytes]
# In several strings if a text is long: the text is then a string of its own.
Tagged = bytes | tuple[bytes, ...]

_WITH_TEXT = frozenset(b'nsq&*IE')
# A Lua number holds every integer up to this.
_EXACT_MAX = 2 ** 53
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


def pack(value: Any, pause: Callable[[], None] = _go_on) -> bytes:
    """Packs a Python value for Lua. Bytes and str become strings; lists, tuples and sets lists; mappings maps.

    Other greenlets may change the value during a pause. Each collection is packed with the items that it has when its
    packing begins, without the keys that a mapping loses later.

    Args:
        pause: called now and then, so that other greenlets can run.

    Raises:
        TypeError: a value is of another type and has no `__serialize__`.
        ValueError: the value is nested too deeply, has a key that Lua does not allow, or has an integer that a Lua number
            cannot hold exactly.
    """
    out: list[bytes] = []
    done: list[bytes] = []
    _pack(out, value, 0, done, pause)
    if not done:
        return b''.join(out)
    done.append(b''.join(out))
    return b''.join(done)


def _pack(out: list[bytes], value: Any, depth: int, done: list[bytes], pause: Callable[[], None]) -> None:
    if depth > _DEEPEST:
        raise ValueError(f'value is nested deeper than {_DEEPEST}')
    if len(out) > _STEP:
        done.append(b''.join(out))
        out.clear()
        pause()
    if value is None:
        out.append(b'Z' if depth else b'N')
    elif value is True or value is False:
        out.append(b't' if value else b'f')
    elif isinstance(value, int):
        value = int.__int__(value)              # a subclass may override its conversions
        if not -_EXACT_MAX <= value <= _EXACT_MAX:
            raise ValueError(f'integer {value} does not fit a Lua number exactly: return it as a string')
        out.append(text(b'n', b'%d' % value))
    elif isinstance(value, float):
        out.append(text(b'n', float.__repr__(value).encode()))
    elif isinstance(value, str):
        out.append(text(b's', str.encode(value, errors='surrogateescape')))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        out.append(text(b's', memoryview(value).tobytes()))
    elif isinstance(value, Mapping):
        out.append(b'M')
        for key in tuple(value):
            item = value.get(key, _GONE)
            if item is _GONE:
                continue
            if key is None or key != key:
                raise ValueError(f'{key!r} cannot be a key in Lua')
            _pack(out, key, depth + 1, done, pause)
            _pack(out, item, depth + 1, done, pause)
        out.append(b'}')
    elif isinstance(value, (list, tuple, set, frozenset)):
        out.append(b'L')
        for item in tuple(value):
            _pack(out, item, depth + 1, done, pause)
        out.append(b']')
    elif hasattr(type(value), '__serialize__'):
        _pack(out, value.__serialize__(), depth + 1, done, pause)
    else:
        raise TypeError(f'{type(value).__name__} cannot be passed to Lua: give it __serialize__, or return plain data')


def unpack(packed: bytes, start: int = 0, pause: Callable[[], None] = _go_on) -> Any:
    """Unpacks a value from Lua. A string becomes str if it is UTF-8, otherwise bytes. Whole numbers become int.

    Args:
        start: the offset at which the value begins.
        pause: called now and then, so that other greenlets can run.

    Raises:
        ValueError: a table is the key of another table.
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
    return _WORDS[mark]


def _key(key: Any) -> Any:
    if isinstance(key, (list, dict)):
        raise ValueError('a table cannot be a key in Python')
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
