"""What systemd and a daemon tell each other: readiness and life (sd_notify(3)), sockets that it opened (sd_listen_fds(3)),
and whether standard error is its journal. Elsewhere all of it does nothing.
"""
from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from gevent import get_hub

from boxsession.base.errors import BoxsessionError

__all__ = ['Heart', 'InheritedSocket', 'Notifier', 'inherited_sockets', 'is_journal']

log = logging.getLogger('boxsession')

_FIRST_FD = 3
_STATUS_SECONDS = 5.0


class Notifier:
    """Tells the service manager what the process does. Without `NOTIFY_SOCKET` it tells nobody.

    Args:
        environment: `NOTIFY_SOCKET` is where to, `WATCHDOG_USEC` within which time it must hear of us (for the process that
            `WATCHDOG_PID` names).
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ):
        path = environment.get('NOTIFY_SOCKET', '')
        self._path = '\0' + path[1:] if path.startswith('@') else path
        self.watchdog_seconds = _watchdog_seconds(environment) if path else 0.0     # 0: nobody waits for a beat

    @property
    def is_on(self) -> bool:
        return bool(self._path)

    def tell(self, *lines: str, may_be_lost: bool = False) -> None:
        """Sends assignments, as in `READY=1`, in one message; never waits for a receiver where it `may_be_lost`."""
        if not self._path:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto('\n'.join(lines).encode(), socket.MSG_DONTWAIT if may_be_lost else 0, self._path)
            except BlockingIOError:
                pass
            except OSError as error:
                log.error('cannot notify systemd: %s', error.strerror)

    def tell_reloading(self) -> None:
        """A reload begins; READY=1 ends it."""
        self.tell('RELOADING=1', f'MONOTONIC_USEC={time.monotonic_ns() // 1000}')


def _watchdog_seconds(environment) -> float:
    microseconds = environment.get('WATCHDOG_USEC', '')
    if not microseconds.isdecimal() or environment.get('WATCHDOG_PID', str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(microseconds) / 1e6


class Heart:
    """Beats in the calling thread's event loop, twice in the watchdog's time: a loop that is held does not beat.

    Args:
        notifier: who is told.
        status: one line for `systemctl status`, sent when it has changed.
    """

    def __init__(self, notifier: Notifier, status: Callable[[], str]):
        self._notifier = notifier
        self._status = status
        self._told = ''
        self._timer: Any = None

    def start(self) -> None:
        if self._notifier.is_on:
            seconds = self._notifier.watchdog_seconds / 2 or _STATUS_SECONDS
            self._timer = get_hub().loop.timer(0, min(seconds, _STATUS_SECONDS), ref=False)
            self._timer.start(self.beat)

    def beat(self) -> None:
        """Beats now."""
        lines = ['WATCHDOG=1'] if self._notifier.watchdog_seconds else []
        status = self._status()
        if status != self._told:
            lines.append(f'STATUS={status}')
            self._told = status
        if lines:
            self._notifier.tell(*lines, may_be_lost=True)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    """A listening stream socket that was open when the process began."""

    sock: socket.socket
    name: str               # FileDescriptorName= of its unit, for messages


def inherited_sockets(environment: MutableMapping[str, str] = os.environ) -> list[InheritedSocket]:
    """The sockets that systemd opened for this process; it takes their variables out of the environment.

    Raises:
        BoxsessionError: one of them does not listen for streams.
    """
    count, pid = environment.pop('LISTEN_FDS', ''), environment.pop('LISTEN_PID', '')
    names = environment.pop('LISTEN_FDNAMES', '').split(':')
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found = []
    for fd, name in zip(range(_FIRST_FD, _FIRST_FD + int(count)), names + ['unknown'] * int(count), strict=False):
        try:
            os.set_inheritable(fd, False)
            sock = socket.socket(fileno=fd)
            listens = (sock.type == socket.SOCK_STREAM and sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
                       and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        except OSError:
            listens = False
        if not listens:
            raise BoxsessionError(f'descriptor {fd} ({name}), which systemd passed, is no listening socket: the socket '
                                  'unit needs ListenStream= and Accept=no')
        found.append(InheritedSocket(sock, name or 'unknown'))
    return found


def is_journal(stream, environment: MutableMapping[str, str] = os.environ) -> bool:
    """Whether what is written to `stream` goes to the journal (systemd.exec(5), `JOURNAL_STREAM`)."""
    device, _, inode = environment.get('JOURNAL_STREAM', '').partition(':')
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))
