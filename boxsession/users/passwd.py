"""Changes a user in a store, without a session: for `boxsession passwd`."""
from __future__ import annotations

import os
from collections.abc import Sequence

from boxsession.base.errors import BoxsessionError, ClientError, printable
from boxsession.users.access import ADMIN, PRIVILEGES, Access
from boxsession.users.schema import Schema
from boxsession.users.store import Store

__all__ = ['set_user']


def set_user(path: str, name: str, password: str | None, create: bool = False, grants: Sequence[str] = ()) -> None:
    """Creates a user, sets the password, and grants rights: all of it, or nothing.

    Args:
        path: the store. With `create` it may not exist yet.
        password: None leaves the password as it is.
        create: creates the user if there is none of this name.
        grants: roles, or privileges on universe (several with commas).

    Raises:
        BoxsessionError: the change is not possible.
        StoreError: the store cannot be used.
    """
    is_new = not os.path.exists(path)

    def change(access: Access) -> None:
        schema = Schema(access, ADMIN)
        if create:
            schema.user_create(name, {'if_not_exists': True})
        if access.user(name) is None:
            raise BoxsessionError(f'there is no user {name!r} in {path}: --create creates the user'
                                  if access.by_name(name) is None else f'{printable(name)} is a role: expected a user')
        if password is not None:
            schema.user_passwd(name, password)
        for grant in grants:
            if all(word in PRIVILEGES for word in grant.split(',')):
                schema.user_grant(name, grant, 'universe', None, {'if_not_exists': True})
            elif access.find(grant, 'role') is not None:
                schema.user_grant(name, grant, None, None, {'if_not_exists': True})
            else:
                raise BoxsessionError(f'--grant {printable(grant) or repr(grant)}: expected a role of {path} (super), or '
                                      f'privileges: {", ".join(PRIVILEGES)}')

    store = Store(path)
    try:
        if is_new:
            _give_to_owner_of_folder(path)
        store.transact(change)
    except ClientError as error:
        raise BoxsessionError(_why(error, name)) from error
    finally:
        store.close()


def _give_to_owner_of_folder(path: str) -> None:
    """Gives a new store to the owner of its directory, if root creates it: the server may run as this user."""
    if os.geteuid() == 0:
        folder = os.stat(os.path.dirname(os.path.abspath(path)))
        for suffix in ('', '-wal', '-shm'):
            try:
                os.chown(path + suffix, folder.st_uid, folder.st_gid)
            except FileNotFoundError:
                pass


def _why(error: ClientError, name: str) -> str:
    if error.name == 'GUEST_USER_PASSWORD':
        return 'guest has no password, and gets none'
    if error.name == 'IDENTIFIER':
        return f'{name!r} cannot be the name of a user: expected one or more printable characters'
    if error.name == 'GRANT':
        return f'{error.arguments[0]}: leave --grant out'
    return f'cannot change {printable(name)}: {error.arguments[-1] if error.arguments else error.name}'
