"""The output to one client. Replies are collected and sent in one write.

The replies to all statements of one read are sent together. They are sent earlier if the session's greenlet yields.
"""
from __future__ import annotations

from typing import Any, Protocol

from gevent import Timeout, get_hub, getcurrent

from boxsession.base.greenlets import Aborted, TimedOut
from boxsession.scheduler.loop import PRIORITY
from boxsession.sessions.common import Common

__all__ = ['BATCH_BYTES', 'Output']

# Output above this size, in bytes, is sent at once.
BATCH_BYTES = 1 << 18
_WRITE = 2                      # libev's event mask

_NOTHING = memoryview(b'')


class Sender(Protocol):
    """The owner of an output: a connection."""

    @property
    def greenlet(self) -> Any: ...                  # the session's own greenlet
    @property
    def is_over(self) -> bool: ...                  # it must send nothing more
    def lost(self) -> None: ...                     # called if the connection is lost
    def has_room(self) -> None: ...                 # called when all output of send_early() is sent
    def kill(self, reason: str) -> None: ...        # ends the session


class Output:
    """The output to one client.

    Attributes:
        pieces: output that is not sent yet. Code that adds pieces must add their bytes to `size`.
        size: the bytes of `pieces`.
        sent: bytes sent so far.
        is_sending: waiting for a client that reads slowly.
    """

    __slots__ = ('pieces', 'size', 'sent', 'is_sending', '_sender', '_sock', '_common', '_rest_bytes', '_made_bytes',
                 '_writer')

    def __init__(self, sender: Sender, sock: Any, common: Common):
        self.pieces: list[bytes] = []
        self.size = 0
        self.sent = 0
        self.is_sending = False
        self._sender = sender
        self._sock = sock
        self._common = common
        self._rest_bytes = 0                    # unsent bytes of the batch that _send_slowly() sends
        self._made_bytes = 0                    # bytes of documents being made, and of output that waits for the greeting
        self._writer: Any = None                # watcher that continues send_early()

    def put(self, *pieces: bytes) -> None:
        """Adds pieces to the output. Sends it if it is large and the session's own greenlet calls."""
        self.pieces.extend(pieces)
        self.size += sum(map(len, pieces))
        if self.size > BATCH_BYTES and getcurrent() is self._sender.greenlet:
            self.flush()

    def flush(self) -> None:
        """Sends all output. Waits for a client that reads slowly: TimedOut after limits.send_seconds."""
        pieces = self.pieces
        if len(pieces) == 1:
            data = pieces.pop()
            self.size = 0
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            self.sent += sent
            if sent == len(data):
                return
            rest = memoryview(data)[sent:]
        else:
            rest = self._send_batch()
        while rest or pieces:
            self._send_slowly(rest)
            rest = self._send_batch()

    def send_now(self) -> None:
        """Sends one batch, as far as the socket accepts it without a wait."""
        self._send_batch()

    def say_farewell(self, data: bytes) -> None:
        """Sends a last message without a wait. Drops it if the client does not read."""
        if self.size <= BATCH_BYTES:
            self.pieces.append(data)
            self.send_now()

    def send_early(self) -> None:
        """Sends output before the session's greenlet yields, without a wait. A watcher sends the rest."""
        if self.is_sending:
            return
        try:
            rest = self._send_batch()
        except OSError:
            self._sender.lost()
            return
        if rest:
            self.pieces.insert(0, bytes(rest))
            self.size += len(rest)
        if self.pieces:
            self.count()
            if self._writer is None:
                self._writer = get_hub().loop.io(self._sock.fileno(), _WRITE, priority=PRIORITY)
                self._writer.start(self._writable)

    def _writable(self) -> None:
        """In the hub: the socket accepts more of the output of send_early()."""
        self._end_writer()
        if not self._sender.is_over:
            self.send_early()
            if self._writer is None:
                self.count()
                self._sender.has_room()

    def _end_writer(self) -> None:
        if self._writer is not None:
            self._writer.stop()
            self._writer.close()
            self._writer = None

    def _send_slowly(self, rest: memoryview) -> None:
        """Sends the rest of a batch while the client reads it. Yields at least once."""
        self.is_sending = True
        self._end_writer()
        self._rest_bytes = len(rest)
        self.count()
        hub = get_hub()
        watcher = hub.loop.io(self._sock.fileno(), _WRITE, priority=PRIORITY)
        try:
            with Timeout(self._common.send_seconds or None, TimedOut(self._common.too_slow)):
                is_ready = False
                while rest or not is_ready:
                    hub.wait(watcher)
                    is_ready = True
                    rest = rest[self._send(rest):]
                    self._rest_bytes = len(rest)
                    self.count()
            # `is_sending` stays set meanwhile: a task that gets its turn first must not send, too.
            self._common.dispatcher.rejoin()
        except TimedOut:
            self._common.counters.hits['limits.send_seconds'] += 1
            raise
        finally:
            watcher.close()
            self.is_sending = False
            self._rest_bytes = 0
            self.count()

    def _send_batch(self) -> memoryview:
        """Sends a batch, as far as the socket accepts it without a wait. Returns the rest of it."""
        if not self.pieces:
            return _NOTHING
        data = self._next_batch()
        return memoryview(data)[self._send(data):]

    def _next_batch(self) -> bytes:
        """Takes pieces for one write: all of them, or a part of a large output."""
        pieces = self.pieces
        if self.size <= 2 * BATCH_BYTES:
            data = b''.join(pieces)
            pieces.clear()
            self.size = 0
            return data
        size = count = 0
        while size < BATCH_BYTES and count < len(pieces):
            size += len(pieces[count])
            count += 1
        data = pieces[0] if count == 1 else b''.join(pieces[:count])
        del pieces[:count]
        self.size -= size
        return data

    def _send(self, data: bytes | memoryview) -> int:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            return 0
        self.sent += sent
        return sent

    # Backlog

    def make(self, count: int) -> None:
        """Adds `count` to the bytes that are being made for the client. May be negative."""
        self._made_bytes += count
        if self._made_bytes > BATCH_BYTES or count < -BATCH_BYTES:
            self.count()

    @property
    def held_bytes(self) -> int:
        """Bytes that wait for the client or are being made for it."""
        return self.size + self._made_bytes

    def count(self) -> None:
        """Reports the bytes held to the backlog of all sessions."""
        # A session that is over will release them in a moment.
        if self._sender.is_over:
            self._common.unsent.hold(self._sender, 0)
        else:
            self._common.unsent.hold(self._sender, self._rest_bytes + self.size, self._made_bytes)

    # The end

    def abort(self, reason: str) -> None:
        """Ends the wait for a client that reads slowly."""
        if self.is_sending:
            self._sender.greenlet.throw(Aborted(reason))

    def clear(self) -> None:
        """Drops unsent output. It may begin in the middle of a reply."""
        self.pieces.clear()
        self.size = 0

    def release(self) -> None:
        """Drops all output, and reports to the backlog that nothing is held."""
        self.clear()
        self._made_bytes = 0
        self.count()

    def close(self) -> None:
        """Closes the watcher. Call it before the socket is closed."""
        self._end_writer()
