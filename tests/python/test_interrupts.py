"""Statements in Python that hold the event loop are cancelled: each service is a process of its own."""
from __future__ import annotations

import signal

import pytest
from text_client import Client
from waiting import connected, wait_for

PROGRAM = """
import json, logging, os, re, signal, sys, time
mode = {mode!r}
lock = __import__('threading').Lock()
logging.basicConfig(level=logging.INFO)
if mode == 'patched':
    from gevent import monkey
    monkey.patch_all()
from gevent import monkey
sleep = monkey.get_original('time', 'sleep')

def held():
    open('held', 'a').close()

def spin():
    held()
    while True:
        step()

def step():
    return 1 + 1

def stubborn():
    held()
    while True:
        try:
            step()
        except Exception:
            pass

def once_more():
    held()
    try:
        sleep(100)
    except BaseException:
        pass
    sleep(100)

def sleepless():
    held()
    while True:
        try:
            sleep(100)
        except BaseException:
            pass

def endless():
    held()
    while True:
        try:
            while True:
                step()
        except BaseException:
            pass

def locked():
    while True:
        try:
            with lock:
                try:
                    held()
                    sleep(100)
                finally:
                    note('finally')
        except BaseException:
            note('caught')

def texts():
    held()
    while True:
        json.dumps({{'a': list(range(100))}})

def match():
    held()
    re.match('(a|aa)+$', 'a' * 100 + 'b')

def logs():
    logger = logging.getLogger('shop')
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    held()
    while True:
        logger.warning('again')
        step()

def power():
    held()
    7 ** 10 ** 8

def naps():
    held()
    sleep(100)

def hold_until(path):
    held()
    while not os.path.exists(path):
        sleep(0.005)

def fork():
    pid = os.fork()
    if pid == 0:
        try:
            sleep(0.2)
            open('child', 'w').close()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]

class Slow(Exception):
    def __str__(self):
        naps()

class Naps:
    def __repr__(self):
        held()
        sleep(100)

def note(text):
    with open('notes', 'a') as file:
        file.write(text + ' ')

for number, text in {handlers!r}:
    signal.signal(number, lambda number, frame, text=text: note(text))

from boxsession import Console
console = Console(['unix:c', {{'address': 'unix:r', 'protocol': 'rescue'}},
                   {{'address': '127.0.0.1:0', 'insecure': True}}][:{listeners}],
                  languages=['python', 'lua'],
                  namespace={{name: value for name, value in globals().items() if name[0] != '_'}},
                  config={config!r}, thread=mode == 'thread')
console.start()
if mode == 'thread':
    hold_until('ends')
else:
    console.serve_forever()
"""
# What is sent at once, and how it is cancelled.
INTERRUPTS = {'Ctrl-C': b'\x03', 'telnet': b'\xff\xf4\xff\xfd\x06'}
HELD = {'program': 'spin()', 'time.sleep': 'held(); __import__("time").sleep(100)', 're': 'match()', 'power': 'power()',
        'json': 'texts()', 'sleep': 'naps()', 'except Exception': 'stubborn()', 'except BaseException': 'once_more()',
        'sleep for ever': 'sleepless()', 'except for ever': 'endless()',
        'logging': 'logs()', 'queue': 'held(); __import__("queue").Queue().get()',
        'thread': 'import threading; t = threading.Thread(target=sleep, args=(9,), daemon=True); t.start(); held(); '
                  't.join()', 'own code in C': 'held(); 7 ** 10 ** 8',
        'sort': 'held(); sorted(range(10 ** 6), key=lambda x: (sleep(0.01), x)[1])',
        'Lua': 'box.lua("return 1"); naps()', 'text of an error': 'raise Slow()',
        'after a wait': '__import__("gevent").sleep(0.01); naps()'}
CANCELLED = b'the statement was cancelled'


class Service:
    """The program above in a process."""

    def __init__(self, serve, folder, mode='plain', config=None, handlers=()):
        self.folder = folder
        (folder / 'service.py').write_text(PROGRAM.format(mode=mode, config=config or {}, handlers=handlers, listeners=2))
        self.served = serve(program=str(folder / 'service.py'))
        self.process = self.served.process
        self.rescue = connected(folder / 'r', self.process)
        self.client = self.another()

    def another(self):
        return connected(self.folder / 'c', self.process)

    def hold(self, text):
        """Sends statements. The first one holds the event loop when this returns."""
        self.client.send(text + '\n')
        wait_for((self.folder / 'held').exists)
        (self.folder / 'held').unlink()

    def notes(self):
        path = self.folder / 'notes'
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def service(serve, tmp_path):
    made = []

    def make(*arguments, **options):
        made.append(Service(serve, tmp_path, *arguments, **options))
        return made[-1]
    yield make
    for found in made:
        found.client.close()
        found.rescue.close()


@pytest.mark.parametrize('name', HELD)
def test_an_interrupt_ends_it(service, name):
    held = service()
    held.hold(HELD[name])
    held.client.sock.sendall(INTERRUPTS['Ctrl-C'])
    assert CANCELLED in held.client.document()
    assert held.client.value('6 * 7') == 42


@pytest.mark.parametrize('mode', ['plain', 'patched'])
def test_telnet(service, mode):
    held = service(mode)
    held.hold('naps()')
    held.client.sock.sendall(INTERRUPTS['telnet'])
    assert held.client.read(3) == b'\xff\xfb\x06'      # before the reply: telnet drops the rest
    assert CANCELLED in held.client.document()
    assert held.client.value('6 * 7') == 42


@pytest.mark.parametrize('interrupt', INTERRUPTS.values())
def test_what_was_sent_before_the_interrupt_is_cancelled_and_nothing_else(service, interrupt):
    held = service()
    held.hold('naps()\nnote("with it")')
    held.client.sock.sendall(b'note("before")\n' + interrupt + b'note("after")\nheld(); sleep(0.2); 42\n')
    documents = [held.client.document() for _ in range(5)]
    assert [CANCELLED in document for document in documents] == [True, True, True, False, False]
    assert b'- 42\n' in documents[4] and held.notes() == ['after']
    assert held.client.value('6 * 7') == 42


def test_a_later_interrupt_ends_a_later_statement(service):
    held = service()
    for _ in range(3):
        held.hold('naps()')
        held.client.sock.sendall(b'\x03')
        assert CANCELLED in held.client.document()
    held.client.send('held(); sleep(0.1); 42\n')
    assert held.client.document() == b'---\n- 42\n...\n'


def test_text_that_is_no_interrupt_cancels_nothing(service):
    held = service()
    held.hold('hold_until("go")')
    held.client.sock.sendall(b'\xff\xf142\n')
    (held.folder / 'go').touch()
    assert held.client.document() == b'---\n...\n'
    assert held.client.document() == b'---\n- 42\n...\n'


def test_code_that_goes_on_still_cleans_up(service):
    held = service()
    held.hold('locked()')
    held.client.sock.sendall(b'\x03')
    assert CANCELLED in held.client.document()
    assert held.client.value('lock.locked()') is False
    assert held.client.value('__import__("sys").gettrace() is None') is True
    assert held.notes() == ['finally', 'caught'] * 2


def test_the_client_leaves(service):
    held = service()
    held.hold('naps()\nnote("more")')
    held.client.close()
    held.client = held.another()
    assert held.client.value('len(box.session.list())') == 1 and held.notes() == []


def test_a_statement_may_finish_if_its_client_leaves(service):
    held = service(config={'limits': {'on_disconnect': 'finish'}})
    held.hold('hold_until("go"); note("whole")')
    held.client.close()
    (held.folder / 'go').touch()
    wait_for(lambda: held.notes() == ['whole'])
    held.client = held.another()


def test_the_time_limit(service):
    held = service(config={'limits': {'statement_seconds': 0.2}})
    for text in 'naps()', 'spin()', 'gevent = __import__("gevent"); gevent.sleep(0.05); naps()':
        held.hold(text)
        assert b'it ran for 0.2 seconds (limits.statement_seconds)' in held.client.document()
    assert held.client.value('6 * 7') == 42


@pytest.mark.parametrize('name', ['program', 'sleep', 'power', 'except BaseException', 'own code in C',
                                  'sleep for ever'])
def test_a_rescue_listener_cancels(service, name):
    held = service()
    held.hold(HELD[name])
    wait_for(lambda: held.rescue.values('\\where')[0]['held'])
    assert held.rescue.values('\\cancel')[0]['stopped']
    assert b'the statement was cancelled by session ' in held.client.document()
    assert held.client.value('6 * 7') == 42


def test_a_rescue_listener_kills(service):
    held = service()
    held.hold('naps()\nnote("more")')
    number = wait_for(lambda: held.rescue.values('\\where')[0].get('session'))
    assert held.rescue.values(f'\\kill {number}') == [{'killed': True}]
    assert b'the session was killed by session' in held.client.read_to_end()
    assert held.notes() == []


def test_the_log_says_what_holds_the_loop(service):
    held = service('thread')
    held.hold('hold_until("go")')
    line = held.served.log_line('the event loop is held')
    assert ", by session 2: 'hold_until(\"go\")': " in line
    assert ' hold_until, called from statement:1 <module>' in line
    held.client.sock.sendall(b'\x03')
    (held.folder / 'go').touch()
    assert held.client.document() == b'---\n...\n'
    assert held.client.value('6 * 7') == 42


@pytest.mark.parametrize('number', [signal.SIGURG, signal.SIGALRM])
def test_a_handler_of_the_program_is_called(service, number):
    held = service(handlers=[(int(number), 'called')])
    assert held.client.value('6 * 7') == 42
    held.process.send_signal(number)
    wait_for(lambda: held.notes() == ['called'])
    held.hold('naps()')
    held.client.sock.sendall(b'\x03')
    assert CANCELLED in held.client.document() and held.notes() == ['called']


def test_the_signal_of_the_program_has_its_handler_afterwards(service):
    held = service(handlers=[(int(signal.SIGURG), 'called')])
    assert held.client.value('6 * 7') == 42
    held.client.close()
    held.client = held.another()
    held.process.send_signal(signal.SIGURG)
    wait_for(lambda: held.notes() == ['called'])


def test_a_child_of_the_program_is_not_interrupted(service):
    held = service()
    assert held.client.value('fork()') == 0
    assert (held.folder / 'child').exists()


def test_a_repr_ends_in_time(service):
    assert service().client.value('Naps()') == '<Naps: repr took too long>'


def test_a_greenlet_of_the_program_is_not_interrupted(service):
    held = service()
    other = held.another()
    other.send('__import__("gevent").sleep(1000)\n')
    other.sock.sendall(b'\x03')
    held.hold('hold_until("go"); note("whole")')
    (held.folder / 'go').touch()
    assert held.client.document() == b'---\n...\n' and held.notes() == ['whole']
    assert CANCELLED in other.document()
    other.close()


def test_a_reset(serve, tmp_path):
    (tmp_path / 'service.py').write_text(PROGRAM.format(mode='plain', config={}, handlers=(), listeners=3))
    served = serve(program=str(tmp_path / 'service.py'))
    client = Client(served.log_line('started:').rpartition(' ')[2])
    client.send('naps()\n')
    wait_for((tmp_path / 'held').exists)
    client.reset()
    other = connected(tmp_path / 'c', served.process)
    assert other.value('6 * 7') == 42
    other.close()
