"""Serves a client of the binary protocol. Requests of one connection run concurrently; each response is sent when ready.

Workers run the requests (boxsession.sessions.workers).
"""
from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from socket import SHUT_WR
from typing import Any

from gevent.event import Event

from boxsession.base.session import Session
from boxsession.protocol import iproto
from boxsession.protocol.iproto import BadFrame, IprotoProtocol
from boxsession.sessions.answers import PROC_LUA
from boxsession.sessions.binary_output import BinaryOutput
from boxsession.sessions.common import Common
from boxsession.sessions.output import BATCH_BYTES
from boxsession.sessions.state import CLOSING, ENDS_ANSWERED, ENDS_NOW, IDLE, LIVES, Step
from boxsession.sessions.stream import Connection
from boxsession.sessions.workers import Workers

__all__ = ['BinaryConnection']

log = logging.getLogger('boxsession')

# Maximum bytes of one read.
_READ_BYTES = 65536
# Maximum input that is read ahead while no request may begin, in bytes. The rest waits in the socket.
_READ_AHEAD_BYTES = 1 << 20
_SALT_BYTES = 32
# Version for the greeting, which clients check: the Tarantool version whose behaviour is copied.
_SERVER_VERSION = '2.6.0'


class BinaryConnection(Connection):
    """Serves one client of the binary protocol. The greenlet of run() begins and ends the session; workers run requests.

    Longer than usual: what a client, a worker and the server may do to a session must agree with the ways in which it ends.

    Attributes:
        salt: the salt of password scrambles, in the greeting.
    """

    __slots__ = ('salt', '_instance', '_protocol', '_workers', '_done', '_left', '_is_held_back', '_is_broken',
                 '_client_left')

    _output: BinaryOutput

    def __init__(self, sock, session: Session, common: Common, is_private: bool, instance: str):
        super().__init__(sock, session, common, is_private, BinaryOutput)
        self.salt = os.urandom(_SALT_BYTES)
        self._instance = instance
        self._protocol = IprotoProtocol()
        self._workers = Workers(self, common, self._protocol, self._input, self._output)
        self._done = Event()                    # set when the session must end
        self._left = Event()                    # set when the on_disconnect triggers may run
        self._is_held_back = False              # requests after an AUTH wait for its end
        self._is_broken = False                 # the client has sent input that is not a frame
        self._client_left = False               # the client sends no more

    # The session

    def _open(self) -> bool:
        self._tell_start()
        self._output.put(iproto.greeting(_SERVER_VERSION, self._instance, self.salt))
        refusal = self._evaluator.connect()
        if refusal:
            # Tarantool sends this error as the response to the first request. Here it is sent without waiting for one.
            self._ending = 'refused by on_connect'
            message = self._evaluator.last_error().decode(errors='replace') or 'on_connect failed'
            self._output.put(iproto.error(0, PROC_LUA, message, 'LuajitError'))
            log.warning('%s was refused by on_connect: %s', self.session.described, message)
        self._output.flush()
        return not refusal

    def _serve(self, hub: Any) -> bool:
        self._dispatcher.running = None
        # Requests that arrived while on_connect ran have waited for its end.
        self._enter(Step.WAIT)
        hub.loop.run_callback(self._workers.more)
        self._left.wait()
        self._input.stop()
        if not self._farewell:
            if self._is_broken:
                self._output.send_now()
                self._shut_down()
            # The client has left. Its requests need not have ended.
            self._enter(Step.CLOSE)
            self._evaluator.leave()
        self._done.wait()
        self.ends = ENDS_NOW
        self._workers.end()
        if self._farewell:
            self._output.say_farewell(iproto.error(0, PROC_LUA, self._farewell, 'LuajitError'))
        elif not self._is_broken:
            self._output.send_now()
        if self._is_broken:
            self._input.linger()
        return True

    def _shut_down(self) -> None:
        with suppress(OSError):
            self._sock.shutdown(SHUT_WR)

    def _wake(self) -> None:
        if self.ends is not LIVES:
            self.end_if_done()

    def end_if_done(self) -> None:
        """Ends the session if nothing is left to do."""
        if self.ends is ENDS_NOW or self.ends is ENDS_ANSWERED and not self._workers.busy:
            self._end()
        elif self._client_left and not self._protocol.buffered_bytes:
            self._left.set()

    def _end(self) -> None:
        self._done.set()
        self._left.set()

    # Input

    def go_on(self) -> None:
        """In the hub: reads input, and lets workers run the requests."""
        self.read()

    def read(self) -> None:
        """Reads input, and lets workers run the requests."""
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._ending = f'connection lost: {error}'
            self.lost()
            return
        if not data:
            self._client_left = True
            self._end_answered()
            self.end_if_done()
            self._workers.more()                # finds out whether the rest of the input is a request
            return
        protocol = self._protocol
        self._bytes_in += len(data)
        self._active = time.monotonic()
        protocol.max_request_bytes = self._common.request_bytes
        protocol.receive_data(data)
        self._input.count(protocol.buffered_bytes)
        # Back-pressure: stop reading if requests may not begin, or if the client does not read the responses.
        if self.is_held and protocol.buffered_bytes > _READ_AHEAD_BYTES or self._output.size > BATCH_BYTES:
            self._input.pause()
        self._workers.more()

    def _end_answered(self) -> None:
        """The client sends no more, or its input cannot be parsed: ends the session after the running requests."""
        if self.ends is LIVES:
            self.ends = ENDS_ANSWERED
        self._input.pause()

    def lost(self) -> None:
        if self._state is CLOSING and self._common.cancels:
            self._workers.cancel('')            # but not the on_disconnect triggers
        super().lost()
        self._end()

    # Called by workers

    @property
    def is_held(self) -> bool:
        """Whether requests have to wait for the end of on_connect or of an AUTH."""
        return self._is_held_back or self._state is not IDLE

    def hold_back(self, on: bool) -> None:
        """Lets no request begin while this is on."""
        self._is_held_back = on

    def all_run(self) -> bool:
        """Called when a worker finds no more requests. False if the session must end."""
        if self.ends is not LIVES:
            if self._client_left and self._workers.lent is None:
                self._left.set()                # what is left of the input is no request
            self.end_if_done()
            return not self._done.is_set()
        if not self._input.is_open:
            self._input.start()
        return True

    def refuse(self, frame: BadFrame) -> None:
        """Ends the session because its input is not a frame. The error has been sent; further input is ignored. Requests
        that run are treated as those of a lost connection."""
        self._ending = frame.message
        self._is_broken = True
        self.ends = ENDS_NOW
        if self._common.cancels:
            self._workers.cancel('')
        self._end()

    def failed(self, error: Exception) -> None:
        """Ends the session because a worker has failed."""
        if isinstance(error, OSError):
            self._ending = f'connection lost: {error}'
            log.debug('session %d: connection lost: %s', self.session.id, error)
            self.lost()
            return
        self._ending = 'failed'
        log.exception('session %d: failed', self.session.id)
        self.ends = ENDS_NOW
        self._workers.cancel('')
        self._end()

    # The host of the evaluator, which runs triggers only

    def push(self, tagged: bytes) -> None:
        """Drops a push of a trigger: a push needs the number of a request, and triggers belong to none."""

    # The server's side

    def under_way(self) -> bytes | None:
        return self._workers.under_way()

    def running_count(self) -> int:
        return len(self._workers.busy)

    def _asked_for(self) -> list[dict[str, str]]:
        return self._workers.asked_for()

    def _cancel_running(self, reason: str) -> None:
        self._workers.cancel(reason)
        super()._cancel_running(reason)

    def kill(self, reason: str) -> None:
        """Ends the session in any state. Callable from any greenlet."""
        super().kill(reason)
        self._end()

    def idle_seconds(self, now: float) -> float:
        """Seconds since the last input; 0 while a request runs."""
        return now - self._active if self._state is IDLE and not self._workers.busy else 0.0
