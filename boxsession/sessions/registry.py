"""The live sessions of a console: lists them, begins them and ends them."""
from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any

import gevent
from gevent import get_hub, getcurrent
from gevent.event import Event

from boxsession.base.address import peer_text
from boxsession.base.errors import StatementError
from boxsession.base.greenlets import SessionEnded, UserGreenlet
from boxsession.base.histogram import Histogram
from boxsession.base.session import Session
from boxsession.lua.bridge import Runtime
from boxsession.net.listener import Listener, peer_process
from boxsession.operations.audit import Audit
from boxsession.operations.statistics import Statistics
from boxsession.scheduler.loop import PRIORITY
from boxsession.sessions.backlog import Backlog
from boxsession.sessions.binary import BinaryConnection
from boxsession.sessions.common import Common, Languages
from boxsession.sessions.netbox import Remotes
from boxsession.sessions.sleepers import Sleepers
from boxsession.sessions.stream import Connection
from boxsession.sessions.text import ConsoleConnection
from boxsession.users.access import User

__all__ = ['Registry']

log = logging.getLogger('boxsession')

# Maximum time for a session to end after its statement was cancelled, in seconds.
_CANCEL_SECONDS = 1.0
# Maximum interval of the checks for idle sessions, in seconds.
_IDLE_LOOK_SECONDS = 1.0
# A session falls asleep after this idle time, in seconds; at most this number of sessions in one check.
_SLEEP_SECONDS, _SLEEPERS = 5.0, 100
# For these fields find() treats the wanted value as a minimum.
_AT_LEAST = ('idle_s', 'connected_s')
# Fields that only sessions on unix sockets have.
_OF_UNIX_SOCKETS = ('peer_uid', 'peer_pid')


class Registry:
    """The live sessions.

    Args:
        runtime: the Lua state.
        languages, may_speak: the languages of statements; whether the user with an id may use one.
        audit: the audit file.
        settings: the settings in force, by dotted name.
        limits: the names of the settings whose limits are counted.
        loop_lag: the histogram of the event loop's lag.

    Attributes:
        connections, is_accepting: the connections of live sessions, by session id; whether new sessions may begin.
        ids: gives the ids of new sessions. Usable in any thread.
        unsent, unread: the backlogs of output and input of all sessions.
        statistics, remotes: sums of the counters of live and ended sessions; the connections of net.box.
        at_end: called with the id of each session that ends.
    """

    def __init__(self, runtime: Runtime, languages: Languages, may_speak: Callable[[int, str], bool], audit: Audit,
                 settings: Mapping[str, Any], limits: tuple[str, ...], loop_lag: Histogram):
        self.connections: dict[int, Connection] = {}
        self.is_accepting = False
        end = self._end_for
        self.unsent = Backlog(partial(end, 'limits.total_output_bytes', 'output that its client has not read', 'read'))
        self.unread = Backlog(partial(end, 'limits.total_input_bytes', 'input that cannot be run yet', 'finish its input'))
        self._common = Common(runtime, languages, may_speak, audit, self.unsent, self.unread, settings)
        self.remotes = Remotes()
        self.at_end: list[Callable[[int], None]] = [self.remotes.close_those_of]
        self.statistics = Statistics(self.connections, runtime, settings, limits, audit, loop_lag)
        self._counters, self._settings = runtime.counters, settings
        self.ids, self._instance = count(1), str(uuid.uuid4())
        self._idle_watch: gevent.Greenlet | None = None
        self._sleepers = Sleepers(self._greenlet)
        self._ends: dict[int, Event] = {}       # events for wait_for_ends(), by session id; set when the session ends

    def __len__(self) -> int:
        return len(self.connections)

    def start(self) -> None:
        """Lets sessions begin, and starts the check for idle sessions."""
        self.is_accepting = True
        self._idle_watch = gevent.spawn(self._watch_idle)

    def configure(self) -> None:
        """Applies the settings in force."""
        audit = self._common.audit
        self._common.configure(self._settings)
        if self._common.audit is not audit:
            self.record_running()
            for connection in self.connections.values():
                connection.audit_changed()

    def record_running(self) -> None:
        """Writes all running statements to the audit file.

        Call it after the file was turned on, and before it is turned off: no other entry records these statements.
        """
        for connection in self.connections.values():
            connection.record_running()

    # Lookup

    def all(self) -> list[Connection]:
        """The connections of the live sessions."""
        return list(self.connections.values())

    def of_greenlet(self, greenlet: Any) -> Connection | None:
        """The connection whose own greenlet this is, or None. Fibers and workers have other greenlets."""
        return next((connection for connection in self.connections.values() if connection.greenlet is greenlet), None)

    def of_id(self, number: int) -> Connection | None:
        """The connection of the live session with this id, or None."""
        return self.connections.get(number)

    def find(self, fields: Mapping[str, Any] | list) -> list[tuple[Connection, dict[str, Any]]]:
        """Finds live sessions by their fields. Returns them and their fields (see Connection.describe), sorted by id.

        Args:
            fields: the wanted values by field name. An empty list (Lua's empty table) finds all sessions.

        Raises:
            StatementError: sessions have no such field.
        """
        if isinstance(fields, list) and fields:
            raise StatementError('a filter of sessions must name fields: expected a table such as {user = NAME}')
        wanted = dict(fields or {})
        described = [(connection, connection.describe()) for connection in self.connections.values()]
        known = {**described[0][1], **dict.fromkeys(_OF_UNIX_SOCKETS)} if described else {}
        for name in wanted:
            if known and name not in known:
                raise StatementError(f'sessions have no field {name!r}: expected {", ".join(known)}')
        return [(connection, shown) for connection, shown in sorted(described, key=lambda pair: pair[1]['id'])
                if all(shown[name] >= value if name in _AT_LEAST and isinstance(value, (int, float))
                       else shown.get(name) == value for name, value in wanted.items())]

    # Begin

    def begin(self, sock: Any, peer: Any, listener: Listener, user: User, *, is_private: bool, may_sleep: bool) -> None:
        """Begins a client's session and serves it. Returns when the session is over or falls asleep.

        Args:
            sock, peer: the connected socket, and the client's address.
            listener: the listener that accepted the client.
            user: the user of the session.
            is_private: whether the connection is encrypted or local.
            may_sleep: whether the session may sleep, which ends its greenlet.
        """
        session = Session(next(self.ids), peer_text(peer), sock.fileno(), user.name, user.id, listener.config.dialect,
                          type=listener.config.protocol, listener=str(listener.address), login=user.name,
                          allowed_languages=listener.config.languages)
        if not isinstance(peer, tuple):
            session.peer_uid, session.peer_pid = peer_process(sock)
        connection: Connection
        if session.type == 'binary':
            connection = BinaryConnection(sock, session, self._common, is_private, self._instance)
        else:
            connection = ConsoleConnection(sock, session, self._common, is_private)
            if may_sleep:
                connection.sleepers = self._sleepers
        self.connections[session.id] = connection
        self.statistics.begin(session)
        self._run(connection)

    def _greenlet(self, connection: Connection) -> UserGreenlet:
        return UserGreenlet(self._run, connection)

    def _run(self, connection):
        """The body of a session's greenlet."""
        is_over = True
        try:
            is_over = connection.run()
        finally:
            if is_over:
                number = connection.session.id
                del self.connections[number]
                self.statistics.end(connection)
                for tell in tuple(self.at_end):
                    tell(number)
                if number in self._ends:
                    self._ends.pop(number).set()

    # End

    def _watch_idle(self):
        """The body of a greenlet: puts idle sessions to sleep, and ends sessions that are idle for too long."""
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
        """Ends a session because the backlog of all sessions is over its limit."""
        self._counters.hits[limit] += 1
        log.warning('%s: closed: it holds %d bytes of %s, and all sessions together hold more than %d (%s)',
                    connection.session.described, count, left, self._settings[limit], limit)
        connection.kill(f'the session is closed: the client does not {reason}, and all clients together hold too much '
                        f'({limit})')

    def drain(self) -> None:
        """Ends all sessions. Running statements may finish within limits.drain_seconds, then they are cancelled."""
        seconds = self._settings['limits.drain_seconds']
        if self.connections:
            log.info('stopping: %d sessions are open; their statements may run for %g more seconds', len(self), seconds)
        left = [connection for connection in self.connections.values() if connection.greenlet is not getcurrent()]
        for connection in self.connections.values():
            connection.drain()
        left = self.wait_for_ends(left, seconds or None)
        if left:
            log.warning('%d sessions did not end in time: their statements are cancelled', len(left))
            for connection in left:
                connection.cancel()
            left = self.wait_for_ends(left, _CANCEL_SECONDS)
            _end(left)

    def wait_for_ends(self, connections: list[Connection], seconds: float | None) -> list[Connection]:
        """Waits for the ends of sessions, at most `seconds` (None: for ever). Returns those that have not ended."""
        numbers = [connection.session.id for connection in connections]
        gevent.joinall([self._ends.setdefault(number, Event()) for number in numbers if number in self.connections],
                       timeout=seconds)
        return [connection for connection in connections if connection.session.id in self.connections]

    def close(self, block: bool = True) -> None:
        """Stops the check for idle sessions, wakes no sleeping session any more, and closes connections of net.box."""
        self._sleepers.close()
        self.remotes.close()
        if self._idle_watch is not None:
            self._idle_watch.kill(block=block)


def _end(connections: list[Connection]) -> None:
    """Ends sessions whose statements have not ended, and tells which still go on."""
    greenlets = [connection.greenlet for connection in connections if connection.greenlet is not None]
    gevent.killall(greenlets, SessionEnded, block=False)
    gevent.joinall(greenlets, timeout=_CANCEL_SECONDS)
    left = [connection.running() for connection in connections
            if connection.greenlet in greenlets and not connection.greenlet.dead]
    if left:
        log.error('stopping without %s, which did not end: its code goes on after every exception', ', '.join(left))
