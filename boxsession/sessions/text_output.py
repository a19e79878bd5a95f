"""The output to a client of the text console: the greeting, documents and pushes."""
from __future__ import annotations

import time
from typing import Any

import gevent
from gevent import getcurrent

from boxsession.sessions.common import Common
from boxsession.sessions.output import BATCH_BYTES, Output, Sender
from boxsession.values.documents import push_pieces, reply_pieces
from boxsession.values.packed import Tagged

__all__ = ['TextOutput']

_PROMPT_MORE = b'         > '
# While a document is made, it counts as this multiple of the packed values' size.
_MAKING = 2
# Interval at which a fiber checks for room in the output before a push, in seconds.
_ROOM_SECONDS = 0.02


class TextOutput(Output):
    """The output of a text session.

    Attributes:
        has_prompts: whether the client wants prompts.
    """

    __slots__ = ('has_prompts', '_early')

    def __init__(self, sender: Sender, sock: Any, common: Common):
        super().__init__(sender, sock, common)
        self.has_prompts = False
        self._early: list[bytes] | None = []    # output that waits for the greeting; None after the greeting

    def greet(self, greeting: bytes) -> None:
        """Outputs the greeting, then the output that waited for it."""
        early, self._early = self._early or [], None
        self._made_bytes = 0
        self.count()
        self.put(greeting)
        for piece in early:
            self.put(piece)

    def put_early(self, *pieces: bytes) -> None:
        """Outputs pieces. While on_connect runs, keeps them until the greeting is sent."""
        if self._early is None:
            self.put(*pieces)
        else:
            self._early.extend(pieces)
            self.make(sum(map(len, pieces)))

    def put_at_once(self, piece: bytes) -> None:
        """Sends a piece of another console's reply at once."""
        self.put(piece)
        self.flush()

    def put_prompt(self, continues: bool, place: str = '') -> None:
        """Outputs a prompt.

        Args:
            continues: the prompt for the next line of an incomplete statement.
            place: name in the prompt for a new statement: 'tarantool', or the address of another console.
        """
        self.put(_PROMPT_MORE if continues else f'{place}> '.encode())

    def put_document(self, tagged: Tagged) -> bytes:
        """Outputs the document of a tagged reply except its last piece, and returns the last piece. May be preempted.

        Raises:
            StatementCancelled: the statement was cancelled meanwhile.
        """
        common = self._common
        limits = common.runtime.output_limits
        cuts = limits.cuts
        size = _MAKING * (len(tagged) if isinstance(tagged, bytes) else sum(map(len, tagged)))
        self.make(size)
        try:
            pieces = reply_pieces(tagged, limits)
        finally:
            self.make(-size)
        if limits.cuts > cuts:
            common.counters.hits['limits.output_bytes'] += 1
        document = pieces.pop()
        self.pieces.extend(pieces)
        self.size += sum(map(len, pieces))
        return document

    def push(self, tagged: bytes) -> None:
        """Outputs a push. If a fiber pushes, it first waits for room."""
        self._wait_for_room()
        if self._sender.is_over:
            return
        size = _MAKING * len(tagged)
        self.make(size)
        try:
            pieces = push_pieces(tagged, self._common.runtime.output_limits)
        finally:
            self.make(-size)
        self.put_early(*pieces)

    def _wait_for_room(self) -> None:
        """Makes a fiber wait until the output has room. The session's own greenlet needs no wait: put() flushes there."""
        sender = self._sender
        if getcurrent() is sender.greenlet:
            return
        end = time.monotonic() + (self._common.send_seconds or float('inf'))
        self.send_early()
        while self.size > BATCH_BYTES and not sender.is_over:
            if time.monotonic() > end:
                self._common.counters.hits['limits.send_seconds'] += 1
                sender.kill(self._common.too_slow)
                return
            gevent.sleep(_ROOM_SECONDS)
