"""The ports that look at the clock and let others in."""
from __future__ import annotations

import logging
import time

from gevent import getcurrent

from boxsession.base.greenlets import TASK
from boxsession.lua.contract import ASKED, FIRST_LOOK, LATE, MANY, OVER
from boxsession.lua.ports import Port
from boxsession.lua.state import State
from boxsession.scheduler.task import current_task

__all__ = ['TurnPorts']

log = logging.getLogger('boxsession')


class TurnPorts:
    """The ports by which the tasks of one Lua state take turns."""

    def __init__(self, state: State):
        self._dispatcher = state.dispatcher
        self._memory = state.memory

    def ports(self) -> dict[str, Port]:
        """The ports by the names that they have in Lua."""
        return {'PARK': Port(lambda seconds: self._dispatcher.park(current_task(), seconds)), 'TICK': Port(self._tick),
                'TURN': Port(self._turn), 'LET_IN': Port(self._let_in), 'COLLECTED': Port(self._collected)}

    def _tick(self, where):
        """Called every so many instructions; contract.py says what the argument and the answer mean."""
        dispatcher, memory = self._dispatcher, self._memory
        task = getattr(getcurrent(), TASK)
        dispatcher.has_ticked = True
        if dispatcher.deadlines.seconds.get(task.limit):
            dispatcher.deadlines.check(task)
        used = memory.used()
        now = time.monotonic()
        if dispatcher.overruns.is_too_long(now, used):
            self._stop_holding(task, now)
        if task.killed:
            if where:
                task.is_interrupted = False
            return -task.fid
        answer = task.fid
        if used > memory.collect_at and memory.is_time_to_collect(used):
            answer += LATE
        is_asked = where and task.is_interrupted
        # A look that was asked for, behind a few instructions, does not widen what may be filled between two looks.
        if is_asked:
            task.allowed = memory.in_force
        elif task.allowed:
            task.allowed = 0
            memory.keep(task.is_tight)
        elif used > memory.look_at:
            memory.follow(used)
            if used > memory.large and not task.is_watched:
                task.is_watched = True
                answer += MANY
        slice_seconds = dispatcher.turns.slice_seconds
        if where == FIRST_LOOK:
            # Statements that were sent together are one turn, but each has a slice: so a short one is atomic.
            task.began = now
        elif slice_seconds and now - max(dispatcher.began, task.began) >= slice_seconds:
            answer += OVER
        if is_asked:
            task.is_interrupted = False
            answer += ASKED
        dispatcher.looked = now
        return answer

    def _stop_holding(self, task, now):
        """One operation of a task's has held everybody, for no good reason. Who does it again loses the session."""
        seconds = now - self._dispatcher.overruns.last
        task.account.offences += 1
        why = (f'one operation held all sessions for {seconds:.2f} s: keys of a table that collide, or texts that take '
               'long to compare')
        log.warning('stopped, since %s: %s', why, task.described())
        self._dispatcher.cancel(task, f'the statement was stopped: {why}')
        if task.account.offences > 1 and task.host is not None:
            task.host.kill(f'the session is closed: {why}, again')

    def _turn(self, _):
        """Lets the others in; gives the task's id, or minus that where it is to end."""
        task = getattr(getcurrent(), TASK)
        task.is_clean = False
        self._dispatcher.take_turn(task)
        return -task.fid if task.killed else task.fid

    def _let_in(self, always):
        """Lets the others in while the garbage is collected, where the turn is over or `always`; then lifts the memory
        limit. Whether the task goes on."""
        task = getattr(getcurrent(), TASK)
        if always or self._dispatcher.turns.is_over(self._dispatcher.began):
            task.is_clean = False
            self._dispatcher.take_turn(task)
        self._memory.lift()
        return not task.killed

    def _collected(self, _):
        """The garbage has been collected: puts the memory limit back."""
        self._memory.keep(current_task().is_tight)
        self._dispatcher.looked = time.monotonic()
        return True
