"""The interface to systemd: notifications and the watchdog (sd_notify(3)), passed sockets (sd_listen_fds(3)), and whether
standard error is the journal. Without systemd all of it does nothing.
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
    """Sends notifications to the service manager. Without `NOTIFY_SOCKET` it sends nothing.

    Args:
        environment: `NOTIFY_SOCKET` is the socket to send to. `WATCHDOG_USEC` is the watchdog's timeout in microseconds,
            for the process `WATCHDOG_PID`.

    Attributes:
        watchdog_seconds: the watchdog's timeout; 0 without a watchdog.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ):
        path = environment.get('NOTIFY_SOCKET', '')
        self._path = '\0' + path[1:] if path.startswith('@') else path
        self.watchdog_seconds = _watchdog_seconds(environment) if path else 0.0

    @property
    def is_on(self) -> bool:
        return bool(self._path)

    def tell(self, *lines: str, may_be_lost: bool = False) -> None:
        """Sends assignments, such as `READY=1`, in one message. A message that `may_be_lost` is dropped rather than waited
        for."""
        if not self._path:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto('\n'.join(lines).encode(), socket.MSG_DONTWAIT if may_be_lost else 0, self._path)
            except BlockingIOError:
                pass
            except OSError as error:
                log.error('cannot send a notification to systemd: %s', error.strerror)

    def tell_reloading(self) -> None:
        """Announces the begin of a reload. Send READY=1 at its end."""
        self.tell('RELOADING=1', f'MONOTONIC_USEC={time.monotonic_ns() // 1000}')


def _watchdog_seconds(environment) -> float:
    microseconds = environment.get('WATCHDOG_USEC', '')
    if not microseconds.isdecimal() or environment.get('WATCHDOG_PID', str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(microseconds) / 1e6


class Heart:
    """Sends a heartbeat to the watchdog from the event loop of the calling thread, at least twice per timeout. A blocked
    loop sends none, so systemd aborts the process.

    Args:
        notifier: sends the messages.
        status: returns one line for `systemctl status`; sent when it has changed.
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
        """Sends a heartbeat now."""
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
    """The sockets that systemd passed to this process. Removes their variables from the environment.

    Raises:
        BoxsessionError: one is no listening stream socket.
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
    """Whether `stream` is connected to the journal (systemd.exec(5), `JOURNAL_STREAM`)."""
    device, _, inode = environment.get('JOURNAL_STREAM', '').partition(':')
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))
