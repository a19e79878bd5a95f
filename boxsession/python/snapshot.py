r"""Runs statements in forked children of the process (`\set python snapshot`): see snapshot_child.py.

The greenlet that runs a statement waits for the child's result, so others run meanwhile. However this wait ends, the child
and the processes that it has started are killed, and no descriptor stays open.
"""
from __future__ import annotations

import ctypes
import os
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import starmap
from typing import Any

import gevent
from gevent import get_hub, monkey
from gevent.select import select

from boxsession.base import inherited, own_threads
from boxsession.python import landlock, snapshot_child
from boxsession.python.snapshot_child import HEAD, Work, caught_signals

__all__ = ['Outcome', 'SnapshotError', 'Snapshots', 'Work']

# Snapshots of one console that may run at the same time.
_MOST = 4
# How long to wait until a thread of gevent's pools has done its work, in seconds.
_SETTLE_SECONDS, _SETTLE_STEPS = 0.5, 25
# How often to look whether the child has ended if its pipes stay open, in seconds: its own children may have them.
_LOOK_SECONDS = 0.2
# How often to look whether a killed child has ended, and how long to wait for how it did, in seconds.
_REAP_SECONDS, _STATUS_SECONDS = 0.01, 2.0
_READ_BYTES = 1 << 16
# How much longer than the value's limit a result may be: errors, and marks of the value's end.
_MORE_BYTES = 1 << 20

_PR_SET_PDEATHSIG = 1
_TOO_MANY = '%d snapshots run already, and no more may: wait until one has ended, or cancel its statement'
_THREADS = ('no snapshot can be made: the process has other threads (%s). A lock that one of them holds would stay locked '
            r'in the child for ever. \set python live runs statements in the process itself')
_OUTPUT = 'the statement was stopped: it printed more than %d bytes (limits.output_bytes)'
_TOO_LARGE = 'the statement was stopped: its result has more than %d bytes'
_BECAUSE: dict[int, str] = {
    signal.SIGKILL: ': another process, or the system since memory was short',
    signal.SIGSEGV: ': code in C crashed',
    signal.SIGABRT: ': code in C gave up, or code of gevent tried to run its event loop',
    signal.SIGXCPU: ': it used more processor time than limits.statement_seconds allows',
}
_UNKNOWN = -1

# The original functions, even in a program that gevent has monkey-patched.
_fork = monkey.get_original('os', 'fork')
_waitpid = monkey.get_original('os', 'waitpid')
_handler_of = monkey.get_original('signal', 'getsignal')


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a statement has ended.

    Attributes:
        value: its packed value (values/packed.py).
        error: the text of its error, or ''. Then there is no value.
        kind: the class of the exception, or ''.
        traceback: the traceback of the exception, or ''.
        limit: the name of the setting whose limit was exceeded, or ''.
    """

    value: bytes = b''
    error: str = ''
    kind: str = ''
    traceback: str = ''
    limit: str = ''


class SnapshotError(Exception):
    """A statement has ended with an error in its snapshot.

    Attributes:
        kind: the class of the exception there; '' if there was none: the child was ended, or was not made.
        traceback: the traceback of the exception, or ''.
    """

    def __init__(self, outcome: Outcome):
        super().__init__(outcome.error)
        self.kind = outcome.kind
        self.traceback = outcome.traceback


class Snapshots:
    """The snapshots of one console."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._running: set[_Child] = set()

    def run(self, work: Work, show: Callable[[bytes], None], output_bytes: int = 0) -> Outcome:
        """Runs a statement in a child. The calling greenlet waits; an exception that is thrown into it kills the child.

        Args:
            show: called with what the statement prints, as it comes. It may wait.
            output_bytes: the maximum of that; 0 for no limit.
        """
        try:
            problem = _unsafe()
            if not problem and len(self._running) >= _MOST:     # counted after the wait in _unsafe()
                problem = _TOO_MANY % _MOST
            if problem:
                return Outcome(error=problem)
            child = _Child(work)
        except OSError as error:        # no /proc; no descriptors, memory or processes are left
            return Outcome(error=f'no snapshot can be made: {error.strerror or error}')
        self._running.add(child)
        try:
            return child.outcome(show, output_bytes)
        finally:
            self._running.discard(child)
            if os.getpid() == self._pid:    # a worker that the program has forked meanwhile must let the child live
                child.end()
            child.close()

    def close(self) -> None:
        """Kills all children. Their statements end with an error."""
        if os.getpid() == self._pid:
            for child in self._running:
                child.kill()


def _unsafe() -> str:
    """Why the process cannot be forked now, or ''."""
    for _ in range(_SETTLE_STEPS):
        others = own_threads.others()
        if not others:
            return ''
        gevent.sleep(_SETTLE_SECONDS / _SETTLE_STEPS)
    return _THREADS % ', '.join(others)


class _Child:
    """A child process, in its parent. Making one forks."""

    def __init__(self, work: Work):
        self._most = work.value_bytes + _MORE_BYTES
        self._status: int | None = None         # as waitpid() gives it; _UNKNOWN if another has taken it
        self._result = bytearray()
        self._line = b''                        # what was printed since the last line feed
        self._printed = 0                       # bytes
        opened: list[int] = []
        try:
            for _ in range(2):
                opened += os.pipe2(os.O_CLOEXEC)
            results, result, outputs, output = opened
            for descriptor in (results, outputs):
                os.set_blocking(descriptor, False)
            self.pid = _forked(work, result, output, (results, outputs))
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        self._results, self._outputs = results, outputs
        os.close(result)
        os.close(output)
        try:
            self._handle = os.pidfd_open(self.pid)
        except (AttributeError, OSError):       # an old system
            self._handle = -1
        self._watcher: Any = None
        loop = get_hub().loop
        if loop.default and signal.SIGCHLD in caught_signals() and not callable(_handler_of(signal.SIGCHLD)):
            # The program has had children of gevent's: its event loop takes the status of each child of the process.
            self._watcher = loop.child(self.pid, ref=False)
            self._watcher.start(self._note_status)

    def _note_status(self) -> None:
        self._status = self._watcher.rstatus

    # The result

    def outcome(self, show: Callable[[bytes], None], output_bytes: int) -> Outcome:
        """Waits for the result, or for the end of the process."""
        pipes = [self._results, self._outputs]
        while (result := self._received()) is None and pipes:
            ready, _, _ = select(pipes, [], [], _LOOK_SECONDS)
            if not ready and self._has_ended() or len(self._result) > self._most:
                break
            for descriptor, take in ((self._outputs, self._take_output), (self._results, self._take_result)):
                if descriptor in ready and not take(show):
                    pipes.remove(descriptor)
            if 0 < output_bytes < self._printed:
                return Outcome(error=_OUTPUT % output_bytes, limit='limits.output_bytes')
        while self._take_output(show, is_whole=True):
            pass
        return result or Outcome(error=self._end_without_result())

    def _received(self) -> Outcome | None:
        """The result, if all of it was received."""
        if len(self._result) < HEAD.size:
            return None
        sizes = HEAD.unpack_from(self._result)
        if len(self._result) < HEAD.size + sum(sizes):
            return None
        parts, at = [], HEAD.size
        with memoryview(self._result) as received:
            for size in sizes:
                parts.append(bytes(received[at:at + size]))
                at += size
        return Outcome(parts[0], *(part.decode(errors='replace') for part in parts[1:]))

    def _take_result(self, _show: Any) -> bool:
        """Reads a piece of the result. False at the end."""
        data = _read(self._results)
        self._result += data or b''
        return data != b''

    def _take_output(self, show: Callable[[bytes], None], is_whole: bool = False) -> bool:
        """Reads and shows what was printed, up to the last line feed; at the end, all of it. False at the end.

        Args:
            is_whole: nothing that matters will be printed any more.
        """
        data = _read(self._outputs)
        self._printed += len(data or b'')
        self._line += data or b''
        is_over = not data if is_whole else data == b''
        end = len(self._line) if is_over or len(self._line) >= _READ_BYTES else self._line.rfind(b'\n') + 1
        whole, self._line = self._line[:end], self._line[end:]
        if whole:
            show(whole)
        return not is_over

    def _end_without_result(self) -> str:
        """Why the child has ended without a result. Waits until it has ended."""
        if len(self._result) > self._most:
            return _TOO_LARGE % len(self._result)
        while not self._has_ended():
            gevent.sleep(_REAP_SECONDS)
        self.kill()                             # its own children
        end = time.monotonic() + _STATUS_SECONDS
        while not self._is_reaped() and time.monotonic() < end:
            gevent.sleep(_REAP_SECONDS)
        return _described(self._status)

    # The process

    def _has_ended(self) -> bool:
        try:
            return self._status is not None or _has_ended(self.pid)
        except ChildProcessError:               # another has taken the status
            return True

    def _is_reaped(self) -> bool:
        """Takes the status of the process, if it has ended. Whether that is done."""
        if self._status is None:
            try:
                pid, status = _waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                # The watcher will be told if the event loop has taken it.
                if self._watcher is None:
                    self._status = _UNKNOWN
            else:
                self._status = status if pid else None
        return self._status is not None

    def kill(self) -> None:
        """Kills the process and those that it has started."""
        if self._status is not None:
            return
        try:
            if self._handle >= 0:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            else:
                _has_ended(self.pid)            # raises if the id is free
                os.kill(self.pid, signal.SIGKILL)
            os.killpg(self.pid, signal.SIGKILL)
        except OSError:                         # it has ended; or has not begun to be the leader of its group
            pass

    def end(self) -> None:
        """Kills the process, and lets the event loop take its status as soon as it has ended."""
        self.kill()
        if self._is_reaped():
            self._release()
            return
        end = time.monotonic() + _STATUS_SECONDS
        timer = get_hub().loop.timer(_REAP_SECONDS, _REAP_SECONDS, ref=False)

        def look() -> None:
            if self._is_reaped() or self._watcher is not None and time.monotonic() > end:
                timer.stop()
                timer.close()
                self._release()
        timer.start(look)

    def _release(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def close(self) -> None:
        """Closes the pipes."""
        os.close(self._results)
        os.close(self._outputs)


def _forked(work: Work, result: int, output: int, others: tuple[int, ...]) -> int:
    """Forks a child. Returns its id in the parent, and never in the child."""
    parent, end_with_parent, restrict = os.getpid(), _end_with_parent(), landlock.restriction()
    pids: list[int] = []
    # No handler of the program may run in the child.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    inherited.snapshots.append(True)
    try:
        try:
            with warnings.catch_warnings():
                # Python warns of other threads: _unsafe() has found none that matters.
                warnings.simplefilter('ignore', DeprecationWarning)
                # One operation in C: if a handler of another thread's signal raises, the id is not lost.
                pids.extend(starmap(_fork, [()]))
            if pids == [0]:
                snapshot_child.run(work, result, output, lambda: end_with_parent(parent), restrict, others, mask)
        finally:
            inherited.snapshots.clear()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    except BaseException:
        if pids == [0]:
            os._exit(1)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            _waitpid(pid, 0)
        raise
    return pids[0]


def _end_with_parent() -> Callable[[int], None]:
    """Makes a function for the child, which lets the system kill it when its parent ends."""
    prctl = ctypes.PyDLL(None).prctl

    def end_with_parent(parent: int) -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:              # it has ended already
            os._exit(1)
    return end_with_parent


def _has_ended(pid: int) -> bool:
    """Whether a child has ended. Its status can still be taken.

    Raises:
        ChildProcessError: there is no such child: its status was taken.
    """
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _read(descriptor: int) -> bytes | None:
    """What a pipe has; None if that is nothing yet, b'' at its end."""
    try:
        return os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return None


def _described(status: int | None) -> str:
    if status is None or status == _UNKNOWN:
        return 'the snapshot ended without a result'
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f'the snapshot ended without a result, with exit code {code}'
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f'signal {-code}'
    return f'the snapshot was ended by {name}{_BECAUSE.get(-code, "")}'
