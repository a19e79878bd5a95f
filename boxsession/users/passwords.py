"""Passwords: what is kept of them, how they are checked, and how guessing is slowed down. Pure; the clock is passed in.

What is kept is what Tarantool's CHAP-SHA1 needs: base64 of SHA-1 of SHA-1 of the password, no salt. Whoever reads it can
try passwords against it quickly, so the file that holds it is nobody else's to read.
"""
from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
from collections import OrderedDict

__all__ = ['Throttle', 'password_hash', 'password_matches', 'throttled_address']

def _bytes(password: str | bytes) -> bytes:
    return password.encode(errors='surrogateescape') if isinstance(password, str) else password


def password_hash(password: str | bytes) -> str:
    """What is kept of a password: 28 characters."""
    return base64.b64encode(hashlib.sha1(hashlib.sha1(_bytes(password)).digest()).digest()).decode()


def password_matches(password: str | bytes, kept: str) -> bool:
    """Whether it is the password; takes as long for a wrong one. Where none is kept, none matches."""
    return hmac.compare_digest(password_hash(password).encode(), kept.encode()) and bool(kept)


def throttled_address(peer: str) -> str:
    """What the attempts of a peer ('host:port', '[v6]:port', a unix socket) are counted by: machines have many of them."""
    host = peer.rpartition(':')[0].strip('[]')
    try:
        address = ipaddress.ip_address(host.partition('%')[0])
    except ValueError:
        return host
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return 'loopback'
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


class Throttle:
    """Makes those wait who guess: longer after each failure of a user at an address, until one succeeds; and whoever comes
    from an address where many names have failed.

    Args:
        first: seconds to wait after the first failure; twice as long after each further one.
        longest: seconds at most.
        forget: seconds without an attempt, after which failures are forgotten.
        most: pairs of user and address that are remembered; the oldest make room.
        free: failures of any users at an address that cost only those users.
    """

    def __init__(self, first: float = 0.5, longest: float = 30.0, forget: float = 900.0, most: int = 10000, free: int = 30):
        self._first, self.longest, self._forget, self._most = first, longest, forget, most
        self._free = free
        self._failures: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()     # how many; when the next may be

    def seconds_to_wait(self, user: str, address: str, now: float) -> float:
        """For how long an attempt has to wait; more than `longest` for one that is not to be made at all. It counts as a
        failure until succeeded() is told, so that attempts made at the same time wait for each other."""
        whole = self._wait_of(('', address), self._free, now)
        if whole > self.longest:
            return whole
        return max(whole, self._wait_of((user, address), 0, now))

    def _wait_of(self, key: tuple[str, str], free: int, now: float) -> float:
        count, not_before = self._failures.get(key, (0, now))
        if now - not_before > self._forget:
            count, not_before = 0, now
        start = max(now, not_before)
        if start - now > self.longest:
            return start - now
        self._failures.pop(key, None)
        delay = min(self.longest, self._first * 2 ** min(count - free, 30)) if count >= free else 0.0
        self._failures[key] = count + 1, start + delay
        while len(self._failures) > self._most:
            self._failures.popitem(last=False)
        return start - now

    def succeeded(self, user: str, address: str) -> None:
        """Forgets the failures of a user at an address."""
        self._failures.pop((user, address), None)
        count, not_before = self._failures.get(('', address), (0, 0.0))
        if count:
            self._failures['', address] = count - 1, not_before         # this one was no failure
