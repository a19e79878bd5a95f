"""A server that sends what a test tells it to, and an address of this machine that is not a loopback address."""
from __future__ import annotations

import socket
import threading

SECONDS = 30


def other_address():
    """An address of this machine that is not a loopback address, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(('198.51.100.1', 9))
        except OSError:
            return None
        host = probe.getsockname()[0]
    return None if host.startswith('127.') or host == '0.0.0.0' else host


ELSEWHERE = other_address()


class Fake:
    """A server, in threads, that sends the same bytes to each client and keeps what clients send.

    Args:
        pieces: an iterable of the bytes to send, which may be endless.
        host: the address to listen on.

    Attributes:
        address: 'host:port'.
        received: all bytes that clients have sent.
        sent: number of bytes sent to all clients.
    """

    def __init__(self, pieces, host='127.0.0.1'):
        self._pieces = pieces
        self._listener = socket.create_server((host, 0))
        self.received = b''
        self.address = f'{host}:{self._listener.getsockname()[1]}'
        self.sent = 0
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self):
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            client.settimeout(SECONDS)
            thread = threading.Thread(target=self._read, args=(client,), daemon=True)
            thread.start()
            try:
                for piece in self._pieces:
                    client.sendall(piece)
                    self.sent += len(piece)
            except OSError:
                pass
            thread.join(SECONDS)
            client.close()

    def _read(self, client):
        try:
            while data := client.recv(65536):
                self.received += data
        except OSError:
            pass

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
