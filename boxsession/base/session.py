"""Sessions: who is connected, and whose code runs now.

A session begins with a connection and ends with it. Ids count up from 1 and are never used twice in a process; 0 stands
for "no session". The current session is greenlet-local: it is right in a statement, in a trigger and in any Python
function that they call, however the greenlets switch.
"""
from __future__ import annotations

import time
from dataclasses import dataclass, field

from gevent.local import local

__all__ = ['TYPES', 'Session', 'current_session', 'enter_session']

# What sessions speak.
TYPES = ('console', 'binary')

_current = local()


@dataclass(eq=False, slots=True)
class Session:
    """One client's identity, from its accept to its end. Plain data: safe to keep after the session has ended."""

    id: int                         # unique in this process, counted from 1
    peer: str                       # 'host:port' of the client, or 'unix/:(socket)'
    fd: int                         # the socket's file descriptor while the session lives
    user: str                       # who its statements run as
    uid: int                        # that user's id: names may be given anew, ids are not
    dialect: str                    # 'classic' or 'tarantool', the listener's choice
    type: str = 'console'           # one of TYPES
    listener: str = ''              # the address that it came by
    name: str = ''                  # what its user says it is for
    login: str = ''                 # who logged in, whoever its statements run as since
    started: float = field(default_factory=time.time)       # seconds since the epoch


def current_session() -> Session | None:
    """The session whose statement or trigger runs in this greenlet; None where there is none."""
    return getattr(_current, 'session', None)


def enter_session(session: Session) -> None:
    """Makes `session` the current one of this greenlet, for the rest of its life."""
    _current.session = session
