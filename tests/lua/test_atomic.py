"""Trusted code is atomic where it must be, although another session may run between any two instructions of user code."""
from __future__ import annotations

import re

import gevent
import pytest
from conftest import rounds
from waiting import wait_for

from boxsession.lua import loader

SESSIONS = 4


def at_once(console, connect, statement):
    """The values that several sessions get for the same statement, which takes many time slices."""
    running = console(limits={'slice_ms': 1, 'fibers': 0})
    clients = [connect(running) for _ in range(SESSIONS)]
    statement = ' '.join(statement.split())
    jobs = [gevent.spawn(client.value, statement.replace('NUMBER', str(number))) for number, client in enumerate(clients)]
    gevent.joinall(jobs, raise_error=True)
    values = [job.value for job in jobs]
    assert not any(isinstance(value, dict) for value in values), values
    return values


def test_fibers_of_several_sessions_have_different_ids(console, connect):
    made = at_once(console, connect, """
        local fiber, ids = require('fiber'), {}
        local function wait() fiber.sleep(1000) end
        for i = 1, 1500 do ids[i] = fiber.id(fiber.new(wait)) end
        return ids""")
    ids = [number for one in made for number in one]
    assert len(ids) == len(set(ids)) == 1500 * SESSIONS


def test_short_statements_that_are_sent_together_are_atomic(console, connect):
    running = console(limits={'slice_ms': 1})
    clients = [connect(running) for _ in range(SESSIONS)]
    count = 2000

    def add(client):
        client.reply('1')
        client.send("while not go do require('fiber').sleep(0.01) end\n")
        client.send('local old = n or 0 for i = 1, 100 do end n = old + 1\n' * count)
        for _ in range(1 + count):
            client.document()

    jobs = [gevent.spawn(add, client) for client in clients]
    connect(running).reply('go = true')
    gevent.joinall(jobs, raise_error=True)
    assert clients[0].value('n') == SESSIONS * count


def test_documents_of_several_sessions_are_not_mixed(console, connect):
    mixed = at_once(console, connect, """
        local eval, first, mixed = require('console').eval, nil, 0
        for i = 1, 20000 do
            local reply = eval('{NUMBER, {NUMBER, NUMBER}}')
            first = first or reply
            if reply ~= first then mixed = mixed + 1 end
        end
        return mixed""")
    assert mixed == [0] * SESSIONS


@pytest.fixture
def turns(console, monkeypatch):
    """A factory of consoles that preempt a task after each `instructions` instructions of user code."""
    plain = loader.sources

    def start(instructions=1, **config):
        def often(wanted=None):
            found = plain(wanted)
            text = found['kernel/task']
            found['kernel/task'] = re.sub(
                rb'(HOOK_COUNT, COROUTINE_COUNT, LEAST_COUNT, COROUTINE_KB =) \d+, \d+, \d+,',
                rb'\1 %d, %d, %d,' % ((instructions,) * 3), text)
            assert found['kernel/task'] != text
            return found

        monkeypatch.setattr(loader, 'sources', often)
        running = console(limits={'slice_ms': 1, 'fibers': 0}, **config)
        running._running.runtime.dispatcher.turns.slice_seconds = 1e-9
        return running

    return start


def each(running, connect, statement, sessions=SESSIONS):
    """The replies that several sessions get for one statement that they send at the same time."""
    clients = [connect(running) for _ in range(sessions)]
    statement = ' '.join(statement.split())
    jobs = [gevent.spawn(client.value, statement) for client in clients]
    gevent.joinall(jobs, raise_error=True)
    return [job.value for job in jobs]


def test_triggers_of_several_sessions_are_all_kept(turns, connect):
    running = turns()
    each(running, connect, 'for i = 1, 5 do box.session.on_auth(function() end) end return true')
    assert connect(running).value('#box.session.on_auth()') == 5 * SESSIONS


def test_a_statement_that_changes_its_environment_is_its_own(turns, connect):
    running = turns()
    statement = "local id = box.session.id() setfenv(1, {id = id}) for i = 1, 5 do end return _G == nil and id"
    clients = [connect(running) for _ in range(SESSIONS)]
    def ask(client):
        own = client.value('box.session.id()')
        return [client.reply(statement) for _ in range(40)], f'---\n- {own}\n...\n'.encode()

    jobs = [gevent.spawn(ask, client) for client in clients]
    gevent.joinall(jobs, raise_error=True)
    for replies, own in (job.value for job in jobs):
        assert replies == [own] * 40


def test_a_fiber_has_one_handle(turns, connect):
    running = turns()
    client = connect(running)
    assert client.value(' '.join("""
        local fiber = require('fiber')
        ids, handles = {}, {}
        for i = 1, 20 do ids[i] = fiber.id(fiber.new(function() fiber.sleep(1000) end)) end
        collectgarbage()
        return #ids""".split())) == 20
    values = each(running, connect, """
        local found = {}
        for i = 1, #ids do
            found[i] = require('fiber').find(ids[i])
            found[i]:status()
        end
        handles[box.session.id()] = found
        return true""")
    assert values == [True] * SESSIONS
    assert client.value(' '.join("""
        local count, known = 0, {}
        for _, found in pairs(handles) do for i = 1, #found do known[found[i]] = true end end
        for _ in pairs(known) do count = count + 1 end
        return count""".split())) == 20


def test_storages_that_are_first_used_at_the_same_time_are_one(turns, connect):
    running = turns()
    # The second is that of the session's own fiber.
    for storage in ('box.session.storage', 'me.storage'):
        assert connect(running).value(' '.join("""
            local fiber, made = require('fiber'), {}
            local me, begin = fiber.self(), fiber.cond()
            for i = 1, 4 do
                made[i] = fiber.create(function() begin:wait() STORAGE[i] = i end)
                made[i]:set_joinable(true)
            end
            begin:broadcast()
            for i = 1, 4 do made[i]:join() end
            return STORAGE[1] + STORAGE[2] + STORAGE[3] + STORAGE[4]""".replace('STORAGE', storage).split())) == 10


@pytest.mark.parametrize('instructions', [3, 4, 5])
def test_a_cancelled_reader_takes_no_message(turns, connect, instructions):
    running = turns(instructions)
    reader, writer = connect(running), connect(running)
    writer.value("channel = require('fiber').channel(10) return true")
    fiber = reader.value("require('fiber').id()")
    task = running._running.runtime.state.tasks[fiber]
    for iterations in range(20):
        reader.send('channel:get()\n')
        wait_for(lambda: task.waiter and writer.value('channel:has_readers()'))
        running._running.runtime.fibers.wake(fiber)           # a spurious wakeup: it waits again
        for _ in range(iterations):
            gevent.sleep(0)
        running._running.runtime.dispatcher.cancel(task)
        assert b'cancelled' in reader.document()
        assert writer.value('channel:has_readers()') is False


def test_who_a_session_is_is_the_same_everywhere(turns, connect):
    running = turns()
    client, other = connect(running), connect(running)
    own = client.value('box.session.id()')
    for wait in range(0, 1600, rounds(80, 5)):
        client.send('while true do box.session.su("guest") box.session.su("admin") end\n')
        wait_for(lambda wait=wait: other.value(f'for i = 1, {wait} do end return box.session.cancel({own})'))
        assert b'cancelled' in client.document()
        shown = other.value(f'box.session.list({{id = {own}}})[1].user')
        assert client.value('box.session.user()') == shown
        client.reply('box.session.su("admin")')


def test_rights_that_change_while_they_are_looked_up_are_looked_up_again(turns, connect):
    running = turns()
    admin, ann = connect(running), connect(running)
    admin.reply("box.schema.user.create('ann')")
    ann.reply("box.session.su('ann')")
    for wait in range(0, 600, rounds(50, 5)):
        admin.reply("box.schema.user.grant('ann', 'execute', 'universe')")
        admin.send(f"for i = 1, {wait} do end box.schema.user.revoke('ann', 'execute', 'universe')\n")
        gevent.sleep(0.002)             # into the revoke; `wait` varies how far it is then
        ann.reply('1')
        admin.document()
        assert 'denied' in ann.error('box.cfg')


def test_the_first_environment_is_one(turns, connect):
    running = turns()
    each(running, connect, "require('console').initial_env()[box.session.id()] = true return true")
    assert connect(running).value(' '.join("""
        local count = 0
        for name in pairs(require('console').initial_env()) do count = count + (type(name) == 'number' and 1 or 0) end
        return count""".split())) == SESSIONS


def test_a_fiber_that_could_not_be_started_is_none(console, connect):
    client = connect(console())
    client.reply(' '.join("""
        local fiber = require('fiber')
        local function nothing() end
        local function deep()
            if not pcall(deep) then
                pcall(fiber.new, nothing)
                pcall(fiber.create, nothing)
            end
            error('deep')
        end
        return pcall(deep)""".split()))
    wait_for(lambda: client.value("(function() local count = 0 for _ in pairs(require('fiber').info()) do "
                                  "count = count + 1 end return count end)()") == 1)


def test_a_hook_that_is_taken_away_does_not_refuse_a_session(turns, connect):
    running = turns()
    client = connect(running)
    client.send(' '.join("""
        for i = 1, 2000 do require('console').on_start(function() end) require('console').on_start(nil) end
        """.split()) + '\n')
    for _ in range(40):
        assert connect(running).value('1') == 1


@pytest.mark.parametrize('instructions', [1, 2])
def test_a_fiber_that_ends_without_memory_is_over(turns, connect, instructions):
    running = turns(instructions)
    running._running.runtime.limit_memory(1 << 24)
    client = connect(running)
    client.reply(' '.join("""
        kept = {}
        waiting = require('fiber').create(function()
            local size = 2^20
            while size > 8 do
                if not pcall(function() kept[#kept + 1] = #kept .. ('x'):rep(size) end) then size = size / 2 end
            end
            error('x')
        end)""".split()))
    wait_for(lambda: not running._running.runtime.fibers)
    client.reply('kept = nil')
    client.reply('collectgarbage()')
    assert client.value('waiting:status()') == {'error': 'the fiber is dead'} or client.value('waiting:status()') == 'dead'
    assert client.value("(function() local count = 0 for _ in pairs(require('fiber').info()) do count = count + 1 end "
                        "return count end)()") == 1


def test_errors_that_become_reasons_at_the_same_time_make_no_cycle(turns, connect):
    running = turns()
    one, other = connect(running), connect(running)
    for wait in range(0, 30, rounds(2, 1)):
        one.reply("first, second, begun = box.error.new('T', 'first'), box.error.new('T', 'second')")
        other.send('while not begun do end pcall(second.set_prev, second, first)\n')
        one.send(f'begun = true for i = 1, {wait} do end pcall(first.set_prev, first, second)\n')
        one.document()
        other.document()
        assert one.value('first.prev == second and second.prev == first') is False
