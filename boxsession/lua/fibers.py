"""Fibers that statements start. Each fiber has its own greenlet and its own Lua coroutine."""
from __future__ import annotations

from functools import partial

import gevent
from gevent import get_hub, getcurrent
from gevent.hub import Waiter

from boxsession.base.greenlets import UserGreenlet
from boxsession.base.session import current_session, enter_session
from boxsession.lua.ports import Port
from boxsession.lua.state import State
from boxsession.lua.task import LuaTask
from boxsession.scheduler.task import current_task, switch

__all__ = ['Fibers']


class Fibers:
    """The fibers of one Lua state.

    Attributes:
        most: maximum number of live fibers; 0 for no limit.
    """

    def __init__(self, state: State):
        self.most = 0
        self._state = state
        self._dispatcher = state.dispatcher
        self._live: set[gevent.Greenlet] = set()        # these references keep the greenlets alive until they end

    def __len__(self) -> int:
        return len(self._live)

    def join(self, timeout: float) -> None:
        """Waits for the ends of all fibers, up to `timeout` seconds."""
        gevent.joinall(list(self._live), timeout=timeout)

    # Each port takes the id that Lua has given to the fiber

    def ports(self) -> dict[str, Port]:
        """The ports, by their names in Lua."""
        return {'SPAWN': Port(self.spawn), 'START': Port(self.start), 'WAKE': Port(self.wake)}

    def spawn(self, fid: float) -> bool | None:
        """Queues a new fiber, as Tarantool's fiber.new(). None if there are too many fibers."""
        if self._has_all():
            return None
        task = current_task()
        greenlet = self._new(task, fid)
        self._dispatcher.turns.short.push(task.account, greenlet.switch)
        return True

    def start(self, fid: float) -> bool | None:
        """Runs a new fiber up to its first wait, as Tarantool's fiber.create().

        Returns None if there are too many fibers, False if the calling task was cancelled before or meanwhile.
        """
        task, dispatcher = current_task(), self._dispatcher
        if task.killed:
            return False
        if self._has_all():
            return None
        greenlet, waiter, began = self._new(task, fid), Waiter(), dispatcher.began
        # The hub runs callbacks in order: first the fiber, then the caller. The caller's turn continues.
        for resume in (greenlet.switch, partial(switch, waiter)):
            get_hub().loop.run_callback(dispatcher.turns.short.run, task.account, resume)
        dispatcher.leave(task, waiter, is_woken=True)
        dispatcher.resumed(task)
        dispatcher.began = began
        return not task.killed

    def wake(self, fid: float) -> bool:
        """Wakes the task with this id if it waits."""
        task = self._state.tasks.get(int(fid))
        if task is not None:
            self._dispatcher.wake(task)
        return True

    def _has_all(self):
        if not self.most or len(self._live) < self.most:
            return False
        self._state.counters.hits['limits.fibers'] += 1
        return True

    def _new(self, task, fid):
        greenlet = UserGreenlet(self._run, int(fid), current_session(), task.host, task.account)
        self._live.add(greenlet)
        return greenlet

    def _run(self, fid, session, host, account):
        """The body of a fiber's greenlet."""
        if session is not None:
            enter_session(session)
        state, dispatcher, memory = self._state, self._dispatcher, self._state.memory
        task = state.tasks[fid] = LuaTask(dispatcher, memory, host, account)
        task.fid = fid
        getcurrent().is_shielded = True
        dispatcher.begin_turn()
        memory.lift()
        dispatcher.running = task
        task.attach(state.fiber_main.coroutine(fid))
        try:
            task.coroutine.send(None)
        finally:
            dispatcher.running = None
            memory.lift()
            task.detach()
            memory.keep()
            del state.tasks[fid]
            self._live.discard(getcurrent())
            if host is not None:
                host.switching_out()
        if task.raised is not None:
            task.raise_kept()
