"""Accepts clients: scheduled like the sessions, and only while enough file descriptors are free."""
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
from boxsession.base.inherited import own
from boxsession.scheduler.loop import PRIORITY
from boxsession.scheduler.turns import Account, Turns

__all__ = ['BACKLOG', 'Acceptor']

log = logging.getLogger('boxsession')

BACKLOG = 1024
_READ = 1                       # libev's event mask


class Accepts(Protocol):
    """The part of `boxsession.net.listener.Listener` that an acceptor uses."""

    turns: Turns | None
    def accepted(self, sock: Any, peer: Any) -> None: ...


class Acceptor(StreamServer):
    """Accepts the clients of one listening socket.

    If file descriptors or memory run out, it pauses, longer each time, and logs that once. TCP listeners stop before the
    last file descriptors are used (`boxsession.base.descriptors`).
    """

    max_accept = 10         # clients per loop iteration: a new session takes some tenths of a millisecond
    _EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

    _watcher: Any

    def __init__(self, sock: Any, listener: Accepts):
        super().__init__(own(sock), spawn=self._spawn_in_turn)
        self.listener = listener            # gets the next clients; a reload replaces it
        self._pause = 0.0                   # seconds of the current pause; 0 while clients are accepted
        self._account = Account(waits=False)        # the scheduler charges it for accepting
        self._coming: set[UserGreenlet] = set()     # greenlets of accepted clients, not started yet

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
        """Makes the greenlet of a new client. The scheduler starts it."""
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
        """Starts the waiting greenlets at once. After a stop the scheduler would not start them, and their sockets would
        stay open."""
        for greenlet in self._coming:
            greenlet.start()
        self._coming.clear()

    def handle(self, sock, peer, listener):
        listener.accepted(sock, peer)

    def accept_waiting(self):
        """Accepts all clients that have connected so far.

        Raises:
            OSError: file descriptors or memory ran out.
        """
        for _ in range(BACKLOG + 1):
            accepted = self.do_read()
            if not accepted:
                break
            self.do_handle(*accepted)
        if self._pause:
            raise OSError(errno.EMFILE, 'the clients that have connected cannot be accepted (the log says why)')

    def do_read(self):
        try:
            if self.socket.family != socket.AF_UNIX:
                self._spare_the_last()
            accepted = super().do_read()
        except OSError as error:
            if error.errno not in self._EXHAUSTED:
                raise
            if not self._pause:
                log.error('cannot accept clients: %s; trying again, at least every %g s', error.strerror, self.max_delay)
            self._pause = min(self.max_delay, self._pause * 2 or self.min_delay)
            self.stop_accepting()
            self._timer = self.loop.timer(self._pause)
            self._timer.start(self._start_accepting_if_started)
            return None
        if accepted and self._pause:
            self._pause = 0.0
            log.warning('clients are accepted again')
        return accepted and (*accepted, self.listener)

    def _spare_the_last(self):
        # dup() gives the lowest free descriptor, which accept() would give, too.
        descriptor = os.dup(self.socket.fileno())
        os.close(descriptor)
        if is_kept(descriptor):
            raise OSError(errno.EMFILE, 'too many open files; the last file descriptors are kept for unix sockets (raise '
                          'LimitNOFILE= or ulimit -n, or lower limits.sessions)')
