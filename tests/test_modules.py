"""box.error, box.info, box.cfg and the small modules, beside what the transcripts have of them."""
from __future__ import annotations

import logging

import pytest


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
     [{'code': 7, 'base_type': 'ClientError', 'type': 'ClientError', 'message': 'r', 'trace': []}]),
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
    assert {'listen', 'pid', 'sessions', 'status', 'uptime', 'version'} == set(client.value('box.info'))
    assert 'read-only' in client.error('box.info.pid = 1')


def test_box_cfg_tells_the_settings(client):
    assert [65536, 'info'] == client.values('box.cfg.limits.statement_bytes, box.cfg.log.level')
    assert client.values('box.cfg{}') is None
    assert "Incorrect value for option 'nosuch': unexpected option" == client.error('box.cfg{nosuch = 1}')
    assert 'cannot be changed' in client.error('box.cfg{limits = {}}')


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

    def test_what_it_cannot_do_says_why(self, client):
        assert 'no terminal' in client.error("require('console').start()")
        assert 'Usage: ' in client.error("require('console').connect('nowhere')")
        assert 'this version' in client.error("require('console').connect('127.0.0.1:3301')")


def test_log_levels(client):
    logger = logging.getLogger('boxsession')
    before = logger.level
    try:
        client.reply("require('log').level('debug')")
        assert logging.DEBUG == logger.level
        client.reply("require('log').level(2)")
        assert logging.ERROR == logger.level
        assert 'must be a number or a string' == client.error("require('log').level()")
        assert 'expected 0 to 7' in client.error("require('log').level(8)")
    finally:
        logger.setLevel(before)


def test_clock(client):
    assert [True, True, True] == client.values(
        "clock = require('clock') return clock.time() > 1e9, clock.monotonic64() > 0, clock.proc() > 0")
    seconds, value = client.value("clock.bench(function(x) return x end, 5)")
    assert seconds >= 0 and 5 == value
