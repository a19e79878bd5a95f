"""Hash functions that Python's library does not have, by published values."""
from __future__ import annotations

import pytest

from boxsession.values.hashes import crc32c, guava, murmur_body, murmur_end


def test_crc32c():
    assert 0xe3069283 == crc32c(0xffffffff, b'123456789') ^ 0xffffffff
    assert crc32c(crc32c(0xffffffff, b'1234'), b'56789') == crc32c(0xffffffff, b'123456789')


@pytest.mark.parametrize(('data', 'seed', 'value'), [
    (b'', 0, 0), (b'', 1, 0x514e28b7), (b'\xff\xff\xff\xff', 0, 0x76293b50), (b'!Ce', 0, 0x7e4a8634),
    (b'Hello, world!', 0x9747b28c, 0x24884cba)])
def test_murmur(data, seed, value):
    groups = len(data) // 4 * 4
    assert value == murmur_end(murmur_body(seed, data[:groups]), data[groups:], len(data))


def test_guava():
    assert [6, 3, 5, 0] == [guava(10863919174838991, 11), guava(2016238256797177309, 11), guava(1673758223894951030, 11),
                            guava(0, 1)]
