"""Sessions as statements see them: box.session in both dialects, storage, triggers, and the current session."""
from __future__ import annotations

import pytest
from waiting import running, wait_for

from boxsession import current_session


def test_ids_count_up_and_are_never_used_twice(console, connect):
    served = console()
    seen = []
    for _ in range(5):
        client = connect(served)
        seen.append(client.value('box.session.id()'))
        client.close()
    assert sorted(set(seen)) == seen
    assert seen[0] >= 1


def test_peer_is_the_clients_address(console, connect):
    client = connect(console())
    host, port = client.sock.getsockname()
    assert f'{host}:{port}' == client.value('box.session.peer()')
    assert f'{host}:{port}' == client.value('box.session.peer(box.session.id())')


class TestClassic:
    def test_exists_is_1_or_0(self, console, connect):
        client = connect(console())
        assert [1, 0] == client.values('box.session.exists(box.session.id()), box.session.exists(99999)')

    def test_peer_of_nobody(self, console, connect):
        assert '0.0.0.0:0' == connect(console()).value('box.session.peer(99999)')

    def test_session_is_a_global(self, console, connect):
        client = connect(console())
        assert [True, True] == client.values('session == box.session, session.id() == box.session.id()')


class TestTarantool:
    def test_exists_is_true_or_false(self, console, connect):
        client = connect(console(dialect='tarantool'))
        assert [True, False] == client.values('box.session.exists(box.session.id()), box.session.exists(99999)')

    def test_peer_of_nobody(self, console, connect):
        client = connect(console(dialect='tarantool'))
        assert 'session.peer(): session does not exist' == client.error('box.session.peer(99999)')

    def test_session_is_no_global(self, console, connect):
        assert [None] == connect(console(dialect='tarantool')).values('session')


def test_both_dialects_on_one_console(console, connect):
    served = console(listen=[{'address': '127.0.0.1:0', 'dialect': 'classic'},
                             {'address': '127.0.0.1:0', 'dialect': 'tarantool'}])
    classic, tarantool = (connect(address) for address in served.addresses)
    classic.reply('shared = 1')
    assert [1, True] == tarantool.values('shared, session == nil')
    assert [1, False] == classic.values('box.session.exists(box.session.id()), session == nil')
    assert [True] == tarantool.values('box.session.exists(box.session.id())')


def test_the_rest_of_box_session(console, connect):
    client = connect(console())
    assert [0, 'console', 'admin', 'admin', 1, 1] == client.values(
        'box.session.sync(), box.session.type(), box.session.user(), box.session.effective_user(), '
        'box.session.uid(), box.session.euid()')
    assert client.value('box.session.fd()') > 2


class TestStorage:
    def test_it_is_private(self, console, connect):
        served = console()
        first, second = connect(served), connect(served)
        first.reply('box.session.storage.a = 1')
        second.reply('box.session.storage.a = 2')
        assert [1, 2] == [first.value('box.session.storage.a'), second.value('box.session.storage.a')]

    def test_assigning_it_replaces_this_sessions_only(self, console, connect):
        served = console()
        first, second = connect(served), connect(served)
        second.reply('box.session.storage.a = 2')
        first.reply('box.session.storage = {a = 1}')
        assert [1, 2] == [first.value('box.session.storage.a'), second.value('box.session.storage.a')]
        assert 'must be a table' in first.error('box.session.storage = 5')

    def test_an_admin_reaches_anothers_by_its_id(self, console, connect):
        served = console()
        first, second = connect(served), connect(served)
        first.reply('box.session.storage.a = 7')
        number = first.value('box.session.id()')
        assert 7 == second.value(f'getmetatable(box.session).aggregate_storage[{number}].a')

    def test_it_is_gone_with_the_session(self, console, connect):
        served = console()
        first, second = connect(served), connect(served)
        first.reply('box.session.storage.a = 7')
        number = first.value('box.session.id()')
        first.close()
        wait_for(lambda: not second.value(f'box.session.exists({number})'))
        assert [None] == second.values(f'getmetatable(box.session).aggregate_storage[{number}]')


class TestTriggers:
    def test_set_replace_delete_list_newest_first(self, console, connect):
        client = connect(console())
        client.reply('function a() end function b() end function c() end')
        assert [True] == client.values('box.session.on_connect(a) == a')
        assert [True] == client.values('box.session.on_connect(b) == b')
        assert [True] == client.values(
            'local l = box.session.on_connect() return #l == 2 and l[1] == b and l[2] == a')
        assert [True] == client.values('box.session.on_connect(c, a) == c')
        assert [True] == client.values('local l = box.session.on_connect() return l[1] == b and l[2] == c')
        assert client.values('box.session.on_connect(nil, b)') is None
        assert 'trigger reset: Trigger is not found' == client.error('box.session.on_connect(nil, b)')
        assert 'trigger reset: incorrect arguments' == client.error('box.session.on_connect(5)')

    def test_they_see_their_own_session_and_may_wait(self, console, connect):
        served = console()
        admin = connect(served)
        admin.reply('''seen = {} fiber = require('fiber')''')
        admin.reply('''function note(what) local id, peer = box.session.id(), box.session.peer() fiber.sleep(0.01) '''
                    '''assert(id == box.session.id()) table.insert(seen, {what, id, peer, box.session.user(), '''
                    '''box.session.storage.mark or 'none'}) box.session.storage.mark = what end''')
        admin.reply('function hello() note("connect") end box.session.on_connect(hello)')
        admin.reply('function bye() note("disconnect") end box.session.on_disconnect(bye)')
        clients = [connect(served) for _ in range(5)]
        expected = []
        for client in clients:
            peer = '%s:%d' % client.sock.getsockname()
            number = client.value('box.session.id()')
            expected += [['connect', number, peer, 'admin', 'none'], ['disconnect', number, peer, 'admin', 'connect']]
            client.close()
        wait_for(lambda: admin.value('#seen') >= 10)
        assert sorted(expected) == sorted(admin.value('seen'))
        admin.reply('box.session.on_connect(nil, hello) box.session.on_disconnect(nil, bye)')

    def test_an_on_connect_that_raises_refuses_the_client_and_tells_it(self, console, connect):
        served = console()
        admin = connect(served)
        admin.reply('''ended = 0 function bad() error('no entry today', 0) end '''
                    '''function bye() ended = ended + 1 last = box.session.peer() end''')
        admin.reply('box.session.on_connect(bad) box.session.on_disconnect(bye)')
        refused = connect(served, greeting=False)
        peer = '%s:%d' % refused.sock.getsockname()
        assert b'---\n- error: no entry today\n...\n' == refused.read_to_end()
        wait_for(lambda: admin.value('ended'))
        assert [1, peer] == admin.values('ended, last')
        admin.reply('box.session.on_connect(nil, bad) box.session.on_disconnect(nil, bye)')
        assert 1 == connect(served).value('1')

    def test_the_first_on_connect_that_raises_ends_it(self, console, connect):
        served = console()
        admin = connect(served)
        admin.reply('ran = {} function old() table.insert(ran, "old") end function new() table.insert(ran, "new") '
                    'error("x") end box.session.on_connect(old) box.session.on_connect(new)')
        connect(served, greeting=False).read_to_end()
        assert [['new']] == admin.values('ran')
        admin.reply('box.session.on_connect(nil, old) box.session.on_connect(nil, new)')

    @pytest.mark.parametrize('leave', ['close', 'reset', 'quit', 'tilde', 'eof', 'reset while running',
                                       'close while running', 'eof while running'])
    def test_on_disconnect_runs_exactly_once_whatever_ended_the_session(self, console, connect, leave):
        served = console()
        admin = connect(served)
        admin.reply('gone = {} function bye() require("fiber").sleep(0.01) '
                    'table.insert(gone, {box.session.id(), box.session.peer(), box.session.storage.mark}) end '
                    'box.session.on_disconnect(bye)')
        client = connect(served)
        client.reply('box.session.storage.mark = "m"')
        number, peer = client.value('box.session.id()'), client.value('box.session.peer()')
        if 'running' in leave:
            # A half-close ends the session after the statement, so the statement has to end by itself.
            client.send('require("fiber").sleep(%s)\n' % (0.1 if 'eof' in leave else 0.2))
            wait_for(lambda: running(served))
        {'close': client.close, 'reset': client.reset, 'eof': client.end, 'quit': lambda: client.send('\\quit\n'),
         'tilde': lambda: client.send('~.\n')}[leave.split()[0]]()
        wait_for(lambda: admin.value(f'box.session.exists({number})') == 0)
        assert [[number, peer, 'm']] == admin.value('gone')

    def test_an_on_disconnect_that_raises_is_logged_and_the_others_run(self, console, connect, caplog):
        served = console()
        admin = connect(served)
        admin.reply('ran = 0 function good() ran = ran + 1 end function bad() error("oops") end '
                    'box.session.on_disconnect(good) box.session.on_disconnect(bad)')
        connect(served).close()
        wait_for(lambda: admin.value('ran'))
        assert 'oops' in caplog.text
        admin.reply('box.session.on_disconnect(nil, good) box.session.on_disconnect(nil, bad)')

    def test_a_trigger_may_change_the_triggers(self, console, connect):
        served = console()
        admin = connect(served)
        admin.reply('ran = {} function once() table.insert(ran, "once") box.session.on_connect(nil, once) end '
                    'function always() table.insert(ran, "always") end '
                    'box.session.on_connect(always) box.session.on_connect(once)')
        connect(served), connect(served)
        assert [['once', 'always', 'always']] == admin.values('ran')
        admin.reply('box.session.on_connect(nil, always)')


def test_two_sessions_that_switch_in_mid_statement_keep_their_identity(console, connect):
    served = console(limits={'slice_ms': 1})
    clients = [connect(served) for _ in range(10)]
    statement = '''
        local id, mark = box.session.id(), {} box.session.storage.mark = mark
        for round = 1, 20 do
            if round % 3 == 0 then require("fiber").sleep(0.001) else for i = 1, 20000 do end end
            assert(box.session.id() == id and box.session.storage.mark == mark)
            table.sort({3, 1, 2}, function(a, b) require("fiber").yield() assert(box.session.id() == id) return a < b end)
            pcall(function() require("fiber").sleep(0) assert(box.session.id() == id) error("x") end)
            coroutine.wrap(function() require("fiber").sleep(0) assert(box.session.id() == id) end)()
        end
        return id'''.replace('\n', ' ')
    numbers = [client.value('box.session.id()') for client in clients]
    for client in clients:
        client.send(statement + '\n')
    assert [f'---\n- {number}\n...\n'.encode() for number in numbers] == [client.document() for client in clients]


def test_current_session_in_python(console, connect):
    served = console(expose={'who': lambda: [current_session().id, current_session().peer, current_session().user]})
    first, second = connect(served), connect(served)
    for client in (first, second, first):
        assert client.value('{box.session.id(), box.session.peer(), box.session.user()}') == client.value('who()')
    assert current_session() is None


def test_there_is_no_session_in_the_init_script(console, connect, tmp_path):
    script = tmp_path / 'init.lua'
    script.write_text('''seen = {box.session.id(), box.session.type(), box.session.exists(0), box.session.fd(),
        box.session.user(), box.session.peer() == nil} require('fiber').sleep(0.01)''')
    client = connect(console(init=str(script)))
    assert [0, 'background', False, -1, 'admin', True] == client.value('seen')
