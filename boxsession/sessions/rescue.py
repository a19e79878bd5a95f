r"""The sessions of rescue listeners (boxsession/inspection/rescue.py): what a thread may do for a user while the event loop
is held.

All of this runs in the listener's thread. It reads objects of the loop's thread (copies of dicts are made by one call of
C), changes none of them, and waits for no lock that the loop's thread may hold. What needs the loop is posted to it: log
lines, cancelling a statement that waits, ending a session.
"""
from __future__ import annotations

import logging
import os
import time
from functools import partial
from typing import Any

from boxsession.base.redaction import ANY, redacted
from boxsession.base.session import Session
from boxsession.base.version import __version__
from boxsession.inspection.rescue import RescueAcceptor
from boxsession.net.listener import peer_process
from boxsession.protocol.client import INTERRUPT, OPENING
from boxsession.protocol.greeting import rescue_greeting
from boxsession.sessions.caller import NAME_LENGTH, Console
from boxsession.sessions.common import program_name
from boxsession.sessions.rescue_commands import COMMANDS, UNRECORDED, Acting, Refused, Seeing
from boxsession.users.access import GUEST, Level
from boxsession.users.passwords import EMPTY_HASH, Throttle, password_matches
from boxsession.values.packed import pack, tokens
from boxsession.values.yaml import document

__all__ = ['Rescue']

log = logging.getLogger('boxsession')

_PEER = 'unix/:(socket)'
_DELIMITER = OPENING[1].split()[-1]
_IDENTITY = 'box.session.id(), box.session.user()'      # `boxsession connect` asks for it
_LEAVING, _WORDS = (b'\\quit', b'\\q', b'~.', b'\x04'), (b'quit', b'exit')


class Rescue:
    """Makes the rescue listeners of one console, and the sessions of their clients."""

    def __init__(self, running: Console):
        self.running = running
        self.stopper = running.stopper
        self.throttle = Throttle()

    def acceptor(self, sock: Any, listener: Any) -> RescueAcceptor:
        """Makes the acceptor of a listening socket."""
        return RescueAcceptor(sock, listener, self._admit, self.stopper.arm, self.stopper.disarm)

    def _admit(self, sock: Any, config: Any) -> RescueSession | bytes:
        running = self.running
        uid, pid = peer_process(sock)
        name = config.user if config.peers is None else config.peers.get(uid)
        access = running.accounts.access
        user = access.user(name) if name else None
        if not running.registry.is_accepting:
            problem = 'the console is stopping'
        elif name is None:
            problem = f'uid {uid} may not connect here (peers)'
        elif user is None:
            problem = f'the user {name} does not exist any more'
        elif not access.may_log_in(user.id):
            problem = f'the user {name} may not log in'
        else:
            session = Session(next(running.registry.ids), _PEER, sock.fileno(), user.name, user.id, config.dialect,
                              type='rescue', listener=str(config.address), login=user.name, peer_uid=uid, peer_pid=pid)
            return RescueSession(self, session)
        running.monitor.post(partial(log.warning, 'refused %s, uid %d, pid %d at %s: %s', _PEER, uid, pid, config.address,
                                     problem))
        return _reply({'error': problem})


class RescueSession:
    """The session of one client.

    Attributes:
        greeting: the bytes to send first.
        not_before: when the next line may be answered (time.monotonic()); a login may have to wait.
    """

    def __init__(self, rescue: Rescue, session: Session):
        self._rescue = rescue
        self._running = running = rescue.running
        self._session = session
        self._held: list[bytes] = []        # the lines of an unfinished statement
        self._has_delimiter = False
        self._may_try = False               # the login has waited
        self._commands = {**Seeing(running).table(), **Acting(running, rescue.stopper, session, self._log).table(),
                          'login': self._login}
        self.not_before = 0.0
        self.greeting = rescue_greeting(__version__, os.getpid(), running.settings['name'] or program_name())
        self._log('%s began: rescue %s', session.listener)
        running.audit.aside('start', session)

    def _log(self, text: str, *arguments: Any) -> None:
        """Logs a line as soon as the loop runs. The text begins with the session."""
        self._running.monitor.post(partial(log.info, text, self._session.described, *arguments))

    # Lines

    def error(self, message: str) -> bytes:
        return _reply({'error': message})

    def end(self, reason: str) -> None:
        self._log('%s ended: %s; rescue %s', reason, self._session.listener)
        self._running.audit.aside('end', self._session, reason=reason)

    def answer(self, line: bytes) -> bytes | None:
        """The reply to a line; b'' if it does not end a statement, None if it ends the session."""
        line = line.rstrip(b'\r').replace(INTERRUPT, b'')
        if self._has_delimiter:
            if not line.endswith(_DELIMITER):
                self._held = [*self._held[-100:], line]
                return b''
            line = b'\n'.join([*self._held, line.removesuffix(_DELIMITER)])
            self._held = []
        line = line.strip()
        if line in _LEAVING or line in _WORDS and not self._has_delimiter:
            return None
        if line in _WORDS:                      # `boxsession connect` leaves if these are names of nothing
            return _reply(None)
        if not line:
            return b'' if not self._has_delimiter else _reply(None)
        if line in OPENING or line.startswith(b'\\set '):
            self._has_delimiter = self._has_delimiter or line == OPENING[1]
            return _reply(True)
        return self._recorded(line)

    def _recorded(self, line: bytes) -> bytes | None:
        audit, session, user = self._running.audit, self._session, self._session.user
        began, problem = time.monotonic(), ''
        try:
            replies = self._run(line)
        except Refused as error:
            problem = str(error)
        except Exception as error:              # the loop's thread may change anything meanwhile
            problem = f'{type(error).__name__}: {error}: try again'
        if self.not_before > time.monotonic():
            return b''
        told = redacted(problem.encode(), languages=ANY) if problem else None
        if not audit.aside('statement', session, effective_user=user, statement=redacted(line, languages=ANY),
                           ok=not problem, error=told, milliseconds=round((time.monotonic() - began) * 1000, 3)):
            return self.error(f'the command has run, but cannot be recorded: {UNRECORDED}')
        return self.error(problem) if problem else _reply(*replies)

    def _run(self, line: bytes) -> list[Any]:
        text = line.decode(errors='replace')
        if text == _IDENTITY:
            return [self._session.id, self._session.user]
        name, _, rest = text.removeprefix('\\').partition(' ')
        rest = rest.strip()
        if name == 'complete':
            return [[f'\\{known}' for known in COMMANDS if f'\\{known}'.startswith(rest)]] if rest else [[]]
        if name == 'h':
            name = 'help'
        if name not in COMMANDS:
            raise Refused(f'{text[:NAME_LENGTH]!r} is no command of a rescue listener: \\help lists them. Statements run '
                          'on the other listeners')
        usage, right, _ = COMMANDS[name]
        self._need(name, right)
        if not usage and rest or usage == 'ID' and not rest:
            raise Refused(f'Usage: \\{name} {usage}'.rstrip())
        return [self._commands[name](rest)]

    def _need(self, name: str, right: str) -> None:
        access, session = self._running.accounts.access, self._session
        user = access.users.get(session.uid)
        if user is None or user.name != session.user:
            raise Refused(f'the user {session.user} does not exist any more')
        if not right:
            return
        level, granted = access.level(session.uid), access.granted_commands(session.uid)
        if not (level == Level.FULL or right == 'read' and level >= Level.READ or granted is None or name in granted):
            also = 'read or execute' if right == 'read' else 'execute'
            raise Refused(f'access denied: \\{name} needs {also} on universe, or execute on the command {name}, which the '
                          f'user {session.user} does not have')

    # Login

    def _login(self, rest: str) -> bool:
        name, _, password = rest.partition(' ')
        if not name or not password:
            raise Refused('Usage: \\login USER PASSWORD')
        session, throttle, now = self._session, self._rescue.throttle, time.monotonic()
        address = f'{session.listener}:{session.peer_uid}'
        if not self._may_try:
            wait = throttle.seconds_to_wait(name, address, now)
            if wait > throttle.longest:
                self._tell_login(name, 'too many failed logins')
                raise Refused(f'too many failed logins: try again in {wait:.0f} seconds')
            if wait:
                self._may_try, self.not_before = True, now + wait
                return False
        self._may_try = False
        access = self._running.accounts.access
        user = access.user(name)
        kept = '' if user is None else EMPTY_HASH if user.id == GUEST else user.hash
        if not password_matches(password, kept) or user is None:
            self._tell_login(name, 'wrong name or password')
            raise Refused('User not found or supplied credentials are invalid')
        if not access.may_log_in(user.id):
            self._tell_login(name, 'it may not log in')
            raise Refused(f'the user {name} may not log in')
        throttle.succeeded(name, address)
        session.user, session.uid, session.login = user.name, user.id, user.name
        self._tell_login(name, None)
        return True

    def _tell_login(self, name: str, problem: str | None) -> None:
        name = name[:NAME_LENGTH]
        if problem:
            hits = self._running.counters.hits
            self._running.monitor.post(lambda: hits.update({'failed_logins': 1}))
        self._log('%s: login as %r: %s', name, problem or 'done')
        self._running.audit.aside('login', self._session, name=name, ok=problem is None, error=problem)


def _reply(*values: Any) -> bytes:
    packed = b''.join(map(pack, values))
    return document(tokens(packed), as_list=True)
