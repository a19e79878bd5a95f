"""Fixtures of all tests: a deadline for each test, consoles in this process, server processes, and clients.

tests/README.rst says how they are used.
"""
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
import hypothesis
import pytest
from iproto_client import BinaryClient
from real_tarantool import Tarantool
from text_client import Client
from waiting import wait_for

from boxsession import Console
from boxsession.base.address import Address

PROJECT = Path(__file__).resolve().parent.parent
TEST_SECONDS = 60
# A unix socket's path has at most 107 bytes. The names that pytest makes from a test, and the socket's own, take some 70.
LONGEST_TEMPORARY_PATH = 35
# With BOXSESSION_LONG=1 tests that look for rare failures at random run many more rounds.
IS_LONG = os.environ.get('BOXSESSION_LONG', '') not in ('', '0')

# Listeners for console(listen=[...]).
TEXT = '127.0.0.1:0'
PYTHON = {'address': TEXT, 'languages': ['lua', 'python'], 'insecure': True}
BINARY = {'address': '127.0.0.1:0', 'protocol': 'binary', 'user': 'admin'}


def rounds(usual, in_long_mode):
    """How many rounds a test at random runs: few as usual, many with BOXSESSION_LONG=1.

    Without the long mode hypothesis makes the same examples in each run, so that a run does not fail by chance.
    """
    return in_long_mode if IS_LONG else usual


hypothesis.settings.register_profile('usual', deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile('long', deadline=None)
hypothesis.settings.load_profile('long' if IS_LONG else 'usual')


def pytest_configure(config):
    """Takes signals as usual; keeps the paths of the tests' folders short enough for unix sockets if $TMPDIR is long."""
    # Signals that are ignored (under nohup, in the background of a script) would be ignored by the tests' programs as well.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if not config.option.basetemp and len(os.path.realpath(tempfile.gettempdir())) > LONGEST_TEMPORARY_PATH:
        folder = tempfile.mkdtemp(prefix='bs-', dir='/tmp')
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        config.option.basetemp = os.path.join(folder, 't')


# Modules whose results depend on Lua only, not on the version of Python: marked `lua`.
LUA_ALONE = {'test_access', 'test_atomic', 'test_compat', 'test_differential', 'test_fiber', 'test_hostile',
             'test_identity', 'test_known_bugs', 'test_limits', 'test_modules', 'test_pattern', 'test_recorded',
             'test_sandbox', 'test_serializers', 'test_strict', 'test_transcripts', 'test_turns'}

# Modules that take long, and whose results never differed between versions of Python: marked `heavy`. CI runs them with
# the newest Python only.
HEAVY = {'test_audit', 'test_backlog', 'test_binary_clients', 'test_connect_hostile', 'test_connector_suites',
         'test_docs', 'test_faults', 'test_output', 'test_packaging', 'test_redaction', 'test_store', 'test_stress'}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in LUA_ALONE:
            item.add_marker(pytest.mark.lua)
        elif item.path.stem in HEAVY:
            item.add_marker(pytest.mark.heavy)


@pytest.fixture(autouse=True)
def log_is_captured(caplog):
    """Captures the package's log from level info on, even if an earlier test configured it as a daemon does."""
    caplog.set_level('INFO', logger='boxsession')


@pytest.fixture(autouse=True)
def deadline(request):
    """Ends a test that hangs, and fails a test during which a greenlet died of an exception."""
    failures = []
    hub = gevent.get_hub()
    original = hub.handle_error

    def note(context, kind, value, trace):
        if kind is not socket.gaierror:         # the resolver's thread reports it, and the caller gets it as well
            failures.append((context, kind, value))
        original(context, kind, value, trace)

    hub.handle_error = note
    marker = request.node.get_closest_marker('slow')
    try:
        with gevent.Timeout(TEST_SECONDS * (4 if marker or IS_LONG else 1)):
            yield
    finally:
        hub.handle_error = original
    assert not failures


@pytest.fixture
def console(tmp_path):
    """A factory of started consoles in this process, which are stopped after the test.

    console(dialect='classic', expose=None, *, listen=None, in_config=False, script=None, limits={...}, audit={...}, ...):

    `listen` is a list of listeners, without it one text listener of that dialect. With `in_config` they are settings, which
    a reload may change. `script` is the text of an init script. All else is the content of a config file.

    Running statements are given 0.2 s when the console stops. limits.share_percent is 0: the test's own clients are other
    work of the event loop, and long statements would wait for them most of the time.
    """
    started = []

    def start(dialect='classic', expose=None, *, listen=None, in_config=False, script=None, **config):
        config['limits'] = {'drain_seconds': 0.2, 'share_percent': 0, **config.get('limits', {})}
        if script is not None:
            path = tmp_path / f'init-{len(started)}.lua'
            path.write_text(script)
            config['init'] = str(path)
        listen = [{'address': TEXT, 'dialect': dialect}] if listen is None else listen
        made = Console(config={**config, 'listen': listen}, expose=expose) if in_config else \
            Console(listen, expose, config)
        made.start()
        started.append(made)
        return made

    yield start
    for made in started:
        made.stop()


@pytest.fixture
def connect():
    """A factory of text clients, which are closed after the test: connect(console), or connect(address)."""
    clients = []

    def open_client(target, greeting=True):
        address = target.addresses[0] if isinstance(target, Console) else target
        client = Client(address, greeting)
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        client.close()


@pytest.fixture
def connect_binary():
    """A factory of binary clients, which are closed after the test: connect_binary(console), to its first binary listener,
    or connect_binary(address)."""
    clients = []

    def open_client(target):
        if isinstance(target, Console):
            target = next(one.address for one in target.listeners if one.config.protocol == 'binary')
        client = BinaryClient(Address.parse(str(target)))
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
    """The address of the real Tarantool's binary listener."""
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

    def _lines(self, text, count):
        """Waits for `count` whole lines of standard error that contain `text`; returns all of them."""
        def look():
            has_ended = self.process.poll() is not None         # looked at first: then nothing is written any more
            lines = [line for line in self.stderr.splitlines(keepends=True) if text in line and line.endswith('\n')]
            assert len(lines) >= count or not has_ended, f'the process ended without {text!r}: {self.stderr}'
            return lines if len(lines) >= count else None

        return wait_for(look, what=lambda: f'{count} lines with {text!r} in {self.stderr}')

    def addresses(self, count=1):
        """Waits for the ready lines of `count` text listeners; returns the addresses."""
        return [line.split()[2] for line in self._lines('listening: console ', count)]

    def log_line(self, text, count=1):
        """Waits for `count` lines of standard error that contain `text`; returns the last."""
        return self._lines(text, count)[-1].rstrip('\n')

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=30):
        """Waits for the end of the process; returns its exit code."""
        wait_for(lambda: self.process.poll() is not None, timeout, what=lambda: f'end of the process: {self.stderr}')
        return self.process.returncode

    def stop(self):
        """Ends the process by SIGTERM, and by SIGKILL if it takes long. Returns its exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                return self.wait(10)
            except AssertionError:
                self.process.kill()
        return self.process.wait()


@pytest.fixture
def serve(tmp_path):
    """A factory of server processes, which are stopped after the test: serve('--listen', '127.0.0.1:0') for the daemon,
    serve(program=path) for a Python program of the test."""
    started = []

    def start(*arguments, environment=None, program=None, pass_fds=()):
        served = Served(arguments, tmp_path, environment, program, pass_fds)
        started.append(served)
        return served

    yield start
    for served in started:
        served.stop()


def need(command):
    """A decorator that skips a test if a program is not installed."""
    return pytest.mark.skipif(shutil.which(command) is None, reason=f'{command} is not installed')
