"""Ports: Python functions that Lua calls through a table index (see bridge.py)."""
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
    """`PORT[key]` in Lua returns answer(key). Made at start-up; lives as long as the Lua state."""

    __slots__ = ('answer',)

    def __init__(self, answer: Callable[[Any], Any]):
        self.answer = answer


def reader(overruns: Overruns) -> Callable[[Port, Any], Any]:
    """Makes the function that lupa calls for every `PORT[key]`. It returns False if the port raised."""
    monotonic = time.monotonic

    def read(port, key):
        try:
            return port.answer(key)
        except BaseException as error:      # a kill from outside, too: kept, and raised again when Lua has unwound
            task = current_task()
            if task is None:
                log.exception('a port failed outside of any task')
            else:
                task.killed, task.is_clean = True, False
                task.raised = error
            return False
        finally:
            overruns.last = monotonic()
    return read


def deny(*_: Any) -> Any:
    """The function that lupa calls for every assignment to a port."""
    raise AttributeError('Lua cannot assign to Python objects')
