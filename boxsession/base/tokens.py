"""Tokens of a statement, in any language: names, literals, comments, operators. Pure."""
from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable

from boxsession.base.secret_words import Span

__all__ = ['COMMENT', 'KEYWORD', 'NAME', 'NUMBER', 'OP', 'OTHER', 'STEP', 'STRING', 'Token', 'resolved', 'string_end']

# Number of tokens between two pauses.
STEP = 256
NAME, KEYWORD, STRING, NUMBER, COMMENT, OP, OTHER = 'name', 'keyword', 'string', 'number', 'comment', 'op', 'other'
# A part of a quoted literal, by the code of its quote. A match has at most 1024 pieces, so that it takes little
# time. A single backslash at the end of the text does not match: the literal is unfinished.
_IN_STRING = {34: re.compile(rb'(?:[^"\\\r\n]+|\\.){1,1024}', re.DOTALL),
              39: re.compile(rb"(?:[^'\\\r\n]+|\\.){1,1024}", re.DOTALL)}


class Token:
    """A token of a text.

    Attributes:
        kind: one of NAME, KEYWORD, STRING, NUMBER, COMMENT, OP, OTHER.
        start: its offset in the text, in bytes.
        stop: the offset of its end.
        text: its bytes; for a literal or a comment only the content.
        is_first: it is the first token of its line.
        inside: start and stop of the content, without quotes, brackets or dashes.
        prefix: the letters in front of the quote of a literal in Python, in small letters.
    """

    __slots__ = ('kind', 'start', 'stop', 'text', 'is_first', 'inside', 'prefix')

    def __init__(self, kind: str, start: int, stop: int, text: bytes, is_first: bool, inside: Span | None = None,
                 prefix: bytes = b''):
        self.kind = kind
        self.start = start
        self.stop = stop
        self.text = text
        self.is_first = is_first
        self.inside = inside or (start, stop)
        self.prefix = prefix


def string_end(text: bytes, at: int, pause: Callable[[], None]) -> int:
    """The end of the content of a quoted literal; `at` is the offset after the opening quote."""
    part = _IN_STRING[text[at - 1]]
    while True:
        match = part.match(text, at)
        if match is None:
            return at
        at = match.end()
        pause()


def resolved(content: bytes, escape: re.Pattern[bytes], value: Callable[[re.Match[bytes]], bytes],
             pause: Callable[[], None]) -> tuple[bytes, Callable[[int], int]]:
    """Resolves the escapes of a literal.

    Args:
        escape: matches an escape.
        value: gives the bytes that an escape stands for.

    Returns:
        The value, and a function that maps an offset in the value to an offset in `content`.
    """
    if b'\\' not in content:
        return content, lambda place: place
    pieces: list[bytes] = []
    at, size = 0, 0
    values, sources = [0], [0]          # offsets of the same place in both; the text after it is copied as it is
    for number, match in enumerate(escape.finditer(content)):
        if not number % STEP:
            pause()
        piece, made = content[at:match.start()], value(match)
        pieces += piece, made
        at = match.end()
        size += len(piece) + len(made)
        # A place right after an escape belongs to the text that follows the escape.
        values.append(size)
        sources.append(at)
    pieces.append(content[at:])

    def place(where: int) -> int:
        index = bisect_right(values, where) - 1
        return sources[index] + where - values[index]

    return b''.join(pieces), place
