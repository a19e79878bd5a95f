"""The workers of a binary connection: greenlets that run requests one by one.

If a request waits or is preempted, another worker runs the requests that follow it. So requests that do not wait cost no
switch, and their responses are sent in one write.
"""
from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any, Protocol

import gevent
from gevent import get_hub

from boxsession.base.greenlets import UserGreenlet
from boxsession.base.session import Session, enter_session
from boxsession.protocol import iproto
from boxsession.protocol.iproto import NEED_DATA, BadFrame, BadRequest, Event, IprotoProtocol, Request
from boxsession.scheduler.turns import Account
from boxsession.sessions.answers import Answers, recorded
from boxsession.sessions.binary_output import BinaryOutput
from boxsession.sessions.common import Common
from boxsession.sessions.input import Input
from boxsession.sessions.output import BATCH_BYTES
from boxsession.sessions.state import ENDS_NOW, Ending
from boxsession.sessions.stream import shown

__all__ = ['Workers']

log = logging.getLogger('boxsession')

# A worker checks the clock at least after this number of requests.
_LOOK_EVERY = 64
# Maximum bytes of input that go to Lua as one batch.
_LENT_BYTES = 1 << 15


class Client(Protocol):
    """The owner of workers: a connection."""

    session: Session
    account: Account
    ends: Ending
    statements: int
    @property
    def is_held(self) -> bool: ...                  # no request may begin now
    def all_run(self) -> bool: ...                  # called when no request is left; False if the session must end
    def hold_back(self, on: bool) -> None: ...      # no request may begin while this is on
    def switching_out(self) -> None: ...            # sends the output before a worker yields
    def refuse(self, frame: BadFrame) -> None: ...  # called for input that is not a frame
    def end_if_done(self) -> None: ...              # called at the end of a worker
    def failed(self, error: Exception) -> None: ...     # called if a worker ended by an error
    def kill(self, reason: str) -> None: ...        # ends the session


class Workers:
    """The workers of a connection.

    Attributes:
        busy: workers that run requests, or wait inside one.
        idle: workers that wait for requests.
        lent: the worker whose batch is in Lua; no other worker may take frames from the input meanwhile. None if there is
            no such batch.
    """

    __slots__ = ('busy', 'lent', 'client', 'common', 'protocol', 'input', 'output', 'idle', '_is_starting')

    def __init__(self, client: Client, common: Common, protocol: IprotoProtocol, input: Input,
                 output: BinaryOutput):
        self.busy: set[Worker] = set()
        self.lent: Worker | None = None
        self.client = client
        self.common = common
        self.protocol = protocol
        self.input = input
        self.output = output
        self.idle: list[Worker] = []
        self._is_starting = False               # a worker is queued for its first turn

    def more(self) -> None:
        """In the hub: lets a worker run the requests received. If none is free, pauses the input."""
        client = self.client
        if (not self.protocol.buffered_bytes or client.ends is ENDS_NOW or client.is_held or self.lent is not None
                or self._is_starting):
            return
        if self.idle:
            worker = self.idle.pop()
        elif not self.common.requests or len(self.busy) < self.common.requests:
            worker = Worker(self)
        else:
            self.input.pause()
            return
        self.busy.add(worker)
        self._is_starting = True
        self.common.dispatcher.turns.resume(client.account, partial(self._start, worker))

    def _start(self, worker: Worker) -> None:
        """In the hub: begins a worker's turn."""
        self._is_starting = False
        worker.greenlet.switch()

    def waits(self, worker: Worker) -> None:
        """Called before a worker yields: sends the responses, and lets another worker run the next requests."""
        self.client.switching_out()
        if not worker.is_pausing and self.protocol.buffered_bytes:
            get_hub().loop.run_callback(self.more)

    def count_held(self) -> None:
        """Updates the backlog after a request was taken from the input."""
        if self.input.is_counted:
            self.input.count(self.protocol.buffered_bytes)

    def cancel(self, reason: str) -> None:
        """Cancels all running requests."""
        for worker in self.busy:
            if worker.requests is not None:
                self.common.dispatcher.cancel(worker.requests.task, reason)

    def end(self) -> None:
        """Ends all workers and waits for their ends. The session must not run requests any more."""
        workers = [*self.idle, *self.busy]
        idle, self.idle = self.idle, []
        for worker in idle:
            get_hub().loop.run_callback(worker.greenlet.switch)
        gevent.joinall([worker.greenlet for worker in workers])

    def under_way(self) -> bytes | None:
        """The expression or function of one running request, or None."""
        return next((worker.name for worker in self.busy if worker.name is not None), None)

    def asked_for(self) -> list[dict[str, str]]:
        """The running requests, as fields for the audit file."""
        return [recorded(worker.request) for worker in self.busy if worker.request is not None]

    def first_pending(self) -> bytes:
        """The expression or function of the first request in the input. Changes nothing: the monitor's thread calls it."""
        look = IprotoProtocol()
        look.receive_data(self.protocol.pending_data(_LENT_BYTES))
        request = look.next_event()
        return request.name if type(request) is Request else b''


class Worker:
    """A greenlet that runs requests, and the host of its task.

    Longer than usual: it serves requests of a batch and single ones, and tells the scheduler and Lua about both.
    """

    __slots__ = ('greenlet', 'requests', 'session', 'sync', 'name', 'request', 'is_pausing', '_workers', '_client',
                 '_common', '_protocol', '_output', '_answers')

    def __init__(self, workers: Workers):
        self.greenlet: Any = UserGreenlet(self._run)
        self.requests: Any = None               # runs requests in Lua; created in _run()
        self.sync = 0                           # number of the running request
        self.name: bytes | None = None          # expression or function of the running request
        self.request: Request | None = None     # the running request; in a batch only after give_back()
        self.is_pausing = False                 # it yields between two requests: no other worker need take over
        self._workers = workers
        self._client = workers.client
        self.session = self._client.session
        self._common = workers.common
        self._protocol = workers.protocol
        self._output = workers.output
        self._answers = Answers(self, self._client.session, self._common)

    # The host of a task

    def push(self, tagged: bytes) -> None:
        """Sends a push with the number of the running request."""
        if self.is_over:
            return
        self._output.put(iproto.push(self.sync, tagged))
        if self._output.size > BATCH_BYTES:
            self._output.flush_answers()

    def set_delimiter(self, delimiter: bytes) -> None:
        pass

    def control(self, command: str) -> None:
        pass

    def give_back(self, what: int | bytes) -> None:
        """Called by Lua before the batch yields: first with a position, then with each response that is finished.

        Args:
            what: bytes: a response. A number: the 1-based offset of the first frame that is not finished. It is negative if
                that frame is running; otherwise it has not begun.
        """
        if isinstance(what, bytes):
            self._output.put(what)
            return
        self._protocol.take(abs(what) - 1)
        if what < 0:
            taken = self._protocol.next_event()
            assert isinstance(taken, Request)
            self.request, self.name, self.sync = taken, taken.name, taken.sync
        self._workers.count_held()
        self._workers.lent = None

    def wants_end(self) -> bool:
        return False

    def catch_up(self) -> None:
        pass

    def switching_out(self) -> None:
        self._workers.waits(self)

    @property
    def mark(self) -> Any:
        return self._client.statements, self.sync, self.name

    @property
    def is_over(self) -> bool:
        return self._client.ends is ENDS_NOW

    def kill(self, reason: str) -> None:
        self._client.kill(reason)

    def running(self) -> str:
        session = self._client.session
        if self.name is None:
            first = shown(self._workers.first_pending(), session)
            return f'session {session.id} (a batch of requests that begins with {first!r})'
        return f'session {session.id}: {shown(self.name, session)!r}'

    def hold_back(self, on: bool) -> None:
        """Lets no request begin while this is on."""
        self._client.hold_back(on)

    # The greenlet

    def _run(self) -> None:
        client = self._client
        enter_session(client.session)
        try:
            self._common.dispatcher.begin_turn()
            self.requests = self._common.runtime.requests(client.session, self, client.account)
            self.greenlet.is_shielded = True
            self._work()
        except Exception as error:
            client.failed(error)
        finally:
            self._workers.busy.discard(self)
            if self.requests is not None:
                self.requests.close()
            client.end_if_done()

    def _work(self) -> None:
        client, workers, common = self._client, self._workers, self._common
        dispatcher, protocol, output = common.dispatcher, self._protocol, self._output
        run = looked = 0
        while client.ends is not ENDS_NOW:
            if run > 1 and (dispatcher.has_ticked or run - looked >= _LOOK_EVERY):
                looked = run
                if dispatcher.turn_is_over():
                    self.is_pausing = True
                    dispatcher.take_turn(self.requests.task)
                    self.is_pausing = False
                    run = looked = 0
            if output.size > BATCH_BYTES:
                output.flush_answers()
            if client.ends is ENDS_NOW:             # ended while the worker waited
                break
            if common.audit is None and protocol.buffered_bytes:
                count = self._run_batch()
                if count or client.ends is ENDS_NOW:    # the batch may have waited
                    run += count
                    continue
            # While another worker's batch is in Lua, the input belongs to that worker.
            event = protocol.next_event() if workers.lent is None else NEED_DATA
            if event is NEED_DATA:
                if not self._rest():
                    break
                run = looked = 0
            else:
                run += 1
                self._handle(event)

    def _rest(self) -> bool:
        """Waits for requests. False if the session must end."""
        self._workers.input.count(self._protocol.buffered_bytes)
        self._output.flush_answers()
        self._workers.busy.discard(self)
        if not self._client.all_run():
            return False
        self._workers.idle.append(self)
        self._common.dispatcher.running = None
        get_hub().switch()
        if self._client.ends is ENDS_NOW:
            return False
        self._common.dispatcher.begin_turn()
        return True

    def _run_batch(self) -> int:
        """Runs received frames as one batch in Lua (lua/kernel/requests.lua). Returns the number of requests that ran.

        Lua stops at the first frame that it does not handle; 0 if that is the first one.
        """
        protocol, requests, workers = self._protocol, self.requests, self._workers
        if not requests.task.is_clean:
            self.is_pausing = True              # it has no request yet: no other worker need take over
            self._common.dispatcher.begin(requests.task)
            self.is_pausing = False
        frames = protocol.pending_data(_LENT_BYTES)
        if not frames or workers.lent is not None or self._client.ends is ENDS_NOW:
            return 0
        workers.lent = self
        try:
            began = time.monotonic()
            result = requests.run_batch(frames, protocol.max_request_bytes)
            if result is None:
                return 0
            answers, size, count, reply = result
            run = count + bool(reply)
            seconds_taken = self._common.counters.seconds_taken['binary']
            if run and workers.lent is self:
                seconds_taken.observe(time.monotonic() - began, run)
            elif run:
                seconds_taken.observe_last(time.monotonic() - began, run)
            if answers:
                self._output.put(answers)
            request: Event | None = self.request
            if workers.lent is self:
                protocol.take(size)
                request = protocol.next_event() if reply else None
                # Making a long response may yield: other workers may use the input from here on.
                workers.lent = None
            if reply and isinstance(request, Request):
                count += 1
                self._output.put(self._answers.of_reply(request, reply)[0])
            self._client.statements += count
            if reply and isinstance(request, (BadRequest, BadFrame)):   # Lua had no memory to check the frame
                self._handle(request)
                return count + 1
            return count
        finally:
            if workers.lent is self:
                workers.lent = None
            self.request = self.name = None

    def _handle(self, event: Event) -> None:
        self._workers.count_held()
        if isinstance(event, Request):
            self._client.statements += 1
            self._output.put(self._answers.answer(event))
            return
        self._common.counters.count_error('input')
        if isinstance(event, BadRequest):
            self._output.put(iproto.error(event.sync, event.code, event.message))
        else:
            if event.is_too_long:
                self._common.counters.hits['limits.request_bytes'] += 1
            self._output.put(iproto.error(0, event.code, event.message))
            self._output.flush_answers()
            self._client.refuse(event)
