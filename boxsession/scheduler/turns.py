"""Shares the time of one event loop between sessions, and with the program that the loop belongs to. Pure.

The rule
--------
1. A turn is what a task runs from the moment the loop resumes it until it waits. A task whose turn reaches one slice
   (`slice_seconds`) is preempted: it goes on in a later iteration of the loop. Accepting a client, and reading
   from one, are turns, too.
2. There are two lanes. The short lane has the turns that begin: at most two slices of them in one iteration; the rest
   waits for a later one. The long lane has the preempted tasks: one slice in an iteration. A session that was not
   preempted for a second is so by chance: it goes on in the short lane.
3. In both lanes the session that has used the least time comes first (start-time fair queuing). Time is shared by session,
   not by task. A session that has used little may catch up by 50 ms, so one admin's longer statement ends soon among many
   loops. A new session starts behind those that are there by one slice: reconnecting gains nothing.
   The sessions whose clients have left weigh as one: nobody waits for their ends.
4. While the loop has other work, a lane that has used more than a slice, d seconds, is closed for
   1.5 d (1 - share) / share seconds. So it gets at most `share` of the time, and somewhat less, since it leaves
   cold caches to the program. While both lanes have tasks, each gets half of that. An operation that overran its slice is
   paid for by the same rule, up to 50 ms of use: one session's long operation must not close the lane to all others for
   several times as long.
5. Other work is any event of the program in the last 10 ms; for the long lane also what the short lane used. Without it
   both lanes are open in each iteration and get all the time there is.
6. Operations that cannot be interrupted get some hundredth of the time. What a turn took more than three slices of the
   processor's time is paid for by its session with 300 times as long. It may owe 3 s of that, lest a step of the garbage
   collector make an innocent session wait. What it owes more, 5 s at most, it waits for before its next turn, while there
   is other work: the program's, or other sessions' turns in the last 100 ms that were not as long. What is cancelled does
   not wait.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

__all__ = ['Account', 'Lane', 'Loop', 'Timer', 'Turns']

# How long an event of the program counts as other work, in seconds.
_REMEMBERED = 0.01
# The short lane's use that counts as other work for the long lane, in seconds: less is not worth a pause.
_NOTICED = 0.00015

# What a second of turns costs the program, in seconds: afterwards it finds its caches cold.
_COST = 1.5
# A session that was not preempted for so many seconds is not a long one.
_PREEMPTED = 1.0
# The most that a lane pays for, in seconds of use: one long operation must not close it to all sessions for long. (Its own
# session pays for all of it, by its place in virtual time.)
_OWED_MAX = 0.05
# How far a session that has used less than others may be behind them, in seconds of use.
_CREDIT = 0.05
# An operation that cannot be interrupted: from so many slices on, how many times what it took more its session pays, what
# that may owe and the most that it waits (seconds); how often is looked whether there is other work, and for how long other
# sessions' turns count as that.
_LONG_SLICES, _LONG_PAUSE, _LONG_OWED, _LONG_MAX, _LONG_LOOK, _LONG_REMEMBERED = 3, 300, 3.0, 5.0, 0.01, 0.1
_INFINITE, _LEAST = float('inf'), 1e-9


class Timer(Protocol):
    """One callback, at one time in the future."""

    def start(self, seconds: float) -> None: ...    # 0: in the next iteration of the loop, behind its other events


class Loop(Protocol):
    """What the scheduler needs of an event loop."""

    def now(self) -> float: ...                     # seconds of a clock that never goes back
    def processor_time(self) -> float: ...          # seconds that the thread has run
    def timer(self, callback: Callable[[], None]) -> Timer: ...
    def watch(self, on: bool) -> None: ...          # whether to count other events
    def had_other_events(self) -> bool: ...         # since it was last asked, or began to count


class Account:
    """The loop time that one session has used, in virtual time: see Turns."""

    __slots__ = ('used', 'due', 'paid_at', 'preempted_at', 'offences', 'waits')

    def __init__(self, waits: bool = True):
        self.waits = waits      # whether rule 6 holds for it
        self.used = -1.0        # below 0: it has run nothing yet
        self.offences = 0       # operations that held everybody for no good reason; counted by who runs them
        self.due = 0.0          # it owes too much: when its next turn may come (see rule 6); 0 otherwise
        self.paid_at = 0.0      # when all its long turns are paid for
        self.preempted_at = -_INFINITE  # when it last went on behind that


class Lane:
    """A queue of ready tasks with a gate: see rules 2 and 4."""

    __slots__ = ('is_open', 'budget', 'most', '_turns', '_spent', '_ended', '_heap', '_tasks', '_order', '_timer',
                 '_is_waiting', 'total')

    def __init__(self, turns: Turns):
        self.is_open = True
        self._turns = turns
        self.budget = self.most = 0.0       # what may be used before the lane is looked at, and before it closes at once
        self._spent = 0.0                   # what was used of it, less what the pauses between have paid back
        self._ended = -_INFINITE            # when its last turn ended
        self.total = 0.0                    # all that it ever used
        self._heap: list[tuple[float, int, Account]] = []
        self._tasks: dict[Account, deque[Callable[[], None]]] = {}
        self._order = count()
        self._timer = turns.loop.timer(self._look)
        self._is_waiting = False            # whether the timer is started

    def __len__(self) -> int:
        return sum(map(len, self._tasks.values()))

    @property
    def is_busy(self) -> bool:
        """Whether tasks wait, or what they used is not paid yet."""
        return bool(self._heap) or not self.is_open

    def push(self, account: Account, resume: Callable[[], None]) -> None:
        """Queues a task: `resume` is called by the loop when it is its turn."""
        tasks = self._tasks.get(account)
        if tasks is None:
            self._tasks[account] = deque((resume,))
            self._enter(account)
        else:
            tasks.append(resume)
        self._wait(0.0)

    def run(self, account: Account, resume: Callable[[], None], start: float = 0.0) -> None:
        """Runs one turn and charges it. `start` is its place in virtual time, where it had one in the queue."""
        turns = self._turns
        used = account.used
        if used < turns.virtual - _CREDIT:
            used = turns.place(account)
        if used > start:
            start = used
        if start > turns.virtual:
            turns.virtual = start
        began = turns.began = turns.now()
        turns.is_running = True
        try:
            resume()
        finally:
            turns.is_running = False
            ended = turns.now()
            seconds = ended - began
            account.used = start + seconds
            self.total += seconds
            if seconds >= turns.long_seconds:
                turns.note_long(account, seconds, ended)
            else:
                if turns.last is not account:
                    turns.last, turns.ended_before = account, turns.ended
                turns.ended = ended
            owed = self._spent - (began - self._ended) * turns.repaid
            spent = seconds + owed if owed > 0 else seconds
            self._ended = ended
            if spent > self.budget:
                if spent > self.most:
                    self.is_open = False
                self._wait(0.0)
                spent = min(spent, max(_OWED_MAX, self.most))
            self._spent = spent

    def _enter(self, account: Account) -> None:
        heappush(self._heap, (self._turns.place(account), next(self._order), account))

    def _wait(self, seconds: float) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            self._turns.watch(self, True)
            self._timer.start(seconds)

    def _look(self) -> None:
        """By the timer: opens the lane, unless it has to pay first, and lets those in who wait."""
        self._is_waiting = False
        turns = self._turns
        if self._spent > self.budget:
            now = turns.now()
            due = self._ended + self._spent * turns.pause * (2 if turns.other(self).is_busy else 1)
            if now < due and turns.has_other_work(self, now):
                self.is_open = False
                self._wait(due - now)
                return
            self._spent = 0.0
        self.is_open = True
        turns.processor_seconds = turns.loop.processor_time()
        try:
            while self._heap and self._spent <= self.budget:
                self._run_first()
        finally:
            if self._heap:
                self._wait(0.0)
            elif self.is_open:
                turns.watch(self, False)

    def _run_first(self) -> None:
        start, _, account = heappop(self._heap)
        tasks = self._tasks[account]
        if account.due:
            if self._turns.has_to_wait(account):
                del self._tasks[account]
                self._turns.delay(self, account, tasks)
                return
            account.due = 0.0
        resume = tasks.popleft()
        try:
            self.run(account, resume, start)
        finally:
            if tasks:
                self._enter(account)
            else:
                del self._tasks[account]


class Turns:
    """The scheduler of one loop: see the rule at the top of this file.

    Args:
        loop: the event loop.
        slice_seconds: how long a turn may be; 0 for no limit.
        share: what either lane gets of the loop's time while there is other work: over 0; 1 for no limit.

    Attributes:
        short, long: the two lanes.
        is_running: whether a turn runs, and is charged.
        began: when it, or the last one, began.
        certain: when a turn began that is known to have kept the processor busy; told by who watches.
        virtual: virtual time: the use of the account that runs, as start-time fair queuing counts it.
    """

    def __init__(self, loop: Loop, slice_seconds: float = 0.002, share: float = 0.25):
        self.loop = loop
        self.virtual = 0.0
        self.certain = -1.0
        self.is_running = False
        self.began = loop.now()
        self._busy_until = -_INFINITE
        self._short_total = 0.0         # of the short lane, when the long one last looked
        self._watching: set[object] = set()
        self.now = loop.now
        self.processor_seconds = loop.processor_time()      # when it was last looked at
        self._delayed: list[tuple[Lane, Account, Iterable[Callable[[], None]]]] = []     # see rule 6
        self.long_due = 0.0     # when the last of those that wait may go on: see rule 6
        self.last: Account | None = None    # whose turn, of those not so long, was the last; when it ended, and another's
        self.ended = self.ended_before = -_INFINITE
        self.cancelled = Account(waits=False)       # tasks that go on to end what they do
        self.leaving = Account(waits=False)         # sessions whose clients have left: nobody waits for their ends
        self._delay_timer = loop.timer(self._look_at_delayed)
        self.short, self.long = Lane(self), Lane(self)
        self.configure(slice_seconds, share)

    def configure(self, slice_seconds: float, share: float) -> None:
        """Changes the two numbers, also while tasks run."""
        self.slice_seconds = slice_seconds
        self.pause = _COST * (1 - share) / share        # seconds of pause for each second that a lane has used
        self.repaid = 1 / max(self.pause, _LEAST)
        self.short.budget = slice_seconds or _INFINITE
        self.short.most = 2 * self.short.budget
        self.long_seconds = _LONG_SLICES * slice_seconds if slice_seconds and share < 1 else _INFINITE

    def resume(self, account: Account, resume: Callable[[], None]) -> None:
        """A turn of a task can begin. Called by the loop: it begins now, or as soon as there is budget for it."""
        if self.short.is_open and not account.due:
            self.short.run(account, resume)
        else:
            self.short.push(account, resume)

    def preempted(self, account: Account, began: float) -> Lane:
        """Where a task goes on whose slice is over. `began` is when its turn did, later by as long as it has yielded."""
        return self.long if began - account.preempted_at < _PREEMPTED else self.short

    def note_long(self, account: Account, seconds: float, ended: float) -> None:
        """A turn took long: if that was not for other processes of the machine, its session has to wait."""
        if self.certain != self.began:
            seconds = min(seconds, self.loop.processor_time() - self.processor_seconds)
        if seconds >= self.long_seconds and account.waits:
            paid_at = max(ended, account.paid_at) + (seconds - self.long_seconds) * _LONG_PAUSE
            account.paid_at = min(paid_at, ended + _LONG_OWED + _LONG_MAX)
            due = account.paid_at - _LONG_OWED
            if due > ended:
                account.due = due
                self.long_due = max(self.long_due, due)

    def delay(self, lane: Lane, account: Account, tasks: Iterable[Callable[[], None]]) -> None:
        """Queues tasks of a session again once it has waited."""
        if not self._delayed:
            self.watch(self, True)
            self._delay_timer.start(_LONG_LOOK)
        self._delayed.append((lane, account, tasks))

    def has_to_wait(self, account: Account) -> bool:
        """Whether a session whose last turn was long has to wait still."""
        now = self.now()
        others_ended = self.ended if self.last is not account else self.ended_before
        return now < account.due and (self.is_program_busy(now) or now - others_ended < _LONG_REMEMBERED)

    def _look_at_delayed(self) -> None:
        """By the timer: lets those go on who have waited, or for whom there is no other work."""
        self.processor_seconds = self.loop.processor_time()
        delayed, self._delayed = self._delayed, []
        for one in delayed:
            lane, account, tasks = one
            if self.has_to_wait(account):
                self._delayed.append(one)
            else:
                for resume in tasks:
                    lane.push(account, resume)
        if self._delayed:
            self._delay_timer.start(_LONG_LOOK)
        else:
            self.watch(self, False)

    def other(self, lane: Lane) -> Lane:
        """The lane that is not `lane`."""
        return self.long if lane is self.short else self.short

    def place(self, account: Account) -> float:
        """Where in virtual time the next turn of an account stands."""
        used = account.used
        if used < 0:
            return self.virtual + self.slice_seconds
        return max(used, self.virtual - _CREDIT)

    def is_over(self, began: float) -> bool:
        """Whether a turn that began at `began` has used its slice."""
        return 0 < self.slice_seconds <= self.now() - began

    def has_other_work(self, lane: Lane, now: float) -> bool:
        """Whether the loop has other work than a lane's."""
        if self.is_program_busy(now):
            return True
        if lane is self.short:
            return False
        used, self._short_total = self.short.total - self._short_total, self.short.total
        return used > _NOTICED

    def is_program_busy(self, now: float) -> bool:
        """Whether the program had events of its own."""
        if self.loop.had_other_events():
            self._busy_until = now + _REMEMBERED
        return now < self._busy_until

    def watch(self, who: object, on: bool) -> None:
        """Other events are counted while somebody wants to know of them."""
        if on:
            self._watching.add(who)
        else:
            self._watching.discard(who)
        self.loop.watch(bool(self._watching))
