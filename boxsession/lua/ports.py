"""What Lua can reach of Python: ports, which are read and never called (see bridge.py)."""
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from boxsession.scheduler.overruns import Overruns
from boxsession.scheduler.task import current_task

__all__ = ['Port', 'deny', 'reader']

log = logging.getLogger('boxsession')


class Port:
    """`PORT[key]` in Lua gives answer(key). Made at start-up, kept for ever."""

    __slots__ = ('answer',)

    def __init__(self, answer: Callable[[Any], Any]):
        self.answer = answer


def reader(overruns: Overruns) -> Callable[[Port, Any], Any]:
    """What every `PORT[key]` calls: the one attribute access that Lua has. False where the port raised."""
    monotonic = time.monotonic

    def read(port, key):
        try:
            return port.answer(key)
        except BaseException as error:      # a kill from outside: kept, and raised again when Lua is unwound
            task = current_task()
            if task is None:
                log.exception('port failed outside any task')
            else:
                task.killed, task.is_clean = True, False
                task.raised = error
            return False
        finally:
            overruns.last = monotonic()
    return read


def deny(*_: Any) -> Any:
    """What every assignment to a port calls."""
    raise AttributeError('nothing of Python can be changed from Lua')
