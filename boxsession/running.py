"""A console between its start and its stop. Its parts exist for that whole time: only `metrics` can be None."""
from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from boxsession.base.address import Address
from boxsession.base.counters import Counters
from boxsession.base.errors import BoxsessionError, ConfigError, ListenError, ScriptError
from boxsession.base.histogram import Histogram
from boxsession.base.session import Session
from boxsession.base.version import __version__
from boxsession.call_in import caller_in
from boxsession.check import user_problems
from boxsession.inspection.stopper import Stopper
from boxsession.lua.bridge import Runtime
from boxsession.lua.commands import Commands
from boxsession.net.listener import Listener
from boxsession.net.listeners import Listeners
from boxsession.operations import logs
from boxsession.operations.audit import Audit
from boxsession.operations.monitor import Monitor
from boxsession.python.evaluators import Evaluators
from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.sessions.admission import Admission
from boxsession.sessions.changes import Changes
from boxsession.sessions.failures import Failures
from boxsession.sessions.registry import Registry
from boxsession.sessions.rescue import Rescue
from boxsession.sessions.rescue_commands import described, holder_of
from boxsession.sessions.services import Services
from boxsession.settings import live, reader, table
from boxsession.users.accounts import Accounts

if TYPE_CHECKING:
    from boxsession.operations.metrics import MetricsServer

__all__ = ['Running', 'tell_started']

log = logging.getLogger('boxsession')

# Seconds that fibers and cancelled statements may take to end when the console stops.
_END_SECONDS = 1.0
_RUN_SECONDS = ('limits.statement_seconds', 'limits.trigger_seconds')
# Limits that refuse nothing: box.info and the metrics count no hits for them.
_UNCOUNTED = ('limits.slice_ms', 'limits.share_percent', 'limits.on_disconnect', 'limits.drain_seconds', 'limits.requests')
_COUNTED = tuple(setting.name for setting in table.SETTINGS
                 if setting.name.startswith('limits.') and setting.name not in _UNCOUNTED)
# The languages of statements besides Python. Each function gets the session's Lua evaluator and the session, and returns
# the evaluator of that language.
LANGUAGES: dict[str, Callable[[Any, Session], Any]] = {
    'lua': lambda own, session: own,
}


class Running:
    """A running console.

    Longer than usual: it makes all parts of the console, in the order in which they need each other.

    Args:
        config: the settings as they were loaded.
        settings: the settings in force, by dotted name; changed by configure().
        expose, triggers, sockets, call_in, namespace: as in `boxsession.Console`.
        commands: the built-in backslash commands and those of the program.

    Attributes:
        listeners, changes: the listeners of all addresses; what sessions have changed in the program for a time.
        metrics: the server of the metrics; None if metrics are served nowhere.

    Raises:
        BoxsessionError: as Console.start(). Nothing is left open then.
    """

    def __init__(self, config: reader.Config, settings: dict[str, Any], expose: Mapping[str, Any], triggers: bool,
                 sockets: Iterable[Any], commands: Commands, call_in: Any = None,
                 namespace: Mapping[str, Any] = MappingProxyType({})):
        self.settings = settings
        self.metrics: MetricsServer | None = None
        self.accounts = Accounts(config['store'], commands.names)
        if self.accounts.is_shared:
            log.warning('the store %s is in use by another server, too: a change that one of them makes reaches the other '
                        'at its next login, change of users or reload', config['store'])
        try:
            self.audit = _audit(config)
            try:
                self.counters = Counters()
                self.dispatcher = Dispatcher(self.counters.hits)
                self.runtime = Runtime(self.dispatcher, self.counters, self._facts(triggers), expose,
                                       Services(self).table(), commands, Failures(self).record, caller_in(call_in))
            except BaseException:           # `expose` has an invalid name or value, for example
                self.audit.close()
                raise
        except BaseException:
            self.accounts.close()
            raise
        self.accounts.on_change = self.runtime.rights_changed
        loop_lag = Histogram()
        self.monitor = Monitor(lambda: described(holder_of(self)), loop_lag, self.dispatcher.turns,
                               self.dispatcher.interrupt)
        self.stopper = Stopper(self.dispatcher)
        self.python = Evaluators(self.dispatcher, self.stopper, self.counters, namespace,
                                 lambda: settings['limits.output_bytes'])
        languages = {**LANGUAGES, 'python': self.python.evaluator}
        self.registry: Registry = Registry(self.runtime, languages, self.accounts.may_speak, self.audit, settings, _COUNTED,
                                           loop_lag)
        self.registry.at_end.append(self.python.end)
        self.changes, self.rescue = Changes(self.audit, self.registry.at_end), Rescue(self)
        self.admission = Admission(self.registry, self.accounts, self.counters, settings, lambda: self.listeners.has_unix)
        self.listeners: Listeners = Listeners(self.admission.accept, self.dispatcher.turns, sockets, self.rescue.acceptor)
        self.statistics = self.registry.statistics
        self.configure({})
        try:
            # The addresses are bound before the init script runs: if another server has them, the script must not change
            # the users in the store of that server.
            self.listeners.check_sockets(config.listen)
            for listener_config in config.listen:
                self.listeners.add(listener_config)
            if config['init'] is not None:
                self._run_init(config['init'])
            self.check_users(config)
            self.serve_metrics(config['metrics.address'])
        except BaseException:
            self._release()
            raise
        self.registry.start()
        self.monitor.start()
        for listener in self.listeners:
            listener.start()

    def _facts(self, triggers) -> dict[str, Any]:
        """The values that box.info shows. Lua calls the functions at each access."""
        hits = self.counters.hits
        return {'version': __version__, 'pid': os.getpid(), 'sessions': lambda: len(self.registry),
                'languages': [*LANGUAGES, 'python'], 'triggers': triggers,
                'listen': lambda: [str(listener.address) for listener in self.listeners],
                'memory': lambda: self.runtime.memory.used(),
                'limits': lambda: {name[7:]: {'hits': hits[name], 'limit': self.settings[name]} for name in _COUNTED},
                'statistics': lambda: self.statistics.since_reset(),
                'access': lambda: {'users': self.accounts.access.kinds['user'],
                                   'denied': hits['denied'], 'failed_logins': hits['failed_logins']}}

    def _run_init(self, path):
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise ScriptError(f'{path}: cannot be read: {error.strerror}') from None
        self.runtime.run_script(text, str(path))

    def stop(self, reason: str) -> None:
        """Drains and ends all sessions, as Console.stop()."""
        log.info('stopping: %s', reason)
        self.registry.is_accepting = False
        self.listeners.stop()
        self.registry.drain()
        self._release()
        log.info('stopped: boxsession %s, pid %d', __version__, os.getpid())

    def give_up(self) -> None:
        """In a forked child: takes no part in what its parent goes on with. Sends nothing, and runs nothing any more."""
        self.registry.is_accepting = False
        self.registry.close(block=False)
        self.changes.give_up()
        self.stopper.give_up()
        self.python.give_up()
        self.monitor.forget_posted()
        self.monitor.stop()
        self.dispatcher.close()
        self.accounts.give_up()
        self.audit.close()

    def _release(self):
        self.listeners.close()
        self.registry.close()
        self.changes.close()
        self.monitor.stop()
        if self.metrics is not None:
            self.metrics.stop()
            self.metrics = None
        self.runtime.stop(_END_SECONDS)
        self.dispatcher.close()
        self.python.close()
        self.accounts.close()
        self.audit.close()

    # Listeners

    def check_users(self, config: reader.Config) -> None:
        """Checks that the users of all listeners exist, and that no listener lets clients run code who must not.

        A listener that is in use as it is keeps its missing users: they cannot connect, and the log says so.

        Raises:
            ConfigError: a user does not exist, a listener is open (`ListenerConfig.is_open`), or others can use Python
                (`python_problem`).
        """
        in_use = [listener.config for listener in self.listeners] if self.registry.is_accepting else []
        refused = []
        in_force = replace(config, listen=tuple(map(self.listeners.in_force, config.listen)))
        for name, problem in user_problems(in_force, self.accounts.access):
            if config.listen[int(name.split('.')[1])] in in_use:
                log.warning('%s', problem)
            else:
                refused.append(problem)
        if refused:
            raise ConfigError(refused)

    def listen(self, config: table.ListenerConfig) -> Listener:
        """Listens on one more address, until unlisten(). Reloads do not close it.

        Raises:
            ConfigError: clients could run code who must not.
            ListenError: the address is taken or invalid.
        """
        problems = user_problems(reader.Config((config,), self.settings), self.accounts.access)
        if problems:
            raise ConfigError([problem for _, problem in problems])
        listener = self.listeners.add(replace(config, address=config.address.for_process(os.getpid())))
        listener.is_temporary = True
        listener.start()
        return listener

    def unlisten(self, listener: Listener) -> None:
        """Closes one address. Its sessions stay."""
        self.listeners.remove(listener)

    # Settings

    def check(self, changes: Mapping[str, Any]) -> None:
        """Checks whether changes of valid settings are possible now.

        Raises:
            Refused: the new memory limit is too small for the memory in use.
        """
        limit, used = changes.get('limits.lua_memory_bytes'), self.runtime.memory.used()
        if limit and limit < 2 * used:
            raise live.Refused('limits.lua_memory_bytes', f'should be at least twice the memory in use, {used} bytes now')

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Puts changed settings in force; they must have passed check()."""
        self.settings.update(changes)
        in_force = self.settings
        self.dispatcher.turns.configure(in_force['limits.slice_ms'] / 1000, (in_force['limits.share_percent'] or 100) / 100)
        self.dispatcher.deadlines.seconds = {name: in_force[name] for name in _RUN_SECONDS}
        self.runtime.output_bytes = in_force['limits.output_bytes']
        self.runtime.fibers.most = in_force['limits.fibers']
        self.runtime.limit_memory(in_force['limits.lua_memory_bytes'])
        self.python.configure(in_force)
        self.registry.configure()
        if 'log.level' in changes or 'log.format' in changes:
            logs.change(in_force['log.level'], in_force['log.format'])

    def serve_metrics(self, address: str | None) -> None:
        """Serves metrics at `address` instead of the former one; None: nowhere. If it raises, the former one stays in use.

        Raises:
            ConfigError: prometheus-client is not installed.
            ListenError: the address is taken or invalid.
        """
        if address == (self.metrics and str(self.metrics.config_address)):
            return
        new = None if address is None else _metrics_server(self, address)
        old, self.metrics = self.metrics, None
        if old is not None:
            old.stop()              # before the new one starts: both may use the same port
        try:
            if new is not None:
                new.start()
            self.metrics = new
        except ListenError:
            if old is not None:
                old.start()
                self.metrics = old
            raise


def tell_started(running: Running, config: reader.Config) -> None:
    """Logs what runs, and where."""
    served = [f'{listener.config.protocol} {listener.address}' for listener in running.listeners]
    if running.metrics is not None:
        served.append(f'metrics {running.metrics.address}')
    log.info('started: %s', ', '.join([
        f'boxsession {__version__}', f'pid {os.getpid()}',
        f'config {os.path.abspath(config.source)}' if config.source else 'no config file',
        *[f'{name} {config[name]}' for name in ('init', 'store') if config[name]], *served]))
    if running.python.namespace and not any('python' in listener.config.languages for listener in running.listeners):
        log.warning("the names in `namespace` are for statements in Python, but no listener allows these: give "
                    "languages=['python', 'lua'] to Console, or set `languages` of a listener")


def _audit(config) -> Audit:
    try:
        return Audit(config['audit.file'], config['audit.required'])
    except OSError as error:
        raise BoxsessionError(f'cannot open audit.file {config["audit.file"]}: {error.strerror}') from None


def _metrics_server(running: Running, address: str) -> MetricsServer:
    try:
        # prometheus-client is optional, and its import takes time: it is imported only if metrics are served.
        from boxsession.operations.metrics import MetricsServer
    except ModuleNotFoundError as error:
        if error.name != 'prometheus_client':
            raise
        raise ConfigError(["`metrics.address` needs prometheus-client, which is not installed: "
                           "pip install '.[metrics]' in a checkout"]) from None
    return MetricsServer(Address.parse(address), running.statistics.snapshot, lambda: running.registry.is_accepting)
