"""Hash functions of Tarantool's module digest that Python's library does not have. Pure; callers cut long data."""
from __future__ import annotations

import struct

__all__ = ['crc32c', 'guava', 'murmur_body', 'murmur_end']

_WORD = 0xffffffff


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


def crc32c(value: int, data: bytes) -> int:
    """CRC-32C (Castagnoli) of more data, without the usual inversions at the start and end."""
    table = _CRC_TABLE
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 255]
    return value


def _mixed(block: int) -> int:
    block = block * 0xcc9e2d51 & _WORD
    return ((block << 15 | block >> 17) & _WORD) * 0x1b873593 & _WORD


def murmur_body(value: int, data: bytes) -> int:
    """MurmurHash3 (32 bits) of more data, whose length is a multiple of 4."""
    for block in struct.unpack(f'<{len(data) // 4}I', data):
        value ^= _mixed(block)
        value = ((value << 13 | value >> 19) & _WORD) * 5 + 0xe6546b64 & _WORD
    return value


def murmur_end(value: int, tail: bytes, length: int) -> int:
    """The hash, from murmur_body()'s value, the last 0 to 3 bytes, and the length of all data."""
    if tail:
        value ^= _mixed(int.from_bytes(tail, 'little'))
    value ^= length & _WORD
    value = (value ^ value >> 16) * 0x85ebca6b & _WORD
    value = (value ^ value >> 13) * 0xc2b2ae35 & _WORD
    return value ^ value >> 16


def guava(state: int, buckets: int) -> int:
    """Guava's consistent hash of a 64-bit number: one of `buckets` numbers from 0 on."""
    candidate = 0
    while True:
        state = (state * 2862933555777941757 + 1) % 2**64
        following = int((candidate + 1) / (((state >> 33) + 1) / 2**31))
        if not 0 <= following < buckets:
            return candidate
        candidate = following
