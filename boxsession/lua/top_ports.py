"""The ports of fiber.top(): while it is enabled, the dispatcher and the lanes tell it which task runs.

Nothing may be slower while it is disabled, and it is told on the way of each statement. So there is no test on that way:
enabling changes the classes of these objects, and disabling changes them back.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from boxsession.lua.memory_ports import MemoryPorts
from boxsession.lua.ports import Port
from boxsession.lua.state import State
from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.scheduler.top import Top
from boxsession.scheduler.turns import Account, Lane, Turns
from boxsession.values.packed import pack

__all__ = ['TopPorts']

_RUNNING: Any = Dispatcher.__dict__['running']      # the slot, which the property below hides


class _Dispatcher(Dispatcher):
    __slots__ = ()

    @property
    def running(self) -> Any:
        return _RUNNING.__get__(self)

    @running.setter
    def running(self, task: Any) -> None:
        _RUNNING.__set__(self, task)
        top: Any = self.turns.top
        top.switch(0 if task is None else task.fid)

    def rejoin(self) -> None:
        _begin(self.turns)
        super().rejoin()


class _Lane(Lane):
    __slots__ = ()

    def run(self, account: Account, resume: Callable[[], None], start: float = 0.0) -> None:
        # A bound method may be called after _disable(), as Fibers.start() schedules one: then `top` is None, and super()
        # would refuse this object.
        top = _begin(self._turns)
        try:
            Lane.run(self, account, resume, start)
        finally:
            if top is not None:
                # A task that waits outside of the scheduler, as in a function of the program, remains `running`.
                top.switch(0)


def _begin(turns: Turns) -> Top | None:
    """Outside of a turn no task runs, even if the turn in which fiber.top() was enabled has ended unseen."""
    top = turns.top
    if top is not None and not turns.is_running:
        top.forget_running()
    return top


class TopPorts:
    """The ports of one Lua state."""

    def __init__(self, state: State, memory: MemoryPorts):
        self._state = state
        self._turns = state.dispatcher.turns
        self._memory = memory

    def ports(self) -> dict[str, Port]:
        """The ports, by their names in Lua."""
        return {'TOP_ENABLE': Port(self._enable), 'TOP_DISABLE': Port(self._disable),
                'TOP': self._memory.text(self._look)}

    def _enable(self, fid):
        """Begins to account for time. The argument is the id of the calling task."""
        turns, dispatcher = self._turns, self._state.dispatcher
        if turns.top is None:
            turns.top = Top(self._state.tasks)
            turns.top.switch(int(fid))
            dispatcher.__class__ = _Dispatcher
            turns.short.__class__ = turns.long.__class__ = _Lane
        return True

    def _disable(self, _):
        turns = self._turns
        self._state.dispatcher.__class__ = Dispatcher
        turns.short.__class__ = turns.long.__class__ = Lane
        turns.top = None
        return True

    def _look(self, fids):
        """Takes ids of tasks, with blanks between them. b'' if it is not enabled.

        Returns a packed list: the time of all in seconds, and the three numbers of each task (see Top.row()).
        """
        top = self._turns.top
        if top is None:
            return b''
        numbers = [0.0]
        for fid in fids.split():
            numbers += top.row(int(fid))
        numbers[0] = top.whole()
        return pack(numbers)
