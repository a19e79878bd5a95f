"""Calls a watcher at the begin and at the end of each call of some code, and stops to do so without a trace.

Python 3.12 and newer have sys.monitoring: the events of a code object. Other tools (coverage, debuggers) have ids of
their own there, and notice nothing. Before, the code of the living functions is exchanged (`watch_swapped`).

A watcher's methods are called in any thread and greenlet of the program. They do not switch, and what they raise is counted
here: nothing gets into the program.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, Protocol

from greenlet import getcurrent

from boxsession.inspection import watch_swapped, watch_trees
from boxsession.inspection.frames import file_is_of_console
from boxsession.inspection.watch_target import Target
from boxsession.inspection.watch_trees import trees

__all__ = ['NotPossible', 'Watcher', 'add', 'remove', 'unfinished']

HAS_MONITORING = sys.version_info >= (3, 12)
# Ids of tools that Python has given no name, and then those of rarer tools. Never the debugger's and coverage's.
_IDS = (4, 3, 5, 2)
# Calls that have begun: a generator that is thrown away ends without an event.
_MOST_RUNS = 10_000


class NotPossible(Exception):
    """The code cannot be watched. The text says why."""


class Watcher(Protocol):
    """What is told of calls.

    Attributes:
        problems: number of exceptions in its methods.
    """

    problems: int

    def begin(self, source: Any) -> Any:
        """A call begins. `source`: see `watch_arguments`. Returns what end() is called with; None: end() is not called."""

    def end(self, token: Any, result: Any, error: BaseException | None, values: int) -> None:
        """The call has ended. `values`: the number of values that a generator has yielded."""


# The watchers by the id of a code object, and the code objects, so that the ids stay valid.
_watchers: dict[int, tuple[Watcher, ...]] = {}
_codes: dict[int, CodeType] = {}
# By the id of a frame: [number of values, watcher, token, watcher, token, ...].
_runs: dict[int, list[Any]] = {}
_tool = -1
_forks: list[bool] = []


def add(target: Target, watcher: Watcher, objects: Callable[[], list[Any]], pause: Callable[[], None]) -> None:
    """Begins to watch the code of a target.

    Args:
        objects: gives the objects of the process. Called only before Python 3.12.
        pause: lets others run. Called from time to time, only before Python 3.12.

    Raises:
        NotPossible: no id of sys.monitoring is free, or this Python cannot watch such a function.
    """
    if not _forks:
        _forks.append(True)
        os.register_at_fork(after_in_child=_end_all)
    if not HAS_MONITORING:
        problem = watch_swapped.add(target, watcher, objects, pause)
        if problem:
            raise NotPossible(problem)
        return
    _take_tool()
    for code in target.codes:
        _watchers[id(code)] = (*_watchers.get(id(code), ()), watcher)
        _codes[id(code)] = code
        _arm(code)


def remove(watcher: Watcher) -> None:
    """Ends it: of the code nothing remains changed."""
    if not HAS_MONITORING:
        watch_swapped.remove(watcher)
        return
    for key, watchers in list(_watchers.items()):
        left = tuple(one for one in watchers if one is not watcher)
        if left == watchers:
            continue
        if left:
            _watchers[key] = left
        else:
            _disarm(_codes.pop(key))
            del _watchers[key]
    # Calls that only it waits for, perhaps of generators that were thrown away: they would keep their arguments.
    for key, run in list(_runs.items()):
        if all(one is watcher for one in run[1::2]):
            _runs.pop(key, None)
    if not _watchers:
        _free_tool()


def unfinished(watcher: Watcher) -> int:
    """The number of its calls that have begun and not ended."""
    runs = watch_swapped.runs if not HAS_MONITORING else _runs
    return sum(1 for run in list(runs.values()) for one in run[1::2] if one is watcher)


def _end_all() -> None:
    """In a forked child: nobody reads there."""
    for watcher in {id(one): one for watchers in _watchers.values() for one in watchers}.values():
        remove(watcher)
    watch_swapped.end_all()
    watch_trees.end_all()


if HAS_MONITORING:
    _monitoring: Any = vars(sys)['monitoring']
    _events = _monitoring.events
    _LOCAL = _events.PY_START | _events.PY_RETURN | _events.PY_YIELD
    _frame = sys._getframe
    # A metaclass of the program may have its own __name__.
    _name = type.__dict__['__name__'].__get__

    _ALWAYS = _events.PY_UNWIND
    _TREES = _ALWAYS | _events.PY_START | _events.PY_RESUME | _events.PY_RETURN | _events.PY_YIELD

    def _entered(code: CodeType) -> None:
        try:
            tree = trees.get(id(getcurrent()))
            if tree is not None and not file_is_of_console(code.co_filename):
                tree.enter(code, id(_frame(2)))
        except Exception:
            pass

    def _left(has_failed: bool = False) -> None:
        try:
            tree = trees.get(id(getcurrent()))
            if tree is not None:
                tree.leave(id(_frame(2)), has_failed)
        except Exception:
            pass

    def _resumed(code: CodeType, _offset: int) -> None:
        _entered(code)

    def _started(code: CodeType, _offset: int) -> None:
        if trees:
            _entered(code)
        watchers = _watchers.get(id(code))
        if watchers is None:
            return
        frame = _frame(1)
        key = id(frame)
        if key in _runs:            # of a generator that was thrown away
            _runs.pop(key, None)
        for watcher in watchers:
            try:
                token = watcher.begin(frame)
                if token is not None:
                    run = _runs.get(key)
                    if run is None:
                        if len(_runs) >= _MOST_RUNS:
                            _runs.pop(next(iter(_runs)), None)
                        _runs[key] = [0, watcher, token]
                    else:
                        run += watcher, token
            except Exception:
                watcher.problems += 1

    def _returned(code: CodeType, _offset: int, value: Any) -> None:
        if trees:
            _left()
        if not _runs:
            return
        run = _runs.pop(id(_frame(1)), None)
        if run is not None:
            _tell(run, value, None)

    def _yielded(code: CodeType, _offset: int, value: Any) -> None:
        if trees:
            _left()
        run = _runs.get(id(_frame(1)))
        # What a coroutine waits for is no value. Those of an asynchronous generator are wrapped.
        if run is not None and (code.co_flags & 0x20 or _name(type(value)) == 'async_generator_wrapped_value'):
            run[0] += 1

    def _unwound(code: CodeType, _offset: int, error: BaseException) -> None:
        if trees:
            _left(True)
        if id(code) in _watchers:
            run = _runs.pop(id(_frame(1)), None)
            if run is not None:
                _tell(run, None, error)

    def _take_tool() -> None:
        global _tool
        if _tool >= 0:
            return
        for number in _IDS:
            try:
                _monitoring.use_tool_id(number, 'boxsession')
            except ValueError:
                continue
            _tool = number
            for event, function in ((_events.PY_START, _started), (_events.PY_RETURN, _returned),
                                    (_events.PY_YIELD, _yielded), (_events.PY_RESUME, _resumed),
                                    (_events.PY_UNWIND, _unwound)):
                _monitoring.register_callback(number, event, function)
            # The end of a call by an exception is no event of a code object: this one is for all code.
            _monitoring.set_events(number, _ALWAYS)
            return
        names = ', '.join(str(_monitoring.get_tool(number)) for number in _IDS)
        raise NotPossible(f'no tool id of sys.monitoring is free: taken by {names}. End one of these, then try again')

    def _free_tool() -> None:
        global _tool
        if _tool < 0:
            return
        _monitoring.set_events(_tool, 0)
        for event in (_events.PY_START, _events.PY_RETURN, _events.PY_YIELD, _events.PY_RESUME, _events.PY_UNWIND):
            _monitoring.register_callback(_tool, event, None)
        _monitoring.free_tool_id(_tool)
        _tool = -1
        _runs.clear()

    def _switch(is_on: bool) -> None:
        if _tool >= 0:
            _monitoring.set_events(_tool, _TREES if is_on else _ALWAYS)

    watch_trees.switches.append(_switch)

    def _arm(code: CodeType) -> None:
        _monitoring.set_local_events(_tool, code, _LOCAL)

    def _disarm(code: CodeType) -> None:
        _monitoring.set_local_events(_tool, code, 0)


def _tell(run: list[Any], result: Any, error: BaseException | None) -> None:
    for place in range(1, len(run), 2):
        watcher = run[place]
        try:
            watcher.end(run[place + 1], result, error, run[0])
        except Exception:
            watcher.problems += 1
