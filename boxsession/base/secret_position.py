"""Decides from names and operators whether a literal is in the position of a secret. Pure."""
from __future__ import annotations

import re

from boxsession.base.lua_tokens import KEYWORDS
from boxsession.base.secret_words import NAME_LENGTH, TAKES_SECRET, Span, is_sensitive
from boxsession.base.tokens import NAME, NUMBER, OP, STRING, Token

__all__ = ['Bracket', 'Position', 'ends_operand']

# Keywords that do not end an expression.
_INNER = {b'and', b'or', b'not', b'nil', b'true', b'false', b'function', b'end'}
_OPENING, _CLOSING = (b'(', b'[', b'{'), (b')', b']', b'}')
# Tokens after which an expression may be complete.
_OPERANDS = {NAME, STRING, NUMBER}
_ENDS = {*_CLOSING, b'nil', b'true', b'false', b'end', b'None', b'True', b'False'}
_EQUAL = (b'==', b'~=')
# Functions that may be used as a value to reach them under another name.
_TAKEN = {b'passwd'}
# A literal that may select such a function: its name, a part of the name, or a pattern.
_PASS = re.compile(rb'[\w.^$%*+-]*pass[\w.^$%*+-]*', re.IGNORECASE)
# In calls of these functions, a literal such as 'token' is the name of a user or role, not of a secret.
_RIGHTS = {b'grant', b'revoke'}
# An unquoted value in text, after `=` or `:`.
_BARE = re.compile(rb'[ \t]*(?:(?:bearer|basic)[ \t]+)?([^\s,;&"\'()\[\]{}\\<>=:][^\s,;&"\'()\[\]{}\\<>]*)', re.IGNORECASE)


class Bracket:
    """An open bracket.

    Attributes:
        opener: the bracket.
        function: the name in front of it; empty without one.
        was_pending: Position._pending in front of it.
        is_secret: the literals inside are secrets.
        makes_key: the content computes a key.
        saw_secret: it contains a sensitive name or key (Python).
        is_list: it begins a list (Python).
        around: where the expression around it begins, and whether it is compared (Python).
    """

    __slots__ = ('opener', 'function', 'was_pending', 'is_secret', 'makes_key', 'saw_secret', 'is_list',
                 'around')

    def __init__(self, opener: bytes, function: bytes, was_pending: bool, is_secret: bool, makes_key: bool):
        self.opener = opener
        self.function = function
        self.was_pending = was_pending
        self.is_secret = is_secret
        self.makes_key = makes_key
        self.saw_secret = self.is_list = False
        self.around = 0, False


class Position:
    """Follows the tokens of a text, one after the other.

    Args:
        is_text: the text is not a statement, but the content of a literal or a comment.
        known: names of variables that hold a secret, though the name does not show it. This object adds names.
        calls: names of functions that take a secret, though the name does not show it. This object adds names.
        all_literals: all literals are secrets, except those of grant() and revoke().
        all_rights: with all_literals: those of grant() and revoke() are secrets, too.

    Attributes:
        is_evasive: the text may reach a function for passwords other than by its name.
        spans: secrets that are not literals.
    """

    keywords = KEYWORDS         # no names
    _tells = staticmethod(is_sensitive)

    def __init__(self, text: bytes, tokens: list[Token], is_text: bool, known: set[bytes], calls: set[bytes],
                 all_literals: bool, all_rights: bool):
        self._text = text
        self._tokens = tokens
        self._is_text = is_text
        self.known = known
        self._calls = calls
        self._all = all_literals
        self._all_rights = all_rights
        self.is_evasive = False
        self.spans: list[Span] = []
        self._is_schema = b'schema' in text
        self._stack: list[Bracket] = []
        self._making = self._inside = 0                     # number of open brackets that compute a key; that hold secrets
        self._target: tuple[bytes, int] | None = None       # the name that is assigned to, and the depth of brackets there
        self._has_value = False         # the pending name holds a secret; otherwise it is a function that takes one
        self._armed = -1                # depth of brackets of the expression whose literals are secrets
        self._is_list = False           # that expression continues after a comma
        self._pending = False           # a sensitive name was read: `=` or a call may follow
        self._takes_call = False        # a call of the pending name makes its arguments secrets
        self._is_key = False            # a literal with a sensitive name was read: it may be a key

    @property
    def is_secret(self) -> bool:
        """Whether any value at this place is a secret."""
        return self._inside > 0 or self._armed >= 0

    def _is_in(self, opener: bytes) -> bool:
        return bool(self._stack) and self._stack[-1].opener == opener

    def _in_rights(self) -> bool:
        return bool(self._stack) and self._stack[-1].function in _RIGHTS

    def _end_expression(self) -> None:
        if self._armed == len(self._stack):
            self._armed = -1

    def name(self, token: Token, previous: Token | None, index: int) -> bool:
        """Takes a name; returns whether it is sensitive."""
        text = token.text
        if previous is not None and ends_operand(previous):         # a new statement begins
            self._target = None
            self._end_expression()
        if self.is_secret:
            self.known.add(text)
        is_path = previous is not None and previous.kind == OP and previous.text in (b'.', b':', b',')
        if not is_path:
            self._pending = self._takes_call = False
        if not self._tells(text) and text not in self._calls:
            if text in self.known:
                self._pending = self._has_value = True
            return False
        self._pending = self._takes_call = True
        self._has_value = text not in self._calls or self._tells(text)
        self._note_target()
        if text in _TAKEN and is_path and previous is not None and previous.text != b',' \
                and _is_value(self._tokens, index, self._is_in(b'(')):
            self.is_evasive = True
        return True

    def _note_target(self) -> None:
        """Notes that `f` takes a secret after `f = box.schema.user.passwd`."""
        if self._target is not None and self._target[1] == len(self._stack):
            self._calls.add(self._target[0])

    def keyword(self, token: Token, index: int) -> None:
        """Takes a keyword."""
        text = token.text
        if text == b'in' and self._pending:
            self._arm(True)
        elif text not in _INNER:
            self._end_expression()
        if text == b'function':
            name, parameters = _function(self._tokens, index)
            if any(is_sensitive(parameter) or parameter in self.known for parameter in parameters):
                if name is None:
                    self._all = True
                else:
                    self._calls.add(name)
        self._pending = self._is_key = False

    # Literals

    def hides(self, previous: Token | None) -> bool:
        """Whether the next string is a secret; `previous` is the token in front of it."""
        is_argument = self._takes_call and self._pending and previous is not None and ends_operand(previous)
        return self.is_secret or is_argument or self._all and (self._all_rights or not self._in_rights())

    def string(self, value: bytes, index: int) -> None:
        """Takes a string; `value` is joined to the literals in front of it."""
        self._is_key = not self.is_secret and not self._in_rights() and b' ' not in value and is_sensitive(value)
        if self._is_key and (self._making or self._is_schema and _PASS.fullmatch(value)
                             and not (index and _is_plain_key(self._tokens, index - 1))):
            self.is_evasive = True
        is_argument = self._takes_call and index > 0 and ends_operand(self._tokens[index - 1])
        self._pending = self._pending and (is_argument or self._is_in(b'['))

    # Operators

    def operator(self, token: Token, previous: Token | None, index: int) -> None:
        """Takes an operator or a bracket."""
        text = token.text
        if text in _OPENING:
            self._open(text, previous, index)
        elif text in _CLOSING:
            self._close(text)
        elif text == b'=' or text in _EQUAL:
            self._equals(token, previous)
        elif text == b':':
            if self._is_text and (self._pending or self._is_key):
                self._arm(False, token)
                self._pending = False
            self._is_key = False
        elif text == b',':
            self._comma(previous)
        elif text == b';':
            self._end_expression()
            self._pending = self._is_key = False
        elif text == b'...' and self.is_secret and not self._is_text:
            self.is_evasive = True

    def _open(self, text: bytes, previous: Token | None, index: int) -> None:
        calls = self._pending and self._takes_call and text != b'[' and previous is not None and ends_operand(previous)
        name = previous.text if previous is not None and previous.kind == NAME else b''
        makes_key = text == b'[' and not _is_plain_key(self._tokens, index)
        self._stack.append(Bracket(text, name, self._pending, calls, makes_key))
        self._inside += calls
        self._making += makes_key
        self.is_evasive = self.is_evasive or makes_key and self._is_schema
        self._pending = self._pending and text == b'['
        self._is_key = False

    def _close(self, text: bytes) -> None:
        calls = False
        if self._stack:
            bracket = self._stack.pop()
            self._inside -= bracket.is_secret
            calls = bracket.is_secret       # `login('ann')('x')`
            self._making -= bracket.makes_key
            if text == b']':
                self._pending = self._takes_call = bracket.was_pending or self._is_key
                if self._is_key:
                    self._has_value = True
                    self._note_target()
        if self._armed > len(self._stack):
            self._armed = -1
        if text != b']':
            self._pending = self._takes_call = calls
        self._is_key = False

    def _equals(self, token: Token, previous: Token | None) -> None:
        sets = token.text == b'='
        if self._pending and self._has_value or self._is_key and self._is_text:
            self._arm(sets and not self._is_in(b'{'), token)
        self._target = None
        if sets and previous is not None and previous.kind == NAME:
            self._target = previous.text, len(self._stack)
        self._pending = self._is_key = False

    def _comma(self, previous: Token | None) -> None:
        in_brackets = self._is_in(b'(') or self._is_in(b'{')
        if not self._is_list or in_brackets:
            self._end_expression()
        if self._pending and in_brackets:
            bracket = self._stack[-1]
            if not bracket.is_secret and bracket.function not in _RIGHTS \
                    and previous is not None and previous.kind == NAME \
                    and (TAKES_SECRET.search(previous.text[:NAME_LENGTH]) or previous.text in self._calls):
                bracket.is_secret = True                # pcall(passwd, '...')
                self._inside += 1
            self._pending = False
        if self._is_key:
            self._arm(False)
        self._is_key = False

    def _arm(self, is_list: bool, token: Token | None = None) -> None:
        if self._armed < 0:
            self._armed, self._is_list = len(self._stack), is_list
        if self._is_text and token is not None:
            match = _BARE.match(self._text, token.stop)
            if match is not None and match[1] not in self.keywords:
                self.spans.append(match.span(1))


def ends_operand(token: Token) -> bool:
    """Whether an expression may be complete after a token."""
    return token.kind in _OPERANDS or token.text in _ENDS


def _is_value(tokens: list[Token], index: int, is_argument: bool) -> bool:
    """Whether the name at `index` is used as a value: not called, not set, not passed to a function that calls it."""
    if index + 1 == len(tokens):
        return False
    after = tokens[index + 1]
    return not (after.kind == STRING or after.text in (b'(', b'{', b'=', *_EQUAL) or after.text == b',' and is_argument)


def _is_plain_key(tokens: list[Token], index: int) -> bool:
    """Whether the bracket at `index` contains one literal and nothing else."""
    inside = tokens[index:index + 3]
    return len(inside) == 3 and inside[0].text == b'[' and inside[1].kind in (STRING, NUMBER) and inside[2].text == b']'


def _function(tokens: list[Token], index: int) -> tuple[bytes | None, list[bytes]]:
    """The name of the function that begins at `index`, or None, and the names of its parameters."""
    name, at, parameters = None, index + 1, []
    while at < len(tokens) and (tokens[at].kind == NAME or tokens[at].text in (b'.', b':')):
        name = tokens[at].text if tokens[at].kind == NAME else name
        at += 1
    if name is None and index > 1 and tokens[index - 1].text == b'=' and tokens[index - 2].kind == NAME:
        name = tokens[index - 2].text
    if at < len(tokens) and tokens[at].text == b'(':
        at += 1
        while at < len(tokens) and (tokens[at].kind == NAME or tokens[at].text == b','):
            if tokens[at].kind == NAME:
                parameters.append(tokens[at].text)
            at += 1
    return name, parameters
