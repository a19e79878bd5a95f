"""console.listen and console.connect: more listeners, and statements that go to another console."""
from __future__ import annotations

import itertools

import gevent
import pytest
from fake_server import ELSEWHERE, Fake
from waiting import running, wait_for

TAG = b'%TAG !push! tag:tarantool.io/push,2018\n'


@pytest.fixture
def near(console, connect):
    """A client of a console that another console can be reached from."""
    return connect(console())


@pytest.fixture
def far(console):
    return console(dialect='tarantool')


def go(client, console):
    assert [True] == client.values(f"require('console').connect('{console.addresses[0]}')")


class TestListen:
    def test_another_listener(self, near, connect):
        near.reply("l = require('console').listen('127.0.0.1:0')")
        name = near.value('l:name()')
        assert {'host': '127.0.0.1', 'family': 'AF_INET', 'type': 'SOCK_STREAM', 'protocol': 'tcp'} == {
            key: name[key] for key in name if key != 'port'}
        address = f'127.0.0.1:{name["port"]}'
        other = connect(address)
        assert [2, 1] == other.values('box.session.id(), box.session.exists(1)')        # its creator's dialect
        assert address in near.value('box.info.listen')
        assert [True] == near.values('l:close()')
        assert [2] == other.values('1 + 1')                                             # sessions stay
        with pytest.raises(ConnectionRefusedError):
            connect(address)
        assert address not in near.value('box.info.listen')
        assert 'attempt to use closed socket' == near.error('l:close()')
        assert {'name', 'closed'} == set(near.value('l'))

    def test_unix(self, near, connect, tmp_path):
        path = tmp_path / 'more.sock'
        name = near.value(f"require('console').listen('unix/:{path}'):name()")
        assert 'unix/' == name['host'] and str(path) == name['port']
        assert path.stat().st_mode & 0o777 == 0o600
        assert [1] == connect(f'unix:{path}').values('1')

    @pytest.mark.parametrize('uri', ['{}', 'console://unix/:{}', 'unix/:{}', 'unix:{}'])
    def test_paths(self, near, connect, tmp_path, uri):
        path = tmp_path / 'a.sock'
        near.reply(f"l = require('console').listen('{uri.format(path)}')")
        assert ['unix/', str(path)] == near.values('l:name().host, l:name().port')
        assert {'fd', 'name'} == set(near.value('l'))
        assert [1] == connect(f'unix:{path}').values('1')
        near.reply(f"require('console').connect('{uri.format(path)}')")
        assert [2] == near.values('1 + 1')

    @pytest.mark.parametrize('uri', ['console://127.0.0.1:0', 'guest:secret@127.0.0.1:0', '127.0.0.1:0/console?x=1#y',
                                     'tcp://guest@127.0.0.1:0/'])
    def test_what_does_not_count_in_a_uri(self, near, connect, uri):
        name = near.value(f"require('console').listen('{uri}'):name()")
        assert '127.0.0.1' == name['host']
        assert [1] == connect(f'127.0.0.1:{name["port"]}').values('1')

    def test_shutdown(self, near, connect):
        near.reply("l = require('console').listen('localhost:0')")
        text, port = near.values('tostring(l), l:name().port')
        assert text.startswith('fd ') and text.endswith(f', aka 127.0.0.1:{port}')
        connect(f'127.0.0.1:{port}')
        assert [True, True] == near.values('l:shutdown(2), l:shutdown("R")')
        with pytest.raises(ConnectionRefusedError):
            connect(f'127.0.0.1:{port}')
        assert [port] == near.values('l:name().port')
        for method in ('shutdown', 'close', 'name'):
            assert 'Usage: socket:method()' == near.error(f'l.{method}()')
        assert [True] == near.values('l:close()')
        for method in ('shutdown', 'close', 'name'):
            assert 'attempt to use closed socket' == near.error(f'l:{method}()')

    def test_what_it_refuses(self, near):
        listen = "require('console').listen"
        for argument in ('', "'x'", 'true', '{}', "'unix/:x'", "'console:///x'", "'console://'", "'./x'"):
            assert 'Usage: console.listen("[host:]port")' == near.error(f'{listen}({argument})')
        assert 'insecure' in near.error(f"{listen}('0.0.0.0:0')")
        near.reply("box.schema.user.create('ann') box.schema.user.grant('ann', 'execute', 'universe')")
        near.reply("box.session.su('ann')")
        assert 'every client there may run code as ann' in near.error(f"{listen}('0.0.0.0:0')")
        near.reply("box.session.su('admin')")
        port = near.value(f"{listen}('127.0.0.1:0'):name().port")
        assert f'failed to create server 127.0.0.1:{port}: Address already in use' == near.error(
            f"{listen}('127.0.0.1:{port}')")
        assert f'failed to create server {port}: Address already in use' == near.error(f'{listen}({port})')

    def test_it_ends_with_the_server(self, console, connect):
        served = console()
        port = connect(served).value("require('console').listen(0):name().port")
        served.stop()
        with pytest.raises(ConnectionRefusedError):
            connect(f'127.0.0.1:{port}')


class TestConnect:
    def test_statements_run_there_until_it_is_left(self, near, far):
        near.reply('where = "near"')
        go(near, far)
        assert [None, 1] == near.values('where, box.session.id()')
        assert [True] == near.values('box.session.exists(1)')
        near.reply('where = "far"')
        near.send('where\n~.\nwhere\n')
        assert b'---\n- far\n...\n' == near.document()
        assert b'---\n- near\n...\n' == near.document()

    def test_errors_pushes_and_what_is_big_come_as_they_are(self, near, far):
        go(near, far)
        assert 'x' == near.error('error("x")')
        assert b'[string "return nosuch()"]' in near.reply('nosuch()')
        near.send('box.session.push({1}) return 2\n')
        assert TAG + b'---\n- 1\n...\n' == near.document()
        assert b'---\n- 2\n...\n' == near.document()
        assert 10 ** 6 == len(near.value('("x"):rep(1e6)'))
        assert '\n...\n---\n' == near.value('"\\n...\\n---\\n"')
        assert [True] * 200 == [near.value('true') for _ in range(200)]

    def test_a_push_comes_before_its_statement_ends(self, near, far):
        go(near, far)
        near.send("box.session.push('early') require('fiber').sleep(100)\n")
        assert TAG + b'--- early\n...\n' == near.document()
        near.send('\x03')
        assert b'cancelled' in near.document()

    def test_several_lines_are_one_statement(self, near, far):
        go(near, far)
        near.send('t = {}\nfor i = 1, 3 do\nt[i] = i -- a comment\nend\nt\n')
        assert b'---\n...\n' * 2 + b'---\n- - 1\n  - 2\n  - 3\n...\n' == b''.join(near.document() for _ in range(3))
        assert [None] == near.values("require('console').delimiter()")         # nothing is left of how they were sent

    def test_this_sides_delimiter_is_kept(self, near, far):
        near.reply("require('console').delimiter('!')")
        near.send(f"require('console').connect('{far.addresses[0]}')!\n1 +\n1!\n")
        assert [b'---\n- true\n...\n', b'---\n- 2\n...\n'] == [near.document(), near.document()]

    def test_lua_output_there(self, near, far):
        go(near, far)
        near.send('\\set output lua\n')
        assert b'true;' == near.read_until(b';')
        near.send('{1, ";", 2}\n')
        assert b'{1, ";", 2};' == near.read_until(b'2};')
        assert b'---\n- true\n...\n' == near.reply('\\set output yaml')
        near.send('\\set output lua,block\n~.\n')
        assert b'true;' == near.read_until(b';')
        assert b'---\n- 1\n...\n' == near.reply('1')

    def test_the_other_side_ends_the_session(self, near, far):
        go(near, far)
        assert 'Peer closed' == near.error('\\quit')
        assert [2] == near.values('1 + 1')
        go(near, far)
        far.stop()
        assert 'Peer closed' == near.error('1')
        assert [2] == near.values('1 + 1')

    def test_ctrl_c_stops_what_runs_there(self, near, far, connect):
        go(near, far)
        near.send('while true do end\n')
        wait_for(lambda: running(far))
        near.send('\x03')
        assert b'cancelled' in near.document()
        assert [2] == near.values('1 + 1')
        assert [True] == near.values('box.session.exists(1)')           # still there

    def test_the_client_leaves_while_it_waits(self, near, far, connect):
        go(near, far)
        near.send("require('fiber').sleep(1000)\n")
        watcher = connect(far)
        wait_for(lambda: watcher.value('box.session.exists(1)'))
        near.reset()
        wait_for(lambda: not watcher.value('box.session.exists(1)'))

    def test_who_is_idle_there_is_not_cancelled_away(self, near, far, connect):
        go(near, far)
        admin = connect(near.address)
        assert [False] == admin.values('box.session.cancel(1)')
        assert [1] == near.values('box.session.id()') and [True] == near.values('box.session.exists(1)')

    def test_a_hook_knows_of_the_end(self, near, far):
        near.reply("require('console').on_client_disconnect(function() left = (left or 0) + 1 end)")
        for count in (1, 2):
            go(near, far)
            near.send('~.\nleft\n')
            assert b'---\n- %d\n...\n' % count == near.document()
        near.reply("require('console').on_client_disconnect(nil)")

    def test_from_one_to_the_next(self, near, far, console):
        third = console()
        third_address = third.addresses[0]
        go(near, far)
        go(near, third)
        near.send('box.info.listen[1]\n~.\nbox.info.listen[1]\n')
        assert str(third_address).encode() in near.document()
        assert str(third_address).encode() not in near.document()       # leaves the first hop and all after it

    def test_prompt_says_where(self, near, far):
        near.send('\\set prompt on\n')
        near.read_until(b'tarantool> ')
        near.send(f"require('console').connect('{far.addresses[0]}')\n")
        near.read_until(f'{far.addresses[0]}> '.encode())
        near.send('1\n')
        near.read_until(f'- 1\n...\n{far.addresses[0]}> '.encode())
        near.send('~.\n')
        assert b'tarantool> ' == near.read_until(b'> ')

    def test_nobody_is_there(self, near, tmp_path, caplog):
        for address in ('127.0.0.1:1', f'unix/:{tmp_path}/nosuch', 'nosuch.invalid:1'):
            assert 'Connection is not established' == near.error(f"require('console').connect('{address}')")
        assert 'Connection refused' in caplog.text                      # the reason is in the log

    @pytest.mark.parametrize('greeting', [
        b'SSH-2.0-x\r\n' + b' ' * 200, b'Tarantool 2.6.0 (Binary) ' + b'x' * 200, b'x', b''])
    def test_no_console_is_there(self, near, greeting):
        server = gevent.server.StreamServer(('127.0.0.1', 0), lambda sock, _: (sock.sendall(greeting), sock.close()))
        server.start()
        try:
            message = near.error(f"require('console').connect('127.0.0.1:{server.server_port}')")
        finally:
            server.stop()
        assert 'is no console' in message or 'binary protocol' in message or 'not established' in message
        assert [2] == near.values('1 + 1')

    def test_who_never_speaks_is_given_up_in_time(self, near, connect):
        def serve(sock, _):
            nonlocal accepted
            accepted += 1
            gevent.sleep(1000)

        accepted = 0
        server = gevent.server.StreamServer(('127.0.0.1', 0), serve)
        server.start()
        try:
            connect_there = f"require('console').connect('127.0.0.1:{server.server_port}'"
            assert 'Connection is not established' == near.error(f'{connect_there}, {{timeout = 0.05}})')
            near.send(f'{connect_there})\n')
            wait_for(lambda: accepted == 2)
            near.send('\x03')
            assert b'cancelled' in near.document()
        finally:
            server.stop()

    def test_a_background_fiber_has_no_statements_to_send(self, near, far):
        assert [False] == near.values(
            f"f = require('fiber').new(require('console').connect, '{far.addresses[0]}') f:set_joinable(true)"
            ' return (f:join())')


GREETING = f'{"Tarantool 2.6.0 (Lua console)":<63}\n{"":<63}\n'.encode()


@pytest.fixture
def fake_server():
    """A factory of servers: fake_server(function of a socket), its address."""
    started = []

    def start(serve, host='127.0.0.1'):
        server = gevent.server.StreamServer((host, 0), lambda sock, _: serve(sock))
        server.start()
        started.append(server)
        return f'{host}:{server.server_port}'

    yield start
    for server in started:
        server.stop(1)


class TestWhatNeverEnds:
    """The server serves others meanwhile, in no more memory, and the session can leave."""

    @staticmethod
    def endless(*first, piece, sent):
        def serve(sock):
            try:
                for data in first:
                    sock.sendall(data)
                while True:
                    sock.sendall(piece)
                    sent.append(len(piece))
                    gevent.sleep(0)
            except OSError:
                pass
        return serve

    @pytest.mark.parametrize('piece', [b'x' * 65536, b'%TAG !push! x\n--- x\n...\n' * 3000],
                             ids=['no end', 'pushes'])
    def test_at_the_start(self, near, connect, fake_server, piece):
        sent = []
        first = (GREETING,) if piece.startswith(b'%') else (GREETING, b'---\n- ')
        address = fake_server(self.endless(*first, piece=piece, sent=sent))
        assert 'Connection is not established' == near.error(f"require('console').connect('{address}')")
        assert [2] == near.values('1 + 1')
        assert sum(sent) < 32 << 20

    @pytest.mark.parametrize('piece', [b'x' * 65536, b'%TAG !push! x\n--- x\n...\n' * 3000], ids=['no end', 'pushes'])
    def test_under_a_statement(self, near, connect, piece):
        first = b'---\n...\n' + (b'' if piece.startswith(b'%') else b'---\n- ')
        # From another thread, so that there is always something to read.
        server = Fake(itertools.chain([GREETING, first], itertools.repeat(piece)))
        address = server.address
        assert [True] == near.values(f"require('console').connect('{address}')")
        other = connect(near.address)
        near.send('1\n')
        near.read(1 << 22)                                      # it comes as it is read
        reader = gevent.spawn(lambda: [near.read(1 << 16) for _ in range(1 << 20)])
        try:
            before = server.sent
            assert [2] == other.values('1 + 1')                 # others are answered meanwhile
            assert [True] == other.values('box.session.exists(1)')
            assert server.sent - before < 64 << 20
        finally:
            reader.kill()
            server.close()
        near.reset()
        wait_for(lambda: not other.value('box.session.exists(1)'))


@pytest.mark.parametrize('statement', ['\\login ops geheim', '\\ login ops geheim',
                                       'require("console").eval("\\\\login ops geheim")'])
def test_a_password_does_not_go_on_in_the_clear(near, fake_server, statement):
    if ELSEWHERE is None:
        pytest.skip('this machine has a loopback address only')
    received = []

    def serve(sock):
        sock.sendall(GREETING + b'---\n...\n' + b'---\n- 5\n...\n')
        while data := sock.recv(65536):
            received.append(data)

    address = fake_server(serve, ELSEWHERE)
    assert [True] == near.values(f"require('console').connect('{address}')")
    assert f'\\login: the password could be read on its way to {address}' == near.error(statement)
    assert [5] == near.values('2 + 3')                          # still there
    assert b'geheim' not in b''.join(received)


def test_a_password_goes_on_to_this_machine(near, far):
    go(near, far)
    assert 'Incorrect password' in near.error('\\login ops geheim')


def test_a_trigger_at_the_sessions_end_leaves_no_connection(console, connect):
    near, far = console(), console()
    looking = connect(far)
    looking.reply('count = 0 box.session.on_connect(function() count = count + 1 end)')
    connect(near).reply("box.session.on_disconnect(function() require('console').connect('%s') end)" % far.addresses[0])
    for _ in range(3):
        connect(near).close()
    wait_for(lambda: looking.value('count') >= 3 and len(far.sessions) == 1)
