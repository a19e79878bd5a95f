"""Exposed functions that raise a BaseException, or whose greenlet is killed or thrown into by others."""
from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

import gevent
import pytest
from gevent import GreenletExit, Timeout, getcurrent
from iproto_client import CALL, EVAL, MESSAGE, BinaryClient
from text_client import Client
from waiting import running, wait_for

from boxsession import Console, ScriptError
from boxsession.base.errors import StatementCancelled


class Odd(BaseException):
    pass


class NoText(Exception):
    def __str__(self):
        raise Odd


class ExitingText(Exception):
    def __str__(self):
        sys.exit(3)


class NumberText(Exception):
    def __str__(self):
        return 5


class EvilText(str):
    def __format__(self, spec):
        raise Odd

    def encode(self, *_arguments, **_options):
        return b'x]}'

    def __len__(self):
        return 3


class Shouting(Exception):
    def __str__(self):
        return EvilText('loud')


class EvilName(type):
    @property
    def __name__(cls):
        raise Odd


class Named(Exception, metaclass=EvilName):
    pass


class EvilInt(int):
    def __int__(self):
        raise Odd

    __index__ = __le__ = __ge__ = __int__


class EvilFloat(float):
    def __float__(self):
        raise Odd

    __repr__ = __float__


class Lazy(Mapping):
    """Fails while it is read."""

    def __getitem__(self, key):
        raise Timeout(1)

    def __iter__(self):
        yield 'a'

    def __len__(self):
        return 1


class Serialized:
    def __init__(self, result):
        self.result = result

    def __serialize__(self):
        return self.result() if callable(self.result) else self


def slow():
    with Timeout(0.02):
        gevent.sleep(1000)


def deep(number=0):
    return deep(number + 1)


def rejected():
    getcurrent().kill()


def killed_by_another():
    greenlet = getcurrent()
    gevent.spawn(lambda: gevent.kill(greenlet))
    gevent.sleep(1000)


def thrown_by_another():
    gevent.get_hub().loop.run_callback(getcurrent().throw, Odd('thrown'))
    gevent.sleep(1000)


def raising(error):
    def function(*_):
        raise error
    return function


def repeated(value):
    value.append(value)
    return value


EXPOSED = {
    'slow': (slow, 'Timeout: 0.02 seconds'),
    'timeout': (raising(Timeout()), 'Timeout'),
    'exit_greenlet': (raising(GreenletExit()), 'GreenletExit'),
    'cancelled': (raising(asyncio.CancelledError('told')), 'CancelledError: told'),
    'sys_exit': (lambda: sys.exit(3), 'SystemExit: 3'),
    'sys_exit_text': (lambda: sys.exit('bye'), 'SystemExit: bye'),
    'interrupt': (raising(KeyboardInterrupt()), 'KeyboardInterrupt'),
    'generator': (lambda: list(leave() for leave in [sys.exit]), 'SystemExit'),
    'generator_close': (raising(GeneratorExit()), 'GeneratorExit'),
    'odd': (raising(Odd('very')), 'Odd: very'),
    'own_cancel': (raising(StatementCancelled()), 'StatementCancelled'),
    'memory': (raising(MemoryError()), 'MemoryError'),
    'deep': (deep, 'RecursionError'),
    'no_text': (raising(NoText()), 'NoText: its message cannot be shown'),
    'exiting_text': (raising(ExitingText()), 'ExitingText: its message cannot be shown'),
    'number_text': (raising(NumberText()), 'NumberText: its message cannot be shown'),
    'shouting': (raising(Shouting()), 'Shouting: its message cannot be shown'),
    'named': (raising(Named('x')), 'Named: its message cannot be shown'),
    'surrogate': (raising(ValueError('\ud800')), 'ValueError: \\ud800'),
    'lazy': (lambda: Lazy(), 'Timeout: 1 second'),
    'serialized': (lambda: Serialized(slow), 'Timeout: 0.02 seconds'),
    'serialized_exit': (lambda: [1, {'a': Serialized(sys.exit)}], 'SystemExit'),
    'itself': (lambda: Serialized(None), 'ValueError: value is nested deeper than 100'),
    'cyclic': (lambda: repeated([]), 'ValueError: value is nested deeper than 100'),
    'an_iterator': (lambda: iter([1]), 'TypeError'),
    'rejected': (rejected, 'GreenletExit'),
    'killed_by_another': (killed_by_another, 'GreenletExit'),
    'thrown_by_another': (thrown_by_another, 'Odd: thrown'),
}


@pytest.fixture
def console(tmp_path):
    console = Console(
        listen=['127.0.0.1:0', {'address': '127.0.0.1:0', 'protocol': 'binary', 'user': 'admin'},
                f'unix:{tmp_path}/c.sock'],
        expose={**{name: function for name, (function, _) in EXPOSED.items()},
                'odd_values': lambda: [EvilInt(5), EvilFloat(1.5), EvilText('loud'), True],
                'leak': leak, 'leak_error': leak_error, 'sleep': gevent.sleep, 'later': later},
        config={'limits': {'drain_seconds': 0.2}})
    console.start()
    yield console
    console.stop()


FIRED = []


def leak(seconds=0.01):
    """Starts a timeout and forgets it."""
    timeout = Timeout(seconds)
    timeout.start()
    FIRED.append(timeout)


def leak_error(seconds=0.01):
    Timeout(seconds, ValueError('late')).start()


def later(function, seconds=0.01):
    gevent.spawn_later(seconds, getcurrent().throw, {'odd': Odd, 'timeout': Timeout}[function])


def test_whatever_a_function_raises_is_an_error_of_its_statement(console):
    for address in (console.addresses[0], console.addresses[2]):
        client = Client(address)
        for name, (_, message) in EXPOSED.items():
            assert client.error(f'{name}()').startswith(message), name
            assert client.values(f'pcall({name})')[0] is False, name
        assert [5, 1.5, 'loud', True] == client.value('odd_values()')
        assert 2 == client.value('1 + 1')
        client.close()


def test_requests_of_the_binary_protocol_are_answered_with_it(console):
    client = BinaryClient(console.addresses[1])
    for name, (_, message) in EXPOSED.items():
        assert message in client.ask(EVAL, {0x27: f'return {name}()', 0x21: []})[MESSAGE], name
        assert message in client.ask(CALL, {0x22: name, 0x21: []})[MESSAGE], name
        assert client.eval(f'return (pcall({name}))') == [False], name
    assert [2] == client.eval('return 1 + 1')
    client.close()


def test_in_fibers_coroutines_and_triggers(console):
    client = Client(console.addresses[0])
    client.reply("fiber = require('fiber')")
    for name, (_, message) in EXPOSED.items():
        client.reply(f'f = fiber.new({name}) f:set_joinable(true)')
        joined = client.values('f:join()')
        assert joined[0] is False and joined[1].startswith(message), name
        assert client.values(f'coroutine.wrap({name})()')[0]['error'].startswith(message), name
    client.reply('box.session.on_disconnect(function() pcall(sys_exit) done = (done or 0) + 1 slow() end)')
    client.reply('box.session.on_connect(function() pcall(slow) pcall(killed_by_another) end)')
    other = Client(console.addresses[0])
    assert 1 == other.value('1')
    other.end()
    other.read_to_end()
    other.close()
    assert 1 == client.value('done')
    client.close()


def wait_until_fired(count):
    with Timeout(5):
        wait_for(lambda: sum(not timeout.pending for timeout in FIRED) >= count)
        gevent.sleep(0)


@pytest.mark.parametrize('leaked', ['leak()', 'leak_error()', "later('odd')", "later('timeout')"])
@pytest.mark.parametrize('statement', ["require('fiber').sleep(0.05) return 1", 'for i = 1, 2e7 do end return 1',
                                       'local c = require("fiber").channel() c:get(0.05) return 1'])
def test_a_timeout_that_was_forgotten_reaches_nothing_that_waits(console, caplog, leaked, statement):
    client = Client(console.addresses[0])
    client.reply(leaked)
    assert 1 == client.value(statement)
    client.reply(leaked)
    wait_for(lambda: sum('dropped' in record.message for record in caplog.records) >= 2)     # the second: while it is idle
    assert 2 == client.value('1 + 1')
    # In a fiber, and in the middle of a batch of requests.
    client.reply(f"fiber = require('fiber') f = fiber.new(function() {leaked} fiber.sleep(0.05) return 7 end) "
                 "f:set_joinable(true)")
    assert [True, 7] == client.values('f:join()')
    client.close()
    binary = BinaryClient(console.addresses[1])
    binary.eval(leaked)
    assert [1] == binary.eval(statement)
    binary.eval(leaked)
    wait_for(lambda: sum('dropped' in record.message for record in caplog.records) >= 5)
    assert [2] == binary.eval('return 1 + 1')
    binary.close()


def test_a_client_that_reads_slowly_is_not_harmed_by_it(console, caplog):
    client = Client(console.addresses[0])
    client.send("leak(0.05) return ('x'):rep(30e6)\n")
    wait_for(lambda: any('dropped' in record.message for record in caplog.records))
    assert 30e6 < len(client.document())
    assert 2 == client.value('1 + 1')
    client.close()


def test_a_statement_that_is_cancelled_is_still_stopped_at_once(console):
    client = Client(console.addresses[0])
    client.send('pcall(sleep, 1000) x = 1\n')
    wait_for(lambda: running(console))
    client.send(b'\x03')
    assert b'cancelled' in client.document()
    assert [None] == client.values('x')
    client.close()


def test_a_stop_ends_also_who_catches_everything_but_that():
    caught = []

    def stubborn():
        for _ in range(3):
            try:
                gevent.sleep(1000)
            except Exception as error:
                caught.append(error)

    console = Console(listen=['127.0.0.1:0'], expose={'stubborn': stubborn}, config={'limits': {'drain_seconds': 0.1}})
    console.start()
    client = Client(console.addresses[0])
    client.send('stubborn()\n')
    wait_for(lambda: running(console))
    console.stop()
    assert not caught
    assert b'cancelled' in client.read_to_end()
    client.close()


@pytest.mark.parametrize('name', ['sys_exit', 'slow', 'exit_greenlet', 'odd'])
def test_an_init_script_fails_by_it_as_by_any_error(tmp_path, name):
    script = tmp_path / 'init.lua'
    script.write_text(f'assert(not pcall({name})) {name}()')
    function, message = EXPOSED[name]
    console = Console(listen=['127.0.0.1:0'], expose={name: function}, config={'init': str(script)})
    with pytest.raises(ScriptError, match=message):
        console.start()
    console.stop()


def test_the_embedding_program_goes_on(serve, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text("""
import sys, gevent
from boxsession import Console, ScriptError
console = Console(listen=['127.0.0.1:0'], expose={'leave': sys.exit, 'stop': lambda: gevent.spawn(console.stop) and None})
console.start()
print('listening: console', console.addresses[0], file=sys.stderr, flush=True)
console.serve_forever()
sys.exit(7)
""")
    served = serve(program=str(program))
    client = Client(served.addresses()[0])
    assert 'SystemExit: 3' == client.error('leave(3)')
    assert 'SystemExit: 3' == client.error("require('fiber').create(leave, 3) leave(3)")
    assert 2 == client.value('1 + 1')
    client.reply('stop()')
    assert 7 == served.wait()
    client.close()
