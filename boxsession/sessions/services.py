"""Services: Python functions that trusted Lua calls for statements. Here those for settings, the log and listeners.

A service takes and returns plain values, and may wait. The text of a StatementError that it raises becomes the text of the
statement's error.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from boxsession.base.address import Address
from boxsession.base.errors import ConfigError, ListenError, StatementError
from boxsession.base.session import current_session, described_caller
from boxsession.inspection.living import new_pace
from boxsession.net.listener import Listener
from boxsession.operations import logs
from boxsession.sessions.caller import Console
from boxsession.sessions.inspection_services import InspectionServices
from boxsession.sessions.log_services import LogServices
from boxsession.sessions.loop_services import LoopServices
from boxsession.sessions.memory_services import MemoryServices
from boxsession.sessions.netbox_services import NetBoxServices
from boxsession.sessions.profile_services import ProfileServices
from boxsession.sessions.python_services import PythonServices
from boxsession.sessions.session_services import SessionServices
from boxsession.sessions.tail_services import TailServices
from boxsession.sessions.user_services import UserServices
from boxsession.sessions.watch_services import WatchServices
from boxsession.settings import live, reader

__all__ = ['Services']

log = logging.getLogger('boxsession')

_LISTEN_USAGE = 'Usage: console.listen("[host:]port")'


class Services:
    """The services of one console."""

    def __init__(self, running: Console):
        self._running = running
        self._listeners: dict[int, Any] = {}        # listeners of console.listen(), by their numbers in Lua
        self._last_number = 0

    def table(self) -> dict[str, Callable]:
        """All services, by name."""
        users, sessions, pace = UserServices(self._running), SessionServices(self._running), new_pace()
        return {
            'settings': self.settings, 'configure': self.configure, 'reopen_log': self.reopen_log,
            'reset_statistics': self.reset_statistics,
            'listen': self.listen, 'close_listener': self.close_listener,
            'access': users.access, 'password_hash': users.password_hash, 'rights': users.rights, 'su': users.su,
            'login': users.login, 'login_by_scramble': users.login_by_scramble, 'become': users.become,
            'sessions': sessions.sessions, 'rename': sessions.rename, 'languages': sessions.languages,
            'traceback': sessions.traceback, 'cancel': sessions.cancel, 'kill': sessions.kill,
            'connect': sessions.connect, **NetBoxServices(self._running).table(), **LogServices(self._running).table(),
            **TailServices(self._running).table(),
            **InspectionServices(self._running, pace).table(), **MemoryServices(self._running, pace).table(),
            **LoopServices(self._running, pace).table(), **ProfileServices(self._running).table(),
            **WatchServices(self._running, pace).table(), **PythonServices(self._running).table()}

    # Settings and log

    def settings(self) -> dict:
        """The settings in force, as nested mappings by section."""
        return live.nested(self._running.settings)

    def configure(self, changes: dict) -> dict | None:
        """Changes settings, all or none. Returns None, or the name of a refused setting and the reason."""
        try:
            changed = live.changes(changes)
            self._running.check(changed)
        except live.Refused as problem:
            return {'name': problem.name, 'reason': problem.reason}
        before = dict(self._running.settings)
        self._running.configure(changed)
        for name, value in changed.items():
            # The name is part of the log template: logs.py folds lines of the same template.
            log.info(f'{name} is set to %s by %s; it was %s', value, described_caller(), before[name])
        self._running.audit.event('settings', current_session(), changes=dict(changed))
        return None

    def reopen_log(self) -> None:
        """Reopens the log file."""
        logs.reopen()

    def reset_statistics(self) -> None:
        """Begins the sums of box.stat() anew."""
        self._running.registry.statistics.reset()

    # Listeners

    def listen(self, uri=None) -> dict:
        """Opens a listener with the dialect, languages and user of the caller, for console.listen(). Returns its number,
        its file descriptor and its address.

        Raises:
            StatementError: the address is invalid, or cannot be listened on.
        """
        try:
            address = Address.from_whole_uri(uri)
        except ValueError:
            raise StatementError(_LISTEN_USAGE) from None
        session = current_session()
        try:
            dialect = session.dialect if session else 'classic'
            user = session.user if session else 'admin'
            languages = session.allowed_languages if session else ('lua',)
            config = reader.read({'listen': [{'address': str(address), 'dialect': dialect, 'user': user,
                                              'languages': languages}]}, 'console.listen')
            listener = self._running.listen(config.listen[0])
        except ConfigError as error:
            problem = error.problems[0]
            if 'python' in languages:
                problem += f'. console.listen() takes the languages of its session, {", ".join(languages)}: call it in a ' \
                    'session of a listener without python'
            raise StatementError(problem) from None
        except ListenError as error:
            told = f'unix/:{address.path}' if address.path else uri
            raise StatementError(f'failed to create server {told}: {error.reason}') from None
        self._last_number += 1
        self._listeners[self._last_number] = listener
        log.info('%s opened a listener: listening: console %s', described_caller(), listener.address)
        self._running.audit.event('listener', session, operation='open', address=str(listener.address))
        return {'number': self._last_number, 'fd': listener.sock.fileno(), 'name': _socket_name(listener)}

    def close_listener(self, number: int) -> bool:
        """Closes a listener. Its sessions continue. False if it was closed already."""
        listener = self._listeners.pop(number, None)
        if listener is None:
            return False
        self._running.unlisten(listener)
        log.info('%s closed the listener %s', described_caller(), listener.address)
        self._running.audit.event('listener', current_session(), operation='close', address=str(listener.address))
        return True


def _socket_name(listener: Listener) -> dict:
    """The address of a listener in the form of Tarantool's socket:name()."""
    if listener.address.path:
        return {'host': 'unix/', 'family': 'AF_UNIX', 'type': 'SOCK_STREAM', 'protocol': 0, 'port': listener.address.path}
    host, port, *_ = listener.sock.getsockname()
    return {'host': host, 'family': 'AF_INET6' if ':' in host else 'AF_INET', 'type': 'SOCK_STREAM', 'protocol': 'tcp',
            'port': port}
