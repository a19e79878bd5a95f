"""The threads of the process and their stacks. No code of the program's classes runs."""
from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from boxsession.inspection.frames import calls_of_thread, utf8
from boxsession.inspection.shown import shown

__all__ = ['listed']

# Threads of the system that are listed, and characters of a name.
_MOST, _CHARACTERS = 200, 100


def listed(loop: int, loop_native: int) -> list[dict[str, Any]]:
    """The threads: name, ids and stack of each, the innermost call first; that of the event loop first. For any thread.

    A thread that no Thread object belongs to (`_thread`, gevent's thread pool, calls from C) has no name and no native id.
    The threads of the system that belong to no Thread object follow, with the system's names. They have no `id`.

    Args:
        loop: the identifier of the thread that runs the console's event loop.
        loop_native: its native id. In a patched program no Thread object has it.
    """
    # Not threading.enumerate(): its lock may be held, and it is gevent's in a patched program.
    known = dict(threading._active)                                                     # type: ignore[attr-defined]
    rows = []
    for identifier in list(sys._current_frames()):
        row = _of_thread(known.get(identifier))
        if identifier == loop:
            row['native_id'] = loop_native
            row['name'] = row['name'] or ('MainThread' if loop_native == os.getpid() else '')
        rows.append({**row, 'id': identifier, 'is_loop': identifier == loop,
                     'stack': [f'{call.where} {call.name}' for call in calls_of_thread(identifier)]})
    rows.sort(key=lambda row: (not row['is_loop'], row['name'], row['id']))
    return rows + _of_system({row['native_id'] for row in rows})


def _of_thread(thread: threading.Thread | None) -> dict[str, Any]:
    if thread is None:
        return {'name': '', 'native_id': None, 'is_daemon': None}
    # A class of the program may have other attributes of these names: these are threading's own.
    found = {name: _field(thread, name) for name in ('_name', '_native_id', '_daemonic')}
    name, native = found['_name'], found['_native_id']
    return {'name': utf8(name[:_CHARACTERS]) if type(name) is str else shown(name),
            'native_id': native if type(native) is int else None,
            'is_daemon': found['_daemonic'] is True}


def _field(thread: threading.Thread, name: str) -> Any:
    try:
        return object.__getattribute__(thread, name)
    except AttributeError:
        return None


def _of_system(known: set[int | None]) -> list[dict[str, Any]]:
    rows = []
    try:
        numbers = sorted(int(name) for name in os.listdir('/proc/self/task'))
    except OSError:
        return []
    for number in [number for number in numbers if number not in known][:_MOST]:
        try:
            name = Path(f'/proc/self/task/{number}/comm').read_bytes()
        except OSError:     # it has ended
            continue
        rows.append({'name': name.decode(errors='replace').strip(), 'native_id': number, 'is_daemon': None, 'id': None,
                     'is_loop': False, 'stack': []})
    return rows
