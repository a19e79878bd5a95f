"""The greenlets that run users' code, and the exceptions that others may throw into them.

An exposed function runs in the greenlet of its session. It may start a gevent timeout there and forget it, or hand out
the greenlet. An exception that is thrown into the greenlet later would end the session in any wait. Therefore the exception
is raised only inside an exposed function, as an error of the statement. Elsewhere it is dropped and logged.
"""
from __future__ import annotations

import logging
from typing import Any

from gevent import Greenlet, GreenletExit, Timeout
from gevent.socket import cancel_wait_ex

from boxsession.base.errors import Internal, Stopped

__all__ = ['TASK', 'Aborted', 'OwnTimeout', 'SessionEnded', 'TimedOut', 'UserGreenlet']

log = logging.getLogger('boxsession')

# Name of the greenlet attribute that holds its task (scheduler/task.py).
TASK = 'boxsession_task'


class SessionEnded(Stopped, GreenletExit):
    """Thrown into a session that does not end when the console stops."""


class TimedOut(Internal, TimeoutError):
    """Raised by a timeout of this package."""


class Aborted(Internal, ConnectionAbortedError):
    """Ends the wait for a slow reader."""


class OwnTimeout(Internal, Timeout):
    """A timeout of this package that raises itself instead of TimedOut."""


# Exceptions that are raised everywhere: our own, a kill, and the one that a closed socket raises in a greenlet that waits.
_OURS = (Internal, GreenletExit, cancel_wait_ex)


class UserGreenlet(Greenlet):
    """A greenlet of a session, of its requests, or of a fiber.

    Attributes:
        is_shielded: foreign exceptions are raised only inside exposed functions. The greenlet's body sets it.
    """

    is_shielded = False

    def throw(self, *args: Any) -> Any:
        """Like Greenlet.throw(), which gevent's timeouts and kill() call. A kill still ends the session in order."""
        if self.is_shielded and not getattr(self, TASK).calling:
            kind = args[0] if args else GreenletExit
            if not issubclass(kind if isinstance(kind, type) else type(kind), _OURS):
                log.warning('dropped an exception that was thrown into a session outside of an exposed function: %r', kind)
                return None
        return super().throw(*args)
