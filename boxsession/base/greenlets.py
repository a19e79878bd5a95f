"""The greenlets that run code of users, and what may be raised in them from outside.

An exposed function runs in the greenlet of its session, and may start a timeout there and forget it, or give the greenlet
to others. What is later thrown into the greenlet would end the session at whatever it waits for. So it is raised only
inside an exposed function, where it is an error of the statement; anywhere else it is dropped, and logged.
"""
from __future__ import annotations

import logging
from typing import Any

from gevent import Greenlet, GreenletExit, Timeout
from gevent.socket import cancel_wait_ex

from boxsession.base.errors import Internal, Stopped

__all__ = ['TASK', 'Aborted', 'OwnTimeout', 'SessionEnded', 'TimedOut', 'UserGreenlet']

log = logging.getLogger('boxsession')

# The attribute of a greenlet that holds its task (see lua/bridge.py).
TASK = 'boxsession_task'


class SessionEnded(Stopped, GreenletExit):
    """Thrown by a console that stops, when a session does not end otherwise."""


class TimedOut(Internal, TimeoutError):
    """What a timeout of the package's own raises."""


class Aborted(Internal, ConnectionAbortedError):
    """Ends the wait for a client that reads slowly."""


class OwnTimeout(Internal, Timeout):
    """A timeout of the package's own, where it raises itself."""


# Beside what is the package's own: a kill, and a socket that somebody has closed while the greenlet waits for it.
_OURS = (Internal, GreenletExit, cancel_wait_ex)


class UserGreenlet(Greenlet):
    """A greenlet of a session, of its requests, or of a fiber.

    Attributes:
        is_shielded: exceptions of others are raised only inside exposed functions. Set by the greenlet's body.
    """

    is_shielded = False

    def throw(self, *args: Any) -> Any:
        """As Greenlet.throw(), which gevent's timeouts and kill() call. A kill still ends the session in order."""
        if self.is_shielded and not getattr(self, TASK).calling:
            kind = args[0] if args else GreenletExit
            if not issubclass(kind if isinstance(kind, type) else type(kind), _OURS):
                log.warning('dropped what was thrown into a session outside of any exposed function: %r', kind)
                return None
        return super().throw(*args)
