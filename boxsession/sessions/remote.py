"""Another text console, ours or a Tarantool's, that a session's statements go to (console.connect)."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gevent import Timeout, sleep, socket

from boxsession.base.address import Address, is_local_peer
from boxsession.base.errors import StatementError
from boxsession.base.greenlets import OwnTimeout, TimedOut
from boxsession.base.redaction import login_password
from boxsession.base.sockets import reset
from boxsession.protocol.client import NEED_DATA, BadReply, Piece, RelayedConversation, Send
from boxsession.protocol.greeting import GREETING_BYTES, protocol_of

__all__ = ['RemoteClosed', 'RemoteConsole']

_READ_BYTES = 65536
# After so many reads the others have their turns: what can be read at once does not switch.
_READS_IN_A_ROW = 8
# How long the other side may take to accept what is sent to it.
_SEND_SECONDS = 30
_PAUSE_SECONDS = 1e-6           # by a timer: sleep(0) lets the event loop's callbacks run, and no sockets


class RemoteClosed(Exception):
    """The other console has closed the connection, or it was given up."""


class RemoteConsole:
    """A connection to another console. Used by one greenlet; cancel() and close() may be called by others.

    Raises:
        StatementError: there is no console to be had at that address, in words for whoever asked.
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
            return socket.create_connection((address.host, address.port))
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
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
            raise StatementError(f'console.connect(): {self.address} speaks the binary protocol, which this version cannot')
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
        """Sends a statement; gives its reply, and the pushes in front of it, piece by piece as they come.

        Raises:
            RemoteClosed: the connection is over.
            StatementError: the statement is a login whose password others could read on its way; it is not sent.
        """
        if not self._is_private and login_password(statement) is not None:
            raise StatementError(f'\\login: the password could be read on its way to {self.address}')
        self._conversation.ask(statement)
        return self._pieces()

    def _pieces(self) -> Iterator[bytes]:
        """What is to be passed on until the reply to what was asked is complete."""
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
            elif event is not NEED_DATA:        # it is done
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
        """Stops the statement that runs there. A console that cannot do that is left."""
        data = self._conversation.cancel()
        if data:
            patience = self._sock.gettimeout()
            self._sock.settimeout(0.0)          # the caller may be the hub, and another greenlet may be sending
            try:
                self._sock.send(data)
                return
            except OSError:
                pass
            finally:
                self._sock.settimeout(patience)
        self.abort()

    def abort(self) -> None:
        """Ends the connection under whoever waits for it, with a reset: what runs there is to know that nobody waits."""
        reset(self._sock)

    def close(self) -> None:
        """Ends the connection."""
        self._sock.close()
