"""Detects overruns: operations of Lua that block the event loop for longer than the memory they touch explains.

The time of some operations has no bound. If keys of a table collide, one assignment can move all of them at a quadratic
cost (Lua 5.1 does not seed its hash values). A comparison of strings stops at each zero byte in them. Such operations
cannot be interrupted or predicted. They are visible afterwards: no hook was called for a long time while the CPU was busy.
"""
from __future__ import annotations

import time

__all__ = ['Overruns']

# CPU time that an operation may take, in seconds: a base; plus this for each byte in use (the garbage collector traverses
# it, or table.concat() copies it more than once); plus this for each byte by which the use of memory changed. Legitimate
# operations took a fifth of this on an idle machine, and two thirds on one with four times as many busy processes as cores.
_SECONDS, _SECONDS_USED, _SECONDS_MOVED = 0.05, 4e-9, 8e-9


class Overruns:
    """Measures the time between two moments at which Lua can be interrupted.

    Attributes:
        last: the last such moment, by time.monotonic(); 0 if it is not known, as at the start of a statement.
    """

    __slots__ = ('last', '_met', '_used')

    def __init__(self) -> None:
        self.last = 0.0
        self._met = (0.0, 0.0)      # value of `last` that the monitor saw, and the thread's CPU time when it first saw it
        self._used = 0              # bytes in use at the last clock check

    def meet(self, busy: float) -> None:
        """Notes that Lua is running. Called by the monitor's thread every few milliseconds.

        Args:
            busy: CPU time that the loop's thread has used, in seconds.
        """
        last = self.last or time.monotonic()
        if self._met[0] != last:
            self.last, self._met = last, (last, busy)

    def is_too_long(self, now: float, used: int) -> bool:
        """Whether the operation that has just ended was an overrun. Called at each clock check.

        Args:
            now: the time, by time.monotonic().
            used: bytes of Lua memory in use.
        """
        before, self._used = self._used, used
        last, busy = self._met
        if last != self.last or now - last < _SECONDS or not busy:
            return False
        seconds = time.thread_time() - busy
        return seconds > _SECONDS + used * _SECONDS_USED + abs(used - before) * _SECONDS_MOVED
