"""Accepts clients: in turns with the sessions, and no more than there are file descriptors for."""
from __future__ import annotations

import errno
import logging
import os
from functools import partial
from typing import Any, Protocol

from gevent import socket
from gevent.server import StreamServer

from boxsession.base.descriptors import is_kept
from boxsession.base.greenlets import UserGreenlet
from boxsession.scheduler.loop import PRIORITY
from boxsession.scheduler.turns import Account, Turns

__all__ = ['BACKLOG', 'Acceptor']

log = logging.getLogger('boxsession')

BACKLOG = 1024
_READ = 1                       # libev's event mask


class Accepts(Protocol):
    """What a client is for (`boxsession.net.listener.Listener`)."""

    turns: Turns | None
    def accepted(self, sock: Any, peer: Any) -> None: ...


class Acceptor(StreamServer):
    """Accepts. Where no more sockets are to be had it waits, longer each time, and says so once.

    Over TCP the last descriptors count as none.
    """

    max_accept = 10         # at a time: a new session costs some tenths of a millisecond
    _EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

    _watcher: Any

    def __init__(self, sock: Any, listener: Accepts):
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
        for _ in range(BACKLOG + 1):
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
