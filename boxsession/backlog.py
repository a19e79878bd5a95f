"""Bytes that are held for all sessions together, and which session goes when there are too many.

Only what could not be sent, or run, at once is counted, so what is answered as it comes costs nothing here.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ['Backlog']


class Backlog:
    """Bytes that are held for sessions.

    Over the limit the session goes that holds the most for the longest: bytes times the seconds in which its client has
    taken none of them. Who reads, however much, is not the one while somebody does not.

    Args:
        end: called as end(holder, bytes) for who has to go. It must not call back, and what it ends releases itself later.

    Attributes:
        limit: bytes; 0 for no limit.
        total: bytes that are held now.
    """

    __slots__ = ('limit', 'total', '_held', '_end')

    def __init__(self, end: Callable[[Any, int], None]):
        self.limit = 0
        self.total = 0
        self._held: dict[Any, tuple[int, float]] = {}       # bytes, and when some of them were last taken
        self._end = end

    def hold(self, holder: Any, count: int) -> None:
        """Says how many bytes are held for a session from now on; 0 for none."""
        before, since = self._held.get(holder, (0, 0.0))
        if count == before:
            return
        self.total += count - before
        if not count:
            del self._held[holder]
            return
        self._held[holder] = count, since if count > before > 0 else time.monotonic()
        if self.limit and count > before and self.total > self.limit:
            self._make_room()

    def _make_room(self) -> None:
        now = time.monotonic()
        while self.total > self.limit:
            # A millisecond more, lest the bytes count for nothing where all are new.
            holder, (count, _) = max(self._held.items(), key=lambda item: item[1][0] * (now - item[1][1] + 0.001))
            del self._held[holder]
            self.total -= count
            self._end(holder, count)
