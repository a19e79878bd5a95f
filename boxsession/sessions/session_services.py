"""Services for sessions: list, rename, cancel, kill, and console.connect."""
from __future__ import annotations

import logging

from gevent import getcurrent

from boxsession.base.address import Address
from boxsession.base.errors import StatementError
from boxsession.base.session import Session, current_session, described_caller
from boxsession.sessions.caller import NAME_LENGTH, Console, caller, caller_id
from boxsession.sessions.remote import RemoteConsole
from boxsession.sessions.text import ConsoleConnection

__all__ = ['SessionServices']

log = logging.getLogger('boxsession')

# Default timeout of kill(), in seconds.
_KILL_SECONDS = 5.0
_CONNECT_USAGE = 'Usage: console.connect("[login:password@][host:]port")'


class SessionServices:
    """The services for sessions."""

    def __init__(self, running: Console):
        self._running = running

    def sessions(self, fields: dict | list) -> list[dict]:
        """Lists live sessions, sorted by id. See Registry.find() for `fields`."""
        return [shown for _, shown in self._running.registry.find(fields)]

    def traceback(self, session_id: int | None = None) -> str:
        """The traceback of the last exception that an exposed function has raised in a session; None for the caller's."""
        session: Session | None = current_session()
        if session_id is not None:
            connection = self._running.registry.of_id(session_id)
            if connection is None:
                raise StatementError(f'session {session_id:g} does not exist')
            session = connection.session
        found = session.traceback if session is not None else ''
        return found() if callable(found) else found

    def languages(self) -> dict:
        """The language of the calling session's statements, and those that its listener allows."""
        session = current_session()
        if session is None:                 # the init script
            return {'language': 'lua', 'languages': ['lua']}
        return {'language': session.language, 'languages': list(session.allowed_languages)}

    def rename(self, name: str | bytes) -> str:
        """Sets the name of the calling session. Returns the name, which may be truncated."""
        session = caller()
        session.name = (name if isinstance(name, str) else name.decode(errors='replace'))[:NAME_LENGTH]
        return session.name

    def cancel(self, session_id: int) -> bool:
        """Cancels the running statement of a session. False if none runs.

        Raises:
            StatementError: the session does not exist.
        """
        connection = self._running.registry.of_id(session_id)
        if connection is None:
            raise StatementError(f'session {session_id:g} does not exist')
        self._running.audit.event('cancel', current_session(), target=connection.session.id,
                                  target_user=connection.session.user)
        was_running = connection.cancel(f'the statement was cancelled by session {caller_id()}')
        if was_running:
            log.info('the statement of %s is cancelled by %s', connection.session.described, described_caller())
        return was_running

    def kill(self, which: int | dict | list, timeout: float | None = None) -> int:
        """Ends sessions. Returns the number of sessions that have ended in time.

        Args:
            which: a session's id, or a filter (see Registry.find()). A filter does not end the caller's session.
            timeout: maximum wait for their ends, in seconds; None for the default.

        Raises:
            StatementError: the filter is empty or wrong.
        """
        registry = self._running.registry
        if isinstance(which, (dict, list)):
            if not which:
                raise StatementError('box.session.kill(): an empty filter would end all sessions: name a field')
            found = [connection for connection, shown in registry.find(which) if shown['id'] != caller_id()]
        else:
            connection = registry.of_id(which)
            found = [] if connection is None else [connection]
        for connection in found:
            log.info('%s is killed by %s', connection.session.described, described_caller())
            self._running.counters.hits['kills'] += 1
            self._running.audit.event('kill', current_session(), target=connection.session.id,
                                      target_user=connection.session.user)
            connection.kill(f'the session was killed by session {caller_id()}')
        others = [connection for connection in found if connection.greenlet is not getcurrent()]
        return len(found) - len(registry.wait_for_ends(others, _KILL_SECONDS if timeout is None else timeout))

    def connect(self, uri=None, timeout=None) -> bool:
        """Sends the calling session's following statements to another console.

        Raises:
            StatementError: the address is invalid, the connection failed, or the caller is not a text session.
        """
        if isinstance(uri, str) and '@' in uri:
            raise StatementError('console.connect(): a text console needs no login: leave out the part before the @')
        try:
            address = Address.from_whole_uri(uri)
        except ValueError:
            raise StatementError(_CONNECT_USAGE) from None
        connection = self._running.registry.of_greenlet(getcurrent())
        if connection is None:
            raise StatementError('console.connect(): need existing console')
        try:
            remote = RemoteConsole(address, timeout)
        except StatementError as error:
            log.info('console.connect to %s by %s: %s', address, described_caller(), error.__cause__ or error)
            raise
        assert isinstance(connection, ConsoleConnection)
        connection.go_remote(remote)
        return True
