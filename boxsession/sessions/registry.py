"""The live sessions of a console: who is here, and how they begin and end."""
from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

import gevent
from gevent import get_hub, getcurrent
from gevent.event import Event

from boxsession.base.address import peer_text
from boxsession.base.counters import Counters
from boxsession.base.errors import StatementError
from boxsession.base.greenlets import SessionEnded, UserGreenlet
from boxsession.base.histogram import Histogram
from boxsession.base.session import Session
from boxsession.lua.bridge import Runtime
from boxsession.net.listener import Listener
from boxsession.operations.audit import Audit
from boxsession.operations.statistics import Statistics
from boxsession.scheduler.loop import PRIORITY
from boxsession.sessions.backlog import Backlog
from boxsession.sessions.binary import BinaryConnection
from boxsession.sessions.common import Common, Languages
from boxsession.sessions.sleepers import Sleepers
from boxsession.sessions.stream import Connection
from boxsession.sessions.text import ConsoleConnection
from boxsession.users.access import User

__all__ = ['Registry']

log = logging.getLogger('boxsession')

# How long a session may take to end after its statement was cancelled, in seconds.
_CANCEL_SECONDS = 1.0
_IDLE_LOOK_SECONDS = 1.0
# A session that has been idle for so long gives up what only statements need; so many at each look.
_SLEEP_SECONDS, _SLEEPERS = 5.0, 100
# Of these fields find() looks for that much or more.
_AT_LEAST = ('idle_s', 'connected_s')


class Registry:
    """The live sessions.

    Args:
        settings: those in force, by dotted name.
        limits: the settings whose limits are counted.
        loop_lag: how late the event loop was.

    Attributes:
        connections: the live ones, by the session's id.
        is_accepting: whether sessions can begin.
        unsent, unread: the bytes that are held for all of them.
    """

    def __init__(self, runtime: Runtime, languages: Languages, audit: Audit, settings: Mapping[str, Any],
                 limits: tuple[str, ...], loop_lag: Histogram):
        self.connections: dict[int, Connection] = {}
        self.is_accepting = False
        self.unsent = Backlog(partial(
            self._end_for, 'limits.total_output_bytes', 'that its client has not taken', 'take its output'))
        self.unread = Backlog(partial(
            self._end_for, 'limits.total_input_bytes', 'of its input that cannot be run yet', 'finish its input'))
        self._common = Common(runtime, languages, audit, self.unsent, self.unread, settings)
        self.statistics = Statistics(self.connections, runtime, settings, limits, audit, loop_lag)
        self._counters: Counters = runtime.counters
        self._settings = settings
        self._last_id = 0
        self._instance = str(uuid.uuid4())
        self._idle_watch: gevent.Greenlet | None = None
        self._sleepers = Sleepers(self._greenlet)
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
            self.record_running()
            for connection in self.connections.values():
                connection.audit_changed()

    def record_running(self) -> None:
        """Records what runs in the audit file. Called after it was switched on, and before it is switched off: nobody
        records the end of these statements, or their beginning."""
        for connection in self.connections.values():
            connection.record_running()

    # Who is here

    def all(self) -> list[Connection]:
        """The connections of the live sessions."""
        return list(self.connections.values())

    def of_greenlet(self, greenlet: Any) -> Connection | None:
        """The connection whose own greenlet it is."""
        return next((connection for connection in self.connections.values() if connection.greenlet is greenlet), None)

    def of_id(self, number: int) -> Connection | None:
        """The connection of the live session with this id."""
        return self.connections.get(number)

    def find(self, fields: Mapping[str, Any] | list) -> list[tuple[Connection, dict[str, Any]]]:
        """The live sessions that are as `fields` (an empty list for none) says, by id, each with what is shown of it.

        Raises:
            StatementError: there is no such field.
        """
        if isinstance(fields, list) and fields:
            raise StatementError('sessions are found by their fields: expected a table such as {user = NAME}')
        wanted = dict(fields or {})
        described = [(connection, connection.describe()) for connection in self.connections.values()]
        known = described[0][1] if described else {}
        for name in wanted:
            if known and name not in known:
                raise StatementError(f'there is no field {name!r} of sessions: expected {", ".join(known)}')
        return [(connection, shown) for connection, shown in sorted(described, key=lambda pair: pair[1]['id'])
                if all(shown[name] >= value if name in _AT_LEAST and isinstance(value, (int, float))
                       else shown[name] == value for name, value in wanted.items())]

    # How they begin

    def begin(self, sock: Any, peer: Any, listener: Listener, user: User, *, is_private: bool, may_sleep: bool) -> None:
        """Serves a client as somebody; goes on until the session is over or sleeps.

        Args:
            is_private: whether nobody on the way can read what is sent.
            may_sleep: whether the session may give its greenlet up.
        """
        self._last_id += 1
        session = Session(self._last_id, peer_text(peer), sock.fileno(), user.name, user.id, listener.config.dialect,
                          type=listener.config.protocol, listener=str(listener.address), login=user.name)
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
        """Looks for idle sessions no more, and wakes none."""
        self._sleepers.close()
        if self._idle_watch is not None:
            self._idle_watch.kill()
