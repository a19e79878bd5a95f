"""A client of the text console for tests. Every read has a deadline."""
from __future__ import annotations

import struct

import gevent
import yaml
from gevent import socket

READ_SECONDS = 30
GREETING_BYTES = 128


class Client:
    """One connection.

    Args:
        address: 'host:port' or 'unix:PATH'.
        greeting: whether to wait for the greeting.
        tls: an SSLContext of gevent's: the connection is TLS to 'localhost'.
    """

    def __init__(self, address, greeting=True, tls=None):
        self.address = address = str(address)
        if address.startswith('unix:'):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self.sock.connect(address[5:])
            except BaseException:
                self.sock.close()
                raise
        else:
            host, _, port = address.rpartition(':')
            self.sock = socket.create_connection((host.strip('[]'), int(port)))
        self._buffer = bytearray()
        try:
            if tls is not None:
                self.sock.settimeout(READ_SECONDS)
                self.sock = tls.wrap_socket(self.sock, server_hostname='localhost')
            self.greeting = self.read(GREETING_BYTES) if greeting else b''
        except BaseException:
            self.sock.close()
            raise

    def send(self, data):
        self.sock.sendall(data.encode() if isinstance(data, str) else data)

    def _receive(self):
        piece = self.sock.recv(1 << 18)
        if not piece:
            raise EOFError(f'closed after {bytes(self._buffer)!r}')
        self._buffer += piece

    def _take(self, count):
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def read(self, count):
        """Exactly `count` bytes."""
        with gevent.Timeout(READ_SECONDS):
            while len(self._buffer) < count:
                self._receive()
        return self._take(count)

    def read_until(self, end):
        """Everything up to and including the first `end`."""
        searched = 0
        with gevent.Timeout(READ_SECONDS):
            while True:
                at = self._buffer.find(end, searched)
                if at >= 0:
                    return self._take(at + len(end))
                searched = max(0, len(self._buffer) - len(end))
                self._receive()

    def read_to_end(self):
        """Everything that comes until the server closes the connection."""
        with gevent.Timeout(READ_SECONDS):
            try:
                while True:
                    self._receive()
            except EOFError:
                return self._take(len(self._buffer))

    def document(self):
        """The next YAML document, as bytes."""
        return self.read_until(b'\n...\n')

    def reply(self, statement):
        """The reply to one statement, as bytes."""
        self.send(statement if isinstance(statement, bytes) else statement + '\n')
        return self.document()

    def values(self, statement):
        """The reply to one statement, as data: a list, or None if it gives no values."""
        return yaml.load(self.reply(statement), yaml.CSafeLoader)

    def value(self, statement):
        """The only value that a statement gives."""
        values = self.values(statement)
        assert isinstance(values, list) and len(values) == 1, values
        return values[0]

    def error(self, statement):
        """The message of the error with which a statement ends."""
        value = self.value(statement)
        assert isinstance(value, dict) and list(value) == ['error'], value
        return value['error']

    def end(self):
        """Closes the sending half of the connection."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        """Closes the connection by a TCP reset, as a client that is killed may do."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()
