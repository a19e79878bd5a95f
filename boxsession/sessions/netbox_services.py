"""Services for net.box (lua/library/net_box.lua): connections to servers of the binary protocol, by number."""
from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

from boxsession.base.address import Address
from boxsession.base.session import described_caller
from boxsession.protocol import peer
from boxsession.sessions.caller import Console, caller_id
from boxsession.sessions.netbox import Remote

__all__ = ['NetBoxServices']

log = logging.getLogger('boxsession')

_GONE = peer.Response('error', 0, message=b'Connection closed', code=77)


class NetBoxServices:
    """The services for connections. `seconds` is a maximum time; None for no maximum."""

    def __init__(self, running: Console):
        self._running = running

    def table(self) -> dict[str, Any]:
        """The services, by name."""
        return {'netbox_open': self.open, 'netbox_state': self.state, 'netbox_ask': self.ask, 'netbox_wait': self.wait,
                'netbox_discard': self.discard, 'netbox_wait_state': self.wait_state, 'netbox_event': self.event,
                'netbox_close': self.close}

    def _remote(self, number: int) -> Remote | None:
        return self._running.registry.remotes.get(number)

    def open(self, host: str, port: str, user: str, password: str | bytes, connect_seconds: float | None,
             reconnect_seconds: float | None) -> int:
        """Begins to connect. Returns the connection's number.

        Raises:
            StatementError: too many connections are open.
        """
        try:
            address = Address(path=port) if host == 'unix/' else Address(host=host or '127.0.0.1', port=int(port))
        except ValueError:
            address = Address(host='', port=0)          # connecting fails with its reason, as in Tarantool
        if isinstance(password, bytes):
            password = password.decode(errors='surrogateescape')
        number, _ = self._running.registry.remotes.open(
            caller_id(), partial(Remote, address, user, password, connect_seconds, reconnect_seconds))
        log.info('net.box: %s connects to %s', described_caller(), address)
        return number

    def state(self, number: int) -> dict[str, Any]:
        """The state of a connection, the reason why it is not active, and what the server's greeting tells."""
        remote = self._remote(number)
        if remote is None:
            return {'state': 'closed', 'error': 'Connection closed'}
        return {'state': remote.state, 'error': remote.reason or None, **remote.server}

    def ask(self, number: int, kind: str, name: str | bytes, arguments: str | bytes, seconds: float | None) -> Any:
        """Sends a request. Returns its number, or an error as wait() does."""
        remote = self._remote(number)
        if remote is None:
            return _told(_GONE)
        if isinstance(name, bytes):
            name = name.decode(errors='surrogateescape')
        asked = remote.ask(kind, name, _as_bytes(arguments), _deadline(seconds))
        return asked if isinstance(asked, int) else _told(asked)

    def wait(self, number: int, sync: int, seconds: float | None, is_kept: bool) -> dict[str, Any] | None:
        """The next push or the response of a request; None if it is too late.

        Args:
            is_kept: the request stays if it is too late, or if the statement is cancelled.
        """
        remote = self._remote(number)
        if remote is None:
            return _told(_GONE)
        response = None
        try:
            response = remote.requests.wait(sync, _deadline(seconds))
        finally:
            if response is None and not is_kept:
                remote.requests.discard(sync)
        return None if response is None else _told(response)

    def discard(self, number: int, sync: int) -> None:
        """Forgets a request."""
        remote = self._remote(number)
        if remote is not None:
            remote.requests.discard(sync)

    def wait_state(self, number: int, states: list[str], seconds: float | None) -> bool:
        """Waits for one of some states. False if it is too late, or in vain."""
        remote = self._remote(number)
        return remote.wait_for(states, _deadline(seconds)) if remote is not None else 'closed' in states

    def event(self, number: int) -> str | None:
        """Waits for a connect or disconnect; None after the last one."""
        remote = self._remote(number)
        return remote.next_event() if remote is not None else None

    def close(self, number: int) -> None:
        """Closes a connection."""
        remote = self._remote(number)
        if remote is not None:
            remote.close()


def _deadline(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


def _as_bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _told(response: peer.Response) -> dict[str, Any]:
    """A response for Lua. Its values stay msgpack, which Lua decodes in its own turns."""
    told: dict[str, Any] = {'kind': response.kind, 'data': response.data}
    if response.kind == 'error':
        told |= {'message': response.message, 'code': response.code, 'type': response.type}
    return told
