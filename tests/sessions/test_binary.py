"""The binary protocol from outside: requests, their sync, values, rights, limits and faults."""
from __future__ import annotations

import contextlib
import json
import random
import struct
import uuid

import gevent
import msgpack
import pytest
from conftest import TEXT, need, rounds
from gevent import socket
from hypothesis import HealthCheck, given, settings, strategies
from iproto_client import (
    AUTH,
    CALL,
    CALL_16,
    DATA,
    EVAL,
    EVENT,
    ID,
    MESSAGE,
    PING,
    PUSH,
    SELECT,
    STACK,
    UNWATCH,
    WATCH,
    BinaryClient,
    colliding_keys,
)
from waiting import running, wait_for

from boxsession.scheduler.dispatcher import Dispatcher

INIT = """
box.schema.user.grant('guest', 'execute', 'universe')
box.schema.user.create('ops', {password = 'pass'}) box.schema.user.grant('ops', 'execute', 'universe')
box.schema.user.create('low', {password = 'pass'})
function echo(...) return ... end
function who() return box.session.user(), box.session.effective_user() end
tools = {add = function(a, b) return a + b end, factor = 3}
function tools:times(n) return self.factor * n end
box.schema.func.create('echo') box.schema.user.grant('low', 'execute', 'function', 'echo')
box.schema.func.create('who', {setuid = true}) box.schema.user.grant('low', 'execute', 'function', 'who')
box.schema.func.create('tools.add') box.schema.user.grant('low', 'execute', 'function', 'tools.add')
"""


@pytest.fixture
def start(console):
    """A factory of consoles with a binary listener and a text one: start(init='Lua', limits={...}, ...)."""
    def make(init='', **config):
        config['limits'] = {'drain_seconds': 0.5, **config.get('limits', {})}
        return console(listen=[{'address': TEXT, 'protocol': 'binary'}, TEXT], script=INIT + init, **config)

    return make


@pytest.fixture
def admin(connect):
    """A factory of text clients: admin(console)."""
    return lambda console: connect(console.addresses[1])


def test_the_greeting(start, connect_binary):
    console = start()
    one, two = connect_binary(console), connect_binary(console)
    first, second = one.greeting.split(b'\n')[:2]
    assert 63 == len(first) == len(second)
    name, version, kind, instance = first.split()
    assert (b'Tarantool', b'2.6.0', b'(Binary)') == (name, version, kind)
    assert uuid.UUID(instance.decode()).version == 4
    assert one.greeting[:64] == two.greeting[:64] and one.greeting[64:] != two.greeting[64:]


def test_requests(start, connect_binary):
    client = connect_binary(start())
    assert {} == client.ask(PING)
    assert [1, None, 'x'] == client.eval('return 1, nil, "x"')
    assert [] == client.eval('x = 5')
    assert [5] == client.eval('return x')
    assert [1, 'a', [1], {'k': 2}, 1.5, True, None, 7] == client.eval('return ...', 1, 'a', [1], {'k': 2}, 1.5, True,
    None, 7)
    assert [3] == client.call('tools.add', 1, 2)
    assert [12] == client.call('tools:times', 4)
    assert [[1], [2, 3], ['x']] == client.call('echo', 1, [2, 3], 'x', kind=CALL_16)
    assert [['binary', 'guest', True]] == [client.eval(
        'return box.session.type(), box.session.user(), box.session.peer() ~= nil')]
    assert {0x54: 3, 0x55: [3]} == client.ask(ID, {0x54: 3, 0x55: []})
    for space in (281, 289, 277):
        assert {0x30: []} == client.ask(SELECT, {0x10: space, 0x11: 0, 0x12: 100, 0x13: 0, 0x14: 2, 0x20: []})
    assert "Space '512' does not exist" == client.ask(SELECT, {0x10: 512, 0x20: []})[MESSAGE]
    header_of_event = (client.send(WATCH, {0x57: 'box.id'}), client.receive())[1]
    assert EVENT == header_of_event[0][0] and {0x57: 'box.id'} == header_of_event[1]
    client.send(UNWATCH, {0x57: 'box.id'})
    assert {} == client.ask(PING)


@pytest.mark.parametrize('kind', [0, 2, 3, 4, 5, 9, 11, 14, 65, 66, 200, 1000])
def test_what_is_not_there(start, connect_binary, kind):
    client = connect_binary(start())
    answer = client.ask(kind, {})
    assert f'Unknown request type {kind}' == answer[MESSAGE]
    assert 48 == answer[STACK][0][0][5]
    assert {} == client.ask(PING)


ERRORS = [
    ('error("x")', 'eval:1: x', 'LuajitError', 32), ('error({})', 'table: ', 'LuajitError', 32),
    ('error()', 'nil', 'LuajitError', 32), ('x y', "eval:1: '=' expected near 'y'", 'LuajitError', 32),
    ('box.error(box.error.NO_SUCH_USER, "u")', "User 'u' is not found", 'ClientError', 45),
    ('error(setmetatable({}, {__tostring = function() return "tt" end}))', 'tt', 'LuajitError', 32),
    ('return print', "unsupported Lua type 'function'", 'LuajitError', 32),
    ('local t = {} t.t = t return t', 'Too high nest level - 129', 'LuajitError', 32),
]


@pytest.mark.parametrize(('expression', 'message', 'kind', 'code'), ERRORS)
def test_errors(start, connect_binary, expression, message, kind, code):
    client = connect_binary(start())
    sync = client.send(EVAL, {0x27: expression, 0x21: []})
    header, answer = client.receive()
    assert 0x8000 | code == header[0] and sync == header[1]
    assert answer[MESSAGE].startswith(message)
    [detail] = answer[STACK][0]
    assert (kind, code, answer[MESSAGE], 0) == (detail[0], detail[5], detail[3], detail[4])


# An expression, the type of the response's header, and the error stack: each a type, a code, a message, a file, a line and
# further fields. As Tarantool 2.6 answers.
STACKS = [
    ("box.error(33333, 'x')", 0x8235, [('ClientError', 33333, 'Unknown error', 'eval', 1, None)]),
    ("\n\nbox.error{code = 70000, reason = 'y'}", 0x19170, [('ClientError', 70000, 'y', 'eval', 3, None)]),
    ("box.error{code = -1, reason = 'y'}", 2**32 - 1, [('ClientError', 2**32 - 1, 'y', 'eval', 1, None)]),
    ("box.error('T', 'm %d', 5)", 0x8000, [('CustomError', 0, 'm 5', 'eval', 1, {'custom_type': 'T'})]),
    ("return box.error('T', 'm')", 0x8000, [('CustomError', 0, 'm', '[C]', 2**32 - 1, {'custom_type': 'T'})]),
    ("local a, b = box.error.new(1, 'a'), box.error.new('T', 'b') local c = box.error.new(42, 'a', 'b', 'c', 'd')"
     ' a:set_prev(b) b:set_prev(c) error(a)', 0x8001,
     [('ClientError', 1, 'Illegal parameters, a', 'eval', 1, None),
      ('CustomError', 0, 'b', 'eval', 1, {'custom_type': 'T'}),
      ('ClientError', 42, "a access to b 'c' is denied for user 'd'", 'eval', 1, None)]),
]


def check_stack(client, expression, kind, stack):
    client.send(EVAL, {0x27: expression, 0x21: []})
    header, answer = client.receive()
    assert kind == header[0]
    assert stack[0][2] == answer[MESSAGE]
    assert stack == [(detail[0], detail[5], detail[3], detail[1], detail[2], detail.get(6)) for detail in answer[STACK][0]]


@pytest.mark.parametrize('case', STACKS, ids=[case[0] for case in STACKS])
def test_the_error_stack(start, connect_binary, case):
    check_stack(connect_binary(start()), *case)


@need('tarantool')
def test_the_error_stack_of_tarantool(tarantool_binary):
    with contextlib.closing(BinaryClient(tarantool_binary)) as client:
        for case in STACKS:
            check_stack(client, *case)


def test_a_stack_of_errors_has_an_end(start, connect_binary):
    client = connect_binary(start())
    client.eval('for n = 1, 300 do local e = box.error.new("T", "m") e:set_prev(last) last = e end')
    answer = client.ask(EVAL, {0x27: 'error(last)', 0x21: []})
    assert 100 == len(answer[STACK][0])


# Requests of one connection, one after the other, and their results. As in Tarantool, except that there the name is kept.
FIBERS = [
    ("local s = require('fiber').self().storage s.x = (s.x or 0) + 1 return s.x, require('fiber').name()", [1, 'main']),
    ("require('fiber').sleep(0) require('fiber').self().storage.x = 5", []),
    ("return require('fiber').self().storage.x", [None]),
    ("require('fiber').name('mine') return require('fiber').self():name()", ['mine']),
    ("return require('fiber').info()[require('fiber').id()].name", ['main']),
    ("require('fiber').self():cancel()", 'fiber is cancelled'),
    ("require('fiber').sleep(0) return 1", [1]),
    ("require('fiber').set_joinable(true) kept = require('fiber').self() kept.storage.y = 1 return kept.storage.y", [1]),
    ("return pcall(kept.join, kept)", [False, 'the fiber is not joinable']),
    ("return require('fiber').self().storage.y", [None]),
]


@pytest.mark.parametrize('recorded', [False, True])
def test_each_request_is_a_fiber_of_its_own(start, connect_binary, tmp_path, recorded):
    client = connect_binary(start(**({'audit': {'file': str(tmp_path / 'audit')}} if recorded else {})))
    assert [results for _, results in FIBERS] == [client.eval(expression) for expression, _ in FIBERS]
    client.eval("function count() local s = require('fiber').self().storage s.x = (s.x or 0) + 1 return s.x end")
    for expression in 3 * ['return count()', "count() require('fiber').sleep(0.001) return count()"]:
        client.send(EVAL, {0x27: expression, 0x21: []})
    answers = dict((header[1], body) for header, body in (client.receive() for _ in range(6)))
    assert 3 * [[1], [2]] == [answers[sync][DATA] for sync in sorted(answers)]


def test_what_is_missing_or_wrong(start, connect_binary):
    client = connect_binary(start())
    for kind, body, message in [
            (EVAL, {0x21: []}, "Missing mandatory field 'expression' in request"),
            (EVAL, {0x27: 5}, 'Invalid MsgPack - packet body'), (EVAL, {0x27: 'x', 0x21: 5},
            'Invalid MsgPack - packet body'),
            (EVAL, None, 'Invalid MsgPack - missing request body'), (CALL, {},
            "Missing mandatory field 'function name' in request"),
            (SELECT, {}, "Missing mandatory field 'space id' in request"),
            (AUTH, {}, "Missing mandatory field 'user name' in request"),
            (AUTH, {0x23: 'ops', 0x21: ['pap', 'x']}, 'Invalid MsgPack - invalid scramble size'),
            (AUTH, {0x23: 'ops', 0x21: ['chap-sha1', 5]}, 'Invalid MsgPack - authentication request body'),
            (CALL, {0x22: 'nosuch'}, "Procedure 'nosuch' is not defined"),
            (CALL, {0x22: 'string.nosuch'}, "Procedure 'string.nosuch' is not defined"),
            (CALL, {0x22: 'tools'}, 'attempt to call a table value'), (CALL, {0x22: ''}, "Procedure '' is not defined")]:
        assert message == client.ask(kind, body)[MESSAGE]
    assert {} == client.ask(PING)


@pytest.mark.parametrize(('name', 'answer'), [
    ('list', 'attempt to call a table value'), ('deep.list', 'attempt to call a table value'),
    ('deep:list', 'attempt to call a table value'), ('badly', 'attempt to call a table value'),
    ('nested', 'attempt to call a table value'), ('able', [2, 'a']), ('deep.able', [2, 'a']),
    ('number', "Procedure 'number' is not defined"), ('null', "Procedure 'null' is not defined"),
    ('ch', "Procedure 'ch' is not defined"), ('ch:is_empty', [True]), ('ch:nosuch', "Procedure 'ch:nosuch' is not defined"),
    ('id:str', "Procedure 'id:str' is not defined"),
])
def test_what_can_be_called(start, connect_binary, name, answer):
    """As Tarantool 2.6.0 answers."""
    client = connect_binary(start())
    client.eval("""
        list, number, null, ch, id = {1}, 5, box.NULL, require('fiber').channel(1), require('uuid').new()
        able = setmetatable({}, {__call = function(_, ...) return select('#', ...) + 1, ... end})
        badly, nested = setmetatable({}, {__call = 5}), setmetatable({}, {__call = able})
        deep = {list = list, able = able}""")
    assert answer == client.call(name, *(['a'] if 'able' in name else []))


class TestSync:
    def test_it_is_the_requests_own(self, start, connect_binary):
        """1,000 requests of one connection, some of which wait: each sees its own sync, before and after its wait."""
        client = connect_binary(start())
        expression = '''local before, wait = box.session.sync(), ...
            if wait > 0 then require('fiber').sleep(wait) end
            return before, box.session.sync(), coroutine.wrap(function() return box.session.sync() end)()'''
        frames, wanted = [], set()
        for number in range(1, 1001):
            sync = number * 7919
            wanted.add(sync)
            frames.append(client.frame({0: EVAL, 1: sync}, {0x27: expression, 0x21: [0.001 * (number % 5)]}))
        writer = gevent.spawn(client.sock.sendall, b''.join(frames))
        order = []
        for _ in range(1000):
            header, answer = client.receive()
            assert [header[1]] * 3 == answer[0x30]
            order.append(header[1])
        writer.get()
        assert wanted == set(order) and sorted(order) != order
        assert [0] == client.eval("local s require('fiber').create(function() s = box.session.sync() end) return s")

    def test_answers_come_in_the_order_in_which_they_are_done(self, start, connect_binary):
        client = connect_binary(start())
        slow = client.send(EVAL, {0x27: "while not go do require('fiber').sleep(0.001) end return box.session.sync()"})
        quick = client.send(EVAL, {0x27: 'go = true return box.session.sync()'})
        assert [quick, slow] == [client.receive()[0][1] for _ in range(2)]

    def test_a_push_has_it(self, start, connect_binary):
        client = connect_binary(start())
        one = client.send(EVAL, {0x27: "box.session.push(1) while not go do require('fiber').sleep(0.001) end "
                                       'box.session.push({2}) return 3'})
        two = client.send(EVAL, {0x27: 'go = true return box.session.push("x")'})
        found = [client.receive() for _ in range(5)]
        assert [(PUSH, one, [1]), (PUSH, two, ['x']), (0, two, [True]), (PUSH, one, [[2]]), (0, one, [3])] == [
            (header[0], header[1], body[0x30]) for header, body in found]

    @pytest.mark.parametrize('sync', [2**53, 2**53 + 1, 2**56, 2**63, 2**64 - 1])
    @pytest.mark.parametrize('audit', [False, True])
    def test_it_may_be_of_64_bits(self, start, connect_binary, tmp_path, sync, audit):
        client = connect_binary(start(audit={'file': str(tmp_path / 'audit')} if audit else {}))
        answers = []
        for kind, body in ((EVAL, {0x27: 'return box.session.push(1), box.session.sync(), ...', 0x21: [5]}),
                           (CALL, {0x22: 'box.session.sync'}), (CALL_16, {0x22: 'box.session.sync'}), (PING, {}),
                           (CALL, {0x22: 'nosuch'}), (EVAL, {0x27: 'error("no")'})):
            client.send(kind, body, sync=sync)
            answers += [client.receive() for _ in range(2 if not answers else 1)]     # requests may overtake each other
        assert [(PUSH, sync)] + [(0, sync)] * 4 == [(header[0], header[1]) for header, _ in answers[:5]]
        assert [[1], [True, sync, 5], [sync], [[sync]]] == [body[0x30] for _, body in answers[:4]]
        assert all(header[0] & 0x8000 and header[1] == sync for header, _ in answers[5:])

    def test_zero_is_a_number_too(self, start, connect_binary):
        client = connect_binary(start())
        client.send(EVAL, {0x27: 'return box.session.push(1), box.session.sync()'}, sync=0)
        assert [(PUSH, 0, [1]), (0, 0, [True, 0])] == [
            (header[0], header[1], body[0x30]) for header, body in (client.receive() for _ in range(2))]

    def test_nobody_pushes_without_a_request(self, start, connect_binary):
        client = connect_binary(start())
        assert [None, "Session 'binary' does not support push()"] == client.eval(
            "local a, b require('fiber').create(function() a, b = box.session.push(1) end) return a, b")


class TestValues:
    @pytest.mark.parametrize('value', [
        0, -1, 127, 128, -32, -33, 65536, 2**31, 2**53, -2**53, 2**53 + 1, 2**63, 2**64 - 1, -2**63, 0.5, -0.1, 1e100,
        1e300, '',
        'é', 'a' * 70000, True, False, None, [], [[[]]], {'a': {'b': [1]}}, {1: 'a', 100: 'b'}, [None, 1], {'x': None}])
    def test_there_and_back(self, start, connect_binary, value):
        client = connect_binary(start())
        got = client.call('echo', value)
        if value == {'x': None}:
            value = {'x': None} if got == [{'x': None}] else {}
        assert [value] == got and repr(value) == repr(got[0])

    def test_bytes_pass_unharmed(self, start, connect_binary):
        client = connect_binary(start())
        data = bytes(range(256))
        [got] = client.call('echo', data)
        assert data == got.encode(errors='surrogateescape')
        assert [256] == client.eval('return #...', data)

    def test_wide_numbers_show_themselves(self, start, connect_binary):
        client = connect_binary(start())
        assert ['9223372036854775808ULL', 'cdata', '-9223372036854775808LL'] == client.eval(
            'local a, b = ... return tostring(a), type(a), tostring(b)', 2**63, -2**63)
        assert [True, False] == client.eval('local a, b, c = ... return a == b, a == c', 2**63, 2**63, 2**63 + 1)

    @pytest.mark.parametrize(('code', 'data', 'text'), [
        (1, b'\x02\x15\x0c', '1.50'), (1, b'\x03\x1d', '-0.001'), (1, b'\x00\x0c', '0'), (1, b'\xd0\xfe\x1c', '100'),
        (2, uuid.UUID('d1f0b3ce-1111-2222-3333-444455556666').bytes, 'd1f0b3ce-1111-2222-3333-444455556666'),
        (4, struct.pack('<q', 0), '1970-01-01T00:00:00Z'),
        (4, struct.pack('<qihh', 1700000000, 500000000, 120, 0), '2023-11-15T00:13:20.5+0200'), (6, b'\x00', 'interval'),
        (1, b'\x00\xab\xcd\xef\x1c', 'extension'), (1, b'\x00' + b'\x11' * 100 + b'\x1c', 'extension'), (0, b'a',
        'extension'),
        (4, struct.pack('<q', -1), '1969-12-31T23:59:59Z'), (77, b'xyz', 'extension'), (2, b'short', 'extension'), (1,
        b'', 'extension'), (4, b'1', '1970-01-01T00:00:49Z')])
    def test_extensions(self, start, connect_binary, code, data, text):
        client = connect_binary(start())
        value = msgpack.ExtType(code, data)
        assert [value, text] == client.eval('local value = ... return value, tostring(value)', value)

    def test_the_time_of_msgpack(self, start, connect_binary):
        client = connect_binary(start())
        value = msgpack.Timestamp(1700000000, 5)
        assert [value] == client.eval('return ...', value)

    @pytest.mark.parametrize('expression', [
        'box.error{code = 0.5}', 'box.error{code = 0/0}', 'box.error{code = 2^70}', 'box.error{code = -5}',
        'box.error{code = 1, type = setmetatable({}, {__tostring = function() return print end})}',
        'box.error{reason = setmetatable({}, {__tostring = function() return 5 end})}',
        'return {[1] = 1, [true] = 2}', 'assert(box.session.push({[{1}] = 2}))', 'assert(box.session.push(print))',
        'return {[{1}] = 2}',
        'error(coroutine.create(print))'])
    def test_what_has_no_form_is_an_error_and_ends_nothing(self, start, connect_binary, expression):
        client = connect_binary(start())
        sync = client.send(EVAL, {0x27: expression})
        header, _ = client.receive()
        assert header[0] & 0x8000 and 0 <= header[0] & 0x7fff and sync == header[1]
        assert [1] == client.eval('return 1')

    def test_as_the_console_shows_them(self, start, connect_binary, admin):
        console = start()
        connect_binary(console).eval('kept = {...}', 2**64 - 1, msgpack.ExtType(1, b'\x02\x15\x0c'))
        assert b'---\n- - 18446744073709551615\n  - 1.50\n...\n' == admin(console).reply('kept')

    def test_what_serialize_says(self, start, connect_binary):
        client = connect_binary(start())
        assert [[], [1], {1: 1}, 5, []] == client.eval("""return setmetatable({a = 1}, {__serialize = 'seq'}),
            setmetatable({1, a = 2}, {__serialize = 'seq'}), setmetatable({1}, {__serialize = 'map'}),
            setmetatable({}, {__serialize = function() return 5 end}), setmetatable({}, {__serialize = 'sequence'})""")

    def test_tables(self, start, connect_binary):
        client = connect_binary(start())
        assert [[1, None, 3], {1: 1, 100: 1}, {1.5: 2}, {1: 1}, [], {}] == client.eval(
            'return {[1] = 1, [3] = 3}, {[1] = 1, [100] = 1}, {[1.5] = 2}, setmetatable({1}, {__serialize = "map"}), {}, '
            'setmetatable({}, {__serialize = "map"})')
        assert ["User 'u' is not found"] == client.eval("return box.error.new(box.error.NO_SUCH_USER, 'u')")


COLLIDING = (lambda keys: b'\xdf' + len(keys).to_bytes(4, 'big') + b''.join(
    b'\xce' + struct.pack('>I', key) + b'\xc0' for key in keys))(colliding_keys())


class TestRights:
    def test_login(self, start, connect_binary):
        client = connect_binary(start())
        client.eval('box.session.storage.kept = 1')
        assert "Incorrect password supplied for user 'ops'" == client.login('ops', 'no')
        assert ['guest'] == client.eval('return box.session.user()')
        assert client.login('ops', 'pass') is None
        assert ['ops', 'ops', 1] == client.eval(
            'return box.session.user(), box.session.effective_user(), box.session.storage.kept')
        assert "Incorrect password supplied for user 'nobody'" == client.login('nobody', 'x')
        assert client.ask(AUTH, {0x23: 'guest', 0x21: []}) == {}
        client.login('ops', 'pass')
        assert client.login('guest', '') is None
        assert ['guest'] == client.eval('return box.session.user()')
        assert "Incorrect password supplied for user 'guest'" == client.login('guest', 'x')
        assert "Incorrect password supplied for user 'admin'" == client.login('admin', '')
        assert ['guest'] == client.eval('return box.session.user()')

    @pytest.mark.parametrize(('change', 'denied'), [
        ("disable('guest')", True), ("revoke('guest', 'usage', 'universe')", True),
        ("revoke('guest', 'session', 'universe')", False)])
    def test_guest_may_do_nothing_but_others_log_in(self, start, connect_binary, change, denied):
        client = connect_binary(start(f'box.schema.user.{change}'))
        assert {} == client.ask(PING)
        assert client.eval('return 1') == ("Usage access to universe '' is denied for user 'guest'" if denied else [1])
        assert client.call('echo', 1) == ("Usage access to function 'echo' is denied for user 'guest'" if denied else [1])
        assert client.login('ops', 'pass') is None
        assert ['ops'] == client.eval('return box.session.user()')
        assert {} == client.ask(AUTH, {0x23: 'guest', 0x21: []})
        assert client.login('ops', 'pass') is None
        expected = None if 'usage' in change else "Session access to universe '' is denied for user 'guest'"
        assert expected == client.login('guest', '')

    def test_a_users_own_listener_is_not_closed_by_disabling_the_user(self, console, connect_binary):
        client = connect_binary(console(listen=[{'address': TEXT, 'protocol': 'binary', 'user': 'low'}],
                                        script=INIT + "box.schema.user.disable('low')"))
        assert "Usage access to function 'echo' is denied for user 'low'" == client.call('echo', 1)
        assert "Session access to universe '' is denied for user 'low'" == client.login('low', 'pass')
        assert client.login('ops', 'pass') is None
        assert [1] == client.call('echo', 1)

    def test_guest_logs_in_without_a_password_or_with_an_empty_one(self, start, connect_binary):
        client = connect_binary(start())
        for arguments in ([], ['chap-sha1', client.scramble('')]):
            assert client.login('ops', 'pass') is None
            assert {} == client.ask(AUTH, {0x23: 'guest', 0x21: arguments})
            assert ['guest'] == client.eval('return box.session.user()')
        assert "Incorrect password supplied for user 'guest'" == client.login('guest', 'x')
        for user, arguments, message in (('guest', ['', ''], 'invalid scramble size'),
                                         ('guest', ['chap-sha1', ''], 'invalid scramble size'),
                                         ('ops', [], 'authentication request body'),
                                         ('low', ['chap-sha1', client.scramble('')], None)):
            found = client.ask(AUTH, {0x23: user, 0x21: arguments})[MESSAGE]
            assert found == (f'Invalid MsgPack - {message}' if message else "Incorrect password supplied for user 'low'")

    def test_who_may_not_evaluate(self, start, connect_binary):
        client = connect_binary(start())
        assert client.login('low', 'pass') is None
        answer = client.ask(EVAL, {0x27: 'return 1', 0x21: []})
        assert "Execute access to universe '' is denied for user 'low'" == answer[MESSAGE]
        [detail] = answer[STACK][0]
        assert ('AccessDeniedError', 42, {'access_type': 'Execute', 'object_type': 'universe', 'object_name': ''}) == (
            detail[0], detail[5], detail[6])
        assert [1, [2]] == client.call('echo', 1, [2])
        assert ['low', 'admin'] == client.call('who')
        assert [3] == client.call('tools.add', 1, 2)
        for name in ('nosuch', 'tools.factor', 'box.session.user', 'tools:times', 'print', 'echo.x'):
            assert f"Execute access to function '{name}' is denied for user 'low'" == client.call(name)

    def test_what_comes_behind_a_login_waits_for_it(self, start, connect_binary):
        client = connect_binary(start())
        client.send(AUTH, {0x23: 'ops', 0x21: ['chap-sha1', client.scramble('wrong')]})
        client.send(AUTH, {0x23: 'ops', 0x21: ['chap-sha1', client.scramble('pass')]})      # waits
        client.send(EVAL, {0x27: 'return box.session.user()'})
        answers = [client.receive() for _ in range(3)]
        assert [1, 2, 3] == [header[1] for header, _ in answers]
        assert ['ops'] == answers[2][1][0x30]

    def test_nobody_fills_the_memory_before_a_login_is_done(self, start, connect_binary, admin):
        console = start()
        client, text = connect_binary(console), admin(console)
        for password in ('wrong', 'pass'):
            client.send(AUTH, {0x23: 'ops', 0x21: ['chap-sha1', client.scramble(password)]})
        ping = client.frame({0: PING, 1: 3})
        flood = gevent.spawn(client.sock.sendall, ping * 2000000)
        taken = 0
        while (shown := text.value("box.session.list({type = 'binary'})[1]"))['user'] == 'guest':
            taken = max(taken, shown['bytes_in'])
        assert 1000000 < taken < 2000000
        assert MESSAGE in client.receive()[1]
        assert [2, 3, 3] == [client.receive()[0][1] for _ in range(3)]
        flood.kill()

    def test_rights_come_before_arguments(self, start, connect_binary):
        client = connect_binary(start())
        client.login('low', 'pass')
        assert "Execute access to function 'x' is denied for user 'low'" == client.call('x', *[[]] * 200000)

    @pytest.mark.parametrize('body', ['argument', 'unknown key', 'keys', 'header'])
    @pytest.mark.parametrize('kind', [CALL, EVAL, AUTH, ID, WATCH])
    def test_nothing_is_made_of_what_comes_before_a_login(self, start, connect_binary, kind, body):
        """Keys that a dict of Python's would have to look for long, several times."""
        client = connect_binary(start("box.schema.user.revoke('guest', 'execute', 'universe')"))
        keys = COLLIDING
        head = bytes([0x82, 0, kind, 1, 9])
        name = {CALL: b'\x22', EVAL: b'\x27', AUTH: b'\x23'}.get(kind, b'\x57') + b'\xa1x'
        payload = {'argument': head + b'\x82' + name + b'\x21\x91' + keys,
                   'unknown key': head + b'\x82' + name + b'\x7f' + keys, 'keys': head + keys,
                   'header': bytes([0x83, 0, kind, 1, 9, 0x7f]) + keys + b'\x81' + name}[body]
        client.sock.sendall((b'\xce' + len(payload).to_bytes(4, 'big') + payload) * 3)
        for _ in range(3):
            client.receive()
        assert {} == client.ask(PING)

    def test_triggers(self, start, connect_binary, admin):
        console = start('''told = {}
            for _, event in ipairs{'on_connect', 'on_auth', 'on_disconnect', 'on_access_denied'} do
                box.session[event](function(...)
                    if box.session.type() == 'binary' then
                        table.insert(told, {event, box.session.user(), box.session.effective_user(), ...})
                    end
                end)
            end''')
        client = connect_binary(console)
        client.login('low', 'pass')
        client.eval('return 1')
        client.close()
        text = admin(console)
        wait_for(lambda: console.sessions and len(console.sessions) == 1)
        assert [['on_connect', 'guest', 'admin'], ['on_auth', 'guest', 'admin', 'low', True],
                ['on_access_denied', 'low', 'admin', 'Execute', 'universe', None], ['on_disconnect', 'low', 'admin']
                ] == text.value('told')

    def test_nothing_runs_before_on_connect_has_ended(self, start, connect_binary, admin):
        console = start('''box.session.on_connect(function()
            if box.session.type() == 'binary' then require('fiber').sleep(0.1) error('go away', 0) end
        end)''')
        client = connect_binary(console)
        client.send(EVAL, {0x27: 'ran = true'})
        header, answer = client.receive()
        assert 'go away' in answer[MESSAGE] and client.at_end()
        assert admin(console).value('ran') is None

    def test_on_connect_that_refuses(self, start, connect_binary):
        client = connect_binary(start("box.session.on_connect(function() error('go away', 0) end)"))
        header, answer = client.receive()
        assert 0x8020 == header[0] and 'go away' in answer[MESSAGE]
        assert client.at_end()


class TestLimitsAndFaults:
    def test_an_endless_request_stops_nobody(self, start, connect_binary, admin):
        console = start()
        client, text = connect_binary(console), admin(console)
        sync = client.send(EVAL, {0x27: 'while true do end'})
        assert {} == client.ask(PING)
        assert [5] == client.eval('return 5')
        [shown] = text.value("box.session.list({type = 'binary'})")
        assert 'while true do end' == shown['statement'] and 'running' == shown['state']
        assert text.value(f"box.session.cancel({shown['id']})") is True
        header, answer = client.receive()
        assert sync == header[1] and 'the statement was cancelled by session' in answer[MESSAGE]
        assert [6] == client.eval('return 6')

    def test_requests_that_wait_for_their_turn_make_no_crowd(self, start, connect_binary, admin):
        console = start(limits={'slice_ms': 5})
        spinning = [admin(console) for _ in range(3)]
        for text in spinning:
            text.send('while true do end\n')
        client = connect_binary(console)
        client.sock.sendall(client.frame({0: EVAL, 1: 1}, {0x27: 'return 1', 0x21: []}) * 50)
        seen = 0
        for _ in range(50):
            client.receive()
            seen = max(seen, len(console._running.runtime.state.tasks))
        assert seen < 10

    def test_a_request_that_is_too_long_is_counted(self, start, connect_binary, admin):
        console = start(limits={'request_bytes': 1000})
        client, text = connect_binary(console), admin(console)
        client.send(EVAL, {0x27: '-' * 1000})
        assert 'limits.request_bytes' in client.receive()[1][MESSAGE]
        assert 1 == text.value('box.info.limits.request_bytes.hits')

    def test_a_cancel_while_arguments_are_read(self, start, connect_binary, admin):
        console = start(limits={'request_bytes': 0})
        client, text = connect_binary(console), admin(console)
        client.send(EVAL, {0x27: 'while true do end', 0x21: [msgpack.ExtType(1,
        b'\x00' + b'\x11' * 3000000 + b'\x1c')] * 4})

        wait_for(lambda: running(console))
        while running(console):
            text.reply("for _, s in ipairs(box.session.list{type = 'binary'}) do box.session.cancel(s.id) end")
        assert 'cancelled' in client.receive()[1][MESSAGE]
        assert [1] == client.eval('return 1')

    def test_what_is_said_before_a_wait_arrives_then(self, start, connect_binary):
        client = connect_binary(start())
        client.send(EVAL, {0x27: "box.session.push(('x'):rep(8e6)) require('fiber').sleep(1000)"})
        header, body = client.receive()
        assert PUSH == header[0] and 8000000 == len(body[0x30][0])

    def test_pushes_that_nobody_reads(self, start, connect_binary, admin):
        console = start(limits={'send_seconds': 0.3})
        client, text = connect_binary(console), admin(console)
        client.send(EVAL, {0x27: "for i = 1, 1000 do box.session.push(('x'):rep(1e6)) end"})
        wait_for(lambda: len(console.sessions) == 1)
        assert 1 == text.value('box.info.limits.send_seconds.hits')

    def test_a_cancel_is_not_the_next_requests(self, start, connect_binary, admin):
        console = start()
        client, text = connect_binary(console), admin(console)
        client.send(EVAL, {0x27: 'while true do end'})
        wait_for(lambda: text.value("#box.session.list({type = 'binary', state = 'running'})") == 1)
        text.reply("box.session.cancel(box.session.list({type = 'binary'})[1].id)")
        assert 'cancelled' in client.receive()[1][MESSAGE]
        many = list(range(5000))
        assert [many] == client.eval('return ...', many)

    def test_seconds(self, start, connect_binary):
        client = connect_binary(start(limits={'statement_seconds': 0.1}))
        assert 'it ran for 0.1 seconds (limits.statement_seconds)' in client.eval('while true do end')
        assert 'it ran for 0.1 seconds (limits.statement_seconds)' in client.eval("require('fiber').sleep(100)")
        assert [1] == client.eval('return 1')

    def test_memory(self, start, connect_binary):
        client = connect_binary(start(limits={'lua_memory_bytes': 1 << 24}))
        assert 'not enough memory (limits.lua_memory_bytes)' == client.eval(
            "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end")
        assert [1] == client.eval('return 1')

    @pytest.mark.parametrize('filled', ['return', 'raised'])
    def test_an_error_that_fills_the_memory(self, start, connect_binary, filled):
        client = connect_binary(start(limits={'lua_memory_bytes': 1 << 24}))
        client.eval("""TEXT, HELD = ('y'):rep(50000), {}
            function fill()
                for size = 4, 0, -1 do
                    while pcall(function() HELD[#HELD + 1] = ('x'):rep(10^size) .. #HELD end) do end
                end
            end
            PROBLEM = setmetatable({}, {__tostring = function() fill() return TEXT end})""")
        answer = client.eval('error(PROBLEM)' if filled == 'return' else 'fill() error(TEXT, 0)')
        assert answer in ('y' * 50000, 'not enough memory (limits.lua_memory_bytes)', 'an error that cannot be shown')
        client.eval('HELD = nil')
        assert [1] == client.eval('return 1')

    def test_a_result_that_is_too_long(self, start, connect_binary):
        client = connect_binary(start(limits={'output_bytes': 5000}))
        assert 'the result is too long: more than 5000 bytes' in client.eval("return ('x'):rep(6000)")
        assert [1] == client.eval('return 1')

    def test_requests_at_a_time(self, start, connect_binary):
        client = connect_binary(start(limits={'requests': 3}))
        for _ in range(10):
            client.send(EVAL, {0x27: '''running = (running or 0) + 1 most = math.max(most or 0, running)
                require('fiber').sleep(0.01) running = running - 1'''})
        for _ in range(10):
            client.receive()
        assert [3] == client.eval('return most')

    def test_kill(self, start, connect_binary, admin):
        console = start()
        client, text = connect_binary(console), admin(console)
        client.send(EVAL, {0x27: 'while true do end'})
        client.send(EVAL, {0x27: "require('fiber').sleep(100)"})
        wait_for(lambda: text.value("#box.session.list({type = 'binary', state = 'running'})") == 1)
        assert 1 == text.value("box.session.kill({type = 'binary'})")
        messages = []
        with pytest.raises((EOFError, ConnectionError)):
            while True:
                messages.append(client.receive()[1][MESSAGE])
        assert messages and all('killed by session' in message for message in messages)

    @pytest.mark.parametrize('how', ['close', 'reset', 'half-close'])
    def test_the_client_vanishes(self, start, connect_binary, admin, how):
        console = start('ended, waiting = 0, {} box.session.on_disconnect(function() ended = ended + 1 end)')
        client, text = connect_binary(console), admin(console)
        # Only a reset cancels what runs. A close looks like a half-close first: the requests run to their end. The triggers
        # run at once.
        for _ in range(5):
            client.send(EVAL, {0x27: "table.insert(waiting, require('fiber').self()) require('fiber').sleep(...) "
                                     'done = (done or 0) + 1 return done',
                               0x21: [1000]})
        wait_for(lambda: text.value("#box.session.list({state = 'running', type = 'binary'})") == 1)
        if how == 'reset':
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            client.close()
        elif how == 'close':
            client.close()
        else:
            client.sock.shutdown(socket.SHUT_WR)
        wait_for(lambda: text.value('ended') == 1)
        if how != 'reset':
            assert [None, 5] == text.values('done, #waiting')
            text.reply('for _, one in pairs(waiting) do one:wakeup() end')
        if how == 'half-close':
            assert [[n] for n in range(1, 6)] == [client.receive()[1][0x30] for _ in range(5)]
            assert client.at_end()
        wait_for(lambda: len(console.sessions) == 1)
        assert 1 == text.value('ended')

    @pytest.mark.parametrize('rest', [b'', b'\xce\0', b'\xce\0\0\1\0\x82'])
    def test_what_comes_before_the_end_of_input_runs(self, start, connect_binary, admin, rest):
        """Also behind a request that waits, with a part of a frame at the end."""
        console = start('ended, done = 0, 0 box.session.on_disconnect(function() ended = ended + 1 end)')
        client, text = connect_binary(console), admin(console)
        expressions = ["waiting = require('fiber').self() require('fiber').sleep(1000) return ended",
                       *50 * ['done = done + 1 return ended']]
        frames = [BinaryClient.frame({0: EVAL, 1: number}, {0x27: expression, 0x21: []})
                  for number, expression in enumerate(expressions)]
        client.sock.sendall(b''.join(frames) + rest)
        client.sock.shutdown(socket.SHUT_WR)
        wait_for(lambda: text.value('ended') == 1)
        assert 50 == text.value('done')
        text.reply('waiting:wakeup()')
        answers = dict((header[1], body[DATA]) for header, body in (client.receive() for _ in frames))
        assert [1] == answers.pop(0) and 50 * [[0]] == list(answers.values())
        assert client.at_end()
        wait_for(lambda: len(console.sessions) == 1)
        assert 1 == text.value('ended')

    @pytest.mark.parametrize('choice', ['cancel', 'finish'])
    def test_a_bad_frame_ends_the_connection_though_a_request_runs(self, start, connect_binary, admin, choice):
        console = start('ended = 0 box.session.on_disconnect(function() ended = ended + 1 end)',
                        limits={'on_disconnect': choice})
        client, text = connect_binary(console), admin(console)
        client.send(EVAL, {0x27: "waiting = require('fiber').self() require('fiber').sleep(1000) done = true", 0x21: []})
        wait_for(lambda: text.value('waiting ~= nil'))
        client.sock.sendall(b'\xc1')
        header, body = client.receive()
        assert (0x8014, 0, 'Invalid MsgPack - packet length') == (header[0], header[1], body[MESSAGE])
        assert client.at_end()
        wait_for(lambda: text.value('ended') == 1)
        if choice == 'finish':
            assert 'suspended' == text.value('waiting:status()')
            text.reply('waiting:wakeup()')
        wait_for(lambda: len(console.sessions) == 1)
        assert [1, True if choice == 'finish' else None] == text.values('ended, done')

    def test_a_lost_client_cancels_its_requests_though_its_triggers_have_run(self, start, connect_binary, admin):
        console = start('ended = 0 box.session.on_disconnect(function() ended = ended + 1 end)')
        client, text = connect_binary(console), admin(console)
        client.send(EVAL, {0x27: "while true do box.session.push(1) require('fiber').sleep(0.001) end", 0x21: []})
        wait_for(lambda: text.value("#box.session.list({state = 'running', type = 'binary'})") == 1)
        client.close()
        wait_for(lambda: len(console.sessions) == 1)
        assert 1 == text.value('ended')

    def test_a_client_that_never_reads(self, start, connect_binary, admin):
        console = start(limits={'send_seconds': 0.3})
        client, text = connect_binary(console), admin(console)
        for _ in range(20):
            client.send(EVAL, {0x27: "return ('x'):rep(3e6)"})
        assert 2 == text.value('1 + 1')
        wait_for(lambda: len(console.sessions) == 1)

    def test_drain(self, start, connect_binary):
        console = start(limits={'drain_seconds': 30})
        client = connect_binary(console)
        sync = client.send(EVAL, {0x27: "require('fiber').sleep(0.2) return 7"})
        wait_for(lambda: running(console))
        stopping = gevent.spawn(console.stop)
        header, answer = client.receive()
        assert (sync, [7]) == (header[1], answer[0x30])
        assert client.at_end()
        stopping.get(timeout=30)

    def test_audit(self, start, connect_binary, tmp_path):
        client = connect_binary(start(audit={'file': str(tmp_path / 'audit')}))
        client.login('ops', 'pass')
        client.eval("error('no', 0)")
        client.call('echo', 1)
        entries = [json.loads(line) for line in (tmp_path / 'audit').read_text().splitlines()]
        assert [('start', None, None), ('login', None, None), ('statement', "error('no', 0)", 'no'),
                ('statement', 'echo', None)] == [
            (entry['event'], entry.get('statement'), entry.get('error')) for entry in entries]

    def test_what_failed_on_its_way_is_recorded(self, start, connect_binary, tmp_path):
        console = start(audit={'file': str(tmp_path / 'audit')})
        client = connect_binary(console)
        client.send(EVAL, {0x27: "for i = 1, 400 do box.session.push(('x'):rep(1e6)) end"})
        client.read(100)
        client.reset()
        wait_for(lambda: not console.sessions)
        entries = [json.loads(line) for line in (tmp_path / 'audit').read_text().splitlines()]
        assert ['start', 'statement', 'end'] == [entry['event'] for entry in entries]
        assert not entries[1]['ok'] and entries[1]['error']

    def test_a_tight_pipeline(self, start, connect_binary):
        client = connect_binary(start())
        count = 5000
        data = b''.join(client.frame({0: EVAL, 1: n}, {0x27: 'return ...', 0x21: [n]}) for n in range(count))
        writer = gevent.spawn(client.sock.sendall, data)
        seen = set()
        for _ in range(count):
            header, answer = client.receive()
            assert [header[1]] == answer[0x30]
            seen.add(header[1])
        assert set(range(count)) == seen
        writer.get()


DEEP = b'\x91' * 10000 + b'\xc0'
FRAMES = {
    'no length': b'\xff\xff\xff', 'a length over the limit': b'\xce\xff\xff\xff\xff',
    'a length of 64 bits': b'\xcf' + b'\xff' * 8,
    'an empty frame': b'\x00', 'no map': b'\x01\x01', 'a map cut off': b'\x02\x82\x00',
    'a type that is text': b'\x05\x81\x00\xa2xx',
    'a sync below zero': b'\x05\x82\x00\x40\x01\xff', 'a key that is text': b'\x04\x81\xa1x\x01',
    'garbage': b'\x02\xc1\xc1',
    'nested deep': b'\xce' + len(DEEP).to_bytes(4, 'big') + DEEP,
}
BODIES = {
    'no map': b'\x01', 'a map cut off': b'\x82\x27', 'more than a map': b'\x80\x80', 'nested deep': b'\x81\x21' + DEEP,
    'garbage': b'\xc1', 'keys of all kinds': msgpack.packb({0x27: 'x', 'a': 1, 1.5: 2, b'x': 3, -1: None}),
    'a key that is a list': b'\x81\x91\x01\x01', 'an argument with a key that is nan': msgpack.packb(
        {0x27: 'return 1', 0x21: [{float('nan'): 1}]}), 'an argument with no key': msgpack.packb({0x27: 'return 1',
        0x21: [{None: 1}]}),
}


@pytest.mark.parametrize('name', FRAMES)
def test_what_is_no_frame_ends_only_its_connection(start, connect_binary, name):
    console = start()
    client, other = connect_binary(console), connect_binary(console)
    client.sock.sendall(FRAMES[name])
    header, answer = client.receive()
    assert 0x8014 == header[0]
    assert answer[MESSAGE].startswith(('Invalid MsgPack - ', 'the request is too long: '))
    assert client.at_end()
    assert {} == other.ask(PING)


@pytest.mark.parametrize('frame', [b'\x03\x81\xa1a\x05', b'\xff', b'\xce\xff\xff\xff\xff'])
def test_the_answer_is_not_lost_behind_what_is_sent_on(start, connect_binary, frame):
    client = connect_binary(start())
    client.sock.sendall(frame + b'x' * 300000)
    client.sock.sendall(client.frame({0: PING, 1: 2}) * 1000)
    header, _ = client.receive()
    assert 0x8014 == header[0]
    client.sock.sendall(client.frame({0: PING, 1: 2}))
    assert client.sock.recv(1) == b''


def test_keys_that_collide_let_others_in(start, connect_binary):
    """Arguments and results of a client that may call the function."""
    console = start(limits={'slice_ms': 5})
    client, other = connect_binary(console), connect_binary(console)
    other.ask(PING)
    payload = b'\x82\x00\x0a\x01\x09\x82\x22\xa4echo\x21\x91' + COLLIDING
    client.sock.sendall(b'\xce' + len(payload).to_bytes(4, 'big') + payload)
    answers, answer = 0, gevent.spawn(client.read, 1 << 18)
    while not answer.ready():
        assert {} == other.ask(PING)
        answers += 1
    assert answers > 5 and answer.get()[5:].startswith(b'\x83\x00\x00\x01\x09\x05\x01\x81\x30\x91\xdf')


def test_an_error_is_not_longer_than_its_like(start, connect_binary):
    client = connect_binary(start())
    assert 511 == len(client.eval("box.error{code = 1, reason = ('x'):rep(5e6)}"))          # as in Tarantool
    for expression in ("error(('x'):rep(5e6))",
                       "error(setmetatable({}, {__tostring = function() return ('x'):rep(5e6) end}))"):
        assert (1 << 16) + 3 == len(client.eval(expression))
    assert 'the code is too long' in client.eval('x' * 200000)


@pytest.mark.parametrize('name', BODIES)
def test_what_is_no_request_ends_nothing(start, connect_binary, name):
    client = connect_binary(start())
    payload = msgpack.packb({0: EVAL, 1: 9}) + BODIES[name]
    client.sock.sendall(b'\xce' + len(payload).to_bytes(4, 'big') + payload)
    header, _ = client.receive()
    assert header[0] & 0x8000 and 9 == header[1]
    assert {} == client.ask(PING)


def test_a_frame_byte_by_byte(start, connect_binary):
    client = connect_binary(start())
    for byte in client.frame({0: EVAL, 1: 5}, {0x27: 'return 5'}):
        client.sock.sendall(bytes([byte]))
        gevent.sleep(0)
    assert 5 == client.receive()[0][1]


def test_from_a_text_console_of_the_same_server(start, connect_binary, admin):
    console = start()
    client, text = connect_binary(console), admin(console)
    client.eval('shared = 1')
    assert 1 == text.value('shared')
    assert {'console', 'binary'} == {shown['type'] for shown in text.value('box.session.list()')}


@need('tarantool')
def test_answers_as_tarantool_does(start, connect_binary, tarantool_binary):
    """The same requests to a real Tarantool get the same responses, except for file and line of errors."""
    ours, theirs = connect_binary(start()), connect_binary(tarantool_binary)

    def plain(answer):
        header, body = answer
        for detail in body.get(STACK, {}).get(0, []):
            detail[1] = detail[2] = None
        return header[0], header[1], body
    requests = [(PING, None), (PING, {}), *((EVAL, {0x27: expression, 0x21: []}) for expression, *_ in ERRORS
                                           if 'error({})' not in expression)]
    requests += [(EVAL, {0x27: 'return ...', 0x21: values}) for values in
                 ([], [1, 'a', None, [1], {'k': 2}, 1.5, True], [2**63, -2**63, 2**53, 1e100], [[None, 1], []])]
    requests += [(kind, {0x22: name, 0x21: arguments}) for kind in (CALL, CALL_16) for name, arguments in (
        ('echo', [1, 2]), ('echo', []), ('echo', [[1, 2]]), ('nosuch', []), ('math.abs', [-3]), ('string:x', []), ('', []),
        ('error', ['boom']), ('box.session.sync', []), ('box.session.nosuch', []))]
    requests += [(EVAL, None), (EVAL, {}), (EVAL, {0x27: 5}), (EVAL, {0x27: 'x', 0x21: 5}), (CALL, {}), (SELECT, {}),
    (AUTH, {}),
                 (SELECT, {0x10: 512, 0x11: 0, 0x12: 1, 0x13: 0, 0x14: 2, 0x20: []}), (14, {}), (200, {}),
                 (AUTH, {0x23: 'guest', 0x21: []}), (AUTH, {0x23: 'ops', 0x21: ['chap-sha1', 'x']})]
    for kind, body in requests:
        ours.send(kind, body, sync=77)
        theirs.send(kind, body, sync=77)
        want, got = plain(theirs.receive()), plain(ours.receive())
        assert want == got, (kind, body)
    for client in (ours, theirs):
        client.send(EVAL, {0x27: 'box.session.push({5}) return 6', 0x21: []}, sync=78)
    for _ in range(2):
        assert plain(theirs.receive()) == plain(ours.receive())


# Kinds of requests of a batch: the expression, and the number of values of the response (None: an error). The first value
# is the number of times that the request ran.
WAYS = {
    'at once': ('return ran(...)', 1),
    'nothing': ('ran(...)', 0),
    'waits': ("local n = ran(...) require('fiber').sleep(0.001) return n", 1),
    'loses its turn': ('local n = ran(...) local t = os.clock() while os.clock() - t < 0.003 do end return n', 1),
    'raises': ('ran(...) error("no")', None),
    'raises an object': ('ran(...) box.error{code = 7, reason = "no"}', None),
    'is no program': ('ran(', None),
    'wants all memory': ('ran(...) local s = "x" while true do s = s .. s end', None),
    'gives what is not told in short': ('return ran(...), ("x"):rep(5000)', 2),
    'gives an object': ("return ran(...), require('uuid').new()", 2),
    'pushes': ('local n = ran(...) box.session.push(n) return n', 1),
    'changes its environment': ('local n = ran(...) setfenv(1, {}) return n', 1),
    'changes its environment and raises': ('local n = ran(...) setfenv(1, {ran = ran, error = error}) error(n)', None),
    'calls the server': ('local n = ran(...) box.session.list() return n', 1),
}


@settings(max_examples=rounds(12, 200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=strategies.data())
def test_each_request_of_a_batch_runs_once_and_is_answered_once(start, connect_binary, data):
    ways = data.draw(strategies.lists(strategies.sampled_from(sorted(WAYS)), min_size=1, max_size=80))
    console = start('times = {} '
                    'function ran(n) times[n] = (times[n] or 0) + 1 return box.session.sync() == n and times[n] end',
                    limits={'slice_ms': 1, 'lua_memory_bytes': 40_000_000})
    client = connect_binary(console)
    # Numbers of all widths, so that each request knows its own.
    syncs = [number * 1021 + 1 for number in range(len(ways))]
    sent = list(zip(syncs, ways, strict=True))
    frames = [client.frame({0: EVAL, 1: sync}, {0x27: WAYS[way][0], 0x21: [sync]}) for sync, way in sent]
    client.sock.sendall(b''.join(frames))
    answers, pushes = {}, {}
    while len(answers) < len(ways):
        header, body = client.receive()
        if header[0] == PUSH:
            pushes[header[1]] = body[0x30]
        else:
            assert header[1] not in answers
            answers[header[1]] = (header[0], body)
    for sync, way in sent:
        kind, body = answers[sync]
        if WAYS[way][1] is None:
            assert kind >= 0x8000, way
        else:
            assert kind == 0 and body[0x30][:1] == [1][:WAYS[way][1]] and len(body[0x30]) == WAYS[way][1], (way, body)
    assert {sync: [1] for sync, way in sent if way == 'pushes'} == pushes
    client.send(EVAL, {0x27: 'local t = {} for n, k in pairs(times) do t[#t + 1] = {n, k} end return t', 0x21: []})
    header, body = client.receive()
    assert {sync: 1 for sync, way in sent if way != 'is no program'} == dict(body[0x30][0])
    client.close()
    console.stop()


def test_what_runs_is_shown_also_of_a_batch(start, connect_binary, admin):
    console = start()
    client, watcher = connect_binary(console), admin(console)
    client.sock.sendall(client.frame({0: EVAL, 1: 1}, {0x27: 'return 1', 0x21: []})
                        + client.frame({0: EVAL, 1: 2}, {0x27: "require('fiber').sleep(100)", 0x21: []})
                        + client.frame({0: EVAL, 1: 3}, {0x27: 'return 3', 0x21: []}))
    assert [1, 3] == [client.receive()[0][1] for _ in range(2)]
    [shown] = watcher.value("box.session.list({type = 'binary'})")
    assert ("require('fiber').sleep(100)", 'running', 2) == (shown['statement'], shown['state'], shown['statements'])


def test_answers_are_not_mixed_where_the_client_takes_them_slowly(start, connect_binary, monkeypatch):
    server = start()
    rejoin = Dispatcher.rejoin

    def rejoin_late(dispatcher):
        if not dispatcher.turns.is_running:
            gevent.sleep(0.05)              # many others run first
        rejoin(dispatcher)
    monkeypatch.setattr(Dispatcher, 'rejoin', rejoin_late)
    client = connect_binary(server)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    rng = random.Random(1)
    wanted = {}
    for number in range(100):
        size = rng.choice([100, 1 << 16, 1 << 19])
        sync = client.send(EVAL, {
            0x27: 'local wait, head, size = ... require("fiber").sleep(wait) return head .. ("x"):rep(size)',
            0x21: [rng.random() * 0.5, f'{number} ', size]})
        wanted[sync] = f'{number} ' + 'x' * size
    for _ in range(100):
        gevent.sleep(0.005)             # the client takes its time
        header, body = client.receive()
        assert body[DATA] == [wanted.pop(header[1])]
