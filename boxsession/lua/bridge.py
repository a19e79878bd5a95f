"""The one Lua state that all sessions share, and how greenlets run statements in it.

Theory of operation
-------------------
lupa is safe under greenlets that switch inside Lua only within narrow rules, and everything here keeps to them:

* Lua calls Python by reading an item of a port (`PORT[argument]`), never by calling an object. A port takes one scalar,
  gives one scalar, and never raises.
* Python calls Lua by sending to a coroutine, after start-up in no other way. One string comes back; of a batch of requests
  two strings and two numbers.
* No Lua object is wrapped for Python after start-up but the coroutines themselves; ports live as long as the state.
* Nothing waits on the state's main coroutine. Each task's coroutine is driven by its own greenlet only, one send at a
  time, in one OS thread.

A task that waits (fiber.sleep), or whose time slice is over, switches to the hub inside a port. Cancelling a task sets a
flag and wakes it; the port then answers False, and Lua unwinds. A Python exception never passes through Lua frames.
"""
from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from gevent import get_hub, getcurrent
from lupa import lua51

from boxsession.base.counters import ERROR_KINDS, Counters
from boxsession.base.errors import ScriptError, StatementCancelled
from boxsession.base.greenlets import TASK, UserGreenlet
from boxsession.base.redaction import redacted_text
from boxsession.base.session import Session
from boxsession.lua import functions, loader
from boxsession.lua.commands import BUILT_IN, Commands, described
from boxsession.lua.contract import ASKED, FIRST_LOOK, LATE, MANY, NO_ROOM, OVER
from boxsession.lua.evaluator import Evaluator
from boxsession.lua.fibers import Fibers
from boxsession.lua.memory import UNLIMITED, Memory
from boxsession.lua.ports import Port, deny, reader
from boxsession.lua.requests import Requests
from boxsession.lua.state import State
from boxsession.lua.task import LuaTask
from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.scheduler.task import Host, current_task
from boxsession.scheduler.turns import Account
from boxsession.values.documents import reply_document
from boxsession.values.limits import Limits
from boxsession.values.packed import pack
from boxsession.values.reader import read_documents

__all__ = ['Runtime', 'compile_problem']

# As contract.py numbers them.
_CLOCKS = (time.time, time.monotonic, time.process_time, time.thread_time)

_VISIBLE = {code: repr(chr(code))[1:-1] for code in (*range(32), 127, 0x85, 0x2028, 0x2029) if code != 9}

_REPORT_BYTES = 4096
# A longer line of a script's is cut.
_LOGGED_MAX = 1 << 14

script_log = logging.getLogger('boxsession.lua')
log = logging.getLogger('boxsession')


class Runtime:
    """The Lua state of one console.

    Args:
        dispatcher: switches between tasks.
        counters: where it is counted how statements end, and how often a limit was met.
        facts: what box.info tells, e.g. version and pid (what is callable is called when it is read).
        expose: names to Python functions, objects or plain values for Lua (see `boxsession.Console`).
        services: what trusted Lua can ask of the program, by name: functions of plain values.
        commands: the backslash commands that the program adds.

    Attributes:
        memory: its memory limit.
        fibers: those that statements have started.
        state: what its tasks share.
        output_bytes: the longest document for a client; 0 for no limit.
        output_limits: for what is sent to clients: cut where it is too long.
    """

    def __init__(self, dispatcher: Dispatcher, counters: Counters, facts: Mapping[str, Any],
                 expose: Mapping[str, Any] | None = None, services: Mapping[str, Callable] | None = None,
                 commands: Commands | None = None):
        self.dispatcher = dispatcher
        self.counters = counters
        self._facts = facts
        self._calls = functions.Calls()
        self._commands = commands or Commands()
        self._command_numbers: dict[str, int] = {}      # by the command's name
        self._lua = lua51.LuaRuntime(
            encoding=None, unpack_returned_tuples=True, register_eval=False, register_builtins=False,
            attribute_handlers=(reader(dispatcher.overruns), deny), max_memory=0)
        self.memory = Memory(self._lua)
        self.state = State(dispatcher, counters, self.memory)
        self.fibers = Fibers(self.state)
        self.output_bytes = 0
        self.output_limits = Limits(lambda: self.output_bytes, dispatcher.pause)
        # What stays in Lua has its own limit.
        self._patience = Limits(lambda: 0, dispatcher.pause)
        self._load(expose or {}, services or {})

    def _load(self, expose, services) -> None:
        """Runs the trusted files, which leave the coroutine functions that everything else goes through."""
        internal = self._lua.table()
        loader.load(self._lua, internal, self._ports(services))
        if expose:
            taken = internal[b'expose'](self._calls.describe(expose))
            if taken:
                raise ValueError(f'cannot expose {taken.decode()!r}: Lua has a global of that name')
        state = self.state
        state.session_main, state.request_main = internal[b'session_main'], internal[b'request_main']
        state.fiber_main = internal[b'fiber_main']
        self._script_main = internal[b'script_main']
        self._tell_ample = _started(internal[b'take_ample'])
        self._count_errors = _started(internal[b'count_errors'])
        self._take_rights_changes = _started(internal[b'take_rights_changes'])
        self._take_commands = _started(internal[b'take_commands'])
        self.commands_changed()
        # The first release of a reference makes an entry in the registry: now, while there is no limit.
        state.fiber_main.coroutine(0)

    def _ports(self, services) -> dict[str, Any]:
        """What the trusted files take, by the names that they have there."""
        def text_port(answer):
            return Port(lambda key: self._if_there_is_room(answer(key)))

        def formatting_port(answer, helper):
            return Port(lambda key: self._format(answer, key, helper))

        dispatcher, fibers = self.dispatcher, self.fibers
        return {
            'PARK': Port(lambda seconds: dispatcher.park(current_task(), seconds)),
            'TICK': Port(self._tick), 'TURN': Port(self._turn), 'LET_IN': Port(self._let_in),
            'COLLECTED': Port(self._collected), 'CALL': text_port(self._call),
            'MAKE_ROOM': Port(self._make_room), 'KEEP_LIMIT': Port(self._keep_limit), 'GIVE_ALL': Port(self._give_all),
            'HAS_ROOM': Port(self.memory.has_room),
            'SPAWN': Port(fibers.spawn), 'START': Port(fibers.start), 'WAKE': Port(fibers.wake),
            'REASON': text_port(self._reason), 'STOPPED': Port(self._stopped), 'GIVE_BACK': Port(self._give_back),
            'PUSH': Port(self._push), 'DELIMITER': Port(self._delimiter), 'CONTROL': Port(self._control),
            'LOG': Port(self._log), 'CLOCK': Port(lambda which: _CLOCKS[int(which)]()), 'COUNT': Port(self._count),
            'INFO': text_port(self._info), 'GETENV': text_port(_environment), 'RANDOM': text_port(_random),
            'MOST': Port(lambda _: self.output_bytes or UNLIMITED),
            'FORMAT': formatting_port(reply_document, self._patience),
            'DECODE': formatting_port(read_documents, dispatcher.pause),
            'packed_services': self._calls.services(services),
            'packed_commands': pack(described(BUILT_IN, {})),
            'packed_facts': pack({name: fact for name, fact in self._facts.items() if not callable(fact)}),
        }

    def stop(self, timeout: float) -> None:
        """Cancels all fibers and waits for their ends; those that do not end in time are left to the collector."""
        for task in list(self.state.tasks.values()):
            self.dispatcher.cancel(task)
        self.fibers.join(timeout)
        self.memory.limit(0)                # what is released from now on finds room

    # For the console

    def evaluator(self, session: Session, host: Host, account: Account) -> Evaluator:
        """The evaluator of a session, for the calling greenlet only."""
        return Evaluator(self.state, session, host, account)

    def requests(self, session: Session, host: Host, account: Account) -> Requests:
        """What runs requests of a session, one at a time, for the calling greenlet only."""
        return Requests(self.state, session, host, account)

    def errors(self) -> dict[str, int]:
        """How many statements and requests ended in an error, by ERROR_KINDS."""
        counted = self._ask(self._count_errors)
        found = {kind: self.counters.hits[f'errors.{kind}'] for kind in ERROR_KINDS}
        for entry in counted.decode().split():
            kind, _, number = entry.partition(':')
            found[kind] += int(number)
        return found

    def rights_changed(self) -> None:
        """Makes all sessions find their users' rights anew. Callable from any greenlet."""
        self._ask(self._take_rights_changes)

    def commands_changed(self) -> None:
        """Gives Lua the program's commands. Callable from any greenlet."""
        for command in self._commands.added:
            if command.name not in self._command_numbers and command.function is not None:
                self._command_numbers[command.name] = self._calls.number(command.function)
        self._ask(self._take_commands, pack(described(self._commands.added, self._command_numbers)))

    def _ask(self, coroutine, told=None):
        """Resumes one of the coroutines that are no task's."""
        self.memory.lift(len(told) if told else 0)
        answer = coroutine.send(told)
        running = self.dispatcher.running
        self.memory.keep(isinstance(running, LuaTask) and running.is_tight)
        return answer

    def limit_memory(self, limit: int) -> None:
        """Sets how much memory the Lua state may hold, in bytes; 0 for no limit. What is over it already may stay."""
        self.memory.lift()
        self._tell_ample.send(self.memory.ample_with(limit) / 1024)
        self.memory.limit(limit)

    def run_script(self, text: bytes, name: str) -> None:
        """Runs a script as admin, without a session. It may wait; the caller waits with it.

        Raises:
            ScriptError: it does not compile, or it raised.
        """
        greenlet = UserGreenlet.spawn(self._run_script, text, name)
        problem = greenlet.get()
        if problem:
            raise ScriptError(problem.decode(errors='replace'))

    def _run_script(self, text, name):
        task = LuaTask(self.dispatcher, self.memory, None, Account())
        self.memory.lift(len(text))
        task.start(self._script_main.coroutine(name.encode()))
        self.state.tasks[task.fid] = task
        getcurrent().is_shielded = True
        try:
            answer = task.coroutine.send(text)
            if task.raised is not None:
                task.raise_kept()
            return answer
        finally:
            del self.state.tasks[task.fid]

    # Ports: memory

    def _make_room(self, for_want_of_it):
        """Lifts the memory limit for trusted code."""
        self.counters.hits['limits.lua_memory_bytes'] += bool(for_want_of_it)
        self.memory.lift()
        return True

    def _keep_limit(self, _):
        self.memory.keep(current_task().is_tight)
        return True

    def _give_all(self, _):
        self.memory.give_all()
        return True

    def _if_there_is_room(self, answer):
        """A port's answer: a string that there is no memory for would end in a long jump over Python's frames."""
        if isinstance(answer, bytes) and not self.memory.has_room_for(answer):
            return NO_ROOM
        return answer

    # Ports: turns

    def _tick(self, where):
        """Called every so many instructions; contract.py says what the argument and the answer mean."""
        dispatcher, memory = self.dispatcher, self.memory
        task = getattr(getcurrent(), TASK)
        dispatcher.has_ticked = True
        if dispatcher.seconds.get(task.limit):
            dispatcher.check_deadline(task)
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
        seconds = now - self.dispatcher.overruns.last
        task.account.offences += 1
        why = (f'one operation held all sessions for {seconds:.2f} s: keys of a table that collide, or texts that take '
               'long to compare')
        log.warning('stopped, since %s: %s', why, task.described())
        self.dispatcher.cancel(task, f'the statement was stopped: {why}')
        if task.account.offences > 1 and task.host is not None:
            task.host.kill(f'the session is closed: {why}, again')

    def _turn(self, _):
        """Lets the others in; gives the task's id, or minus that where it is to end."""
        task = getattr(getcurrent(), TASK)
        task.is_clean = False
        self.dispatcher.take_turn(task)
        return -task.fid if task.killed else task.fid

    def _let_in(self, always):
        """Lets the others in while the garbage is collected, where the turn is over or `always`; then lifts the memory
        limit. Whether the task goes on."""
        task = getattr(getcurrent(), TASK)
        if always or self.dispatcher.turns.is_over(self.dispatcher.began):
            task.is_clean = False
            self.dispatcher.take_turn(task)
        self.memory.lift()
        return not task.killed

    def _collected(self, _):
        """The garbage has been collected: puts the memory limit back."""
        self.memory.keep(current_task().is_tight)
        self.dispatcher.looked = time.monotonic()
        return True

    # Ports: the calling task's host

    def _call(self, request):
        """Calls an exposed function: packed arguments in, packed result or error out."""
        task, dispatcher = getattr(getcurrent(), TASK), self.dispatcher
        if task.killed:
            return False
        task.calling = True
        timer = None
        loop = get_hub().loop
        if dispatcher.seconds.get(task.limit):
            timer = loop.timer(max(0.0, dispatcher.seconds_left(task)))
            timer.start(dispatcher.overdue, task)
        # If it waits, what the client is to get goes out first. One callback serves all calls until the loop runs it: those
        # of a loop of short calls would pile up faster than the event loop takes them.
        if task.host is not None and (task.leaving is None or not task.leaving.pending):
            task.leaving = loop.run_callback(_flush_if_waiting, task)
        try:
            answer = self._calls.call(request, dispatcher.pause_call)
        finally:
            if timer is not None:
                timer.stop()
                timer.close()
            task.calling = False
            dispatcher.rejoin()
        return False if task.killed else answer

    def _format(self, answer, key, helper):
        self.dispatcher.has_ticked = True
        try:
            return self._if_there_is_room(answer(key, helper))
        except StatementCancelled:
            return False

    def _push(self, tagged):
        task = getattr(getcurrent(), TASK)
        try:
            task.host.push(tagged)
        except StatementCancelled:
            return False
        self.dispatcher.rejoin()
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
        """Why the statement that has just been cancelled was; None for no particular reason."""
        return current_task().reason.encode() or None

    def _stopped(self, _):
        """What the task runs has ended, since it was cancelled or took too long."""
        self.counters.count_error(current_task().ending)
        return True

    def _count(self, what):
        self.counters.hits[what.decode()] += 1
        return True

    def _log(self, line):
        level, _, text = line[:_LOGGED_MAX].partition(b':')
        if level == b'report':          # of ours, with an error that may quote a statement
            log.error('%s', redacted_text(text, _REPORT_BYTES).translate(_VISIBLE))
            return True
        # One line stays one line, whatever is in it.
        text = text.decode(errors='backslashreplace').translate(_VISIBLE)
        if len(line) > _LOGGED_MAX:
            text += f'... ({len(line) - _LOGGED_MAX} bytes more)'
        script_log.log(logging.getLevelName(level.decode().upper()), '%s', text)
        return True

    def _info(self, name):
        return pack(self._facts[name.decode()]())


def _started(function):
    """A coroutine of a Lua function that waits for what it is sent."""
    coroutine = function.coroutine()
    coroutine.send(None)
    return coroutine


def compile_problem(text: bytes, name: str) -> str | None:
    """Why a script would not compile, or None. It runs nothing."""
    lua = lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    internal = lua.table()
    loader.load(lua, internal, {}, ['kernel/compiler'])
    loaded = internal[b'load_text'](text, f'@{name}'.encode(), True)
    if not isinstance(loaded, tuple):
        return None
    message = loaded[1].decode(errors='replace')
    return message if message.startswith(f'{name}:') else f'{name}: {message}'


def _environment(name):
    """A variable of the environment; stdlib.lua says which may be read."""
    value = os.environ.get(name.decode())
    return None if value is None else value.encode(errors='surrogateescape')


def _random(count):
    return os.urandom(int(count))


def _flush_if_waiting(task):
    if task.calling:
        task.host.switching_out()
