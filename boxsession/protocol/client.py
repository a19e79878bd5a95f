"""The client's side of the text protocol: statements to bytes, bytes to replies and pushes. Pure: no sockets, no clock.

Theory of operation
-------------------
`Documents` splits what a server sends into YAML documents. Two conversations use it.

`TextConversation` is for `boxsession connect`. The settings of the server's session stay the same while the connection
lives: output is YAML, whose documents have a definite end, and a delimiter is set, so that a statement of several lines is
sent unchanged and gets one reply. The settings that a person changes are kept in the client (`boxsession.client.settings`).
Some statements cannot be sent unchanged: those that contain the delimiter, a line that ends the session, or the byte that
cancels, and those that change the delimiter. They are sent as a Lua string to console.eval, whose result is the reply.

`RelayedConversation` is for a session whose statements run in another console (console.connect). The settings of that
console are the user's, so its output may be Lua, which has no definite end. A reply is passed on in pieces as it arrives,
since it may not fit in memory.
"""
from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from itertools import islice

from boxsession.protocol.greeting import is_of_rescue, is_ours
from boxsession.values.packed import tokens
from boxsession.values.reader import Unshowable, packed_value

__all__ = ['DONE', 'INTERRUPT', 'MAX_REPLY_BYTES', 'NEED_DATA', 'NO_VALUES', 'OPENING', 'BadReply', 'Done', 'Documents',
           'Notice', 'Piece', 'Push', 'RelayedConversation', 'Reply', 'Send', 'TextConversation']

# Four times the default of limits.output_bytes.
MAX_REPLY_BYTES = 256 << 20

NEED_DATA = None
INTERRUPT = b'\x03'
NO_VALUES = b'---\n...\n'
# Asks a server for completions of a text.
_COMPLETION = b'require("console").completion_handler("%s", 0, %d)'

# A comment in Lua: if the server does not know the delimiter, a statement of one line still means the same.
_DELIMITER = b'--~boxsession~'
# The statements of opening(). They change nothing but the form of replies to this session.
# The last one is of the client: it asks for the language of the session.
OPENING = (b'\\set output yaml', b'\\set delimiter ' + _DELIMITER, b'\\set print on', b'\\set language')
# Ends a relayed statement of several lines.
_RELAYED_DELIMITER = b'$EOF$'
_HEADS = (b'---\n', b'--- ')
_PUSH_HEAD = b'%TAG '
_END = b'\n...\n'
_TRUE = b'---\n- true\n...\n'
_GOODBYE = re.compile(rb'^(~\.|\x04)\r?$', re.MULTILINE)
_LOGIN = re.compile(rb'\\\s*login\b')
_SETS_DELIMITER = re.compile(rb'\bdelimiter\s*[("\'\[]')
_UNSAFE = re.compile(rb'[\x00-\x1f"\\\x7f-\xff]')
_NOT_IN_A_LINE = re.compile(rb'[\x00-\x1f\x7f]')
_WRAPPED, _PLAIN, _HIDDEN = range(3)

# A relayed document is passed on in pieces of more than this many bytes.
_PIECE_BYTES = 65536
# Maximum length of the reply to a statement that the relay itself sends.
_HIDDEN_BYTES = 65536
# Lua output is complete if nothing arrives for _QUIET_SECONDS after a `;`, or for _SILENT_SECONDS after anything else.
_QUIET_SECONDS, _SILENT_SECONDS = 0.02, 0.5


def completion_request(text: bytes) -> bytes:
    """The statement that asks any console for completions of a text."""
    return _COMPLETION % (text.replace(b'\\', b'\\\\'), len(text))


class BadReply(Exception):
    """The server has sent something that is not a reply, or is too long. The connection cannot be used any more."""


@dataclass(frozen=True, slots=True)
class Push:
    """A document that a statement pushes before its reply."""

    document: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to the statement with this ticket."""

    ticket: int
    document: bytes


@dataclass(frozen=True, slots=True)
class Notice:
    """A document without a statement, for example the reason why the server ends the session."""

    document: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document, or of Lua output.

    Attributes:
        is_push: it is part of a push.
        is_last: it ends the document. Lua output has no last piece.
    """

    data: bytes
    is_push: bool
    is_last: bool


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes to send now."""

    data: bytes


class Done:
    """The reply to the statement is complete."""


DONE = Done()


class Documents:
    """Splits what a text console sends into YAML documents.

    Args:
        piece_bytes: a longer document is returned in pieces of more than this; 0 for whole documents only.
    """

    def __init__(self, piece_bytes: int = 0):
        self._piece_bytes = piece_bytes
        self._buffer = bytearray()
        self._scanned = 0               # the bytes in front of this contain no end of a document
        self._is_inside = False         # a piece of the current document was returned already
        self._is_push = False

    @property
    def buffered_bytes(self) -> int:
        """Number of bytes that were not returned yet."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> None:
        """Takes bytes from the server."""
        self._buffer += data

    def next_piece(self) -> Piece | None:
        """The next piece of a document, or NEED_DATA.

        Raises:
            BadReply: the bytes are not a document.
        """
        buffer = self._buffer
        if not self._is_inside and not self._begins():
            return NEED_DATA
        end = buffer.find(_END, max(0, self._scanned - len(_END)))
        if end >= 0:
            length = end + len(_END)
        elif self._piece_bytes and len(buffer) > self._piece_bytes:
            length = len(buffer) - len(_END) + 1
        else:
            self._scanned = len(buffer)
            return NEED_DATA
        self._scanned = 0
        self._is_inside = end < 0
        return Piece(self._taken(length), self._is_push, not self._is_inside)

    def _begins(self) -> bool:
        """Whether a document begins here. False also if more bytes are needed to decide."""
        head = bytes(self._buffer[:len(_PUSH_HEAD)])
        self._is_push = head == _PUSH_HEAD
        if self._is_push or head.startswith(_HEADS):
            return True
        if _PUSH_HEAD.startswith(head) or any(start.startswith(head) for start in _HEADS):
            return False
        raise BadReply(f'this is not a YAML document: {bytes(self._buffer[:60])!r}')

    def rest(self) -> bytes:
        """Takes all buffered bytes, which are not a document."""
        self._scanned = 0
        return self._taken(len(self._buffer))

    def _taken(self, length: int) -> bytes:
        data = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return data


def _login_line(user: str, password: str) -> bytes:
    return f'\\login {user} {password}'.encode(errors='surrogateescape')


def _lua_string(data: bytes) -> bytes:
    return b'"%s"' % _UNSAFE.sub(lambda match: b'\\%03d' % match.group()[0], data)


class TextConversation:
    """The text protocol of one connection, after the greeting.

    Args:
        greeting: the server's 128 bytes, which show whether it is boxsession or Tarantool.
        max_reply: maximum length of a reply or a push in bytes; 0 for no limit.

    Attributes:
        can_cancel: the server can stop a statement.
        shows_password: a login sends the password unencrypted.
        has_languages: the server knows `\\set language`.
        language: the language of statements. Who knows that it has changed, sets it.
    """

    shows_password = True

    def __init__(self, greeting: bytes, max_reply: int = MAX_REPLY_BYTES):
        self._max_reply = max_reply
        self._is_ours = is_ours(greeting)
        self.can_cancel = self._is_ours
        self.has_languages = self._is_ours and not is_of_rescue(greeting)
        self.language = 'lua'
        self._documents = Documents()
        self._asked: deque[tuple[int, int]] = deque()       # ticket, and the kind of reply: _WRAPPED, _PLAIN or _HIDDEN
        self._last_ticket = 0

    def opening(self) -> bytes:
        """The bytes to send first."""
        data = b'%s\n%s\n' % OPENING[:2]
        self._expect(_HIDDEN)
        self._expect(_HIDDEN)
        if self._is_ours:
            data += OPENING[2] + _DELIMITER + b'\n'
            self._expect(_HIDDEN)
        return data

    def _expect(self, kind: int) -> int:
        self._last_ticket += 1
        self._asked.append((self._last_ticket, kind))
        return self._last_ticket

    def login(self, user: str, password: str) -> tuple[int, bytes]:
        """Like ask(), for a login as another user."""
        return self.ask(_login_line(user, password))

    def login_problem(self, user: str, password: str) -> str:
        """Why login() is impossible; empty if it is possible."""
        if user.split() != [user]:
            return 'a user with white space in its name cannot log in to a text console'
        return self.problem(_login_line(user, password))

    def problem(self, statement: bytes) -> str:
        """Why a statement must not be sent; empty if it may be sent."""
        if not _LOGIN.match(statement):
            return ''
        if not self._is_ours:           # its error would quote the whole line, including the password
            return 'the server has no \\login'
        if _NOT_IN_A_LINE.search(statement) or _DELIMITER in statement:
            return '\\login takes no control characters: its user and password are one line of text'
        return ''

    @staticmethod
    def is_logged_in(document: bytes) -> bool:
        """Whether the reply to login() means success."""
        return document == _TRUE

    def ask(self, statement: bytes) -> tuple[int, bytes]:
        """The ticket of a statement, and the bytes to send."""
        kind = _PLAIN
        is_command = statement.startswith(b'\\') or self.language == 'python'
        if _SETS_DELIMITER.search(statement) and not is_command:
            # On one line, so that it is one statement even if the server does not know the delimiter.
            statement = b'(function(...) require("console").delimiter("%s") return ... end)(require("console").eval(%s))' \
                % (_DELIMITER, _lua_string(statement))
            kind = _WRAPPED
        elif (_DELIMITER in statement or INTERRUPT in statement or _GOODBYE.search(statement)) and not is_command:
            statement = b'require("console").eval(%s)' % _lua_string(statement)
            kind = _WRAPPED
        if self._is_ours and b'\xff' in statement:
            statement = statement.replace(b'\xff', b'\xff\xff')
        return self._expect(kind), statement + _DELIMITER + b'\n'

    def completion(self, text: bytes) -> bytes:
        """The statement that asks for completions of a text: their longest common prefix, then the names."""
        return b'\\complete ' + text if self._is_ours else completion_request(text)

    def cancel(self) -> bytes:
        """The bytes that stop the running statement; empty if the server cannot stop it."""
        return INTERRUPT if self.can_cancel else b''

    def receive_data(self, data: bytes) -> None:
        """Takes bytes from the server."""
        self._documents.receive_data(data)

    def next_event(self) -> Push | Reply | Notice | None:
        """The next Push, Reply or Notice, or NEED_DATA.

        Raises:
            BadReply: the bytes are none of these.
        """
        while True:
            piece = self._documents.next_piece()
            length = self._documents.buffered_bytes if piece is None else len(piece.data) - len(_END)
            if self._max_reply and length > self._max_reply:
                raise BadReply(f'the reply is too long: more than {self._max_reply} bytes (--max-reply)')
            if piece is None:
                return NEED_DATA
            if piece.is_push:
                return Push(piece.data)
            if not self._asked:
                return Notice(piece.data)
            ticket, kind = self._asked.popleft()
            if kind != _HIDDEN:
                return Reply(ticket, _unwrapped(piece.data) if kind == _WRAPPED else piece.data)


def _unwrapped(document: bytes) -> bytes:
    """The document that console.eval has returned; if eval itself failed, the error document unchanged."""
    try:
        found = list(islice(tokens(packed_value(document)), 4))
    except Unshowable:
        return document
    [_, (mark, text), *more] = found if len(found) > 1 else [*found, ('', b'')]
    return text if mark == 's' and text.startswith(b'---') and len(more) == 1 else document


class RelayedConversation:
    """The connection to another console that runs a session's statements.

    Args:
        greeting: the server's 128 bytes.

    Attributes:
        can_cancel: the server can stop a statement.
        patience: seconds without data after which to call receive_silence(); None for never.
    """

    def __init__(self, greeting: bytes):
        self.can_cancel = is_ours(greeting)
        self.patience: float | None = None
        self._documents = Documents(_PIECE_BYTES)
        # Statements to send, each after the reply to the one before; and whether the reply is hidden.
        self._steps: deque[tuple[bytes, bool]] = deque([(b'\\set continuation off\n', True)])
        self._is_answered = True        # the reply to the last step is complete
        self._is_hidden = False
        self._hidden_bytes = 0
        self._is_lua = False            # the reply is Lua output

    def ask(self, statement: bytes) -> None:
        """Queues a statement. Call this after next_event() has returned DONE."""
        if b'\n' not in statement:
            self._steps.append((statement + b'\n', False))
            return
        self._steps += [(b'require("console").delimiter("%s")\n' % _RELAYED_DELIMITER, True),
                        (statement + _RELAYED_DELIMITER + b'\n', False),
                        (b'require("console").delimiter("")%s\n' % _RELAYED_DELIMITER, True)]

    def cancel(self) -> bytes:
        """The bytes that stop the running statement; empty if the server cannot stop it."""
        return INTERRUPT if self.can_cancel else b''

    def receive_data(self, data: bytes) -> None:
        """Takes bytes from the server."""
        self._documents.receive_data(data)

    def receive_silence(self) -> None:
        """Says that nothing came for `patience` seconds: the Lua output is complete."""
        self._is_lua, self.patience, self._is_answered = False, None, True

    def next_event(self) -> Piece | Send | Done | None:
        """The next Send, Piece to pass on, DONE after the last piece, or NEED_DATA.

        Raises:
            BadReply: the reply to a statement of the relay itself is too long.
        """
        while True:
            if self._is_answered:
                if not self._steps:
                    return DONE
                self._is_answered, self._hidden_bytes = False, 0
                data, self._is_hidden = self._steps.popleft()
                return Send(data)
            piece = self._next_piece()
            if piece is None:
                return NEED_DATA
            self._is_answered = piece.is_last and not piece.is_push
            if not self._is_hidden:
                return piece
            self._hidden_bytes += len(piece.data)
            if self._hidden_bytes > _HIDDEN_BYTES:
                raise BadReply(f'the reply to a setting of the relay is longer than {_HIDDEN_BYTES} bytes')

    def _next_piece(self) -> Piece | None:
        if not self._is_lua:
            try:
                return self._documents.next_piece()
            except BadReply:
                self._is_lua = True
        data = self._documents.rest()
        if not data:
            return NEED_DATA
        self.patience = _QUIET_SECONDS if data.endswith(b';') else _SILENT_SECONDS
        return Piece(data, is_push=False, is_last=False)
