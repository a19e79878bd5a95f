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
    return Pace(clock.wait, clock=lambda: clock.now)


def look(pace, clock, seconds):
    """A look of this much work. Returns how long it took."""
    began = clock.now
    with pace:
        for _ in range(round(seconds * 1000)):
            clock.now += 0.001
            pace()
    return clock.now - began


def test_short_looks_do_not_rest(pace, clock):
    look(pace, clock, 0.003)
    assert 0 == clock.rested


def test_a_look_rests_for_less_than_it_works(pace, clock):
    taken = look(pace, clock, 0.3)
    assert 0.33 < taken < 0.4


def test_a_long_step_is_followed_by_a_longer_rest(pace, clock):
    with pace:
        clock.now += 0.05
        pace.rest()
    assert pytest.approx(0.01) == clock.rested


def test_looks_without_a_pause_get_a_quarter_of_the_time(pace, clock):
    began = clock.now
    for _ in range(100):
        look(pace, clock, 0.3)
    assert 0.2 < 100 * 0.3 / (clock.now - began) < 0.3


def test_looks_now_and_then_do_not_wait(pace, clock):
    for _ in range(20):
        assert look(pace, clock, 0.3) < 0.45
        clock.now += 2.0


def test_one_look_at_a_time(clock):
    class Lock:
        held = 0

        def __enter__(self):
            self.held += 1

        def __exit__(self, *raised):
            self.held -= 1

    def wait(seconds):
        waits.append(lock.held)
        if len(waits) > 1:
            raise KeyError
    lock, waits = Lock(), []
    pace = Pace(wait, lock, lambda: clock.now)
    with pace:
        assert 1 == lock.held
    with pytest.raises(KeyError), pace:         # cancelled while it waits to begin
        raise AssertionError('it began')
    assert ([1, 1], 0) == (waits, lock.held)
