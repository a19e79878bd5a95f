"""Responses to requests of the binary protocol that Python handles one by one (not in a batch in Lua)."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from boxsession.base.redaction import STATEMENT_BYTES, redacted, redacted_arguments
from boxsession.base.session import Session
from boxsession.lua.requests import Requests
from boxsession.protocol import iproto
from boxsession.protocol.iproto import Request
from boxsession.sessions.common import Common
from boxsession.values.msgpack import first_string, source_of

__all__ = ['PROC_LUA', 'Answers', 'recorded']

PROC_LUA = 32
_NO_SUCH_SPACE, _UNKNOWN_REQUEST, _INVALID_MSGPACK = 36, 48, 20
# Clients read the schema from these spaces when they connect. There is no schema: the response is empty.
_SCHEMA_SPACES = range(272, 400)
_OPERATIONS = {iproto.EVAL: Requests.EVAL, iproto.CALL: Requests.CALL, iproto.CALL_16: Requests.CALL_16}
_KINDS = {iproto.EVAL: 'eval', iproto.CALL: 'call', iproto.CALL_16: 'call'}
_CONSOLE_KIND = 'console.eval'
# Expression that console clients evaluate, with the statement as its argument.
_CONSOLE_EVAL = b"return require('console').eval(...)"
_NO_ARGUMENTS = b'\x90'


def _asked_for(request: Request, pause: Callable[[], None] = lambda: None) -> tuple[bytes, dict[str, str]]:
    """The statement, expression or function of a request, and more fields for the audit file."""
    name, arguments, kind = request.name, request.arguments, _KINDS[request.type]
    if kind == 'eval' and name == _CONSOLE_EVAL and (statement := first_string(arguments)) is not None:
        return statement, {'kind': _CONSOLE_KIND}
    if arguments == _NO_ARGUMENTS:
        return name, {'kind': kind}
    source = source_of(arguments, STATEMENT_BYTES)
    return name, {'kind': kind, 'arguments': redacted_arguments(name, source, arguments, pause=pause)}


def recorded(request: Request) -> dict[str, str]:
    """A running request, as fields for the audit file."""
    name, fields = _asked_for(request)
    return {'statement': redacted(name), **fields}


class Runner(Protocol):
    """The owner of an Answers: a worker.

    Attributes:
        requests: runs requests in Lua.
        request, sync, name: the running request, its number, and its expression or function.
        is_pausing: the worker yields between two requests: no other worker need take over.
    """

    requests: Any
    request: Request | None
    sync: int
    name: bytes | None
    is_pausing: bool

    def hold_back(self, on: bool) -> None: ...      # no request may begin while this is on


class Answers:
    """Runs requests of one worker, and makes their responses."""

    __slots__ = ('_runner', '_session', '_common')

    def __init__(self, runner: Runner, session: Session, common: Common):
        self._runner = runner
        self._session = session
        self._common = common

    def answer(self, request: Request) -> bytes:
        """Runs a request. Returns the frames of the response; b'' for none."""
        sync, kind = request.sync, request.type
        operation = _OPERATIONS.get(kind)
        if operation is not None:
            return self._run(operation, request)
        if kind == iproto.PING:
            return iproto.ok(sync)
        if kind == iproto.ID:
            return iproto.id_answer(sync)
        if kind == iproto.AUTH:
            return self._authenticate(request)
        if kind == iproto.SELECT:
            if request.space in _SCHEMA_SPACES:
                return iproto.ok(sync, iproto.packed([]))
            return iproto.error(sync, _NO_SUCH_SPACE, f"Space '{request.space}' does not exist")
        if kind == iproto.WATCH:
            return iproto.event(request.name)
        if kind == iproto.UNWATCH:
            return b''
        return iproto.error(sync, _UNKNOWN_REQUEST, f'Unknown request type {kind}')

    def _run(self, operation: int, request: Request) -> bytes:
        runner, sync, audit = self._runner, request.sync, self._common.audit
        runner.requests.task.killed = False     # may be set from the previous request
        if audit is not None and audit.refuses:
            return iproto.error(sync, PROC_LUA, 'the audit file cannot be written: no request is run until it can '
                                                '(audit.required)', 'LuajitError')
        runner.request, runner.sync, runner.name = request, sync, request.name
        user, began = self._session.user, time.monotonic() if audit is not None else 0.0
        try:
            reply = runner.requests.run(operation, request.name, request.arguments, iproto.packed(sync))
        except BaseException as error:          # the connection is lost, or the server stops
            if audit is not None:
                self._record(request, user, f'{type(error).__name__}: {error}'.encode(), began, may_pause=False)
            raise
        finally:
            runner.request = runner.name = None
        answer, problem = self.of_reply(request, reply)
        if audit is not None and not self._record(request, user, problem, began):
            return iproto.error(sync, PROC_LUA, 'the request ran, but the audit file cannot be written (audit.required)',
                                'LuajitError')
        return answer

    def _record(self, request: Request, user: str, problem: bytes, began: float, may_pause: bool = True) -> bool:
        """Writes a request, its arguments and its end to the audit file. False if that fails and is required."""
        runner, seconds = self._runner, time.monotonic() - began
        pause: Callable[[], None] = self._common.dispatcher.let_others_in if may_pause else lambda: None
        runner.is_pausing = True                # redaction of a long request yields
        try:
            name, fields = _asked_for(request, pause)
            if fields['kind'] == _CONSOLE_KIND and may_pause:
                problem = problem or runner.requests.eval_error()
            return self._common.recorder.statement(self._session, user, name, problem, seconds, pause, **fields)
        finally:
            runner.is_pausing = False

    def of_reply(self, request: Request, reply: bytes) -> tuple[bytes, bytes]:
        """Makes the response from a result of Requests.run(). Returns it and the error's text, b'' for no error."""
        if reply[0] == 61:                  # '='
            return self._results(request, reply), b''
        errors = iproto.unpacked(reply[1:])
        return iproto.failure(request.sync, errors), errors[0][2].encode(errors='surrogateescape')

    def _results(self, request: Request, reply: bytes) -> bytes:
        limit = self._common.runtime.output_bytes
        if limit and len(reply) > limit:
            self._common.counters.hits['limits.output_bytes'] += 1
            return iproto.error(request.sync, PROC_LUA, f'the result is too long: more than {limit} bytes '
                                                        '(limits.output_bytes)', 'LuajitError')
        return iproto.ok(request.sync, reply[1:])

    def _authenticate(self, request: Request) -> bytes:
        runner, arguments = self._runner, iproto.login_arguments(request.arguments)
        if arguments is None or not arguments and request.name != b'guest':
            return iproto.error(request.sync, _INVALID_MSGPACK, 'Invalid MsgPack - authentication request body')
        runner.name = b'AUTH'
        runner.hold_back(True)
        try:
            reply = runner.requests.run(Requests.LOGIN, request.name, iproto.packed(arguments), iproto.packed(request.sync))
        finally:
            runner.name = None
            runner.hold_back(False)
        if reply[0] == 61:
            return iproto.ok(request.sync)
        return iproto.failure(request.sync, iproto.unpacked(reply[1:]))
