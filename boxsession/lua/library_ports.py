"""The ports for functions of library modules that Lua has no means for.

Callers cut long data in pieces, between which Lua checks the clock. PBKDF2 and comparing texts take turns themselves.
"""
from __future__ import annotations

import base64
import hashlib
import unicodedata
from typing import Any
from weakref import WeakKeyDictionary

from boxsession.base.errors import StatementCancelled
from boxsession.lua.memory_ports import MemoryPorts
from boxsession.lua.ports import Port
from boxsession.lua.state import State
from boxsession.lua.task import LuaTask
from boxsession.scheduler.task import current_task
from boxsession.values import hashes
from boxsession.values.collation import compare
from boxsession.values.decimals import calculate
from boxsession.values.whole import whole

__all__ = ['LibraryPorts']

_SURROGATE = 'surrogateescape'
# Rounds of PBKDF2 between two looks at the clock, some 2 us each.
_ROUNDS = 100


class LibraryPorts:
    """The ports of one Lua state."""

    def __init__(self, state: State, memory: MemoryPorts):
        self._dispatcher = state.dispatcher
        self._memory = memory
        # The hash that a task is computing. An abandoned one goes with its task, or at the task's next one.
        self._hashes: WeakKeyDictionary[LuaTask, Any] = WeakKeyDictionary()

    def ports(self) -> dict[str, Port]:
        """The ports, by their names in Lua."""
        text = self._memory.text
        return {'CASE': text(_in_case), 'CATEGORY': text(_category), 'COLLATE': Port(self._collated),
                'HASH': text(self._hash), 'PBKDF2': Port(self._derived_key), 'CRC32': Port(_crc32),
                'MURMUR': Port(_murmur), 'GUAVA': Port(_guava), 'TO_BASE64': text(_to_base64),
                'OF_BASE64': text(base64.b64decode), 'WHOLE': text(whole), 'DECIMAL': text(calculate)}

    def _hash(self, request):
        """Hashes data in steps. Request: b'n' and the name of the algorithm, b'u' and data, or b'd'.

        The last one returns the digest.
        """
        task, what, data = current_task(), request[:1], request[1:]
        if what == b'u':
            self._hashes[task].update(data)
        elif what == b'd':
            return self._hashes.pop(task).digest()
        else:
            try:
                self._hashes[task] = hashlib.new(data.decode(), usedforsecurity=False)
            except ValueError:
                return b'unknown'
        return b''

    def _derived_key(self, request):
        self._dispatcher.has_ticked = True
        try:
            return self._memory.if_there_is_room(_pbkdf2(request, self._dispatcher.pause))
        except StatementCancelled:
            return False

    def _collated(self, request):
        """Compares two texts. Request: b'i' (ignore case) or b'c', length of the first text, b':', and the two texts."""
        self._dispatcher.has_ticked = True
        length, _, texts = request[1:].partition(b':')
        one, other = (text.decode(errors='replace') for text in (texts[:int(length)], texts[int(length):]))
        try:
            return compare(one, other, request[:1] == b'i', self._dispatcher.pause)
        except StatementCancelled:
            return False


# utf8 -----------------------------------------------------------------------------------------------------------------

def _in_case(request):
    """A text in upper (b'u') or lower (b'l') case: one byte, and the text."""
    text = request[1:].decode(errors=_SURROGATE)
    return (text.upper() if request[:1] == b'u' else text.lower()).encode(errors=_SURROGATE)


def _category(code):
    """The Unicode category of a code."""
    return unicodedata.category(chr(int(code))).encode()


# digest ---------------------------------------------------------------------------------------------------------------

def _pbkdf2(request, pause):
    """PBKDF2 with HMAC-SHA256. Request: rounds, length, length of the password, each with b':', password, salt.

    hashlib.pbkdf2_hmac() would block the event loop, or a thread for as long as the caller likes.
    """
    rounds, length, size, rest = request.split(b':', 3)
    password, salt = rest[:int(size)].ljust(64, b'\0'), rest[int(size):]
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in password))
    outer = hashlib.sha256(bytes(byte ^ 0x5c for byte in password))

    def mac(data):
        first, second = inner.copy(), outer.copy()
        first.update(data)
        second.update(first.digest())
        return second.digest()

    out = b''
    for block in range(1, (int(length) + 31) // 32 + 1):
        last = mac(salt + block.to_bytes(4, 'big'))
        total = int.from_bytes(last, 'big')
        for index in range(1, int(rounds)):
            last = mac(last)
            total ^= int.from_bytes(last, 'big')
            if index % _ROUNDS == 0:
                pause()
        out += total.to_bytes(32, 'big')
    return out[:int(length)]


def _crc32(request):
    """CRC-32C. Request: the value so far, b':', and the data."""
    value, _, data = request.partition(b':')
    return hashes.crc32c(int(value), data)


def _murmur(request):
    """MurmurHash3. Request: the value so far, the length of all data (nothing: more follows), each with b':', and data."""
    value, length, data = request.split(b':', 2)
    return hashes.murmur_end(int(value), data, int(length)) if length else hashes.murmur_body(int(value), data)


def _guava(request):
    """Guava's consistent hash. Request: the number, b':', and the number of buckets."""
    state, _, buckets = request.partition(b':')
    return hashes.guava(int(state) % 2**64, int(buckets))


def _to_base64(data):
    return base64.b64encode(data)
