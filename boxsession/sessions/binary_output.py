"""The output to a client of the binary protocol: the responses of concurrent workers."""
from __future__ import annotations

from typing import Any

from gevent import getcurrent
from gevent.event import Event

from boxsession.base.greenlets import Aborted
from boxsession.sessions.common import Common
from boxsession.sessions.output import Output, Sender

__all__ = ['BinaryOutput']


class BinaryOutput(Output):
    """The output of a binary session."""

    __slots__ = ('_flusher', '_is_free')

    def __init__(self, sender: Sender, sock: Any, common: Common):
        super().__init__(sender, sock, common)
        self._flusher: Any = None               # the greenlet that is sending
        self._is_free = Event()                 # set while no greenlet is sending
        self._is_free.set()

    def put(self, *pieces: bytes) -> None:
        """Adds pieces to the output. Does not send them."""
        for data in pieces:
            self.pieces.append(data)
            self.size += len(data)
        if self.is_sending:
            self.count()

    def flush_answers(self) -> None:
        """Sends all output. Only one worker sends at a time; the others wait for it."""
        while self.is_sending:
            self._is_free.wait()
            self._common.dispatcher.rejoin()
        if not self.pieces or self._sender.is_over:
            return
        self._flusher = getcurrent()
        self._is_free.clear()
        try:
            self.flush()
        finally:
            self._flusher = None
            self._is_free.set()

    def abort(self, reason: str) -> None:
        """Ends the wait for a client that reads slowly."""
        if self._flusher is not None:
            self._flusher.throw(Aborted(reason))
