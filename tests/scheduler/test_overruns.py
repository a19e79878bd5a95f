"""Operations that cannot be interrupted and block the event loop: their statement is stopped, and a session that repeats
them is closed."""
from __future__ import annotations

import pytest
from conftest import Served
from iproto_client import EVAL, BinaryClient

from boxsession.base.address import Address
from boxsession.lua import interrupt
from boxsession.scheduler import overruns
from boxsession.scheduler.overruns import Overruns

# Numbers whose halves have the same sum, which is all that Lua 5.1's hash values are made of; strings that differ only in
# places that these do not look at.
NUMBERS = 'local t = {} for i = 0, 70000 do t[1 + ((100000 - i) * 2^32 + i) / 2^52] = i end'
STRINGS = "local t = {} for i = 1, 70000 do t[(('%016d'):format(i):gsub('.', '%0x'))] = i end"
HELD = 'one operation blocked all sessions'


class TestOneOperation:
    @pytest.mark.parametrize('seconds, busy, used, moved, is_too_long', [
        (0.04, 0.04, 1 << 20, 0, False),            # short
        (0.2, 0.2, 1 << 20, 0, True),
        (0.2, 0.04, 1 << 20, 0, False),             # it was other processes'
        (0.1, 0.1, 200 << 20, 0, False),            # the collector may have gone through all of that
        (0.1, 0.1, 64 << 20, 64 << 20, False),      # that many bytes were copied
        (0.15, 0.15, 16 << 20, 1 << 20, True),
    ])
    def test_it(self, monkeypatch, seconds, busy, used, moved, is_too_long):
        clock = [100.0]
        monkeypatch.setattr(overruns.time, 'thread_time', lambda: clock[0])
        watched = Overruns()
        watched.last = 10.0
        watched.is_too_long(10.0, used - moved)
        watched.meet(100.0)
        watched.meet(100.0 + busy / 2)              # the first time counts
        clock[0] += busy
        assert is_too_long == watched.is_too_long(10.0 + seconds, used)

    def test_what_the_monitor_has_not_met_is_unknown(self):
        watched = Overruns()
        watched.last = 10.0
        assert not watched.is_too_long(11.0, 1000)
        watched.meet(1e-9)
        watched.last = 10.5                         # that was another operation
        assert not watched.is_too_long(11.0, 1000)


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    """The address of a server that several tests use. It has a process of its own: an operation there blocks no test."""
    served = Served(['--listen', '127.0.0.1:0'], tmp_path_factory.mktemp('shared'))
    yield served.addresses()[0]
    assert 0 == served.stop()


class TestKeysThatCollide:
    @pytest.mark.parametrize('statement', [
        NUMBERS, STRINGS, f'coroutine.wrap(function() {NUMBERS} end)()', f'pcall(function() {NUMBERS} end)',
        'local t = setmetatable({}, {__index = function() ' + NUMBERS + ' end}) local x = t.x'])
    def test_text(self, serve, connect, statement):
        served = serve('--listen', '127.0.0.1:0')
        [address] = served.addresses()
        bystander, client = connect(address), connect(address)
        assert HELD in client.error(statement)
        assert 2 == client.value('1 + 1')
        client.send(statement + '\n')
        with pytest.raises(EOFError):
            while True:
                assert HELD in ' '.join(client.document().decode().split())
        assert 2 == bystander.value('1 + 1')
        served.log_line('a statement was stopped: one operation blocked')

    def test_binary(self, serve, tmp_path):
        (tmp_path / 'c.yml').write_text('listen: [{address: "127.0.0.1:0", protocol: binary, user: admin}]')
        served = serve('-c', 'c.yml')
        client = BinaryClient(Address.parse(served.log_line('listening: binary').split()[-1]))
        client.send(EVAL, {0x27: NUMBERS, 0x21: []})
        assert HELD in str(client.receive())
        client.send(EVAL, {0x27: 'return 2', 0x21: []})
        assert '2' in str(client.receive()[-1])
        client.close()


@pytest.mark.parametrize('statement', [
    'local t = {} for i = 1, 3e5 do t["k" .. i] = i end return 1', 'local t = {} for i = 1, 2e6 do t[i] = i end return 1',
    'local s = ("x"):rep(1.6e7) for _ = 1, 5 do local t = s .. s end return 1',
    'local t = {} for i = 1, 3e5 do t[i] = {} end collectgarbage() return 1',
    'local t = {} for i = 1, 1e5 do t[i] = i * 7919 % 1e5 end table.sort(t) return 1',
    '#require("json").encode(("x"):rep(1e7)) - 1e7 - 1', '("x"):rep(3e7):find("y", 1, true) or 1'])
def test_what_is_only_large_is_not_stopped(shared, connect, statement):
    client = connect(shared)
    for _ in range(2):
        assert 1 == client.value(statement)


def test_a_look_that_was_asked_for_ends_a_statement_once(console, connect, monkeypatch):
    """The monitor has the hook called at one instruction, and from then on at each. What ends a statement there is raised
    once: a second time, on its way out, would end the evaluator."""
    due, lua = [False], interrupt._LUA

    def look_in(task, count):
        lua.lua_sethook(task.address, lua.lua_gethook(task.address), interrupt._MASKCOUNT, count)

    def arm(count):
        task = served._running.runtime.dispatcher.running
        with interrupt.LOCK:
            task.is_interrupted = True
            look_in(task, int(count))
        due[0] = True

    def is_too_long(self, now, used):
        was, due[0] = due[0], False
        if was:
            with interrupt.LOCK:
                task = served._running.runtime.dispatcher.running
                look_in(task, 1)
        return was
    monkeypatch.setattr(overruns.Overruns, 'is_too_long', is_too_long)
    served = console(expose={'arm': arm})
    client = connect(served)
    client.reply('function f(n) return pcall(arm, n) end')
    stopped = 0
    for statement in ('arm({}) x = 5', 'f({}) x = 5', 'pcall(f, {})', 'x = f({}) return x'):
        for count in range(1, 80):
            [connection] = served.connections()
            connection.account.offences = 0
            stopped += 'stopped' in client.reply(statement.format(count)).decode()
            due[0] = False
    assert stopped > 20
    assert 2 == client.value('1 + 1')


def test_statements_that_were_sent_together_are_not_one_operation(console, connect, monkeypatch):
    monkeypatch.setattr(overruns, '_SECONDS', 0.0)        # any operation counts as an overrun
    client = connect(console())
    client.send('x = 1\n' * 5000 + 'for i = 1, 1e4 do x = i end\n')
    for _ in range(5000):
        assert 'error' not in client.document().decode()
