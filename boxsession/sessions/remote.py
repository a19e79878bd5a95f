"""A connection to another text console, of boxsession or Tarantool, that runs a session's statements (console.connect)."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gevent import Timeout, sleep, socket

from boxsession.base.address import Address, is_local_peer
from boxsession.base.errors import StatementError
from boxsession.base.greenlets import OwnTimeout, TimedOut
from boxsession.base.inherited import own
from boxsession.base.redaction import login_password
from boxsession.base.sockets import reset
from boxsession.protocol.client import NEED_DATA, BadReply, Piece, RelayedConversation, Send
from boxsession.protocol.greeting import GREETING_BYTES, protocol_of

__all__ = ['RemoteClosed', 'RemoteConsole']

_READ_BYTES = 65536
# Number of reads after which other tasks get a turn: a read that finds data does not switch.
_READS_IN_A_ROW = 8
# Maximum time for the other console to read a statement, in seconds.
_SEND_SECONDS = 30
_PAUSE_SECONDS = 1e-6           # more than 0: gevent's sleep(0) runs callbacks of the event loop, but not its watchers


class RemoteClosed(Exception):
    """The connection to the other console was closed, by either side."""


class RemoteConsole:
    """A connection to another console. Only one greenlet may use it; others may only call cancel(), abort() and close().

    Args:
        address: the address of the other console.
        timeout: maximum time for connecting, in seconds; None for no maximum.

    Raises:
        StatementError: the connection failed, or the other side is not a text console.
    """

    def __init__(self, address: Address, timeout: float | None = None):
        self.address = address
        self._reads = 0
        try:
            with Timeout(timeout, TimedOut('timed out')):
                self._sock = self._connected(address)
                self._is_private = is_local_peer(self._sock.getpeername())
                self._conversation = self._greeted()
                for _ in self._pieces():
                    pass
        except (OSError, UnicodeError, RemoteClosed) as error:
            self._give_up()
            raise StatementError('Connection is not established') from error
        except BaseException:
            self._give_up()
            raise

    @staticmethod
    def _connected(address: Address) -> Any:
        if not address.path:
            return own(socket.create_connection((address.host, address.port)))
        sock = own(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            sock.connect(address.path)
        except BaseException:
            sock.close()
            raise
        return sock

    def _greeted(self) -> RelayedConversation:
        data = b''
        while len(data) < GREETING_BYTES:
            data += self._received(GREETING_BYTES - len(data))
        protocol = protocol_of(data)
        if protocol == 'binary':
            raise StatementError(f'console.connect(): {self.address} speaks the binary protocol: expected a text console')
        if protocol is None:
            raise StatementError(f'console.connect(): {self.address} is no console')
        return RelayedConversation(data)

    def _give_up(self) -> None:
        if hasattr(self, '_sock'):
            self._sock.close()

    def _send(self, data: bytes) -> None:
        try:
            with Timeout(_SEND_SECONDS, TimedOut('the other console does not read')):
                self._sock.sendall(data)
        except OSError as error:
            raise RemoteClosed('Peer closed') from error

    def _received(self, count: int = _READ_BYTES) -> bytes:
        self._reads += 1
        if self._reads % _READS_IN_A_ROW == 0:
            sleep(_PAUSE_SECONDS)
        try:
            data = self._sock.recv(count)
        except OSError as error:
            raise RemoteClosed('Peer closed') from error
        if not data:
            raise RemoteClosed('Peer closed')
        return data

    def ask(self, statement: bytes) -> Iterator[bytes]:
        """Sends a statement. Yields its pushes and its reply in pieces, as they arrive.

        Raises:
            RemoteClosed: the connection was closed.
            StatementError: the statement is a login, and the connection is not private. It is not sent.
        """
        if not self._is_private and login_password(statement) is not None:
            raise StatementError(f'\\login: the password could be read on its way to {self.address}')
        self._conversation.ask(statement)
        return self._pieces()

    def _pieces(self) -> Iterator[bytes]:
        """Yields pieces for the client until the reply is complete."""
        conversation = self._conversation
        while True:
            try:
                event = conversation.next_event()
            except BadReply as error:
                self.abort()
                raise RemoteClosed('Peer closed') from error
            if isinstance(event, Piece):
                yield event.data
            elif isinstance(event, Send):
                self._send(event.data)
            elif event is not NEED_DATA:        # DONE: the reply is complete
                return
            elif conversation.patience is None:
                conversation.receive_data(self._received())
            else:
                data = b''
                with OwnTimeout(conversation.patience, False):
                    data = self._received()
                if data:
                    conversation.receive_data(data)
                else:
                    conversation.receive_silence()

    def cancel(self) -> None:
        """Cancels the statement that runs on the other console. If that console cannot cancel, ends the connection."""
        data = self._conversation.cancel()
        if data:
            patience = self._sock.gettimeout()
            self._sock.settimeout(0.0)          # no wait: the caller may be the hub, or another greenlet may be sending
            try:
                self._sock.send(data)
                return
            except OSError:
                pass
            finally:
                self._sock.settimeout(patience)
        self.abort()

    def abort(self) -> None:
        """Resets the connection, also while a greenlet waits for it. The other console then cancels its statement."""
        reset(self._sock)

    def close(self) -> None:
        """Closes the connection."""
        self._sock.close()
