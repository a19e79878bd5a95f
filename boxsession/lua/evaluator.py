"""Runs the statements of one session in Lua."""
from __future__ import annotations

import logging

from lupa import lua51

from boxsession.base.session import Session
from boxsession.lua.contract import CHECK, CONNECT, DISCONNECT, FAIL, LAST_ERROR, LEFT_REMOTE, STATEMENT, STATEMENT_OPEN
from boxsession.lua.state import State
from boxsession.lua.task import LuaTask
from boxsession.scheduler.task import STATEMENTS, TRIGGERS, Host
from boxsession.scheduler.turns import Account
from boxsession.values.packed import Tagged

__all__ = ['Evaluator']

log = logging.getLogger('boxsession')


class Evaluator:
    """Runs the statements of one session. Made, used and closed by the greenlet of that session."""

    __slots__ = ('task', '_state', '_session', '_dispatcher', '_memory', '_send', '_used')

    def __init__(self, state: State, session: Session, host: Host, account: Account):
        self.task = LuaTask(state.dispatcher, state.memory, host, account, STATEMENTS)
        self._state = state
        self._session = session
        self._dispatcher = state.dispatcher
        self._memory = state.memory
        self._used = self._memory.used
        self._start()

    def _start(self):
        session = self._session
        self._memory.lift()
        coroutine = self._state.session_main.coroutine(
            session.id, session.fd, session.peer.encode(), session.user.encode(), session.uid,
            session.dialect.encode(), session.type.encode())
        self.task.start(coroutine)
        self._state.tasks[self.task.fid] = self.task
        self._send = coroutine.send
        self._memory.keep()

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged:
        """Runs a statement and gives what leaves Lua (see `boxsession.values.documents`).

        With `may_continue`, b'' when the statement is not complete yet.
        """
        task, dispatcher, memory = self.task, self._dispatcher, self._memory
        if not task.is_clean:
            dispatcher.begin(task)
            if task.killed:                     # before it began
                self._state.counters.count_error(task.ending)
                return self.error(task.reason or 'the statement was cancelled')
        operation = STATEMENT_OPEN if may_continue else STATEMENT
        # As LuaTask.cross() has it: a call more would be 3 % of a short statement.
        used = self._used() + len(text)
        if used > memory.look_at and (memory.has_moved(used) or not task.is_watched):
            operation = task.prepare(operation, used, len(text))
        dispatcher.running = task
        dispatcher.overruns.last = 0.0
        reply = self._send((operation, text))
        if memory.lifted or not task.is_clean:
            task.end()
        return reply

    def is_incomplete(self, text: bytes) -> bool:
        """Whether a statement, which is not run, waits for more lines."""
        return self._perform(CHECK, text) == b''

    def is_wrong(self, text: bytes) -> bool:
        """Whether a statement, which is not run, is no Lua."""
        return self._perform(CHECK, text) == b'wrong'

    def connect(self) -> bytes:
        """Runs the on_connect triggers; gives b'', or the error that is to end the session."""
        return self._perform(CONNECT, b'', TRIGGERS)

    def disconnect(self) -> None:
        """Runs the on_disconnect triggers and ends the session on the Lua side."""
        tasks = self._state.tasks
        try:
            try:
                self._perform(DISCONNECT, b'', TRIGGERS)
            except lua51.LuaError:
                # The coroutine has died of something that it should have caught: the triggers have one of their own.
                log.exception('session %d: its evaluator failed', self._session.id)
                tasks.pop(self.task.fid, None)
                self._start()
                self._perform(DISCONNECT, b'', TRIGGERS)
        finally:
            tasks.pop(self.task.fid, None)
            self._memory.lift()
            self._send = None
            self.task.detach()
            self._memory.keep()

    def last_error(self) -> bytes:
        """The error that the last statement ended in, as text; empty where there was none."""
        return self._perform(LAST_ERROR, b'')

    def left_remote(self) -> None:
        """Runs the console's on_client_disconnect hook."""
        self._perform(LEFT_REMOTE, b'', TRIGGERS)

    def error(self, message: str) -> bytes:
        """An error in the session's output format, as a statement would have ended in it."""
        return self._perform(FAIL, message.encode())

    def _perform(self, operation, text, limit=''):
        task = self.task
        task.killed, task.limit, task.deadline = False, limit, 0.0
        try:
            return task.cross(operation, len(text), text)
        finally:
            task.limit = STATEMENTS
            self._dispatcher.running = None
            # It may have taken long: whoever runs one after the other looks whether the turn is over.
            self._dispatcher.has_ticked = True
