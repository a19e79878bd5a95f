"""Samples what the loop's thread does, for a profile.

A thread of its own looks at the loop's thread some hundred times a second. It sees rightly where the loop's thread waits:
there it gets the GIL at once. While the loop's thread runs Python, the sampler gets the GIL only after it, when a short
turn is over already. So the seconds that ran are never counted by what the thread sees, but by the processor clock of the
loop's thread. Which code used them is found by a timer of processor time (SIGPROF): its handler gets the stack that was
interrupted. Signal handlers run in the main thread only: without that, what is seen by the thread has to do.
"""
from __future__ import annotations

import os
import signal
import time
from _thread import get_native_id
from typing import Any

from gevent import get_hub, monkey
from gevent.hub import Hub

from boxsession.base.own_threads import start_thread
from boxsession.base.stacks import frames_of_thread
from boxsession.inspection.objects import Refused
from boxsession.inspection.profile import IDLE, UNSEEN, Profile, Stack

__all__ = ['Sampler']

_thread_id = monkey.get_original('_thread', 'get_ident')
_sleep = monkey.get_original('time', 'sleep')

# After so many seconds without a question for the progress the profile ends: its statement is gone.
_ALONE = 10.0
# A thread that waits for a smaller share of the time is looked at less often: so many seconds apart at most.
_SHORT, _REST = 0.4, 0.1
# Pieces of the file that are written between two pauses, and the pause in seconds.
_WRITTEN, _PAUSE = 4, 0.001
_SIGNAL = 'signal: the processor time of the loop is sampled by a timer (SIGPROF), its waits by a thread'
_THREAD = ('thread: the loop is sampled by a thread only, which cannot see turns of some milliseconds (their time is '
           'counted as "short turns, not seen")')
_NOT_MAIN = ', because the loop does not run in the main thread'
_TAKEN = ', because the program uses SIGPROF or its timer itself'

# The profile that runs, and the last one.
_current: Any = None
_last: Any = None


class Sampler:
    """One profile of the calling thread, which runs the event loop.

    Attributes:
        profile: what was seen so far.
        method: how it is sampled, and the weakness of that.
        result: the answer; None before the end.
        problem: why the file could not be written, or ''.

    Raises:
        Refused: another profile runs, or the file cannot be made.
    """

    def __init__(self, seconds: float, rate: float, path: str = ''):
        global _current, _last
        if _current is not None and _current._pid == os.getpid():
            raise Refused('another profile runs in this process: wait until it has ended')
        if _last is not None and _is_main():
            _last.release()
        self.profile = Profile()
        self.result: dict[str, Any] | None = None
        self.problem = ''
        self.asked = time.monotonic()
        self._pid: int = os.getpid()
        self._seconds, self._interval, self._path = seconds, 1 / rate, path
        self._is_discarded = False
        self._file = _new_file(path) if path else -1
        self._file_is = _identity(os.fstat(self._file)) if path else None
        self._loop_thread = _thread_id()
        try:
            self._clock: int | None = time.pthread_getcpuclockid(self._loop_thread)
        except (AttributeError, OSError):       # this system has no such clock
            self._clock = None
        self._queue = f'/proc/self/task/{get_native_id()}/schedstat'
        self._last_tick = 0.0
        self._ticks = self._may_take_signals()
        self.method = _SIGNAL if self._ticks else _THREAD + (_TAKEN if _is_main() else _NOT_MAIN)
        _current = _last = self
        self._loop = get_hub().loop
        if self._ticks:
            self._last_tick = time.thread_time()
            signal.signal(signal.SIGPROF, self._tick)
            signal.siginterrupt(signal.SIGPROF, False)      # system calls of the program go on
            signal.setitimer(signal.ITIMER_PROF, self._interval, self._interval)
        start_thread(self._run)

    def _may_take_signals(self) -> bool:
        return (self._clock is not None and _is_main() and signal.getsignal(signal.SIGPROF) == signal.SIG_DFL
                and signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0))

    def discard(self) -> None:
        """Ends the profile, if it runs, and removes its file. Called in the loop's thread."""
        self._is_discarded = True
        self.release()

    def release(self) -> None:
        """Stops the timer and gives the signal back. Called in the loop's thread; further calls have no effect."""
        if self._ticks:
            self._ticks = False
            if signal.getsignal(signal.SIGPROF) != self._tick:      # the program has taken it meanwhile, and the timer
                return
            signal.setitimer(signal.ITIMER_PROF, 0)
            # A signal that is pending would end the process. To ignore it drops what is pending.
            signal.signal(signal.SIGPROF, signal.SIG_IGN)
            signal.signal(signal.SIGPROF, signal.SIG_DFL)

    def _tick(self, _number: int, frame: Any) -> None:
        """The handler: the loop's thread has run since the last one. An exception would be the program's."""
        try:
            if _current is not self or self._is_discarded:
                self.release()
                return
            now = time.thread_time()
            profile = self.profile
            profile.add(profile.stack(frame), ran=now - self._last_tick)
            self._last_tick = now
        except Exception:
            pass

    # In the thread of its own

    def _run(self) -> None:
        global _current
        try:
            self._sample()
            if self._ticks and signal.getsignal(signal.SIGPROF) == self._tick:
                signal.setitimer(signal.ITIMER_PROF, 0)
            if self._file != -1:
                self._write()
            if not self._is_discarded:
                self.result = {**self.profile.answer(), 'method': self.method}
        finally:
            if self._file != -1 and (self._is_discarded or self.problem):
                self._remove()
            if self.result is None:
                self.result = {}
            _current = None
            try:
                self._loop.run_callback_threadsafe(self.release)
            except Exception:       # the loop has ended
                pass

    def _sample(self) -> None:
        profile = self.profile
        began = before = due = added = time.monotonic()
        ran_before = first = self._ran()
        queued = self._queued()
        waited, rests = 0.0, 1          # seconds of waits without a sample yet; intervals to the next look
        while not self._is_discarded and before - began < self._seconds:
            due = max(due + rests * self._interval, before)
            _sleep(max(0.0, min(due, began + self._seconds) - time.monotonic()))
            now, ran = time.monotonic(), self._ran()
            waited += max(0.0, now - before - (ran - ran_before))
            if self._ticks and waited < _SHORT * (now - added) and now - added < _REST:
                # It runs most of the time, which the timer samples. Each look would take the GIL from it.
                rests = max(1, min(2 * rests, int((added + _REST - now) / self._interval)))
            else:
                self._add(ran - ran_before, waited)
                rests = min(rests, 4) if waited < _SHORT * (now - added) else 1
                added, waited = now, 0.0
            before, ran_before = now, ran
            profile.seconds, profile.ran = now - began, ran - first
            if now - self.asked > _ALONE:
                self._is_discarded = True

        profile.queued = self._queued() - queued

    def _queued(self) -> float:
        """The seconds that the loop's thread has waited for a processor; 0 if unknown."""
        try:
            with open(self._queue, 'rb') as file:
                return int(file.read().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

    def _add(self, ran: float, waited: float) -> None:
        profile, stack = self.profile, self._seen()
        if self._ticks:
            profile.add(stack, waited=waited)
        elif stack == IDLE:
            profile.add(IDLE, waited=waited)
            profile.add(UNSEEN, ran=ran)
        else:
            profile.add(stack, ran, waited)

    def _seen(self) -> Stack:
        """The stack of the loop's thread."""
        frames = frames_of_thread(self._loop_thread)
        if not frames:
            return UNSEEN
        if frames[0].f_code is Hub.run.__code__:
            return IDLE
        at = next((at for at, frame in enumerate(frames) if frame.f_code is _HANDLER), -1)
        return self.profile.stack_of(frames[at + 1:])

    def _ran(self) -> float:
        return time.clock_gettime(self._clock) if self._clock is not None else 0.0

    def _write(self) -> None:
        try:
            with open(self._file, 'w', encoding='utf-8', errors='replace') as file:
                for count, piece in enumerate(self.profile.speedscope(f'boxsession, pid {self._pid}')):
                    if self._is_discarded:
                        return
                    file.write(piece)
                    if count % _WRITTEN == 0:
                        _sleep(_PAUSE)
        except OSError as error:
            self.problem = f'{self._path} cannot be written: {error.strerror}'


    def _remove(self) -> None:
        try:
            if self._file_is == _identity(os.stat(self._path, follow_symlinks=False)):
                os.unlink(self._path)
        except OSError:             # it is not there any more
            pass


_HANDLER = Sampler._tick.__code__


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _is_main() -> bool:
    return get_native_id() == os.getpid()       # not threading's: gevent patches that


def _new_file(path: str) -> int:
    if not path.startswith('/'):
        raise Refused(f'file={path}: expected an absolute path')
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Refused(f'{path} exists: name a file that does not, or remove it') from None
    except (OSError, ValueError) as error:
        raise Refused(f'{path} cannot be made: {getattr(error, "strerror", error)}') from None
