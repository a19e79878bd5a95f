"""Injected faults of clients, the network and the machine. Other sessions are not affected."""
from __future__ import annotations

import gc
import os
import random
import resource
import signal

import gevent
import pytest
from conftest import BINARY, TEXT, rounds
from gevent import socket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from iproto_client import EVAL
from text_client import Client
from waiting import wait_for

from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.scheduler.turns import Lane


def open_files():
    return len(os.listdir('/proc/self/fd'))


def greenlets():
    gc.collect()
    return sum(issubclass(type(found), gevent.Greenlet) and not found.dead for found in gc.get_objects())


@pytest.fixture
def served(console):
    return console()


@pytest.mark.slow
class TestVanishing:
    """However a session ends, on_disconnect runs once, and nothing is left."""

    @pytest.mark.parametrize('statement', [
        None, b'1 + 1\n', b'while true do end\n', b"require('fiber').sleep(1000)\n", b'("x"):rep(8e6)\n', b'half',
        b"require('fiber').create(function() require('fiber').sleep(0.05) end)\n", b'while true do pcall(error) end\n',
        b'box.session.push(("x"):rep(8e6)) require("fiber").sleep(1000)\n', b'wait(1000)\n'])
    @pytest.mark.parametrize('leave', ['reset', 'close'])
    def test_nothing_is_left(self, console, connect, statement, leave):
        served = console(expose={'wait': gevent.sleep}, limits={'send_seconds': 0.3})
        admin = connect(served)
        admin.reply('ended = {} box.session.on_disconnect(function() ended[box.session.id()] = true end)')
        files, running = open_files(), greenlets()
        clients = [Client(served.addresses[0]) for _ in range(5)]
        for client in clients:
            if statement:
                client.send(statement)
        wait_for(lambda: len(served.sessions) == 6)
        if statement and b'\n' in statement:
            wait_for(lambda: all(connection.counters()[1] > 0 for connection in served.connections()))  # it was read
        for client in clients:
            getattr(client, leave)()
        if leave == 'close' and statement and (b'sleep(1000)' in statement or b'while true' in statement
                                               or b'wait(' in statement):
            # A close without a reset looks like a half-close: statements that were sent still run. An admin ends them.
            wait_for(lambda: admin.value("#box.session.list({state = 'running'})") == 6 or len(served.sessions) == 1)
            for number in range(2, 7):
                admin.reply(f'box.session.kill({number})')
        wait_for(lambda: len(served.sessions) == 1)
        assert all(admin.value(f'ended[{number}]') for number in range(2, 7))
        assert [0] == admin.values("(function() local n = 0 for id in pairs(getmetatable(box.session).aggregate_storage) do"
                                   ' n = n + 1 end return n end)()')
        wait_for(lambda: open_files() <= files and greenlets() <= running)
        admin.reply('for _, trigger in pairs(box.session.on_disconnect()) do box.session.on_disconnect(nil, trigger) end')

    def test_a_half_close_is_no_vanishing(self, served, connect):
        client = connect(served)
        client.send("require('fiber').sleep(0.2) return 'done'\n1 + 1\n")
        client.end()
        assert b'---\n- done\n...\n---\n- 2\n...\n' == client.read_to_end()

    def test_a_pulled_cable_is_seen_by_keepalive(self, served, connect):
        connect(served)
        wait_for(lambda: served.connections())
        sock = served.connections()[0]._sock
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        seconds = [sock.getsockopt(socket.IPPROTO_TCP, option) for option in
                   (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)]
        assert seconds[0] + seconds[1] * seconds[2] <= 60


class TestExhaustion:
    def test_no_more_files(self, serve, connect):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        served = serve('--listen', '127.0.0.1:0')
        address = served.addresses()[0]
        admin = connect(address)
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (40, limits[1]))
        clients = []
        for _ in range(60):
            sock = socket.create_connection(('127.0.0.1', int(address.rpartition(':')[2])))
            clients.append(sock)
        wait_for(lambda: 'cannot accept' in served.stderr)
        for _ in range(100):                                # sessions that are open work on
            assert [2] == admin.values('1 + 1')
        assert 1 == served.stderr.count('cannot accept')    # one line for all
        for sock in clients:
            sock.close()
        wait_for(lambda: 'clients are accepted again' in served.stderr)
        assert [2] == connect(address).values('1 + 1')

    def test_an_accept_storm(self, served, connect):
        admin = connect(served)
        host, _, port = str(served.addresses[0]).rpartition(':')
        answered = 0

        def storm():
            for _ in range(100):
                with socket.create_connection((host, int(port))) as sock:
                    sock.sendall(b'1\n')

        storms = [gevent.spawn(storm) for _ in range(10)]
        while not all(greenlet.dead for greenlet in storms):
            assert [2] == admin.values('1 + 1')
            answered += 1
        gevent.joinall(storms, raise_error=True)
        assert answered > 5
        wait_for(lambda: len(served.sessions) == 1)
        assert [2] == admin.values('1 + 1')


@pytest.mark.slow
class TestSlowAndLoud:
    def test_a_reader_that_never_reads(self, console, connect):
        served = console(limits={'send_seconds': 0.5})
        admin = connect(served)
        readers = [connect(served) for _ in range(3)]
        for reader in readers:
            reader.send('local t = {} for i = 1, 1e5 do t[i] = ("x"):rep(100) end return t\n')
        wait_for(lambda: admin.values('1 + 1') == [2] and len(served.sessions) == 1)
        assert 3 == admin.value('box.info.limits.send_seconds.hits')

    def test_slow_lorises(self, served, connect):
        lorises = [connect(served) for _ in range(20)]
        for letter in '1 + 1':
            for loris in lorises:
                loris.send(letter)
            gevent.sleep(0.01)              # a letter at a time
        assert [2] == connect(served).values('1 + 1')
        for loris in lorises:
            loris.send('\n')
            assert b'---\n- 2\n...\n' == loris.document()

    def test_garbage(self, served, connect):
        rng = random.Random(1)
        admin = connect(served)
        loud = [connect(served) for _ in range(5)]
        for client in loud:
            client.sock.settimeout(5)
            try:
                for _ in range(20):
                    client.send(rng.randbytes(20000))
                    assert [2] == admin.values('1 + 1')
            except OSError:         # it said ~. or the like
                pass
            client.reset()
        wait_for(lambda: len(served.sessions) == 1)
        assert [2] == admin.values('1 + 1')


class TestMonitor:
    def test_who_holds_the_loop_is_told_while_it_is_held(self, serve, tmp_path, connect):
        (tmp_path / 'program.py').write_text(
            'import sys, time, logging, boxsession\nlogging.basicConfig(stream=sys.stderr)\n'
            "console = boxsession.Console(listen='127.0.0.1:0', expose={'block': time.sleep})\nconsole.start()\n"
            "print('listening: console', console.addresses[0], file=sys.stderr, flush=True)\nconsole.serve_forever()\n")
        served = serve(program=tmp_path / 'program.py')
        client = connect(served.addresses()[0])
        client.send('block(1.5)\n')
        served.log_line('the event loop is held')
        assert "by session 1: 'block(1.5)'\n" in served.stderr         # no stack: none of the program's code runs
        client.document()
        served.log_line('the event loop runs again')

    def test_who_only_waits_holds_nothing(self, served, connect, caplog):
        client = connect(served)
        client.reply("require('fiber').sleep(0.6)")
        client.reply('local t = 0 for i = 1, 2e7 do t = t + i end')
        assert 'is held' not in caplog.text


def test_kill_9_and_a_new_start(serve, connect, tmp_path):
    path = tmp_path / 'admin.sock'
    served = serve('--listen', f'unix:{path}')
    served.addresses()
    client = connect(f'unix:{path}')
    served.signal(signal.SIGKILL)
    served.wait()
    with pytest.raises((EOFError, OSError)):
        client.document()
    served = serve('--listen', f'unix:{path}')
    served.addresses()
    assert [2] == connect(f'unix:{path}').values('1 + 1')


WORDS = st.sampled_from([
    'local', 'x', '=', '1', 'function', '(', ')', 'end', 'do', 'while true', 'if', 'then', '..', '"a"', '{', '}', 'error',
    'pcall', 'coroutine.wrap', 'string.rep', '1e9', 'require("fiber").yield', 'setmetatable', '__index', 'for i = 1, 1e9',
    'return', 'box.session', ':kill', '.id', '#', 'nil', ',', '[', ']', 'box.error', 'getfenv', 'loadstring', 'box.NULL',
    'collectgarbage', '_G', 'string', 'table.sort', 'gsub', '"%w+.-"', '\\set output lua', '\\set delimiter', '~.',
    '\\quit', '\\set scope session'])


@settings(max_examples=rounds(20, 1000), suppress_health_check=list(HealthCheck))
@given(statements=st.lists(st.one_of(st.lists(WORDS, max_size=8).map(' '.join).map(str.encode), st.binary(max_size=60)),
                           max_size=12))
def test_no_statements_break_the_server(console, statements):
    """Random input: each session ends, and the server serves the next one."""
    served = console(limits={'statement_seconds': 0.2, 'slice_ms': 5, 'lua_memory_bytes': 1 << 25, 'send_seconds': 1})
    try:
        client = Client(served.addresses[0])
        try:
            client.send(b'\n'.join([*statements, b'']))
            client.end()
            client.read_to_end()
        except OSError:
            pass
        finally:
            client.close()
        wait_for(lambda: not served.sessions)
        other = Client(served.addresses[0])
        assert other.reply('return 1').startswith((b'---\n', b'1;'))
        other.close()
    finally:
        served.stop()


class TestTheEndOfASessionBetweenTwoStatements:
    """A session may end while it waits between two pipelined statements, for its turn or for its client. The next statement
    does not begin."""

    @pytest.fixture
    def ends(self, monkeypatch):
        """Ends each session when it waits for its turn: (list to which the console is added, sessions that were ended)."""
        ended, take_turn = [], Dispatcher.take_turn

        def take_and_end(runtime, task):
            take_turn(runtime, task)
            for connection in served[0].connections():
                if connection.session.id > 1 and connection not in ended:
                    ended.append(connection)
                    self.end(connection)
        served = []
        monkeypatch.setattr(Dispatcher, 'take_turn', take_and_end)
        monkeypatch.setattr(Dispatcher, 'turn_is_over', lambda runtime: True)
        return served, ended

    @pytest.fixture(params=['lost', 'kill'], autouse=True)
    def how(self, request):
        self.end = {'lost': lambda connection: connection.lost(), 'kill': lambda connection: connection.kill('over')}[
            request.param]

    @pytest.mark.parametrize('audited', [False, True])
    @pytest.mark.parametrize('protocol', ['console', 'binary'])
    def test_it_ends(self, console, connect, connect_binary, tmp_path, ends, protocol, audited):
        consoles, ended = ends
        served = console(listen=[TEXT, BINARY], **({'audit': {'file': str(tmp_path / 'audit.jsonl')}} if audited else {}))
        consoles.append(served)
        connect(served)                 # session 1 stays
        if protocol == 'console':
            connect(served).send('x = 1\n' + 'for i = 1, 1e5 do end\n' * 3 + 'while true do end\n')
        else:
            client = connect_binary(served)
            client.sock.sendall(b''.join(
                client.frame({0: EVAL, 1: sync}, {0x27: text, 0x21: []}) for sync, text in enumerate(
                    ['return 1'] * 3 + ['for i = 1, 1e5 do end'] * 70 + ['while true do end'])))
        wait_for(lambda: ended and len(served.connections()) == 1)


def test_whose_turn_to_begin_never_comes_is_closed_when_the_console_stops(console, monkeypatch):
    served = console()
    address = served.addresses[0]
    monkeypatch.setattr(Lane, 'push', lambda lane, account, resume: None)
    with socket.create_connection((address.host, address.port)) as client:
        wait_for(lambda: served.listeners[0]._server._coming)
        served.stop()
        client.settimeout(30)
        assert b'' == client.recv(1)
