"""Live(): data of the program that statements read and change in place."""
from __future__ import annotations

import datetime
import enum
import logging
from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from decimal import Decimal
from types import SimpleNamespace

import pytest

from boxsession import Live

Point = namedtuple('Point', 'x y')


class Color(enum.Enum):
    RED = 'red'
    BLUE = 'blue'


class Db:
    def __init__(self):
        self.pool = 3

    def ping(self, times=1):
        """Asks the server."""
        return ['pong'] * times


class Slots:
    __slots__ = ('size', 'unset')

    def __init__(self):
        self.size = 1


class Flags:
    """The flags of the shop."""

    shared = 'class'

    def __init__(self):
        self.new_checkout = False
        self.limits = {'max': 3, 'tags': {'a'}}
        self.items = [1, {'x': 1}]
        self.db = Db()
        self.slots = Slots()
        self.at, self.price, self.color, self.point, self.queue = (
            datetime.date(2024, 1, 1), Decimal('1.50'), Color.RED, Point(1, 2), deque([1]))
        self.data, self.pause = b'\xff', datetime.timedelta(seconds=1)
        self._secret = 1
        self.reads = 0
        self.saved = None

    @property
    def ttl(self):
        self.reads += 1
        return 5

    @property
    def both(self):
        return self._secret

    @both.setter
    def both(self, value):
        if value < 0:
            raise ValueError('negative')
        self._secret = value

    def _write(self, value):
        self._secret = value

    blind = property(None, _write)

    @property
    def bad(self):
        raise LookupError('not now')

    def save(self, name, *, force=False):
        self.saved = name, force
        return self.saved


@pytest.fixture
def flags():
    return Flags()


@pytest.fixture
def data():
    return {'a': 1, 'n': {'b': [1, 2]}, 'none': None, 3: 'three'}


@pytest.fixture
def client(console, connect, flags, data):
    return connect(console(expose={
        'flags': Live(flags), 'd': Live(data), 'same': lambda *values: list(values), 'app': {'flags': Live(flags), 'n': 1},
        'dates': Live({datetime.date(2024, 1, 1): 1}), 'colors': Live({Color.RED: 1}), 'pairs_of': Live({(1, 2): 'x'}),
        'names': Live(SimpleNamespace(a=1)), 'user': Live(UserDict(a=1)), 'absent': Live(defaultdict(list, a=1)),
        'dict_': Live(OrderedDict(a=1))}))


def test_exposing_runs_no_property(console, connect, flags):
    connect(console(expose={'flags': Live(flags), 'methods': flags}))
    assert 0 == flags.reads


def test_reads_go_to_the_object(client, flags, data):
    assert [False, 3, 1, 'class', 3] == client.values('flags.new_checkout, flags.limits.max, flags.items[1], flags.shared, '
                                                      'flags.db.pool')
    flags.new_checkout, flags.limits = True, {'max': 4}
    data['n']['b'].append(7)
    assert [True, 4, 7, 3, None, None, 'three'] == client.values(
        'flags.new_checkout, flags.limits.max, d.n.b[3], #d.n.b, d.none, d.nosuch, d[3]')
    assert [5, 5] == client.values('flags.ttl, flags.ttl')
    assert 2 == flags.reads


def test_writes_go_to_the_object(client, flags, data):
    client.reply('flags.new_checkout = true flags.limits.max = 7 flags.db.pool = 4 flags.items[1] = 2 '
                 'flags.items[3] = "new" flags.both = 3 flags.slots.size = 2')
    client.reply('d.n.b[2] = 9 d.a = nil d.new = {1, {x = 2}} d.none = box.NULL')
    assert (True, 7, 4, [2, {'x': 1}, 'new'], 3, 2) == (
        flags.new_checkout, flags.limits['max'], flags.db.pool, flags.items, flags.both, flags.slots.size)
    assert {'n': {'b': [1, 9]}, 'none': None, 3: 'three', 'new': [1, {'x': 2}]} == data
    client.reply('flags.blind = 8 flags.slots.unset = 1')
    assert (8, 1) == (flags.both, flags.slots.unset)


@pytest.mark.parametrize(('statement', 'name', 'value'), [
    ('flags.at = "2025-02-03"', 'at', datetime.date(2025, 2, 3)), ('flags.price = 2', 'price', Decimal(2)),
    ('flags.price = "2.50"', 'price', Decimal('2.50')), ('flags.color = "blue"', 'color', Color.BLUE),
    ('flags.point = {x = 3, y = 4}', 'point', Point(3, 4)), ('flags.queue = {5}', 'queue', deque([5])),
    ('flags.limits = {}', 'limits', {}), ('flags.data = "x"', 'data', b'x'),
    ('flags.pause = 1.5', 'pause', datetime.timedelta(seconds=1.5)), ('flags.items = {}', 'items', []),
    ('flags.price = flags.price', 'price', Decimal('1.50')), ('flags.at = nil', 'at', None)])
def test_what_is_written_has_the_type_of_what_was_there(client, flags, statement, name, value):
    assert b'error' not in client.reply(statement)
    assert value == getattr(flags, name)
    assert type(value) is type(getattr(flags, name))


def test_a_set_stays_a_set(client, flags):
    client.reply('flags.limits.tags = {"b", "c"}')
    assert {'b', 'c'} == flags.limits['tags']


@pytest.mark.parametrize(('statement', 'message'), [
    ('flags.nosuch', "flags: Flags has no attribute 'nosuch'"), ('flags.nosuch = 1', 'has no attribute'),
    ('flags._secret', "'_secret' is no public attribute"), ('flags._secret = 1', 'is no public attribute'),
    ('flags.__class__', 'is no public attribute'), ('flags.db.__dict__', 'is no public attribute'),
    ('flags[1]', '1 is no public attribute'), ('flags["a b"]', 'is no public attribute'),
    ('flags.save = 1', 'flags.save is a method of the program'), ('flags.bad', 'LookupError: not now'),
    ('flags.both = -1', 'ValueError: negative'), ('flags.ttl = 1', 'AttributeError: '),
    ('flags.at = "x"', 'flags.at is a date: '), ('flags.color = "green"', "flags.color is a Color: 'green' is not a valid"),
    ('d.n.b[4] = 1', 'd.n.b has 2 items: its item 4 cannot be set'), ('d.n.b[0] = 1', 'its item 0'),
    ('d.n.b.x = 1', 'its item x'), ('d.n.b[1] = nil', 'd.n.b[1] cannot be removed'),
    ('flags.point.x = 5', 'flags.point.x cannot be changed: `flags` is a copy'), ('#flags', 'flags has no length'),
    ('d.f = print', 'cannot pass a function to Python'), ('d[{}] = 1', 'a table cannot be a key'),
    ('flags()', 'attempt to call'), ('setmetatable(flags, {})', 'not a table'),
    ('rawset(flags, "new_checkout", 1)', 'flags is live data of the program and not a table'),
    ('flags.slots.unset', 'AttributeError'),
])
def test_what_is_refused(client, flags, statement, message):
    assert message in client.error(statement)
    assert (False, Point(1, 2), 3) == (flags.new_checkout, flags.point, flags.db.pool)


def test_what_cannot_be_entered_cannot_be_replaced(client, flags):
    """A log or a lock that became a text would stop the program."""
    flags.log, flags.data_of_the_log = logging.getLogger('shop'), {'log': logging.getLogger('shop')}
    for statement in ('flags.log = 5', 'flags.data_of_the_log.log = "x"', 'flags.data_of_the_log.log = nil'):
        assert 'is a Logger: it cannot be replaced' in client.error(statement)
    assert flags.log is flags.data_of_the_log['log'] is logging.getLogger('shop')


def test_methods(client, flags):
    assert [['a', True], ['b', False]] == client.values('flags:save("a", {force = true}), flags.save("b")')
    assert ('b', False) == flags.saved
    assert [['pong', 'pong'], ['pong']] == client.values('flags.db:ping(2), flags.db.ping{times = 1}')
    assert ['x'] == client.values('flags.save(flags.db.ping()[1] and "x")[1]')


def test_it_is_shown_as_it_is(client):
    shown = client.value('flags')
    assert {'new_checkout': False, 'bad': '<LookupError>', 'db': '<Db>', 'ttl': 5, 'point': {'x': 1, 'y': 2}}.items() <= (
        shown.items())
    assert not {'save', '_secret'} & shown.keys()
    assert {'pool': 3} == client.value('flags.db')
    assert [{'a': 1, 'n': {'b': [1, 2]}, 'none': None, 3: 'three'}, [1, 2]] == client.values('d, d.n.b')
    assert [[[1, 2], {'max': 3, 'tags': ['a']}]] == client.values('same(d.n.b, flags.limits)')
    assert ['{"b":[1,2]}', 'live: d.n', 'userdata', True, False] == client.values(
        'require("json").encode(d.n), tostring(d.n), type(d), d.n == d.n, d == d.n')


def test_loops_and_copies(client, data):
    client.reply('keys = {} for k, v in pairs(d) do keys[tostring(k)] = type(v) end')
    assert {'a': 'number', 'n': 'userdata', 'none': 'nil', '3': 'string'} == client.value('keys')
    client.reply('list = {} for i, v in ipairs(d.n.b) do list[i] = v end for i, v in pairs(d.n.b) do list[i + 2] = v end')
    assert [[1, 2, 1, 2], '1,2', 2] == client.values('list, table.concat(d.n.b, ","), select("#", unpack(d.n.b))')
    client.reply('copy = table.deepcopy(d) copy.n.b[1] = 100')
    assert [1, 2] == data['n']['b']


def test_keys_of_other_types_are_found(client):
    assert [1, 1, None] == client.values('dates["2024-01-01"], colors.red, dates.x')
    client.reply('for key, value in pairs(pairs_of) do found = {#key, value} end')
    assert [2, 'x'] == client.value('found')
    client.reply('dates["2024-01-01"] = 5 colors.red = 6')
    assert [{datetime.date(2024, 1, 1): 5}, {'red': 6}] == client.values('dates, colors')
    assert [1, 1, 1, None, 1] == client.values('names.a, user.a, absent.a, absent.b, dict_.a')
    assert {'a': 1} == client.value('absent')


def test_it_may_stand_in_a_mapping(client, flags):
    client.reply('app.flags.new_checkout = true')
    assert flags.new_checkout is True
    assert 'app.flags belongs to the program' in client.error('app.flags = 1')


@pytest.mark.parametrize('value', [None, 1, 'a', (1, 2), len, {1}, datetime.date(2024, 1, 1)])
def test_what_cannot_change_is_refused(value):
    with pytest.raises(TypeError, match=r'Live\(\) takes'):
        Live(value)


def test_rights(console, connect, flags, tmp_path):
    init = tmp_path / 'init.lua'
    init.write_text("for _, name in ipairs{'bob', 'eve', 'rea'} do box.schema.user.create(name) end "
                    "box.schema.func.create('flags') box.schema.user.grant('bob', 'execute', 'function', 'flags') "
                    "box.schema.user.grant('rea', 'read', 'universe')")
    served = console(expose={'flags': Live(flags), 'd': Live({'a': 1})}, init=str(init))

    def of(user):
        client = connect(served)
        client.reply(f"box.session.su('{user}')")
        return client

    bob, eve, rea = of('bob'), of('eve'), of('rea')
    bob.reply('flags.new_checkout = true flags.limits.max = 9')
    assert (True, 9) == (flags.new_checkout, flags.limits['max'])
    assert [5, {'max': 9, 'tags': ['a']}, ['x', True]] == bob.values(
        'flags.ttl, flags.limits, flags:save("x", {force = true})')
    for statement in ('flags.ttl', 'flags.new_checkout = false', 'd.a', 'd'):
        assert 'denied' in eve.error(statement)
    reads = flags.reads
    assert 'denied' in rea.error('flags.ttl')
    assert 'denied' in rea.error('flags.new_checkout = false')
    assert 'denied' in rea.error('d.a')
    rea.reply('flags'), rea.reply('_G')
    assert reads == flags.reads
    assert 'denied' in bob.error('d.a')
    admin = connect(served)
    bob.reply('kept = flags.limits')
    admin.reply("box.schema.user.revoke('bob', 'execute', 'function', 'flags')")
    assert 'denied' in bob.error('kept.max = 1')
    assert (True, 9) == (flags.new_checkout, flags.limits['max'])
