"""Shares the time of one event loop between sessions, and with the program that the loop belongs to. Pure.

The rules
---------
1. A turn is one run of a task: from the moment when the loop resumes it until it waits. A turn may last one time slice
   (`slice_seconds`). Then the task is preempted: it continues in a later iteration of the loop. Accepting a client and
   reading from a client are turns, too.
2. Two run queues, called lanes, hold the ready tasks. The short lane holds the tasks that begin a turn. It runs at most
   two slices in one iteration; the other tasks wait for a later iteration. The long lane holds the preempted tasks. It
   runs one slice in one iteration. A task whose session was not preempted in the last second goes to the short lane
   instead: one preemption may be chance.
3. Each lane first runs the session that has used the least time (start-time fair queuing). Time is shared between
   sessions, not between tasks. A session that used little time may be up to 50 ms behind virtual time: so a longer
   statement of an admin ends soon even if many sessions run loops. A new session starts one slice after virtual time: so
   a client gains nothing by reconnecting. All sessions whose clients have left share one account: nobody waits for them.
4. If the loop has other work, a lane that used d seconds, more than a slice, is closed for 1.5 d (1 - share) / share
   seconds. So the lane gets at most `share` of the time. The factor 1.5 pays for the cold caches that it leaves to the
   program. While both lanes have tasks, each gets half of that share. If an operation overran its slice, the lane pays for
   at most 50 ms: a long operation of one session must not close the lane to all others for several times as long.
5. Other work means an event of the program in the last 10 ms. For the long lane it also means time that the short lane
   used. Without other work both lanes are open in each iteration and may use all of the time.
6. Operations that cannot be interrupted get about a hundredth of the time. If a turn takes more than three slices of CPU
   time, its session owes 300 times the excess. A debt of up to 3 s has no effect: a step of the garbage collector must
   not delay a session that did nothing wrong. If the debt is larger, the session waits for the rest, at most 5 s, before
   its next turn. It waits only while there is other work: events of the program, or turns of other sessions in the last
   100 ms that were not as long. A cancelled task does not wait.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from boxsession.scheduler.top import Top

__all__ = ['Account', 'Lane', 'Loop', 'Timer', 'Turns']

# An event of the program counts as other work for this time, in seconds.
_REMEMBERED = 0.01
# Use of the short lane, in seconds, above which it counts as other work for the long lane. Less is not worth a pause.
_NOTICED = 0.00015

# Cost for the program of one second of turns, in seconds. It includes the cold caches.
_COST = 1.5
# A session counts as long-running for this time after a preemption, in seconds.
_PREEMPTED = 1.0
# Maximum use that a lane pays for, in seconds: one long operation must not close the lane to all sessions for long. (Its
# own session pays for all of it, by its place in virtual time.)
_OWED_MAX = 0.05
# Maximum distance of a session behind virtual time, in seconds of use.
_CREDIT = 0.05
# Rule 6: a turn is long from this number of slices on; the session owes this multiple of the excess; it may owe this
# without waiting, and waits at most this (seconds); interval of the checks for other work (seconds); turns of other
# sessions count as other work for this time (seconds).
_LONG_SLICES, _LONG_PAUSE, _LONG_OWED, _LONG_MAX, _LONG_LOOK, _LONG_REMEMBERED = 3, 300, 3.0, 5.0, 0.01, 0.1
_INFINITE, _LEAST = float('inf'), 1e-9


class Timer(Protocol):
    """Calls one callback once after each start()."""

    def start(self, seconds: float) -> None: ...    # 0: in the next iteration of the loop, after its other events


class Loop(Protocol):
    """The event loop as the scheduler uses it."""

    def now(self) -> float: ...                     # monotonic clock, in seconds
    def processor_time(self) -> float: ...          # CPU time of the thread, in seconds
    def timer(self, callback: Callable[[], None]) -> Timer: ...
    def watch(self, on: bool) -> None: ...          # starts or stops counting the program's events
    def had_other_events(self) -> bool: ...         # since the last call, or since counting started


class Account:
    """One session's use of loop time, in virtual time: see Turns."""

    __slots__ = ('used', 'due', 'paid_at', 'preempted_at', 'offences', 'waits')

    def __init__(self, waits: bool = True):
        self.waits = waits      # rule 6 applies to it
        self.used = -1.0        # virtual time at the end of its last turn; below 0: no turn yet
        self.offences = 0       # operations that blocked the event loop without a good reason; counted by lua/turn_ports.py
        self.due = 0.0          # rule 6: earliest time of its next turn; 0: no debt
        self.paid_at = 0.0      # rule 6: time at which its debt is paid
        self.preempted_at = -_INFINITE  # time at which it last resumed after a preemption


class Lane:
    """A run queue of ready tasks that can be closed: see rules 2 and 4."""

    __slots__ = ('is_open', 'budget', 'most', '_turns', '_spent', '_ended', '_heap', '_tasks', '_order', '_timer',
                 '_is_waiting', 'total')

    def __init__(self, turns: Turns):
        self.is_open = True
        self._turns = turns
        self.budget = self.most = 0.0       # seconds that may be used before _look(), and before the lane closes at once
        self._spent = 0.0                   # seconds used of the budget; pauses between turns reduce it
        self._ended = -_INFINITE            # end of its last turn
        self.total = 0.0                    # seconds used since start
        self._heap: list[tuple[float, int, Account]] = []
        self._tasks: dict[Account, deque[Callable[[], None]]] = {}
        self._order = count()
        self._timer = turns.loop.timer(self._look)
        self._is_waiting = False            # the timer is started

    def __len__(self) -> int:
        return sum(map(len, self._tasks.values()))

    @property
    def is_busy(self) -> bool:
        """Whether tasks are queued, or the lane is closed."""
        return bool(self._heap) or not self.is_open

    def push(self, account: Account, resume: Callable[[], None]) -> None:
        """Queues a task. The event loop calls `resume` to begin its turn."""
        tasks = self._tasks.get(account)
        if tasks is None:
            self._tasks[account] = deque((resume,))
            self._enter(account)
        else:
            tasks.append(resume)
        self._wait(0.0)

    def run(self, account: Account, resume: Callable[[], None], start: float = 0.0) -> None:
        """Runs one turn and charges it to the account.

        Args:
            start: the start in virtual time that the queue gave to the turn; 0 for a turn that was not queued.
        """
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
        """Timer callback: runs queued tasks, or closes the lane if it must pause first (rule 4)."""
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
    """The scheduler of one loop: see the rules at the top of this file.

    Args:
        loop: the event loop.
        slice_seconds: the time slice; 0 for no limit.
        share: each lane's share of the loop's time while the loop has other work: over 0; 1 for no limit.

    Attributes:
        short, long: the two lanes.
        is_running: whether a turn runs now; it will be charged.
        began: start of the current or the last turn, by `loop.now()`.
        certain: start of the last turn that certainly used the CPU all the time. The monitor sets it.
        top: accounts for time by task while fiber.top() is enabled (lua/top_ports.py); None otherwise.
        virtual: virtual time: the largest start of a turn so far, as in start-time fair queuing.
    """

    def __init__(self, loop: Loop, slice_seconds: float = 0.002, share: float = 0.25):
        self.loop = loop
        self.virtual = 0.0
        self.certain = -1.0
        self.is_running = False
        self.top: Top | None = None
        self.began = loop.now()
        self._busy_until = -_INFINITE
        self._short_total = 0.0         # total of the short lane at the long lane's last check for other work
        self._watching: set[object] = set()
        self.now = loop.now
        self.processor_seconds = loop.processor_time()      # CPU time at the last timer callback
        self._delayed: list[tuple[Lane, Account, Iterable[Callable[[], None]]]] = []     # tasks that wait for rule 6
        self.long_due = 0.0     # rule 6: the latest `due` of all accounts
        self.last: Account | None = None    # account of the last turn that was not long
        # End of that turn, and end of the last turn of another account that was not long.
        self.ended = self.ended_before = -_INFINITE
        self.cancelled = Account(waits=False)       # for cancelled tasks
        self.leaving = Account(waits=False)         # for sessions whose clients have left
        self._delay_timer = loop.timer(self._look_at_delayed)
        self.short, self.long = Lane(self), Lane(self)
        self.configure(slice_seconds, share)

    def configure(self, slice_seconds: float, share: float) -> None:
        """Sets the time slice and the share. Tasks may be running."""
        self.slice_seconds = slice_seconds
        self.pause = _COST * (1 - share) / share        # seconds of pause for each second that a lane used
        self.repaid = 1 / max(self.pause, _LEAST)
        self.short.budget = slice_seconds or _INFINITE
        self.short.most = 2 * self.short.budget
        self.long_seconds = _LONG_SLICES * slice_seconds if slice_seconds and share < 1 else _INFINITE

    def resume(self, account: Account, resume: Callable[[], None]) -> None:
        """Begins a task's turn, now or as soon as the short lane has budget. Called in the hub."""
        if self.short.is_open and not account.due:
            self.short.run(account, resume)
        else:
            self.short.push(account, resume)

    def preempted(self, account: Account, began: float) -> Lane:
        """The lane in which a preempted task continues.

        Args:
            began: start of its turn. The time that the task has spent in yields is added to it.
        """
        return self.long if began - account.preempted_at < _PREEMPTED else self.short

    def note_long(self, account: Account, seconds: float, ended: float) -> None:
        """Charges a long turn by rule 6, unless other processes of the machine made it long."""
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
        """Queues tasks of a session again after the session has waited (rule 6)."""
        if not self._delayed:
            self.watch(self, True)
            self._delay_timer.start(_LONG_LOOK)
        self._delayed.append((lane, account, tasks))

    def has_to_wait(self, account: Account) -> bool:
        """Whether a session still has to wait because of its debt (rule 6)."""
        now = self.now()
        others_ended = self.ended if self.last is not account else self.ended_before
        return now < account.due and (self.is_program_busy(now) or now - others_ended < _LONG_REMEMBERED)

    def _look_at_delayed(self) -> None:
        """Timer callback: queues the tasks of sessions that need not wait any more."""
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
        """The start in virtual time of an account's next turn."""
        used = account.used
        if used < 0:
            return self.virtual + self.slice_seconds
        return max(used, self.virtual - _CREDIT)

    def is_over(self, began: float) -> bool:
        """Whether a turn that began at `began` has used its slice."""
        return 0 < self.slice_seconds <= self.now() - began

    def has_other_work(self, lane: Lane, now: float) -> bool:
        """Whether the loop has other work than this lane (rule 5)."""
        if self.is_program_busy(now):
            return True
        if lane is self.short:
            return False
        used, self._short_total = self.short.total - self._short_total, self.short.total
        return used > _NOTICED

    def is_program_busy(self, now: float) -> bool:
        """Whether the program had an event in the last 10 ms."""
        if self.loop.had_other_events():
            self._busy_until = now + _REMEMBERED
        return now < self._busy_until

    def watch(self, who: object, on: bool) -> None:
        """Registers or removes a watcher. The program's events are counted while any watcher is registered."""
        if on:
            self._watching.add(who)
        else:
            self._watching.discard(who)
        self.loop.watch(bool(self._watching))
