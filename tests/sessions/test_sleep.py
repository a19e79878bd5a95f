"""A session that was idle for long has no greenlet. It goes on in a new one, with the same state."""
from __future__ import annotations

import pytest
from waiting import asleep, running, wait_for

from boxsession import current_session
from boxsession.sessions import registry


@pytest.fixture
def soon(monkeypatch):
    """A session sleeps as soon as it is looked at, and that is often."""
    monkeypatch.setattr(registry, '_SLEEP_SECONDS', 0)
    monkeypatch.setattr(registry, '_IDLE_LOOK_SECONDS', 0.02)


def test_who_has_sent_nothing_sleeps(console, connect):
    served = console()
    clients = [connect(served) for _ in range(3)]
    wait_for(lambda: len(asleep(served)) == 3)
    assert [2] * 3 == [client.value('1 + 1') for client in clients]


def test_who_has_sent_a_part_of_a_line_sleeps_and_goes_on(console, connect, soon):
    served = console()
    client = connect(served)
    for piece in ('retu', 'rn 1 ', '+ '):
        client.send(piece)
        wait_for(lambda: asleep(served) and served.connections()[0].counters()[1] > 0)
    client.send('41\n')
    assert client.document() == b'---\n- 42\n...\n'


def test_everything_of_a_session_is_as_before(console, connect, soon):
    seen = []
    served = console(expose={'note': lambda: seen.append(current_session().id) or len(seen)})
    client = connect(served)

    def sleep():
        wait_for(lambda: len(asleep(served)) == 1)

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
    wait_for(lambda: running(served))
    client.send('\x03')
    assert b'cancelled' in client.document()
    sleep()
    assert served.connections()[0].describe()['state'] == 'idle'


def test_pushes_reach_it(console, connect, soon):
    served = console()
    client = connect(served)
    other = connect(served)
    client.reply("require('fiber').new(function() local s = box.session "
                 "while not go do require('fiber').sleep(0.01) end s.push(5) end)")
    wait_for(lambda: len(asleep(served)) == 2)
    other.reply('go = true')
    assert b'--- 5\n' in client.document()
    assert client.value('1') == 1


def test_a_killed_one_says_goodbye(console, connect, soon):
    served = console()
    admin, client = connect(served), connect(served)
    admin.reply('gone = 0 box.session.on_disconnect(function() gone = gone + 1 end)')
    client.reply('1')
    wait_for(lambda: len(asleep(served)) == 2)
    assert admin.value('box.session.kill(2)') == 1
    assert b'killed by session 1' in client.read_to_end()
    assert admin.value('gone') == 1 and len(served.sessions) == 1


def test_one_whose_client_leaves_ends(console, connect):
    served = console()
    client = connect(served)
    wait_for(lambda: len(asleep(served)) == 1)
    client.close()
    wait_for(lambda: not served.sessions)
    client = connect(served)
    wait_for(lambda: len(asleep(served)) == 1)
    client.reset()
    wait_for(lambda: not served.sessions)


def test_one_ends_whose_client_is_missed_by_a_push_first(console, connect):
    served = console()
    for _ in range(60):
        client = connect(served)
        client.send("f = require('fiber') f.create(function() while true do for i = 1, 50 do box.session.push(i) end "
                    'f.sleep(0) end end)\n')
        client.document()
        client.reset()
    wait_for(lambda: not served.sessions)


def test_a_stop_ends_all(console, connect):
    ended = []
    served = console(expose={'note': lambda: ended.append(current_session().id)})
    clients = [connect(served) for _ in range(20)]
    clients[0].reply('box.session.on_disconnect(function() note() end)')
    wait_for(lambda: len(asleep(served)) == 19)
    served.stop()
    assert sorted(ended) == list(range(1, 21))
    for client in clients:
        client.read_to_end()


def test_idle_sessions_are_closed(console, connect):
    served = console(limits={'idle_seconds': 1})
    client = connect(served)
    wait_for(lambda: len(asleep(served)) == 1)
    assert b'it was idle for 1 seconds' in client.read_to_end()


def test_what_is_answered_by_another_console_does_not_sleep(console, connect, soon):
    there = console()
    served = console()
    client = connect(served)
    client.reply(f"require('console').connect('{there.addresses[0]}')")
    client.reply('1')
    wait_for(lambda: len(asleep(there)) == 1)
    assert served.connections()[0].greenlet is not None
    assert client.value('box.session.id()') == 1


def test_a_crowd_that_leaves_at_once_is_one_session_to_the_others(console, connect):
    served = console()
    other = connect(served)
    other.reply('left = 0 box.session.on_disconnect(function() left = left + 1 end)')
    for _ in range(3000):           # it has used more of the event loop's time than the crowd
        other.send('left\n')
    for _ in range(3000):
        other.document()
    crowd = [connect(served) for _ in range(1000)]
    wait_for(lambda: len(asleep(served)) >= 1000)
    for client in crowd:
        client.close()
    seen = {other.value('left')}
    wait_for(lambda: seen.add(other.value('left')) or 1000 in seen)
    assert len(seen) > 4
