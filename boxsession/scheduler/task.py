"""Tasks: what runs users' code, in whatever language."""
from __future__ import annotations

from typing import Any, Protocol

from gevent import Greenlet, getcurrent
from gevent.hub import Waiter

from boxsession.base.greenlets import TASK
from boxsession.scheduler.turns import Account

__all__ = ['STATEMENTS', 'TRIGGERS', 'Host', 'Task', 'current_task', 'switch']

# The settings that say how long a task may run.
STATEMENTS, TRIGGERS = 'limits.statement_seconds', 'limits.trigger_seconds'


class Host(Protocol):
    """What a task's owner (a connection) does for it. None of these may raise."""

    def push(self, tagged: bytes) -> None: ...      # for binary sessions: a list of one value, in msgpack
    def set_delimiter(self, delimiter: bytes) -> None: ...
    def control(self, command: str) -> None: ...
    def switching_out(self) -> None: ...
    def running(self) -> str: ...
    @property
    def is_over(self) -> bool: ...                          # whether the session ends: it is to run nothing more
    def kill(self, reason: str) -> None: ...                # ends the session
    def give_back(self, what: int | bytes) -> None: ...     # of those that run batches of requests


class Task:
    """One greenlet that runs statements, one after the other. Used by that greenlet, cancelled by any.

    Args:
        host: whose task it is; None for the init script.
        account: of its session, which its turns are charged to.
        limit: the setting that says how long it may run, or ''.
    """

    __slots__ = ('host', 'account', 'greenlet', 'killed', 'ending', 'reason', 'raised', 'waiter', 'is_woken', 'calling',
                 'leaving', 'limit', 'began', 'deadline', 'is_clean')

    def __init__(self, host: Host | None, account: Account, limit: str = ''):
        self.host = host
        self.account = account
        self.greenlet: Any = None
        self.killed = False                         # the running statement is to end
        self.reason = ''                            # why, for its error
        self.ending = 'cancelled'                   # the kind of that error: this, or 'timeout'
        self.raised: BaseException | None = None    # what was thrown into the greenlet while it was inside a statement
        self.waiter: Waiter | None = None           # what a parked task waits on
        self.is_woken = False                       # the end of that wait is under way
        self.calling = False                        # inside an exposed Python function
        self.leaving: Any = None                    # the callback that flushes its output if that function waits
        self.limit = limit
        self.began = 0.0                            # when its statement was first looked at
        self.deadline = 0.0                         # when it has run for as long as it may; 0: not looked at yet
        self.is_clean = False                       # nothing of this needs a reset before the next statement
        self.move_to(getcurrent())

    def move_to(self, greenlet: Greenlet) -> None:
        """From now on the task is that greenlet's."""
        self.greenlet = greenlet
        setattr(greenlet, TASK, self)

    def described(self) -> str:
        """What it runs, in words."""
        return 'the init script' if self.host is None else self.host.running()

    def resumed(self) -> None:
        """The task goes on: puts in force what holds while it runs."""

    def interrupt(self) -> None:
        """Ends the turn that runs now as soon as it can be ended, in whatever thread this is called."""

    def raise_kept(self) -> None:
        """Raises what was thrown into the greenlet."""
        raised, self.raised = self.raised, None
        assert raised is not None
        raise raised


def current_task() -> Any:
    """The task of the calling greenlet; None where it has none."""
    return getattr(getcurrent(), TASK, None)


def switch(waiter: Waiter) -> None:
    """Ends a wait, unless it has ended meanwhile."""
    if waiter.greenlet is not None:
        waiter.switch(None)
