"""Services for users: their rights, changes to users and grants, and the user of a session."""
from __future__ import annotations

import logging
from functools import partial

import gevent

from boxsession.base.errors import ClientError, StatementError, StoreError
from boxsession.base.session import current_session, described
from boxsession.protocol.iproto import SCRAMBLE_BYTES, scramble_matches
from boxsession.sessions.binary import BinaryConnection
from boxsession.sessions.caller import NAME_LENGTH, Console, caller, caller_id
from boxsession.settings.table import python_problem
from boxsession.users.access import GUEST, LANGUAGES
from boxsession.users.passwords import password_hash, password_matches, throttled_address

__all__ = ['UserServices']

log = logging.getLogger('boxsession')

_ERROR_LENGTH = 500
_NO_PASSWORD = password_hash('')
# Options of box.schema functions that go to the audit file.
_OPTIONS_TOLD = ('if_exists', 'if_not_exists', 'setuid')
# Number of arguments that each function of box.schema uses.
_ARGUMENTS = {'create': 2, 'drop': 2, 'exists': 1, 'passwd': 2, 'info': 1, 'grant': 5, 'revoke': 5, 'enable': 1,
              'disable': 1}


class UserServices:
    """The services for users."""

    def __init__(self, running: Console):
        self._running = running

    def access(self, operation: str, uid: int, count: int, *arguments):
        """Runs a function of box.schema for a user. See `boxsession.users.schema`.

        Args:
            operation: e.g. 'user_create'.
            uid: the id of the user who asks.
            count: the number of arguments in Lua; `arguments` may lack trailing nils.
        """
        # Further arguments are ignored, as in Tarantool.
        arguments = (*arguments, *[None] * int(count))[:min(int(count), _ARGUMENTS[operation.partition('_')[2]])]
        session = current_session()
        tell = partial(self._tell_change, operation, arguments, session)
        try:
            result, has_changed = self._running.accounts.perform(operation, uid, arguments, tell,
                                                                 session.uid if session is not None else None)
        except StoreError as error:
            raise StatementError(str(error)) from None
        return result if result is not None else has_changed

    def _tell_change(self, operation, arguments, session):
        # The only argument of passwd is a password.
        name = arguments[0] if len(arguments) > 1 or arguments and operation != 'user_passwd' else None
        operation, told = operation.replace('_', '.'), _told(operation, arguments)
        name = name if name is None else str(name)[:NAME_LENGTH]
        shown = [] if name is None else [_as_lua(value) for value in [name, *told] if value != {}]
        log.info('box.schema.%s(%s) by %s', operation, ', '.join(shown), described(session), extra={'client': session})
        if session is not None:         # the init script is no session's
            self._running.audit.event('access', session, operation=operation, name=name, arguments=told)
        if operation == 'user.drop':
            self._tell_missing()
        elif operation.endswith('.grant'):
            self._tell_open()

    def _tell_missing(self):
        """Warns of listeners that name a user who does not exist any more: the next start would be refused."""
        access = self._running.accounts.access
        for listener in self._running.listeners:
            for name in listener.config.users:
                if access.user(name) is None:
                    log.warning('%s names the user %r, who does not exist any more: take the name out of `listen`, or the '
                                'next start is refused', listener.address, name)

    def _tell_open(self):
        """Warns of listeners on which others can use Python now: the next start would be refused."""
        for listener in self._running.listeners:
            config = self._running.listeners.in_force(listener.config)
            user = self._running.accounts.access.user(config.user)
            problem = user and self._running.accounts.may_speak(user.id, 'python') and python_problem(config)
            if problem:
                log.warning('from now on the next start is refused: %s', problem)

    def password_hash(self, password: str | bytes) -> str:
        """The hash of a password, as it is stored."""
        return password_hash(password)

    def rights(self, uid: int) -> dict:
        """The rights of a user.

        Returns:
            level: see contract.py; usage: whether the user has this privilege; functions: the owner that each granted
            function runs as, False for the caller, by name;
            commands: the granted commands, True for all; languages: the languages besides Lua;
            watch: whether the user may watch functions.
        """
        access = self._running.accounts.access
        functions = {name: False if owner is None else {'uid': owner, 'user': access.users[owner].name}
                     for name, owner in access.executable(uid).items()}
        commands = access.granted_commands(uid)
        return {'level': int(access.level(uid)), 'usage': access.may_use(uid), 'functions': functions,
                'commands': True if commands is None else dict.fromkeys(commands, True),
                'languages': {language: True for language in LANGUAGES if access.may_speak(uid, language)},
                'watch': access.may_watch(uid)}

    def su(self, login: int, asking: int, name: str | float) -> dict:
        """The user that a session logged in as `login` may become by su.

        Args:
            login: the id of the user that logged in.
            asking: the id of the user whose code asks.
            name: the wanted user's name or id.

        Raises:
            ClientError: the user does not exist, or this session may not become it.
        """
        user = self._running.accounts.find_su(login, asking, name)
        return {'uid': user.id, 'user': user.name}

    def login(self, name: str | bytes, password: str | bytes) -> dict:
        """Checks a password for \\login. Returns the user, {} for a wrong name or password. Waits after failed logins."""
        connection = self._running.registry.of_id(caller_id())
        if connection is None:
            raise StatementError('\\login: only a session can log in')
        if not connection.is_private:
            raise StatementError('\\login: here the password could be read on its way: use TLS, a unix socket, or a '
                                 'connection from this machine')
        return self._log_in(name, connection.session, lambda kept: password_matches(password, kept))

    def login_by_scramble(self, name: str | bytes, method: str | bytes | None = None,
                          scramble: str | bytes | None = None) -> dict:
        """Checks a password for AUTH of the binary protocol, which sends a scramble of it. Otherwise like login()."""
        session = caller()
        if isinstance(scramble, str):
            scramble = scramble.encode(errors='surrogateescape')
        is_guest = name == 'guest'
        if is_guest and method is None:
            return {'uid': GUEST, 'user': 'guest'}      # needs no privilege `session`, as in Tarantool
        if method != 'chap-sha1' or not scramble or len(scramble) != SCRAMBLE_BYTES:
            raise ClientError('INVALID_MSGPACK', 'invalid scramble size')
        connection = self._running.registry.of_id(session.id)
        assert isinstance(connection, BinaryConnection)
        salt = connection.salt
        # Guest has no password: an empty one is right.
        return self._log_in(name, session,
                            lambda kept: scramble_matches(scramble, salt, kept or (_NO_PASSWORD if is_guest else '')))

    def _log_in(self, name, session, matches):
        name = name if isinstance(name, str) else name.decode(errors='replace')
        accounts, audit = self._running.accounts, self._running.audit
        address = throttled_address(session.peer)
        try:
            gevent.sleep(accounts.seconds_to_wait(name, address))
            user = accounts.authenticate(name, address, matches)
        except (StatementError, StoreError, ClientError) as error:
            problem = str(error)[:_ERROR_LENGTH]
            log.warning('%s was refused a login as %r: %s', session.described, name[:NAME_LENGTH], problem)
            audit.event('login', session, name=name[:NAME_LENGTH], ok=False, error=problem)
            if isinstance(error, StoreError):
                raise StatementError(str(error)) from None
            raise
        if user is None:
            log.warning('%s failed to log in as %r', session.described, name[:NAME_LENGTH])
            self._running.counters.hits['failed_logins'] += 1
            audit.event('login', session, name=name[:NAME_LENGTH], ok=False, error='wrong name or password')
            return {}
        return {'uid': user.id, 'user': user.name}

    def become(self, uid: int, name: str, has_logged_in: bool) -> None:
        """Changes the user of the calling session.

        Args:
            uid, name: of the new user. Both are checked: the user may have been dropped meanwhile.
            has_logged_in: by a password, not by su.
        """
        session = caller()
        user = self._running.accounts.access.users.get(uid)
        if user is None or user.name != name:
            raise ClientError('NO_SUCH_USER', name)
        log.info('%s changed its user from %s to %s (%s)', session.described, session.user, user.name,
                 'login' if has_logged_in else 'su')
        if uid != session.uid:
            session.traceback = ''          # may quote what only the user before may see
        session.user, session.uid = user.name, uid
        if has_logged_in:
            session.login = user.name
            self._running.audit.event('login', session, name=user.name, ok=True, error=None)
            connection = self._running.registry.of_id(session.id)
            if connection is not None:
                connection.logged_in()
        else:
            self._running.audit.event('su', session, name=user.name)


def _told(operation, arguments) -> list:
    """The arguments after the name of an operation on users or grants, for the audit file. Without passwords."""
    if operation.endswith('passwd'):
        return []
    return [{key: option for key, option in value.items() if key in _OPTIONS_TOLD} if isinstance(value, dict) else
            str(value)[:NAME_LENGTH] if value is not None else None for value in arguments[1:]]


def _as_lua(value) -> str:
    """An argument of box.schema for the log."""
    if isinstance(value, dict):
        return '{%s}' % ', '.join(f'{name} = {str(option).lower()}' for name, option in value.items())
    return 'nil' if value is None else repr(value)
