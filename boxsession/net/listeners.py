"""All listeners of a console."""
from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from boxsession.base.address import socket_text
from boxsession.base.errors import BoxsessionError
from boxsession.net.listener import Listener, is_at
from boxsession.scheduler.turns import Turns
from boxsession.settings.table import ListenerConfig

__all__ = ['Listeners']


class Listeners:
    """The listeners of one console.

    Args:
        serve: called with each client, as in `Listener`.
        turns: the scheduler for accepting clients.
        sockets: listening sockets that were passed to the program. A listener with the same address uses one of them.
        rescue: makes the acceptor of a rescue listener.
    """

    def __init__(self, serve: Callable, turns: Turns, sockets: Iterable[Any], rescue: Callable[[Any, Any], Any]):
        self._serve = serve
        self._turns = turns
        self._sockets = list(sockets)
        self._rescue = rescue
        self._all: list[Listener] = []

    def __iter__(self) -> Iterator[Listener]:
        return iter(list(self._all))

    @property
    def has_unix(self) -> bool:
        """Whether one of the addresses is a unix socket that sessions of statements come from."""
        return any(listener.address.path and listener.config.protocol != 'rescue' for listener in self._all)

    def check_sockets(self, configs: Iterable[ListenerConfig]) -> None:
        """Checks that each passed socket has a listener.

        Raises:
            BoxsessionError: a socket has none.
        """
        wanted = [config.address for config in configs]
        for sock in self._sockets:
            if not any(is_at(sock, address) for address in wanted):
                place = socket_text(sock.getsockname())
                raise BoxsessionError(f'a socket was passed that listens on {place}, but no listener has that address: '
                                      f'`listen` has {", ".join(map(str, wanted))}. Use the same address in `listen` and '
                                      'in the socket unit')

    def in_force(self, config: ListenerConfig) -> ListenerConfig:
        """The settings of a listener, with the mode of the file if its socket was passed: the file is left alone then."""
        if config.address.path and any(is_at(sock, config.address) for sock in self._sockets):
            with suppress(OSError):         # nobody can connect by a file that was removed
                return replace(config, mode=stat.S_IMODE(os.stat(config.address.path).st_mode))
        return config

    def new(self, config: ListenerConfig) -> Listener:
        """Makes a listener that is not bound. It is not added to these.

        Raises:
            ListenError: a file of `tls` cannot be used.
        """
        acceptor = {'acceptor': self._rescue} if config.protocol == 'rescue' else {}
        return Listener(config, self._serve, self._turns, **acceptor)

    def bound(self, config: ListenerConfig, shares_port: bool = False) -> Listener:
        """Makes a bound listener that does not accept yet. It is not added to these.

        Raises:
            ListenError: the address is taken or invalid, or a file of `tls` cannot be used.
        """
        listener = self.new(config)
        for sock in self._sockets:
            if is_at(sock, config.address):
                listener.inherit(sock)
                return listener
        listener.bind(shares_port)
        return listener

    def add(self, config: ListenerConfig) -> Listener:
        """Makes a bound listener that does not accept yet, and adds it.

        Raises:
            ListenError: as bound().
        """
        listener = self.bound(config)
        self._all.append(listener)
        return listener

    def remove(self, listener: Listener) -> None:
        """Stops and removes a listener. Its sessions stay."""
        listener.stop()
        if listener in self._all:
            self._all.remove(listener)

    def replace(self, listeners: list[Listener]) -> None:
        """Uses these bound listeners, and the temporary ones, from now on: starts them, and stops all others."""
        listeners = [*listeners, *[listener for listener in self._all if listener.is_temporary]]
        for listener in self._all:
            if listener not in listeners:
                listener.stop()
        self._all[:] = listeners
        for listener in listeners:
            listener.start()

    def stop(self) -> None:
        """Stops accepting and releases all addresses."""
        for listener in self._all:
            listener.stop()

    def close(self) -> None:
        """Stops and forgets all listeners."""
        self.stop()
        self._all.clear()
