"""Fibers, channels and conditions, as far as the transcripts do not test them."""
from __future__ import annotations

import gc

import gevent
import pytest
from conftest import need
from waiting import wait_for


@pytest.fixture
def served(console):
    return console()


@pytest.fixture
def client(served, connect):
    client = connect(served)
    client.reply("fiber = require('fiber')")
    return client


def test_a_fiber_keeps_its_creators_session(client):
    client.reply('box.session.storage.mark = 7')
    assert client.value('box.session.id()') == client.value(
        'local id fiber.create(function() fiber.sleep(0.001) id = box.session.id() end) '
        'while not id do fiber.sleep(0.001) end return id')
    assert 7 == client.value('local m f = fiber.new(function() return box.session.storage.mark end) '
                             'f:set_joinable(true) return select(2, f:join())')


def after_the_end(served, client, connect, name):
    """Ends a session whose fiber waits for `go`, sets `go`, and returns (the session's id, the global `name` then)."""
    number = client.value('box.session.id()')
    client.close()
    other = connect(served)
    wait_for(lambda: not other.value(f'box.session.exists({number})'))
    other.reply('go = true')
    wait_for(lambda: other.values(name) != [None])
    return number, other.value(name)


def test_a_fiber_outlives_its_session(served, client, connect):
    client.reply('fiber.create(function() while not go do fiber.sleep(0.001) end '
                 'seen = {box.session.id(), box.session.exists(box.session.id()), box.session.peer() ~= nil} end)')
    number, seen = after_the_end(served, client, connect, 'seen')
    assert [number, 0, True] == seen


def test_an_error_in_the_background_goes_to_the_log(client, caplog):
    client.reply('fiber.create(function() fiber.sleep(0.001) error("in the dark") end)')
    wait_for(lambda: 'in the dark' in caplog.text)
    assert f'session {client.value("box.session.id()")}' in caplog.text


def test_a_joined_error_object_is_the_same_and_not_logged(client, caplog):
    client.reply('1')
    caplog.clear()
    assert [True] == client.values(
        "e = box.error.new{code = 5, reason = 'r'} f = fiber.new(function() error(e) end) f:set_joinable(true) "
        'local ok, err = f:join() return not ok and err == e')
    assert '' == caplog.text


@pytest.mark.parametrize(('raised', 'message'), [
    ("'x', 0", 'x'), ('', 'nil'), ('true', 'true'), ('5, 0', '5'), ('box.NULL', 'cdata<void *>: NULL'),
    ("setmetatable({}, {__tostring = function() return 'hi' end})", 'hi'), ("('x'):rep(2000), 0", 'x' * 511)])
def test_other_joined_errors_are_error_objects(client, raised, message):
    assert ['cdata', message, 'LuajitError', None] == client.values(
        f'f = fiber.new(function() error({raised}) end) f:set_joinable(true) local ok, e = f:join() '
        'return type(e), e.message, e.type, e.code')


def test_a_joined_table_is_shown_as_text(client):
    assert 'table: 0x' in client.values(
        'f = fiber.new(function() error({a = 1}) end) f:set_joinable(true) return f:join()')[1]
    assert ['FiberIsCancelled'] == client.values(
        'f = fiber.new(fiber.sleep, 9) f:set_joinable(true) fiber.yield() f:cancel() local ok, e = f:join() return e.type')
    assert 'an error that cannot be shown' in str(client.values(
        "f = fiber.new(function() error(setmetatable({}, {__tostring = error})) end) f:set_joinable(true) return f:join()"))


# What a fiber does that was cancelled and has caught the error: what it notes, and whether it still waits.
AFTER_A_CANCEL = {
    'fiber.sleep(100)': ('none', 'suspended'), 'fiber.sleep(0.001)': ('no', 'dead'), 'fiber.yield()': ('no', 'dead'),
    'fiber.testcancel()': ('no', 'dead'), 'ch:get()': ('no', 'dead'), 'ch:get(0)': ('no', 'dead'),
    'ch:put(1)': ('no', 'dead'),
    'full:get()': ('yes', 'dead'), 'room:put(1)': ('yes', 'dead'), 'c:wait()': ('none', 'suspended'),
    'c:wait(0.001)': ('no', 'dead'),
    'ended:join()': ('yes', 'dead'), 'ending:join()': ('yes', 'dead'),
}


@pytest.mark.parametrize('target', [pytest.param('', id='ours'),
                                    pytest.param('real', id='Tarantool', marks=need('tarantool'))])
@pytest.mark.parametrize('wait', AFTER_A_CANCEL)
def test_a_cancelled_fiber_goes_on(client, connect, request, wait, target):
    if target:
        client = connect(request.getfixturevalue('tarantool').address)
        client.reply("fiber = require('fiber')")
    client.reply("ch, full, room, c = fiber.channel(), fiber.channel(1), fiber.channel(1), fiber.cond() full:put(1) "
                 "ended, ending = fiber.new(tostring, 1), fiber.new(fiber.sleep, 0.005) "
                 "ended:set_joinable(true) ending:set_joinable(true) fiber.sleep(0) noted = 'none'")
    client.reply(f"f = fiber.create(function() pcall(fiber.sleep, 100) "
                 f"noted = pcall(function() {wait} end) and 'yes' or 'no' end)")
    client.reply('f:cancel()')
    wanted, status = AFTER_A_CANCEL[wait]
    wait_for(lambda: [status, wanted] == client.values('fiber.sleep(0.01) return f:status(), noted'))
    client.reply('pcall(f.cancel, f)')
    wait_for(lambda: ['dead'] == client.values('f:status()'))


def test_a_cancel_in_front_of_a_wait_is_not_lost(client):
    client.reply('r = {} f = fiber.new(function() r[1] = pcall(fiber.sleep, 100) r[2] = pcall(fiber.sleep, 0) end) '
                 'f:cancel()')
    wait_for(lambda: ['dead', [False, False]] == client.values('f:status(), r'))


@pytest.mark.parametrize(('statement', 'values'), [
    ('f = fiber.create(function() end) return f:id() > 100, fiber.find(f:id()), pcall(f.name, f)',
     [True, None, False, 'the fiber is dead']),
    ("local o = {} for _, n in ipairs{31, 255, 256, 1000} do o[#o + 1] = {pcall(fiber.name, ('x'):rep(n))} end return o",
     [[[True], [True], [False, 'Fiber name is too long'], [False, 'Fiber name is too long']]]),
    ("pcall(fiber.name, ('x'):rep(300), {truncate = false}), pcall(fiber.name, fiber.self(), ('x'):rep(300))",
     [False, False, 'Fiber name is too long']),
    ("fiber.name(('x'):rep(300), {truncate = true}) return #fiber.name()", [255]),
    ("fiber.name(fiber.self(), ('y'):rep(300), {truncate = true}) return fiber.self():name() == ('y'):rep(255)", [True]),
    ("fiber.name(5) return fiber.name()", ['5']), ("fiber.name('a\0b') return fiber.name()", ['a']),
    ('fiber.name(fiber.self(), {})', [{'error': "bad argument #2 to '?' (string expected, got table)"}]),
    ('fiber.name(nil)', [{'error': "bad argument #1 to '?' (string expected, got nil)"}]),
    ('fiber.testcancel(1)', [{'error': 'fiber.testcancel(): bad arguments'}]),
])
def test_ids_and_names(client, statement, values):
    assert values == client.values(statement)


@pytest.mark.parametrize(('statement', 'values'), [
    ('f = fiber.new(function() return 1, nil, 3, nil end) f:set_joinable(true) return select("#", f:join())', [5]),
    ('f = fiber.create(fiber.sleep, 10) f:cancel() while f:status() ~= "dead" do fiber.yield() end return f:status()',
     ['dead']),
    ('f = fiber.new(function() return pcall(fiber.sleep, 10) end) f:set_joinable(true) fiber.yield() f:cancel() '
     'return f:join()', [True, False, 'fiber is cancelled']),
    ('f = fiber.new(fiber.sleep, 10) f:set_joinable(true) fiber.yield() f:cancel() return f:join()',
     [False, 'fiber is cancelled']),
    ('f = fiber.create(function() woken = false fiber.sleep(100) woken = true end) f:wakeup() fiber.yield() '
     'fiber.yield() return woken', [True]),
    ('f = fiber.create(function() end) return f:status(), pcall(f.join, f)', ['dead', False, 'the fiber is dead']),
    ('f = fiber.create(fiber.sleep, 0.01) return pcall(f.join, f)', [False, 'the fiber is not joinable']),
    ('f = fiber.self() return tostring(f):match("^fiber: %d+$") ~= nil, type(f)', [True, 'userdata']),
    ('fiber.create(function() end)', ['the fiber is dead']),
    ('fiber.find(fiber.id()) == fiber.self(), fiber.self() == fiber.self()', [True, True]),
    ('fiber.kill(99999)', [{'error': 'the fiber is dead'}]),
    ('getmetatable(fiber.self()), getmetatable(fiber.channel())', [False, False]),
    ('order = {} for i = 1, 3 do fiber.create(function() table.insert(order, i) fiber.yield() '
     'table.insert(order, i + 10) end) end while #order < 6 do fiber.yield() end return order', [[1, 2, 3, 11, 12, 13]]),
])
def test_fibers(client, statement, values):
    assert values == client.values(statement)


@pytest.mark.parametrize(('statement', 'values'), [
    ('ch = fiber.channel() fiber.create(function() ch:put({1}) end) return ch:get()', [[1]]),
    ('ch = fiber.channel(2) ch:put(1) ch:put(2) fiber.create(function() ch:put(3) end) '
     'return ch:has_writers(), ch:get(), ch:get(), ch:get(), ch:count()', [True, 1, 2, 3, 0]),
    ('ch = fiber.channel() for i = 1, 3 do fiber.create(function() local v = ch:get() got = (got or "") .. i .. v end) end '
     'for _, v in ipairs({"a", "b", "c"}) do ch:put(v) end while not got or #got < 6 do fiber.yield() end return got',
     ['1a2b3c']),
    ('ch = fiber.channel() f = fiber.new(ch.get, ch) f:set_joinable(true) fiber.yield() f:cancel() f:join() '
     'return ch:has_readers(), ch:put(1, 0)', [False, False]),
    ('ch = fiber.channel(1) return ch:put(nil), ch:count(), ch:get(0), ch:get(0)', [True, 1, None, None]),
    ('ch = fiber.channel() fiber.create(function() r = {ch:put(1)} end) ch:close() '
     'while not r do fiber.yield() end return r', [[False]]),
    ('tostring(fiber.channel(1)), tostring(fiber.cond())', ['channel: 0', 'cond']),
    ('fiber.channel(-1)', [{'error': 'fiber.channel(size): negative size'}]),
    ('c = fiber.cond() n = 0 for i = 1, 3 do fiber.create(function() c:wait() n = n + 1 end) end c:signal() '
     'fiber.sleep(0.01) local a = n c:broadcast() fiber.sleep(0.01) return a, n', [1, 3]),
    ('c = fiber.cond() return c:wait(0.001), pcall(c.wait, c, -1)', [False, False, 'usage: cond:wait([timeout])']),
])
def test_channels_and_conditions(client, statement, values):
    assert values == client.values(statement)


def test_sessions_talk_through_a_channel(served, client, connect):
    client.reply('ch = fiber.channel()')
    client.send('ch:get()\n')
    other = connect(served)
    assert True is other.value('ch:put("from " .. box.session.id(), 5)')
    assert f'---\n- from {other.value("box.session.id()")}\n...\n'.encode() == client.document()


@pytest.mark.parametrize('statement', ['ch:get()', 'c:wait()', 'f:join()', 'while true do pcall(ch.get, ch) end'])
def test_a_wait_is_cancelled_and_leaves_no_waiter(served, client, connect, statement):
    client.reply('ch, c = fiber.channel(), fiber.cond() f = fiber.create(fiber.sleep, 1000) f:set_joinable(true)')
    client.send(statement + '\n')
    assert 1 == connect(served).value('1')
    client.send(b'\x03')
    assert b'cancelled' in client.document()
    assert [False, False] == client.values('ch:has_readers(), ch:put(1, 0)')


def test_a_push_of_a_fiber_arrives(client):
    client.reply('fiber.create(function() fiber.sleep(0.01) box.session.push({5}) end)')
    assert b'%TAG !push! tag:tarantool.io/push,2018\n---\n- 5\n...\n' == client.document()


def test_a_push_of_a_fiber_whose_session_is_over_is_refused(served, client, connect):
    client.reply('fiber.create(function() while not go do fiber.sleep(0.001) end pushed = {box.session.push({5})} end)')
    assert [None, 'Session is closed'] == after_the_end(served, client, connect, 'pushed')[1]


def test_none_is_leaked(client):
    client.reply('fiber.create(function() end) collectgarbage()')
    before = client.value('#(function() local t = {} for k in pairs(fiber.info()) do t[#t + 1] = k end return t end)()')
    client.reply('for i = 1, 10000 do local f = fiber.create(function() fiber.self().storage.x = i end) end')
    client.reply('for i = 1, 1000 do fiber.create(fiber.sleep, 0.01) end')
    wait_for(lambda: before == client.value(
        '#(function() local t = {} for k in pairs(fiber.info()) do t[#t + 1] = k end return t end)()'))


def test_endless_fibers_end_with_the_console(console, connect):
    def greenlets():
        gc.collect()
        return sum(issubclass(type(found), gevent.Greenlet) and not found.dead for found in gc.get_objects())

    before = greenlets()
    served = console()
    client = connect(served)
    client.reply("fiber = require('fiber') for i = 1, 5 do fiber.create(function() while true do "
                 "pcall(fiber.sleep, 1000) end end) fiber.create(function() while true do end end) end")
    served.stop()
    assert before == greenlets()


@pytest.mark.parametrize('statement', [
    'fiber.create(1)', 'fiber.new()', 'fiber.sleep("x")', 'fiber.name({})', 'fiber.status(1)', 'fiber.join()',
    'fiber.find()', 'fiber.channel("x")', 'fiber.channel():put()', 'fiber.channel():get("x")', 'fiber.cond().wait()',
    'fiber.self().join()', 'fiber.channel().get(fiber.cond())'])
def test_wrong_arguments_are_told(client, statement):
    assert client.error(statement)
    assert 'builtin' not in client.error(statement)


def test_a_cancelled_fiber_that_does_not_wait_is_stopped(console, connect):
    client = connect(console(limits={'slice_ms': 5}))
    client.reply("fiber = require('fiber')")
    client.reply('f = fiber.new(function() while true do pcall(function() while true do end end) end end)')
    assert ['suspended'] == client.values('fiber.sleep(0.02) return f:status()')
    client.reply('f:cancel()')
    wait_for(lambda: ['dead'] == client.values('f:status()'))
