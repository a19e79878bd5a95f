"""The Lua state: functions that are withheld from users, statements that crashed a bare Lua, and the rules that keep lupa
safe under greenlets."""
from __future__ import annotations

import os

import gevent
import pytest
from conftest import BINARY, TEXT
from iproto_client import EVAL
from runtimes import new_runtime
from waiting import wait_for

from boxsession.base.session import Session
from boxsession.scheduler.turns import Account


@pytest.fixture
def client(console, connect):
    return connect(console())


@pytest.mark.parametrize('name', [
    'io', 'package', 'module', 'dofile', 'loadfile', 'newproxy', 'python', 'os.exit', 'os.execute', 'os.remove',
    'os.rename', 'os.tmpname', 'os.setlocale', 'string.dump', 'debug.sethook', 'debug.getregistry',
    'debug.getupvalue', 'debug.setupvalue', 'debug.setmetatable', 'debug.getmetatable', 'debug.getinfo', 'debug.getlocal',
    'debug.setlocal', 'debug.debug', 'debug.getfenv', 'debug.setfenv', 'debug.gethook'])
def test_withheld(client, name):
    assert [None] == client.values(name)

def test_setenv_leaves_the_process_alone(client):
    """The program's environment, which its children get, is not the statements' to change."""
    client.reply("os.setenv('BOXSESSION_OWN', 'x') os.setenv('PATH', 'x')")
    assert ['x', 'x'] == client.values("os.getenv('BOXSESSION_OWN'), os.getenv('PATH')")
    assert 'BOXSESSION_OWN' not in os.environ and 'x' != os.environ['PATH']


@pytest.mark.parametrize('statement', [
    'loadstring("\\27Lua")', 'load("\\27Lua")',
    'local first = true load(function() if first then first = false return "\\27" end end)'])
def test_bytecode_is_not_loaded(client, statement):
    values = client.values(statement)
    assert values is None or values[0] is None and ('binary' in values[1] or 'unexpected' in values[1])


# Each crashed, hung or froze a bare Lua 5.1 under lupa.
@pytest.mark.parametrize('statement', [
    'unpack({}, -2^31, 2^31 - 1)', 'unpack({}, 1, 2^31)', 'unpack({}, -1e308, 1e308)', 'unpack({}, 0/0, 1)',
    'table.insert({}, -2^31, 1)', 'table.insert({}, 2^31, 1)',
    '("a"):find(("a?"):rep(200000))', '("a"):match(("a?"):rep(200000))', '("a"):gsub(("a?"):rep(200000), "")',
    'for x in ("a"):gmatch(("a?"):rep(200000)) do end', '("("):rep(200000)', 'loadstring(("("):rep(60000))',
    'loadstring("x = " .. ("{"):rep(60000))',
    'function f() return 1 + f() end f()', 'function g() return pcall(g) end g()',
    'local t = setmetatable({}, {}) getmetatable(t).__index = function(_, k) return t[k] end return t.x',
    'local function f(x) return (string.gsub("x", "x", f)) end f("x")',
    'local function f() table.sort({1, 2, 3}, f) end f()',
    'local co co = coroutine.wrap(function() co() end) co()',
    'local function f() return coroutine.wrap(f)() end f()',
    'local t = {} for i = 1, 10000 do t = setmetatable({}, {__index = t}) end return t.x',
    'tostring(setmetatable({}, {__tostring = function(t) return tostring(t) end}))',
    '(" "):rep(100):format()', '("%99999d"):format(1)', '("%s"):rep(300):format()',
    'string.char(-1)', 'table.concat({}, "x", -2^31, 2^31 - 1)', 'select(-2^31, 1)', 'select(2^31, 1)',
    'next({}, 1)', 'rawset(_G, nil, 1)', 'setmetatable(_G, {__index = error}).x',
    'getmetatable("").__index.x.y', 'coroutine.resume(coroutine.running() or coroutine.create(print))',
    'collectgarbage("stop")', 'collectgarbage("setpause", 0)',
    'os.date(("%Y"):rep(1000))', 'os.date("*t", 1e300)', 'os.time({year = 2^31, month = 1, day = 1})',
    'error(nil)', 'error({})', 'coroutine.yield()', 'coroutine.wrap(coroutine.yield)()',
    'xpcall(error, function() error("again") end)', 'xpcall(1, 2)', 'pcall(1)',
])
def test_what_crashed_or_hung_is_answered(console, connect, statement):
    served = console()
    client = connect(served)
    assert client.reply(statement).endswith(b'\n...\n')
    client.reply('setmetatable(_G, nil)')
    assert 2 == client.value('1 + 1')
    assert 3 == connect(served).value('1 + 2')


def test_a_strict_global_table_breaks_nothing(client):
    client.reply('setmetatable(_G, {__index = function(_, k) error("undeclared " .. k, 2) end, '
                 '__newindex = function(_, k) error("undeclared " .. k, 2) end})')
    assert 'undeclared nosuch' in client.error('nosuch')
    assert 2 == client.value('1 + 1')
    assert [1, 'x'] == client.values('1, "x"')
    client.reply('setmetatable(_G, nil)')


@pytest.mark.parametrize('damage', [
    'string = nil', 'table = nil', 'pcall = nil', 'error = nil', 'tostring = error', 'type = nil', 'next = nil',
    'string.format = error', 'string.sub = error', 'table.concat = error', 'getmetatable = nil', 'select = nil',
    'for k in pairs(string) do string[k] = nil end', 'for k in pairs(_G) do _G[k] = nil end'])
def test_a_user_who_takes_the_library_away_breaks_only_the_users(console, connect, damage):
    served = console()
    client = connect(served)
    client.reply(damage)
    assert [2, 'it is', {'a': [1, 2]}] == client.values('1 + 1, "it is", {a = {1, 2}}')
    assert client.error('nosuch()')
    assert [True] == client.values('\\set output yaml')
    assert 2 == connect(served).value('1 + 1')


def test_the_strings_metatable_is_read_only(client):
    assert [True] == client.values('getmetatable("").__index == string')
    client.reply('getmetatable("").__index = nil')
    assert 'AB' == client.value('("ab"):upper()')
    client.reply('function string.shout(s) return s:upper() .. "!" end')
    assert 'AB!' == client.value('("ab"):shout()')


def test_no_python_object_is_reachable(console, connect):
    client = connect(console(expose={'add': lambda a, b: a + b, 'data': {'list': [1, {'x': 2}]}}))
    kinds = client.value('''
        local kinds, seen = {}, {}
        local function walk(value)
            kinds[type(value)] = true
            if type(value) == 'function' then walk(getfenv(value)) end
            if type(value) == 'table' and not seen[value] then
                seen[value] = true
                walk(getmetatable(value))
                for k, v in pairs(value) do walk(k) walk(v) end
            end
        end
        walk(_G)
        local list = {}
        for k in pairs(kinds) do list[#list + 1] = k end
        table.sort(list)
        return list'''.replace('\n', ' '))
    assert set(kinds) <= {'boolean', 'cdata', 'function', 'nil', 'number', 'string', 'table'}
    assert {'cdata', 'function', 'table'} <= set(kinds)
    for expression in ('pcall(add, {}, 1)', 'pcall(add, add, 1)', 'pcall(box.session.push)'):
        _, message = client.values(f'select(2, {expression}), type(select(2, {expression}))')
        assert 'string' == message


class TestCoroutines:
    def test_they_work_as_ever(self, client):
        assert [1, 2, 3] == client.value(
            'local t = {} for v in coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) do '
            't[#t + 1] = v end return t')
        assert [True, 1, 'suspended'] == client.values(
            'local co = coroutine.create(function() coroutine.yield(1) end) local ok, v = coroutine.resume(co) '
            'return ok, v, coroutine.status(co)')
        assert 'cannot resume dead coroutine' in client.error('f = coroutine.wrap(function() end) f() f()')

    def test_a_sessions_own_cannot_be_touched(self, client):
        assert [None] == client.values('coroutine.running()')
        assert 'yield' in client.error('coroutine.yield(1)')

    def test_one_that_waits_in_another_session_cannot_be_resumed(self, console, connect):
        served = console()
        first, second = connect(served), connect(served)
        first.send('co = coroutine.create(function() require("fiber").sleep(1000) end) coroutine.resume(co)\n')
        wait_for(lambda: second.values('co') != [None])
        assert [False] == second.values('(coroutine.resume(co))')
        assert isinstance(second.value('debug.traceback(co)'), str)
        first.send(b'\x03')
        assert b'cancelled' in first.document()


class TestErrors:
    def test_a_replaced_function_blames_the_users_line(self, client):
        assert '[string "local x = string.rep()"]:1: bad argument' in client.error('local x = string.rep()')
        assert client.error('local x = ("x"):find({})').startswith('[string "local x = ("x"):find({})"]:1: bad arg')
        assert "bad argument #1 to '?' (table expected, got nil)" in client.error('local x = unpack(nil)')

    def test_no_path_of_ours_is_told(self, client):
        for statement in ('pcall()', 'xpcall()', 'coroutine.create(1)', 'string.rep({}, 1)', 'require("nosuch")',
                          'box.session.push()', 'require("fiber").sleep("x")', 'error("x", 3)',
                          'setmetatable({}, {__index = error}).x', '("x"):gsub("x", error)', 'unpack({}, {})'):
            assert 'builtin' not in client.error(f'local x = {statement}')

    def test_setfenv_stays_with_its_statement(self, console, connect):
        served = console()
        first, second = connect(served), connect(served)
        statement = 'setfenv(1, {}) return print'
        assert [None] == first.values(statement)
        first.reply('x = 1')
        for client in (first, second, first):
            assert [1] == client.values('x')
            assert client.values('setfenv(1, {x = 2}) return x') == [2]


def test_the_main_coroutine_is_at_rest_while_sessions_wait():
    runtime = new_runtime()

    class Host:
        is_over = False

        def switching_out(self):
            pass

    done = []

    def session(number):
        evaluator = runtime.evaluator(Session(number, '', 3, 'admin', 1, 'tarantool'), Host(), Account())
        for _ in range(5):
            evaluator.statement(b'require("fiber").sleep(0.00%d)' % (number % 7))
            assert evaluator.statement(b'box.session.id()') == b'---\n- %d\n...\n' % number
            assert runtime._lua.eval(b'coroutine.running()') is None
        evaluator.disconnect()
        done.append(number)

    gevent.joinall([gevent.spawn(session, number) for number in range(1, 40)], raise_error=True)
    assert 39 == len(done)
    runtime.stop(1)


def test_the_clock_is_looked_at_behind_what_is_answered_without_a_statement():
    runtime = new_runtime()

    class Host:
        is_over = False

        def switching_out(self):
            pass

    def session():
        evaluator = runtime.evaluator(Session(1, '', 3, 'admin', 1, 'tarantool'), Host(), Account())
        for ask in (lambda: evaluator.error('x'), lambda: evaluator.is_wrong(b'x'), lambda: evaluator.is_incomplete(b'do')):
            runtime.dispatcher.has_ticked = False
            ask()
            assert runtime.dispatcher.has_ticked
        evaluator.disconnect()

    gevent.joinall([gevent.spawn(session)], raise_error=True)
    runtime.stop(1)


def test_a_greenlet_that_is_killed_in_a_statement_unwinds_lua_first():
    runtime = new_runtime()
    order, has_begun = [], []

    class Host:
        is_over = False

        def switching_out(self):
            has_begun.append(True)

    def session():
        evaluator = runtime.evaluator(Session(1, '', 3, 'admin', 1, 'tarantool'), Host(), Account())
        try:
            evaluator.statement(b'pcall(require("fiber").sleep, 1000) x = 1')
        except gevent.GreenletExit:
            order.append('killed')
        assert evaluator.statement(b'x') == b'---\n- null\n...\n'
        order.append('still good')

    greenlet = gevent.spawn(session)
    wait_for(lambda: has_begun)
    greenlet.kill()
    assert ['killed', 'still good'] == order
    runtime.stop(1)


class Watched:
    """A Lua function whose coroutines record the values that they return to Python."""

    def __init__(self, function, seen):
        self._function = function
        self._seen = seen

    def coroutine(self, *arguments):
        made = self._function.coroutine(*arguments)

        class Coroutine:
            def send(_, sent):
                self._seen.append(made.send(sent))
                return self._seen[-1]

            def __repr__(_):
                return repr(made)
        return Coroutine()


def test_only_strings_and_numbers_come_back(console, connect, connect_binary):
    """No Lua object is ever wrapped for Python."""
    seen = []
    served = console(listen=[TEXT, BINARY])
    state = served._running.runtime.state
    state.session_main, state.request_main = Watched(state.session_main, seen), Watched(state.request_main, seen)
    client = connect(served)
    for statement in ('1', '{}, {a = {1}}, "é", nil', "('é'):rep(1e6)", 'error({1})', 'error("x")', ')', 'print', '\\help',
                      "require('console').eval('print')"):
        client.reply(statement)
    binary = connect_binary(served)
    for expression in ('return 1, {a = 2}', 'return print', 'error({1})', "return ('x'):rep(1e6)", 'x ='):
        binary.send(EVAL, {0x27: expression, 0x21: []})
        binary.receive()
    assert len(seen) > 12
    for came in seen:
        pieces = came if isinstance(came, tuple) else (came,)
        assert all(isinstance(piece, (bytes, int, float)) for piece in pieces), came
