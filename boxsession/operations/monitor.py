"""Sees, in a thread of its own, what a loop that is held cannot: who holds it for long, and which turn is overdue."""
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from gevent import get_hub, monkey

from boxsession.base.histogram import Histogram
from boxsession.scheduler.loop import PRIORITY
from boxsession.scheduler.turns import Turns

__all__ = ['Monitor']

log = logging.getLogger('boxsession')

# How often the loop shows that it turns, and after how long without that it is held.
_BEAT_SECONDS, _HELD_SECONDS = 0.1, 0.25
# How often turns are looked at while there are any: one that is met twice is overdue. For how long they are
# looked for when one was long.
_TURN_SECONDS, _ALERT_SECONDS = 0.004, 5.0

# Real ones, also in a program that is patched.
_start_thread = monkey.get_original('_thread', 'start_new_thread')
_thread_id = monkey.get_original('_thread', 'get_ident')
_sleep = monkey.get_original('time', 'sleep')


class Monitor:
    """Watches the calling thread's event loop.

    Args:
        who: says in words what runs now; called in the monitor's thread, so it only reads.
        lag: gets how late the loop was, each tenth of a second.
        turns: what runs on the loop, in turns; only read.
        interrupt: ends the turn that runs now as soon as that can be; called in the monitor's thread, with the processor's
            time that the loop's thread has used, in seconds.
    """

    def __init__(self, who: Callable[[], str], lag: Histogram, turns: Turns, interrupt: Callable[[float], None]):
        self._who = who
        self._lag = lag
        self._turns = turns
        self._interrupt = interrupt
        self._beat_at = time.monotonic()
        self._stopped = False
        self._timer: Any = None
        self._clock: int | None = None      # of the processor's time that the loop's thread uses

    def start(self) -> None:
        try:
            self._clock = time.pthread_getcpuclockid(_thread_id())
        except (AttributeError, OSError):       # not on this system
            self._clock = None
        self._beat_at = time.monotonic()
        self._timer = get_hub().loop.timer(_BEAT_SECONDS, _BEAT_SECONDS, ref=False, priority=PRIORITY)
        self._timer.start(self._beat)
        _start_thread(self._watch, ())

    def stop(self) -> None:
        """The thread ends soon after."""
        self._stopped = True
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _processor_seconds(self):
        return time.clock_gettime(self._clock) if self._clock is not None else 0.0

    def _beat(self):
        now = time.monotonic()
        self._lag.observe(max(0.0, now - self._beat_at - _BEAT_SECONDS))
        self._beat_at = now

    def _watch(self):
        turns = self._turns
        seen = 0.0          # when the turn began that was met last
        was_busy = 0.0      # how much of the processor's time the loop had used then
        told = None         # the beat behind which the loop was found held
        while not self._stopped:
            began, busy = turns.began, self._processor_seconds()
            if turns.is_running and began == seen:
                if busy - was_busy > _TURN_SECONDS / 2:
                    turns.certain = began           # no other process of the machine has made it long
                self._interrupt(busy)
            is_idle, seen, was_busy = began == seen and not turns.is_running, began, busy
            is_alert = not is_idle or time.monotonic() < turns.long_due + _ALERT_SECONDS
            _sleep(_TURN_SECONDS if is_alert else _BEAT_SECONDS)
            beat_at = self._beat_at
            held = time.monotonic() - beat_at
            if told is not None and beat_at != told:
                log.warning('the event loop turns again: it was held for about %.1f s', beat_at - told)
                told = None
            if held > _BEAT_SECONDS + _HELD_SECONDS and told is None and not self._stopped:
                told = beat_at
                log.warning('the event loop is held, for %.1f s so far, by %s', held, self._who())
