"""A connection to a console: socket and conversation put together. Blocking, with deadlines; used by one thread at a time.
"""
from __future__ import annotations

import math
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from boxsession.base.address import is_local_peer
from boxsession.base.errors import BoxsessionError
from boxsession.base.redaction import login_password
from boxsession.base.sockets import reset
from boxsession.client.target import Target
from boxsession.client.values import error_document, error_text, is_error
from boxsession.protocol.client import NEED_DATA, BadReply, Notice, Push, Reply, TextConversation
from boxsession.protocol.greeting import GREETING_BYTES, protocol_of

__all__ = ['Abandoned', 'Link', 'LinkError', 'Lost', 'Refused', 'TimedOut']

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


class LinkError(BoxsessionError):
    """There is no connection to be had, or no more."""


class Refused(LinkError):
    """There is no login: another attempt would end the same."""


class Lost(LinkError):
    """The server went away, or what it sends is no reply.

    Attributes:
        was_sent: whether it may have run the statement.
    """

    def __init__(self, reason: str, was_sent: bool, what: str = 'the server went away'):
        super().__init__(f'{what}: {reason}')
        self.was_sent = was_sent


class TimedOut(LinkError):
    """The deadline is over."""


class Abandoned(LinkError):
    """The user does not wait any longer."""


class Link:
    """A connection, greeted and logged in.

    Args:
        deadline: when it has to be there (time.monotonic()); at most CONNECT_SECONDS are waited in any case.

    Attributes:
        greeting: the server's 128 bytes.
        patience: how many seconds a statement may go on after an interrupt; None for as long as it wants.

    Raises:
        LinkError: there is none to be had, in words for the user.
    """

    def __init__(self, target: Target, deadline: float | None = None):
        self.target = target
        self.greeting = b''
        self._lock = threading.RLock()
        self._kept: list[Push | Notice] = []        # what came while nobody asked for it
        self._kept_bytes = 0
        self._is_private = False                    # whether nobody on the way can read what is sent
        try:
            self._wake_out, self._wake_in = os.pipe()
        except OSError as error:
            raise LinkError(f'cannot connect to {target.address}: {_reason(error)}') from None
        for fd in (self._wake_out, self._wake_in):
            os.set_blocking(fd, False)
        self._interrupts = 0
        self._interrupted = 0.0
        self.patience: float | None = None
        limit = time.monotonic() + CONNECT_SECONDS
        deadline = limit if deadline is None else min(limit, deadline)
        try:
            self._sock: socket.socket = self._connected(deadline)
        except BaseException:
            self._close_wakeup()
            raise
        try:
            self._conversation: Conversation = self._greeted(deadline)
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

    def _connected(self, deadline: float) -> socket.socket:
        address, tls = self.target.address, self.target.tls
        seconds = max(0.001, deadline - time.monotonic())
        sock: socket.socket | None = None
        try:
            if address.path:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.settimeout(seconds)
                sock.connect(address.path)
            else:
                sock = socket.create_connection((address.host, address.port), timeout=seconds)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if tls is not None:
                sock.settimeout(max(0.001, deadline - time.monotonic()))
                sock = tls.wrap_socket(sock, server_hostname=address.host or 'localhost')
            # Where it really goes: what a name stands for may change.
            self._is_private = tls is not None or is_local_peer(sock.getpeername())
            sock.setblocking(False)
            return sock
        except (OSError, UnicodeError) as error:
            if sock is not None:
                sock.close()
            raise LinkError(f'cannot connect to {address}: {_reason(error)}') from None
        except BaseException:
            if sock is not None:
                sock.close()
            raise

    def _greeted(self, deadline: float) -> Conversation:
        data = b''
        # A server that refuses sends an error document instead, of any length.
        while len(data) < GREETING_BYTES or data.startswith(b'---\n') and len(data) < _READ_BYTES:
            try:
                data += self._received(max(1, GREETING_BYTES - len(data)), deadline)
            except Lost:
                break
            if data.startswith(b'---\n') and data.endswith(b'\n...\n'):
                break
        protocol = protocol_of(data)
        address = self.target.address
        if protocol is None:
            if is_error(data):
                raise LinkError(f'{address} refused: {error_text(data)}')
            if not data:
                hint = '' if self.target.tls else '; if it is a TLS listener, use --tls'
                raise LinkError(f'cannot connect to {address}: it closed without a word{hint}')
            raise LinkError(f'{address} is no console: it says {data[:40]!r}')
        self.greeting = data
        return _conversation(protocol, data, self.target.max_reply)

    def _begin(self, deadline: float) -> None:
        if self.target.user is not None:
            problem = self._conversation.login_problem(self.target.user, self.target.password or '')
            if not problem and self._conversation.shows_password and not self._may_send_password:
                problem = _IN_THE_CLEAR
            if problem:
                raise Refused(f'cannot log in as {self.target}: {problem}')
        opening = self._conversation.opening()
        if opening:
            self._send(opening, deadline)

    def _log_in(self, user: str, deadline: float) -> None:
        password = self.target.password or ''
        ticket, data = self._conversation.login(user, password)
        self._send(data, deadline)
        for event in self._events(ticket, deadline):
            if isinstance(event, Push) or isinstance(event, Reply) and self._conversation.is_logged_in(event.document):
                continue
            document = _without(password.encode(errors='surrogateescape'), event.document)
            said = error_text(document) if is_error(document) else 'the server answers something else than yes'
            raise Refused(f'cannot log in as {self.target}: {said}')

    @property
    def _may_send_password(self):
        return self._is_private or self.target.insecure

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
            self._drain()
            self._interrupts = 0
            problem = self._problem(statement)
            if problem:
                yield Reply(0, error_document(problem))
                return
            self._poll()
            ticket, data = self._conversation.ask(statement)
            password = login_password(statement)
            try:
                self._send(data, deadline)
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
            self._send(data, deadline)
            for event in self._events(ticket, deadline):
                if isinstance(event, Reply):
                    return event.document if len(event.document) <= _OWN_REPLY_BYTES else None
                self._keep(event)
        except LinkError:
            pass
        finally:
            self._lock.release()
        return None

    @property
    def wakeup_fd(self) -> int:
        """For signal.set_wakeup_fd(), where a signal's handler calls interrupt(): without it, one that comes right in front
        of a wait is not seen until that ends."""
        return self._wake_in

    def interrupt(self) -> int:
        """Cancels the running statement, at the second time gives it up; for signal handlers and other threads. Gives how
        often it was called for this statement."""
        self._interrupts += 1
        self._interrupted = time.monotonic()
        try:
            os.write(self._wake_in, b'\0')
        except OSError:
            pass
        return self._interrupts

    def _events(self, ticket, deadline):
        kept, self._kept, self._kept_bytes = self._kept, [], 0
        yield from kept
        while True:
            self._wait(deadline, only_looks=True)       # also where what comes never ends
            try:
                event = self._conversation.next_event()
            except BadReply as error:
                raise Lost(str(error), was_sent=True, what='the connection is closed') from None
            if event is NEED_DATA:
                self._conversation.receive_data(self._received(_READ_BYTES, deadline))
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
            try:
                data = self._sock.recv(_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                break
            except OSError as error:
                raise Lost(_reason(error), was_sent=False) from None
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
                self._send(data, limit)
                for _ in self._events(ticket, limit):
                    pass
                return
        except LinkError:
            pass
        self.abort()

    # The socket

    def _send(self, data: bytes, deadline) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view):]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(deadline, writing=True)
            except ssl.SSLWantReadError:
                self._wait(deadline)
            except OSError as error:
                raise Lost(_reason(error), was_sent=True) from None

    def _received(self, count, deadline) -> bytes:
        while True:
            try:
                data = self._sock.recv(count)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(deadline)
            except OSError as error:
                raise Lost(_reason(error), was_sent=True) from None
            else:
                if not data:
                    raise Lost('it closed the connection', was_sent=True)
                return data

    def _wait(self, deadline, writing=False, only_looks=False):
        if self._interrupts and self.patience is not None:
            limit = self._interrupted + (self.patience if self.can_cancel else 0)
            deadline = limit if deadline is None else min(deadline, limit)
        seconds = None if deadline is None else deadline - time.monotonic()
        if seconds is not None and seconds <= 0:
            raise TimedOut('there was no reply in time')
        if only_looks:
            seconds = 0
        poller = select.poll()                      # select() takes no descriptors above 1023
        poller.register(self._wake_out, select.POLLIN)
        poller.register(self._sock, select.POLLOUT if writing else select.POLLIN)
        if self._wake_out in dict(poller.poll(None if seconds is None else math.ceil(seconds * 1000))):
            self._drain()
            if self._interrupts > 1:
                self.abort()
                raise Abandoned('it was left running')
            data = self._conversation.cancel() if self._interrupts else b''
            if data and not writing:
                self._send(data, deadline)

    def _drain(self):
        try:
            while os.read(self._wake_out, 100):
                pass
        except BlockingIOError:
            pass

    def abort(self) -> None:
        """Ends the connection with a reset: what runs there is to know that nobody waits."""
        reset(self._sock)

    def close(self) -> None:
        """Ends the connection."""
        if self._wake_out < 0:
            return
        try:
            if isinstance(self._sock, ssl.SSLSocket):
                self._sock.unwrap()             # TLS's goodbye; whether it is answered is nothing to wait for
        except (OSError, ValueError):
            pass
        self._sock.close()
        self._close_wakeup()

    def _close_wakeup(self) -> None:
        os.close(self._wake_out)
        os.close(self._wake_in)
        self._wake_out = -1


def _conversation(protocol: str, greeting: bytes, max_reply: int) -> Conversation:
    if protocol == 'text':
        return TextConversation(greeting, max_reply)
    from boxsession.protocol.answers import BinaryConversation  # msgpack and hashlib, which the other does not need
    return BinaryConversation(greeting, max_reply)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f'its certificate is not to be trusted: {error.verify_message.rstrip(".")}; --ca FILE says who signed it'
    if isinstance(error, ssl.SSLError) and error.reason == 'WRONG_VERSION_NUMBER':
        return 'TLS failed: what answers there does not speak TLS; if it is a listener without TLS, leave --tls out'
    if isinstance(error, ssl.SSLError):
        return f'TLS failed: {error.reason or error}'
    if isinstance(error, UnicodeError):
        return 'this is no name of a host'
    if isinstance(error, TimeoutError):
        return 'it does not answer in time'
    return getattr(error, 'strerror', None) or str(error)


def _without(secret: bytes | None, document: bytes) -> bytes:
    """A reply that does not tell a password: some servers show the whole line in their error."""
    if secret and is_error(document) and secret in error_text(document).encode(errors='surrogateescape'):
        return error_document('the server refuses the login, in words that hold the password')
    return document
