"""Runs the requests of the binary protocol in Lua."""
from __future__ import annotations

import time

from boxsession.base.session import Session
from boxsession.lua.contract import BATCH, CALL, CALL_16, EVAL, EVAL_ERROR, LOGIN
from boxsession.lua.state import State
from boxsession.lua.task import LuaTask
from boxsession.scheduler.task import STATEMENTS, Host
from boxsession.scheduler.turns import Account

__all__ = ['Requests']


class Requests:
    """Runs requests of one session one by one. Only one greenlet may make, use and close it. A session has several."""

    EVAL, CALL, LOGIN, CALL_16 = EVAL, CALL, LOGIN, CALL_16

    __slots__ = ('task', '_state', '_dispatcher', '_memory', '_observe')

    def __init__(self, state: State, session: Session, host: Host, account: Account):
        self.task = LuaTask(state.dispatcher, state.memory, host, account, STATEMENTS)
        self._state = state
        self._dispatcher = state.dispatcher
        self._memory = memory = state.memory
        self._observe = state.counters.seconds_taken['binary'].observe
        memory.lift()
        self.task.start(state.request_main.coroutine(session.id))
        state.tasks[self.task.fid] = self.task
        memory.keep()

    def run(self, operation: int, name: bytes, arguments: bytes, sync: bytes) -> bytes:
        """Evaluates an expression, or calls a function.

        Args:
            operation: EVAL, CALL, CALL_16 or LOGIN.
            name: the expression, the function's name, or the user's name.
            arguments: a list in msgpack.
            sync: the request's number, in msgpack.

        Returns:
            '=' and a msgpack list of the results; or '!' and a msgpack list of errors: see `protocol.iproto.failure`.
        """
        began = time.monotonic()
        if not self.task.is_clean:
            self._dispatcher.begin(self.task)
        try:
            return self.task.cross(operation, len(name) + len(arguments), name, arguments, sync)
        finally:
            self._observe(time.monotonic() - began)

    def eval_error(self) -> bytes:
        """The text of the error of the statement that the last request ran through console.eval(); b'' for no error."""
        return self.task.cross(EVAL_ERROR, 0, b'', b'', 0)

    def run_batch(self, frames: bytes, longest: int) -> tuple[bytes, int, int, bytes] | None:
        """Runs received frames in Lua, up to the first one that Lua does not handle itself.

        If a request waits or is preempted, Lua first calls the host's give_back(): see sessions/workers.py.

        Args:
            longest: maximum size of a request, in bytes; 0 for no limit.

        Returns:
            The frames of the responses, without those that give_back() has got; the number of bytes of `frames` that were
            handled; the number of requests in them; and the next request's result, as run() returns it, or b'' if that
            request has not run. None if memory is short: then nothing has run.
        """
        if self._memory.used() + len(frames) > self._memory.ample:
            return None
        answers, position, count, reply = self.task.cross(BATCH, len(frames), frames, b'', longest)
        return answers, int(position) - 1, int(count), reply

    def close(self) -> None:
        """Ends the task on the Lua side."""
        if self._state.tasks.pop(self.task.fid, None) is not None:
            # Ending and releasing the coroutine may allocate in Lua.
            self._memory.lift()
            try:
                self.task.coroutine.send((0, b'', b'', 0))
            except StopIteration:
                pass
            self.task.detach()
            self._memory.keep()
