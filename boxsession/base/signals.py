"""Exceptions that handlers of signals raise while users' code runs.

A handler runs in whichever greenlet runs, also in the middle of a statement. Its exception is meant for the program:
`signal.signal(SIGTERM, lambda *_: sys.exit())`.
"""
from __future__ import annotations

import _signal  # type: ignore[import-not-found]     # the stubs do not know it
import dis
import functools
import signal
from types import CodeType, FunctionType, MethodType, TracebackType
from typing import Any

from gevent import get_hub

__all__ = ['hand_on']

# Not that of the module `signal`, which makes enums: this is called after each error, for each signal.
_handler_of = _signal.getsignal
_NUMBERS = [int(number) for number in signal.valid_signals()]
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
    handlers = {_code_of(handler) for handler in map(_handler_of, _NUMBERS) if type(handler) is not int}
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
