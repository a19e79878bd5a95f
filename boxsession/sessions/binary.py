"""A client of the binary protocol: requests of one connection run side by side, each answered when it is done.

Requests are run by workers (boxsession.sessions.workers).
"""
from __future__ import annotations

import logging
import os
import time
from typing import Any

from gevent.event import Event

from boxsession.base.session import Session
from boxsession.protocol import iproto
from boxsession.protocol.iproto import BadFrame, IprotoProtocol
from boxsession.sessions.answers import PROC_LUA
from boxsession.sessions.binary_output import BinaryOutput
from boxsession.sessions.common import Common
from boxsession.sessions.output import BATCH_BYTES
from boxsession.sessions.state import ENDS_ANSWERED, ENDS_NOW, IDLE, LIVES, Step
from boxsession.sessions.stream import Connection
from boxsession.sessions.workers import Workers

__all__ = ['BinaryConnection']

log = logging.getLogger('boxsession')

_READ_BYTES = 65536
# While nothing may run, this much is read ahead; the rest waits in the socket.
_READ_AHEAD_BYTES = 1 << 20
_SALT_BYTES = 32
# What clients look for; the version is that of the server whose behaviour is kept.
_SERVER_VERSION = '2.6.0'


class BinaryConnection(Connection):
    """Serves one client of the binary protocol. run()'s greenlet begins and ends the session; workers do the rest.

    Attributes:
        salt: what scrambles of passwords are made with.
    """

    __slots__ = ('salt', '_instance', '_protocol', '_workers', '_done', '_is_held_back', '_is_broken')

    _output: BinaryOutput

    def __init__(self, sock, session: Session, common: Common, is_private: bool, instance: str):
        super().__init__(sock, session, common, is_private, BinaryOutput)
        self.salt = os.urandom(_SALT_BYTES)
        self._instance = instance
        self._protocol = IprotoProtocol()
        self._workers = Workers(self, common, self._protocol, self._input, self._output)
        self._done = Event()                    # the session is to end
        self._is_held_back = False              # what came behind an AUTH waits for its end
        self._is_broken = False                 # what it has sent last is no frame

    # The session

    def _open(self) -> bool:
        if self._common.audit is not None:
            self._common.audit.event('start', self.session)
        self._output.put(iproto.greeting(_SERVER_VERSION, self._instance, self.salt))
        refusal = self._evaluator.connect()
        if refusal:
            # As in Tarantool, the first request would be answered with it; nobody waits for one here.
            self._ending = 'refused by on_connect'
            message = self._evaluator.last_error().decode(errors='replace') or 'on_connect failed'
            self._output.put(iproto.error(0, PROC_LUA, message, 'LuajitError'))
            log.warning('session %d from %s was refused by on_connect: %s', self.session.id, self.session.peer, message)
        self._output.flush()
        return not refusal

    def _serve(self, hub: Any) -> bool:
        self._dispatcher.running = None
        # What came while on_connect ran has waited for its end.
        self._enter(Step.WAIT)
        hub.loop.run_callback(self._workers.more)
        self._done.wait()
        self._enter(Step.INPUT)
        self._input.stop()
        self._cancel_running(self._farewell)
        self.ends = ENDS_NOW
        self._workers.end()
        if self._farewell:
            self._output.say_farewell(iproto.error(0, PROC_LUA, self._farewell, 'LuajitError'))
        else:
            self._output.send_now()
        if self._is_broken:
            self._input.linger()
        return True

    def _wake(self) -> None:
        if self.ends is not LIVES:
            self.end_if_done()

    def end_if_done(self) -> None:
        """Ends the session where nothing is left to do."""
        if self.ends is ENDS_NOW or self.ends is ENDS_ANSWERED and not self._workers.busy:
            self._done.set()

    # Input

    def go_on(self) -> None:
        """In the hub: there is input. Workers run what has come."""
        self.read()

    def read(self) -> None:
        """Reads what has come."""
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._ending = f'connection lost: {error}'
            self.lost()
            return
        if not data:
            self._end_answered()
            self.end_if_done()
            return
        protocol = self._protocol
        self._bytes_in += len(data)
        self._active = time.monotonic()
        protocol.max_request_bytes = self._common.request_bytes
        protocol.receive_data(data)
        self._input.count(protocol.buffered_bytes)
        # Whoever does not take the answers makes no more of them.
        if self.is_held and protocol.buffered_bytes > _READ_AHEAD_BYTES or self._output.size > BATCH_BYTES:
            self._input.pause()
        self._workers.more()

    def _end_answered(self) -> None:
        """The client sends no more, or nothing that could be read."""
        if self.ends is LIVES:
            self.ends = ENDS_ANSWERED
        self._input.pause()

    def lost(self) -> None:
        super().lost()
        self._done.set()

    # What workers tell

    @property
    def is_held(self) -> bool:
        """Whether what comes has to wait: for on_connect's end, or an AUTH's."""
        return self._is_held_back or self._state is not IDLE

    def hold_back(self, on: bool) -> None:
        """Nothing of what comes may be run, as long as this is on."""
        self._is_held_back = on

    def all_run(self) -> bool:
        """A worker found nothing more to run. False where the session is to end."""
        if self.ends is not LIVES:
            self.end_if_done()
            return not self._done.is_set()
        if not self._input.is_open:
            self._input.start()
        return True

    def refuse(self, frame: BadFrame) -> None:
        """What the client sent is no frame: it was told so, and nothing behind it is looked at."""
        self._ending = frame.message
        self._is_broken = True
        self._end_answered()

    def failed(self, error: Exception) -> None:
        """A worker has ended in an error."""
        if isinstance(error, OSError):
            self._ending = f'connection lost: {error}'
            log.info('session %d: connection lost: %s', self.session.id, error)
            self.lost()
            return
        self._ending = 'failed'
        log.exception('session %d: failed', self.session.id)
        self.ends = ENDS_NOW
        self._done.set()

    # The session's host: what its triggers do

    def push(self, tagged: bytes) -> None:
        """Triggers belong to no request, under whose number it could be sent."""

    # The server's side

    def _under_way(self) -> bytes | None:
        return self._workers.under_way()

    def _asked_for(self) -> list[dict[str, str]]:
        return self._workers.asked_for()

    def _cancel_running(self, reason: str) -> None:
        self._workers.cancel(reason)
        super()._cancel_running(reason)

    def kill(self, reason: str) -> None:
        """Ends the session, whatever it does. Callable from any greenlet."""
        super().kill(reason)
        self._done.set()

    def idle_seconds(self, now: float) -> float:
        """For how long the client has sent nothing; 0 while a request runs."""
        return now - self._active if self._state is IDLE and not self._workers.busy else 0.0
