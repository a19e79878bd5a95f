r"""What `\count` counts of watched calls. See `watch` for where its methods run."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from boxsession.inspection.watch import Options, Watch
from boxsession.inspection.watch_target import Target

__all__ = ['CountWatch', 'Second']

_clock = time.perf_counter_ns

# Durations in ns are counted by their highest bits: 8 buckets from each power of two to the next, 12 % wide.
_BUCKETS = 64 * 8


def _bucket(ns: int) -> int:
    bits = ns.bit_length()
    return ns if bits <= 3 else bits * 8 + (ns >> (bits - 4) & 7)


def _upper(bucket: int) -> float:
    if bucket < 8:
        return bucket
    bits, part = divmod(bucket, 8)
    return (8 + part + 1) * 2.0 ** (bits - 4)


class Second(NamedTuple):
    """The calls that have ended in one interval."""

    calls: int
    errors: int
    ms: dict[str, float]            # percentiles, as upper bounds


class CountWatch(Watch):
    r"""`\count`: calls, errors and times."""

    def __init__(self, target: Target, options: Options, wake: Callable[[], None]):
        super().__init__(target, options, wake)
        self._counts = [0] * _BUCKETS
        self._errors = self._longest = 0

    def begin(self, source: Any) -> Any:
        self.calls += 1
        if self.is_over:
            return None
        if self.condition is None:
            return _clock()
        values = self.needed(source)
        if not self.is_late:
            if not self.is_match(values):
                return None
            self.matches += 1
        return _clock(), values

    def end(self, token: Any, result: Any, error: BaseException | None, count: int) -> None:
        now = _clock()
        if type(token) is tuple:
            token, values = token
            if self.is_late:
                values |= {'ms': (now - token) / 1e6, 'error': error, 'result': result}
                if not self.is_match(values):
                    return
                self.matches += 1
        spent = now - token
        self._counts[_bucket(spent)] += 1
        if spent > self._longest:
            self._longest = spent
        if error is not None:
            self._errors += 1

    @property
    def counted(self) -> int:
        """The calls that have begun; with a condition, those that it was true for."""
        return self.calls if self.condition is None else self.matches

    def second(self) -> Second:
        """What has ended since the last call of this method."""
        counts, errors, longest = self._counts, self._errors, self._longest
        self._counts, self._errors, self._longest = [0] * _BUCKETS, 0, 0
        total = sum(counts)
        ms: dict[str, float] = {}
        if total:
            for name, share in (('p50', 0.5), ('p90', 0.9), ('p99', 0.99)):
                left = total * share
                for bucket, number in enumerate(counts):
                    left -= number
                    if left <= 0:
                        ms[name] = min(_upper(bucket), longest) / 1e6
                        break
            ms['max'] = longest / 1e6
        return Second(total, errors, ms)


