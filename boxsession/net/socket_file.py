"""The file of a unix socket: created with its final rights before anyone can connect, and removed at the end."""
from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import gevent
from gevent import socket

from boxsession.base.address import PID
from boxsession.net.acceptor import BACKLOG
from boxsession.settings.table import ListenerConfig

__all__ = ['SocketFile', 'remove_those_of_dead']

log = logging.getLogger('boxsession')

# How long to wait for the lock on the directory of a socket file, and how often to try, in seconds.
_LOCK_SECONDS, _LOCK_LOOK_SECONDS = 5.0, 0.01


class SocketFile:
    """A socket file that this process creates.

    Args:
        config: gives path, owner, group and mode.

    Attributes:
        sock: the listening socket.

    Raises:
        OSError: it cannot be created, or the path is in use. No new file is left.
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
        # Nobody can connect before listen(), so the rights are set first.
        if config.owner is not None or config.group is not None:
            os.chown(self._path, -1 if config.owner is None else config.owner, -1 if config.group is None else config.group)
        os.chmod(self._path, config.mode)
        self.sock.listen(BACKLOG)

    def is_there(self) -> bool:
        """Whether the file exists and is still the one that was created."""
        try:
            found = os.stat(self._path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    def remove(self) -> None:
        """Removes the file, unless it was removed or replaced."""
        try:
            if self.is_there():
                os.unlink(self._path)
        except OSError as error:
            log.warning('cannot remove the socket file %s: %s', self._address, error.strerror)


def remove_those_of_dead(path: str) -> None:
    """Removes the socket files that dead processes have left at `path`, whose file name has `%p` for the process id.

    Failures are ignored: such a file is in nobody's way.
    """
    folder, name = os.path.split(path)
    if PID not in name or PID in folder:
        return
    of_process = re.compile('([1-9][0-9]*)'.join(map(re.escape, name.split(PID))))
    with suppress(OSError):
        found = [(entry, match.groups()) for entry in os.listdir(folder or '.') if (match := of_process.fullmatch(entry))]
        dead = [entry for entry, pids in found if not any(_exists(int(pid)) for pid in pids)]
        if dead:
            with _locked_folder(path):
                for entry in dead:
                    with suppress(OSError):
                        _remove_stale(os.path.join(folder, entry))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def _locked_folder(path: str) -> Iterator[None]:
    """Holds a lock (flock) on the directory of `path`: of two servers that start at once, only one at a time removes a
    stale socket file, binds and listens.

    The lock is on the directory itself, so no lock file is left. If the directory cannot be read, or its file system has no
    locks, there is no lock.

    Raises:
        OSError: another process holds the lock for too long.
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
                    raise OSError(errno.EAGAIN, 'another process holds a lock (flock) on its directory: end that process, '
                                  'or use another directory') from None
                gevent.sleep(_LOCK_LOOK_SECONDS)
            except OSError:             # the file system has no such locks
                break
        yield
    finally:
        os.close(folder)


def _remove_stale(path: str) -> None:
    """Removes a socket file that no server listens on.

    Raises:
        OSError: a server listens on it, or the file is no socket.
    """
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, 'a file that is no socket is in the way: remove it, or use another path')
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
