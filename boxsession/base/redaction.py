r"""What may be kept of a statement: all of it but its secrets. Pure, and linear in the length of the text.

A statement is cut into the tokens of Lua: names, literals, comments, operators. Only these are ever cut out:

* a literal in the position of a password: `password = '...'`, `passwd('ann', '...')`, `['token'] = '...'`, also joined by
  `..` or kept in a variable first (`local p = '...' passwd(p)`);
* the userinfo's password of a URL or of `user:password@host`;
* what follows the user's name in `\login USER PASSWORD`, in a command that does not exist, and in the same without `\`,
  which is no Lua and never runs; what follows a program's command that takes a secret;
* all literals, but those of grant() and revoke(), where a statement may reach a password's function by another way than its
  name: it takes `x.passwd` as a value, passes `...` on to it, makes a key of such a name (`t[('passwd')]`), or deals with
  `box.schema` and makes any key, or has such a name as a literal.

Names, operators and all other literals stay, so a statement cannot hide what it does. Text inside of literals and comments
is looked through in the same way, since it may be code, JSON or a command line.

In place of a secret stand its length and a tag: equal secrets have equal tags within one process. The tag is a keyed hash,
and the key is random and kept in memory only, so nobody can find a short password by trying.
"""
from __future__ import annotations

import hashlib
import re
import secrets
from bisect import bisect_right
from collections.abc import Callable, Iterable

__all__ = ['STATEMENT_BYTES', 'know_command', 'login_password', 'may_hold_secret', 'redacted', 'redacted_arguments',
           'redacted_error', 'redacted_text']

# So much of a statement is kept, and looked at.
STATEMENT_BYTES = 1 << 16
_KEY = secrets.token_bytes(32)
_TAG_BYTES = 6
# Literals in literals in literals: what is deeper is cut out where it may hold a secret.
_DEEPEST = 3
# Tokens between two pauses.
_STEP = 256
# How often names that hold passwords are looked for.
_ROUNDS = 4

# Without one of these there is nothing to cut. A backslash or `..` may spell one of the others.
_HINT = re.compile(rb'passw|passphrase|pwd|secret|token|credential|kennwort|login|auth|bearer|key|pass|pw|schema|[@\\]|\.\.'
                   rb'|\A\s*(?:l[ogin]{2,6}|su)\s', re.IGNORECASE)
# Names that say that their value is a secret.
_SENSITIVE = re.compile(rb'passw|passphrase|pwd|secret|token|credential|kennwort|login|bearer|authorization|apikey'
                        rb'|accesskey|(?<![a-z])(?:key|pass|pw|auth)(?![a-z])', re.IGNORECASE)
_SENSITIVE_CAMEL = re.compile(rb'[a-z](?:Key|Pass|Pw|Auth)(?![a-z])')
_NAME_LENGTH = 128
# Of a name that is put together, so many pieces are looked at.
_KEY_PIECES = 4
# Alone at a line's beginning, with words behind: somebody meant \login.
_LOGIN_WORD = re.compile(rb'l[ogin]{2,6}|su|\w*(?:login|passw)\w*', re.IGNORECASE)
# Functions of such names take a secret, also where another function is to call them.
_TAKES_SECRET = re.compile(rb'passw|login', re.IGNORECASE)
# Commands whose arguments are no secrets.
_COMMANDS = {b'help', b'h', b'set', b's', b'quit', b'q', b'sessions', b'cancel', b'kill', b'complete'}
# Those of the program whose arguments are all cut out, since one of them says that it is a secret.
_SECRET_COMMANDS: set[bytes] = set()
# A longer word is none of them.
_COMMAND = re.compile(rb'\\[\\ \t]{0,64}(\S{0,64})')
# What lies inside of quotes, or between blanks and quotes.
_SHELL_WORD = re.compile(rb'''"([^"]+)"|'([^']+)'|[^\s'"]+''')
_ARGUMENTS = re.compile(rb'[ \t]*(\S+)(?:[ \t]+(?=\S))?')

# No alternative ever goes back to where it began: an unfinished literal ends with its line or the text.
_TOKEN = re.compile(rb'''
    (?P<blank>[ \t\r\n\f\v]+)
   |(?P<name>[A-Za-z_\x80-\xff][0-9A-Za-z_\x80-\xff]*)
   |(?P<string>"(?:[^"\\\r\n]+|\\.)*"?|'(?:[^'\\\r\n]+|\\.)*'?)
   |(?P<long>(?:--)?\[=*\[)
   |(?P<comment>--[^\n]*)
   |(?P<number>\.?[0-9][0-9A-Za-z_.]*)
   |(?P<op>\.\.\.?|[=~<>]=|[=.,;:(){}\[\]\\])
   |(?P<other>[^ \t\r\n\f\vA-Za-z_\x80-\xff"'\[0-9=~<>.,;:(){}\]\\-]+|.)
''', re.VERBOSE | re.DOTALL)
_CLOSING = re.compile(rb'\](=*)(?=\])')
_KEYWORDS = {b'and', b'break', b'do', b'else', b'elseif', b'end', b'false', b'for', b'function', b'if', b'in', b'local',
             b'nil', b'not', b'or', b'repeat', b'return', b'then', b'true', b'until', b'while'}
# These stand inside of expressions.
_INNER = {b'and', b'or', b'not', b'nil', b'true', b'false', b'function', b'end'}
_PAIRS = {b'(': b')', b'[': b']', b'{': b'}'}
# What leaves a chain of joined literals whole.
_LINKS = {b'..', b'.', b'(', b')'}
# Whose function is taken as a value.
_TAKEN = {b'passwd'}
# A literal that may choose it: a name, a part of one, or a pattern.
_PASS = re.compile(rb'[\w.^$%*+-]*pass[\w.^$%*+-]*', re.IGNORECASE)
# In calls of these a literal that reads like a secret's name is a user's or a role's.
_RIGHTS = {b'grant', b'revoke'}

_ESCAPE = re.compile(rb'\\(?:(\d{1,3})|x([0-9A-Fa-f]{2})|z[ \t\r\n\f\v]*|(\r\n|.))', re.DOTALL)
_ESCAPED = {b'n': b'\n', b't': b'\t', b'r': b'\r', b'a': b'\a', b'b': b'\b', b'f': b'\f', b'v': b'\v'}
# A value without quotes, in text.
_BARE = re.compile(rb'[ \t]*(?:(?:bearer|basic)[ \t]+)?([^\s,;&"\'()\[\]{}\\<>=:][^\s,;&"\'()\[\]{}\\<>]*)', re.IGNORECASE)
_RUN, _RUN_IN_TEXT = re.compile(rb'[^\s"\']+'), re.compile(rb'\S+')
_HOST_FOLLOWS = re.compile(rb'[^\s:@]*@')

_NAME, _KEYWORD, _STRING, _NUMBER, _COMMENT, _OP, _OTHER = 'name', 'keyword', 'string', 'number', 'comment', 'op', 'other'
# Behind these an expression may be over.
_OPERANDS = {_NAME, _STRING, _NUMBER}


# Where something starts and stops in a text.
Span = tuple[int, int]


def _go_on() -> None:
    pass


def redacted(statement: bytes, most: int = STATEMENT_BYTES, brief: bool = False, pause: Callable[[], None] = _go_on) -> str:
    """A statement as it may be kept in a log, an audit file or a list.

    Args:
        most: so many bytes are kept, and looked at; of the rest only its length and tag are.
        brief: for lists: cuts are told by `***` alone, and of a statement that is longer all literals are cut, since
            what is not looked at may use one as a password.
        pause: called now and then, to let others run.
    """
    text = statement[:most]
    is_cut = len(statement) > most
    shown = _without(text, _secrets(text, is_cut, brief and is_cut, pause), brief)
    return f'{shown}... ({_told(statement[most:])})' if is_cut and not brief else shown


def redacted_text(text: bytes, most: int = STATEMENT_BYTES, pause: Callable[[], None] = _go_on) -> str:
    """The same of a text that is no statement, such as an error's or a request's argument."""
    part = text[:most]
    shown = _without(part, _scan(part, 1, pause), False)
    return f'{shown}... ({_told(text[most:])})' if len(text) > most else shown


def redacted_arguments(name: bytes, source: bytes, data: bytes, most: int = STATEMENT_BYTES,
                       pause: Callable[[], None] = _go_on) -> str:
    """The arguments of a request, written as Lua.

    Args:
        name: the function or expression that takes them: where it deals with secrets, all of them are cut out.
        source: the arguments, at least `most` bytes of them.
        data: all of them in any form, for the tag of what is too long.
    """
    name = name[:most]
    takes_secret = _SENSITIVE.search(name) is not None or b'schema' in name and b'[' in name
    shown = _without(source[:most], _scan(source[:most], 0, pause, takes_secret), False)
    return f'{shown}... (of {_told(data)})' if len(source) >= most else shown


def may_hold_secret(statement: bytes) -> bool:
    """Whether redacted() would cut something out of a statement."""
    return bool(_secrets(statement, False, False, _go_on))


def redacted_error(statement: bytes, error: bytes, most: int = STATEMENT_BYTES,
                   pause: Callable[[], None] = _go_on) -> str:
    """The error that a statement ended in, without the statement's secrets: Lua quotes the statement in its messages."""
    text = statement[:most]
    spans = _secrets(text, len(statement) > most, False, pause) if error else []
    if spans:
        # Lua's name of the chunk, and the token at which it stopped, may be a part of a secret.
        error = _CHUNK_NAME.sub(b'[string]:', error)
        at = error.find(b" near '")
        error = error if at < 0 else error[:at]
        forms = {form for start, stop in spans for secret in (text[start:stop].strip(),)
                 for form in (secret, _unescaped(secret)[0])} - {b''}
        if len(forms) > _FORMS_MAX:
            return f'*** ({_told(error)})'
        for form in forms:
            edge = rb'(?<![0-9A-Za-z])%s(?![0-9A-Za-z])' if len(form) < _SHORT else rb'%s'
            error = re.sub(edge % re.escape(form), b'***', error)
            pause()
    return redacted_text(error, most, pause)


# An error is searched for so many secrets at most.
_FORMS_MAX = 64
_CHUNK_NAME = re.compile(rb'\[string "[^\n]*?"\]:')
# A secret that is shorter may be a part of any word.
_SHORT = 4


def _told(data: bytes) -> str:
    tag = hashlib.blake2b(data, key=_KEY, digest_size=_TAG_BYTES).hexdigest()
    return f'{len(data)} bytes, {tag}'


def _without(text: bytes, spans: list[Span], brief: bool) -> str:
    if not spans:
        return text.decode(errors='backslashreplace')
    pieces: list[str] = []
    at = 0
    for start, stop in spans:
        pieces.append(text[at:start].decode(errors='backslashreplace'))
        pieces.append('***' if brief else f'*** ({_told(text[start:stop])})')
        at = stop
    pieces.append(text[at:].decode(errors='backslashreplace'))
    return ''.join(pieces)


def _secrets(text: bytes, is_cut: bool, all_literals: bool, pause: Callable[[], None]) -> list[Span]:
    """Where the secrets of a statement are, in order, without overlaps."""
    spans = _scan(text, 0, pause, all_literals)
    if is_cut:
        # The host that would tell a password may be behind the cut.
        last = re.search(rb'[^\s"\']*\Z', text[-_RUN_AT_CUT:])
        assert last is not None
        start = len(text) - len(last.group())
        colon = text.find(b':', start)
        if colon >= 0:
            spans = _joined([*spans, (colon + 1, len(text))])
    return spans


_RUN_AT_CUT = 1024


def _joined(spans: list[Span]) -> list[Span]:
    found: list[Span] = []
    for start, stop in sorted(spans):
        if start >= stop:
            continue
        if found and start < found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found


def _scan(text: bytes, depth: int, pause: Callable[[], None], all_literals: bool = False) -> list[Span]:
    """The secrets of a text; at depth 0 of a statement, below that of what stands in a literal or a comment."""
    if not all_literals and not _HINT.search(text):
        return []
    tokens, spans = _tokens(text, depth, pause)
    spans += _userinfo(text, _RUN_IN_TEXT if depth else _RUN)
    known: set[bytes] = set()
    calls: set[bytes] = set()
    is_evasive = False
    for _ in range(_ROUNDS):
        before = len(known) + len(calls)
        reader = _Reader(text, tokens, depth, known, calls, all_literals or is_evasive, all_literals, pause)
        found = reader.read()
        if len(known) + len(calls) == before and reader.is_evasive == is_evasive:
            break
        is_evasive = reader.is_evasive
    else:
        found = _Reader(text, tokens, depth, known, calls, True, True, pause).read()
    return _joined(spans + found)


def _userinfo(text: bytes, run: re.Pattern[bytes]) -> list[Span]:
    """Passwords of URLs, and of `user:password@host`."""
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


# Tokens -----------------------------------------------------------------------------------------------------------------

class _Token:
    """A piece of a statement: where it is, and for a literal where its content is.

    Attributes:
        is_first: nothing stands in front of it on its line.
    """

    __slots__ = ('kind', 'start', 'stop', 'text', 'is_first', 'inside')

    def __init__(self, kind: str, start: int, stop: int, text: bytes, is_first: bool, inside: Span | None = None):
        self.kind = kind
        self.start = start
        self.stop = stop
        self.text = text
        self.is_first = is_first
        self.inside = inside or (start, stop)


def _tokens(text: bytes, depth: int, pause: Callable[[], None]) -> tuple[list[_Token], list[Span]]:
    """The tokens of a text, and what is secret in its command lines."""
    tokens: list[_Token] = []
    spans: list[Span] = []
    at, end, is_first = 0, len(text), True
    match_at = _TOKEN.match
    while at < end:
        if not len(tokens) % _STEP:
            pause()
        match = match_at(text, at)
        assert match is not None            # any byte is a token
        kind, start, at = match.lastgroup or _OTHER, at, match.end()
        if kind == 'blank':
            is_first = is_first or b'\n' in match.group()
            continue
        inside = None
        if kind == 'name':
            piece = match.group()
            kind = _KEYWORD if piece in _KEYWORDS else _NAME
        elif kind == 'string':
            closes = at - start > 1 and text[at - 1] == text[start]
            # A backslash alone at the end of the text belongs to what is unfinished.
            inside = start + 1, at - closes
            piece = text[inside[0]:inside[1]]
        elif kind == 'long':
            at, inside = _long_bracket(text, start, at)
            kind = _COMMENT if text[start] == 45 else _STRING
            piece = text[inside[0]:inside[1]]
        elif kind == 'comment':
            inside = start + 2, at
            piece = text[inside[0]:at]
        else:
            piece = match.group()
        if kind == _OP and piece == b'\\' and (is_first or _LOGIN_WORD.fullmatch(_command_at(text, start)[1])):
            at, found = _command(text, start, not tokens and depth == 0)
            spans += found
            is_first = False
            continue
        tokens.append(_Token(kind, start, at, piece, is_first, inside))
        is_first = False
    return tokens, spans


def _long_bracket(text: bytes, start: int, at: int) -> tuple[int, Span]:
    level = at - start - 2 - (2 if text[start] == 45 else 0)
    for match in _CLOSING.finditer(text, at):
        if match.end() - match.start() - 1 == level:
            return match.end() + 1, (at, match.start())
    return len(text), (at, len(text))


def _command_at(text: bytes, start: int) -> re.Match[bytes]:
    match = _COMMAND.match(text, start)
    assert match is not None
    return match


def _command(text: bytes, start: int, takes_all: bool) -> tuple[int, list[Span]]:
    """Where a command line goes on to be looked at, and its secrets."""
    match = _command_at(text, start)
    name = match[1].lower()
    # An error of a command begins with its name and a colon.
    if name in _COMMANDS or name[-1:] == b':' and name[:-1] in _COMMANDS:
        return match.end(), []
    stop = len(text) if takes_all else _line_end(text, start)
    if name in _SECRET_COMMANDS:
        # Word by word, since an error may quote one of them.
        return stop, [word.span(word.lastindex or 0) for word in _SHELL_WORD.finditer(text, min(match.end(), stop), stop)]
    return stop, _behind_user(text, min(match.end(), stop), stop)


def _line_end(text: bytes, at: int) -> int:
    stop = text.find(b'\n', at)
    return len(text) if stop < 0 else stop


def _behind_user(text: bytes, start: int, stop: int) -> list[Span]:
    """What follows the first word; that word itself, if it is alone."""
    match = _ARGUMENTS.match(text, start, stop)
    if match is None:
        return [(start, stop)] if text[start:stop].strip() else []
    secret = match.end() if text[match.end():stop].strip() else match.start(1)
    return [(secret, stop)]


# What the tokens say ----------------------------------------------------------------------------------------------------

def _is_sensitive(name: bytes) -> bool:
    return len(name) <= _NAME_LENGTH and (_SENSITIVE.search(name) is not None
                                          or _SENSITIVE_CAMEL.search(name) is not None)


class _Reader:
    """Goes through tokens once, and finds the literals in the position of a secret.

    Args:
        known: names whose value is a secret, though they do not say so; more of them may be found.
        calls: the same, of functions that take one.
        all_literals, all_rights: whether all literals are secrets, and those of grant() and revoke(), too.

    Attributes:
        is_evasive: a password's function may be reached by another way than its name.
    """

    def __init__(self, text: bytes, tokens: list[_Token], depth: int, known: set[bytes], calls: set[bytes],
                 all_literals: bool, all_rights: bool, pause: Callable[[], None]):
        self._text = text
        self._tokens = [token for token in tokens if token.kind != _COMMENT]
        self._comments = [token for token in tokens if token.kind == _COMMENT]
        self._is_text = depth > 0
        self._depth = depth
        self._known = known
        self._calls = calls
        self._all = all_literals
        self._all_rights = all_rights
        self._pause = pause
        self.is_evasive = False
        self._is_schema = b'schema' in text
        self._spans: list[Span] = []
        # opener, is secret inside, pending before, function, makes a key
        self._stack: list[tuple[bytes, bool, bool, bytes, bool]] = []
        self._making = 0                # how many of these make a key
        self._inside = 0                # how many of these are secret inside
        # The name that an assignment gives a value, and how deep that is.
        self._target: tuple[bytes, int] | None = None
        self._has_value = False         # what is pending would be a secret itself; else it only takes one
        self._armed = -1                # how deep the expression is whose literals are secrets
        self._is_list = False           # it goes on behind a comma
        self._pending = False           # a sensitive name was read: `=` or a call follows
        self._takes_call = False        # ... a call would do
        self._is_key = False            # a literal that is such a name was read
        self._first_on_line: _Token | None = None       # the first literal there
        self._stop_of_line = 0          # up to here it was looked at again
        self._chain: list[_Token] = []  # literals and names joined by `..` so far

    def read(self) -> list[Span]:
        for number, token in enumerate(self._comments):
            if not number % _STEP:
                self._pause()
            self._look_inside(token)
        tokens = self._tokens
        start = self._bare_login(tokens)
        if start and tokens[0].text == b'/':
            start += 1
        previous = None
        for index in range(start, len(tokens)):
            if not index % _STEP:
                self._pause()
            token = tokens[index]
            kind = token.kind
            if token.is_first:
                self._first_on_line = None
            if kind == _OP:
                self._operator(token, previous, index)
            elif kind == _STRING:
                self._string(token, previous, index)
            elif kind == _NAME:
                self._name(token, previous, index)
            elif kind == _NUMBER:
                if self._is_secret:
                    self._spans.append((token.start, token.stop))
            elif kind == _KEYWORD:
                self._keyword(token, index)
            else:
                self._chain = []
            previous = token
        return self._spans

    @property
    def _is_secret(self) -> bool:
        return self._inside > 0 or self._armed >= 0

    # Lines that somebody took for \login

    def _bare_login(self, tokens: list[_Token]) -> int:
        """Two names at the beginning are no Lua: cuts what stands behind them on their line; gives the token behind it."""
        if tokens and tokens[0].text == b'/':           # as other programs want it
            tokens = tokens[1:]
        if len(tokens) < 2 or tokens[0].kind != _NAME or not _LOGIN_WORD.fullmatch(tokens[0].text):
            return 0
        if tokens[1].kind not in (_NAME, _NUMBER) or tokens[1].is_first:
            return 0
        return self._cut_line(tokens, 0)

    def _cut_line(self, tokens: list[_Token], index: int) -> int:
        start = tokens[index].stop
        stop = _line_end(self._text, start)
        self._spans += _behind_user(self._text, start, stop)
        while index < len(tokens) and tokens[index].start < stop:
            index += 1
        return index

    # Names

    def _name(self, token: _Token, previous: _Token | None, index: int) -> None:
        text = token.text
        if previous is not None and _ends_operand(previous):        # a statement begins
            self._target = None
            if self._armed == len(self._stack):
                self._disarm()
        if self._is_secret:
            self._known.add(text)
        if token.is_first and index and _LOGIN_WORD.fullmatch(text):
            # Three words are no Lua wherever they stand.
            behind = self._tokens[index + 1:index + 3]
            if len(behind) == 2 and behind[0].kind == _NAME and behind[1].kind in (_NAME, _NUMBER) \
                    and not behind[0].is_first and not behind[1].is_first:
                self._spans += _behind_user(self._text, token.stop, _line_end(self._text, token.stop))
        if not self._is_path(previous):
            self._pending = self._takes_call = False
        if _is_sensitive(text) or text in self._calls:
            self._pending = self._takes_call = True
            self._has_value = text not in self._calls or _is_sensitive(text)
            self._note_target()
            if previous is not None and previous.text in (b'==', b'~=') and index > 1:
                self._cut(self._tokens[index - 2])
            if text in _TAKEN and previous is not None and self._is_path(previous) and previous.text != b',' \
                    and self._is_value(index):
                self.is_evasive = True
        elif text in self._known:
            self._pending = self._has_value = True
        if not self._joins(previous):
            self._chain = []
        self._chain.append(token)

    def _is_value(self, index: int) -> bool:
        """Whether the name at `index` is neither called nor set, nor handed to a function that is to call it."""
        if index + 1 == len(self._tokens):
            return False
        after = self._tokens[index + 1]
        return not (after.kind == _STRING or after.text in (b'(', b'{', b'=', b'==', b'~=')
                    or after.text == b',' and self._stack and self._stack[-1][0] == b'(')

    def _note_target(self) -> None:
        """f = box.schema.user.passwd: f takes a secret, too."""
        if self._target is not None and self._target[1] == len(self._stack):
            self._calls.add(self._target[0])

    def _is_path(self, previous: _Token | None) -> bool:
        return previous is not None and previous.kind == _OP and previous.text in (b'.', b':', b',')

    def _joins(self, previous: _Token | None) -> bool:
        return previous is not None and previous.kind == _OP and previous.text in _LINKS

    def _keyword(self, token: _Token, index: int) -> None:
        text = token.text
        if text == b'in' and self._pending:
            self._arm(True)
        elif text not in _INNER and self._armed == len(self._stack):
            self._disarm()
        if text == b'function':
            self._function(index)
        self._pending = self._is_key = False
        self._chain = []

    def _function(self, index: int) -> None:
        """A function with a parameter that is a secret takes a secret."""
        tokens, name, at = self._tokens, None, index + 1
        while at < len(tokens) and (tokens[at].kind == _NAME or tokens[at].text in (b'.', b':')):
            name = tokens[at].text if tokens[at].kind == _NAME else name
            at += 1
        if name is None and index > 1 and tokens[index - 1].text == b'=' and tokens[index - 2].kind == _NAME:
            name = tokens[index - 2].text
        if at >= len(tokens) or tokens[at].text != b'(':
            return
        at += 1
        while at < len(tokens) and (tokens[at].kind == _NAME or tokens[at].text == b','):
            if tokens[at].kind == _NAME and (_is_sensitive(tokens[at].text) or tokens[at].text in self._known):
                if name is None:
                    self._all = True
                else:
                    self._calls.add(name)
            at += 1

    # Literals

    def _cut(self, token: _Token) -> None:
        if token.kind == _STRING:
            self._spans.append(token.inside)
        elif token.kind == _NUMBER:
            self._spans.append((token.start, token.stop))

    def _string(self, token: _Token, previous: _Token | None, index: int) -> None:
        if self._first_on_line is None:
            self._first_on_line = token
        if not self._joins(previous):
            self._chain = []
        is_argument = self._takes_call and self._pending and previous is not None and previous.kind == _NAME
        is_right = bool(self._stack) and self._stack[-1][3] in _RIGHTS
        if self._is_secret or is_argument or self._all and (self._all_rights or not is_right):
            self._cut(token)
        else:
            self._look_inside(token)
        if self._stop_of_line <= token.start and token.stop == token.inside[1]:
            self._look_behind_quote(token)
        self._userinfo_by_pieces(token)
        self._chain.append(token)
        value = _value([link.text for link in self._chain[-_KEY_PIECES:] if link.kind == _STRING])
        self._is_key = not self._is_secret and not is_right and b' ' not in value and _is_sensitive(value)
        if self._is_key and (self._making or self._is_schema and _PASS.fullmatch(value)
                             and not self._is_in_brackets(index)):
            self.is_evasive = True
        if not self._stack or self._stack[-1][0] != b'[':
            self._pending = False

    def _is_in_brackets(self, index: int) -> bool:
        return index > 0 and self._tokens[index - 1].text == b'[' and self._is_plain_key(index - 1)

    def _look_inside(self, token: _Token) -> None:
        start, stop = token.inside
        content = self._text[start:stop]
        if not _HINT.search(content):
            return
        if self._depth >= _DEEPEST:
            self._spans.append(token.inside)
            return
        value, places = _unescaped(content) if token.kind == _STRING and b'\\' in content else (content, None)
        for first, last in _scan(value, self._depth + 1, self._pause):
            if places is not None:
                first, last = places(first), places(last)
            self._spans.append((start + first, start + last))

    def _look_behind_quote(self, token: _Token) -> None:
        """A literal has no end, so the line's quotes may all be taken wrongly, as in `don't password = '...'`."""
        assert self._first_on_line is not None
        start = self._first_on_line.inside[0]
        self._stop_of_line = _line_end(self._text, token.start)
        if self._depth < _DEEPEST:
            for first, last in _scan(self._text[start:self._stop_of_line], self._depth + 1, self._pause):
                self._spans.append((start + first, start + last))

    def _userinfo_by_pieces(self, token: _Token) -> None:
        """'ann:' .. password .. '@host'."""
        match = _HOST_FOLLOWS.match(token.text)
        if match is None or not self._chain:
            return
        self._spans.append((token.inside[0], token.inside[0] + match.end() - 1))
        for link in reversed(self._chain):
            if link.kind == _NAME:
                self._known.add(link.text)
                continue
            scheme = link.text.find(b'://')
            colon = link.text.find(b':', 0 if scheme < 0 else scheme + 3)
            if colon >= 0:
                self._spans.append((link.inside[0] + colon + 1, link.inside[1]))
                break
            if scheme >= 0:
                break
            self._cut(link)
        self._chain = []

    # Operators

    def _operator(self, token: _Token, previous: _Token | None, index: int) -> None:
        text = token.text
        pending, is_key = self._pending, self._is_key
        if text in _PAIRS:
            calls = pending and self._takes_call and text != b'[' and previous is not None and _ends_operand(previous)
            name = previous.text if previous is not None and previous.kind == _NAME else b''
            makes_key = text == b'[' and not self._is_plain_key(index)
            self._stack.append((text, calls, pending, name, makes_key))
            self._inside += calls
            self._making += makes_key
            self.is_evasive = self.is_evasive or makes_key and self._is_schema
            self._pending = pending and text == b'['
            self._is_key = False
        elif text in (b')', b']', b'}'):
            if self._stack:
                _, calls, before, _, makes_key = self._stack.pop()
                self._inside -= calls
                self._making -= makes_key
                if text == b']':
                    self._pending = before or is_key
                    self._has_value = self._has_value or is_key
                    if is_key:
                        self._note_target()
                    self._takes_call = self._pending
            if self._armed > len(self._stack):
                self._disarm()
            if text != b']':
                self._pending = False
            self._is_key = False
        elif text == b'=' or text in (b'==', b'~='):
            if pending and self._has_value or is_key and self._is_text:
                self._arm(text == b'=' and not (self._stack and self._stack[-1][0] == b'{'), token)
            self._target = None
            if text == b'=' and previous is not None and previous.kind == _NAME:
                self._target = previous.text, len(self._stack)
            self._pending = self._is_key = False
        elif text == b':':
            if self._is_text and (pending or is_key):
                self._arm(False, token)
                self._pending = False
            self._is_key = False
        elif text == b',':
            in_brackets = bool(self._stack) and self._stack[-1][0] in (b'(', b'{')
            if self._armed == len(self._stack) and (not self._is_list or in_brackets):
                self._disarm()
            self._pending = pending and not in_brackets
            if pending and in_brackets and not self._stack[-1][1] and previous is not None and previous.kind == _NAME \
                    and self._stack[-1][3] not in _RIGHTS and (_TAKES_SECRET.search(previous.text[:_NAME_LENGTH])
                                                               or previous.text in self._calls):
                self._stack[-1] = (self._stack[-1][0], True, *self._stack[-1][2:])      # pcall(passwd, '...')
                self._inside += 1
            if is_key:
                self._arm(False)
            self._is_key = False
        elif text == b';':
            if self._armed == len(self._stack):
                self._disarm()
            self._pending = self._is_key = False
        elif text == b'...' and self._is_secret and not self._is_text:
            self.is_evasive = True
        if text not in _LINKS:
            self._chain = []

    def _is_plain_key(self, index: int) -> bool:
        """Whether the bracket at `index` holds one literal, and nothing else."""
        inside = self._tokens[index + 1:index + 3]
        return len(inside) == 2 and inside[0].kind in (_STRING, _NUMBER) and inside[1].text == b']'

    def _arm(self, is_list: bool, token: _Token | None = None) -> None:
        if self._armed < 0:
            self._armed, self._is_list = len(self._stack), is_list
        if self._is_text and token is not None:
            match = _BARE.match(self._text, token.stop)
            if match is not None and match[1] not in _KEYWORDS:
                self._spans.append(match.span(1))

    def _disarm(self) -> None:
        self._armed = -1


def _ends_operand(token: _Token) -> bool:
    return token.kind in _OPERANDS or token.text in (b')', b']', b'}', b'nil', b'true', b'false', b'end')


def _value(pieces: list[bytes]) -> bytes:
    """What literals are, joined; empty where that is too long for a name."""
    return b'' if sum(map(len, pieces)) > _NAME_LENGTH else b''.join(_unescaped(piece)[0] for piece in pieces)


def _unescaped(content: bytes) -> tuple[bytes, Callable[[int], int]]:
    """The value of a literal's content, and what gives the place in the content for one in the value."""
    if b'\\' not in content:
        return content, lambda place: place
    pieces: list[bytes] = []
    at, size = 0, 0
    values, sources = [0], [0]          # from here on, the distance between the two is the same
    for match in _ESCAPE.finditer(content):
        piece = content[at:match.start()]
        number = match[1] and int(match[1]) or match[2] and int(match[2], 16) or 0
        if match[1] or match[2]:
            made = bytes((number & 0xff,))
        elif match[3] is None:
            made = b''                  # \z
        else:
            made = _ESCAPED.get(match[3], match[3])
        pieces += piece, made
        at = match.end()
        size += len(piece) + len(made)
        # The escape belongs to what begins behind its source.
        values.append(size)
        sources.append(at)
    pieces.append(content[at:])

    def place(where: int) -> int:
        index = bisect_right(values, where) - 1
        return sources[index] + where - values[index]

    return b''.join(pieces), place


def know_command(name: str, parameters: Iterable[str]) -> None:
    r"""Says that a program has a command: what follows it is told from now on, as what follows `\set` is. Where the name of
    a parameter says that it is a secret, nothing of that is told."""
    known = name.lower().encode()
    if any(_is_sensitive(parameter.encode()) for parameter in parameters):
        _SECRET_COMMANDS.add(known)
        _COMMANDS.discard(known)
    elif known not in _SECRET_COMMANDS:
        _COMMANDS.add(known)


# A command, or one in a string that goes to console.eval.
_LOGIN_COMMAND = re.compile(rb'\\\s*login\s+\S+\s([^\n]*)')


def login_password(statement: bytes) -> bytes | None:
    r"""The password in a statement with a `\login USER PASSWORD` in it; None where there is no such command."""
    match = _LOGIN_COMMAND.search(statement)
    return match and match[1].strip(b' \t\r"\')]}')
