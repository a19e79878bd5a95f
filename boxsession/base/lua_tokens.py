"""Splits any text into the tokens of Lua: names, literals, comments, operators. Pure; linear in the length of the text."""
from __future__ import annotations

import re
from collections.abc import Callable

from boxsession.base.secret_words import Span, command_line
from boxsession.base.tokens import COMMENT, KEYWORD, NAME, OP, OTHER, STEP, STRING, Token, resolved, string_end

__all__ = ['KEYWORDS', 'tokens_of', 'unescaped']

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
_CLOSING = re.compile(rb'\](=*)(?=\])')
KEYWORDS = {b'and', b'break', b'do', b'else', b'elseif', b'end', b'false', b'for', b'function', b'if', b'in', b'local',
             b'nil', b'not', b'or', b'repeat', b'return', b'then', b'true', b'until', b'while'}
_ESCAPE = re.compile(rb'\\(?:(\d{1,3})|x([0-9A-Fa-f]{2})|z[ \t\r\n\f\v]*|(\r\n|.))', re.DOTALL)
_ESCAPED = {b'n': b'\n', b't': b'\t', b'r': b'\r', b'a': b'\a', b'b': b'\b', b'f': b'\f', b'v': b'\v'}


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
            at = string_end(text, at, pause)
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


def _long_bracket(text: bytes, start: int, at: int) -> tuple[int, Span]:
    level = at - start - 2 - (2 if text[start] == 45 else 0)
    for match in _CLOSING.finditer(text, at):
        if match.end() - match.start() - 1 == level:
            return match.end() + 1, (at, match.start())
    return len(text), (at, len(text))


def unescaped(content: bytes, pause: Callable[[], None] = lambda: None) -> tuple[bytes, Callable[[int], int]]:
    """Resolves the escapes of a literal: its value, and a function from offsets in it to offsets in `content`."""
    return resolved(content, _ESCAPE, _made, pause)


def _made(match: re.Match[bytes]) -> bytes:
    if match[1] or match[2]:
        code = int(match[1]) if match[1] else int(match[2], 16)
        return bytes((code & 0xff,))
    return b'' if match[3] is None else _ESCAPED.get(match[3], match[3])        # no letter: \z
