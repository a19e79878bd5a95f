"""Switches between tasks and the event loop: waits, time slices, deadlines and cancellation, in any language."""
from __future__ import annotations

from collections import Counter
from functools import partial

from gevent import get_hub, getcurrent
from gevent.hub import Waiter

from boxsession.base.errors import StatementCancelled
from boxsession.base.greenlets import TASK
from boxsession.scheduler.deadlines import Deadlines
from boxsession.scheduler.loop import PRIORITY, EventLoop
from boxsession.scheduler.overruns import Overruns
from boxsession.scheduler.task import StopRequest, Task, current_task, switch
from boxsession.scheduler.turns import Lane, Turns

__all__ = ['Dispatcher']


class Dispatcher:
    """The dispatcher of the calling thread's event loop.

    Args:
        hits: counts exceeded limits, by the name of the setting.

    Attributes:
        turns: the scheduler (see boxsession.scheduler.turns).
        overruns: detects operations that cannot be interrupted and take long.
        running: the task that runs now, or None. The monitor's thread reads it.
        deadlines: the time limits of tasks.
        has_ticked: whether the current statement may have used measurable time: a clock check was made, or it waited.
        began: start of the current turn.
        looked: time of the last clock check, or of the resume.
        asked: another thread asks to cancel a statement. That thread may set it to None at any time.
    """

    __slots__ = ('turns', 'overruns', 'running', 'deadlines', 'has_ticked', 'began', 'looked', 'asked', '_event_loop',
                 '_loop')

    def __init__(self, hits: Counter[str]):
        self._event_loop = EventLoop()
        self._loop = get_hub().loop
        self.turns = Turns(self._event_loop)
        self.overruns = Overruns()
        self.running: Task | None = None
        self.deadlines = Deadlines(hits, self.cancel)
        self.has_ticked = False
        self.began = self.looked = 0.0
        self.asked: StopRequest | None = None

    def close(self) -> None:
        """Begins no more turns."""
        self._event_loop.close()

    # For the monitor's thread

    def interrupt(self, busy: float) -> None:
        """Ends the current turn as soon as possible. Callable from any thread.

        `busy` is the CPU time that the loop's thread has used, in seconds; 0 if unknown.
        """
        task = self.running
        if task is not None:
            self.overruns.meet(busy)
            task.interrupt()

    # Waits

    def wait(self, task: Task, seconds: float) -> None:
        """Waits for this number of seconds or until woken. A new turn begins afterwards."""
        waiter = Waiter()
        timer = self._loop.timer(seconds, priority=PRIORITY)
        timer.start(self._end_of_wait, task, waiter)
        try:
            self.leave(task, waiter)
        finally:
            timer.stop()
            timer.close()
        self.resumed(task)

    def leave(self, task: Task, waiter: Waiter, is_woken: bool = False) -> None:
        """Switches to the event loop until the waiter is switched to. `is_woken`: that switch is already scheduled."""
        task.waiter, task.is_woken, self.running = waiter, is_woken, None
        try:
            waiter.get()
        finally:
            task.waiter = None

    def _end_of_wait(self, task: Task, waiter: Waiter) -> None:
        """In the hub: lets the task begin its next turn."""
        if task.waiter is waiter:
            account = self.turns.cancelled if task.killed else task.account
            self.turns.resume(account, partial(switch, waiter))

    def wake(self, task: Task) -> None:
        """Wakes a task if it waits. Further calls have no effect until the task has resumed."""
        if task.waiter is not None and not task.is_woken:
            task.is_woken = True
            self._loop.run_callback(self._end_of_wait, task, task.waiter)

    # Turns

    def _queue(self, task: Task, lane: Lane) -> None:
        waiter = Waiter()
        lane.push(task.account, partial(switch, waiter))
        self.leave(task, waiter)

    def take_turn(self, task: Task) -> None:
        """Preempts the task: ends its turn, and waits for its next one."""
        if task.host is not None:
            task.host.switching_out()
        self._preempt(task)

    def _preempt(self, task: Task) -> None:
        self._queue(task, self.turns.preempted(task.account, self.began))
        self.resumed(task)
        task.account.preempted_at = self.began

    def yield_turn(self, task: Task) -> None:
        """Lets other tasks run. The turn continues afterwards: so a task that only yields is preempted like any other."""
        began = self.began
        if self.turns.is_over(began):
            self._preempt(task)
        else:
            self._queue(task, self.turns.short)
            self.resumed(task)
            self.began += began - self.looked

    def rejoin(self) -> None:
        """Queues the calling task again if it has waited outside of the scheduler, as exposed functions do."""
        task = current_task()
        if task is not None and not self.turns.is_running:
            self._queue(task, self.turns.short)
            self.resumed(task)

    def resumed(self, task: Task) -> None:
        """Called when the scheduler has resumed the task."""
        self.running = task
        task.resumed()
        self.begin_turn()
        self.has_ticked = True

    def begin_turn(self) -> float:
        """The scheduler has resumed the calling greenlet, outside of a statement. Returns the start of the turn."""
        self.began = self.looked = self.overruns.last = began = self.turns.began
        self.has_ticked = False
        return began

    def turn_is_over(self) -> bool:
        """Whether the current turn has used its slice. Clears `has_ticked`."""
        self.has_ticked = False
        return self.turns.is_over(self.began)

    def pause(self) -> None:
        """Preempts the calling task if its slice is used.

        Raises:
            StatementCancelled: the running statement was cancelled meanwhile.
        """
        task = getattr(getcurrent(), TASK)
        if self.turns.is_over(self.began):
            self.take_turn(task)
        if task.killed:
            raise StatementCancelled

    def pause_call(self) -> None:
        """Like pause(), after code that may have waited outside of the scheduler."""
        self.rejoin()
        self.pause()

    def let_others_in(self) -> None:
        """Like pause(), after a statement: it is too late to cancel that."""
        if self.turns.is_over(self.began):
            self.take_turn(getattr(getcurrent(), TASK))

    # Statements

    def begin(self, task: Task) -> None:
        """Resets the task's state before a statement. Not needed if the task is clean."""
        # If the session was ended while it waited between two statements, it must not run the next one.
        task.killed = task.host is not None and task.host.is_over
        task.deadline, task.is_clean = 0.0, not task.killed

    def cancel(self, task: Task, reason: str = '', ending: str = 'cancelled') -> None:
        """Cancels the task's statement. Callable from any greenlet and from the hub.

        `reason` is the text of its error ('' for the default one), `ending` the kind: 'cancelled' or 'timeout'.
        """
        task.mark_killed(reason, ending)
        if task.waiter is not None:
            self.wake(task)
        elif task.calling:
            self._loop.run_callback(_interrupt_call, task)

    def park(self, task: Task, seconds: float) -> bool:
        """Waits for this number of seconds, 0 for a yield. False if the task was cancelled before or meanwhile."""
        deadlines = self.deadlines
        if task.host is not None:
            task.host.switching_out()       # may find that the client has left, and cancel
        if task.killed:
            return False
        if seconds <= 0:
            self.yield_turn(task)
        else:
            left = deadlines.left(task) if deadlines.seconds.get(task.limit) else seconds
            self.wait(task, min(seconds, left))
            if left < seconds and not task.is_woken and not task.killed:
                # The deadline ended the wait. The timer may fire early, because the loop's time lags behind: then check()
                # below would not find it.
                deadlines.passed(task)
        if deadlines.seconds.get(task.limit):
            deadlines.check(task)
        return not task.killed


def _interrupt_call(task: Task) -> None:
    if task.calling and task.killed:
        task.greenlet.throw(StatementCancelled)
