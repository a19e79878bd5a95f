"""The threads of the process and their stacks."""
from __future__ import annotations

import sys
import threading
from typing import Any

from boxsession.inspection.frames import calls_of_thread

__all__ = ['listed']


def listed(loop_thread: int) -> list[dict[str, Any]]:
    """Each thread that runs Python code: its name, ids and stack, the innermost call first.

    Args:
        loop_thread: the identifier of the thread that runs the console's event loop.
    """
    # Not threading.enumerate(): its lock may be held, and it is gevent's in a patched program.
    names = dict(threading._active)                                                     # type: ignore[attr-defined]
    rows = []
    for identifier in list(sys._current_frames()):
        thread = names.get(identifier)
        rows.append({'name': str(thread.name) if thread else '', 'id': identifier,
                     'native_id': thread.native_id if thread else None, 'is_daemon': bool(thread and thread.daemon),
                     'is_loop': identifier == loop_thread,
                     'stack': [f'{call.where} {call.name}' for call in calls_of_thread(identifier)]})
    return sorted(rows, key=lambda row: (not row['is_loop'], row['name'], row['id']))
