"""The one Lua state that all sessions share, and how greenlets run statements in it.

Theory of operation
-------------------
lupa is safe under greenlets that switch inside Lua only within narrow rules, and everything here keeps to them:

* Lua calls Python by reading an item of a port (`PORT[argument]`), never by calling an object. A port takes one scalar,
  gives one scalar, and never raises.
* Python calls Lua by sending to a coroutine, after start-up in no other way. A string comes back: a long one in pieces, and
  of a batch of requests two strings and two numbers (tests/lua/test_lua.py).
* No Lua object is wrapped for Python after start-up but the coroutines themselves; ports live as long as the state.
* Nothing waits on the state's main coroutine. Each task's coroutine is driven by its own greenlet only, one send at a
  time, in one OS thread.

A task that waits (fiber.sleep), or whose time slice is over, switches to the hub inside a port. Cancelling a task sets a
flag and wakes it; the port then answers False, and Lua unwinds. A Python exception never passes through Lua frames.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gevent import getcurrent
from lupa import lua51

from boxsession.base.counters import ERROR_KINDS, Counters
from boxsession.base.errors import ScriptError
from boxsession.base.greenlets import UserGreenlet
from boxsession.base.session import Session
from boxsession.lua import functions, loader
from boxsession.lua.commands import BUILT_IN, Commands, described
from boxsession.lua.evaluator import Evaluator
from boxsession.lua.fibers import Fibers
from boxsession.lua.host_ports import HostPorts
from boxsession.lua.memory import Memory
from boxsession.lua.memory_ports import MemoryPorts
from boxsession.lua.ports import deny, reader
from boxsession.lua.process_ports import ProcessPorts
from boxsession.lua.requests import Requests
from boxsession.lua.state import State
from boxsession.lua.task import LuaTask
from boxsession.lua.turn_ports import TurnPorts
from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.scheduler.task import Host
from boxsession.scheduler.turns import Account
from boxsession.values.limits import Limits
from boxsession.values.packed import pack

__all__ = ['Runtime', 'compile_problem']


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
        state, memory = self.state, MemoryPorts(self.state)
        return {
            **memory.ports(), **TurnPorts(state).ports(), **HostPorts(state, self._calls, memory).ports(),
            **self.fibers.ports(), **ProcessPorts(state, memory, self._facts, lambda: self.output_bytes).ports(),
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
