"""The ports through which trusted Lua makes room in the Lua memory."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from boxsession.lua.contract import NO_ROOM
from boxsession.lua.ports import Port
from boxsession.lua.state import State
from boxsession.scheduler.task import current_task

__all__ = ['MemoryPorts']


class MemoryPorts:
    """The memory ports of one Lua state."""

    def __init__(self, state: State):
        self._memory = state.memory
        self._hits = state.counters.hits

    def ports(self) -> dict[str, Port]:
        """The ports, by their names in Lua."""
        return {'MAKE_ROOM': Port(self._make_room), 'KEEP_LIMIT': Port(self._keep_limit),
                'GIVE_ALL': Port(self._give_all), 'HAS_ROOM': Port(self._memory.has_room)}

    def text(self, answer: Callable[[Any], Any]) -> Port:
        """Makes a port whose result may be a string."""
        return Port(lambda key: self.if_there_is_room(answer(key)))

    def if_there_is_room(self, answer):
        """Returns a port's result, or NO_ROOM. Without room for the string, Lua's error would jump over Python frames."""
        if isinstance(answer, bytes) and not self._memory.has_room_for(answer):
            return NO_ROOM
        return answer

    def make_room_for(self, answer: bytes) -> None:
        """Lifts the memory limit for a port's result, if trusted code reads the port and must not fail."""
        self._memory.lift(len(answer))

    def _make_room(self, for_want_of_it):
        """Lifts the memory limit for trusted code. The argument is 1 after a memory error, which is counted."""
        self._hits['limits.lua_memory_bytes'] += bool(for_want_of_it)
        self._memory.lift()
        return True

    def _keep_limit(self, _):
        self._memory.keep(current_task().is_tight)
        return True

    def _give_all(self, _):
        self._memory.give_all()
        return True
