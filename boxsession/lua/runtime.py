"""The one Lua state that all sessions share, and how greenlets run statements in it.

Theory of operation
-------------------
lupa is safe under greenlets that switch inside Lua only within narrow rules, and everything here keeps to them:

* Lua calls Python by reading an item of a port (`PORT[argument]`), never by calling an object. A port takes one scalar,
  gives one scalar, and never raises.
* Python calls Lua by sending to a coroutine, after start-up in no other way. Exactly one string comes back.
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
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from typing import Any, Protocol

import gevent
from gevent import get_hub, getcurrent
from gevent.hub import Waiter
from lupa import lua51

from boxsession.errors import ScriptError
from boxsession.greenlets import TASK as _TASK
from boxsession.greenlets import UserGreenlet
from boxsession.histogram import Histogram
from boxsession.lua import exposed
from boxsession.lua.interrupt import LOCK, address_of, interrupt
from boxsession.lua.memory import UNLIMITED, Memory
from boxsession.lua.operations import Operations
from boxsession.output import reply_document
from boxsession.output.limits import Limits
from boxsession.output.reader import read_documents
from boxsession.output.tagged import Tagged
from boxsession.redaction import redacted_text
from boxsession.scheduler.loop import PRIORITY, EventLoop
from boxsession.scheduler.turns import Account, Turns
from boxsession.session import TYPES, Session, current_session, enter_session

__all__ = ['ERROR_KINDS', 'Evaluator', 'Host', 'Requests', 'Runtime', 'StatementCancelled', 'switch']

# What statements and requests end in, if not well. `input`: what came was not run.
ERROR_KINDS = ('syntax', 'runtime', 'denied', 'timeout', 'cancelled', 'memory', 'output', 'input')

_STATEMENT, _STATEMENT_OPEN, _CONNECT, _DISCONNECT, _FAIL, _CHECK, _LEFT_REMOTE, _LAST_ERROR = 1, 2, 3, 4, 5, 6, 7, 8

# As modules.lua numbers them.
_CLOCKS = (time.time, time.monotonic, time.process_time, time.thread_time)

# What is added to an operation when memory is short, as evaluator.lua has it.
_TIGHT, _COLLECT, _CLOSELY = 16, 32, 64
# What task.lua tells of a look, and beside that it is the others' turn.
_FIRST_LOOK = 2
_FULL_MEMORY, _COLLECTED, _COLLECTING = 1, 2, 3

# The settings that say how long a task may run.
_STATEMENTS, _TRIGGER = 'limits.statement_seconds', 'limits.trigger_seconds'

_VISIBLE = {code: repr(chr(code))[1:-1] for code in (*range(32), 127, 0x85, 0x2028, 0x2029) if code != 9}

_REPORT_BYTES = 4096
# A longer line of a script's is cut.
_LOGGED_MAX = 1 << 14

script_log = logging.getLogger('boxsession.lua')
log = logging.getLogger('boxsession')


class StatementCancelled(BaseException):
    """Raised inside an exposed Python function whose statement was cancelled."""


class Host(Protocol):
    """What a task's owner (a connection) does for it. None of these may raise."""

    def push(self, tagged: bytes) -> None: ...      # for binary sessions: a list of one value, in msgpack
    def set_delimiter(self, delimiter: bytes) -> None: ...
    def control(self, command: str) -> None: ...
    def switching_out(self) -> None: ...
    def running(self) -> str: ...
    @property
    def is_over(self) -> bool: ...                          # whether the session ends: it is to run nothing more
    def kill(self, reason: str) -> None: ...                # ends the session
    def give_back(self, what: int | bytes) -> None: ...     # of those that run batches of requests


class _Port:
    """Something of Python's that Lua can reach. Made at start-up, kept for ever."""

    __slots__ = ('answer',)

    def __init__(self, answer: Callable[[Any], Any]):
        self.answer = answer


def _port_reader(operations: Operations) -> Callable[[_Port, Any], Any]:
    """What every `PORT[key]` of Lua's calls: the one attribute access that exists."""
    monotonic = time.monotonic

    def read(port, key):
        try:
            return port.answer(key)
        except BaseException as error:      # a kill from outside: kept, and raised again when Lua is unwound
            task = getattr(getcurrent(), _TASK, None)
            if task is None:
                log.exception('port failed outside any task')
            else:
                task.killed, task.is_clean = True, False
                task.raised = error
            return False
        finally:
            operations.last = monotonic()
    return read


def _deny(*_):
    raise AttributeError('nothing of Python can be changed from Lua')


class Task:
    """What runs user code: one greenlet with one Lua coroutine. Used by that greenlet, cancelled by any."""

    __slots__ = ('host', 'account', 'greenlet', 'fid', 'is_tight', 'killed', 'ending', 'reason', 'raised', 'waiter',
                 'calling', 'limit', 'began', 'deadline', 'is_clean', 'is_watched', 'coroutine', 'address',
                 'is_interrupted', 'allowed', 'is_woken', 'leaving')

    def __init__(self, host: Host | None, account: Account, limit: str = ''):
        self.host = host
        self.account = account                      # its session's
        self.greenlet = getcurrent()
        self.fid = 0                                # what Lua knows it by; 0 until it has told
        self.is_tight = False                       # what it runs began when memory was short, and may use the reserve
        self.killed = False                         # the running statement is to end
        self.reason = ''                            # why, for its error
        self.ending = 'cancelled'                   # the kind of that error: this, or 'timeout'
        self.raised: BaseException | None = None    # what was thrown into the greenlet while it was inside Lua
        self.waiter: Waiter | None = None           # what a parked task waits on
        self.is_woken = False                       # the end of that wait is under way
        self.calling = False                        # inside an exposed Python function
        self.leaving = None                         # the callback that flushes its output if that function waits
        self.limit = limit                          # the setting that says how long it may run, or ''
        self.began = 0.0                            # when its statement was first looked at
        self.deadline = 0.0                         # when it has run so long; 0: not looked at yet
        self.is_watched = False                     # there is much in memory while it runs, and Lua knows
        self.coroutine: Any = None                  # of Lua's
        self.address = 0                            # of that coroutine's state, for as long as it is referred to
        self.is_interrupted = False                 # its hook is called at each instruction
        self.allowed = 0                            # the memory limit when its turn was ended for that; 0: none
        self.is_clean = False                       # of all this nothing is to be looked at before it runs the next one
        setattr(self.greenlet, _TASK, self)

    def move_to(self, greenlet: gevent.Greenlet) -> None:
        """From now on the task is that greenlet's."""
        self.greenlet = greenlet
        setattr(greenlet, _TASK, self)

    def attach(self, coroutine: Any) -> None:
        """The task runs in that coroutine, which is not released before detach()."""
        with LOCK:
            self.address = 0
        self.coroutine = coroutine
        self.address = address_of(coroutine)

    def detach(self) -> None:
        """Gives the coroutine up. Its release touches Lua, which must not find the memory full."""
        with LOCK:
            self.address = 0
        self.coroutine = None

    def raise_kept(self) -> None:
        raised, self.raised = self.raised, None
        raise raised


class Runtime:
    """The Lua state of one console.

    Args:
        facts: what box.info tells, e.g. version and pid (what is callable is called when it is read).
        expose: names to Python functions, objects or plain values for Lua (see `boxsession.Console`).
        services: what trusted Lua can ask of the program, by name: functions of plain values.

    Attributes:
        turns: says when which session's tasks run (see boxsession.scheduler.turns).
        seconds: how long statements and triggers may run, by the names of the settings.
        hits: how often a limit was met, by the name of its setting; and what else is counted.
        seconds_taken: how long statements and requests took, by the type of their session.
        output_bytes: the longest document for a client; 0 for no limit.
        max_fibers: how many fibers may live; 0 for no limit.
    """

    def __init__(self, facts: Mapping[str, Any], expose: Mapping[str, Any] | None = None,
                 services: Mapping[str, Callable] | None = None):
        self.seconds: dict[str, float] = {}             # how long tasks may run, by the name of the setting; 0 for ever
        self.hits: Counter[str] = Counter()
        self.seconds_taken = {kind: Histogram() for kind in TYPES}
        self.operations = Operations()
        self._event_loop = EventLoop()
        self.turns = Turns(self._event_loop)
        self._loop = get_hub().loop
        self._began = 0.0               # when the turn that runs now began
        self._looked = 0.0              # when the clock was last looked at in it
        self.has_ticked = False         # whether the clock was looked at since the last statement of a batch began
        self._facts = facts
        self._tasks: dict[int, Task] = {}               # by fiber id
        self._fibers: set[gevent.Greenlet] = set()      # kept alive until they end
        self._calls = exposed.Calls()
        self._lua = lua51.LuaRuntime(
            encoding=None, unpack_returned_tuples=True, register_eval=False, register_builtins=False,
            attribute_handlers=(_port_reader(self.operations), _deny), max_memory=0)
        self._memory = Memory(self._lua)
        self.inside: Task | None = None     # the task that runs now; read by the monitor's thread
        self.output_bytes = 0
        self.max_fibers = 0
        # For what is sent to clients: cut where it is too long; and for what stays in Lua, which has its own limit.
        self.output_limits = Limits(lambda: self.output_bytes, self.pause)
        self._patience = Limits(lambda: 0, self.pause)
        self._load(facts, expose or {}, services or {})

    def _load(self, facts, expose, services) -> None:
        """Runs the trusted files, which leave the two coroutine functions that everything else goes through."""
        lua = self._lua
        internal = lua.table()
        log_port, clock_port = _Port(self._log), _Port(self._clock)

        def text_port(answer):
            return _Port(lambda key: self._if_there_is_room(answer(key)))

        def formatting_port(answer, helper):
            return _Port(lambda key: self._format(answer, key, helper))

        ports = {
            'raw': (),
            'compiler': (),
            'pattern': (),
            'guard': (),
            'task': (_Port(self._park), _Port(self._tick), _Port(self._turn), text_port(self._call),
                     _Port(self._room)),
            'yaml': (),
            'tagged': (),
            'format': (_Port(lambda _: self.output_bytes or UNLIMITED),),
            'objects': (),
            'expose': (self._calls.services(services),),
            'stdlib': (text_port(_environment),),
            'box': (log_port, _Port(self._push), text_port(self._info), exposed.pack(
                {name: fact for name, fact in facts.items() if not callable(fact)})),
            'access': (_Port(self._count), log_port),
            'sessions': (),
            'errors': (),
            'schema': (),
            'modules': (clock_port,),
            'uuid': (text_port(_random),),
            'extension': (),
            'serializer': (),
            'msgpack': (),
            'json': (),
            'yaml_module': (formatting_port(reply_document, self._patience),
                            formatting_port(read_documents, self.pause)),
            'log': (log_port,),
            'console': (_Port(self._delimiter), formatting_port(reply_document, self._patience)),
            'fiber': (_Port(self._spawn), _Port(self._start), _Port(self._wake), clock_port, log_port),
            'commands': (_Port(self._control),),
            'sandbox': (),
            'evaluator': (text_port(self._reason), _Port(self._stopped)),
            'requests': (text_port(self._reason), _Port(self._give_back)),
        }
        for name, arguments in ports.items():
            lua.execute(_source(name), internal, *arguments, name=f'=builtin/{name}.lua'.encode())
        if expose:
            taken = internal[b'expose'](self._calls.describe(expose))
            if taken:
                raise ValueError(f'cannot expose {taken.decode()!r}: Lua has a global of that name')
        self._session_main = internal[b'session_main']
        self._script_main = internal[b'script_main']
        self._fiber_main = internal[b'fiber_main']
        self._request_main = internal[b'request_main']
        self._tell_ample = internal[b'take_ample'].coroutine()
        self._tell_ample.send(None)
        self._count_errors = internal[b'count_errors'].coroutine()
        self._count_errors.send(None)
        self._take_rights_changes = internal[b'take_rights_changes'].coroutine()
        self._take_rights_changes.send(None)
        # The first release of a reference makes an entry in the registry: now, while there is no limit.
        self._fiber_main.coroutine(0)

    def errors(self) -> dict[str, int]:
        """How many statements and requests ended in an error, by ERROR_KINDS."""
        self._memory.lift()
        counted = self._count_errors.send(None)
        self._memory.keep(self.inside is not None and self.inside.is_tight)
        found = {kind: self.hits[f'errors.{kind}'] for kind in ERROR_KINDS}
        for entry in counted.decode().split():
            kind, _, number = entry.partition(':')
            found[kind] += int(number)
        return found

    def rights_changed(self) -> None:
        """Makes all sessions find their users' rights anew. Callable from any greenlet."""
        self._memory.lift()
        self._take_rights_changes.send(None)
        self._memory.keep(self.inside is not None and self.inside.is_tight)

    @property
    def fibers(self) -> int:
        """How many fibers, started by statements, live."""
        return len(self._fibers)

    # What the greenlets call

    def evaluator(self, session: Session, host: Host, account: Account) -> Evaluator:
        """The evaluator of a session, for the calling greenlet only."""
        return Evaluator(self, session, host, account)

    def requests(self, session: Session, host: Host, account: Account) -> Requests:
        """What runs requests of a session, one at a time, for the calling greenlet only."""
        return Requests(self, session, host, account)

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
        task = Task(None, Account())
        self._memory.lift(len(text))
        coroutine = self._script_main.coroutine(name.encode())
        task.attach(coroutine)
        fid = task.fid = int(coroutine.send(None))
        self._tasks[fid] = task
        getcurrent().is_shielded = True
        try:
            answer = coroutine.send(text)
            if task.raised is not None:
                task.raise_kept()
            return answer
        finally:
            del self._tasks[fid]

    # Memory

    @property
    def memory_used(self) -> int:
        """Bytes that the Lua state holds, its garbage included."""
        return self._memory.used()

    def limit_memory(self, limit: int) -> None:
        """Sets how much memory the Lua state may hold, in bytes; 0 for no limit. What is over it already may stay."""
        self._memory.lift()
        self._tell_ample.send(self._memory.ample_with(limit) / 1024)
        self._memory.limit(limit)

    def _prepare(self, task, operation, size):
        """There is, or was, much in memory: gives the operation that says so to Lua.

        Where it is short, makes room for a statement of `size` bytes first.
        """
        used = self._memory.used()
        if used > self._memory.large and not task.is_watched:
            task.is_watched = True
            operation += _CLOSELY
        if used + size <= self._memory.ample:
            self._memory.follow(used)
            return operation
        task.is_tight, task.is_clean = True, False
        collect = self._memory.is_time_to_collect(used)
        self._memory.lift(4 * size)
        return operation + _TIGHT + (_COLLECT if collect else 0)

    def _room(self, what):
        """What task.lua asks: -1 and -3 to make room (-1: since there was none), -2 to put the limit back, -4 to give all
        that it allows at once, else whether there is so much room, in bytes."""
        if what == -1 or what == -3:
            self.hits['limits.lua_memory_bytes'] += what == -1
            self._memory.lift()
        elif what == -2:
            self._memory.keep(getattr(getcurrent(), _TASK).is_tight)
        elif what == -4:
            self._memory.give_all()
        else:
            return self._memory.has_room(what)
        return True

    def _if_there_is_room(self, answer):
        """A port's answer: a string that there is no memory for would end in a long jump over Python's frames."""
        if isinstance(answer, bytes) and not self._memory.has_room_for(answer):
            return -1
        return answer

    def stop(self, timeout: float) -> None:
        """Cancels all fibers and waits for their ends; those that do not end in time are left to the collector."""
        for task in list(self._tasks.values()):
            self.cancel(task)
        gevent.joinall(list(self._fibers), timeout=timeout)
        self._memory.limit(0)               # what is released from now on finds room
        self._event_loop.close()

    def who_runs(self) -> str:
        """What runs now, in words."""
        task = self.inside
        if task is None:
            return 'the program around the console'
        if task.host is None:
            return 'the init script'
        return task.host.running()

    def interrupt(self, busy: float) -> None:
        """Ends the turn that runs now at its next instruction, in whatever thread this is called.

        `busy` is the processor's time that the loop's thread has used, in seconds; 0 where that is not known.
        """
        task = self.inside
        if task is not None:
            self.operations.meet(busy)
            interrupt(task)

    def cancel(self, task: Task, reason: str = '', ending: str = 'cancelled') -> None:
        """Ends what the task runs, as soon as it next reaches a port. Callable from any greenlet and from the hub."""
        if not task.killed:
            task.reason, task.ending = reason, ending
        task.killed, task.is_clean = True, False
        if task.waiter is not None:
            self._end_wait(task)
        elif task.calling:
            self._loop.run_callback(_interrupt_call, task)

    # Ports

    def _park(self, seconds):
        """Waits; True unless the task was cancelled before or meanwhile."""
        task = getattr(getcurrent(), _TASK)
        if task.host is not None:
            task.host.switching_out()       # may find that the client has left, and cancel
        if task.killed:
            return False
        if seconds <= 0:
            self._yield(task)
        else:
            left = self._seconds_left(task) if self.seconds.get(task.limit) else seconds
            self._wait(task, min(seconds, left))
            if left < seconds and not task.is_woken and not task.killed:
                # A timer may come early, by as much as the loop's time is late: that is no reason to go on.
                self._overdue(task)
        if self.seconds.get(task.limit):
            self._check_deadline(task)
        return not task.killed

    def _tick(self, where):
        """Called every so many instructions; task.lua says what the answers mean."""
        task = getattr(getcurrent(), _TASK)
        self.has_ticked = True
        if self.seconds.get(task.limit):
            self._check_deadline(task)
        used = self._memory.used()
        now = time.monotonic()
        if self.operations.is_too_long(now, used):
            self._stop_holding(task, now)
        if task.killed:
            if where:
                task.is_interrupted = False
            return -task.fid
        answer = task.fid
        if used > self._memory.collect_at and self._memory.is_time_to_collect(used):
            answer += 0.5
        is_asked = where and task.is_interrupted
        # A look that was asked for, behind a few instructions, does not widen what may be filled between two looks.
        if is_asked:
            task.allowed = self._memory.in_force
        elif task.allowed:
            task.allowed = 0
            self._memory.keep(task.is_tight)
        elif used > self._memory.look_at:
            self._memory.follow(used)
            if used > self._memory.large and not task.is_watched:
                task.is_watched = True
                answer += 0.0625
        slice_seconds = self.turns.slice_seconds
        if where == _FIRST_LOOK:
            # Statements that were sent together are one turn, but each has a slice: so a short one is atomic.
            task.began = now
        elif slice_seconds and now - max(self._began, task.began) >= slice_seconds:
            answer += 0.25
        if is_asked:
            task.is_interrupted = False
            answer += 0.125
        self._looked = now
        return answer

    def _stop_holding(self, task, now):
        """One operation of a task's has held everybody, for no good reason. Who does it again loses the session."""
        seconds = now - self.operations.last
        task.account.offences += 1
        why = (f'one operation held all sessions for {seconds:.2f} s: keys of a table that collide, or texts that take '
               'long to compare')
        log.warning('stopped, since %s: %s', why, self.who_runs())
        self.cancel(task, f'the statement was stopped: {why}')
        if task.account.offences > 1 and task.host is not None:
            task.host.kill(f'the session is closed: {why}, again')

    def _turn(self, what):
        """Lets the others in; answers as _tick() does. task.lua says what else is told."""
        task = getattr(getcurrent(), _TASK)
        if what == _COLLECTED:
            self._memory.keep(task.is_tight)
            self._looked = time.monotonic()
            return True
        if what != _COLLECTING or self.turns.is_over(self._began):
            task.is_clean = False
            self.take_turn(task)
        if what:
            self._memory.lift()
            return not task.killed
        return -task.fid if task.killed else task.fid

    # Waits and turns

    def _wait(self, task, seconds):
        """Waits; then a new turn begins."""
        waiter = Waiter()
        timer = self._loop.timer(seconds, priority=PRIORITY)
        timer.start(self._end_of_wait, task, waiter)
        try:
            self._leave(task, waiter)
        finally:
            timer.stop()
            timer.close()
        self._begin_turn(task)

    def _leave(self, task, waiter):
        """Switches to the event loop, until the waiter is switched to."""
        task.waiter, task.is_woken, self.inside = waiter, False, None
        try:
            waiter.get()
        finally:
            task.waiter = None

    def _end_of_wait(self, task, waiter):
        """Called by the event loop: the task can go on."""
        if task.waiter is waiter:
            account = self.turns.cancelled if task.killed else task.account
            self.turns.resume(account, partial(switch, waiter))

    def _queue(self, task, lane):
        waiter = Waiter()
        lane.push(task.account, partial(switch, waiter))
        self._leave(task, waiter)

    def take_turn(self, task: Task) -> None:
        """Ends the task's turn, and waits for its next one as a preempted task."""
        if task.host is not None:
            task.host.switching_out()
        self._preempt(task)

    def _preempt(self, task):
        self._queue(task, self.turns.preempted(task.account))
        self._begin_turn(task)
        task.account.preempted_at = self._began

    def _yield(self, task):
        """Lets others run. The turn goes on behind that: a task that only yields is preempted like others."""
        began, turns = self._began, self.turns
        if turns.is_over(began):
            self._preempt(task)
        else:
            self._queue(task, turns.short)
            self._begin_turn(task)
            self._began += began - self._looked

    def rejoin(self) -> None:
        """The calling task has waited for something that the scheduler does not know of: it comes back by the queue."""
        task = getattr(getcurrent(), _TASK, None)
        if task is not None and not self.turns.is_running:
            self._queue(task, self.turns.short)
            self._begin_turn(task)

    def _begin_turn(self, task):
        """The scheduler has resumed the task."""
        self._restore(task)
        self.begin_turn()
        self.has_ticked = True

    def begin_turn(self) -> float:
        """The scheduler has resumed the calling greenlet, which is not inside a statement. Gives when that was."""
        self._began = self._looked = self.operations.last = began = self.turns.began
        self.has_ticked = False
        return began

    def _restore(self, task):
        self.inside = task
        self._memory.keep(task.is_tight)
        if task.allowed:
            self._memory.narrow(task.allowed)

    def _seconds_left(self, task):
        """Until the task has run for as long as it may. Its time begins when this is first asked."""
        now = time.monotonic()
        if not task.deadline:
            task.deadline, task.is_clean = now + self.seconds[task.limit], False
        return task.deadline - now

    def _check_deadline(self, task):
        if not task.killed and self._seconds_left(task) <= 0:
            self._overdue(task)

    def _overdue(self, task):
        what = 'trigger' if task.limit == _TRIGGER else 'statement'
        self.hits[task.limit] += 1
        self.cancel(task, f'the {what} was stopped: it ran for {self.seconds[task.limit]:g} seconds ({task.limit})',
                    'timeout')

    def turn_is_over(self) -> bool:
        """Whether the turn that runs now has used its slice."""
        self.has_ticked = False
        return self.turns.is_over(self._began)

    def pause(self) -> None:
        """Lets the others in, when who runs now has run long enough.

        Raises:
            StatementCancelled: what runs now was cancelled meanwhile.
        """
        task = getattr(getcurrent(), _TASK)
        if self.turns.is_over(self._began):
            self.take_turn(task)
        if task.killed:
            raise StatementCancelled

    def let_others_in(self) -> None:
        """The same behind a statement, whose cancellation comes too late."""
        if self.turns.is_over(self._began):
            self.take_turn(getattr(getcurrent(), _TASK))

    def _format(self, answer, key, helper):
        self.has_ticked = True
        try:
            return self._if_there_is_room(answer(key, helper))
        except StatementCancelled:
            return False

    def begin(self, task: Task) -> None:
        """Before a statement, unless the task is clean: makes it so."""
        # A session that was ended while it waited between two statements runs no other one.
        task.killed = task.host is not None and task.host.is_over
        task.deadline, task.is_clean = 0.0, not task.killed

    def end(self, task: Task) -> None:
        """Behind a statement, where the task is not clean or the memory limit was lifted."""
        if self._memory.lifted or task.is_tight or task.allowed:
            task.is_tight, task.allowed = False, 0
            self._memory.keep()
        if task.raised is not None:
            task.raise_kept()

    def _call(self, request):
        """Calls an exposed function: packed arguments in, packed result or error out."""
        task = getattr(getcurrent(), _TASK)
        if task.killed:
            return False
        task.calling = True
        timer = None
        if self.seconds.get(task.limit):
            timer = get_hub().loop.timer(max(0.0, self._seconds_left(task)))
            timer.start(self._overdue, task)
        # If it waits, what the client is to get goes out first. One callback serves all calls until the loop runs it: those
        # of a loop of short calls would pile up faster than the event loop takes them.
        if task.host is not None and (task.leaving is None or not task.leaving.pending):
            task.leaving = self._loop.run_callback(_flush_if_waiting, task)
        try:
            answer = self._calls.call(request, self._pause_call)
        finally:
            if timer is not None:
                timer.stop()
                timer.close()
            task.calling = False
            self.rejoin()
        return False if task.killed else answer

    def _pause_call(self):
        """Lets the others in while arguments or results are copied. The function may have waited, and owe its turn."""
        self.rejoin()
        self.pause()

    def _push(self, tagged):
        task = getattr(getcurrent(), _TASK)
        try:
            task.host.push(tagged)
        except StatementCancelled:
            return False
        self.rejoin()
        return not task.killed

    def _count(self, what):
        self.hits[what.decode()] += 1
        return True

    def _give_back(self, what):
        getattr(getcurrent(), _TASK).host.give_back(what)
        return True

    def count_error(self, kind: str) -> None:
        """One more of ERROR_KINDS, of those that Lua does not count."""
        self.hits[f'errors.{kind}'] += 1

    def _stopped(self, _):
        """What the task runs has ended, since it was cancelled or took too long."""
        self.count_error(getattr(getcurrent(), _TASK).ending)
        return True

    def _delimiter(self, delimiter):
        getattr(getcurrent(), _TASK).host.set_delimiter(delimiter)
        return True

    def _reason(self, _):
        """Why the statement that has just been cancelled was; None for no particular reason."""
        return getattr(getcurrent(), _TASK).reason.encode() or None

    def _control(self, command):
        getattr(getcurrent(), _TASK).host.control(command.decode())
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

    def _clock(self, which):
        return _CLOCKS[int(which)]()

    def _info(self, name):
        return exposed.pack(self._facts[name.decode()]())

    # Fibers

    def _spawn(self, fid):
        """Starts a fiber in a greenlet of its own, as soon as others are let run. None where there are too many."""
        task = getattr(getcurrent(), _TASK)
        if self._has_all_fibers():
            return None
        greenlet = self._new_fiber(task, fid)
        self.turns.short.push(task.account, greenlet.switch)
        return True

    def _has_all_fibers(self):
        if not self.max_fibers or len(self._fibers) < self.max_fibers:
            return False
        self.hits['limits.fibers'] += 1
        return True

    def _new_fiber(self, task, fid):
        greenlet = UserGreenlet(self._run_fiber, int(fid), current_session(), task.host, task.account)
        self._fibers.add(greenlet)
        return greenlet

    def _start(self, fid):
        """The same, and lets it run to its first wait."""
        task = getattr(getcurrent(), _TASK)
        if task.killed:
            return False
        if self._has_all_fibers():
            return None
        greenlet, waiter, began = self._new_fiber(task, fid), Waiter(), self._began
        # Callbacks run in order, so the fiber comes first. The turn goes on behind that.
        for resume in (greenlet.switch, partial(switch, waiter)):
            self._loop.run_callback(self.turns.short.run, task.account, resume)
        task.waiter, task.is_woken, self.inside = waiter, True, None
        try:
            waiter.get()
        finally:
            task.waiter = None
        self._begin_turn(task)
        self._began = began
        return not task.killed

    def _run_fiber(self, fid, session, host, account):
        if session is not None:
            enter_session(session)
        task = self._tasks[fid] = Task(host, account)
        task.fid = fid
        getcurrent().is_shielded = True
        self.begin_turn()
        self._memory.lift()
        self.inside = task
        task.attach(self._fiber_main.coroutine(fid))
        try:
            task.coroutine.send(None)
        finally:
            self.inside = None
            self._memory.lift()
            task.detach()
            self._memory.keep()
            del self._tasks[fid]
            self._fibers.discard(getcurrent())
            if host is not None:
                host.switching_out()
        if task.raised is not None:
            task.raise_kept()

    def _wake(self, fid):
        task = self._tasks.get(int(fid))
        if task is not None and task.waiter is not None:
            self._end_wait(task)
        return True

    def _end_wait(self, task):
        """Wakes a task that waits; once, however often it is called before the loop comes to it."""
        if not task.is_woken:
            task.is_woken = True
            self._loop.run_callback(self._end_of_wait, task, task.waiter)


def compile_problem(text: bytes, name: str) -> str | None:
    """Why a script would not compile, or None. It runs nothing."""
    lua = lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    internal = lua.table()
    for part in ('raw', 'compiler'):
        lua.execute(_source(part), internal)
    loaded = internal[b'load_text'](text, f'@{name}'.encode(), True)
    if not isinstance(loaded, tuple):
        return None
    message = loaded[1].decode(errors='replace')
    return message if message.startswith(f'{name}:') else f'{name}: {message}'


def _source(name: str) -> bytes:
    return resources.files(__package__).joinpath(f'{name}.lua').read_bytes()


def _environment(name):
    """A variable of the environment; stdlib.lua says which may be read."""
    value = os.environ.get(name.decode())
    return None if value is None else value.encode(errors='surrogateescape')


def _random(count):
    return os.urandom(int(count))


def switch(waiter: Waiter) -> None:
    """Ends a wait, unless it has ended meanwhile."""
    if waiter.greenlet is not None:
        waiter.switch(None)


def _flush_if_waiting(task):
    if task.calling:
        task.host.switching_out()


def _interrupt_call(task):
    if task.calling and task.killed:
        task.greenlet.throw(StatementCancelled)


class Evaluator:
    """Runs the statements of one session. Made, used and closed by the greenlet of that session."""

    __slots__ = ('task', '_runtime', '_session', '_memory', '_send', '_fid', '_used')

    def __init__(self, runtime: Runtime, session: Session, host: Host, account: Account):
        self.task = Task(host, account, _STATEMENTS)
        self._runtime = runtime
        self._session = session
        self._start()

    def _start(self):
        runtime, session = self._runtime, self._session
        self._memory = memory = runtime._memory
        memory.lift()
        coroutine = runtime._session_main.coroutine(
            session.id, session.fd, session.peer.encode(), session.user.encode(), session.uid,
            session.dialect.encode(), session.type.encode())
        self._fid = self.task.fid = int(coroutine.send(None))
        self.task.attach(coroutine)         # what it replaces is released while there is room
        runtime._tasks[self._fid] = self.task
        self._send = coroutine.send
        self._used = memory.used
        memory.keep()

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged:
        """Runs a statement and gives what leaves Lua (see `boxsession.output`).

        With `may_continue`, b'' when the statement is not complete yet.
        """
        task, runtime, memory = self.task, self._runtime, self._memory
        if not task.is_clean:
            runtime.begin(task)
            if task.killed:                     # before it began
                runtime.count_error(task.ending)
                return self.error(task.reason or 'the statement was cancelled')
        operation = _STATEMENT_OPEN if may_continue else _STATEMENT
        used = self._used() + len(text)
        runtime.operations.last = 0.0
        if used > memory.look_at and (memory.has_moved(used) or not task.is_watched):
            operation = runtime._prepare(task, operation, len(text))
        runtime.inside = task
        reply = self._send((operation, text))
        if memory.lifted or not task.is_clean:
            runtime.end(task)
        return reply

    def is_incomplete(self, text: bytes) -> bool:
        """Whether a statement, which is not run, waits for more lines."""
        return self._perform(_CHECK, text) == b''

    def is_wrong(self, text: bytes) -> bool:
        """Whether a statement, which is not run, is no Lua."""
        return self._perform(_CHECK, text) == b'wrong'

    def connect(self) -> bytes:
        """Runs the on_connect triggers; gives b'', or the error that is to end the session."""
        return self._perform(_CONNECT, b'', _TRIGGER)

    def disconnect(self) -> None:
        """Runs the on_disconnect triggers and ends the session on the Lua side."""
        try:
            try:
                self._perform(_DISCONNECT, b'', _TRIGGER)
            except lua51.LuaError:
                # The coroutine has died of something that it should have caught: the triggers have one of their own.
                log.exception('session %d: its evaluator failed', self._session.id)
                self._runtime._tasks.pop(self._fid, None)
                self._start()
                self._perform(_DISCONNECT, b'', _TRIGGER)
        finally:
            self._runtime._tasks.pop(self._fid, None)
            self._memory.lift()
            self._send = None
            self.task.detach()
            self._memory.keep()

    def last_error(self) -> bytes:
        """The error that the last statement ended in, as text; empty where there was none."""
        return self._perform(_LAST_ERROR, b'')

    def left_remote(self) -> None:
        """Runs the console's on_client_disconnect hook."""
        self._perform(_LEFT_REMOTE, b'', _TRIGGER)

    def error(self, message: str) -> bytes:
        """An error in the session's output format, as a statement would have ended in it."""
        return self._perform(_FAIL, message.encode())

    def _perform(self, operation, text, limit=''):
        task = self.task
        task.killed = False
        task.limit, task.deadline = limit, 0.0
        runtime = self._runtime
        used = self._used() + len(text)
        memory = self._memory
        if used > memory.look_at and (memory.has_moved(used) or not task.is_watched):
            operation = runtime._prepare(task, operation, len(text))
        runtime.inside = task
        runtime.operations.last = 0.0
        reply = self._send((operation, text))
        runtime.inside = None
        if task.is_tight or self._memory.lifted or task.allowed:
            task.is_tight, task.allowed = False, 0
            self._memory.keep()
        task.limit = _STATEMENTS
        if task.raised is not None:
            task.raise_kept()
        return reply


class Requests:
    """Runs requests of one session, one after the other. Made, used and closed by one greenlet; a session has several."""

    EVAL, CALL, LOGIN, _BATCH, CALL_16, _EVAL_ERROR = 1, 2, 3, 4, 5, 6

    __slots__ = ('task', '_runtime', '_memory', '_send', '_used', '_observe')

    def __init__(self, runtime: Runtime, session: Session, host: Host, account: Account):
        self.task = Task(host, account, _STATEMENTS)
        self._runtime = runtime
        self._memory = memory = runtime._memory
        memory.lift()
        self._observe = runtime.seconds_taken['binary'].observe
        coroutine = runtime._request_main.coroutine(session.id)
        self.task.fid = int(coroutine.send(None))
        self.task.attach(coroutine)
        runtime._tasks[self.task.fid] = self.task
        self._send = coroutine.send
        self._used = memory.used
        memory.keep()

    def run(self, operation: int, name: bytes, arguments: bytes, sync: bytes) -> bytes:
        """Evaluates an expression, or calls a function. Lists, and the request's number, are in msgpack.

        Gives '=' and a list of the results, or '!' and a list of an error's type, code, message and what was denied.
        """
        task, runtime, memory = self.task, self._runtime, self._memory
        began = time.monotonic()
        if not task.is_clean:
            runtime.begin(task)
        size = len(name) + len(arguments)
        used = self._used() + size
        if used > memory.look_at and (memory.has_moved(used) or not task.is_watched):
            operation = runtime._prepare(task, operation, size)
        runtime.inside = task
        self._runtime.operations.last = 0.0
        reply = self._send((operation, name, arguments, sync))
        self._observe(time.monotonic() - began)
        if memory.lifted or not task.is_clean:
            runtime.end(task)
        return reply

    def eval_error(self) -> bytes:
        """The error of the statement that the last request ran by console.eval(), as text; empty where there was none."""
        self._memory.lift()
        error = self._send((self._EVAL_ERROR, b'', b'', 0))
        self._memory.keep(self.task.is_tight)
        return error

    def run_batch(self, frames: bytes, longest: int) -> tuple[bytes, int, int, bytes] | None:
        """Runs frames as they came, as far as Lua knows what is in them; `longest` is the most that one may have (0: any).

        Gives the answers' frames, how many bytes of `frames` they are for, how many requests that were, and what the one
        behind these gave, as run() does, or b'' where it is still to be run; None when memory is short.
        When a request lets others in, the host is told by give_back() what has not begun, and some answers.
        """
        task, runtime, memory = self.task, self._runtime, self._memory
        operation = self._BATCH
        used = self._used() + len(frames)
        if used > memory.look_at:
            if used > memory.ample:
                return None
            if memory.has_moved(used) or not task.is_watched:
                operation = runtime._prepare(task, operation, len(frames))
        runtime.inside = task
        self._runtime.operations.last = 0.0
        answers, position, count, reply = self._send((operation, frames, b'', longest))
        if memory.lifted or not task.is_clean:
            runtime.end(task)
        return answers, int(position) - 1, int(count), reply

    def close(self) -> None:
        """Ends the task on the Lua side."""
        runtime = self._runtime
        if runtime._tasks.pop(self.task.fid, None) is not None:
            # The coroutine's end and release touch Lua, which must not find the memory full.
            self._memory.lift()
            try:
                self._send((0, b'', b'', 0))
            except StopIteration:
                pass
            self._send = None
            self.task.detach()
            self._memory.keep()
