"""Who may do what: users, roles, functions and the privileges on them, as Tarantool 2.6 has them.

Pure data and rules. An operation is a method of `Access` whose first argument is who asks for it (a uid); it changes the
object that it is called on, or raises `ClientError` and has changed nothing that matters: callers work on a copy
(`Access.copy`) and keep it only when it was stored. Names and messages of operations and errors are Tarantool's
(`box.schema.user`, `box.schema.role`, `box.schema.func`).
"""
from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from boxsession.base.errors import ClientError
from boxsession.lua import contract
from boxsession.users.passwords import password_hash

__all__ = ['ADMIN', 'GUEST', 'OPERATIONS', 'PUBLIC', 'SUPER', 'Access', 'Function', 'Grant', 'Level', 'Rows',
           'User']

GUEST, ADMIN, PUBLIC, SUPER = 0, 1, 2, 31
_SYSTEM = (GUEST, ADMIN, PUBLIC, SUPER)

# In the order in which they are told.
_PRIVILEGES = ('read', 'write', 'execute', 'session', 'usage', 'create', 'drop', 'alter', 'reference', 'trigger', 'insert',
               'update', 'delete')
_BITS = {name: 1 << number for number, name in enumerate(_PRIVILEGES)}
_ALL = (1 << len(_PRIVILEGES)) - 1


def _bits(*names: str) -> int:
    return sum(_BITS[name] for name in names)


# What can be granted on what, by the type of the object.
_GRANTABLE = {
    'universe': _ALL,
    'function': _bits('execute', 'usage', 'create', 'drop'),
    'role': _bits('execute', 'usage', 'create', 'drop'),
    'user': _bits('create', 'drop', 'alter'),
    'command': _bits('execute'),
}
_UNIVERSE = 0
_NOTHING = -1               # the object where there is nothing that could have been granted
# The object of a privilege on all that are of a type; above all ids, and last where they are told.
_EVERY = 1 << 40
_NAME_BYTES = 65000
_USER_NAME_LENGTH = 255


class Level(IntEnum):
    """What a user's statements may reach."""

    SANDBOX = contract.SANDBOX      # what is harmless, and what was granted
    READ = contract.READ            # besides, everything can be looked at
    FULL = contract.FULL            # everything


@dataclass(frozen=True, slots=True)
class User:
    """A user, or a role (`kind`), with the hash of its password, '' for none."""

    id: int
    name: str
    kind: str                   # 'user' or 'role'
    owner: int
    hash: str = ''              # see `boxsession.users.passwords`


@dataclass(frozen=True, slots=True)
class Function:
    """A function that may be granted: a global of that name, called as `owner` with `setuid`."""

    id: int
    name: str
    owner: int
    setuid: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """Privileges of a user or role on an object."""

    grantee: int
    type: str                   # a key of _GRANTABLE
    object: int                 # an id, _UNIVERSE or _EVERY
    privileges: int             # bits, in the order of _PRIVILEGES
    grantor: int


# The rows of each table.
Rows = dict[str, set[tuple[Any, ...]]]


class Access:
    """All users, roles, functions and grants. A new one has admin, guest, and the roles public and super.

    Attributes:
        commands: names of the console's commands that somebody was granted, by the id that grants know them by.
        command_names: those of all commands there are, of which the program tells before each change. Not stored.
    """

    def __init__(self) -> None:
        self.users = {user.id: user for user in (
            User(GUEST, 'guest', 'user', ADMIN), User(ADMIN, 'admin', 'user', ADMIN),
            User(PUBLIC, 'public', 'role', ADMIN), User(SUPER, 'super', 'role', ADMIN))}
        self.functions: dict[int, Function] = {}
        self.commands: dict[int, str] = {}
        self.command_names: Collection[str] = ()
        self.grants: dict[tuple[int, str, int], Grant] = {}
        # Ids are never used twice, so that a session cannot wake up as somebody else.
        self.last_id = SUPER
        for who in (ADMIN, SUPER):
            self._put(who, 'universe', _UNIVERSE, _ALL, ADMIN)
        self._welcome(GUEST, ADMIN)

    def copy(self) -> Access:
        """One to be changed in its place."""
        twin = copy.copy(self)
        twin.users, twin.functions, twin.grants = dict(self.users), dict(self.functions), dict(self.grants)
        twin.commands = dict(self.commands)
        return twin

    # What the rest of the program asks

    def user(self, name: object) -> User | None:
        """The user (not a role) of a name, or of a uid."""
        return self._find(name, 'user')

    def level(self, uid: int) -> Level:
        """What the statements of a user may reach; SANDBOX for one that is gone."""
        if not self._has(uid, 'usage', 'universe', _UNIVERSE):
            return Level.SANDBOX
        if self._has(uid, 'execute', 'universe', _UNIVERSE):
            return Level.FULL
        return Level.READ if self._has(uid, 'read', 'universe', _UNIVERSE) else Level.SANDBOX

    def executable(self, uid: int) -> dict[str, int | None]:
        """The functions that a user may call: name to the uid that it runs as, None for the caller's own."""
        if not self._has(uid, 'usage', 'universe', _UNIVERSE):
            return {}
        return {function.name: function.owner if function.setuid else None for function in self.functions.values()
                if function.owner == uid or self._has(uid, 'execute', 'function', function.id)}

    def granted_commands(self, uid: int) -> set[str] | None:
        """The console's commands that were granted to a user; None for all."""
        if not self._has(uid, 'usage', 'universe', _UNIVERSE):
            return set()
        if self._has(uid, 'execute', 'command', _EVERY):
            return None
        return {name for number, name in self.commands.items() if self._has(uid, 'execute', 'command', number)}

    def may_log_in(self, uid: int) -> bool:
        """Whether sessions may run as this user."""
        return self._has(uid, 'session', 'universe', _UNIVERSE)

    def is_super(self, uid: int) -> bool:
        """Whether it is admin, or holds the role super."""
        return uid == ADMIN or SUPER in self._grantees(uid)

    def rows(self) -> Rows:
        """All of it as rows of tables."""
        return {
            'users': {(u.id, u.name, u.kind, u.owner, u.hash) for u in self.users.values()},
            'functions': {(f.id, f.name, f.owner, int(f.setuid)) for f in self.functions.values()},
            'commands': set(self.commands.items()),
            'grants': {(g.grantee, g.type, g.object, g.privileges, g.grantor) for g in self.grants.values()},
            'meta': {('last_id', self.last_id)},
        }

    @classmethod
    def from_rows(cls, rows: Mapping[str, Any]) -> Access:
        """What rows() gave.

        Raises:
            ValueError: what must be there is not.
        """
        access = cls()
        access.users = {row[0]: User(*row) for row in rows['users']}
        access.functions = {row[0]: Function(row[0], row[1], row[2], bool(row[3])) for row in rows['functions']}
        access.commands = {row[0]: row[1] for row in rows['commands']}
        access.grants = {tuple(row[:3]): Grant(*row) for row in rows['grants']}
        access.last_id = dict(rows['meta']).get('last_id', 0)
        if not all(uid in access.users for uid in _SYSTEM) or (ADMIN, 'universe', _UNIVERSE) not in access.grants:
            raise ValueError('admin, guest, public or super is missing')
        return access

    # Users

    def user_create(self, actor: int, name: object = None, options: object = None) -> None:
        options = _options(options, password=str, if_not_exists=bool)
        user = self._create('user', actor, name, options)
        if user is not None and 'password' in options:
            self._set_password(user, options['password'])

    def user_drop(self, actor: int, name: object = None, options: object = None) -> None:
        self._drop('user', actor, name, options)

    def user_exists(self, actor: int, name: object = None) -> bool:
        return self._visible(actor, name, 'user') is not None

    def user_passwd(self, actor: int, *arguments: object) -> None:
        """(password) sets one's own, (name, password) another's."""
        if not arguments or arguments[0] is None:
            raise ClientError('PROC_LUA', 'Usage: box.schema.user.passwd([user,] password)')
        if len(arguments) == 1:
            user, password = self.users.get(actor), arguments[0]
        else:
            user, password = self._known(actor, arguments[0], 'user'), arguments[1]
        if not isinstance(password, (str, bytes)):
            raise ClientError('PROC_LUA', 'Usage: box.schema.user.passwd([user,] password)')
        if user is None:
            raise ClientError('NO_SUCH_USER', actor)
        if user.id != actor:
            if not self._has(actor, 'write', 'universe', _UNIVERSE):
                raise self.denied(actor, 'write', 'space', '_user')
            self._need(actor, 'alter', 'user', user.id, user.name, user.owner)
            # Whoever sets a password can log in by it: so nobody reaches a user who may do more.
            if self.level(user.id) > self.level(actor) or self.is_super(user.id) and not self.is_super(actor):
                raise self.denied(actor, 'alter', 'user', user.name)
        self._set_password(user, password)

    def user_info(self, actor: int, name: object = None) -> list[list[str]]:
        user = self.users.get(actor) if name is None else self._known(actor, name, 'user')
        return self._info(user)

    def user_grant(self, actor: int, name: object = None, *arguments: object) -> None:
        self._grant(self._known(actor, name, 'user'), actor, *arguments)

    def user_revoke(self, actor: int, name: object = None, *arguments: object) -> None:
        self._revoke(self._known(actor, name, 'user'), actor, *arguments)

    def user_enable(self, actor: int, name: object = None) -> None:
        self._grant(self._known(actor, name, 'user'), actor, 'session,usage', 'universe', None, {'if_not_exists': True})

    def user_disable(self, actor: int, name: object = None) -> None:
        self._revoke(self._known(actor, name, 'user'), actor, 'session,usage', 'universe', None, {'if_exists': True})

    # Roles

    def role_create(self, actor: int, name: object = None, options: object = None) -> None:
        self._create('role', actor, name, _options(options, if_not_exists=bool))

    def role_drop(self, actor: int, name: object = None, options: object = None) -> None:
        self._drop('role', actor, name, options)

    def role_exists(self, actor: int, name: object = None) -> bool:
        return self._visible(actor, name, 'role') is not None

    def role_info(self, actor: int, name: object = None) -> list[list[str]]:
        return self._info(self._known(actor, name, 'role'))

    def role_grant(self, actor: int, name: object = None, *arguments: object) -> None:
        self._grant(self._known(actor, name, 'role'), actor, *arguments)

    def role_revoke(self, actor: int, name: object = None, *arguments: object) -> None:
        self._revoke(self._known(actor, name, 'role'), actor, *arguments)

    # Functions

    def func_create(self, actor: int, name: object = None, options: object = None) -> None:
        name = _identifier(name)
        options = _options(options, if_not_exists=bool, setuid=bool, language=str, body=str)
        if self._visible_function(actor, name) is None:
            self._need_to_write(actor, '_func')
        if self._function(name) is not None:
            if options.get('if_not_exists'):
                return
            raise ClientError('FUNCTION_EXISTS', name)
        if options.get('language', 'LUA').upper() != 'LUA':
            raise ClientError('FUNCTION_LANGUAGE', options['language'], name)
        if 'body' in options:
            raise ClientError('CREATE_FUNCTION', name, 'a body is not kept here: make it a global in the init script')
        self._need_to_write(actor, '_func')
        self._need(actor, 'create', 'function', _EVERY, name)
        if self.level(actor) < Level.FULL:
            # Its owner may call it, whatever global it names.
            raise self.denied(actor, 'create', 'function', name)
        self.last_id += 1
        self.functions[self.last_id] = Function(self.last_id, name, actor, options.get('setuid', False))

    def func_drop(self, actor: int, name: object = None, options: object = None) -> None:
        options = _options(options, if_exists=bool)
        function = self._visible_function(actor, name)
        if function is None:
            if options.get('if_exists'):
                return
            raise ClientError('NO_SUCH_FUNCTION', _text(name))
        self._need(actor, 'drop', 'function', function.id, function.name, function.owner)
        del self.functions[function.id]
        self._forget_grants('function', function.id)

    def func_exists(self, actor: int, name: object = None) -> bool:
        return self._visible_function(actor, name) is not None

    # Inside

    def _welcome(self, uid: int, creator: int) -> None:
        """What everybody new has."""
        self._put(uid, 'role', PUBLIC, _bits('execute'), ADMIN)
        self._put(uid, 'universe', _UNIVERSE, _bits('session', 'usage'), ADMIN)
        if uid != GUEST:
            self._put(uid, 'user', uid, _bits('alter'), creator)

    def _put(self, grantee: int, kind: str, object_id: int, privileges: int, grantor: int) -> None:
        key = grantee, kind, object_id
        if privileges:
            self.grants[key] = Grant(*key, privileges, grantor)
        else:
            self.grants.pop(key, None)

    def _granted(self, grantee: int, kind: str, object_id: int) -> int:
        grant = self.grants.get((grantee, kind, object_id))
        return grant.privileges if grant else 0

    def _by_name(self, name: Any) -> User | None:
        for user in self.users.values():
            if user.name == name:
                return user
        return None

    def _find(self, name: Any, kind: str) -> User | None:
        is_id = isinstance(name, (int, float)) and not isinstance(name, bool)
        if is_id:
            user = self.users.get(name)
        else:
            user = self._by_name(name)
        return user if user is not None and user.kind == kind else None

    def _function(self, name: Any) -> Function | None:
        for function in self.functions.values():
            if name in (function.name, function.id) and not isinstance(name, bool):
                return function
        return None

    def _roles_of(self, grantee: int) -> Iterator[int]:
        bit = _bits('execute')
        for grant in self.grants.values():
            if grant.grantee == grantee and grant.type == 'role' and grant.privileges & bit and grant.object != _EVERY:
                yield grant.object

    def _grantees(self, uid: int) -> set[int]:
        """A user and all roles that it has, directly or by another role."""
        found, new = set(), [uid]
        while new:
            grantee = new.pop()
            if grantee not in found:
                found.add(grantee)
                new += self._roles_of(grantee)
        return found

    def _has(self, uid: int, privilege: str, kind: str, object_id: int) -> bool:
        if uid == ADMIN:
            return True
        bit = _BITS[privilege]
        objects = [('universe', _UNIVERSE), (kind, _EVERY), (kind, object_id)]
        return any(self._granted(grantee, *where) & bit for grantee in self._grantees(uid) for where in objects)

    def _name(self, uid: int) -> str:
        user = self.users.get(uid)
        return user.name if user else str(uid)

    def denied(self, uid: int, privilege: str, kind: str, name: str) -> ClientError:
        """The error for what a user may not do."""
        return ClientError('ACCESS_DENIED', privilege.capitalize(), kind, name, self._name(uid))

    def _need(self, actor: int, privilege: str, kind: str, object_id: int, name: str, owner: int | None = None) -> None:
        if actor != owner and not self._has(actor, privilege, kind, object_id):
            raise self.denied(actor, privilege, kind, name)

    def _need_to_write(self, actor: int, space: str) -> None:
        """Tarantool keeps these things in spaces, and says so."""
        for privilege in ('read', 'write'):
            if not self._has(actor, privilege, 'universe', _UNIVERSE):
                raise self.denied(actor, privilege, 'space', space)

    def _sees(self, actor: int, kind: str, thing: User | Function) -> bool:
        if actor in (thing.id if kind != 'function' else None, thing.owner) or thing.id == PUBLIC and kind == 'role':
            return True
        if self._has(actor, 'read', 'universe', _UNIVERSE):
            return True
        return any(self._granted(grantee, kind, where) for grantee in self._grantees(actor) for where in (thing.id, _EVERY))

    def _visible(self, actor: int, name: Any, kind: str) -> User | None:
        user = self._find(name, kind)
        return user if user is not None and self._sees(actor, kind, user) else None

    def _visible_function(self, actor: int, name: Any) -> Function | None:
        function = self._function(name)
        return function if function is not None and self._sees(actor, 'function', function) else None

    def _known(self, actor: int, name: Any, kind: str) -> User:
        user = self._visible(actor, name, kind)
        if user is None:
            raise ClientError('NO_SUCH_USER' if kind == 'user' else 'NO_SUCH_ROLE', _text(name))
        return user

    def _create(self, kind: str, actor: int, name: Any, options: dict[str, Any]) -> User | None:
        """The new user or role; None for one that is there already, of which nothing changes."""
        if isinstance(name, (int, float)) and not isinstance(name, bool):
            name = f'{name:g}'
        name = _identifier(name)
        self._need_to_write(actor, '_user')
        if self._by_name(name) is not None:
            if options.get('if_not_exists'):
                return None
            raise ClientError('USER_EXISTS' if kind == 'user' else 'ROLE_EXISTS', name)
        self._need(actor, 'create', kind, _EVERY, name)
        if kind == 'user' and (len(name) > _USER_NAME_LENGTH or any(c.isspace() or c in ':@' for c in name)):
            raise ClientError('CREATE_USER', name[:_USER_NAME_LENGTH], 'who logs in needs a name without blanks, `:` and '
                              f'`@`, of up to {_USER_NAME_LENGTH} characters')
        self.last_id += 1
        user = self.users[self.last_id] = User(self.last_id, name, kind, actor)
        if kind == 'user':
            self._welcome(user.id, actor)
        return user

    def _drop(self, kind: str, actor: int, name: Any, options: Any) -> None:
        options = _options(options, if_exists=bool)
        user = self._visible(actor, name, kind)
        if user is None:
            if options.get('if_exists'):
                return
            raise ClientError('NO_SUCH_USER' if kind == 'user' else 'NO_SUCH_ROLE', _text(name))
        if user.id in _SYSTEM:
            raise ClientError('DROP_USER', user.name, 'the user or the role is a system')
        if user.id == actor:
            raise ClientError('DROP_USER', user.name, 'the user is active in the current session')
        self._need(actor, 'drop', kind, user.id, user.name, user.owner)
        if any(other.owner == user.id for other in self.users.values()) \
                or any(function.owner == user.id for function in self.functions.values()):
            raise ClientError('DROP_USER', user.name, 'the user has objects')
        del self.users[user.id]
        for key in [key for key in self.grants if key[0] == user.id]:
            del self.grants[key]
        self._forget_grants(kind, user.id)
        self._forget_unused_commands()

    def _forget_grants(self, kind: str, object_id: int) -> None:
        for key in [key for key in self.grants if key[1:] == (kind, object_id)]:
            del self.grants[key]

    def _forget_unused_commands(self) -> None:
        granted = {grant.object for grant in self.grants.values() if grant.type == 'command'}
        for number in self.commands.keys() - granted:
            del self.commands[number]

    def _set_password(self, user: User, password: str | bytes) -> None:
        if user.id == GUEST and password not in ('', b''):
            raise ClientError('GUEST_USER_PASSWORD')
        self.users[user.id] = replace(user, hash=password_hash(password))

    def set_password(self, name: str, password: str) -> None:
        """Sets a user's password for who runs the program itself.

        Raises:
            ClientError: there is no such user, or it is guest.
        """
        self.user_passwd(ADMIN, name, password)

    # Grants

    def _object(self, actor: int, kind: str, name: Any, is_new: bool = False) -> int:
        """The id of what a privilege is on; `is_new` where it is to be granted."""
        if kind == 'universe':
            return _UNIVERSE
        if name is None or name == '':
            return _EVERY
        if kind == 'function':
            function = self._visible_function(actor, name)
            if function is None:
                raise ClientError('NO_SUCH_FUNCTION', _text(name))
            return function.id
        if kind == 'command':
            return self._command(actor, name, is_new)
        return self._known(actor, name, kind).id

    def _command(self, actor: int, name: Any, is_new: bool) -> int:
        """The id of a command; with `is_new` it gets one, where nobody was granted it yet, else it is _NOTHING."""
        found = next((number for number, known in self.commands.items() if known == name), _NOTHING)
        sees = self._has(actor, 'read', 'universe', _UNIVERSE) or any(
            self._granted(grantee, 'command', where) for grantee in self._grantees(actor) for where in (found, _EVERY))
        if not sees or found == _NOTHING and not (isinstance(name, str) and name in self.command_names):
            raise ClientError('PROC_LUA', f"Command '{_text(name)}' does not exist")
        if found == _NOTHING and is_new:
            self.last_id += 1
            found = self.last_id
            self.commands[found] = name
        return found

    def _privileges(self, privileges: Any, kind: Any) -> int:
        if not isinstance(kind, str) or kind not in _GRANTABLE:
            raise ClientError('UNKNOWN_SCHEMA_OBJECT', _text(kind))
        bits = 0
        for name in _text(privileges).replace(' ', '').split(','):
            if not _BITS.get(name, 0) & _GRANTABLE[kind]:
                raise ClientError('UNSUPPORTED_PRIV', kind, name)
            bits |= _BITS[name]
        return bits

    def _arguments(self, arguments: tuple[Any, ...], flag: str) -> tuple[Any, Any, Any, dict[str, Any]]:
        privileges, kind, name, options = (*arguments, None, None, None, None)[:4]
        if kind is None:
            # A role alone.
            if privileges is None:
                raise ClientError('PROC_LUA', "Usage: grant(name, privileges, object type [, object name])")
            return 'execute', 'role', privileges, _options(name, **{flag: bool})
        return privileges, kind, name, _options(options, **{flag: bool})

    def _need_to_grant(self, actor: int, grantee: User, kind: str, object_id: int, name: Any) -> None:
        if not self._has(actor, 'write', 'universe', _UNIVERSE):
            raise self.denied(actor, 'write', 'space', '_priv')
        if grantee.id == ADMIN:
            raise ClientError('GRANT', 'admin has all privileges, and keeps them')
        if grantee.id == SUPER and kind == 'universe':
            raise ClientError('GRANT', 'super is all privileges on universe, and stays so')
        if object_id in (_UNIVERSE, _EVERY) or kind == 'command':
            owner = ADMIN
        else:
            owner = (self.functions if kind == 'function' else self.users)[object_id].owner
        if actor not in (ADMIN, owner):
            raise self.denied(actor, 'grant', kind, _text('' if name is None else name))

    def _grant(self, grantee: User, actor: int, *arguments: Any) -> None:
        privileges, kind, name, options = self._arguments(arguments, 'if_not_exists')
        bits = self._privileges(privileges, kind)
        object_id = self._object(actor, kind, name, is_new=True)
        had = self._granted(grantee.id, kind, object_id)
        if bits & ~had == 0:
            if options.get('if_not_exists'):
                return
            if kind == 'role' and object_id != _EVERY and privileges == 'execute':
                raise ClientError('ROLE_GRANTED', grantee.name, _text(name))
            raise ClientError('PRIV_GRANTED', grantee.name, privileges, kind, '' if name is None else f" '{_text(name)}'")
        self._need_to_grant(actor, grantee, kind, object_id, name)
        if kind == 'role' and object_id != _EVERY and bits & _BITS['execute'] and grantee.id in self._grantees(object_id):
            raise ClientError('ROLE_LOOP', _text(name), grantee.name)
        self._put(grantee.id, kind, object_id, had | bits, actor)

    def _revoke(self, grantee: User, actor: int, *arguments: Any) -> None:
        privileges, kind, name, options = self._arguments(arguments, 'if_exists')
        bits = self._privileges(privileges, kind)
        object_id = self._object(actor, kind, name)
        had = self._granted(grantee.id, kind, object_id)
        if not bits & had:
            if options.get('if_exists'):
                return
            if kind == 'role' and object_id != _EVERY and privileges == 'execute':
                raise ClientError('ROLE_NOT_GRANTED', grantee.name, _text(name))
            raise ClientError('PRIV_NOT_GRANTED', grantee.name, privileges, kind, '' if name is None else _text(name))
        self._need_to_grant(actor, grantee, kind, object_id, name)
        self._put(grantee.id, kind, object_id, had & ~bits, actor)
        self._forget_unused_commands()

    def _info(self, user: User | None) -> list[list[str]]:
        if user is None:
            return []
        shown = []
        for grant in sorted((g for g in self.grants.values() if g.grantee == user.id), key=lambda g: (g.type, g.object)):
            names = ','.join(name for name in _PRIVILEGES if grant.privileges & _BITS[name])
            shown.append([names, grant.type, self._object_name(grant)])
        return shown

    def _object_name(self, grant: Grant) -> str:
        if grant.type == 'command':
            return self.commands.get(grant.object, '')
        things = self.functions if grant.type == 'function' else self.users
        thing = things.get(grant.object) if grant.type != 'universe' else None
        return thing.name if thing else ''


# Operations by the name that Lua calls them by, and whether they change anything.
OPERATIONS = {f'{kind}_{verb}': verb not in ('exists', 'info')
              for kind, verbs in (('user', ('create', 'drop', 'exists', 'passwd', 'info', 'grant', 'revoke', 'enable',
                                            'disable')),
                                  ('role', ('create', 'drop', 'exists', 'info', 'grant', 'revoke')),
                                  ('func', ('create', 'drop', 'exists')))
              for verb in verbs}


def _text(value: Any) -> str:
    """A name as errors tell it."""
    if value is None:
        return 'nil'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f'{value:g}'
    return value.decode(errors='replace') if isinstance(value, bytes) else str(value)


def _identifier(name: Any) -> str:
    if name is None:
        raise ClientError('ILLEGAL_PARAMS', 'a name is expected')
    if not isinstance(name, str) or not name or not name.replace(' ', 'x').isprintable() or len(name) > _NAME_BYTES:
        raise ClientError('IDENTIFIER', _text(name).partition('\0')[0] if isinstance(name, (str, bytes)) else _text(name))
    return name


def _options(options: Any, **types: type) -> dict[str, Any]:
    if options is None or options == []:        # an empty table
        return {}
    if not isinstance(options, dict):
        raise ClientError('ILLEGAL_PARAMS', 'options should be a table')
    for name, value in options.items():
        if name not in types:
            raise ClientError('ILLEGAL_PARAMS', f"unexpected option '{_text(name)}'")
        expected = types[name]
        if isinstance(value, bytes) and expected is str:
            continue
        if not isinstance(value, expected):
            word = {str: 'string', bool: 'boolean'}[expected]
            raise ClientError('ILLEGAL_PARAMS', f"options parameter '{name}' should be of type {word}")
    return options
