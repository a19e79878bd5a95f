"""What all tests share: a deadline for each, servers that are really started, and a client with deadlines."""
from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import gevent
import pytest
from real_tarantool import Tarantool
from text_client import Client

from boxsession import Console
from boxsession.base.address import Address

PROJECT = Path(__file__).resolve().parent.parent
TEST_SECONDS = 60
# A unix socket's path has at most 107 bytes, of which pytest's names for a test and the socket's own take some 70.
LONGEST_TEMPORARY_PATH = 35


def pytest_configure(config):
    """Keeps the tests' folders short enough for unix sockets, however long $TMPDIR is."""
    if not config.option.basetemp and len(os.path.realpath(tempfile.gettempdir())) > LONGEST_TEMPORARY_PATH:
        folder = tempfile.mkdtemp(prefix='bs-', dir='/tmp')
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        config.option.basetemp = os.path.join(folder, 't')


# What these ask depends on Lua alone, not on the version of Python.
LUA_ALONE = {'test_access', 'test_atomic', 'test_compat', 'test_differential', 'test_fiber', 'test_hostile',
             'test_identity', 'test_known_bugs', 'test_limits', 'test_modules', 'test_pattern', 'test_sandbox',
             'test_serializers', 'test_transcripts', 'test_turns'}

# These take long, and no version of Python has ever made a difference to them: they run with the newest only.
HEAVY = {'test_audit', 'test_backlog', 'test_binary_clients', 'test_connect_hostile', 'test_connector_suites',
         'test_faults', 'test_output', 'test_redaction', 'test_store', 'test_stress'}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in LUA_ALONE:
            item.add_marker(pytest.mark.lua)
        elif item.path.stem in HEAVY:
            item.add_marker(pytest.mark.heavy)


@pytest.fixture(autouse=True)
def log_is_captured(caplog):
    """The package's log, from debug up, also after a test that configured it for a daemon."""
    caplog.set_level('INFO', logger='boxsession')


@pytest.fixture(autouse=True)
def deadline(request):
    """No test hangs, and none passes while a greenlet died unseen."""
    failures = []
    hub = gevent.get_hub()
    original = hub.handle_error

    def note(context, kind, value, trace):
        if kind is not socket.gaierror:         # the resolver's thread tells of it, and so does who asked
            failures.append((context, kind, value))
        original(context, kind, value, trace)

    hub.handle_error = note
    marker = request.node.get_closest_marker('slow')
    try:
        with gevent.Timeout(TEST_SECONDS * (4 if marker else 1)):
            yield
    finally:
        hub.handle_error = original
    assert not failures


@pytest.fixture
def console(request):
    """A factory of consoles inside this process: console(dialect=..., config=...), stopped at the end.

    The test's own clients are other work of the event loop, for which long statements would wait most of the time.
    """
    started = []

    def start(dialect='classic', expose=None, **config):
        config['limits'] = {'drain_seconds': 0.2, 'share_percent': 0, **config.get('limits', {})}
        made = Console(listen=[{'address': '127.0.0.1:0', 'dialect': dialect}], expose=expose, config=config)
        made.start()
        started.append(made)
        return made

    yield start
    for made in started:
        made.stop()


@pytest.fixture
def connect():
    """A factory of clients: connect(console) or connect(address text); all are closed at the end."""
    clients = []

    def open_client(target, greeting=True):
        address = target.addresses[0] if isinstance(target, Console) else target
        client = Client(address, greeting)
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        client.close()


@pytest.fixture(scope='module')
def tarantool(tmp_path_factory):
    """A real Tarantool, one for each module of tests."""
    started = Tarantool(tmp_path_factory.mktemp('tarantool'))
    yield started
    started.stop()


@pytest.fixture(scope='module')
def tarantool_binary(tarantool):
    """Where the real Tarantool speaks the binary protocol."""
    return Address(host='127.0.0.1', port=tarantool.binary_port)


class Served:
    """A `boxsession serve` process."""

    def __init__(self, arguments, folder, environment=None, program=None, pass_fds=()):
        self.folder = folder
        self.stderr_path = folder / f'stderr-{len(list(folder.iterdir()))}'
        with open(self.stderr_path, 'wb') as stderr:
            command = [program] if program else ['-m', 'boxsession', 'serve', *arguments]
            self.process = subprocess.Popen(
                [sys.executable, *command], stderr=stderr, stdin=subprocess.DEVNULL,
                cwd=folder, pass_fds=pass_fds, env={**os.environ, 'PYTHONPATH': str(PROJECT), **(environment or {})})

    @property
    def stderr(self):
        return self.stderr_path.read_text()

    def addresses(self, count=1):
        """The addresses of the ready lines, when there are `count` of them."""
        while True:
            lines = [line for line in self.stderr.splitlines(keepends=True)
                     if line.startswith('listening: console ') and line.endswith('\n')]
            if len(lines) >= count:
                return [line.split()[2] for line in lines]
            assert self.process.poll() is None, self.stderr
            gevent.sleep(0.01)

    def log_line(self, text, count=1):
        """The line of standard error with `text` in it, when there are `count` of them: the last."""
        with gevent.Timeout(20, TimeoutError(f'no {text!r} in {self.stderr}')):
            while True:
                lines = [line for line in self.stderr.splitlines(keepends=True) if text in line and line.endswith('\n')]
                if len(lines) >= count:
                    return lines[-1].rstrip('\n')
                assert self.process.poll() is None, self.stderr
                gevent.sleep(0.01)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=20):
        """The exit code."""
        with gevent.Timeout(timeout):
            while self.process.poll() is None:
                gevent.sleep(0.01)
        return self.process.returncode

    def stop(self):
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                return self.wait(5)
            except gevent.Timeout:
                self.process.kill()
        return self.process.wait()


@pytest.fixture
def serve(tmp_path):
    """A factory of server processes: serve('--listen', '127.0.0.1:0'), or serve(program=path) for one of a test's own."""
    started = []

    def start(*arguments, environment=None, program=None, pass_fds=()):
        served = Served(arguments, tmp_path, environment, program, pass_fds)
        started.append(served)
        return served

    yield start
    for served in started:
        served.stop()


def need(command):
    """Skips a test by name where a program is not installed."""
    return pytest.mark.skipif(shutil.which(command) is None, reason=f'{command} is not installed')
