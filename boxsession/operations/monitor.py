"""Watches the event loop from a second thread: reports what blocks the loop, and interrupts a turn that is too long."""
from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from gevent import get_hub, monkey
from gevent.hub import Hub

from boxsession.base.histogram import Histogram
from boxsession.base.own_threads import start_thread
from boxsession.base.stacks import frames_of_thread
from boxsession.scheduler.loop import PRIORITY
from boxsession.scheduler.turns import Turns

__all__ = ['Hold', 'Monitor']

log = logging.getLogger('boxsession')

# The interval of the loop's beats, and how late a beat may be before the loop counts as blocked, in seconds.
_BEAT_SECONDS, _HELD_SECONDS = 0.1, 0.25
# How often the thread looks while turns run: a turn that it finds twice is too long, and is interrupted. How long it keeps
# looking that often after a long operation.
_TURN_SECONDS, _ALERT_SECONDS = 0.004, 5.0

# Functions that may wait for the loop.
_POSTED = 10_000
# How long after the start the loop may not have run at all before the log says what to do, in seconds.
_START_SECONDS = 5.0
_NEVER_RAN = ('the console answers nobody: the gevent loop of the thread that started it has not run for %.0f s, since '
              'Console.start()%s. If no gevent loop runs there, pass thread=True to Console. If workers are forked, start '
              'the console in each worker. docs/embedding.rst has examples')
# The program's stack: at most this number of calls.
_CALLS_SHOWN = 10
# Holds that are kept, and beats whose lags are kept: a minute.
_HOLDS, _LAGS = 20, 600
_PACKAGE = str(Path(__file__).parent.parent) + '/'

# The original functions, even in a program that gevent has monkey-patched.
_thread_id = monkey.get_original('_thread', 'get_ident')
_native_id = monkey.get_original('_thread', 'get_native_id')
_sleep = monkey.get_original('time', 'sleep')


@dataclass(slots=True)
class Hold:
    """A time in which the event loop was blocked.

    Attributes:
        at: when it began, by time.time().
        beat_at: the last beat before it, by time.monotonic().
        seconds: how long, as far as it is known.
        by: the session and its statement, or the program, in words.
        stack: the calls of the program's code when it was found out, the innermost first.
    """

    at: float
    beat_at: float
    seconds: float
    by: str
    stack: list[str]


class Monitor:
    """Watches the calling thread's event loop.

    Args:
        who: describes what runs now, in words. Called in the monitor's thread, so it must only read.
        lag: records how late each beat of the loop was.
        turns: the scheduler. The monitor only reads it, but for `certain`.
        interrupt: ends the current turn as soon as possible. Called in the monitor's thread, with the processor time of the
            loop's thread in seconds (0 if unknown).

    Attributes:
        lag: the same histogram.
        worst: the longest lag.
        beat_at: the last time when the loop ran (time.monotonic()).
        thread: the identifier of the loop's thread.
    """

    def __init__(self, who: Callable[[], str], lag: Histogram, turns: Turns, interrupt: Callable[[float], None]):
        self._who = who
        self.lag = lag
        self.worst = 0.0
        self._lags: deque[float] = deque(maxlen=_LAGS)
        self._holds: deque[Hold] = deque(maxlen=_HOLDS)
        self._turns = turns
        self._interrupt = interrupt
        self.beat_at = time.monotonic()
        self._has_run = False               # the loop, since start()
        self._stopped = False
        self._timer: Any = None
        self._posted: deque[Callable[[], None]] = deque()      # what other threads want to be called in the loop
        self._clock: int | None = None      # clock of the processor time of the loop's thread
        self.thread = self.native_thread = 0    # the loop's thread, and its native id

    def start(self) -> None:
        self.thread, self.native_thread = _thread_id(), _native_id()
        try:
            self._clock = time.pthread_getcpuclockid(self.thread)
        except (AttributeError, OSError):       # this system has no such clock
            self._clock = None
        self.beat_at = time.monotonic()
        self._timer = get_hub().loop.timer(_BEAT_SECONDS, _BEAT_SECONDS, ref=False, priority=PRIORITY)
        self._timer.start(self._beat)
        start_thread(self._watch)

    def stop(self) -> None:
        """Stops watching. The thread ends at its next look."""
        self._stopped = True
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        self._call_posted()

    def post(self, function: Callable[[], None]) -> None:
        """Lets the loop call a function at its next beat, or in stop(). Callable from any thread: takes no lock.
        If the loop is held and too many wait already, it is dropped."""
        if len(self._posted) < _POSTED:
            self._posted.append(function)

    def forget_posted(self) -> None:
        """In a forked child: calls none of the posted functions."""
        self._posted.clear()

    def _call_posted(self):
        while self._posted:
            self._posted.popleft()()

    def lags(self) -> list[float]:
        """The lags of the last minute, in seconds."""
        return list(self._lags)

    def holds(self) -> list[Hold]:
        """The last times in which the loop was blocked, the latest first."""
        return list(self._holds)[::-1]

    def _processor_seconds(self):
        return time.clock_gettime(self._clock) if self._clock is not None else 0.0

    def _beat(self):
        self._has_run = True
        now = time.monotonic()
        lag = max(0.0, now - self.beat_at - _BEAT_SECONDS)
        self.lag.observe(lag)
        self._lags.append(lag)
        self.worst = max(self.worst, lag)
        if lag > _HELD_SECONDS and self._holds and self._holds[-1].beat_at == self.beat_at:
            self._holds[-1].seconds = lag
        self.beat_at = now
        if self._posted:
            self._call_posted()

    def _watch(self):
        turns = self._turns
        seen = 0.0          # when the turn of the last look began
        was_busy = 0.0      # the processor time of the loop's thread at the last look
        told = None         # the last beat before a stall that was logged and has not ended; else None
        while not self._stopped:
            began, busy = turns.began, self._processor_seconds()
            if turns.is_running and began == seen:
                if busy - was_busy > _TURN_SECONDS / 2:
                    turns.certain = began           # the turn itself used the time, not another process of the machine
                self._interrupt(busy)
            is_idle, seen, was_busy = began == seen and not turns.is_running, began, busy
            is_alert = not is_idle or time.monotonic() < turns.long_due + _ALERT_SECONDS
            _sleep(_TURN_SECONDS if is_alert else _BEAT_SECONDS)
            beat_at = self.beat_at
            held = time.monotonic() - beat_at
            if not self._has_run and held > _START_SECONDS and not self._stopped:
                self._has_run = True            # told once
                calls = _calls_of_program(frames_of_thread(self.thread))
                log.error(_NEVER_RAN, held, _as_text(calls))
            if told is not None and beat_at != told:
                log.warning('the event loop runs again: it was held for about %.1f s', beat_at - told)
                told = None
            if held > _BEAT_SECONDS + _HELD_SECONDS and told is None and not self._stopped:
                told = beat_at
                self._note(beat_at, held)

    def _note(self, beat_at, held):
        """Logs and keeps who blocks the loop."""
        by, calls = self._who(), _calls_of_program(frames_of_thread(self.thread))
        self._holds.append(Hold(time.time() - held, beat_at, held - _BEAT_SECONDS, by, calls))
        log.warning('the event loop is held, for %.1f s so far, by %s%s', held, by, _as_text(calls))


def _as_text(calls: list[str]) -> str:
    return f': {", called from ".join(calls)}' if calls else ''


def _calls_of_program(frames: list[FrameType]) -> list[str]:
    """Where the program's code is now: its calls, the innermost first; none if our own code or Lua runs. No arguments and
    no locals: they may be secrets."""
    calls: list[str] = []
    if frames and frames[0].f_code is Hub.run.__code__:     # no code of Python: the system lets the thread wait
        return calls
    for frame in frames:
        if frame.f_code.co_filename.startswith(_PACKAGE):
            break
        if len(calls) == _CALLS_SHOWN:
            calls.append('...')
            break
        calls.append(f'{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}')
    return calls
