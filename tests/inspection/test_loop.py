r"""`\loop`: the event loop's lag, its watchers, and who held it lately."""
from __future__ import annotations

import re
import time

import gevent
import pytest
from waiting import wait_for

from boxsession.base.histogram import Histogram
from boxsession.operations.monitor import Hold, Monitor
from boxsession.scheduler.loop import EventLoop
from boxsession.scheduler.turns import Turns


@pytest.fixture
def hold(caplog):
    """A function that blocks the event loop until the monitor has seen it."""
    def block():
        seen = caplog.text.count('the event loop is held')
        end = time.monotonic() + 10
        while caplog.text.count('the event loop is held') == seen:
            assert time.monotonic() < end
            time.sleep(0.01)
    return block


def test_watchers_by_kind(console, connect):
    client = connect(console())
    loop = gevent.get_hub().loop
    before = client.values('\\loop')[0]['watchers']
    made = [loop.timer(1000) for _ in range(30)] + [loop.async_()]
    for watcher in made[:20]:
        watcher.start(print)
    try:
        after = client.values('box.inspect.loop()')[0]['watchers']
        assert before['io']['active'] >= 1 and after['async']['stopped'] >= 1
        # The console's own come and go.
        assert 18 <= after['timer']['active'] - before['timer']['active'] <= 22
        assert 8 <= after['timer']['stopped'] - before['timer']['stopped'] <= 12
    finally:
        for watcher in made:
            watcher.close()


def test_watchers_of_other_loops_do_not_count(console, connect):
    client = connect(console())
    before = client.values('\\loop')[0]['watchers']['timer']['stopped']
    other = gevent.get_hub().loop.__class__(default=False)
    timers = [other.timer(1) for _ in range(50)]
    try:
        assert abs(client.values('\\loop')[0]['watchers']['timer']['stopped'] - before) < 25
    finally:
        for timer in timers:
            timer.close()
        other.destroy()


def test_the_lag_has_shares_and_the_worst(console, connect, hold):
    client = connect(console())
    hold()
    wait_for(lambda: client.values('\\loop')[0]['lag']['last_minute']['worst_ms'] > 200)
    row = client.values('\\loop')[0]['lag']
    for part in row.values():
        assert part['median_ms'] <= part['p90_ms'] <= part['p99_ms'] <= part['worst_ms'] and part['count'] >= 1
    assert row['since_start']['worst_ms'] >= row['last_minute']['worst_ms'] > 200


def test_who_held_it(console, connect, hold):
    served = console(expose={'reload': lambda options: hold()})
    client = connect(served)
    client.values("reload({password = 'geheim'})")
    gevent.spawn(hold).join()
    found = client.values('\\loop')[0]['holds']
    assert ['the program around the console', 'session 1: '] == [found[0]['by'], found[1]['by'][:11]]
    assert 'reload(' in found[1]['by'] and 'geheim' not in str(found)
    for row in found:
        assert row['seconds'] > 0.2 and any(call.endswith(' block') for call in row['stack'])
        assert re.match(r'\d{4}-\d\d-\d\d', str(row['at']))


def test_a_function_of_a_session_holds_it_after_a_wait(console, connect, hold):
    def wait_and_hold():
        gevent.sleep(0.01)
        hold()
    client = connect(console(expose={'wait_and_hold': wait_and_hold}))
    client.values('wait_and_hold()')
    assert "session 1: 'wait_and_hold()'" == client.values('\\loop')[0]['holds'][0]['by']


def test_the_program_holds_while_a_function_of_a_session_waits(console, connect, hold):
    served = console(expose={'sleep': gevent.sleep})
    busy, client = connect(served), connect(served)
    busy.send(b'sleep(1000)\n')
    wait_for(lambda: 'running' in str(client.values('\\sessions')))
    gevent.spawn(hold).join()
    assert 'the program around the console' == client.values('\\loop')[0]['holds'][0]['by']


def test_only_the_last_twenty_are_kept():
    monitor = Monitor(lambda: 'somebody', Histogram(), Turns(EventLoop()), lambda busy: None)
    for number in range(30):
        monitor._note(float(number), 1.0)
    found = monitor.holds()
    assert 20 == len(found) and 29.0 == found[0].beat_at and isinstance(found[0], Hold)


def test_the_shares_of_a_histogram():
    lag = Histogram()
    assert lag.at_most(0.5) == 0.0001
    for seconds in [0.0002] * 98 + [0.3, 100.0]:
        lag.observe(seconds)
    assert (0.00025, 0.00025, 0.5, float('inf')) == tuple(lag.at_most(share) for share in (0.5, 0.9, 0.985, 1.0))


def test_rights(console, connect):
    served = console()
    admin, client = connect(served), connect(served)
    admin.values("box.schema.user.create('ann', {password = 'a'})")
    client.values('\\login ann a')
    assert 'access' in client.values('\\loop')[0]['error'] and 'access' in client.values('box.inspect.loop()')[0]['error']
    admin.values("box.schema.user.grant('ann', 'execute', 'command', 'loop')")
    assert client.values('\\loop')[0]['lag']
    assert client.values('box.inspect.loop()')[0]['lag']
