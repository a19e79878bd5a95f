"""The threads of the process: which of them are the console's own, and which are the program's.

The console's own threads only watch. They hold no lock that other code takes, and they run no code of the program. So a
process may be forked while they run.
"""
from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from gevent import _threading as gevent_threading
from gevent import monkey
from gevent.threadpool import _WorkerGreenlet

__all__ = ['others', 'start_thread']

# The original functions, even in a program that gevent has monkey-patched.
_start_thread = monkey.get_original('_thread', 'start_new_thread')
_thread_id = monkey.get_original('_thread', 'get_ident')

_own: set[int] = set()
# A thread of gevent's pools that has nothing to do waits in this file, called from this code.
_QUEUE, _WORKER = gevent_threading.__file__, _WorkerGreenlet.run.__code__
_NAME_CHARACTERS = 60


def start_thread(function: Callable[[], Any]) -> None:
    """Starts a thread of the console."""
    def run() -> None:
        identifier = _thread_id()
        _own.add(identifier)
        try:
            function()
        finally:
            _own.discard(identifier)

    _start_thread(run, ())


def others() -> list[str]:
    """The other threads of the process than the calling one, the console's, and those of gevent's pools that are idle.

    Each is a name, or what is known of it. Threads that do not run Python are one entry with their number.

    Raises:
        OSError: there is no /proc.
    """
    frames = sys._current_frames()
    system = len(os.listdir('/proc/self/task'))
    ignored = {_thread_id(), *_own}
    found = [_name(identifier, frame) for identifier, frame in frames.items()
             if identifier not in ignored and not _is_idle_worker(frame)]
    if system > len(frames):
        found.append(f'{system - len(frames)} that run no Python')
    return found


def _is_idle_worker(frame: FrameType) -> bool:
    last: FrameType | None = frame
    if frame.f_code.co_filename != _QUEUE:
        return False
    while last is not None and last.f_code is not _WORKER:
        last = last.f_back
    return last is not None


def _name(identifier: int, frame: FrameType) -> str:
    # Not threading.enumerate(): its lock may be held, and it is gevent's in a patched program.
    thread = threading._active.get(identifier)                                          # type: ignore[attr-defined]
    try:
        name = None if thread is None else object.__getattribute__(thread, '_name')
    except AttributeError:
        name = None
    if type(name) is str:
        return name[:_NAME_CHARACTERS]
    first = frame
    while first.f_back is not None:
        first = first.f_back
    return f'{first.f_code.co_name} of {os.path.basename(first.f_code.co_filename)}'[:_NAME_CHARACTERS]
