"""Listing and stopping sessions: box.session.list, name, cancel, kill, and their commands."""
from __future__ import annotations

import pytest
from waiting import wait_for

from boxsession.protocol.client import TextConversation
from boxsession.protocol.greeting import console_greeting

FIELDS = ['id', 'user', 'peer', 'type', 'language', 'listener', 'name', 'connected_s', 'idle_s', 'state', 'statement',
          'statements', 'bytes_in', 'bytes_out']


@pytest.fixture
def served(console):
    return console()


@pytest.fixture
def admin(served, connect):
    return connect(served)


def running(admin, session_id):
    return any(shown['id'] == session_id for shown in admin.value("box.session.list({state = 'running'})"))


def test_list(served, admin, connect):
    other = connect(served)
    assert [2] == other.values('1 + 1')
    mine, theirs = admin.value('box.session.list()')
    assert set(FIELDS) == set(mine)
    assert [1, 'running', 'box.session.list()', 'admin', 'console'] == [
        mine[name] for name in ('id', 'state', 'statement', 'user', 'type')]
    assert [2, 'idle', None, 1, 6] == [theirs[name] for name in ('id', 'state', 'statement', 'statements', 'bytes_in')]
    assert str(served.addresses[0]) == theirs['listener']
    assert 128 + len('---\n- 2\n...\n') == theirs['bytes_out']
    assert 0 <= theirs['idle_s'] <= theirs['connected_s'] < 60
    assert admin.value('box.session.list()')[0]['statements'] == 1


def test_the_settings_with_which_our_client_begins_are_no_statements(served, admin, connect, caplog):
    caplog.set_level('INFO', 'boxsession')
    other = connect(served)
    other.send(TextConversation(console_greeting('1')).opening().decode() + '1 + 1--~boxsession~\n')
    other.read_until(b'- 2\n...\n')
    assert 1 == admin.value('box.session.list({id = 2})')[0]['statements']
    other.send('\\set output yaml--~boxsession~\n')
    other.read_until(b'- true\n...\n')
    assert 2 == admin.value('box.session.list({id = 2})')[0]['statements']
    other.close()
    wait_for(lambda: any(' ended: ' in line and line.endswith(' s, 2 statements') for line in caplog.messages))


def test_answers_of_the_server_keep_the_order_of_their_keys(admin):
    first = b'id: ', b'user: ', b'peer: '
    for statement in ('\\sessions', 'box.session.list()'):
        assert all(part in line for part, line in zip(first, admin.reply(statement).splitlines()[1:], strict=False))
    assert admin.value("require('json').encode(box.session.list()[1])").startswith('{"id":1,"user":"admin","peer":')
    admin.reply("row = box.session.list()[1] row.more = 1 row.user = nil")
    assert ['id', 'peer', 'more'] == [*admin.value('row')][:2] + [*admin.value('row')][-1:]
    assert [False] == admin.values('getmetatable(row)')
    # A user's own metatable is no order.
    assert {'a': 1} == admin.value("setmetatable({a = 1}, {keys = {'b'}, order = {'b'}, __metatable = false})")
    admin.send('\\set output lua\n')
    admin.read_until(b';')
    admin.send('box.session.list()[1]\n')
    assert admin.read_until(b';').startswith(b'{id = 1, user = "admin", peer = ')


def test_list_with_a_filter(served, admin, connect):
    other = connect(served)
    assert ['backup'] == other.values("box.session.name('backup')")
    assert ['backup'] == other.values('box.session.name()')
    assert [None] == admin.values('box.session.name()')
    assert [2] == [shown['id'] for shown in admin.value("box.session.list({name = 'backup'})")]
    assert [] == admin.value("box.session.list({name = 'backup', id = 1})")
    assert [] == admin.value('box.session.list({connected_s = 1000})')
    assert 2 == len(admin.value('box.session.list({connected_s = 0})'))
    assert "no field 'nosuch'" in admin.error('box.session.list({nosuch = 1})')
    assert 'Usage' in admin.error('box.session.list(1)')
    assert 'Usage' in admin.error('box.session.name(1)')
    assert 64 == len(admin.value("box.session.name(('x'):rep(100))"))


def test_a_long_statement_is_cut(served, admin, connect):
    other = connect(served)
    other.send("require('fiber').sleep(100) --" + 'x' * 200 + '\n')
    wait_for(lambda: running(admin, 2))
    assert 120 == len(admin.value('box.session.list({id = 2})')[0]['statement'])


@pytest.mark.parametrize('statement', [
    'while true do end', "require('fiber').sleep(1000)", 'while true do pcall(function() while true do end end) end',
    "require('fiber').channel():get()"])
def test_cancel(served, admin, connect, statement):
    other = connect(served)
    other.reply('box.session.storage.kept = 1')
    other.send(statement + '\n')
    wait_for(lambda: running(admin, 2))
    assert [True] == admin.values('box.session.cancel(2)')
    assert b'the statement was cancelled by session 1' in other.document()
    assert [1] == other.values('box.session.storage.kept')
    assert [False] == admin.values('box.session.cancel(2)')
    assert 'session 99 does not exist' == admin.error('box.session.cancel(99)')
    assert 'Usage' in admin.error('box.session.cancel()')


def test_kill(served, admin, connect):
    admin.reply('gone = {} box.session.on_disconnect(function() table.insert(gone, box.session.id()) end)')
    idle, busy, asleep = connect(served), connect(served), connect(served)
    busy.send('while true do end\n')
    asleep.send("require('fiber').sleep(1000)\n")
    wait_for(lambda: running(admin, 3) and running(admin, 4))
    assert [1, 1, 1] == admin.values('box.session.kill(2), box.session.kill(3), box.session.kill(4)')
    assert [[2, 3, 4]] == admin.values('gone')                          # gone before kill answers
    assert 1 == len(admin.value('box.session.list()'))
    for client in (idle, busy, asleep):
        assert b"- error: the session was killed by session 1\n" in client.read_to_end()
    assert [0] == admin.values('box.session.kill(2)')


def test_kill_with_a_filter_spares_the_caller(served, admin, connect):
    others = [connect(served) for _ in range(5)]
    for client in others[:3]:
        client.reply("box.session.name('dashboard')")
    assert [3] == admin.values("box.session.kill({name = 'dashboard'})")
    assert [2] == admin.values("box.session.kill({user = 'admin'})")
    assert [1] == [shown['id'] for shown in admin.value('box.session.list()')]
    assert 'would end all sessions' in admin.error('box.session.kill({})')
    assert 'Usage' in admin.error('box.session.kill()')
    assert 'Usage' in admin.error('box.session.kill(1, 5)')


def test_kill_waits_no_longer_than_it_is_told(served, admin, connect):
    admin.reply("box.session.on_disconnect(function() require('fiber').sleep(1000) end)")
    connect(served)
    assert [0] == admin.values('box.session.kill(2, {timeout = 0.05})')
    admin.reply('for _, trigger in pairs(box.session.on_disconnect()) do box.session.on_disconnect(nil, trigger) end')


def test_kill_a_client_that_does_not_read(served, admin, connect):
    other = connect(served)
    other.send("('x'):rep(2e7)\n")
    wait_for(lambda: any(shown['state'] == 'sending' for shown in admin.value('box.session.list()')))
    assert [1] == admin.values('box.session.kill(2)')


def test_kill_oneself(served, admin, connect):
    other = connect(served)
    other.send('box.session.kill(2)\n')
    assert b'killed by session 2' in other.read_to_end()
    assert [1] == [shown['id'] for shown in admin.value('box.session.list()')]


def test_kill_a_session_that_went_elsewhere(served, admin, connect, console):
    far = console(dialect='tarantool')
    other = connect(served)
    other.reply(f"require('console').connect('{far.addresses[0]}')")
    other.send("require('fiber').sleep(1000)\n")
    wait_for(lambda: running(admin, 2))
    assert [1] == admin.values('box.session.kill(2)')
    wait_for(lambda: not far.sessions)


def test_commands(served, admin, connect):
    other = connect(served)
    assert [1, 2] == [shown['id'] for shown in admin.value('\\sessions')]
    other.send('while true do end\n')
    wait_for(lambda: running(admin, 2))
    assert [True] == admin.values('\\cancel 2')
    assert b'cancelled by session 1' in other.document()
    assert [1] == admin.values('\\kill 2')
    assert 'Usage: \\kill ID' == admin.error('\\kill x')
    assert 'Usage: \\cancel ID' == admin.error('\\cancel')


def test_from_a_script_and_a_fiber(served, admin, connect):
    connect(served)
    admin.reply("f = require('fiber').new(function() return box.session.kill(2) end) f:set_joinable(true)")
    assert [True, 1] == admin.values('f:join()')


def test_a_statement_that_is_cancelled_before_its_turn_is_never_run(console, connect):
    served = console(limits={'slice_ms': 20})
    admin = connect(served)
    spinners = [connect(served) for _ in range(5)]
    for spinner in spinners:
        spinner.send('while true do end\n')
    wait_for(lambda: len(admin.value("box.session.list({state = 'running'})")) == 6)
    late = connect(served)
    late.send('ran = true\n')
    late.send('\x03')
    reply = late.document()
    assert b'cancelled' in reply or admin.value('ran')
    assert b'cancelled' not in reply or admin.values('ran') == [None]
    for spinner in spinners:
        spinner.send('\x03')
        assert b'cancelled' in spinner.document()


@pytest.mark.parametrize('call', ['kill({[1] = 2})', 'list({1})'])
def test_a_filter_that_names_no_fields_is_refused(console, connect, call):
    assert 'expected a table such as {user = NAME}' in connect(console()).error(f'box.session.{call}')
