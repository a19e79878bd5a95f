"""Users, roles, functions and grants, as in Tarantool 2.6, and who may do what by them. Pure data.

`boxsession.users.schema` has the rules of changing them.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

from boxsession.base.errors import ClientError
from boxsession.lua import contract
from boxsession.users.tables import Function, Grant, Rows, Tables, User

__all__ = ['ADMIN', 'EVERY', 'GRANTABLE', 'GUEST', 'LANGUAGES', 'PRIVILEGES', 'PUBLIC', 'SUPER', 'SYSTEM', 'UNIVERSE',
           'WHOLE', 'Access', 'Function', 'Grant', 'Level', 'Rows', 'User', 'bits']

GUEST, ADMIN, PUBLIC, REPLICATION, SUPER = 0, 1, 2, 3, 31
SYSTEM = (GUEST, ADMIN, PUBLIC, SUPER)

# The bit of each privilege. Listings show privileges in this order.
PRIVILEGES = {name: 1 << number for number, name in enumerate((
    'read', 'write', 'execute', 'session', 'usage', 'create', 'drop', 'alter', 'reference', 'trigger', 'insert', 'update',
    'delete'))}
_ALL = (1 << len(PRIVILEGES)) - 1


def bits(*names: str) -> int:
    """The bit mask of some privileges."""
    return sum(PRIVILEGES[name] for name in names)


# The privileges that can be granted on each type of object.
GRANTABLE = {
    'universe': _ALL,
    'function': bits('execute', 'usage', 'create', 'drop'),
    'role': bits('execute', 'usage', 'create', 'drop'),
    'user': bits('create', 'drop', 'alter'),
    'command': bits('execute'),
    'python': bits('execute'),
    'watch': bits('execute'),
}
# Types of objects without single objects: a grant is on the whole type. Those that are languages.
WHOLE = ('python', 'watch')
LANGUAGES = ('python',)
UNIVERSE = 0
# The object id of a grant on all objects of a type. Greater than every id, so listings show it last.
EVERY = 1 << 40


class Level(IntEnum):
    """What the statements of a user may do."""

    SANDBOX = contract.SANDBOX      # only harmless functions, and what was granted
    READ = contract.READ            # also read everything
    FULL = contract.FULL            # everything


class Access(Tables):
    """All users, roles, functions and grants. A new object has the users admin and guest, and the roles public,
    replication (it can be dropped) and super.

    Args:
        rows: the content, as rows() returns it.

    Raises:
        ValueError: a system user or role is missing.
    """

    def __init__(self, rows: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        if rows is not None:
            self.fill(rows)
            if not all(uid in self.users for uid in SYSTEM) or (ADMIN, 'universe', UNIVERSE) not in self.grants:
                raise ValueError('admin, guest, public or super is missing')
            return
        for user in (User(GUEST, 'guest', 'user', ADMIN), User(ADMIN, 'admin', 'user', ADMIN),
                     User(PUBLIC, 'public', 'role', ADMIN), User(REPLICATION, 'replication', 'role', ADMIN),
                     User(SUPER, 'super', 'role', ADMIN)):
            self.put('users', user.id, user)
        self.put('meta', 'last_id', SUPER)
        for who in (ADMIN, SUPER):
            self.grant(who, 'universe', UNIVERSE, _ALL, ADMIN)
        self.grant(REPLICATION, 'universe', UNIVERSE, bits('read'), ADMIN)
        self.welcome(GUEST, ADMIN)

    @classmethod
    def from_rows(cls, rows: Mapping[str, Any]) -> Access:
        """The inverse of rows().

        Raises:
            ValueError: a system user or role is missing.
        """
        return cls(rows)

    def copy(self) -> Access:
        """A copy that can be changed without changing this object. Takes time for each user."""
        return Access(self.rows())

    # Checks of the running program

    def user(self, name: object) -> User | None:
        """The user (not a role) with this name or uid; None if it does not exist."""
        return self.find(name, 'user')

    def may_use(self, uid: int) -> bool:
        """Whether a user has the privilege `usage`, without which it may do nothing."""
        return self.has(uid, 'usage', 'universe', UNIVERSE)

    def level(self, uid: int) -> Level:
        """What the statements of a user may do; SANDBOX for a user that was dropped."""
        if not self.may_use(uid):
            return Level.SANDBOX
        if self.has(uid, 'execute', 'universe', UNIVERSE):
            return Level.FULL
        return Level.READ if self.has(uid, 'read', 'universe', UNIVERSE) else Level.SANDBOX

    def executable(self, uid: int) -> dict[str, int | None]:
        """The functions that a user may call: the name, and the uid that the function runs as, None for the caller's."""
        if not self.may_use(uid):
            return {}
        ids: Any = set(self.owned('functions', uid))
        if self.has(uid, 'execute', 'function', EVERY):
            ids = self.functions
        else:
            ids |= self._granted(uid, 'function')
        functions = [self.functions[number] for number in sorted(ids)]
        return {function.name: function.owner if function.setuid else None for function in functions}

    def granted_commands(self, uid: int) -> set[str] | None:
        """The names of the console commands that are granted to a user; None for all commands."""
        if not self.may_use(uid):
            return set()
        if self.has(uid, 'execute', 'command', EVERY):
            return None
        return {self.commands[number] for number in self._granted(uid, 'command')}

    def may_speak(self, uid: int, language: str) -> bool:
        """Whether the statements of a user may be in a language. Those in Lua have a sandbox, so all users may."""
        return language == 'lua' or self.may_use(uid) and self.has(uid, 'execute', language, EVERY)

    def may_watch(self, uid: int) -> bool:
        """Whether a user may watch functions of the program."""
        return self.may_use(uid) and self.has(uid, 'execute', 'watch', EVERY)

    def _granted(self, uid: int, kind: str) -> set[int]:
        """The ids of the objects of a type that a user may execute, by a grant on the object to it or its roles."""
        bit = bits('execute')
        return {grant.object for grantee in self.grantees(uid) for grant in self.grants_of(grantee).values()
                if grant.type == kind and grant.privileges & bit and grant.object != EVERY}

    def may_log_in(self, uid: int) -> bool:
        """Whether sessions may run as this user."""
        return self.has(uid, 'session', 'universe', UNIVERSE)

    def is_super(self, uid: int) -> bool:
        """Whether a user is admin, or has the role super."""
        return uid == ADMIN or SUPER in self.grantees(uid)

    # Lookups

    def by_name(self, name: Any) -> User | None:
        """The user or role with this name."""
        uid = self.id_of('users', name)
        return None if uid is None else self.users[uid]

    def find(self, name: Any, kind: str) -> User | None:
        """The user or the role (`kind`) with this name or id."""
        user = self.users.get(name) if _is_id(name) else self.by_name(name)
        return user if user is not None and user.kind == kind else None

    def function(self, name: Any) -> Function | None:
        """The function with this name or id."""
        number = name if _is_id(name) else self.id_of('functions', name)
        return None if number is None else self.functions.get(number)

    def granted(self, grantee: int, kind: str, object_id: int) -> int:
        """The privileges that this user or role was granted directly on this object."""
        grant = self.grants.get((grantee, kind, object_id))
        return grant.privileges if grant else 0

    def roles_of(self, grantee: int) -> Iterator[int]:
        """The roles that a user or role was granted directly."""
        bit = bits('execute')
        for grant in self.grants_of(grantee).values():
            if grant.type == 'role' and grant.privileges & bit and grant.object != EVERY:
                yield grant.object

    def grantees(self, uid: int) -> set[int]:
        """The ids of a user and of all its roles, also those that it has through another role."""
        found, new = set(), [uid]
        while new:
            grantee = new.pop()
            if grantee not in found:
                found.add(grantee)
                new += self.roles_of(grantee)
        return found

    def has(self, uid: int, privilege: str, kind: str, object_id: int) -> bool:
        """Whether a user has a privilege on an object: by a grant on the object, on its type or on universe, to it or its
        roles."""
        if uid == ADMIN:
            return True
        bit = PRIVILEGES[privilege]
        objects = [('universe', UNIVERSE), (kind, EVERY), (kind, object_id)]
        return any(self.granted(grantee, *where) & bit for grantee in self.grantees(uid) for where in objects)

    def denied(self, uid: int, privilege: str, kind: str, name: str) -> ClientError:
        """The error of a user without a privilege."""
        user = self.users.get(uid)
        return ClientError('ACCESS_DENIED', privilege.capitalize(), kind, name, user.name if user else str(uid))

    # Changes

    def welcome(self, uid: int, creator: int) -> None:
        """Adds the grants that every new user has."""
        self.grant(uid, 'role', PUBLIC, bits('execute'), ADMIN)
        self.grant(uid, 'universe', UNIVERSE, bits('session', 'usage'), ADMIN)
        if uid != GUEST:
            self.grant(uid, 'user', uid, bits('alter'), creator)

    def grant(self, grantee: int, kind: str, object_id: int, privileges: int, grantor: int) -> None:
        """Sets the privileges of a user or role on an object; 0 removes the grant."""
        key = grantee, kind, object_id
        if privileges:
            self.put('grants', key, Grant(*key, privileges, grantor))
        else:
            self.remove('grants', key)

    def forget_grants(self, kind: str, object_id: int) -> None:
        """Removes all grants on a dropped object."""
        for grantee in self.grantees_on(kind, object_id):
            self.remove('grants', (grantee, kind, object_id))

    def forget_grantee(self, grantee: int) -> None:
        """Removes all grants of a dropped user or role."""
        for kind, object_id in list(self.grants_of(grantee)):
            self.remove('grants', (grantee, kind, object_id))


def _is_id(name: object) -> bool:
    return isinstance(name, (int, float)) and not isinstance(name, bool)
