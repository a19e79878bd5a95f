"""Users, roles, functions and grants, as in Tarantool 2.6, and who may do what by them. Pure data.

`boxsession.users.schema` has the rules of changing them.
"""
from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from boxsession.base.errors import ClientError
from boxsession.lua import contract

__all__ = ['ADMIN', 'EVERY', 'GRANTABLE', 'GUEST', 'PRIVILEGES', 'PUBLIC', 'SUPER', 'SYSTEM', 'UNIVERSE', 'Access',
           'Function', 'Grant', 'Level', 'Rows', 'User', 'bits']

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
}
UNIVERSE = 0
# The object id of a grant on all objects of a type. Greater than every id, so listings show it last.
EVERY = 1 << 40


class Level(IntEnum):
    """What the statements of a user may do."""

    SANDBOX = contract.SANDBOX      # only harmless functions, and what was granted
    READ = contract.READ            # also read everything
    FULL = contract.FULL            # everything


@dataclass(frozen=True, slots=True)
class User:
    """A user or a role."""

    id: int
    name: str
    kind: str                   # 'user' or 'role'
    owner: int
    hash: str = ''              # of the password (`boxsession.users.passwords`); '' without a password


@dataclass(frozen=True, slots=True)
class Function:
    """A function that can be granted: a Lua global of that name. With `setuid` it runs as `owner`, else as the caller."""

    id: int
    name: str
    owner: int
    setuid: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """Privileges of a user or role on an object."""

    grantee: int
    type: str                   # a key of GRANTABLE
    object: int                 # an id, UNIVERSE or EVERY
    privileges: int             # a bit mask: see PRIVILEGES
    grantor: int


# The rows of each table, by the table's name.
Rows = dict[str, set[tuple[Any, ...]]]


class Access:
    """All users, roles, functions and grants. A new object has the users admin and guest, and the roles public,
    replication (it can be dropped) and super.

    Attributes:
        commands: names of the granted console commands, by the object id in the grants.
    """

    def __init__(self) -> None:
        self.users = {user.id: user for user in (
            User(GUEST, 'guest', 'user', ADMIN), User(ADMIN, 'admin', 'user', ADMIN),
            User(PUBLIC, 'public', 'role', ADMIN), User(REPLICATION, 'replication', 'role', ADMIN),
            User(SUPER, 'super', 'role', ADMIN))}
        self.functions: dict[int, Function] = {}
        self.commands: dict[int, str] = {}
        self.grants: dict[tuple[int, str, int], Grant] = {}
        # Ids are never reused: a session whose user was dropped must not become another user.
        self.last_id = SUPER
        for who in (ADMIN, SUPER):
            self.put(who, 'universe', UNIVERSE, _ALL, ADMIN)
        self.put(REPLICATION, 'universe', UNIVERSE, bits('read'), ADMIN)
        self.welcome(GUEST, ADMIN)

    def copy(self) -> Access:
        """A copy that can be changed without changing this object."""
        twin = copy.copy(self)
        twin.users, twin.functions, twin.grants = dict(self.users), dict(self.functions), dict(self.grants)
        twin.commands = dict(self.commands)
        return twin

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
        return {function.name: function.owner if function.setuid else None for function in self.functions.values()
                if function.owner == uid or self.has(uid, 'execute', 'function', function.id)}

    def granted_commands(self, uid: int) -> set[str] | None:
        """The names of the console commands that are granted to a user; None for all commands."""
        if not self.may_use(uid):
            return set()
        if self.has(uid, 'execute', 'command', EVERY):
            return None
        return {name for number, name in self.commands.items() if self.has(uid, 'execute', 'command', number)}

    def may_log_in(self, uid: int) -> bool:
        """Whether sessions may run as this user."""
        return self.has(uid, 'session', 'universe', UNIVERSE)

    def is_super(self, uid: int) -> bool:
        """Whether a user is admin, or has the role super."""
        return uid == ADMIN or SUPER in self.grantees(uid)

    # Lookups

    def by_name(self, name: Any) -> User | None:
        """The user or role with this name."""
        for user in self.users.values():
            if user.name == name:
                return user
        return None

    def find(self, name: Any, kind: str) -> User | None:
        """The user or the role (`kind`) with this name or id."""
        is_id = isinstance(name, (int, float)) and not isinstance(name, bool)
        user = self.users.get(name) if is_id else self.by_name(name)
        return user if user is not None and user.kind == kind else None

    def function(self, name: Any) -> Function | None:
        """The function with this name or id."""
        for function in self.functions.values():
            if name in (function.name, function.id) and not isinstance(name, bool):
                return function
        return None

    def granted(self, grantee: int, kind: str, object_id: int) -> int:
        """The privileges that this user or role was granted directly on this object."""
        grant = self.grants.get((grantee, kind, object_id))
        return grant.privileges if grant else 0

    def roles_of(self, grantee: int) -> Iterator[int]:
        """The roles that a user or role was granted directly."""
        bit = bits('execute')
        for grant in self.grants.values():
            if grant.grantee == grantee and grant.type == 'role' and grant.privileges & bit and grant.object != EVERY:
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
        self.put(uid, 'role', PUBLIC, bits('execute'), ADMIN)
        self.put(uid, 'universe', UNIVERSE, bits('session', 'usage'), ADMIN)
        if uid != GUEST:
            self.put(uid, 'user', uid, bits('alter'), creator)

    def put(self, grantee: int, kind: str, object_id: int, privileges: int, grantor: int) -> None:
        """Sets the privileges of a user or role on an object; 0 removes the grant."""
        key = grantee, kind, object_id
        if privileges:
            self.grants[key] = Grant(*key, privileges, grantor)
        else:
            self.grants.pop(key, None)

    def forget_grants(self, kind: str, object_id: int) -> None:
        """Removes all grants on a dropped object."""
        for key in [key for key in self.grants if key[1:] == (kind, object_id)]:
            del self.grants[key]

    def forget_unused_commands(self) -> None:
        """Removes the ids of commands that are no longer granted to anyone."""
        granted = {grant.object for grant in self.grants.values() if grant.type == 'command'}
        for number in self.commands.keys() - granted:
            del self.commands[number]

    # Storage

    def rows(self) -> Rows:
        """The whole content as rows of tables."""
        return {
            'users': {(u.id, u.name, u.kind, u.owner, u.hash) for u in self.users.values()},
            'functions': {(f.id, f.name, f.owner, int(f.setuid)) for f in self.functions.values()},
            'commands': set(self.commands.items()),
            'grants': {(g.grantee, g.type, g.object, g.privileges, g.grantor) for g in self.grants.values()},
            'meta': {('last_id', self.last_id)},
        }

    @classmethod
    def from_rows(cls, rows: Mapping[str, Any]) -> Access:
        """The inverse of rows().

        Raises:
            ValueError: a system user or role is missing.
        """
        access = cls()
        access.users = {row[0]: User(*row) for row in rows['users']}
        access.functions = {row[0]: Function(row[0], row[1], row[2], bool(row[3])) for row in rows['functions']}
        access.commands = {row[0]: row[1] for row in rows['commands']}
        access.grants = {tuple(row[:3]): Grant(*row) for row in rows['grants']}
        access.last_id = dict(rows['meta']).get('last_id', 0)
        if not all(uid in access.users for uid in SYSTEM) or (ADMIN, 'universe', UNIVERSE) not in access.grants:
            raise ValueError('admin, guest, public or super is missing')
        return access
