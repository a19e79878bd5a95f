"""Serves one client of any protocol: its socket, its session, and their ends. Each client has one greenlet."""
from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

from gevent import get_hub, getcurrent
from gevent.hub import Waiter

from boxsession.base.redaction import redacted
from boxsession.base.session import Session, enter_session
from boxsession.scheduler.task import switch
from boxsession.scheduler.turns import Account
from boxsession.sessions.common import Common
from boxsession.sessions.input import Input
from boxsession.sessions.output import Output
from boxsession.sessions.sleepers import Sleepers
from boxsession.sessions.state import (
    ASLEEP,
    CLOSING,
    ENDS_ANSWERED,
    ENDS_NOW,
    IDLE,
    LIVES,
    NEXT,
    OPENING,
    Step,
)

__all__ = ['Connection', 'shown']

log = logging.getLogger('boxsession')

# Maximum characters of a statement that the list of sessions shows, and maximum bytes of it that are read for that.
_STATEMENT_SHOWN, _STATEMENT_LOOKED_AT = 120, 256


class Connection:
    """Serves one client until it leaves or is closed. The registry makes one for each client. Its greenlet executes run().

    Subclasses define how a session opens (`_open`), its main loop (`_serve`), and how received bytes are handled (`read`).
    A connection is also the host of its evaluator's task.

    Longer than usual: the states, ends and cancellation of a session belong together, and half of it is the interface for
    subclasses.

    Attributes:
        account: the account of the session. Its turns are charged to it.
        greenlet: the greenlet that executes run(); None while the session sleeps.
        is_private: whether the connection is encrypted or local, so that nobody on the network can read it.
        sleepers: watches the socket while the session sleeps; None if the session never sleeps.
        ends: when the session ends.
        statements: number of statements run.
    """

    __slots__ = ('session', 'account', 'greenlet', 'is_private', 'sleepers', 'ends', 'statements', '_sock', '_common',
                 '_dispatcher', '_counters', '_input', '_output', '_evaluator', '_state', '_ending', '_farewell',
                 '_running', '_bytes_in', '_active')

    def __init__(self, sock, session: Session, common: Common, is_private: bool, output: type[Output]):
        self.session = session
        self._sock = sock                       # a plain non-blocking socket, ours to close
        self._common = common
        self._dispatcher = common.dispatcher
        self._counters = common.counters
        self.account = Account()
        self._input = Input(self, sock, common)
        self._output = output(self, sock, common)
        self._evaluator: Any = None             # an evaluator of a language; created in _begin()
        self.is_private = is_private
        self._ending = 'the client left'        # reason of the end, for the audit file
        self.greenlet: Any = None
        self.sleepers: Sleepers | None = None
        self._state = OPENING
        self.ends = LIVES
        self._farewell = ''                     # reason why the server ends the session; sent to the client
        self._running: bytes | None = None      # the running statement
        self.statements = 0
        self._bytes_in = 0
        self._active = time.monotonic()         # time of the last input

    # Defined by subclasses

    def _open(self) -> bool:
        """Runs on_connect and greets the client. False if the session is refused."""
        raise NotImplementedError

    def _serve(self, hub: Any) -> bool:
        """Serves the client until the session is over. False if the session falls asleep."""
        raise NotImplementedError

    def read(self) -> None:
        """Reads input while a statement or a request runs."""
        raise NotImplementedError

    def push(self, tagged: bytes) -> None:
        """Sends a push."""
        raise NotImplementedError

    def has_room(self) -> None:
        """Called when the client has read all output of Output.send_early()."""

    def set_delimiter(self, delimiter: bytes) -> None:
        """Sets the text that ends statements."""

    def control(self, command: str) -> None:
        """Runs a backslash command that changes the connection."""

    def logged_in(self) -> None:
        """Called when the session's user has logged in."""

    def give_back(self, what: int | bytes) -> None:
        """See boxsession.scheduler.task.Host."""

    # The greenlet

    def run(self) -> bool:
        """Serves the client. Errors of the connection and of the session are logged, not raised.

        Returns True if the session is over and its socket closed, False if the session sleeps. A sleeping session has no
        greenlet. When its client sends or leaves, run() is called again, in a new greenlet.
        """
        self.greenlet = getcurrent()
        enter_session(self.session)
        hub = get_hub()
        is_over = True
        try:
            is_new = self._evaluator is None
            if is_new:
                self._begin()
            else:
                self._evaluator.task.move_to(self.greenlet)
            self.greenlet.is_shielded = True
            try:
                if not is_new or self._open():
                    is_over = self._serve(hub)
                else:
                    self._counters.hits['refused.on_connect'] += 1
            finally:
                if is_over:
                    self._close()
        except OSError as error:
            self._ending = f'connection lost: {error}'
            log.debug('session %d: connection lost: %s', self.session.id, error)       # the line of the end says so, too
        except Exception:
            self._ending = 'failed'
            log.exception('session %d: failed', self.session.id)
        finally:
            self.greenlet.is_shielded = False
            if is_over:
                self._tell_end()
                self._input.close()
                self._output.close()
                self._sock.close()
            else:
                self.greenlet = None
        return is_over

    def _begin(self) -> None:
        # The start of a session is a turn, too: many clients may connect at once.
        waiter = Waiter()
        self._dispatcher.turns.short.push(self.account, partial(switch, waiter))
        waiter.get()
        self._dispatcher.begin_turn()
        self._input.start()
        self._evaluator = self._common.runtime.evaluator(self.session, self, self.account)

    def _tell_start(self) -> None:
        """Records the start of the session in the log and in the audit file."""
        session = self.session
        log.info('%s began: %s %s', session.described, session.type, session.listener)
        if self._common.audit is not None:
            self._common.audit.event('start', session)

    def _tell_end(self) -> None:
        session, reason = self.session, self._farewell or self._ending
        log.info('%s ended: %s; %s %s, %.1f s, %d statements', session.described, reason, session.type, session.listener,
                 time.time() - session.started, self.statements)
        if self._common.audit is not None:
            self._common.audit.event('end', session, reason=reason)

    @property
    def is_over(self) -> bool:
        """Whether the session has ended: it must run nothing more."""
        return self.ends is ENDS_NOW

    def _enter(self, step: Step) -> None:
        """Changes the state. See state.py."""
        self._state = NEXT[self._state][step]

    @property
    def waits(self) -> bool:
        """Whether the session waits for input. Its greenlet waits, or it has none."""
        return self._state is IDLE or self._state is ASLEEP

    @property
    def is_closing(self) -> bool:
        """Whether the session runs its on_disconnect triggers."""
        return self._state is CLOSING

    def go_on(self) -> None:
        """In the hub: switches to the session's greenlet. Makes one if the session sleeps."""
        if self.greenlet is None:
            assert self.sleepers is not None
            self.sleepers.remove(self._sock.fileno())
            self.greenlet = self.sleepers.greenlet(self)
        self.greenlet.switch()

    def _close(self) -> None:
        """Runs the on_disconnect triggers. Called once for each session."""
        if self._state is not CLOSING:          # else they have run, before the session's last requests ended
            self._enter(Step.CLOSE)
        self._output.clear()
        self._input.stop()
        try:
            self._evaluator.disconnect()
        finally:
            self._enter(Step.CLOSED)
            self.ends = ENDS_NOW       # stops pushes of fibers that outlive the session
            self._output.release()
            self._input.count(0)

    def lost(self) -> None:
        """Called if the connection is lost. Cancels the running statement, unless limits.on_disconnect lets it finish."""
        self.ends = ENDS_NOW
        self._input.stop()
        if self._common.cancels and self._state is not CLOSING:      # does not cancel on_disconnect triggers
            self._cancel_running('')
        get_hub().loop.run_callback(self._wake)     # the session may be idle: a fiber's push may find the loss first

    # The evaluator's host

    def switching_out(self) -> None:
        """Sends the output before the statement waits or is preempted."""
        self._output.send_early()

    @property
    def mark(self) -> Any:
        """See boxsession.scheduler.task.Host."""
        return self.statements, self._running

    def wants_end(self) -> bool:
        """See boxsession.scheduler.task.Host."""
        return False

    def catch_up(self) -> None:
        """See boxsession.scheduler.task.Host."""
        self._input.catch_up()

    def running(self) -> str:
        """The session and its running statement, as text for the log."""
        statement = self._running
        if statement is None:
            return f'session {self.session.id} (a trigger or a fiber)'
        return f'session {self.session.id}: {shown(statement, self.session)!r}'

    # The server's side

    def drain(self) -> None:
        """Closes the session after the replies to all statements received. Callable from any greenlet."""
        if self.ends is LIVES:
            self.ends = ENDS_ANSWERED
            self._ending = 'the server stopped'
        get_hub().loop.run_callback(self._wake)

    def _wake(self) -> None:
        if self.waits:
            turns = self._dispatcher.turns
            turns.resume(turns.cancelled, self._input.resume)

    def cancel(self, reason: str = '') -> bool:
        """Cancels the running statement. False if none runs."""
        self._cancel_running(reason)
        if self.under_way() is None:
            return False
        self._counters.hits['cancels'] += 1
        return True

    def under_way(self) -> bytes | None:
        """The running statement; of a binary session one of the running requests."""
        return self._running

    def _cancel_running(self, reason: str) -> None:
        if self._evaluator is not None:
            self._dispatcher.cancel(self._evaluator.task, reason)

    def kill(self, reason: str) -> None:
        """Ends the session in any state. Callable from any greenlet.

        Args:
            reason: text for the client and the audit file.
        """
        self.end_now(reason)
        self._cancel_running(reason)
        loop = get_hub().loop
        loop.run_callback(self._wake)
        if self._output.is_sending:
            loop.run_callback(self._output.abort, self._farewell)

    def end_now(self, reason: str) -> None:
        """Ends the session after the running statement. Only sets attributes: kill() has to follow, to wake the session."""
        self.ends = ENDS_NOW
        self._farewell = self._farewell or reason

    def idle_seconds(self, now: float) -> float:
        """Seconds since the last input; 0 while a statement runs."""
        return now - self._active if self.waits else 0.0

    def counters(self) -> tuple[int, int, int]:
        """The numbers of statements run, bytes received and bytes sent."""
        return self.statements, self._bytes_in, self._output.sent

    def running_count(self) -> int:
        """The number of statements that run now."""
        return int(self._running is not None)

    def describe(self) -> dict[str, Any]:
        """The session's fields for box.session.list()."""
        session = self.session
        now = time.monotonic()
        running = self.under_way()
        state = 'sending' if self._output.is_sending else 'running' if running is not None else 'idle'
        process = {} if session.peer_uid is None else {'peer_uid': session.peer_uid, 'peer_pid': session.peer_pid}
        return {'id': session.id, 'user': session.user, 'peer': session.peer, **process, 'type': session.type,
                'language': session.language, 'listener': session.listener, 'name': session.name,
                'connected_s': round(time.time() - session.started, 3), 'idle_s': round(self.idle_seconds(now), 3),
                'state': state, 'statement': shown(running or b'', session),
                'statements': self.statements, 'bytes_in': self._bytes_in, 'bytes_out': self._output.sent}

    def audit_changed(self) -> None:
        """Called when the audit file was turned on or off."""

    def record_running(self) -> None:
        """Writes the running statements to the audit file, if it is on."""
        if self._common.audit is not None:
            for asked in self._asked_for():
                self._common.audit.event('running', self.session, **asked)

    def _asked_for(self) -> list[dict[str, str]]:
        """The running statements, as fields for the audit file."""
        return [] if self._running is None else [{'statement': redacted(self._running, languages=self.session.languages)}]


def shown(statement: bytes, session: Session) -> str:
    """A statement for lists and logs: redacted and truncated."""
    return redacted(statement, _STATEMENT_LOOKED_AT, brief=True, languages=session.languages)[:_STATEMENT_SHOWN]
