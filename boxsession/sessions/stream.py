"""One client, whatever it speaks: its socket, its session, and their ends. One greenlet for each."""
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

# How much of a running statement the list of sessions shows, and how much of it is looked at for that.
_STATEMENT_SHOWN, _STATEMENT_LOOKED_AT = 120, 256


class Connection:
    """Serves one client until it leaves or is closed. Made for each by the server; run() is its greenlet's body.

    A kind of connection says how it opens (`_open`), what it does while it lives (`_serve`), and what a client's bytes mean
    (`read`). It is its evaluator's host, too: what a trigger does to its own connection arrives there.

    Longer than usual: a session's states, ends and cancellation are one thing, and half of it says what kinds have to do.

    Attributes:
        account: of the session, which its turns are charged to.
        greenlet: the one that run() is the body of; None while the session sleeps.
        is_private: whether nobody on the way can read what is sent.
        sleepers: where it is while it sleeps; None for one that never does.
        ends: when it ends.
        statements: how many it has run.
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
        self._evaluator: Any = None             # a language's; made by the greenlet itself
        self.is_private = is_private
        self._ending = 'the client left'        # why the session is over
        self.greenlet: Any = None
        self.sleepers: Sleepers | None = None
        self._state = OPENING
        self.ends = LIVES
        self._farewell = ''                     # why the session is ended from outside
        self._running: bytes | None = None      # the statement under way
        self.statements = 0
        self._bytes_in = 0
        self._active = time.monotonic()         # when the client last sent something

    # What a kind of connection says

    def _open(self) -> bool:
        """Runs on_connect and greets the client; False where the session is refused."""
        raise NotImplementedError

    def _serve(self, hub: Any) -> bool:
        """Serves the client until the session is over; False where it falls asleep."""
        raise NotImplementedError

    def read(self) -> None:
        """Reads what has come, while the session's greenlet does something else."""
        raise NotImplementedError

    def push(self, tagged: bytes) -> None:
        """Sends what a statement pushes."""
        raise NotImplementedError

    def has_room(self) -> None:
        """The client has taken everything that it was told before a wait."""

    def set_delimiter(self, delimiter: bytes) -> None:
        """Statements end with this from now on."""

    def control(self, command: str) -> None:
        """Does what a backslash command asks for."""

    def give_back(self, what: int | bytes) -> None:
        """See boxsession.scheduler.task.Host."""

    # The greenlet

    def run(self) -> bool:
        """Serves the client. Raises nothing of the client's.

        Returns True when the session is over and its socket closed; False when it sleeps: until its client sends, it has no
        greenlet. Then it is called again, in a new one.
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
            log.info('session %d: connection lost: %s', self.session.id, error)
        except Exception:
            self._ending = 'failed'
            log.exception('session %d: failed', self.session.id)
        finally:
            self.greenlet.is_shielded = False
            if is_over:
                if self._common.audit is not None:
                    self._common.audit.event('end', self.session, reason=self._farewell or self._ending)
                self._input.close()
                self._output.close()
                self._sock.close()
            else:
                self.greenlet = None
        return is_over

    def _begin(self) -> None:
        # A crowd that connects at once takes its turns like others.
        waiter = Waiter()
        self._dispatcher.turns.short.push(self.account, partial(switch, waiter))
        waiter.get()
        self._dispatcher.begin_turn()
        self._input.start()
        self._evaluator = self._common.runtime.evaluator(self.session, self, self.account)

    @property
    def is_over(self) -> bool:
        """Whether the session ends: it is to run nothing more."""
        return self.ends is ENDS_NOW

    def _enter(self, step: Step) -> None:
        """Changes the state."""
        self._state = NEXT[self._state][step]

    @property
    def waits(self) -> bool:
        """Whether its greenlet, if it has one, waits until the client sends."""
        return self._state is IDLE or self._state is ASLEEP

    @property
    def is_closing(self) -> bool:
        """Whether it runs its on_disconnect triggers."""
        return self._state is CLOSING

    def go_on(self) -> None:
        """In the hub: lets the session's greenlet run."""
        if self.greenlet is None:
            assert self.sleepers is not None
            self.sleepers.remove(self._sock.fileno())
            self.greenlet = self.sleepers.greenlet(self)
        self.greenlet.switch()

    def _close(self) -> None:
        """Runs on_disconnect, once, whatever ended the session."""
        self._enter(Step.CLOSE)
        self._output.clear()
        self._input.stop()
        try:
            self._evaluator.disconnect()
        finally:
            self._enter(Step.CLOSED)
            self.ends = ENDS_NOW       # fibers may live on, and push
            self._output.release()
            self._input.count(0)

    def lost(self) -> None:
        """The client is gone while its statement runs: nobody would read the answer."""
        self.ends = ENDS_NOW
        self._input.stop()
        if self._common.cancels and self._state is not CLOSING:      # its on_disconnect runs to its end
            self._cancel_running('')
        get_hub().loop.run_callback(self._wake)     # where nothing runs: a fiber's push may have seen it first

    # The evaluator's host

    def switching_out(self) -> None:
        """The statement lets others run: what it has to say goes out first."""
        self._output.send_early()

    def running(self) -> str:
        """What the session runs, in words for the log."""
        statement = self._running
        if statement is None:
            return f'session {self.session.id} (a trigger or a fiber)'
        return f'session {self.session.id}: {shown(statement)!r}'

    # The server's side

    def drain(self) -> None:
        """Closes the session as soon as everything it has sent is answered. Callable from any greenlet."""
        if self.ends is LIVES:
            self.ends = ENDS_ANSWERED
        get_hub().loop.run_callback(self._wake)

    def _wake(self) -> None:
        if self.waits:
            turns = self._dispatcher.turns
            turns.resume(turns.cancelled, self._input.resume)

    def cancel(self, reason: str = '') -> bool:
        """Cancels what the session runs; False when it runs nothing."""
        self._cancel_running(reason)
        if self._under_way() is None:
            return False
        self._counters.hits['cancels'] += 1
        return True

    def _under_way(self) -> bytes | None:
        """The statement that runs, or one of those."""
        return self._running

    def _cancel_running(self, reason: str) -> None:
        if self._evaluator is not None:
            self._dispatcher.cancel(self._evaluator.task, reason)

    def kill(self, reason: str) -> None:
        """Ends the session, whatever it does. Callable from any greenlet."""
        self.ends = ENDS_NOW
        self._farewell = self._farewell or reason
        self._cancel_running(reason)
        loop = get_hub().loop
        loop.run_callback(self._wake)
        if self._output.is_sending:
            loop.run_callback(self._output.abort, self._farewell)

    def idle_seconds(self, now: float) -> float:
        """For how long the client has sent nothing; 0 while a statement runs."""
        return now - self._active if self.waits else 0.0

    def counters(self) -> tuple[int, int, int]:
        """Statements, bytes in and bytes out so far."""
        return self.statements, self._bytes_in, self._output.sent

    def describe(self) -> dict[str, Any]:
        """What box.session.list() shows of the session."""
        session = self.session
        now = time.monotonic()
        running = self._under_way()
        state = 'sending' if self._output.is_sending else 'running' if running is not None else 'idle'
        return {'id': session.id, 'user': session.user, 'peer': session.peer, 'type': session.type,
                'listener': session.listener, 'name': session.name,
                'connected_s': round(time.time() - session.started, 3), 'idle_s': round(self.idle_seconds(now), 3),
                'state': state, 'statement': shown(running or b''),
                'statements': self.statements, 'bytes_in': self._bytes_in, 'bytes_out': self._output.sent}

    def audit_changed(self) -> None:
        """There is an audit file now, or none any more."""

    def record_running(self) -> None:
        """Records the statements that run in the audit file, if there is one."""
        if self._common.audit is not None:
            for asked in self._asked_for():
                self._common.audit.event('running', self.session, **asked)

    def _asked_for(self) -> list[dict[str, str]]:
        """The statements that run, as the audit file has them."""
        return [] if self._running is None else [{'statement': redacted(self._running)}]


def shown(statement: bytes) -> str:
    """A statement for lists and logs."""
    return redacted(statement, _STATEMENT_LOOKED_AT, brief=True)[:_STATEMENT_SHOWN]
