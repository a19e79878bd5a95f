"""A session with a console, from the client's side: joins the socket and the protocol. One thread uses it at a time."""
from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Protocol

from boxsession.base.redaction import login_password
from boxsession.client.channel import CLOSED, Channel, LinkError, Lost, Refused, TimedOut
from boxsession.client.target import Target
from boxsession.client.values import error_document, error_text, is_error
from boxsession.protocol.client import NEED_DATA, BadReply, Notice, Push, Reply, TextConversation
from boxsession.protocol.greeting import GREETING_BYTES, is_of_rescue, protocol_of

__all__ = ['Link']

CONNECT_SECONDS = 10.0
_READ_BYTES = 1 << 18
# The longest accepted reply to a query of the client itself.
_OWN_REPLY_BYTES = 1 << 20
# The most reads of waiting input before a statement is sent. If the server sends more, the rest is read with the reply.
_POLL_READS = 16
# How long a cancelled statement may take to end, in seconds.
_CANCEL_SECONDS = 1.0
_IN_THE_CLEAR = ('the password was not sent, because others could read it on the network: use --tls or a unix socket, or '
                 'connect from the same machine (--insecure sends it anyway)')


class Conversation(Protocol):
    """The part of a protocol that a link uses (`TextConversation`, `BinaryConversation`)."""

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
    """A connection after the greeting and the login.

    Args:
        target: the address, the user and the options.
        deadline: when it must be ready (time.monotonic()); at most CONNECT_SECONDS from now.

    Attributes:
        greeting: the greeting of the server, 128 bytes.
        interrupts: the interrupts of the running statement.

    Raises:
        LinkError: the connection or the login failed.
    """

    def __init__(self, target: Target, deadline: float | None = None):
        self.target = target
        self.greeting = b''
        self._lock = threading.RLock()
        self._kept: list[Push | Notice] = []        # arrived outside of ask(), which yields them next time
        self._kept_bytes = 0
        limit = time.monotonic() + CONNECT_SECONDS
        deadline = limit if deadline is None else min(limit, deadline)
        self._channel = Channel(target, deadline)
        self.interrupts = self._channel.interrupts
        try:
            protocol, self.greeting = _greeting(self._channel, target, deadline)
            self._channel.answers_at_once = is_of_rescue(self.greeting)
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
            hint = '' if target.tls or self.greeting or target.address.path else '; if it is a TLS listener, use --tls'
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
            said = error_text(document) if is_error(document) else 'the server did not confirm the login'
            raise Refused(f'cannot log in as {self.target}: {said}')

    @property
    def _may_send_password(self):
        return self._channel.is_private or self.target.insecure

    def _problem(self, statement: bytes) -> str:
        """Why a statement must not be sent; empty if it may."""
        if login_password(statement) is not None and not self._may_send_password:
            return _IN_THE_CLEAR
        return self._conversation.problem(statement)

    # Statements

    @property
    def can_cancel(self) -> bool:
        """Whether the server can cancel a statement."""
        return self._conversation.can_cancel

    def ask(self, statement: bytes, deadline: float | None = None) -> Iterator[Push | Notice | Reply]:
        """Runs a statement: yields pushes and notices as they arrive, and at last the reply.

        A login is not sent if others could read the password; then the reply is an error.

        Raises:
            Lost: the connection was lost.
            TimedOut: the deadline has passed; the statement is cancelled.
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
        """The completions of a text, as query(): a list of their longest common prefix and the names."""
        return self.query(self._conversation.completion(text.encode()), seconds)

    def query(self, statement: bytes, seconds: float) -> bytes | None:
        """Runs a statement of the client itself; any thread may call it.

        Returns:
            The reply; None if it fails, takes more than `seconds`, or has more than 1 MiB.
        """
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
            self._channel.look(deadline)        # needed if the server sends events without end
            try:
                event = self._conversation.next_event()
            except BadReply as error:
                raise Lost(str(error), was_sent=True, what='the connection was closed') from None
            if event is NEED_DATA:
                self._conversation.receive_data(self._channel.received(_READ_BYTES, deadline))
            elif type(event) is not Reply:
                yield event
            elif event.ticket == ticket:        # others are late replies to queries that have timed out
                yield event
                return

    def _keep(self, event):
        """Keeps a push or notice that arrived outside of ask()."""
        self._kept.append(event)
        self._kept_bytes += len(event.document)
        if self.target.max_reply and self._kept_bytes > self.target.max_reply:
            raise Lost(f'the server sent more than {self.target.max_reply} bytes (--max-reply) without a statement',
                       was_sent=False, what='the connection was closed')

    def _poll(self):
        """Reads the input that has arrived. Finds out, before a statement is sent, that the server is gone."""
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
        """Cancels a statement after its deadline. If the server cannot cancel it, resets the connection."""
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
        """Closes the connection."""
        self._channel.close()


def _greeting(channel: Channel, target: Target, deadline: float) -> tuple[str, bytes]:
    """The protocol of the server ('text' or 'binary'), and its greeting."""
    data, lost = b'', ''
    # A server that refuses the session sends an error document instead of a greeting.
    while len(data) < GREETING_BYTES or data.startswith(b'---\n') and len(data) < _READ_BYTES:
        try:
            data += channel.received(max(1, GREETING_BYTES - len(data)), deadline)
        except Lost as error:
            lost = error.reason
            break
        if data.startswith(b'---\n') and data.endswith(b'\n...\n'):
            break
    protocol, address = protocol_of(data), target.address
    if protocol is not None:
        return protocol, data
    if is_error(data):
        raise LinkError(f'{address} refused the session: {error_text(data)}')
    if not data:
        if lost and lost != CLOSED:
            raise LinkError(f'cannot connect to {address}: {lost}')
        hint = '; if it wants a client certificate, use --cert' if target.tls else '; if it is a TLS listener, use --tls'
        raise LinkError(f'cannot connect to {address}: it closed the connection without a greeting{hint}')
    raise LinkError(f'{address} is no console: expected its greeting, received {data[:40]!r}')


def _conversation(protocol: str, greeting: bytes, max_reply: int) -> Conversation:
    if protocol == 'text':
        return TextConversation(greeting, max_reply)
    from boxsession.protocol.answers import BinaryConversation  # imports msgpack and hashlib: only for this protocol
    return BinaryConversation(greeting, max_reply)


def _without(secret: bytes | None, document: bytes) -> bytes:
    """Replaces an error that contains the password: some servers show the whole line in their error."""
    if secret and is_error(document) and secret in error_text(document).encode(errors='surrogateescape'):
        return error_document('the server refused the login; its error is not shown, because it contains the password')
    return document
