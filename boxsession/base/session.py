"""The identity of a session, and the current session.

A session begins and ends with its connection. Ids count from 1 and are not reused within a process; 0 means no session.
The current session is greenlet-local. So it is right in a statement, in a trigger and in any Python function that they
call, even after switches of greenlets.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from gevent.local import local

__all__ = ['TYPES', 'Session', 'current_session', 'described', 'described_caller', 'enter_session', 'lend_session']

# Types of sessions: the protocols that they speak.
TYPES = ('console', 'binary')

_current = local()
# The session for a function that runs in another thread than the console.
_lent: ContextVar[Session | None] = ContextVar('boxsession', default=None)


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
    allowed_languages: tuple[str, ...] = ('lua',)       # by its listener; it begins in the first that its user may use
    language: str = 'lua'           # of its next statement
    has_chosen_language: bool = False       # by `\\set language`
    name: str = ''                  # label that the user has set by box.session.name()
    login: str = ''                 # user who logged in; su() does not change it
    # Of the last exception that an exposed function, or a statement in Python, raised; without secrets.
    traceback: str | Callable[[], str] = ''
    started: float = field(default_factory=time.time)       # seconds since the epoch
    peer_uid: int | None = None     # of the client's process; known on unix sockets only
    peer_pid: int | None = None
    languages: tuple[str, ...] = ('lua',)   # that its statements may have had so far: secrets are looked for in each

    def speaks(self, *languages: str) -> None:
        """Notes languages of the following statements."""
        self.languages += tuple(language for language in languages if language not in self.languages)

    @property
    def where(self) -> str:
        """The client's address, and its process on a unix socket, for log lines."""
        return self.peer if self.peer_uid is None else f'{self.peer}, uid {self.peer_uid}, pid {self.peer_pid}'

    @property
    def described(self) -> str:
        """The session with its user and its client, for log lines: `session 5 (ann from 127.0.0.1:40000)`."""
        user = self.login if self.user == self.login or not self.login else f'{self.login} as {self.user}'
        return f'session {self.id} ({user} from {self.where})'


def current_session() -> Session | None:
    """The session whose statement or trigger runs in this greenlet, or has called this function; or None."""
    return getattr(_current, 'session', None) or _lent.get()


def described_caller() -> str:
    """The session whose statement or trigger runs in this greenlet, for log lines."""
    return described(current_session())


def described(session: Session | None) -> str:
    """`session.described`; without a session the init script runs."""
    return session.described if session is not None else 'the init script'


def enter_session(session: Session) -> None:
    """Makes `session` the current session of this greenlet until the greenlet ends."""
    _current.session = session


@contextmanager
def lend_session(session: Session | None) -> Iterator[None]:
    """Makes `session` the current session of a function, or of a coroutine, that runs outside of the console's thread."""
    token = _lent.set(session)
    try:
        yield
    finally:
        _lent.reset(token)
