"""Standard streams (safe output on terminals, failures of writing), and the signals that end the client."""
from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from boxsession.client.values import visible, visible_pieces

__all__ = ['CannotWrite', 'Ended', 'end', 'say', 'set_up', 'signals', 'write', 'write_text']

_AGAIN_SECONDS = 0.5
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class CannotWrite(Exception):
    """A standard stream cannot be written.

    Attributes:
        has_left: whether its reader has closed the pipe.
    """

    def __init__(self, error: OSError | ValueError):
        super().__init__(f'cannot write: {getattr(error, "strerror", None) or error}')
        self.has_left = getattr(error, 'errno', None) == errno.EPIPE


class Ended(SystemExit):
    """A signal ends the client. A SystemExit, because event loops (of prompt_toolkit) let that pass."""

    code: int

    def __init__(self, number: int):
        super().__init__(128 + number)


@contextmanager
def signals(handler: Callable, *more: int) -> Iterator[None]:
    """Within the context, calls `handler` for SIGTERM, SIGHUP, SIGQUIT and the signals `more`.

    A signal that was ignored before (by nohup, for example) stays ignored.
    """
    ending = [number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in (*ending, *more)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, former in before.items():
            signal.signal(number, former)


def end(number: int, _) -> None:
    """A signal handler that ends the client by raising `Ended`."""
    # Python drops an exception that is raised inside a finalizer or a weakref callback: so it is raised again later.
    signal.signal(signal.SIGALRM, lambda *_: end(number, None))
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
    raise Ended(number)


def set_up() -> None:
    """Makes the standard streams escape what their encoding cannot represent, instead of raising an error."""
    for stream, errors in ((sys.stdin, 'surrogateescape'), (sys.stdout, 'backslashreplace'),
                           (sys.stderr, 'backslashreplace')):
        reconfigure = getattr(stream, 'reconfigure', None)
        if reconfigure is not None:
            reconfigure(errors=errors)


def write(stream, data: bytes) -> None:
    """Writes to a standard stream: bytes unchanged to a pipe or a file, escaped text to a terminal.

    Raises:
        CannotWrite: the stream cannot be written. Its buffer is dropped, so that Python reports no second error at exit.
    """
    if stream.isatty():
        write_text(stream, visible_pieces(data))
    else:
        _written(stream, stream.buffer, [data])


def write_text(stream, pieces: Iterable[str]) -> None:
    """Writes text that is already safe for a terminal. Raises as write()."""
    _written(stream, stream, pieces)


def _written(stream, layer, pieces):
    try:
        for piece in pieces:
            layer.write(piece)
        stream.flush()
    except (OSError, ValueError) as error:      # ValueError: the stream is closed
        _drop(stream)
        raise CannotWrite(error) from None


def say(message: str) -> None:
    """Writes a message to standard error. Errors of writing are ignored."""
    try:
        print(visible(message), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _drop(sys.stderr)


def _drop(stream):
    """Redirects a stream, with its buffer, to /dev/null: otherwise Python reports the error again at exit."""
    try:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass
