"""Passwords: what is kept of them, how they are checked, and how guessing is slowed down. Pure; the clock is passed in.

What is kept is what Tarantool's CHAP-SHA1 needs: base64 of SHA-1 of SHA-1 of the password, no salt. Whoever reads it can
try passwords against it quickly, so the file that holds it is nobody else's to read.
"""
from __future__ import annotations

import base64
import hashlib
import hmac
from collections import OrderedDict

__all__ = ['Throttle', 'password_hash', 'password_matches']


def _bytes(password: str | bytes) -> bytes:
    return password.encode(errors='surrogateescape') if isinstance(password, str) else password


def password_hash(password: str | bytes) -> str:
    """What is kept of a password: 28 characters."""
    return base64.b64encode(hashlib.sha1(hashlib.sha1(_bytes(password)).digest()).digest()).decode()


def password_matches(password: str | bytes, kept: str) -> bool:
    """Whether it is the password; takes as long for a wrong one. Where none is kept, none matches."""
    return hmac.compare_digest(password_hash(password).encode(), kept.encode()) and bool(kept)


class Throttle:
    """Makes those wait who guess: longer after each failure of a user at an address, until one succeeds.

    Args:
        first: seconds to wait after the first failure; twice as long after each further one.
        longest: seconds at most.
        forget: seconds without an attempt, after which failures are forgotten.
        most: pairs of user and address that are remembered; the oldest make room.
    """

    def __init__(self, first: float = 0.5, longest: float = 30.0, forget: float = 900.0, most: int = 10000):
        self._first, self.longest, self._forget, self._most = first, longest, forget, most
        self._failures: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()     # how many; when the next may be

    def seconds_to_wait(self, user: str, address: str, now: float) -> float:
        """For how long an attempt has to wait; more than `longest` for one that is not to be made at all. It counts as a
        failure until succeeded() is told, so that attempts made at the same time wait for each other."""
        key = user, address
        count, not_before = self._failures.get(key, (0, now))
        if now - not_before > self._forget:
            count, not_before = 0, now
        start = max(now, not_before)
        if start - now > self.longest:
            return start - now
        self._failures.pop(key, None)
        delay = min(self.longest, self._first * 2 ** min(count, 30))
        self._failures[key] = count + 1, start + delay
        while len(self._failures) > self._most:
            self._failures.popitem(last=False)
        return start - now

    def succeeded(self, user: str, address: str) -> None:
        """Forgets the failures of a user at an address."""
        self._failures.pop((user, address), None)
