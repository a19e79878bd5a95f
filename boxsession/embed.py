"""Console: an admin console for a gevent program, and for the daemon."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from gevent.event import Event
from gevent.lock import BoundedSemaphore

from boxsession.base.address import Address
from boxsession.base.errors import BoxsessionError
from boxsession.base.session import Session
from boxsession.lua.commands import Commands
from boxsession.net.listener import Listener
from boxsession.operations import logs
from boxsession.reload import reload
from boxsession.running import Running
from boxsession.sessions.stream import Connection
from boxsession.settings import reader, table

__all__ = ['Console']


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
                 config: str | os.PathLike | Mapping | reader.Config | None = None, *, triggers: bool = True,
                 sockets: Iterable[Any] = ()):
        if isinstance(listen, (str, Mapping)):
            listen = [listen]
        if expose is not None and not isinstance(expose, Mapping):
            raise TypeError(f'expose maps names to functions, objects or data: a {type(expose).__name__} does not')
        self._listen = reader.read({'listen': list(listen)}, 'listen').listen if listen is not None else None
        self.config = self._read(config)
        self.settings = dict(self.config.values)    # those in force, by dotted name; one object for ever
        self._expose = dict(expose or {})
        self._triggers = triggers
        self._sockets = list(sockets)
        self._commands = Commands()
        self._reloads = BoundedSemaphore()          # one at a time
        self._running: Running | None = None
        self._stopped = Event()
        self._stopped.set()

    def _read(self, config) -> reader.Config:
        if config is None or isinstance(config, Mapping):
            config = reader.read(config or {})
        elif not isinstance(config, reader.Config):
            config = reader.load(config)
        return config if self._listen is None else replace(config, listen=self._listen)

    def command(self, function: Callable | None = None, name: str | None = None, access: str = 'execute') -> Callable:
        r"""Makes a function a backslash command of the text console: `\name ARGUMENT...`. Also a decorator, with or without
        arguments. Before the start or behind it.

        Its parameters' annotations say what is typed: str, int, float, bool (on, off), `typing.Literal` of such, or one of
        these or None; without one it is str. Those with a default are optional, `*args` takes what is left. Words are split
        as a shell does. The docstring is the command's help. The function runs, and its result is shown, as an exposed
        function's.

        Args:
            function: what the command calls. Without it, a decorator is returned.
            name: what is typed behind the backslash: letters, digits, - and _; without it the function's name.
            access: who may call it besides admin, holders of `execute` on universe, and who was granted `execute` on the
                command: 'execute' for nobody else, 'read' for who has `read` on universe.

        Returns:
            The function.

        Raises:
            ValueError: the name is none, or taken, or the function takes what cannot be typed into a console.
        """
        if function is None:
            return lambda function: self.command(function, name, access)
        self._commands.add(function, name, access)
        if self._running is not None:
            self._running.runtime.commands_changed()
        return function

    def start(self) -> None:
        """Runs the init script, then listens. Returns at once; sessions are served by greenlets.

        Raises:
            ConfigError: everyone could run code, a user of a listener does not exist, or what metrics.address needs is not
                installed. Nothing listens then.
            ListenError: an address cannot be had. Nothing listens then.
            StoreError: users cannot be read. Nothing listens then.
            ScriptError: the init script failed. Nothing listens then.
        """
        if self._running is not None:
            raise RuntimeError('the console is already started')
        # What only a restart changes.
        self.settings.update({setting.name: self.config[setting.name] for setting in table.SETTINGS if not setting.is_live})
        self._running = Running(self.config, self.settings, self._expose, self._triggers, self._sockets,
                                self._commands)
        self._stopped.clear()

    def stop(self) -> None:
        """Accepts no more, lets running statements finish for limits.drain_seconds, ends all sessions.

        Every session's on_disconnect triggers have run when it returns. Stopping twice is no error.
        """
        running = self._running
        if running is not None:
            running.stop()
            self._running = None
            self._stopped.set()

    def serve_forever(self) -> None:
        """Starts, unless it is started, and returns when the console is stopped by another greenlet."""
        if self._running is None:
            self.start()
        self._stopped.wait()

    def reload(self, config: str | os.PathLike | Mapping | reader.Config) -> list[str]:
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
            running = self._running
            if running is None or not running.registry.is_accepting:
                raise BoxsessionError('the console does not run, or is about to stop: nothing was reloaded')
            new = self._read(config)
            names = reload(running, self.config, new)
            self.config = new
            return names

    def serve_metrics(self, address: str | None) -> None:
        """Serves metrics at an address, no more at the one before; nowhere with None.

        Raises:
            RuntimeError: the console does not run.
            ConfigError: prometheus-client is not installed. Nothing has changed then.
            ListenError: the address cannot be had. Nothing has changed then.
        """
        if self._running is None:
            raise RuntimeError('the console is not started')
        self._running.serve_metrics(address)

    def reopen_logs(self) -> None:
        """Opens log and audit files anew, after they were rotated."""
        logs.reopen()
        if self._running is not None:
            self._running.audit.reopen()

    # What it does

    @property
    def is_accepting(self) -> bool:
        """Whether sessions can begin: it is started and does not stop."""
        return self._running is not None and self._running.registry.is_accepting

    @property
    def listeners(self) -> list[Listener]:
        """Those that listen."""
        return list(self._running.listeners) if self._running is not None else []

    @property
    def addresses(self) -> list[Address]:
        """What is listened on, with the ports that were taken."""
        return [listener.address for listener in self.listeners]

    def connections(self) -> list[Connection]:
        """The connections of the live sessions."""
        return self._running.registry.all() if self._running is not None else []

    @property
    def sessions(self) -> list[Session]:
        """The live sessions."""
        return [connection.session for connection in self.connections()]

    @property
    def memory_used(self) -> int:
        """Bytes that the Lua state holds; 0 unless it is started."""
        return self._running.runtime.memory.used() if self._running is not None else 0

    @property
    def metrics_address(self) -> Address | None:
        """Where metrics are served, with the port that was taken."""
        metrics = self._running.metrics if self._running is not None else None
        return metrics.address if metrics is not None else None
