"""Finds the secrets of a text. Pure; linear in the length of the text."""
from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection
from itertools import accumulate
from typing import NamedTuple

from boxsession.base import lua_tokens, python_tokens
from boxsession.base.python_position import PythonPosition
from boxsession.base.secret_position import Position
from boxsession.base.secret_words import AUTH_WORD, HINT, LOGIN_WORD, NAME_LENGTH, Span, behind_user, line_end
from boxsession.base.tokens import KEYWORD, NAME, NUMBER, OP, OTHER, STEP, STRING, Token

__all__ = ['LUA', 'PYTHON', 'joined', 'secret_places', 'unescaped']

LUA, PYTHON = 'lua', 'python'

# Levels of literals inside of literals that are searched. A deeper literal is removed if it may contain a secret.
_DEEPEST = 3
# Maximum number of passes over the tokens to find the names of variables that hold secrets.
_ROUNDS = 4
# Maximum number of joined literals that are examined as one name.
_KEY_PIECES = 4
_EQUAL = (b'==', b'~=')
_RUN, _RUN_IN_TEXT = re.compile(rb'[^\s"\']+'), re.compile(rb'\S+')
_HOST_FOLLOWS = re.compile(rb'[^\s:@]*@')


# In Python, any two literals and any operator may make a name of a secret.
_PYTHON_HINT = re.compile(HINT.pattern + rb'|[+%]|["\']\s*[BFRTUbfrtu]{0,2}["\']|\.(?:join|format|replace)', re.IGNORECASE)


class _Lexis(NamedTuple):
    """A language, as the search needs it.

    Attributes:
        hint: a text without a match has no secret.
        position: the class that follows the tokens.
        links: operators that may stand inside a chain of joined literals.
        joins_neighbours: two literals without an operator between them are one.
        inner: the languages of the content of literals.
    """

    hint: re.Pattern[bytes]
    tokens_of: Callable[[bytes, int, Callable[[], None]], tuple[list[Token], list[Token], list[Span]]]
    unescaped: Callable[..., tuple[bytes, Callable[[int], int]]]
    position: type[Position]
    links: Collection[bytes]
    joins_neighbours: bool
    inner: tuple[str, ...]


_LEXES = {LUA: _Lexis(HINT, lua_tokens.tokens_of, lua_tokens.unescaped, Position, {b'..', b'.', b'(', b')'}, False,
                    (LUA,)),
          PYTHON: _Lexis(_PYTHON_HINT, python_tokens.tokens_of, python_tokens.unescaped, PythonPosition,
                         {b'+', b'.', b'(', b')'}, True, (PYTHON, LUA))}


def unescaped(content: bytes, languages: Collection[str]) -> set[bytes]:
    """The values that a literal may have."""
    return {_lexis(language).unescaped(content)[0] for language in languages}


def _lexis(language: str) -> _Lexis:
    """An unknown language is searched like Python, which joins and names in more ways than Lua."""
    return _LEXES.get(language) or _LEXES[PYTHON]


def secret_places(text: bytes, depth: int, pause: Callable[[], None], all_literals: bool = False,
                  languages: Collection[str] = (LUA,)) -> list[Span]:
    """Finds the secrets of a text, in order, without overlaps.

    Args:
        depth: 0 for a statement, 1 or more for the content of a literal or a comment.
        pause: called now and then, so that other greenlets can run.
        all_literals: treat every literal as a secret.
        languages: the languages that the text may have. A secret in one of them is a secret.
    """
    spans: list[Span] = []
    for language in languages:
        pause()
        lexis = _lexis(language)
        if all_literals or lexis.hint.search(text):
            pause()
            parts = lexis.tokens_of(text, depth, pause)
            spans += _places(text, depth, pause, all_literals, lexis, parts)
            if not depth and lexis.joins_neighbours and python_tokens.has_old_ends(text, parts[0], pause):
                parts = python_tokens.tokens_of(text, depth, pause, True)
                spans += _places(text, depth, pause, all_literals, lexis, parts)
    return joined(spans, pause)


def _places(text: bytes, depth: int, pause: Callable[[], None], all_literals: bool, lexis: _Lexis,
            parts: tuple[list[Token], list[Token], list[Span]]) -> list[Span]:
    code, comments, spans = parts
    pause()
    spans += _userinfo(text, _RUN_IN_TEXT if depth else _RUN)
    pause()
    known: set[bytes] = set()
    calls: set[bytes] = set()
    seen: dict[bytes, list[Span]] = {}
    is_evasive = False

    def read(takes_all: bool, takes_rights: bool) -> tuple[list[Span], bool]:
        position = lexis.position(text, code, depth > 0, known, calls, takes_all, takes_rights)
        return _Reader(text, code, depth, lexis, position, seen, pause).read(comments) + position.spans, position.is_evasive

    for _ in range(_ROUNDS):
        before = len(known) + len(calls)
        found, was_evasive = read(all_literals or is_evasive, all_literals)
        if len(known) + len(calls) == before and was_evasive == is_evasive:
            break
        is_evasive = was_evasive
    else:
        found, _ = read(True, True)
    return spans + found


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
    """Reads tokens once. Finds the literals in the position of a secret, and the secrets inside of other literals.

    Args:
        seen: the secrets of contents that were searched before; this object adds more.
    """

    def __init__(self, text: bytes, tokens: list[Token], depth: int, lexis: _Lexis, position: Position,
                 seen: dict[bytes, list[Span]], pause: Callable[[], None]):
        self._text = text
        self._tokens = tokens
        self._depth = depth
        self._lexis = lexis
        self._position = position
        self._seen = seen
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
                if token.text not in self._lexis.links:
                    self._end_chain()
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
                self._end_chain()
            previous = token
        self._end_chain()
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
        is_joined = previous is not None and (previous.text in self._lexis.links if previous.kind == OP else
                                              self._lexis.joins_neighbours and previous.kind == token.kind == STRING)
        if not is_joined:
            self._end_chain()
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
        pieces = [link for link in self._chain[-_KEY_PIECES:] if link.kind == STRING]
        is_short = sum(len(piece.text) for piece in pieces) <= NAME_LENGTH
        if len(token.text) > NAME_LENGTH:
            self._pause()
        self._position.string(b''.join(self._value(piece)[0] for piece in pieces) if is_short else b'', index)

    def _value(self, token: Token) -> tuple[bytes, Callable[[int], int]]:
        """The value of a literal, and a function that gives places of it in the text."""
        start = token.inside[0]
        if token.kind != STRING or b'r' in token.prefix or b'\\' not in token.text:
            return token.text, lambda place: start + place
        value, place_of = self._lexis.unescaped(token.text, self._pause)
        return value, lambda place: start + place_of(place)

    def _searched(self, value: bytes) -> list[Span]:
        """The secrets of the content of a literal."""
        found = self._seen.get(value)
        if found is None:
            found = self._seen[value] = secret_places(value, self._depth + 1, self._pause, languages=self._lexis.inner)
        return found

    def _end_chain(self) -> None:
        """Searches literals that are joined (`'pass' + 'wd("x")'`) as one: their parts show no secret alone."""
        chain, self._chain = self._chain, []
        parts = [link for link in chain if link.kind == STRING]
        if len(parts) < 2 or self._depth >= _DEEPEST:
            return
        values = []
        for number, part in enumerate(parts):
            if not number % STEP:
                self._pause()
            values.append(self._value(part))
        found = self._searched(b''.join(value for value, _ in values))
        self._spans += _places_in_parts(found, values, self._pause)
        if found:
            self._position.known.update(link.text for link in chain if link.kind == NAME)

    def _look_inside(self, token: Token) -> None:
        if not any(_lexis(language).hint.search(token.text) for language in self._lexis.inner):
            return
        if self._depth >= _DEEPEST:
            self._spans.append(token.inside)
            return
        value, place = self._value(token)
        self._spans += [(place(first), place(last)) for first, last in self._searched(value)]

    def _look_behind_quote(self, token: Token) -> None:
        """Searches the line again from its first literal on. The literal has no end, so quotes may be paired wrongly, as in
        `don't password = '...'`.
        """
        assert self._first_on_line is not None
        start = self._first_on_line.inside[0]
        self._stop_of_line = line_end(self._text, token.start)
        if self._depth < _DEEPEST:
            self._spans += [(start + first, start + last)
                            for first, last in self._searched(self._text[start:self._stop_of_line])]

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
        self._end_chain()
        self._chain = [token]


def _places_in_parts(spans: list[Span], parts: list[tuple[bytes, Callable[[int], int]]],
                     pause: Callable[[], None]) -> list[Span]:
    """The places in a text of spans in joined literals; `parts` are their values, each with the function for its places."""
    starts = [0, *accumulate(len(value) for value, _ in parts)]
    found: list[Span] = []
    for count, (start, stop) in enumerate(spans):
        if not count % STEP:
            pause()
        for number in range(bisect_right(starts, start) - 1, len(parts)):
            if starts[number] >= stop:
                break
            value, place = parts[number]
            first, last = max(0, start - starts[number]), min(len(value), stop - starts[number])
            if first < last:
                found.append((place(first), place(last)))
    return found


def _is_argument(word: Token, behind: Token) -> bool:
    """Whether two tokens on one line are a command and its argument, and not Lua."""
    if behind.is_first:
        return False
    if behind.kind in (NAME, NUMBER) or behind.kind == OTHER or behind.text == b'#':
        return True
    return behind.kind == STRING and AUTH_WORD.fullmatch(word.text) is not None
