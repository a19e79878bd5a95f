"""When one client's bytes are read. To read them is a turn of its session, also while a statement runs."""
from __future__ import annotations

import socket
from typing import Any, Protocol

from gevent import get_hub

from boxsession.base.greenlets import OwnTimeout
from boxsession.net.hangup import is_hung_up
from boxsession.scheduler.loop import PRIORITY
from boxsession.scheduler.turns import Account
from boxsession.sessions.common import Common
from boxsession.sessions.sleepers import Sleepers

__all__ = ['Input']

_READ = 1                       # libev's event mask
# How often it is looked whether a client that sends no more, and whose statement runs, is still there.
_PROBE_SECONDS = 1.0
# A refused client's input is read and dropped for so long, and up to so much, before its socket is closed.
_LINGER_SECONDS, _LINGER_BYTES, _LINGER_PIECE = 0.5, 1 << 22, 1 << 16
# Input that is not counted: 10,000 sessions may hold 40 MiB of it.
_LITTLE_INPUT = 1 << 12


class Receiver(Protocol):
    """Whose input it is: a connection."""

    @property
    def account(self) -> Account: ...
    @property
    def waits(self) -> bool: ...                    # its greenlet, if it has one, waits until the client sends
    @property
    def is_closing(self) -> bool: ...               # it runs its last triggers
    @property
    def is_over(self) -> bool: ...                  # it runs nothing more
    def go_on(self) -> None: ...                    # in the hub: lets its greenlet run
    def read(self) -> None: ...                     # reads what has come, while its greenlet does something else
    def lost(self) -> None: ...                     # the client is gone


class Input:
    """When one client's bytes are read.

    The socket's watcher stays for as long as the connection lives. While nothing is read, it is only looked now and then
    whether the client is gone altogether.

    Attributes:
        is_open: whether what comes is read.
        is_counted: whether some of what has come is counted.
    """

    __slots__ = ('is_open', '_receiver', '_sock', '_unread', '_turns', '_watcher', '_probe', '_early', 'is_counted')

    def __init__(self, receiver: Receiver, sock: Any, common: Common):
        self.is_open = False
        self._receiver = receiver
        self._sock = sock
        self._unread = common.unread
        self._turns = common.dispatcher.turns
        self._watcher: Any = get_hub().loop.io(sock.fileno(), _READ, priority=PRIORITY)     # when the socket can be read
        self._probe: Any = None                 # the timer that looks for a hangup
        self._early: Account | None = None      # of what is read while a statement runs
        self.is_counted = False

    def start(self) -> None:
        """Reads what comes."""
        self._end_probe()
        self._watch(True)

    def stop(self) -> None:
        """Reads no more."""
        self._watch(False)
        self._end_probe()

    def pause(self) -> None:
        """Reads no more while a statement runs; only looks now and then whether the client is gone altogether."""
        self._watch(False)
        if self._probe is None:
            self._probe = get_hub().loop.timer(_PROBE_SECONDS, _PROBE_SECONDS, priority=PRIORITY)
            self._probe.start(self._look_for_hangup)

    def sleep(self, sleepers: Sleepers) -> None:
        """The session sleeps: it is woken when its client sends or leaves."""
        self._watch(False)
        sleepers.add(self._sock.fileno(), self)

    def close(self) -> None:
        """The socket is to be closed."""
        self.stop()
        self._watcher.close()

    def _watch(self, on: bool) -> None:
        if on != self.is_open:
            self.is_open = on
            if on:
                self._watcher.start(self._readable)
            else:
                self._watcher.stop()

    def _look_for_hangup(self) -> None:
        if is_hung_up(self._sock):
            self._receiver.lost()

    def _end_probe(self) -> None:
        if self._probe is not None:
            self._probe.stop()
            self._probe.close()
            self._probe = None

    # Turns

    def _readable(self) -> None:
        """In the hub: the client has sent something, or has left."""
        receiver, turns = self._receiver, self._turns
        account, lane = receiver.account, turns.short
        if receiver.waits:
            if lane.is_open and not account.due:
                lane.run(account, receiver.go_on)
            else:
                self._watch(False)
                lane.push(account if self.has_input() else turns.leaving, self.resume)
        elif lane.is_open:
            lane.run(account, self._read_early)
        else:
            # It may be an interrupt: that waits neither for what the statement has used, nor for rule 6, nor for what other
            # sessions send meanwhile.
            self._watch(False)
            if self._early is None:
                self._early = Account(waits=False)
            lane.push(self._early, self.resume)

    def woken(self, has_left: bool) -> None:
        """In the hub: the client has sent something while its session slept, or it has left."""
        turns = self._turns
        turns.resume(turns.leaving if has_left else self._receiver.account, self.resume)

    def has_input(self) -> bool:
        """Whether there is something to read."""
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def resume(self) -> None:
        """In the hub: it is the turn of a session that has input to read."""
        receiver = self._receiver
        if self._probe is not None or receiver.is_closing:      # not to be read now
            return
        if receiver.waits:
            self._watch(True)
            receiver.go_on()
        elif not receiver.is_over:
            self._watch(True)
            self._read_early()

    def _read_early(self) -> None:
        """In the hub: reads on while a statement is under way, to see an interrupt."""
        try:
            self._receiver.read()
        except OSError:
            self._receiver.lost()

    # What is held

    def count(self, size: int) -> None:
        """So many bytes have come that cannot be run yet."""
        if size <= _LITTLE_INPUT or self._receiver.is_over:
            if not self.is_counted:
                return
            size = 0
        self.is_counted = size > 0
        self._unread.hold(self._receiver, size)

    def linger(self) -> None:
        """Drops what still comes, for a moment: a close with unread input is a reset, which may overtake the last reply."""
        self._watch(False)
        left = _LINGER_BYTES
        hub = get_hub()
        watcher = hub.loop.io(self._sock.fileno(), _READ, priority=PRIORITY)
        try:
            self._sock.shutdown(socket.SHUT_WR)
            with OwnTimeout(_LINGER_SECONDS, False):
                while left > 0:
                    hub.wait(watcher)
                    data = self._sock.recv(_LINGER_PIECE)
                    if not data:
                        break
                    left -= len(data)
        except OSError:
            pass
        finally:
            watcher.close()
