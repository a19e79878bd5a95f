"""The child of a snapshot: a fork of the process that runs one statement, sends its result, and ends.

It can change nothing in the program. All inherited descriptors are closed, so its code can neither answer clients nor use
the program's connections. It cannot write files, as far as the system can refuse that. No greenlet runs but the
statement's, no other thread, no handler of a signal, nothing at exit.
"""
from __future__ import annotations

import fcntl
import gc
import os
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from gevent import Greenlet
from gevent.hub import Hub
from greenlet import getcurrent, settrace

from boxsession.base import inherited
from boxsession.base.errors import type_name
from boxsession.python.compiler import NAME, described
from boxsession.python.values import named, packed

__all__ = ['HEAD', 'Work', 'caught_signals', 'run']

# What the child sends: the sizes of four parts, then a packed value, an error's text, its class, and its traceback.
HEAD = struct.Struct('>4Q')

_TRACEBACK_CHARACTERS = 100_000
# The child is nicer to other processes than its parent, and the first to go if the memory of the machine is short.
_NICE, _OOM_SCORE = 5, b'1000'
_WAITS = ('a snapshot cannot wait for other greenlets or for the network: they do not run in its process. '
          r'\set python live ends the mode')


@dataclass(slots=True)
class Work:
    """One statement, and its limits.

    Attributes:
        run: runs the statement, and returns its value.
        value_bytes: about the maximum size of the packed value.
        seconds: the processor time that it may use; 0 for no limit.
        memory_bytes: by how much the process may grow; 0 for no limit.
        other: gives the text of values that are not plain data.
    """

    run: Callable[[], Any]
    value_bytes: int
    seconds: float = 0.0
    memory_bytes: int = 0
    other: Callable[[Any], str] = named


def run(work: Work, result: int, output: int, end_with_parent: Callable[[], None], restrict: Callable[[], None],
        others: tuple[int, ...], mask: Any) -> NoReturn:
    """Runs the statement and ends the process.

    Args:
        result, output: the pipes for the result, and for what the statement prints.
        end_with_parent: lets the system kill this process when its parent ends.
        restrict: takes rights from this process.
        others: descriptors to be closed: the other ends of the pipes.
        mask: the signals that are to be blocked. All are, when this is called.
    """
    try:
        os.setsid()
        end_with_parent()
        for descriptor in others:
            os.close(descriptor)
        end = _End(_descriptors(result, output))
        try:
            _surroundings(end, mask)
            _limit(work)
            restrict()
            value = packed(work.run(), work.value_bytes, work.other)
        except BaseException as error:          # SystemExit, too: it must not run what the program does at its exit
            end.with_error(error)
        end.with_value(value)
    except BaseException:               # a bug of this module: the statement's errors are sent
        os.write(2, _bytes(traceback.format_exc()))
    finally:
        os._exit(1)


class _End:
    """Sends the result, and ends the process.

    Args:
        result: the pipe for the result.

    Attributes:
        printed: the file for what is printed.
    """

    def __init__(self, result: int):
        self.printed = open(1, 'w', encoding='utf-8', errors='surrogateescape', closefd=False)     # noqa: SIM115
        self.printed.reconfigure(line_buffering=True)
        self._result = result
        self._pid = os.getpid()

    def with_value(self, value: bytes) -> NoReturn:
        self._with([value, b'', b'', b''])

    def with_error(self, error: BaseException) -> NoReturn:
        self._with([b'', _bytes(described(error)), _bytes(type_name(error)), _traceback(error)])

    def _with(self, parts: list[bytes]) -> NoReturn:
        if os.getpid() != self._pid:            # the statement has forked this process
            os._exit(0)
        try:
            self.printed.flush()
        except (OSError, ValueError):           # the parent reads no more; the statement has closed it
            pass
        rest = memoryview(HEAD.pack(*map(len, parts)) + b''.join(parts))
        while rest:
            rest = rest[os.write(self._result, rest):]
        os.killpg(self._pid, signal.SIGKILL)    # the processes that the statement has started, and this one
        os._exit(1)


def _descriptors(result: int, output: int) -> int:
    """Closes all descriptors but the standard ones, and makes these the pipe for output. Returns that of the result."""
    # A program that has closed its standard descriptors may have got their numbers for the pipes.
    result, output = (fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3) for descriptor in (result, output))
    inherited.replace_all([result, output])
    empty = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(empty, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    inherited.replace_all([result])
    return result


def _surroundings(end: _End, mask: Any) -> None:
    sys.settrace(None)
    sys.setprofile(None)
    # A collection would copy all pages of the memory, and run code of the program that its garbage has.
    gc.disable()
    sys.dont_write_bytecode = True
    sys.stdout = sys.stderr = end.printed
    own = getcurrent()
    own.switch_out = _refuse_to_wait                    # gevent calls it before a wait

    def look(_event: str, switch: tuple[Any, Any]) -> None:
        # Another greenlet of the statement waits, or it switches by itself to one of the program.
        target = switch[1]
        if target is not own and isinstance(target, (Hub, Greenlet)):
            end.with_error(RuntimeError(_WAITS))
    settrace(look)
    signal.set_wakeup_fd(-1)
    for number in caught_signals() - _CRASHES:
        _HANDLE(number, int(signal.SIG_DFL))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


# In a program that gevent has monkey-patched, that of the module `signal` is gevent's.
_HANDLE = signal._signal.signal                     # type: ignore[attr-defined]
# Their handlers show where code in C crashed (faulthandler).
_CRASHES = {signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL}


def caught_signals() -> set[int]:
    """The signals for which this process has a handler, of Python or of a library in C, of which Python does not know."""
    with open('/proc/self/status', 'rb') as file:
        mask = next(int(line.split()[1], 16) for line in file if line.startswith(b'SigCgt:'))
    return {int(number) for number in signal.valid_signals() if mask >> (number - 1) & 1}


def _refuse_to_wait() -> None:
    raise RuntimeError(_WAITS)


def _limit(work: Work) -> None:
    try:
        os.nice(_NICE)
        with open('/proc/self/oom_score_adj', 'wb', buffering=0) as file:
            file.write(_OOM_SCORE)
    except OSError:         # the system does not allow it
        pass
    for limit, soft, hard in _limits(work):
        try:
            now = resource.getrlimit(limit)[1]
            resource.setrlimit(limit, (soft, hard) if now == resource.RLIM_INFINITY else (min(soft, now), min(hard, now)))
        except (OSError, ValueError):
            pass


def _limits(work: Work) -> list[tuple[int, int, int]]:
    # No bytes of files: what writes one by mistake gets an error (EFBIG). Pipes and sockets are no files in this sense.
    limits = [(resource.RLIMIT_CORE, 0, 0), (resource.RLIMIT_FSIZE, 0, 0)]
    if work.seconds:
        seconds = int(work.seconds) + 1
        limits.append((resource.RLIMIT_CPU, seconds, seconds + 1))
    if work.memory_bytes:
        with open('/proc/self/statm', 'rb') as file:
            pages = int(file.read().split()[0])
        most = pages * resource.getpagesize() + work.memory_bytes
        limits.append((resource.RLIMIT_AS, most, most))
    return limits


def _traceback(error: BaseException) -> bytes:
    """The traceback as Python shows it, without the calls of this module and of the compiler's."""
    last = error.__traceback__
    while last is not None and last.tb_frame.f_code.co_filename != NAME:
        last = last.tb_next
    try:
        text = ''.join(traceback.format_exception(type(error), error, last))
    except Exception as problem:
        text = f'the traceback cannot be shown: {type(problem).__name__}'
    return _bytes(text[-_TRACEBACK_CHARACTERS:])


def _bytes(text: str) -> bytes:
    return text.encode(errors='backslashreplace')
