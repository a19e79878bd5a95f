"""Splits any text into the tokens of Lua: names, literals, comments, operators. Pure; linear in the length of the text."""
from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable

from boxsession.base.secret_words import Span, command_line

__all__ = ['COMMENT', 'KEYWORD', 'KEYWORDS', 'NAME', 'NUMBER', 'OP', 'OTHER', 'STEP', 'STRING', 'Token', 'tokens_of',
           'unescaped']

# Number of tokens between two pauses.
STEP = 256

# No alternative backtracks to its start: an unfinished literal ends with its line or with the text.
_TOKEN = re.compile(rb'''
    (?P<blank>[ \t\r\n\f\v]+)
   |(?P<name>[A-Za-z_\x80-\xff][0-9A-Za-z_\x80-\xff]*)
   |(?P<string>["'])
   |(?P<long>(?:--)?\[=*\[)
   |(?P<comment>--[^\n]*)
   |(?P<number>\.?[0-9][0-9A-Za-z_.]*)
   |(?P<op>\.\.\.?|[=~<>]=|[=.,;:(){}\[\]\\])
   |(?P<other>[^ \t\r\n\f\vA-Za-z_\x80-\xff"'\[0-9=~<>.,;:(){}\]\\-]+|.)
''', re.VERBOSE | re.DOTALL)
# A part of a quoted literal, by the code of its quote. A match has at most 1024 pieces, so that it takes little
# time. A single backslash at the end of the text does not match: the literal is unfinished.
_IN_STRING = {34: re.compile(rb'(?:[^"\\\r\n]+|\\.){1,1024}', re.DOTALL),
              39: re.compile(rb"(?:[^'\\\r\n]+|\\.){1,1024}", re.DOTALL)}
_CLOSING = re.compile(rb'\](=*)(?=\])')
KEYWORDS = {b'and', b'break', b'do', b'else', b'elseif', b'end', b'false', b'for', b'function', b'if', b'in', b'local',
             b'nil', b'not', b'or', b'repeat', b'return', b'then', b'true', b'until', b'while'}
_ESCAPE = re.compile(rb'\\(?:(\d{1,3})|x([0-9A-Fa-f]{2})|z[ \t\r\n\f\v]*|(\r\n|.))', re.DOTALL)
_ESCAPED = {b'n': b'\n', b't': b'\t', b'r': b'\r', b'a': b'\a', b'b': b'\b', b'f': b'\f', b'v': b'\v'}
NAME, KEYWORD, STRING, NUMBER, COMMENT, OP, OTHER = 'name', 'keyword', 'string', 'number', 'comment', 'op', 'other'


class Token:
    """A token of a text.

    Attributes:
        kind: one of NAME, KEYWORD, STRING, NUMBER, COMMENT, OP, OTHER.
        start: its offset in the text, in bytes.
        stop: the offset of its end.
        text: its bytes; for a literal or a comment only the content.
        is_first: it is the first token of its line.
        inside: start and stop of the content, without quotes, brackets or dashes.
    """

    __slots__ = ('kind', 'start', 'stop', 'text', 'is_first', 'inside')

    def __init__(self, kind: str, start: int, stop: int, text: bytes, is_first: bool, inside: Span | None = None):
        self.kind = kind
        self.start = start
        self.stop = stop
        self.text = text
        self.is_first = is_first
        self.inside = inside or (start, stop)


def tokens_of(text: bytes, depth: int, pause: Callable[[], None]) -> tuple[list[Token], list[Token], list[Span]]:
    """Splits a text into tokens.

    Args:
        depth: 0 for a statement, more for the content of a literal or comment (see secret_places()).
        pause: called now and then, so that other greenlets can run.

    Returns:
        The tokens without comments, the comments, and the secrets in command lines. Tokens of command lines are left out.
    """
    tokens: list[Token] = []
    comments: list[Token] = []
    spans: list[Span] = []
    at, end, is_first = 0, len(text), True
    match_at = _TOKEN.match
    while at < end:
        if not (len(tokens) + len(comments)) % STEP:
            pause()
        match = match_at(text, at)
        assert match is not None            # every byte starts a token
        kind, start, at = match.lastgroup or OTHER, at, match.end()
        if kind == 'blank':
            is_first = is_first or b'\n' in match.group()
            continue
        inside = None
        if kind == 'name':
            piece = match.group()
            kind = KEYWORD if piece in KEYWORDS else NAME
        elif kind == 'string':
            at = _string_end(text, at, pause)
            inside = start + 1, at
            piece = text[start + 1:at]
            at += text[at:at + 1] == text[start:start + 1]
        elif kind == 'long':
            at, inside = _long_bracket(text, start, at)
            kind = COMMENT if text[start] == 45 else STRING
            piece = text[inside[0]:inside[1]]
        elif kind == 'comment':
            inside = start + 2, at
            piece = text[inside[0]:at]
        else:
            piece = match.group()
        command = None
        if kind == OP and piece == b'\\':
            pause()                     # after each backslash more of the text is read; a text may have many of them
            command = command_line(text, start, is_first, not (tokens or comments or depth))
        if command is not None:
            at, found = command
            spans += found
            is_first = False
            continue
        (comments if kind == COMMENT else tokens).append(Token(kind, start, at, piece, is_first, inside))
        is_first = False
    return tokens, comments, spans


def _string_end(text: bytes, at: int, pause: Callable[[], None]) -> int:
    """The end of the content of a quoted literal; `at` is the offset after the opening quote."""
    part = _IN_STRING[text[at - 1]]
    while True:
        match = part.match(text, at)
        if match is None:
            return at
        at = match.end()
        pause()


def _long_bracket(text: bytes, start: int, at: int) -> tuple[int, Span]:
    level = at - start - 2 - (2 if text[start] == 45 else 0)
    for match in _CLOSING.finditer(text, at):
        if match.end() - match.start() - 1 == level:
            return match.end() + 1, (at, match.start())
    return len(text), (at, len(text))


def unescaped(content: bytes, pause: Callable[[], None] = lambda: None) -> tuple[bytes, Callable[[int], int]]:
    """Resolves the escapes of a literal.

    Returns:
        The value, and a function that maps an offset in the value to an offset in `content`.
    """
    if b'\\' not in content:
        return content, lambda place: place
    pieces: list[bytes] = []
    at, size = 0, 0
    values, sources = [0], [0]          # offsets of the same place in both; the text after it is copied as it is
    for number, match in enumerate(_ESCAPE.finditer(content)):
        if not number % STEP:
            pause()
        piece = content[at:match.start()]
        code = match[1] and int(match[1]) or match[2] and int(match[2], 16) or 0
        if match[1] or match[2]:
            made = bytes((code & 0xff,))
        elif match[3] is None:
            made = b''                  # \z
        else:
            made = _ESCAPED.get(match[3], match[3])
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
