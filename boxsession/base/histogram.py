"""How long things took, sorted into buckets: cheap to add to, read when somebody asks."""
from __future__ import annotations

from bisect import bisect_left
from typing import Any

__all__ = ['BOUNDS', 'Histogram']

# The upper ends of the buckets, in seconds; what takes longer is in one more. From a statement that looks up a variable to
# one that somebody should ask about.
BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SHORTEST = BOUNDS[0]
# Below that it is not worth telling which of several things took it.
_SHORT_SECONDS = 0.001


class Histogram:
    """Durations since the start.

    Attributes:
        counts: how many are in each bucket, and above the last.
        seconds: the sum of all.
    """

    __slots__ = ('counts', 'seconds')

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float, count: int = 1) -> None:
        """Adds `count` durations that were `seconds` long together, and about equally long."""
        each = seconds / count
        self.counts[bisect_left(BOUNDS, each) if each > _SHORTEST else 0] += count
        self.seconds += seconds

    def observe_last(self, seconds: float, count: int) -> None:
        """Adds `count` durations that were `seconds` long together, of which only the last may have been long."""
        if seconds < _SHORT_SECONDS:
            self.observe(seconds, count)
            return
        self.counts[0] += count - 1
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def snapshot(self) -> dict[str, Any]:
        """How many there were, their sum in seconds, and how many were at most so long: [bound, number] by bound."""
        buckets, so_far = [], 0
        for bound, count in zip(BOUNDS, self.counts, strict=False):
            so_far += count
            buckets.append([bound, so_far])
        return {'count': so_far + self.counts[-1], 'seconds': self.seconds, 'buckets': buckets}
