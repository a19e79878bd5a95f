"""Time limits of tasks."""
from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from boxsession.scheduler.task import TRIGGERS, Task

__all__ = ['Deadlines']


class Deadlines:
    """The deadlines of one console's tasks.

    Args:
        hits: counts exceeded limits, by the name of the setting.
        cancel: called as cancel(task, reason, ending).

    Attributes:
        seconds: the time limits in seconds, by the name of the setting; 0 for no limit.
    """

    __slots__ = ('seconds', '_hits', '_cancel')

    def __init__(self, hits: Counter[str], cancel: Callable[[Task, str, str], None]):
        self.seconds: dict[str, float] = {}
        self._hits = hits
        self._cancel = cancel

    def left(self, task: Task) -> float:
        """The seconds left until the deadline of a task that has a limit. The first call starts its time."""
        now = time.monotonic()
        if not task.deadline:
            task.deadline, task.is_clean = now + self.seconds[task.limit], False
        return task.deadline - now

    def check(self, task: Task) -> None:
        """Cancels a task that has a limit if its deadline has passed."""
        if not task.killed and self.left(task) <= 0:
            self.passed(task)

    def passed(self, task: Task, cancel: Callable[[Task, str, str], None] | None = None) -> None:
        """Cancels a task whose deadline has passed. A signal handler, which cannot wake greenlets, passes its `cancel`."""
        what = 'trigger' if task.limit == TRIGGERS else 'statement'
        self._hits[task.limit] += not task.killed
        reason = f'the {what} was stopped: it ran for {self.seconds[task.limit]:g} seconds ({task.limit})'
        (cancel or self._cancel)(task, reason, 'timeout')
