"""A client of the text console: the read-eval-print loop between its socket and the evaluator.

Data flows one way: socket, protocol, evaluator, output, socket. The greenlet reads only while nothing runs; while a
statement waits or has lost its turn, the hub reads on its behalf, so that Ctrl-C is seen.
"""
from __future__ import annotations

import logging
import time
from typing import Any

from boxsession.base.errors import StatementCancelled
from boxsession.base.session import Session
from boxsession.base.version import __version__
from boxsession.protocol.greeting import console_greeting
from boxsession.protocol.text import (
    NEED_DATA,
    Cancelled,
    ConsoleProtocol,
    End,
    Event,
    Foreign,
    More,
    Quit,
    Statement,
    TooLong,
    Unfinished,
)
from boxsession.scheduler.loop import PRIORITY
from boxsession.sessions.common import Common
from boxsession.sessions.evaluators import SENT, Judge, Route, note_not_run
from boxsession.sessions.output import BATCH_BYTES
from boxsession.sessions.refusals import problem_of, refusal_of
from boxsession.sessions.remote import RemoteConsole
from boxsession.sessions.state import ENDS_NOW, IDLE, LIVES, Step
from boxsession.sessions.stream import Connection
from boxsession.sessions.text_output import TextOutput
from boxsession.values.documents import reply_document
from boxsession.values.packed import Tagged

__all__ = ['ConsoleConnection']

log = logging.getLogger('boxsession')

_READ_BYTES = 16384
# The same where telnet's commands are looked for: each of two bytes costs as much as a short statement.
_TELNET_READ_BYTES = 2048
# While a statement runs, this much of what follows it is read ahead; the rest waits in the socket.
_READ_AHEAD_BYTES = 1 << 18

# What the greenlet of an idle session is switched to with when it is to end.
_SLEEP = object()


class ConsoleConnection(Connection):
    """Serves one client of a text console.

    Longer than usual: its loop, which takes a third of it, works on the session's state and cannot leave it cheaply.
    """

    __slots__ = ('_protocol', '_route', '_lingers')

    _output: TextOutput

    def __init__(self, sock, session: Session, common: Common, is_private: bool):
        super().__init__(sock, session, common, is_private, TextOutput)
        self._protocol = ConsoleProtocol(continuation='auto' if session.dialect == 'classic' else 'off', is_judging=True)
        self._route: Route | None = None        # which evaluator statements go to; needed while the session is awake
        self._lingers = False                   # what still comes is read before the socket is closed

    def _open(self) -> bool:
        if self._common.audit is not None:
            self._common.audit.event('start', self.session)
        self._new_route()               # on_connect may call console.connect()
        refusal = self._evaluator.connect()
        if refusal:
            self._ending = 'refused by on_connect'
            refusal = reply_document(refusal)
            self._output.put(refusal)
            log.warning('session %d from %s was refused by on_connect: %s', self.session.id, self.session.peer,
                        refusal.decode(errors='backslashreplace').partition('error: ')[2].partition('\n')[0])
        else:
            self._output.greet(console_greeting(__version__))
        self._output.flush()
        if refusal:
            self._input.linger()
        return not refusal

    def _new_route(self) -> Route:
        self._route = Route(self._evaluator, self.session, self._common, self._protocol, self.read,
                            self._output.put_at_once)
        return self._route

    def _serve(self, hub: Any) -> bool:
        """The read-eval-print loop.

        Longer than usual: every statement passes here, and calls of functions would cost it a tenth of its time.
        """
        protocol, input, output, dispatcher = self._protocol, self._input, self._output, self._dispatcher
        pieces = output.pieces
        next_event, monotonic = protocol.next_event, time.monotonic
        seconds_taken = self._counters.seconds_taken['console']
        run = 0                     # statements since the event loop was last visited
        timed, began = 0, monotonic()       # of these, how many are in the histogram, and when the next ones began
        route = self._route or self._new_route()
        is_over = self.ends is ENDS_NOW or self.waits and not self._read_on(route)  # it may have slept
        while not is_over:
            if dispatcher.has_ticked:
                # The last statement was no quick one, or waited.
                if run > timed:
                    now = monotonic()
                    seconds_taken.observe_last(now - began, run - timed)
                    began, timed = now, run
                if protocol.buffered_bytes and dispatcher.turn_is_over():
                    self._running = None
                    dispatcher.take_turn(self._evaluator.task)
                    run = timed = 0
                    began = monotonic()
                if self.ends is ENDS_NOW:       # since it waited, for its turn or for its client
                    break
            event = next_event()
            if type(event) is Statement:
                run += 1
                self._running = event.text
                if input.is_counted:
                    input.count(protocol.kept_bytes)
                reply = route.evaluate(event.text, event.may_continue)
                if self.ends is ENDS_NOW:
                    self.statements += 1
                    break
                if reply:
                    self.statements += 1
                    # Final text opens with a printable byte, a tagged string with a control character.
                    if type(reply) is not bytes or reply[0] < 32:
                        reply = self._formatted(reply)
                        dispatcher.has_ticked = True
                        if self.ends is ENDS_NOW:           # killed meanwhile
                            break
                    pieces.append(reply)
                    output.size += len(reply)
                    if output.size > BATCH_BYTES:
                        self._running = None
                        # The time that a client takes to read is not the statement's.
                        seconds_taken.observe_last(monotonic() - began, run - timed)
                        output.flush()
                        began, timed = monotonic(), run
                elif reply is SENT:
                    self.statements += 1
                    dispatcher.has_ticked = True
                else:
                    run -= 1
                    dispatcher.has_ticked = True
                    protocol.hold(event)
                if output.has_prompts:
                    self._put_prompt()
            elif event is NEED_DATA:
                self._running = None
                if run > timed:
                    # Those that came together, and were quick, took the same.
                    seconds_taken.observe(monotonic() - began, run - timed)
                    timed = run
                if pieces:
                    output.flush()
                if self.ends is not LIVES:
                    break
                if not input.is_open:
                    input.start()
                input.count(protocol.kept_bytes)
                self._enter(Step.WAIT)
                if route.judge is not None and route.judge.seconds_to_doubt:
                    self._wait_for_silence(hub, route.judge)
                dispatcher.running = None
                if not self._bytes_in and self._can_sleep or hub.switch() is _SLEEP:
                    self._fall_asleep(route)
                    return False
                run = timed = 0
                if not self._read_on(route):
                    break
                began = self._active
            elif type(event) is More:
                if output.has_prompts:
                    output.put_prompt(True)
            elif not self._answer(event, route):
                break
            elif output.has_prompts:
                self._put_prompt()
        if run > timed:
            seconds_taken.observe(monotonic() - began, run - timed)
        if self._farewell:
            output.say_farewell(reply_document(self._evaluator.error(self._farewell)))
        else:
            output.flush()
        if self._lingers:
            self._input.linger()
        return True

    def _read_on(self, route: Route) -> bool:
        """The client has sent something, or the session is to end; False where it does."""
        self._enter(Step.INPUT)
        if self.ends is not LIVES:
            return False
        now = self._dispatcher.begin_turn()
        if route.judge is not None:
            route.end_judging()
        self._active = now
        self.read(idle=True)
        return True

    def _wait_for_silence(self, hub: Any, judge: Judge) -> None:
        """Tells the judge when the client has been silent for long enough, from now on. (What has come and waits for the
        session's turn is no silence.)"""
        waits_since = self._active
        timer = hub.loop.timer(judge.seconds_to_doubt, priority=PRIORITY)

        def silent():
            timer.close()
            if self.waits and self._active == waits_since and not self._input.has_input():
                judge.was_silent()
        timer.start(silent, update=True)        # by the time of now: the loop's is as old as this turn

    def _fall_asleep(self, route: Route) -> None:
        """Gives up what only statements need."""
        assert self.sleepers is not None
        self._enter(Step.SLEEP)
        self._input.sleep(self.sleepers)
        if route.is_usual and (not self._bytes_in or route.judge is None):
            self._route = None          # it has judged nothing, or will not any more

    @property
    def _can_sleep(self) -> bool:
        return self.sleepers is not None and self._remote is None

    def sleep(self) -> None:
        """In the hub: what only statements need is given up until the client sends the next one."""
        if self._state is IDLE and self._can_sleep:
            self.greenlet.switch(_SLEEP)

    def _formatted(self, tagged: Tagged) -> bytes:
        """Puts the document of a tagged reply, but for its last piece, and gives that.

        Others have their turns meanwhile, and it can be cancelled.
        """
        try:
            return self._output.put_document(tagged)
        except StatementCancelled:
            self._counters.count_error(self._evaluator.task.ending)
            return reply_document(self._evaluator.error(self._evaluator.task.reason or 'the statement was cancelled'))

    def _put_prompt(self) -> None:
        remote = self._remote
        self._output.put_prompt(self._protocol.holds_statement, 'tarantool' if remote is None else str(remote.address))

    def _answer(self, event: Event, route: Route) -> bool:
        """Answers an event that is no statement to run; False when it ends the session."""
        if isinstance(event, Quit) and route.relay is not None:
            route.leave_remote()
            return True
        if isinstance(event, (End, Quit)):
            return False
        if isinstance(event, Foreign):
            self._refuse(event)
            return False
        assert isinstance(event, (TooLong, Unfinished, Cancelled))
        if isinstance(event, Cancelled):
            if event.may_continue and self._evaluator.is_incomplete(event.text):
                self._protocol.hold(event)
                return True
            if route.judge is not None:
                route.judge.was_cancelled(event.text)
        else:
            self._counters.count_error('input')
        if isinstance(event, TooLong):
            self._counters.hits['limits.statement_bytes'] += 1
        problem = problem_of(event)
        note_not_run(self._common, self.session, b'' if isinstance(event, TooLong) else event.text,
                     problem.partition(':')[0])
        self._output.put(reply_document(self._evaluator.error(problem)))
        return True

    def _refuse(self, event: Foreign) -> None:
        """Ends a session that another program may have been made to open: what comes next may be an attacker's."""
        self._counters.count_error('input')
        self._counters.hits['limits.statement_bytes' if event.limit else 'refused.foreign'] += 1
        what, told = refusal_of(event)
        log.warning('session %d from %s sends %s: closed', self.session.id, self.session.peer, what)
        self._farewell = self._farewell or told
        self._lingers = True

    # Another console (console.connect)

    def go_remote(self, remote: RemoteConsole) -> None:
        """From the next statement on, this session's statements are run by `remote`."""
        if self.is_closing:                     # a trigger at the session's end: there is no next one
            remote.close()
            return
        assert self._route is not None
        self._route.go_remote(remote)

    @property
    def _remote(self) -> RemoteConsole | None:
        return None if self._route is None or self._route.relay is None else self._route.relay.remote

    def _close(self) -> None:
        remote = self._remote
        if remote is not None:
            remote.close()
        super()._close()

    # Input

    def lost(self) -> None:
        super().lost()
        remote = self._remote
        if remote is not None:
            remote.abort()

    def read(self, idle: bool = False) -> None:
        protocol = self._protocol
        try:
            data = self._sock.recv(_READ_BYTES if protocol.is_plain else _TELNET_READ_BYTES)
        except BlockingIOError:
            return
        self._bytes_in += len(data)
        protocol.max_statement_bytes = self._common.statement_bytes
        if not data:
            protocol.receive_eof()
            self._input.pause()
            return
        if protocol.receive_data(data):
            if idle and self._output.has_prompts:
                self._output.put(b'\n')            # the line that was dropped ends here
                self._put_prompt()
            if not idle:
                self.cancel()
        answers = protocol.data_to_send()
        if answers:
            self._output.put_early(answers)
            if not idle:
                self.switching_out()            # nobody else sends it before the statement ends
        if not idle:
            self._input.count(protocol.kept_bytes)
            # What makes answers waits, too, where the client does not take them.
            if protocol.buffered_bytes > _READ_AHEAD_BYTES or self._output.held_bytes > BATCH_BYTES:
                self._input.pause()

    def has_room(self) -> None:
        if not self._input.is_open and self.ends is not ENDS_NOW:
            self._input.start()                 # it may have been the answers that were too many

    # The evaluator's host

    def push(self, tagged: bytes) -> None:
        self._output.push(tagged)

    def set_delimiter(self, delimiter: bytes) -> None:
        self._protocol.delimiter = delimiter

    def control(self, command: str) -> None:
        name, _, value = command.partition('=')
        if name == 'quit':
            self.ends = ENDS_NOW
        elif name == 'continuation':
            self._protocol.continuation = value
        elif name == 'language':
            (self._route or self._new_route()).speak(value)
        elif name == 'prompt':
            self._output.has_prompts = value == 'on'

    # The server's side

    def _cancel_running(self, reason: str) -> None:
        remote = self._remote
        if remote is None:
            super()._cancel_running(reason)
        elif self.ends is ENDS_NOW:
            remote.abort()
        elif self._running is not None:
            # Idle, there is nothing to stop, and a console that cannot cancel would be left for nothing.
            remote.cancel()

    def audit_changed(self) -> None:
        """There is an audit file now, or none any more."""
        if self._route is not None:
            self._route.choose()
