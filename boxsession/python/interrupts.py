"""Ends statements in Python that hold the event loop: in functions of the program, or in C that looks at signals.

While statements run, an alarm interrupts the main thread from time to time. If a statement's code runs then, this looks
whether its client has sent an interrupt or has left, without reading the input, and whether its time is over. How the
statement ends is the same as for rescue listeners: see inspection/stopper.py.
"""
from __future__ import annotations

from typing import Any

from boxsession.inspection.stopper import SIGNAL, Stopper, entries, is_run_by, may_raise
from boxsession.python.alarm import Alarm
from boxsession.python.clock import Clock
from boxsession.python.compiler import Statement, described
from boxsession.scheduler.deadlines import Deadlines
from boxsession.scheduler.task import Task

__all__ = ['Interrupts']

# How often it looks in seconds: while the code of a statement runs; while all of them wait; while a statement runs code
# that must not be left halfway.
_RUNNING, _WAITING, _AGAIN = 0.025, 0.1, 0.005

# Both let StatementCancelled pass.
entries.update((Statement.run.__code__, described.__code__))


class Interrupts:
    """Interrupts the statements in Python of one console."""

    __slots__ = ('_stopper', '_deadlines', '_clock', '_alarm', '_running')

    def __init__(self, stopper: Stopper, deadlines: Deadlines, clock: Clock):
        self._stopper = stopper
        self._deadlines = deadlines
        self._clock = clock
        self._alarm = Alarm(SIGNAL)
        self._running: dict[Task, None] = {}        # the tasks with statements that run or wait

    def start(self) -> None:
        """One more session uses Python."""
        self._stopper.arm()
        self._stopper.watch = self

    def stop(self) -> None:
        """One session less uses Python."""
        if self._stopper.disarm():
            self._alarm.close()

    def give_up(self) -> None:
        """In a forked child: interrupts nothing any more."""
        self._running.clear()
        self._alarm.forget()

    def begin(self, task: Task) -> None:
        """A statement begins, at `task.began`. The alarm is set unless it is: so a short statement pays nothing."""
        self._running[task] = None
        if task.began > self._alarm.late and self._stopper.can_signal:
            self._alarm.set(_RUNNING)

    def end(self, task: Task) -> None:
        """A statement has ended. What was seen of its client's input must not cancel the next one."""
        self._running.pop(task, None)
        if task.killed and task.host is not None:
            task.host.catch_up()

    # For the stopper, in its signal handler

    def is_due(self) -> bool:
        """Whether the signal can be the alarm's."""
        return self._alarm.has_expired()

    def look(self, greenlet: Any, frame: Any) -> Task | None:
        """Finds the statement that the greenlet runs, if it is to end. Its task is marked then."""
        if not self._running:
            return None
        seconds, found = _WAITING, None
        for task in self._running:
            if is_run_by(task, greenlet):
                # Our own code may be halfway through a change: nothing is looked at then.
                if may_raise(frame):
                    seconds = _RUNNING
                    self._ask(task)
                else:
                    seconds = _AGAIN
                if task.killed:
                    found = task
                    self._clock.ring()
        self._alarm.set(seconds)
        return found

    def _ask(self, task: Task) -> None:
        if task.killed:
            return
        if task.host is not None and task.host.wants_end():
            task.mark_killed('')
        elif self._deadlines.seconds.get(task.limit) and self._deadlines.left(task) <= 0:
            self._deadlines.passed(task, Task.mark_killed)
