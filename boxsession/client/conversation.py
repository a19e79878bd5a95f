"""The client's side of a console: statements to bytes, bytes to replies and pushes. Pure: no sockets, no clock.

Theory of operation
-------------------
The wire stays in one state for as long as the connection lives: output is YAML, whose documents have a certain end, and a
delimiter is set, so that a statement of any number of lines goes as it is and gets one reply. What a person sets of these
things is the client's own business (`boxsession.client.settings`).

Some statements cannot go as they are: those with the delimiter in them, with a line that says goodbye, with the byte that
cancels, or that change the delimiter. They go as a Lua string to console.eval, whose result is the reply. In the binary
protocol all do.
"""
from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from itertools import islice

__all__ = ['MAX_REPLY_BYTES', 'NEED_DATA', 'BadReply', 'BinaryConversation', 'Notice', 'Push', 'Reply', 'TextConversation',
           'document_of', 'error_document']

# Four times what a server of ours sends unless its limits.output_bytes says otherwise.
MAX_REPLY_BYTES = 256 << 20

NEED_DATA = None
# A comment: where a server has lost it, a statement of one line still means the same.
_DELIMITER = b'--~boxsession~'
_INTERRUPT = b'\x03'
_END = b'\n...\n'
_GOODBYE = re.compile(rb'^(~\.|\x04)\r?$', re.MULTILINE)
_LOGIN = re.compile(rb'\\\s*login\b')
_SETS_DELIMITER = re.compile(rb'\bdelimiter\s*[("\'\[]')
_UNSAFE = re.compile(rb'[\x00-\x1f"\\\x7f-\xff]')
_NOT_IN_A_LINE = re.compile(rb'[\x00-\x1f\x7f]')
_TRUE, _NOTHING = b'---\n- true\n...\n', b'---\n...\n'
_COMPLETION = b'require("console").completion_handler("%s", 0, %d)'
_WRAPPED, _PLAIN, _HIDDEN = range(3)


class BadReply(Exception):
    """What came is no reply, or one that is too long: the two sides have lost each other."""


@dataclass(frozen=True, slots=True)
class Push:
    """A document that a statement sends in front of its reply."""

    document: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to the statement that got this ticket."""

    ticket: int
    document: bytes


@dataclass(frozen=True, slots=True)
class Notice:
    """A document that nobody asked for: the server says why it ends the session, say."""

    document: bytes


def document_of(value, as_list: bool = False) -> bytes:
    """A YAML document as a console writes it, of plain data (strings as str or bytes)."""
    from boxsession.values import yaml
    from boxsession.values.packed import pack, tokens

    packed = pack([value])
    return yaml.document(tokens(packed[2:-2] if as_list else packed[1:-1]), as_list=as_list)


def error_document(message: str) -> bytes:
    """A reply that is an error."""
    return document_of([{'error': message}], as_list=True)


def _login_line(user: str, password: str) -> bytes:
    return f'\\login {user} {password}'.encode(errors='surrogateescape')


def _lua_string(data: bytes) -> bytes:
    return b'"%s"' % _UNSAFE.sub(lambda match: b'\\%03d' % match.group()[0], data)


class TextConversation:
    """One connection's text protocol, behind the greeting.

    Args:
        greeting: the server's 128 bytes, which tell whether it is one of ours.
        max_reply: how many bytes a reply or a push may have; 0 for no limit.

    Attributes:
        can_cancel: whether the server can stop a statement.
        shows_password: whether a login sends the password as it is.
    """

    shows_password = True

    def __init__(self, greeting: bytes, max_reply: int = MAX_REPLY_BYTES):
        self._max_reply = max_reply
        self._is_ours = b'\nboxsession ' in greeting
        self.can_cancel = self._is_ours
        self._buffer = bytearray()
        self._scanned = 0
        self._asked: deque[tuple[int, int]] = deque()       # ticket, and what to make of its reply
        self._last_ticket = 0

    def opening(self) -> bytes:
        """What to send first."""
        data = b'\\set output yaml\n\\set delimiter %s\n' % _DELIMITER
        self._expect(_HIDDEN)
        self._expect(_HIDDEN)
        if self._is_ours:
            data += b'\\set print on%s\n' % _DELIMITER
            self._expect(_HIDDEN)
        return data

    def _expect(self, kind) -> int:
        self._last_ticket += 1
        self._asked.append((self._last_ticket, kind))
        return self._last_ticket

    def login(self, user: str, password: str) -> tuple[int, bytes]:
        """As ask(): goes on as another user."""
        return self.ask(_login_line(user, password))

    def login_problem(self, user: str, password: str) -> str:
        """Why login() cannot be; empty where it can."""
        if user.split() != [user]:
            return 'a user with white space in its name cannot log in to a text console'
        return self.problem(_login_line(user, password))

    def problem(self, statement: bytes) -> str:
        """Why a statement is not to be sent; empty where it is."""
        if not _LOGIN.match(statement):
            return ''
        if not self._is_ours:           # it would show the whole line in its error, the password included
            return 'the server has no \\login'
        if _NOT_IN_A_LINE.search(statement) or _DELIMITER in statement:
            return '\\login takes no control characters: its user and password are one line of text'
        return ''

    @staticmethod
    def is_logged_in(document: bytes) -> bool:
        """Whether the reply to login() is that of a login."""
        return document == _TRUE

    def ask(self, statement: bytes) -> tuple[int, bytes]:
        """A statement: its ticket, and the bytes that ask it."""
        kind = _PLAIN
        is_command = statement.startswith(b'\\')
        if _SETS_DELIMITER.search(statement) and not is_command:
            # In one line, so that it is one statement whatever became of the delimiter.
            statement = b'(function(...) require("console").delimiter("%s") return ... end)(require("console").eval(%s))' \
                % (_DELIMITER, _lua_string(statement))
            kind = _WRAPPED
        elif (_DELIMITER in statement or _INTERRUPT in statement or _GOODBYE.search(statement)) and not is_command:
            statement = b'require("console").eval(%s)' % _lua_string(statement)
            kind = _WRAPPED
        if self._is_ours and b'\xff' in statement:
            statement = statement.replace(b'\xff', b'\xff\xff')
        return self._expect(kind), statement + _DELIMITER + b'\n'

    def completion(self, text: bytes) -> bytes:
        """The statement that asks what a text may become: a list of the names behind their longest common beginning."""
        return b'\\complete ' + text if self._is_ours else _COMPLETION % (text, len(text))

    def cancel(self) -> bytes:
        """What stops the running statement; nothing where the server cannot do that."""
        return _INTERRUPT if self.can_cancel else b''

    def receive_data(self, data: bytes) -> None:
        """Takes what came from the server."""
        self._buffer += data

    def next_event(self):
        """The next Push, Reply or Notice, or NEED_DATA.

        Raises:
            BadReply: what came is none of these.
        """
        while True:
            buffer = self._buffer
            end = buffer.find(_END, max(0, self._scanned - len(_END)))
            head = bytes(buffer[:5])
            if not (b'---\n'.startswith(head[:4]) or head[:4] in (b'---\n', b'--- ') or b'%TAG '.startswith(head)):
                raise BadReply(f'this is no YAML document: {bytes(buffer[:60])!r}')
            if self._max_reply and (end if end >= 0 else len(buffer)) > self._max_reply:
                raise BadReply(f'the reply is too long: more than {self._max_reply} bytes (--max-reply)')
            if end < 0:
                self._scanned = len(buffer)
                return NEED_DATA
            document = bytes(buffer[:end + len(_END)])
            del buffer[:end + len(_END)]
            self._scanned = 0
            if head == b'%TAG ':
                return Push(document)
            if not self._asked:
                return Notice(document)
            ticket, kind = self._asked.popleft()
            if kind != _HIDDEN:
                return Reply(ticket, _unwrapped(document) if kind == _WRAPPED else document)


def _unwrapped(document: bytes) -> bytes:
    """The document that console.eval gave; the one that came, where it is an error of eval's own."""
    from boxsession.client.values import Unshowable, packed_value
    from boxsession.values.packed import tokens

    try:
        found = list(islice(tokens(packed_value(document)), 4))
    except Unshowable:
        return document
    [_, (mark, text), *more] = found if len(found) > 1 else [*found, ('', b'')]
    return text if mark == 's' and text.startswith(b'---') and len(more) == 1 else document


class BinaryConversation:
    """One connection's binary protocol, behind the greeting: statements go by console.eval, as Tarantool's own client
    sends them."""

    _EVAL = "return require('console').eval(...)"
    _CANCEL = 'return box.session.cancel(box.session.id())'

    # AUTH sends a scramble: SHA-1 of the password and of what the server has chosen.
    shows_password = False

    def __init__(self, greeting: bytes, max_reply: int = MAX_REPLY_BYTES):
        from boxsession.protocol import answers, iproto

        self._iproto = iproto
        self._greeting = greeting
        self._answers = answers.Answers(max_reply)
        self._sync = 0
        self._asked: set[int] = set()       # requests without an answer
        self._cancels: set[int] = set()
        self.can_cancel = True              # until the server says that it cannot

    def opening(self) -> bytes:
        """What to send first."""
        return b''

    def _next(self):
        self._sync += 1
        self._asked.add(self._sync)
        return self._sync

    def login(self, user: str, password: str) -> tuple[int, bytes]:
        """As ask(): goes on as another user."""
        sync = self._next()
        return sync, self._iproto.auth_request(sync, user, password, self._greeting)

    @staticmethod
    def login_problem(user: str, password: str) -> str:
        """Why login() cannot be; empty where it can."""
        return ''

    @staticmethod
    def problem(statement: bytes) -> str:
        """Why a statement is not to be sent; empty where it is."""
        return ''

    @staticmethod
    def is_logged_in(document: bytes) -> bool:
        """Whether the reply to login() is that of a login."""
        return document == _NOTHING

    def ask(self, statement: bytes) -> tuple[int, bytes]:
        """A statement: its ticket, and the bytes that ask it."""
        sync = self._next()
        text = statement.decode(errors='surrogateescape')
        return sync, self._iproto.eval_request(sync, self._EVAL, [text])

    def completion(self, text: bytes) -> bytes:
        """The statement that asks what a text may become."""
        return _COMPLETION % (text, len(text))

    def cancel(self) -> bytes:
        """What stops the running statement."""
        sync = self._next()
        self._cancels.add(sync)
        return self._iproto.eval_request(sync, self._CANCEL, [])

    def receive_data(self, data: bytes) -> None:
        """Takes what came from the server."""
        self._answers.receive_data(data)

    def next_event(self):
        """The next Push, Reply or Notice, or NEED_DATA.

        Raises:
            BadReply: what came is none of these.
        """
        while True:
            try:
                answer = self._answers.next_event()
            except ValueError as error:
                raise BadReply(f'this is no answer of the binary protocol: {error}') from None
            if answer is NEED_DATA:
                return NEED_DATA
            first = answer.values[0] if answer.values else None
            if answer.kind == 'push':
                return Push(_document(first or b'Z'))
            if answer.sync not in self._asked and (answer.sync or answer.kind == 'ok'):
                raise BadReply(f'this answers no request: its number is {answer.sync}')
            self._asked.discard(answer.sync)
            if answer.sync in self._cancels:
                self._cancels.discard(answer.sync)
                if answer.kind == 'error' and b'nil value' in first:
                    self.can_cancel = False
                continue
            if answer.kind == 'error':
                document = _document(b'Ms5:error%s}' % first, as_list=True)
                return Reply(answer.sync, document) if answer.sync else Notice(document)
            if first is None:
                return Reply(answer.sync, _NOTHING)
            text = first.partition(b':')[2] if first[:1] == b's' else b''
            return Reply(answer.sync, text if text.startswith(b'---') else _document(b''.join(answer.values), as_list=True))


def _document(packed: bytes, as_list: bool = False) -> bytes:
    from boxsession.values import yaml
    from boxsession.values.packed import tokens

    return yaml.document(tokens(packed), as_list=as_list)
