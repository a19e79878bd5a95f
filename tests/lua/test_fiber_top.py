"""fiber.top(): which fibers use the time of the event loop."""
from __future__ import annotations

import gevent
import pytest
from conftest import BINARY, PYTHON, TEXT

from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.scheduler.turns import Account, Lane

DISABLED = 'fiber.top() is disabled. Enable it with fiber.top_enable() first'
OWN = "require('fiber').top().cpu[('%d/%s'):format(require('fiber').id(), require('fiber').name())]"
LOOP = 'local ends = fiber.clock() + 0.05 while fiber.clock() < ends do end'


@pytest.fixture
def client(console, connect):
    return ready(connect(console()))


def ready(client):
    client.reply("fiber = require('fiber')")
    return client


def by_name(top):
    return {key.split('/')[1]: row for key, row in top['cpu'].items()}


def test_it_is_disabled_at_first_and_afterwards(client):
    assert DISABLED == client.error('fiber.top()')
    client.reply('fiber.top_enable()')
    assert {'cpu', 'cpu_misses'} == set(client.value('fiber.top()'))
    client.reply('fiber.top_disable()')
    assert DISABLED == client.error('fiber.top()')


def test_they_return_nothing_and_may_be_repeated(client):
    assert [0, 0, 0, 0] == client.values(
        "local function n(...) return select('#', ...) end return n(fiber.top_enable(1, {})), n(fiber.top_enable()), "
        "n(fiber.top_disable('x')), n(fiber.top_disable())")


def test_a_busy_fiber_has_most_of_the_time(client):
    top = client.value(
        "fiber.top_enable() for _, name in ipairs{'busy', 'sleeping'} do local ends = fiber.clock() + 0.4 "
        "fiber.new(function() while fiber.clock() < ends do if name == 'sleeping' then fiber.sleep(0.01) end end end)"
        ":name(name) end fiber.sleep(0.3) return fiber.top()")
    assert 0 == top['cpu_misses']
    rows = by_name(top)
    assert {'busy', 'sleeping', 'sched', 'console'} == set(rows)
    assert '1/sched' in top['cpu']
    for field in 'instant', 'average':
        assert pytest.approx(100) == sum(row[field] for row in rows.values())
        assert rows['busy'][field] > 50 > rows['sleeping'][field]
    assert rows['busy']['time'] > rows['sleeping']['time'] > 0


def test_a_fiber_that_has_ended_is_not_listed(client):
    client.reply("fiber.top_enable() f = fiber.create(function() fiber.name('brief') fiber.sleep(1000) end)")
    assert 'brief' in by_name(client.value('fiber.top()'))
    assert 'brief' not in by_name(client.value('f:cancel() fiber.sleep(0) fiber.sleep(0) return fiber.top()'))


def test_many_fibers_are_all_listed(client):
    client.reply('for i = 1, 333 do fiber.create(fiber.sleep, 1000) end')
    top = client.value(f'fiber.top_enable() {LOOP} return fiber.top()')
    assert 1 + 333 + 1 == len(top['cpu'])
    own, = (row for key, row in top['cpu'].items() if 'console' in key)
    assert own['time'] == max(row['time'] for row in top['cpu'].values())


def test_enabling_again_keeps_the_times_and_enabling_anew_does_not(client):
    client.reply(f'fiber.top_enable() {LOOP}')
    kept = client.value(f'fiber.top_enable() return {OWN}')['time']
    assert kept > 0.01
    assert kept > client.value(f'fiber.top_disable() fiber.top_enable() return {OWN}')['time']


def test_a_session_that_waits_in_a_function_of_the_program_uses_no_time(console, connect):
    def rest():
        gevent.sleep(0.5)

    client = ready(connect(console(expose={'rest': rest})))
    assert client.value(f'fiber.top_enable() rest() return {OWN}')['time'] < 0.25
    assert client.value(f'rest() return {OWN}')['time'] < 0.25


def test_all_kinds_of_sessions_have_rows(console, connect, connect_binary):
    served = console(listen=[TEXT, BINARY, PYTHON])
    ready(connect(served)).reply('fiber.top_enable()')
    binary = connect_binary(served)
    binary.eval(f"local fiber = require('fiber') {LOOP}")
    row, = binary.eval(f'return {OWN}')
    assert row['time'] > 0.01
    python = connect(served.addresses[2])
    python.reply('\\set language python')
    python.reply('sum(range(10 ** 6))')
    python.reply('\\set language lua')
    assert python.value(OWN)['time'] > 0.004


def test_a_sandbox_cannot_use_it(console, connect):
    served = console(listen=[TEXT, {'address': TEXT, 'user': 'guest'}],
                     script="box.schema.user.grant('guest', 'read', 'universe')")
    guest = connect(served.addresses[1])
    for name in 'info', 'top', 'top_enable', 'top_disable':
        assert guest.values(f"require('fiber').{name}") == [None]
    ready(connect(served)).reply('fiber.top_enable()')
    assert guest.values("require('fiber').top") == [None]


def test_nothing_is_left_when_it_is_disabled(console, connect):
    served = console()
    client = ready(connect(served))
    dispatcher = served._running.dispatcher
    client.reply('fiber.top_enable()')
    assert dispatcher.turns.top is not None
    scheduled, ran = dispatcher.turns.short.run, []
    client.reply('fiber.top_disable()')
    assert dispatcher.turns.top is None
    scheduled(Account(), lambda: ran.append(True))
    assert ran
    assert [Dispatcher, Lane, Lane] == [type(dispatcher), type(dispatcher.turns.short), type(dispatcher.turns.long)]
