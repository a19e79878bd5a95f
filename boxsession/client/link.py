"""A connection to a console: socket and conversation put together. Used by one thread at a time."""
from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Protocol

from boxsession.base.redaction import login_password
from boxsession.client.channel import Channel, LinkError, Lost, Refused, TimedOut
from boxsession.client.target import Target
from boxsession.client.values import error_document, error_text, is_error
from boxsession.protocol.client import NEED_DATA, BadReply, Notice, Push, Reply, TextConversation
from boxsession.protocol.greeting import GREETING_BYTES, protocol_of

__all__ = ['Link']

CONNECT_SECONDS = 10.0
_READ_BYTES = 1 << 18
# What is asked of the client's own accord has a reply of no more.
_OWN_REPLY_BYTES = 1 << 20
# What has come meanwhile is taken in so many reads; of a server that never stops, the rest with the next reply.
_POLL_READS = 16
# How long a statement that was cancelled may take to say so.
_CANCEL_SECONDS = 1.0
_IN_THE_CLEAR = ('the password could be read on its way: use --tls, a unix socket, or a connection from this machine '
                 '(--insecure sends it all the same)')


class Conversation(Protocol):
    """What a link asks of the protocol (`TextConversation`, `BinaryConversation`)."""

    @property
    def can_cancel(self) -> bool: ...
    @property
    def shows_password(self) -> bool: ...
    def opening(self) -> bytes: ...
    def login(self, user: str, password: str) -> tuple[int, bytes]: ...
    def login_problem(self, user: str, password: str) -> str: ...
    def problem(self, statement: bytes) -> str: ...
    def is_logged_in(self, document: bytes) -> bool: ...
    def ask(self, statement: bytes) -> tuple[int, bytes]: ...
    def completion(self, text: bytes) -> bytes: ...
    def cancel(self) -> bytes: ...
    def receive_data(self, data: bytes) -> None: ...
    def next_event(self) -> Push | Reply | Notice | None: ...


class Link:
    """A connection, greeted and logged in.

    Args:
        deadline: when it has to be there (time.monotonic()); at most CONNECT_SECONDS are waited in any case.

    Attributes:
        greeting: the server's 128 bytes.
        interrupts: those of the running statement.

    Raises:
        LinkError: there is none to be had, in words for the user.
    """

    def __init__(self, target: Target, deadline: float | None = None):
        self.target = target
        self.greeting = b''
        self._lock = threading.RLock()
        self._kept: list[Push | Notice] = []        # what came while nobody asked for it
        self._kept_bytes = 0
        limit = time.monotonic() + CONNECT_SECONDS
        deadline = limit if deadline is None else min(limit, deadline)
        self._channel = Channel(target, deadline)
        self.interrupts = self._channel.interrupts
        try:
            protocol, self.greeting = _greeting(self._channel, target, deadline)
            self._conversation: Conversation = _conversation(protocol, self.greeting, target.max_reply)
            self._channel.conversation = self._conversation
            self._begin(deadline)
            if target.user is not None:
                self._log_in(target.user, deadline)
        except Lost as error:
            self.close()
            raise LinkError(f'cannot connect to {target.address}: {error}') from None
        except TimedOut:
            self.close()
            hint = '' if target.tls or self.greeting else '; if it is a TLS listener, use --tls'
            raise LinkError(f'cannot connect to {target.address}: it does not answer in time{hint}') from None
        except BaseException:
            self.close()
            raise

    def _begin(self, deadline: float) -> None:
        if self.target.user is not None:
            problem = self._conversation.login_problem(self.target.user, self.target.password or '')
            if not problem and self._conversation.shows_password and not self._may_send_password:
                problem = _IN_THE_CLEAR
            if problem:
                raise Refused(f'cannot log in as {self.target}: {problem}')
        opening = self._conversation.opening()
        if opening:
            self._channel.send(opening, deadline)

    def _log_in(self, user: str, deadline: float) -> None:
        password = self.target.password or ''
        ticket, data = self._conversation.login(user, password)
        self._channel.send(data, deadline)
        for event in self._events(ticket, deadline):
            if isinstance(event, Push) or isinstance(event, Reply) and self._conversation.is_logged_in(event.document):
                continue
            document = _without(password.encode(errors='surrogateescape'), event.document)
            said = error_text(document) if is_error(document) else 'the server answers something else than yes'
            raise Refused(f'cannot log in as {self.target}: {said}')

    @property
    def _may_send_password(self):
        return self._channel.is_private or self.target.insecure

    def _problem(self, statement: bytes) -> str:
        """Why a statement is not sent; empty where it is."""
        if login_password(statement) is not None and not self._may_send_password:
            return _IN_THE_CLEAR
        return self._conversation.problem(statement)

    # Asking

    @property
    def can_cancel(self) -> bool:
        """Whether the server can stop a statement."""
        return self._conversation.can_cancel

    def ask(self, statement: bytes, deadline: float | None = None) -> Iterator[Push | Notice | Reply]:
        """Asks a statement: gives pushes and notices as they come, and at last the reply.

        A login whose password others could read is not sent: the reply says so.

        Raises:
            Lost: the connection is over.
            TimedOut: the deadline came first; the statement is cancelled.
            Abandoned: there was a second interrupt.
        """
        with self._lock:
            self.interrupts.begin()
            problem = self._problem(statement)
            if problem:
                yield Reply(0, error_document(problem))
                return
            self._poll()
            ticket, data = self._conversation.ask(statement)
            password = login_password(statement)
            try:
                self._channel.send(data, deadline)
                for event in self._events(ticket, deadline):
                    yield Reply(ticket, _without(password, event.document)) if password and type(event) is Reply else event
            except TimedOut:
                self._cancel_and_wait(ticket)
                raise

    def completions(self, text: str, seconds: float) -> bytes | None:
        """What a text may become, as query(): a list of the names behind their longest common beginning."""
        return self.query(self._conversation.completion(text.encode()), seconds)

    def query(self, statement: bytes, seconds: float) -> bytes | None:
        """The reply to a statement of the client's own, by any thread; None when there is none in time, or a long one."""
        deadline = time.monotonic() + seconds
        if not self._lock.acquire(timeout=seconds):
            return None
        try:
            self._poll()
            ticket, data = self._conversation.ask(statement)
            self._channel.send(data, deadline)
            for event in self._events(ticket, deadline):
                if isinstance(event, Reply):
                    return event.document if len(event.document) <= _OWN_REPLY_BYTES else None
                self._keep(event)
        except LinkError:
            pass
        finally:
            self._lock.release()
        return None

    def _events(self, ticket, deadline):
        kept, self._kept, self._kept_bytes = self._kept, [], 0
        yield from kept
        while True:
            self._channel.look(deadline)        # also where what comes never ends
            try:
                event = self._conversation.next_event()
            except BadReply as error:
                raise Lost(str(error), was_sent=True, what='the connection is closed') from None
            if event is NEED_DATA:
                self._conversation.receive_data(self._channel.received(_READ_BYTES, deadline))
            elif type(event) is not Reply:
                yield event
            elif event.ticket == ticket:        # the others are of queries that came too late
                yield event
                return

    def _keep(self, event):
        """Keeps what nobody asked for until somebody asks something."""
        self._kept.append(event)
        self._kept_bytes += len(event.document)
        if self.target.max_reply and self._kept_bytes > self.target.max_reply:
            raise Lost(f'more than {self.target.max_reply} bytes came that nobody asked for (--max-reply)', was_sent=False,
                       what='the connection is closed')

    def _poll(self):
        """Takes what has come meanwhile, and sees a server that is gone before a statement is sent to it."""
        for _ in range(_POLL_READS):
            data = self._channel.received_now(_READ_BYTES)
            if data is None:
                break
            if not data:
                raise Lost(self._last_words() or 'it closed the connection', was_sent=False)
            self._conversation.receive_data(data)

    def _last_words(self):
        try:
            while (event := self._conversation.next_event()) is not NEED_DATA:
                if type(event) is Notice and is_error(event.document):
                    return error_text(event.document)
        except BadReply:
            pass
        return ''

    def _cancel_and_wait(self, ticket):
        """Stops a statement that nobody waits for any longer; a server that cannot do that sees a reset connection."""
        data = self._conversation.cancel()
        limit = time.monotonic() + _CANCEL_SECONDS
        try:
            if data:
                self._channel.send(data, limit)
                for _ in self._events(ticket, limit):
                    pass
                return
        except LinkError:
            pass
        self._channel.abort()

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()


def _greeting(channel: Channel, target: Target, deadline: float) -> tuple[str, bytes]:
    """What the server speaks, and its greeting."""
    data = b''
    # A server that refuses sends an error document instead, of any length.
    while len(data) < GREETING_BYTES or data.startswith(b'---\n') and len(data) < _READ_BYTES:
        try:
            data += channel.received(max(1, GREETING_BYTES - len(data)), deadline)
        except Lost:
            break
        if data.startswith(b'---\n') and data.endswith(b'\n...\n'):
            break
    protocol, address = protocol_of(data), target.address
    if protocol is not None:
        return protocol, data
    if is_error(data):
        raise LinkError(f'{address} refused: {error_text(data)}')
    if not data:
        hint = '' if target.tls else '; if it is a TLS listener, use --tls'
        raise LinkError(f'cannot connect to {address}: it closed without a word{hint}')
    raise LinkError(f'{address} is no console: it says {data[:40]!r}')


def _conversation(protocol: str, greeting: bytes, max_reply: int) -> Conversation:
    if protocol == 'text':
        return TextConversation(greeting, max_reply)
    from boxsession.protocol.answers import BinaryConversation  # msgpack and hashlib, which the other does not need
    return BinaryConversation(greeting, max_reply)


def _without(secret: bytes | None, document: bytes) -> bytes:
    """A reply that does not tell a password: some servers show the whole line in their error."""
    if secret and is_error(document) and secret in error_text(document).encode(errors='surrogateescape'):
        return error_document('the server refuses the login, in words that hold the password')
    return document
