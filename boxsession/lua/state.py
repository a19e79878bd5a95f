"""The objects that all tasks of a console's Lua state share."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from boxsession.base.counters import Counters
from boxsession.lua.memory import Memory
from boxsession.lua.task import LuaTask
from boxsession.scheduler.dispatcher import Dispatcher

__all__ = ['State']


@dataclass(slots=True)
class State:
    """One Lua state.

    Attributes:
        dispatcher: switches between tasks.
        counters: counts the ends of statements, and exceeded limits.
        memory: the memory limit.
        tasks: all live tasks, by their ids in Lua.
        session_main, request_main, fiber_main: Lua functions. The coroutines of tasks run them.
    """

    dispatcher: Dispatcher
    counters: Counters
    memory: Memory
    tasks: dict[int, LuaTask] = field(default_factory=dict)
    session_main: Any = None
    request_main: Any = None
    fiber_main: Any = None
