"""The actor: the user who looks up or changes users and grants, and what it may see and do."""
from __future__ import annotations

from typing import Any

from boxsession.base.errors import ClientError
from boxsession.users.access import EVERY, PUBLIC, UNIVERSE, Access, Function, User
from boxsession.users.arguments import checked_key, text

__all__ = ['Actor']


class Actor:
    """The user who looks up or changes users and grants.

    Args:
        access: all users and grants.
        uid: the id of the user.
    """

    def __init__(self, access: Access, uid: int):
        self.access = access
        self.uid = uid

    def has(self, privilege: str, kind: str = 'universe', object_id: int = UNIVERSE) -> bool:
        """Whether the actor has a privilege on an object."""
        return self.access.has(self.uid, privilege, kind, object_id)

    def denied(self, privilege: str, kind: str, name: str) -> ClientError:
        """The error of a missing privilege."""
        return self.access.denied(self.uid, privilege, kind, name)

    def need(self, privilege: str, kind: str, object_id: int, name: str, owner: int | None = None) -> None:
        """Checks that the actor owns an object, or has a privilege on it.

        Raises:
            ClientError: neither is true.
        """
        if self.uid != owner and not self.has(privilege, kind, object_id):
            raise self.denied(privilege, kind, name)

    def need_to_write(self, space: str) -> None:
        """Checks that the actor may read and write. Tarantool keeps users and grants in spaces, and its error names one.

        Raises:
            ClientError: it has no `read` or `write` on universe.
        """
        for privilege in ('read', 'write'):
            if not self.has(privilege):
                raise self.denied(privilege, 'space', space)

    def _sees(self, kind: str, thing: User | Function) -> bool:
        if self.uid in (thing.id if kind != 'function' else None, thing.owner) or thing.id == PUBLIC and kind == 'role':
            return True
        return self.has('read') or self.has_grant(kind, thing.id)

    def has_grant(self, kind: str, object_id: int) -> bool:
        """Whether the actor was granted any privilege on an object, or on all objects of its type."""
        return any(self.access.granted(grantee, kind, where) for grantee in self.access.grantees(self.uid)
                   for where in (object_id, EVERY))

    def user(self, name: Any, kind: str) -> User | None:
        """The user or the role with this name; None if it does not exist, or the actor may not see it."""
        user = self.access.find(checked_key(name), kind)
        return user if user is not None and self._sees(kind, user) else None

    def function(self, name: Any) -> Function | None:
        """The function with this name; None if it does not exist, or the actor may not see it."""
        function = self.access.function(name)
        return function if function is not None and self._sees('function', function) else None

    def known(self, name: Any, kind: str) -> User:
        """Like user(), but raises an error instead of returning None.

        Raises:
            ClientError: it does not exist, or the actor may not see it.
        """
        user = self.user(name, kind)
        if user is None:
            raise ClientError('NO_SUCH_USER' if kind == 'user' else 'NO_SUCH_ROLE', text(name))
        return user
