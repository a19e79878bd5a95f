"""box.schema: creating, dropping, granting and revoking users, roles and functions.

The operations and their errors are those of Tarantool 2.6 (`box.schema.user`, `box.schema.role`, `box.schema.func`).
"""
from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from boxsession.base.errors import ClientError
from boxsession.users.access import EVERY, GUEST, SYSTEM, Access, Function, Level, User
from boxsession.users.actor import Actor
from boxsession.users.arguments import checked_key, checked_name, checked_options, text
from boxsession.users.grants import Grants
from boxsession.users.passwords import password_hash

__all__ = ['OPERATIONS', 'Schema']

_USER_NAME_LENGTH = 255
# Of a user, role or function; and the part of a longer one that its error shows.
_NAME_LENGTH, _SHOWN_LENGTH = 65000, 64
_PASSWD_USAGE = 'Usage: box.schema.user.passwd([user,] password)'


class Schema:
    """box.schema for one actor.

    An operation changes `access`, or raises `ClientError`; then `access` may be changed in part. So callers run it in a
    transaction (`Tables.begin`), and undo it.

    Longer than usual: it has a method for each function of box.schema.

    Args:
        access: all users and grants.
        uid: the id of the actor.
        command_names: the names of all console commands, which can be granted.
        session_uid: the id of the session's user, if it is not the actor: the actor's code runs inside of it.
    """

    def __init__(self, access: Access, uid: int, command_names: Collection[str] = (), session_uid: int | None = None):
        self._access = access
        self._session_uid = session_uid
        self._actor = Actor(access, uid)
        self._grants = Grants(self._actor, command_names)

    def perform(self, operation: str, arguments: Sequence[object]) -> Any:
        """Runs one of OPERATIONS. Returns its result.

        Raises:
            ClientError: it is not allowed or not possible.
        """
        is_own_password = operation == 'user_passwd' and len(arguments) == 1
        if not is_own_password and not self._access.may_use(self._actor.uid):
            raise self._actor.denied('usage', 'universe', '')
        return getattr(self, operation)(*arguments)

    # Users

    def user_create(self, name: object = None, options: object = None) -> None:
        options = checked_options(options, password=str, if_not_exists=bool)
        user = self._create('user', name, options)
        if user is not None and 'password' in options:
            self._set_password(user, options['password'])

    def user_drop(self, name: object = None, options: object = None) -> None:
        self._drop('user', name, options)

    def user_exists(self, name: object = None) -> bool:
        return self._actor.user(name, 'user') is not None

    def user_passwd(self, *arguments: object) -> None:
        """Sets a password: (password) that of the actor, (name, password) that of another user."""
        access, actor = self._access, self._actor
        if not arguments or arguments[0] is None:
            raise ClientError('PROC_LUA', _PASSWD_USAGE)
        if len(arguments) == 1:
            user, password = access.users.get(actor.uid), arguments[0]
        else:
            user, password = actor.known(arguments[0], 'user'), arguments[1]
        if not isinstance(password, (str, bytes)):
            raise ClientError('PROC_LUA', _PASSWD_USAGE)
        if user is None:
            raise ClientError('NO_SUCH_USER', actor.uid)
        if user.id != actor.uid:
            if not actor.has('write'):
                raise actor.denied('write', 'space', '_user')
            actor.need('alter', 'user', user.id, user.name, user.owner)
            # Whoever sets a password can log in with it. So nobody may set the password of a user with more rights.
            if access.level(user.id) > access.level(actor.uid) \
                    or access.may_speak(user.id, 'python') and not access.may_speak(actor.uid, 'python') \
                    or access.is_super(user.id) and not access.is_super(actor.uid):
                raise actor.denied('alter', 'user', user.name)
        self._set_password(user, password)

    def user_info(self, name: object = None) -> list[list[str]]:
        actor = self._actor
        return self._grants.told(self._access.users.get(actor.uid) if name is None else actor.known(name, 'user'))

    def user_grant(self, name: object = None, *arguments: object) -> None:
        self._grants.grant(self._actor.known(name, 'user'), *arguments)

    def user_revoke(self, name: object = None, *arguments: object) -> None:
        self._grants.revoke(self._actor.known(name, 'user'), *arguments)

    def user_enable(self, name: object = None) -> None:
        self.user_grant(name, 'session,usage', 'universe', None, {'if_not_exists': True})

    def user_disable(self, name: object = None) -> None:
        self.user_revoke(name, 'session,usage', 'universe', None, {'if_exists': True})

    # Roles

    def role_create(self, name: object = None, options: object = None) -> None:
        self._create('role', name, checked_options(options, if_not_exists=bool))

    def role_drop(self, name: object = None, options: object = None) -> None:
        self._drop('role', name, options)

    def role_exists(self, name: object = None) -> bool:
        return self._actor.user(name, 'role') is not None

    def role_info(self, name: object = None) -> list[list[str]]:
        return self._grants.told(self._actor.known(name, 'role'))

    def role_grant(self, name: object = None, *arguments: object) -> None:
        self._grants.grant(self._role(name, arguments), *arguments)

    def role_revoke(self, name: object = None, *arguments: object) -> None:
        self._grants.revoke(self._role(name, arguments), *arguments)

    def _role(self, name: Any, arguments: tuple[Any, ...]) -> User:
        """The role that is granted privileges, or from which they are revoked."""
        role = self._actor.known(name, 'role')
        if arguments and any(word in text(arguments[0]).lower() for word in ('session', 'usage')):
            raise ClientError('GRANT', 'system privilege can not be granted to role')
        return role

    # Functions

    def func_create(self, name: object = None, options: object = None) -> None:
        access, actor = self._access, self._actor
        options = checked_options(options, if_not_exists=bool, setuid=bool, language=str, body=str, comment=str)
        if name is not None and not isinstance(name, (str, bytes)):
            raise ClientError('KEY_PART_TYPE', 0, 'string')
        name = checked_name(name)
        if actor.function(name) is None:
            actor.need_to_write('_func')
        if access.function(name) is not None:
            if options.get('if_not_exists'):
                return
            raise ClientError('FUNCTION_EXISTS', name)
        if options.get('language', 'LUA').upper() != 'LUA':
            raise ClientError('FUNCTION_LANGUAGE', options['language'], name)
        if 'body' in options:
            raise ClientError('CREATE_FUNCTION', name, 'the option `body` is not supported: define a global function with '
                              'this name in the init script')
        if len(name) > _NAME_LENGTH:
            raise ClientError('CREATE_FUNCTION', name[:_SHOWN_LENGTH], 'function name is too long')
        actor.need_to_write('_func')
        actor.need('create', 'function', EVERY, name)
        if access.level(actor.uid) < Level.FULL:
            # The owner may call the function, and it may name any global: so only users with all rights may create one.
            raise actor.denied('create', 'function', name)
        number = access.next_id()
        access.put('functions', number, Function(number, name, actor.uid, options.get('setuid', False)))

    def func_drop(self, name: object = None, options: object = None) -> None:
        options = checked_options(options, if_exists=bool)
        if name is None:
            raise ClientError('EXACT_MATCH', 1, 0)
        function = self._actor.function(checked_key(name))
        if function is None:
            if options.get('if_exists'):
                return
            raise ClientError('NO_SUCH_FUNCTION', text(name))
        self._drop_function(function)

    def func_exists(self, name: object = None) -> bool:
        if isinstance(name, (int, float)) and not isinstance(name, bool):
            checked_key(name)
        return self._actor.function(name) is not None

    # Helpers

    def _drop_function(self, function: Function) -> None:
        self._actor.need('drop', 'function', function.id, function.name, function.owner)
        self._access.remove('functions', function.id)
        self._access.forget_grants('function', function.id)

    def _create(self, kind: str, name: Any, options: dict[str, Any]) -> User | None:
        """Creates a user or role. Returns None if it exists and `if_not_exists` is set."""
        access, actor = self._access, self._actor
        known: User | None
        if isinstance(checked_key(name), (int, float)):
            # An id: of a user or role that exists; a new one needs a name.
            known = access.users.get(int(name))
            name = f'{name:g}'
            if known is None:
                raise ClientError('FIELD_TYPE', 3, 'string')
        else:
            known = access.by_name(checked_name(name))
        actor.need_to_write('_user')
        if known is not None:
            if options.get('if_not_exists'):
                return None
            raise ClientError('USER_EXISTS' if kind == 'user' else 'ROLE_EXISTS', name)
        actor.need('create', kind, EVERY, name)
        if len(name) > _NAME_LENGTH:
            raise ClientError('CREATE_USER', name[:_SHOWN_LENGTH], 'user name is too long')
        if kind == 'user' and (len(name) > _USER_NAME_LENGTH or any(c.isspace() or c in ':@' for c in name)):
            raise ClientError('CREATE_USER', name[:_USER_NAME_LENGTH], 'the name of a user must have no blanks, no `:` and '
                              f'no `@`, and at most {_USER_NAME_LENGTH} characters')
        user = User(access.next_id(), name, kind, actor.uid)
        access.put('users', user.id, user)
        if kind == 'user':
            access.welcome(user.id, actor.uid)
        return user

    def _drop(self, kind: str, name: Any, options: Any) -> None:
        access, actor = self._access, self._actor
        options = checked_options(options, if_exists=bool)
        user = actor.user(name, kind)
        if user is None:
            if options.get('if_exists'):
                return
            raise ClientError('NO_SUCH_USER' if kind == 'user' else 'NO_SUCH_ROLE', text(name))
        if user.id in SYSTEM:
            raise ClientError('DROP_USER', text(name), 'the user or the role is a system')
        if user.id in (actor.uid, self._session_uid):
            raise ClientError('DROP_USER', text(name), 'the user is active in the current session')
        for number in access.owned('functions', user.id):
            self._drop_function(access.functions[number])
        actor.need('drop', kind, user.id, user.name, user.owner)
        if access.owned('users', user.id):
            raise ClientError('DROP_USER', user.name, 'the user has objects')
        access.remove('users', user.id)
        access.forget_grantee(user.id)
        access.forget_grants(kind, user.id)

    def _set_password(self, user: User, password: str | bytes) -> None:
        if user.id == GUEST and password not in ('', b''):
            raise ClientError('GUEST_USER_PASSWORD')
        self._access.put('users', user.id, replace(user, hash=password_hash(password)))


# The operations by the names that Lua uses, and whether they change anything.
OPERATIONS = {f'{kind}_{verb}': verb not in ('exists', 'info')
              for kind, verbs in (('user', ('create', 'drop', 'exists', 'passwd', 'info', 'grant', 'revoke', 'enable',
                                            'disable')),
                                  ('role', ('create', 'drop', 'exists', 'info', 'grant', 'revoke')),
                                  ('func', ('create', 'drop', 'exists')))
              for verb in verbs}
