"""Runs the statements of one session in Lua."""
from __future__ import annotations

import logging
import re

from lupa import lua51

from boxsession.base.session import Session
from boxsession.lua.contract import (
    CHECK,
    CONNECT,
    DENY,
    DISCONNECT,
    EXCHANGE,
    FAIL,
    LAST_ERROR,
    LEAVE,
    LEFT_REMOTE,
    STATEMENT,
    STATEMENT_OPEN,
    STYLE,
)
from boxsession.lua.state import State
from boxsession.lua.task import LuaTask
from boxsession.protocol.foreign import is_word
from boxsession.scheduler.task import STATEMENTS, TRIGGERS, Host
from boxsession.scheduler.turns import Account
from boxsession.values.packed import Tagged

__all__ = ['Evaluator']

log = logging.getLogger('boxsession')

# Replies to the name of an undefined variable.
_NOTHING = (b'---\n- null\n...\n', b'nil;')
# Blanks and comments. Lines of other protocols may be Lua comments, too, as those of multipart bodies.
_BLANK = re.compile(rb'\s*(?:--(?!\[=*\[)[^\r\n]*(?:[\r\n]\s*)?)?')
# A command of another protocol with an argument: in Lua a call of an undefined function.
_COMMAND, _NO_FUNCTION = re.compile(rb'\s*[A-Za-z_]\w*\s*["\'{\[]'), b'attempt to call'


class Evaluator:
    """Runs the statements of one session. Only the greenlet of that session may make, use and close it."""

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
            session.dialect.encode(), session.type.encode(), session.peer_uid, session.peer_pid)
        self.task.start(coroutine)
        self._state.tasks[self.task.fid] = self.task
        self._send = coroutine.send
        self._memory.keep()

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged:
        """Runs a statement. Returns its reply as Lua made it (see `boxsession.values.documents`).

        Args:
            may_continue: return b'' if the statement is not complete yet.
        """
        task, dispatcher, memory = self.task, self._dispatcher, self._memory
        if not task.is_clean:
            dispatcher.begin(task)
            if task.killed:                     # cancelled before it began
                self._state.counters.count_error(task.ending)
                return self.error(task.reason or 'the statement was cancelled')
        operation = STATEMENT_OPEN if may_continue else STATEMENT
        # LuaTask.cross(), inlined: the call would cost 3 % of a short statement.
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
        """Whether a statement is incomplete and waits for more lines. Does not run it."""
        return self._perform(CHECK, text) == b''

    def is_wrong(self, text: bytes) -> bool:
        """Whether a statement does not compile as Lua. Does not run it."""
        return self._perform(CHECK, text) == b'wrong'

    def is_blank(self, text: bytes) -> bool:
        """Whether a statement has only blanks and comments."""
        return _BLANK.fullmatch(text) is not None

    def is_doubtful(self, text: bytes, reply: Tagged | None) -> bool:
        """Whether another program may have sent a statement: it is wrong, or a command of another protocol.

        Args:
            reply: its reply; None if it did not run. last_error() is its error.
        """
        if reply is None:
            return is_word(text) or self.is_wrong(text)
        failed = self.last_error()
        if failed:
            return _NO_FUNCTION in failed and _COMMAND.match(text) is not None or self.is_wrong(text)
        return reply in _NOTHING and is_word(text)

    def connect(self) -> bytes:
        """Runs the on_connect triggers. Returns b'', or the reply with the error that refuses the session."""
        return self._perform(CONNECT, b'', TRIGGERS)

    def leave(self) -> None:
        """Runs the on_disconnect triggers. The session still exists: its requests run on."""
        self._perform(LEAVE, b'', TRIGGERS)

    def disconnect(self) -> None:
        """Runs the on_disconnect triggers, unless leave() did, and ends the session on the Lua side."""
        tasks = self._state.tasks
        try:
            try:
                self._perform(DISCONNECT, b'', TRIGGERS)
            except lua51.LuaError:
                # A bug in trusted code has ended the coroutine. Run the triggers in a new one.
                log.exception('session %d: its evaluator failed: its last triggers run in a new one', self._session.id)
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
        """The text of the last statement's error; b'' if it had none."""
        return self._perform(LAST_ERROR, b'')

    def left_remote(self) -> None:
        """Runs the console's on_client_disconnect hook."""
        self._perform(LEFT_REMOTE, b'', TRIGGERS)

    def style(self) -> bytes:
        """The beginning of a tagged string in the session's output format. Packed values have to follow."""
        style: bytes = self.task.cross(STYLE, 0, b'')
        return style

    def exchange(self, request: bytes) -> bytes:
        """Runs a statement of Lua for one in another language, in the same greenlet, while the session runs no other.

        Args:
            request: a packed list: the statement, the number of its arguments, and the arguments.

        Returns:
            '=' and the packed list of the values, or '!' and the text of the error. '!' alone: it was cancelled.
        """
        answer: bytes = self.task.cross(EXCHANGE, len(request), request)
        return answer

    def error(self, message: str) -> bytes:
        """Makes the reply with an error, in the session's output format."""
        return self._perform(FAIL, message.encode())

    def denied(self, kind: str) -> bytes:
        """Makes the reply to a statement whose user has no `execute` on a type of objects: runs the on_access_denied
        triggers, and counts the denial."""
        return self._perform(DENY, kind.encode(), TRIGGERS)

    def _perform(self, operation, text, limit=''):
        task = self.task
        task.killed, task.limit, task.deadline = False, limit, 0.0
        try:
            return task.cross(operation, len(text), text)
        finally:
            task.limit = STATEMENTS
            self._dispatcher.running = None
            # The operation may have taken long. So the session's loop must check its slice.
            self._dispatcher.has_ticked = True
