"""Admits clients: checks the limit of sessions, and finds the user of a new session."""
from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from boxsession.base.address import is_local_peer, peer_text
from boxsession.base.counters import Counters
from boxsession.base.errors import StoreError
from boxsession.net.listener import Listener, peer_process
from boxsession.net.tls import Handshakes, TLSTunnel
from boxsession.operations import logs
from boxsession.sessions.registry import Registry
from boxsession.users.accounts import Accounts

__all__ = ['Admission']

log = logging.getLogger('boxsession')

# Maximum input that is read from a refused client, in bytes.
_UNREAD_BYTES = 1 << 16
# Sessions that are reserved for clients on unix sockets.
_KEPT_PLACES = 3

_REFUSED = '---\n- error: %s\n...\n'
_FULL = "'too many sessions: the limit is %d (limits.sessions)'"


class Admission:
    """Admits clients.

    Args:
        settings: the settings in force, by dotted name.
        listens_on_unix: returns whether a listener is a unix socket. Then some sessions are reserved for its clients.

    Attributes:
        handshakes: the clients that are in a TLS handshake.
    """

    def __init__(self, registry: Registry, accounts: Accounts, counters: Counters, settings: Mapping[str, Any],
                 listens_on_unix: Callable[[], bool]):
        self.handshakes = Handshakes(settings)
        self._registry = registry
        self._accounts = accounts
        self._counters = counters
        self._settings = settings
        self._listens_on_unix = listens_on_unix

    def accept(self, sock: Any, peer: Any, listener: Listener) -> None:
        """The body of a new client's greenlet. Listeners start it."""
        if not self._registry.is_accepting:     # stop() was called meanwhile
            _close_stopping(sock, peer, listener)
            return
        hits, limit = self._counters.hits, self._settings['limits.sessions']
        count = len(self._registry) + len(self.handshakes)
        if limit and count >= limit - self._kept_places(listener, limit):
            hits['limits.sessions'] += 1
            hits['refused.limit'] += 1
            log.warning('refused a session of %s at %s: %d are open (limits.sessions)', _where(sock, peer),
                        listener.address, count, extra=logs.origin(peer))
            _refuse(sock, listener, _FULL % limit)
            return
        tunnel = None
        try:
            if listener.tls is not None:
                tunnel = self.handshakes.tunnel(sock, listener.tls)
                sock = tunnel.sock
                # The handshake has waited: check again.
                if not self._registry.is_accepting:
                    _close_stopping(sock, peer, listener)
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
        """The number of sessions that are reserved for unix sockets, so that an admin can always connect."""
        if listener.address.path or not self._listens_on_unix():
            return 0
        return min(_KEPT_PLACES, limit // 4)

    def _begin(self, sock, peer, listener, tunnel):
        name, problem = _user_of(sock, listener, tunnel)
        if name and self._accounts.access.user(name) is None:
            with suppress(StoreError):
                self._accounts.refresh()        # `boxsession passwd --create` may have made the user
        access = self._accounts.access
        user = access.user(name) if name else None
        if name and user is None:
            problem = f'the user {name} does not exist any more'
        elif user and not access.may_log_in(user.id) and not _can_log_in(listener):
            problem = f"Session access to universe '''' is denied for user ''{name}''"
        if user is None or problem:
            self._counters.hits['refused.user'] += 1
            log.warning('refused %s at %s: %s', _where(sock, peer), listener.address, problem, extra=logs.origin(peer))
            _refuse(sock, listener, f"'{problem}'")
            return
        is_private = tunnel is not None or is_local_peer(peer)
        self._registry.begin(sock, peer, listener, user, is_private=is_private, may_sleep=tunnel is None)


def _refuse(sock, listener, message):
    """Closes the connection of a refused client. A client of the text protocol gets an error first."""
    try:
        if listener.config.protocol == 'console':
            sock.send((_REFUSED % message).encode())
            sock.shutdown(socket.SHUT_WR)
            sock.recv(_UNREAD_BYTES)            # a close with unread input is a reset, which may destroy the error
    except OSError:
        pass
    sock.close()


def _close_stopping(sock, peer, listener):
    log.info('refused %s at %s: the console is stopping', _where(sock, peer), listener.address, extra=logs.origin(peer))
    sock.close()


def _where(sock, peer) -> str:
    """The client's address, and its process on a unix socket, for log lines."""
    if isinstance(peer, tuple):
        return peer_text(peer)
    return '%s, uid %d, pid %d' % (peer_text(peer), *peer_process(sock))


def _can_log_in(listener) -> bool:
    """Whether clients of a listener may connect as a user that may not log in, and then log in as another. As in Tarantool,
    the privilege `session` counts at a login only."""
    return listener.config.protocol == 'binary' and listener.config.peers is None


def _user_of(sock, listener, tunnel: TLSTunnel | None):
    """The name of a new session's user and None; or no name and the reason for the refusal."""
    peers = listener.config.peers
    if peers is None:
        return listener.config.user, None
    if tunnel is not None:
        return peers.get(tunnel.name), None if tunnel.name in peers else f'{tunnel.name} may not connect here (peers)'
    uid, _ = peer_process(sock)
    return peers.get(uid), None if uid in peers else f'uid {uid} may not connect here (peers)'
