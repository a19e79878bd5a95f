"""Decides from names and operators of Python whether a literal is in the position of a secret. Pure."""
from __future__ import annotations

import re

from boxsession.base.python_tokens import KEYWORDS
from boxsession.base.secret_position import Position, ends_operand
from boxsession.base.secret_words import SENSITIVE, is_sensitive
from boxsession.base.tokens import KEYWORD, NAME, OP, STRING, Token

__all__ = ['PythonPosition']

_SETS = {b'=', b':=', b'+=', b'-=', b'*=', b'/=', b'//=', b'%=', b'@=', b'&=', b'|=', b'^=', b'>>=', b'<<=', b'**='}
_COMPARES = {b'==', b'!=', b'<', b'>', b'<=', b'>=', b'<>'}
# Words at the start of a statement with a block, which begins after a colon.
_BLOCKS = {b'if', b'elif', b'else', b'while', b'for', b'with', b'try', b'except', b'finally', b'def', b'class', b'async',
           b'match', b'case'}
# Keywords after which the value of a sensitive name is compared, or another one is taken instead of it.
_RELATIONS = {b'in', b'is', b'or', b'if', b'else'}
# Keywords at which a new statement begins, or a new operand.
_STARTS = {b'return', b'yield', b'raise', b'assert', b'del', b'import', b'pass', b'break', b'continue'}
# Functions that take a secret, though their name does not show it.
_TAKES = re.compile(rb'compare_digest|checkpw|hashpw|authenticate', re.IGNORECASE)
# Methods whose arguments are those of a class.
_MAKES = {b'__init__', b'__new__', b'__call__'}
# Maximum number of tokens of a function's parameters that are examined.
_PARAMETERS = 256
# Functions that run Lua. Text for them that is not one plain literal may compute the name of a function.
_RUNS_LUA = b'lua'
# A key has none of these.
_NO_KEY = re.compile(rb'[ ={]')
# The place for a value in a template: `%s`, `{}`, `{name}`, `?`, `:name`, `$1`.
_PLACE = re.compile(rb'%[(\w.-]|\{[\w.!:]{0,64}\}|[(,=\s]\?|[(,=\s]:\w|\$[\d{(]')
# A text that ends in front of a secret.
_OPEN_ENDED = re.compile(rb'(?:[=:]|bearer|basic|by)\s{0,8}["\']?\s{0,8}\Z', re.IGNORECASE)
_PLACE_OF_PASSWORD = re.compile(rb':[^\s/:@%{]{0,32}[%{][^\s/:@]{0,64}@|://[^\s/:@]{0,64}:\Z')
# Number of bytes at the end of a text that are examined for _OPEN_ENDED; of an f-string, at most, for names.
_END, _LONG = 64, 4096
_BRACES = re.compile(rb'\{([^{}]*)')
_WORD = re.compile(rb'[A-Za-z_\x80-\xff][0-9A-Za-z_\x80-\xff]*')


def _is_sensitive(name: bytes) -> bool:
    return is_sensitive(name) or _TAKES.fullmatch(name) is not None


class PythonPosition(Position):
    """Follows the tokens of a text in Python. See Position.

    Longer than usual: one automaton, whose parts share its state.
    """

    keywords = KEYWORDS
    _tells = staticmethod(_is_sensitive)

    def __init__(self, text: bytes, tokens: list[Token], is_text: bool, known: set[bytes], calls: set[bytes],
                 all_literals: bool, all_rights: bool):
        super().__init__(text, tokens, is_text, known, calls, all_literals, all_rights)
        self._is_schema = False
        self._has_lua = b'schema' in text and _RUNS_LUA in text and not is_text
        self._line = b''                # the first word of the statement, until its block begins
        self._is_matched = False        # `match password:`
        self._gives = False             # the function in which we are has a sensitive name
        self._is_assigned = False       # `_armed` is the value of an assignment or of a named argument
        self._is_loop = False           # `for` was read, and not yet its `in`
        self._left: list[Token] = []    # the literals and names of the statement so far
        self._left_start = 0            # of these, where the expression begins
        self._is_compared = False       # and they are compared

    # Where expressions begin and end

    def _begin(self, token: Token, previous: Token | None) -> None:
        """Called for a name or a keyword: a new statement may begin at it."""
        if not token.is_first or self._stack or previous is not None and not (
                _ends_expression(previous) or previous.text == b':'):
            return
        if previous is None or previous.text != b':' or self._armed < 0:
            self._end_expression()
        self._target = None
        self._pending = self._takes_call = self._is_key = False
        self._line = token.text if token.text in _BLOCKS else b''
        self._forget_left()

    def _forget_left(self) -> None:
        if not self._stack:
            self._left = []
        self._left_start, self._is_compared = len(self._left), False

    def _saw(self) -> None:
        """Notes that the open bracket has something sensitive in it, so that what follows the bracket is, too."""
        if self._stack:
            self._stack[-1].saw_secret = True
        if self._is_compared:
            left = self._left[self._left_start:]
            self.spans += [token.inside for token in left if token.kind == STRING]
            self.known.update(token.text for token in left if token.kind == NAME)
            del self._left[self._left_start:]
        if self._line == b'match':
            self._is_matched = True

    def _arm(self, is_list: bool, token: Token | None = None) -> None:
        if self._armed < 0:
            self._is_assigned = False
        super()._arm(is_list, token)

    # Names

    def name(self, token: Token, previous: Token | None, index: int) -> bool:
        self._begin(token, previous)
        if self._line == b'case' and token.is_first and self._is_matched:
            self._arm(False)
        if previous is not None and index > 1 and previous.text in (b'*', b'**'):
            previous = self._tokens[index - 2]                      # `password, *rest = ...`
        found = super().name(token, previous if previous is not None and previous.kind == OP else None, index)
        is_known = token.text in self.known
        if found or is_known:
            self._takes_call = True
            self._has_value = self._has_value or is_known
            self._saw()
        self._left.append(token)
        return found

    def _note_target(self) -> None:
        if self._target is not None:
            self._calls.add(self._target[0])

    def keyword(self, token: Token, index: int) -> None:
        text = token.text
        previous = self._tokens[index - 1] if index else None
        self._begin(token, previous)
        if text in _RELATIONS and (self._pending or self._is_key) and self._line not in (b'for', b'import', b'from') \
                or text == b'in' and self._pending:
            self._arm(self._line == b'for')
        if text in (b'in', b'is'):
            self._is_compared = True
        if text == b'for':
            self._is_loop = True
        elif text == b'in' and self._is_loop and previous is not None and previous.kind == NAME:
            self._target, self._is_loop = (previous.text, len(self._stack)), False
        if text in (b'return', b'yield') and self._gives:
            self._arm(True)
        elif text in (b'def', b'lambda'):
            self._function(text, index)
        if text != b'not':
            self._pending = self._is_key = False
        if text in (b'and', b'or', *_STARTS):
            self._forget_left()

    def _function(self, kind: bytes, index: int) -> None:
        """Takes the parameters of a function: calls of it have secrets if one of them is sensitive."""
        tokens, name = self._tokens, None
        if kind == b'def' and index + 1 < len(tokens) and tokens[index + 1].kind == NAME:
            name = tokens[index + 1].text
            self._gives = is_sensitive(name)
        elif index > 1 and tokens[index - 1].text in (b'=', b':=') and tokens[index - 2].kind == NAME:
            name = tokens[index - 2].text
        names = _parameters(tokens, index + 1 + (kind == b'def'), b':' if kind == b'lambda' else b')')
        if names is None or any(self._tells(parameter) or parameter in self.known for parameter in names):
            if name is None or name in _MAKES:
                self._all = True
            else:
                self._calls.add(name)

    # Literals

    def string(self, value: bytes, index: int) -> None:
        token = self._tokens[index]
        was_secret = self.is_secret
        if self._pending and self._takes_call and index and self._tokens[index - 1].kind == NAME:
            self._arm(True)                     # `login 'ann' 'x'`, which is no Python
        self._is_key = not was_secret and not self._in_rights() and not _NO_KEY.search(value) and self._tells(value)
        if self._is_key:
            self._saw()
            self._note_target()                 # `k = 'password'`: d[k] is sensitive, too
            if self._making and not (index and _is_subscript(self._tokens, index - 1)):
                self.is_evasive = True
        if not self._is_in(b'['):
            self._pending = False
        self._left.append(token)
        self._look_inside(token, index, was_secret)

    def _look_inside(self, token: Token, index: int, was_secret: bool) -> None:
        """Finds out what the content of a literal says about others."""
        content = token.text
        names_secret = SENSITIVE.search(content) is not None
        is_format = b'f' in token.prefix or b't' in token.prefix
        if is_format and (was_secret or self._all or names_secret or b'@' in content):
            if len(content) > _LONG:
                self.is_evasive = True
            else:
                self.known.update(word for code in _BRACES.findall(content) for word in _WORD.findall(code))
        if not was_secret and not self._in_rights() and _puts_secret_in(content, names_secret, is_format):
            self._template()
        if self._has_lua and b'schema' in content and not _is_plain(self._tokens, index) \
                or names_secret and b'...' in content and self._is_in(b'(') \
                or content[:1] == b'@' and index > 1 and self._tokens[index - 1].text == b'+' \
                and self._tokens[index - 2].text in (b')', b']'):       # ':'.join(['ann', 'x']) + '@host'
            self.is_evasive = True

    def _template(self) -> None:
        """`'password=%s' % x`, `'Bearer ' + x`, `execute('... password = ?', (x,))`: what is put in is a secret."""
        if self._target is not None:
            self.known.add(self._target[0])
        if self._stack and self._stack[-1].opener != b'{':
            bracket = self._stack[-1]
            self._inside += not bracket.is_secret
            bracket.is_secret = True
        elif not self._is_key:
            self._arm(not self._stack)

    # Operators

    def operator(self, token: Token, previous: Token | None, index: int) -> None:
        text = token.text
        if text in _SETS:
            self._forget_left()
            self._assigns(token, previous)
        elif text in _COMPARES:
            self._is_compared = True
            if self._pending and self._has_value or self._is_key:
                self._arm(False, token if self._is_text else None)
            self._pending = self._is_key = False
        elif text in (b'+', b'%'):
            if self._pending and self._has_value:
                self._arm(False)
            self._pending = False
        elif text == b':':
            self._colon(token)
        else:
            armed = self._armed
            if text in (b',', b';'):
                self._forget_left()
                if text == b',' and self._is_in(b'['):
                    self._end_expression()
            super().operator(token, previous, index)
            if text == b',' and self._is_assigned and armed == len(self._stack) \
                    and not _is_argument(self._tokens, index + 1):
                self._armed = armed                     # `(user, password = 1, 'x'`: no call, but an open bracket
            if text == b';' and not self._stack:
                self._line, self._target = b'', None

    def _assigns(self, token: Token, previous: Token | None) -> None:
        if self._pending and self._has_value or self._is_key:
            is_new = self._armed < 0
            self._arm(not self._stack, token)
            self._is_assigned = is_new or self._is_assigned
        self._target = None
        if previous is not None and previous.kind == NAME and token.text in (b'=', b':='):
            self._target = previous.text, len(self._stack)
        self._pending = self._is_key = False

    def _colon(self, token: Token) -> None:
        is_block = not self._stack and self._line != b'' and not self._is_text
        if is_block:
            self._end_expression()
            self._line = b''
        elif self._pending and self._has_value or self._is_key:
            self._arm(False, token)
        self._pending = self._is_key = False
        self._forget_left()

    def _open(self, text: bytes, previous: Token | None, index: int) -> None:
        was_key = self._is_key
        is_call = previous is not None and ends_operand(previous)
        super()._open(text, previous, index)
        self._stack[-1].around = self._left_start, self._is_compared
        self._left_start, self._is_compared = len(self._left), False
        if text == b'[' and not is_call:                # a list
            bracket = self._stack[-1]
            self._making -= bracket.makes_key
            bracket.makes_key = bracket.was_pending = False
            bracket.is_list = True
            self._pending = False
        if was_key and is_call:                         # 'password'.join(...)
            self._stack[-1].saw_secret = True

    def _close(self, text: bytes) -> None:
        bracket = self._stack[-1] if self._stack else None
        is_key = self._is_key
        is_list = bracket is not None and bracket.is_list
        super()._close(text)
        if bracket is not None:
            self._left_start, self._is_compared = bracket.around
        if bracket is not None and (bracket.saw_secret or bracket.is_secret or is_key):
            self._pending = self._takes_call = self._has_value = True
            self._is_key = is_key and (text != b']' or is_list)
            self._saw()


def _ends_expression(token: Token) -> bool:
    return ends_operand(token) or token.kind == KEYWORD or token.kind == STRING or token.text in (b';', b'...')


def _puts_secret_in(content: bytes, names_secret: bool, is_format: bool) -> bool:
    """Whether a literal is a template in which a secret has its place, or ends in front of one."""
    if names_secret and _OPEN_ENDED.search(content, max(0, len(content) - _END)):
        return True
    if is_format:
        return False
    return names_secret and _PLACE.search(content) is not None \
        or (b'@' in content or content[-1:] == b':') and _PLACE_OF_PASSWORD.search(content) is not None


def _parameters(tokens: list[Token], at: int, end: bytes) -> list[bytes] | None:
    """The names between `at` and an operator; None if they are too many."""
    names: list[bytes] = []
    for token in tokens[at:at + _PARAMETERS]:
        if token.kind == OP and token.text == end:
            return names
        if token.kind == NAME:
            names.append(token.text)
    return names if at + _PARAMETERS >= len(tokens) else None


def _is_plain(tokens: list[Token], index: int) -> bool:
    """Whether the literal at `index` is the only argument of a call."""
    around = tokens[max(0, index - 2):index + 2]
    return not tokens[index].prefix and index > 1 and around[0].kind == NAME and around[1].text == b'(' \
        and (len(around) == 3 or around[3].text == b')')


def _is_argument(tokens: list[Token], index: int) -> bool:
    """Whether something may stand at `index` after an argument with a name."""
    after = tokens[index:index + 2]
    return not after or after[0].text in (b'*', b'**', b'/', b')') \
        or len(after) == 2 and after[0].kind == NAME and after[1].text in (b'=', b':')


def _is_subscript(tokens: list[Token], index: int) -> bool:
    """Whether the bracket at `index` has one literal inside and nothing else."""
    inside = tokens[index:index + 3]
    return len(inside) == 3 and inside[0].text == b'[' and inside[2].text == b']'
