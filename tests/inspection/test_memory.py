"""`\\memory` and box.inspect.memory: totals, types, referrers and tracing, in a program with objects of all kinds."""
from __future__ import annotations

import functools
import gc
import os
import tracemalloc
import weakref
from collections import defaultdict, deque

import gevent
import pytest
from gevent.event import Event
from waiting import wait_for

from boxsession.inspection import memory, objects, referrers
from boxsession.inspection.objects import Refused, in_time
from boxsession.inspection.tracing import Tracing

ran = []        # what ran of the code of Order


class Items(list):
    """A list of the program's own class."""

    def __len__(self):
        ran.append('len')

    __getitem__ = __contains__ = __iter__ = __len__


def cached(items):
    function = functools.lru_cache(None)(lambda item: None)
    for item in items:
        function(item)
    return function


class Forbidden(type):
    def __hash__(cls):
        ran.append('hash of the class')
        return type.__hash__(cls)

    def __eq__(cls, other):
        ran.append('comparison of the class')
        return cls is other

    def __getattribute__(cls, name):
        ran.append(f'{name} of the class')
        return type.__getattribute__(cls, name)


class Order(metaclass=Forbidden):
    def __getattribute__(self, name):
        ran.append(name)
        return object.__getattribute__(self, name)

    def __sizeof__(self):
        ran.append('sizeof')
        return 1

    __len__ = __hash__ = __sizeof__


@pytest.fixture(autouse=True)
def no_code_of_the_program_runs():
    ran.clear()
    yield
    assert [] == ran


class Listeners:
    pass


class Slotted:
    __slots__ = ('order', 'other')


class Holder:
    kept = None

    def __init__(self, order):
        self.order = order


LARGE = [list, tuple, set, frozenset, deque, Items, cached, dict.fromkeys, lambda items: {item: 5 for item in items},
         lambda items: defaultdict(int, dict.fromkeys(items))]
of_module = None


def wait(first, event):
    event.wait()


def closure(order):
    return lambda: order


def yields(order):
    def run(held):
        yield
        return held
    made = run(order)
    next(made)
    return made


@pytest.fixture
def served(console):
    return console()


def by(client, name=f'{__name__}.Order'):
    found = client.values(f'\\memory who {name}')[0]
    return found, [row['by'] for row in found['referrers']]


def test_totals(served, connect):
    row = connect(served).values('\\memory')[0]
    assert row['process']['resident_bytes'] > 2**20 and row['process']['peak_bytes'] >= row['process']['resident_bytes']
    assert 0 < row['lua']['used_bytes'] < row['lua']['limit_bytes']
    assert len(row['gc']['generations']) == len(gc.get_stats())
    assert set(row['gc']['generations'][0]) >= {'count', 'threshold', 'collections'} \
        and row['gc']['frozen'] == gc.get_freeze_count()
    assert row['tracemalloc'] == {'tracing': False}


def test_wrong_words(served, connect):
    client = connect(served)
    for line in ('nosuch', 'types x', 'who', 'who two words'):
        assert client.values(f'\\memory {line}')[0]['error'].startswith('Usage: ')
    for line in ('', 'nosuch', 'start nosuch', 'diff nosuch', 'stop now'):
        assert client.values(f'\\memory trace {line}')[0]['error'].startswith('Usage: \\memory trace')
    assert 'expected 1 to 1000' in client.values('\\memory types 0')[0]['error']
    for number in ('2.5', 'nan', 'inf', '-1', '1e300'):
        assert 'expected 1 to 1000' in client.values(f'\\memory types {number}')[0]['error']
    assert 'expected up to 500' in client.values("box.inspect.memory('who ' .. ('x'):rep(501))")[0]['error']
    assert 'words of' in client.values('box.inspect.memory(5)')[0]['error']


class TestTypes:
    def test_counts_and_sizes(self, served, connect):
        kept = [Order() for _ in range(50_000)]
        rows = connect(served).values('\\memory types 100')[0]['types']
        row = next(row for row in rows if row['type'].endswith('.Order'))
        assert row['count'] == len(kept) and row['bytes'] >= 16 * len(kept)
        assert rows == sorted(rows, key=lambda row: -row['bytes'])

    def test_what_the_collector_does_not_track_is_estimated(self):
        def of(name):
            rows = memory.types(lambda: None, 10**6)['types']
            return next((row['count'] for row in rows if row['type'] == name), 0)

        texts, numbers = of('str'), of('float')
        kept = [{'text': f'text {number}', 'inner': (number + 0.5,)} for number in range(20_000)]
        assert of('str') - texts == pytest.approx(len(kept), rel=0.05)
        assert of('float') - numbers == pytest.approx(len(kept), rel=0.05)

    @pytest.mark.parametrize('made', LARGE)
    def test_large_collections(self, made):
        kept = made(f'text {number}' for number in range(20_000))
        row = next(row for row in memory.types(lambda: None, 10**6)['types'] if row['type'] == 'str')
        assert row['count'] >= 20_000 and kept is not None

    @pytest.mark.parametrize('made', LARGE)
    def test_large_collections_are_read_in_parts(self, made, monkeypatch):
        monkeypatch.setattr(objects, '_HELD', 0.0)
        pauses = []
        gc.collect()
        memory.types(lambda: pauses.append(1), 5)
        before = len(pauses)
        kept = [made(f'text {number}' for number in range(200_000))]
        gc.collect()
        pauses.clear()
        memory.types(lambda: pauses.append(1), 5)
        assert len(pauses) >= before + 80 and kept

    def test_a_dict_that_changes_meanwhile(self):
        kept = dict.fromkeys(range(100_000))
        memory.types(lambda: kept.update({len(kept): 1}), 5)


class TestWho:
    def test_names_of_types(self, served, connect):
        kept = Holder(None), Slotted()
        client = connect(served)
        whole = f'{__name__}.Slotted'
        for name in (whole, 'Slotted', 'lotte'):
            assert (whole, 1) == (by(client, name)[0]['type'], by(client, name)[0]['count'])
        assert 'several types match' in client.values('\\memory who e')[0]['error']
        # The console has a class of this name, too.
        kept = Listeners()
        found, _ = by(client, 'Listeners')
        assert (f'{__name__}.Listeners', 1) == (found['type'], found['count']) and kept
        assert 'tracks no object' in client.values('\\memory who nosuchtype')[0]['error']
        del kept

    def test_all_kinds_of_referrers(self, served, connect):
        global of_module
        order, event = Order(), Event()
        client = connect(served)
        of_module = order
        try:
            assert [f'name of_module of module {__name__}'] == self.chains(client, order)
        finally:
            of_module = None
        holder = Holder(order)
        assert any(chain.startswith(f'attribute order of {__name__}.Holder') for chain in self.chains(client, order))
        holder.order, slotted = None, Slotted()
        slotted.order = order
        assert any(chain.startswith(f'attribute order of {__name__}.Slotted') for chain in self.chains(client, order))
        slotted.order, Holder.kept = None, order
        assert any(chain.startswith(f'attribute kept of class {__name__}.Holder') for chain in self.chains(client, order))
        Holder.kept = None
        for make, text in ((lambda it: [it] * 3, 'list of 3'), (lambda it: (it, 1), 'tuple of 2'),
                           (lambda it: deque([it]), 'collections.deque of 1'),
                           (lambda it: {'key': it}, 'dict of 1, key key'), (lambda it: {5: it}, 'dict of 1'),
                           (closure, 'variable of a closure <- tuple of 1 <- function '),
                           (yields, ('generator ', 'local variable held of '))):
            made = make(order)
            assert any(chain.startswith(text) for chain in self.chains(client, order)), text
            del made
        waiting = gevent.spawn(wait, order, event)
        gevent.sleep(0)
        try:
            assert any(chain.startswith('local variable first of ') for chain in self.chains(client, order))
        finally:
            waiting.kill()

    def chains(self, client, order):
        """All that refers to it, but for the variables of this test."""
        found, chains = by(client)
        assert 1 == found['count']
        return [chain for chain in chains if not chain.startswith('local variable order')]

    def test_a_chain_leads_to_the_owner(self, served, connect):
        global of_module
        of_module = Holder([[Order()] for _ in range(1000)])
        try:
            found, chains = by(connect(served))
            assert (1000, 5) == (found['count'], found['looked_at'])
            assert [f'list of 1 <- list of 1000 <- attribute order of {__name__}.Holder <- name of_module of module '
                    f'{__name__}'] == chains
        finally:
            of_module = None

    def test_a_cycle_has_an_end(self, served, connect):
        ring = [Order()]
        ring.append(ring)
        assert any(chain.startswith('list of 2') for chain in by(connect(served))[1])
        ring.clear()


class Plain:
    pass


class Box(list):
    pass


def keeps_locals(order, event):
    context = locals()
    event.wait()
    return context


def test_what_the_program_keeps_of_locals_stays(served, connect):
    order, event = Order(), Event()
    waiting = gevent.spawn(keeps_locals, order, event)
    gevent.sleep(0)
    assert any(chain.startswith('local variable order of ') for chain in by(connect(served))[1])
    event.set()
    assert waiting.get()['order'] is order


@pytest.mark.parametrize('command', ['types', 'who Plain'])
def test_nothing_is_kept_alive(served, connect, command):
    client = connect(served)
    kept = Box(Plain() for _ in range(10))
    watched = [weakref.ref(one) for one in [*kept, kept]]
    gc.disable()
    try:
        client.values(f'\\memory {command}')
        del kept
        wait_for(lambda: not any(one() for one in watched))
    finally:
        gc.enable()


@pytest.mark.parametrize('ask', [lambda pause: memory.types(pause, 10), lambda pause: referrers.who(pause, 'Plain')])
def test_a_cancelled_scan_keeps_nothing_and_the_next_one_runs(ask):
    one = Plain()
    watched = weakref.ref(one)

    def cancel():
        raise KeyError

    with pytest.raises(KeyError):
        ask(cancel)
    del one
    assert watched() is None
    kept = Plain()
    assert ask(lambda: None)
    del kept


def test_one_scan_at_a_time(served, connect):
    client = connect(served)
    with objects.scan(lambda: None):
        assert 'another statement looks through the memory' in client.values('\\memory types')[0]['error']
    assert client.values('\\memory types')[0]['types']


def test_a_child_that_is_forked_meanwhile_may_scan():
    with objects.scan(lambda: None):
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(0 if memory.types(lambda: None, 1)['types'] else 1)
            finally:
                os._exit(2)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_others_run_meanwhile(monkeypatch):
    pauses = []
    kept = [[] for _ in range(100_000)]
    monkeypatch.setattr(objects, '_HELD', 0.0)
    memory.types(lambda: pauses.append(1), 5)
    assert len(pauses) >= len(kept) / objects._PIECE


class TestTrace:
    def test_growth_by_line(self, console, connect):
        kept = []

        def grow():
            kept.extend(bytearray(1000) for _ in range(500))

        client = connect(console(expose={'grow': grow}))
        assert 'nothing is traced' in client.values('\\memory trace diff')[0]['error']
        assert 'with this session' in client.values('\\memory trace start')[0]['ends']
        client.values('grow()')
        row = client.values('\\memory trace diff 1')[0]['growth'][0]
        assert row['where'].startswith(__file__ + ':') and row['bytes'] >= 500_000 and row['blocks'] >= 500
        assert client.values('\\memory')[0]['tracemalloc']['traced_bytes'] >= 500_000
        assert 'already' in client.values('\\memory trace start')[0]['error']
        assert [True] == client.values('\\memory trace stop') and not tracemalloc.is_tracing()
        assert [False] == client.values('\\memory trace stop')

    def test_it_is_a_change_that_can_be_undone(self, served, connect):
        client = connect(served)
        client.values('\\memory trace start')
        row, = client.values('\\changes')[0]
        assert ('tracing of the memory', 'stopped', 'started', 'started', 'in force') == tuple(
            row[name] for name in ('what', 'old', 'set', 'now', 'state'))
        assert 'restored' == client.values(f"\\changes undo {row['id']}")[0][0]['result']
        assert not tracemalloc.is_tracing()
        client.values('\\memory trace start')
        client.values('\\memory trace stop')
        assert [[]] == client.values('\\changes')

    @pytest.mark.parametrize('word', ['', 'keep'])
    def test_it_ends_with_the_console(self, served, connect, word):
        connect(served).values(f'\\memory trace start {word}')
        row, = connect(served).values('\\changes')[0]
        assert ('the console stops' if word else 'the session ends') == row['until']
        served.stop()
        assert not tracemalloc.is_tracing()

    def test_a_fiber_that_outlives_its_session_must_keep(self, served, connect):
        client, other = connect(served), connect(served)
        client.reply("fiber = require('fiber') gate = fiber.cond() fiber.create(function() gate:wait() "
                     "seen = {pcall(box.inspect.memory, 'trace start')} end)")
        client.close()
        wait_for(lambda: len(other.value('\\sessions')) == 1)
        other.reply('gate:signal()')
        assert 'the session has ended' in wait_for(lambda: other.value('seen'))[1]
        assert not tracemalloc.is_tracing()

    def test_it_ends_with_the_session(self, served, connect):
        client = connect(served)
        client.values('\\memory trace start')
        assert tracemalloc.is_tracing()
        client.close()
        wait_for(lambda: not tracemalloc.is_tracing())

    def test_unless_it_is_kept(self, served, connect):
        client = connect(served)
        assert 'by \\memory trace stop' == client.values('\\memory trace start keep')[0]['ends']
        client.close()
        wait_for(lambda: not served.sessions)
        other = connect(served)
        assert other.values('\\memory')[0]['tracemalloc']['tracing']
        assert [True] == other.values('\\memory trace stop') and not tracemalloc.is_tracing()

    def test_the_end_of_a_session_ends_no_later_tracing(self, served, connect):
        first, second = connect(served), connect(served)
        first.values('\\memory trace start')
        second.values('\\memory trace stop')
        second.values('\\memory trace start')
        first.close()
        wait_for(lambda: len(served.sessions) == 1)
        assert tracemalloc.is_tracing()
        second.values('\\memory trace stop')

    def test_the_tracing_of_the_program_goes_on(self, served, connect):
        tracemalloc.start()
        try:
            client = connect(served)
            assert 'goes on after stop' in client.values('\\memory trace start')[0]['remark']
            kept = [bytearray(1000) for _ in range(1000)]
            assert any(row['where'].startswith(__file__) for row in client.values('\\memory trace diff')[0]['growth'])
            client.values('\\memory trace stop')
            assert tracemalloc.is_tracing() and kept is not None
        finally:
            tracemalloc.stop()

    def test_very_many_blocks_need_a_word(self, monkeypatch):
        monkeypatch.setattr('boxsession.inspection.tracing._BLOCKS', 100)
        tracing = Tracing()
        tracing.start(lambda: None, 'me')
        try:
            kept = [bytearray(1) for _ in range(10_000)]
            with pytest.raises(Refused, match='holds the loop for about .* add the word force'):
                tracing.diff(in_time(lambda: None), 5)
            assert tracing.diff(in_time(lambda: None), 5, force=True)['growth'] and kept is not None
        finally:
            tracing.stop()


def test_rights(served, connect):
    admin = connect(served)
    for name in ('none', 'reader', 'granted'):
        admin.reply(f"box.schema.user.create('{name}', {{password = 'x'}})")
    admin.reply("box.schema.user.grant('reader', 'read', 'universe')")
    admin.reply("box.schema.user.grant('granted', 'execute', 'command', 'memory')")

    def as_user(name):
        client = connect(served)
        client.reply(f'\\login {name} x')
        return client

    assert 'denied' in as_user('none').values('\\memory')[0]['error']
    assert 'denied' in as_user('none').values('box.inspect.memory()')[0]['error']
    reader = as_user('reader')
    assert reader.values('\\memory')[0]['process'] and reader.values('box.inspect.memory("types 1")')[0]['types']
    assert 'denied' in reader.values('\\memory trace start')[0]['error']
    assert 'denied' in reader.values('box.inspect.memory("trace start")')[0]['error']
    assert as_user('granted').values('\\memory trace start')[0]['tracing']
    assert [True] == admin.values('\\memory trace stop') or not tracemalloc.is_tracing()
