"""One client, whatever it speaks: its socket, its session, and their ends. One greenlet for each.

What is answered is gathered, and goes out in one write for each read, and at the latest when the greenlet lets others run.
"""
from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
from gevent import Timeout, get_hub, getcurrent, monkey
from gevent.event import Event
from gevent.hub import Waiter

from boxsession.base.greenlets import Aborted, OwnTimeout, TimedOut
from boxsession.base.redaction import redacted
from boxsession.base.session import Session, enter_session
from boxsession.scheduler.loop import PRIORITY
from boxsession.scheduler.task import switch
from boxsession.scheduler.turns import Account
from boxsession.sessions.common import Common
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

__all__ = ['BATCH_BYTES', 'MAKING', 'Connection', 'shown']

log = logging.getLogger('boxsession')

# Replies are sent before they pile up higher than this.
BATCH_BYTES = 1 << 18
# While a document or an answer is made of values, it is counted as so many times what they take packed.
MAKING = 2
_READ, _WRITE = 1, 2            # libev's event masks
# How often it is looked whether a client that sends no more, and whose statement runs, is still there.
_PROBE_SECONDS = 1.0
# What a client sends behind the last answer is read for so long, and so much of it.

# The real one, also in a program that is patched.
_poll = monkey.get_original('select', 'poll')

# A refused client's input is read and dropped for so long, and up to so much, before its socket is closed.
_LINGER_SECONDS, _LINGER_BYTES, _LINGER_PIECE = 0.5, 1 << 22, 1 << 16
# Input that is not counted: 10,000 sessions may hold 40 MiB of it.
_LITTLE_INPUT = 1 << 12
# How often a fiber whose pushes have filled the output looks whether there is room.
_ROOM_SECONDS = 0.02

_NOTHING = memoryview(b'')

# How much of a running statement the list of sessions shows, and how much of it is looked at for that.
_STATEMENT_SHOWN, _STATEMENT_LOOKED_AT = 120, 256


class Connection:
    """Serves one client until it leaves or is closed. Made for each by the server; run() is its greenlet's body.

    A kind of connection says how it opens (`_open`), what it does while it lives (`_serve`), and what a client's bytes mean
    (`_read`). It is its evaluator's host, too: what a trigger does to its own connection arrives there.
    """

    __slots__ = ('session', '_sock', '_common', '_dispatcher', '_counters', '_evaluator', 'greenlet',
                 '_watcher', '_state', '_ends', '_out', '_out_bytes', '_reading', '_sending',
                 '_probe', '_farewell', '_running', '_statements', '_bytes_in',
                 '_bytes_out', '_active', '_account', '_rest_bytes', '_made_bytes', 'is_private', '_ending',
                 '_writer', '_holds_input', '_over_event', '_wake_up')

    def __init__(self, sock, session: Session, common: Common, is_private: bool):
        self.session = session
        self._sock = sock                       # a plain non-blocking socket, ours to close
        self._common = common
        self._dispatcher = common.dispatcher
        self._counters = common.counters
        self._account = Account()
        self._evaluator: Any = None             # a language's; made by the greenlet itself
        self.is_private = is_private            # whether nobody on the way can read what is sent
        self._ending = 'the client left'        # why the session is over
        self.greenlet: Any = None               # the one that run() is the body of; None while the session sleeps
        self._wake_up: Callable[[Connection], gevent.Greenlet] | None = None    # makes one; None for who never sleeps
        self._over_event: Event | None = None
        self._watcher: Any = None               # tells when the socket can be read, all the time
        self._reading = False                   # whether the watcher is on
        self._state = OPENING
        self._ends = LIVES
        self._out: list[bytes] = []             # replies that have not been sent
        self._out_bytes = 0
        self._rest_bytes = 0                    # what is left of a reply that the client takes slowly
        self._made_bytes = 0                    # what is made ready for it, or waits for the greeting
        self._holds_input = False               # whether input of this session is counted
        self._writer: Any = None                # tells when the client takes more, while nobody waits for that
        self._probe: Any = None                 # the timer that looks for a hangup while nothing is read
        self._sending = False                   # in the middle of a reply that the client takes slowly
        self._farewell = ''                     # why the session is ended from outside
        self._running: bytes | None = None      # the statement under way
        self._statements = 0
        self._bytes_in = 0
        self._bytes_out = 0
        self._active = time.monotonic()         # when the client last sent something

    # What a kind of connection says

    def _open(self) -> bool:
        """Runs on_connect and greets the client; False where the session is refused."""
        raise NotImplementedError

    def _serve(self, hub: Any) -> bool:
        """Serves the client until the session is over; False where it falls asleep."""
        raise NotImplementedError

    def _read(self) -> None:
        """Reads what has come, while the session's greenlet does something else."""
        raise NotImplementedError

    def push(self, tagged: bytes) -> None:
        """Sends what a statement pushes."""
        raise NotImplementedError

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
                self._begin(hub)
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
                self._watch(False)
                self._watcher.close()
                self._end_writer()
                self._sock.close()
            else:
                self.greenlet = None
        return is_over

    def _begin(self, hub) -> None:
        self._watcher = hub.loop.io(self._sock.fileno(), _READ, priority=PRIORITY)
        # A crowd that connects at once takes its turns like others.
        waiter = Waiter()
        self._dispatcher.turns.short.push(self._account, partial(switch, waiter))
        waiter.get()
        self._dispatcher.begin_turn()
        self._watch(True)
        self._evaluator = self._common.runtime.evaluator(self.session, self, self._account)

    def may_sleep(self, wake_up: Callable[[Connection], gevent.Greenlet]) -> None:
        """The session may sleep while its client is silent: wake_up(connection) makes the greenlet that then goes on."""
        self._wake_up = wake_up

    @property
    def ended(self) -> Event:
        """Set when the session is over."""
        if self._over_event is None:
            self._over_event = Event()
        return self._over_event

    def note_end(self) -> None:
        """The session is over, and known no more."""
        if self._over_event is not None:
            self._over_event.set()

    @property
    def is_over(self) -> bool:
        """Whether the session ends: it is to run nothing more."""
        return self._ends is ENDS_NOW

    def _enter(self, step: Step) -> None:
        """Changes the state."""
        self._state = NEXT[self._state][step]

    @property
    def _waits(self) -> bool:
        """Whether its greenlet, if it has one, waits until the client sends."""
        return self._state is IDLE or self._state is ASLEEP

    def _go_on(self) -> None:
        """In the hub: lets the session's greenlet run."""
        if self.greenlet is None:
            assert self._wake_up is not None
            self.greenlet = self._wake_up(self)
        self.greenlet.switch()

    def _close(self) -> None:
        """Runs on_disconnect, once, whatever ended the session."""
        self._enter(Step.CLOSE)
        # What could not be sent; a reply may have several pieces.
        self._out.clear()
        self._out_bytes = 0
        self._watch(False)
        self._end_probe()
        try:
            self._evaluator.disconnect()
        finally:
            self._enter(Step.CLOSED)
            self._ends = ENDS_NOW       # fibers may live on, and push
            self._out.clear()
            self._out_bytes = self._made_bytes = 0
            self._count_unsent()
            self._count_unread(0)

    # Input

    def _count_unread(self, count: int) -> None:
        """So many bytes have come that cannot be run yet."""
        if count <= _LITTLE_INPUT or self._ends is ENDS_NOW:
            if not self._holds_input:
                return
            count = 0
        self._holds_input = count > 0
        self._common.unread.hold(self, count)

    def _watch(self, on: bool) -> None:
        if on != self._reading:
            self._reading = on
            if on:
                self._watcher.start(self._readable)
            else:
                self._watcher.stop()

    def _stop_reading(self) -> None:
        """Reads no more while a statement runs; only looks now and then whether the client is gone altogether."""
        self._watch(False)
        if self._probe is None:
            self._probe = get_hub().loop.timer(_PROBE_SECONDS, _PROBE_SECONDS, priority=PRIORITY)
            self._probe.start(self._look_for_hangup)

    def _look_for_hangup(self) -> None:
        poller = _poll()                # gevent's would wait, which this cannot
        poller.register(self._sock.fileno(), 0)
        if poller.poll(0):
            self._lost()

    def _end_probe(self) -> None:
        if self._probe is not None:
            self._probe.stop()
            self._probe.close()
            self._probe = None

    def _readable(self) -> None:
        """In the hub: the client has sent something, or has left. Reading it is a turn, also while a statement runs."""
        turns = self._dispatcher.turns
        if self._waits:
            if turns.short.is_open and not self._account.due:
                turns.short.run(self._account, self._go_on)
            else:
                self._watch(False)
                turns.short.push(self._account, self._resume)
        elif turns.short.is_open:
            turns.short.run(self._account, self._read_early)
        else:
            # It may be an interrupt: that waits neither for what the statement has used, nor for rule 6.
            self._watch(False)
            turns.short.push(turns.cancelled, self._resume)

    def _resume(self) -> None:
        """In the hub: it is the turn of a session that has input to read."""
        if self._probe is not None or self._state is CLOSING:   # not to be read now
            return
        if self._waits:
            self._watch(True)
            self._go_on()
        elif self._ends is not ENDS_NOW:
            self._watch(True)
            self._read_early()

    def _read_early(self) -> None:
        """In the hub: reads on while a statement is under way, to see an interrupt."""
        try:
            self._read()
        except OSError:
            self._lost()

    def _lost(self) -> None:
        """The client is gone while its statement runs: nobody would read the answer."""
        self._ends = ENDS_NOW
        self._watch(False)
        self._end_probe()
        if self._common.cancels and self._state is not CLOSING:      # its on_disconnect runs to its end
            self._cancel_running('')
        get_hub().loop.run_callback(self._wake)     # where nothing runs: a fiber's push may have seen it first

    # Output

    def _put(self, *pieces: bytes) -> None:
        self._out.extend(pieces)
        self._out_bytes += sum(map(len, pieces))
        if self._out_bytes > BATCH_BYTES and getcurrent() is self.greenlet:
            self._flush()

    def _flush(self) -> None:
        """Sends everything; waits for a client that reads slowly, for limits.send_seconds at most."""
        out = self._out
        if len(out) == 1:
            data = out.pop()
            self._out_bytes = 0
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            self._bytes_out += sent
            if sent == len(data):
                return
            rest = memoryview(data)[sent:]
        else:
            rest = self._send_now()
        while rest or out:
            self._send_slowly(rest)
            rest = self._send_now()

    def _say_farewell(self, data: bytes) -> None:
        """Sends a last word at once or not at all: whoever takes nothing is not waited for."""
        if self._out_bytes <= BATCH_BYTES:
            self._out.append(data)
            self._send_now()

    def _send_slowly(self, rest: memoryview) -> None:
        """Sends the rest of a batch as the client takes it; lets others in in any case."""
        self._sending = True
        self._end_writer()
        self._rest_bytes = len(rest)
        self._count_unsent()
        hub = get_hub()
        watcher = hub.loop.io(self._sock.fileno(), _WRITE, priority=PRIORITY)
        try:
            with Timeout(self._common.send_seconds or None, TimedOut('the client does not read')):
                is_ready = False
                while rest or not is_ready:
                    hub.wait(watcher)
                    is_ready = True
                    rest = rest[self._send(rest):]
                    self._rest_bytes = len(rest)
                    self._count_unsent()
            # Still in the middle of it: who had a turn first would send, too, and then both.
            self._dispatcher.rejoin()
        except TimedOut:
            self._counters.hits['limits.send_seconds'] += 1
            raise
        finally:
            watcher.close()
            self._sending = False
            self._rest_bytes = 0
            self._count_unsent()

    def _count_unsent(self) -> None:
        # Who is over gives it back in a moment.
        if self._ends is ENDS_NOW:
            self._common.unsent.hold(self, 0)
        else:
            self._common.unsent.hold(self, self._rest_bytes + self._out_bytes, self._made_bytes)

    def _make(self, count: int) -> None:
        """So many bytes more are made ready for the client, or fewer."""
        self._made_bytes += count
        if self._made_bytes > BATCH_BYTES or count < -BATCH_BYTES:
            self._count_unsent()

    def _wait_for_room(self) -> None:
        """Waits, where a fiber pushes, until there is room in the output; the session's own greenlet sends it itself."""
        if getcurrent() is self.greenlet:
            return
        end = time.monotonic() + (self._common.send_seconds or float('inf'))
        self.switching_out()
        while self._out_bytes > BATCH_BYTES and self._ends is not ENDS_NOW:
            if time.monotonic() > end:
                self._counters.hits['limits.send_seconds'] += 1
                self.kill('the client does not read')
                return
            gevent.sleep(_ROOM_SECONDS)

    def _send_now(self) -> memoryview:
        """Sends a batch, as far as the socket takes it at once; gives what is left of it."""
        if not self._out:
            return _NOTHING
        data = self._next_batch()
        return memoryview(data)[self._send(data):]

    def _next_batch(self) -> bytes:
        """Takes what is to be sent in one write: all replies, or of many bytes some."""
        out = self._out
        if self._out_bytes <= 2 * BATCH_BYTES:
            data = b''.join(out)
            out.clear()
            self._out_bytes = 0
            return data
        size = count = 0
        while size < BATCH_BYTES and count < len(out):
            size += len(out[count])
            count += 1
        data = out[0] if count == 1 else b''.join(out[:count])
        del out[:count]
        self._out_bytes -= size
        return data

    def _send(self, data) -> int:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            return 0
        self._bytes_out += sent
        return sent

    def _linger(self) -> None:
        """Drops what still comes, for a moment: a close with unread input is a reset, which may overtake the last reply."""
        self._watch(False)
        left = _LINGER_BYTES
        hub = get_hub()
        watcher = hub.loop.io(self._sock.fileno(), _READ, priority=PRIORITY)
        try:
            self._sock.shutdown(socket.SHUT_WR)
            with OwnTimeout(_LINGER_SECONDS, False):
                while left > 0:
                    hub.wait(watcher)
                    data = self._sock.recv(_LINGER_PIECE)
                    if not data:
                        break
                    left -= len(data)
        except OSError:
            pass
        finally:
            watcher.close()

    # The evaluator's host

    def switching_out(self) -> None:
        """The statement lets others run: what it has to say goes out first."""
        if self._sending:
            return
        try:
            rest = self._send_now()
        except OSError:
            self._lost()
            return
        if rest:
            self._out.insert(0, bytes(rest))
            self._out_bytes += len(rest)
        if self._out:
            self._count_unsent()
            if self._writer is None:
                self._writer = get_hub().loop.io(self._sock.fileno(), _WRITE, priority=PRIORITY)
                self._writer.start(self._writable)

    def _writable(self) -> None:
        """In the hub: the client takes more of what was said before a wait."""
        self._end_writer()
        if self._ends is not ENDS_NOW:
            self.switching_out()
            if self._writer is None:
                self._count_unsent()

    def _end_writer(self) -> None:
        if self._writer is not None:
            self._writer.stop()
            self._writer.close()
            self._writer = None

    def running(self) -> str:
        """What the session runs, in words for the log."""
        statement = self._running
        if statement is None:
            return f'session {self.session.id} (a trigger or a fiber)'
        return f'session {self.session.id}: {shown(statement)!r}'

    # The server's side

    def drain(self) -> None:
        """Closes the session as soon as everything it has sent is answered. Callable from any greenlet."""
        if self._ends is LIVES:
            self._ends = ENDS_ANSWERED
        get_hub().loop.run_callback(self._wake)

    def _wake(self) -> None:
        if self._waits:
            turns = self._dispatcher.turns
            turns.resume(turns.cancelled, self._resume)

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
        self._ends = ENDS_NOW
        self._farewell = self._farewell or reason
        self._cancel_running(reason)
        loop = get_hub().loop
        loop.run_callback(self._wake)
        if self._sending:
            loop.run_callback(self._stop_sending)

    def _stop_sending(self) -> None:
        if self._sending:
            self.greenlet.throw(Aborted(self._farewell))

    def idle_seconds(self, now: float) -> float:
        """For how long the client has sent nothing; 0 while a statement runs."""
        return now - self._active if self._waits else 0.0

    def counters(self) -> tuple[int, int, int]:
        """Statements, bytes in and bytes out so far."""
        return self._statements, self._bytes_in, self._bytes_out

    def describe(self) -> dict[str, Any]:
        """What box.session.list() shows of the session."""
        session = self.session
        now = time.monotonic()
        running = self._under_way()
        state = 'sending' if self._sending else 'running' if running is not None else 'idle'
        return {'id': session.id, 'user': session.user, 'peer': session.peer, 'type': session.type,
                'listener': session.listener, 'name': session.name,
                'connected_s': round(time.time() - session.started, 3), 'idle_s': round(self.idle_seconds(now), 3),
                'state': state, 'statement': shown(running or b''),
                'statements': self._statements, 'bytes_in': self._bytes_in, 'bytes_out': self._bytes_out}

    def audit_changed(self) -> None:
        """There is an audit file now, or none any more."""


def shown(statement: bytes) -> str:
    """A statement for lists and logs."""
    return redacted(statement, _STATEMENT_LOOKED_AT, brief=True)[:_STATEMENT_SHOWN]
