"""The console inside a gevent program: exposed functions and values, how values are copied, and a clean stop."""
from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import gevent
import pytest
from conftest import BINARY
from gevent import socket
from text_client import Client
from waiting import running, wait_for

from boxsession import Console, ListenError
from boxsession.lua.functions import pack, unpack

PROJECT = Path(__file__).resolve().parent.parent


class Shop:
    """An object whose public methods statements may call."""

    def __init__(self):
        self.stock = {'egg': 12}

    def count(self, name):
        return self.stock[name]

    def add(self, name, number=1):
        self.stock[name] = self.stock.get(name, 0) + number
        return self.stock[name]

    def _secret(self):
        raise AssertionError('not to be reached')


class Money:
    def __init__(self, cents):
        self.cents = cents

    def __serialize__(self):
        return {'cents': self.cents}


@pytest.fixture
def client(console, connect):
    shop = Shop()

    def fail(kind):
        raise {'key': KeyError('k'), 'value': ValueError('bad value'), 'bare': ValueError(), 'exit': SystemExit(3)}[kind]

    def kinds(*values):
        return [type(value).__name__ for value in values]

    return connect(console(expose={
        'shop': shop, 'fail': fail, 'kinds': kinds, 'echo': lambda *values: list(values), 'same': lambda value: value,
        'answer': 42, 'names': ['a', 'b'], 'tools': {'up': str.upper, 'n': 1, 'deep': {'len': len}},
        'money': lambda: Money(5), 'big': lambda: 2**70, 'thing': lambda: object(), 'data': lambda: b'\xff\x00',
        'nothing': lambda: None, 'waits': gevent.sleep, 'raw': lambda: {1: 'a', 'b': [True, None, 1.5, 'x']},
    }))


def test_functions_objects_and_values(client):
    assert 12 == client.value('shop.count("egg")')
    assert [12, 4] == client.values('shop:count("egg"), shop:add("ham", 4)')
    assert [13, 15] == client.values('shop.add("egg"), shop.add("egg", 2)')
    assert [42, ['a', 'b'], 1] == client.values('answer, names, tools.n')
    assert ['AB', 3] == client.values('tools.up("ab"), tools.deep.len({1, 2, 3})')
    assert [None, None] == client.values('shop._secret, shop.stock')


def test_values_are_copied_both_ways(client):
    assert {1: 'a', 'b': [True, None, 1.5, 'x']} == client.value('raw()')
    assert {'cents': 5} == client.value('money()')
    assert [5, 'cents', 5] == client.values('same(money()).cents, next(money())')
    assert ['NoneType', 'bool', 'int', 'float', 'str', 'bytes', 'list', 'dict'] == client.value(
        'kinds(nil, true, 1, 1.5, "a", "\\255", {1}, {a = 1})')
    assert [None, 1, None] == client.value('echo(nil, 1, nil)')
    assert b'\xff\x00' == client.value('data()')
    assert [None] == client.values('nothing()')
    client.reply('names[1] = "changed" answer = 0')
    assert ['a'] == client.values('same({"a"})[1]')
    assert [1, 'two'] == client.value('same(setmetatable({}, {__serialize = function() return {1, "two"} end}))')


def test_tables_are_copied_as_they_are_shown(client):
    for word, kind in [('seq', 'list'), ('sequence', 'list'), ('map', 'dict'), ('mapping', 'dict')]:
        assert [kind] == client.value(f'kinds(setmetatable({{1}}, {{__serialize = "{word}"}}))')
    assert ['list', 'dict', 'list'] == client.value('kinds({[3] = 3}, {1, [1000] = 2}, {})')
    assert ['a', 'a'] == client.value('local s = {"a"} s = same({s, s}) s[1][1] = "b" return {s[2][1], "a"}')
    assert ['str'] == client.value('kinds("0x10")')
    assert [1e15, 0.1, -2**53] == client.values('same(1e15), same(0.1), same(-2^53)')
    client.reply('long = {} for i = 1, 5000 do long[i] = ("x"):rep(1000) end')
    assert [5000000, 5000000] == client.values('#table.concat(same(long)), #same(("y"):rep(5e6))')


def test_the_deepest_table_that_is_copied(client):
    deep = 'local t = {} for _ = 2, %d do t = {t} end return #same(t)'
    assert 1 == client.value(deep % 101)
    assert 'contains itself' in client.error(deep % 102)
    assert 'contains itself' in client.error((deep % 101).replace('{}', '{1}'))


def test_exceptions_become_errors_with_type_and_message(client):
    assert "KeyError: 'k'" == client.error('fail("key")')
    assert 'ValueError: bad value' == client.error('fail("value")')
    assert 'ValueError' == client.error('fail("bare")')
    assert [False, 'ValueError: bad value'] == client.values('pcall(fail, "value")')
    assert client.error('shop.count()').startswith('TypeError: ')
    assert 'does not fit 64 bits' in client.error('big()')
    assert 'object cannot be passed to Lua' in client.error('thing()')
    assert 'cannot pass a function to Python' in client.error('same(print)')
    assert 'contains itself' in client.error('local t = {} t.t = t return same(t)')
    assert 'a table cannot be a key' in client.error('same({[{}] = 1})')
    assert 2 == client.value('1 + 1')


def test_an_exposed_function_may_wait_and_be_cancelled(client):
    client.reply('waits(0.01)')
    client.send('box.session.push(1) pcall(waits, 1000) x = 1\n')
    client.document()
    client.send(b'\x03')
    assert b'cancelled' in client.document()
    assert [None] == client.values('x')


class Slow(Mapping):
    """A result of many items, each of which takes a while."""

    def __init__(self, count):
        self.keys_ = range(count)
        self.packed = 0
        self.turns = []             # count of the program's turns after each item

    def __len__(self):
        return len(self.keys_)

    def __iter__(self):
        return iter(self.keys_)

    def __getitem__(self, key):
        end = time.monotonic() + 0.0003
        while time.monotonic() < end:
            pass
        self.packed += 1
        self.turns.append(turns[0])
        return key


turns = [0]


@pytest.fixture
def others():
    """Counts the turns of another greenlet of the program, in `turns`."""
    def take():
        while True:
            turns[0] += 1
            gevent.sleep(0.0001)

    taking = gevent.spawn(take)
    yield
    taking.kill()


@pytest.mark.parametrize('how', ['statement', 'trigger', 'fiber', 'script'])
def test_a_long_result_is_copied_between_the_turns_of_others(console, connect, others, tmp_path, how):
    made = []

    def many():
        made.append(Slow(1000))
        return made[-1]

    options = {}
    if how == 'script':
        (tmp_path / 'init.lua').write_text('many()')
        options['init'] = str(tmp_path / 'init.lua')
    served = console(expose={'many': many}, **options)
    if how != 'script':
        client = connect(served)
        client.reply({'statement': 'many()', 'fiber': "f = require('fiber').new(many) f:set_joinable(true) f:join()",
                      'trigger': 'box.session.on_connect(many)'}[how])
        if how == 'trigger':
            connect(served)
    assert made[0].packed == 1000
    assert len(set(made[0].turns)) > 2


def test_a_long_result_for_a_binary_client_is_copied_between_the_turns_of_others(console, connect_binary, others):
    slow = Slow(1000)
    connect_binary(console(listen=[BINARY], expose={'many': lambda: slow})).call('many')
    assert slow.packed == 1000
    assert len(set(slow.turns)) > 2


def test_the_copy_of_a_long_result_can_be_cancelled(console, connect):
    slow = Slow(10 ** 6)                # takes minutes
    served = console(expose={'many': lambda: slow})
    client, other = connect(served), connect(served)
    client.send('pcall(many) x = 1\n')
    wait_for(lambda: slow.packed)
    assert 1 == other.value('1')
    client.send(b'\x03')
    assert b'cancelled' in client.document()
    assert [None] == client.values('x')
    client.reply('box.cfg{limits = {statement_seconds = 0.3}}')
    slow.packed = 0
    assert b'limits.statement_seconds' in client.reply('pcall(many) x = 1')
    assert slow.packed > 0
    assert [None, 2] == client.values('x, 1 + 1')


def test_what_changes_while_it_is_copied_is_no_error(console, connect):
    table = {number: number for number in range(1000)}

    class Changes:
        def __serialize__(self):
            table.pop(999, None)
            table[1000] = 1
            return 0

    table[0] = Changes()
    client = connect(console(expose={'changing': lambda: table}))
    assert [998, None, None] == client.values('(function(t) return t[998], t[999], t[1000] end)(changing())')


@pytest.mark.parametrize('value', [
    list(range(3000)), {number: 1 for number in range(2000)}, [[]] * 3000, [0, *[[]] * 3000], [{}] * 3000,
    [[1] * 9] * 300, {str(number): [[]] for number in range(1000)}])
def test_pauses_while_values_are_copied(value):
    count = [0]

    def pause():
        count[0] += 1

    packed = pack([value], pause)
    assert count[0] >= 2000 // 257
    assert pack([value]) == packed
    assert [value] == unpack(packed)
    count[0] = 0
    assert [value] == unpack(packed, 0, pause)
    assert count[0] >= 2000 // 256


@pytest.mark.parametrize('names', [{'a b': 1}, {'x': object()}, {1: 2}, {'x': 2**70}, {'print': 1}, {'box': 1},
                                   {'end': 1}, {'session': 1}, {'é': 1}])
def test_what_cannot_be_exposed_is_told(names):
    console = Console(listen=['127.0.0.1:0'], expose=names)
    with pytest.raises(ValueError):
        console.start()
    assert [] == console.addresses
    console.stop()


def open_files():
    return len(os.listdir('/proc/self/fd'))


def test_started_and_stopped_again_and_again_without_leftovers(tmp_path):
    def once():
        console = Console(listen=['127.0.0.1:0', f'unix:{tmp_path}/a.sock'], expose={'f': len},
                          config={'limits': {'drain_seconds': 0.1}})
        console.start()
        clients = [Client(console.addresses[number % 2]) for number in range(6)]
        clients[0].reply('x = 1')
        clients[1].send('require("fiber").sleep(1000)\n')
        clients[2].send('while true do end\n')
        wait_for(lambda: len(running(console)) == 2)
        console.stop()
        assert 0 == len(console.sessions)
        assert not (tmp_path / 'a.sock').exists()
        for client in clients:
            client.close()
        return console

    once()
    gc.collect()
    files, threads = open_files(), threading.active_count()
    greenlets = sum(issubclass(type(found), gevent.Greenlet) and not found.dead for found in gc.get_objects())
    for _ in range(3):
        once()
    gc.collect()
    assert files == open_files()
    assert threads == threading.active_count()
    assert greenlets == sum(issubclass(type(found), gevent.Greenlet) and not found.dead for found in gc.get_objects())


def test_one_console_can_be_started_again(connect):
    console = Console(listen=['127.0.0.1:0'])
    for _ in range(2):
        console.start()
        with pytest.raises(RuntimeError):
            console.start()
        client = connect(console)
        assert [None] == client.values('x')
        client.reply('x = 1')
        console.stop()
        console.stop()


def test_two_consoles_do_not_share_a_state(console, connect):
    first, second = connect(console()), connect(console())
    first.reply('x = 1')
    assert [None] == second.values('x')


def test_an_address_that_is_taken_leaves_nothing_listening(connect):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        console = Console(listen=['127.0.0.1:0', '127.0.0.1:%d' % taken.getsockname()[1]])
        with pytest.raises(ListenError, match='Address already in use'):
            console.start()
        assert [] == console.addresses


def test_serve_forever_ends_when_it_is_stopped():
    console = Console(listen=['127.0.0.1:0'])
    serving = gevent.spawn(console.serve_forever)
    wait_for(lambda: console.addresses)
    client = Client(console.addresses[0])
    assert 2 == client.value('1 + 1')
    console.stop()
    serving.get(timeout=30)
    client.close()


def test_importing_patches_nothing():
    code = ('import sys, socket, threading, time; before = (socket.socket, time.sleep, threading.Lock, sys.stdout, '
            'sys.excepthook); import boxsession; assert before == (socket.socket, time.sleep, threading.Lock, '
            'sys.stdout, sys.excepthook); assert threading.active_count() == 1; '
            'from gevent import monkey; assert not monkey.saved')
    subprocess.run([sys.executable, '-c', code], check=True, cwd=PROJECT)


def test_it_works_in_a_patched_program(tmp_path):
    code = '''
from gevent import monkey; monkey.patch_all()
import socket
from boxsession import Console
console = Console(listen=['127.0.0.1:0'])
console.start()
sock = socket.create_connection(('127.0.0.1', console.addresses[0].port))
data = b''
sock.sendall(b'1 + 1\\n')
while not data.endswith(b'...\\n'):
    data += sock.recv(1000)
assert data.endswith(b'---\\n- 2\\n...\\n'), data
console.stop()
'''
    subprocess.run([sys.executable, '-c', code], check=True, cwd=PROJECT, timeout=60)


@pytest.mark.parametrize('patch', ['', 'from gevent import monkey; monkey.patch_all()'])
def test_a_client_that_vanishes_has_its_statement_cancelled(tmp_path, patch):
    code = f"""
{patch}
import gevent
from gevent import socket
from boxsession import Console
console = Console(listen=['unix:{tmp_path}/a'])
console.start()
for statement in (b'while true do end\\n', b'require("fiber").sleep(1000)\\n'):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect('{tmp_path}/a')
    greeting = b''                      # with something unread a close is a reset
    while len(greeting) < 128:
        greeting += sock.recv(128)
    sock.sendall(statement)
    with gevent.Timeout(50):
        while not console.connections() or console.connections()[0].describe()['state'] != 'running':
            gevent.sleep(0.01)
        sock.close()
        while console.sessions:
            gevent.sleep(0.01)
console.stop()
"""
    ran = subprocess.run([sys.executable, '-c', code], cwd=PROJECT, timeout=60, capture_output=True, text=True)
    assert (0, '') == (ran.returncode, ran.stderr)


def test_the_example_service_can_be_looked_into_and_acted_on(connect):
    with subprocess.Popen([sys.executable, str(PROJECT / 'examples' / 'embed.py'), '--http', '0', '--console',
                           '127.0.0.1:0'], stdout=subprocess.PIPE, text=True,
                          env={**os.environ, 'PYTHONPATH': str(PROJECT)}) as process:
        try:
            told = process.stdout.readline()
            web_port, console = re.fullmatch(r'web on 127\.0\.0\.1:(\d+), console on (\S+)\n', told).groups()

            def get(name):
                with socket.create_connection(('127.0.0.1', int(web_port))) as web:
                    web.sendall(f'GET /report/{name} HTTP/1.0\r\n\r\n'.encode())
                    answer = b''
                    while piece := web.recv(65536):
                        answer += piece
                return answer.partition(b'\r\n\r\n')[2]

            client = connect(console)
            assert b'report 7\n' == get('7') == get('7')
            assert {'entries': 1, 'hits': 1, 'misses': 1} == client.value('cache.stats()')
            assert 1 == client.value('cache.forget("7")')
            get('7')
            assert {'entries': 1, 'hits': 1, 'misses': 2} == client.value('cache.stats()')
            assert [60] == client.values('settings.get("ttl_seconds")')
            client.reply('settings.set("ttl_seconds", 0)')
            assert "unknown setting 'nosuch'" in client.error('settings.set("nosuch", 1)')
            client.reply('cache.forget()')
            assert 3 == client.value('\\warm 1 3')['entries']
            client.reply('cache.forget()')
            get('8'), get('8')
            assert 7 == client.value('cache.stats().misses')
            process.terminate()
            assert 0 == process.wait(30)
        finally:
            process.kill()
