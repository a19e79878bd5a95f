"""Listening sockets: made with the rights they are to have, taken away without leftovers."""
from __future__ import annotations

import errno
import logging
import os
import stat
import struct
from collections.abc import Callable

from gevent import monkey, socket
from gevent.server import StreamServer

from boxsession.address import Address
from boxsession.config import ListenerConfig
from boxsession.errors import ListenError
from boxsession.tls import tls_context

__all__ = ['Listener', 'peer_uid']

log = logging.getLogger('boxsession')

_BACKLOG = 1024
_plain_socket = monkey.get_original('socket', 'socket')
_plain_getaddrinfo = monkey.get_original('socket', 'getaddrinfo')


class _Server(StreamServer):
    """Accepts. Where no more sockets are to be had it waits, longer each time, and says so once."""

    max_accept = 10         # at a time: a new session costs some tenths of a millisecond
    _EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._pause = 0.0

    def do_read(self):
        try:
            accepted = super().do_read()
        except OSError as error:
            if error.errno not in self._EXHAUSTED:
                raise
            if not self._pause:
                log.error('cannot accept: %s; trying again, in up to %g s', error.strerror, self.max_delay)
            self._pause = min(self.max_delay, self._pause * 2 or self.min_delay)
            self.stop_accepting()
            self._timer = self.loop.timer(self._pause)
            self._timer.start(self._start_accepting_if_started)
            return None
        if accepted and self._pause:
            self._pause = 0.0
            log.warning('accepting again')
        return accepted


class Listener:
    """One listening address, with a greenlet for each client that connects to it.

    Args:
        config: where and how.
        serve: called as serve(sock, peer address, listener) in the client's greenlet; the socket is plain and
            non-blocking, and serve's to close.
    """

    def __init__(self, config: ListenerConfig, serve: Callable):
        self.config = config
        self._serve = serve
        self._server: StreamServer | None = None
        self._inode: tuple[int, int] | None = None      # of our socket file
        self.address = config.address                   # with the port that was taken, once bound
        self.tls = tls_context(config.tls, config.address) if config.tls else None

    def bind(self) -> None:
        """Takes the address.

        Raises:
            ListenError: it cannot be had, with the reason and the address.
        """
        address = self.config.address
        try:
            sock = self._bind_unix(address.path) if address.path else self._bind_tcp(address)
        except OSError as error:
            raise ListenError(address, error.strerror or str(error)) from None
        self._server = _Server(sock, self._handle)

    def _bind_tcp(self, address):
        family, kind, proto, _, name = _resolve(address)
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(name)
            sock.listen(_BACKLOG)
        except OSError:
            sock.close()
            raise
        self.address = Address(host=address.host, port=sock.getsockname()[1])
        return sock

    def _bind_unix(self, path):
        config = self.config
        _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(path)
            # Nobody can connect before listen(): until then the rights are put right.
            if config.owner is not None or config.group is not None:
                os.chown(path, -1 if config.owner is None else config.owner,
                         -1 if config.group is None else config.group)
            os.chmod(path, config.mode)
            sock.listen(_BACKLOG)
            found = os.stat(path)
        except OSError:
            sock.close()
            raise
        self._inode = found.st_dev, found.st_ino
        return sock

    def start(self) -> None:
        """Begins to accept."""
        self._server.start()

    def stop(self) -> None:
        """Accepts no more and gives the address back. Live clients stay."""
        if self._server is None:
            return
        if self._inode is not None:
            self._remove_file()
        self._server.close()
        self._server = None

    def _remove_file(self):
        path, inode, self._inode = self.config.address.path, self._inode, None
        try:
            found = os.stat(path)
            if (found.st_dev, found.st_ino) == inode:
                os.unlink(path)
        except FileNotFoundError:
            pass

    def _handle(self, sock, peer):
        plain = _plain_socket(fileno=sock.detach())
        plain.setblocking(False)
        if plain.family != socket.AF_UNIX:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A client that is gone for good is known after about a minute, also while its statement waits.
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (('TCP_KEEPIDLE', 30), ('TCP_KEEPINTVL', 10), ('TCP_KEEPCNT', 3)):
                if hasattr(socket, option):
                    plain.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self._serve(plain, peer, self)


def peer_uid(sock) -> int:
    """The uid of the process at the other end of a unix socket."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize('3i'))
    return struct.unpack('3i', credentials)[1]


def _resolve(address: Address):
    """The first of getaddrinfo()'s answers. Only a name takes gevent's resolver, which waits in a thread."""
    arguments = {'type': socket.SOCK_STREAM, 'flags': socket.AI_PASSIVE | socket.AI_NUMERICHOST}
    try:
        return _plain_getaddrinfo(address.host, address.port, **arguments)[0]
    except socket.gaierror:
        arguments['flags'] = socket.AI_PASSIVE
        return socket.getaddrinfo(address.host, address.port, **arguments)[0]


def _remove_stale(path: str) -> None:
    """Removes a socket file that nobody listens on any more; anything else in the way is an error."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, 'a file that is no socket is in the way')
    except FileNotFoundError:
        return
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(1)
        probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
    except FileNotFoundError:
        pass
    else:
        raise OSError(errno.EADDRINUSE, 'another server is listening there')
    finally:
        probe.close()
