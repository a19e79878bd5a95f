"""The Lua state that all sessions of a console share, as its tasks see it."""
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
        tasks: all that run in it, by the id that Lua knows them by.
        session_main, request_main, fiber_main: Lua's functions that the coroutines of tasks run.
    """

    dispatcher: Dispatcher
    counters: Counters
    memory: Memory
    tasks: dict[int, LuaTask] = field(default_factory=dict)
    session_main: Any = None
    request_main: Any = None
    fiber_main: Any = None
