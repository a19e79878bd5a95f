"""What the process has around it: standard streams that a terminal shows or that take no more, and signals that end it."""
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
    """Standard output takes no more.

    Attributes:
        has_left: whether that is because its reader has left.
    """

    def __init__(self, error: OSError | ValueError):
        super().__init__(f'cannot write: {getattr(error, "strerror", None) or error}')
        self.has_left = getattr(error, 'errno', None) == errno.EPIPE


class Ended(SystemExit):
    """A signal ends the client. One of those exceptions that an event loop lets through."""

    code: int

    def __init__(self, number: int):
        super().__init__(128 + number)


@contextmanager
def signals(handler: Callable, *more: int) -> Iterator[None]:
    """Meanwhile, `handler` is called for each signal that ends a process from outside, and for `more`.

    One that was ignored from the start (nohup) still is.
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
    """A handler of signals: ends the client in order."""
    # Python drops what is raised while it runs a finalizer or a weak reference's callback: then it is raised once more.
    signal.signal(signal.SIGALRM, lambda *_: end(number, None))
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
    raise Ended(number)


def set_up() -> None:
    """Makes the standard streams show and take what their encoding has no characters for."""
    for stream, errors in ((sys.stdin, 'surrogateescape'), (sys.stdout, 'backslashreplace'),
                           (sys.stderr, 'backslashreplace')):
        reconfigure = getattr(stream, 'reconfigure', None)
        if reconfigure is not None:
            reconfigure(errors=errors)


def write(stream, data: bytes) -> None:
    """Writes to a standard stream: to a pipe or a file byte for byte; to a terminal what is safe to show.

    Raises:
        CannotWrite: it takes no more; nothing that is still in its buffer will be missed at the end.
    """
    if stream.isatty():
        write_text(stream, visible_pieces(data))
    else:
        _written(stream, stream.buffer, [data])


def write_text(stream, pieces: Iterable[str]) -> None:
    """Writes text that is safe to show to a standard stream. Raises as write()."""
    _written(stream, stream, pieces)


def _written(stream, layer, pieces):
    try:
        for piece in pieces:
            layer.write(piece)
        stream.flush()
    except (OSError, ValueError) as error:      # ValueError: it was closed
        _drop(stream)
        raise CannotWrite(error) from None


def say(message: str) -> None:
    """Says something in words, on standard error. Where that takes no more, there is nobody to tell."""
    try:
        print(visible(message), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _drop(sys.stderr)


def _drop(stream):
    """What a stream holds, and all that follows, goes nowhere: Python would tell of it once more at its end."""
    try:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass
