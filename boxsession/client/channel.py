"""A blocking socket to a server: its waits end at a deadline, or by an interrupt."""
from __future__ import annotations

import math
import os
import select
import socket
import ssl
import time
from typing import Protocol

from boxsession.base.address import is_local_peer
from boxsession.base.errors import BoxsessionError
from boxsession.base.sockets import reset
from boxsession.client.target import Target

__all__ = ['Abandoned', 'Channel', 'Interrupts', 'LinkError', 'Lost', 'Refused', 'TimedOut']


class Stops(Protocol):
    """What knows how to stop what the server runs (a conversation)."""

    @property
    def can_cancel(self) -> bool: ...
    def cancel(self) -> bytes: ...


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


class Interrupts:
    """The interrupts of a running statement.

    Attributes:
        count: how many there were.
        last: when the last one was (time.monotonic()).
        patience: how many seconds a statement may go on after one; None for as long as it wants.
        fd: can be read behind one.
        wakeup_fd: for signal.set_wakeup_fd(), where a signal's handler calls interrupt(): without it, one that comes right
            in front of a wait is not seen until that ends.

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
        """Cancels the running statement, at the second time gives it up; for signal handlers and other threads. Gives how
        often it was called for this statement."""
        self.count += 1
        self.last = time.monotonic()
        try:
            os.write(self.wakeup_fd, b'\0')
        except OSError:
            pass
        return self.count

    def begin(self) -> None:
        """Another statement begins."""
        self.drain()
        self.count = 0

    def drain(self) -> None:
        """`fd` cannot be read until the next one."""
        try:
            while os.read(self.fd, 100):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Gives the descriptors back."""
        os.close(self.fd)
        os.close(self.wakeup_fd)
        self.fd = -1


class Channel:
    """A connection.

    Args:
        deadline: when it has to be there (time.monotonic()).

    Attributes:
        interrupts: what ends a wait early.
        conversation: what is held over it, once the server has greeted.
        is_private: whether nobody on the way can read what is sent.

    Raises:
        LinkError: there is none to be had, in words for the user.
    """

    def __init__(self, target: Target, deadline: float):
        try:
            self.interrupts = Interrupts()
        except OSError as error:
            raise LinkError(f'cannot connect to {target.address}: {_reason(error)}') from None
        self.conversation: Stops | None = None
        try:
            self._sock, self.is_private = _connected(target, deadline)
        except BaseException as error:
            self.interrupts.close()
            if isinstance(error, (OSError, UnicodeError)):
                raise LinkError(f'cannot connect to {target.address}: {_reason(error)}') from None
            raise

    def send(self, data: bytes, deadline: float | None) -> None:
        """Sends all of it.

        Raises:
            LinkError: the connection, the deadline or the user's patience is over.
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
        """What has come, up to `count` bytes; waits for it. Raises as send()."""
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

    def received_now(self, count: int) -> bytes | None:
        """The same without a wait: None where nothing has come; b'' where the server has closed the connection."""
        try:
            return self._sock.recv(count)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError as error:
            raise Lost(_reason(error), was_sent=False) from None

    def look(self, deadline: float | None) -> None:
        """Sees interrupts and the deadline without a wait. Raises as send()."""
        self._wait(deadline, only_looks=True)

    def _wait(self, deadline, writing=False, only_looks=False):
        interrupts, conversation = self.interrupts, self.conversation
        if interrupts.count and interrupts.patience is not None:
            limit = interrupts.last + (interrupts.patience if conversation is not None and conversation.can_cancel else 0)
            deadline = limit if deadline is None else min(deadline, limit)
        seconds = None if deadline is None else deadline - time.monotonic()
        if seconds is not None and seconds <= 0:
            raise TimedOut('there was no reply in time')
        if only_looks:
            seconds = 0
        poller = select.poll()                      # select() takes no descriptors above 1023
        poller.register(interrupts.fd, select.POLLIN)
        poller.register(self._sock, select.POLLOUT if writing else select.POLLIN)
        if interrupts.fd in dict(poller.poll(None if seconds is None else math.ceil(seconds * 1000))):
            interrupts.drain()
            if interrupts.count > 1:
                self.abort()
                raise Abandoned('it was left running')
            data = conversation.cancel() if interrupts.count and conversation is not None else b''
            if data and not writing:
                self.send(data, deadline)

    def abort(self) -> None:
        """Ends the connection with a reset: what runs there is to know that nobody waits."""
        reset(self._sock)

    def close(self) -> None:
        """Ends the connection."""
        if self.interrupts.fd < 0:
            return
        try:
            if isinstance(self._sock, ssl.SSLSocket):
                self._sock.unwrap()             # TLS's goodbye; whether it is answered is nothing to wait for
        except (OSError, ValueError):
            pass
        self._sock.close()
        self.interrupts.close()


def _connected(target: Target, deadline: float) -> tuple[socket.socket, bool]:
    """A socket, and whether nobody on the way can read what is sent."""
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
        # Where it really goes: what a name stands for may change.
        is_private = tls is not None or is_local_peer(sock.getpeername())
        sock.setblocking(False)
        return sock, is_private
    except BaseException:
        if sock is not None:
            sock.close()
        raise


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
