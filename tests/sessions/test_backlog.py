"""Unsent output and unread input are bounded, for a session and for all together. Sessions that read are not affected."""
from __future__ import annotations

import gevent
import pytest
from conftest import BINARY, TEXT
from iproto_client import EVAL
from waiting import wait_for

from boxsession.sessions import backlog
from boxsession.sessions.backlog import Backlog

MIB = 1 << 20


class TestBacklog:
    @pytest.fixture
    def clock(self, monkeypatch):
        class Clock:
            now = 0.0

            def monotonic(self):
                return self.now

        clock = Clock()
        monkeypatch.setattr(backlog, 'time', clock)
        return clock

    @pytest.fixture
    def ended(self):
        return []

    @pytest.fixture
    def held(self, ended, clock):
        held = Backlog(lambda holder, count: ended.append((holder, count)))
        held.limit = 100
        return held

    def test_what_is_held_is_summed_up(self, held, ended):
        for holder, count in [('a', 60), ('b', 40), ('a', 10), ('b', 0), ('a', 100)]:
            held.hold(holder, count)
        assert (100, []) == (held.total, ended)
        held.hold('a', 0)
        held.hold('a', 0)
        assert 0 == held.total

    def test_who_holds_most_goes(self, held, ended):
        for holder, count in [('a', 30), ('b', 60), ('c', 20)]:
            held.hold(holder, count)
        assert ([('b', 60)], 50) == (ended, held.total)

    def test_who_takes_it_stays(self, held, ended, clock):
        held.hold('stalled', 20)
        held.hold('reader', 75)
        for count in range(74, 60, -1):
            clock.now += 1
            held.hold('reader', count)
        held.hold('new', 30)
        assert [('stalled', 20)] == ended

    def test_as_many_go_as_are_too_many(self, held, ended):
        for number in range(10):
            held.hold(number, 10)
        held.hold('large', 95)
        assert ('large', 95) in ended
        assert held.total <= 100

    def test_no_limit(self, held, ended):
        held.limit = 0
        held.hold('a', 1 << 40)
        assert [] == ended


def memory():
    with open('/proc/self/statm') as statm:
        return int(statm.read().split()[1]) * 4096


@pytest.mark.parametrize('busy', ['require("fiber").sleep(1000)\n', 'return ("x"):rep(3e7)\n', '1\n'],
                         ids=['waiting', 'sending', 'idle'])
@pytest.mark.parametrize('negotiation', [b'\xff\xf6', b'\xff\xfd\x18', b'\xff\xfb\x18'], ids=['AYT', 'DO', 'WILL'])
def test_answers_to_telnet_wait_for_who_does_not_read(console, connect, busy, negotiation):
    served = console(limits={'send_seconds': 0, 'total_output_bytes': 0})
    client, admin = connect(served), connect(served)
    client.send(busy)
    [connection] = [found for found in served.connections() if found.session.id == 1]
    piece = negotiation * 5000
    sent = 0
    if 'return' in busy:
        wait_for(lambda: connection._output.is_sending)
    reply = connection._output.size
    # Until the server reads no more, which is long before all is sent.
    with gevent.Timeout(1, False):
        while sent < 64 * MIB:
            client.send(piece)
            sent += len(piece)
    assert sent < 64 * MIB
    assert connection._output.size - reply < MIB
    assert 2 == admin.value('1 + 1')


def test_are_you_there_is_answered_while_a_statement_waits(console, connect):
    client = connect(console())
    client.reply('1')
    client.send('require("fiber").sleep(1000)\n\xff\xf6'.encode('latin-1'))
    assert b'[boxsession is here]' in client.read_until(b'here]')


def test_who_reads_later_can_still_interrupt(console, connect):
    client = connect(console())
    client.send('require("fiber").sleep(1000)\n')
    count = 0
    with gevent.Timeout(0.5, False):
        while True:
            client.send(b'\xff\xf6' * 1000)
            count += 1
    reader = gevent.spawn(client.read_until, b'cancelled')
    client.send(b'\xff\xf6' * 1000 + b'\x03')
    assert b'cancelled' in reader.get(timeout=20)


def stalled(served, connect, number, megabytes):
    """Sessions that do not read their replies."""
    for count in range(1, number + 1):
        client = connect(served)
        client.send(f'local t = {{}} for i = 1, {megabytes} do t[i] = ("x"):rep({MIB} - 1) .. {count % 10} end '
                    'return table.concat(t)\n')
        yield client


class TestTotalOutputBytes:
    LIMIT = 4 * MIB

    @pytest.fixture
    def served(self, console, tmp_path):
        # The kernel keeps little for a unix socket: the server keeps what is not read.
        served = console(listen=[f'unix:{tmp_path}/a'], limits={'total_output_bytes': self.LIMIT})
        registry = served._running.registry
        yield served
        served.stop()
        assert registry.unsent.total == 0

    def test_who_does_not_read_is_closed_and_who_reads_is_not(self, served, connect, caplog):
        admin, reader = connect(served), connect(served)
        before = memory()
        for _ in stalled(served, connect, 20, 1):
            # Too short to count while it is made, of which the stalled ones take the whole limit.
            assert 100_000 < len(reader.reply('("y"):rep(100000)'))
            assert served._running.registry.unsent.total <= self.LIMIT
        wait_for(lambda: len(served.sessions) <= 2 + 5)
        assert admin.value("box.info.limits['total_output_bytes'].hits") >= 15
        assert caplog.text.count('(limits.total_output_bytes)') >= 15
        assert memory() - before < 50 * MIB
        admin.reply('for _, shown in pairs(box.session.list()) do if shown.id > 2 then box.session.kill(shown.id) end end')
        wait_for(lambda: len(served.sessions) == 2)
        assert served._running.registry.unsent.total == 0

    def test_what_is_sent_is_held_no_more(self, served, connect):
        client = connect(served)
        for _ in range(3):
            assert len(client.value(f'("y"):rep({MIB})')) == MIB
        client.send(f'box.session.push(("y"):rep({MIB})) require("fiber").sleep(0.01) return 1\n')
        client.document()
        client.document()
        assert served._running.registry.unsent.total == 0

    @pytest.mark.parametrize('statement', [
        'while true do box.session.push(("x"):rep(1e6)) end',
        'fiber.new(function() while true do box.session.push(("x"):rep(1e6)) end end) fiber.sleep(1000)',
        'for i = 1, 50 do fiber.new(function() while true do box.session.push(("x"):rep(1e6)) fiber.sleep(0) end end) end '
        'fiber.sleep(1000)',
        'for i = 1, 50 do fiber.new(function() while true do box.session.push(("x"):rep(1e6)) end end) end',
        'local t = {} for i = 1, 5e4 do t[i] = "é" .. i end while true do box.session.push(t) end',
    ])
    def test_pushes(self, served, connect, statement):
        client, admin = connect(served), connect(served)
        client.reply('fiber = require("fiber")')
        client.send(statement + '\n')
        for _ in range(50):
            admin.reply('1')
            assert served._running.registry.unsent.total <= self.LIMIT
        wait_for(lambda: served._running.registry.unsent.total or len(served.sessions) < 2)
        assert 2 == admin.value('1 + 1')
        assert served._running.registry.unsent.total <= self.LIMIT

    def test_pushes_of_on_connect(self, served, connect):
        admin = connect(served)
        admin.reply('push = box.session.on_connect(function() while true do box.session.push(("x"):rep(1e6)) end end)')
        connect(served, greeting=False)
        wait_for(lambda: admin.value("box.info.limits['total_output_bytes'].hits") > 0)
        admin.reply('box.session.on_connect(nil, push)')
        wait_for(lambda: len(served.sessions) == 1)
        assert served._running.registry.unsent.total == 0

    def test_it_is_changed_while_it_runs(self, served, connect):
        client = connect(served)
        assert client.values('box.cfg{limits = {total_output_bytes = 0}}') is None
        assert 'Incorrect value' in client.error('box.cfg{limits = {total_output_bytes = 1000}}')
        assert served._running.registry.unsent.limit == 0

    @pytest.mark.parametrize('expression', [
        'return ("x"):rep(8e6)',
        'require("fiber").sleep(0.1) return ("x"):rep(8e6)',
        'local t = {} for i = 1, 2e4 do t[i] = ("x"):rep(400) end return t',
        'for i = 1, 100 do box.session.push(("x"):rep(1e6)) end return 1'])
    def test_binary(self, console, connect, connect_binary, expression):
        served = console(listen=[BINARY, TEXT], limits={'total_output_bytes': 4 * self.LIMIT})
        unsent = served._running.registry.unsent
        admin = connect(served.addresses[1])
        clients = []
        for _ in range(6):
            clients.append(connect_binary(served))
            for _ in range(4):
                clients[-1].send(EVAL, {0x27: expression, 0x21: []})
            admin.reply('1')
            assert unsent.total <= 4 * self.LIMIT
        wait_for(lambda: unsent.total or len(served.sessions) < 7)
        for _ in range(20):
            assert 2 == admin.value('1 + 1')
            assert unsent.total <= 4 * self.LIMIT
        for client in clients:
            client.close()
        served.stop()
        assert unsent.total == 0


class TestTotalInputBytes:
    LIMIT = 4 * MIB
    LIMITS = {'total_input_bytes': LIMIT, 'statement_bytes': 2 * MIB, 'request_bytes': 2 * MIB}

    @pytest.fixture(params=['console', 'binary'])
    def served(self, console, request):
        served = console(listen=[{'address': TEXT, 'protocol': request.param, 'user': 'guest'}, TEXT], limits=self.LIMITS)
        registry = served._running.registry
        yield served
        served.stop()
        assert registry.unread.total == 0

    def test_who_does_not_finish_is_closed(self, served, connect, caplog):
        admin = connect(served.addresses[1])
        # A frame that announces 2 MiB; for a text session, a line that does not end.
        binary = served.listeners[0].config.protocol == 'binary'
        begun = b'\xce\x00\x1f\xff\xff' if binary else b'return 1\n--[['
        for _ in range(20):
            client = connect(served.addresses[0])
            client.send(begun + b'x' * (MIB - 100))
            assert 2 == admin.value('1 + 1')
            wait_for(lambda: served._running.registry.unread.total <= self.LIMIT)
        wait_for(lambda: admin.value("box.info.limits['total_input_bytes'].hits") >= 15)
        assert '(limits.total_input_bytes)' in caplog.text
        assert served._running.registry.unread.total <= self.LIMIT

    def test_what_is_run_is_held_no_more(self, served, connect):
        client = connect(served.addresses[1])
        for _ in range(5):                  # more than the limit in all
            assert client.value('#[[' + 'x' * MIB + ']]') == MIB
        client.send('#[[' + 'x' * MIB)
        wait_for(lambda: served._running.registry.unread.total >= MIB)
        client.send(']]\n')
        assert client.document() == b'---\n- %d\n...\n' % MIB
        assert served._running.registry.unread.total == 0

    def test_what_runs_is_held_no_more(self, served, connect, connect_binary):
        total = served._running.registry.unread
        if served.listeners[0].config.protocol == 'binary':
            connect(served.addresses[1]).reply("box.schema.user.grant('guest', 'execute', 'universe')")
            client = connect_binary(served)
            client.send(EVAL, {0x27: "require('fiber').sleep(100)", 0x21: ['x' * MIB]})
        else:
            client = connect(served.addresses[0])
            client.send("local text = '" + 'x' * MIB + "' require('fiber').sleep(100)\n")
        admin = connect(served.addresses[1])
        wait_for(lambda: b'state: running' in admin.reply("box.session.list({listener = '%s'})" % served.addresses[0]))
        wait_for(lambda: total.total == 0)
        client.close()

    def test_lines_of_a_statement_that_goes_on_are_counted(self, served, connect):
        client = connect(served.addresses[1])
        client.send('x = [[\n' + 'x' * 65536 + '\n' + 'x' * 65536 + '\n')
        wait_for(lambda: served._running.registry.unread.total > 2 * 65536)
        client.close()
        wait_for(lambda: served._running.registry.unread.total == 0)
