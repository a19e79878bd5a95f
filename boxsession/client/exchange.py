"""Statements and their replies over a channel: joins the socket and the protocol."""
from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

from boxsession.client.channel import Channel, LinkError, Lost
from boxsession.client.values import error_text, is_error
from boxsession.protocol.client import NEED_DATA, BadReply, Notice, Push, Reply

__all__ = ['Conversation', 'Exchange']

_READ_BYTES = 1 << 18
# The most reads of waiting input before a statement is sent. If the server sends more, the rest is read with the reply.
_POLL_READS = 16
# How long a cancelled statement may take to end, in seconds.
_CANCEL_SECONDS = 1.0


class Conversation(Protocol):
    """The part of a protocol that a link uses (`TextConversation`, `BinaryConversation`)."""

    @property
    def can_cancel(self) -> bool: ...
    @property
    def shows_password(self) -> bool: ...
    @property
    def has_languages(self) -> bool: ...
    language: str
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


class Exchange:
    """Sends statements, and receives what belongs to them. One thread uses it at a time.

    Args:
        channel: the connection, after the greeting.
        conversation: the protocol's state.
        max_bytes: the longest push without a statement, in bytes; 0 for no limit.
    """

    def __init__(self, channel: Channel, conversation: Conversation, max_bytes: int):
        self._channel = channel
        self._conversation = conversation
        self._max_bytes = max_bytes
        self._kept: list[Push | Notice] = []        # arrived outside of a user's statement: events() yields them next time
        self._kept_bytes = 0

    def own_reply(self, statement: bytes, deadline: float, pushes: list[bytes] | None = None) -> bytes:
        """The reply to a statement of the client itself. Its pushes are put into `pushes`, or kept for events()."""
        ticket, data = self._conversation.ask(statement)
        self._channel.send(data, deadline)
        earlier = len(self._kept)
        for number, event in enumerate(self.events(ticket, deadline)):
            if isinstance(event, Reply):
                return event.document
            if pushes is not None and isinstance(event, Push) and number >= earlier:
                pushes.append(event.document)
            else:
                self._keep(event)
        raise AssertionError('the last event is a reply')

    def events(self, ticket: int, deadline: float | None) -> Iterator[Push | Notice | Reply]:
        """What arrives until the reply to a statement, which is the last."""
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
        if self._max_bytes and self._kept_bytes > self._max_bytes:
            raise Lost(f'the server sent more than {self._max_bytes} bytes (--max-reply) without a statement',
                       was_sent=False, what='the connection was closed')

    def poll(self) -> None:
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

    def cancel_and_wait(self, ticket: int) -> None:
        """Cancels a statement after its deadline. If the server cannot cancel it, resets the connection."""
        data = self._conversation.cancel()
        limit = time.monotonic() + _CANCEL_SECONDS
        try:
            if data:
                self._channel.send(data, limit)
                for _ in self.events(ticket, limit):
                    pass
                return
        except LinkError:
            pass
        self._channel.abort()
