"""Endless statements in Python: they are cancelled, whatever they catch, and others are served meanwhile."""
from __future__ import annotations

import pytest
from conftest import PYTHON
from text_client import Client
from waiting import wait_for

INTERRUPT = b'\x03'
IAC_IP = b'\xff\xf4'

LOOPS = {
    'while': 'while True: pass\n',
    'comprehension': '[x for x in iter(int, 1)]',
    'set comprehension': '{x for x in iter(int, 1)}',
    'generator expression': 'sum(x for x in iter(int, 1))',
    'generator': 'def g():\n  while True: yield 1\n\nfor x in g(): pass\n',
    'recursion': 'def r(n):\n  return r(n - 1) + r(n - 1) if n else 0\n\nr(200)',
    'lambda': 'list(map(lambda i: i, iter(int, 1)))',
    'class body': 'class C:\n  while True: pass\n',
    'except': 'while True:\n  try:\n    while True: pass\n  except BaseException: pass\n',
    'nested except': 'def a():\n  while True:\n    try: b()\n    except BaseException: continue\n\n'
                     'def b():\n  while True: pass\n\na()',
    'finally': 'try: pass\nfinally:\n  while True: pass\n',
    'sorted': 'while True: sorted(range(1000), key=lambda x: -x)\n',
    'exec': 'exec("while True: pass")',
    'eval': 'eval("[0 for x in iter(int, 1)]")',
    'compile': 'eval(compile("while True: pass", "x", "exec"))',
    'wait': 'import gevent\nwhile True:\n  try: gevent.sleep(100)\n  except BaseException: pass\n',
    'event': 'import gevent.event\ngevent.event.Event().wait()',
    'Lua': 'box.lua("while true do end")',
    'Lua sleeps': 'box.lua("require(\'fiber\').sleep(100)")',
    'many prints': 'while True: print("x")\n',
}


@pytest.fixture
def served(console):
    return console(listen=[PYTHON])


@pytest.fixture
def python(served, connect):
    def client():
        found = connect(served)
        assert found.value('\\set language python') is True
        return found
    return client


def running_statement(served):
    return [connection.under_way() for connection in served.connections() if connection.session.id == 1][0]


def start(served, client, text):
    """Sends statements, and waits until the last one runs."""
    client.send(text.encode() + b'\nafter = 42\n')
    last = text.rstrip('\n').rpartition('\n\n')[2].rpartition('\n')[2]
    wait_for(lambda: last.encode() in (running_statement(served) or b''))


@pytest.mark.parametrize('interrupt', [INTERRUPT, IAC_IP], ids=['nc', 'telnet'])
@pytest.mark.parametrize('name', LOOPS)
def test_it_is_cancelled(served, connect, python, name, interrupt):
    client: Client = python()
    start(served, client, LOOPS[name])
    other = connect(served)
    for number in range(20):
        assert other.value(str(number)) == number
    assert running_statement(served) is not None
    client.send(interrupt)
    while b'the statement was cancelled' not in (document := client.document()):
        assert b'error' not in document
    client.send(b'after = 43\nafter\n')
    while b'43' not in client.document():
        pass


def test_a_greenlet_that_it_starts_takes_turns(served, connect, python):
    client = python()
    client.reply('import gevent')
    client.reply('g = gevent.spawn(lambda: [0 for x in iter(int, 1)])')
    other = connect(served)
    for number in range(20):
        assert other.value(str(number)) == number
    assert client.value('g.dead') is False
    client.reply('g.kill()')
    assert client.value('g.dead') is True


# A thread ends silently with SystemExit, but not under pytest.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_thread_that_it_starts_ends_with_a_cancelled_statement(served, python):
    client = python()
    client.reply('import threading, gevent.monkey')
    client.send(b'def work():\n  while True: pass\n\n')
    client.document()
    client.reply('thread = threading.Thread(target=work, daemon=True)')
    client.reply('thread.start()')
    assert client.value('thread.is_alive()') is True
    start(served, client, 'while thread.is_alive(): pass\n')
    client.send(INTERRUPT)
    assert b'cancelled' in client.document()
    client.document()
    client.reply('thread.join(10)')
    assert client.value('thread.is_alive()') is False


@pytest.mark.parametrize('name', ['while', 'except', 'finally', 'wait', 'event', 'Lua', 'Lua sleeps'])
def test_it_has_the_time_limit(console, connect, name):
    client = connect(console(listen=[PYTHON], limits={'statement_seconds': 0.2}))
    client.reply('\\set language python')
    client.send(LOOPS[name].encode() + b'\n"end"\n')
    documents = []
    while not documents or b'- end' not in documents[-1]:
        documents.append(client.document())
    assert any(b'it ran for 0.2 seconds (limits.statement_seconds)' in document for document in documents)


def test_a_client_that_leaves_ends_it(served, connect, python):
    client = python()
    start(served, client, LOOPS['except'])
    client.reset()
    wait_for(lambda: not served.sessions)


def test_another_session_ends_it(served, connect, python):
    client = python()
    start(served, client, LOOPS['except'])
    other = connect(served)
    assert other.value('box.session.cancel(1)') is True
    assert b'the statement was cancelled by session 2' in client.document()
    start(served, client, LOOPS['finally'])
    assert other.value('box.session.kill(1)') == 1
    wait_for(lambda: len(served.sessions) == 1)


def test_the_memory_that_it_may_take(console, connect):
    served = console(listen=[PYTHON], limits={'python_memory_bytes': 1 << 25})
    client = connect(served)
    client.reply('\\set language python')
    client.send(b'kept = []\nwhile True: kept.append("x" * 100000)\n\n')
    client.document()
    assert b'the process grew by more than 33554432 bytes' in client.document()
    assert client.reply('del kept') == b'---\n...\n'
    assert connect(served).value('box.info.limits.python_memory_bytes.hits') == 1


def test_a_statement_shorter_than_a_slice_is_atomic(console, connect):
    served = console(listen=[PYTHON], limits={'slice_ms': 60000})
    client, other = connect(served), connect(served)
    client.reply('\\set language python')
    other.reply('\\set language python')
    client.reply('shared["n"] = 0')
    for one in (client, other):
        one.send(b'for i in range(20000): n = shared["n"]; shared["n"] = n + 1\n\n')
    for one in (client, other):
        one.document()
    assert client.value('shared["n"]') == 40000


def test_a_thread_cannot_push(python):
    client = python()
    client.reply('import threading; found = []')
    client.send('def work():\n  try: box.session.push(1)\n  except RuntimeError as error: found.append(str(error))\n\n')
    client.document()
    client.reply('thread = threading.Thread(target=work); thread.start(); thread.join()')
    assert 'threads cannot use the session' in client.value('found')[0]


@pytest.mark.parametrize('call', ['print("x")', 'box.session.push(1)', 'box.lua("return 1")'])
def test_functions_of_the_console_are_whole_at_the_limit_of_recursion(served, connect, python, call):
    """They end before they begin: one that ended in its middle left the scheduler without the turns of a session."""
    client, other = python(), python()
    client.reply('shared["limits"] = 0')
    start(served, client, f'def f():\n  try: {call}\n  except RecursionError: shared["limits"] += 1; raise\n  try: f()\n'
                          '  finally: f()\n\nf()')
    wait_for(lambda: other.value('shared["limits"]') > 500)
    client.send(INTERRUPT + b'"later"\n')
    while b'later' not in client.document():
        pass
    other.send(b'while True: pass\n\n')
    wait_for(lambda: connect(served).value('box.session.cancel(2)'))
    while b'the statement was cancelled by session' not in other.document():
        pass
