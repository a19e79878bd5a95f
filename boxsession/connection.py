"""One client: its socket, its session and the read-eval-print loop between them. One greenlet for each.

Data flows one way: socket, protocol, evaluator, output, socket. The greenlet reads only while nothing runs; while a
statement waits or has lost its turn, the hub reads on its behalf, so that Ctrl-C is seen. What was answered goes out in
one write for each read, and at the latest when the greenlet lets others run.
"""
from __future__ import annotations

import logging
import select
from collections.abc import Mapping
from typing import Any

from gevent import Timeout, get_hub, getcurrent

from boxsession.lua.runtime import Runtime
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

_READ_BYTES = 65536
# While a statement runs, this much of what follows it is read ahead; the rest waits in the socket.
_READ_AHEAD_BYTES = 1 << 18
# Replies are sent before they pile up higher than this.
_BATCH_BYTES = 1 << 18
_READ, _WRITE = 1, 2            # libev's event masks
# How often it is looked whether a client that sends no more, and whose statement runs, is still there.
_PROBE_SECONDS = 1.0

_PROMPT, _PROMPT_MORE = b'tarantool> ', b'         > '


class Connection:
    """Serves one client until it leaves or is closed. Made by its listener; run() is its greenlet's body.

    It is the evaluator's host, too: what a statement does to its own connection (push, delimiter, \\quit) arrives here.
    """

    __slots__ = ('session', '_sock', '_protocol', '_runtime', '_evaluator', '_send_seconds', '_greeting', '_greenlet',
                 '_watcher', '_waiting', '_draining', '_over', '_out', '_out_bytes', '_prompt', '_reading', '_sending',
                 '_probe', '_remote')

    def __init__(self, sock, session: Session, protocol: ConsoleProtocol, runtime: Runtime, *, greeting: bytes):
        self.session = session
        self._sock = sock                       # a plain non-blocking socket, ours to close
        self._protocol = protocol
        self._runtime = runtime
        self._evaluator = None                  # made by the greenlet itself
        self._send_seconds = 0.0
        self._greeting = greeting
        self._greenlet = None
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

    # The greenlet

    def run(self) -> None:
        """Serves the client. Returns when the session is over and its socket closed; raises nothing of the client's."""
        self._greenlet = getcurrent()
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
            log.info('session %d: connection lost: %s', self.session.id, error)
        except Exception:
            log.exception('session %d: failed', self.session.id)
        finally:
            self._watch(False)
            self._watcher.close()
            self._sock.close()

    def _open(self) -> bool:
        refusal = self._evaluator.connect()
        if refusal:
            refusal = reply_document(refusal)
            self._put(refusal)
            log.warning('session %d from %s was refused by on_connect: %s', self.session.id, self.session.peer,
                        refusal.decode(errors='backslashreplace').partition('error: ')[2].partition('\n')[0])
        else:
            self._put(self._greeting)
        self._flush()
        return not refusal

    def _serve(self, hub) -> None:
        protocol, out, runtime = self._protocol, self._out, self._runtime
        next_event, statement = protocol.next_event, self._evaluator.statement
        run = 0                     # statements since the event loop was last visited
        while True:
            if run > 1 and runtime.slice_is_over():
                runtime.take_turn(self._evaluator.task)
                run = 0
            event = next_event()
            if type(event) is Statement:
                if self._remote is not None:
                    self._ask_remote(event)
                    continue
                run += 1
                reply = statement(event.text, event.may_continue)
                if self._over:
                    break
                if reply:
                    # Final text opens with a printable byte, a tagged string with a control character.
                    if reply[0] < 32:
                        reply = reply_document(reply)
                    out.append(reply)
                    self._out_bytes += len(reply)
                    if self._out_bytes > _BATCH_BYTES:
                        self._flush()
                else:
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
                hub.switch()
                self._waiting = False
                run = 0
                runtime.begin_slice()
                if self._draining:
                    break
                self._read(idle=True)
            elif type(event) is More:
                if self._prompt:
                    self._put(_PROMPT_MORE)
            elif not self._answer(event):
                break
            elif self._prompt:
                self._put_prompt()
        self._flush()

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
            try:
                for piece in self._remote.ask(event.text):
                    self._put(piece)
                    self._flush()
            except RemoteClosed as error:
                self._put(reply_document(self._evaluator.error(str(error))))
                self._leave_remote()
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
            self._greenlet.switch()
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
        self._runtime.cancel(self._evaluator.task)

    # Output

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > _BATCH_BYTES and getcurrent() is self._greenlet:
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
            return self._sock.send(data)
        except BlockingIOError:
            return 0

    # The evaluator's host

    def push(self, tagged: bytes) -> None:
        self._put(push_document(tagged))

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

    # The server's side

    def drain(self) -> None:
        """Closes the session as soon as everything it has sent is answered. Callable from any greenlet."""
        self._draining = True
        get_hub().loop.run_callback(self._wake)

    def _wake(self) -> None:
        if self._waiting:
            self._greenlet.switch()

    def cancel(self) -> None:
        """Cancels what the session runs, here or on the other console."""
        if self._remote is not None:
            self._remote.cancel()
        if self._evaluator is not None:
            self._runtime.cancel(self._evaluator.task)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Takes the settings in force, by dotted name."""
        self._send_seconds = settings['limits.send_seconds']
        self._protocol.max_statement_bytes = settings['limits.statement_bytes']
