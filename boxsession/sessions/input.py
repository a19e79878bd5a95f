"""Reads the input of one client. Each read is a turn of its session, also while a statement runs."""
from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from gevent import get_hub

from boxsession.base.greenlets import OwnTimeout
from boxsession.net.hangup import is_hung_up, unread_input
from boxsession.scheduler.loop import PRIORITY
from boxsession.scheduler.turns import Account
from boxsession.sessions.common import Common
from boxsession.sessions.sleepers import Sleepers

__all__ = ['Input']

_READ = 1                       # libev's event mask
# Interval of the checks for a hang-up while input is paused, in seconds.
_PROBE_SECONDS = 1.0

# Maximum time in seconds, and maximum bytes, for reading and dropping the input of a refused client before its socket is
# closed; bytes of each read.
_LINGER_SECONDS, _LINGER_BYTES, _LINGER_PIECE = 0.5, 1 << 22, 1 << 16
# How long a statement that seems to be over waits for the rest of a pasted text, in seconds.
_PASTE_SECONDS = 0.03
# Up to this size, in bytes, the input of one session does not count: 10,000 sessions may hold 40 MiB of it.
_LITTLE_INPUT = 1 << 12

# Seen by has_interrupt(): the client has left.
_LEFT = -1


class Receiver(Protocol):
    """The owner of an input: a connection."""

    @property
    def account(self) -> Account: ...
    @property
    def waits(self) -> bool: ...                    # the session waits for input
    @property
    def is_closing(self) -> bool: ...               # it runs its on_disconnect triggers
    @property
    def is_over(self) -> bool: ...                  # it must run nothing more
    def go_on(self) -> None: ...                    # in the hub: switches to the session's greenlet
    def read(self) -> None: ...                     # in the hub: reads while the session's greenlet is busy
    def counters(self) -> tuple[int, int, int]: ...         # the second is the number of bytes received
    def lost(self) -> None: ...                     # called if the connection is lost


class Input:
    """Watches the socket of one client, and decides when it is read.

    The socket's watcher lives as long as the connection. While input is paused, only a timer checks for a hang-up.

    Attributes:
        is_open: whether the socket is watched for input.
        is_counted: whether input of this session counts in the backlog.
    """

    __slots__ = ('is_open', '_receiver', '_sock', '_unread', '_turns', '_watcher', '_probe', '_early', 'is_counted',
                 '_seen')

    def __init__(self, receiver: Receiver, sock: Any, common: Common):
        self.is_open = False
        self._receiver = receiver
        self._sock = sock
        self._unread = common.unread
        self._turns = common.dispatcher.turns
        self._watcher: Any = get_hub().loop.io(sock.fileno(), _READ, priority=PRIORITY)
        self._probe: Any = None                 # the timer that checks for a hang-up
        self._early: Account | None = None      # account for reads while a statement runs
        self.is_counted = False
        self._seen = 0                          # bytes that has_interrupt() has seen, or _LEFT

    def start(self) -> None:
        """Begins to read, or continues after pause()."""
        self._end_probe()
        self._watch(True)

    def stop(self) -> None:
        """Stops reading."""
        self._watch(False)
        self._end_probe()

    def pause(self) -> None:
        """Stops reading for a while (back-pressure). Still checks from time to time for a hang-up."""
        self._watch(False)
        if self._probe is None:
            self._probe = get_hub().loop.timer(_PROBE_SECONDS, _PROBE_SECONDS, priority=PRIORITY)
            self._probe.start(self._look_for_hangup)

    def sleep(self, sleepers: Sleepers) -> None:
        """Hands the socket to the sleepers. They wake the session when its client sends or leaves."""
        self._watch(False)
        sleepers.add(self._sock.fileno(), self)

    def close(self) -> None:
        """Closes the watcher. Call it before the socket is closed."""
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

    def wait_a_moment(self) -> None:
        """In the session's greenlet, while the session waits for input: waits for the rest of a pasted text."""
        receiver, hub = self._receiver, get_hub()

        def is_over() -> None:
            if receiver.waits:
                receiver.go_on()
        timer = hub.loop.timer(_PASTE_SECONDS, priority=PRIORITY)
        timer.start(is_over, update=True)
        hub.switch()
        timer.close()

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
            # The input may be an interrupt. So the read has its own account: it waits neither for the time that the
            # statement has used, nor for rule 6 of turns.py, nor for other sessions' input.
            self._watch(False)
            if self._early is None:
                self._early = Account(waits=False)
            lane.push(self._early, self.resume)

    def woken(self, has_left: bool) -> None:
        """In the hub: the client of a sleeping session has sent something or has left."""
        turns = self._turns
        turns.resume(turns.leaving if has_left else self._receiver.account, self.resume)

    def has_input(self) -> bool:
        """Whether the socket has data to read. False at the end of the input."""
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def resume(self) -> None:
        """In the hub: begins the turn of a session that has input."""
        receiver = self._receiver
        if self._probe is not None or receiver.is_closing:      # input was paused or stopped meanwhile
            return
        if receiver.waits:
            self._watch(True)
            receiver.go_on()
        elif not receiver.is_over:
            self._watch(True)
            self._read_early()

    def _read_early(self) -> None:
        """In the hub: reads while a statement runs, to find an interrupt."""
        try:
            self._receiver.read()
        except OSError:
            self._receiver.lost()

    # While a statement in Python holds the event loop

    def has_interrupt(self, search: Callable[[bytes], bool], may_leave: bool) -> bool:
        """In a signal handler: whether there is an interrupt in unread input, or the client has left. Reads nothing.

        Args:
            search: finds an interrupt in data.
            may_leave: whether a client that has left counts.
        """
        data, has_left = unread_input(self._sock)
        if has_left and may_leave:
            self._seen = _LEFT
        elif search(data):
            self._seen = len(data)
        return self._seen != 0

    def catch_up(self) -> None:
        """In the session's greenlet, after the statement: reads what has_interrupt() has seen. Else it would cancel a later
        statement, and not those that were sent before it."""
        receiver, seen, self._seen = self._receiver, self._seen, 0
        if seen == _LEFT:
            receiver.lost()
            return
        before, at = -1, receiver.counters()[1]
        end = at + seen
        while before != at < end and not receiver.is_over:
            self._read_early()
            before, at = at, receiver.counters()[1]

    # Backlog

    def count(self, size: int) -> None:
        """Reports to the backlog how many bytes of input cannot be run yet."""
        if size <= _LITTLE_INPUT or self._receiver.is_over:
            if not self.is_counted:
                return
            size = 0
        self.is_counted = size > 0
        self._unread.hold(self._receiver, size)

    def linger(self) -> None:
        """Reads and drops input for a moment. A close with unread input is a reset, which may destroy the last reply."""
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
