"""One client: its socket, its session and the read-eval-print loop between them. One greenlet for each.

Data flows one way: socket, protocol, evaluator, output, socket. The greenlet reads only while nothing runs; while a
statement waits or has lost its turn, the hub reads on its behalf, so that Ctrl-C is seen. What was answered goes out in
one write for each read, and at the latest when the greenlet lets others run.
"""
from __future__ import annotations

import logging
import select
import time
from collections.abc import Mapping
from typing import Any

from gevent import Timeout, get_hub, getcurrent

from boxsession.audit import Audit, redacted
from boxsession.lua.runtime import Runtime, StatementCancelled
from boxsession.output import push_document, reply_document
from boxsession.protocol.console import (
    NEED_DATA,
    Cancelled,
    ConsoleProtocol,
    End,
    More,
    Quit,
    Statement,
    TooLong,
    Unfinished,
)
from boxsession.remote import RemoteClosed, RemoteConsole
from boxsession.session import Session, enter_session

__all__ = ['Connection']

log = logging.getLogger('boxsession')

_READ_BYTES = 16384
# While a statement runs, this much of what follows it is read ahead; the rest waits in the socket.
_READ_AHEAD_BYTES = 1 << 18
# Replies are sent before they pile up higher than this.
_BATCH_BYTES = 1 << 18
_READ, _WRITE = 1, 2            # libev's event masks
# How often it is looked whether a client that sends no more, and whose statement runs, is still there.
_PROBE_SECONDS = 1.0

# How much of a running statement the list of sessions shows.
_STATEMENT_SHOWN = 120

_PROMPT, _PROMPT_MORE = b'tarantool> ', b'         > '


class Connection:
    """Serves one client until it leaves or is closed. Made by its listener; run() is its greenlet's body.

    It is the evaluator's host, too: what a statement does to its own connection (push, delimiter, \\quit) arrives here.
    """

    __slots__ = ('session', '_sock', '_protocol', '_runtime', '_evaluator', '_send_seconds', '_greeting', 'greenlet',
                 '_watcher', '_waiting', '_draining', '_over', '_out', '_out_bytes', '_prompt', '_reading', '_sending',
                 '_probe', '_remote', '_farewell', '_cancels', '_running', '_early', '_statements', '_bytes_in',
                 '_bytes_out', '_active', '_audit', 'is_private', '_ending')

    def __init__(self, sock, session: Session, protocol: ConsoleProtocol, runtime: Runtime, *, greeting: bytes,
                 audit: Audit, is_private: bool):
        self.session = session
        self._sock = sock                       # a plain non-blocking socket, ours to close
        self._protocol = protocol
        self._runtime = runtime
        self._evaluator = None                  # made by the greenlet itself
        self._send_seconds = 0.0
        self._greeting = greeting
        self._audit = audit if audit.is_on else None
        self.is_private = is_private            # whether nobody on the way can read what is sent
        self._ending = 'the client left'        # why the session is over
        self.greenlet = None                    # the one that run() is the body of
        self._watcher = None                    # tells when the socket can be read, all the time
        self._reading = False                   # whether the watcher is on
        self._waiting = False                   # the greenlet sleeps until the client sends
        self._draining = False                  # to be closed as soon as what was sent is answered
        self._over = False                      # the client said goodbye, or cannot be reached any more
        self._remote: RemoteConsole | None = None       # where statements go, when not here
        self._prompt = False
        self._out: list[bytes] = []             # replies that have not been sent
        self._out_bytes = 0
        self._probe = None                      # the timer that looks for a hangup while nothing is read
        self._sending = False                   # in the middle of a reply that the client takes slowly
        self._farewell = ''                     # why the session is ended from outside
        self._cancels = True                    # whether a client that vanished has its statement cancelled
        self._running: bytes | None = None      # the statement under way
        self._early: list[bytes] | None = []    # what is pushed before the greeting is out
        self._statements = 0
        self._bytes_in = 0
        self._bytes_out = 0
        self._active = time.monotonic()         # when the client last sent something

    # The greenlet

    def run(self) -> None:
        """Serves the client. Returns when the session is over and its socket closed; raises nothing of the client's."""
        self.greenlet = getcurrent()
        enter_session(self.session)
        hub = get_hub()
        self._watcher = hub.loop.io(self._sock.fileno(), _READ)
        self._watch(True)
        try:
            self._evaluator = self._runtime.evaluator(self.session, self)
            try:
                if self._open():
                    self._serve(hub)
            finally:
                self._close()
        except OSError as error:
            self._ending = f'connection lost: {error}'
            log.info('session %d: connection lost: %s', self.session.id, error)
        except Exception:
            self._ending = 'failed'
            log.exception('session %d: failed', self.session.id)
        finally:
            if self._audit is not None:
                self._audit.event('end', self.session, reason=self._farewell or self._ending)
            self._watch(False)
            self._watcher.close()
            self._sock.close()

    def _open(self) -> bool:
        if self._audit is not None:
            self._audit.event('start', self.session)
        refusal = self._evaluator.connect()
        if refusal:
            self._ending = 'refused by on_connect'
            refusal = reply_document(refusal)
            self._put(refusal)
            log.warning('session %d from %s was refused by on_connect: %s', self.session.id, self.session.peer,
                        refusal.decode(errors='backslashreplace').partition('error: ')[2].partition('\n')[0])
        else:
            early, self._early = self._early, None
            self._put(self._greeting)
            for document in early:
                self._put(document)
        self._flush()
        return not refusal

    def _serve(self, hub) -> None:
        protocol, out, runtime = self._protocol, self._out, self._runtime
        next_event, statement, monotonic = protocol.next_event, self._evaluator.statement, time.monotonic
        run = 0                     # statements since the event loop was last visited
        while True:
            if runtime.has_ticked and run > 1 and runtime.batch_is_over():
                runtime.take_turn(self._evaluator.task)
                run = 0
            event = next_event()
            if type(event) is Statement:
                if self._remote is not None:
                    self._ask_remote(event)
                    continue
                run += 1
                self._running = event.text
                reply = statement(event.text, event.may_continue) if self._audit is None else self._audited(event)
                self._statements += 1
                if self._over:
                    break
                if reply:
                    # Final text opens with a printable byte, a tagged string with a control character.
                    if reply[0] < 32:
                        reply = self._formatted(reply)
                        runtime.has_ticked = True
                    self._running = None
                    out.append(reply)
                    self._out_bytes += len(reply)
                    if self._out_bytes > _BATCH_BYTES:
                        self._flush()
                else:
                    self._running = None
                    protocol.hold(event)
                if self._prompt:
                    self._put_prompt()
            elif event is NEED_DATA:
                if out:
                    self._flush()
                if self._draining:
                    break
                if not self._reading:
                    self._end_probe()
                    self._watch(True)
                self._waiting = True
                runtime.inside = None
                hub.switch()
                self._waiting = False
                run = 0
                if self._draining or self._over:
                    break
                self._active = now = monotonic()
                runtime.begin_slice(now)
                self._read(idle=True)
            elif type(event) is More:
                if self._prompt:
                    self._put(_PROMPT_MORE)
            elif not self._answer(event):
                break
            elif self._prompt:
                self._put_prompt()
        if self._farewell:
            self._put(reply_document(self._evaluator.error(self._farewell)))
            self._send_now()
        else:
            self._flush()

    def _audited(self, event: Statement) -> bytes:
        """Runs a statement and records it before its reply can leave."""
        audit, evaluator, user = self._audit, self._evaluator, self.session.user
        if audit.refuses:
            return evaluator.error('the audit file cannot be written: no statement is run until it can (audit.required)')
        began = time.monotonic()
        reply = evaluator.statement(event.text, event.may_continue)
        if reply and not audit.statement(self.session, user, event.text, evaluator.last_error(), time.monotonic() - began):
            return evaluator.error('the statement ran, but the audit file cannot be written (audit.required)')
        return reply

    def _formatted(self, tagged: bytes) -> bytes:
        """The document of a tagged reply. Others have their turns meanwhile, and it can be cancelled."""
        limits = self._runtime.output_limits
        cuts = limits.cuts
        try:
            document = reply_document(tagged, limits)
        except StatementCancelled:
            return reply_document(self._evaluator.error(self._evaluator.task.reason or 'the statement was cancelled'))
        if limits.cuts > cuts:
            self._runtime.hits['limits.output_bytes'] += 1
        return document

    def _put_prompt(self) -> None:
        if self._protocol.holds_statement:
            self._put(_PROMPT_MORE)
        elif self._remote is not None:
            self._put(f'{self._remote.address}> '.encode())
        else:
            self._put(_PROMPT)

    def _answer(self, event) -> bool:
        """Answers an event that is no statement to run; False when it ends the session."""
        if isinstance(event, Quit) and self._remote is not None:
            self._leave_remote()
            return True
        if isinstance(event, (End, Quit)):
            return False
        if isinstance(event, TooLong):
            self._runtime.hits['limits.statement_bytes'] += 1
            message = f'the statement is too long: more than {event.limit} bytes (limits.statement_bytes)'
        elif isinstance(event, Unfinished):
            text = event.text[:80].decode(errors='backslashreplace')
            message = f'the input ended inside a statement, which was not run: {text}'
        else:
            assert isinstance(event, Cancelled)
            if event.may_continue and self._evaluator.is_incomplete(event.text):
                self._protocol.hold(event)
                return True
            message = 'the statement was cancelled'
        self._put(reply_document(self._evaluator.error(message)))
        return True

    # Another console (console.connect)

    def go_remote(self, remote: RemoteConsole) -> None:
        """From the next statement on, this session's statements are run by `remote`."""
        if self._remote is not None:
            self._remote.close()
        self._remote = remote

    def _ask_remote(self, event: Statement) -> None:
        if event.may_continue and self._evaluator.is_incomplete(event.text):
            self._protocol.hold(event)
        else:
            self._running = event.text
            self._statements += 1
            if self._audit is not None:
                self._audit.event('statement', self.session, remote=str(self._remote.address), ok=None,
                                  statement=redacted(event.text).decode(errors='backslashreplace'))
            try:
                for piece in self._remote.ask(event.text):
                    self._put(piece)
                    self._flush()
            except RemoteClosed as error:
                self._put(reply_document(self._evaluator.error(str(error))))
                self._leave_remote()
            finally:
                self._running = None
        if self._prompt:
            self._put_prompt()

    def _leave_remote(self) -> None:
        remote, self._remote = self._remote, None
        remote.close()
        self._evaluator.left_remote()

    def _close(self) -> None:
        """Runs on_disconnect, once, whatever ended the session."""
        if self._remote is not None:
            self._remote.close()
        self._waiting = False
        self._watch(False)
        self._end_probe()
        try:
            self._evaluator.disconnect()
        finally:
            self._out.clear()

    # Input

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
            self._probe = get_hub().loop.timer(_PROBE_SECONDS, _PROBE_SECONDS)
            self._probe.start(self._look_for_hangup)

    def _look_for_hangup(self) -> None:
        poller = select.poll()
        poller.register(self._sock.fileno(), 0)
        if poller.poll(0):
            self._lost()

    def _end_probe(self) -> None:
        if self._probe is not None:
            self._probe.stop()
            self._probe.close()
            self._probe = None

    def _readable(self) -> None:
        """In the hub: the client has sent something, or has left."""
        if self._waiting:
            self.greenlet.switch()
            return
        # A statement is under way: read on only to see an interrupt.
        try:
            self._read()
        except OSError:
            self._lost()

    def _read(self, idle: bool = False) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        self._bytes_in += len(data)
        protocol = self._protocol
        if not data:
            protocol.receive_eof()
            self._stop_reading()
            return
        if protocol.receive_data(data):
            if idle and self._prompt:
                self._put(b'\n')                # the line that was dropped ends here
                self._put_prompt()
            if not idle:
                self.cancel()
        answers = protocol.data_to_send()
        if answers:
            self._put(answers)
        if not idle and protocol.buffered_bytes > _READ_AHEAD_BYTES:
            self._stop_reading()

    def _lost(self) -> None:
        """The client is gone while its statement runs: nobody would read the answer."""
        self._over = True
        self._watch(False)
        self._end_probe()
        if self._remote is not None:
            self._remote.abort()
        elif self._cancels:
            self._runtime.cancel(self._evaluator.task)

    # Output

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > _BATCH_BYTES and getcurrent() is self.greenlet:
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
        while rest:
            self._send_slowly(rest)
            rest = self._send_now()

    def _send_slowly(self, rest: memoryview) -> None:
        self._sending = True
        hub = get_hub()
        watcher = hub.loop.io(self._sock.fileno(), _WRITE)
        try:
            with Timeout(self._send_seconds or None, TimeoutError('the client does not read')):
                while rest:
                    hub.wait(watcher)
                    rest = rest[self._send(rest):]
        except TimeoutError:
            self._runtime.hits['limits.send_seconds'] += 1
            raise
        finally:
            watcher.close()
            self._sending = False

    def _send_now(self) -> memoryview | None:
        """Sends what the socket takes at once; gives what it did not."""
        out = self._out
        if not out:
            return None
        data = b''.join(out)
        out.clear()
        self._out_bytes = 0
        sent = self._send(data)
        return memoryview(data)[sent:] if sent < len(data) else None

    def _send(self, data) -> int:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            return 0
        self._bytes_out += sent
        return sent

    # The evaluator's host

    def push(self, tagged: bytes) -> None:
        document = push_document(tagged, self._runtime.output_limits)
        if self._early is None:
            self._put(document)
        else:
            self._early.append(document)        # on_connect runs: the greeting comes first

    def set_delimiter(self, delimiter: bytes) -> None:
        self._protocol.delimiter = delimiter

    def control(self, command: str) -> None:
        name, _, value = command.partition('=')
        if name == 'quit':
            self._over = True
        elif name == 'continuation':
            self._protocol.continuation = value
        elif name == 'prompt':
            self._prompt = value == 'on'

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
            self._out.append(bytes(rest))
            self._out_bytes = len(rest)

    def running(self) -> str:
        """What the session runs, in words for the log."""
        statement = self._running
        if statement is None:
            return f'session {self.session.id} (a trigger or a fiber)'
        return f'session {self.session.id}: {_shown(statement)!r}'

    # The server's side

    def drain(self) -> None:
        """Closes the session as soon as everything it has sent is answered. Callable from any greenlet."""
        self._draining = True
        get_hub().loop.run_callback(self._wake)

    def _wake(self) -> None:
        if self._waiting:
            self.greenlet.switch()

    def cancel(self, reason: str = '') -> bool:
        """Cancels what the session runs, here or on the other console; False when it runs nothing."""
        if self._remote is not None:
            # Idle, there is nothing to stop, and a console that cannot cancel would be left for nothing.
            if self._running is not None:
                self._remote.cancel()
        elif self._evaluator is not None:
            self._runtime.cancel(self._evaluator.task, reason)
        return self._running is not None

    def kill(self, reason: str) -> None:
        """Ends the session, whatever it does. Callable from any greenlet."""
        self._over = True
        self._farewell = self._farewell or reason
        if self._remote is not None:
            self._remote.abort()
        if self._evaluator is not None:
            self._runtime.cancel(self._evaluator.task, reason)
        loop = get_hub().loop
        loop.run_callback(self._wake)
        if self._sending:
            loop.run_callback(self._stop_sending)

    def _stop_sending(self) -> None:
        if self._sending:
            self.greenlet.throw(ConnectionAbortedError(self._farewell))

    def idle_seconds(self, now: float) -> float:
        """For how long the client has sent nothing; 0 while a statement runs."""
        return now - self._active if self._waiting else 0.0

    def describe(self) -> dict[str, Any]:
        """What box.session.list() shows of the session."""
        session = self.session
        now = time.monotonic()
        state = 'sending' if self._sending else 'running' if self._running is not None else 'idle'
        return {'id': session.id, 'user': session.user, 'peer': session.peer, 'type': session.type,
                'listener': session.listener, 'name': session.name,
                'connected_s': round(time.time() - session.started, 3), 'idle_s': round(self.idle_seconds(now), 3),
                'state': state, 'statement': _shown(self._running or b''),
                'statements': self._statements, 'bytes_in': self._bytes_in, 'bytes_out': self._bytes_out}

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Takes the settings in force, by dotted name."""
        self._send_seconds = settings['limits.send_seconds']
        self._cancels = settings['limits.on_disconnect'] == 'cancel'
        self._protocol.max_statement_bytes = settings['limits.statement_bytes']


def _shown(statement: bytes) -> str:
    """A statement for lists and logs."""
    return redacted(statement)[:_STATEMENT_SHOWN].decode(errors='backslashreplace')
