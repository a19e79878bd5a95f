"""Watches functions before Python 3.12: the code of the living functions is exchanged, and put back at the end.

The code that takes its place calls the function's own code. It has the function's name, and its line in a traceback says
this file. Functions that are made later, in a function, are not watched.
"""
from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from gevent import monkey

from boxsession.inspection.watch_arguments import Call
from boxsession.inspection.watch_target import ORIGINALS, Target, functions_of, runs_as, variables_of_function

__all__ = ['add', 'end_all', 'remove', 'runs']

_ident = monkey.get_original('_thread', 'get_ident')
# The mark of a function that was made here.
_INNER = 'made by boxsession'
# Threads in which a watcher runs: what it calls is not watched.
_busy: set[int] = set()
# The calls that are under way: [number of values, watcher, token, watcher, token, ...].
runs: dict[int, list[Any]] = {}


class _Swap:
    """A function whose code was exchanged."""

    def __init__(self, function: FunctionType):
        self.function, self.code = function, function.__code__
        self.watchers: tuple[Any, ...] = ()
        self.inner = FunctionType(self.code, function.__globals__, function.__name__, function.__defaults__,
                                  function.__closure__)
        self.inner.__kwdefaults__ = function.__kwdefaults__
        variables_of_function(self.inner)[_INNER] = True
        template = {'': _call, 'generator': _generator, 'coroutine': _coroutine}[runs_as(self.code)].__code__
        own = {'@begin': self.begin, '@inner': self.inner, '@end': _end, '@counted': _Counted}
        changes: dict[str, Any] = {
            'co_consts': tuple(own.get(one, one) if type(one) is str else one for one in template.co_consts),
            'co_freevars': self.code.co_freevars, 'co_name': self.code.co_name,
            # A generator of types.coroutine() can be awaited.
            'co_flags': template.co_flags | self.code.co_flags & inspect.CO_ITERABLE_COROUTINE}
        if sys.version_info >= (3, 11):
            changes['co_qualname'] = self.code.co_qualname
        self.swapped = template.replace(**changes)
        ORIGINALS[id(self.swapped)] = self.code
        function.__code__ = self.swapped

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
        thread = _ident()
        if thread in _busy:
            return None
        run: list[Any] | None = None
        try:
            _busy.add(thread)       # not before the try: a handler of a signal may raise an exception then
            function, inner = self.function, self.inner
            # The program may have changed these. Each assignment costs a function its specialized callers.
            if inner.__defaults__ is not function.__defaults__:
                inner.__defaults__ = function.__defaults__
            if inner.__kwdefaults__ is not function.__kwdefaults__:
                inner.__kwdefaults__ = function.__kwdefaults__
            call = Call(self.code, args, kwargs, inner.__defaults__, inner.__kwdefaults__, sys._getframe(1))
            for watcher in self.watchers:
                try:
                    token = watcher.begin(call)
                    if token is not None:
                        if run is None:
                            run = runs[id(call)] = [0, None, call]      # with the call, so that the id stays valid
                        run += watcher, token
                except Exception:
                    watcher.problems += 1
            call.frame = None
            return run
        finally:
            _busy.discard(thread)

    def end(self) -> None:
        """Puts the code back, unless the program has changed it meanwhile."""
        if self.function.__code__ is self.swapped:
            self.function.__code__ = self.code
        _ended.append(self)
        _forget()


def _forget() -> None:
    """Forgets exchanged code that is not in use any more, by calls or by functions that the program has made of it."""
    for swap in list(_ended):
        if sys.getrefcount(swap.swapped) <= 2:
            ORIGINALS.pop(id(swap.swapped), None)
            _ended.remove(swap)


_swaps: dict[int, _Swap] = {}       # by the id of the function
_ended: list[_Swap] = []            # those whose code may still be in use: ids in ORIGINALS stay valid


def add(target: Target, watcher: Any, objects: Callable[[], list[Any]], pause: Callable[[], None]) -> str:
    """Begins to watch the functions with the code of a target. Returns why it cannot; '' if it can."""
    _forget()
    if target.runs_as == 'async generator':
        return f'{target.name} is an asynchronous generator: Python 3.12 or newer can watch it'
    # Without what has stood for functions in this module's code: it lives until the next garbage collection.
    found = {id(one): one for one in functions_of(target.codes, objects(), pause)
             if _INNER not in variables_of_function(one)}
    if target.function is not None:
        found[id(target.function)] = target.function
    if not found:
        return f'no function {target.name} exists now. Before Python 3.12 only living functions can be watched'
    for function in found.values():
        if id(function) not in _swaps:
            _swaps[id(function)] = _Swap(function)
        _swaps[id(function)].watchers += (watcher,)
    return ''


def remove(watcher: Any) -> None:
    """Ends it."""
    for key, swap in list(_swaps.items()):
        swap.watchers = tuple(one for one in swap.watchers if one is not watcher)
        if not swap.watchers:
            swap.end()
            del _swaps[key]
    for run in list(runs.values()):
        place = next((place for place in range(1, len(run), 2) if run[place] is watcher), None)
        if place is not None:
            del run[place:place + 2]
            if len(run) == 3:       # nobody waits for its end, which may never come
                runs.pop(id(run[2]), None)


def end_all() -> None:
    """Puts the code of all functions back."""
    for swap in _swaps.values():
        swap.watchers = ()
        swap.end()
    _swaps.clear()
    runs.clear()


def _end(run: list[Any], result: Any, error: BaseException | None) -> None:
    thread = _ident()
    was_busy = thread in _busy
    try:
        _busy.add(thread)
        found = run[1:]         # remove() may shorten it meanwhile, in another thread
        for watcher, token in zip(found[::2], found[1::2], strict=True):
            if watcher is None:
                runs.pop(id(token), None)
                continue
            try:
                watcher.end(token, result, error, run[0])
            except Exception:
                watcher.problems += 1
    finally:
        if not was_busy:
            _busy.discard(thread)


class _Counted:
    """Passes everything on to a generator, and counts its values."""

    def __init__(self, generator: Any, run: list[Any]):
        self._generator, self._run = generator, run

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        value = next(self._generator)
        self._run[0] += 1
        return value

    def send(self, value: Any) -> Any:
        value = self._generator.send(value)
        self._run[0] += 1
        return value

    def throw(self, *error: Any) -> Any:
        value = self._generator.throw(*error)
        self._run[0] += 1
        return value

    def close(self) -> None:
        self._generator.close()


# The code that is put in the place of a function's. Its globals are the function's, so what it needs is in its constants:
# the texts that begin with @ are exchanged.

def _call(*args, **kwargs):
    inner: Any = '@inner'
    begin: Any = '@begin'
    end: Any = '@end'
    run = begin(args, kwargs)
    if run is None:
        return inner(*args, **kwargs)
    try:
        result = inner(*args, **kwargs)
    except BaseException as error:
        end(run, None, error)
        raise
    end(run, result, None)
    return result


def _generator(*args, **kwargs):
    inner: Any = '@inner'
    begin: Any = '@begin'
    end: Any = '@end'
    counted: Any = '@counted'
    run = begin(args, kwargs)
    if run is None:
        return (yield from inner(*args, **kwargs))
    try:
        result = yield from counted(inner(*args, **kwargs), run)
    except BaseException as error:
        end(run, None, error)
        raise
    end(run, result, None)
    return result


async def _coroutine(*args, **kwargs):
    inner: Any = '@inner'
    begin: Any = '@begin'
    end: Any = '@end'
    run = begin(args, kwargs)
    if run is None:
        return await inner(*args, **kwargs)
    try:
        result = await inner(*args, **kwargs)
    except BaseException as error:
        end(run, None, error)
        raise
    end(run, result, None)
    return result


