"""Granting privileges to users and roles, and revoking them."""
from __future__ import annotations

from collections.abc import Collection
from typing import Any

from boxsession.base.errors import ClientError
from boxsession.users.access import ADMIN, EVERY, GRANTABLE, PRIVILEGES, SUPER, UNIVERSE, Grant, User
from boxsession.users.actor import Actor
from boxsession.users.arguments import checked_options, text

__all__ = ['Grants']

_NOTHING = -1               # the object id of a command that nobody was granted


class Grants:
    """Grants and revokes for one actor.

    Args:
        actor: the user who grants and revokes.
        command_names: the names of all console commands.
    """

    def __init__(self, actor: Actor, command_names: Collection[str]):
        self._actor = actor
        self._access = actor.access
        self._command_names = command_names

    def grant(self, grantee: User, *arguments: Any) -> None:
        """Grants privileges. Arguments: (privileges, type, name, options), or (role, nil, options).

        Raises:
            ClientError: the object does not exist, the actor may not grant, or the privilege is already granted.
        """
        access = self._access
        privileges, kind, name, options = _arguments(arguments, 'if_not_exists')
        wanted = _privileges(privileges, kind)
        object_id = self._object(kind, name, is_new=True)
        had = access.granted(grantee.id, kind, object_id)
        if wanted & ~had == 0:
            if options.get('if_not_exists'):
                return
            if kind == 'role' and object_id != EVERY and privileges == 'execute':
                raise ClientError('ROLE_GRANTED', grantee.name, text(name))
            raise ClientError('PRIV_GRANTED', grantee.name, privileges, kind, '' if name is None else f" '{text(name)}'")
        self._need_to_grant(grantee, kind, object_id, name)
        if kind == 'role' and object_id != EVERY and wanted & PRIVILEGES['execute'] \
                and grantee.id in access.grantees(object_id):
            raise ClientError('ROLE_LOOP', text(name), grantee.name)
        access.put(grantee.id, kind, object_id, had | wanted, self._actor.uid)

    def revoke(self, grantee: User, *arguments: Any) -> None:
        """Revokes privileges; arguments as in grant().

        Raises:
            ClientError: the object does not exist, the actor may not revoke, or the privilege is not granted.
        """
        access = self._access
        privileges, kind, name, options = _arguments(arguments, 'if_exists')
        unwanted = _privileges(privileges, kind)
        object_id = self._object(kind, name)
        had = access.granted(grantee.id, kind, object_id)
        if not unwanted & had:
            if options.get('if_exists'):
                return
            if kind == 'role' and object_id != EVERY and privileges == 'execute':
                raise ClientError('ROLE_NOT_GRANTED', grantee.name, text(name))
            raise ClientError('PRIV_NOT_GRANTED', grantee.name, privileges, kind, '' if name is None else text(name))
        self._need_to_grant(grantee, kind, object_id, name)
        access.put(grantee.id, kind, object_id, had & ~unwanted, self._actor.uid)
        access.forget_unused_commands()

    def told(self, user: User | None) -> list[list[str]]:
        """The grants of a user or role: a list of [privileges, type of the object, name of the object]."""
        if user is None:
            return []
        grants = [grant for grant in self._access.grants.values() if grant.grantee == user.id]
        return [[','.join(name for name, bit in PRIVILEGES.items() if grant.privileges & bit), grant.type,
                 self._object_name(grant)] for grant in sorted(grants, key=lambda grant: (grant.type, grant.object))]

    def _object_name(self, grant: Grant) -> str:
        access = self._access
        if grant.type == 'command':
            return access.commands.get(grant.object, '')
        things = access.functions if grant.type == 'function' else access.users
        thing = things.get(grant.object) if grant.type != 'universe' else None
        return thing.name if thing else ''

    def _object(self, kind: str, name: Any, is_new: bool = False) -> int:
        """The id of an object; `is_new`: for a new grant."""
        if kind == 'universe':
            return UNIVERSE
        if name is None or name == '':
            return EVERY
        if kind == 'function':
            function = self._actor.function(name)
            if function is None:
                raise ClientError('NO_SUCH_FUNCTION', text(name))
            return function.id
        if kind == 'command':
            return self._command(name, is_new)
        return self._actor.known(name, kind).id

    def _command(self, name: Any, is_new: bool) -> int:
        """The id of a command. A command that nobody was granted gets an id for a new grant, else _NOTHING is returned."""
        access, actor = self._access, self._actor
        found = next((number for number, known in access.commands.items() if known == name), _NOTHING)
        sees = actor.has('read') or actor.has_grant('command', found)
        if not sees or found == _NOTHING and not (isinstance(name, str) and name in self._command_names):
            raise ClientError('PROC_LUA', f"Command '{text(name)}' does not exist")
        if found == _NOTHING and is_new:
            access.last_id += 1
            found = access.last_id
            access.commands[found] = name
        return found

    def _need_to_grant(self, grantee: User, kind: str, object_id: int, name: Any) -> None:
        access, actor = self._access, self._actor
        if not actor.has('write'):
            raise actor.denied('write', 'space', '_priv')
        if grantee.id == ADMIN:
            raise ClientError('GRANT', 'admin has all privileges, which cannot be changed')
        if grantee.id == SUPER and kind == 'universe':
            raise ClientError('GRANT', 'super has all privileges on universe, which cannot be changed')
        if object_id in (UNIVERSE, EVERY) or kind == 'command':
            owner = ADMIN
        else:
            owner = (access.functions if kind == 'function' else access.users)[object_id].owner
        if actor.uid not in (ADMIN, owner):
            raise actor.denied('grant', kind, text('' if name is None else name))


def _privileges(privileges: Any, kind: Any) -> int:
    if not isinstance(kind, str) or kind not in GRANTABLE:
        raise ClientError('UNKNOWN_SCHEMA_OBJECT', text(kind))
    found = 0
    for name in text(privileges).replace(' ', '').split(','):
        if not PRIVILEGES.get(name, 0) & GRANTABLE[kind]:
            raise ClientError('UNSUPPORTED_PRIV', kind, name)
        found |= PRIVILEGES[name]
    return found


def _arguments(arguments: tuple[Any, ...], flag: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    privileges, kind, name, options = (*arguments, None, None, None, None)[:4]
    if kind is None:
        # Only a role is given.
        if privileges is None:
            raise ClientError('PROC_LUA', "Usage: grant(name, privileges, object type [, object name])")
        return 'execute', 'role', privileges, checked_options(name, **{flag: bool})
    return privileges, kind, name, checked_options(options, **{flag: bool})
