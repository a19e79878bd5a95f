"""Finds operations of Lua that hold everybody for longer than the memory they touch explains.

Some take time that nothing bounds: the keys of a table may collide, so that one assignment moves them all at a cost that
is quadratic (in Lua 5.1 hash values are not seeded), and a comparison of strings with many zeros stops at each. They cannot
be interrupted, or foreseen. What can be seen is that no hook was called for long while the processor was busy.
"""
from __future__ import annotations

import time

__all__ = ['Overruns']

# CPU seconds that an operation may take: a base, plus these for each byte in use (the garbage collector traverses it, or
# table.concat() copies it more than once), plus these for each byte by which the use of memory changed. Legitimate
# operations took a fifth of this on an idle machine, and two thirds on one with four times as many busy processes as cores.
_SECONDS, _SECONDS_USED, _SECONDS_MOVED = 0.05, 4e-9, 8e-9


class Overruns:
    """Measures the time between two moments at which Lua can be interrupted.

    Attributes:
        last: the last such moment, by time.monotonic(); 0 where it is not known, as at the start of a statement.
    """

    __slots__ = ('last', '_met', '_used')

    def __init__(self) -> None:
        self.last = 0.0
        self._met = (0.0, 0.0)      # `last` when the monitor first met it, and the processor's time that was used then
        self._used = 0              # bytes, at the last look

    def meet(self, busy: float) -> None:
        """Called now and then in another thread while Lua runs, with the processor's seconds that Lua's thread has used."""
        last = self.last or time.monotonic()
        if self._met[0] != last:
            self.last, self._met = last, (last, busy)

    def is_too_long(self, now: float, used: int) -> bool:
        """Whether the operation that has just ended was. Called at each look at the clock, with the bytes in use."""
        before, self._used = self._used, used
        last, busy = self._met
        if last != self.last or now - last < _SECONDS or not busy:
            return False
        seconds = time.thread_time() - busy
        return seconds > _SECONDS + used * _SECONDS_USED + abs(used - before) * _SECONDS_MOVED
