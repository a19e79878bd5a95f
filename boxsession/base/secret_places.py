"""Finds the secrets of a text. Pure; linear in the length of the text."""
from __future__ import annotations

import re
from collections.abc import Callable

from boxsession.base.lua_tokens import KEYWORD, NAME, NUMBER, OP, OTHER, STEP, STRING, Token, tokens_of, unescaped
from boxsession.base.secret_position import Position
from boxsession.base.secret_words import AUTH_WORD, HINT, LOGIN_WORD, NAME_LENGTH, Span, behind_user, line_end

__all__ = ['joined', 'secret_places']

# Levels of literals inside of literals that are searched. A deeper literal is removed if it may contain a secret.
_DEEPEST = 3
# Maximum number of passes over the tokens to find the names of variables that hold secrets.
_ROUNDS = 4
# Maximum number of joined literals that are examined as one name.
_KEY_PIECES = 4
# Operators that may stand inside a chain of joined literals.
_LINKS = {b'..', b'.', b'(', b')'}
_EQUAL = (b'==', b'~=')
_RUN, _RUN_IN_TEXT = re.compile(rb'[^\s"\']+'), re.compile(rb'\S+')
_HOST_FOLLOWS = re.compile(rb'[^\s:@]*@')


def secret_places(text: bytes, depth: int, pause: Callable[[], None], all_literals: bool = False) -> list[Span]:
    """Finds the secrets of a text, in order, without overlaps.

    Args:
        depth: 0 for a statement, 1 or more for the content of a literal or a comment.
        pause: called now and then, so that other greenlets can run.
        all_literals: treat every literal as a secret.
    """
    pause()
    if not all_literals and not HINT.search(text):
        return []
    code, comments, spans = tokens_of(text, depth, pause)
    spans += _userinfo(text, _RUN_IN_TEXT if depth else _RUN)
    known: set[bytes] = set()
    calls: set[bytes] = set()
    is_evasive = False

    def read(takes_all: bool, takes_rights: bool) -> tuple[list[Span], bool]:
        position = Position(text, code, depth > 0, known, calls, takes_all, takes_rights)
        return _Reader(text, code, depth, position, pause).read(comments) + position.spans, position.is_evasive

    for _ in range(_ROUNDS):
        before = len(known) + len(calls)
        found, was_evasive = read(all_literals or is_evasive, all_literals)
        if len(known) + len(calls) == before and was_evasive == is_evasive:
            break
        is_evasive = was_evasive
    else:
        found, _ = read(True, True)
    return joined(spans + found, pause)


def joined(spans: list[Span], pause: Callable[[], None]) -> list[Span]:
    """Sorts spans and joins those that overlap. Drops empty ones."""
    found: list[Span] = []
    for number, (start, stop) in enumerate(sorted(spans)):
        if not number % STEP:
            pause()
        if start >= stop:
            continue
        if found and start < found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found


def _userinfo(text: bytes, run: re.Pattern[bytes]) -> list[Span]:
    """The passwords in URLs and in `user:password@host`; `run` matches the words that are searched."""
    spans: list[Span] = []
    if b'@' in text:
        for match in run.finditer(text):
            start, stop = match.span()
            at = text.rfind(b'@', start, stop)
            if at >= 0:
                scheme = text.find(b'://', start, at)
                colon = text.find(b':', start if scheme < 0 else scheme + 3, at)
                if colon >= 0:
                    spans.append((colon + 1, at))
    return spans


class _Reader:
    """Reads tokens once. Finds the literals in the position of a secret, and the secrets inside of other literals."""

    def __init__(self, text: bytes, tokens: list[Token], depth: int, position: Position, pause: Callable[[], None]):
        self._text = text
        self._tokens = tokens
        self._depth = depth
        self._position = position
        self._pause = pause
        self._spans: list[Span] = []
        self._first_on_line: Token | None = None        # the first literal on the current line
        self._stop_of_line = 0          # end of the line that _look_behind_quote() has searched
        self._chain: list[Token] = []   # the literals and names that `..` has joined so far

    def read(self, comments: list[Token]) -> list[Span]:
        for number, token in enumerate(comments):
            if not number % STEP:
                self._pause()
            self._look_inside(token)
        tokens, position = self._tokens, self._position
        previous = None
        for index in range(self._bare_login(), len(tokens)):
            if not index % STEP:
                self._pause()
            token = tokens[index]
            kind = token.kind
            if token.is_first:
                self._first_on_line = None
            if kind == OP:
                position.operator(token, previous, index)
                if token.text not in _LINKS:
                    self._chain = []
            elif kind == STRING:
                self._string(token, previous, index)
            elif kind == NAME:
                self._name(token, previous, index)
            elif kind == NUMBER:
                if position.is_secret:
                    self._cut(token)
            else:
                if kind == KEYWORD:
                    position.keyword(token, index)
                self._chain = []
            previous = token
        return self._spans

    def _bare_login(self) -> int:
        r"""Removes the arguments of a \login without its backslash: two names at the start of a text are not Lua.

        Returns the index of the first token to read after them.
        """
        tokens = self._tokens
        index = 1 if tokens and tokens[0].text == b'/' else 0           # some users type /login, as in other programs
        words = tokens[index:index + 3]
        if len(words) == 3 and words[0].text.lower() == b'hello' and words[1].kind == NUMBER and not words[2].is_first:
            index, words = index + 2, tokens[index + 2:index + 4]       # HELLO 3 AUTH USER PASSWORD of Redis
        if len(words) < 2 or words[0].kind != NAME or not LOGIN_WORD.fullmatch(words[0].text):
            return 0
        if not _is_argument(*words[:2]):
            return 0
        stop = self._cut_line(words[0])
        while index < len(tokens) and tokens[index].start < stop:
            index += 1
        return index

    def _cut_line(self, word: Token) -> int:
        """Removes the arguments of a login without its backslash. Returns the end of the line."""
        stop = line_end(self._text, word.stop)
        self._spans += behind_user(self._text, word.stop, stop)
        return stop

    def _name(self, token: Token, previous: Token | None, index: int) -> None:
        tokens = self._tokens
        if token.is_first and index and LOGIN_WORD.fullmatch(token.text):
            # Three words in a row are not Lua at the start of any line; two on a line of their own rarely are.
            behind = [word for word in tokens[index + 1:index + 3] if not word.is_first]
            if AUTH_WORD.fullmatch(token.text) and len(behind) == 1 and _is_argument(token, behind[0]) \
                    or len(behind) == 2 and behind[0].kind == NAME and behind[1].kind in (NAME, NUMBER):
                self._cut_line(token)
        tells_secret = self._position.name(token, previous, index)
        if tells_secret and previous is not None and previous.text in _EQUAL and index > 1:
            self._cut(tokens[index - 2])
        self._link(token, previous)

    def _link(self, token: Token, previous: Token | None) -> None:
        """Appends a name or a literal to the chain, or begins a new chain."""
        if previous is None or previous.kind != OP or previous.text not in _LINKS:
            self._chain = []
        self._chain.append(token)

    # Literals

    def _cut(self, token: Token) -> None:
        if token.kind == STRING:
            self._spans.append(token.inside)
        elif token.kind == NUMBER:
            self._spans.append((token.start, token.stop))

    def _string(self, token: Token, previous: Token | None, index: int) -> None:
        if self._first_on_line is None:
            self._first_on_line = token
        if self._position.hides(previous):
            self._cut(token)
        else:
            self._look_inside(token)
        if self._stop_of_line <= token.start and token.stop == token.inside[1]:
            self._look_behind_quote(token)
        self._link(token, previous)
        self._userinfo_by_pieces()
        pieces = [link.text for link in self._chain[-_KEY_PIECES:] if link.kind == STRING]
        self._position.string(_value(pieces), index)

    def _look_inside(self, token: Token) -> None:
        start, stop = token.inside
        content = self._text[start:stop]
        if not HINT.search(content):
            return
        if self._depth >= _DEEPEST:
            self._spans.append(token.inside)
            return
        value, places = unescaped(content, self._pause) if token.kind == STRING and b'\\' in content else (content, None)
        for first, last in secret_places(value, self._depth + 1, self._pause):
            if places is not None:
                first, last = places(first), places(last)
            self._spans.append((start + first, start + last))

    def _look_behind_quote(self, token: Token) -> None:
        """Searches the line again from its first literal on. The literal has no end, so quotes may be paired wrongly, as in
        `don't password = '...'`.
        """
        assert self._first_on_line is not None
        start = self._first_on_line.inside[0]
        self._stop_of_line = line_end(self._text, token.start)
        if self._depth < _DEEPEST:
            for first, last in secret_places(self._text[start:self._stop_of_line], self._depth + 1, self._pause):
                self._spans.append((start + first, start + last))

    def _userinfo_by_pieces(self) -> None:
        """Removes a password that `..` joins, as in 'ann:' .. password .. '@host'."""
        token = self._chain[-1]
        match = _HOST_FOLLOWS.match(token.text)
        if match is None or len(self._chain) == 1:
            return
        self._spans.append((token.inside[0], token.inside[0] + match.end() - 1))
        for link in self._chain[-2::-1]:
            if link.kind == NAME:
                self._position.known.add(link.text)
                continue
            scheme = link.text.find(b'://')
            colon = link.text.find(b':', 0 if scheme < 0 else scheme + 3)
            if colon >= 0:
                self._spans.append((link.inside[0] + colon + 1, link.inside[1]))
                break
            if scheme >= 0:
                break
            self._cut(link)
        self._chain = [token]


def _value(pieces: list[bytes]) -> bytes:
    """The joined value of literals; empty if it is too long for a name."""
    return b'' if sum(map(len, pieces)) > NAME_LENGTH else b''.join(unescaped(piece)[0] for piece in pieces)


def _is_argument(word: Token, behind: Token) -> bool:
    """Whether two tokens on one line are a command and its argument, and not Lua."""
    if behind.is_first:
        return False
    if behind.kind in (NAME, NUMBER) or behind.kind == OTHER or behind.text == b'#':
        return True
    return behind.kind == STRING and AUTH_WORD.fullmatch(word.text) is not None
