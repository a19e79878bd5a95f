"""What the checks in a statement's code do when the clock rings: cancel the statement, or let others run."""
from __future__ import annotations

import os
import sys
import time
from collections import Counter
from types import FrameType
from typing import Any

from gevent import get_hub, getcurrent, monkey

from boxsession.base.errors import StatementCancelled
from boxsession.base.greenlets import TASK
from boxsession.inspection.reprs import Reader
from boxsession.python.clock import Clock
from boxsession.python.compiler import NAME
from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.scheduler.task import Task

__all__ = ['Checks', 'Growth', 'need_room']

_get_ident = monkey.get_original('_thread', 'get_ident')
_Local = monkey.get_original('_thread', '_local')

# How often a check looks for a cancel if statements are not preempted, in seconds.
_NO_SLICE = 0.1
_OTHER_THREAD = 'threads cannot use the session: collect what they find in a list or a dict, and show that in a statement'
_SETTING = 'limits.python_memory_bytes'
# How long a callback of the loop may run, in seconds; how often it is looked at; and from which pause on it is another one.
_CALLBACK_SECONDS, _CALLBACK_LOOK, _GAP = 1.0, 0.01, 0.1
# The calls that functions of the console need. How long code may run that has no room for them, in seconds: it cannot be
# preempted.
_CALLS, _DEEP_SECONDS = 100, 0.5
_DEEP = "the statement was cancelled: it ran for long close to Python's limit of recursion, where nothing else can run"
_PAGE = os.sysconf('SC_PAGE_SIZE')


class Checks:
    """The checks in one session's code.

    Args:
        own: the task of the session's statements.
        tree: `spawn_tree_locals` of the greenlets that these start.
    """

    __slots__ = ('is_closed', '_tree', '_callback', '_own', '_dispatcher', '_clock', '_growth', '_cancels', '_threads',
                 '_deep_since')

    def __init__(self, own: Task, dispatcher: Dispatcher, clock: Clock, growth: Growth, tree: object):
        self.is_closed = False          # the session has ended
        self._cancels = 0               # how many statements were cancelled
        self._threads = _Local()        # of each other thread: that number at its first check
        self._own = own
        self._deep_since = 0.0          # since when code runs close to the limit of recursion; 0: it does not
        self._tree = tree
        self._callback = 0.0, 0.0, 0            # of a callback of the loop: its first check, its last one, the iteration
        self._dispatcher = dispatcher
        self._clock = clock
        self._growth = growth

    def check(self) -> bool:
        """Called by the session's code while the clock's `busy` is true.

        Raises:
            StatementCancelled: the statement was cancelled. It is raised again at each check, until the statement ends.
        """
        if _get_ident() != self._clock.thread:
            return self._check_in_thread()
        current = getcurrent()
        if type(current) is Reader:             # repr() of an object: it has a limit of its own, and must not wait
            current.look()
            return True
        try:
            need_room()
        except RecursionError:
            # Nothing of the console may be called, which could end in its middle: not even functions that would be here.
            # Code such as `def f(): try: f() finally: f()` stays at the limit for ever.
            task, now = getattr(current, TASK, None) or self._own, time.monotonic()
            self._deep_since = self._deep_since or now
            if not task.killed and now - self._deep_since > _DEEP_SECONDS:
                task.reason, task.ending, task.killed, task.is_clean = _DEEP, 'cancelled', True, False
            if task.killed:
                raise StatementCancelled from None
            return True
        self._deep_since = 0.0
        return self._check(current)

    def _check(self, current: Any) -> bool:
        clock, dispatcher = self._clock, self._dispatcher
        if current is get_hub():
            return self._check_in_hub()
        if current is not self._own.greenlet and _runs_finalizer(current, self._tree):
            clock.ring()
            raise StatementCancelled
        task = self.adopt()
        dispatcher.has_ticked = True
        if dispatcher.deadlines.seconds.get(task.limit):
            dispatcher.deadlines.check(task)
        if dispatcher.asked is not None:
            dispatcher.asked.meet(task)
        seconds = dispatcher.turns.slice_seconds or _NO_SLICE
        if not task.killed:
            dispatcher.rejoin()
            left = seconds - (time.monotonic() - max(dispatcher.began, task.began))
            if left <= 0:
                left = seconds
                task.is_clean = False
                problem = self._growth.problem()
                if problem:
                    dispatcher.cancel(task, problem, 'memory')
                else:
                    self._take_turn(task)
        elif dispatcher.turns.is_over(dispatcher.began):    # code in C drops what checks raise, and calls back again
            account, task.account = task.account, dispatcher.turns.cancelled
            try:
                self._take_turn(task)
            finally:
                task.account = account
        if task.killed:
            clock.ring()
            raise StatementCancelled
        clock.set(left)
        return True

    def _check_in_hub(self) -> bool:
        """A check in a callback of the loop. It cannot wait, and nobody can cancel it: its time is limited."""
        clock, now, iteration = self._clock, time.monotonic(), getattr(get_hub().loop, 'iteration', 0)
        began, last, before = self._callback
        if iteration != before or now - last > _GAP:
            began = now
        self._callback = began, now, iteration
        if now - began > _CALLBACK_SECONDS:
            clock.ring()
            raise StatementCancelled
        clock.set(_CALLBACK_LOOK)
        return True

    def adopt(self) -> Task:
        """The task of the calling greenlet. One that the session's code has started shares the session's turns.

        Raises:
            RuntimeError: another thread than the loop's calls it.
        """
        if _get_ident() != self._clock.thread:
            raise RuntimeError(_OTHER_THREAD)
        task: Task = getattr(getcurrent(), TASK, None) or Task(self._own.host, self._own.account)
        return task

    def _take_turn(self, task: Task) -> None:
        if self._dispatcher.turns.slice_seconds:
            self._dispatcher.take_turn(task)

    def cancelled(self) -> None:
        """A statement was cancelled. Threads that run code of the session end at their next check."""
        self._cancels += 1
        self._clock.ring()

    def _check_in_thread(self) -> bool:
        threads = self._threads
        if not hasattr(threads, 'cancels'):
            threads.cancels = self._cancels
        if self.is_closed or threads.cancels != self._cancels:
            raise SystemExit            # ends a thread without a traceback
        return True


def need_room(calls: int = _CALLS) -> None:
    """Raises a RecursionError if the stack has no room for so many calls.

    For functions of the console that statements call. The error must not come later, in the middle of a change of the
    scheduler or of the output.
    """
    if calls:
        need_room(calls - 1)


def _runs_finalizer(greenlet: Any, tree: object) -> bool:
    """Whether the calling check is in a `__del__` that the garbage collector runs in a greenlet of others."""
    if getattr(greenlet, 'spawn_tree_locals', tree) is tree:
        return False
    frame: FrameType | None = sys._getframe(3)
    while frame is not None and frame.f_code.co_filename == NAME:
        if frame.f_code.co_name == '__del__':
            return True
        frame = frame.f_back
    return False


class Growth:
    """How much memory the process has taken while a statement ran.

    Args:
        hits: counts exceeded limits, by the name of the setting.

    Attributes:
        most: the maximum growth in bytes (limits.python_memory_bytes); 0 for no limit.
    """

    def __init__(self, hits: Counter[str]) -> None:
        self.most = 0
        self._hits = hits
        self._file = -1
        self._before = 0

    def begin(self) -> None:
        """A statement begins."""
        self._before = 0

    def problem(self) -> str:
        """Why the statement has to end; '' if it may go on. The first call after begin() only measures."""
        if not self.most:
            return ''
        try:
            used = self._resident()
        except OSError:                 # too many open files
            return ''
        if not self._before:
            self._before = used
        elif used - self._before > self.most:
            self._hits[_SETTING] += 1
            return f'the process grew by more than {self.most} bytes while the statement ran ({_SETTING})'
        return ''

    def _resident(self) -> int:
        if self._file < 0:
            self._file = os.open('/proc/self/statm', os.O_RDONLY | os.O_CLOEXEC)
        return int(os.pread(self._file, 100, 0).split()[1]) * _PAGE

    def close(self) -> None:
        """The console stops."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
