"""The Lua state that all sessions share. Greenlets run statements in it.

Theory of operation
-------------------
Greenlets may switch while they are inside Lua. lupa is safe under such switches only if these rules are kept:

* Lua calls Python by indexing a port (`PORT[argument]`), never by calling an object. A port takes one scalar, returns one
  scalar, and never raises.
* After start-up, Python calls Lua only by sending to a coroutine. Lua returns one string; a long one is returned in pieces.
  A batch of requests returns two strings and two numbers (tests/lua/test_lua.py).
* After start-up, lupa wraps no Lua objects but the coroutines. Ports live as long as the state.
* Nothing waits on the state's main coroutine. Only a task's own greenlet drives the task's coroutine, one send at a time.
  All of this happens in one OS thread.

A task switches to the hub inside a port when it waits (fiber.sleep) or when its time slice is over. Cancelling a task sets
a flag and wakes the task. The port then returns False, and Lua unwinds. A Python exception never passes through Lua frames.
"""
from __future__ import annotations

import logging
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
from boxsession.lua.exposed import Exposed
from boxsession.lua.fibers import Fibers
from boxsession.lua.host_ports import HostPorts
from boxsession.lua.library_ports import LibraryPorts
from boxsession.lua.memory import Memory
from boxsession.lua.memory_ports import MemoryPorts
from boxsession.lua.ports import deny, reader
from boxsession.lua.process_ports import ProcessPorts
from boxsession.lua.requests import Requests
from boxsession.lua.state import State
from boxsession.lua.task import LuaTask
from boxsession.lua.top_ports import TopPorts
from boxsession.lua.turn_ports import TurnPorts
from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.scheduler.task import Host
from boxsession.scheduler.turns import Account
from boxsession.values.limits import Limits
from boxsession.values.packed import pack

__all__ = ['Runtime', 'compile_problem']

log = logging.getLogger('boxsession')

# How long a script may take to end after it was stopped, in seconds.
_STOP_SECONDS = 1.0


class Runtime:
    """The Lua state of one console.

    Args:
        dispatcher: switches between tasks.
        counters: counts the ends of statements, and exceeded limits.
        facts: the fields of box.info, e.g. version and pid. A callable is called on each read.
        expose: Python functions, objects or plain values for Lua, by name (see `boxsession.Console`).
        services: functions of plain values that trusted Lua may call, by name.
        commands: the backslash commands that the program adds.
        failed: see `functions.Calls`.
        call_in: wraps the program's functions, so that they run in another thread.

    Raises:
        ValueError: a value cannot be exposed, or Lua has a global of its name.

    Attributes:
        memory: the memory limit of the state.
        fibers: the fibers that statements have started.
        state: the object that all tasks of the state share.
        output_bytes: maximum size of a document for a client, in bytes; 0 for no limit.
        output_limits: truncates documents for clients at that size.
    """

    def __init__(self, dispatcher: Dispatcher, counters: Counters, facts: Mapping[str, Any],
                 expose: Mapping[str, Any] | None = None, services: Mapping[str, Callable] | None = None,
                 commands: Commands | None = None, failed: functions.Failed = functions.ignore,
                 call_in: Callable[[Callable], Callable] = lambda function: function):
        self.dispatcher = dispatcher
        self.counters = counters
        self._facts = facts
        self._calls = functions.Calls(failed, call_in)
        self._commands = commands or Commands()
        self._command_numbers: dict[str, int] = {}      # numbers of the commands' functions, by command
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
        """Runs the trusted files, and takes the functions of the tasks' coroutines from them."""
        internal = self._lua.table()
        loader.load(self._lua, internal, self._ports(services))
        if expose:
            taken = internal[b'expose'](Exposed(self._calls.number_of_program).describe(expose))
            if taken:
                raise ValueError(f'cannot expose {taken.decode()!r}: Lua has a global of that name: choose another name')
        state = self.state
        state.session_main, state.request_main = internal[b'session_main'], internal[b'request_main']
        state.fiber_main = internal[b'fiber_main']
        self._script_main = internal[b'script_main']
        self._tell_ample = _started(internal[b'take_ample'])
        self._count_errors = _started(internal[b'count_errors'])
        self._take_rights_changes = _started(internal[b'take_rights_changes'])
        self._take_commands = _started(internal[b'take_commands'])
        self.commands_changed()
        # The first release of a reference allocates an entry in the registry. So release one now, while no limit is set.
        state.fiber_main.coroutine(0)

    def _ports(self, services) -> dict[str, Any]:
        """The ports and packed values that the trusted files take, by their names in Lua."""
        state, memory = self.state, MemoryPorts(self.state)
        return {
            **memory.ports(), **TurnPorts(state).ports(), **HostPorts(state, self._calls, memory).ports(),
            **self.fibers.ports(), **TopPorts(state, memory).ports(), **LibraryPorts(state, memory).ports(),
            **ProcessPorts(state, memory, self._facts, lambda: self.output_bytes).ports(),
            'packed_services': self._calls.services(services),
            'packed_commands': pack(described(BUILT_IN, {})),
            'packed_facts': pack({name: fact for name, fact in self._facts.items() if not callable(fact)}),
        }

    def stop(self, timeout: float) -> None:
        """Cancels all tasks and waits for the ends of fibers. Garbage collection frees fibers that do not end in time.

        Args:
            timeout: in seconds.
        """
        for task in list(self.state.tasks.values()):
            self.dispatcher.cancel(task)
        self.fibers.join(timeout)
        self.memory.limit(0)                # later releases of Lua objects may allocate

    # For the console

    def evaluator(self, session: Session, host: Host, account: Account) -> Evaluator:
        """Makes the evaluator of a session. Only the calling greenlet may use it."""
        return Evaluator(self.state, session, host, account)

    def requests(self, session: Session, host: Host, account: Account) -> Requests:
        """Makes an object that runs requests of a session one by one. Only the calling greenlet may use it."""
        return Requests(self.state, session, host, account)

    def errors(self) -> dict[str, int]:
        """The numbers of statements and requests that ended in an error, by ERROR_KINDS."""
        counted = self._ask(self._count_errors)
        found = {kind: self.counters.hits[f'errors.{kind}'] for kind in ERROR_KINDS}
        for entry in counted.decode().split():
            kind, _, number = entry.partition(':')
            found[kind] += int(number)
        return found

    def rights_changed(self) -> None:
        """Makes all sessions look up their users' rights again. Callable from any greenlet."""
        self._ask(self._take_rights_changes)

    def commands_changed(self) -> None:
        """Passes the program's commands to Lua. Callable from any greenlet."""
        for command in self._commands.added:
            if command.name not in self._command_numbers and command.function is not None:
                self._command_numbers[command.name] = self._calls.number_of_program(command.function, f'\\{command.name}')
        self._ask(self._take_commands, pack(described(self._commands.added, self._command_numbers)))

    def _ask(self, coroutine, told=None):
        """Resumes a coroutine that belongs to no task."""
        self.memory.lift(len(told) if told else 0)
        answer = coroutine.send(told)
        running = self.dispatcher.running
        self.memory.keep(isinstance(running, LuaTask) and running.is_tight)
        return answer

    def limit_memory(self, limit: int) -> None:
        """Sets the memory limit of the Lua state, in bytes; 0 for no limit. Memory in use above it is kept."""
        self.memory.lift()
        self._tell_ample.send(self.memory.ample_with(limit) / 1024)
        self.memory.limit(limit)

    def run_script(self, text: bytes, name: str) -> None:
        """Runs a script as admin, without a session. The script may wait: the caller waits until its end.

        If an exception is thrown into the caller meanwhile, the script is stopped.

        Raises:
            ScriptError: the script does not compile, or it raised an error.
        """
        greenlet = UserGreenlet.spawn(self._run_script, text, name)
        try:
            problem = greenlet.get()
        except BaseException:
            for task in list(self.state.tasks.values()):        # the script's, and those of its fibers
                self.dispatcher.cancel(task)
            greenlet.join(_STOP_SECONDS)
            if greenlet.successful():
                log.warning('%s', greenlet.value.decode(errors='replace'))
            raise
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
    """Starts a coroutine of a Lua function. It then waits for the first send()."""
    coroutine = function.coroutine()
    coroutine.send(None)
    return coroutine


def compile_problem(text: bytes, name: str) -> str | None:
    """Compiles a script without running it. Returns the error message, or None if it compiles."""
    lua = lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    internal = lua.table()
    loader.load(lua, internal, {}, ['kernel/literals'])
    loaded = internal[b'load_text'](text, f'@{name}'.encode(), True)
    if not isinstance(loaded, tuple):
        return None
    return internal[b'with_script_name'](loaded[1], name.encode()).decode(errors='replace')
