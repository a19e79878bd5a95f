"""Granting privileges to users and roles, and revoking them."""
from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from boxsession.base.errors import ClientError
from boxsession.users.access import ADMIN, EVERY, GRANTABLE, PRIVILEGES, PUBLIC, SUPER, UNIVERSE, WHOLE, Grant, User, bits
from boxsession.users.actor import Actor
from boxsession.users.arguments import checked_object, checked_options, text

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
        """Grants privileges. Arguments: (privileges, type, name, options), or (role, nil, nil, options).

        Raises:
            ClientError: the object does not exist, the actor may not grant, or the privilege is already granted.
        """
        access = self._access
        privileges, kind, name, options = _arguments(arguments)
        wanted = _privileges(privileges, kind)
        object_id = self._object(kind, name, is_new=True)
        options = checked_options(options, if_not_exists=bool)
        had = access.granted(grantee.id, kind, object_id)
        if wanted & ~had == 0:
            if options.get('if_not_exists'):
                return
            if kind == 'role' and object_id != EVERY and privileges == 'execute':
                raise ClientError('ROLE_GRANTED', grantee.name, text(name))
            told = '' if name is None else text(name)
            raise ClientError('PRIV_GRANTED', grantee.name, text(privileges), kind,
                              told if kind == 'universe' else f" '{told}'")
        self._need_to('grant', grantee, kind, object_id, name, wanted, self._actor.uid)
        if kind == 'role' and object_id != EVERY and wanted & PRIVILEGES['execute'] \
                and grantee.id in access.grantees(object_id):
            raise ClientError('ROLE_LOOP', text(name), grantee.name)
        access.grant(grantee.id, kind, object_id, had | wanted, self._actor.uid)

    def revoke(self, grantee: User, *arguments: Any) -> None:
        """Revokes privileges; arguments as in grant().

        Raises:
            ClientError: the object does not exist, the actor may not revoke, or the privilege is not granted.
        """
        access = self._access
        privileges, kind, name, options = _arguments(arguments)
        unwanted = _privileges(privileges, kind)
        object_id = self._object(kind, name)
        options = checked_options(options, if_exists=bool)
        had = access.granted(grantee.id, kind, object_id)
        if not unwanted & had:
            if options.get('if_exists'):
                return
            if kind == 'role' and object_id != EVERY and privileges == 'execute':
                raise ClientError('ROLE_NOT_GRANTED', grantee.name, text(name))
            raise ClientError('PRIV_NOT_GRANTED', grantee.name, text(privileges), kind, '' if name is None else text(name))
        grantor = access.grants[grantee.id, kind, object_id].grantor
        self._need_to('grant' if had & ~unwanted else 'revoke', grantee, kind, object_id, name, had, grantor)
        access.grant(grantee.id, kind, object_id, had & ~unwanted, grantor)

    def told(self, user: User | None) -> list[list[str]]:
        """The grants of a user or role: a list of [privileges, type of the object, name of the object]."""
        if user is None:
            return []
        grants = self._access.grants_of(user.id).values()
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
        checked_object(name)
        if kind == 'universe':
            return UNIVERSE
        if name is None or name == '':
            return EVERY
        if kind in WHOLE:
            raise ClientError('ILLEGAL_PARAMS', f"a grant on {kind} is on all of it: leave out the name '{text(name)}'")
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
        known = access.id_of('commands', name)
        found = _NOTHING if known is None else known
        sees = actor.has('read') or actor.has_grant('command', found)
        if not sees or found == _NOTHING and not (isinstance(name, str) and name in self._command_names):
            raise ClientError('PROC_LUA', f"Command '{text(name)}' does not exist")
        if found == _NOTHING and is_new:
            found = access.next_id()
            access.put('commands', found, name)
        return found

    def _need_to(self, verb: str, grantee: User, kind: str, object_id: int, name: Any, privileges: int,
                 grantor: int) -> None:
        """Checks that the actor may change a grant that is or becomes the grantor's.

        Args:
            verb: 'grant', or 'revoke' if nothing remains of the grant.
            privileges: those that are granted, or that the grant had.

        Raises:
            ClientError: it may not.
        """
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
        told = text('' if name is None else name)
        if actor.uid != grantor and not access.is_super(actor.uid):
            raise actor.denied(verb, kind, told)
        # Everybody may grant the role public.
        is_public = kind == 'role' and object_id == PUBLIC and privileges == PRIVILEGES['execute']
        if grantor not in (ADMIN, owner) and not is_public:
            raise access.denied(grantor, verb, kind, told)


def _privileges(privileges: Any, kind: Any) -> int:
    """The bit mask of privileges: of a number, or of names in any case, with anything between them.

    Raises:
        ClientError: one is unknown (Tarantool ignores it), or not for this type of object.
    """
    if not isinstance(kind, str) or kind not in GRANTABLE:
        raise ClientError('UNKNOWN_SCHEMA_OBJECT', text(kind))
    found = 0
    if isinstance(privileges, (str, bytes)):
        names = re.findall(r'\w+', text(privileges).lower())
        if all(name in PRIVILEGES for name in names):
            found = bits(*set(names))
    elif isinstance(privileges, (int, float)) and not isinstance(privileges, bool) and privileges == privileges // 1:
        found = int(privileges)
    if found <= 0 or found & ~GRANTABLE[kind]:
        raise ClientError('UNSUPPORTED_PRIV', kind, text(privileges))
    return found


def _arguments(arguments: tuple[Any, ...]) -> tuple[Any, Any, Any, Any]:
    privileges, kind, name, options = (*arguments, None, None, None, None)[:4]
    if kind is None and name is None:
        # Only a role is given.
        if privileges is None:
            raise ClientError('EXACT_MATCH', 1, 0)
        return 'execute', 'role', privileges, options
    return privileges, kind, name, options
