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
    """Runs requests of one session, one after the other. Made, used and closed by one greenlet; a session has several."""

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
        """Evaluates an expression, or calls a function. Lists, and the request's number, are in msgpack.

        Gives '=' and a list of the results, or '!' and a list of an error's type, code, message and what was denied.
        """
        began = time.monotonic()
        if not self.task.is_clean:
            self._dispatcher.begin(self.task)
        try:
            return self.task.cross(operation, len(name) + len(arguments), name, arguments, sync)
        finally:
            self._observe(time.monotonic() - began)

    def eval_error(self) -> bytes:
        """The error of the statement that the last request ran by console.eval(), as text; empty where there was none."""
        return self.task.cross(EVAL_ERROR, 0, b'', b'', 0)

    def run_batch(self, frames: bytes, longest: int) -> tuple[bytes, int, int, bytes] | None:
        """Runs frames as they came, as far as Lua knows what is in them; `longest` is the most that one may have (0: any).

        Gives the answers' frames, how many bytes of `frames` they are for, how many requests that were, and what the one
        behind these gave, as run() does, or b'' where it is still to be run; None when memory is short.
        When a request lets others in, the host is told by give_back() what has not begun, and some answers.
        """
        if self._memory.used() + len(frames) > self._memory.ample:
            return None
        answers, position, count, reply = self.task.cross(BATCH, len(frames), frames, b'', longest)
        return answers, int(position) - 1, int(count), reply

    def close(self) -> None:
        """Ends the task on the Lua side."""
        if self._state.tasks.pop(self.task.fid, None) is not None:
            # The coroutine's end and release touch Lua, which must not find the memory full.
            self._memory.lift()
            try:
                self.task.coroutine.send((0, b'', b'', 0))
            except StopIteration:
                pass
            self.task.detach()
            self._memory.keep()
