"""Integers of 64 bits: arithmetic as C does it, and their ways through the console."""
from __future__ import annotations

import pytest

from boxsession.values.whole import whole


@pytest.mark.parametrize('request_, want', [
    (b'+:ULL:18446744073709551615:ULL:1', b'ULL:0'), (b'+:LL:9223372036854775807:LL:1', b'LL:-9223372036854775808'),
    (b'/:LL:-7:LL:2', b'LL:-3'), (b'%:LL:-7:LL:2', b'LL:-1'), (b'/:LL:-1:ULL:2', b'ULL:9223372036854775807'),
    (b'/:LL:1:LL:0', b'LL:-9223372036854775808'), (b'%:ULL:1:ULL:0', b'ULL:9223372036854775808'),
    (b'*:LL:1:LL:nan', b'LL:-9223372036854775808'), (b'*:LL:1:LL:inf', b'LL:-9223372036854775808'),
    (b'+:LL:1:LL:1.5', b'LL:2'), (b'+:ULL:1:ULL:-1.5', b'ULL:0'), (b'^:LL:3:LL:-5', b'LL:0'),
    (b'=:LL:-1:ULL:18446744073709551615', b'true'), (b'<:LL:-1:ULL:1', b'false'), (b'<:LL:-1:LL:1', b'true'),
    (b'read:0:-0x10', b'LL:-16'), (b'read:0:1_0', b''), (b'read:16:\xc2\xb2', b''), (b'read:0:- 1', b''),
])
def test_calculates_as_c_does(request_, want):
    assert whole(request_) == want


def test_python_gets_an_int_and_returns_one(console, connect):
    got = []
    client = connect(console(expose={'keep': lambda value: got.append(value) or value}, dialect='tarantool'))
    client.reply("x = tonumber64('18446744073709551615')")
    assert client.value('keep(x) == x') is True
    assert client.value('tostring(keep(x - x + 5))') == '5'
    assert got == [2 ** 64 - 1, 5]


def test_a_channel_storage_and_a_sort_keep_it(console, connect):
    client = connect(console(dialect='tarantool'))
    client.reply("x = tonumber64('18446744073709551615')")
    client.reply("c = require('fiber').channel(1) c:put(x) box.session.storage.x = x")
    assert client.value('c:get() == x and box.session.storage.x == x') is True
    assert client.value('(function() local t = {x, x - 1, x - 2} table.sort(t) return t end)()') == [
        2 ** 64 - 3, 2 ** 64 - 2, 2 ** 64 - 1]
    assert client.value("require('json').decode(require('json').encode({x}))[1] == x") is True
    assert client.value("require('yaml').decode(require('yaml').encode({x}))[1] == x") is True
    assert client.value("require('msgpack').decode(require('msgpack').encode({x}))[1] == x") is True


def test_other_objects_do_not_calculate(console, connect):
    client = connect(console(dialect='tarantool'))
    client.reply("n = require('json').decode('184467440737095516150')")
    assert 'attempt to perform arithmetic' in client.error('n + 1')
    assert 'attempt to compare' in client.error('n < n')


def test_a_restricted_user_calculates_with_it(console, connect):
    client = connect(console(dialect='tarantool'))
    client.reply("box.schema.user.create('mole', {password = 'p'})")
    client.reply('\\login mole p')
    assert client.values("tonumber64('18446744073709551615') + 1, tonumber64('-5')") == [0, -5]
    assert client.value("getmetatable(tonumber64('18446744073709551615'))") is False


@pytest.mark.parametrize('base', ['0/0', '1/0', '-1/0', '1e308', '0', '37', '{}'])
def test_a_base_out_of_range_is_an_error(console, connect, base):
    assert "bad argument #2 to '?'" in connect(console(dialect='tarantool')).error(f"tonumber64('1', {base})")
