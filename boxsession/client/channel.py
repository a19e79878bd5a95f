"""A socket to a server. Every wait on it ends at a deadline, or at an interrupt of the user."""
from __future__ import annotations

import math
import os
import re
import select
import socket
import ssl
import struct
import time
from typing import Any, Protocol

from boxsession.base.address import is_local_peer
from boxsession.base.errors import BoxsessionError
from boxsession.base.sockets import reset
from boxsession.client.streams import say
from boxsession.client.target import Target
from boxsession.client.values import visible

__all__ = ['CLOSED', 'Abandoned', 'Channel', 'Interrupts', 'LinkError', 'Lost', 'Refused', 'TimedOut']


# The reason of Lost if the server has closed the connection.
CLOSED = 'it closed the connection'
# What OpenSSL reports if the certificate of the server has another name, or another IP address.
_OTHER_NAME = (62, 64)
_NAMES_SHOWN = 10
# How long a process of this machine may be silent, in seconds.
_SILENT_SECONDS = 3.0
_SILENT = ('boxsession: process %(pid)d has not answered for %(seconds)g s. A listener with `protocol: rescue` answers '
           "unless native code keeps the GIL, Python's lock, or the process is stopped; others need the event loop. "
           '`py-spy dump --native --pid %(pid)d` shows where it is, `kill -9 %(pid)d` ends it')
# The alerts of a server to a client with a wrong certificate.
_REFUSES_CERTIFICATE = re.compile('ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_|DECRYPT_ERROR|'
                                  'ACCESS_DENIED)')


class Stops(Protocol):
    """The part of a conversation that cancels the statement on the server."""

    @property
    def can_cancel(self) -> bool: ...
    def cancel(self) -> bytes: ...


class LinkError(BoxsessionError):
    """The connection cannot be made, or has ended. The text is for the user."""


class Refused(LinkError):
    """The login failed. Another attempt would fail in the same way."""


class Lost(LinkError):
    """The connection was lost, or the server sent an invalid reply.

    Attributes:
        reason: why.
        was_sent: whether the server may have run the statement.
    """

    def __init__(self, reason: str, was_sent: bool, what: str = 'the server went away'):
        super().__init__(f'{what}: {reason}')
        self.reason = reason
        self.was_sent = was_sent


class TimedOut(LinkError):
    """The deadline has passed."""


class Abandoned(LinkError):
    """The user stopped waiting, by a second interrupt."""


class Interrupts:
    """The interrupts (Ctrl-C) of the running statement.

    Attributes:
        count: how many there were.
        last: the time of the last one (time.monotonic()).
        patience: how many seconds a statement may still run after an interrupt; None for no limit.
        fd: readable after an interrupt.
        wakeup_fd: for signal.set_wakeup_fd(), if a signal handler calls interrupt(). Without it, a signal that arrives
            just before a wait would not end that wait.

    Raises:
        OSError: there are no file descriptors left.
    """

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        self.patience: float | None = None
        self.fd, self.wakeup_fd = os.pipe()
        for fd in (self.fd, self.wakeup_fd):
            os.set_blocking(fd, False)

    def interrupt(self) -> int:
        """Cancels the running statement; the second call stops waiting for it. For signal handlers and other threads.

        Returns:
            How often it was called for this statement.
        """
        self.count += 1
        self.last = time.monotonic()
        try:
            os.write(self.wakeup_fd, b'\0')
        except OSError:
            pass
        return self.count

    def begin(self) -> None:
        """Resets the count for the next statement."""
        self.drain()
        self.count = 0

    def drain(self) -> None:
        """Empties `fd`: it is readable again after the next interrupt."""
        try:
            while os.read(self.fd, 100):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Closes the descriptors."""
        os.close(self.fd)
        os.close(self.wakeup_fd)
        self.fd = -1


class Channel:
    """A connection to a server.

    Args:
        target: the address and the TLS settings.
        deadline: when the connection must be made (time.monotonic()).

    Attributes:
        interrupts: the interrupts of the user, which end a wait.
        conversation: the protocol's state; set after the greeting.
        answers_at_once: the server has to answer soon: it has to greet, or is a rescue listener. If it does not, the user
            is told, once for each wait, what may be the reason.
        is_private: whether nobody else can read the data: TLS, a unix socket, or a peer on this machine.

    Raises:
        LinkError: the connection cannot be made.
    """

    def __init__(self, target: Target, deadline: float):
        try:
            self.interrupts = Interrupts()
        except OSError as error:
            raise LinkError(f'cannot connect to {target.address}: {_reason(error)}') from None
        self.conversation: Stops | None = None
        self.answers_at_once = True
        try:
            self._sock, self.is_private = _connected(target, deadline)
        except BaseException as error:
            self.interrupts.close()
            if isinstance(error, (OSError, UnicodeError)):
                reason = _reason(error) + _names_of_certificate(target, error, deadline)
                raise LinkError(f'cannot connect to {target.address}: {reason}') from None
            raise

    def send(self, data: bytes, deadline: float | None) -> None:
        """Sends all data.

        Raises:
            Lost: the connection has failed.
            TimedOut: the deadline has passed, or the patience after an interrupt.
            Abandoned: there was a second interrupt.
        """
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

    def received(self, count: int, deadline: float | None) -> bytes:
        """Receives up to `count` bytes; waits until there are some. Raises as send()."""
        soon = time.monotonic() + _SILENT_SECONDS if self.answers_at_once and self._sock.family == socket.AF_UNIX else None
        while True:
            try:
                data = self._sock.recv(count)
            except (BlockingIOError, ssl.SSLWantReadError):
                if soon is None or deadline is not None and deadline <= soon:
                    self._wait(deadline)
                    continue
                try:
                    self._wait(soon)
                except TimedOut:
                    soon = None
                    say(_SILENT % {'pid': _server_pid(self._sock), 'seconds': _SILENT_SECONDS})
            except OSError as error:
                raise Lost(_reason(error), was_sent=True) from None
            else:
                if not data:
                    raise Lost(CLOSED, was_sent=True)
                return data

    def received_now(self, count: int) -> bytes | None:
        """Receives without waiting: None if nothing has arrived, b'' if the server has closed the connection."""
        try:
            return self._sock.recv(count)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError as error:
            raise Lost(_reason(error), was_sent=False) from None

    def look(self, deadline: float | None) -> None:
        """Handles interrupts and checks the deadline, without waiting. Raises as send()."""
        self._wait(deadline, only_looks=True)

    def _wait(self, deadline, writing=False, only_looks=False):
        interrupts, conversation = self.interrupts, self.conversation
        if interrupts.count and interrupts.patience is not None:
            limit = interrupts.last + (interrupts.patience if conversation is not None and conversation.can_cancel else 0)
            deadline = limit if deadline is None else min(deadline, limit)
        seconds = None if deadline is None else deadline - time.monotonic()
        if seconds is not None and seconds <= 0:
            raise TimedOut('no reply in time')
        if only_looks:
            seconds = 0
        poller = select.poll()                      # select() fails for descriptors above 1023
        poller.register(interrupts.fd, select.POLLIN)
        poller.register(self._sock, select.POLLOUT if writing else select.POLLIN)
        if interrupts.fd in dict(poller.poll(None if seconds is None else math.ceil(seconds * 1000))):
            interrupts.drain()
            if interrupts.count > 1:
                self.abort()
                raise Abandoned('the statement was left; it may still run on the server')
            data = conversation.cancel() if interrupts.count and conversation is not None else b''
            if data and not writing:
                self.send(data, deadline)

    def abort(self) -> None:
        """Resets the connection, so that the server knows that nobody waits for the statement."""
        reset(self._sock)

    def close(self) -> None:
        """Closes the connection. Closing twice is no error."""
        if self.interrupts.fd < 0:
            return
        try:
            if isinstance(self._sock, ssl.SSLSocket):
                self._sock.unwrap()             # sends close_notify; does not wait for the answer
        except (OSError, ValueError):
            pass
        self._sock.close()
        self.interrupts.close()


def _server_pid(sock: socket.socket) -> int:
    """The pid of the process that listens on a unix socket."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize('3i'))
    return int(struct.unpack('3i', credentials)[0])


def _connected(target: Target, deadline: float) -> tuple[socket.socket, bool]:
    """A connected socket, and whether nobody else can read the data."""
    address, tls = target.address, target.tls
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
        # Decided by the real peer address: the address of a host name may change.
        is_private = tls is not None or is_local_peer(sock.getpeername())
        sock.setblocking(False)
        return sock, is_private
    except BaseException:
        if sock is not None:
            sock.close()
        raise


def _names_of_certificate(target: Target, error: BaseException, deadline: float) -> str:
    """The names in the certificate of the server, if it has not the name of the target; else ''.

    OpenSSL does not keep a certificate that it refuses. So this connects once more, and checks everything but the name.
    """
    if target.tls is None or not isinstance(error, ssl.SSLCertVerificationError) or error.verify_code not in _OTHER_NAME:
        return ''
    target.tls.check_hostname = False
    try:
        sock, _ = _connected(target, deadline)
        with sock:
            assert isinstance(sock, ssl.SSLSocket)
            alternatives: Any = (sock.getpeercert() or {}).get('subjectAltName', ())
    except OSError:
        return ''
    finally:
        target.tls.check_hostname = True
    names = [visible(name) for kind, name in alternatives if kind in ('DNS', 'IP Address')]
    if not names:
        return '. It has no names (subjectAltName)'
    return f'. It is valid for {", ".join(names[:_NAMES_SHOWN])}: connect to one of these names'


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _OTHER_NAME:
        return f'its certificate cannot be verified: {error.verify_message.rstrip(".")}'
    if isinstance(error, ssl.SSLCertVerificationError):
        return (f'its certificate cannot be verified: {error.verify_message.rstrip(".")}; use --ca FILE with the '
                'certificate of the CA that signed it')
    if isinstance(error, ssl.SSLError) and error.reason == 'WRONG_VERSION_NUMBER':
        return 'TLS failed: the server does not speak TLS; if it is a listener without TLS, leave --tls out'
    if isinstance(error, ssl.SSLError) and error.reason == 'TLSV13_ALERT_CERTIFICATE_REQUIRED':
        return 'the listener wants a client certificate: use --cert FILE, and --key FILE if its key is in another file'
    if isinstance(error, ssl.SSLError) and error.reason == 'SSLV3_ALERT_HANDSHAKE_FAILURE':     # TLS 1.2: that, or others
        return 'TLS failed: the server refused the handshake; if it wants a client certificate, use --cert FILE'
    if isinstance(error, ssl.SSLError) and _REFUSES_CERTIFICATE.search(error.reason or ''):
        return f'the listener does not accept the client certificate of --cert: {_words(error.reason)}'
    if isinstance(error, ssl.SSLError):
        return f'TLS failed: {error.reason or error}'
    if isinstance(error, UnicodeError):
        return 'this is no valid host name'
    if isinstance(error, TimeoutError):
        return 'it does not answer in time'
    return getattr(error, 'strerror', None) or str(error)


def _words(reason: str) -> str:
    """An alert of OpenSSL (TLSV1_ALERT_UNKNOWN_CA) in words."""
    return reason.partition('ALERT_')[2].replace('_', ' ').lower()
