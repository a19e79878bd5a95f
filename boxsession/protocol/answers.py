"""The client's side of the binary protocol: statements to requests, responses to replies and pushes. Pure.

Values do not become Python objects: they are converted from msgpack to packed strings (`boxsession.values.packed`).
"""
from __future__ import annotations

from dataclasses import dataclass

from boxsession.protocol import iproto
from boxsession.protocol.client import (
    MAX_REPLY_BYTES,
    NEED_DATA,
    NO_VALUES,
    BadReply,
    Notice,
    Push,
    Reply,
    completion_request,
)
from boxsession.protocol.frames import BadLength, Frames
from boxsession.values import yaml
from boxsession.values.msgpack import BadValue, Reader
from boxsession.values.packed import tokens

__all__ = ['Answer', 'Answers', 'BinaryConversation']

_TYPE, _SYNC, _DATA, _MESSAGE = 0, 1, 0x30, 0x31
_PUSH, _ERROR_BIT = 128, 0x8000


@dataclass(slots=True)
class Answer:
    """A response or a push of the server.

    Attributes:
        kind: 'ok', 'error' or 'push'.
        sync: the number of the request; 0 for none.
        values: the results, packed (`boxsession.values.packed`); for an error only its message.
    """

    kind: str
    sync: int
    values: list[bytes]


def _bad_answer(reason: object) -> BadReply:
    return BadReply(f'this is not a response of the binary protocol: {reason}')


def _number(packed: bytes) -> int:
    mark, _, digits = packed.partition(b':')
    try:
        if mark[:1] == b'n':
            return int(digits)
    except ValueError:
        pass
    raise _bad_answer('its header has no numbers')


class Answers:
    """Splits what a server sends into responses and pushes.

    Args:
        max_bytes: maximum length of a frame; 0 for no limit.
    """

    def __init__(self, max_bytes: int = 0):
        self._frames = Frames(max_bytes)
        self.receive_data = self._frames.receive_data

    def next_event(self) -> Answer | None:
        """The next response or push, or NEED_DATA.

        Raises:
            BadReply: the bytes are not a valid response, or exceed the limits. Do not call this again.
        """
        try:
            frame = self._frames.next_frame()
        except BadLength as error:
            raise _bad_answer('it does not begin with a length' if error.length is None else
                              f'it is {error.length} bytes long, and --max-reply is {self._frames.max_bytes}') from None
        if frame is None:
            return NEED_DATA
        try:
            return self._answer(Reader(frame))
        except BadValue as error:
            raise _bad_answer(error) from None

    @staticmethod
    def _answer(reader: Reader) -> Answer:
        header = reader.fields({_TYPE: Reader.value, _SYNC: Reader.value})
        kind, sync = _number(header.get(_TYPE, b'n1:0')), _number(header.get(_SYNC, b'n1:0'))
        body = {} if reader.is_done else reader.fields({_DATA: Reader.values, _MESSAGE: Reader.value})
        if kind & _ERROR_BIT:
            return Answer('error', sync, [body.get(_MESSAGE, b's10:no message')])
        if kind not in (0, _PUSH):
            raise _bad_answer(f'it is of type {kind}')
        return Answer('push' if kind == _PUSH else 'ok', sync, body.get(_DATA, []))


class BinaryConversation:
    """The binary protocol of one connection, after the greeting.

    Statements are sent through console.eval, as Tarantool's own client does.

    Args:
        greeting: the server's 128 bytes.
        max_reply: maximum length of a frame in bytes; 0 for no limit.

    Attributes:
        can_cancel: the server can stop a statement.
        shows_password: a login sends the password unencrypted.
        has_languages, language: statements are in Lua.
    """

    _EVAL = "return require('console').eval(...)"
    _CANCEL = 'return box.session.cancel(box.session.id())'

    # AUTH sends a scramble, made of the password and the salt in the greeting.
    shows_password = False
    has_languages, language = False, 'lua'

    def __init__(self, greeting: bytes, max_reply: int = MAX_REPLY_BYTES):
        self._greeting = greeting
        self._answers = Answers(max_reply)
        self._sync = 0
        self._asked: set[int] = set()       # requests without a response
        self._cancels: set[int] = set()
        self.can_cancel = True              # until the server's response to cancel() says otherwise

    def opening(self) -> bytes:
        """The bytes to send first."""
        return b''

    def _next(self) -> int:
        self._sync += 1
        self._asked.add(self._sync)
        return self._sync

    def login(self, user: str, password: str) -> tuple[int, bytes]:
        """Like ask(), for a login as another user."""
        sync = self._next()
        return sync, iproto.auth_request(sync, user, password, self._greeting)

    @staticmethod
    def login_problem(user: str, password: str) -> str:
        """Why login() is impossible; empty if it is possible."""
        return ''

    @staticmethod
    def problem(statement: bytes) -> str:
        """Why a statement must not be sent; empty if it may be sent."""
        return ''

    @staticmethod
    def is_logged_in(document: bytes) -> bool:
        """Whether the reply to login() means success."""
        return document == NO_VALUES

    def ask(self, statement: bytes) -> tuple[int, bytes]:
        """The ticket of a statement, and the bytes to send."""
        sync = self._next()
        text = statement.decode(errors='surrogateescape')
        return sync, iproto.eval_request(sync, self._EVAL, [text])

    def completion(self, text: bytes) -> bytes:
        """The statement that asks for completions of a text."""
        return completion_request(text)

    def cancel(self) -> bytes:
        """The bytes that stop the running statement."""
        sync = self._next()
        self._cancels.add(sync)
        return iproto.eval_request(sync, self._CANCEL, [])

    def receive_data(self, data: bytes) -> None:
        """Takes bytes from the server."""
        self._answers.receive_data(data)

    def next_event(self) -> Push | Reply | Notice | None:
        """The next Push, Reply or Notice, or NEED_DATA.

        Raises:
            BadReply: the bytes are none of these.
        """
        while True:
            answer = self._answers.next_event()
            if answer is NEED_DATA:
                return NEED_DATA
            first = answer.values[0] if answer.values else b''
            if answer.kind == 'push':
                return Push(_document(first or b'Z'))
            if answer.sync not in self._asked and (answer.sync or answer.kind == 'ok'):
                raise BadReply(f'this response belongs to no request: its sync number is {answer.sync}')
            self._asked.discard(answer.sync)
            if answer.sync in self._cancels:
                self._cancels.discard(answer.sync)
                if answer.kind == 'error' and b'nil value' in first:
                    self.can_cancel = False
                continue
            if answer.kind == 'error':
                document = _document(b'Ms5:error%s}' % first, as_list=True)
                return Reply(answer.sync, document) if answer.sync else Notice(document)
            if not first:
                return Reply(answer.sync, NO_VALUES)
            text = first.partition(b':')[2] if first[:1] == b's' else b''
            return Reply(answer.sync, text if text.startswith(b'---') else _document(b''.join(answer.values), as_list=True))


def _document(packed: bytes, as_list: bool = False) -> bytes:
    return yaml.document(tokens(packed), as_list=as_list)
