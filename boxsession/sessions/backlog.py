"""Counts the bytes held for all sessions together, and ends a session if they exceed a limit.

Only output that could not be sent at once, and input that cannot be run at once, is counted. Other bytes cost nothing here.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ['Backlog']


class Backlog:
    """The bytes held for sessions.

    If the total exceeds the limit, the backlog ends the session with the largest product: waiting bytes times the seconds
    in which none of them was taken. So a session whose client reads is not ended while another client does not read.
    Documents that are being made count only in the total. If nothing else is held, the session with the largest document
    is ended.

    Args:
        end: called as end(holder, bytes) to end a session. It must not call hold(). The session releases its bytes later.

    Attributes:
        limit: maximum bytes; 0 for no limit.
        total: bytes held now.
    """

    __slots__ = ('limit', 'total', '_held', '_end')

    def __init__(self, end: Callable[[Any, int], None]):
        self.limit = 0
        self.total = 0
        # By holder: bytes that wait, bytes of documents being made, and the time at which the waiting bytes last decreased.
        self._held: dict[Any, tuple[int, int, float]] = {}
        self._end = end

    def hold(self, holder: Any, waiting: int, made: int = 0) -> None:
        """Sets the bytes held for a session.

        Args:
            holder: the session's connection.
            waiting: bytes that wait to be sent or run.
            made: bytes of documents that are being made.
        """
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
            # Add a millisecond: otherwise the bytes would not count if all of them are new.
            return waiting * (now - since + 0.001), made, since

        while self.total > self.limit:
            holder, (waiting, made, _) = max(self._held.items(), key=blame)
            del self._held[holder]
            self.total -= waiting + made
            self._end(holder, waiting + made)
