"""What statements can ask about users: their rights, changes to them, and who a session is."""
from __future__ import annotations

import logging
from functools import partial

import gevent

from boxsession.base.errors import ClientError, StatementError, StoreError
from boxsession.base.session import current_session
from boxsession.protocol.iproto import SCRAMBLE_BYTES, scramble_matches
from boxsession.sessions.binary import BinaryConnection
from boxsession.sessions.caller import NAME_LENGTH, Console, caller, caller_id
from boxsession.users.access import GUEST
from boxsession.users.passwords import password_hash, password_matches, throttled_address

__all__ = ['UserServices']

log = logging.getLogger('boxsession')

_ERROR_LENGTH = 500
# Of the options of box.schema these are recorded.
_OPTIONS_TOLD = ('if_exists', 'if_not_exists', 'setuid')
# How many arguments a function of box.schema looks at.
_ARGUMENTS = {'create': 2, 'drop': 2, 'exists': 1, 'passwd': 2, 'info': 1, 'grant': 5, 'revoke': 5, 'enable': 1,
              'disable': 1}


class UserServices:
    """The services that are about users."""

    def __init__(self, running: Console):
        self._running = running

    def access(self, operation: str, uid: int, count: int, *arguments):
        """Does what box.schema has, for a user; see `boxsession.users.schema`."""
        # What is given besides is not looked at, as in Tarantool.
        arguments = (*arguments, *[None] * int(count))[:min(int(count), _ARGUMENTS[operation.partition('_')[2]])]
        tell = partial(self._tell_change, operation, arguments, current_session(), caller_id())
        try:
            result, has_changed = self._running.accounts.perform(operation, uid, arguments, tell)
        except StoreError as error:
            raise StatementError(str(error)) from None
        return result if result is not None else has_changed

    def _tell_change(self, operation, arguments, session, number):
        # The only argument of passwd is a password.
        name = arguments[0] if len(arguments) > 1 or arguments and operation != 'user_passwd' else None
        operation = operation.replace('_', '.')
        name = name if name is None else str(name)[:NAME_LENGTH]
        log.info('box.schema.%s(%s) by session %d', operation, '' if name is None else repr(name), number)
        if session is not None:         # the init script is no session's
            self._running.audit.event('access', session, operation=operation, name=name,
                                      arguments=_told(operation, arguments))

    def password_hash(self, password: str | bytes) -> str:
        """What is kept of a password."""
        return password_hash(password)

    def rights(self, uid: int) -> dict:
        """What a user may do: its level, the functions it may call with whom they run as (False for the caller), and the
        commands that were granted (True for all)."""
        access = self._running.accounts.access
        functions = {name: False if owner is None else {'uid': owner, 'user': access.users[owner].name}
                     for name, owner in access.executable(uid).items()}
        commands = access.granted_commands(uid)
        return {'level': int(access.level(uid)), 'functions': functions,
                'commands': True if commands is None else dict.fromkeys(commands, True)}

    def su(self, login: int, asking: int, name: str | float) -> dict:
        """Whom a session that logged in as `login` may become."""
        user = self._running.accounts.find_su(login, asking, name)
        return {'uid': user.id, 'user': user.name}

    def login(self, name: str | bytes, password: str | bytes) -> dict:
        """Who the calling session is with this password; nothing for a wrong one. Waits, where there were failures."""
        connection = self._running.registry.of_id(caller_id())
        if connection is None:
            raise StatementError('\\login: there is no session here')
        if not connection.is_private:
            raise StatementError('\\login: here the password could be read on its way: use TLS, a unix socket, or a '
                                 'connection from this machine')
        return self._log_in(name, connection.session, lambda kept: password_matches(password, kept))

    def login_by_scramble(self, name: str | bytes, method: str | bytes, scramble: str | bytes) -> dict:
        """The same, by what a client of the binary protocol has made of the password."""
        session = caller()
        if isinstance(scramble, str):
            scramble = scramble.encode(errors='surrogateescape')
        if name == 'guest' and not method and not scramble:
            return {'uid': GUEST, 'user': 'guest'}
        if method != 'chap-sha1' or len(scramble) != SCRAMBLE_BYTES:
            raise ClientError('INVALID_MSGPACK', 'invalid scramble size')
        connection = self._running.registry.of_id(session.id)
        assert isinstance(connection, BinaryConnection)
        salt = connection.salt
        return self._log_in(name, session, lambda kept: scramble_matches(scramble, salt, kept))

    def _log_in(self, name, session, matches):
        name = name if isinstance(name, str) else name.decode(errors='replace')
        accounts, audit = self._running.accounts, self._running.audit
        address = throttled_address(session.peer)
        try:
            gevent.sleep(accounts.seconds_to_wait(name, address))
            user = accounts.authenticate(name, address, matches)
        except (StatementError, StoreError, ClientError) as error:
            audit.event('login', session, name=name[:NAME_LENGTH], ok=False, error=str(error)[:_ERROR_LENGTH])
            if isinstance(error, StoreError):
                raise StatementError(str(error)) from None
            raise
        if user is None:
            log.warning('session %d from %s failed to log in as %r', session.id, session.peer, name[:NAME_LENGTH])
            self._running.counters.hits['failed_logins'] += 1
            audit.event('login', session, name=name[:NAME_LENGTH], ok=False, error='wrong name or password')
            return {}
        return {'uid': user.id, 'user': user.name}

    def become(self, uid: int, name: str, has_logged_in: bool) -> None:
        """The calling session is another user's from now on, unless that one was dropped meanwhile."""
        session = caller()
        user = self._running.accounts.access.users.get(uid)
        if user is None or user.name != name:
            raise ClientError('NO_SUCH_USER', name)
        log.info('session %d of %s is now of %s', session.id, session.user, user.name)
        session.user, session.uid = user.name, uid
        if has_logged_in:
            session.login = user.name
            self._running.audit.event('login', session, name=user.name, ok=True, error=None)
        else:
            self._running.audit.event('su', session, name=user.name)


def _told(operation, arguments) -> list:
    """The arguments of an operation on users and rights behind the name, without a password."""
    if operation.endswith('passwd'):
        return []
    return [{key: option for key, option in value.items() if key in _OPTIONS_TOLD} if isinstance(value, dict) else
            str(value)[:NAME_LENGTH] if value is not None else None for value in arguments[1:]]
