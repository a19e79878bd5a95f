"""Code of statements that runs outside of them: in callbacks, finalizers and repr(); code in C that drops exceptions."""
from __future__ import annotations

import pytest


@pytest.fixture
def served(serve, tmp_path):
    (tmp_path / 'c.yml').write_text('listen: [{address: "127.0.0.1:0", languages: [python, lua], insecure: true}]\n')
    found = serve('--config', 'c.yml')
    found.address = found.addresses()[0]
    return found


@pytest.fixture
def python(served, connect):
    def client():
        return connect(served.address)
    return client


def define(client, text):
    client.send(text + '\n\n')
    assert client.document() == b'---\n...\n'


@pytest.mark.parametrize('body', [
    'while True: pass',
    'while True:\n    try:\n      while True: pass\n    except BaseException: pass',
], ids=['loop', 'goes on after exceptions'])
def test_a_callback_of_the_loop_ends(python, body):
    client, other = python(), python()
    client.reply('import gevent')
    define(client, f'def callback(*_):\n  {body}')
    client.reply('gevent.get_hub().loop.run_callback(callback)')
    assert other.value('1 + 1') == 2
    assert client.value('1 + 1') == 2


def test_short_callbacks_of_the_loop_are_not_ended(python):
    client = python()
    client.reply('import gevent; count = [0]')
    define(client, 'def callback():\n  for _ in range(1000): count[0] += 1')
    client.reply('timer = gevent.get_hub().loop.timer(0, 0.005); timer.start(callback)')
    define(client, 'while count[0] < 300_000: gevent.sleep(0.01)')
    client.reply('timer.close()')
    assert client.value('count[0] >= 300_000') is True


def test_a_finalizer_of_an_ended_session_holds_nobody(python):
    client, other = python(), python()
    define(client, 'class Held:\n  def __del__(self):\n    while True: pass')
    client.reply('one = Held(); one.itself = one')
    client.close()
    other.reply('import gc')
    while other.value('box.session.exists(1)'):
        pass
    other.reply('found = gc.collect()')
    assert other.value('1 + 1') == 2


def test_a_repr_is_not_preempted(python):
    client = python()
    define(client, 'class Order:\n  def __repr__(self): return "Order" + "".join(str(n) for n in range(9))')
    assert client.value('[Order() for _ in range(40)]') == ['Order012345678'] * 40


def test_code_in_c_that_goes_on_after_exceptions_takes_turns(python):
    client, other = python(), python()
    client.reply('import ctypes; kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)')
    define(client, 'def compare(one, two):\n  while True: pass')
    client.reply('numbers = (ctypes.c_int * 10_000)(*range(10_000))')
    client.send('ctypes.CDLL(None).qsort(numbers, len(numbers), 4, kind(compare))\n')
    other.value('1')
    client.send('\x03')
    for number in range(20):
        assert other.value(str(number)) == number
    assert b'the statement was cancelled' in client.document()
    assert client.value('1 + 1') == 2


def test_sys_stdout_at_the_end_of_the_program(python, served):
    client = python()
    client.reply('import os, signal, sys, gevent')
    client.send('gevent.spawn(sys.exit, 3)\n')          # as in any greenlet, gevent ends the program
    assert served.wait() == 3


@pytest.mark.parametrize('body', [
    'try: deep()\n  finally: deep()',
    'try: deep()\n  except RecursionError:\n    while True: pass',
], ids=['finally', 'loop'])
def test_code_that_stays_at_the_limit_of_recursion_ends(python, body):
    client, other = python(), python()
    define(client, f'def deep():\n  {body}')
    client.send('deep()\n')
    for number in range(20):
        assert other.value(str(number)) == number
    assert b'it ran for long close to Python' in client.document()
    assert client.value('1 + 1') == 2
