"""What statements can ask of the server: its settings, its log, listeners, a connection to another console.

Each service is a method that trusted Lua calls by name with plain values; it may wait. What it raises as
StatementError is the statement's error, word for word.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import gevent
from gevent import getcurrent

from boxsession.base.address import Address
from boxsession.base.counters import Counters
from boxsession.base.errors import ClientError, ConfigError, ListenError, StatementError, StoreError
from boxsession.base.session import Session, current_session
from boxsession.net.listener import Listener
from boxsession.operations import logs
from boxsession.operations.audit import Audit
from boxsession.protocol.iproto import SCRAMBLE_BYTES, scramble_matches
from boxsession.sessions.binary import BinaryConnection
from boxsession.sessions.registry import Registry
from boxsession.sessions.remote import RemoteConsole
from boxsession.sessions.text import ConsoleConnection
from boxsession.settings import live, reader
from boxsession.settings.table import ListenerConfig
from boxsession.users.access import GUEST
from boxsession.users.accounts import Accounts
from boxsession.users.passwords import password_hash, password_matches, throttled_address

__all__ = ['Services']

log = logging.getLogger('boxsession')

_LISTEN_USAGE = 'Usage: console.listen("[host:]port")'
# How long kill() waits for those it ends, unless it is told.
_KILL_SECONDS = 5.0
_NAME_LENGTH = 64
_ERROR_LENGTH = 500
# Of the options of box.schema these are recorded.
_OPTIONS_TOLD = ('if_exists', 'if_not_exists', 'setuid')
# How many arguments a function of box.schema looks at.
_ARGUMENTS = {'create': 2, 'drop': 2, 'exists': 1, 'passwd': 2, 'info': 1, 'grant': 5, 'revoke': 5, 'enable': 1,
              'disable': 1}
_CONNECT_USAGE = 'Usage: console.connect("[login:password@][host:]port")'


# What trusted Lua may call, by name.
_SERVICES = ('settings', 'configure', 'reopen_log', 'listen', 'close_listener', 'access', 'password_hash', 'rights', 'su',
             'login', 'login_by_scramble', 'become', 'sessions', 'rename', 'cancel', 'kill', 'connect')


class Console(Protocol):
    """What the services need of a running console (`boxsession.running.Running`)."""

    settings: dict[str, Any]
    accounts: Accounts
    audit: Audit
    counters: Counters
    registry: Registry

    def check(self, changes: Mapping[str, Any]) -> None: ...
    def configure(self, changes: Mapping[str, Any]) -> None: ...
    def listen(self, config: ListenerConfig) -> Listener: ...
    def unlisten(self, listener: Listener) -> None: ...


class Services:
    """The services of one console."""

    def __init__(self, running: Console):
        self._running = running
        self._listeners: dict[int, Any] = {}        # by the number that Lua knows them by
        self._last_number = 0

    def table(self) -> dict[str, Callable]:
        """All services by name."""
        return {name: getattr(self, name) for name in _SERVICES}

    # Settings and log

    def settings(self) -> dict:
        """The settings in force, a mapping for each section."""
        return live.nested(self._running.settings)

    def configure(self, changes: dict) -> dict | None:
        """Changes settings, all or none. Gives None, or the name of the one that is wrong and the reason."""
        try:
            changed = live.changes(changes)
            self._running.check(changed)
        except live.Refused as problem:
            return {'name': problem.name, 'reason': problem.reason}
        self._running.configure(changed)
        for name, value in changed.items():
            # Each setting is a line of its own, of which none is folded into another's (boxsession/operations/logs.py).
            log.info(f'{name} is set to %s by session %d', value, _caller_id())
        self._running.audit.event('settings', current_session(), changes=dict(changed))
        return None

    def reopen_log(self) -> None:
        """Opens the log file anew."""
        logs.reopen()

    # Listeners

    def listen(self, uri=None) -> dict:
        """Listens on one more address, with the caller's dialect; gives its number and where it listens."""
        try:
            address = Address.from_uri(uri)
        except ValueError:
            raise StatementError(_LISTEN_USAGE) from None
        session = current_session()
        try:
            dialect = session.dialect if session else 'classic'
            user = session.user if session else 'admin'
            config = reader.read({'listen': [{'address': str(address), 'dialect': dialect, 'user': user}]},
                                   'console.listen')
            listener = self._running.listen(config.listen[0])
        except ConfigError as error:
            raise StatementError(error.problems[0]) from None
        except ListenError as error:
            raise StatementError(f'failed to create server {uri}: {error.reason}') from None
        self._last_number += 1
        self._listeners[self._last_number] = listener
        log.info('listening: console %s', listener.address)
        self._running.audit.event('listener', session, operation='open', address=str(listener.address))
        return {'number': self._last_number, 'name': _socket_name(listener.address)}

    def close_listener(self, number: int) -> bool:
        """Ends a listener; its sessions stay. False when it has ended already."""
        listener = self._listeners.pop(number, None)
        if listener is None:
            return False
        self._running.unlisten(listener)
        self._running.audit.event('listener', current_session(), operation='close', address=str(listener.address))
        return True

    # Users

    def access(self, operation: str, uid: int, count: int, *arguments):
        """Does what box.schema has, for a user; see `boxsession.users.access`."""
        # What is given besides is not looked at, as in Tarantool.
        arguments = (*arguments, *[None] * int(count))[:min(int(count), _ARGUMENTS[operation.partition('_')[2]])]
        tell = partial(self._tell_change, operation, arguments, current_session(), _caller_id())
        try:
            result, has_changed = self._running.accounts.perform(operation, uid, arguments, tell)
        except StoreError as error:
            raise StatementError(str(error)) from None
        return result if result is not None else has_changed

    def _tell_change(self, operation, arguments, session, number):
        # The only argument of passwd is a password.
        name = arguments[0] if len(arguments) > 1 or arguments and operation != 'user_passwd' else None
        operation = operation.replace('_', '.')
        name = name if name is None else str(name)[:_NAME_LENGTH]
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
        connection = self._running.registry.of_session(current_session())
        if connection is None:
            raise StatementError('\\login: there is no session here')
        if not connection.is_private:
            raise StatementError('\\login: here the password could be read on its way: use TLS, a unix socket, or a '
                                 'connection from this machine')
        return self._log_in(name, connection.session, lambda kept: password_matches(password, kept))

    def login_by_scramble(self, name: str | bytes, method: str | bytes, scramble: str | bytes) -> dict:
        """The same, by what a client of the binary protocol has made of the password."""
        session = current_session()
        if isinstance(scramble, str):
            scramble = scramble.encode(errors='surrogateescape')
        if name == 'guest' and not method and not scramble:
            return {'uid': GUEST, 'user': 'guest'}
        if method != 'chap-sha1' or len(scramble) != SCRAMBLE_BYTES:
            raise ClientError('INVALID_MSGPACK', 'invalid scramble size')
        connection = self._running.registry.of_session(session)
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
            audit.event('login', session, name=name[:_NAME_LENGTH], ok=False, error=str(error)[:_ERROR_LENGTH])
            if isinstance(error, StoreError):
                raise StatementError(str(error)) from None
            raise
        if user is None:
            log.warning('session %d from %s failed to log in as %r', session.id, session.peer, name[:_NAME_LENGTH])
            self._running.counters.hits['failed_logins'] += 1
            audit.event('login', session, name=name[:_NAME_LENGTH], ok=False, error='wrong name or password')
            return {}
        return {'uid': user.id, 'user': user.name}

    def become(self, uid: int, has_logged_in: bool) -> None:
        """The calling session is another user's from now on."""
        session = _caller()
        user = self._running.accounts.access.users[uid]
        log.info('session %d of %s is now of %s', session.id, session.user, user.name)
        session.user, session.uid = user.name, uid
        if has_logged_in:
            session.login = user.name
            self._running.audit.event('login', session, name=user.name, ok=True, error=None)
        else:
            self._running.audit.event('su', session, name=user.name)

    # Sessions

    def sessions(self, fields: dict | list) -> list[dict]:
        """The live sessions, by id; only those that are as `fields` (an empty list for none) says."""
        return [shown for _, shown in self._found(fields)]

    def _found(self, fields):
        fields = fields or {}
        described = [(connection, connection.describe()) for connection in self._running.registry.all()]
        known = described[0][1] if described else {}
        for name in fields:
            if known and name not in known:
                raise StatementError(f'there is no field {name!r} of sessions: expected {", ".join(known)}')
        for connection, shown in sorted(described, key=lambda pair: pair[1]['id']):
            if all(shown[name] >= value if name in ('idle_s', 'connected_s') and isinstance(value, (int, float))
                   else shown[name] == value for name, value in fields.items()):
                yield connection, shown

    def rename(self, name: str | bytes) -> str:
        """Names the calling session; gives the name as it is kept."""
        session = _caller()
        session.name = (name if isinstance(name, str) else name.decode(errors='replace'))[:_NAME_LENGTH]
        return session.name

    def cancel(self, session_id: int) -> bool:
        """Stops the statement that a session runs; False when there is none."""
        for connection in self._running.registry.all():
            if connection.session.id == session_id:
                self._running.audit.event('cancel', current_session(), target=connection.session.id,
                                          target_user=connection.session.user)
                return connection.cancel(f'the statement was cancelled by session {_caller_id()}')
        raise StatementError(f'session {session_id:g} does not exist')

    def kill(self, which: int | dict | list, timeout: float | None = None) -> int:
        """Ends a session, or those that are as `which` says, but for the caller's; gives how many are gone in time."""
        if isinstance(which, (dict, list)):
            if not which:
                raise StatementError('box.session.kill(): an empty filter would end all sessions: say which')
            found = [connection for connection, _ in self._found(which)]
            found = [connection for connection in found if connection.session.id != _caller_id()]
        else:
            found = [connection for connection in self._running.registry.all() if connection.session.id == which]
        for connection in found:
            log.info('session %d is killed by session %d', connection.session.id, _caller_id())
            self._running.counters.hits['kills'] += 1
            self._running.audit.event('kill', current_session(), target=connection.session.id,
                                      target_user=connection.session.user)
            connection.kill(f'the session was killed by session {_caller_id()}')
        others = [connection for connection in found if connection.greenlet is not getcurrent()]
        return len(found) - len(self._running.registry.wait_for_ends(others, _KILL_SECONDS if timeout is None else timeout))

    # Another console

    def connect(self, uri=None, timeout=None) -> bool:
        """Makes the calling session's statements go to another console from now on."""
        if isinstance(uri, str) and '@' in uri:
            raise StatementError('console.connect(): a text console takes no login: leave out what is in front of the @')
        try:
            address = Address.from_uri(uri)
        except ValueError:
            raise StatementError(_CONNECT_USAGE) from None
        connection = self._running.registry.of_greenlet(getcurrent())
        if connection is None:
            raise StatementError('console.connect(): need existing console')
        try:
            remote = RemoteConsole(address, timeout)
        except StatementError as error:
            log.info('console.connect to %s: %s', address, error.__cause__ or error)
            raise
        assert isinstance(connection, ConsoleConnection)
        connection.go_remote(remote)
        return True


def _told(operation, arguments) -> list:
    """The arguments of an operation on users and rights behind the name, without a password."""
    if operation.endswith('passwd'):
        return []
    return [{key: option for key, option in value.items() if key in _OPTIONS_TOLD} if isinstance(value, dict) else
            str(value)[:_NAME_LENGTH] if value is not None else None for value in arguments[1:]]


def _caller() -> Session:
    session = current_session()
    assert session is not None, 'only sessions call this'
    return session


def _caller_id() -> int:
    session = current_session()
    return session.id if session is not None else 0


def _socket_name(address: Address) -> dict:
    """An address as Tarantool's sockets tell their name."""
    if address.path:
        return {'host': 'unix/', 'family': 'AF_UNIX', 'type': 'SOCK_STREAM', 'protocol': 0, 'port': address.path}
    family = 'AF_INET6' if ':' in address.host else 'AF_INET'
    return {'host': address.host, 'family': family, 'type': 'SOCK_STREAM', 'protocol': 'tcp', 'port': address.port}
