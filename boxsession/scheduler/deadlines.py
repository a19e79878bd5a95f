"""For how long tasks may run."""
from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from boxsession.scheduler.task import TRIGGERS, Task

__all__ = ['Deadlines']


class Deadlines:
    """The deadlines of one console's tasks.

    Args:
        hits: where it is counted how often a limit was met, by the name of its setting.
        cancel: called as cancel(task, reason, ending).

    Attributes:
        seconds: how long tasks may run, by the name of the setting; 0 for ever.
    """

    __slots__ = ('seconds', '_hits', '_cancel')

    def __init__(self, hits: Counter[str], cancel: Callable[[Task, str, str], None]):
        self.seconds: dict[str, float] = {}
        self._hits = hits
        self._cancel = cancel

    def left(self, task: Task) -> float:
        """The seconds until a task, which has a limit, has run for as long as it may. Its time begins when this is first
        asked."""
        now = time.monotonic()
        if not task.deadline:
            task.deadline, task.is_clean = now + self.seconds[task.limit], False
        return task.deadline - now

    def check(self, task: Task) -> None:
        """Cancels a task, which has a limit, if it has run for longer than it may."""
        if not task.killed and self.left(task) <= 0:
            self.passed(task)

    def passed(self, task: Task) -> None:
        """Cancels a task, which has run for longer than it may."""
        what = 'trigger' if task.limit == TRIGGERS else 'statement'
        self._hits[task.limit] += 1
        self._cancel(task, f'the {what} was stopped: it ran for {self.seconds[task.limit]:g} seconds ({task.limit})',
                     'timeout')
