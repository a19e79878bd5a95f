"""Console: an admin console for a program. The daemon uses it, too."""
from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from gevent.event import Event
from gevent.lock import BoundedSemaphore

from boxsession.base.address import Address
from boxsession.base.errors import BoxsessionError
from boxsession.base.session import Session
from boxsession.call_in import caller_in
from boxsession.forks import ForkGuard, give_up_inherited
from boxsession.lua.commands import Commands
from boxsession.net.listener import Listener
from boxsession.net.socket_file import remove_those_of_dead
from boxsession.operations import logs
from boxsession.python.namespace import checked_namespace
from boxsession.reload import reload
from boxsession.running import Running, tell_started
from boxsession.sessions.stream import Connection
from boxsession.settings import reader, table
from boxsession.surroundings import is_without_gevent, running_asyncio_loop
from boxsession.threads import Place

__all__ = ['Console']


# What forked children have given up. Nothing of it may be freed: that would end its greenlets, which run code then.
_GIVEN_UP: list[Running] = []


class _State:
    """What a program may ask its console. Callable from any thread."""

    _running: Running | None = None

    @property
    def is_accepting(self) -> bool:
        """Whether new sessions are accepted: the console is started and is not stopping."""
        return self._running is not None and self._running.registry.is_accepting

    @property
    def listeners(self) -> list[Listener]:
        """The listeners, one for each address."""
        return list(self._running.listeners) if self._running is not None else []

    @property
    def addresses(self) -> list[Address]:
        """The addresses of the listeners. Port 0 is replaced by the real port."""
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
        """Bytes that the Lua state holds; 0 if the console is not started."""
        return self._running.runtime.memory.used() if self._running is not None else 0

    @property
    def metrics_address(self) -> Address | None:
        """The address that serves metrics, with the real port; None if there is none."""
        metrics = self._running.metrics if self._running is not None else None
        return metrics.address if metrics is not None else None


class Console(_State):
    """An admin console inside a program, or alone.

    It patches nothing. In a gevent program it runs in the event loop of the thread that starts it, in other programs in a
    thread of its own. One more thread only watches that event loop, and logs what blocks it.

    Longer than usual: it is the public interface, and half of it is documentation.

    Args:
        listen: addresses (`'127.0.0.1:3313'`, `'unix:/run/app.sock'`) or mappings with the keys of a listener in the
            config file. Replaces `listen` of `config`.
        expose: values that statements find as globals, by name: Python functions, objects (their public methods, called as
            `name.method(...)`), mappings of functions, `Live(value)` for data that statements read and change in place, or
            other data, which is copied. Arguments and results are copied, too. Functions run in the session's greenlet and
            may switch; exceptions become Lua errors.
        config: the path of a config file, its content as a mapping, or settings that were read already.
        triggers: False runs no triggers of box.session: the way in if a trigger locks everyone out.
        sockets: listening sockets, as systemd passes them. A listener whose address equals a socket's address uses that
            socket and leaves its file alone. The caller closes the sockets.
        thread: True runs the console, and the functions of `expose`, in a thread with an event loop of its own; False in
            the event loop of the thread that calls start(). None: in a thread of its own if asyncio runs in the calling
            thread, or if the program does not use gevent; unless serve_forever() starts the console.
        languages: `languages` of the listeners in `listen` that do not say it themselves: what their sessions may use, and
            begin in. Python cannot be sandboxed: see docs/security.rst.
        namespace: the objects that statements in Python find, by name. They get the objects themselves, not copies, and use
            them in the console's thread: `call_in` and `expose` have no effect on them.
        call_in: where the functions of `expose` and the commands run instead: an asyncio loop, which may also run
            coroutine functions, or an executor of concurrent.futures. With `thread=None` the default is the asyncio loop
            that runs in the thread that calls start().

    Raises:
        ConfigError: a setting is wrong, or clients could use Python who must not.
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(self, listen: str | Mapping | Iterable[str | Mapping] | None = None,
                 expose: Mapping[str, Any] | None = None,
                 config: str | os.PathLike | Mapping | reader.Config | None = None, *, triggers: bool = True,
                 sockets: Iterable[Any] = (), thread: bool | None = None, call_in: Any = None,
                 languages: Iterable[str] | None = None, namespace: Mapping[str, Any] | None = None):
        if isinstance(listen, (str, Mapping)):
            listen = [listen]
        if languages is not None:
            if listen is None:
                raise ValueError('languages is for the listeners in listen, which was not given: set `languages` of the '
                                 'listeners in config')
            languages = languages if isinstance(languages, str) else list(languages)
            listen = [_speaking(listener, languages) for listener in listen]
        if expose is not None and not isinstance(expose, Mapping):
            raise TypeError('expose must be a mapping of names to functions, objects or data, not a '
                            f'{type(expose).__name__}')
        self._listen = reader.read({'listen': list(listen)}, 'listen').listen if listen is not None else None
        self.config = self._read(config)
        self.settings = dict(self.config.values)    # in force, by dotted name; never replaced: other parts share this dict
        self._expose = dict(expose or {})
        self._namespace = checked_namespace(namespace)
        self._triggers = triggers
        self._sockets = list(sockets)
        self._thread = thread
        self._call_in = call_in
        caller_in(call_in)                          # raises if it is neither
        self._commands = Commands()
        self._reset()

    def _reset(self):
        self._reloads = BoundedSemaphore()          # one at a time
        self._place: Place | None = None
        self._guard: ForkGuard | None = None
        self._running = None
        self._stopped = Event()
        self._stopped.set()

    def _read(self, config) -> reader.Config:
        if config is None or isinstance(config, Mapping):
            config = reader.read(config or {})
        elif not isinstance(config, reader.Config):
            config = reader.load(config)
        return config if self._listen is None else replace(config, listen=self._listen)

    def command(self, function: Callable | None = None, name: str | None = None, access: str = 'execute') -> Callable:
        r"""Adds a backslash command to the text console: `\name ARGUMENT...`. Works before and after the start, and as a
        decorator with or without arguments.

        The annotations of the parameters give the types: str, int, float, bool (typed as on or off), `typing.Literal` of
        these, or one of these or None. A parameter without an annotation is a str. Parameters with a default are optional,
        `*args` takes the remaining words. Words are split as a shell splits them. The docstring is the command's help. The
        function runs as an exposed function does, and its result is shown in the same way.

        Args:
            function: called by the command. Without it, a decorator is returned.
            name: the name after the backslash: letters, digits, - and _. By default the function's name.
            access: who may call it besides admin, users with `execute` on universe, and users with `execute` on the
                command: 'execute' allows nobody else, 'read' allows users with `read` on universe.

        Returns:
            The function, or a decorator.

        Raises:
            ValueError: the name is invalid or taken, or a parameter has a type that cannot be typed into a console.
        """
        if function is None:
            return lambda function: self.command(function, name, access)
        self._commands.add(function, name, access)
        if self._running is not None:
            self._call(self._running.runtime.commands_changed)
        return function

    def start(self, ready: Callable[[], None] = lambda: None) -> None:
        """Runs the init script, then accepts clients in greenlets, and returns. If it raises, nothing listens. `ready` is
        called before the line of the log that tells of the start.

        Raises:
            RuntimeError: the console is already started.
            ConfigError: an open listener would let everyone run code, a user of a listener does not exist, or
                metrics.address is set and prometheus-client is not installed.
            ListenError: an address is taken or invalid, or its TLS files cannot be used.
            StoreError: the users cannot be read.
            ScriptError: the init script failed.
            BoxsessionError: the audit file cannot be opened, or a passed socket has no listener.
        """
        has_own_thread = is_without_gevent() if self._thread is None else self._thread
        self._start(has_own_thread, running_asyncio_loop() if self._thread is None else None, ready)

    def _start(self, has_own_thread, call_in=None, ready=lambda: None):
        give_up_inherited()
        if self._running is not None:
            raise RuntimeError('the console is already started')
        place = Place(has_own_thread)
        try:
            place.call(self._run, place, call_in if self._call_in is None else self._call_in, ready)
        except BaseException:
            place.end()
            raise

    def _run(self, place, call_in, ready):
        config = _for_this_process(self.config)
        # Live settings keep the values in force, which box.cfg may have changed before a stop.
        self.settings.update({setting.name: config[setting.name] for setting in table.SETTINGS if not setting.is_live})
        self._running = Running(config, self.settings, self._expose, self._triggers, self._sockets,
                                self._commands, call_in, self._namespace)
        self._place = place
        self._guard = ForkGuard(place.hub, self._give_up)
        atexit.register(self._at_exit)
        self._stopped.clear()
        ready()
        tell_started(self._running, config)

    def _call(self, function, *args):
        """Calls a function in the console's event loop."""
        return function(*args) if self._place is None else self._place.call(function, *args)

    def _give_up(self):
        """In a forked child: the console is not started here."""
        running = self._running
        if running is not None:
            _GIVEN_UP.append(running)
            running.give_up()
        self._reset()

    def stop(self, reason: str = 'Console.stop() was called') -> None:
        """Stops accepting, lets running statements finish for up to limits.drain_seconds, then ends all sessions.

        When it returns, the on_disconnect triggers of every session have run. Stopping twice is no error. It logs `reason`.
        Callable from any greenlet and from any thread.

        Raises:
            BoxsessionError: the event loop of the console does not run, so nothing can be stopped.
        """
        give_up_inherited()
        place = self._place
        if self._running is not None and place is not None:
            place.call(self._end, reason)
            place.end()

    def _at_exit(self):
        """The program ends without a stop(). Its own event loop may be unusable: then only socket files are removed."""
        give_up_inherited()
        if self._running is not None and self._place is not None:
            if self._place.has_own_thread:
                self.stop('the program ends')
            for listener in self.listeners:
                listener.remove_file()

    def _end(self, reason):
        running = self._running
        if running is not None:
            running.stop(reason)
            if self._guard is not None:
                self._guard.end()
            atexit.unregister(self._at_exit)
            self._running = self._place = self._guard = None
            self._stopped.set()

    def serve_forever(self) -> None:
        """Starts the console if it is not started, and returns when another greenlet or thread has stopped it."""
        if self._running is None:
            self._start(bool(self._thread))         # this thread runs the event loop
        if self._place is not None and self._place.has_own_thread:
            self._place.join()
        else:
            self._stopped.wait()

    def reload(self, config: str | os.PathLike | Mapping | reader.Config) -> list[str]:
        """Puts changed settings in force while the console runs: all of them, or none.

        It opens and closes listeners; live sessions stay. Settings are compared with those loaded last: a setting that is
        equal keeps the value in force, even if box.cfg has changed that value. Concurrent reloads run one after the other.
        A successful reload logs one line.

        Args:
            config: as in the constructor; a missing setting has its default. If the constructor got `listen`, that stays
                in force and `listen` of `config` is ignored.

        Returns:
            The names of the changed settings. The entry for `listen` also says which addresses changed, and how.

        Raises:
            ConfigError: a setting is wrong.
            ListenError: an address is taken or invalid, or its TLS files cannot be used.
            BoxsessionError: a file cannot be opened, or the console is not running or is stopping.
        """
        return self._call(self._reload, config)

    def _reload(self, config):
        with self._reloads:
            running = self._running
            if running is None or not running.registry.is_accepting:
                raise BoxsessionError('the console is not running, or is stopping: nothing was reloaded')
            new = self._read(config)
            names = reload(running, self.config.for_process(os.getpid()), _for_this_process(new))
            self.config = new
            return names

    def serve_metrics(self, address: str | None) -> None:
        """Serves metrics at `address` instead of the former one; None: nowhere. If it raises, the former one stays in use.

        Raises:
            RuntimeError: the console is not started.
            ConfigError: prometheus-client is not installed.
            ListenError: the address is taken or invalid.
        """
        if self._running is None:
            raise RuntimeError('the console is not started')
        self._call(self._running.serve_metrics, address)

    def reopen_logs(self) -> None:
        """Reopens the log and audit files, after they were rotated."""
        logs.reopen()
        if self._running is not None:
            self._call(self._running.audit.reopen)


def _speaking(listener, languages):
    """The settings of a listener, with `languages` if they have none and are of a text console."""
    if isinstance(listener, str):
        listener = {'address': listener}
    if isinstance(listener, Mapping) and 'languages' not in listener and listener.get('protocol', 'console') == 'console':
        listener = {**listener, 'languages': languages}
    return listener


def _for_this_process(config: reader.Config) -> reader.Config:
    """The settings with the process id in their addresses. Removes socket files that dead processes have left there."""
    for path in config.socket_paths():
        remove_those_of_dead(path)
    return config.for_process(os.getpid())
