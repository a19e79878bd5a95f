"""Each limit is met: its error is clear, it is counted, and the others notice nothing."""
from __future__ import annotations

import gevent
import pytest


def hits(client, name):
    return client.value(f"box.info.limits['{name}']")


class TestStatementSeconds:
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
        client = connect(console(limits={'statement_seconds': 0.3}))
        for _ in range(5):
            assert client.values("require('fiber').sleep(0.1)") is None
        assert 0 == hits(client, 'statement_seconds')

    def test_a_fiber_has_no_such_limit(self, console, connect):
        client = connect(console(limits={'statement_seconds': 0.1}))
        client.reply("f = require('fiber').create(function() require('fiber').sleep(0.2) done = true end)")
        gevent.sleep(0.3)
        assert [True] == client.values('done')


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
        with gevent.Timeout(10):
            while len(served.sessions) > 1:
                gevent.sleep(0.01)
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
        client = connect(console(limits={'idle_seconds': 0.4}))
        for _ in range(8):
            gevent.sleep(0.1)
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
    def test_a_vanished_clients_statement(self, console, connect, choice, finished):
        served = console(limits={'on_disconnect': choice})
        client, other = connect(served), connect(served)
        client.reply('ended = 0 box.session.on_disconnect(function() ended = ended + 1 end)')
        other.send("started = true require('fiber').sleep(0.3) finished = true\n")
        with gevent.Timeout(10):
            while not client.value('started'):
                gevent.sleep(0.01)
        other.reset()
        with gevent.Timeout(10):
            while client.value('ended') == 0:
                gevent.sleep(0.01)
        assert [finished, 1] == client.values('finished, ended')
        client.reply('for _, trigger in pairs(box.session.on_disconnect()) do box.session.on_disconnect(nil, trigger) end')


class TestSendSeconds:
    def test_who_does_not_read_is_closed(self, console, connect):
        served = console(limits={'send_seconds': 0.2})
        client, other = connect(served), connect(served)
        other.send("('x'):rep(2e7)\n")
        with gevent.Timeout(10):
            while len(served.sessions) > 1:
                gevent.sleep(0.01)
        assert 1 == hits(client, 'send_seconds')


class TestStatementBytes:
    def test_a_long_statement_is_refused(self, console, connect):
        client = connect(console(limits={'statement_bytes': 50}))
        assert 'too long: more than 50 bytes' in client.error('"' + 'x' * 60 + '"')
        assert 1 == hits(client, 'statement_bytes')
