"""The console as a whole: listeners, sessions and the Lua state they share; for the daemon and for programs alike."""
from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gevent
from gevent import get_hub, getcurrent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from boxsession import config as settings
from boxsession import logs
from boxsession.access import Level
from boxsession.accounts import Accounts
from boxsession.address import Address, peer_text, socket_text
from boxsession.audit import Audit
from boxsession.backlog import Backlog
from boxsession.binary import BinaryConnection
from boxsession.connection import Connection
from boxsession.console import ConsoleConnection
from boxsession.errors import BoxsessionError, ConfigError, ListenError, ScriptError
from boxsession.greenlets import SessionEnded, UserGreenlet
from boxsession.histogram import Histogram
from boxsession.listener import Listener, is_at, peer_uid
from boxsession.lua.runtime import Runtime
from boxsession.monitor import Monitor
from boxsession.protocol.greeting import console_greeting
from boxsession.reload import reload
from boxsession.scheduler.loop import PRIORITY
from boxsession.services import Services
from boxsession.session import Session, Sessions
from boxsession.statistics import Statistics
from boxsession.tls import TLSTunnel
from boxsession.version import __version__

__all__ = ['Console']

log = logging.getLogger('boxsession')

# How long a session may take to end after its statement was cancelled, in seconds.
_CANCEL_SECONDS = 1.0

_IDLE_LOOK_SECONDS = 1.0
# A session that has been idle for so long gives up what only statements need; so many at each look.
_SLEEP_SECONDS, _SLEEPERS = 5.0, 100
_KEPT_PLACES = 3
# TLS handshakes at a time: so many, and at most a fourth of limits.sessions.
_HANDSHAKES, _HANDSHAKES_SHARE = 256, 4
_RUN_SECONDS = ('limits.statement_seconds', 'limits.trigger_seconds')
# What is a limit and never refuses anything.
_UNCOUNTED = ('limits.slice_ms', 'limits.share_percent', 'limits.on_disconnect', 'limits.drain_seconds', 'limits.requests')
_COUNTED = tuple(setting.name for setting in settings.SETTINGS
                 if setting.name.startswith('limits.') and setting.name not in _UNCOUNTED)

_REFUSED = '---\n- error: %s\n...\n'
_FULL = (b"---\n- error: 'too many sessions: the limit is %d (limits.sessions)'\n...\n")


class Console:
    """An admin console inside a gevent program, or alone.

    It patches nothing: it runs in the event loop of the thread that starts it. A second thread only watches whether that
    loop turns, and logs who holds it.

    Args:
        listen: addresses (`'127.0.0.1:3313'`, `'unix:/run/app.sock'`) or mappings with the keys of a listener in the
            config file. Replaces `listen` of `config`.
        expose: names that statements find as globals: Python functions, objects (their public methods, called as
            `name.method(...)`), mappings of functions, or plain values, which are copied. Arguments and results are
            copied, too: None, bool, int, float, str, bytes, list, dict, and what has `__serialize__`. Functions run in
            the session's greenlet and may switch; exceptions become Lua errors.
        config: the path of a config file, its content as a mapping, or settings that were read already.
        triggers: False runs none on connect and disconnect, to get in when one of them locks everyone out.
        sockets: sockets that listen already, as systemd passes them: a listener whose address one of them has takes it, and
            leaves its file alone. They stay the caller's to close.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(self, listen: str | Mapping | Iterable[str | Mapping] | None = None,
                 expose: Mapping[str, Any] | None = None,
                 config: str | os.PathLike | Mapping | settings.Config | None = None, *, triggers: bool = True,
                 sockets: Iterable[Any] = ()):
        if isinstance(listen, (str, Mapping)):
            listen = [listen]
        if expose is not None and not isinstance(expose, Mapping):
            raise TypeError(f'expose maps names to functions, objects or data: a {type(expose).__name__} does not')
        self._listen = settings.read({'listen': list(listen)}, 'listen').listen if listen is not None else None
        self.config = config = self._read(config)
        self.settings = dict(config.values)     # those in force, by dotted name; one object for ever
        self.sessions = Sessions()
        self._expose = dict(expose or {})
        self._triggers = triggers
        self._sockets = list(sockets)
        self._reloads = BoundedSemaphore()          # one at a time
        self.accounts: Accounts | None = None       # while started
        self.audit: Audit | None = None
        self.statistics: Statistics | None = None
        self._handshakes: dict[Any, None] = {}      # greenlets whose clients are in TLS's, the oldest first
        self._stalled: set[Any] = set()             # those that are to end
        self._unsent = Backlog(partial(
            self._end_for, 'limits.total_output_bytes', 'that its client has not taken', 'take its output'))
        self._unread = Backlog(partial(
            self._end_for, 'limits.total_input_bytes', 'of its input that cannot be run yet', 'finish its input'))
        self.metrics = None                         # the server of metrics, where there is one
        self._runtime: Runtime | None = None
        self._listeners: list[Listener] = []
        self._connections: dict[int, Connection] = {}       # by the session's id
        self._instance = str(uuid.uuid4())
        self._accepting = False
        self._idle_watch: gevent.Greenlet | None = None
        self._monitor: Monitor | None = None
        self._stopped = Event()
        self._stopped.set()

    def _read(self, config) -> settings.Config:
        if config is None or isinstance(config, Mapping):
            config = settings.read(config or {})
        elif not isinstance(config, settings.Config):
            config = settings.load(config)
        return config if self._listen is None else replace(config, listen=self._listen)

    @property
    def listeners(self) -> list[Listener]:
        """Those that listen."""
        return list(self._listeners)

    @property
    def addresses(self) -> list[Address]:
        """What is listened on, with the ports that were taken."""
        return [listener.address for listener in self._listeners]

    def start(self) -> None:
        """Runs the init script, then listens. Returns at once; sessions are served by greenlets.

        Raises:
            ConfigError: everyone could run code, a user of a listener does not exist, or what metrics.address needs is not
                installed. Nothing listens then.
            ListenError: an address cannot be had. Nothing listens then.
            StoreError: users cannot be read. Nothing listens then.
            ScriptError: the init script failed. Nothing listens then.
        """
        if self._runtime is not None:
            raise RuntimeError('the console is already started')
        config = self.config
        # What only a restart changes.
        self.settings.update({setting.name: config[setting.name] for setting in settings.SETTINGS if not setting.is_live})
        facts = {'version': __version__, 'pid': os.getpid(), 'sessions': lambda: len(self.sessions),
                 'listen': lambda: [str(address) for address in self.addresses], 'triggers': self._triggers,
                 'memory': lambda: self._runtime.memory_used,
                 'limits': lambda: {name.partition('.')[2]: self._runtime.hits[name] for name in _COUNTED},
                 'statistics': lambda: self.statistics.snapshot(),
                 'access': lambda: {'users': sum(user.kind == 'user' for user in self.accounts.access.users.values()),
                                    'denied': self._runtime.hits['denied'],
                                    'failed_logins': self._runtime.hits['failed_logins']}}
        self.accounts = Accounts(config['store'])
        try:
            self.audit = Audit(config['audit.file'], config['audit.required'])
        except OSError as error:
            self.accounts.close()
            raise BoxsessionError(f'cannot open audit.file {config["audit.file"]}: {error.strerror}') from None
        try:
            self._runtime = Runtime(facts, self._expose, Services(self).table())
            self.accounts.on_change = self._runtime.rights_changed
        except BaseException:           # what is exposed is wrong
            self.accounts.close()
            self.audit.close()
            raise
        self.configure({})
        loop_lag = Histogram()
        self.statistics = Statistics(self._connections, self._runtime, self.settings, _COUNTED, self.audit,
                                     loop_lag)
        try:
            if config['init'] is not None:
                self._run_init(config['init'])
            self.check_users(config)
            self._check_sockets(config)
            for listener_config in config.listen:
                self._listeners.append(self.bound_listener(listener_config))
            self.serve_metrics(config['metrics.address'])
        except BaseException:
            self._release()
            raise
        self._stopped.clear()
        self._accepting = True
        self._idle_watch = gevent.spawn(self._watch_idle)
        self._monitor = Monitor(self._runtime.who_runs, loop_lag, self._runtime.turns, self._runtime.interrupt)
        self._monitor.start()
        for listener in self._listeners:
            listener.start()
            log.debug('listening: %s %s', listener.config.protocol, listener.address)

    def _check_sockets(self, config):
        wanted = [listener.address for listener in config.listen]
        for sock in self._sockets:
            if not any(is_at(sock, address) for address in wanted):
                place = socket_text(sock.getsockname())
                raise BoxsessionError(f'a socket was passed that listens on {place}, and no listener has that address '
                                      f'({", ".join(map(str, wanted))}): let `listen` and the socket unit name the same')

    def new_listener(self, config: settings.ListenerConfig) -> Listener:
        """A listener that has no address yet.

        Raises:
            ListenError: what `tls` names cannot be used.
        """
        return Listener(config, self.accept, self._runtime.turns)

    def bound_listener(self, config: settings.ListenerConfig, shares_port: bool = False) -> Listener:
        """A listener that has its address, and does not accept yet.

        Raises:
            ListenError: it cannot be had.
        """
        listener = self.new_listener(config)
        for sock in self._sockets:
            if is_at(sock, config.address):
                listener.inherit(sock)
                return listener
        listener.bind(shares_port)
        return listener

    def check_users(self, config: settings.Config) -> None:
        """Sessions begin as somebody who is there, and nobody runs code whom nobody knows.

        Raises:
            ConfigError: it would not be so.
        """
        problems = []
        access = self.accounts.access
        for listener in config.listen:
            for name in set(listener.peers.values()) if listener.peers else {listener.user}:
                if access.user(name) is None:
                    problems.append(f'{listener.address}: there is no user {name!r}: create it in the init script, or with '
                                    f'box.schema.user.create({name!r}) and a `store`')
            user = access.user(listener.user)
            if user and listener.is_open and access.level(user.id) == Level.FULL:
                problems.append(settings.open_listener_problem(listener))
        if problems:
            raise ConfigError(problems)

    def count(self, what: str) -> None:
        """One more of something that box.info tells."""
        self._runtime.hits[what] += 1

    def reopen_logs(self) -> None:
        """Opens log and audit files anew, after they were rotated."""
        logs.reopen()
        if self.audit is not None:
            self.audit.reopen()

    def listen(self, config: settings.ListenerConfig) -> Listener:
        """Listens on one more address while the console runs.

        Raises:
            ListenError: it cannot be had.
        """
        listener = self.bound_listener(config)
        listener.is_temporary = True
        self._listeners.append(listener)
        listener.start()
        return listener

    def unlisten(self, listener: Listener) -> None:
        """Gives one address back; the sessions that came by it stay."""
        listener.stop()
        if listener in self._listeners:
            self._listeners.remove(listener)

    @property
    def is_accepting(self) -> bool:
        """Whether sessions can begin: it is started and does not stop."""
        return self._accepting

    def reload(self, config: str | os.PathLike | Mapping | settings.Config) -> list[str]:
        """Puts changed settings in force while the console runs: all of them, or none.

        Listeners come and go, live sessions stay. A setting whose value is the same as when settings were last loaded keeps
        the value in force, also where box.cfg has changed that. Reloads take their turn. It logs one line.

        Args:
            config: as the constructor takes it; what is not in it has its default. `listen`, where the constructor was
                given it, stays as it was.

        Returns:
            The names of the settings that changed, `listen` with what became of its addresses.

        Raises:
            ConfigError: a setting is wrong.
            ListenError: an address cannot be had.
            BoxsessionError: a file cannot be opened, or the console does not run or stops.
        """
        with self._reloads:
            return reload(self, self._read(config))

    def replace_listeners(self, listeners: list[Listener]) -> None:
        """Accepts by these, which have their sockets, and by the temporary ones. The others give their addresses back."""
        listeners = [*listeners, *[listener for listener in self._listeners if listener.is_temporary]]
        for listener in self._listeners:
            if listener not in listeners:
                listener.stop()
        self._listeners = listeners
        for listener in listeners:
            listener.start()

    def check(self, changes: Mapping[str, Any]) -> None:
        """Looks whether changes, each of which is right, can be made now.

        Raises:
            Refused: one cannot.
        """
        limit = changes.get('limits.lua_memory_bytes')
        if limit and limit < 2 * self.memory_used:
            raise settings.Refused('limits.lua_memory_bytes',
                                   f'should be twice what is used now or more: {self.memory_used} bytes')
    def serve_metrics(self, address: str | None) -> None:
        """Serves metrics at an address, no more at the one before; nowhere with None.

        Raises:
            ConfigError: prometheus-client is not installed. Nothing has changed then.
            ListenError: the address cannot be had. Nothing has changed then.
        """
        if self._runtime is None:
            raise RuntimeError('the console is not started')
        if address == (self.metrics and str(self.metrics.config_address)):
            return
        new = None
        if address is not None:
            try:
                # Only who asks for it pays for it.
                from boxsession.metrics import MetricsServer
            except ModuleNotFoundError as error:
                if error.name != 'prometheus_client':
                    raise
                raise ConfigError(["`metrics.address` needs prometheus-client, which is not installed: "
                                   "pip install 'boxsession[metrics]'"]) from None
            new = MetricsServer(Address.parse(address), self.statistics.snapshot, lambda: self._accepting)
        old, self.metrics = self.metrics, None
        if old is not None:
            old.stop()              # first: the two may want the same port
        try:
            if new is not None:
                new.start()
            self.metrics = new
        except ListenError:
            if old is not None:
                old.start()
                self.metrics = old
            raise

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Changes settings, which were checked, in the running console."""
        self.settings.update(changes)
        in_force = self.settings
        self._runtime.turns.configure(in_force['limits.slice_ms'] / 1000, (in_force['limits.share_percent'] or 100) / 100)
        self._runtime.output_bytes = in_force['limits.output_bytes']
        self._runtime.max_fibers = in_force['limits.fibers']
        self._unsent.limit = in_force['limits.total_output_bytes']
        self._unread.limit = in_force['limits.total_input_bytes']
        self._runtime.limit_memory(in_force['limits.lua_memory_bytes'])
        self._runtime.seconds = {name: in_force[name] for name in _RUN_SECONDS}
        for connection in self._connections.values():
            connection.configure(in_force)
        if 'log.level' in changes or 'log.format' in changes:
            logs.change(in_force['log.level'], in_force['log.format'])

    @property
    def memory_used(self) -> int:
        """Bytes that the Lua state holds."""
        return self._runtime.memory_used

    def connections(self) -> list[Connection]:
        """Those of the live sessions."""
        return list(self._connections.values())

    def _watch_idle(self):
        """The body of a greenlet that ends sessions which have sent nothing for too long."""
        while True:
            limit = self.settings['limits.idle_seconds']
            hub = gevent.get_hub()
            hub.wait(hub.loop.timer(min(_IDLE_LOOK_SECONDS, limit / 4) if limit else _IDLE_LOOK_SECONDS, priority=PRIORITY))
            now = time.monotonic()
            to_sleep = [connection.sleep for connection in self._connections.values()
                        if connection.greenlet is not None and connection.idle_seconds(now) >= _SLEEP_SECONDS
                        and connection.session.type == 'console']
            for sleep in to_sleep[:_SLEEPERS]:
                hub.loop.run_callback(sleep)
            if limit:
                for connection in self.connections():
                    if connection.idle_seconds(now) >= limit:
                        self._runtime.hits['limits.idle_seconds'] += 1
                        connection.kill(f'the session is closed: it was idle for {limit:g} seconds (limits.idle_seconds)')

    def _end_for(self, limit, left, reason, connection, count):
        """Ends a session for which too much is held, of what is held for all clients together."""
        self._runtime.hits[limit] += 1
        log.warning('session %d from %s: closed: %d bytes %s, and of all clients together more than %d (%s)',
                    connection.session.id, connection.session.peer, count, left, self.settings[limit], limit)
        connection.kill(f'the session is closed: it does not {reason}, and all clients together hold too much ({limit})')

    def connection_of(self, greenlet) -> Connection | None:
        """The connection whose own greenlet it is."""
        for connection in self._connections.values():
            if connection.greenlet is greenlet:
                return connection
        return None

    def connection_of_session(self, session: Session | None) -> Connection | None:
        """The connection of a live session."""
        for connection in self._connections.values():
            if connection.session is session:
                return connection
        return None

    def stop(self) -> None:
        """Accepts no more, lets running statements finish for limits.drain_seconds, ends all sessions.

        Every session's on_disconnect triggers have run when it returns. Stopping twice is no error.
        """
        if self._runtime is None:
            return
        self._accepting = False
        for listener in self._listeners:
            listener.stop()
        if self._connections:
            log.info('stopping: %d sessions are open; what they run may go on for %g seconds', len(self._connections),
                     self.settings['limits.drain_seconds'])
        left = [connection for connection in self._connections.values() if connection.greenlet is not getcurrent()]
        for connection in self._connections.values():
            connection.drain()
        left = _joined(left, self.settings['limits.drain_seconds'] or None)
        if left:
            log.warning('%d sessions did not end in time: their statements are cancelled', len(left))
            for connection in left:
                connection.cancel()
            left = _joined(left, _CANCEL_SECONDS)
            gevent.killall([connection.greenlet for connection in left if connection.greenlet is not None], SessionEnded,
                           timeout=_CANCEL_SECONDS)
        self._release()
        self._stopped.set()

    def serve_forever(self) -> None:
        """Starts, unless it is started, and returns when the console is stopped by another greenlet."""
        if self._runtime is None:
            self.start()
        self._stopped.wait()

    def _release(self):
        for listener in self._listeners:
            listener.stop()
        self._listeners.clear()
        if self._idle_watch is not None:
            self._idle_watch.kill()
            self._monitor.stop()
        if self.metrics is not None:
            self.metrics.stop()
            self.metrics = None
        self._runtime.stop(_CANCEL_SECONDS)
        self._runtime = self.statistics = None
        self.accounts.close()
        self.audit.close()

    def _run_init(self, path):
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise ScriptError(f'{path}: cannot be read: {error.strerror}') from None
        self._runtime.run_script(text, str(path))

    def accept(self, sock, peer, listener: Listener) -> None:
        """The body of a client's greenlet, for listeners."""
        if not self._accepting:             # it came in the very moment of stop()
            sock.close()
            return
        hits = self._runtime.hits
        limit = self.settings['limits.sessions']
        if limit and len(self.sessions) + len(self._handshakes) >= limit - self._kept_places(listener, limit):
            hits['limits.sessions'] += 1
            hits['refused.limit'] += 1
            log.warning('refused a session: %d are open (limits.sessions)', len(self.sessions) + len(self._handshakes),
                        extra=logs.origin(peer))
            try:
                if listener.config.protocol == 'console':
                    sock.send(_FULL % limit)
            except OSError:
                pass
            sock.close()
            return
        tunnel = None
        try:
            if listener.tls is not None:
                tunnel = self._shake_hands(sock, listener.tls)
                sock = tunnel.sock
                # Others came in meanwhile.
                if not self._accepting:
                    sock.close()
                    return
        except OSError as error:
            hits['refused.tls'] += 1
            log.info('refused %s at %s: %s', peer_text(peer), listener.address, error, extra=logs.origin(peer))
            return
        try:
            self._serve_session(sock, peer, listener, tunnel)
        finally:
            if tunnel is not None:
                tunnel.close()

    def _shake_hands(self, sock, context) -> TLSTunnel:
        """TLS for a client. Handshakes take a share of the places: for one more than that, the oldest is ended."""
        limit = self.settings['limits.sessions']
        most = min(_HANDSHAKES, max(1, limit // _HANDSHAKES_SHARE)) if limit else _HANDSHAKES
        if len(self._handshakes) >= most:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            self._stalled.add(oldest)
            get_hub().loop.run_callback(self._end_handshake, oldest)
        greenlet = getcurrent()
        self._handshakes[greenlet] = None
        try:
            return TLSTunnel(sock, context)
        finally:
            self._handshakes.pop(greenlet, None)
            self._stalled.discard(greenlet)

    def _end_handshake(self, greenlet):
        if greenlet in self._stalled:               # it may just have succeeded
            greenlet.throw(ConnectionAbortedError('too many others have come during its TLS handshake'))

    def _serve_session(self, sock, peer, listener, tunnel):
        name, problem = self._user_of(sock, listener, tunnel)
        user = self.accounts.access.user(name) if name else None
        if name and user is None:
            problem = f'there is no user {name} any more'
        elif user and not self.accounts.access.may_log_in(user.id):
            problem = f"Session access to universe '''' is denied for user ''{name}''"
        if problem:
            self._runtime.hits['refused.user'] += 1
            log.warning('refused %s at %s: %s', peer_text(peer), listener.address, problem, extra=logs.origin(peer))
            try:
                if listener.config.protocol == 'console':
                    sock.send((_REFUSED % f"'{problem}'").encode())
            except OSError:
                pass
            sock.close()
            return
        session = self.sessions.create(peer=peer_text(peer), fd=sock.fileno(), user=name, uid=user.id,
                                       dialect=listener.config.dialect, listener=str(listener.address),
                                       type=listener.config.protocol)
        connection = self._connect(sock, session, tunnel is not None or not isinstance(peer, tuple)
                                   or Address(host=peer[0]).is_local)
        self._connections[session.id] = connection
        connection.statistics = self.statistics     # it outlives a stop that did not wait for this session
        connection.statistics.begin(session)
        if session.type == 'console' and tunnel is None:
            connection.may_sleep(self._wake_up)
        self._run(connection)

    def _wake_up(self, connection):
        return UserGreenlet(self._run, connection)

    def _run(self, connection):
        """The body of a greenlet of a session's."""
        is_over = True
        try:
            is_over = connection.run()
        finally:
            if is_over:
                del self._connections[connection.session.id]
                connection.statistics.end(connection)
                self.sessions.end(connection.session)
                connection.note_end()

    def _user_of(self, sock, listener, tunnel):
        """Who a session begins as, by name, or why it does not begin."""
        peers = listener.config.peers
        if peers is None:
            return listener.config.user, None
        if tunnel is not None:
            return peers.get(tunnel.name), None if tunnel.name in peers else f'nobody is {tunnel.name} here (peers)'
        uid = peer_uid(sock)
        return peers.get(uid), None if uid in peers else f'uid {uid} may not connect here (peers)'

    def _kept_places(self, listener, limit) -> int:
        """How many of the last places this listener's clients may not take: an admin on a unix socket gets in."""
        if listener.address.path or not any(address.path for address in self.addresses):
            return 0
        return min(_KEPT_PLACES, limit // 4)

    def _connect(self, sock, session: Session, is_private: bool) -> Connection:
        if session.type == 'binary':
            connection = BinaryConnection(sock, session, self._runtime, audit=self.audit, unsent=self._unsent,
                                          unread=self._unread, is_private=is_private, instance=self._instance)
        else:
            connection = ConsoleConnection(sock, session, self._runtime, audit=self.audit, unsent=self._unsent,
                                           unread=self._unread, is_private=is_private,
                                           greeting=console_greeting(__version__))
        connection.configure(self.settings)
        return connection


def _joined(connections, timeout):
    """Waits for the ends of sessions, and gives those that have not ended in time."""
    gevent.joinall([connection.ended for connection in connections], timeout=timeout)
    return [connection for connection in connections if not connection.ended.is_set()]
