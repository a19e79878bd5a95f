"""The live sessions of a console: who comes in, who is here, and how they end."""
from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gevent
from gevent import get_hub, getcurrent
from gevent.event import Event

from boxsession.base.address import Address, peer_text
from boxsession.base.counters import Counters
from boxsession.base.greenlets import SessionEnded, UserGreenlet
from boxsession.base.histogram import Histogram
from boxsession.base.session import Session
from boxsession.lua.bridge import Runtime
from boxsession.net.listener import Listener, peer_uid
from boxsession.net.tls import Handshakes, TLSTunnel
from boxsession.operations import logs
from boxsession.operations.audit import Audit
from boxsession.operations.statistics import Statistics
from boxsession.scheduler.loop import PRIORITY
from boxsession.sessions.backlog import Backlog
from boxsession.sessions.binary import BinaryConnection
from boxsession.sessions.common import Common
from boxsession.sessions.stream import Connection
from boxsession.sessions.text import ConsoleConnection
from boxsession.users.accounts import Accounts

__all__ = ['Registry']

log = logging.getLogger('boxsession')

# How long a session may take to end after its statement was cancelled, in seconds.
_CANCEL_SECONDS = 1.0
_IDLE_LOOK_SECONDS = 1.0
# A session that has been idle for so long gives up what only statements need; so many at each look.
_SLEEP_SECONDS, _SLEEPERS = 5.0, 100
_KEPT_PLACES = 3

_REFUSED = '---\n- error: %s\n...\n'
_FULL = "'too many sessions: the limit is %d (limits.sessions)'"


class Registry:
    """The live sessions.

    Args:
        settings: those in force, by dotted name.
        limits: the settings whose limits are counted.
        loop_lag: how late the event loop was.
        listens_on_unix: whether one of the listeners is a unix socket, for whose clients the last places are kept.

    Attributes:
        connections: the live ones, by the session's id.
        is_accepting: whether sessions can begin.
        unsent, unread: the bytes that are held for all of them.
        handshakes: the clients that are in TLS's.
    """

    def __init__(self, runtime: Runtime, accounts: Accounts, audit: Audit, settings: Mapping[str, Any],
                 limits: tuple[str, ...], loop_lag: Histogram, listens_on_unix: Callable[[], bool]):
        self.connections: dict[int, Connection] = {}
        self.is_accepting = False
        self.unsent = Backlog(partial(
            self._end_for, 'limits.total_output_bytes', 'that its client has not taken', 'take its output'))
        self.unread = Backlog(partial(
            self._end_for, 'limits.total_input_bytes', 'of its input that cannot be run yet', 'finish its input'))
        self._common = Common(runtime, audit, self.unsent, self.unread, settings)
        self.handshakes = Handshakes(settings)
        self.statistics = Statistics(self.connections, runtime, settings, limits, audit, loop_lag)
        self._counters: Counters = runtime.counters
        self._accounts = accounts
        self._settings = settings
        self._listens_on_unix = listens_on_unix
        self._last_id = 0
        self._instance = str(uuid.uuid4())
        self._idle_watch: gevent.Greenlet | None = None
        self._wake_up = self._greenlet          # one object for all sessions
        self._ends: dict[int, Event] = {}       # set at the ends of sessions, by id, where somebody waits for that

    def __len__(self) -> int:
        return len(self.connections)

    def start(self) -> None:
        """Sessions can begin."""
        self.is_accepting = True
        self._idle_watch = gevent.spawn(self._watch_idle)

    def configure(self) -> None:
        """Takes the settings in force."""
        audit = self._common.audit
        self._common.configure(self._settings)
        if self._common.audit is not audit:
            for connection in self.connections.values():
                connection.audit_changed()

    # Who is here

    def all(self) -> list[Connection]:
        """The connections of the live sessions."""
        return list(self.connections.values())

    def of_greenlet(self, greenlet: Any) -> Connection | None:
        """The connection whose own greenlet it is."""
        return next((connection for connection in self.connections.values() if connection.greenlet is greenlet), None)

    def of_session(self, session: Session | None) -> Connection | None:
        """The connection of a live session."""
        return self.connections.get(session.id) if session is not None else None

    # Who comes in

    def accept(self, sock: Any, peer: Any, listener: Listener) -> None:
        """The body of a client's greenlet, for listeners."""
        if not self.is_accepting:           # it came in the very moment of stop()
            sock.close()
            return
        hits, limit = self._counters.hits, self._settings['limits.sessions']
        count = len(self.connections) + len(self.handshakes)
        if limit and count >= limit - self._kept_places(listener, limit):
            hits['limits.sessions'] += 1
            hits['refused.limit'] += 1
            log.warning('refused a session: %d are open (limits.sessions)', count, extra=logs.origin(peer))
            _refuse(sock, listener, _FULL % limit)
            return
        tunnel = None
        try:
            if listener.tls is not None:
                tunnel = self.handshakes.tunnel(sock, listener.tls)
                sock = tunnel.sock
                # Others came in meanwhile.
                if not self.is_accepting:
                    sock.close()
                    return
        except OSError as error:
            hits['refused.tls'] += 1
            log.info('refused %s at %s: %s', peer_text(peer), listener.address, error, extra=logs.origin(peer))
            return
        try:
            self._begin(sock, peer, listener, tunnel)
        finally:
            if tunnel is not None:
                tunnel.close()

    def _kept_places(self, listener, limit) -> int:
        """How many of the last places this listener's clients may not take: an admin on a unix socket gets in."""
        if listener.address.path or not self._listens_on_unix():
            return 0
        return min(_KEPT_PLACES, limit // 4)

    def _begin(self, sock, peer, listener, tunnel):
        access = self._accounts.access
        name, problem = _user_of(sock, listener, tunnel)
        user = access.user(name) if name else None
        if name and user is None:
            problem = f'there is no user {name} any more'
        elif user and not access.may_log_in(user.id):
            problem = f"Session access to universe '''' is denied for user ''{name}''"
        if user is None or problem:
            self._counters.hits['refused.user'] += 1
            log.warning('refused %s at %s: %s', peer_text(peer), listener.address, problem, extra=logs.origin(peer))
            _refuse(sock, listener, f"'{problem}'")
            return
        self._last_id += 1
        session = Session(self._last_id, peer_text(peer), sock.fileno(), name, user.id, listener.config.dialect,
                          type=listener.config.protocol, listener=str(listener.address), login=name)
        is_private = tunnel is not None or not isinstance(peer, tuple) or Address(host=peer[0]).is_local
        connection = self._connection(sock, session, is_private)
        self.connections[session.id] = connection
        self.statistics.begin(session)
        if session.type == 'console' and tunnel is None:
            connection.wake_up = self._wake_up
        self._run(connection)

    def _greenlet(self, connection: Connection) -> UserGreenlet:
        return UserGreenlet(self._run, connection)

    def _connection(self, sock, session, is_private) -> Connection:
        if session.type == 'binary':
            return BinaryConnection(sock, session, self._common, is_private, self._instance)
        return ConsoleConnection(sock, session, self._common, is_private)

    def _run(self, connection):
        """The body of a greenlet of a session's."""
        is_over = True
        try:
            is_over = connection.run()
        finally:
            if is_over:
                number = connection.session.id
                del self.connections[number]
                self.statistics.end(connection)
                if number in self._ends:
                    self._ends.pop(number).set()

    # How they end

    def _watch_idle(self):
        """The body of a greenlet that ends sessions which have sent nothing for too long."""
        while True:
            limit = self._settings['limits.idle_seconds']
            hub = get_hub()
            hub.wait(hub.loop.timer(min(_IDLE_LOOK_SECONDS, limit / 4) if limit else _IDLE_LOOK_SECONDS, priority=PRIORITY))
            now = time.monotonic()
            to_sleep = [connection.sleep for connection in self.connections.values()
                        if isinstance(connection, ConsoleConnection) and connection.greenlet is not None
                        and connection.idle_seconds(now) >= _SLEEP_SECONDS]
            for sleep in to_sleep[:_SLEEPERS]:
                hub.loop.run_callback(sleep)
            if limit:
                for connection in self.all():
                    if connection.idle_seconds(now) >= limit:
                        self._counters.hits['limits.idle_seconds'] += 1
                        connection.kill(f'the session is closed: it was idle for {limit:g} seconds (limits.idle_seconds)')

    def _end_for(self, limit, left, reason, connection, count):
        """Ends a session for which too much is held, of what is held for all clients together."""
        self._counters.hits[limit] += 1
        log.warning('session %d from %s: closed: %d bytes %s, and of all clients together more than %d (%s)',
                    connection.session.id, connection.session.peer, count, left, self._settings[limit], limit)
        connection.kill(f'the session is closed: it does not {reason}, and all clients together hold too much ({limit})')

    def drain(self) -> None:
        """Lets no more in, lets running statements finish for limits.drain_seconds, ends all sessions."""
        seconds = self._settings['limits.drain_seconds']
        if self.connections:
            log.info('stopping: %d sessions are open; what they run may go on for %g seconds', len(self.connections),
                     seconds)
        left = [connection for connection in self.connections.values() if connection.greenlet is not getcurrent()]
        for connection in self.connections.values():
            connection.drain()
        left = self.wait_for_ends(left, seconds or None)
        if left:
            log.warning('%d sessions did not end in time: their statements are cancelled', len(left))
            for connection in left:
                connection.cancel()
            left = self.wait_for_ends(left, _CANCEL_SECONDS)
            gevent.killall([connection.greenlet for connection in left if connection.greenlet is not None], SessionEnded,
                           timeout=_CANCEL_SECONDS)

    def wait_for_ends(self, connections: list[Connection], seconds: float | None) -> list[Connection]:
        """Waits for the ends of sessions; gives those that have not ended in time."""
        numbers = [connection.session.id for connection in connections]
        gevent.joinall([self._ends.setdefault(number, Event()) for number in numbers if number in self.connections],
                       timeout=seconds)
        return [connection for connection in connections if connection.session.id in self.connections]

    def close(self) -> None:
        """Looks for idle sessions no more."""
        if self._idle_watch is not None:
            self._idle_watch.kill()


def _refuse(sock, listener, message):
    """Ends a connection that does not become a session, with an error where text is spoken."""
    try:
        if listener.config.protocol == 'console':
            sock.send((_REFUSED % message).encode())
    except OSError:
        pass
    sock.close()


def _user_of(sock, listener, tunnel: TLSTunnel | None):
    """Who a session begins as, by name, or why it does not begin."""
    peers = listener.config.peers
    if peers is None:
        return listener.config.user, None
    if tunnel is not None:
        return peers.get(tunnel.name), None if tunnel.name in peers else f'nobody is {tunnel.name} here (peers)'
    uid = peer_uid(sock)
    return peers.get(uid), None if uid in peers else f'uid {uid} may not connect here (peers)'


