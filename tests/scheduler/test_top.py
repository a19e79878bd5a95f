"""The accounting of fiber.top(), on clocks that the test moves."""
from __future__ import annotations

import pytest

from boxsession.scheduler.top import Top

WINDOW = 0.125      # a little longer than the shortest window


class Thread:
    """A thread, its clocks, and its tasks, which have the numbers from 1 on."""

    def __init__(self):
        self.time = self.busy = 0.0
        self.living = {1, 2}
        self.top = Top(self.living, lambda: self.time, lambda: self.busy)

    def run(self, task, seconds, busy=None):
        self.top.switch(task)
        self.time += seconds
        self.busy += seconds if busy is None else busy
        self.top.switch(0)

    def work(self, seconds):
        """The thread runs no task."""
        self.time += seconds
        self.busy += seconds

    def sleep(self, seconds):
        self.time += seconds


@pytest.fixture
def thread():
    return Thread()


def shares(thread, task):
    instant, _, average = thread.top.row(task)
    return pytest.approx(instant), pytest.approx(average)


def test_before_the_first_window_has_ended_the_shares_are_those_so_far(thread):
    thread.run(1, 0.03)
    thread.run(2, 0.01)
    assert (75, 75) == shares(thread, 1)
    assert (25, 25) == shares(thread, 2)


def test_the_whole_is_what_the_thread_was_busy(thread):
    thread.run(1, 0.01)
    thread.work(0.03)
    thread.sleep(5)
    thread.run(2, 0)
    assert (25, 25) == shares(thread, 1)
    assert pytest.approx(0.04) == thread.top.whole()


def test_a_call_that_blocks_the_thread_counts(thread):
    thread.run(1, 0.09, busy=0.0)
    thread.work(0.01)
    thread.run(2, 0)
    assert (90, 90) == shares(thread, 1)


def test_instant_is_of_the_last_window_and_average_of_all(thread):
    for _ in range(100):
        thread.run(1, WINDOW)
    thread.run(2, WINDOW)
    instant, seconds, average = thread.top.row(1)
    assert (0, pytest.approx(100 * WINDOW)) == (instant, seconds)
    assert 90 < average < 95
    assert 100 == thread.top.row(2)[0]
    for _ in range(100):
        thread.run(2, WINDOW)
    assert 1 > thread.top.row(1)[2]


def test_a_task_that_rests_for_windows_has_the_average_as_if_each_had_been_counted(thread):
    thread.run(1, WINDOW)
    for _ in range(3):
        thread.run(2, WINDOW)
    part, other = (15 / 16) ** 3, 1 + 15 / 16 + (15 / 16) ** 2
    assert (0, 100 * part / (part + other)) == shares(thread, 1)
    assert (100, 100 * other / (part + other)) == shares(thread, 2)


def test_the_task_that_looks_is_charged_so_far(thread):
    thread.top.switch(1)
    thread.work(0.02)
    assert pytest.approx(0.02) == thread.top.row(1)[1]
    thread.work(0.02)
    assert pytest.approx(0.04) == thread.top.row(1)[1]


def test_what_was_forgotten_is_not_charged(thread):
    thread.top.switch(1)
    thread.sleep(10)
    thread.top.forget_running()
    thread.run(2, 0.01)
    assert (0, 0, 0) == thread.top.row(1)


def test_ended_tasks_are_forgotten(thread):
    for number in range(3, 20_000):
        thread.run(number, 0.001)
    thread.run(1, 0.001)
    thread.run(2, 0.2)
    assert len(thread.top) < 2000
    assert thread.top.row(2)[1]
