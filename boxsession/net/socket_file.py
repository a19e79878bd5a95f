"""The file of a unix socket: made with the rights it is to have, and taken away without leftovers."""
from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent import socket

from boxsession.net.acceptor import BACKLOG
from boxsession.settings.table import ListenerConfig

__all__ = ['SocketFile']

log = logging.getLogger('boxsession')

# How long a lock on the folder of a socket file is waited for, and how often it is looked at.
_LOCK_SECONDS, _LOCK_LOOK_SECONDS = 5.0, 0.01


class SocketFile:
    """A socket file that this process makes.

    Args:
        config: where, whose, and with which mode.

    Attributes:
        sock: the socket, which listens.

    Raises:
        OSError: it cannot be had. There is no file then.
    """

    def __init__(self, config: ListenerConfig):
        self._address = config.address
        self._path = config.address.path
        with _locked_folder(self._path):
            _remove_stale(self._path)
            self.sock: Any = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._inode: tuple[int, int] | None = None
            try:
                self._make(config)
            except OSError:
                self.sock.close()
                self.remove()
                raise

    def _make(self, config: ListenerConfig) -> None:
        self.sock.bind(self._path)
        found = os.stat(self._path)
        self._inode = found.st_dev, found.st_ino
        # Nobody can connect before listen(): until then the rights are put right.
        if config.owner is not None or config.group is not None:
            os.chown(self._path, -1 if config.owner is None else config.owner, -1 if config.group is None else config.group)
        os.chmod(self._path, config.mode)
        self.sock.listen(BACKLOG)

    def is_there(self) -> bool:
        """Whether it is there, and no other one in its place."""
        try:
            found = os.stat(self._path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    def remove(self) -> None:
        """Removes it, if it is there."""
        try:
            if self.is_there():
                os.unlink(self._path)
        except OSError as error:
            log.warning('cannot remove %s: %s', self._address, error.strerror)


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
