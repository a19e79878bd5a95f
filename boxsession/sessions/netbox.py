"""Connections of net.box: a client of the binary protocol for statements.

A connection has a greenlet that connects, reads responses and connects again. Statements ask in their own greenlets. A
connection ends with the session that opened it.
"""
from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gevent
from gevent import Timeout, sleep, socket
from gevent.event import Event

from boxsession.base.address import Address
from boxsession.base.errors import StatementError
from boxsession.base.greenlets import TimedOut
from boxsession.base.inherited import own
from boxsession.base.sockets import reset
from boxsession.protocol import iproto, peer
from boxsession.protocol.greeting import GREETING_BYTES, protocol_of

__all__ = ['Remote', 'Remotes']

INITIAL, AUTH, ACTIVE, ERROR, RECONNECT, CLOSED = 'initial', 'auth', 'active', 'error', 'error_reconnect', 'closed'
# The connection does not leave these states.
_FINAL = (ERROR, CLOSED)

_READ_BYTES = 65536
# Number of reads after which other greenlets get a turn, and that pause: see remote.py.
_READS_IN_A_ROW, _PAUSE_SECONDS = 8, 1e-6
# Maximum length of a response, and of all responses that nobody has taken, in bytes.
_RESPONSE_MAX, _HELD_MAX = 1 << 24, 1 << 25
# Bytes that the server has not taken, above which requests wait.
_UNSENT_MAX = 1 << 20
# Requests without a response, or whose response nobody has taken.
_REQUESTS_MAX = 10000
# Open connections, and connections that have failed and of which only the reason is kept.
_OPEN_MAX, _KEPT_MAX = 256, 1000
_NO_CONNECTION, _TIMEOUT = 77, 78
_GREETING = re.compile(rb'Tarantool (\d+)\.(\d+)\.(\d+)[^(]*\(Binary\) ([0-9a-f-]{36})')


class _Failed(Exception):
    """The connection has failed, for this reason."""


@dataclass(slots=True, eq=False)
class _Asked:
    """A request."""

    responses: deque[peer.Response] = field(default_factory=deque)     # pushes and the response, which nobody has taken
    is_done: bool = False               # the response has come, or cannot come any more
    waiters: int = 0
    came: Event = field(default_factory=Event)


class _Requests:
    """The requests of a connection whose response has not come, or whose response nobody has taken."""

    def __init__(self) -> None:
        self._asked: dict[int, _Asked] = {}
        self._unanswered: set[int] = set()  # without a response; also those that nobody wants any more
        self._last_sync = 0
        self._held = 0                      # bytes of responses that nobody has taken

    @property
    def are_open(self) -> bool:
        """Whether the server works on one."""
        return bool(self._unanswered)

    def add(self) -> int:
        """A new request. Returns its number.

        Raises:
            StatementError: there are too many.
        """
        if max(len(self._asked), len(self._unanswered)) >= _REQUESTS_MAX:
            raise StatementError(f'net.box: too many requests of this connection have no response: {_REQUESTS_MAX}')
        self._last_sync += 1
        self._asked[self._last_sync] = _Asked()
        self._unanswered.add(self._last_sync)
        return self._last_sync

    def take(self, response: peer.Response) -> None:
        """Takes a response of the server. If there are too many bytes, the oldest are dropped for which nobody waits."""
        if response.kind != 'push':
            self._unanswered.discard(response.sync)
        asked = self._asked.get(response.sync)
        if asked is None:
            return                          # nobody wants it any more
        self._held += len(response.data)
        asked.responses.append(response)
        asked.is_done = asked.is_done or response.kind != 'push'
        asked.came.set()
        for sync, other in list(self._asked.items()) if self._held > _HELD_MAX else ():
            if other is not asked and not other.waiters and self._held > _HELD_MAX:
                self.discard(sync)

    def wait(self, sync: int, deadline: float | None) -> peer.Response | None:
        """The next push or the response of a request; None if it is too late. After its response a request is gone."""
        asked = self._asked.get(sync)
        if asked is None:
            return peer.Response('error', sync, message=b'Response is discarded')
        asked.waiters += 1
        try:
            while not asked.responses:
                asked.came.clear()
                if not _wait(asked.came, deadline):
                    return None
        finally:
            asked.waiters -= 1
        response = asked.responses.popleft()
        self._held -= len(response.data)
        if asked.is_done and not asked.responses:
            self._asked.pop(sync, None)
        return response

    def discard(self, sync: int) -> None:
        """Forgets a request: its response is dropped when it comes."""
        asked = self._asked.pop(sync, None)
        if asked is not None:
            self._held -= sum(len(response.data) for response in asked.responses)

    def fail(self, reason: str) -> None:
        """Ends all requests that have no response with an error."""
        self._unanswered.clear()
        for asked in self._asked.values():
            if not asked.is_done:
                asked.is_done = True
                asked.responses.append(peer.Response('error', 0, message=reason.encode(), code=_NO_CONNECTION))
                asked.came.set()


def _wait(event: Event, deadline: float | None) -> bool:
    seconds = None if deadline is None else deadline - time.monotonic()
    return (seconds is None or seconds > 0) and event.wait(seconds)


class Remote:
    """A connection to a server of the binary protocol.

    Args:
        address: the address of the server.
        user, password: of the login; no login without a user.
        connect_seconds: maximum time for connecting; None for no maximum.
        reconnect_seconds: time after which it connects again; None for never.

    Attributes:
        state: one of net.box's states.
        reason: why there is no connection.
        requests: its requests, to wait for their responses.
        server: what the greeting tells: its version and its uuid.
        events: 'connect' and 'disconnect' that nobody has taken, oldest first; None if nobody wants them.
    """

    def __init__(self, address: Address, user: str, password: str, connect_seconds: float | None,
                 reconnect_seconds: float | None):
        self.address = address
        self.state = INITIAL
        self.reason = ''
        self.requests = _Requests()
        self.server: dict[str, Any] = {}
        self.events: deque[str] | None = None
        self._login = user, password
        self._connect_seconds, self._reconnect_seconds = connect_seconds, reconnect_seconds
        self._sock: Any = None
        self._reads = 0
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._writer: Any = None
        self._changed = Event()             # set, and replaced, at each change of the state and of `_unsent`
        self._greenlet = gevent.spawn(self._run)

    # State

    def _note(self) -> None:
        changed, self._changed = self._changed, Event()
        changed.set()

    def _enter(self, state: str) -> None:
        if self.events is not None and (state == ACTIVE or self.state == ACTIVE):
            self.events.append('connect' if state == ACTIVE else 'disconnect')
        self.state = state
        self._note()

    def wait_for(self, states: Collection[str], deadline: float | None) -> bool:
        """Waits for one of these states. False if it is too late, or if the connection will never be in one."""
        while self.state not in states:
            if self.state in _FINAL or not _wait(self._changed, deadline):
                return False
        return True

    def next_event(self) -> str | None:
        """Waits for a connect or disconnect. None if there will be no more."""
        if self.events is None:
            self.events = deque(maxlen=100)
        while not self.events:
            if self.state in _FINAL:
                return None
            self._changed.wait()
        return self.events.popleft()

    def close(self) -> None:
        """Ends the connection for good; one that failed for good keeps its error. Callable from any greenlet."""
        if self.state not in _FINAL:
            self._fail('Connection closed', CLOSED)
            self._greenlet.kill(block=False)

    # Connecting and reading: the greenlet

    def _run(self) -> None:
        while True:
            try:
                responses = self._connected()
                self._enter(ACTIVE)
                while True:
                    responses.receive_data(self._received())
                    while (response := responses.next_event()) is not peer.NEED_DATA:
                        self.requests.take(response)
            except socket.gaierror:
                reason = 'Invalid argument'
            except (OSError, UnicodeError, _Failed, peer.BadReply) as error:
                number = getattr(error, 'errno', None)
                reason = os.strerror(number) if number else str(error) or 'Peer closed'
            if self.state == CLOSED:
                return
            self._fail(reason, ERROR if self._reconnect_seconds is None else RECONNECT)
            if self._reconnect_seconds is None:
                return
            sleep(self._reconnect_seconds)

    def _connected(self) -> peer.Responses:
        """Connects and logs in."""
        with Timeout(self._connect_seconds, TimedOut('Connection timed out')):
            address = self.address
            if address.path:
                self._sock = own(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                self._sock.connect(address.path)
            else:
                self._sock = own(socket.create_connection((address.host, address.port)))
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            greeting = b''
            while len(greeting) < GREETING_BYTES:
                greeting += self._received(GREETING_BYTES - len(greeting))
            self._greeted(greeting)
            responses = peer.Responses(_RESPONSE_MAX)
            user, password = self._login
            if user:
                self._enter(AUTH)
                self._sock.sendall(iproto.auth_request(0, user, password, greeting))
                while (response := responses.next_event()) is peer.NEED_DATA:
                    responses.receive_data(self._received())
                if response.kind == 'error':
                    raise _Failed(response.message.decode(errors='replace'))
            return responses

    def _greeted(self, greeting: bytes) -> None:
        protocol = protocol_of(greeting)
        if protocol == 'text':
            raise _Failed('Unsupported protocol: Lua console')
        found = _GREETING.match(greeting)
        if not found:
            raise _Failed("Can't decode handshake")
        major, minor, patch = (int(part) for part in found.groups()[:3])
        self.server = {'peer_version_id': major << 16 | minor << 8 | patch, 'peer_uuid': found[4].decode()}

    def _received(self, count: int = _READ_BYTES) -> bytes:
        self._reads += 1
        if self._reads % _READS_IN_A_ROW == 0:
            sleep(_PAUSE_SECONDS)
        data: bytes = self._sock.recv(count)
        if not data:
            raise _Failed('Peer closed')
        return data

    def _fail(self, reason: str, state: str) -> None:
        """Ends the connection and all requests."""
        self.reason = reason
        if self._sock is not None:
            if self.requests.are_open:
                reset(self._sock)           # so that the server stops work that nobody wants any more
            else:
                self._sock.close()
            self._sock = None
        if self._writer is not None:
            self._writer.kill(block=False)
            self._writer = None
        self._unsent.clear()
        self._unsent_bytes = 0
        self.requests.fail(reason)
        self._enter(state)

    # Requests

    def ask(self, kind: str, name: str, arguments: bytes, deadline: float | None) -> int | peer.Response:
        """Sends a request. Returns its number, or an error if that is not possible."""
        if not self.wait_for((ACTIVE,), deadline):
            return peer.Response('error', 0, message=self.reason.encode() or b'Connection is not established',
                                 code=_NO_CONNECTION)
        while self._unsent_bytes > _UNSENT_MAX:
            if not _wait(self._changed, deadline):
                return peer.Response('error', 0, message=b'Timeout exceeded', code=_TIMEOUT)
            if self.state != ACTIVE:
                return self.ask(kind, name, arguments, deadline)
        sync = self.requests.add()
        frame = peer.request(kind, sync, name, arguments)
        self._unsent.append(frame)
        self._unsent_bytes += len(frame)
        if self._writer is None:
            self._writer = gevent.spawn(self._write, self._sock)
        return sync

    def _write(self, sock: Any) -> None:
        """The body of the writer, a greenlet that exists while there is something to send."""
        while self._unsent:
            frame = self._unsent[0]
            try:
                sock.sendall(frame)
            except OSError:
                break                       # the reader finds out, too
            self._unsent.popleft()
            self._unsent_bytes -= len(frame)
            self._note()
        self._writer = None


class Remotes:
    """The connections of one console, by number."""

    def __init__(self) -> None:
        self._remotes: dict[int, tuple[int, Remote]] = {}       # owner's session id and connection
        self._last_number = 0

    def open(self, owner: int, make: partial[Remote]) -> tuple[int, Remote]:
        """Makes a connection of the session `owner` (0: of none). Returns its number and itself.

        Raises:
            StatementError: too many connections are open.
        """
        ended = [number for number, (_, remote) in self._remotes.items() if remote.state in _FINAL]
        if len(self._remotes) - len(ended) >= _OPEN_MAX:
            raise StatementError(f'net.box: too many connections are open: {_OPEN_MAX}')
        for number in ended[:max(0, len(ended) - _KEPT_MAX)]:
            del self._remotes[number]
        self._last_number += 1
        remote = make()
        self._remotes[self._last_number] = owner, remote
        return self._last_number, remote

    def get(self, number: int) -> Remote | None:
        """The connection of this number; None if it has ended long ago."""
        return self._remotes.get(number, (0, None))[1]

    def close_those_of(self, owner: int) -> None:
        """Closes the connections of a session that has ended."""
        for number in [number for number, (other, _) in self._remotes.items() if other == owner]:
            self._remotes.pop(number)[1].close()

    def close(self) -> None:
        """Closes all connections."""
        while self._remotes:
            self._remotes.popitem()[1][1].close()
