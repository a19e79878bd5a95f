"""Histograms of durations. Adding is cheap, reading is rare."""
from __future__ import annotations

from bisect import bisect_left
from typing import Any

__all__ = ['BOUNDS', 'Histogram']

# Upper bounds of the buckets, in seconds; one more bucket is above the last bound. They range from a lookup of a variable
# to a statement that needs attention.
BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SHORTEST = BOUNDS[0]
# Below this total, observe_last() does not care which of several durations was the long one.
_SHORT_SECONDS = 0.001


class Histogram:
    """The durations since the start.

    Attributes:
        counts: number of durations in each bucket; the last item is for those above the last bound.
        seconds: sum of all durations.
    """

    __slots__ = ('counts', 'seconds')

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float, count: int = 1) -> None:
        """Adds `count` durations of about equal length; `seconds` is their sum."""
        each = seconds / count
        self.counts[bisect_left(BOUNDS, each) if each > _SHORTEST else 0] += count
        self.seconds += seconds

    def observe_last(self, seconds: float, count: int) -> None:
        """Adds `count` durations of which only the last may be long; `seconds` is their sum."""
        if seconds < _SHORT_SECONDS:
            self.observe(seconds, count)
            return
        self.counts[0] += count - 1
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def at_most(self, share: float) -> float:
        """The upper bound of the bucket up to which this share of the durations is. Infinite for the last bucket."""
        left = sum(self.counts) * share
        for bound, count in zip(BOUNDS, self.counts, strict=False):
            left -= count
            if left <= 0:
                return bound
        return float('inf')

    def snapshot(self) -> dict[str, Any]:
        """Number of durations, their sum in seconds, and for each bound [bound, number of durations up to it]."""
        buckets, so_far = [], 0
        for bound, count in zip(BOUNDS, self.counts, strict=False):
            so_far += count
            buckets.append([bound, so_far])
        return {'count': so_far + self.counts[-1], 'seconds': self.seconds, 'buckets': buckets}
