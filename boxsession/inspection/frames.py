"""Stacks of Python frames as plain data.

Reads frames only: it calls no code of the program, and may run in any thread.
"""
from __future__ import annotations

import inspect
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from boxsession.base.stacks import DEPTH, frames_of_thread

__all__ = ['Call', 'calls', 'frames_of_program', 'calls_of', 'calls_of_thread', 'file_is_of_console', 'file_is_of_gevent',
           'file_is_of_program', 'local_items', 'own_call', 'signature', 'signature_of', 'started_by', 'utf8']

_CONSOLE = str(Path(__file__).parent.parent) + '/'
_GEVENT = str(Path(sys.modules['gevent'].__file__ or '').parent) + '/' if 'gevent' in sys.modules else '\0'
_LIBRARY = tuple(path.rstrip('/') + '/' for path in (sysconfig.get_path('stdlib'), sysconfig.get_path('platstdlib')))
_INSTALLED = ('/site-packages/', '/dist-packages/')


def file_is_of_program(file: str) -> bool:
    """Whether a file of code is the program's own: not gevent's, this package's or Python's library."""
    return not (file.startswith((_GEVENT, _CONSOLE, '<frozen ', 'src/gevent/'))
                or file.startswith(_LIBRARY) and not any(part in file for part in _INSTALLED))


def file_is_of_gevent(file: str) -> bool:
    return file.startswith((_GEVENT, 'src/gevent/'))


def file_is_of_console(file: str) -> bool:
    return file.startswith(_CONSOLE)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a stack: the module and the function that run, the file, and the line in it, from 1 on."""

    module: str
    function: str
    file: str
    line: int

    @property
    def name(self) -> str:
        return f'{self.module}:{self.function}'

    @property
    def where(self) -> str:
        return f'{self.file}:{self.line}'

    @property
    def is_of_program(self) -> bool:
        """Whether the program's own code runs: no code of gevent, of this package or of Python's library."""
        return file_is_of_program(self.file)

    @property
    def is_of_gevent(self) -> bool:
        return file_is_of_gevent(self.file)

    @property
    def is_of_console(self) -> bool:
        return file_is_of_console(self.file)


def _frames(frame: Any, most: int = DEPTH) -> Iterator[Any]:
    count = 0
    while frame is not None and count < most:
        yield frame
        frame = frame.f_back
        count += 1


def signature(frame: Any) -> tuple[int, ...]:
    """A key of a stack that equals that of any other stack at the same places. Valid while the code lives."""
    at = frame.f_back
    if at is None:
        return id(frame.f_code), frame.f_lasti
    found = [id(frame.f_code), frame.f_lasti]
    left = DEPTH - 1
    while at is not None and left:
        found += id(at.f_code), at.f_lasti
        at = at.f_back
        left -= 1
    return tuple(found)


def signature_of(frames: list[Any]) -> tuple[int, ...]:
    """The same of a stack that base.stacks has read."""
    return tuple(number for frame in frames for number in (id(frame.f_code), frame.f_lasti))


def calls(frame: Any, most: int = DEPTH) -> list[Call]:
    """The stack of a frame, the innermost call first: at most 200 calls.

    Args:
        frame: a frame, or anything with f_code, f_lineno and f_back, as gevent keeps of the spawning stack.
    """
    return [_call(at) for at in _frames(frame, most)]


def calls_of(frames: list[Any]) -> list[Call]:
    """The calls of a stack that base.stacks has read."""
    return [_call(frame) for frame in frames]


def calls_of_thread(identifier: int) -> list[Call]:
    """The stack of a thread, the innermost call first; empty if the thread does not exist."""
    return calls_of(frames_of_thread(identifier))


def utf8(text: str) -> str:
    """The text with escapes for what UTF-8 cannot encode, such as bytes of a file's name."""
    return text if text.isascii() else text.encode(errors='backslashreplace').decode()


def _call(frame: Any) -> Call:
    code = frame.f_code
    # Of a spawning stack gevent keeps no globals.
    module = (getattr(frame, 'f_globals', None) or {}).get('__name__')
    return Call(utf8(module) if type(module) is str else '', utf8(getattr(code, 'co_qualname', code.co_name)),
                utf8(code.co_filename), frame.f_lineno or 0)


def frames_of_program(frames: list[Any]) -> Iterator[Any]:
    """The frames of a stack that base.stacks has read, without those of this package. Takes them out of the list."""
    frames.reverse()
    try:
        while frames:
            frame = frames.pop()
            if not file_is_of_console(frame.f_code.co_filename):
                yield frame
    finally:
        frame = None
        frames.clear()          # one of them may be of this call: that would be a cycle


def local_items(frame: Any, most: int = sys.maxsize) -> tuple[list[tuple[str, Any]], int]:
    """The first variables of a frame with their values, and the number of all. The frame keeps no copy of them."""
    values = frame.f_locals
    found = list(islice(values.items(), most))
    count = len(values)
    # Before Python 3.13 the frame keeps this copy, and so the values in it, until it is asked again. If the program has
    # called locals() in this frame and keeps the result, that is the same dict: three references are ours.
    if frame.f_code.co_flags & inspect.CO_OPTIMIZED and sys.version_info < (3, 13) and sys.getrefcount(values) <= 3:
        values.clear()
    return found, count


def own_call(stack: list[Call]) -> Call | None:
    """The innermost call of the program's own code; without any, the innermost call. None for an empty stack."""
    return next((call for call in stack if call.is_of_program), stack[0] if stack else None)


def started_by(stack: list[Call]) -> Call | None:
    """The function that a greenlet or a thread was started with: the outermost call that is not gevent's."""
    return next((call for call in reversed(stack) if not call.is_of_gevent), None)
