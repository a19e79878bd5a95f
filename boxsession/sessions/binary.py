"""A client of the binary protocol: requests of one connection run side by side, each answered when it is done.

Requests are run by workers: greenlets that take one request after the other, as long as none waits. When one waits, or
loses its turn, and more has come, another worker goes on with that. So requests that are done at once cost no switch, and
their answers go out in one write.
"""
from __future__ import annotations

import logging
import os
import time
from functools import partial
from typing import Any

import gevent
from gevent import get_hub, getcurrent
from gevent.event import Event

from boxsession.base.greenlets import Aborted, UserGreenlet
from boxsession.base.redaction import STATEMENT_BYTES, redacted_arguments
from boxsession.base.session import Session, enter_session
from boxsession.lua.requests import Requests
from boxsession.protocol import iproto
from boxsession.protocol.iproto import NEED_DATA, BadFrame, BadRequest, IprotoProtocol, Request
from boxsession.sessions.common import Common
from boxsession.sessions.state import ENDS_ANSWERED, ENDS_NOW, IDLE, LIVES, Step
from boxsession.sessions.stream import BATCH_BYTES, Connection, shown
from boxsession.values.msgpack import first_string, source_of

__all__ = ['BinaryConnection']

log = logging.getLogger('boxsession')

_READ_BYTES = 65536
# While nothing may run, this much is read ahead; the rest waits in the socket.
_READ_AHEAD_BYTES = 1 << 20
_SALT_BYTES = 32
# Between requests that run nothing, the clock is looked at so often.
_LOOK_EVERY = 64
# So much of what has come goes to Lua at once.
_LENT_BYTES = 1 << 15
# What clients look for; the version is that of the server whose behaviour is kept.
_SERVER_VERSION = '2.6.0'
_PROC_LUA, _NO_SUCH_SPACE, _UNKNOWN_REQUEST, _INVALID_MSGPACK = 32, 36, 48, 20
# Clients read the schema when they connect: there is none.
_SCHEMA_SPACES = range(272, 400)
_KINDS = {Requests.EVAL: 'eval', Requests.CALL: 'call', Requests.CALL_16: 'call'}
# What clients of consoles evaluate, with the statement as its argument.
_CONSOLE_EVAL = b"return require('console').eval(...)"
_NO_ARGUMENTS = b'\x90'
_EVAL_OR_CALL = {iproto.EVAL: Requests.EVAL, iproto.CALL: Requests.CALL, iproto.CALL_16: Requests.CALL_16}


class _Worker:
    """The host of a task that runs requests."""

    __slots__ = ('connection', 'greenlet', 'requests', 'sync', 'name', 'pausing', 'taken')

    def __init__(self, connection: BinaryConnection):
        self.connection = connection
        self.greenlet: Any = None
        self.requests: Requests | None = None
        self.sync = 0
        self.name: bytes | None = None          # of the request under way
        self.taken: Request | None = None       # of its batch, which it has given back, the one that it runs
        self.pausing = False                    # between two requests, in favour of other sessions

    def push(self, tagged: bytes) -> None:
        self.connection.send_push(self.sync, tagged)

    def set_delimiter(self, delimiter: bytes) -> None:
        pass

    def control(self, command: str) -> None:
        pass

    def give_back(self, what: int | bytes) -> None:
        self.connection.take_back(self, what)

    def switching_out(self) -> None:
        self.connection.worker_waits(self)

    @property
    def is_over(self) -> bool:
        return self.connection.is_over

    def kill(self, reason: str) -> None:
        self.connection.kill(reason)

    def running(self) -> str:
        number = self.connection.session.id
        if self.name is None:
            return f'session {number} (one of several requests, from {shown(self.connection.first_pending())!r} on)'
        return f'session {number}: {shown(self.name)!r}'


class BinaryConnection(Connection):
    """Serves one client of the binary protocol. run()'s greenlet begins and ends the session; workers do the rest."""

    __slots__ = ('_protocol', 'salt', '_idle', '_busy', '_done', '_sent', '_instance',
                 '_sender', '_authenticating', '_lent', '_is_starting', '_is_broken')

    def __init__(self, sock, session: Session, common: Common, is_private: bool, instance: str):
        super().__init__(sock, session, common, is_private)
        self._protocol = IprotoProtocol()
        self.salt = os.urandom(_SALT_BYTES)     # what scrambles of passwords are made with
        self._instance = instance
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._is_broken = False                 # what it has sent last is no frame
        self._done = Event()                    # the session is to end
        self._sent = Event()                    # nobody is in the middle of sending
        self._sent.set()
        self._sender = None                     # who is
        self._lent: _Worker | None = None       # whose batch what has come is: nobody else may take of it
        self._is_starting = False               # a worker waits for its turn to begin
        self._authenticating = False            # what came behind an AUTH waits for its end

    # The session

    def _open(self) -> bool:
        if self._common.audit is not None:
            self._common.audit.event('start', self.session)
        self._out.append(iproto.greeting(_SERVER_VERSION, self._instance, self.salt))
        refusal = self._evaluator.connect()
        if refusal:
            # As in Tarantool, the first request would be answered with it; nobody waits for one here.
            self._ending = 'refused by on_connect'
            message = self._evaluator.last_error().decode(errors='replace') or 'on_connect failed'
            self._put(iproto.error(0, _PROC_LUA, message, 'LuajitError'))
            log.warning('session %d from %s was refused by on_connect: %s', self.session.id, self.session.peer, message)
        self._flush()
        return not refusal

    def _serve(self, hub) -> bool:
        self._dispatcher.running = None
        # What came while on_connect ran has waited for its end.
        self._enter(Step.WAIT)
        hub.loop.run_callback(self._more)
        self._done.wait()
        self._enter(Step.INPUT)
        self._watch(False)
        self._end_workers()
        if self._farewell:
            self._say_farewell(iproto.error(0, _PROC_LUA, self._farewell, 'LuajitError'))
        else:
            self._send_now()
        if self._is_broken:
            self._linger()
        return True

    def _end_workers(self):
        self._cancel_running(self._farewell)
        workers = [*self._idle, *self._busy]
        self._ends = ENDS_NOW
        idle, self._idle = self._idle, []
        for worker in idle:
            get_hub().loop.run_callback(worker.greenlet.switch)
        gevent.joinall([worker.greenlet for worker in workers])

    def _wake(self) -> None:
        if self._ends is not LIVES:
            self._end_if_done()

    def _end_if_done(self):
        if self._ends is ENDS_NOW or self._ends is ENDS_ANSWERED and not self._busy:
            self._done.set()

    # Input

    def _go_on(self) -> None:
        """In the hub: there is input. Workers run what has come."""
        self._read()

    def _read(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._ending = f'connection lost: {error}'
            self._lost()
            return
        if not data:
            self._end_answered()
            self._end_if_done()
            return
        self._bytes_in += len(data)
        self._active = time.monotonic()
        self._protocol.max_request_bytes = self._common.request_bytes
        self._protocol.receive_data(data)
        self._count_unread(self._protocol.buffered_bytes)
        # Whoever does not take the answers makes no more of them.
        if self._is_held and self._protocol.buffered_bytes > _READ_AHEAD_BYTES or self._out_bytes > BATCH_BYTES:
            self._stop_reading()
        self._more()

    def _end_answered(self) -> None:
        """The client sends no more, or nothing that could be read."""
        if self._ends is LIVES:
            self._ends = ENDS_ANSWERED
        self._stop_reading()

    def _lost(self) -> None:
        super()._lost()
        self._done.set()

    def _more(self) -> None:
        """In the hub: lets a worker go on with what has come. Without one, nothing more is read for now."""
        if (not self._protocol.buffered_bytes or self._ends is ENDS_NOW or self._is_held or self._lent is not None
                or self._is_starting):
            return
        if self._idle:
            worker = self._idle.pop()
        elif not self._common.requests or len(self._busy) < self._common.requests:
            worker = _Worker(self)
            worker.greenlet = UserGreenlet(self._work, worker)
        else:
            self._stop_reading()
            return
        self._busy.add(worker)
        self._is_starting = True
        self._dispatcher.turns.resume(self._account, partial(self._start, worker))

    def _start(self, worker) -> None:
        """In the hub: it is a worker's turn."""
        self._is_starting = False
        worker.greenlet.switch()

    @property
    def _is_held(self) -> bool:
        """Whether what comes has to wait: for on_connect's end, or an AUTH's."""
        return self._authenticating or self._state is not IDLE

    def worker_waits(self, worker: _Worker) -> None:
        """A request lets others run: what was answered goes out, and what came goes on elsewhere."""
        self.switching_out()
        if not worker.pausing and self._protocol.buffered_bytes:
            get_hub().loop.run_callback(self._more)

    # Workers

    def _work(self, worker):
        enter_session(self.session)
        hub, dispatcher = get_hub(), self._dispatcher
        next_event = self._protocol.next_event
        try:
            dispatcher.begin_turn()
            worker.requests = self._common.runtime.requests(self.session, worker, self._account)
            worker.greenlet.is_shielded = True
            run = looked = 0
            while self._ends is not ENDS_NOW:
                if run > 1 and (dispatcher.has_ticked or run - looked >= _LOOK_EVERY):
                    looked = run
                    if dispatcher.turn_is_over():
                        worker.pausing = True
                        dispatcher.take_turn(worker.requests.task)
                        worker.pausing = False
                        run = looked = 0
                if self._out_bytes > BATCH_BYTES:
                    self._flush_answers()
                if self._ends is ENDS_NOW:              # since it waited
                    break
                if self._common.audit is None:
                    count = self._run_batch(worker)
                    if count or self._ends is ENDS_NOW:     # it may have waited for its turn
                        run += count
                        continue
                # What is another's batch it goes on with itself.
                event = next_event() if self._lent is None else NEED_DATA
                if event is NEED_DATA:
                    self._count_unread(self._protocol.buffered_bytes)
                    self._flush_answers()
                    self._busy.discard(worker)
                    self._end_if_done()
                    if self._ends is ENDS_NOW or self._done.is_set():
                        break
                    if not self._reading and self._ends is LIVES:
                        self._end_probe()
                        self._watch(True)
                    self._idle.append(worker)
                    dispatcher.running = None
                    hub.switch()
                    run = looked = 0
                    if self._ends is ENDS_NOW:
                        break
                    dispatcher.begin_turn()
                    continue
                run += 1
                self._handle(worker, event)
        except OSError as error:
            self._ending = f'connection lost: {error}'
            log.info('session %d: connection lost: %s', self.session.id, error)
            self._lost()
        except Exception:
            self._ending = 'failed'
            log.exception('session %d: failed', self.session.id)
            self._ends = ENDS_NOW
            self._done.set()
        finally:
            self._busy.discard(worker)
            if worker.requests is not None:
                worker.requests.close()
            self._end_if_done()

    # Batches: what has come goes to Lua as it is (requests.lua)

    def _run_batch(self, worker) -> int:
        """Runs what is as usual of what has come; gives how many requests that were."""
        protocol, requests = self._protocol, worker.requests
        if not requests.task.is_clean:
            worker.pausing = True               # it has nothing yet that others could go on behind
            self._dispatcher.begin(requests.task)
            worker.pausing = False
        frames = protocol.pending_data(_LENT_BYTES)
        if not frames or self._lent is not None or self._ends is ENDS_NOW:
            return 0
        self._lent = worker
        try:
            began = time.monotonic()
            result = requests.run_batch(frames, protocol.max_request_bytes)
            if result is None:
                return 0
            answers, size, count, reply = result
            run = count + bool(reply)
            if run and self._lent is worker:
                self._counters.seconds_taken['binary'].observe(time.monotonic() - began, run)
            elif run:
                self._counters.seconds_taken['binary'].observe_last(time.monotonic() - began, run)
            if answers:
                self._put(answers)
            request = worker.taken
            if self._lent is worker:
                protocol.take(size)
                request = protocol.next_event() if reply else None
                # To make a long answer lets others in.
                self._lent = None
            if reply and type(request) is Request:
                count += 1
                self._put(self._answer_to(request, reply)[0])
            self._statements += count
            if reply and type(request) in (BadRequest, BadFrame):       # there was no memory to look at it
                self._handle(worker, request)
                return count + 1
            return count
        finally:
            if self._lent is worker:
                self._lent = None
            worker.taken = worker.name = None

    def first_pending(self) -> bytes:
        """The expression or function of the first request that waits; for the monitor's thread, so it changes nothing."""
        look = IprotoProtocol()
        look.receive_data(self._protocol.pending_data(_LENT_BYTES))
        request = look.next_event()
        return request.name if type(request) is Request else b''

    def take_back(self, worker: _Worker, what: int | bytes) -> None:
        """A worker's batch lets others in: an answer that it has; or, counted from 1, where what it has not begun begins.

        Below 0 that is behind one more frame, which it runs.
        """
        if isinstance(what, bytes):
            self._put(what)
            return
        self._protocol.take(abs(what) - 1)
        if what < 0:
            taken = self._protocol.next_event()
            assert isinstance(taken, Request)
            worker.taken, worker.name, worker.sync = taken, taken.name, taken.sync
        self._lent = None

    def _flush_answers(self) -> None:
        """Sends everything. One worker at a time is in the middle of that; the others wait for it."""
        while self._sending:
            self._sent.wait()
            self._dispatcher.rejoin()
        if not self._out or self._ends is ENDS_NOW:
            return
        self._sender = getcurrent()
        self._sent.clear()
        try:
            self._flush()
        finally:
            self._sender = None
            self._sent.set()

    def _put(self, *pieces: bytes) -> None:
        for data in pieces:
            self._out.append(data)
            self._out_bytes += len(data)
        if self._sending:
            self._count_unsent()

    def _stop_sending(self) -> None:
        if self._sender is not None:
            self._sender.throw(Aborted(self._farewell))

    def _handle(self, worker, event) -> None:
        kind = type(event)
        if kind is Request:
            self._statements += 1
            operation = _EVAL_OR_CALL.get(event.type)
            if operation is not None:
                answer = self._run(worker, operation, event)
            else:
                answer = self._answer(worker, event)
            self._put(answer)
        elif kind is BadRequest:
            self._counters.count_error('input')
            self._put(iproto.error(event.sync, event.code, event.message))
        elif kind is BadFrame:
            if event.is_too_long:
                self._counters.hits['limits.request_bytes'] += 1
            self._ending = event.message
            self._counters.count_error('input')
            self._put(iproto.error(0, event.code, event.message))
            self._flush_answers()
            self._is_broken = True
            self._end_answered()

    def _run(self, worker, operation, request) -> bytes:
        sync, audit = request.sync, self._common.audit
        worker.requests.task.killed = False     # that was the request before
        if audit is not None and audit.refuses:
            return iproto.error(sync, _PROC_LUA, 'the audit file cannot be written: no request is run until it can '
                                                 '(audit.required)', 'LuajitError')
        worker.sync, worker.name = sync, request.name
        user, began = self.session.user, time.monotonic() if audit is not None else 0.0
        try:
            reply = worker.requests.run(operation, request.name, request.arguments, iproto.packed(sync))
        except BaseException as error:          # the client is gone, or the server ends
            if audit is not None:
                self._record(worker, operation, request.name, request.arguments, user,
                             f'{type(error).__name__}: {error}'.encode(), began, may_pause=False)
            raise
        finally:
            worker.name = None
        answer, problem = self._answer_to(request, reply)
        if audit is not None and not self._record(worker, operation, request.name, request.arguments, user, problem, began):
            return iproto.error(sync, _PROC_LUA, 'the request ran, but the audit file cannot be written (audit.required)',
                                'LuajitError')
        return answer

    def _record(self, worker, operation, name, arguments, user, problem, began, may_pause=True) -> bool:
        """Records a request: what it asked for, with its arguments, and how that ended."""
        seconds, fields = time.monotonic() - began, {'kind': _KINDS[operation]}
        pause = self._dispatcher.let_others_in if may_pause else lambda: None
        worker.pausing = True               # others have their turns while a long one is looked through
        try:
            if operation == Requests.EVAL and name == _CONSOLE_EVAL and (statement := first_string(arguments)) is not None:
                # How clients of consoles send a statement: that is what was asked for.
                name, arguments, fields = statement, _NO_ARGUMENTS, {'kind': 'console.eval'}
                problem = problem or (worker.requests.eval_error() if may_pause else b'')
            if arguments != _NO_ARGUMENTS:
                fields['arguments'] = redacted_arguments(
                    name, source_of(arguments, STATEMENT_BYTES), arguments, pause=pause)
            return self._common.recorder.statement(self.session, user, name, problem, seconds, pause, **fields)
        finally:
            worker.pausing = False

    def _answer_to(self, request, reply) -> tuple[bytes, bytes]:
        """The answer that a request's packed results or error make, and the error's text."""
        if reply[0] == 61:                  # '='
            return self._results(request, reply), b''
        kind, code, message, access = iproto.unpacked(reply[1:])
        return (iproto.error(request.sync, code, message, kind, access or None),
                message.encode(errors='surrogateescape'))

    def _results(self, request, reply) -> bytes:
        limit = self._common.runtime.output_bytes
        if limit and len(reply) > limit:
            self._counters.hits['limits.output_bytes'] += 1
            return iproto.error(request.sync, _PROC_LUA, f'the result is too long: more than {limit} bytes '
                                                         '(limits.output_bytes)', 'LuajitError')
        return iproto.ok(request.sync, reply[1:])

    def _answer(self, worker, request) -> bytes:
        sync, kind = request.sync, request.type
        if kind == iproto.PING:
            return iproto.ok(sync)
        if kind == iproto.ID:
            return iproto.id_answer(sync)
        if kind == iproto.AUTH:
            return self._authenticate(worker, request)
        if kind == iproto.SELECT:
            if request.space in _SCHEMA_SPACES:
                return iproto.ok(sync, iproto.packed([]))
            return iproto.error(sync, _NO_SUCH_SPACE, f"Space '{request.space}' does not exist")
        if kind == iproto.WATCH:
            return iproto.event(request.name)
        if kind == iproto.UNWATCH:
            return b''
        return iproto.error(sync, _UNKNOWN_REQUEST, f'Unknown request type {kind}')

    def _authenticate(self, worker, request) -> bytes:
        arguments = iproto.login_arguments(request.arguments)
        if arguments is None:
            return iproto.error(request.sync, _INVALID_MSGPACK, 'Invalid MsgPack - authentication request body')
        worker.name, self._authenticating = b'AUTH', True
        try:
            reply = worker.requests.run(Requests.LOGIN, request.name, iproto.packed(arguments), iproto.packed(request.sync))
        finally:
            worker.name, self._authenticating = None, False
        if reply[0] == 61:
            return iproto.ok(request.sync)
        kind, code, message, access = iproto.unpacked(reply[1:])
        return iproto.error(request.sync, code, message, kind, access or None)

    # The session's host: what its triggers do

    def push(self, tagged: bytes) -> None:
        pass

    def send_push(self, sync: int, packed: bytes) -> None:
        """Sends what a request pushes, under its number."""
        if self._ends is ENDS_NOW:
            return
        self._put(iproto.push(sync, packed))
        if self._out_bytes > BATCH_BYTES:
            self._flush_answers()

    def set_delimiter(self, delimiter: bytes) -> None:
        pass

    def control(self, command: str) -> None:
        pass

    # The server's side

    def _under_way(self) -> bytes | None:
        return next((worker.name for worker in self._busy if worker.name is not None), None)

    def _cancel_running(self, reason: str) -> None:
        for worker in self._busy:
            if worker.requests is not None:
                self._dispatcher.cancel(worker.requests.task, reason)
        super()._cancel_running(reason)

    def kill(self, reason: str) -> None:
        """Ends the session, whatever it does. Callable from any greenlet."""
        super().kill(reason)
        self._done.set()

    def idle_seconds(self, now: float) -> float:
        """For how long the client has sent nothing; 0 while a request runs."""
        return now - self._active if self._state is IDLE and not self._busy else 0.0

