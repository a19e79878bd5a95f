"""The ports for the calling task's host, its cancellation, and its calls of Python functions."""
from __future__ import annotations

from gevent import getcurrent

from boxsession.base.errors import StatementCancelled
from boxsession.base.greenlets import TASK
from boxsession.lua.functions import Calls
from boxsession.lua.memory_ports import MemoryPorts
from boxsession.lua.ports import Port
from boxsession.lua.state import State
from boxsession.scheduler.calls import begin_call, end_call
from boxsession.scheduler.task import current_task

__all__ = ['HostPorts']


class HostPorts:
    """The ports through which the tasks of one Lua state reach their hosts.

    Args:
        calls: the Python functions that Lua can call.
    """

    def __init__(self, state: State, calls: Calls, memory: MemoryPorts):
        self._dispatcher = state.dispatcher
        self._counters = state.counters
        self._calls = calls
        self._memory = memory

    def ports(self) -> dict[str, Port]:
        """The ports, by their names in Lua."""
        text = self._memory.text
        return {'CALL': text(self._call), 'REASON': Port(self._reason), 'STOPPED': Port(self._stopped),
                'PUSH': Port(self._push), 'GIVE_BACK': Port(self._give_back), 'DELIMITER': Port(self._delimiter),
                'CONTROL': Port(self._control)}

    def _call(self, request):
        """Calls an exposed function. See Calls.call() for the argument and the result."""
        task, dispatcher = getattr(getcurrent(), TASK), self._dispatcher
        if task.killed:
            return False
        timer = begin_call(dispatcher, task)
        try:
            answer = self._calls.call(request, dispatcher.pause_call)
        finally:
            end_call(dispatcher, task, timer)
        asked = dispatcher.asked
        if asked is not None:
            asked.meet(task)
        return False if task.killed else answer

    def _push(self, tagged):
        task = getattr(getcurrent(), TASK)
        try:
            task.host.push(tagged)
        except StatementCancelled:
            return False
        self._dispatcher.rejoin()
        return not task.killed

    def _give_back(self, what):
        current_task().host.give_back(what)
        return True

    def _delimiter(self, delimiter):
        current_task().host.set_delimiter(delimiter)
        return True

    def _control(self, command):
        current_task().host.control(command.decode())
        return True

    def _reason(self, _):
        """The reason why the statement was cancelled; None for the default text."""
        reason = current_task().reason.encode()
        self._memory.make_room_for(reason)      # trusted code reads this port, and must not fail
        return reason or None

    def _stopped(self, _):
        """Counts a statement that ended by a cancel or a timeout."""
        self._counters.count_error(current_task().ending)
        return True
