"""Another text console, ours or a Tarantool's, that a session's statements go to (console.connect)."""
from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from gevent import Timeout, sleep, socket

from boxsession.base.address import Address, is_local_peer
from boxsession.base.errors import StatementError
from boxsession.base.greenlets import OwnTimeout, TimedOut
from boxsession.base.redaction import login_password

__all__ = ['RemoteClosed', 'RemoteConsole']

_GREETING_BYTES = 128
_GREETING = re.compile(rb'Tarantool \d+\.\d+\.\d+\S* \(Lua console\)')
_INTERRUPT = b'\x03'
_READ_BYTES = 65536
# After so many reads the others have their turns: what can be read at once does not switch.
_READS_IN_A_ROW = 8
# A reply that nobody sees is no longer.
_SKIPPED_BYTES = 65536
_END = b'\n...\n'
# Ends a statement of several lines, while one is sent.
_DELIMITER = b'$EOF$'
# Lua output has no certain end: a `;` that nothing follows for so long, or anything that nothing follows for longer.
_QUIET_SECONDS, _SILENT_SECONDS = 0.02, 0.5
# How long the other side may take to accept what is sent to it.
_SEND_SECONDS = 30
_PAUSE_SECONDS = 1e-6           # by a timer: sleep(0) lets the event loop's callbacks run, and no sockets
_LINGER_RESET = struct.pack('ii', 1, 0)


class RemoteClosed(Exception):
    """The other console has closed the connection, or it was given up."""


class RemoteConsole:
    """A connection to another console. Used by one greenlet; cancel() and close() may be called by others.

    Raises:
        StatementError: there is no console to be had at that address, in words for whoever asked.
    """

    def __init__(self, address: Address, timeout: float | None = None):
        self.address = address
        self._buffer = bytearray()
        self._reads = 0
        try:
            with Timeout(timeout, TimedOut('timed out')):
                self._sock = self._connected(address)
                self._is_private = is_local_peer(self._sock.getpeername())
                greeting = self._greeting()
                self._skip(b'\\set continuation off')
        except (OSError, UnicodeError, RemoteClosed) as error:
            self._give_up()
            raise StatementError('Connection is not established') from error
        except BaseException:
            self._give_up()
            raise
        # Ours can stop what it runs; with Tarantool's there is only leaving.
        self._can_cancel = b'boxsession' in greeting

    @staticmethod
    def _connected(address):
        if not address.path:
            return socket.create_connection((address.host, address.port))
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(address.path)
        except BaseException:
            sock.close()
            raise
        return sock

    def _greeting(self) -> bytes:
        while len(self._buffer) < _GREETING_BYTES:
            self._receive()
        greeting = bytes(self._buffer[:_GREETING_BYTES])
        del self._buffer[:_GREETING_BYTES]
        if b'(Binary)' in greeting:
            raise StatementError(f'console.connect(): {self.address} speaks the binary protocol, which this version cannot')
        if not _GREETING.match(greeting):
            raise StatementError(f'console.connect(): {self.address} is no console')
        return greeting

    def _give_up(self):
        if hasattr(self, '_sock'):
            self._sock.close()

    def _send(self, data: bytes) -> None:
        try:
            with Timeout(_SEND_SECONDS, TimedOut('the other console does not read')):
                self._sock.sendall(data)
        except OSError as error:
            raise RemoteClosed('Peer closed') from error

    def _receive(self) -> None:
        self._reads += 1
        if self._reads % _READS_IN_A_ROW == 0:
            sleep(_PAUSE_SECONDS)
        try:
            data = self._sock.recv(_READ_BYTES)
        except OSError as error:
            raise RemoteClosed('Peer closed') from error
        if not data:
            raise RemoteClosed('Peer closed')
        self._buffer += data

    def ask(self, statement: bytes) -> Iterator[bytes]:
        """Sends a statement; gives its reply, and the pushes in front of it, piece by piece as they come.

        Raises:
            RemoteClosed: the connection is over.
            StatementError: the statement is a login whose password others could read on its way; it is not sent.
        """
        if not self._is_private and login_password(statement) is not None:
            raise StatementError(f'\\login: the password could be read on its way to {self.address}')
        if b'\n' in statement:
            self._skip(b'require("console").delimiter("%s")' % _DELIMITER)
            self._send(statement + _DELIMITER + b'\n')
            yield from self._reply()
            self._skip(b'require("console").delimiter("")' + _DELIMITER)
        else:
            self._send(statement + b'\n')
            yield from self._reply()

    def _skip(self, statement: bytes) -> None:
        """Runs a statement of our own, whose reply nobody sees."""
        self._send(statement + b'\n')
        count = 0
        for piece in self._reply():
            count += len(piece)
            if count > _SKIPPED_BYTES:
                self.abort()
                raise RemoteClosed('Peer closed')

    def _reply(self) -> Iterator[bytes]:
        buffer = self._buffer
        while True:
            while len(buffer) < 4 and buffer[-1:] != b';':
                self._receive()
            if buffer[:3] == b'---':
                yield from self._document()
                return
            if buffer[:4] != b'%TAG':
                yield from self._lua_output()
                return
            yield from self._document()         # a push

    def _document(self) -> Iterator[bytes]:
        buffer = self._buffer
        keep = len(_END) - 1
        while True:
            end = buffer.find(_END)
            if end >= 0:
                piece = bytes(buffer[:end + len(_END)])
                del buffer[:end + len(_END)]
                yield piece
                return
            if len(buffer) > _READ_BYTES:
                piece = bytes(buffer[:-keep])
                del buffer[:-keep]
                yield piece
            self._receive()

    def _lua_output(self) -> Iterator[bytes]:
        buffer = self._buffer
        while True:
            quiet = _QUIET_SECONDS if buffer[-1:] == b';' else _SILENT_SECONDS
            yield bytes(buffer)
            buffer.clear()
            with OwnTimeout(quiet, False):
                self._receive()
                continue
            return

    def cancel(self) -> None:
        """Stops the statement that runs there. A console that cannot do that is left."""
        if self._can_cancel:
            try:
                self._sock.send(_INTERRUPT)
                return
            except OSError:
                pass
        self.abort()

    def abort(self) -> None:
        """Ends the connection under whoever waits for it, with a reset: what runs there is to know that nobody waits."""
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        except OSError:
            pass
        self._sock.close()

    def close(self) -> None:
        self._sock.close()
