"""Listening sockets: made with the rights they are to have, taken away without leftovers."""
from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gevent
from gevent import monkey, socket
from gevent.server import StreamServer

from boxsession.base.address import Address
from boxsession.base.descriptors import is_kept
from boxsession.base.errors import ListenError
from boxsession.base.greenlets import UserGreenlet
from boxsession.net.tls import tls_context, tls_digest
from boxsession.scheduler.loop import PRIORITY
from boxsession.scheduler.turns import Account, Turns
from boxsession.settings.table import ListenerConfig

__all__ = ['Listener', 'is_at', 'peer_uid']

log = logging.getLogger('boxsession')

_BACKLOG = 1024
_READ = 1                       # libev's event mask
# How long a lock on the folder of a socket file is waited for, and how often it is looked at.
_LOCK_SECONDS, _LOCK_LOOK_SECONDS = 5.0, 0.01
_plain_socket = monkey.get_original('socket', 'socket')
_plain_getaddrinfo = monkey.get_original('socket', 'getaddrinfo')


class _Server(StreamServer):
    """Accepts. Where no more sockets are to be had it waits, longer each time, and says so once.

    Over TCP the last descriptors count as none.
    """

    max_accept = 10         # at a time: a new session costs some tenths of a millisecond
    _EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

    _watcher: Any

    def __init__(self, sock: Any, listener: Listener):
        super().__init__(sock, spawn=self._spawn_in_turn)
        self.listener = listener            # whose settings hold for who comes next
        self._pause = 0.0
        self._account = Account(waits=False)        # accepting takes its turns like a session
        self._coming: set[UserGreenlet] = set()     # of clients whose turn to begin has not come

    def start_accepting(self):
        if self._watcher is None:
            self._watcher = self.loop.io(self.socket.fileno(), _READ, priority=PRIORITY)
            self._watcher.start(self._readable)

    def _readable(self):
        turns = self.listener.turns
        if turns is None:
            self._do_read()
        elif turns.short.is_open:
            turns.short.run(self._account, self._do_read)
        else:
            self.stop_accepting()
            turns.short.push(self._account, self._accept_in_turn)

    def _accept_in_turn(self):
        if self.started:
            self.start_accepting()
            self._do_read()

    def _spawn_in_turn(self, *call):
        """A greenlet for a new client. It begins in a turn of the listener's."""
        turns = self.listener.turns
        if turns is None:
            UserGreenlet.spawn(*call)
            return
        greenlet = UserGreenlet(*call)
        self._coming.add(greenlet)
        turns.short.push(self._account, partial(self._begin, greenlet))

    def _begin(self, greenlet):
        if greenlet in self._coming:
            self._coming.remove(greenlet)
            greenlet.switch()

    def begin_all(self):
        """Lets those begin whose turn has not come: where a console stops, it never does, and they have a socket each."""
        for greenlet in self._coming:
            greenlet.start()
        self._coming.clear()

    def handle(self, sock, peer, listener):
        listener.accepted(sock, peer)

    def accept_waiting(self):
        """Accepts all who have connected by now. OSError where that cannot be."""
        for _ in range(_BACKLOG + 1):
            accepted = self.do_read()
            if not accepted:
                break
            self.do_handle(*accepted)
        if self._pause:
            raise OSError(errno.EMFILE, 'those who have connected cannot be accepted')

    def do_read(self):
        try:
            if self.socket.family != socket.AF_UNIX:
                self._spare_the_last()
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
        return accepted and (*accepted, self.listener)

    def _spare_the_last(self):
        # The system gives the lowest number that is free.
        descriptor = os.dup(self.socket.fileno())
        os.close(descriptor)
        if is_kept(descriptor):
            raise OSError(errno.EMFILE, 'the last file descriptors are kept for unix sockets')


class Listener:
    """One listening address, with a greenlet for each client that connects to it.

    Args:
        config: where and how.
        serve: called as serve(sock, peer address, listener) in the client's greenlet; the socket is plain and
            non-blocking, and serve's to close.
        turns: the scheduler in which accepting takes its turns; None for whenever a client comes.

    Raises:
        ListenError: what `tls` names cannot be used.
    """

    def __init__(self, config: ListenerConfig, serve: Callable, turns: Turns | None = None):
        self.config = config
        self._serve = serve
        self.turns = turns
        self._server: _Server | None = None
        self._inode: tuple[int, int] | None = None      # of our socket file
        self.address = config.address                   # with the port that was taken, once bound
        self.is_inherited = False                       # the socket was systemd's first
        self.is_temporary = False                       # opened while the console ran, by no setting: no reload ends it
        self._tls_digest = tls_digest(config.tls) if config.tls else b''
        self.tls = tls_context(config.tls, config.address) if config.tls else None

    def bind(self, shares_port: bool = False) -> None:
        """Takes the address.

        Args:
            shares_port: another listener of this process has the port at an address that overlaps, and lends_port().

        Raises:
            ListenError: it cannot be had, with the reason and the address.
        """
        address = self.config.address
        try:
            sock = self._bind_unix(address.path) if address.path else self._bind_tcp(address, shares_port)
        except OSError as error:
            raise ListenError(address, error.strerror or str(error)) from None
        self._server = _Server(sock, self)

    def inherit(self, sock: Any) -> None:
        """Takes a socket that listens on the address already. Its file, if it has one, is somebody else's."""
        self.is_inherited = True
        mine = socket.socket(fileno=sock.dup().detach())
        if mine.family == socket.AF_UNIX:
            self._look_at_rights()
        else:
            self.address = Address(host=self.config.address.host, port=mine.getsockname()[1])
        self._server = _Server(mine, self)

    def _look_at_rights(self):
        """Who can connect to a file that we did not make is not for us to change, but for the log."""
        mode = stat.S_IMODE(os.stat(self.config.address.path).st_mode)
        if mode & ~self.config.mode and not self.config.peers:
            log.warning('%s has mode %04o, which lets in more than `mode` here, %04o: set SocketMode= in the socket unit',
                        self.config.address, mode, self.config.mode)

    def _bind_tcp(self, address, shares_port):
        family, kind, proto, _, name = _resolve(address)
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shares_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(name)
            sock.listen(_BACKLOG)
            if shares_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        except OSError:
            sock.close()
            raise
        self.address = Address(host=address.host, port=sock.getsockname()[1])
        return sock

    @property
    def _bound(self) -> _Server:
        assert self._server is not None, 'bind() or inherit() comes first'
        return self._server

    def lend_port(self, lends: bool) -> None:
        """Whether another socket of this process may have the same port meanwhile, at another address."""
        self._bound.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(lends))

    def _bind_unix(self, path):
        with _locked_folder(path):
            return self._bind_unix_alone(path)

    def _bind_unix_alone(self, path):
        config = self.config
        _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(path)
            found = os.stat(path)
            self._inode = found.st_dev, found.st_ino
            # Nobody can connect before listen(): until then the rights are put right.
            if config.owner is not None or config.group is not None:
                os.chown(path, -1 if config.owner is None else config.owner,
                         -1 if config.group is None else config.group)
            os.chmod(path, config.mode)
            sock.listen(_BACKLOG)
        except OSError:
            sock.close()
            self._remove_file()
            raise
        return sock

    def start(self) -> None:
        """Begins to accept. Starting twice is no error."""
        if not self._bound.started:
            self._bound.start()

    def stop(self) -> None:
        """Accepts no more and gives the address back. Live clients stay. Stopping twice is no error."""
        if self._server is None:
            return
        if self._inode is not None:
            self._remove_file()
        self._server.close()
        self._server.begin_all()
        self._server = None

    def _remove_file(self):
        is_ours, self._inode = self._file_is_ours(), None
        try:
            if is_ours:
                os.unlink(self.config.address.path)
        except OSError as error:
            log.warning('cannot remove %s: %s', self.config.address, error.strerror)

    @property
    def has_lost_its_file(self) -> bool:
        """Whether its socket file was removed, or replaced, so that nobody can connect any more."""
        return self._inode is not None and not self._file_is_ours()

    def _file_is_ours(self):
        if self._inode is None:
            return False
        try:
            found = os.stat(self.config.address.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    # Other settings for the same address

    def is_as(self, config: ListenerConfig) -> bool:
        """Whether it listens as `config` says, with the files of TLS as they are now."""
        return config == self.config and not (config.tls and tls_digest(config.tls) != self._tls_digest)

    def tighten(self, config: ListenerConfig) -> Callable[[], None]:
        """Makes way for other rights of the socket file: who has connected is accepted with the old settings, and from now
        on, until take_over(), only those can connect whom both let. What it gives puts the old rights back.

        Raises:
            ListenError: that is not allowed.
        """
        if not self._file_is_ours():            # there is no file, or systemd made it
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
        """Goes on with the socket of `old`, for the same address. Who was accepted before keeps the old settings."""
        self._server, old._server = old._bound, None
        self._inode, self.address, self.is_inherited = old._inode, old.address, old.is_inherited
        self._server.listener = self
        if self._file_is_ours():
            try:
                os.chmod(self.config.address.path, self.config.mode)
            except OSError as error:
                log.error('cannot set the mode of %s: %s', self.config.address, error.strerror)

    def accepted(self, sock, peer) -> None:
        """The body of a client's greenlet."""
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


def is_at(sock: Any, address: Address) -> bool:
    """Whether a socket listens where an address says."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX or address.path:
        return bool(address.path and sock.family == socket.AF_UNIX and name and isinstance(name, str)
                    and os.path.realpath(name) == os.path.realpath(address.path))
    try:
        family, *_, wanted = _resolve(address)
    except socket.gaierror:
        return False
    return (family, wanted[:2]) == (sock.family, name[:2])


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


@contextmanager
def _locked_folder(path: str) -> Iterator[None]:
    """Nobody else looks for a stale socket file in the folder of `path`, removes it, binds and listens meanwhile.

    The lock is on the folder itself, so that nothing is left behind. Where the folder cannot be read there is none.

    Raises:
        OSError: somebody holds it for long.
    """
    try:
        folder = os.open(os.path.dirname(path) or '.', os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        yield
        return
    try:
        end = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise OSError(errno.EAGAIN, 'another process holds a lock on its folder') from None
                gevent.sleep(_LOCK_LOOK_SECONDS)
            except OSError:             # a file system without such locks
                break
        yield
    finally:
        os.close(folder)


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
