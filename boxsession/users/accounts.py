"""The users of one console: who asks for a change, what is stored of it, and who may log in.

Changes are made one after the other, in a thread, since a disk is slow; what was begun is ended, also when who asked for
it is cancelled or gone meanwhile.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import gevent
from gevent import get_hub
from gevent.lock import BoundedSemaphore

from boxsession.base.errors import ClientError, StatementError
from boxsession.users.access import ADMIN, Access, User
from boxsession.users.passwords import Throttle
from boxsession.users.schema import OPERATIONS, Schema
from boxsession.users.store import MemoryStore, Store

__all__ = ['Accounts']


class Accounts:
    """Users, roles, functions and grants.

    Args:
        path: of the file that keeps them; None for memory only.
        commands: gives the names of the console's commands, which can be granted.

    Attributes:
        on_change: called behind each change, whoever made it.

    Raises:
        StoreError: the file cannot be had.
    """

    def __init__(self, path: str | None = None, commands: Callable[[], Collection[str]] = tuple):
        self._store = Store(path) if path else MemoryStore()
        self._in_memory = path is None
        self._commands = commands
        self._lock = BoundedSemaphore()
        self._throttle = Throttle()
        self.on_change: Callable[[], None] = lambda: None

    @property
    def access(self) -> Access:
        """What is in force now. Not to be changed."""
        return self._store.access

    def perform(self, operation: str, actor: int, arguments: Sequence[Any],
                tell: Callable[[], None] = lambda: None) -> tuple[Any, bool]:
        """Does what `users.schema.OPERATIONS` names, for the user `actor`; gives its result, and whether anything has
        changed, when it is stored. `tell` is called when something has, also where the caller does not wait for that.

        Raises:
            ClientError: it is refused.
            StoreError: it cannot be stored.
        """
        if not OPERATIONS[operation]:
            return getattr(Schema(self.access, actor), operation)(*arguments), False
        names = self._commands()        # now: a thread makes the change

        def change(access: Access) -> Any:
            return getattr(Schema(access, actor, names), operation)(*arguments)

        return self._do(self._transact, change, tell)

    def _do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a function that calls the store, in its turn. It goes on when its caller is torn away."""
        if self._in_memory:
            return function(*arguments)
        ok, result = gevent.spawn(self._in_turn, function, arguments).get()
        if not ok:
            raise result
        return result

    def _in_turn(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        with self._lock:
            return _outcome(function, arguments)

    def _ask_store(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._in_memory:
            return function(*arguments)
        ok, result = get_hub().threadpool.apply(_outcome, (function, arguments))
        if not ok:
            raise result
        return result

    def _transact(self, operation: Callable[[Access], Any], tell: Callable[[], None]) -> tuple[Any, bool]:
        result, has_changed = self._ask_store(self._store.transact, operation)
        if has_changed:
            self.on_change()
            tell()
        return result, has_changed

    def _refresh(self) -> None:
        if self._ask_store(self._store.refresh):
            self.on_change()

    def seconds_to_wait(self, name: str, address: str) -> float:
        """For how long an attempt to log in has to wait.

        Raises:
            StatementError: there were too many; later is soon enough to try again.
        """
        seconds = self._throttle.seconds_to_wait(name, address, time.monotonic())
        if seconds > self._throttle.longest:
            raise StatementError(f'too many failed logins: try again in {seconds:.0f} seconds')
        return seconds

    def authenticate(self, name: str, address: str, matches: Callable[[str], bool]) -> User | None:
        """The user of whose password `matches` finds the hash to be right, None for a wrong one and for nobody's alike.

        Wait first, as seconds_to_wait() tells.

        Raises:
            ClientError: the user may have no sessions.
        """
        self._do(self._refresh)
        access = self.access
        user = access.user(name)
        # As much is done for who does not exist.
        if not matches(user.hash if user else '') or user is None:
            return None
        if not access.may_log_in(user.id):
            raise access.denied(user.id, 'session', 'universe', '')
        self._throttle.succeeded(name, address)
        return user

    def find_su(self, login: int, asking: int, name: str | float) -> User:
        """The user that a session may become which has logged in as `login`.

        Raises:
            ClientError: there is no such user, or not for this session.
        """
        access = self.access
        user = access.user(name)
        if not access.is_super(login) and (user is None or user.id != login):
            raise access.denied(asking, 'session', 'user', f'{name:g}' if isinstance(name, float) else str(name))
        if user is None:
            raise ClientError('NO_SUCH_USER', f'{name:g}' if isinstance(name, float) else name)
        if user.id != ADMIN and not access.may_log_in(user.id):
            raise access.denied(user.id, 'session', 'universe', '')
        return user

    def close(self) -> None:
        """Gives the file back, when what is under way is done."""
        if not self._in_memory:
            with self._lock:
                self._store.close()


def _outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    """(True, result) or (False, error), since the pool would report what a thread raises."""
    try:
        return True, function(*arguments)
    except Exception as error:
        return False, error
