"""net.box: connections of statements to servers of the binary protocol."""
from __future__ import annotations

import gevent
import msgpack
import pytest
from conftest import TEXT, need
from gevent import socket
from waiting import wait_for

INIT = """
box.schema.user.grant('guest', 'execute', 'universe')
box.schema.user.create('ops', {password = 'pass'}) box.schema.user.grant('ops', 'execute', 'universe')
function echo(...) return ... end
tools = {add = function(a, b) return a + b end}
"""
BINARY = {'address': TEXT, 'protocol': 'binary'}


@pytest.fixture
def far(console):
    """A console with a binary listener and a text one."""
    return console(listen=[BINARY, TEXT], script=INIT)


@pytest.fixture
def near(console):
    return console(dialect='tarantool')


@pytest.fixture
def client(far, near, connect):
    """A client with a connection `c` from one console to the other."""
    client = connect(near)
    client.reply(f"net = require('net.box') c = net.connect('{far.addresses[0]}')")
    assert 'active' == client.value('c.state')
    return client


def remotes(console):
    return [remote for _, remote in console._running.registry.remotes._remotes.values()]


def far_sessions(far):
    return len(far._running.registry)


class Peer:
    """A server that greets as a binary one, and then does what a test says."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(('127.0.0.1', 0))
        self.listener.listen()
        self.address = '127.0.0.1:%d' % self.listener.getsockname()[1]

    def accept(self):
        sock = self.listener.accept()[0]
        sock.sendall(b'Tarantool 2.6.0 (Binary) 7170b4a2-4a72-4a53-8e2a-3f5ae9b0d2a1'.ljust(63) + b'\n'
                     + b'MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI='.ljust(63) + b'\n')
        return sock


def frame(header, body):
    payload = msgpack.packb(header) + body
    return b'\xce' + len(payload).to_bytes(4, 'big') + payload


@pytest.fixture
def peer():
    made = Peer()
    yield made
    made.listener.close()


class TestRequests:
    @pytest.mark.parametrize(('statement', 'values'), [
        ("c:eval('return 1, ...', {2})", [1, 2]), ("c:eval('return')", None),
        ("c:call('echo', {1, 'a', {2, x = 3}})", [1, 'a', {1: 2, 'x': 3}]), ("c:call('tools.add', {1, 2})", [3]),
        ('c:ping(), c:is_connected(), c:wait_connected()', [True, True, True]),
        ("c:eval('return box.session.user(), box.session.type()')", ['guest', 'binary']),
        ("c:eval('return 1', {}, {timeout = 5})", [1]), ("c:call_16('echo', 5)", [[[5]]]),
        ("c:timeout(5):eval('return 1')", [1]), ('c.host, c.protocol, c.error', ['127.0.0.1', 'Binary', None]),
        ("#c:eval('return (\"x\"):rep(1e6)')", [1000000]), ("c:eval('return ...', {'\\255'}) == '\\255'", [True]),
        ("c:eval('return 1', {}, {timeout = 1/0})", [1]),
        ('c:wait_connected(1/0), c:wait_state("closed", 0/0)', [True, False]),
        ("net.self:eval('return 1, ...', {2})", [1, 2]), ("net.self:call('tostring', {5})", ['5']),
        ('net.self:ping()', [True]),
    ])
    def test_values(self, client, statement, values):
        assert values == client.values(f'return {statement}')

    @pytest.mark.parametrize(('statement', 'error'), [
        ("c:eval('error(\"x\")')", 'x'), ("c:eval('x y')", "near 'y'"),
        ("c:call('nosuch')", "Procedure 'nosuch' is not defined"),
        ("c:eval('require(\"fiber\").sleep(100)', {}, {timeout = 0.01})", 'Timeout exceeded'),
        ("c:eval('return 1', {}, {timeout = 0})", 'Timeout exceeded'), ("c:eval('return 1', 5)", 'Use remote:eval'),
        ("c.eval('x')", 'Use remote:eval(...)'), ("c:eval('return 1', {print})", 'unsupported Lua type'),
        ("c:eval('return 1', {}, 5)", 'options must be a table'), ("c:eval('return 1', {}, {buffer = 1})", 'not supported'),
        ("net.self:call('nosuch')", 'is not defined'), ("net.self:eval('x y')", "near 'y'"),
        ('net.connect()', 'usage: connect'), ("net.connect('a b')", 'usage'),
        ("net.connect('h:1', {password = 'x'})", 'user'),
        ("net.connect('h:1', {reconnect_after = -1})", 'reconnect_after must be'),
    ])
    def test_errors(self, client, statement, error):
        assert error in client.error(f'return {statement}')

    def test_an_error_is_an_object(self, client):
        client.reply("_, e = pcall(c.call, c, 'nosuch')")
        assert [33, 'ClientError', True] == client.values('e.code, e.type, box.error.last() == e')
        client.reply("_, e = pcall(c.eval, c, 'error(1)')")
        assert [None, 'LuajitError'] == client.values('e.code, e.type')
        client.reply("_, e = pcall(c.eval, c, 'require(\"fiber\").sleep(9)', {}, {timeout = 0.01})")
        assert 78 == client.value('e.code')

    def test_pushes_come_while_the_request_runs(self, client):
        client.send("c:eval('box.session.push(1) require(\"fiber\").sleep(0.2) return 2', {}, "
                    "{on_push = function(ctx, value) box.session.push({ctx, value}) end, on_push_ctx = 'x'})\n")
        assert b'- x\n- 1\n' in client.document()
        assert b'---\n- 2\n...\n' == client.document()

    def test_an_error_in_on_push_is_the_callers(self, client):
        assert 'mine' in client.error(
            "c:eval('box.session.push(1) return 2', {}, {on_push = function() error('mine') end})")
        assert [1] == client.values("c:eval('return 1')")

    def test_many_fibers_share_a_connection(self, client):
        client.reply("results = {} for i = 1, 50 do require('fiber').create(function() results[i] = "
                     "c:eval('require(\"fiber\").sleep(0.01 * (... % 3)) return ...', {i}) end) end")
        assert list(range(1, 51)) == wait_for(lambda: len(found := client.value('results')) == 50 and found)


class TestFutures:
    def test_result(self, client):
        client.reply("f = c:eval('require(\"fiber\").sleep(0.1) return 1, 2', {}, {is_async = true}) "
                     "first = {f:is_ready(), tostring(select(2, f:result())), tostring(select(2, f:wait_result(0)))}")
        assert [False, 'Response is not ready', 'Timeout exceeded'] == client.value('first')
        assert [[1, 2]] == client.values('f:wait_result()')
        assert [True, [1, 2]] == client.values('f:is_ready(), f:result()')

    def test_error_discard_and_pushes(self, client, near):
        client.reply("f = c:eval('error(\"x\", 0)', {}, {is_async = true})")
        assert [None, 'x'] == client.values('f:wait_result(5)')
        client.reply("f = c:eval('require(\"fiber\").sleep(9)', {}, {is_async = true}) f:discard()")
        assert [True, None, 'Response is discarded'] == client.values('f:is_ready(), f:result()')
        assert not remotes(near)[0].requests._asked
        client.reply("f = c:eval('box.session.push(1) box.session.push(2) return 5', {}, {is_async = true})")
        assert [[1, 1], [2, 2], [3, [5]]] == client.value(
            '(function() local r = {} for i, v in f:pairs(5) do r[#r + 1] = {i, v} end return r end)()')
        assert 'use future:pairs()' in client.error("c:eval('1', {}, {is_async = true, on_push = print})")
        assert 'Usage: future:wait_result' in client.error("f:wait_result('x')")


class TestConnecting:
    @pytest.mark.parametrize(('login', 'user'), [('', 'guest'), ('ops:pass@', 'ops')])
    def test_login(self, far, near, connect, login, user):
        assert user == connect(near).value(
            f"require('net.box').connect('{login}{far.addresses[0]}'):eval('return box.session.user()')")
        assert 'ops' == connect(near).value(f"require('net.box').connect('{far.addresses[0]}', {{user = 'ops', "
                                            "password = 'pass'}):eval('return box.session.user()')")

    def test_failures(self, far, near, connect):
        client = connect(near)
        client.reply("net = require('net.box')")
        for uri, error in [(f'ops:bad@{far.addresses[0]}', 'password'), ('127.0.0.1:1', 'Connection refused'),
                           ('/nosuch.sock', 'No such file or directory'), ('nosuch.invalid:1', 'Invalid argument'),
                           (str(far.addresses[1]), 'Unsupported protocol: Lua console')]:
            state, told = client.values(f"(function(c) return c.state, c.error end)(net.connect('{uri}'))")
            assert 'error' == state and error in told
            assert error in client.error(f"net.connect('{uri}'):eval('return 1')")
            assert [False, False] == client.values(f"net.connect('{uri}'):ping(), net.connect('{uri}'):is_connected()")

    def test_a_server_that_says_nothing(self, near, connect, peer):
        client = connect(near)
        assert ['error', 'Connection timed out'] == client.values(
            f"(function(c) return c.state, c.error end)(require('net.box').connect('{peer.address}', "
            "{connect_timeout = 0.05}))")

    def test_reconnect(self, near, connect, peer):
        client = connect(near)
        client.send(f"events = {{}} c = require('net.box').connect('{peer.address}', {{reconnect_after = 0.01}}) "
                    "c:on_connect(function(x) table.insert(events, {'up', x == c}) end) "
                    "c:on_disconnect(function() table.insert(events, 'down') end)\n")
        sock = peer.accept()
        client.document()
        assert 'active' == client.value('c.state')
        client.send('c:eval("return 1")\n')
        assert sock.recv(1000)
        sock.close()
        assert 'Peer closed' in client.document().decode()
        sock = peer.accept()
        assert [True] == client.values('c:wait_connected(20)')
        wait_for(lambda: client.value('events') == ['down', ['up', True]])
        client.reply('c:close()')
        assert ['closed', 'Connection closed'] == client.values('c.state, c.error')
        assert b'' == sock.recv(1000)
        sock.close()

    def test_a_request_waits_for_the_connection(self, near, connect, peer):
        client = connect(near)
        client.reply(f"c = require('net.box').connect('{peer.address}', {{wait_connected = false}})")
        assert 'not established' in client.error("c:eval('return 1', {}, {timeout = 0.01})")
        client.send("c:eval('return 1')\n")
        sock = peer.accept()
        assert sock.recv(1000)
        sock.sendall(frame({0: 0, 1: 1}, msgpack.packb({0x30: [7]})))
        assert b'---\n- 7\n...\n' == client.document()
        sock.close()


class TestWhatServersSend:
    @pytest.mark.parametrize(('data', 'error'), [
        (frame({0: 0, 1: 1}, b'\x81\x30\x91'), 'Invalid MsgPack'),
        (frame({0: 0, 1: 1}, b'\x81\x30\x05'), 'Invalid MsgPack'),
        (b'\xff', 'Invalid MsgPack'), (b'\xce\xff\xff\xff\xff', 'the response is too long'),
        (frame({0: 0x8005, 1: 1}, msgpack.packb({0x31: 'bad'})), 'bad'), (frame({0: 0x8005, 1: 1}, b'\x80'), ''),
        (frame({0: 0x8005, 1: 1}, msgpack.packb({0x31: 5, 0x52: {0: [{0: 7, 3: 'x'}]}})), ''),
        (frame({0: 0x8005, 1: 1}, msgpack.packb({0x31: 'x' * 100000})), 'xxx'), (b'\x03abc', 'Invalid MsgPack'),
        (frame({0: 0x8005, 1: 1}, b'\xdf\xff\xff\xff\xff' + b'\0' * 100000), 'Invalid MsgPack'),
        (b'\x05\xdf\xff\xff\xff\xff', 'Invalid MsgPack'), (frame({0: 0, 'a': 1}, b''), 'Invalid MsgPack'),
        (b'GET / HTTP/1.1\r\n\r\n' * 10, ''),
    ])
    def test_invalid_responses(self, near, connect, peer, data, error):
        client = connect(near)
        client.send(f"c = require('net.box').connect('{peer.address}') return c:eval('return 1', {{}}, {{timeout = 20}})\n")
        sock = peer.accept()
        sock.recv(1000)
        sock.sendall(data)
        if error == '':
            sock.close()
        assert b'error' in (reply := client.document()) and error.encode() in reply
        assert 2 == client.value('1 + 1')
        sock.close()

    def test_in_pieces_and_out_of_order(self, near, connect, peer):
        client = connect(near)
        client.send(f"c = require('net.box').connect('{peer.address}') a = c:eval('1', {{}}, {{is_async = true}}) "
                    "b = c:eval('2', {}, {is_async = true}) return b:wait_result(20), a:wait_result(20)\n")
        sock = peer.accept()
        data = b''
        while data.count(b'\x27') < 2:
            data += sock.recv(1000)
        answer = b''.join(frame({0: kind, 1: sync, 5: 1}, msgpack.packb({0x30: [sync]}))
                          for kind, sync in [(0, 99), (128, 2), (0, 2), (0, 1)])
        for index in range(len(answer)):
            sock.sendall(answer[index:index + 1])
        assert b'---\n- [2]\n- [1]\n...\n' == client.document()
        sock.close()


class TestEnds:
    def test_the_session_closes_its_connections(self, client, far, near, connect):
        other = connect(near)
        client.reply('shared = c')
        assert 1 == far_sessions(far)
        client.close()
        wait_for(lambda: far_sessions(far) == 0)
        assert [False, 'closed'] == other.values('shared:ping(), shared.state')
        assert 'Connection closed' in other.error("shared:eval('return 1')")
        assert not remotes(near)

    def test_a_kill_closes_it_too(self, client, far, near, connect):
        client.send("c:eval('require(\"fiber\").sleep(1000)')\n")
        wait_for(lambda: remotes(near)[0].requests._asked)
        assert 1 == connect(near).value('box.session.kill(1)')
        wait_for(lambda: far_sessions(far) == 0)

    def test_a_cancelled_statement_leaves_nothing(self, client, near):
        client.send("c:eval('require(\"fiber\").sleep(1000)')\n")
        wait_for(lambda: remotes(near)[0].requests._asked)
        client.send('\x03')
        assert b'cancelled' in client.document()
        assert not remotes(near)[0].requests._asked
        assert [1] == client.values("c:eval('return 1')")

    def test_a_connection_that_nobody_has_is_closed(self, client, far, near):
        client.reply(f"c = nil collectgarbage() collectgarbage() d = net.connect('{far.addresses[0]}')")
        wait_for(lambda: far_sessions(far) == 1)
        assert [1] == client.values("d:eval('return 1')")

    def test_the_number_of_connections_is_limited(self, client, far, near, monkeypatch):
        monkeypatch.setattr('boxsession.sessions.netbox._OPEN_MAX', 3)
        assert 'too many connections are open: 3' in client.error(
            f"(function() local all = {{}} for i = 1, 4 do all[i] = net.connect('{far.addresses[0]}') end end)()")

    def test_responses_that_nobody_takes_are_dropped(self, client, near, monkeypatch):
        monkeypatch.setattr('boxsession.sessions.netbox._HELD_MAX', 300000)
        client.reply("f = {} for i = 1, 10 do f[i] = c:eval('return (\"x\"):rep(1e5)', {}, {is_async = true}) end c:ping()")
        assert remotes(near)[0].requests._held <= 400000
        assert 'discarded' in client.values('f[1]:wait_result()')[1]
        assert [100000] == client.values('#f[10]:wait_result()[1]')

    def test_the_console_stops(self, client, far, near):
        near.stop()
        wait_for(lambda: far_sessions(far) == 0)


def test_only_who_may_do_everything_connects(console, connect):
    guest = connect(console(listen=[{'address': TEXT, 'user': 'guest'}]))
    assert 'denied' in guest.error("require('net.box')")


def test_it_blocks_no_others(client, near, connect):
    """A large result is decoded in turns."""
    other = connect(near)
    client.send("local t = c:eval('local t = {} for i = 1, 3e5 do t[i] = i end return t') return #t\n")
    ends = gevent.spawn(client.document)
    replies = 0
    while not ends.ready():
        assert 2 == other.value('1 + 1')
        replies += 1
    assert b'300000' in ends.value and replies > 5


@need('tarantool')
@pytest.mark.parametrize(('statement', 'values'), [
    ("c:eval('return 1, {a = {}}, require(\"uuid\").fromstr(...)', {'64d22e4d-ac92-4a23-899a-e59f34af5479'})",
     [1, {'a': []}, '64d22e4d-ac92-4a23-899a-e59f34af5479']),
    ("c:call('echo', {1, 'a', {2}})", [1, 'a', [2]]), ('c:ping(), c.state, c.peer_version_id', [True, 'active', 132608]),
    ("c:eval('return 2^53, 18446744073709551615ULL, -5LL')", [2**53, 2**64 - 1, -5]),
    ("select(2, pcall(c.call, c, 'nosuch')).code, select(2, pcall(c.eval, c, 'x y')).type", [33, 'LuajitError']),
    ("(function() local t = {} return c:eval('box.session.push(1) box.session.push(2) return 3', {}, "
     "{on_push = table.insert, on_push_ctx = t}), t end)()", [3, [1, 2]]),
    ("net.connect('ops:pass@' .. uri):eval('return box.session.user()')", ['ops']),
    ("net.connect('ops:bad@' .. uri).error", ["Incorrect password supplied for user 'ops'"]),
])
def test_with_tarantool(tarantool_binary, near, connect, statement, values):
    client = connect(near)
    client.reply(f"net = require('net.box') uri = '{tarantool_binary}' c = net.connect(uri)")
    assert values == client.values(f'return {statement}')
