"""Live(): what of the program statements cannot reach, and what a grant on live data allows."""
from __future__ import annotations

import argparse
import datetime
import enum
import io
import logging
import subprocess
import threading
import uuid
from collections import Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType, SimpleNamespace

import gevent
import pytest
from gevent.lock import RLock

from boxsession import Live
from boxsession.lua.live import LiveData


class Color(enum.Enum):
    RED = 'red'


@dataclass
class Card:
    owner: str = 'ann'
    number: str = field(default='4111', repr=False)


class Worker(gevent.Greenlet):
    state = 'idle'


class Job(threading.Thread):
    state = 'idle'


class Engine:
    def __init__(self):
        self.gr_frame = self.f_back = self.co_code = self.tb_next = self.ag_frame = self.cr_frame = self.gi_frame = 1

    def ping(self):
        return 'pong'


def numbers():
    yield 1


async def later():
    """A coroutine function."""


async def stream():
    yield 1


class Shop:
    def __init__(self):
        self.gen, self.coroutine, self.agen = numbers(), later(), stream()
        self.frame, self.code, self.trace = self.gen.gi_frame, numbers.__code__, catch().__traceback__
        self.module, self.kind, self.own_kind = subprocess, dict, Engine
        self.greenlet, self.worker, self.job, self.problem = gevent.Greenlet(len), Worker(), Job(), ValueError('x')
        self.lock, self.glock, self.file, self.log = threading.Lock(), RLock(), io.StringIO(), logging.getLogger('x')
        self.handler, self.hub = logging.NullHandler(), gevent.get_hub()
        self.run, self.warn, self.append, self.eval = subprocess.run, self.log.warning, [].append, eval
        self.engine, self.names, self.args = Engine(), SimpleNamespace(a=1), argparse.Namespace(port=1)
        self.card, self.helper = Card(), helper
        self.items = [self.gen, {'deep': self.log}]

    def save(self):
        return 'saved'

    @classmethod
    def kinds(cls):
        return ['a']

    @staticmethod
    def add(a, b):
        return a + b


def helper():
    return 'helped'


def catch():
    try:
        raise ValueError
    except ValueError as error:
        return error


@pytest.fixture
def shop():
    made = Shop()
    yield made
    made.coroutine.close()


@pytest.fixture
def client(console, connect, shop):
    return connect(console(expose={'shop': Live(shop)}))


@pytest.mark.parametrize(('name', 'kind'), [
    ('gen', 'generator'), ('coroutine', 'coroutine'), ('agen', 'async_generator'), ('frame', 'frame'), ('code', 'code'),
    ('trace', 'traceback'), ('module', 'module'), ('kind', 'type'), ('own_kind', 'type'), ('greenlet', 'Greenlet'),
    ('worker', 'Worker'), ('job', 'Job'), ('lock', 'lock'), ('glock', 'RLock'), ('file', 'StringIO'), ('log', 'Logger'),
    ('handler', 'NullHandler'), ('hub', 'Hub'), ('problem', 'ValueError'), ('run', 'function'), ('warn', 'method'),
    ('append', 'builtin_function_or_method'), ('eval', 'builtin_function_or_method'), ('items[1]', 'generator'),
    ('items[2].deep', 'Logger')])
def test_what_is_no_object_of_the_program_is_only_a_name(client, name, kind):
    assert f'<{kind}>' == client.value(f'shop.{name}')
    assert 'attempt to call' in client.error(f'shop.{name}("x")')
    for key in ('gi_frame', 'gr_frame', 'f_builtins', 'name', 'manager'):
        assert [None] == client.values(f'shop.{name}.{key}')      # of a string


def test_a_path_that_a_variable_holds_is_checked_again(client, shop):
    client.reply('engine = shop.engine ping = engine.ping')
    assert ['pong', 'pong'] == client.values('engine.ping(), ping()')
    for found in (shop.log, shop.gen, subprocess, shop.frame):
        shop.engine = found
        for statement in ('engine.name', 'engine.ping()', 'ping()', 'engine.f_builtins', 'engine.name = 1'):
            assert 'shop.engine has no parts any more' in client.error(statement)
        assert b'shop.engine has no parts any more' in client.reply('engine')


@pytest.mark.parametrize('prefix', ['gi', 'gr', 'cr', 'ag', 'f'])
def test_names_of_frames_are_refused(client, prefix):
    name = {'f': 'f_back'}.get(prefix, f'{prefix}_frame')
    assert 'is no public attribute' in client.error(f'shop.engine.{name}')
    assert 'is no public attribute' in client.error(f'shop.engine.{name} = 2')
    assert {} == client.value('shop.engine') or [] == client.value('shop.engine')


def test_what_is_of_the_program_is_reached(client):
    assert ['pong', 1, 1, 'saved', 3, 'helped'] == client.values(
        'shop.engine:ping(), shop.names.a, shop.args.port, shop:save(), shop.add(1, 2), shop.helper()')
    assert ['a'] == client.value('shop.kinds()')
    shown = client.value('shop')
    assert ('<Logger>', '<generator>', '<Worker>') == (shown['log'], shown['gen'], shown['worker'])


@pytest.mark.parametrize('make', [lambda: logging, numbers, lambda: Shop, Worker, Job, io.StringIO, threading.Lock,
                                  lambda: logging.getLogger('x')])
def test_what_may_not_be_live(make):
    with pytest.raises(TypeError, match="one of the program's own classes"):
        Live(make())


def test_hidden_fields_of_dataclasses(client, shop):
    assert {'owner': 'ann'} == client.value('shop.card')
    client.reply('seen = {} for key in pairs(shop.card) do table.insert(seen, key) end')
    assert ['owner'] == client.value('seen')
    for statement in ('shop.card.number', 'shop.card.number = "1"', 'shop.card["number"]'):
        assert "shop.card: 'number' is no public attribute" in client.error(statement)
    assert '4111' == shop.card.number


def test_a_grant_reaches_every_part(console, connect, tmp_path):
    init = tmp_path / 'init.lua'
    init.write_text("box.schema.user.create('bob') for _, name in ipairs{'lst', 'flags', 'copy', 'tools'} do "
                    "box.schema.func.create(name) box.schema.user.grant('bob', 'execute', 'function', name) end "
                    "box.schema.user.create('eve') box.schema.func.create('flags.own') "
                    "box.schema.user.grant('eve', 'execute', 'function', 'flags.own')")
    lst = [{'a': 1, 'e': [5]}, Engine()]
    flags = {'a.b': {'c': 1}, 'own': {'c': 2}, 'x:y': {'c': 3}, 7: {'c': 4}, 'lst.x': {'c': 5}, '': {'c': 6}}
    served = console(init=str(init), expose={'lst': Live([lst]), 'flags': Live(flags), 'copy': {'a.b': [{'c': 7}]},
                                              'tools': {'a.b': str.upper, 'k' * 70: str.upper}})
    client = connect(served)
    client.reply("box.session.su('bob')")
    assert [1, 5, 'pong'] == client.values('lst[1][1].a, lst[1][1].e[1], lst[1][2]:ping()')
    assert [1, 2, 3, 4, 5, 6, 7] == client.values(
        'flags["a.b"].c, flags.own.c, flags["x:y"].c, flags[7].c, flags["lst.x"].c, flags[""].c, copy["a.b"][1].c')
    client.reply('lst[1][1].e[1] = 6 flags["a.b"].c = 9')
    assert (6, 9) == (lst[0]['e'][0], flags['a.b']['c'])
    assert ['A', 'B'] == client.values('tools["a.b"]("a"), tools[("k"):rep(70)]("b")')
    # A name that a key has made is no grant.
    client.reply('own = flags.own')
    connect(served).reply("box.schema.user.revoke('bob', 'execute', 'function', 'flags') "
                          "box.schema.user.grant('bob', 'execute', 'function', 'flags.own')")
    assert 'denied' in client.error('own.c')


def test_long_and_deep_paths(console, connect):
    deep = {}
    deep['x'] = deep
    client = connect(console(expose={'deep': Live(deep), 'wide': Live({'k' * 5000: {}, 'é' * 300: {}})}))
    assert b'error' not in client.reply('at = deep for i = 1, 100 do at = at.x end')
    assert 'a path into live data has at most 100 steps' in client.error('at.x')
    assert len(client.error('wide[("k"):rep(5000)].x.y')) < 300
    assert len(client.value('tostring(wide[("k"):rep(5000)])')) < 100
    assert 'live: wide[éé' in client.value('tostring(wide[("é"):rep(300)])')
    assert [True, False] == client.values('deep.x.x == deep.x.x, deep.x == deep.x.x')


def test_names_are_made_for_errors_only():
    class Key(str):
        def isidentifier(self):
            raise AssertionError

    data = {'x': {}}
    data['x']['x'] = data['x']
    LiveData('d', Live(data))('get', [Key('x')] * 90, Key('x'))


# Keys -----------------------------------------------------------------------------------------------------------------

class Counted(dict):
    """Counts how often all its keys are read."""

    reads = 0

    def __iter__(self):
        for key in super().__iter__():
            self.reads += 1
            yield key


DAY, ID = datetime.date(2024, 1, 1), uuid.UUID(int=5)


@pytest.mark.parametrize(('key', 'shown'), [
    (DAY, '2024-01-01'), (datetime.datetime(2024, 1, 1, 2), '2024-01-01T02:00:00'), (ID, str(ID)), (Color.RED, 'red'),
    (Decimal('1.50'), '1.50'), (b'\xc3\xa9', 'é'), (datetime.timedelta(seconds=2), 2)])
def test_a_key_is_found_without_a_search(key, shown):
    data = Counted({key: 1, **{(number, 'x'): 0 for number in range(3000)}})
    assert ['value', 1] == LiveData('d', Live(data))('get', [], shown)
    assert data.reads <= 3


def test_a_search_pauses_and_is_done_once():
    data = Counted({None: 0, **{datetime.date.fromordinal(number + 1): number for number in range(5000)}})
    live, pauses = LiveData('d', Live(data)), []
    keys = live('keys', [], pause=lambda: pauses.append(1))
    assert 5001 == len(keys) and len(pauses) >= 5
    data.reads = 0
    del pauses[:]
    for key in keys[1:]:
        assert ['value', data[key]] == live('get', [], key.isoformat(), pause=lambda: pauses.append(1))
    assert 5 <= len(pauses) < 10 and data.reads < 5001 * 4
    # Changes of the program are seen.
    first = datetime.date.fromordinal(1)
    del data[first]
    data[datetime.date(3000, 1, 1)] = 'new'
    assert [['value', None], ['value', 'new']] == [live('get', [], key) for key in (first.isoformat(), '3000-01-01')]


# Writes ---------------------------------------------------------------------------------------------------------------

class Sub(dict):
    """A dict of the program."""


class Own(UserDict):
    """A mapping of the program."""


@pytest.mark.parametrize(('old', 'new', 'expected'), [
    (defaultdict(list, a=[1]), {'b': 2}, defaultdict(list, b=2)), (OrderedDict(a=1), {'b': 2}, OrderedDict(b=2)),
    (Counter(a=1), {'b': 2}, Counter(b=2)), (Sub(a=1), {'b': 2}, Sub(b=2)), (Own(a=1), {'b': 2}, Own(b=2)),
    (defaultdict(list, a=1), [], defaultdict(list)), (deque([1], maxlen=2), [1, 2, 3], deque([2, 3], maxlen=2)),
    (UserList([1]), [2], UserList([2])), (MappingProxyType({'a': 1}), {'b': 2}, MappingProxyType({'b': 2}))])
def test_a_write_keeps_the_type(old, new, expected):
    data = {'x': old}
    before = repr(old)
    LiveData('d', Live(data))('set', [], 'x', new, False)
    assert expected == data['x'] and type(expected) is type(data['x'])
    assert before == repr(old) and old is not data['x']
    assert getattr(old, 'default_factory', None) is getattr(data['x'], 'default_factory', None)
    assert getattr(old, 'maxlen', None) == getattr(data['x'], 'maxlen', None)


@pytest.mark.parametrize(('statement', 'message'), [
    ("d.price = '1e999999999'", 'd.price is a Decimal: '), ("d.price = 'NaN'", 'is no finite number'),
    ("d.price = '-inf'", 'is no finite number'), ("d.price = ('9'):rep(5000)", 'has more than 38 digits'),
    ("d.price = 'x'", 'd.price is a Decimal: '), ("d.name = '\\255'", 'd.name is a str: the new value is not valid UTF-8'),
    ("d.name = {1}", 'd.name is a str: '), ("d.at = ('9'):rep(5000)", 'd.at is a date: ')])
def test_writes_that_are_refused(console, connect, statement, message):
    data = {'price': Decimal('1.5'), 'name': 'ann', 'at': DAY}
    client = connect(console(expose={'d': Live(data)}))
    error = client.error(statement)
    assert message in error and len(error) < 400
    assert {'price': Decimal('1.5'), 'name': 'ann', 'at': DAY} == data
