"""Snapshots: statements in Python that run in a real forked child, which can neither change nor hold the program."""
from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import gevent
import greenlet
import pytest
import yaml
from gevent import monkey
from gevent.event import AsyncResult, Event
from waiting import wait_for

from boxsession.base import own_threads
from boxsession.python import snapshot
from boxsession.python.compiler import Compiler, surroundings
from boxsession.python.snapshot import Snapshots, Work
from boxsession.values.documents import reply_document

VALUE_BYTES = 1 << 20

start_thread = monkey.get_original('_thread', 'start_new_thread')
new_lock = monkey.get_original('_thread', 'allocate_lock')


# What all rights of the tests need: Linux 6.12.
needs_landlock = pytest.mark.skipif(ctypes.CDLL(None).syscall(444, None, 0, 1) < 6, reason='needs Landlock of version 6')


class Program:
    """Names of a session, and what its statements have printed."""

    def __init__(self, **names):
        self.names = names
        self.builtins = surroundings([], lambda: True, {})
        self.snapshots = Snapshots()
        self.printed = b''

    def run(self, text, output_bytes=0, show=None, **work):
        statement = Compiler().compile(text)
        work = Work(lambda: statement.run(self.names, self.builtins), work.pop('value_bytes', VALUE_BYTES), **work)
        return self.snapshots.run(work, show or self.show, output_bytes)

    def show(self, data):
        self.printed += data

    def value(self, text, **work):
        """The value of a statement."""
        outcome = self.run(text, **work)
        assert not outcome.error, outcome
        return yaml.safe_load(reply_document(b'\1' + outcome.value))[-1]

    def error(self, text, **work):
        outcome = self.run(text, **work)
        assert outcome.error and not outcome.value
        return outcome.error

    def begin(self, text):
        """Runs a statement that prints its process id and a line feed in a greenlet of its own. Gives both."""
        pid = AsyncResult()
        greenlet = gevent.spawn(self.run, text, show=lambda data: pid.set(int(data.split()[0])))
        return greenlet, pid.get(timeout=30)


@pytest.fixture
def program():
    return Program()


def is_gone(pid):
    """Whether a process has ended, and left no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def is_dead(pid):
    """The same for a process that is not ours to wait for: it may stay a zombie."""
    try:
        with open(f'/proc/{pid}/stat', 'rb') as file:
            return b') Z ' in file.read()
    except FileNotFoundError:
        return True


PID = 'import os; print(os.getpid(), flush=True)\n'


# What a statement gives -----------------------------------------------------------------------------------------------

def test_a_value_and_what_it_prints(program):
    program.names['orders'] = {'a': [1, 2]}
    assert program.value('print("looking"); orders["a"] + [3]') == [1, 2, 3]
    assert program.printed == b'looking\n'


def test_nothing_is_changed_in_the_program(program):
    program.names['orders'] = orders = [1]
    program.value('orders.append(2); found = orders; import os; os.environ["CHANGED"] = "1"')
    assert orders == [1] and 'found' not in program.names and 'CHANGED' not in os.environ
    assert program.error('found') == "NameError: name 'found' is not defined (statement:1)"


def test_the_output_of_c_is_shown(program):
    program.run('import os; os.write(2, b"an error\\n"); os.write(1, b"a line\\n"); print("and a third")')
    assert program.printed == b'an error\na line\nand a third\n'


def test_the_output_of_its_processes_is_shown_and_they_end_with_it(program):
    program.run('import subprocess\nleft = subprocess.Popen(["sleep", "600"])\nsubprocess.run(["echo", "from echo"])\n'
                'print(left.pid)')
    first, pid = program.printed.split(b'\n')[:2]
    assert first == b'from echo'
    wait_for(lambda: is_dead(int(pid)))


def test_a_process_that_it_forks_gives_no_second_value(program):
    assert program.value('import os; pid = os.fork()\nif pid: os.waitpid(pid, 0)\n["x"] * 50_000') == ['x'] * 50_000
    assert program.printed == b''


@pytest.mark.parametrize('text, error', [
    ('x = 1\n1 / 0', 'ZeroDivisionError: division by zero (statement:2)'),
    ('raise SystemExit("bye")', 'SystemExit: bye (statement:1)'),
    ('raise KeyboardInterrupt', 'KeyboardInterrupt (statement:1)'),
    ('import os; os._exit(3)', 'the snapshot ended without a result, with exit code 3'),
    ('import os; os.abort()', 'the snapshot was ended by SIGABRT: code in C gave up, or code of gevent tried to run'),
    ('import ctypes; ctypes.string_at(0)', 'the snapshot was ended by SIGSEGV: code in C crashed'),
    ('import os; os.closerange(0, 100); 1 / 0', 'the snapshot ended without a result, with exit code 1'),
])
def test_errors_and_deaths_are_told(program, text, error):
    assert program.error(text).startswith(error)


def test_an_error_has_a_traceback(program):
    outcome = program.run('def f(): 1 / 0\nf()')
    assert outcome.kind == 'ZeroDivisionError' and outcome.traceback == (
        'Traceback (most recent call last):\n  File "statement", line 2, in <module>\n  File "statement", line 1, in f\n'
        'ZeroDivisionError: division by zero\n')


def test_what_was_printed_before_a_crash_is_shown(program):
    program.run('print("almost"); import os; os.abort()')
    assert program.printed == b'almost\n'


def test_objects_are_shown_as_the_caller_wants(program):
    text = 'class A:\n  def __repr__(self): return "an A"\n\nA()'
    assert program.value(text) == '<A>' and program.value(text, other=repr) == 'an A'


def test_what_the_program_does_at_its_exit_is_not_done(program):
    atexit.register(at_exit)
    try:
        program.run('raise SystemExit')
        program.run('1')
    finally:
        atexit.unregister(at_exit)
    assert program.printed == b''


def at_exit():
    print('at exit', flush=True)


# Limits ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('text', ['while True: pass', 'sum(iter(int, 1))', 'while True:\n  try:\n    while True: pass\n'
                                  '  except BaseException: pass', 'import time; time.sleep(1000)', '7 ** 10 ** 8'])
def test_a_cancel_ends_everything_at_once(program, text):
    greenlet, pid = program.begin(PID + text)
    greenlet.kill()
    wait_for(lambda: is_gone(pid))


def test_a_child_that_is_killed(program):
    greenlet, pid = program.begin(PID + 'while True: pass')
    os.kill(pid, signal.SIGKILL)
    assert greenlet.get().error.startswith('the snapshot was ended by SIGKILL: another process, or the system')
    assert is_gone(pid)


def test_a_console_that_stops_kills_them(program):
    greenlet, pid = program.begin(PID + 'while True: pass')
    program.snapshots.close()
    assert 'SIGKILL' in greenlet.get().error and is_gone(pid)


def test_processor_time(program):
    assert program.error('while True: pass', seconds=0.1).startswith(
        'the snapshot was ended by SIGXCPU: it used more processor time than limits.statement_seconds')


def test_memory(program):
    assert program.error('[0] * 10 ** 9', memory_bytes=1 << 28) == 'MemoryError (statement:1)'


def test_output(program):
    assert program.error('while True: print("x" * 999)', output_bytes=10_000).startswith(
        'the statement was stopped: it printed more than 10000 bytes (limits.output_bytes)')
    assert 10_000 < len(program.printed) < 200_000


def test_a_long_value_is_cut(program):
    assert 'truncated' in program.value('["x" * 100] * 1000', value_bytes=1000)['error']
    assert program.value('["x" * 100] * 1000') == ['x' * 100] * 1000


def test_no_more_than_some_at_a_time(program):
    begun = [program.begin(PID + 'while True: pass') for _ in range(4)]
    assert program.error('1') == (
        '4 snapshots run already, and no more may: wait until one has ended, or cancel its statement')
    begun.pop()[0].kill()
    program.value('1')
    gevent.killall([greenlet for greenlet, _ in begun])
    wait_for(lambda: all(is_gone(pid) for _, pid in begun))


def test_many_leave_nothing(program):
    program.value('1')
    wait_for(lambda: children() == [])
    before = os.listdir('/proc/self/fd')
    for number in range(100):
        program.run('1 / 0' if number % 2 else '5')
    wait_for(lambda: children() == [])
    assert os.listdir('/proc/self/fd') == before


def children():
    found = []
    for name in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError), open(f'/proc/{name}/stat', 'rb') as file:
            if int(file.read().rpartition(b')')[2].split()[1]) == os.getpid():
                found.append(int(name))
    return found


# What the child has of the program ------------------------------------------------------------------------------------

def test_sockets_are_closed_in_the_child(program):
    ours, client = socket.socketpair()
    program.names['ours'] = ours
    assert program.error('ours.send(b"hello")').startswith('OSError: [Errno 9] Bad file descriptor')
    greenlet, pid = program.begin(PID + 'while True: pass')
    with client:
        client.settimeout(30)
        ours.close()
        assert client.recv(100) == b''          # the child does not keep the connection open
    assert not is_gone(pid)
    greenlet.kill()


def test_a_number_is_not_given_to_another_file(program):
    with open(os.devnull) as ours:
        program.names['ours'] = ours
        program.value('other = open("/dev/null")\nnumber = ours.fileno()\nassert other.fileno() != number\n'
                      'try: ours.close()\nexcept OSError: pass\nother.read()')


def test_files_get_no_bytes(program, tmp_path):
    program.names['path'] = path = tmp_path / 'file'
    path.write_text('kept')
    error = program.error('with open(path, "a") as file: file.write("more")')
    assert 'Permission denied' in error or 'File too large' in error
    assert path.read_text() == 'kept'
    assert program.value('path.read_text() + open("/dev/null", "r+").read()') == 'kept'


@needs_landlock
@pytest.mark.parametrize('text', ['path.unlink()', 'path.with_name("new").touch()', 'path.rename(path.with_name("new"))',
                                  'path.with_name("new").mkdir()', 'os.truncate(path, 0)', 'path.write_text("")',
                                  'import subprocess; subprocess.run(["rm", path], check=True)'])
def test_files_stay_as_they_are(program, tmp_path, text):
    program.names.update(path=tmp_path / 'file', os=os)
    program.names['path'].write_text('kept')
    program.error(text)
    assert os.listdir(tmp_path) == ['file'] and (tmp_path / 'file').read_text() == 'kept'


@needs_landlock
@pytest.mark.parametrize('text', ['os.kill(os.getppid(), 0)', 'socket.socket().connect(address)',
                                  'socket.socket().bind(("127.0.0.1", 0))'])
def test_processes_and_servers_are_left_alone(program, text):
    with socket.create_server(('127.0.0.1', 0)) as server:
        program.names.update(os=os, socket=socket, address=server.getsockname())
        assert program.error(text).startswith('PermissionError')


def test_handlers_of_signals_do_not_run(program):
    before = signal.signal(signal.SIGTERM, lambda *_: print('handled', flush=True))
    try:
        assert program.error('import os; os.kill(os.getpid(), 15)') == 'the snapshot was ended by SIGTERM'
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert program.printed == b''


@pytest.mark.parametrize('text', ['gevent.sleep(1)', 'event.wait()', 'gevent.spawn(len, "").get()', 'gevent.idle()',
                                  'pair[0].recv(1)', 'gevent.get_hub().threadpool.apply(len, ("",))'])
def test_it_cannot_wait_for_greenlets(program, text):
    program.names.update(gevent=gevent, event=Event())
    assert program.error('from gevent import socket\npair = socket.socketpair()\n' + text).startswith(
        'RuntimeError: a snapshot cannot wait for other greenlets or for the network')


def test_a_handler_that_raises_right_after_the_fork(program, monkeypatch):
    class Interrupted(BaseException):
        pass

    def interrupt(*_):
        raise Interrupted

    class Warnings(warnings.catch_warnings):
        def __exit__(self, *_):
            super().__exit__(*_)
            if os.getpid() == parent:
                os.kill(parent, signal.SIGUSR1)

    parent = os.getpid()
    monkeypatch.setattr(snapshot, 'warnings', SimpleNamespace(catch_warnings=Warnings, simplefilter=warnings.simplefilter))
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupted):
            program.run('while True: pass')
    finally:
        signal.signal(signal.SIGUSR1, before)
    wait_for(lambda: children() == [])


@pytest.mark.parametrize('text', ['greenlet.greenlet(event.wait).switch()', 'other.switch()', 'gevent.get_hub().loop.run()',
                                  'gevent.spawn(len, "").switch()'])
def test_greenlets_of_the_program_do_not_run(program, text):
    started = []
    other = gevent.spawn(started.append, 1)
    program.names.update(gevent=gevent, greenlet=greenlet, event=Event(), other=other)
    assert program.error(text).startswith('RuntimeError: a snapshot cannot wait for other greenlets')
    other.join()
    assert started == [1]


def test_greenlets_of_the_statement_itself_run(program):
    program.names.update(greenlet=greenlet)
    assert program.value('greenlet.greenlet(lambda: greenlet.getcurrent().parent.switch(5)).switch()') == 5


def test_a_console_is_not_given_up(program, console, connect, caplog):
    client = connect(console())
    program.value('1')
    assert client.value('1 + 1') == 2
    assert 'forked' not in caplog.text


# Threads --------------------------------------------------------------------------------------------------------------

def test_other_threads_of_the_program_make_it_unsafe(program):
    lock = new_lock()
    lock.acquire()
    thread = threading.Thread(target=lock.acquire, name='worker of the shop')
    thread.start()
    assert 'the process has other threads (worker of the shop)' in program.error('1')
    lock.release()
    thread.join()
    program.value('1')


def test_a_thread_without_a_name(program):
    lock, ended = new_lock(), new_lock()
    lock.acquire()
    ended.acquire()

    def wait_in_the_shop():
        lock.acquire()
        ended.release()

    start_thread(wait_in_the_shop, ())
    wait_for(own_threads.others)
    assert '(wait_in_the_shop of test_snapshot.py)' in program.error('1')
    lock.release()
    ended.acquire()
    program.value('1')


def test_threads_that_run_no_python(program, monkeypatch):
    count = len(os.listdir('/proc/self/task'))
    monkeypatch.setattr(own_threads.os, 'listdir', lambda _path: ['1'] * (count + 2))
    assert '(2 that run no Python)' in program.error('1')


def test_threads_of_the_console_and_idle_ones_of_gevent_are_no_obstacle(program, console, tmp_path):
    console(listen=[{'address': f'unix:{tmp_path}/rescue', 'protocol': 'rescue', 'mode': '0600'}])
    assert gevent.get_hub().threadpool.apply(len, ('',)) == 0
    program.value('1')


def test_all_threads_of_the_console_are_known():
    package = Path(own_threads.__file__).parent.parent
    starting = {str(path.relative_to(package)) for path in package.rglob('*.py') if 'start_new_thread' in path.read_text()}
    # The thread of threads.py runs a whole console.
    assert starting == {'base/own_threads.py', 'threads.py'}


def test_a_thread_of_gevent_that_works_is_waited_for(program):
    lock = new_lock()
    lock.acquire()
    work = gevent.get_hub().threadpool.spawn(lock.acquire)
    try:
        wait_for(own_threads.others)
        # Its name: one that has called threading.current_thread(), as loggers do, is a `Dummy`.
        assert re.search(r'the process has other threads \((run of threadpool\.py|Dummy-\d+)\)', program.error('1'))
    finally:
        gevent.spawn_later(0.05, lock.release)
    program.value('1')
    work.get()


def test_a_console_in_a_thread_of_its_own_makes_none():
    found = []
    thread = threading.Thread(target=lambda: found.append(Program().error('1')))
    thread.start()
    wait_for(lambda: found)
    thread.join()
    assert 'the process has other threads (MainThread)' in found[0]


# Programs of their own ------------------------------------------------------------------------------------------------

PATCHED = '''
from gevent import monkey
monkey.patch_all()
import json, os, signal, subprocess, sys, time
import gevent
from boxsession.python.compiler import Compiler, surroundings
from boxsession.python.snapshot import Snapshots, Work

subprocess.run(['true'])        # gevent's event loop takes the status of all children from now on
names, builtins = {}, surroundings([], lambda: True, {})
snapshots = Snapshots()

def run(text, show=print):
    statement = Compiler().compile(text)
    outcome = snapshots.run(Work(lambda: statement.run(names, builtins), 1000), show)
    return outcome.error or outcome.value.decode()

gevent.signal_handler(signal.SIGTERM, print, 'handled')
print(json.dumps([run('1 + 1'), run('import os; os.kill(os.getpid(), 15)'), run('import time; time.sleep(1)'),
                  run('import os; os.kill(os.getpid(), 9)'),
                  run('import os; os._exit(5)'), run('import threading; threading.Lock().acquire()')]), flush=True)
'''


def test_a_patched_program_with_children_of_its_own(tmp_path):
    assert outcomes(tmp_path, PATCHED) == [
        'n1:2', 'the snapshot was ended by SIGTERM', 'RuntimeError: a snapshot cannot wait',
        'the snapshot was ended by SIGKILL', 'the snapshot ended without a result, with exit code 5', 't']


def outcomes(tmp_path, text):
    path = tmp_path / 'program.py'
    path.write_text(text)
    ran = subprocess.run([sys.executable, '-W', 'error::DeprecationWarning', str(path)], stdout=-1, timeout=50)
    assert ran.returncode == 0
    return [found.partition(' for other')[0].partition(':')[0] if 'ended by' in found else found.partition(' for other')[0]
            for found in json.loads(ran.stdout)]


ENDLESS = PATCHED.partition('print(')[0] + '''
run('import os; print(os.getpid(), flush=True)\\nwhile True: pass', lambda data: print(int(data), flush=True))
'''


def test_a_child_ends_with_its_parent(tmp_path):
    path = tmp_path / 'program.py'
    path.write_text(ENDLESS)
    parent = subprocess.Popen([sys.executable, str(path)], stdout=-1)
    try:
        pid = int(parent.stdout.readline())
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    wait_for(lambda: is_dead(pid))


def test_a_worker_that_the_program_forks_lets_the_snapshot_live(program):
    greenlet, pid = program.begin(PID + 'while True: pass')
    worker = os.fork()
    if worker == 0:
        try:
            greenlet.kill(block=False)
            gevent.sleep(0)
        finally:
            os._exit(0)
    os.waitpid(worker, 0)
    time.sleep(0)
    assert not is_gone(pid) and not greenlet.dead
    greenlet.kill()


# Sessions -------------------------------------------------------------------------------------------------------------

@pytest.fixture
def listen(tmp_path):
    return [{'address': f'unix:{tmp_path}/sock', 'languages': ['lua', 'python']}]


@pytest.fixture
def snapshots(console, connect, listen):
    """A factory of clients whose statements run in snapshots."""
    consoles = []

    def start(**config):
        if not consoles or config:
            consoles.append(console(listen=listen, **config))
        client = connect(consoles[-1])
        assert client.value('\\set language python') is True
        assert client.value('\\set python snapshot') is True
        return client

    start.consoles = consoles
    return start


def test_the_mode_is_shown_and_left(console, connect, listen):
    client = connect(console(listen=listen))
    assert client.error('\\set python snapshot') == (
        'this session has not used Python: \\set language python switches to it')
    client.reply('\\set language python')
    assert client.value('\\set python') == {'python': 'live'}
    client.reply('found = []')
    assert client.value('\\set python snapshot') is True
    assert client.value('\\set python') == {'python': 'snapshot'}
    assert client.value('found.append(1); found') == [1]
    assert client.value('\\set python live') is True
    assert client.value('found') == []
    assert client.error('\\set python frozen') == 'Specify python: live, snapshot.'


def test_a_sessions_statements(snapshots):
    client = snapshots()
    assert client.values('None') is None
    client.reply('x = 1')
    assert client.error('x') == "NameError: name 'x' is not defined (statement:1)"
    assert client.value('box.session.id()') == 1 and client.value('box.session.user()') == 'admin'
    assert 'a snapshot has no Lua' in client.error('box.lua("return 1")')
    assert 'a snapshot has no Lua' in client.error('box.session.push(1)')
    client.error('{}["sold"]')
    assert client.value('\\traceback')[0].rstrip().endswith("KeyError: 'sold'")
    assert client.values('_') is None


def test_what_a_statement_prints_comes_first(snapshots):
    client = snapshots()
    client.send('print("one"); print("two", end=""); 3\n')
    assert [client.document() for _ in range(3)] == [PUSH % b'one', PUSH % b'two', b'---\n- 3\n...\n']


PUSH = b'%%TAG !push! tag:tarantool.io/push,2018\n--- %s\n...\n'


def test_exit_ends_the_session(snapshots):
    client = snapshots()
    client.send('exit()\n')
    assert client.read_to_end() == b''


@pytest.mark.parametrize('text', ['while True: pass', 'sum(iter(int, 1))'])
def test_ctrl_c_ends_it(snapshots, text):
    client, other = snapshots(), snapshots()
    pid = begun(client, text)
    assert other.value('1 + 1') == 2
    client.send(b'\x03')
    assert b'the statement was cancelled' in client.document()
    wait_for(lambda: is_gone(pid))
    assert client.value('1 + 1') == 2


def begun(client, text):
    client.send(f'import os; print(os.getpid(), flush=True); exec({text!r})\n')
    return int(client.document().split()[-2].strip(b"'"))


def test_a_client_that_leaves_ends_it(snapshots):
    client = snapshots()
    pid = begun(client, 'while True: pass')
    client.reset()
    wait_for(lambda: is_gone(pid))


def test_the_time_limit_ends_it(snapshots):
    client = snapshots(limits={'statement_seconds': 0.2})
    assert client.error('sum(iter(int, 1))') == (
        'the statement was stopped: it ran for 0.2 seconds (limits.statement_seconds)')
    wait_for(lambda: children() == [])


def test_the_memory_limit_ends_it(snapshots):
    client = snapshots(limits={'python_memory_bytes': 1 << 28, 'output_bytes': 1 << 20})
    assert client.error('[0] * 10 ** 9') == 'MemoryError (statement:1)'
    client.send('while True: print("x" * 999)\n\n')
    while b'limits.output_bytes' not in (found := client.document()):
        assert found.startswith(b'%TAG')
    client.reply('\\set language lua')
    assert client.value('box.info.limits.python_memory_bytes.hits') == 1
    assert client.value('box.info.limits.output_bytes.hits') == 1


def test_a_console_that_stops_ends_it(snapshots):
    client = snapshots()
    pid = begun(client, 'while True: pass')
    snapshots.consoles[-1].stop()
    wait_for(lambda: is_gone(pid))


def test_it_is_recorded(snapshots, tmp_path):
    client = snapshots(audit={'file': str(tmp_path / 'audit.jsonl')})
    client.reply('1 / 0')
    records = [json.loads(line) for line in (tmp_path / 'audit.jsonl').read_text().splitlines()]
    assert records[-1]['statement'] == '1 / 0'
    assert records[-1]['error'] == 'ZeroDivisionError: division by zero (statement:1)'
