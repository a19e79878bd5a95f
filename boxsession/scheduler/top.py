"""Accounts for the loop's time by task, for fiber.top(). Pure. It exists only while a user has it enabled.

Shares are those of a window, not of one iteration of the loop: a window ends at the first switch after 100 ms. A task is
charged with the time of the clock, since a call that blocks the thread holds the loop without using the CPU. For all else
that the thread does, its CPU time is taken: so the time that the loop sleeps does not count, as in Tarantool. The whole is
the sum of both.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Collection

__all__ = ['Top']

# Least length of a window, in seconds; weight of all windows before the last one in the moving average.
_WINDOW, _KEPT = 0.1, 15 / 16
# Ended tasks are forgotten when there are more of them than live ones, and than this.
_ENDED = 1000


class _Use:
    """What one task used, or all together, in seconds."""

    __slots__ = ('total', 'spent', 'last', 'average', 'window')

    def __init__(self, window: int):
        self.total = 0.0
        self.spent = 0.0        # in the window of this number
        self.last = 0.0         # in the window before
        self.average = 0.0      # moving average of the windows before
        self.window = window

    def spend(self, seconds: float) -> None:
        """Adds to the time in this window."""
        self.spent += seconds
        self.total += seconds

    def move_to(self, window: int) -> None:
        """Ends the windows before this one. Called when the task runs or is shown, not for each task in each window."""
        ended = window - self.window
        if ended:
            self.last = self.spent if ended == 1 else 0.0
            self.average = (self.average * _KEPT + self.spent * (1 - _KEPT)) * _KEPT ** (ended - 1)
            self.spent, self.window = 0.0, window


class Top:
    """The loop's time by task.

    Args:
        living: the ids of all live tasks.
        now: a monotonic clock, in seconds.
        processor_time: CPU time of the loop's thread, in seconds.
    """

    def __init__(self, living: Collection[int], now: Callable[[], float] = time.monotonic,
                 processor_time: Callable[[], float] = time.thread_time):
        self._living = living
        self._now = now
        self._processor_time = processor_time
        self._uses: dict[int, _Use] = {}
        self._whole = _Use(0)           # all that the thread did
        self._id = 0                    # of the task that runs; 0: none
        # At the last switch; `_began`: at the start of the window.
        self._since = self._began = now()
        self._busy = processor_time()

    def switch(self, task_id: int) -> None:
        """From now on this task runs; 0: none."""
        if task_id == self._id:
            return
        now, busy = self._now(), self._processor_time()
        if self._id:
            self._charge(self._id, now - self._since)
        else:
            self._whole.spend(busy - self._busy)
        self._id, self._since, self._busy = task_id, now, busy
        if now - self._began >= _WINDOW:
            self._began = now
            self._end_window()

    def forget_running(self) -> None:
        """No task runs, and it is not known since when."""
        self._id = 0

    def whole(self) -> float:
        """The time of all tasks and of all else that the thread did, in seconds."""
        self._look()
        return self._whole.total

    def row(self, task_id: int) -> tuple[float, float, float]:
        """A task's share of the last window in percent, its time in seconds, and its average share in percent."""
        self._look()
        use, whole = self._uses.get(task_id), self._whole
        if use is None:
            return 0.0, 0.0, 0.0
        use.move_to(whole.window)
        if not whole.window:            # no window has ended yet
            share = _percent(use.spent, whole.spent)
            return share, use.total, share
        return _percent(use.last, whole.last), use.total, _percent(use.average, whole.average)

    def __len__(self) -> int:
        return len(self._uses)

    def _look(self) -> None:
        """Charges the running task up to now."""
        running = self._id
        if running:
            self.switch(0)
            self.switch(running)

    def _charge(self, task_id: int, seconds: float) -> None:
        use = self._uses.get(task_id)
        if use is None:
            use = self._uses[task_id] = _Use(self._whole.window)
        else:
            use.move_to(self._whole.window)
        use.spend(seconds)
        self._whole.spend(seconds)

    def _end_window(self) -> None:
        self._whole.move_to(self._whole.window + 1)
        if len(self._uses) > 2 * len(self._living) + _ENDED:
            self._uses = {task_id: use for task_id, use in self._uses.items() if task_id in self._living}


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole > 0 else 0.0
