"""One listening address: binding it, accepting clients, changing its settings, closing it."""
from __future__ import annotations

import logging
import os
import stat
import struct
from collections.abc import Callable
from typing import Any

from gevent import monkey, socket

from boxsession.base.address import Address
from boxsession.base.errors import ListenError
from boxsession.base.inherited import own
from boxsession.net.acceptor import BACKLOG, Acceptor
from boxsession.net.socket_file import SocketFile
from boxsession.net.tls import tls_context, tls_digest
from boxsession.scheduler.turns import Turns
from boxsession.settings.table import ListenerConfig

__all__ = ['Listener', 'is_at', 'peer_process']

log = logging.getLogger('boxsession')

_plain_socket = monkey.get_original('socket', 'socket')
_plain_getaddrinfo = monkey.get_original('socket', 'getaddrinfo')


class Listener:
    """One listening address, with a greenlet for each client that connects to it.

    Args:
        config: the address and its settings.
        serve: called as serve(socket, peer address, listener) in the client's greenlet. The socket is plain and
            non-blocking; `serve` closes it.
        turns: the scheduler for accepting clients; None accepts them at once.
        acceptor: makes the acceptor of a socket, for this listener.

    Attributes:
        address: the address; once bound, with the real port.
        is_inherited: whether the socket was passed to the program (by systemd, for example).
        is_temporary: whether it was opened while the console ran, by no setting. Reloads keep it.
        tls: the TLS context; None without TLS.

    Raises:
        ListenError: a file of `tls` cannot be used.
    """

    def __init__(self, config: ListenerConfig, serve: Callable, turns: Turns | None = None,
                 acceptor: Callable[[Any, Any], Any] = Acceptor):
        self.config = config
        self._acceptor = acceptor
        self._serve = serve
        self.turns = turns
        self._server: Any = None                        # an Acceptor, or what `acceptor` makes
        self._file: SocketFile | None = None            # None for TCP and for inherited sockets
        self.address = config.address
        self.is_inherited = False
        self.is_temporary = False
        self._tls_digest = tls_digest(config.tls) if config.tls else b''
        self.tls = tls_context(config.tls, config.address) if config.tls else None

    def bind(self, shares_port: bool = False) -> None:
        """Binds the address and listens. start() begins to accept.

        Args:
            shares_port: another listener of this process has the port at an overlapping address, and shares it by
                lend_port().

        Raises:
            ListenError: the address is taken or invalid.
        """
        address = self.config.address
        try:
            if address.path:
                self._file = SocketFile(self.config)
            sock = self._file.sock if self._file is not None else self._bind_tcp(address, shares_port)
        except OSError as error:
            raise ListenError(address, error.strerror or str(error)) from None
        self._server = self._acceptor(sock, self)

    def inherit(self, sock: Any) -> None:
        """Uses a copy of a socket that already listens on the address. Never changes or removes its socket file."""
        self.is_inherited = True
        mine = socket.socket(fileno=sock.dup().detach())
        if mine.family == socket.AF_UNIX:
            self._look_at_rights()
        else:
            self.address = Address(host=self.config.address.host, port=mine.getsockname()[1])
        self._server = self._acceptor(mine, self)

    def _look_at_rights(self):
        """Warns if the mode of an inherited socket file allows more than the setting. The file is systemd's to change."""
        mode = stat.S_IMODE(os.stat(self.config.address.path).st_mode)
        if mode & ~self.config.mode and not self.config.peers:
            log.warning('%s has mode %04o, which lets in more users than the setting `mode`, %04o: set SocketMode= in the '
                        'socket unit', self.config.address, mode, self.config.mode)

    def _bind_tcp(self, address, shares_port):
        family, kind, proto, _, name = _resolve(address)
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shares_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(name)
            sock.listen(BACKLOG)
            if shares_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        except OSError:
            sock.close()
            raise
        self.address = Address(host=address.host, port=sock.getsockname()[1])
        return sock

    @property
    def _bound(self) -> Any:
        assert self._server is not None, 'bind() or inherit() must be called first'
        return self._server

    @property
    def sock(self) -> Any:
        """The listening socket."""
        return self._bound.socket

    def lend_port(self, lends: bool) -> None:
        """Sets whether another socket of this process may bind the same port at another address (SO_REUSEPORT)."""
        self._bound.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(lends))

    def start(self) -> None:
        """Begins to accept. Starting twice is no error."""
        if not self._bound.started:
            self._bound.start()

    def stop(self) -> None:
        """Stops accepting and releases the address. Connected clients stay. Stopping twice is no error."""
        if self._server is None:
            return
        self.remove_file()
        self._server.close()
        self._server.begin_all()
        self._server = None

    def remove_file(self) -> None:
        """Removes its socket file, if it has made one."""
        if self._file is not None:
            self._file.remove()
            self._file = None

    @property
    def has_lost_its_file(self) -> bool:
        """Whether its socket file was removed or replaced: then no client can connect any more."""
        return self._file is not None and not self._file.is_there()

    # Other settings for the same address

    def is_as(self, config: ListenerConfig) -> bool:
        """Whether `config` changes nothing, and its TLS files have the same content as when they were loaded."""
        return config == self.config and not (config.tls and tls_digest(config.tls) != self._tls_digest)

    def tighten(self, config: ListenerConfig) -> Callable[[], None]:
        """Prepares a change of the rights of the socket file. Clients that have connected are accepted with the old
        settings. From now until take_over(), only clients that both the old and the new rights allow can connect.

        Returns:
            A function that restores the old rights.

        Raises:
            ListenError: the owner, group or mode cannot be changed, or the waiting clients cannot be accepted.
        """
        if self._file is None or not self._file.is_there():         # no file, or one that systemd made
            return lambda: None
        path = config.address.path
        found = os.stat(path)
        is_same_owner = (config.owner, config.group) == (self.config.owner, self.config.group)

        def put_back():
            os.chown(path, found.st_uid, found.st_gid)
            os.chmod(path, stat.S_IMODE(found.st_mode))

        try:
            os.chmod(path, stat.S_IMODE(found.st_mode) & config.mode if is_same_owner else 0)
            if not is_same_owner:
                os.chown(path, os.geteuid() if config.owner is None else config.owner,
                         os.getegid() if config.group is None else config.group)
            self._bound.accept_waiting()
        except OSError as error:
            put_back()
            raise ListenError(config.address, error.strerror or str(error)) from None
        return put_back

    def take_over(self, old: Listener) -> None:
        """Takes over the socket of `old`, which has the same address. Clients accepted before keep the old settings."""
        if old._acceptor == self._acceptor:
            self._server, old._server = old._bound, None
        else:
            self._server = self._acceptor(socket.socket(fileno=os.dup(old.sock.fileno())), self)
            old._bound.close()
            old._bound.begin_all()
            old._server = None
        self._file, self.address, self.is_inherited = old._file, old.address, old.is_inherited
        self._server.listener = self
        if self._file is not None and self._file.is_there():
            try:
                os.chmod(self.config.address.path, self.config.mode)
            except OSError as error:
                log.error('cannot set the mode of %s: %s', self.config.address, error.strerror)

    def accepted(self, sock, peer) -> None:
        """The body of a client's greenlet: prepares the socket and calls `serve`."""
        plain = own(_plain_socket(fileno=sock.detach()))
        plain.setblocking(False)
        if plain.family != socket.AF_UNIX:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Finds a client that vanished without closing after about a minute, even while its statement waits.
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (('TCP_KEEPIDLE', 30), ('TCP_KEEPINTVL', 10), ('TCP_KEEPCNT', 3)):
                if hasattr(socket, option):
                    plain.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self._serve(plain, peer, self)


def is_at(sock: Any, address: Address) -> bool:
    """Whether a socket is bound to `address`."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX or address.path:
        return bool(address.path and sock.family == socket.AF_UNIX and name and isinstance(name, str)
                    and os.path.realpath(name) == os.path.realpath(address.path))
    try:
        family, *_, wanted = _resolve(address)
    except socket.gaierror:
        return False
    return (family, wanted[:2]) == (sock.family, name[:2])


def peer_process(sock: Any) -> tuple[int, int]:
    """The uid and the pid of the process that connected to a unix socket."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize('3i'))
    pid, uid, _ = struct.unpack('3i', credentials)
    return uid, pid


def _resolve(address: Address):
    """The first result of getaddrinfo(). Only a host name needs gevent's resolver, which waits in a thread."""
    arguments = {'type': socket.SOCK_STREAM, 'flags': socket.AI_PASSIVE | socket.AI_NUMERICHOST}
    try:
        return _plain_getaddrinfo(address.host, address.port, **arguments)[0]
    except socket.gaierror:
        arguments['flags'] = socket.AI_PASSIVE
        return socket.getaddrinfo(address.host, address.port, **arguments)[0]
