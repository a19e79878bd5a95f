"""A rescue listener: an OS thread that answers lines while the event loop of the console is held.

The thread uses no object of gevent, no Lua, no lock that the loop's thread may hold, and so no logging. It polls plain
sockets. Its commands are in boxsession/sessions/rescue.py.
"""
from __future__ import annotations

import _socket
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from select import POLLERR, POLLHUP, POLLIN, POLLOUT
from typing import Any, Protocol

from gevent import monkey

from boxsession.base.inherited import own
from boxsession.base.own_threads import start_thread

__all__ = ['Dialogue', 'RescueAcceptor']

# The original functions, even in a program that gevent has monkey-patched.
_new_lock = monkey.get_original('_thread', 'allocate_lock')
_poll = monkey.get_original('select', 'poll')
_sleep = monkey.get_original('time', 'sleep')

# Clients at a time; bytes of a line; bytes of one read.
CLIENTS, _LINE_BYTES, _READ_BYTES = 8, 4096, 4096
# How long a client may be silent, and how long it may not read its output, in seconds.
_SILENT_SECONDS, _SEND_SECONDS = 900.0, 30.0
# How often the thread looks for such clients, in seconds; only while there are clients.
_LOOK_SECONDS = 5.0
# The pause after descriptors or memory ran out, in seconds.
_PAUSE_SECONDS = 0.1
# How long close() waits for the end of the thread, in seconds.
_END_SECONDS = 0.2
_FULL = f'too many clients of the rescue listener: at most {CLIENTS} at a time'
_TOO_LONG = f'the line is too long: at most {_LINE_BYTES} bytes'


class Dialogue(Protocol):
    """The session of one client. Its methods are called in the thread. They may wait, but not for the loop."""

    greeting: bytes
    not_before: float           # when the next line may be answered (time.monotonic())

    def answer(self, line: bytes) -> bytes | None: ...      # None ends the session
    def error(self, message: str) -> bytes: ...
    def end(self, reason: str) -> None: ...


# Makes the session of a client, from its socket and the settings of the listener. Gives bytes to refuse it with.
Admit = Callable[[Any, Any], 'Dialogue | bytes']


class _Client:
    """A connected client."""

    def __init__(self, sock: Any, dialogue: Dialogue):
        self.sock = sock
        self.dialogue = dialogue
        self.input = bytearray()
        self.output = dialogue.greeting
        self.active = time.monotonic()      # the last input, or the last progress of the output
        self.is_skipping = False            # drops the rest of a line that is too long
        own(self)

    def fileno(self) -> int:
        return int(self.sock.fileno())


class RescueAcceptor:
    """Accepts and serves the clients of a rescue listener. Has the methods of `boxsession.net.acceptor.Acceptor`.

    Args:
        sock: the listening socket. It is closed by close().
        listener: gives the settings of new clients; a reload replaces it.
        admit: makes the session of a client.
        arm, disarm: called in the loop's thread, when this begins to serve, and when it has ended.
    """

    def __init__(self, sock: Any, listener: Any, admit: Admit, arm: Callable[[], None], disarm: Callable[[], Any]):
        self.socket = own(sock)
        self.listener = listener
        self.started = False
        self._admit = admit
        self._arm, self._disarm = arm, disarm
        self._pid = os.getpid()
        self._wake, self._waker = os.pipe()
        self._is_stopping = False
        self._handed: deque[tuple[Any, Any]] = deque()      # clients that accept_waiting() has accepted
        self._clients: dict[int, _Client] = {}
        self._ended = _new_lock()

    # In the loop's thread

    def start(self) -> None:
        self.started = True
        self._arm()
        self._ended.acquire()
        start_thread(self._run)

    def close(self) -> None:
        """Ends the thread and all its clients, and closes the socket."""
        self._is_stopping = True
        if self._pid == os.getpid():
            if self.started:
                os.write(self._waker, b'\0')
                self._ended.acquire(True, _END_SECONDS)
                self._disarm()
            else:
                os.close(self._wake)
                os.close(self._waker)
            self.socket.close()

    def begin_all(self) -> None:
        """There are no clients that wait for their greenlets."""

    def accept_waiting(self) -> None:
        """Accepts all clients that have connected so far, with the settings of now."""
        plain = _socket.socket(fileno=self.socket.fileno())
        try:
            while (client := _accepted(plain)) is not None:
                self._handed.append((client, self.listener.config))
        finally:
            plain.detach()
        os.write(self._waker, b'\0')

    # The thread

    def _run(self) -> None:
        listening = None
        try:
            try:
                listening = _socket.socket(fileno=self.socket.fileno())
            except (OSError, ValueError):       # close() was called before this thread began
                pass
            while listening is not None and not self._is_stopping:
                try:
                    self._turn(listening)
                except Exception:       # such as too little memory; or close() has not waited for long enough
                    _sleep(_PAUSE_SECONDS)
        finally:
            for client in list(self._clients.values()):
                self._end(client, 'the listener was closed')
            if listening is not None:
                listening.detach()
            for descriptor in (self._wake, self._waker):
                os.close(descriptor)
            self._ended.release()

    def _turn(self, listening: Any) -> None:
        """Waits until something is to be done, and does it."""
        ready = self._ready(listening.fileno())
        if self._is_stopping:
            return
        if self._wake in ready:
            os.read(self._wake, 100)
        if listening.fileno() in ready:
            self._accept(listening)
        while self._handed:
            self._begin(*self._handed.popleft())
        for client in list(self._clients.values()):
            if not self._serve(client, ready.get(client.fileno(), 0)):
                self._end(client)

    def _ready(self, listening: int) -> dict[int, int]:
        """Waits until something is to be done. Returns the events by descriptor."""
        poll = _poll()
        poll.register(self._wake, POLLIN)
        poll.register(listening, POLLIN)
        now, wait = time.monotonic(), _LOOK_SECONDS
        for client in self._clients.values():
            events = 0
            if client.output:
                events = POLLOUT
            elif client.dialogue.not_before > now:
                wait = min(wait, client.dialogue.not_before - now)
            elif b'\n' in client.input:
                wait = 0.0
            else:
                events = POLLIN
            poll.register(client.fileno(), events)
        return dict(poll.poll(int(wait * 1000) + (wait > 0) if self._clients else None))

    def _accept(self, listening: Any) -> None:
        config = self.listener.config           # before accept(): a reload must not widen what this client may
        try:
            client = _accepted(listening)
        except OSError:             # no descriptors are left: they may be free soon
            _sleep(_PAUSE_SECONDS)
            return
        if client is not None:
            self._begin(client, config)

    def _begin(self, sock: Any, config: Any) -> None:
        try:
            admitted = _refusal(_FULL) if len(self._clients) >= CLIENTS else self._admit(sock, config)
            if isinstance(admitted, bytes):
                sock.send(admitted)
                sock.close()
                return
        except Exception:           # it must not end the thread
            sock.close()
            return
        client = _Client(sock, admitted)
        self._clients[client.fileno()] = client

    def _end(self, client: _Client, reason: str = 'the client left') -> None:
        del self._clients[client.fileno()]
        client.sock.close()
        with suppress(Exception):               # it must not end the thread
            client.dialogue.end(reason)

    def _serve(self, client: _Client, event: int) -> bool:
        """Goes on with a client. False if it has left, or is closed."""
        now = time.monotonic()
        if event & (POLLHUP | POLLERR) and client.dialogue.not_before > now:
            return False
        try:
            if event and not client.output and client.dialogue.not_before <= now and b'\n' not in client.input:
                if not self._read(client):
                    return False
                client.active = now
            if not client.output and client.dialogue.not_before <= now and b'\n' in client.input:
                if not self._answer(client):
                    return False
            if client.output:
                sent = _sent(client.sock, client.output)
                client.output = client.output[sent:]
                if sent:
                    client.active = now
        except Exception:           # the connection is lost; nothing else may end the thread
            return False
        return now - client.active < (_SEND_SECONDS if client.output else _SILENT_SECONDS)

    def _read(self, client: _Client) -> bool:
        data = client.sock.recv(_READ_BYTES)
        is_open = bool(data)
        if client.is_skipping:
            _, line_feed, data = data.partition(b'\n')
            client.is_skipping = not line_feed
        client.input += data
        if len(client.input) > _LINE_BYTES and b'\n' not in client.input[:_LINE_BYTES + 1]:
            _, line_feed, rest = client.input.partition(b'\n')
            client.input, client.is_skipping = bytearray(rest), not line_feed
            client.output += client.dialogue.error(_TOO_LONG)
        return is_open

    def _answer(self, client: _Client) -> bool:
        line, _, rest = client.input.partition(b'\n')
        answer = client.dialogue.answer(bytes(line))
        if client.dialogue.not_before > time.monotonic():
            return True                         # asked again then
        client.input = rest
        client.output += answer or b''
        return answer is not None


def _accepted(listening: Any) -> Any:
    """A client; None if none waits."""
    try:
        descriptor, _ = listening._accept()
    except (BlockingIOError, ConnectionAbortedError):
        return None
    sock = _socket.socket(fileno=descriptor)
    sock.setblocking(False)
    return sock


def _sent(sock: Any, data: bytes) -> int:
    try:
        return int(sock.send(data))
    except BlockingIOError:
        return 0


def _refusal(message: str) -> bytes:
    return f"---\n- error: '{message}'\n...\n".encode()
