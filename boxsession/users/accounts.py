"""The users of one console: serialises changes to users and grants, stores them, and checks logins.

Changes run one after the other, in a thread, because disks are slow. A change that has begun is completed, even if the
statement that asked for it is cancelled.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import gevent
from gevent import get_hub
from gevent.lock import BoundedSemaphore

from boxsession.base.errors import ClientError, StatementError
from boxsession.users.access import ADMIN, GUEST, Access, User
from boxsession.users.passwords import EMPTY_HASH, Throttle
from boxsession.users.schema import OPERATIONS, Schema
from boxsession.users.store import MemoryStore, Store

__all__ = ['Accounts']


class Accounts:
    """Users, roles, functions and grants of one console.

    Args:
        path: the file that stores them; None keeps them in memory only.
        commands: returns the names of all console commands, which can be granted.

    Attributes:
        on_change: called after each change, also after one by another process.
        is_shared: whether another server used the file at the start.

    Raises:
        StoreError: the file cannot be opened or is no store.
    """

    def __init__(self, path: str | None = None, commands: Callable[[], Collection[str]] = tuple):
        self._store = Store(path, is_server=True) if path else MemoryStore()
        self.is_shared = self._store.is_shared
        self._in_memory = path is None
        self._commands = commands
        self._lock = BoundedSemaphore()
        self._throttle = Throttle()
        self.on_change: Callable[[], None] = lambda: None

    @property
    def access(self) -> Access:
        """The users and grants in force. Callers must not change the object."""
        return self._store.access

    def may_speak(self, uid: int, language: str) -> bool:
        """Whether the statements of a user may be in a language."""
        return self.access.may_speak(uid, language)

    def perform(self, operation: str, actor: int, arguments: Sequence[Any],
                tell: Callable[[], None] = lambda: None, session_uid: int | None = None) -> tuple[Any, bool]:
        """Runs an operation of `users.schema.OPERATIONS` for the user `actor`, and returns when the change is stored.

        Args:
            operation: its name.
            actor: the uid of the user who asks.
            arguments: see the method of `Schema`.
            tell: called after a change, even if the caller was cancelled meanwhile.
            session_uid: the uid of the session's user, who may be another.

        Returns:
            The result of the operation, and whether it has changed anything.

        Raises:
            ClientError: the operation is not allowed or not possible.
            StoreError: the change cannot be stored, and was not made.
        """
        if not OPERATIONS[operation]:
            return Schema(self.access, actor).perform(operation, arguments), False
        names = self._commands()        # taken here, in the event loop's thread: `change` runs in another

        def change(access: Access) -> Any:
            return Schema(access, actor, names, session_uid).perform(operation, arguments)

        return self._do(self._transact, change, tell)

    def _do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a function that uses the store, after those called before. It completes even if the caller is killed."""
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
        result, has_changed = self._ask_store(self._store.commit, operation)
        self._store.publish()
        if has_changed:
            self.on_change()
            tell()
        return result, has_changed

    def refresh(self) -> None:
        """Reads the changes of other processes.

        Raises:
            StoreError: the file cannot be read.
        """
        self._do(self._refresh)

    def _refresh(self) -> None:
        if self._ask_store(self._store.refresh):
            self.on_change()

    def seconds_to_wait(self, name: str, address: str) -> float:
        """How many seconds a login must be delayed. The attempt counts as failed until authenticate() succeeds.

        Raises:
            StatementError: too many logins have failed, so this one is refused.
        """
        seconds = self._throttle.seconds_to_wait(name, address, time.monotonic())
        if seconds > self._throttle.longest:
            raise StatementError(f'too many failed logins: try again in {seconds:.0f} seconds')
        return seconds

    def authenticate(self, name: str, address: str, matches: Callable[[str], bool]) -> User | None:
        """Checks a password. Wait first, for seconds_to_wait().

        Args:
            name: the user who logs in.
            address: the peer of the session.
            matches: whether the password has the given hash. Called with '' if the user does not exist.

        Returns:
            The user; None if the password is wrong or the user does not exist. The password of guest is empty.

        Raises:
            ClientError: the user has no privilege `session`.
        """
        self.refresh()
        access = self.access
        user = access.user(name)
        # The password is hashed even if the user does not exist: the time must not tell which users exist.
        kept = '' if user is None else EMPTY_HASH if user.id == GUEST else user.hash
        if not matches(kept) or user is None:
            return None
        if not access.may_log_in(user.id):
            raise access.denied(user.id, 'session', 'universe', '')
        self._throttle.succeeded(name, address)
        return user

    def find_su(self, login: int, asking: int, name: str | float) -> User:
        """The user for box.session.su(name).

        Args:
            login: the uid that the session logged in as. Unless it is admin or has the role super, the session can only
                return to this user.
            asking: the uid that the session has now, for errors.
            name: a name or a uid.

        Raises:
            ClientError: the user does not exist, or the session may not become that user.
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

    def give_up(self) -> None:
        """In a forked child: closes the file, since SQLite may use no connection of the parent."""
        # During a change, a thread of the parent held SQLite's own locks: a close would wait for ever.
        if not self._in_memory and not self._lock.locked():
            self._store.close()

    def close(self) -> None:
        """Closes the file, after the running change."""
        if not self._in_memory:
            with self._lock:
                self._store.close()


def _outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    """(True, result) or (False, error): the thread pool would report an exception that a function raises."""
    try:
        return True, function(*arguments)
    except Exception as error:
        return False, error
