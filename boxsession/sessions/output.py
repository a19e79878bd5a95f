"""What goes to one client: its replies are gathered, and go out in one write.

That happens for each read of its input, and at the latest when its greenlet lets others run.
"""
from __future__ import annotations

from typing import Any, Protocol

from gevent import Timeout, get_hub, getcurrent

from boxsession.base.greenlets import Aborted, TimedOut
from boxsession.scheduler.loop import PRIORITY
from boxsession.sessions.common import Common

__all__ = ['BATCH_BYTES', 'Output']

# Replies are sent before they pile up higher than this.
BATCH_BYTES = 1 << 18
_WRITE = 2                      # libev's event mask

_NOTHING = memoryview(b'')


class Sender(Protocol):
    """Whose output it is: a connection."""

    @property
    def greenlet(self) -> Any: ...                  # the session's own
    @property
    def is_over(self) -> bool: ...                  # whether it is to send nothing more
    def lost(self) -> None: ...                     # the client is gone
    def has_room(self) -> None: ...                 # the client has taken everything that it was told before a wait
    def kill(self, reason: str) -> None: ...


class Output:
    """What goes to one client.

    Attributes:
        pieces: what has not been sent. Whoever adds to it counts that in `size`.
        size: their bytes.
        sent: bytes that have been sent so far.
        is_sending: in the middle of a reply that the client takes slowly.
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
        self._rest_bytes = 0                    # what is left of a reply that the client takes slowly
        self._made_bytes = 0                    # what is made ready for it, or waits for the greeting
        self._writer: Any = None                # tells when the client takes more, while nobody waits for that

    def put(self, *pieces: bytes) -> None:
        """Adds to the output; sends it where it is much."""
        self.pieces.extend(pieces)
        self.size += sum(map(len, pieces))
        if self.size > BATCH_BYTES and getcurrent() is self._sender.greenlet:
            self.flush()

    def flush(self) -> None:
        """Sends everything; waits for a client that reads slowly, for limits.send_seconds at most."""
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
        """Sends one batch, as far as the socket takes it at once."""
        self._send_batch()

    def say_farewell(self, data: bytes) -> None:
        """Sends a last word at once or not at all: whoever takes nothing is not waited for."""
        if self.size <= BATCH_BYTES:
            self.pieces.append(data)
            self.send_now()

    def send_early(self) -> None:
        """The session lets others run: what it has to say goes out first, and what the client does not take yet, later."""
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
        """In the hub: the client takes more of what was said before a wait."""
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
        """Sends the rest of a batch as the client takes it; lets others in in any case."""
        self.is_sending = True
        self._end_writer()
        self._rest_bytes = len(rest)
        self.count()
        hub = get_hub()
        watcher = hub.loop.io(self._sock.fileno(), _WRITE, priority=PRIORITY)
        try:
            with Timeout(self._common.send_seconds or None, TimedOut('the client does not read')):
                is_ready = False
                while rest or not is_ready:
                    hub.wait(watcher)
                    is_ready = True
                    rest = rest[self._send(rest):]
                    self._rest_bytes = len(rest)
                    self.count()
            # Still in the middle of it: who had a turn first would send, too, and then both.
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
        """Sends a batch, as far as the socket takes it at once; gives what is left of it."""
        if not self.pieces:
            return _NOTHING
        data = self._next_batch()
        return memoryview(data)[self._send(data):]

    def _next_batch(self) -> bytes:
        """Takes what is to be sent in one write: all replies, or of many bytes some."""
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

    # What is held for the client

    def make(self, count: int) -> None:
        """So many bytes more are made ready for the client, or fewer."""
        self._made_bytes += count
        if self._made_bytes > BATCH_BYTES or count < -BATCH_BYTES:
            self.count()

    @property
    def held_bytes(self) -> int:
        """What waits for the client, and what is made ready for it."""
        return self.size + self._made_bytes

    def count(self) -> None:
        """Counts what is held, beside that of all others."""
        # Who is over gives it back in a moment.
        if self._sender.is_over:
            self._common.unsent.hold(self._sender, 0)
        else:
            self._common.unsent.hold(self._sender, self._rest_bytes + self.size, self._made_bytes)

    # The end

    def abort(self, reason: str) -> None:
        """Ends the wait for a client that takes a reply slowly."""
        if self.is_sending:
            self._sender.greenlet.throw(Aborted(reason))

    def clear(self) -> None:
        """Drops what could not be sent; a reply may have several pieces."""
        self.pieces.clear()
        self.size = 0

    def release(self) -> None:
        """Nothing is held for the client any more."""
        self.clear()
        self._made_bytes = 0
        self.count()

    def close(self) -> None:
        """The socket is to be closed."""
        self._end_writer()
