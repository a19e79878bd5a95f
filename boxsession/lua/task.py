"""A task that runs Lua: one greenlet with one Lua coroutine."""
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
    """A task of a Lua state. See `boxsession.scheduler.task.Task`."""

    __slots__ = ('fid', 'is_tight', 'is_watched', 'allowed', 'coroutine', 'address', 'is_interrupted', '_memory',
                 '_dispatcher', '__weakref__')

    def __init__(self, dispatcher: Dispatcher, memory: Memory, host: Host | None, account: Account, limit: str = ''):
        super().__init__(host, account, limit)
        self._dispatcher = dispatcher
        self._memory = memory
        self.fid = 0                    # its id in Lua; 0 until start()
        self.is_tight = False           # memory was short when its statement began: it may use the reserve
        self.is_watched = False         # Lua was told that much memory is in use
        self.allowed = 0                # limit in force at an interrupt; not raised until the next clock check; 0: none
        self.coroutine: Any = None      # its Lua coroutine
        self.address = 0                # address of that coroutine's lua_State; 0 once it may be released
        self.is_interrupted = False     # the monitor asked for a hook call at the next instruction

    def resumed(self) -> None:
        """Sets the memory limit for this task."""
        self._memory.keep(self.is_tight)
        if self.allowed:
            self._memory.narrow(self.allowed)

    def interrupt(self) -> None:
        """Makes the hook check the clock at the next instruction. Callable from any thread."""
        super().interrupt()
        interrupt(self)

    def attach(self, coroutine: Any) -> None:
        """Makes the task run in this coroutine. The task keeps a reference to it until detach()."""
        with LOCK:
            self.address = 0
        self.coroutine = coroutine      # releases the old coroutine, which may allocate: the caller has made room
        self.address = address_of(coroutine)

    def start(self, coroutine: Any) -> None:
        """Like attach(), for a coroutine that yields the task's id first."""
        self.fid = int(coroutine.send(None))
        self.attach(coroutine)

    def detach(self) -> None:
        """Releases the coroutine. That may allocate in Lua: the caller must have lifted the memory limit."""
        with LOCK:
            self.address = 0
        self.coroutine = None

    def cross(self, operation: int, size: int, *content: bytes | int) -> Any:
        """Sends an operation and its content to the Lua coroutine, and returns the result.

        All crossings go through here. Only Evaluator.statement() has this code inlined.

        Args:
            size: the number of bytes in `content`.
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
        """Cleans up after a statement. Needed if the task is not clean or the memory limit was lifted."""
        if self._memory.lifted or self.is_tight or self.allowed:
            self.is_tight, self.allowed = False, 0
            self._memory.keep()
        if self.raised is not None:
            self.raise_kept()

    def prepare(self, operation: int, used: int, size: int) -> int:
        """Adds the memory flags to an operation. If memory is short, makes room for `size` bytes first.

        Args:
            operation: see contract.py.
            used: bytes of Lua memory in use, with `size`.
            size: bytes of the operation's content.
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
