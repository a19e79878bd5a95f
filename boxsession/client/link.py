"""A session with a console, from the client's side: joins the socket and the protocol. One thread uses it at a time."""
from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator

from boxsession.base.redaction import login_password
from boxsession.client import python_lines
from boxsession.client.channel import CLOSED, Channel, LinkError, Lost, Refused, TimedOut
from boxsession.client.exchange import Conversation, Exchange
from boxsession.client.target import Target
from boxsession.client.values import Unshowable, error_document, error_text, is_error, values
from boxsession.protocol.client import Notice, Push, Reply, TextConversation
from boxsession.protocol.greeting import GREETING_BYTES, is_of_rescue, protocol_of

__all__ = ['Link']

CONNECT_SECONDS = 10.0
_READ_BYTES = 1 << 18
# The longest accepted reply to a query of the client itself.
_OWN_REPLY_BYTES = 1 << 20
# Statements that may change the language of the session: settings, a login, another console.
_CHANGES_LANGUAGE = re.compile(rb'language|login|connect|\bsu\b|\\\s*s(?:et)?\s+l(?:ang)?\b')
_LANGUAGES = ('lua', 'python')
_LANGUAGE_SECONDS = 5.0
_TRUE = b'---\n- true\n...\n'
_IN_THE_CLEAR = ('the password was not sent, because others could read it on the network: use --tls or a unix socket, or '
                 'connect from the same machine (--insecure sends it anyway)')


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
        limit = time.monotonic() + CONNECT_SECONDS
        deadline = limit if deadline is None else min(limit, deadline)
        self._channel = Channel(target, deadline)
        self.interrupts = self._channel.interrupts
        try:
            protocol, self.greeting = _greeting(self._channel, target, deadline)
            self._channel.answers_at_once = is_of_rescue(self.greeting)
            self._conversation: Conversation = _conversation(protocol, self.greeting, target.max_reply)
            self._channel.conversation = self._conversation
            self._exchange = Exchange(self._channel, self._conversation, target.max_reply)
            self._begin(deadline)
            if target.user is not None:
                self._log_in(target.user, deadline)
            if target.language is None:
                self._learn_language(deadline)
            else:
                self.speak(target.language, deadline)
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
        for event in self._exchange.events(ticket, deadline):
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
        if self.language == 'python' and not statement.startswith(b'\\'):
            return python_lines.problem(statement)
        return self._conversation.problem(statement)

    # The language

    @property
    def language(self) -> str:
        """The language of statements: 'lua' or 'python'."""
        return self._conversation.language

    def speak(self, language: str, deadline: float | None = None) -> None:
        """Sets the language of statements.

        Raises:
            Refused: the server has no such language for this user.
        """
        if not self._conversation.has_languages:
            if language == 'lua':
                return
            reason = 'there statements are in Lua. Text listeners with `languages` in their settings have others'
        else:
            if deadline is None:
                deadline = time.monotonic() + _LANGUAGE_SECONDS
            document = self._exchange.own_reply(b'\\set language ' + language.encode(), deadline)
            if document == _TRUE:
                self._conversation.language = language
                return
            reason = error_text(document) if is_error(document) else 'the server did not confirm it'
        raise Refused(f'no statements in {language} at {self.target}: {reason}')

    def _learn_language(self, deadline: float) -> None:
        if not self._conversation.has_languages:
            return
        document = self._exchange.own_reply(b'\\set language', deadline)
        try:
            [row] = values(document if len(document) <= _OWN_REPLY_BYTES else b'')
            language = row['language']
        except (Unshowable, ValueError, TypeError, LookupError):    # another console, reached by console.connect
            language = 'lua'
        self._conversation.language = language if language in _LANGUAGES else 'lua'

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
            self._exchange.poll()
            ticket, data = self._conversation.ask(statement)
            password = login_password(statement)
            try:
                self._channel.send(data, deadline)
                for event in self._exchange.events(ticket, deadline):
                    if type(event) is Reply and _CHANGES_LANGUAGE.search(statement):
                        self._follow_language(deadline)
                    yield Reply(ticket, _without(password, event.document)) if password and type(event) is Reply else event
            except TimedOut:
                self._exchange.cancel_and_wait(ticket)
                raise

    def _follow_language(self, deadline: float | None) -> None:
        limit = time.monotonic() + _LANGUAGE_SECONDS
        try:
            self._learn_language(limit if deadline is None else min(limit, deadline))
        except LinkError:               # the reply counts; the next statement finds out
            pass

    def completions(self, text: str, seconds: float) -> bytes | None:
        """The completions of a text, as query(): a list of their longest common prefix and the names."""
        return self.query(self._conversation.completion(text.encode()), seconds)

    def query(self, statement: bytes, seconds: float, pushes: list[bytes] | None = None) -> bytes | None:
        """Runs a statement of the client itself; any thread may call it. Pushes are put into `pushes`, or kept for ask().

        Returns:
            The reply; None if it fails, takes more than `seconds`, or has more than 1 MiB.
        """
        deadline = time.monotonic() + seconds
        if not self._lock.acquire(timeout=seconds):
            return None
        try:
            self._exchange.poll()
            document = self._exchange.own_reply(statement, deadline, pushes)
        except LinkError:
            return None
        finally:
            self._lock.release()
        return document if len(document) <= _OWN_REPLY_BYTES else None

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
