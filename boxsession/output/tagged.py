"""The tagged string: how a value that is not plain leaves Lua, as one piece of bytes.

It is the grammar between boxsession/lua/tagged.lua and the formatters beside this file, which see tokens only:

    N nil    Z box.NULL    t true    f false
    n<length>:<digits>      a number, already as text
    s<length>:<bytes>       a string        q<length>:<bytes>   one that looks like a number
    L values... ]           a list          l values... ]       one to be written in flow style
    M (key value)... }      a map           m (key value)... }  one to be written in flow style
    &<length>:<name>        names the list or map that follows
    *<length>:<name>        the list or map of that name again
    I<length>:<digits>      a whole number that Lua has no room for     E<length>:<code><bytes>  an extension value

    X                       the output was cut here, after a value

In Lua output, a string in front of all values is what ends the document.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator

__all__ = ['Tagged', 'Token', 'is_printable', 'is_printable_piece', 'pieces', 'tokens']

Token = tuple[str, bytes]
# In several strings where a text is long: it is then one of them.
Tagged = bytes | tuple[bytes, ...]

_WITH_TEXT = frozenset(b'nsq&*IE')


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
