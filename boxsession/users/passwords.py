"""Passwords: their hashes, the check of a password, and the delay of logins against guessing. Pure: the time is passed in.

The hash is the one that Tarantool's CHAP-SHA1 needs: base64 of SHA-1 of SHA-1 of the password, without a salt. Whoever has
a hash can try passwords fast, so only the owner of the store may read the file.
"""
from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
from collections import OrderedDict

__all__ = ['EMPTY_HASH', 'Throttle', 'password_hash', 'password_matches', 'throttled_address']


def _bytes(password: str | bytes) -> bytes:
    return password.encode(errors='surrogateescape') if isinstance(password, str) else password


def password_hash(password: str | bytes) -> str:
    """The hash of a password, as it is stored: 28 characters."""
    return base64.b64encode(hashlib.sha1(hashlib.sha1(_bytes(password)).digest()).digest()).decode()


EMPTY_HASH = password_hash('')


def password_matches(password: str | bytes, kept: str) -> bool:
    """Whether a password has the stored hash `kept`. Takes the same time for every password. An empty hash matches none."""
    return hmac.compare_digest(password_hash(password).encode(), kept.encode()) and bool(kept)


def throttled_address(peer: str) -> str:
    """The key under which a peer ('host:port', '[v6]:port' or a unix socket) is counted.

    An IPv6 address gives its /64 network, since one machine can use all addresses in it; all loopback addresses are one.
    """
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
    """Exponential login delay per user and address, and per address after many failures of any users.

    Args:
        first: the delay in seconds after the first failure; each further failure doubles it.
        longest: the longest delay in seconds.
        forget: seconds without an attempt after which failures are forgotten.
        most: how many pairs of user and address are remembered; above that, the oldest are forgotten.
        free: how many failures an address may have, of any users, before all its logins are delayed.
    """

    def __init__(self, first: float = 0.5, longest: float = 30.0, forget: float = 900.0, most: int = 10000, free: int = 30):
        self._first, self.longest, self._forget, self._most = first, longest, forget, most
        self._free = free
        # By user ('' for any) and address: the number of failures, and the earliest time of the next attempt.
        self._failures: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def seconds_to_wait(self, user: str, address: str, now: float) -> float:
        """How many seconds an attempt at the time `now` has to wait. If that is more than `longest`, refuse the attempt.

        The attempt counts as a failure until succeeded() is called, so concurrent attempts wait for each other.
        """
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
            self._failures['', address] = count - 1, not_before         # seconds_to_wait() has counted this attempt
