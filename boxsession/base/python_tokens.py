"""Splits any text into the tokens of Python: names, literals, comments, operators. Pure; linear in the length.

The module tokenize of the standard library raises for broken text, and it does not know the f-strings of other versions.
"""
from __future__ import annotations

import re
from collections.abc import Callable

from boxsession.base.secret_words import LOGIN_WORD, Span, behind_user, command_line
from boxsession.base.tokens import COMMENT, KEYWORD, NAME, OP, OTHER, STEP, STRING, Token, resolved, string_end

__all__ = ['KEYWORDS', 'has_old_ends', 'tokens_of', 'unescaped']

# A literal begins with its quote; its end is looked for apart. A backslash at the end of a line continues the line.
_TOKEN = re.compile(rb'''
    (?P<blank>[ \t\r\n\f\v]+)
   |(?P<continued>\\[ \t]*(?:\r\n|\r|\n))
   |(?P<string>[BFRTUbfrtu]{0,2}(?:"""|\'\'\'|"|'))
   |(?P<name>[A-Za-z_\x80-\xff][0-9A-Za-z_\x80-\xff]*)
   |(?P<comment>\#[^\r\n]*)
   |(?P<number>\.?[0-9][0-9A-Za-z_.]*)
   |(?P<op>\.\.\.|(?:\*\*|//|>>|<<|[-+*/%@&|^:=!<>])=|[=<>.,;:(){}\[\]\\+%])
   |(?P<other>[$?`~\x00-\x08\x0e-\x1f\x7f]+|.)
''', re.VERBOSE | re.DOTALL)
_PREFIXES = b'BFRTUbfrtu'
KEYWORDS = {b'False', b'None', b'True', b'and', b'as', b'assert', b'async', b'await', b'break', b'class', b'continue',
            b'def', b'del', b'elif', b'else', b'except', b'finally', b'for', b'from', b'global', b'if', b'import', b'in',
            b'is', b'lambda', b'nonlocal', b'not', b'or', b'pass', b'raise', b'return', b'try', b'while', b'with', b'yield'}
_ESCAPE = re.compile(rb'\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|N\{([^{}\\]{0,64})\}'
                     rb'|(\r\n|.))', re.DOTALL)
_ESCAPED = {b'n': b'\n', b't': b'\t', b'r': b'\r', b'a': b'\a', b'b': b'\b', b'f': b'\f', b'v': b'\v', b'\n': b'',
            b'\r': b'', b'\r\n': b''}
# Pieces of a triple-quoted literal, and of an f-string: outside of its braces, and inside.
_IN_TRIPLE = {b'"""': re.compile(rb'(?:[^"\\]+|\\.|"(?!"")){1,1024}', re.DOTALL),
              b"'''": re.compile(rb"(?:[^'\\]+|\\.|'(?!'')){1,1024}", re.DOTALL)}
_FORMAT_TEXT = re.compile(rb'''[^"'{}\\\r\n]+|\\(?:\r\n|.)|\{\{|\}\}|\r\n|"""|\'\'\'|.''', re.DOTALL)
_FORMAT_CODE = re.compile(rb'''[BFRTUbfrtu]{0,2}(?:"""|\'\'\'|"|')|[A-Za-z0-9_\x80-\xff]+'''
                          rb'''|[^"'{}()\[\]\\:\#A-Za-z0-9_\x80-\xff]+'''
                          rb'''|\#[^\r\n]*|\\.|.''', re.DOTALL)


def tokens_of(text: bytes, depth: int, pause: Callable[[], None], is_old: bool = False) -> tuple[
        list[Token], list[Token], list[Span]]:
    """Splits a text into tokens.

    Args:
        depth: 0 for a statement, more for the content of a literal or comment (see secret_places()).
        pause: called now and then, so that other greenlets can run.
        is_old: an f-string ends at the next quote of its kind, as up to Python 3.11; otherwise its braces may contain them.

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
        piece, inside, prefix = match.group(), None, b''
        if kind == 'blank':
            is_first = is_first or b'\n' in piece or b'\r' in piece
            continue
        if kind == 'continued':
            continue
        if kind == NAME:
            kind = KEYWORD if piece in KEYWORDS else NAME
        elif kind == STRING:
            quote = piece.lstrip(_PREFIXES)
            prefix = piece[:len(piece) - len(quote)].lower()
            inside = at, _content_end(text, at, quote, prefix, is_old, pause)
            piece = text[slice(*inside)]
            at = inside[1] + (len(quote) if text.startswith(quote, inside[1]) else 0)
        elif kind == COMMENT:
            inside = start + 1, at
            piece = text[start + 1:at]
            if _is_login(tokens, is_first):             # `auth #secret`
                spans += behind_user(text, start, at)
        command = None
        if kind == OP and piece == b'\\':
            pause()                     # after each backslash more of the text is read; a text may have many of them
            command = command_line(text, start, is_first, not (tokens or comments or depth))
        if command is not None:
            at, found = command
            spans += found
        else:
            (comments if kind == COMMENT else tokens).append(Token(kind, start, at, piece, is_first, inside, prefix))
        is_first = False
    return tokens, comments, spans


def has_old_ends(text: bytes, tokens: list[Token], pause: Callable[[], None]) -> bool:
    """Whether an f-string ends elsewhere in Python up to 3.11. In text without mistakes only those for 3.12 do."""
    for token in tokens:
        if token.kind == STRING and (b'f' in token.prefix or b't' in token.prefix):
            start, stop = token.inside
            quote = text[token.start + len(token.prefix):start]
            if _content_end(text, start, quote, token.prefix, True, pause) != stop:
                return True
    return False


def unescaped(content: bytes, pause: Callable[[], None] = lambda: None) -> tuple[bytes, Callable[[int], int]]:
    """Resolves the escapes of a literal: its value, and a function from offsets in it to offsets in `content`."""
    return resolved(content, _ESCAPE, _made, pause)


def _made(match: re.Match[bytes]) -> bytes:
    octal, short, middle, long, name, other = match.groups()
    if octal is not None:
        return bytes((int(octal, 8) & 0xff,))
    if short is not None:
        return bytes((int(short, 16),))
    if name is not None:
        # The letters of ASCII only: names of secrets have no others.
        words = name.upper().split()
        is_letter = len(words) == 4 and words[0] == b'LATIN' and words[2] == b'LETTER' and len(words[3]) == 1
        return (words[3].lower() if words[1] == b'SMALL' else words[3]) if is_letter else b'?'
    if other is not None:
        return _ESCAPED.get(other, other if other in b'\\\'"' else b'\\' + other)
    try:
        return chr(int(middle or long, 16)).encode()
    except (ValueError, OverflowError):         # a surrogate, or no character
        return b'?'


def _is_login(tokens: list[Token], is_first: bool) -> bool:
    """Whether a line so far is the word of a login alone."""
    return bool(tokens) and not is_first and tokens[-1].is_first and LOGIN_WORD.fullmatch(tokens[-1].text) is not None


def _content_end(text: bytes, at: int, quote: bytes, prefix: bytes, is_old: bool, pause: Callable[[], None]) -> int:
    """The end of the content of a literal that begins at `at`."""
    if (b'f' in prefix or b't' in prefix) and not is_old:
        return _format_end(text, at, quote, pause)
    if len(quote) == 1:
        return string_end(text, at, pause)
    part = _IN_TRIPLE[quote]
    while True:
        match = part.match(text, at)
        if match is None:
            # A single backslash at the end of the text does not match.
            return at if text.startswith(quote, at) else len(text)
        at = match.end()
        pause()


class _Open:
    """An f-string, its braces, or brackets inside, that are open.

    Attributes:
        is_code: text inside is code.
        is_brace: it is a replacement field. `:` begins its format, which is not code.
        quote: the quote of the f-string; of the one around it, for others.
        base: the number of open ones around that f-string.
    """

    __slots__ = ('is_code', 'is_brace', 'quote', 'base')

    def __init__(self, is_code: bool, is_brace: bool, quote: bytes, base: int):
        self.is_code = is_code
        self.is_brace = is_brace
        self.quote = quote
        self.base = base


def _format_end(text: bytes, at: int, quote: bytes, pause: Callable[[], None]) -> int:
    """The end of the content of an f-string. Its braces contain any code, also literals with the same quote."""
    stack = [_Open(False, False, quote, 0)]
    count, end = 0, len(text)
    while at < end:
        count += 1
        if not count % STEP:
            pause()
        top = stack[-1]
        if top.is_code:
            at = _in_code(text, at, stack, pause)
            continue
        match = _FORMAT_TEXT.match(text, at)
        assert match is not None
        piece = match.group()
        is_unfinished = piece[:1] in (b'\r', b'\n') and len(top.quote) == 1
        if is_unfinished or piece[:1] in (b'"', b"'") and text.startswith(top.quote, at):
            del stack[top.base:]
            if not stack:
                return at
            at += 0 if is_unfinished else len(top.quote)
        elif piece[:1] in (b'"', b"'"):
            at += 1
        elif piece == b'{' or piece == b'{{' and top.is_brace:
            stack.append(_Open(True, True, top.quote, top.base))
            at += 1
        elif piece[:1] == b'}' and top.is_brace:                # its format ends
            stack.pop()
            at += 1
        else:
            at = match.end()
    return end


def _in_code(text: bytes, at: int, stack: list[_Open], pause: Callable[[], None]) -> int:
    """Reads one piece of code in the braces of an f-string. Returns the offset of its end."""
    match = _FORMAT_CODE.match(text, at)
    assert match is not None
    piece, at, top = match.group(), match.end(), stack[-1]
    if piece[-1:] in (b'"', b"'") and piece[:1] not in (b'#', b'\\'):
        quote = piece.lstrip(_PREFIXES)
        letters = piece[:len(piece) - len(quote)].lower()
        if b'f' in letters or b't' in letters:
            stack.append(_Open(False, False, quote, len(stack)))
            return at
        at = _content_end(text, at, quote, letters, True, pause)
        return at + (len(quote) if text.startswith(quote, at) else 0)
    if piece in (b'(', b'[', b'{'):
        stack.append(_Open(True, False, top.quote, top.base))
    elif piece == b'}' or piece in (b')', b']') and not top.is_brace:
        stack.pop()
    elif piece == b':' and top.is_brace:
        top.is_code = False
    return at
