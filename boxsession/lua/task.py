"""A task whose code is Lua: one greenlet with one Lua coroutine."""
from __future__ import annotations

from typing import Any

from boxsession.lua.contract import CLOSELY, COLLECT, TIGHT
from boxsession.lua.interrupt import LOCK, address_of, interrupt
from boxsession.lua.memory import Memory
from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.scheduler.task import Host, Task
from boxsession.scheduler.turns import Account

__all__ = ['LuaTask']


class LuaTask(Task):
    """See `boxsession.scheduler.task.Task`."""

    __slots__ = ('fid', 'is_tight', 'is_watched', 'allowed', 'coroutine', 'address', 'is_interrupted', '_memory',
                 '_dispatcher')

    def __init__(self, dispatcher: Dispatcher, memory: Memory, host: Host | None, account: Account, limit: str = ''):
        super().__init__(host, account, limit)
        self._dispatcher = dispatcher
        self._memory = memory
        self.fid = 0                    # what Lua knows it by; 0 until attach()
        self.is_tight = False           # what it runs began when memory was short, and may use the reserve
        self.is_watched = False         # there is much in memory while it runs, and Lua knows
        self.allowed = 0                # the memory limit when its turn was ended for that; 0: none
        self.coroutine: Any = None      # of Lua's
        self.address = 0                # of that coroutine's state, for as long as it is referred to
        self.is_interrupted = False     # its hook is called at each instruction

    def resumed(self) -> None:
        """Puts the memory limit in force that holds while the task runs."""
        self._memory.keep(self.is_tight)
        if self.allowed:
            self._memory.narrow(self.allowed)

    def interrupt(self) -> None:
        """Ends the turn at the next instruction, in whatever thread this is called."""
        interrupt(self)

    def attach(self, coroutine: Any) -> None:
        """The task runs in that coroutine, which is not released before detach()."""
        with LOCK:
            self.address = 0
        self.coroutine = coroutine      # what it replaces is released: there must be room
        self.address = address_of(coroutine)

    def start(self, coroutine: Any) -> None:
        """The same for a coroutine that tells the task's id first."""
        self.fid = int(coroutine.send(None))
        self.attach(coroutine)

    def detach(self) -> None:
        """Gives the coroutine up. Its release touches Lua, which must not find the memory full."""
        with LOCK:
            self.address = 0
        self.coroutine = None

    def cross(self, operation: int, size: int, *content: bytes | int) -> Any:
        """Sends an operation into Lua, whose content has `size` bytes, and gives what comes back.

        This is the one way in, but for Evaluator.statement(), which has it inlined.
        """
        memory, dispatcher = self._memory, self._dispatcher
        used = memory.used() + size
        if used > memory.look_at and (memory.has_moved(used) or not self.is_watched):
            operation = self.prepare(operation, used, size)
        dispatcher.running = self
        dispatcher.overruns.last = 0.0
        reply = self.coroutine.send((operation, *content))
        if memory.lifted or not self.is_clean:
            self.end()
        return reply

    def end(self) -> None:
        """Behind a statement, where the task is not clean or the memory limit was lifted."""
        if self._memory.lifted or self.is_tight or self.allowed:
            self.is_tight, self.allowed = False, 0
            self._memory.keep()
        if self.raised is not None:
            self.raise_kept()

    def prepare(self, operation: int, used: int, size: int) -> int:
        """There is, or was, much in memory: gives the operation with the flags that tell Lua so.

        Where memory is short, makes room for a statement of `size` bytes first.
        """
        memory = self._memory
        if used > memory.large and not self.is_watched:
            self.is_watched = True
            operation += CLOSELY
        if used + size <= memory.ample:
            memory.follow(used)
            return operation
        self.is_tight, self.is_clean = True, False
        collect = memory.is_time_to_collect(used)
        memory.lift(4 * size)
        return operation + TIGHT + (COLLECT if collect else 0)
