"""Each limit is reached: the error names it, it is counted, and other sessions are not affected."""
from __future__ import annotations

import threading
import time

import gevent
import pytest
import yaml
from conftest import rounds
from waiting import running, wait_for

from boxsession.sessions.text import ConsoleConnection


def hits(client, name):
    return client.value(f"box.info.limits['{name}'].hits")


def test_the_limits_are_shown_with_their_hits(console, connect):
    client = connect(console(limits={'statement_bytes': 1000}))
    client.reply('1')
    client.error('x' * 2000)
    limits = client.value('box.info.limits')
    assert {'hits': 1, 'limit': 1000} == limits['statement_bytes']
    assert {'hits': 0, 'limit': 0} == limits['statement_seconds']
    assert all({'hits', 'limit'} == set(row) for row in limits.values()) and 'slice_ms' not in limits
    client.reply('box.cfg{limits = {fibers = 7}}')
    assert {'hits': 0, 'limit': 7} == client.value('box.info.limits.fibers')


@pytest.mark.parametrize(('name', 'value', 'statement'), [
    ('lua_memory_bytes', 1 << 24, 'local t = {} for i = 1, 1e9 do t[i] = {i} end'),
    ('lua_memory_bytes', 1 << 24, "local s = 'x' while true do s = s .. s end"),
    ('lua_memory_bytes', 1 << 24, "box.session.su('admin', function() local t = {} while true do t[#t + 1] = {} end end)"),
    ('output_bytes', 4096, "('x'):rep(1e5)"), ('statement_bytes', 256, 'x' * 300), ('fibers', 1, """
        require('fiber').create(require('fiber').sleep, 1) require('fiber').create(require('fiber').sleep, 1)"""),
    ('statement_seconds', 0.05, 'while true do end'), ('statement_seconds', 0.05, "require('fiber').sleep(100)")])
def test_an_error_of_a_limit_names_its_setting(console, connect, name, value, statement):
    client = connect(console(limits={name: value}))
    client.reply('1')
    assert f'(limits.{name})' in str(client.reply(statement.replace('\n', ' ')))
    assert 1 <= hits(client, name)


def test_a_client_that_does_not_read_is_told_of_in_the_log(console, connect, caplog):
    client, other = (connect(console) for console in [console(limits={'send_seconds': 0.1})] * 2)
    client.send("('x'):rep(3e7)\n")
    wait_for(lambda: ' ended: ' in caplog.text)
    assert 'the client did not read for 0.1 seconds (limits.send_seconds)' in caplog.text
    assert 1 == hits(other, 'send_seconds')


class TestStatementSeconds:
    def test_a_sleep_is_not_over_when_the_statement_is(self, console, connect):
        client = connect(console(limits={'statement_seconds': 0.2}, expose={'hold': lambda: time.sleep(0.1)}))
        # The event loop's time was cached before the block, so its timer fires early.
        assert 'limits.statement_seconds' in client.error("hold() require('fiber').sleep(1000) return 'went on'")

    @pytest.mark.parametrize('statement', [
        'while true do end', "require('fiber').sleep(1000)", 'while true do pcall(function() while true do end end) end',
        "require('fiber').cond():wait()", 'coroutine.wrap(function() while true do end end)()',
        "pcall(require('fiber').sleep, 1000) return 'went on'", 'wait(1000)'])
    def test_a_statement_is_stopped(self, console, connect, statement):
        client = connect(console(limits={'statement_seconds': 0.1}, expose={'wait': gevent.sleep}))
        assert 'the statement was stopped: it ran for 0.1 seconds (limits.statement_seconds)' == client.error(statement)
        assert [2] == client.values('1 + 1')
        assert 1 == hits(client, 'statement_seconds')

    def test_each_statement_has_its_own_time(self, console, connect):
        client = connect(console(limits={'statement_seconds': 1}))
        for _ in range(6):              # together longer than the limit
            assert client.values("require('fiber').sleep(0.2)") is None
        assert 0 == hits(client, 'statement_seconds')

    def test_a_fiber_has_no_such_limit(self, console, connect):
        client = connect(console(limits={'statement_seconds': 0.1}))
        client.reply("f = require('fiber').create(function() require('fiber').sleep(0.2) done = true end)")
        wait_for(lambda: client.value('done'))


class TestTriggerSeconds:
    def test_on_connect_that_hangs_locks_nobody_out(self, console, connect):
        served = console(limits={'trigger_seconds': 0.1})
        client = connect(served)
        client.reply('hang = box.session.on_connect(function() while true do end end)')
        assert b'trigger was stopped: it ran for 0.1 seconds' in connect(served, greeting=False).read_to_end()
        client.reply('box.session.on_connect(nil, hang)')
        assert [2] == connect(served).values('1 + 1')
        assert 1 == hits(client, 'trigger_seconds')

    def test_on_disconnect_that_hangs_is_ended(self, console, connect, caplog):
        served = console(limits={'trigger_seconds': 0.1})
        client = connect(served)
        client.reply("box.session.on_disconnect(function() require('fiber').sleep(1000) end)")
        connect(served).close()
        wait_for(lambda: len(served.sessions) == 1)
        client.reply('for _, trigger in pairs(box.session.on_disconnect()) do box.session.on_disconnect(nil, trigger) end')

    def test_no_triggers(self, serve, connect, tmp_path):
        (tmp_path / 'init.lua').write_text("box.session.on_connect(function() error('nobody') end)")
        (tmp_path / 'config.yml').write_text(f'init: {tmp_path}/init.lua\nlisten: ["127.0.0.1:0"]\n')
        locked = connect(serve('-c', 'config.yml').addresses()[0], greeting=False)
        assert b'nobody' in locked.read_to_end()
        rescued = connect(serve('-c', 'config.yml', '--no-triggers').addresses()[0])
        assert [1] == rescued.values('#box.session.on_connect()')       # there, to be looked at and taken away


class TestIdleSeconds:
    def test_who_says_nothing_is_told_and_closed(self, console, connect):
        served = console(limits={'idle_seconds': 0.2})
        quiet = connect(served)
        assert b'- error: ' in (told := quiet.read_to_end()) and b'idle for 0.2 seconds (limits.idle_seconds)' in told
        assert 1 == hits(connect(served), 'idle_seconds')

    def test_not_while_a_statement_runs(self, console, connect):
        client = connect(console(limits={'idle_seconds': 0.2}))
        client.send("require('fiber').sleep(0.7) return 1\n")
        assert b'- 1\n' in client.document()

    def test_not_who_speaks(self, console, connect):
        client = connect(console(limits={'idle_seconds': 1}))
        for _ in range(6):              # together longer than the limit
            gevent.sleep(0.2)
            assert [1] == client.values('1')


class TestSessions:
    def test_the_last_places_are_for_unix_sockets(self, serve, connect, tmp_path):
        (tmp_path / 'config.yml').write_text(
            f'listen: ["127.0.0.1:0", "unix:{tmp_path}/admin.sock"]\nlimits: {{sessions: 8}}\n')
        tcp, unix = serve('-c', 'config.yml').addresses(2)
        clients = [connect(tcp) for _ in range(6)]
        assert b'too many sessions' in connect(tcp, greeting=False).read_to_end()
        clients += [connect(unix) for _ in range(2)]
        assert [8] == clients[-1].values('box.info.sessions')
        assert b'too many sessions' in connect(unix, greeting=False).read_to_end()
        assert 2 == hits(clients[-1], 'sessions')


class TestOnDisconnect:
    @pytest.mark.parametrize(('choice', 'finished'), [('cancel', None), ('finish', True)])
    def test_a_vanished_clients_statement(self, console, connect, monkeypatch, choice, finished):
        lost, notice = [], ConsoleConnection.lost

        def notice_and_tell(connection):
            lost.append(connection)
            notice(connection)

        monkeypatch.setattr(ConsoleConnection, 'lost', notice_and_tell)
        served = console(limits={'on_disconnect': choice})
        client, other = connect(served), connect(served)
        client.reply('ended = 0 box.session.on_disconnect(function() ended = ended + 1 end)')
        other.send("started = true while not go do require('fiber').sleep(0.01) end finished = true\n")
        wait_for(lambda: client.value('started'))
        other.reset()
        if choice == 'finish':
            wait_for(lambda: lost)
            client.reply('go = true')
        wait_for(lambda: client.value('ended'))
        assert [finished, 1] == client.values('finished, ended')
        client.reply('for _, trigger in pairs(box.session.on_disconnect()) do box.session.on_disconnect(nil, trigger) end')


class TestSendSeconds:
    def test_who_does_not_read_is_closed(self, console, connect):
        served = console(limits={'send_seconds': 0.2})
        client, other = connect(served), connect(served)
        other.send("('x'):rep(2e7)\n")
        wait_for(lambda: len(served.sessions) == 1)
        assert 1 == hits(client, 'send_seconds')


class TestStatementBytes:
    def test_a_long_statement_is_refused(self, console, connect):
        client = connect(console(limits={'statement_bytes': 256}))
        client.reply('1')
        assert 'too long: more than 256 bytes' in client.error('"' + 'x' * 300 + '"')
        assert 1 == hits(client, 'statement_bytes')


MEMORY = 64 << 20


@pytest.mark.slow
class TestLuaMemoryBytes:
    """A statement that wants too much memory fails, and other sessions continue."""

    @pytest.fixture
    def served(self, console):
        return console(limits={'lua_memory_bytes': MEMORY})

    @pytest.mark.parametrize('statement', [
        'string.rep("x", 2^28)', 'local s = "x" while true do s = s .. s end',
        'local t = {} while true do t[#t + 1] = {} end',
        'local t = {} for i = 1, 1e9 do t[i] = i end', 'local t = {} for i = 1, 1e9 do t[i .. ""] = i end',
        'local t = {} while true do t[#t + 1] = function() return t end end',
        'local t = {} while true do t[#t + 1] = coroutine.create(print) end',
        '(("x"):rep(1e6)):gsub("x", ("y"):rep(1000))',
        'local t = {} for i = 1, 1e5 do t[i] = ("x"):rep(1e4) .. i end return t',
        'local t = {} for i = 1, 200 do t[i] = ("x"):rep(1e6) end return string.format(("%s"):rep(200), unpack(t))',
        'local t = {} for i = 1, 100 do t[i] = ("x"):rep(1e6) end return require("json").encode(t)',
        'require("yaml").encode(("é"):rep(1.5e7))', 'error(("x"):rep(5e7))', 'error({("x"):rep(5e7)})',
        'local t = {} for i = 1, 100 do t[i] = ("x"):rep(1e6) end return table.concat(t)',
        'echo(("x"):rep(3e7))', 'local t = {} for i = 1, 9 do t[i] = big() .. i end',
        'local function f(n) return f(n + 1) .. ("x"):rep(1000) .. n end f(1)',
        'coroutine.wrap(function() local s = "x" while true do s = s .. s end end)()',
        'require("fiber").new(function() fs = {} while true do fs[#fs + 1] = ("x"):rep(1e6) .. #fs end end) '
        'require("fiber").sleep(0.3) fs = nil error("not enough memory")',
        'local t = {} for i = 1, 1e9 do t[i] = require("fiber").channel() end',
    ])
    def test_a_statement_that_wants_too_much(self, console, connect, statement):
        served = console(limits={'lua_memory_bytes': MEMORY}, expose={'echo': lambda value: value + value,
                                                                      'big': lambda: 'x' * (30 << 20)})
        client, other = connect(served), connect(served)
        other.reply('box.session.storage.mine = 1')
        client.send(statement + '\n')
        answers = [other.values('box.session.storage.mine') for _ in range(5)]
        told = b' '.join(client.document().split())
        assert b'not enough memory' in told or b'stack overflow' in told or b'too large' in told, told[:200]
        assert [[1]] * 5 == answers
        assert [2] == client.values('1 + 1')
        assert [{'a': [1, 2]}] == other.values('{a = {1, 2}}')
        if b'not enough memory' in told and 'fiber' not in statement:
            assert hits(client, 'lua_memory_bytes') >= 1

    def test_what_is_doubled_is_refused_before_it_holds_the_others_for_long(self, console, connect):
        client = connect(console())                 # with 256 MiB
        longest = 'local s = "x" pcall(function() while true do s = s .. s end end) return #s'
        # On a busy machine a clock check may come right before the last doubling: then one more has room.
        few = [1 << 24], [1 << 25]
        assert client.values(longest) in few
        # Also after another use of much memory.
        client.reply('HOLD = {} for i = 1, 150 do HOLD[i] = ("x"):rep(1e6) .. i end')
        client.reply('HOLD = nil collectgarbage()')
        assert client.values(longest) in few
        assert hits(client, 'lua_memory_bytes') == 0        # since it was caught
        assert b'not enough memory' in client.reply('local s = "x" while true do s = s .. s end')
        assert hits(client, 'lua_memory_bytes') == 1

    @pytest.mark.parametrize('statement', [
        '#("x"):rep(5e7)', '#("x"):rep(5e7):upper()', '#string.format("%s%s", ("x"):rep(49999999), 1)',
        'local t = {} for i = 1, 50 do t[i] = ("x"):rep(1e6) end return #table.concat(t)',
        'local t = {} for i = 1, 5e7 / 1e4 do t[i] = ("x"):rep(1e4) end return #table.concat(t)',
        'local s = ("x"):rep(1.25e7) return #(s .. s) * 2',
        'local t = {} for i = 1, 2^21 do t[i] = i end for i = 2^21 + 1, 25e5 do t[i] = i end return #t * 20'])
    def test_what_is_large_at_once_is_still_possible(self, console, connect, statement):
        client = connect(console())
        for _ in range(2):
            assert [50000000] == client.values(statement)

    def test_a_busy_machine_leaves_as_much_room(self, console, connect):
        """The monitor asks for a clock check whenever an operation takes long. The checks after C functions then still say
        what may be filled."""
        served = console()
        dispatcher, done = served._running.runtime.dispatcher, threading.Event()

        def ask():
            while not done.wait(0.0002):
                dispatcher.interrupt(0.0)
        thread = threading.Thread(target=ask)
        thread.start()
        try:
            client = connect(served)
            for _ in range(15):
                assert [1] == client.values("A = (' '):rep(2e7) .. '1' B = A .. 'x' C = A .. 'y' return 1")
                client.reply('A, B, C = nil')
                client.reply('collectgarbage()')
        finally:
            done.set()
            thread.join()

    def test_who_holds_it_can_be_made_to_let_go(self, served, connect):
        client, other = connect(served), connect(served)
        client.reply('HOLD = {} for i = 1, 1e9 do HOLD[i] = {("x"):rep(20) .. i} end')
        for _ in range(20):         # to the last byte
            client.reply('for i = 1, 1000 do HOLD[#HOLD + 1] = {} end')
        for _ in range(20):
            client.reply('HOLD[#HOLD + 1] = ("x"):rep(math.random(100)) .. #HOLD')
        answer = other.reply('local t = {} for i = 1, 1e5 do t[i] = {} end return #t')
        assert b'not enough memory' in answer
        assert b'---\n' == other.reply('1')[:4]
        other.reply('HOLD = nil')
        other.reply('collectgarbage()')
        assert [100000] == other.values('local t = {} for i = 1, 1e5 do t[i] = {} end return #t')
        assert other.value('box.info.memory.lua') < MEMORY

    def test_a_statement_that_holds_it_can_be_killed(self, served, connect, caplog):
        client, other = connect(served), connect(served)
        client.send('HOLD = {} local function fill() while true do HOLD[#HOLD + 1] = {} end end '
                    'while true do pcall(fill) FULL = true end\n')
        with gevent.Timeout(20):
            while other.value('FULL') is not True:
                pass
        [victim] = [connection for connection in served.connections() if connection.describe()['state'] == 'running']
        victim.cancel('by a test: ' + 'x' * 60000)
        assert b'by a test: ' in client.document()
        other.reply('HOLD = nil')
        other.reply('collectgarbage()')
        assert [2, 2] == [asked.value('1 + 1') for asked in (client, other)]
        assert 'failed' not in caplog.text

    def test_garbage_is_no_memory(self, served, connect):
        client = connect(served)
        client.reply('KEEP = {} for i = 1, 30 do KEEP[i] = ("x"):rep(1e6) .. i end')
        for _ in range(30):
            assert [1000001] == client.values('local s for i = 1, 20 do s = ("y"):rep(1e6) .. (i % 10) end return #s')
        assert 0 == hits(client, 'lua_memory_bytes')

    def test_who_collects_lets_others_in(self, console, connect):
        client = connect(console(limits={'slice_ms': 2}))
        client.reply("N, fiber = 0, require('fiber')")
        client.reply('fiber.new(function() while true do N = N + 1 fiber.sleep(0.001) end end)')
        client.reply('HOLD = {} for i = 1, 1e6 do HOLD[i] = {} end')
        assert client.value('local before = N collectgarbage() return N > before') is True

    def test_collecting_a_little_is_no_turn_of_others(self, console, connect):
        client = connect(console(limits={'slice_ms': 300}))
        client.reply("N, fiber = 0, require('fiber')")
        client.reply('fiber.new(function() while true do N = N + 1 fiber.sleep(0) end end)')
        assert client.value('local before = N collectgarbage() return N == before') is True

    def test_several_fill_it_at_once(self, served, connect):
        # One of them collects, the others wait for that; everybody is answered.
        clients = [connect(served) for _ in range(6)]
        for _ in range(3):
            for client in clients:
                client.send('local t = {} while true do t[#t + 1] = {} end\n')
            other = connect(served)
            assert other.reply('1 + 1').startswith(b'---\n')
            other.close()
            for client in clients:
                assert b'not enough memory' in client.document()
        assert [0] == clients[0].values('collectgarbage()')
        assert clients[0].value('box.info.memory.lua') < MEMORY // 4
        assert [2] == connect(served).values('1 + 1')

    def test_sessions_come_and_go_where_there_is_none_left(self, served, connect):
        client = connect(served)
        client.reply('HOLD = {} for i = 1, 1e9 do HOLD[i] = {i} end')
        for _ in range(30):
            other = connect(served)
            assert other.reply('1 + 1').startswith(b'---\n')
            other.close()
        assert client.values('HOLD = nil collectgarbage()') is None
        assert [2] == connect(served).values('1 + 1')

    def test_behind_very_many_strings(self, console, connect):
        # Lua shrinks the table of strings during an allocation, of user code or of the console, and that takes memory.
        served = console(limits={'lua_memory_bytes': 80 << 20})
        client = connect(served)
        for _ in range(rounds(1, 4)):
            assert 'not enough memory' in client.error('local t = {} while true do t[#t + 1] = #t .. "" end')
            assert 'not enough memory' in client.error('local n, t = 0, {} while true do n = n + 1 t[n] = {n} end')
            for size in range(100, 1200, rounds(250, 100)):
                client.reply(f'local n, t = 0, {{}} while n < {size}e3 do n = n + 1 t[n] = {{}} end')
                client.reply('require("fiber").new(function() local t = {} for i = 1, 1e5 do t[i] = {} end end)')
                assert [2] == client.values('1 + 1')
                assert [1] == connect(served).values('1')
        assert client.values('collectgarbage()') == [0]
        assert [100000] == client.values('local t = {} for i = 1, 1e5 do t[i] = {} end return #t')

    def test_the_limit_is_changed_only_to_what_is_possible(self, served, connect):
        client = connect(served)
        client.reply('HOLD = {} for i = 1, 20 do HOLD[i] = ("x"):rep(1e6) .. i end')
        assert 'should be at least twice the memory in use' in \
            client.error('box.cfg{limits = {lua_memory_bytes = 16777216}}')
        client.reply('HOLD = nil collectgarbage()')
        assert client.values('box.cfg{limits = {lua_memory_bytes = 16777216}}') is None
        assert 'not enough memory' in client.error('#("x"):rep(2e7)')
        assert client.values('box.cfg{limits = {lua_memory_bytes = 0}}') is None
        assert [100000000] == client.values('#("x"):rep(1e8)')


@pytest.mark.parametrize('start', ['create', 'new'])
def test_fibers(console, connect, start):
    client = connect(console(limits={'fibers': 5}))
    client.reply("f = require('fiber')")
    loop = f'for i = 1, 10 do f.{start}(f.sleep, 1000) end'
    assert f'fiber.{start}(function, ...): too many fibers (limits.fibers)' == client.error(loop)
    assert 5 == client.value('local n = 0 for _, known in pairs(f.info()) do n = n + (known.name == "lua" and 1 or 0) end '
                             'return n')
    assert 1 == hits(client, 'fibers')
    client.reply('for id, known in pairs(f.info()) do if known.name == "lua" then f.kill(id) end end')
    assert client.values(f'f.sleep(0) f.{start}(f.sleep, 0)') is None


class TestOutputBytes:
    @pytest.fixture
    def client(self, console, connect):
        return connect(console(limits={'output_bytes': 10000}, dialect='tarantool'))

    @pytest.mark.parametrize('statement', [
        'local t = {} for i = 1, 1e5 do t[i] = i end return t',
        'local t = {} for i = 1, 1e5 do t["k" .. i] = {i} end return t',
        'local t = {} for i = 1, 1e5 do t[i] = "é" end return t', '1, {2}, ("x"):rep(1e5)', '("x"):rep(1e5)',
        '("é"):rep(1e5)',
        'local t = {} for i = 1, 3000 do t[i] = {a = {b = {"é", c = i}}} end return 1, t, 2',
        'local t = {} for i = 1, 1e5 do t[i] = setmetatable({i}, {__serialize = "map"}) end return t',
        'local t = {} for i = 1, 5000 do t[i] = {true, false} end return t', '("\\1"):rep(9000)'])
    def test_what_is_too_long_is_cut_behind_a_value_and_says_so(self, client, statement):
        reply = client.reply(statement)
        values = yaml.load(reply, yaml.CSafeLoader)
        assert len(reply) < 10000 + (1 << 14) + 500         # the emitter keeps 16 KiB to itself
        assert {'error': 'the output is truncated: it is longer than 10000 bytes (limits.output_bytes)'} == values[-1]
        assert 1 == hits(client, 'output_bytes')
        assert [2] == client.values('1 + 1')

    def test_what_fits_is_whole(self, client):
        assert list(range(1, 1001)) == client.value('local t = {} for i = 1, 1000 do t[i] = i end return t')
        assert 'é' * 2000 == client.value('("é"):rep(2000)')
        assert 0 == hits(client, 'output_bytes')

    def test_a_push(self, client):
        client.send('box.session.push(("é"):rep(1e5)) return 1\n')
        assert b'the output is truncated' in client.document()
        assert b'- 1\n' in client.document()

    def test_lua_output(self, client):
        client.send('\\set output lua\n')
        client.read_until(b'true;')
        client.send('local t = {} for i = 1, 1e5 do t[i] = i end return t\n')
        reply = client.read_until(b'(limits.output_bytes)"};')
        assert len(reply) < 20000

    def test_encoders_are_not_cut(self, client):
        assert [200003] == client.values('#require("json").encode({("x"):rep(2e5 - 1)})')


@pytest.mark.slow
class TestFormatting:
    """Formatting a huge result takes seconds: other sessions run meanwhile, and it can be cancelled."""

    HUGE = 'local t = {} for i = 1, 5e4 do t[i] = {"é", i} end return t\n'

    def test_others_are_let_in(self, console, connect):
        served = console(limits={'slice_ms': 10})
        client, other = connect(served), connect(served)
        client.send(self.HUGE)
        wait_for(lambda: running(served))
        answered = 0
        while other.value("box.session.list({id = 1})[1].state") == 'running':
            answered += 1
        assert answered > 5
        assert client.document().startswith(b'---\n- - - \xc3\xa9')

    def test_ctrl_c(self, console, connect):
        served = console(limits={'slice_ms': 10})
        client, other = connect(served), connect(served)
        client.send('formats = false ' + self.HUGE.replace('return t', "formats = true return t"))
        wait_for(lambda: other.value('formats'))
        client.send('\x03')
        assert b'cancelled' in client.document()
        assert [2] == client.values('1 + 1')
