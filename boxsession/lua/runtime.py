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
from collections import Counter, deque
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, Protocol

import gevent
from gevent import get_hub, getcurrent
from gevent.hub import Waiter
from lupa import lua51

from boxsession.errors import ScriptError
from boxsession.histogram import Histogram
from boxsession.lua import exposed
from boxsession.lua.memory import UNLIMITED, Memory
from boxsession.output import reply_document
from boxsession.output.limits import Limits
from boxsession.output.reader import read_documents
from boxsession.session import TYPES, Session, current_session, enter_session

__all__ = ['ERROR_KINDS', 'Evaluator', 'Host', 'Requests', 'Runtime', 'StatementCancelled']

# What statements and requests end in, if not well. `input`: what came was not run.
ERROR_KINDS = ('syntax', 'runtime', 'denied', 'timeout', 'cancelled', 'memory', 'output', 'input')

_STATEMENT, _STATEMENT_OPEN, _CONNECT, _DISCONNECT, _FAIL, _CHECK, _LEFT_REMOTE, _LAST_ERROR = 1, 2, 3, 4, 5, 6, 7, 8

# As modules.lua numbers them.
_CLOCKS = (time.time, time.monotonic, time.process_time, time.thread_time)

# What is added to an operation when memory is short, as evaluator.lua has it.
_TIGHT, _COLLECT, _CLOSELY = 16, 32, 64
# How often in a row a turn is put off because somebody new has just run.
_POSTPONED_MAX = 4
# Of statements sent together: the time that all who were ready share, and what everybody has of his own.
_BATCH_SECONDS, _OWN_SECONDS = 0.01, 0.001
# libev's priorities: who waits for a socket or a timer (0) comes before those who go on with a batch, and these before
# those who spin.
_GO_ON_PRIORITY, _SPIN_PRIORITY = -1, -2
# Between two looks at the clock. What takes longer is looked at more often.
_LONG_SECONDS = 0.01
# Who holds the loop longer than this by one operation, and not for the first time, waits so many times what was too long,
# at most, before it goes on, while others are there: so not one in a hundred of their statements notices.
_HELD_SECONDS, _MAKE_UP, _MAKE_UP_SECONDS, _SUSPICION = 0.035, 120, 2.0, 100
# What task.lua tells beside that it is the others' turn.
_FULL_MEMORY, _COLLECTED = 1, 2

# The settings that say how long a task may run.
_STATEMENTS, _TRIGGER = 'limits.statement_seconds', 'limits.trigger_seconds'

# What takes part in a task's greenlet: the attribute that Task is found by.
_TASK = 'boxsession_task'

_VISIBLE = {code: repr(chr(code))[1:-1] for code in (*range(32), 127, 0x85, 0x2028, 0x2029) if code != 9}

script_log = logging.getLogger('boxsession.lua')
log = logging.getLogger('boxsession')


class StatementCancelled(BaseException):
    """Raised inside an exposed Python function whose statement was cancelled."""


class Host(Protocol):
    """What a task's owner (a connection) does for it. None of these may raise."""

    def push(self, tagged: bytes) -> bytes | None: ...      # an error's text
    def set_delimiter(self, delimiter: bytes) -> None: ...
    def control(self, command: str) -> None: ...
    def switching_out(self) -> None: ...
    def running(self) -> str: ...
    def give_back(self, what: int | bytes) -> None: ...     # of those that run batches of requests


class _Port:
    """Something of Python's that Lua can reach. Made at start-up, kept for ever."""

    __slots__ = ('answer',)

    def __init__(self, answer: Callable[[Any], Any]):
        self.answer = answer


def _read_port(port, key):
    """Every `PORT[key]` of Lua's lands here: the one attribute access that exists."""
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


def _deny(*_):
    raise AttributeError('nothing of Python can be changed from Lua')


class Task:
    """What runs user code: one greenlet with one Lua coroutine. Used by that greenlet, cancelled by any."""

    __slots__ = ('host', 'greenlet', 'fid', 'is_heavy', 'is_new', 'is_tight', 'killed', 'ending', 'reason', 'raised',
                 'waiter', 'calling', 'limit', 'deadline', 'is_clean', 'is_watched', 'suspicion', 'not_before',
                 'visits', 'has_company')

    def __init__(self, host: Host | None, limit: str = ''):
        self.host = host
        self.greenlet = getcurrent()
        self.fid = 0                                # what Lua knows it by; 0 until it has told
        self.is_heavy = False                       # its last statement ran for more than its slice
        self.is_new = True                          # it has run no statement yet: nobody knows how heavy it is
        self.is_tight = False                       # what it runs began when memory was short, and may use the reserve
        self.killed = False                         # the running statement is to end
        self.reason = ''                            # why, for its error
        self.ending = 'cancelled'                   # the kind of that error: this, or 'timeout'
        self.raised: BaseException | None = None    # what was thrown into the greenlet while it was inside Lua
        self.waiter: Waiter | None = None           # what a parked task waits on
        self.calling = False                        # inside an exposed Python function
        self.limit = limit                          # the setting that says how long it may run, or ''
        self.deadline = 0.0                         # when it has run so long; 0: not looked at yet
        self.suspicion = 0                          # for how many statements what they take of the processor is measured
        self.not_before = 0.0                       # it has held the loop, and goes on no earlier than this, if not 0
        self.visits = 0                             # how often the loop had resumed anybody when this one last ended
        self.has_company = False                    # whether others were resumed while it last waited
        self.is_watched = False                     # its instructions may take long: more of them are looked at
        self.is_clean = False                       # of all this nothing is to be looked at before it runs the next one
        setattr(self.greenlet, _TASK, self)

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
        slice_seconds: how long a statement runs before the others get their turn; 0 for no limit.
        seconds: how long statements and triggers may run, by the names of the settings.
        hits: how often a limit was met, by the name of its setting; and what else is counted.
        seconds_taken: how long statements and requests took, by the type of their session.
        output_bytes: the longest document for a client; 0 for no limit.
    """

    def __init__(self, facts: Mapping[str, Any], expose: Mapping[str, Any] | None = None,
                 services: Mapping[str, Callable] | None = None):
        self.slice_seconds = 0.05
        self.seconds: dict[str, float] = {}             # how long tasks may run, by the name of the setting; 0 for ever
        self.hits: Counter[str] = Counter()
        self.seconds_taken = {kind: Histogram() for kind in TYPES}
        self._began = 0.0               # when who runs now began to
        self._looked = 0.0              # when for how long was last looked at, or it began
        self._ran = 0.0                 # what the thread had taken of the processor when a suspect was last looked at
        self._visits = 0                # how often anybody has been resumed by the event loop
        self.has_ticked = False         # whether who runs now may have run for longer than is nothing to speak of
        self._facts = facts
        self._ready: deque[Waiter] = deque()        # who goes on when it is their turn
        self._newcomers: deque[Waiter] = deque()    # who has not run yet
        self._newcomers_first = False
        self._batches: deque[Waiter] = deque()      # who goes on with short statements that were sent together
        self._turn_timer = self._batch_timer = None
        self._loop_time = get_hub().loop.now            # when the loop last looked who is there
        self._postponed = 0             # how often the next turn has been put off
        self._tasks: dict[int, Task] = {}               # by fiber id
        self._fibers: set[gevent.Greenlet] = set()      # kept alive until they end
        self._calls = exposed.Calls()
        self._lua = lua51.LuaRuntime(
            encoding=None, unpack_returned_tuples=True, register_eval=False, register_builtins=False,
            attribute_handlers=(_read_port, _deny), max_memory=0)
        self._memory = Memory(self._lua)
        self.inside: Task | None = None     # the task that runs now; read by the monitor's thread
        self.output_bytes = 0
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
            'json': (),
            'yaml_module': (formatting_port(reply_document, self._patience),
                            formatting_port(read_documents, self.pause)),
            'log': (log_port,),
            'console': (_Port(self._delimiter), formatting_port(reply_document, self._patience)),
            'fiber': (_Port(self._spawn), _Port(self._start), _Port(self._wake), clock_port, log_port),
            'commands': (_Port(self._control),),
            'sandbox': (),
            'evaluator': (text_port(self._reason), _Port(self._stopped)),
            'msgpack': (),
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

    @property
    def fibers(self) -> int:
        """How many fibers, started by statements, live."""
        return len(self._fibers)

    # What the greenlets call

    def evaluator(self, session: Session, host: Host) -> Evaluator:
        """The evaluator of a session, for the calling greenlet only."""
        return Evaluator(self, session, host)

    def requests(self, session: Session, host: Host) -> Requests:
        """What runs requests of a session, one at a time, for the calling greenlet only."""
        return Requests(self, session, host)

    def run_script(self, text: bytes, name: str) -> None:
        """Runs a script as admin, without a session. It may wait; the caller waits with it.

        Raises:
            ScriptError: it does not compile, or it raised.
        """
        greenlet = gevent.spawn(self._run_script, text, name)
        problem = greenlet.get()
        if problem:
            raise ScriptError(problem.decode(errors='replace'))

    def _run_script(self, text, name):
        task = Task(None)
        self._memory.lift(len(text))
        coroutine = self._script_main.coroutine(name.encode())
        fid = task.fid = int(coroutine.send(None))
        self._tasks[fid] = task
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
        for timer in filter(None, (self._turn_timer, self._batch_timer)):
            timer.stop()
            timer.close()
        self._turn_timer = self._batch_timer = None

    def who_runs(self) -> str:
        """What runs now, in words."""
        task = self.inside
        if task is None:
            return 'the program around the console'
        if task.host is None:
            return 'the init script'
        return task.host.running()

    def cancel(self, task: Task, reason: str = '', ending: str = 'cancelled') -> None:
        """Ends what the task runs, as soon as it next reaches a port. Callable from any greenlet and from the hub."""
        if not task.killed:
            task.reason, task.ending = reason, ending
        task.killed, task.is_clean = True, False
        loop = get_hub().loop
        if task.waiter is not None:
            loop.run_callback(_wake, task, task.waiter)
        elif task.calling:
            loop.run_callback(_interrupt_call, task)

    # Ports

    def _park(self, seconds):
        """Waits; True unless the task was cancelled before or meanwhile."""
        task = getattr(getcurrent(), _TASK)
        if task.host is not None:
            task.host.switching_out()       # may find that the client has left, and cancel
        if task.killed:
            return False
        if seconds <= 0:
            self._take_turn(task)
        else:
            if self.seconds.get(task.limit):
                seconds = min(seconds, self._seconds_left(task))
            self._wait(task, seconds)
        self._resumed(task)
        if self.seconds.get(task.limit):
            self._check_deadline(task)
        return not task.killed

    def _tick(self, _):
        """Called every so many instructions; task.lua says what the answers mean."""
        task = getattr(getcurrent(), _TASK)
        self.has_ticked = True
        if self.seconds.get(task.limit):
            self._check_deadline(task)
        if task.killed:
            return -task.fid
        answer = task.fid
        used = self._memory.used()
        if used > self._memory.collect_at and self._memory.is_time_to_collect(used):
            answer += 0.5
        if used > self._memory.look_at:
            self._memory.follow(used)
            if used > self._memory.large and not task.is_watched:
                task.is_watched = True
                answer += 0.0625
        now = time.monotonic()
        if self.slice_seconds and now - self._began >= self.slice_seconds:
            answer += 0.25
        if now - self._looked > _LONG_SECONDS:
            answer += 0.125
            self._note_held(task, now)
        elif task.suspicion:
            self._note_held(task, now)
        self._looked = now
        return answer

    def _note_held(self, task, now):
        """It may have held the loop since that was last looked at.

        By the clock that is only suspected, since the process may have had to wait for others on this machine: from then on
        it is measured.
        """
        is_late = now - self._looked > _HELD_SECONDS
        if task.suspicion:
            ran = time.thread_time()
            held = ran - self._ran
            if held > _HELD_SECONDS:
                task.not_before = now + min(_MAKE_UP * (held - _HELD_SECONDS), _MAKE_UP_SECONDS)
                task.suspicion = _SUSPICION
            self._ran = ran
        elif is_late:
            task.suspicion, task.is_clean = _SUSPICION, False
            self._ran = time.thread_time()

    def _turn(self, what):
        """Lets the others in; answers as _tick() does. task.lua says what else is told."""
        task = getattr(getcurrent(), _TASK)
        if what == _COLLECTED:
            self._memory.keep(task.is_tight)
            self._looked, self._ran = time.monotonic(), time.thread_time()
            return True
        task.is_heavy, task.is_clean = True, False
        self._note_held(task, time.monotonic())
        if task.not_before and what != _FULL_MEMORY:
            self._make_up(task)
        self.take_turn(task)
        if what == _FULL_MEMORY:
            self._memory.lift()
        return -task.fid if task.killed else task.fid

    def _make_up(self, task):
        """Waits, after it has held the loop, unless nobody else is there."""
        seconds, task.not_before = task.not_before - time.monotonic(), 0.0
        if task.has_company and seconds > 0 and not task.killed:
            if task.host is not None:
                task.host.switching_out()
            self._wait(task, seconds)
            self._resumed(task)

    def _wait(self, task, seconds):
        waiter = Waiter()
        timer = get_hub().loop.timer(seconds)
        timer.start(waiter.switch, None)
        try:
            self._leave(task, waiter)
        finally:
            timer.stop()
            timer.close()

    def _leave(self, task, waiter):
        """Switches to the others, until the waiter is."""
        task.waiter, self.inside = waiter, None
        visits = self._visits
        try:
            waiter.get()
        finally:
            task.waiter = None
            task.has_company = self._visits != visits

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

    def slice_is_over(self) -> bool:
        """Whether who runs now has run long enough."""
        return bool(self.slice_seconds) and time.monotonic() - self._began >= self.slice_seconds

    def batch_is_over(self) -> bool:
        """Between two statements that were sent together: whether it is the others' turn. All who were found ready when the
        loop last looked share a time; a short one of his own everybody has."""
        self.has_ticked = False
        return time.monotonic() - self._began > _OWN_SECONDS and self._is_batch_time_over()

    def _is_batch_time_over(self):
        return time.time() - self._loop_time() > _BATCH_SECONDS

    def interrupt_batch(self, task: Task) -> None:
        """Lets the others run between two statements that were sent together. Who has not run for a slice goes on before
        those who spin: his time may have gone into the collecting of their garbage."""
        if self.slice_is_over():
            self.take_turn(task)
            return
        if task.host is not None:
            task.host.switching_out()
        waiter = Waiter()
        self._batches.append(waiter)
        if self._batch_timer is None:
            self._batch_timer = get_hub().loop.timer(0.0, priority=_GO_ON_PRIORITY)
        if not self._batch_timer.active:
            self._batch_timer.start(self._next_batches)
        self._leave(task, waiter)
        self._resumed(task)

    def _next_batches(self):
        """Lets as many of them go on as the loop has time for: one at least."""
        waiting = len(self._batches)
        if waiting > 1:
            self._batch_timer.start(self._next_batches)
        for _ in range(waiting):
            waiter = self._batches.popleft()
            if waiter.greenlet is not None:
                waiter.switch(None)
                if self._is_batch_time_over():
                    break

    def pause(self) -> None:
        """Lets the others in, when who runs now has run long enough.

        Raises:
            StatementCancelled: what runs now was cancelled meanwhile.
        """
        task = getattr(getcurrent(), _TASK)
        if self.slice_is_over():
            self.take_turn(task)
        if task.killed:
            raise StatementCancelled

    def _format(self, answer, key, helper):
        self.has_ticked = True
        try:
            return self._if_there_is_room(answer(key, helper))
        except StatementCancelled:
            return False

    def begin(self, task: Task) -> None:
        """Before a statement, unless the task is clean: makes it so. A statement that is likely to need several turns waits
        for the first one, too, where others spin. Who is new, of whom nobody knows it, takes turns with those who spin."""
        task.killed, task.deadline, task.is_clean = False, 0.0, not task.suspicion
        if task.not_before:
            task.has_company |= self._visits - task.visits > 1      # one is its own
            self._make_up(task)
        if task.is_heavy or task.is_new:
            first = task.is_new
            task.is_heavy = task.is_new = False
            if self._ready:
                self.take_turn(task, first)
        if task.suspicion:
            task.suspicion -= 1
            self._ran = time.thread_time()

    def end(self, task: Task) -> None:
        """Behind a statement, where the task is not clean or the memory limit was lifted."""
        if self._memory.lifted or task.is_tight:
            task.is_tight = False
            self._memory.keep()
        self._note_held(task, time.monotonic())
        task.visits = self._visits
        if task.raised is not None:
            task.raise_kept()

    def take_turn(self, task: Task, first: bool = False) -> None:
        """Lets the others run, and goes on after them; with `first`, as a newcomer, in a queue of their own."""
        if task.host is not None:
            task.host.switching_out()
        self._take_turn(task, first)
        self._resumed(task)

    def _resumed(self, task):
        """A task has been switched back to."""
        self.inside = task
        self._memory.keep(task.is_tight)
        self.begin_slice(time.monotonic())
        self.has_ticked = True
        if task.suspicion:
            self._ran = time.thread_time()

    def begin_slice(self, now: float) -> None:
        """The calling greenlet has just been resumed by the event loop, at `now` of time.monotonic()."""
        self._visits += 1
        self._began = self._looked = now
        self.has_ticked = False

    def _take_turn(self, task, first=False):
        """Goes to the end of a queue of those who want to run. One of them is let in per turn of the event loop, so
        that however many spin, the loop's other business is done between any two."""
        waiter = Waiter()
        (self._newcomers if first else self._ready).append(waiter)
        if self._turn_timer is None:
            self._turn_timer = get_hub().loop.timer(0.0, priority=_SPIN_PRIORITY)
        if not self._turn_timer.active:
            self._turn_timer.start(self._next_turn)
        self._leave(task, waiter)

    def _next_turn(self):
        if self._postponed < _POSTPONED_MAX and time.time() - self._loop_time() > self.slice_seconds / 2:
            # Somebody new has run since the loop last looked who else is there: first it looks again.
            self._postponed += 1
            self._turn_timer.start(self._next_turn)
            return
        self._postponed = 0
        # By turns, so that neither waits for all of the others.
        self._newcomers_first = not self._newcomers_first
        queues = (self._newcomers, self._ready) if self._newcomers_first else (self._ready, self._newcomers)
        waiter = None
        for queue in queues:
            while queue and waiter is None:
                waiter = queue.popleft()
                if waiter.greenlet is None:
                    waiter = None
        if waiter is None:
            return
        if self._ready or self._newcomers:
            self._turn_timer.start(self._next_turn)
        waiter.switch(None)

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
        # If it waits, what the client is to get goes out first.
        leaving = get_hub().loop.run_callback(task.host.switching_out) if task.host is not None else None
        try:
            answer = self._calls.call(request)
        except StatementCancelled:
            return False
        finally:
            if leaving is not None:
                leaving.stop()
            if timer is not None:
                timer.stop()
                timer.close()
            task.calling = False
            self._resumed(task)
        return False if task.killed else answer

    def _push(self, tagged):
        task = getattr(getcurrent(), _TASK)
        try:
            problem = task.host.push(tagged)
        except StatementCancelled:
            return False
        return False if task.killed else self._if_there_is_room(problem) if problem else True

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
        level, _, text = line.partition(b':')
        # One line stays one line, whatever is in it.
        text = text.decode(errors='backslashreplace').translate(_VISIBLE)
        script_log.log(logging.getLevelName(level.decode().upper()), '%s', text)
        return True

    def _clock(self, which):
        return _CLOCKS[int(which)]()

    def _info(self, name):
        return exposed.pack(self._facts[name.decode()]())

    # Fibers

    def _spawn(self, fid):
        """Starts a fiber in a greenlet of its own, as soon as others are let run."""
        task = getattr(getcurrent(), _TASK)
        greenlet = gevent.Greenlet(self._run_fiber, int(fid), current_session(), task.host)
        self._fibers.add(greenlet)
        greenlet.start()
        return True

    def _start(self, fid):
        """The same, and lets it run to its first wait."""
        task = getattr(getcurrent(), _TASK)
        if task.killed:
            return False
        self._spawn(fid)
        waiter = task.waiter = Waiter()
        # Callbacks run in order: the fiber, which was started just before, comes first.
        get_hub().loop.run_callback(waiter.switch, None)
        self.inside = None
        try:
            waiter.get()
        finally:
            task.waiter = None
        self._resumed(task)
        return not task.killed

    def _run_fiber(self, fid, session, host):
        if session is not None:
            enter_session(session)
        task = self._tasks[fid] = Task(host)
        task.fid = fid
        self._memory.lift()
        self.inside = task
        coroutine = self._fiber_main.coroutine(fid)
        try:
            coroutine.send(None)
        finally:
            self.inside = None
            # Its release touches Lua, which must not find the memory full.
            self._memory.lift()
            coroutine = None
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
            get_hub().loop.run_callback(_wake, task, task.waiter)
        return True


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


def _wake(task, waiter):
    """Ends a wait, unless it has ended meanwhile."""
    if task.waiter is waiter and waiter.greenlet is not None:
        waiter.switch(None)


def _interrupt_call(task):
    if task.calling and task.killed:
        task.greenlet.throw(StatementCancelled)


class Evaluator:
    """Runs the statements of one session. Made, used and closed by the greenlet of that session."""

    __slots__ = ('task', '_runtime', '_session', '_memory', '_send', '_fid', '_used')

    def __init__(self, runtime: Runtime, session: Session, host: Host):
        self.task = Task(host, _STATEMENTS)
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
        runtime._tasks[self._fid] = self.task
        self._send = coroutine.send         # what it replaces is released while there is room
        self._used = memory.used
        memory.keep()

    def statement(self, text: bytes, may_continue: bool = False) -> bytes:
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
            # The coroutine's release touches Lua, which must not find the memory full.
            self._memory.lift()
            self._send = None
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
        reply = self._send((operation, text))
        runtime.inside = None
        if task.is_tight or self._memory.lifted:
            task.is_tight = False
            self._memory.keep()
        task.limit = _STATEMENTS
        if task.raised is not None:
            task.raise_kept()
        return reply


class Requests:
    """Runs requests of one session, one after the other. Made, used and closed by one greenlet; a session has several."""

    EVAL, CALL, LOGIN, _BATCH = 1, 2, 3, 4

    __slots__ = ('task', '_runtime', '_memory', '_send', '_used', '_observe')

    def __init__(self, runtime: Runtime, session: Session, host: Host):
        self.task = Task(host, _STATEMENTS)
        self._runtime = runtime
        self._memory = memory = runtime._memory
        memory.lift()
        self._observe = runtime.seconds_taken['binary'].observe
        coroutine = runtime._request_main.coroutine(session.id)
        self.task.fid = int(coroutine.send(None))
        runtime._tasks[self.task.fid] = self.task
        self._send = coroutine.send
        self._used = memory.used
        memory.keep()

    def run(self, operation: int, name: bytes, arguments: bytes, sync: int) -> bytes:
        """Evaluates an expression, or calls a function, with packed arguments: '=' and packed results, or '!' and a packed
        list of an error's type, code, message and what was denied."""
        task, runtime, memory = self.task, self._runtime, self._memory
        began = time.monotonic()
        if not task.is_clean:
            runtime.begin(task)
        size = len(name) + len(arguments)
        used = self._used() + size
        if used > memory.look_at and (memory.has_moved(used) or not task.is_watched):
            operation = runtime._prepare(task, operation, size)
        runtime.inside = task
        reply = self._send((operation, name, arguments, sync))
        self._observe(time.monotonic() - began)
        if memory.lifted or not task.is_clean:
            runtime.end(task)
        return reply

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
            self._memory.keep()
