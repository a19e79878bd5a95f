"""The ids and ages of greenlets: inspection/register.py."""
from __future__ import annotations

import time

import pytest
from greenlet import greenlet

from boxsession.inspection.register import Kept, Register


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    return now


def test_an_address_that_is_used_again_gets_another_id():
    register = Register()
    register.begin()
    numbers = [register.number(greenlet()) for _ in range(5)]       # each is freed at once
    assert [1, 2, 3, 4, 5] == numbers and register.get(1) is None


def test_ages_begin_with_the_look(clock):
    register, kept = Register(), [greenlet() for _ in range(3)]
    for at, one in enumerate(kept):
        clock[0] = at * 10.0
        register.begin()
        assert at + 1 == register.number(one)
    clock[0] = 25.0
    register.begin()        # nothing is new
    assert [25.0, 15.0, 5.0] == [register.age(number) for number in (1, 2, 3)]


def test_very_many_looks_keep_rough_ages(clock):
    register, kept = Register(), []
    for at in range(10_000):
        clock[0] = float(at)
        register.begin()
        kept.append(greenlet())
        register.number(kept[-1])
    assert len(register._firsts) <= 2000
    for number in (1, 100, 5000, 10_000):
        true = 10_000 - number
        assert true <= register.age(number) <= true + 600


def test_those_that_have_ended_are_forgotten():
    register, kept = Register(), [greenlet() for _ in range(10)]
    register.begin()
    numbers = {id(one): register.number(one) for one in kept}
    register.living = 10
    assert not register.has_to_forget()
    ended = [greenlet() for _ in range(2000)]
    for one in ended:
        register.number(one)
    del ended, one
    assert register.has_to_forget()
    register.keep(Kept(numbers, {number: register.seen[number] for number in numbers.values()}))
    assert [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] == [register.number(one) for one in kept] and not register.has_to_forget()
    assert 2011 == register.number(greenlet())
