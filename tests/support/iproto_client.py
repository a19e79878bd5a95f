"""A client of the binary protocol that shares no code with the package: it builds frames by hand, with msgpack only."""
from __future__ import annotations

import base64
import hashlib
import struct

import gevent
import msgpack
from gevent import socket

READ_SECONDS = 30

SELECT, CALL_16, AUTH, EVAL, CALL, PING, ID, WATCH, UNWATCH, EVENT, PUSH = 1, 6, 7, 8, 10, 64, 73, 74, 75, 76, 128
DATA, MESSAGE, STACK = 0x30, 0x31, 0x52


def colliding_keys():
    """Integers that collide in a dict of Python's: it probes some 20,000 full cells to store each of the later ones.

    When all bits of a hash are used up, a dict visits its cells in a fixed order. The first keys fill the cells from one
    place on, in that order. The hash of each other key leads through full cells only, and then to that place.
    """
    size = 1 << 17
    start = size // 3 + 10
    filled, keys, cell = {}, [], 0
    for number in range(start):
        filled[cell] = number
        keys.append(cell)
        cell = (cell * 5 + 1) % size
    key = size
    while len(keys) < start + 40000:
        key += 1
        cell, rest = key % size, key
        while cell in filled:
            rest >>= 5
            cell = (cell * 5 + rest + 1) % size
            if not rest:
                if filled.get(cell, start) < start // 2:
                    keys.append(key)
                break
    return keys


class BinaryClient:
    """One connection. Strings are returned as str; bytes that are not UTF-8 are surrogates in it."""

    def __init__(self, address):
        self.sock = socket.create_connection((address.host, address.port), timeout=READ_SECONDS)
        self._data = b''
        self.sync = 0
        try:
            self.greeting = self.read(128)
        except BaseException:
            self.sock.close()
            raise

    def read(self, count):
        with gevent.Timeout(READ_SECONDS):
            while len(self._data) < count:
                piece = self.sock.recv(65536)
                if not piece:
                    raise EOFError(f'closed after {self._data!r}')
                self._data += piece
        data, self._data = self._data[:count], self._data[count:]
        return data

    @staticmethod
    def frame(header, body=None):
        payload = msgpack.packb(header) + (b'' if body is None else msgpack.packb(body))
        return b'\xce' + len(payload).to_bytes(4, 'big') + payload

    def send(self, kind, body=None, sync=None):
        """Sends a request; returns its sync."""
        if sync is None:
            self.sync += 1
            sync = self.sync
        self.sock.sendall(self.frame({0: kind, 1: sync}, body))
        return sync

    def receive(self):
        """(header, body) of the next response."""
        length = int.from_bytes(self.read(5)[1:], 'big')
        unpacker = msgpack.Unpacker(strict_map_key=False, unicode_errors='surrogateescape')
        unpacker.feed(self.read(length))
        header, body = list(unpacker)
        return header, body

    def ask(self, kind, body=None):
        """Sends a request; returns the body of its response, which must be the next one."""
        sync = self.send(kind, body)
        header, answer = self.receive()
        assert header[1] == sync
        assert (header[0] >= 0x8000) == (MESSAGE in answer)
        return answer

    def eval(self, expression, *arguments):
        answer = self.ask(EVAL, {0x27: expression, 0x21: list(arguments)})
        return answer[DATA] if DATA in answer else answer[MESSAGE]

    def call(self, name, *arguments, kind=CALL):
        answer = self.ask(kind, {0x22: name, 0x21: list(arguments)})
        return answer[DATA] if DATA in answer else answer[MESSAGE]

    def scramble(self, password):
        salt = base64.b64decode(self.greeting[64:108])[:20]
        once = hashlib.sha1(password.encode()).digest()
        mask = hashlib.sha1(salt + hashlib.sha1(once).digest()).digest()
        return bytes(a ^ b for a, b in zip(once, mask, strict=True))

    def login(self, user, password):
        answer = self.ask(AUTH, {0x23: user, 0x21: ['chap-sha1', self.scramble(password)]})
        return answer.get(MESSAGE)

    def at_end(self):
        """Waits for the server to close the connection; whether it sent nothing before that."""
        with gevent.Timeout(READ_SECONDS):
            try:
                return not self._data and self.sock.recv(1) == b''
            except ConnectionResetError:
                return True

    def reset(self):
        """Closes the connection by a TCP reset, as a program that is killed may do."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()
