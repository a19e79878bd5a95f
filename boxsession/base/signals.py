"""Exceptions that handlers of signals raise while users' code runs.

A handler runs in whichever greenlet runs, also in the middle of a statement. Its exception is meant for the program:
`signal.signal(SIGTERM, lambda *_: sys.exit())`.
"""
from __future__ import annotations

import dis
import functools
import signal
from types import CodeType, FunctionType, MethodType, TracebackType
from typing import Any

from gevent import get_hub, monkey

__all__ = ['hand_on']

# The original function, even in a program that gevent has monkey-patched.
_handler_of = monkey.get_original('signal', 'getsignal')
_TRACEBACK = BaseException.__dict__['__traceback__'].__get__


def hand_on(error: BaseException) -> None:
    """Raises an exception in the main greenlet, too, as gevent does with those of handlers that run while nobody else does,
    if the handler of a signal has raised it."""
    hub = get_hub()
    if hub.loop.default and _is_of_handler(error):          # that of the main thread, where handlers run
        hub.loop.run_callback(hub.handle_system_error, type(error), error)


def _is_of_handler(error: BaseException) -> bool:
    traceback: TracebackType | None = _TRACEBACK(error)
    if traceback is None:
        return False
    handlers = {_code_of(_handler_of(number)) for number in signal.valid_signals()}
    while True:
        if traceback.tb_frame.f_code in handlers:
            return True
        if traceback.tb_next is None:
            break
        traceback = traceback.tb_next
    # Python's own handler of SIGINT has no frame: it raises KeyboardInterrupt between two other instructions.
    return type(error) is KeyboardInterrupt and _handler_of(signal.SIGINT) is signal.default_int_handler and \
        dis.opname[traceback.tb_frame.f_code.co_code[traceback.tb_lasti]] not in ('RAISE_VARARGS', 'RERAISE')


def _code_of(handler: Any) -> CodeType | None:
    """The code of a handler in Python; None for another one."""
    if type(handler) is functools.partial:
        handler = handler.func
    if type(handler) is MethodType:
        handler = handler.__func__
    return handler.__code__ if type(handler) is FunctionType else None
