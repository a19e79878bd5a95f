"""Statements in Python, from outside."""
from __future__ import annotations

import errno

import pytest
import yaml

from boxsession.python.clock import Clock
from boxsession.sessions import registry


@pytest.fixture
def python(console, connect, tmp_path):
    """Gives a new client whose session uses Python."""
    served = console(listen=[{'address': f'unix:{tmp_path}/c.sock', 'languages': ['lua', 'python']}])

    def client():
        found = connect(served)
        assert found.value('\\set language python') is True
        return found
    return client


def test_values_and_names(python):
    client = python()
    assert client.reply('x = 41') == b'---\n...\n'
    assert client.value('x + 1') == 42
    assert client.value('_ * 2') == 84
    assert client.value('[_1, _2]') == [84, 42]
    assert client.reply('None') == b'---\n...\n'
    assert client.value('{"a": (1, 2.5), "b": {3}, "c": b"x"}') == {'a': [1, 2.5], 'b': [3], 'c': 'x'}
    assert python().reply('x') == b"---\n- error: 'NameError: name ''x'' is not defined (statement:1)'\n...\n"


def test_errors(python):
    client = python()
    assert client.reply('1/0') == b"---\n- error: 'ZeroDivisionError: division by zero (statement:1)'\n...\n"
    assert client.value('type(_e).__name__') == 'ZeroDivisionError'
    assert 'ZeroDivisionError: division by zero' in client.value('\\traceback')[0]
    assert 'statement' in client.value('\\traceback')[0]
    assert b'SystemExit: 3' in client.reply('raise SystemExit(3)')
    assert b'SyntaxError' in client.reply('1 +* 2')
    assert client.value('\\traceback')[0].partition('\n\n')[2] == \
        '  File "statement", line 1\n    1 +* 2\n       ^\nSyntaxError: invalid syntax\n'


# Each defines an exception class E whose code is in the way of the error.
ODD = {
    'its text ends the program': '  def __str__(self): raise SystemExit',
    'its text is no str': '  def __str__(self): return type("Text", (str,), {"__len__": None, "__format__": None})("x")',
    'no attribute can be read': '  def __getattribute__(self, name): raise SystemExit',
    'none can be set': '  def __setattr__(self, *_): raise KeyboardInterrupt',
    'its traceback is none': '  __traceback__ = 5',
    'its class is none': '  @property\n  def __class__(self): raise SystemExit',
}


@pytest.mark.parametrize('name', ODD)
def test_exceptions_that_misbehave_are_errors(python, name):
    client = python()
    client.send(f'class E(Exception):\n{ODD[name]}\n\n')
    client.document()
    assert b'error: ' in (reply := client.reply('raise E')) and b'E' in reply
    assert client.value('\\traceback')
    assert client.value('1 + 1') == 2


def test_fields_of_a_syntax_error_may_be_anything(python):
    client = python()
    client.send('class Odd:\n  def __str__(self): raise SystemExit\n\n')
    client.document()
    assert b'SyntaxError' in client.reply('e = SyntaxError("x"); e.msg = e.lineno = e.filename = Odd(); raise e')
    assert client.value('1 + 1') == 2


def test_the_message_of_an_error_can_be_cancelled(python):
    client = python()
    client.send('class E(Exception):\n  def __str__(self):\n    print("begun")\n    while True: pass\n\nraise E\n')
    while b'begun' not in client.document():
        pass
    client.send('\x03')
    assert b'the statement was cancelled' in client.document()
    assert client.value('1 + 1') == 2


def test_several_lines(python):
    client = python()
    client.send(b'def double(n):\n  return 2 * n\n\n')
    assert client.document() == b'---\n...\n'
    assert client.value('double(21)') == 42


def test_pasted_blocks_may_have_empty_lines(python):
    client = python()
    client.send(b'def count(n):\n  found = 0\n\n  for i in range(n):\n\n    found += i\n \n\n  return found\n\ncount(4)\n')
    assert client.document() == b'---\n...\n'
    assert client.document() == b'---\n- 6\n...\n'


def test_pasted_blocks_may_arrive_line_by_line(python):
    client = python()
    for line in b'def count(n):|  found = 0||  for i in range(n):||    found += i|||  return found||count(4)'.split(b'|'):
        client.send(line + b'\n')
    assert client.document() == b'---\n...\n'
    assert client.document() == b'---\n- 6\n...\n'


def test_an_interrupt_drops_a_block_that_waits_for_more(python):
    client = python()
    client.send(b'if 1:\n  5\n\n\x03')
    assert client.document() == b'---\n- error: the statement was cancelled\n...\n'
    assert client.value('6') == 6


def test_what_it_prints_is_pushed(python):
    client = python()
    client.send(b'print("one\\ntwo", end="."); 5\n')
    assert client.document() == b'%TAG !push! tag:tarantool.io/push,2018\n--- one\n...\n'
    assert client.document() == b'%TAG !push! tag:tarantool.io/push,2018\n--- two.\n...\n'
    assert client.document() == b'---\n- 5\n...\n'


def test_a_line_without_an_end_comes_before_the_error(python):
    client = python()
    client.send(b'print("half", end=""); 1/0\n')
    assert client.document() == b'%TAG !push! tag:tarantool.io/push,2018\n--- half\n...\n'
    assert b'ZeroDivisionError' in client.document()


def test_what_it_prints_stays_text(python):
    client = python()
    for printed in ('0', '1.5', 'true', 'null', '2024-01-01', '0x10', '\ud800'):
        client.send(f'print({ascii(printed)})\n'.encode())
        pushed = client.document().partition(b'\n')[2]
        assert yaml.safe_load(pushed) == (printed if printed.isascii() else b'\xed\xa0\x80')
        assert client.document() == b'---\n...\n'


def test_help(python):
    client = python()
    assert client.value('\\help')[0].startswith('A statement is Python: ')
    assert client.value('help') == 'help(OBJECT) shows the documentation of an object, \\help the commands of the console'
    client.send('help(len)\n')
    assert 'Help on built-in function len in module builtins:' in client.document().decode()
    assert client.document() == b'---\n...\n'
    assert client.value('\\set language lua') is True
    assert client.value('\\help')[0].startswith('A statement is Lua: ')


def test_what_needs_a_terminal(python):
    client = python()
    assert 'input(): a session of the console has no terminal' in client.error('input("?")')
    assert 'breakpoint(): a session of the console has no terminal for a debugger' in client.error('breakpoint()')


def test_what_box_has_in_lua_only(python):
    assert 'Lua may have it: box.lua("return box.schema...")' in python().error('box.schema.user.create("x")')


def test_lua_and_the_session(python):
    client = python()
    assert client.value('box.session.id()') == 1
    assert client.value('box.lua("return ... + 1", 41)') == 42
    assert client.value('box.lua("return 1, nil, \'x\'")') == [1, None, 'x']
    assert b'LuaError: x' in client.reply('box.lua("error(\'x\')")')
    assert 'TypeError: argument 2: [1]: object cannot be passed to Lua' in client.error('box.lua("", 1, [object()])')
    client.reply('box.session.storage.a = {"b": [1]}')
    assert client.value('box.session.storage.a["b"][0]') == 1
    assert client.value('\\set language lua') is True
    assert client.value('box.session.storage.a.b[1]') == 1
    assert client.value('\\set language python') is True
    assert client.value('box.session.storage') == {'a': {'b': [1]}}


def test_names_of_all_sessions(python):
    one, other = python(), python()
    one.reply('shared["a"] = 1')
    assert other.value('shared') == {'a': 1}
    assert one.value('\\set scope global') is True
    one.reply('b = 2')
    assert other.value('shared') == {'a': 1, 'b': 2}
    assert one.value('a + b') == 3
    assert one.value('\\set scope session') is True
    assert b'NameError' in one.reply('b')


def test_show(python):
    client = python()
    client.reply('class Order:\n  __slots__ = ("number", "items", "parent")\n')
    client.reply('order = Order()')
    client.reply('order.number = 5; order.items = [1, order]')
    client.reply('order')
    shown = client.value('\\show')
    assert shown['type'] == '__console__.Order'
    assert shown['id'] == hex(int(shown['id'], 16))
    assert shown['fields']['number'] == 5
    assert shown['fields']['items'][0] == 1
    assert client.value('5') == 5
    assert client.value('\\show 2')['value'] == 5
    assert b'Usage: \\show [DEPTH]' in client.reply('\\show 1000')


def test_they_are_counted(python):
    client = python()
    client.reply('1')
    client.reply('1/0')
    assert client.value('box.lua("return box.stat().languages.python")') == 2
    assert client.value('box.lua("return box.stat().errors.runtime")') == 1


def test_completion(python, console):
    client = python()
    assert client.reply('\\complete orders') == b'---\n- null\n...\n'
    client.reply('orders = {"new order": box}; order_count = 2')
    assert client.value('\\complete order') == ['order', 'order_count', 'orders']
    assert client.value("\\complete orders['new o") == ["orders['new order']", "orders['new order']"]
    assert client.value('\\complete isins') == ['isinstance(', 'isinstance(']
    assert client.value('\\complete whi') == ['while ', 'while ']
    assert '\\cancel' in client.value('\\complete \\')
    assert 'is busy' not in client.value('\\complete') and 'orders' in client.value('\\complete')
    client.reply('\\set language lua')
    assert client.value('\\complete box.inf') == ['box.info', 'box.info']


def test_statements_of_an_idle_session_have_the_same_greenlet(python, monkeypatch):
    monkeypatch.setattr(registry, '_SLEEP_SECONDS', 0)
    monkeypatch.setattr(registry, '_IDLE_LOOK_SECONDS', 0.02)
    client, sleeper = python(), python()
    client.reply('import contextvars, gevent.local, gevent.lock; lock, own = gevent.lock.RLock(), gevent.local.local()')
    client.reply('number = contextvars.ContextVar("number"); number.set(41); own.a = 42; lock.acquire()')
    for _ in range(2):          # the first statement since then came after all sessions were looked at
        sleeper.reply('import gevent; gevent.sleep(0.05)')
    assert client.value('number.get(), own.a') == [41, 42]
    assert client.reply('lock.release()') == b'---\n...\n'


def test_a_process_without_free_descriptors(python, monkeypatch):
    client = python()
    start = Clock.start

    def fails(self):
        monkeypatch.setattr(Clock, 'start', start)
        raise OSError(errno.EMFILE, 'Too many open files')
    monkeypatch.setattr(Clock, 'start', fails)
    assert b"error: 'OSError: [Errno 24] Too many open files'" in client.reply('1')
    assert client.value('1') == 1


def test_errors_are_in_the_format_that_was_set_last(python):
    client = python()
    client.send('\\set output lua\n')
    client.read_until(b';')
    for statement in ('1 +* 2', '1/0', 'missing'):
        client.send(statement + '\n')
        assert client.read_until(b';').startswith(b'{error = ')
