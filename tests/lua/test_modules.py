"""box.error, box.info, box.cfg and the small modules, as far as the transcripts do not test them."""
from __future__ import annotations

import logging

import pytest

from boxsession.lua.bridge import compile_problem


@pytest.fixture
def served(console):
    return console()


@pytest.fixture
def client(served, connect):
    return connect(served)


@pytest.mark.parametrize(('statement', 'values'), [
    ("e = box.error.new({code = 7, reason = 'r'}) return e.code, e.type, e.base_type, e.message, tostring(e), type(e)",
     [7, 'ClientError', 'ClientError', 'r', 'r', 'cdata']),
    ("box.error.new(box.error.NO_SUCH_USER, 'bob'), {box.error.new('T', 'x %s', 'y')}",
     ["User 'bob' is not found", ['x y']]),
    ("select(2, pcall(box.error, box.error.ACCESS_DENIED, 'a', 'b', 'c', 'd')).code", [42]),
    ("pcall(box.error, {reason = 'a'}) return box.error.last().message", ['a']),
    ("pcall(box.error, {reason = 'a'}) return pcall(box.error)", [False, 'a']),
    ("box.error.clear() return box.error.last()", [None]),
    ("e = box.error.new({reason = 'r'}) box.error.set(e) return box.error.last() == e, box.error.is(e), box.error.is('r')",
     [True, True, False]),
    ("pcall(function() box.error.new({reason = 'r'}):raise() end)", [False, 'r']),
    ("box.error.new({code = 7, reason = 'r'}):unpack()",
     [{'code': 7, 'base_type': 'ClientError', 'type': 'ClientError', 'message': 'r',
       'trace': [{'file': '[string "return box.error.new({code = 7, reason = \'r\'}..."]', 'line': 1}]}]),
    ("box.error.new()", [{'error': 'Usage: box.error.new(code, args) or box.error.new(type, args)'}]),
    ("box.error('x')", [{'error': 'box.error(): bad arguments'}]),
    ("box.error(box.error.NO_SUCH_USER)", [{'error': 'box.error(): bad arguments'}]),
    ("box.error(box.error.ACCESS_DENIED, 'a')", [{'error': "bad argument #3 to '?' (no value)"}]),
    ("box.error({code = 1, reason = 'x'})", [{'error': 'x'}]),
    ("box.error.NO_SUCH", [None]),
])
def test_box_error(client, statement, values):
    assert values == client.values(statement)


def test_the_last_error_is_this_sessions_own(served, client, connect):
    client.reply("pcall(box.error, {reason = 'mine'})")
    assert [None] == connect(served).values('box.error.last()')
    assert ['mine'] == client.values('box.error.last()')


def test_box_info_tells_what_is_there(served, client, connect):
    connect(served)
    assert [[str(served.addresses[0])], 2, 'running'] == client.values(
        'box.info.listen, box.info.sessions, box.info.status')
    assert {'access', 'languages', 'limits', 'listen', 'memory', 'package', 'pid', 'ro', 'sessions', 'status', 'uptime',
            'version'} == set(client.value('box.info'))
    assert list(client.value('box.info()')) == list(client.value('box.info'))
    assert 'read-only' in client.error('box.info.pid = 1')


def test_box_cfg_tells_the_settings(client):
    assert [65536, 'info'] == client.values('box.cfg.limits.statement_bytes, box.cfg.log.level')
    assert client.values('box.cfg{}') is None
    assert "Attempt to modify a read-only table" in client.error('box.cfg.x = 1')


@pytest.mark.parametrize(('changes', 'message'), [
    ('nosuch = 1', "Incorrect value for option 'nosuch': unexpected option"),
    ('limits = {nosuch = 1}', "Incorrect value for option 'limits.nosuch': unexpected option"),
    ('limits = 5', "Incorrect value for option 'limits': should be a table of settings"),
    ("limits = {slice_ms = 'x'}", "Incorrect value for option 'limits.slice_ms': should be a whole number from 0 to 60000"),
    ("log = {level = 'loud'}", "Incorrect value for option 'log.level': should be error or warning or info or debug"),
    ("init = 'x.lua'", "Can't set option 'init' dynamically"),
    ("listen = {}", "Can't set option 'listen' dynamically"),
])
def test_box_cfg_refuses_what_it_cannot_do(client, changes, message):
    assert message == client.error('box.cfg{limits = {slice_ms = 10}, %s}' % changes if 'limits' not in changes
                                   else 'box.cfg{%s}' % changes)
    assert 2 == client.value('box.cfg.limits.slice_ms')            # all or none


def test_box_cfg_changes_what_may_change(served, client, connect, caplog):
    assert client.values("box.cfg{limits = {statement_bytes = 256, sessions = 2}, ['limits.slice_ms'] = 10}") is None
    client.reply('l = box.cfg.limits')
    assert [256, 2, 10] == client.values('l.statement_bytes, l.sessions, l.slice_ms')
    assert 'too long' in client.error('return "' + 'x' * 256 + '"')
    other = connect(served)
    assert b'too many sessions' in connect(served, greeting=False).document()
    other.close()
    assert 'limits.sessions is set to 2 by session 1' in caplog.text
    client.reply('box.cfg{limits={statement_bytes=0}}')
    assert 100000 == client.value('#"' + 'x' * 100000 + '"')


class TestConsole:
    @pytest.mark.parametrize(('statement', 'reply'), [
        ('1 + 1', '---\n- 2\n...\n'), ('x = 1', '---\n...\n'), ('error("x")', '---\n- error: x\n...\n'),
        ('{a = "é"}', '---\n- a: é\n...\n'), ('x y', None),
    ])
    def test_eval_gives_the_reply_as_text(self, client, statement, reply):
        got = client.value(f"require('console').eval({statement!r})")
        assert got == reply if reply else 'error' in got

    def test_eval_is_cancelled_with_its_statement(self, client):
        client.send("while true do require('console').eval('while true do end') end\n")
        client.send('\x03')
        assert b'cancelled' in client.document()

    def test_the_default_output_is_for_sessions_to_come(self, served, client, connect):
        client.reply("require('console').set_default_output('lua,block')")
        assert {'fmt': 'lua', 'opts': 'block'} == client.value("require('console').get_default_output()")
        other = connect(served)
        other.send('{1}\n')
        assert b'{\n  1\n};' == other.read_until(b';')
        client.reply("require('console').set_default_output('yaml')")

    def test_on_start_runs_in_each_new_session(self, served, client, connect):
        client.reply("require('console').on_start(function() started = box.session.id() end)")
        other = connect(served)
        assert other.value('box.session.id()') == other.value('started')
        client.reply("require('console').on_start(nil)")

    @pytest.mark.parametrize(('text', 'found'), [
        ('string.f', {'string.format(', 'string.find('}), ('box.session:exi', {'box.session:exists('}),
        ('whi', {'while '}), ('my_', {'my_value'}), ('box.inf', {'box.info'}), ('nosuch', None), ('nosuch.x', None),
        ('1x', None)])
    def test_completion(self, client, text, found):
        client.reply('my_value = 1')
        values = client.values(f"require('console').completion_handler({text!r}, 0, {len(text)})")
        if found is None:
            assert values is None
        else:
            assert found <= set(values[0][1:]) and all(item.startswith(values[0][0]) for item in values[0][1:])

    def test_completion_runs_nobodys_code(self, client):
        client.reply("t = setmetatable({}, {__index = function() ran = true end})")
        client.reply("require('console').completion_handler('t.x.y', 0, 5)")
        assert [None] == client.values('ran')

    def test_eos_is_this_sessions_own(self, served, client, connect):
        client.send('\\set output lua\n')
        assert b'true;' == client.read_until(b';')
        client.send("require('console').eos('<end>') return 1\n")
        assert b'1<end>' == client.read_until(b'<end>')
        client.send("require('console').eos(), {}\n")
        assert b'"<end>", {}<end>' == client.read_until(b'}<end>')
        client.send('nosuch()\n')
        assert client.read_until(b'<end>').startswith(b'{error = ')
        other = connect(served)
        other.send('\\set output lua\n')
        assert b'true;' == other.read_until(b';')
        client.send('\\set output yaml\n')
        assert b'---\n- true\n...\n' == client.document()
        assert 'immutable for output yaml' in client.error("require('console').eos('x')")

    def test_what_it_cannot_do_says_why(self, client):
        assert 'no terminal' in client.error("require('console').start()")
        assert 'Usage: ' in client.error("require('console').connect('nowhere')")
        assert 'Usage: ' in client.error("require('console').connect({})")
        assert 'no login' in client.error("require('console').connect('a:b@127.0.0.1:1')")
        assert 'a table' in client.error("require('console').connect('127.0.0.1:1', 1)")
        assert 'number of seconds' in client.error("require('console').connect('127.0.0.1:1', {timeout = 'x'})")


class TestScope:
    def test_names_are_this_sessions_own(self, served, client, connect):
        other = connect(served)
        client.reply('shared = 1')
        assert [True] == client.values('\\set scope session')
        client.reply('shared = 2  mine = 3  function f() made = 4 return shared end')
        assert [2, 1, 3] == client.values('shared, _G.shared, mine')
        assert [1, None, None] == other.values('shared, mine, f')
        assert [2, 4, None] == client.values('f(), made, _G.made')
        assert [True] == client.values('\\set scope global')
        assert [1, None] == client.values('shared, mine')
        client.reply('\\set scope session')
        assert [3] == client.values('mine')
        assert 'Specify scope: session, global.' == client.error('\\set scope')

    def test_statements_of_both_kinds_do_not_meet(self, served, client, connect):
        other = connect(served)
        client.reply('\\set scope session')
        for _ in range(3):
            client.reply('same = 1')
            assert [None] == other.values('same')
            other.reply('same = 2')
            assert [1] == client.values('same')
            other.reply('same = nil')

    def test_modules_and_names_that_a_program_adds(self, served, client, connect):
        client.reply("require('console').initial_env().greet = function() return 'hi' end")
        other = connect(served)
        other.reply('\\set scope session')
        assert ['hi', 'table', 'table'] == other.values('greet(), type(fiber), type(uuid)')
        assert [None, None] == client.values('greet, fiber')
        client.reply("require('console').set_initial_env({only = 1})")
        third = connect(served)
        third.reply('\\set scope session')
        assert [1, None] == third.values('only, fiber')
        client.reply("require('console').set_initial_env()")
        assert ['table'] == client.values("type(require('console').initial_env().fiber)")
        assert 'Usage' in client.error("require('console').set_initial_env(1)")

    def test_completion_and_eval_see_it(self, client):
        client.reply('\\set scope session')
        client.reply('my_own_name = 7')
        console = "require('console')"
        assert 'my_own_name' in client.value(f"{console}.completion_handler('my_own', 0, 6)")
        assert 'string.find(' in client.value(f"{console}.completion_handler('string.fi', 0, 9)")
        assert '---\n- 7\n...\n' == client.value(f"{console}.eval('my_own_name')")

    def test_the_classic_session_is_there(self, client):
        client.reply('\\set scope session')
        assert [True] == client.values('session == box.session')


class TestPrint:
    def test_to_the_session(self, client, caplog):
        client.reply('print("in the log")')
        assert 'in the log' in caplog.text
        assert [True] == client.values('\\set print on')
        client.send('print("here", 1, nil, {1} and true) print() return 5\n')
        tag = b'%TAG !push! tag:tarantool.io/push,2018\n'
        assert tag + b'--- "here\\t1\\tnil\\ttrue"\n...\n' == client.document()
        assert tag + b'---\n...\n' == client.document()
        assert b'---\n- 5\n...\n' == client.document()
        assert 'here' not in caplog.text
        client.reply('\\set print off')
        client.reply('print("back in the log")')
        assert 'back in the log' in caplog.text
        assert 'Specify print: on, off.' == client.error('\\set print')

    def test_a_background_fiber_prints_to_its_session(self, client):
        client.reply('\\set print on')
        client.send("require('fiber').create(function() require('fiber').sleep(0.01) print('from a fiber') done = true end)"
                    " while not done do require('fiber').sleep(0.001) end\n")
        assert b'from a fiber' in client.document()
        assert b'---\n...\n' == client.document()

    def test_what_cannot_be_told(self, client):
        assert "'tostring' must return a string to 'print'" in client.error(
            'print(setmetatable({}, {__tostring = function() return {} end}))')


def test_log_levels(client):
    logger = logging.getLogger('boxsession')
    before = logger.level
    try:
        client.reply("log = require('log') log.level('debug')")
        assert logging.DEBUG == logger.level
        client.reply('log.level(2)')
        assert logging.ERROR == logger.level
        assert 'must be a number or a string' == client.error('log.level()')
        assert 'from 0 to 7' in client.error('log.level(8)')
        assert 'expected crit,warn,' in client.error("log.level('loud')")
        assert {'level': 2, 'format': 'plain', 'log': '-'} == client.value('log.cfg')
        client.reply("log.cfg{level = 'info'}")
        assert [5, 'info'] == client.values('log.cfg.level, box.cfg.log.level')
        assert "Can't set option 'log' dynamically" == client.error("log.cfg{log = 'x'}")
        assert 'expected json,plain' == client.error("log.log_format('x')")
        client.reply("log.log_format('json')")
        assert ['json', 'json'] == client.values('log.cfg.format, box.cfg.log.format')
        assert client.values('log.rotate()') is None
    finally:
        logger.setLevel(before)


def test_a_logger_with_a_name(client, caplog):
    client.reply("l = require('log').new('shop') l.warn('%s is %d', 'x', 5) l.info({1}) l.error('a\\nb')")
    assert [('WARNING', '[shop] x is 5'), ('INFO', '[shop] [1]'), ('ERROR', '[shop] a\\nb')] == [
        (record.levelname, record.getMessage()) for record in caplog.records if record.name == 'boxsession.lua']
    assert 'name should be a string' in client.error("require('log').new()")


def test_log_lines(client, caplog):
    client.reply("log = require('log') log.warn('%s is %d', 'x', 5) log.info({1, {a = 'b'}})")
    client.reply("log.error('100%') log.info(1, 2)")
    client.reply('log.info() log.info(nil) log.info(print) log.info({print})')
    messages = [record.getMessage() for record in caplog.records if record.name == 'boxsession.lua']
    assert ['x is 5', '[1,{"a":"b"}]', '100%', '1', 'nil'] == messages[:5]
    assert messages[5].startswith('function') and '["function' in messages[6] and 7 == len(messages)
    assert "bad argument #2" in client.error("log.info('%d', 'x')")


@pytest.mark.parametrize(('statement', 'values'), [
    ("('a,b,,c'):split(','), ('a  b c'):split(), (' a '):split(), (''):split(), (''):split(','), ('a,b,c'):split(',', 1)",
     [['a', 'b', None, 'c'], ['a', 'b', 'c'], ['a'], [], [None], ['a', 'b,c']]),
    ("('abc'):split('')", [{'error': "bad argument #2 to 'string.split' (non-empty string expected, got empty string)"}]),
    ("('a'):split(',', 'x')", [{'error': "bad argument #3 to 'string.split' (positive integer expected, got string)"}]),
    ("string.split(1)", [{'error': "bad argument #1 to 'string.split' (string expected, got number)"}]),
    (r"('  a\t'):strip(), ('xxaxx'):strip('x'), ('  a '):lstrip(), ('  a '):rstrip(), ('   '):strip()",
     ['a', 'a', 'a ', '  a', None]),
    ("('a'):strip(1)", [{'error': "bad argument #2 to 'string.strip' (string expected, got number)"}]),
    ("('abc'):startswith('ab'), ('abc'):startswith('b', 2), ('abc'):startswith('bcd', 2), ('abc'):endswith('bc'),"
     " ('abc'):endswith('b', 1, 2), ('abc'):endswith('')", [True, True, False, True, True, True]),
    ("('abc'):startswith('a', 'x')", [{'error': "bad argument #3 to 'string.startswith' (integer expected, got string)"}]),
    (r"('ab\n'):hex(), ('61620A'):fromhex()", ['61620a', 'ab\n']),
    ("('616'):fromhex()",
     [{'error': "bad argument #1 to 'string.fromhex' (even amount of chars expected, got odd amount)"}]),
    ("('zz'):fromhex()", [{'error': "bad argument #1 to 'string.fromhex' (hex string expected, got non hex chars)"}]),
    ("('a'):ljust(3) .. '|', ('a'):rjust(5, '-'), ('a'):center(6, '*'), ('abc'):ljust(2)",
     ['a  |', '----a', '**a***', 'abc']),
    ("('a'):ljust(5, '--')", [{'error': "bad argument #3 to 'string.ljust' (char expected, got string)"}]),
    ("('a'):ljust(-1)", [{'error': "bad argument #2 to 'string.ljust' (positive integer expected, got number)"}]),
    ("('a'):ljust(1e12)", [{'error': 'resulting string too large'}]),
    ("t = {{1}} c = table.copy(t) return c[1] == t[1], c ~= t, table.copy(5), table.copy()", [True, True, 5, None]),
    ("t = {a = {b = {1}}} t.t = t c = table.deepcopy(t) return c.t == c, c ~= t, c.a ~= t.a, c.a.b[1], table.deepcopy(1)",
     [True, True, True, 1, 1]),
    ("getmetatable(table.deepcopy(setmetatable({}, {x = 1}))).x", [1]),
    ("table.copy(setmetatable({}, {__copy = function() return 5 end}))", [5]),
    ("table.new(1, 2), table.move({1, 2, 3}, 2, 3, 1), table.move({1, 2, 3}, 1, 3, 2)", [[], [2, 3, 3], [1, 1, 2, 3]]),
    ("table.move({1, 2}, 1, 2, 1, {5, 6, 7})", [[1, 2, 7]]),
    ("table.new(1)", [{'error': "bad argument #2 to '?' (number expected, got no value)"}]),
    ("table.move({1, 2, 3}, 1, 3)", [{'error': "bad argument #4 to '?' (number expected, got nil)"}]),
    ("table.move({}, 1, 1e12, 2)", [{'error': 'too many elements to move'}]),
])
def test_standard_library(client, statement, values):
    assert values == client.values(statement)


@pytest.mark.parametrize(('expression', 'value'), [
    ('bit.band(15, 7)', 7), ('bit.band(1)', 1), ("bit.band('15', 7)", 7), ('bit.band(2^40 + 5, -1)', 5),
    ('bit.band(1.5, 3)', 2), ('bit.band(2.5, 3)', 2), ('bit.bor(1, 2, 4)', 7), ('bit.bxor(5, 1)', 4), ('bit.bnot(0)', -1),
    ('bit.lshift(1, 31)', -2147483648), ('bit.lshift(1, 32)', 1), ('bit.lshift(1, -1)', -2147483648),
    ('bit.rshift(-1, 28)', 15), ('bit.arshift(-8, 1)', -4), ('bit.rol(1, 33)', 2), ('bit.ror(1, 1)', -2147483648),
    ('bit.ror(5, 0)', 5), ('bit.rol(5, 0)', 5), ('bit.bswap(1)', 16777216), ('bit.tobit(0xffffffff)', -1),
    ('bit.tobit(2^31)', -2147483648), ('bit.tobit(1e20)', 2025163840), ('bit.tobit(1/0)', 0), ('bit.tobit(0/0)', 0),
    ('bit.tobit(-2^31 - 1)', 2147483647), ('bit.tobit(2^52)', 0), ('bit.tobit(2^53 + 2)', 1),
    ('bit.tohex(255)', '000000ff'),
    ('bit.tohex(255, 4)', '00ff'), ('bit.tohex(255, -4)', '00FF'), ('bit.tohex(-1, -8)', 'FFFFFFFF'),
    ('bit.tohex(255, 0)', None), ('bit.tohex(255, 20)', '000000000000000000ff'), ("require('bit') == bit", True),
])
def test_bit(client, expression, value):
    assert [value] == client.values(expression)


@pytest.mark.parametrize(('statement', 'message'), [
    ('bit.band()', "bad argument #1 to '?' (number expected, got no value)"),
    ('bit.lshift(1)', "bad argument #2 to '?' (number expected, got no value)"),
    ('bit.lshift(nil, 1)', "bad argument #1 to '?' (number expected, got nil)"),
    ("bit.tohex('x')", "bad argument #1 to '?' (number expected, got string)"),
    ('bit.tobit(true)', "bad argument #1 to '?' (number expected, got boolean)"),
])
def test_bit_refuses(client, statement, message):
    assert message == client.error(statement)


class TestUuid:
    TEXT = 'f6423bdf-b49e-4913-b361-0740c9702e4b'

    @pytest.fixture(autouse=True)
    def made(self, client):
        client.reply(f"uuid = require('uuid') u = uuid.fromstr('{self.TEXT}')")

    @pytest.mark.parametrize(('statement', 'values'), [
        ('#uuid.str(), #uuid.bin(), type(uuid.new()), uuid() ~= uuid()', [36, 16, 'cdata', True]),
        ('uuid.new():str():match("^%x+%-%x+%-4%x+%-[89ab]%x+%-%x+$") ~= nil', [True]),
        ('uuid.NULL, uuid.NULL:isnil(), u:isnil()', ['00000000-0000-0000-0000-000000000000', True, False]),
        ('u, u:str(), tostring(u), {u}', [TEXT, TEXT, TEXT, [TEXT]]),
        (f"u == uuid.fromstr('{TEXT.upper()}'), u == '{TEXT}', u == uuid.NULL, u == nil", [True, False, False, False]),
        ("u:bin():hex(), u:bin('b'):hex()", ['df3b42f69eb41349b3610740c9702e4b', 'f6423bdfb49e4913b3610740c9702e4b']),
        ("uuid.frombin(u:bin()) == u, uuid.frombin(u:bin('n'), 'n') == u", [True, True]),
        ("u:bin('x')", [{'error': 'invalid byteorder, valid is l, b, h, n'}]),
        ("uuid.frombin('x')", [{'error': 'frombin(bin, [byteorder])'}]),
        ("uuid.fromstr('x'), uuid.fromstr('f6423bdfb49e4913b3610740c9702e4b'), uuid.fromstr(u:str() .. 'x')",
         [None, None, None]),
        ('uuid.fromstr(1)', [{'error': 'fromstr(str)'}]),
        ('u.str()', [{'error': 'Usage: uuid:str()'}]),
        ('u.time_low, u.time_mid, u.time_hi_and_version, u.clock_seq_low', [4131535839, 46238, 18707, 97]),
        ("require('json').encode({u})", [f'["{TEXT}"]']),
    ])
    def test_as_tarantool_answers(self, client, statement, values):
        assert values == client.values(statement)

    def test_other_members(self, client):
        assert "'struct tt_uuid' has no member named 'x'" in client.error('u.x')
        assert "'struct tt_uuid' has no member named 'x'" in client.error('u.x = 1')

    def test_lua_output(self, client):
        client.send('\\set output lua\n')
        client.read_until(b'true;')
        client.send('{u, {a = u}}\n')
        assert b'{"%b", {a = "%b"}};' % (self.TEXT.encode(), self.TEXT.encode()) == client.read_until(b'}};')


def test_of_the_environment_only_what_names_no_secret(client, monkeypatch):
    monkeypatch.setenv('HOME', '/home/someone')
    monkeypatch.setenv('APP_PASSWORD', 'secret')
    assert ['/home/someone', None] == client.values("os.getenv('HOME'), os.getenv('APP_PASSWORD')")
    assert '/home/someone' == client.value('os.environ()')['HOME']
    assert 'APP_PASSWORD' not in client.value('os.environ()')
    assert 'bad argument #1' in client.error('os.getenv()')


def test_clock(client):
    assert [True, True, True] == client.values(
        "clock = require('clock') return clock.time() > 1e9, clock.monotonic64() > 0, clock.proc() > 0")
    seconds, value = client.value("clock.bench(function(x) return x end, 5)")
    assert 0 <= seconds < 60 and 5 == value


def test_literals_and_decimals_of_a_restricted_user(console, connect):
    admin = connect(server := console(dialect='tarantool'))
    admin.reply("box.schema.user.create('mole', {password = 'pw'})")
    client = connect(server)
    client.reply("box.session.su('mole')")
    assert ['2', '18446744073709551615ULL', 'cdata', '1.10', '64'] == client.values(
        "decimal = require('decimal') x = decimal.new('1.1') "
        "return tostring(1 + 1), tostring(-1ULL), type(5LL), tostring(x * 1 + decimal.new('0.00')), bit.tohex(100LL, 2)")


def test_a_script_with_literals_compiles():
    assert compile_problem(b'x = 5LL', 'init.lua') is None
    assert "init.lua:2: '=' expected near '5LL'" == compile_problem(b'x = 1LL\nx 5LL', 'init.lua')
    assert "init.lua:1: malformed number near '5L'" == compile_problem(b'x = 1LL y = 5L', 'init.lua')


def test_a_literal_of_64_bits_in_long_code_is_refused(served, connect):
    client = connect(served)
    text = f"return 5LL --{'x' * 4000}"
    assert client.value(text) == 5
    assert 'only known in code of up to 4096 bytes' in client.error(text + 'x' * 1000)
