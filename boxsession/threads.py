"""A console in a thread of its own, and calls from other threads into a console's event loop."""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub, getcurrent, monkey
from gevent.hub import _get_hub as get_hub_if_exists

from boxsession.base.errors import BoxsessionError
from boxsession.surroundings import running_asyncio_loop

__all__ = ['Place', 'is_waiting']

log = logging.getLogger('boxsession')

# How long to wait until an event loop begins a call from another thread, in seconds.
_BEGIN_SECONDS = 10
# How long greenlets of an event loop may go on after its console has stopped, in seconds.
_LINGER_SECONDS = 1
# How often a greenlet looks for an event of another thread, in seconds.
_LOOK_SECONDS = 0.01

# The original functions, even in a program that gevent has monkey-patched.
_start_thread = monkey.get_original('_thread', 'start_new_thread')
_thread_id = monkey.get_original('_thread', 'get_ident')
_new_lock = monkey.get_original('_thread', 'allocate_lock')
_now = monkey.get_original('time', 'monotonic')


class _Once:
    """An event between threads, which is set once. A greenlet that waits lets its event loop run."""

    def __init__(self) -> None:
        self._lock = _new_lock()
        self._lock.acquire()

    def set(self) -> None:
        self._lock.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether the event was set within this time."""
        hub = get_hub_if_exists()
        if hub is None or getcurrent() is hub:
            is_set = self._lock.acquire(True, -1 if seconds is None else seconds)
        else:
            end = None if seconds is None else _now() + seconds
            while not (is_set := self._lock.acquire(False)) and (end is None or _now() < end):
                gevent.sleep(_LOOK_SECONDS)
        if is_set:
            self._lock.release()
        return is_set


# The asyncio loops whose threads wait in run_in_loop(); None for other threads.
_waiting: list[Any] = []


def is_waiting(loop: Any) -> bool:
    """Whether an asyncio loop waits for a console, and so runs nothing."""
    return loop in _waiting


def run_in_loop(hub: Any, function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function in a new greenlet of another thread's event loop, and waits for it.

    Returns:
        What the function returns.

    Raises:
        BoxsessionError: the event loop does not run. The function will not be called.
    """
    begun, ended = _Once(), _Once()
    result: list[Any] = []
    raised: list[BaseException] = []
    rights = [None]             # to call the function, or to give up: whoever pops it

    def call() -> None:
        try:
            rights.pop()
        except IndexError:
            return
        begun.set()
        try:
            result.append(function(*args))
        except BaseException as error:
            raised.append(error)
        finally:
            ended.set()

    waiting = running_asyncio_loop()
    _waiting.append(waiting)
    try:
        hub.loop.run_callback_threadsafe(gevent.spawn, call)
        if not begun.wait(_BEGIN_SECONDS):
            try:
                rights.pop()
            except IndexError:
                pass            # it has just begun
            else:
                raise BoxsessionError(f'the event loop of the console has not run for {_BEGIN_SECONDS} s: something blocks '
                                      'it, or it has ended')
        ended.wait()
    finally:
        _waiting.remove(waiting)
    if raised:
        raise raised[0]
    return result[0]


class LoopThread:
    """A thread with an event loop."""

    def __init__(self) -> None:
        self.hub: Any = None
        self._end: Any = None
        self._is_ending = False
        self._started, self._ended = _Once(), _Once()
        _start_thread(self._run, ())
        self._started.wait()

    def _run(self) -> None:
        self.hub = hub = get_hub()
        self._end = hub.loop.async_()
        self._started.set()
        while not self._is_ending:
            try:
                hub.wait(self._end)
            except BaseException:           # a greenlet has raised SystemExit, for example
                log.exception("the console's thread goes on after an unexpected error")
        gevent.wait(timeout=_LINGER_SECONDS)
        self._end.close()
        hub.destroy(destroy_loop=True)
        self._ended.set()

    def end(self) -> None:
        """Ends the thread soon. Its greenlets may go on for a moment. Callable from any thread."""
        self._is_ending = True
        self.hub.loop.run_callback_threadsafe(self._end.send)       # the thread may not wait yet

    def join(self) -> None:
        """Waits until the thread has ended."""
        self._ended.wait()


class Place:
    """Where a console runs: in the event loop of the calling thread, or in a thread of its own.

    Attributes:
        has_own_thread: whether it is a thread of its own.
        hub: the event loop.
    """

    def __init__(self, has_own_thread: bool):
        self.has_own_thread = has_own_thread
        self._thread = LoopThread() if has_own_thread else None
        self.hub = self._thread.hub if self._thread is not None else get_hub()

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function there: at once in the event loop's own thread, otherwise as run_in_loop() does.

        Raises:
            BoxsessionError: the event loop does not run.
        """
        return function(*args) if self._is_here else run_in_loop(self.hub, function, *args)

    def end(self) -> None:
        """Ends the console's own thread, if it has one. Waits for that, unless it is the calling thread."""
        if self._thread is not None:
            self._thread.end()
            if not self._is_here:
                self._thread.join()

    def join(self) -> None:
        """Waits for the end of the console's own thread."""
        if self._thread is not None:
            self._thread.join()

    @property
    def _is_here(self) -> bool:
        return self.hub.thread_ident == _thread_id()
