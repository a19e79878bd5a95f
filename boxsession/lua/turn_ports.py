"""The ports for clock checks, waits and turns."""
from __future__ import annotations

import logging
import time

from gevent import getcurrent

from boxsession.base.greenlets import TASK
from boxsession.lua.contract import ASKED, CALLED, FIRST_LOOK, LATE, MANY, OVER
from boxsession.lua.ports import Port
from boxsession.lua.state import State
from boxsession.scheduler.task import current_task

__all__ = ['TurnPorts']

log = logging.getLogger('boxsession')


class TurnPorts:
    """The ports through which the tasks of one Lua state take turns."""

    def __init__(self, state: State):
        self._dispatcher = state.dispatcher
        self._memory = state.memory

    def ports(self) -> dict[str, Port]:
        """The ports, by their names in Lua."""
        return {'PARK': Port(lambda seconds: self._dispatcher.park(current_task(), seconds)), 'TICK': Port(self._tick),
                'TURN': Port(self._turn), 'LET_IN': Port(self._let_in), 'COLLECTED': Port(self._collected)}

    def _tick(self, where):
        """The clock check: the count hook calls it. See contract.py for the argument and the result."""
        dispatcher, memory = self._dispatcher, self._memory
        task = getattr(getcurrent(), TASK)
        dispatcher.has_ticked = True
        if dispatcher.deadlines.seconds.get(task.limit):
            dispatcher.deadlines.check(task)
        used = memory.used()
        now = time.monotonic()
        if dispatcher.overruns.is_too_long(now, used):
            self._stop_holding(task, now)
        asked = dispatcher.asked
        if asked is not None:
            asked.meet(task)
        if task.killed:
            if where:
                task.is_interrupted = False
            return -task.fid
        answer = task.fid
        if used > memory.collect_at and memory.is_time_to_collect(used):
            answer += LATE
        is_asked = where and task.is_interrupted
        is_called = where >= CALLED
        # The monitor may ask for a clock check after a few instructions. Such a check raises the memory limit by less,
        # unless it would have come anyway.
        if is_asked and not is_called:
            task.allowed = memory.asked(used)
        elif task.allowed:
            task.allowed = 0
            memory.keep(task.is_tight)
        elif used > memory.look_at:
            memory.follow(used)
            if used > memory.large and not task.is_watched:
                task.is_watched = True
                answer += MANY
        slice_seconds = dispatcher.turns.slice_seconds
        if where & FIRST_LOOK:
            # Pipelined statements share one turn. But each gets a full slice: so a short statement is atomic.
            task.began = now
        elif slice_seconds and now - max(dispatcher.began, task.began) >= slice_seconds:
            answer += OVER
        if is_asked:
            task.is_interrupted = False
            answer += ASKED
        dispatcher.looked = now
        return answer

    def _stop_holding(self, task, now):
        """Cancels a statement after an overrun of one operation (see overruns.py). The second time, closes the session."""
        seconds = now - self._dispatcher.overruns.last
        task.account.offences += 1
        why = (f'one operation blocked all sessions for {seconds:.2f} s: keys of a table that collide, or strings that '
               'take long to compare')
        log.warning('a statement was stopped: %s: %s', why, task.described())
        self._dispatcher.cancel(task, f'the statement was stopped: {why}')
        if task.account.offences > 1 and task.host is not None:
            task.host.kill(f'the session is closed: {why}, again')

    def _turn(self, _):
        """Preempts the task. Returns its id, or minus its id if it must end."""
        task = getattr(getcurrent(), TASK)
        task.is_clean = False
        self._dispatcher.take_turn(task)
        return -task.fid if task.killed else task.fid

    def _let_in(self, always):
        """Called between two steps of a garbage collection. Lifts the memory limit for the next step.

        Preempts the task first if its slice is used or `always` is true. Returns False if the task was cancelled.
        """
        task = getattr(getcurrent(), TASK)
        if always or self._dispatcher.turns.is_over(self._dispatcher.began):
            task.is_clean = False
            self._dispatcher.take_turn(task)
        self._memory.lift()
        return not task.killed

    def _collected(self, _):
        """Restores the memory limit after a garbage collection."""
        self._memory.keep(current_task().is_tight)
        self._dispatcher.looked = time.monotonic()
        return True
