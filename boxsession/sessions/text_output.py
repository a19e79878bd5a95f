"""What goes to a client of the text console: documents, pushes, and the greeting in front of them."""
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
# While a document is made of values, it is counted as so many times what they take packed.
_MAKING = 2
# How often a fiber whose pushes have filled the output looks whether there is room.
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
        self._early: list[bytes] | None = []    # what came before the greeting is out

    def greet(self, greeting: bytes) -> None:
        """Puts the greeting, and behind it what came before."""
        early, self._early = self._early or [], None
        self._made_bytes = 0
        self.count()
        self.put(greeting)
        for piece in early:
            self.put(piece)

    def put_early(self, *pieces: bytes) -> None:
        """Puts what may come while on_connect runs: the greeting comes first."""
        if self._early is None:
            self.put(*pieces)
        else:
            self._early.extend(pieces)
            self.make(sum(map(len, pieces)))

    def put_at_once(self, piece: bytes) -> None:
        """Sends what another console answers, as it comes."""
        self.put(piece)
        self.flush()

    def put_prompt(self, continues: bool, place: str = '') -> None:
        """Puts the prompt of a statement that `continues`, or the one of a place where a new one runs."""
        self.put(_PROMPT_MORE if continues else f'{place}> '.encode())

    def put_document(self, tagged: Tagged) -> bytes:
        """Puts the document of a tagged reply, but for its last piece, and gives that. Others have their turns meanwhile.

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
        """Puts what a statement pushes; waits for room, where a fiber does."""
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
        """Waits, where a fiber pushes, until there is room; the session's own greenlet sends it itself."""
        sender = self._sender
        if getcurrent() is sender.greenlet:
            return
        end = time.monotonic() + (self._common.send_seconds or float('inf'))
        self.send_early()
        while self.size > BATCH_BYTES and not sender.is_over:
            if time.monotonic() > end:
                self._common.counters.hits['limits.send_seconds'] += 1
                sender.kill('the client does not read')
                return
            gevent.sleep(_ROOM_SECONDS)
