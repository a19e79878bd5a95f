"""Code in Python that a task runs: it may wait outside of the scheduler, and a cancel raises an exception in it."""
from __future__ import annotations

from typing import Any

from gevent import get_hub

from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.scheduler.task import Task

__all__ = ['begin_call', 'end_call', 'flush_if_waiting']


def begin_call(dispatcher: Dispatcher, task: Task) -> Any:
    """Called before a task runs code in Python. Returns what end_call() takes: the timer of its deadline, or None."""
    task.calling = True
    timer = None
    loop = get_hub().loop
    deadlines = dispatcher.deadlines
    if deadlines.seconds.get(task.limit):
        timer = loop.timer(max(0.0, deadlines.left(task)))
        timer.start(deadlines.passed, task)
    flush_if_waiting(task)
    return timer


def flush_if_waiting(task: Task) -> None:
    """Flushes the task's output as soon as the code waits. Called when there may be more of it."""
    # One pending callback is enough for all calls: one for each would pile up in a loop of short calls.
    if task.host is not None and (task.leaving is None or not task.leaving.pending):
        task.leaving = get_hub().loop.run_callback(_flush, task)


def end_call(dispatcher: Dispatcher, task: Task, timer: Any) -> None:
    """Called after the code, whether it raised an exception or not."""
    if timer is not None:
        timer.stop()
        timer.close()
    task.calling = False
    dispatcher.rejoin()


def _flush(task: Task) -> None:
    if task.calling and task.host is not None:
        task.host.switching_out()
