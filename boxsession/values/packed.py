"""The packed string: how values travel between Lua, Python and the formatters, as one piece of bytes.

It is written and read here for Python, and by boxsession/lua/wire/packed.lua for Lua. This is its grammar:

    N nil    Z box.NULL    t true    f false
    n<length>:<digits>      a number, already as text
    s<length>:<bytes>       a string        q<length>:<bytes>   one that looks like a number
    L values... ]           a list          l values... ]       one to be written in flow style
    M (key value)... }      a map           m (key value)... }  one to be written in flow style
    &<length>:<name>        names the list or map that follows
    *<length>:<name>        the list or map of that name again
    I<length>:<digits>      a whole number that Lua has no room for     E<length>:<code><bytes>  an extension value

    X                       the output was cut here, after a value

Only what a formatter is to show has q and X; only what came in msgpack to a client has I and E.

A tagged string is a packed one behind a byte that says what a formatter is to make of it (values/documents.py). In Lua
output, a string in front of all values is what ends the document.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ['Tagged', 'Token', 'is_printable', 'is_printable_piece', 'pack', 'pieces', 'text', 'tokens', 'tree', 'unpack']

Token = tuple[str, bytes]
# In several strings where a text is long: it is then one of them.
Tagged = bytes | tuple[bytes, ...]

_WITH_TEXT = frozenset(b'nsq&*IE')
# Above this a Lua number no longer holds every whole number.
_EXACT_MAX = 2 ** 53
_DEEPEST = 100
# Tokens between two pauses; what has fewer bytes is unpacked without any.
_STEP = 256
_SHORT = 1 << 12
_GONE = object()
_WORDS = {'N': None, 'Z': None, 't': True, 'f': False}


def tokens(data: Tagged, start: int = 0) -> Iterator[Token]:
    """The tokens of a tagged string from `start` on: (mark, text), the text b'' for marks that have none."""
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
    """One token that has a text."""
    return b'%s%d:%s' % (mark, len(data), data)


# Python's values ------------------------------------------------------------------------------------------------------

def _go_on() -> None:
    pass


def pack(value: Any, pause: Callable[[], None] = _go_on) -> bytes:
    """A Python value for Lua. Bytes and str become strings, lists and tuples lists, mappings maps.

    Others may change the value whenever `pause` lets them in: what is packed of each collection is what it held when its
    turn came, without the keys that a mapping has lost since.

    Raises:
        TypeError: it is none of these and has no `__serialize__`.
        ValueError: it is nested too deep, or an integer that a Lua number cannot hold exactly.
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
        value = int.__int__(value)              # subclasses may say otherwise
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
    """A value that Lua packed. Strings come as str where they are UTF-8 and as bytes where not, whole numbers as int.

    Raises:
        ValueError: a table is a key of another one.
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
    """The next value of a stream of tokens: lists, dicts, and what `scalar` makes of all else.

    Args:
        scalar: called with the mark and the text of a token.
        key: called with each key of a map, gives what it is in the dict.

    Raises:
        RecursionError: it is nested too deep for Python.
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

# Valid UTF-8 that is not shown as text: U+0080 to U+009F, the byte order mark, the last two code points of each plane.
_HIDDEN = re.compile(rb'[\xc2\xef\xf0-\xf4](?:(?<=\xc2)[\x80-\x9f]|(?<=\xef)(?:\xbb\xbf|\xbf[\xbe\xbf])'
                     rb'|(?<=[\xf0-\xf4])[\x8f\x9f\xaf\xbf]\xbf[\xbe\xbf])')
# What is looked at in one go, a few milliseconds at most.
_PIECE = 1 << 13


def pieces(data: bytes, pause: Callable[[], None]) -> Iterator[bytes]:
    """A string in pieces that end where a character ends; `pause` is called before each, if there are several."""
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
    """is_printable() for a string that is short."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return _HIDDEN.search(data) is None


def is_printable(data: bytes, pause: Callable[[], None] = lambda: None) -> bool:
    """Whether a string is shown as text: valid UTF-8 without what Tarantool 2.6 takes for unprintable.

    Those are the C1 controls (U+0080 to U+009F), the byte order mark and the last two code points of each plane; ASCII
    control characters are text, they have escapes.
    """
    if len(data) <= _PIECE:
        return is_printable_piece(data)
    return all(is_printable_piece(piece) for piece in pieces(data, pause))
