"""All addresses that a console listens on."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
        serve: called with each client, as `Listener` has it.
        turns: the scheduler in which clients are accepted.
        sockets: those that were passed to the program: a listener of such an address takes one over.
    """

    def __init__(self, serve: Callable, turns: Turns, sockets: Iterable[Any]):
        self._serve = serve
        self._turns = turns
        self._sockets = list(sockets)
        self._all: list[Listener] = []

    def __iter__(self) -> Iterator[Listener]:
        return iter(list(self._all))

    @property
    def has_unix(self) -> bool:
        """Whether one of them is a unix socket."""
        return any(listener.address.path for listener in self._all)

    def check_sockets(self, configs: Iterable[ListenerConfig]) -> None:
        """Each socket that was passed has a listener.

        Raises:
            BoxsessionError: one has none.
        """
        wanted = [config.address for config in configs]
        for sock in self._sockets:
            if not any(is_at(sock, address) for address in wanted):
                place = socket_text(sock.getsockname())
                raise BoxsessionError(f'a socket was passed that listens on {place}, and no listener has that address '
                                      f'({", ".join(map(str, wanted))}): let `listen` and the socket unit name the same')

    def new(self, config: ListenerConfig) -> Listener:
        """A listener that has no address yet, and is none of these.

        Raises:
            ListenError: what `tls` names cannot be used.
        """
        return Listener(config, self._serve, self._turns)

    def bound(self, config: ListenerConfig, shares_port: bool = False) -> Listener:
        """A listener that has its address, does not accept yet, and is none of these.

        Raises:
            ListenError: it cannot be had.
        """
        listener = self.new(config)
        for sock in self._sockets:
            if is_at(sock, config.address):
                listener.inherit(sock)
                return listener
        listener.bind(shares_port)
        return listener

    def add(self, config: ListenerConfig) -> Listener:
        """One more that has its address, and does not accept yet.

        Raises:
            ListenError: it cannot be had.
        """
        listener = self.bound(config)
        self._all.append(listener)
        return listener

    def remove(self, listener: Listener) -> None:
        """Gives one address back; the sessions that came by it stay."""
        listener.stop()
        if listener in self._all:
            self._all.remove(listener)

    def replace(self, listeners: list[Listener]) -> None:
        """Accepts by these, which have their sockets, and by the temporary ones. The others give their addresses back."""
        listeners = [*listeners, *[listener for listener in self._all if listener.is_temporary]]
        for listener in self._all:
            if listener not in listeners:
                listener.stop()
        self._all[:] = listeners
        for listener in listeners:
            listener.start()

    def stop(self) -> None:
        """Accepts no more, and gives all addresses back."""
        for listener in self._all:
            listener.stop()

    def close(self) -> None:
        """The same; from now on there are none."""
        self.stop()
        self._all.clear()
