"""Who comes in: whether there is a place for a client, and whose session it begins."""
from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any

from boxsession.base.address import is_local_peer, peer_text
from boxsession.base.counters import Counters
from boxsession.net.listener import Listener, peer_uid
from boxsession.net.tls import Handshakes, TLSTunnel
from boxsession.operations import logs
from boxsession.sessions.registry import Registry
from boxsession.users.accounts import Accounts

__all__ = ['Admission']

log = logging.getLogger('boxsession')

_UNREAD_BYTES = 1 << 16
_KEPT_PLACES = 3

_REFUSED = '---\n- error: %s\n...\n'
_FULL = "'too many sessions: the limit is %d (limits.sessions)'"


class Admission:
    """Lets clients in.

    Args:
        settings: those in force, by dotted name.
        listens_on_unix: whether one of the listeners is a unix socket, for whose clients the last places are kept.

    Attributes:
        handshakes: the clients that are in TLS's.
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
        """The body of a client's greenlet, for listeners."""
        if not self._registry.is_accepting:     # it came in the very moment of stop()
            sock.close()
            return
        hits, limit = self._counters.hits, self._settings['limits.sessions']
        count = len(self._registry) + len(self.handshakes)
        if limit and count >= limit - self._kept_places(listener, limit):
            hits['limits.sessions'] += 1
            hits['refused.limit'] += 1
            log.warning('refused a session: %d are open (limits.sessions)', count, extra=logs.origin(peer))
            _refuse(sock, listener, _FULL % limit)
            return
        tunnel = None
        try:
            if listener.tls is not None:
                tunnel = self.handshakes.tunnel(sock, listener.tls)
                sock = tunnel.sock
                # Others came in meanwhile.
                if not self._registry.is_accepting:
                    sock.close()
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
        """How many of the last places this listener's clients may not take: an admin on a unix socket gets in."""
        if listener.address.path or not self._listens_on_unix():
            return 0
        return min(_KEPT_PLACES, limit // 4)

    def _begin(self, sock, peer, listener, tunnel):
        access = self._accounts.access
        name, problem = _user_of(sock, listener, tunnel)
        user = access.user(name) if name else None
        if name and user is None:
            problem = f'there is no user {name} any more'
        elif user and not access.may_log_in(user.id):
            problem = f"Session access to universe '''' is denied for user ''{name}''"
        if user is None or problem:
            self._counters.hits['refused.user'] += 1
            log.warning('refused %s at %s: %s', peer_text(peer), listener.address, problem, extra=logs.origin(peer))
            _refuse(sock, listener, f"'{problem}'")
            return
        is_private = tunnel is not None or is_local_peer(peer)
        self._registry.begin(sock, peer, listener, user, is_private=is_private, may_sleep=tunnel is None)


def _refuse(sock, listener, message):
    """Ends a connection that does not become a session, with an error where text is spoken."""
    try:
        if listener.config.protocol == 'console':
            sock.send((_REFUSED % message).encode())
            sock.shutdown(socket.SHUT_WR)
            sock.recv(_UNREAD_BYTES)            # with unread input a close is a reset, which may overtake the error
    except OSError:
        pass
    sock.close()


def _user_of(sock, listener, tunnel: TLSTunnel | None):
    """Who a session begins as, by name, or why it does not begin."""
    peers = listener.config.peers
    if peers is None:
        return listener.config.user, None
    if tunnel is not None:
        return peers.get(tunnel.name), None if tunnel.name in peers else f'nobody is {tunnel.name} here (peers)'
    uid = peer_uid(sock)
    return peers.get(uid), None if uid in peers else f'uid {uid} may not connect here (peers)'
