"""Calls exposed functions outside of the console's thread: in an asyncio loop of the program, or in a pool of threads."""
from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from gevent import get_hub
from gevent.event import Event

from boxsession.base.session import current_session, lend_session
from boxsession.threads import is_waiting

__all__ = ['caller_in']

Call = Callable[..., Any]


def caller_in(target: Any) -> Callable[[Call], Call]:
    """Makes a function that wraps functions: calls of the wrapped function happen in `target`, and the calling greenlet
    waits for the result. If its statement is cancelled, so is the call, unless it has begun in a thread.

    Args:
        target: an asyncio loop, which may run coroutines, too; an executor of concurrent.futures; or None: functions are
            called where the console runs.

    Raises:
        TypeError: it is none of these.
    """
    if target is None:
        return lambda function: function
    if hasattr(target, 'call_soon_threadsafe'):
        submit = functools.partial(_submit_to_loop, target)
    elif hasattr(target, 'submit'):
        submit = functools.partial(_submit_to_executor, target)
    else:
        raise TypeError('call_in should be an asyncio loop or an executor of concurrent.futures, not a '
                        f'{type(target).__name__}')

    def wrap(function: Call) -> Call:
        @functools.wraps(function, (), ())
        def call(*args: Any, **kwargs: Any) -> Any:
            future = submit(functools.partial(function, *args, **kwargs))
            loop, done = get_hub().loop, Event()
            future.add_done_callback(lambda _: loop.run_callback_threadsafe(done.set))
            try:
                done.wait()
            except BaseException:
                future.cancel()
                raise
            result, error = future.result()
            if error is not None:
                raise error
            return result
        return call
    return wrap


def _submit_to_loop(loop, call):
    asyncio, session = sys.modules['asyncio'], current_session()
    if is_waiting(loop):
        raise RuntimeError('the asyncio loop waits for the console, and can call nothing: call start() and stop() in '
                           'another thread, as in `await asyncio.to_thread(console.stop)`')

    async def run():
        # The loop would end with SystemExit, and cannot take StopIteration.
        with lend_session(session):
            try:
                result = call()
                return (await result if inspect.isawaitable(result) else result), None
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                return None, error

    running = run()
    try:
        return asyncio.run_coroutine_threadsafe(running, loop)
    except RuntimeError:            # the loop is closed
        running.close()
        raise


def _submit_to_executor(executor, call):
    session = current_session()

    def run():
        with lend_session(session):
            return call(), None

    return executor.submit(run)
