r"""The commands of rescue listeners. They run in the listener's thread: see rescue.py."""
from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from boxsession.base.session import Session
from boxsession.inspection import outside, threads
from boxsession.inspection.frames import Call
from boxsession.inspection.stopper import Stopper, wait_for
from boxsession.scheduler.task import StopRequest, Task
from boxsession.sessions.caller import Console
from boxsession.sessions.stream import Connection

__all__ = ['COMMANDS', 'UNRECORDED', 'Acting', 'Refused', 'Seeing', 'described', 'holder_of']

# How long an answer waits for the loop, in seconds.
_LOOP_SECONDS = 1.0
# The loop counts as held if it did not run for this time, in seconds. It runs each 0.1 s.
_HELD_SECONDS = 0.2
# \cancel without ID stops a statement that has run for this time without a pause, in seconds.
_LONG_SECONDS = 0.05
UNRECORDED = 'the audit file cannot be written: no command is run until it can (audit.required)'

# Name: arguments, the right that it needs, purpose.
COMMANDS: dict[str, tuple[str, str, str]] = {
    'where': ('[ID]', 'read', 'what holds the event loop, since when, and its stack; or the stack of a session'),
    'sessions': ('', 'execute', 'the connected sessions'),
    'greenlets': ('[FILTER]', 'read', 'the greenlets of the process, grouped by equal stack'),
    'threads': ('', 'read', 'the threads of the process with their stacks'),
    'memory': ('', 'read', "the memory of the process, Python's garbage collector, and Lua"),
    'cancel': ('[ID]', 'execute', "stop a session's running statement; without ID the statement that holds the event loop"),
    'kill': ('ID', 'execute', 'end a session, and stop its running statement'),
    'login': ('USER PASSWORD', '', 'change the user of this session'),
    'help': ('', '', 'this list'),
    'quit': ('', '', 'end this session'),
}


class Refused(Exception):
    """A command cannot do what it was asked for. The text is its error."""


def holder_of(running: Console) -> Task | None:
    """The task whose greenlet runs in the loop's thread now; None if that is the program's greenlet, or the hub."""
    last = running.dispatcher.running
    calling = [task for task in running.runtime.state.tasks.copy().values() if task.calling]
    found = [last, *calling] if last is not None else calling
    return next((task for task in found if outside.is_running(task.greenlet)), None)


def session_of(task: Task | None) -> Session | None:
    return getattr(task.host, 'session', None) if task is not None else None


def described(task: Task | None) -> str:
    """Who holds the loop, in words."""
    return 'the program around the console' if task is None else task.described()


def _connection(running: Console, text: str, usage: str) -> Connection:
    if not (text.isascii() and text.isdigit()):
        raise Refused(f'Usage: {usage}')
    connection = running.registry.connections.get(int(text[:18]))
    if connection is None:
        raise Refused(f'session {text[:18]} does not exist: \\sessions lists them')
    return connection


def _kind(task: Task, stack: list[Call]) -> str:
    """What runs for a statement. Lua has no frames: it is below the frame of a module of the room lua."""
    if task.calling:
        return 'a function of the program'
    return 'Lua' if stack and stack[0].module.startswith('boxsession.lua.') else 'the console'


class Seeing:
    """The commands that show something. Each takes the rest of the line."""

    def __init__(self, running: Console):
        self._running = running

    def table(self) -> dict[str, Callable[[str], Any]]:
        return {'help': self.help, 'where': self.where, 'sessions': self.sessions, 'greenlets': outside.greenlet_groups,
                'threads': self.threads, 'memory': self.memory}

    def help(self, rest: str) -> dict[str, str]:
        return {f'\\{name} {usage}'.rstrip(): purpose for name, (usage, _, purpose) in COMMANDS.items()}

    def where(self, rest: str) -> dict[str, Any]:
        if rest:
            connection = _connection(self._running, rest, '\\where [ID]')
            greenlet = connection.greenlet
            stack = outside.stack_of(greenlet, self._running.monitor.thread) if greenlet is not None else []
            return {**connection.describe(), 'stack': outside.shown_calls(stack)}
        monitor, turns = self._running.monitor, self._running.dispatcher.turns
        stack, task, now = outside.calls_of_thread(monitor.thread), holder_of(self._running), time.monotonic()
        if outside.waits_for_events(stack):
            return {'held': False, 'by': 'nothing: the loop waits for events', 'stack': outside.shown_calls(stack)}
        held = now - (turns.began if task is not None and turns.is_running else monitor.beat_at)
        row = {'held': now - monitor.beat_at > _HELD_SECONDS, 'held_s': round(held, 3), 'by': described(task)}
        session = session_of(task)
        if task is not None and session is not None:
            row |= {'session': session.id, 'user': session.user, 'runs': _kind(task, stack)}
        return {**row, 'stack': outside.shown_calls(stack)}

    def sessions(self, rest: str) -> list[dict[str, Any]]:
        rows = []
        for _, connection in sorted(self._running.registry.connections.copy().items()):
            with suppress(Exception):           # it changes, or ends
                rows.append(connection.describe())
        return rows

    def threads(self, rest: str) -> list[dict[str, Any]]:
        return threads.listed(self._running.monitor.thread, self._running.monitor.native_thread)

    def memory(self, rest: str) -> dict[str, Any]:
        return {**outside.memory(), 'lua_bytes': self._running.runtime.memory.used()}


class Acting:
    """The commands that change something, for one session.

    Args:
        session: the session of the rescue listener.
        tell: logs a line about the session as soon as the loop runs.
    """

    def __init__(self, running: Console, stopper: Stopper, session: Session, tell: Callable[..., None]):
        self._running = running
        self._stopper = stopper
        self._session = session
        self._log = tell

    def table(self) -> dict[str, Callable[[str], Any]]:
        return {'cancel': self.cancel, 'kill': self.kill}

    def cancel(self, rest: str) -> dict[str, Any]:
        running, reason = self._running, f'the statement was cancelled by session {self._session.id}'
        task = holder_of(running)
        asked = StopRequest(task, reason) if task is not None else None
        holder = session_of(task)
        # Of two clients that send \cancel at once, the second must not stop a statement that has just begun.
        if not rest and (holder is None or self._turn_seconds() < _LONG_SECONDS):
            raise Refused('no statement of a session holds the event loop: \\where shows what runs there. \\cancel ID '
                          'stops the statement of a session')
        connection = _connection(running, rest or str(holder.id if holder else ''), '\\cancel [ID]')
        self._act('cancel', connection)
        if asked is not None and holder is connection.session:
            self._count('cancels')
            return self._stop(asked)
        outcome: list[bool] = []
        running.monitor.post(lambda: outcome.append(connection.cancel(reason)))
        if not wait_for(lambda: outcome, _LOOP_SECONDS):
            return {'stopped': False, 'reason': f'the event loop is held by {described(holder_of(running))}: the '
                                                'statement is cancelled when the loop runs again'}
        if outcome[0]:
            return {'stopped': True}
        return {'stopped': False, 'reason': f'session {connection.session.id} runs no statement'}

    def kill(self, rest: str) -> dict[str, Any]:
        running, reason = self._running, f'the session was killed by session {self._session.id}'
        connection = _connection(running, rest, '\\kill ID')
        task = holder_of(running)
        # The session must not begin its next statement before the loop gets to kill().
        asked = StopRequest(task, reason, partial(connection.end_now, reason)) if task is not None else None
        self._act('kill', connection)
        self._count('kills')
        running.monitor.post(partial(connection.kill, reason))
        answer: dict[str, Any] = {}
        if asked is not None and session_of(task) is connection.session:
            answer = self._stop(asked)
        if wait_for(lambda: running.registry.connections.get(connection.session.id) is not connection, _LOOP_SECONDS):
            return {'killed': True}
        return {'killed': False, 'reason': f'the event loop is held by {described(holder_of(running))}: the session ends '
                                           'when the loop runs again', **answer}

    def _turn_seconds(self) -> float:
        """For how long the loop has been doing what it does now."""
        turns, monitor = self._running.dispatcher.turns, self._running.monitor
        return time.monotonic() - (turns.began if turns.is_running else monitor.beat_at)

    def _stop(self, asked: StopRequest) -> dict[str, Any]:
        """Stops the statement that holds the loop."""
        stopper, task, began = self._stopper, asked.task, time.monotonic()
        if stopper.stop(asked, lambda: not self._running.registry.is_accepting):
            return {'stopped': True, 'seconds': round(time.monotonic() - began, 6)}
        self._running.monitor.post(partial(stopper.forget, asked))
        stack = outside.calls_of_thread(self._running.monitor.thread)
        at = f'{stack[0].where} {stack[0].name}' if stack else 'nowhere'
        if not task.calling:
            why = f'{_kind(task, stack)} is inside one operation that cannot be interrupted'
        elif not stopper.can_signal:
            why = ('functions in Python cannot be interrupted here, because the event loop does not run in the main '
                   'thread, or the program has taken the signal SIGURG')
        else:
            why = 'the loop is in a call of C that does not end for a signal, or in code that goes on after every exception'
        return {'stopped': False, 'reason': f'{why}: {at}. The statement is cancelled as soon as this call returns'}

    def _act(self, event: str, connection: Connection) -> None:
        """Records a command that is about to change something."""
        target = connection.session
        if not self._running.audit.aside(event, self._session, target=target.id, target_user=target.user):
            raise Refused(UNRECORDED)
        self._log(f'%s: \\{event} of %s', target.described)

    def _count(self, name: str) -> None:
        hits = self._running.counters.hits
        self._running.monitor.post(lambda: hits.update({name: 1}))
