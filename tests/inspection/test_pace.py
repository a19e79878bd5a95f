"""How a long look into the program shares the event loop: inspection/pace.py with a clock of the test."""
from __future__ import annotations

import pytest

from boxsession.inspection.pace import Pace


class Time:
    """A clock that stands still but for work() and waits."""

    def __init__(self):
        self.now, self.rested = 1000.0, 0.0

    def wait(self, seconds):
        assert seconds >= 0
        self.now += seconds
        self.rested += seconds


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def pace(clock):
    return Pace(clock.wait, lambda: clock.now)


def look(pace, clock, seconds):
    """A look of this much work. Returns how long it took."""
    began = clock.now
    pace.begin()
    for _ in range(round(seconds * 1000)):
        clock.now += 0.001
        pace()
    return clock.now - began


def test_short_looks_do_not_rest(pace, clock):
    look(pace, clock, 0.003)
    assert 0 == clock.rested


def test_a_look_rests_for_less_than_it_works(pace, clock):
    taken = look(pace, clock, 0.3)
    assert 0.35 < taken < 0.45


def test_a_long_step_is_followed_by_a_longer_rest(pace, clock):
    pace.begin()
    clock.now += 0.05
    pace.rest()
    assert pytest.approx(0.015) == clock.rested


def test_looks_without_a_pause_get_a_quarter_of_the_time(pace, clock):
    began = clock.now
    for _ in range(100):
        look(pace, clock, 0.3)
    assert 0.2 < 100 * 0.3 / (clock.now - began) < 0.3


def test_looks_now_and_then_do_not_wait(pace, clock):
    for _ in range(20):
        assert look(pace, clock, 0.3) < 0.45
        clock.now += 2.0
