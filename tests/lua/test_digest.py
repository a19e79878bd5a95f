"""The module digest under limits: what takes long lets others run, and can be cancelled."""
from __future__ import annotations

import hashlib

import pytest


@pytest.fixture
def served(console):
    return console(dialect='tarantool')


@pytest.mark.parametrize('statement', [
    "require('digest').pbkdf2('password', 'salt', 2^31 - 1)",
    "while true do require('digest').sha1(('x'):rep(1e6)) end",
    "while true do require('digest').murmur(('x'):rep(1e6)) end",
    "require('digest').urandom(2^30)"])
def test_it_lets_others_run_and_is_cancelled(served, connect, statement):
    client, other = connect(served), connect(served)
    client.send(statement + '\n')
    for _ in range(5):
        assert 2 == other.value('1 + 1')
    client.send('\x03')
    assert b'cancelled' in client.document() or 'urandom' in statement
    assert 2 == client.value('1 + 1')


def test_two_sessions_hash_at_the_same_time(served, connect):
    clients = [connect(served) for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(f"require('digest').sha256_hex(('{number}'):rep(3e6))\n")
    for number, client in enumerate(clients):
        assert hashlib.sha256(b'%d' % number * 3000000).hexdigest().encode() in client.document()


@pytest.mark.parametrize('number', ['1/0', '-1/0', '0/0', '2^64', '-2^63', '1e308', '-1', '0.5', '2^32'])
def test_numbers_at_the_borders(served, connect, number):
    """They end no session: a port must not raise."""
    client = connect(served)
    client.reply("digest = require('digest') function result(m) m:update('abcdef') return m:result() end")
    for call in ("digest.crc32_update(%s, 'a')", 'result(digest.murmur.new({seed = %s}))', 'digest.guava(%s, 10)',
                 '(function(m) m.value, m.total_length, m.rest = %s, {}, 5 return result(m) end)(digest.murmur.new())',
                 '(function(c) c.value = %s return result(c) end)(digest.crc32.new())', 'digest.guava(10, %s)',
                 "digest.pbkdf2_hex('a', 'b', %s, 4)", "digest.pbkdf2_hex('a', 'b', 1, %s)"):
        client.reply(call % number)
    assert 2 == client.value('1 + 1')


def test_a_salt_has_a_limit(served, connect):
    assert 'at most 65536' in connect(served).error("require('digest').pbkdf2('p', ('x'):rep(1e5))")


def test_pbkdf2_of_a_long_password(served, connect):
    want = hashlib.pbkdf2_hmac('sha256', b'p' * 100, b'salt', 500, 70).hex()
    assert want == connect(served).value("require('digest').pbkdf2_hex(('p'):rep(100), 'salt', 500, 70)")


@pytest.mark.parametrize('number', ['0/0', '-(0/0)', '1/0', '-1/0', '2^64', '-1e308'])
def test_numbers_without_32_bits_count_as_0(served, connect, number):
    client = connect(served)
    assert client.value("require('digest').crc32_update(0, 'x')") == client.value(
        f"require('digest').crc32_update({number}, 'x')")
    client.value(f"(function() local m = require('digest').murmur.new() m.value = {number} m.total_length = {number} "
                 'return m:result() end)()')
    assert 2 == client.value('1 + 1')
