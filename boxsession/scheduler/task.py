"""Tasks: greenlets that run user code, in any language."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gevent import Greenlet, getcurrent
from gevent.hub import Waiter

from boxsession.base.greenlets import TASK
from boxsession.scheduler.turns import Account

__all__ = ['STATEMENTS', 'TRIGGERS', 'Host', 'StopRequest', 'Task', 'current_task', 'mark_of', 'switch']

# The settings with the time limits of tasks.
STATEMENTS, TRIGGERS = 'limits.statement_seconds', 'limits.trigger_seconds'


class Host(Protocol):
    """The owner of a task: a connection, or a worker of one. None of these methods may raise."""

    def push(self, tagged: bytes) -> None: ...      # sends a push; of binary sessions: a msgpack list of one value
    def set_delimiter(self, delimiter: bytes) -> None: ...
    def control(self, command: str) -> None: ...            # runs a backslash command that changes the connection
    def switching_out(self) -> None: ...                    # called before the task waits or is preempted
    def running(self) -> str: ...                           # text for the log: the session and its statement
    @property
    def mark(self) -> Any: ...                              # differs from that of any other statement of the session
    @property
    def is_over(self) -> bool: ...                          # the session has ended: it must run nothing more
    def wants_end(self) -> bool: ...        # in a signal handler: the client has left, or has interrupted the statement
    def catch_up(self) -> None: ...         # after that statement: takes that interrupt, so that it cancels no later one
    def kill(self, reason: str) -> None: ...                # ends the session
    def give_back(self, what: int | bytes) -> None: ...     # only workers: see sessions/workers.py


class Task:
    """One greenlet that runs statements one by one. Only that greenlet uses it; any greenlet may cancel it.

    Args:
        host: the owner; None for the init script.
        account: the account of its session. Its turns are charged to it.
        limit: the name of the setting with its time limit, or ''.
    """

    __slots__ = ('host', 'account', 'greenlet', 'killed', 'ending', 'reason', 'raised', 'waiter', 'is_woken', 'calling',
                 'leaving', 'limit', 'began', 'deadline', 'is_clean', 'ring')

    def __init__(self, host: Host | None, account: Account, limit: str = ''):
        self.host = host
        self.account = account
        self.greenlet: Any = None
        self.killed = False                         # the running statement is cancelled
        self.reason = ''                            # text of its error
        self.ending = 'cancelled'                   # kind of its error: this, or 'timeout'
        self.raised: BaseException | None = None    # exception that was thrown into the greenlet inside a statement
        self.waiter: Waiter | None = None           # set while the task waits
        self.is_woken = False                       # the wait is about to end
        self.calling = False                        # inside an exposed Python function
        self.leaving: Any = None                    # callback that flushes the output if that function waits
        self.limit = limit
        self.began = 0.0                            # time of the statement's first clock check
        self.deadline = 0.0                         # end of the time limit; 0: no check yet
        self.ring: Callable[[], None] | None = None     # makes the checks in code of Python look at the clock
        self.is_clean = False                       # no field needs a reset before the next statement
        self.move_to(getcurrent())

    def move_to(self, greenlet: Greenlet) -> None:
        """Makes the greenlet the one that runs this task."""
        self.greenlet = greenlet
        setattr(greenlet, TASK, self)

    def described(self) -> str:
        """The running statement, as text for the log."""
        return 'the init script' if self.host is None else self.host.running()

    def resumed(self) -> None:
        """Called when the task resumes: restores the state that it runs under."""

    def mark_killed(self, reason: str, ending: str = 'cancelled') -> None:
        """Notes that the running statement is cancelled. See Dispatcher.cancel()."""
        if not self.killed:
            self.reason, self.ending = reason, ending
        self.killed, self.is_clean = True, False

    def interrupt(self) -> None:
        """Ends the task's turn as soon as possible. Callable from any thread."""
        if self.ring is not None:
            self.ring()

    def raise_kept(self) -> None:
        """Raises the exception that was thrown into the greenlet."""
        raised, self.raised = self.raised, None
        assert raised is not None
        raise raised


class StopRequest:
    """Another thread asks to cancel the statement that a task runs now. It has no effect on the task's next statement.

    Args:
        then: called in the loop's thread when the statement is cancelled; it only sets attributes.
    """

    __slots__ = ('task', 'reason', '_then', '_mark')

    def __init__(self, task: Task, reason: str, then: Callable[[], None] = lambda: None):
        self.task = task
        self.reason = reason
        self._then = then
        self._mark = mark_of(task)

    @property
    def is_current(self) -> bool:
        """Whether the task still runs that statement."""
        return bool(mark_of(self.task) == self._mark)

    def meet(self, task: Task) -> None:
        """In the loop's thread: cancels the running statement of the calling task, if it is this one."""
        if task is self.task and self.is_current:
            task.mark_killed(self.reason)
            self._then()


def mark_of(task: Task) -> Any:
    """Differs from that of any other statement of the task."""
    return None if task.host is None else task.host.mark


def current_task() -> Any:
    """The task of the calling greenlet, or None."""
    return getattr(getcurrent(), TASK, None)


def switch(waiter: Waiter) -> None:
    """Ends a wait, unless it has already ended."""
    if waiter.greenlet is not None:
        waiter.switch(None)
