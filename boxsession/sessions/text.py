"""Serves a client of the text console: the read-eval-print loop between its socket and the evaluator.

Data flows one way: socket, protocol, evaluator, output, socket. The session's greenlet reads only while no statement runs.
While a statement waits or is preempted, the hub reads instead, to find a Ctrl-C.
"""
from __future__ import annotations

import logging
import time
from typing import Any

from boxsession.base.errors import StatementCancelled
from boxsession.base.session import Session
from boxsession.protocol.text import (
    NEED_DATA,
    Cancelled,
    ConsoleProtocol,
    End,
    Event,
    Foreign,
    Look,
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

# Maximum bytes of one read.
_READ_BYTES = 16384
# The same while telnet commands are parsed: one command of two bytes costs as much as a short statement.
_TELNET_READ_BYTES = 2048
# Maximum input that is read ahead while a statement runs, in bytes. The rest waits in the socket.
_READ_AHEAD_BYTES = 1 << 18

# Switching to the greenlet of an idle session with this value puts the session to sleep.
_SLEEP = object()


class ConsoleConnection(Connection):
    """Serves one client of a text console.

    Longer than usual: its loop, which takes a third of it, works on the session's state and cannot leave it cheaply.
    """

    __slots__ = ('_protocol', '_route', '_lingers')

    _output: TextOutput

    def __init__(self, sock, session: Session, common: Common, is_private: bool):
        super().__init__(sock, session, common, is_private, TextOutput)
        self._protocol = ConsoleProtocol(continuation='auto' if session.dialect == 'classic' else 'off', is_judging=True,
                                         looks=True)
        self._route: Route | None = None        # chooses the evaluator; may be None while the session sleeps
        self._lingers = False                   # read and drop further input before closing the socket

    def _open(self) -> bool:
        self._tell_start()
        self._new_route()               # on_connect may call console.connect()
        refusal = self._evaluator.connect()
        if refusal:
            self._ending = 'refused by on_connect'
            refusal = reply_document(refusal)
            self._output.put(refusal)
            log.warning('%s was refused by on_connect: %s', self.session.described,
                        refusal.decode(errors='backslashreplace').partition('error: ')[2].partition('\n')[0])
        else:
            assert self._route is not None
            self._route.begin()             # on_connect may have changed the user
            self._output.greet(self._common.greeting)
        self._output.flush()
        if refusal:
            self._input.linger()
        return not refusal

    def _new_route(self) -> Route:
        self._route = Route(self._evaluator, self.session, self._common, self._protocol, self.read,
                            self._output.put_at_once, None if self.statements else self._leave_out)
        return self._route

    def _leave_out(self) -> None:
        self.statements -= 1            # once it has run, it is counted like any other

    def _serve(self, hub: Any) -> bool:
        """The read-eval-print loop.

        Longer than usual: each statement passes here, and function calls would cost a tenth of its time.
        """
        protocol, input, output, dispatcher = self._protocol, self._input, self._output, self._dispatcher
        pieces = output.pieces
        next_event, monotonic = protocol.next_event, time.monotonic
        seconds_taken = self._counters.seconds_taken['console']
        run = 0                     # statements run since the greenlet last waited for input or for its turn
        timed, began = 0, monotonic()       # number of these already in the histogram; start of the following ones
        route = self._route or self._new_route()
        is_over = self.ends is ENDS_NOW or self.waits and not self._read_on(route)  # it may have been asleep
        while not is_over:
            if dispatcher.has_ticked:
                # The last statement took measurable time, or waited.
                if run > timed:
                    now = monotonic()
                    seconds_taken.observe_last(now - began, run - timed)
                    began, timed = now, run
                if protocol.buffered_bytes and dispatcher.turn_is_over():
                    self._running = None
                    dispatcher.take_turn(self._evaluator.task)
                    run = timed = 0
                    began = monotonic()
                if self.ends is ENDS_NOW:       # ended while it waited
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
                    # Final text begins with a printable byte, a tagged string with a control character.
                    if type(reply) is not bytes or reply[0] < 32:
                        reply = self._formatted(reply)
                        dispatcher.has_ticked = True
                        if self.ends is ENDS_NOW:           # killed during the formatting
                            break
                    pieces.append(reply)
                    output.size += len(reply)
                    if output.size > BATCH_BYTES:
                        self._running = None
                        # Do not count the time that the client takes to read.
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
            elif event is NEED_DATA or type(event) is Look:
                self._running = None
                if run > timed:
                    # Pipelined short statements: count the average for each.
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
                if event is not NEED_DATA:
                    input.wait_a_moment()
                elif not self._bytes_in and self._can_sleep or hub.switch() is _SLEEP:
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
        """Reads input after a wait. False if the session must end."""
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
        """Tells the judge when the client has been silent for long enough. Unread input counts as not silent."""
        waits_since = self._active
        timer = hub.loop.timer(judge.seconds_to_doubt, priority=PRIORITY)

        def silent():
            timer.close()
            if self.waits and self._active == waits_since and not self._input.has_input():
                judge.was_silent()
        timer.start(silent, update=True)        # update: the loop's time is as old as this turn

    def _fall_asleep(self, route: Route) -> None:
        """Releases the objects that only statements need, and lets the greenlet end."""
        assert self.sleepers is not None
        self._enter(Step.SLEEP)
        self._input.sleep(self.sleepers)
        if route.is_usual and (not self._bytes_in or route.judge is None):
            self._route = None          # a new route is equivalent: the judge has seen no input, or is done

    @property
    def _can_sleep(self) -> bool:
        return self.sleepers is not None and self._remote is None

    def sleep(self) -> None:
        """In the hub: puts an idle session to sleep until its client sends or leaves."""
        if self._state is IDLE and self._can_sleep:
            self.greenlet.switch(_SLEEP)

    def _formatted(self, tagged: Tagged) -> bytes:
        """Outputs the document of a tagged reply except its last piece, and returns the last piece.

        It may be preempted, and it can be cancelled: then it returns the error's document.
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
        """Handles an event that is not a statement to run. False if it ends the session."""
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
            if event.may_continue and route.is_incomplete(event.text):
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
        """Ends the session of a client that speaks another protocol: an attacker may have sent the rest of its input."""
        self._counters.count_error('input')
        self._counters.hits['limits.statement_bytes' if event.limit else 'refused.foreign'] += 1
        what, told = refusal_of(event)
        log.warning('%s sends %s: closed', self.session.described, what)
        self._farewell = self._farewell or told
        self._lingers = True

    # Another console (console.connect)

    def go_remote(self, remote: RemoteConsole) -> None:
        """Makes `remote` run the following statements of this session."""
        if self.is_closing:                     # called by an on_disconnect trigger: no statement follows
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
                self._output.put(b'\n')            # ends the line that the interrupt dropped
                self._put_prompt()
            if not idle:
                self.cancel()
        answers = protocol.data_to_send()
        if answers:
            self._output.put_early(answers)
            if not idle:
                self.switching_out()            # otherwise the answers would be sent after the statement
        if not idle:
            self._input.count(protocol.kept_bytes)
            # Back-pressure also for answers to telnet: stop reading if the client does not read them.
            if protocol.buffered_bytes > _READ_AHEAD_BYTES or self._output.held_bytes > BATCH_BYTES:
                self._input.pause()

    def wants_end(self) -> bool:
        return self._input.has_interrupt(self._protocol.has_interrupt, self._common.cancels)

    def has_room(self) -> None:
        if not self._input.is_open and self.ends is not ENDS_NOW:
            self._input.start()                 # reading may have been stopped because of unread output

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
            self.session.has_chosen_language = True
            (self._route or self._new_route()).speak(value)
        elif name == 'prompt':
            self._output.has_prompts = value == 'on'
        elif name == 'awake':
            self.sleepers = None

    def logged_in(self) -> None:
        if self._route is not None:
            self._route.logged_in()

    # The server's side

    def _cancel_running(self, reason: str) -> None:
        remote = self._remote
        if remote is None:
            super()._cancel_running(reason)
        elif self.ends is ENDS_NOW:
            remote.abort()
        elif self._running is not None:
            # Only while a statement runs: RemoteConsole.cancel() leaves a console that cannot cancel.
            remote.cancel()

    def audit_changed(self) -> None:
        """Called when the audit file was turned on or off."""
        if self._route is not None:
            self._route.choose()
