"""The ids of greenlets, and when each was first seen. Keeps no greenlet alive."""
from __future__ import annotations

import time
from bisect import bisect_right
from typing import NamedTuple
from weakref import ref

from greenlet import greenlet

__all__ = ['Kept', 'Register']

# Looks whose times are kept; greenlets that are kept in any case.
_LOOKS, _SPARE = 2000, 1000


class Kept(NamedTuple):
    """The maps of a Register."""

    numbers: dict[int, int]
    seen: dict[int, ref[greenlet]]


class Register:
    """The greenlets that were seen. Ids are never reused.

    Plain maps with numbers: what is kept of 100,000 greenlets has to be cheap for the garbage collector.

    Attributes:
        numbers: ids by address. Another greenlet may have got the address since.
        seen: weak references by id.
        living: number of greenlets in the last look.
    """

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.seen: dict[int, ref[greenlet]] = {}
        self.living = 0
        self._last = 0
        # The first new id of each look, and its time.
        self._firsts: list[int] = []
        self._times: list[float] = []

    def begin(self) -> None:
        """Begins a look: greenlets that are new in it are seen now."""
        if len(self._firsts) == _LOOKS:         # from now on ages are less exact
            del self._firsts[1::2], self._times[1::2]
        if self._firsts and self._firsts[-1] == self._last + 1:
            self._times[-1] = time.monotonic()
        else:
            self._firsts.append(self._last + 1)
            self._times.append(time.monotonic())

    def number(self, found: greenlet) -> int:
        """The id of a greenlet."""
        number = self.numbers.get(id(found), 0)
        seen = self.seen.get(number)
        if seen is None or seen() is not found:
            self._last += 1
            number = self.numbers[id(found)] = self._last
            self.seen[number] = ref(found)
        return number

    def has_to_forget(self) -> bool:
        """Whether more than half of what is kept is of greenlets that have ended."""
        return len(self.seen) > 2 * self.living + _SPARE

    def keep(self, kept: Kept) -> None:
        """Forgets all other greenlets."""
        self.numbers, self.seen = kept

    def get(self, number: float) -> greenlet | None:
        """The greenlet of an id, unless it has gone."""
        seen = self.seen.get(number)            # type: ignore[call-overload]
        return seen() if seen is not None else None

    def age(self, number: int) -> float:
        """The seconds since a greenlet was first seen."""
        return round(time.monotonic() - self._times[bisect_right(self._firsts, number) - 1], 1)
