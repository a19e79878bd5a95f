"""Ends code that goes on after an exception that has to end it.

A trace function sees the next line that runs in the same calls. While the code handles the exception, as in `finally`, it
may go on. If it has swallowed the exception, the next line raises it again: that line is not inside the `try` yet, so it
also ends `while True: try: ... except BaseException: pass`.
"""
from __future__ import annotations

import sys
from collections.abc import Container
from opcode import opmap
from types import CodeType, FrameType
from typing import Any

__all__ = ['insist']

_PUSH = opmap.get('PUSH_EXC_INFO', -1)


def insist(frame: FrameType, entries: Container[CodeType], error: type[BaseException]) -> None:
    """Called before `error` is raised in a frame. Does nothing if the thread has a trace function.

    Args:
        entries: the codes that let the exception pass: calls inside the innermost of them are looked at.
    """
    if sys.gettrace() is not None:
        return
    frames = []
    at: FrameType | None = frame
    while at is not None and at.f_code not in entries:
        frames.append(at)
        at = at.f_back
    if at is None or not frames:
        return
    outermost = frames[-1]

    def look(frame: FrameType, event: str, argument: Any) -> Any:
        if event == 'line' and not isinstance(sys.exc_info()[1], error) and not _begins_handler(frame):
            raise error                 # Python removes a trace function that raises
        if event == 'return' and frame is outermost:
            sys.settrace(None)
        return look

    for at in frames:
        at.f_trace = look
    sys.settrace(_ignore)


def _begins_handler(frame: FrameType) -> bool:
    """Whether a handler begins: the exception is not in sys.exc_info() yet. In Python 3.10 it is."""
    return frame.f_code.co_code[frame.f_lasti] == _PUSH


def _ignore(_frame: FrameType, _event: str, _argument: Any) -> None:
    """New calls are not looked at: they may clean up."""
