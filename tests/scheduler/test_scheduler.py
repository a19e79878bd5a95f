"""The scheduler on a simulated clock: its guarantees hold for any mix of tasks."""
from __future__ import annotations

import heapq
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from boxsession.scheduler.turns import Account, Turns

SLICE, SHARE = 0.002, 0.25
OVERHEAD = 0.00002      # of one iteration of the loop


class SimulatedTimer:
    def __init__(self, loop, callback):
        self.loop, self.callback = loop, callback

    def start(self, seconds):
        self.loop.started.append((self.loop.time + seconds, next(self.loop.order), self.callback))


class SimulatedLoop:
    """A loop whose clock only its tasks move. `program(now)` is the program's work: it gives how long its next event takes,
    or None where there is none yet."""

    def __init__(self, program=lambda now: None):
        self.time = 0.0
        self.order = count()
        self.started, self.timers = [], []
        self.program = program
        self.program_used = 0.0
        self.had_events = self.watching = False
        self.longest_iteration = 0.0        # of the console, in one iteration

    def now(self):
        return self.time

    processor_time = now

    def timer(self, callback):
        return SimulatedTimer(self, callback)

    def watch(self, on):
        self.watching = on

    def had_other_events(self):
        had, self.had_events = self.had_events, False
        return had

    def spend(self, seconds):
        self.time += seconds

    def run(self, seconds):
        end = self.time + seconds
        while self.time < end:
            self.time += OVERHEAD
            for timer in self.started:
                heapq.heappush(self.timers, timer)
            self.started.clear()
            work = self.program(self.time)
            if work is not None:
                self.spend(work)
                self.program_used += work
                self.had_events |= self.watching
            began = self.time
            due = []
            while self.timers and self.timers[0][0] <= self.time:
                due.append(heapq.heappop(self.timers))
            for _, _, callback in due:
                callback()
            self.longest_iteration = max(self.longest_iteration, self.time - began)


class Spinner:
    """A task that never waits: it is preempted after each slice, which it may overrun."""

    def __init__(self, loop, turns, account, overrun=0.0):
        self.loop, self.turns, self.account = loop, turns, account
        self.length = SLICE + overrun
        self.used = 0.0
        turns.short.push(account, self.run)

    def run(self):
        self.loop.spend(self.length)
        self.used += self.length
        self.turns.long.push(self.account, self.run)


def busy(now):
    """A program that always has something to do."""
    return 0.0003


overruns = st.sampled_from([0.0, 0.0, 0.0001, 0.005, 0.04])
short_overruns = st.sampled_from([0.0, 0.0, 0.0001, 0.0035])


@given(st.lists(short_overruns, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_busy_program_keeps_its_share(tasks):
    loop = SimulatedLoop(busy)
    turns = Turns(loop, SLICE, SHARE)
    spinners = [Spinner(loop, turns, Account(), overrun) for overrun in tasks]
    loop.run(1.0)                           # the first slices are of the short lane
    began, ran = loop.time, sum(spinner.used for spinner in spinners)
    loop.run(20.0)
    share = (sum(spinner.used for spinner in spinners) - ran) / (loop.time - began)
    assert 0.1 < share < SHARE + 0.02


@given(st.lists(st.floats(0.00002, 0.0019), min_size=1, max_size=40), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_busy_program_keeps_its_share_against_short_turns(tasks, are_direct):
    loop = SimulatedLoop(busy)
    turns = Turns(loop, SLICE, SHARE)
    used = []

    def begin(account, seconds):
        def run():
            loop.spend(seconds)
            used.append(seconds)
            timer.start(0.0)

        def again():
            turns.resume(account, run) if are_direct else turns.short.push(account, run)
        timer = loop.timer(again)           # its client sends again as soon as it can
        again()

    for seconds in tasks:
        begin(Account(), seconds)
    began = loop.time
    loop.run(5.0)
    assert sum(used) / (loop.time - began) < SHARE + 0.02


@given(st.lists(overruns, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_alone_they_get_all(tasks):
    loop = SimulatedLoop()
    turns = Turns(loop, SLICE, SHARE)
    spinners = [Spinner(loop, turns, Account(), overrun) for overrun in tasks]
    loop.run(3.0)                           # their first turns are of the other lane, and so other work for a while
    began, ran = loop.time, sum(spinner.used for spinner in spinners)
    loop.run(5.0)
    assert sum(spinner.used for spinner in spinners) - ran > 0.95 * (loop.time - began)


@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from([0.0, 0.001])), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None)
def test_time_is_shared_by_session(sessions):
    loop = SimulatedLoop()
    turns = Turns(loop, SLICE, SHARE)
    used = []
    for tasks, overrun in sessions:
        account = Account()
        used.append([Spinner(loop, turns, account, overrun) for _ in range(tasks)])
    loop.run(10.0)
    totals = [sum(spinner.used for spinner in spinners) for spinners in used]
    assert max(totals) - min(totals) < 0.05 * max(totals) + 0.2
    # Inside of a session everybody has his turns, too.
    for spinners in used:
        assert min(spinner.used for spinner in spinners) > 0


@given(st.integers(1, 300), st.floats(0.0001, 0.0019), st.booleans())
@settings(max_examples=60, deadline=None)
def test_turns_that_begin_together_share_a_budget(crowd, seconds, is_busy):
    loop = SimulatedLoop(busy if is_busy else lambda now: None)
    turns = Turns(loop, SLICE, SHARE)
    done = []

    def run(number):
        loop.spend(seconds)
        done.append(number)

    for number in range(crowd):
        turns.short.push(Account(), lambda number=number: run(number))
    loop.run(crowd * 0.012 + 0.1)
    assert sorted(done) == list(range(crowd))
    assert loop.longest_iteration <= 2 * SLICE + seconds + OVERHEAD


def test_a_short_turn_does_not_wait_for_those_that_spin():
    loop = SimulatedLoop(busy)
    turns = Turns(loop, SLICE, SHARE)
    for _ in range(100):
        Spinner(loop, turns, Account(), overrun=0.1)
    loop.run(200.0)                         # their first turns are of the short lane, which pays for them
    assert not len(turns.short)
    account, waited = Account(), []
    for _ in range(100):
        asked = loop.time
        turns.resume(account, lambda asked=asked: (waited.append(loop.time - asked), loop.spend(0.00005)))
        loop.run(0.02)
    # The lane of short turns knows nothing of what the long one still has to pay.
    assert len(waited) == 100 and max(waited) < 0.002


def test_a_session_that_used_little_ends_a_longer_statement_soon_among_loops():
    loop = SimulatedLoop(busy)
    turns = Turns(loop, SLICE, SHARE)
    light, slices, ended = Account(), [], []
    turns.resume(light, lambda: loop.spend(0.0001))
    for _ in range(100):
        Spinner(loop, turns, Account())
    loop.run(40.0)
    asked = loop.time

    def run():                              # 40 ms of work
        loop.spend(SLICE)
        slices.append(loop.time)
        if len(slices) < 20:
            turns.long.push(light, run)
        else:
            ended.append(loop.time - asked)

    turns.resume(light, run)
    loop.run(10.0)
    assert ended and ended[0] < 20 * SLICE / SHARE * 2


def test_what_a_session_may_catch_up_is_bounded():
    loop = SimulatedLoop()
    turns = Turns(loop, SLICE, SHARE)
    light = Account()
    turns.resume(light, lambda: loop.spend(0.0001))
    other = Spinner(loop, turns, Account())
    loop.run(10.0)
    used = other.used
    Spinner(loop, turns, light)
    loop.run(0.2)
    assert other.used - used > 0.05         # of 0.2 s: half, less the 50 ms that the other has caught up


def test_one_long_operation_does_not_close_a_lane_for_long():
    loop = SimulatedLoop(busy)
    turns = Turns(loop, SLICE, SHARE)
    turns.resume(Account(), lambda: loop.spend(5.0))
    began, ended = [], loop.time
    turns.resume(Account(), lambda: began.append(loop.time))
    loop.run(1.0)
    assert began and began[0] - ended < 0.25


def test_a_light_session_comes_before_a_heavy_one_and_before_newcomers():
    loop = SimulatedLoop()
    turns = Turns(loop, SLICE, SHARE)
    heavy, light, order = Account(), Account(), []
    turns.resume(light, lambda: loop.spend(0.0001))
    for _ in range(3):
        turns.resume(heavy, lambda: loop.spend(0.0015))
    assert not turns.short.is_open
    for name, account in (('new', Account()), ('heavy', heavy), ('light', light)):
        turns.resume(account, lambda name=name: order.append(name))
    loop.run(0.1)
    assert ['light', 'heavy', 'new'] == order


def test_what_a_turn_raises_is_charged_and_stops_nobody():
    loop = SimulatedLoop()
    turns = Turns(loop, SLICE, SHARE)
    account, ran = Account(), []

    def fail():
        loop.spend(0.001)
        raise ValueError

    turns.short.push(account, fail)
    turns.short.push(account, lambda: ran.append(True))
    try:
        loop.run(0.01)
    except ValueError:
        pass
    loop.run(0.01)
    assert ran and account.used > 0.001 and not turns.is_running


def test_without_a_slice_nothing_is_limited():
    loop = SimulatedLoop(busy)
    turns = Turns(loop, 0, 1)
    assert not turns.is_over(-1000.0)
    for _ in range(100):
        turns.resume(Account(), lambda: loop.spend(1.0))
    assert loop.time >= 100 and turns.short.is_open


def longest(loop, turns, account, seconds):
    """A task whose turns are each one long operation; returns the list of their start times."""
    began = []

    def run():
        began.append(loop.time)
        loop.spend(seconds)
        turns.long.push(account, run)

    turns.short.push(account, run)
    return began


@given(st.floats(3.1 * SLICE, 0.5), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_operations_that_cannot_be_interrupted_get_a_hundredth(seconds, tasks):
    loop = SimulatedLoop(busy)
    turns = Turns(loop, SLICE, SHARE)
    began = longest(loop, turns, Account(), seconds)
    spinners = [Spinner(loop, turns, Account()) for _ in range(tasks)]
    loop.run(20.0)
    pause, owed = min(300 * (seconds - 3 * SLICE), 5.0), 3.0
    assert all(after - before >= number * pause - owed
               for first, before in enumerate(began) for number, after in enumerate(began[first:]))
    assert len(began) >= 2                                          # and does not starve
    assert min(spinner.used for spinner in spinners) > 0.1          # the others of its lane do not wait with it


def test_who_is_seldom_held_by_one_does_not_wait():
    """As a short statement in which the garbage collector comes to a large table."""
    loop = SimulatedLoop(busy)
    turns = Turns(loop, SLICE, SHARE)
    account = Account()
    for _ in range(20):
        turns.resume(account, lambda: loop.spend(0.012))
        assert not account.due
        loop.run(2.0)


def test_who_was_not_preempted_for_a_second_stays_in_the_short_lane():
    loop = SimulatedLoop()
    turns = Turns(loop, SLICE, SHARE)
    account = Account()
    assert turns.preempted(account, loop.time) is turns.short
    account.preempted_at = loop.time
    assert turns.preempted(account, loop.time) is turns.long
    assert turns.preempted(account, loop.time + 1.1) is turns.short


def test_operations_that_cannot_be_interrupted_get_all_the_time_alone():
    loop = SimulatedLoop()
    turns = Turns(loop, SLICE, SHARE)
    account = Account()
    began = [longest(loop, turns, account, 0.05) for _ in range(2)]
    loop.run(5.0)
    assert sum(map(len, began)) > 90


def test_a_turn_that_other_processes_made_long_is_not_one():
    loop = SimulatedLoop(busy)
    loop.processor_time = lambda: 0.001
    turns = Turns(loop, SLICE, SHARE)
    account = Account()
    longest(loop, turns, account, 0.05)
    loop.run(5.0)
    assert not account.due
