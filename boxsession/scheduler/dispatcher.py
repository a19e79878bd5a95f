"""Switches between tasks and the event loop: waits, time slices, deadlines and cancellation, in whatever language."""
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
from boxsession.scheduler.task import Task, current_task, switch
from boxsession.scheduler.turns import Lane, Turns

__all__ = ['Dispatcher']


class Dispatcher:
    """The dispatcher of the calling thread's event loop.

    Args:
        hits: where it is counted how often a limit was met, by the name of its setting.

    Attributes:
        turns: says when which session's tasks run (see boxsession.scheduler.turns).
        overruns: finds operations that cannot be interrupted and take long.
        running: the task that runs now; read by the monitor's thread.
        deadlines: how long tasks may run.
        has_ticked: whether the clock was looked at since the last statement of a batch began.
        began: when the turn that runs now began.
        looked: when the clock was last looked at in it.
    """

    __slots__ = ('turns', 'overruns', 'running', 'deadlines', 'has_ticked', 'began', 'looked', '_event_loop', '_loop')

    def __init__(self, hits: Counter[str]):
        self._event_loop = EventLoop()
        self._loop = get_hub().loop
        self.turns = Turns(self._event_loop)
        self.overruns = Overruns()
        self.running: Task | None = None
        self.deadlines = Deadlines(hits, self.cancel)
        self.has_ticked = False
        self.began = self.looked = 0.0

    def close(self) -> None:
        """Nobody gets a turn any more."""
        self._event_loop.close()

    # For the monitor's thread

    def who_runs(self) -> str:
        """What runs now, in words."""
        task = self.running
        return 'the program around the console' if task is None else task.described()

    def interrupt(self, busy: float) -> None:
        """Ends the turn that runs now as soon as it can be ended, in whatever thread this is called.

        `busy` is the processor's time that the loop's thread has used, in seconds; 0 where that is not known.
        """
        task = self.running
        if task is not None:
            self.overruns.meet(busy)
            task.interrupt()

    # Waits

    def wait(self, task: Task, seconds: float) -> None:
        """Waits; then a new turn begins."""
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
        """Switches to the event loop, until the waiter is switched to; `is_woken` where that is under way already."""
        task.waiter, task.is_woken, self.running = waiter, is_woken, None
        try:
            waiter.get()
        finally:
            task.waiter = None

    def _end_of_wait(self, task: Task, waiter: Waiter) -> None:
        """Called by the event loop: the task can go on."""
        if task.waiter is waiter:
            account = self.turns.cancelled if task.killed else task.account
            self.turns.resume(account, partial(switch, waiter))

    def wake(self, task: Task) -> None:
        """Wakes a task, if it waits; once, however often it is called before the loop comes to it."""
        if task.waiter is not None and not task.is_woken:
            task.is_woken = True
            self._loop.run_callback(self._end_of_wait, task, task.waiter)

    # Turns

    def _queue(self, task: Task, lane: Lane) -> None:
        waiter = Waiter()
        lane.push(task.account, partial(switch, waiter))
        self.leave(task, waiter)

    def take_turn(self, task: Task) -> None:
        """Ends the task's turn, and waits for its next one as a preempted task."""
        if task.host is not None:
            task.host.switching_out()
        self._preempt(task)

    def _preempt(self, task: Task) -> None:
        self._queue(task, self.turns.preempted(task.account, self.began))
        self.resumed(task)
        task.account.preempted_at = self.began

    def yield_turn(self, task: Task) -> None:
        """Lets others run. The turn goes on behind that: a task that only yields is preempted like others."""
        began = self.began
        if self.turns.is_over(began):
            self._preempt(task)
        else:
            self._queue(task, self.turns.short)
            self.resumed(task)
            self.began += began - self.looked

    def rejoin(self) -> None:
        """The calling task has waited for something that the scheduler does not know of: it comes back by the queue."""
        task = current_task()
        if task is not None and not self.turns.is_running:
            self._queue(task, self.turns.short)
            self.resumed(task)

    def resumed(self, task: Task) -> None:
        """The scheduler has resumed the task."""
        self.running = task
        task.resumed()
        self.begin_turn()
        self.has_ticked = True

    def begin_turn(self) -> float:
        """The scheduler has resumed the calling greenlet, which is not inside a statement. Gives when that was."""
        self.began = self.looked = self.overruns.last = began = self.turns.began
        self.has_ticked = False
        return began

    def turn_is_over(self) -> bool:
        """Whether the turn that runs now has used its slice."""
        self.has_ticked = False
        return self.turns.is_over(self.began)

    def pause(self) -> None:
        """Lets the others in, when the calling task has run long enough.

        Raises:
            StatementCancelled: what runs now was cancelled meanwhile.
        """
        task = getattr(getcurrent(), TASK)
        if self.turns.is_over(self.began):
            self.take_turn(task)
        if task.killed:
            raise StatementCancelled

    def pause_call(self) -> None:
        """The same behind what may have waited for something that the scheduler does not know of."""
        self.rejoin()
        self.pause()

    def let_others_in(self) -> None:
        """The same behind a statement, whose cancellation comes too late."""
        if self.turns.is_over(self.began):
            self.take_turn(getattr(getcurrent(), TASK))

    # Statements

    def begin(self, task: Task) -> None:
        """Before a statement, unless the task is clean: makes it so."""
        # A session that was ended while it waited between two statements runs no other one.
        task.killed = task.host is not None and task.host.is_over
        task.deadline, task.is_clean = 0.0, not task.killed

    def cancel(self, task: Task, reason: str = '', ending: str = 'cancelled') -> None:
        """Ends what the task runs, as soon as it can be ended. Callable from any greenlet and from the hub."""
        if not task.killed:
            task.reason, task.ending = reason, ending
        task.killed, task.is_clean = True, False
        if task.waiter is not None:
            self.wake(task)
        elif task.calling:
            self._loop.run_callback(_interrupt_call, task)

    def park(self, task: Task, seconds: float) -> bool:
        """Waits; True unless the task was cancelled before or meanwhile."""
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
                # A timer may come early, by as much as the loop's time is late: that is no reason to go on.
                deadlines.passed(task)
        if deadlines.seconds.get(task.limit):
            deadlines.check(task)
        return not task.killed


def _interrupt_call(task: Task) -> None:
    if task.calling and task.killed:
        task.greenlet.throw(StatementCancelled)
