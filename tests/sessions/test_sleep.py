"""A session whose client is silent has no greenlet: it goes on in a new one as if nothing had been."""
from __future__ import annotations

import gevent
import pytest

from boxsession import current_session
from boxsession.sessions import registry


def until(condition):
    with gevent.Timeout(20):
        while not condition():
            gevent.sleep(0.01)


def asleep(running, number=1):
    return [connection for connection in running.connections() if connection.greenlet is None] and sum(
        connection.greenlet is None for connection in running.connections()) == number


@pytest.fixture
def soon(monkeypatch):
    """A session sleeps as soon as it is looked at, and that is often."""
    monkeypatch.setattr(registry, '_SLEEP_SECONDS', 0)
    monkeypatch.setattr(registry, '_IDLE_LOOK_SECONDS', 0.02)


def test_who_has_sent_nothing_sleeps(console, connect):
    running = console()
    clients = [connect(running) for _ in range(3)]
    until(lambda: asleep(running, 3))
    assert [2] * 3 == [client.value('1 + 1') for client in clients]


def test_who_has_sent_a_part_of_a_line_sleeps_and_goes_on(console, connect, soon):
    running = console()
    client = connect(running)
    for piece in ('retu', 'rn 1 ', '+ '):
        client.send(piece)
        until(lambda: asleep(running) and running.connections()[0].counters()[1] > 0)
    client.send('41\n')
    assert client.document() == b'---\n- 42\n...\n'


def test_everything_of_a_session_is_as_before(console, connect, soon):
    seen = []
    running = console(expose={'note': lambda: seen.append(current_session().id) or len(seen)})
    client = connect(running)

    def sleep():
        until(lambda: asleep(running))

    assert client.value('box.session.id()') == 1
    client.reply('box.session.storage.mine = 7')
    sleep()
    assert client.value('box.session.storage.mine') == 7
    sleep()
    assert client.value('note()') == 1 and seen == [1]
    client.send('local x = {1,\n')
    sleep()
    client.send('2} return #x\n')
    assert client.document() == b'---\n- 2\n...\n'
    client.reply("require('console').delimiter('!')")
    sleep()
    client.send('return\n9!\n')
    assert client.document() == b'---\n- 9\n...\n'
    client.reply("require('console').delimiter('')!")
    sleep()
    client.send('\x03')
    client.send('while true do end\n')
    until(lambda: running.connections()[0].describe()['state'] == 'running')
    client.send('\x03')
    assert b'cancelled' in client.document()
    sleep()
    assert running.connections()[0].describe()['state'] == 'idle'


def test_pushes_reach_it(console, connect, soon):
    running = console()
    client = connect(running)
    client.reply("require('fiber').new(function() local s = box.session require('fiber').sleep(0.3) s.push(5) end)")
    until(lambda: asleep(running))
    assert b'5' in client.document()
    assert asleep(running) or client.value('1') == 1


def test_a_killed_one_says_goodbye(console, connect, soon):
    running = console()
    admin, client = connect(running), connect(running)
    admin.reply('gone = 0 box.session.on_disconnect(function() gone = gone + 1 end)')
    client.reply('1')
    until(lambda: asleep(running, 2))
    assert admin.value('box.session.kill(2)') == 1
    assert b'killed by session 1' in client.read_to_end()
    assert admin.value('gone') == 1 and len(running.sessions) == 1


def test_one_whose_client_leaves_ends(console, connect):
    running = console()
    client = connect(running)
    until(lambda: asleep(running))
    client.close()
    until(lambda: not running.sessions)
    client = connect(running)
    until(lambda: asleep(running))
    client.reset()
    until(lambda: not running.sessions)


def test_one_ends_whose_client_is_missed_by_a_push_first(console, connect):
    running = console()
    for _ in range(60):
        client = connect(running)
        client.send("f = require('fiber') f.create(function() while true do for i = 1, 50 do box.session.push(i) end "
                    'f.sleep(0) end end)\n')
        client.document()
        client.reset()
    until(lambda: not running.sessions)


def test_a_stop_ends_all(console, connect):
    ended = []
    running = console(expose={'note': lambda: ended.append(current_session().id)})
    clients = [connect(running) for _ in range(20)]
    clients[0].reply('box.session.on_disconnect(function() note() end)')
    until(lambda: asleep(running, 19))
    running.stop()
    assert sorted(ended) == list(range(1, 21))
    for client in clients:
        client.read_to_end()


def test_idle_sessions_are_closed(console, connect):
    running = console(limits={'idle_seconds': 1})
    client = connect(running)
    until(lambda: asleep(running))
    assert b'it was idle for 1 seconds' in client.read_to_end()


def test_what_is_answered_by_another_console_does_not_sleep(console, connect, soon):
    there = console()
    running = console()
    client = connect(running)
    client.reply(f"require('console').connect('{there.addresses[0]}')")
    client.reply('1')
    until(lambda: asleep(there))
    assert running.connections()[0].greenlet is not None
    assert client.value('box.session.id()') == 1


def test_a_crowd_that_leaves_at_once_is_one_session_to_the_others(console, connect):
    running = console()
    other = connect(running)
    other.reply('left = 0 box.session.on_disconnect(function() left = left + 1 end)')
    for _ in range(3000):           # it has used more of the loop's time than those who leave
        other.send('left\n')
    for _ in range(3000):
        other.document()
    crowd = [connect(running) for _ in range(1000)]
    until(lambda: sum(connection.greenlet is None for connection in running.connections()) >= 1000)
    for client in crowd:
        client.close()
    seen = {other.value('left')}
    until(lambda: seen.add(other.value('left')) or 1000 in seen)
    assert len(seen) > 4
