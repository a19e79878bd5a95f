"""Console(languages=, namespace=): Python in a program that embeds the console."""
from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting import running, wait_for

from boxsession import ConfigError, Console


class App:
    """An object whose code must not run before a statement runs it."""

    def __init__(self):
        self.calls = []

    def __repr__(self):
        self.calls.append('repr')
        return 'an app'

    def __eq__(self, other):
        self.calls.append('eq')
        return NotImplemented

    def __bool__(self):
        self.calls.append('bool')
        return False

    __hash__ = None

    def name(self):
        return threading.current_thread().name


@pytest.fixture
def start(tmp_path):
    """Starts a console on a unix socket, unless `listen` is given."""
    started = []

    def start(listen=None, **options):
        made = Console(listen or f'unix:{tmp_path}/a.sock', **options)
        made.start()
        started.append(made)
        return made

    yield start
    for made in started:
        made.stop()


def test_statements_get_the_objects_themselves(start, connect):
    app, names = App(), {}
    names['app'] = app
    console = start(languages=['python', 'lua'], namespace=names)
    names['later'] = 1
    client = connect(console)
    client.reply('app.number = 5; mine = app')
    assert app.number == 5 and app.calls == []
    assert client.value('mine is app') is True
    assert 'NameError' in client.error('later')
    assert client.value('"app" in globals()') is False
    # A session may use the name for something else: others do not notice.
    client.reply('app = 7')
    assert client.value('app') == 7
    assert connect(console).value('app.number') == 5
    client.reply('del app')
    assert client.value('app.number') == 5
    assert client.value('\\set language lua') is True
    assert client.values('app') is None or client.values('app') == [None]


def test_languages_is_the_default_of_the_listeners(start, connect, tmp_path):
    console = start([f'unix:{tmp_path}/a.sock', {'address': f'unix:{tmp_path}/b.sock'},
                     {'address': f'unix:{tmp_path}/c.sock', 'languages': ['lua']},
                     {'address': f'unix:{tmp_path}/d.sock', 'protocol': 'binary'},
                     {'address': f'unix:{tmp_path}/e.sock', 'protocol': 'rescue'}], languages=('lua', 'python'))
    clients = [connect(address) for address in console.addresses[:3]]
    assert [client.value('\\set language')['language'] for client in clients] == ['lua'] * 3
    assert [client.value('\\set language python') for client in clients[:2]] == [True] * 2
    assert 'supported languages: lua.' in clients[2].error('\\set language python')


@pytest.mark.parametrize(('arguments', 'told'), [
    ({'listen': '127.0.0.1:0', 'languages': ['lua', 'python']}, 'listen: 127.0.0.1:0: all users of this machine'),
    ({'listen': {'address': 'unix:/x', 'mode': '0660'}, 'languages': ['python']}, 'listen: unix:/x has the mode 0660'),
    ({'listen': 'unix:/x', 'languages': ['lua', 'perl']}, "got ['lua', 'perl']"),
    ({'listen': 'unix:/x', 'languages': 'python'}, "got 'python'"),
    ({'listen': 'unix:/x', 'languages': []}, 'expected a list of different languages, of lua and python'),
])
def test_a_listener_that_is_refused(arguments, told):
    with pytest.raises(ConfigError) as problem:
        Console(**arguments)
    assert told in str(problem.value)


def test_languages_without_listen():
    with pytest.raises(ValueError, match='set `languages` of the listeners in config'):
        Console(languages=['python'])


@pytest.mark.parametrize('name', ['', '5', 'a b', 'class', 'None', 'a.b', 5, '\ufb01n'])
def test_a_name_that_no_statement_can_have(name):
    with pytest.raises(ValueError, match='cannot be used in a statement: expected the name of a variable'):
        Console('unix:/x', namespace={'fine': 1, name: 2})


@pytest.mark.parametrize('name', ['box', 'shared', '_', '_1', '_e', '__builtins__', '__name__', 'exec', 'exit', 'help'])
def test_a_name_of_the_console(name):
    with pytest.raises(ValueError, match=f"namespace: '{name}' is a name of the console: choose another one"):
        Console('unix:/x', namespace={name: 2})


def test_what_is_no_mapping():
    with pytest.raises(TypeError, match='namespace must be a mapping of names to objects, not a list'):
        Console('unix:/x', namespace=['app'])


@pytest.mark.parametrize('name', ['_app', 'match', 'print', 'größe', 'list'])
def test_a_name_that_is_allowed(start, connect, name):
    assert connect(start(languages=['python'], namespace={name: 42})).value(name) == 42


def test_a_console_in_a_thread_of_its_own(start, connect):
    app = App()
    console = start(languages=['python'], namespace={'app': app}, expose={'here': app.name}, thread=True)
    client = connect(console)
    name = client.value('app.name()')
    assert name != threading.current_thread().name and name == client.value('box.lua("return here()")')


def test_what_has_to_run_elsewhere_is_called_by_lua(start, connect):
    with ThreadPoolExecutor(1, thread_name_prefix='pool') as pool:
        app = App()
        console = start(languages=['python'], namespace={'app': app}, expose={'here': app.name}, call_in=pool)
        client = connect(console)
        assert client.value('app.name()') == threading.current_thread().name
        assert client.value('box.lua("return here()")').startswith('pool')


def test_help_lists_the_names_for_users_who_may_use_them(start, connect, tmp_path):
    served = start([f'unix:{tmp_path}/h.sock', {'address': '127.0.0.1:0', 'user': 'guest'}], languages=['python'],
                   namespace={'shop': App(), 'cache': {}})
    told = '\n\nNames of this program (help(NAME) shows more):\n\n  cache, shop\n\n'
    assert told in connect(served.addresses[0]).value('\\help')[0]
    assert 'Names of this program' not in connect(served.addresses[1]).value('\\help')[0]


def test_a_namespace_without_python_is_told(start, caplog):
    start(namespace={'app': App()})
    assert 'for statements in Python, but no listener allows these' in caplog.text
    caplog.clear()
    start('127.0.0.1:0')
    start([{'address': '127.0.0.1:0', 'languages': ['lua', 'python'], 'user': 'guest'}], namespace={'app': App()})
    assert 'no listener allows' not in caplog.text


def test_a_function_that_the_program_got_works_without_its_session(start, connect):
    app = App()
    served = start(languages=['python'], namespace={'app': app})
    client = connect(served.addresses[0])
    client.send(b'def total(n):\n  found = 0\n  for i in range(n):\n    found += i\n  return found\n\napp.total = total\n')
    assert client.document() == client.document() == b'---\n...\n'
    client.send(b'while True: pass\n\n')
    wait_for(lambda: running(served))
    client.send(b'\x03')
    assert client.document() == b'---\n- error: the statement was cancelled\n...\n'
    assert app.total(100_000) == 4_999_950_000
    client.send(b'exit()\n')
    assert client.read_to_end() == b''
    assert app.total(100_000) == 4_999_950_000
