"""What a hostile or unlucky client does: nobody else notices, nothing is left behind."""
from __future__ import annotations

import gevent
import pytest


def wait_for(client, expression):
    with gevent.Timeout(10):
        while client.values(expression) in ([False], [0], [None]):
            gevent.sleep(0.01)


@pytest.mark.parametrize('statement', [
    # At the end of the C stack a look at the clock fails: such a depth must not be a hiding place.
    'local function d() pcall(d) while true do end end d()',
    'local function d() pcall(ch.get, ch, 0.001) pcall(d) while true do end end d()',
    'local function d() pcall(string.gsub, "x", "x", d) while true do end end d()',
    'local function d() return 1 + select(2, pcall(d)) end pcall(d) while true do end',
    'fiber.create(function() error(setmetatable({}, {__tostring = function() while true do end end})) end) '
    'fiber.sleep(1000)',
])
def test_a_deep_stack_is_no_hiding_place(console, connect, statement):
    served = console(limits={'slice_ms': 5})
    client, bystander = connect(served), connect(served)
    client.reply("fiber = require('fiber') ch = fiber.channel()")
    client.send(statement + '\n')
    for number in range(5):
        assert number == bystander.value(str(number))
    client.send(b'\x03')
    assert b'cancelled' in client.document()
    assert 2 == client.value('1 + 1')


@pytest.mark.parametrize('tostring', ["error('boom')", 'return 5', 'return {}', 'error({})'])
def test_an_error_that_cannot_be_shown_harms_no_end(console, connect, caplog, tostring):
    served = console()
    admin = connect(served)
    admin.reply(f'bad = setmetatable({{}}, {{__tostring = function() {tostring} end}}) ran = 0 fiber = require("fiber")')
    admin.reply('box.session.on_disconnect(function() ran = ran + 1 end) '
                'box.session.on_disconnect(function() error(bad) end)')
    client = connect(served)
    number = client.value('box.session.id()')
    client.close()
    wait_for(admin, f'box.session.exists({number}) == 0')
    assert 1 == admin.value('ran')
    admin.reply('f = fiber.create(function() error(bad) end)')
    assert 'dead' == admin.value('f:status()')
    assert 'Traceback' not in caplog.text
    admin.reply('for _, t in ipairs(box.session.on_disconnect()) do box.session.on_disconnect(nil, t) end')


def test_a_metatable_on_the_storages_harms_no_end(console, connect):
    served = console()
    admin, client = connect(served), connect(served)
    admin.reply("setmetatable(getmetatable(box.session).aggregate_storage, {__newindex = function() while true do end end, "
                "__index = function() error('boom') end})")
    client.reply('box.session.storage.x = 1')
    number = client.value('box.session.id()')
    client.close()
    wait_for(admin, f'box.session.exists({number}) == 0')


@pytest.mark.slow
def test_pipelined_statements_let_the_others_in(console, connect):
    served = console(limits={'slice_ms': 10})
    greedy, bystander = connect(served), connect(served)
    greedy.send('for i = 1, 2e5 do end\n' * 2000)
    bystander.send('done = 1\n')
    bystander.document()
    assert 1 == bystander.value('done')
    greedy.send(b'\x03x = 5\n')
    replies = [greedy.document() for _ in range(2001)]
    assert b'---\n...\n' == replies[-1]
    assert sum(b'cancelled' in reply for reply in replies) > 100


def test_many_lines_of_one_statement_let_the_others_in(console, connect):
    served = console(limits={'slice_ms': 10})
    greedy, bystander = connect(served), connect(served)
    greedy.send('do\n' + 'x = 1\n' * 3000)
    for number in range(5):
        assert number == bystander.value(str(number))
    greedy.send('end x = 2\n')
    assert b'---\n...\n' == greedy.document()


def test_a_client_that_half_closes_and_then_vanishes_is_noticed(console, connect):
    served = console()
    admin, client = connect(served), connect(served)
    admin.reply('gone = 0 box.session.on_disconnect(function() gone = gone + 1 end)')
    client.send('require("fiber").sleep(1000)\n')
    gevent.sleep(0.02)
    client.end()
    gevent.sleep(0.02)
    client.reset()
    wait_for(admin, 'gone')
    assert 1 == admin.value('gone')
    admin.reply('box.session.on_disconnect(nil, box.session.on_disconnect()[1])')


def test_a_client_on_a_unix_socket_that_is_gone_is_noticed(connect, tmp_path):
    from boxsession import Console
    served = Console(listen=f'unix:{tmp_path}/a.sock')
    served.start()
    try:
        admin, client = connect(served), connect(served)
        number = client.value('box.session.id()')
        client.send('while true do end\n')
        gevent.sleep(0.02)
        client.close()
        wait_for(admin, f'box.session.exists({number}) == 0')
    finally:
        served.stop()


def test_clients_that_come_in_the_moment_of_a_stop_leave_nothing():
    from gevent import socket

    from boxsession import Console
    for _ in range(20):
        served = Console(listen='127.0.0.1:0', config={'limits': {'drain_seconds': 1}})
        served.start()
        address = served.addresses[0]
        clients = [socket.create_connection((address.host, address.port)) for _ in range(5)]
        gevent.idle()
        served.stop()
        gevent.sleep(0)
        assert 0 == len(served.sessions)
        for client in clients:
            client.close()


def test_one_sessions_module_table_is_not_trusted(console, connect):
    served = console()
    first, second = connect(served), connect(served)
    first.reply("require('console').delimiter = nil")
    assert second.values('\\set delimiter ;') is None
    second.send('1;\n')
    assert b'---\n- 1\n...\n' == second.document()


def test_a_statement_that_changes_its_environment_changes_nobody_elses(console, connect):
    served = console()
    first, second = connect(served), connect(served)
    second.reply("fiber = require('fiber') zz = 'mine' who = " + str(first.value('box.session.id()')))
    second.reply("function f() if box.session.id() == who then setfenv(2, {zz = 'stolen'}) else fiber.sleep(0.1) end end")
    second.send('f() return zz\n')
    gevent.sleep(0.02)
    assert 'stolen' == first.value('f() return zz')
    assert b'---\n- mine\n...\n' == second.document()
    assert 'mine' == second.value('zz')


@pytest.mark.parametrize('data', [b'\xff\xfax\xff\xf4', b'\xff\x03', b'\xff\xfa\xff\xffx\xff\xf4'])
def test_an_interrupt_is_seen_behind_what_is_no_telnet(console, connect, data):
    client = connect(console(limits={'slice_ms': 5}))
    client.send('while true do end\n')
    gevent.sleep(0.02)
    client.send(data)
    assert b'cancelled' in client.document()


def test_a_log_line_is_one_line(console, connect, caplog):
    client = connect(console())
    client.reply(r"require('log').info('a\nERROR forged\r\27[31m') print('b\nc')")
    assert [r'a\nERROR forged\r\x1b[31m', r'b\nc'] == [record.getMessage() for record in caplog.records][-2:]
