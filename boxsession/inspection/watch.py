r"""What is kept of watched calls for one reader: `\watch`, `\trace` and `\stack`; `\count` is in `watch_counts`.

The methods begin() and end() run inside of the program's calls, in any thread and greenlet: they take no lock, do not
switch and call no code of the program. What comes faster than the rate is counted and not copied.
"""
from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from boxsession.base.secret_words import is_sensitive
from boxsession.inspection import watch_trees
from boxsession.inspection.caller import Where, called_by_console, where
from boxsession.inspection.copies import Copier, Copy
from boxsession.inspection.expression import HIDDEN, Expression, Failed
from boxsession.inspection.frames import Call as Frame
from boxsession.inspection.frames import calls_of, file_is_of_program
from boxsession.inspection.watch_arguments import Call, arguments, frame_of
from boxsession.inspection.watch_target import ORIGINALS, Target

__all__ = ['AT_END', 'CallWatch', 'Options', 'Seen', 'StackWatch', 'TraceWatch', 'Watch']

# Names that have a value only when the call has ended.
AT_END = ('result', 'error', 'ms')
# Calls in the queue; different problems of an expression that are told; stacks that are kept, and calls of each.
QUEUE, _PROBLEMS, _STACKS = 1000, 5, 1000

# What a condition, and copies, may take of each second, in ns of the calling thread. One of so many conditions is measured.
_CONDITION, _COPIES, _SECOND, _MEASURED = 400_000_000, 100_000_000, 1_000_000_000, 16

_clock = time.perf_counter_ns
_used_clock = time.thread_time_ns


class Options(NamedTuple):
    """What to keep."""

    condition: Expression | None = None
    shows: tuple[Expression, ...] = ()
    most: float = 10                # calls
    rate: float = 10                # calls in a second
    depth: int = 2


class Seen(NamedTuple):
    """A call that was kept. Copies, not values of the program."""

    time: float                     # seconds since the epoch, when it began
    where: Where
    arguments: list[tuple[str, str | Copy]]
    result: str | Copy | None       # None if it has raised an exception
    error: str | Copy | None
    ms: float
    values: int                     # that a generator has yielded
    shows: list[tuple[str, str | Copy]]
    tree: watch_trees.Tree | None = None


class Watch:
    """What all kinds have.

    Attributes:
        calls, matches, shown: calls that have begun, that the condition was true for, and that were kept.
        problems: exceptions in begin() and end(), and expressions that could not be evaluated.
        told: such problems as text, each once.
        queue: what was kept. The reader takes it from the left.
        is_woken: set here, reset by the reader before it looks into the queue.
        is_over: nothing is kept any more.
        condition, is_late: that of the calls; it needs the end of a call.
        gave_up: why it has ended itself.
    """

    def __init__(self, target: Target, options: Options, wake: Callable[[], None]):
        self.calls = self.matches = self.shown = self.problems = 0
        self.told: deque[str] = deque(maxlen=_PROBLEMS)
        self.queue: deque[Any] = deque()
        self.is_woken = self.is_over = False
        self.gave_up = ''
        self._evaluated, self._evaluating, self._evaluating_since = 0, 0, _clock()
        self._known: set[str] = set()
        self._target, self._options, self._wake = target, options, wake
        self._names = target.parameters
        condition = options.condition
        self.condition = condition
        self.is_late = condition is not None and bool(condition.uses & set(AT_END))
        self._period = int(1e9 * max(1.0, 1 / options.rate))
        self._in_period = max(1, int(options.rate))
        self._began, self._used, self._copying = 0, 0, 0
        # What the condition needs at the begin of a call. If the call may be shown later, all arguments.
        uses = condition.uses if condition is not None else set()
        self._is_of_end = self.is_late and uses <= set(AT_END)
        self._needs_all = bool(uses & {'args', 'self'})
        self._secrets = {name for name in self._names if is_sensitive(name.encode(errors='backslashreplace'))}
        # Functions of the library and of gevent see what sessions of the console send, too.
        self._may_be_of_console = not file_is_of_program(target.codes[0].co_filename)
        first = self._names[:1] if target.has_self else []
        self._self_name = first[0] if first else None
        self._needed = self._names if 'args' in uses else \
            [name for name in self._names if name in uses or 'self' in uses and name in first]

    @property
    def not_shown(self) -> int:
        """Matching calls that were not kept: faster than the rate, or too many."""
        return max(0, self.matches - self.shown)

    def may_keep(self, now: int) -> bool:
        """Whether the rate allows one more call."""
        if now - self._began >= self._period:
            self._began, self._used, self._copying = now, 0, 0
        if self._used >= self._in_period or len(self.queue) >= QUEUE or self._copying > _COPIES:
            return False
        self._used += 1
        return True

    def values(self, found: dict[str, Any]) -> dict[str, Any]:
        """The names of an expression, when a call begins."""
        first = self._self_name
        hidden = self._secrets
        found['args'] = tuple([HIDDEN if name in hidden else found[name] for name in self._names
                               if name in found and name != first])
        if first in found:
            found['self'] = found[first]
        return found

    def needed(self, source: Any) -> dict[str, Any]:
        """The same, only what the condition needs."""
        found = arguments(source, self._needed)
        if self._needed is self._names:
            return self.values(found)
        if self._self_name in found:
            found['self'] = found[self._self_name]
        return found

    def is_match(self, values: dict[str, Any]) -> bool:
        """Whether the condition is true. An error in it is told once."""
        condition = self.condition
        if condition is None:
            return True
        self._evaluated += 1
        began = 0 if self._evaluated % _MEASURED else _used_clock()
        try:
            return condition.is_true(values)
        except Failed as problem:
            self.failed(condition, problem)
            return False
        finally:
            if began:
                self._measured(_used_clock() - began)

    def _measured(self, took: int) -> None:
        """One condition was measured. The watch ends if they would slow the program down."""
        now = _clock()
        if now - self._evaluating_since >= _SECOND:
            self._evaluating, self._evaluating_since = 0, now
        self._evaluating += took * _MEASURED
        if self._evaluating > _CONDITION and not self.gave_up:
            self.gave_up = (f'the condition slows the program down: it took {self._evaluating / 1e6:.0f} ms within a '
                            f'second, {took / 1e3:.0f} us in each call')
            self.is_over = True
            self.woken()

    def failed(self, expression: Expression | None, problem: Exception) -> None:
        """An expression has no value."""
        self.problems += 1
        text = f'{expression.text if expression is not None else ""}: {problem}'[:500]
        if len(self._known) < _PROBLEMS and text not in self._known:
            self._known.add(text)
            self.told.append(text)
            self.woken()

    def look(self) -> None:
        """Called some times a second by the reader's event loop."""

    def close(self) -> None:
        """Nobody reads any more."""
        self.is_over = True

    def woken(self) -> None:
        """Wakes the reader, if it sleeps."""
        if not self.is_woken:
            self.is_woken = True
            self._wake()


class CallWatch(Watch):
    r"""`\watch`: each call with its arguments and its result."""

    _is_limited = True          # by the rate, at the end of a call with a late condition

    def begin(self, source: Any) -> Any:
        self.calls += 1
        if self.is_over:
            return None
        if self.is_late:
            # As the arguments are then: copies of all would cost more.
            found = source if type(source) is Call and self._is_of_end else arguments(source, self._names)
            return _clock(), time.time(), found, None, None
        if self.condition is not None and not self.is_match(self.needed(source)):
            return None
        self.matches += 1
        if self._used >= self._in_period and _clock() - self._began < self._period or not self.may_keep(_clock()):
            return None
        if self._may_be_of_console and called_by_console(frame_of(source).f_back):
            return None
        found = arguments(source, self._names)
        copier, before = Copier(self._options.depth), _used_clock()
        copies = [(name, copier.copy(value, name == self._self_name)) for name, value in found.items()]
        self._copying += _used_clock() - before
        values = self.values(found) if self._options.shows else None
        place = where(frame_of(source))
        return _clock(), time.time(), values, copies, place

    def end(self, token: Any, result: Any, error: BaseException | None, count: int) -> None:
        self.keep(token, result, error, count)

    def keep(self, token: Any, result: Any, error: BaseException | None, count: int,
             tree: watch_trees.Tree | None = None) -> None:
        """Puts a call that has ended into the queue, if it is to be shown. See end()."""
        now = _clock()
        began, clock, values, copies, place = token
        if self.is_over:
            return
        ms = (now - began) / 1e6
        copier, before = Copier(self._options.depth), _used_clock()
        at_end = {'ms': ms, 'error': error, 'result': result}
        if self.is_late:
            if self._is_of_end:
                known = at_end
            else:
                known = self.values(dict(values)) if self._needs_all else dict(values)
                known |= at_end
            if not self.is_match(known):
                return
            self.matches += 1
            if self._is_limited and not self.may_keep(now):
                return
            if self._may_be_of_console and called_by_console(sys._getframe(1)):
                return
            if type(values) is Call:
                values = arguments(values, self._names)
            copies = [(name, copier.copy(value, name == self._self_name)) for name, value in values.items()]
            place = where(None)
            values = self.values(values) if self._options.shows else values
        if self._options.shows:
            values |= at_end
        if self.shown >= self._options.most:
            return
        self.shown += 1
        shows = []
        for expression in self._options.shows:
            try:
                shows.append((expression.text, copier.copy(expression.value(values))))
            except Failed as problem:
                shows.append((expression.text, f'<{problem}>'))
        self.queue.append(Seen(clock, place, copies, copier.copy(result) if error is None else None,
                               None if error is None else copier.copy(error), ms, count, shows, tree))
        self._copying += _used_clock() - before
        self.woken()


class TraceWatch(CallWatch):
    r"""`\trace`: each call with what it calls. One call at a time is traced in a greenlet."""

    _is_limited = False

    def __init__(self, target: Target, options: Options, wake: Callable[[], None]):
        super().__init__(target, options._replace(depth=2), wake)
        self._levels = options.depth
        self._open: dict[int, watch_trees.Tree] = {}

    def begin(self, source: Any) -> Any:
        if not watch_trees.may_begin() or self.shown + len(self._open) >= self._options.most:
            self.calls += 1
            return None
        if self.is_late and not self.may_keep(_clock()):       # it may match, so it is traced
            self.calls += 1
            return None
        token = super().begin(source)
        if token is not None:
            tree = watch_trees.Tree(self._target.codes[0], self._levels)
            watch_trees.begin(tree)
            self._open[tree.key] = tree
            if self.is_over:            # close() was called meanwhile, in another thread
                self._ended(tree)
                return None
            frame = frame_of(source)
            if frame is source:
                tree.enter(frame.f_code, id(frame))
            token = token, tree
        return token

    def end(self, token: Any, result: Any, error: BaseException | None, count: int) -> None:
        token, tree = token
        self._ended(tree)
        self.keep(token, result, error, count, tree)

    def _ended(self, tree):
        watch_trees.end(tree.key)
        self._open.pop(tree.key, None)

    def look(self) -> None:
        for tree in list(self._open.values()):
            if tree.is_too_long():
                tree.cut()

    def close(self) -> None:
        super().close()
        for key in list(self._open):
            watch_trees.end(key)


class StackWatch(Watch):
    r"""`\stack`: who calls it. Equal stacks are counted.

    Attributes:
        stacks: the number of calls and the stack, the innermost call first, by its code and positions.
    """

    def __init__(self, target: Target, options: Options, wake: Callable[[], None]):
        super().__init__(target, options, wake)
        self.stacks: dict[tuple[int, ...], list[Any]] = {}

    def begin(self, source: Any) -> Any:
        self.calls += 1
        if self.is_over:
            return None
        if self.is_late:
            return _clock(), self.needed(source), self._stack(frame_of(source).f_back)
        if self.condition is not None and not self.is_match(self.needed(source)):
            return None
        self.matches += 1
        if self.shown < self._options.most and self.may_keep(_clock()):
            self._add(self._stack(frame_of(source).f_back))
        return None

    def end(self, token: Any, result: Any, error: BaseException | None, count: int) -> None:
        began, values, stack = token
        values |= {'ms': (_clock() - began) / 1e6, 'error': error, 'result': result}
        if not self.is_over and self.is_match(values):
            self.matches += 1
            if self.shown < self._options.most:
                self._add(stack)

    def _stack(self, frame):
        """The key of a stack; and, if it is new, the stack itself, and its code, which keeps the ids in the key valid.

        Without the frames that watch_swapped adds."""
        key: list[int] = []
        frames: list[Any] = []
        while frame is not None and len(frames) < self._options.depth:
            code = frame.f_code
            if id(code) not in ORIGINALS:
                key += id(code), frame.f_lasti
                frames.append(frame)
            frame = frame.f_back
        found = tuple(key)
        if found in self.stacks or len(self.stacks) >= _STACKS:
            return found, None, None
        codes = [shown.f_code for shown in frames]
        return found, calls_of(frames), codes

    def _add(self, found):
        key, stack, codes = found
        row = self.stacks.get(key)
        if row is not None:
            row[0] += 1
        elif len(self.stacks) < _STACKS and stack is not None:
            self.stacks[key] = [1, stack, codes]
        else:
            return
        self.shown += 1
        if self.shown >= self._options.most:
            self.woken()

    def groups(self) -> list[tuple[int, list[Frame]]]:
        """The stacks with their numbers of calls, the most frequent one first."""
        return sorted(((count, stack) for count, stack, _ in list(self.stacks.values())), key=lambda row: -row[0])
