"""The user who asks: what it sees, and what it must be allowed."""
from __future__ import annotations

from typing import Any

from boxsession.base.errors import ClientError
from boxsession.users.access import EVERY, PUBLIC, UNIVERSE, Access, Function, User
from boxsession.users.arguments import text

__all__ = ['Actor']


class Actor:
    """A user for whom something is looked up or changed.

    Args:
        access: all that there is.
        uid: the user's.
    """

    def __init__(self, access: Access, uid: int):
        self.access = access
        self.uid = uid

    def has(self, privilege: str, kind: str = 'universe', object_id: int = UNIVERSE) -> bool:
        """Whether it has a privilege on an object."""
        return self.access.has(self.uid, privilege, kind, object_id)

    def denied(self, privilege: str, kind: str, name: str) -> ClientError:
        """The error for what it may not do."""
        return self.access.denied(self.uid, privilege, kind, name)

    def need(self, privilege: str, kind: str, object_id: int, name: str, owner: int | None = None) -> None:
        """Raises unless it owns an object, or has a privilege on it.

        Raises:
            ClientError: neither.
        """
        if self.uid != owner and not self.has(privilege, kind, object_id):
            raise self.denied(privilege, kind, name)

    def need_to_write(self, space: str) -> None:
        """Tarantool keeps these things in spaces, and says so.

        Raises:
            ClientError: it may not write there.
        """
        for privilege in ('read', 'write'):
            if not self.has(privilege):
                raise self.denied(privilege, 'space', space)

    def _sees(self, kind: str, thing: User | Function) -> bool:
        if self.uid in (thing.id if kind != 'function' else None, thing.owner) or thing.id == PUBLIC and kind == 'role':
            return True
        return self.has('read') or self.has_grant(kind, thing.id)

    def has_grant(self, kind: str, object_id: int) -> bool:
        """Whether it was granted anything on an object, or on all of its type."""
        return any(self.access.granted(grantee, kind, where) for grantee in self.access.grantees(self.uid)
                   for where in (object_id, EVERY))

    def user(self, name: Any, kind: str) -> User | None:
        """The user or the role of a name, if it sees that."""
        user = self.access.find(name, kind)
        return user if user is not None and self._sees(kind, user) else None

    def function(self, name: Any) -> Function | None:
        """The function of a name, if it sees that."""
        function = self.access.function(name)
        return function if function is not None and self._sees('function', function) else None

    def known(self, name: Any, kind: str) -> User:
        """The same as user().

        Raises:
            ClientError: there is none.
        """
        user = self.user(name, kind)
        if user is None:
            raise ClientError('NO_SUCH_USER' if kind == 'user' else 'NO_SUCH_ROLE', text(name))
        return user
