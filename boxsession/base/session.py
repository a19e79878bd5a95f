"""The identity of a session, and the current session.

A session begins and ends with its connection. Ids count from 1 and are not reused within a process; 0 means no session.
The current session is greenlet-local. So it is right in a statement, in a trigger and in any Python function that they
call, even after switches of greenlets.
"""
from __future__ import annotations

import time
from dataclasses import dataclass, field

from gevent.local import local

__all__ = ['TYPES', 'Session', 'current_session', 'enter_session']

# Types of sessions: the protocols that they speak.
TYPES = ('console', 'binary')

_current = local()


@dataclass(eq=False, slots=True)
class Session:
    """One client's identity, from accept to the end. Plain data: may be kept after the session has ended."""

    id: int                         # unique in this process, from 1 on
    peer: str                       # address of the client: 'host:port' or 'unix/:(socket)'
    fd: int                         # file descriptor of the socket; valid while the session lives
    user: str                       # user whose rights its statements have
    uid: int                        # id of that user: a name can be reused, an id cannot
    dialect: str                    # 'classic' or 'tarantool', from the listener's settings
    type: str = 'console'           # one of TYPES
    listener: str = ''              # address of the listener that accepted the client
    name: str = ''                  # label that the user has set by box.session.name()
    login: str = ''                 # user who logged in; su() does not change it
    started: float = field(default_factory=time.time)       # seconds since the epoch


def current_session() -> Session | None:
    """The session whose statement or trigger runs in this greenlet, or None."""
    return getattr(_current, 'session', None)


def enter_session(session: Session) -> None:
    """Makes `session` the current session of this greenlet until the greenlet ends."""
    _current.session = session
