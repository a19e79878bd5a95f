"""The recipes of docs/embedding.rst for programs of other kinds, as they stand there, with the servers that they need."""
from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import gevent
import pytest
from gevent import socket
from waiting import connected, wait_for

PROJECT = Path(__file__).resolve().parent.parent
TEXT = (PROJECT / 'docs' / 'embedding.rst').read_text()
PROGRAMS = Path(sys.executable).parent


def recipe(introduction, folder):
    """The block behind the line that ends with `introduction`; its sockets are in `folder`."""
    _, _, rest = TEXT.partition(f'{introduction}::\n\n')
    assert rest, introduction
    lines = []
    for line in rest.splitlines():
        if line and not line.startswith('    '):
            break
        lines.append(line)
    return textwrap.dedent('\n'.join(lines)).replace('/run/shop/', f'{folder}/')


class Programs:
    def __init__(self, folder):
        self.folder = folder
        self._started, self._clients = [], []

    def write(self, **files):
        for name, text in files.items():
            (self.folder / f'{name}.py').write_text(text)

    def start(self, *command):
        self._started.append(subprocess.Popen(
            [str(part) for part in command], cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, 'PYTHONPATH': f'{PROJECT}:{self.folder}:{os.environ.get("PYTHONPATH", "")}'}))
        return self._started[-1]

    def clients(self, count):
        """A client of each console, when there are so many."""
        ended = [process for process in self._started if process.poll() is not None]
        assert not ended, ended[0].communicate()[0].decode()
        found = wait_for(lambda: len(found := self.sockets()) == count and found, what=self.sockets)
        clients = [connected(path) for path in found]
        self._clients += clients
        return clients

    def sockets(self):
        return sorted(self.folder.glob('*.sock'))

    def stop(self):
        for client in self._clients:
            client.close()
        for process in self._started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def programs(tmp_path):
    made = Programs(tmp_path)
    yield made
    made.stop()


def end(process):
    process.terminate()
    wait_for(lambda: process.poll() is not None)
    return process.communicate()[0].decode()


def free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


def get(port, path):
    with gevent.Timeout(20), socket.create_connection(('127.0.0.1', port)) as web:
        web.sendall(f'GET {path} HTTP/1.0\r\n\r\n'.encode())
        answer = b''
        while piece := web.recv(65536):
            answer += piece
    return answer.partition(b'\r\n\r\n')[2]


@pytest.mark.parametrize('pool', [False, True])
def test_threads(programs, pool):
    code = recipe('works there, too', programs.folder)
    if pool:
        code = code.replace('console.start()', recipe('nobody waits for a function of another session', programs.folder)
                            + '\nconsole.start()')
    programs.write(program=code + '\ninput()\n')
    process = programs.start(sys.executable, 'program.py')
    [client] = programs.clients(1)
    assert [11, 9] == client.values('sell("eggs"), sell("eggs", 2)')
    assert '' == process.communicate(b'\n')[0].decode()
    assert (0, []) == (process.returncode, programs.sockets())


def test_asyncio(programs):
    programs.write(program=recipe('they may be coroutine functions', programs.folder))
    process = programs.start(sys.executable, 'program.py')
    [client] = programs.clients(1)
    client.send('run(1000)\n')
    [other] = programs.clients(1)
    wait_for(lambda: other.value('count()') == 1)
    client.send(b'\x03')
    assert b'cancelled' in client.document()
    wait_for(lambda: other.value('count()') == 0)
    assert 'done' == client.value('run(0.01)')
    assert '' == end(process)
    assert (0, []) == (process.returncode, programs.sockets())


def serves_each_worker(programs, port):
    clients = programs.clients(2)
    assert b'1\n' == get(port, '/eggs')
    assert [[], ['/eggs']] == sorted(client.value('names()') for client in clients)
    assert 1 == sum(client.reply('forget("/eggs")') == b'---\n- 1\n...\n' for client in clients)


@pytest.mark.parametrize('options', ['-k gevent --preload', '-k gthread'])
def test_gunicorn(programs, options):
    port = free_port()
    programs.write(shop=recipe('``shop.py``, the application', programs.folder),
                   conf=recipe('``--preload`` (``gunicorn.conf.py``)', programs.folder))
    process = programs.start(sys.executable, '-m', 'gunicorn', '-c', 'conf.py', '-w', 2, '-b', f'127.0.0.1:{port}',
                             *options.split(), 'shop:application')
    serves_each_worker(programs, port)
    end(process)
    assert (0, []) == (process.returncode, programs.sockets())


def test_a_gunicorn_worker_that_was_killed_leaves_no_socket(programs):
    programs.write(shop=recipe('``shop.py``, the application', programs.folder),
                   conf=recipe('``--preload`` (``gunicorn.conf.py``)', programs.folder))
    programs.start(sys.executable, '-m', 'gunicorn', '-c', 'conf.py', '-w', 1, '-b', '127.0.0.1:0', 'shop:application')
    programs.clients(1)
    [killed] = programs.sockets()
    os.kill(int(killed.stem), signal.SIGKILL)
    wait_for(lambda: programs.sockets() not in ([], [killed]))
    wait_for(lambda: killed not in programs.sockets())


@pytest.mark.skipif(not (PROGRAMS / 'uwsgi').exists(), reason='uwsgi is not installed')
@pytest.mark.parametrize('options', ['--gevent 10', '--enable-threads --threads 2'])
def test_uwsgi(programs, options):
    port = free_port()
    programs.write(shop=recipe('``shop.py``, the application', programs.folder),
                   admin=recipe('takes the application\'s place (``--module admin``)', programs.folder))
    process = programs.start(PROGRAMS / 'uwsgi', '--http-socket', f'127.0.0.1:{port}', '--master', '--processes', 2,
                             '--die-on-term', '--virtualenv', sys.prefix, '--module', 'admin', *options.split())
    serves_each_worker(programs, port)
    end(process)
    assert 0 == process.returncode


@pytest.mark.skipif(importlib.util.find_spec('celery') is None, reason='celery is not installed')
def test_celery(programs):
    programs.write(shop=recipe('``shop.py``, the application', programs.folder),
                   tasks='from celery import Celery\napp = Celery(broker="memory://")\n'
                         + recipe('in its default pool of processes', programs.folder))
    process = programs.start(sys.executable, '-m', 'celery', '-A', 'tasks', 'worker', '--concurrency', 2)
    for client in programs.clients(2):
        assert [] == client.value('names()')
    end(process)
    assert [] == programs.sockets()
