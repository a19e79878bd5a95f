"""`\\greenlets`, `\\where`, `\\gkill`, `\\threads` and box.inspect, in a program with greenlets of all kinds."""
from __future__ import annotations

import gc
import weakref

import gevent
import pytest
from gevent.event import Event
from gevent.local import local
from greenlet import greenlet
from waiting import wait_for

from boxsession.inspection.frames import calls, own_call, signature
from boxsession.inspection.greenlets import Greenlets
from boxsession.inspection.pace import Pace
from boxsession.inspection.shown import assignment, shown


class Order:
    """No code of it may run while it is shown."""

    def __repr__(self):
        raise AssertionError('repr was called')

    __str__ = __len__ = __iter__ = __repr__

    @property
    def __class__(self):
        raise AssertionError('__class__ was asked')


def wait_for_order(event, order):
    password = 'geheim'
    text = 'x' * 1000
    event.wait()
    return password, text, order


@pytest.fixture
def waiting():
    """Ten greenlets that wait in the same place, and their event."""
    event = Event()
    spawned = [gevent.spawn(wait_for_order, event, Order()) for _ in range(10)]
    gevent.sleep(0)
    yield spawned
    gevent.killall(spawned)


@pytest.fixture
def served(console):
    return console()


def rows(client, words='wait_for_order'):
    return client.values(f'\\greenlets {words}')[0]


def test_equal_stacks_are_one_group(served, connect, waiting):
    row, = rows(connect(served))
    assert (10, 'waiting') == (row['count'], row['state'])
    assert row['run'].endswith(':wait_for_order') and row['at'] == row['run']
    assert row['where'].startswith(__file__ + ':')
    assert 5 == len(set(row['ids'])) and row['age_s'] >= 0


def test_every_word_of_the_filter_must_be_there(served, connect, waiting):
    client = connect(served)
    assert 10 == rows(client, 'waiting wait_for_order')[0]['count']
    assert [] == rows(client, 'waiting wait_for_order nosuch')
    assert client.values('box.inspect.greenlets("wait_for_order")')[0][0]['count'] == 10


def test_ids_stay_and_are_not_reused(served, connect, waiting):
    client = connect(served)
    before = rows(client)[0]['ids']
    gevent.killall(waiting[:9])
    row, = rows(client)
    assert row['count'] == 1
    assert f'there is no greenlet {before[0]}' in client.values(f'\\where {before[0]}')[0]['error'] \
        or row['ids'] == [before[0]]
    late = gevent.spawn(wait_for_order, Event(), None)
    try:
        gevent.sleep(0)
        assert max(rows(client)[0]['ids']) > max(before)
    finally:
        late.kill()


def test_the_ids_of_a_large_group_are_those_seen_first(served, connect):
    event = Event()
    spawned = [gevent.spawn(wait_for_order, event, None) for _ in range(20)]
    gevent.sleep(0)
    try:
        client = connect(served)
        before = rows(client)[0]['ids']
        spawned += [gevent.spawn(wait_for_order, event, None) for _ in range(2000)]
        gevent.sleep(0)
        gc.collect()
        row, = rows(client)
        assert (2020, before) == (row['count'], row['ids'])
        client.values(f'\\gkill {before[2]}')
        row, = rows(client)
        assert (2019, [before[0], before[1], *before[3:]]) == (row['count'], row['ids'][:4]) and 5 == len(row['ids'])
    finally:
        gevent.killall(spawned)


def test_whose_greenlets_they_are(served, connect, waiting):
    client, other = connect(served), connect(served)
    other.values('1 + 1')
    owners = {row['owner'] for row in client.values('\\greenlets')[0]}
    assert {'program', 'console', 'gevent'} == owners
    row, = rows(client)
    assert 'program' == row['owner']
    for row in client.values('\\greenlets owner=console')[0]:
        assert 'console' == row['owner'] == client.values(f'\\where {row["ids"][0]}')[0]['owner']


def test_words_with_a_minus_must_not_be_there(served, connect, waiting):
    client = connect(served)
    assert 10 == rows(client, 'wait_for_order -owner=console')[0]['count']
    assert [] == rows(client, 'wait_for_order -waiting')
    assert not any('console' == row['owner'] for row in client.values('\\greenlets -owner=console')[0])


def test_of_very_many_groups_the_rest_is_counted():
    def deep(bits, left):
        if left == 0:
            event.wait()
        elif bits & 1:
            deep(bits >> 1, left - 1)
        else:
            deep(bits >> 1, left - 1)
    event = Event()
    spawned = [gevent.spawn(deep, bits, 11) for bits in range(2048)]
    gevent.sleep(0)
    try:
        found = Greenlets(Pace(gevent.sleep)).groups('deep')
        *shown_rows, rest = found
        assert 1000 == len(shown_rows) and rest['state'].startswith('in ') and not rest['ids']
        assert 2048 == sum(row['count'] for row in found)
    finally:
        gevent.killall(spawned)


class Odd(type):
    def __hash__(cls):
        Hostile.ran.append('__hash__')
        return type.__hash__(cls)


class Hostile(gevent.Greenlet, metaclass=Odd):
    """Notes what of its code runs. gevent calls some of it, too."""

    ran: list = []

    def __init__(self, event):
        super().__init__()
        self.event = event

    @property
    def gr_frame(self):
        self.ran.append('gr_frame')

    def __bool__(self):
        self.ran.append('__bool__')
        return True

    def __getattr__(self, name):
        self.ran.append(name)
        raise AttributeError(name)

    def _run(self):
        wait_in_hostile(self)


def wait_in_hostile(hostile):
    hostile.event.wait()


def test_no_code_of_a_greenlets_class_runs():
    event = Event()
    begun, later = Hostile(event), Hostile(event)
    begun.start()
    gevent.sleep(0)
    Hostile.ran.clear()
    greenlets = Greenlets(Pace(gevent.sleep))
    row, = greenlets.groups('wait_in_hostile waiting')
    assert 1 == row['count'] and 'Hostile' in str(greenlets.whole(row['ids'][0], True))
    row, = greenlets.groups('Hostile not started')
    assert 1 == row['count'] and row['state'].endswith('Hostile._run')
    assert [] == Hostile.ran
    event.set()
    begun.join()
    del later


def test_names_that_are_no_utf8(served, connect):
    """Of a file whose name has other bytes, and of global variables that no statement can make."""
    event = Event()
    namespace = {'event': event, 'odd\ud800': 'value', 'Odd': type('Odd', (), {'__repr__': lambda self: '\udcff'})}
    code = compile('odd = Odd()\nevent.wait()', '/srv/caf\udce9.py', 'exec')
    spawned = gevent.spawn(exec, code, namespace)
    gevent.sleep(0)
    try:
        client = connect(served)
        row, = rows(client, 'caf')
        assert row['where'] == '/srv/caf\\udce9.py:2'
        found = client.values(f'\\where {row["ids"][0]} locals repr')[0]['locals'][0]
        assert "'value'" == found['odd\\ud800'] and '\\udcff' == found['odd']
    finally:
        spawned.kill()


def test_those_that_have_ended_are_forgotten(waiting):
    greenlets, event = Greenlets(Pace(gevent.sleep)), Event()
    before = greenlets.groups('wait_for_order')[0]['ids']
    for _ in range(3):
        many = [gevent.spawn(wait_for_order, event, None) for _ in range(1500)]
        gevent.sleep(0)
        assert 1510 == greenlets.groups('wait_for_order')[0]['count']
        gevent.killall(many)
        del many
        greenlets.groups()
    assert len(greenlets._register.seen) < 4000
    row, = greenlets.groups('wait_for_order')
    assert (10, before) == (row['count'], row['ids'])


def test_a_look_that_is_cancelled_leaves_nothing_behind(waiting):
    class Cancelled(Exception):
        pass

    def wait(seconds):
        if has_to_raise:
            raise Cancelled
    greenlets, has_to_raise = Greenlets(Pace(wait)), False
    before = greenlets.groups('wait_for_order')
    has_to_raise = True
    for _ in range(2):
        with pytest.raises(Cancelled):
            greenlets.groups('wait_for_order')
    has_to_raise = False
    after = greenlets.groups('wait_for_order')
    assert before[0]['ids'] == after[0]['ids']


def test_greenlets_that_have_not_begun_raw_ones_and_the_hub(served, connect):
    hub = gevent.get_hub()
    raw = greenlet(lambda: hub.switch(), hub)
    later = gevent.spawn_later(1000, wait_for_order, Event(), None)
    hub.loop.run_callback(raw.switch)
    gevent.sleep(0)
    try:
        client = connect(served)
        found = client.values('\\greenlets')[0]
        assert any(row['state'].startswith('not started') and 'wait_for_order' in row['state'] for row in found)
        assert any('<lambda>' in (row['run'] or '') for row in found)
        assert any(row['state'] == 'hub' for row in found)
    finally:
        later.kill()
        gevent.kill(raw)


class TestWhere:
    def test_the_stack_and_who_spawned_it(self, served, connect, waiting):
        client = connect(served)
        number = rows(client)[0]['ids'][0]
        found = client.values(f'\\where {number}')[0]
        assert number == found['id'] and found['state'] == 'waiting' and 'locals' not in found
        assert any('wait_for_order' in call for call in found['stack'])
        assert any('test_greenlets.py' in call for call in found['spawned_at'])
        assert found == {**client.values(f'box.inspect.where({number})')[0], 'age_s': found['age_s']}

    def test_locals_run_no_code_and_tell_no_secret(self, served, connect, waiting):
        client = connect(served)
        number = rows(client)[0]['ids'][0]
        found = client.values(f'\\where {number} locals')[0]
        call = next(call for call in found['locals'] if 'wait_for_order' in call['call'])
        assert '.Order>' in call['order'] and 'geheim' not in str(found)
        assert len(call['text']) < 150 and call['text'].endswith('(1000)')

    def test_reprs_on_demand(self, served, connect):
        class Shown:
            def __repr__(self):
                return '<order 7, password=geheim>'

        def hold(order, orders):
            event.wait()
        event = Event()
        spawned = gevent.spawn(hold, Shown(), [Shown(), 1])
        gevent.sleep(0)
        try:
            client = connect(served)
            number = rows(client, 'hold')[0]['ids'][0]
            for line in (f'\\where {number} locals repr', f'box.inspect.where({number}, {{["repr"] = true}})'):
                call = client.values(line)[0]['locals'][0]
                assert call['order'].startswith('<order 7') and 'order 7' in call['orders'], line
                assert 'geheim' not in str(call), line
        finally:
            spawned.kill()

    def test_variables_of_the_console_are_not_shown(self, served, connect):
        client = connect(served)
        row = next(row for row in client.values('\\greenlets owner=console')[0] if 'running' == row['state'])
        assert [] == client.values(f'\\where {row["ids"][0]} locals')[0]['locals']

    def test_names_of_greenlet_locals(self, served, connect):
        mine, event = local(), Event()

        def keep_request():
            mine.request = 'r'
            event.wait()

        def keep_many():
            for number in range(2000):
                setattr(mine, f'name{number}', number)
            event.wait()
        spawned = gevent.spawn(keep_request)
        gevent.sleep(0)
        try:
            client = connect(served)
            number = rows(client, 'keep_request')[0]['ids'][0]
            assert ['local: request'] == client.values(f'\\where {number}')[0]['greenlet_locals']
            spawned.kill()
            spawned = gevent.spawn(keep_many)
            gevent.sleep(0)
            number = rows(client, 'keep_many')[0]['ids'][0]
            shown_names, = client.values(f'\\where {number}')[0]['greenlet_locals']
            assert shown_names.startswith('local: name0, ') and shown_names.endswith(', ... (2000)')
            assert len(shown_names) < 1000
        finally:
            spawned.kill()

    def test_the_statement_of_a_session(self, served, connect):
        busy, client = connect(served), connect(served)
        busy.send(b"require('fiber').sleep(1000)\n")
        wait_for(lambda: 'running' in str(client.values('\\sessions')))
        found = [client.values(f'\\where {number}')[0] for row in client.values('\\greenlets')[0] for number in row['ids']]
        assert any('sleep(1000)' in row.get('statement', '') for row in found)

    @pytest.mark.parametrize(('line', 'error'), [
        ('\\where', 'Usage: \\where ID [locals [repr]]'), ('\\where x', 'Usage: \\where ID [locals [repr]]'),
        ('\\where 1 repr', 'Usage: \\where ID [locals [repr]]'),
        ('\\where 1 locals repr x', 'Usage: \\where ID [locals [repr]]'),
        ('\\where 1 all', 'Usage: \\where ID [locals [repr]]'), ('\\where 99999', 'there is no greenlet 99999'),
        ('\\where -1', 'there is no greenlet -1'), ('\\where 1.5', 'there is no greenlet 1.5'),
        ('\\where nan', 'there is no greenlet nan'), ('\\where 1e400', 'there is no greenlet inf'),
        ('\\gkill', 'Usage: \\gkill ID'), ('box.inspect.where()', 'Usage: box.inspect.where(id)'),
        ('box.inspect.where(1, 2)', 'Usage: box.inspect.where(id, {locals = true, repr = true})'),
        ('box.inspect.gkill({})', 'Usage: box.inspect.gkill(id)'),
        ('\\where 1234567', 'there is no greenlet 1234567'),
        ('box.inspect.greenlets(("e "):rep(1000))', 'the filter has 2000 characters: expected up to 500'),
        ('box.inspect.greenlets(1)', 'Usage: box.inspect.greenlets("words")')])
    def test_wrong_use(self, served, connect, line, error):
        assert connect(served).values(line)[0]['error'].startswith(error)


class TestKill:
    def test_one_of_the_program_ends(self, served, connect, waiting):
        client = connect(served)
        number = rows(client)[0]['ids'][0]
        assert [True] == client.values(f'\\gkill {number}')
        assert 9 == rows(client)[0]['count'] == sum(not spawned.dead for spawned in waiting)

    def test_one_that_refuses_is_told(self, served, connect):
        def stubborn():
            while not done:
                try:
                    event.wait()
                except gevent.GreenletExit:
                    pass
        event, done = Event(), []
        spawned = gevent.spawn(stubborn)
        gevent.sleep(0)
        client = connect(served)
        assert [False] == client.values(f"\\gkill {rows(client, 'stubborn')[0]['ids'][0]}")
        done.append(1)
        event.set()
        spawned.join()

    def test_properties_of_its_class_are_not_asked(self, served, connect):
        class Closed(gevent.Greenlet):
            @property
            def parent(self):
                raise AssertionError('parent was asked')
        spawned = Closed.spawn(wait_for_order, Event(), 1)
        gevent.sleep(0)
        client = connect(served)
        assert [True] == client.values(f"\\gkill {rows(client)[0]['ids'][0]}") and spawned.ready()

    def test_the_hub_and_the_consoles_own_are_refused(self, served, connect):
        client, other = connect(served), connect(served)
        assert [2] == other.values('1 + 1')
        refused = 0
        for row in client.values('\\greenlets')[0]:
            if row['state'] == 'hub' or (row['run'] or '').startswith('boxsession.'):
                for number in row['ids']:
                    assert 'error' in client.values(f'\\gkill {number}')[0]
                    refused += 1
        assert refused >= 3
        assert [2] == other.values('1 + 1')


class TestRights:
    COMMANDS = ('\\greenlets', '\\where 1', '\\threads', 'box.inspect.greenlets()', 'box.inspect.threads()')

    @pytest.fixture
    def ann(self, served, connect):
        """A user's session, and an admin's."""
        admin = connect(served)
        admin.values("box.schema.user.create('ann', {password = 'a'})")
        client = connect(served)
        client.values('\\login ann a')
        return client, admin

    def test_without_a_grant_nothing_is_seen(self, ann):
        for line in (*self.COMMANDS, '\\gkill 1', 'box.inspect.gkill(1)'):
            assert 'access' in ann[0].values(line)[0]['error'], line

    def test_read_on_universe_sees_and_does_not_act(self, ann):
        client, admin = ann
        admin.values("box.schema.user.grant('ann', 'read', 'universe')")
        for line in self.COMMANDS:
            assert 'access' not in str(client.values(line)), line
        assert 'access' in client.values('\\gkill 1')[0]['error']
        assert 'access' in client.values('box.inspect.gkill(1)')[0]['error']

    def test_reprs_need_execute_on_universe(self, ann):
        client, admin = ann
        admin.values("box.schema.user.grant('ann', 'read', 'universe')")
        admin.values("box.schema.user.grant('ann', 'execute', 'command', 'where')")
        assert 'Execute access' in client.values('\\where 1 locals repr')[0]['error']
        assert 'Execute access' in client.values('box.inspect.where(1, {["repr"] = true})')[0]['error']

    def test_one_command_is_granted_by_name(self, ann):
        client, admin = ann
        admin.values("box.schema.user.grant('ann', 'execute', 'command', 'greenlets')")
        assert client.values('\\greenlets')[0][0]['count'] >= 1
        assert client.values('box.inspect.greenlets()')[0][0]['count'] >= 1
        assert 'access' in client.values('\\where 1')[0]['error']
        assert 'access' in client.values('box.inspect.threads()')[0]['error']


def test_nothing_is_kept_alive(served, connect):
    event, order = Event(), Order()
    kept = weakref.ref(order)
    spawned = gevent.spawn(wait_for_order, event, order)
    gevent.sleep(0)
    client = connect(served)
    number = rows(client)[0]['ids'][0]
    client.values(f'\\where {number} locals')
    dead = weakref.ref(spawned)
    spawned.kill()
    gevent.sleep(0)         # until then gevent itself keeps it
    del spawned, order
    gc.collect()
    assert (True, True) == (kept() is None, dead() is None)


class TestFrames:
    def test_equal_places_have_equal_signatures(self):
        def suspended():
            yield
        first, second = suspended(), suspended()
        next(first)
        next(second)
        assert signature(first.gi_frame) == signature(second.gi_frame)
        assert 'suspended' in own_call(calls(first.gi_frame)).name

    def test_an_endless_recursion_is_cut(self):
        def deep(level):
            import sys
            return calls(sys._getframe()) if level == 0 else deep(level - 1)
        assert 200 == len(deep(500))


class TestShown:
    @pytest.mark.parametrize(('value', 'text'), [
        (None, 'None'), (True, 'True'), (1.5, '1.5'), ('a', "'a'"), (b'a', "b'a'"), ([1, 'b'], "[1, 'b']"),
        ({'a': (1,)}, "{'a': (1)}"), (int, '<class builtins.int>'), (2 ** 5000, '<int of 5001 bits>'),
        ([[[[1]]]], '[[[[... (1)]]]]')])
    def test_values(self, value, text):
        assert text == shown(value)

    def test_what_refers_to_itself_ends(self):
        endless = []
        endless.append(endless)
        assert '...' in shown(endless)

    @pytest.mark.parametrize(('name', 'value'), [
        ('password', 'geheim'), ('token', b'geheim'), ('config', {'password': 'geheim', 'a': 1}),
        ('configs', [{'b': {'api_key': 'geheim'}}]), ('url', 'redis://ann:geheim@host/0'),
        ('headers', {b'authorization': b'Bearer geheim'}), ('headers', {b'x-api-key': b'geheim'}),
        ('headers', {'X-Api-Key': 'geheim'}), ('headers', [(b'cookie', b'sid=geheim')]),
        ('url', 'x' * 80 + ' redis://ann:' + 'geheim' * 20 + '@host'),
        ('url', b'x' * 80 + b' ann:' + b'geheim' * 20 + b'@host')])
    def test_secrets_are_cut_out(self, name, value):
        assert 'geheim' not in assignment(name, value)
