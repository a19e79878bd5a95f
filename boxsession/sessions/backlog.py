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

    Over the limit the session goes whose client has left the most unread for the longest: bytes times the seconds in which
    it has taken none of them. A session whose client reads, however much, is not the one while another's does not.
    Documents that are being made count in the total only; where nothing else is held, the largest and newest goes.

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
        # Bytes that wait for the client, bytes that are being made, and when the client last took some.
        self._held: dict[Any, tuple[int, int, float]] = {}
        self._end = end

    def hold(self, holder: Any, waiting: int, made: int = 0) -> None:
        """Says how many bytes wait for a session's client from now on, and how many are being made for it."""
        old_waiting, old_made, since = self._held.get(holder, (0, 0, 0.0))
        if waiting == old_waiting and made == old_made:
            return
        growth = waiting + made - old_waiting - old_made
        self.total += growth
        if not waiting and not made:
            del self._held[holder]
            return
        if not waiting >= old_waiting > 0:
            since = time.monotonic()
        self._held[holder] = waiting, made, since
        if self.limit and growth > 0 and self.total > self.limit:
            self._make_room()

    def _make_room(self) -> None:
        now = time.monotonic()

        def blame(item):
            waiting, made, since = item[1]
            # A millisecond more, lest the bytes count for nothing where all are new.
            return waiting * (now - since + 0.001), made, since

        while self.total > self.limit:
            holder, (waiting, made, _) = max(self._held.items(), key=blame)
            del self._held[holder]
            self.total -= waiting + made
            self._end(holder, waiting + made)
