"""systemd from outside: notifications, sockets that it passes, the unit files of conf/."""
from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket as plain
import stat
import subprocess
import sys
from pathlib import Path

import gevent
import pytest
from conftest import PROJECT, need
from gevent import socket
from waiting import wait_for

from boxsession.operations.systemd import Heart, Notifier, inherited_sockets, is_journal

SECONDS = 20


class Manager:
    """Receives notifications of a service, as systemd does."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.environment = {'NOTIFY_SOCKET': str(path)}
        self.seen = []

    def until(self, start):
        """Waits for the next line that starts with `start`. All lines read are added to `seen`."""
        with gevent.Timeout(SECONDS, TimeoutError(f'no {start}: {self.seen}')):
            while True:
                lines = self.sock.recv(4096).decode().split('\n')
                self.seen += lines
                for line in lines:
                    if line.startswith(start):
                        return line

    def drop(self):
        """Discards what has arrived so far."""
        self.sock.setblocking(False)
        try:
            while True:
                self.sock.recv(4096)
        except BlockingIOError:
            pass
        finally:
            self.sock.setblocking(True)
            self.seen.clear()


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path / 'notify')
    yield made
    made.sock.close()


class TestNotify:
    def test_the_start_and_the_end(self, serve, manager):
        served = serve('--listen', '127.0.0.1:0', environment=manager.environment)
        assert 'READY=1' == manager.until('READY')
        assert ['READY=1'] == manager.seen          # not before it listens
        [address] = served.addresses()
        assert f'STATUS=0 sessions; listening on {address}' == manager.until('STATUS')
        served.signal(signal.SIGTERM)
        assert 'STOPPING=1' == manager.until('STOPPING')
        # Longer than limits.drain_seconds.
        assert int(manager.until('EXTEND_TIMEOUT_USEC').partition('=')[2]) > 10_000_000
        assert 0 == served.wait()

    def test_a_drain_without_a_limit_is_not_cut_short(self, serve, manager, tmp_path):
        (tmp_path / 'config.yml').write_text('listen: ["127.0.0.1:0"]\nlimits: {drain_seconds: 0}\n')
        served = serve('-c', str(tmp_path / 'config.yml'), environment=manager.environment)
        manager.until('READY=1')
        served.signal(signal.SIGTERM)
        assert int(manager.until('EXTEND_TIMEOUT_USEC').partition('=')[2]) > 30 * 86400 * 10**6
        assert 0 == served.wait()

    def test_nobody_is_told_where_it_fails(self, serve, manager):
        assert 1 == serve('--listen', '192.0.2.1:1', environment=manager.environment).wait()
        manager.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.sock.recv(100)

    def test_an_abstract_socket(self, serve, tmp_path):
        name = f'boxsession-{os.getpid()}-{tmp_path.name}'
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, gevent.Timeout(SECONDS):
            notify.bind('\0' + name)
            serve('--listen', '127.0.0.1:0', environment={'NOTIFY_SOCKET': '@' + name})
            assert b'READY=1' == notify.recv(100)

    def test_the_status_tells_of_sessions(self, serve, connect, manager):
        served = serve('--listen', '127.0.0.1:0', environment={**manager.environment, 'WATCHDOG_USEC': '100000'})
        [address] = served.addresses()
        connect(address)
        assert manager.until('STATUS=1 session; listening on')

    def test_a_reload(self, serve, manager, tmp_path):
        (tmp_path / 'c.yml').write_text('listen: ["127.0.0.1:0"]\n')
        served = serve('-c', 'c.yml', environment=manager.environment)
        manager.until('STATUS')
        for text in ('limits: {sessions: 5}\nlisten: ["127.0.0.1:0"]\n', 'wrong'):
            manager.drop()
            (tmp_path / 'c.yml').write_text(text)
            served.signal(signal.SIGHUP)
            manager.until('READY=1')
            reloading, monotonic, ready = manager.seen
            assert ('RELOADING=1', 'READY=1') == (reloading, ready)
            assert re.fullmatch(r'MONOTONIC_USEC=\d+', monotonic)

    def test_a_manager_that_has_gone(self, serve, manager, connect):
        served = serve('--listen', '127.0.0.1:0', environment={**manager.environment, 'WATCHDOG_USEC': '20000'})
        manager.until('WATCHDOG')
        manager.sock.close()
        served.log_line('cannot send a notification to systemd: Connection refused')
        assert 2 == connect(served.addresses()[0]).value('1 + 1')
        assert 0 == served.stop()


class TestWatchdog:
    def test_it_beats_while_the_loop_turns(self, serve, connect, manager):
        served = serve('--listen', '127.0.0.1:0', environment={**manager.environment, 'WATCHDOG_USEC': '100000'})
        client = connect(served.addresses()[0])
        client.send('box.session.push(1) while true do end\n')
        client.document()
        manager.until('STATUS=1')
        manager.seen.clear()
        for _ in range(3):
            manager.until('WATCHDOG=1')
        served.process.kill()

    def test_a_loop_that_is_held_does_not_beat(self, manager, tmp_path, serve):
        program = tmp_path / 'held.py'
        program.write_text('''
import gevent, sys, time
from boxsession.operations.systemd import Heart, Notifier
notifier = Notifier()
heart = Heart(notifier, lambda: 'held')
heart.start()
gevent.sleep(0.1)
notifier.tell('HOLD=1')
time.sleep(0.5)
notifier.tell('HELD=1')
gevent.sleep(0.1)
notifier.tell('END=1')
gevent.sleep(20)
''')
        serve(program=str(program), environment={**manager.environment, 'WATCHDOG_USEC': '20000'})
        manager.until('HOLD')
        assert 'WATCHDOG=1' in manager.seen
        manager.seen.clear()
        manager.until('HELD')
        assert ['HELD=1'] == manager.seen
        manager.until('END')
        assert 'WATCHDOG=1' in manager.seen

    def test_where_it_aborts_the_stack_is_told(self, serve, tmp_path):
        (tmp_path / 'holds.py').write_text('''
import gevent, sys, time
from boxsession.settings.reader import read
from boxsession.daemon import Daemon
def hold():
    print('held', file=sys.stderr, flush=True)
    time.sleep(100)
daemon = Daemon(lambda: read({'listen': ['127.0.0.1:0']}))
gevent.spawn(hold)
daemon.run()
''')
        served = serve(program=str(tmp_path / 'holds.py'))
        served.log_line('held')
        served.signal(signal.SIGABRT)
        assert -signal.SIGABRT == served.wait()
        assert 'Fatal Python error: Aborted' in served.stderr and 'in hold' in served.stderr

    def test_it_goes_on_while_the_server_drains(self, serve, connect, manager):
        served = serve('--listen', '127.0.0.1:0', environment={**manager.environment, 'WATCHDOG_USEC': '50000'})
        client = connect(served.addresses()[0])
        client.send('box.session.push(1) require("fiber").sleep(1000)\n')
        client.document()
        served.signal(signal.SIGTERM)
        manager.until('STOPPING')
        manager.until('STATUS=1 session; stopping')
        manager.until('WATCHDOG')
        served.process.kill()

    @pytest.mark.parametrize(('environment', 'seconds'), [
        ({}, 0), ({'WATCHDOG_USEC': '5000000'}, 5), ({'WATCHDOG_USEC': 'x'}, 0),
        ({'WATCHDOG_USEC': '5000000', 'WATCHDOG_PID': '1'}, 0),
        ({'WATCHDOG_USEC': '5000000', 'WATCHDOG_PID': str(os.getpid())}, 5)])
    def test_who_is_watched(self, environment, seconds):
        assert seconds == Notifier({'NOTIFY_SOCKET': '/x', **environment}).watchdog_seconds
        assert 0 == Notifier(environment).watchdog_seconds

    def test_a_beat_waits_for_nobody(self, manager, tmp_path, serve):
        (tmp_path / 'beats.py').write_text('''
from boxsession.operations.systemd import Heart, Notifier
heart = Heart(Notifier(), lambda: 'busy')
for _ in range(2000):           # more than a receiver's queue holds
    heart.beat()
''')
        beating = serve(program=str(tmp_path / 'beats.py'), environment={**manager.environment, 'WATCHDOG_USEC': '1000000'})
        assert 0 == beating.wait()
        assert 'WATCHDOG=1' == manager.until('WATCHDOG')

    def test_nothing_is_done_without_a_manager(self):
        heart = Heart(Notifier({}), lambda: 1 / 0)
        heart.start()
        heart.stop()
        Notifier({}).tell('READY=1')


@pytest.fixture
def activate(serve, tmp_path):
    """serve() with sockets passed as systemd does: activate([sock, ...], *arguments)."""
    program = tmp_path / 'activate.py'
    program.write_text('''
import json, os, sys
fds, arguments = json.loads(os.environ['FDS']), json.loads(os.environ['ARGUMENTS'])
spare = [os.dup(fd) for fd in fds]
spare = [os.dup2(fd, 100 + number) for number, fd in enumerate(spare)]
for number, fd in enumerate(spare):
    os.dup2(fd, 3 + number)
    os.close(fd)
os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, '-m', 'boxsession', 'serve', *arguments])
''')

    def start(socks, *arguments, names=()):
        return serve(program=str(program), pass_fds=[sock.fileno() for sock in socks], environment={
            'FDS': json.dumps([sock.fileno() for sock in socks]), 'ARGUMENTS': json.dumps(arguments),
            'LISTEN_FDNAMES': ':'.join(names)})
    return start


@pytest.fixture
def tcp():
    with plain.create_server(('127.0.0.1', 0)) as sock:
        yield sock


@pytest.fixture
def unix(tmp_path):
    with plain.socket(plain.AF_UNIX) as sock:
        sock.bind(str(tmp_path / 'made.sock'))
        os.chmod(tmp_path / 'made.sock', 0o640)
        sock.listen()
        yield sock


def place(sock):
    return '127.0.0.1:%d' % sock.getsockname()[1]


class TestActivation:
    def test_without_settings_the_sockets_are_consoles(self, activate, connect, tcp, unix, tmp_path):
        served = activate([tcp, unix])
        assert [place(tcp), f'unix:{tmp_path}/made.sock'] == served.addresses(2)
        assert 2 == len({connect(address).value('box.session.id()') for address in served.addresses()})

    def test_a_listener_takes_the_socket_of_its_address(self, activate, connect, tcp, unix, tmp_path):
        (tmp_path / 'c.yml').write_text(f'''listen:
- {{address: "unix:{tmp_path}/made.sock", dialect: tarantool}}
- 127.0.0.1:0
- {{address: "localhost:{tcp.getsockname()[1]}", user: guest}}
''')
        served = activate([tcp, unix], '-c', 'c.yml', names=['web', 'admin'])
        made, fresh, guest = served.addresses(3)
        assert True is connect(made).value('box.session.exists(1)')
        assert fresh != place(tcp)
        assert 'guest' == connect(place(tcp)).value('box.session.user()')

    def test_the_file_stays_as_it_was_made(self, activate, connect, unix, tmp_path):
        (tmp_path / 'c.yml').write_text(f'listen: [{{address: "unix:{tmp_path}/made.sock", mode: "0600"}}]')
        served = activate([unix], '-c', 'c.yml')
        connect(served.addresses()[0])
        assert 0o640 == stat.S_IMODE(os.stat(tmp_path / 'made.sock').st_mode)
        assert 'made.sock has mode 0640' in served.stderr
        assert 0 == served.stop()
        assert (tmp_path / 'made.sock').exists()

    def test_its_mode_counts_for_python(self, activate, unix, tmp_path):
        (tmp_path / 'c.yml').write_text(f'listen: [{{address: "unix:{tmp_path}/made.sock", languages: [python]}}]')
        served = activate([unix], '-c', 'c.yml')
        assert 1 == served.wait()
        assert f'unix:{tmp_path}/made.sock has the mode 0640, so others than its owner can connect' in served.stderr
        os.chmod(tmp_path / 'made.sock', 0o600)
        assert activate([unix], '-c', 'c.yml').addresses()

    def test_who_comes_between_two_runs_is_served_by_the_second(self, activate, connect, tcp):
        first = activate([tcp])
        first.addresses()
        assert 0 == first.stop()
        waiting = plain.create_connection(tcp.getsockname())
        with waiting:
            activate([tcp]).addresses()
            waiting.settimeout(SECONDS)
            assert waiting.recv(9).startswith(b'Tarantool')

    def test_one_that_no_listener_has(self, activate, tcp, tmp_path):
        (tmp_path / 'c.yml').write_text('listen: ["127.0.0.1:0"]')
        for arguments in (['-c', 'c.yml'], ['--listen', '127.0.0.1:0']):
            served = activate([tcp], *arguments)
            assert 1 == served.wait()
            assert f'a socket was passed that listens on {place(tcp)}, but no listener has that address: `listen` has ' \
                '127.0.0.1:0.' in served.stderr

    def test_one_that_other_machines_reach(self, activate):
        with plain.create_server(('0.0.0.0', 0)) as sock:
            served = activate([sock])
            assert 1 == served.wait()
        assert 'can be reached from other machines' in served.stderr

    @pytest.mark.parametrize('kind', ['datagram', 'connected', 'file'])
    def test_what_is_no_listening_socket(self, activate, tmp_path, kind):
        other = None
        if kind == 'datagram':
            sock = plain.socket(plain.AF_INET, plain.SOCK_DGRAM)
        elif kind == 'connected':
            sock, other = plain.socketpair()
        else:
            sock = open(tmp_path / 'f', 'w')
        try:
            served = activate([sock], names=['thing'])
            assert 1 == served.wait()
        finally:
            sock.close()
            if other:
                other.close()
        assert ('boxsession: descriptor 3 (thing), which systemd passed, is no listening socket: the socket unit needs '
                'ListenStream= and Accept=no\n') == served.stderr

    def test_a_reload_may_take_it_away_and_give_it_back(self, activate, connect, tcp, tmp_path):
        config = tmp_path / 'c.yml'
        config.write_text(f'listen: ["{place(tcp)}", "unix:{tmp_path}/b.sock"]')
        served = activate([tcp], '-c', 'c.yml')
        served.addresses(2)
        config.write_text(f'listen: ["unix:{tmp_path}/b.sock"]')
        served.signal(signal.SIGHUP)
        served.log_line('reloaded: ')
        config.write_text(f'listen: ["{place(tcp)}", "unix:{tmp_path}/b.sock"]')
        served.signal(signal.SIGHUP)
        served.log_line('reloaded: ', 2)
        assert 2 == connect(place(tcp)).value('1 + 1')

    def test_what_is_for_another_process_stays(self):
        environment = {'LISTEN_FDS': '1', 'LISTEN_PID': '1', 'X': 'y'}
        assert [] == inherited_sockets(environment)
        assert {'X': 'y'} == environment
        assert [] == inherited_sockets({})

    @need('systemd-socket-activate')
    def test_with_systemds_own_program(self, connect, tmp_path):
        path = tmp_path / 'real.sock'
        with open(tmp_path / 'log', 'wb') as log:
            process = subprocess.Popen(
                ['systemd-socket-activate', '-E', f'PYTHONPATH={PROJECT}', '-l', str(path),
                 sys.executable, '-m', 'boxsession', 'serve'], stderr=log, cwd=tmp_path)
        try:
            with gevent.Timeout(SECONDS):
                wait_for(lambda: b'Listening on' in (tmp_path / 'log').read_bytes())
            assert 2 == connect(f'unix:{path}').value('1 + 1')
        finally:
            process.terminate()
            process.wait(SECONDS)
        assert path.exists()


def test_the_journal_is_known_by_its_inode(tmp_path):
    with open(tmp_path / 'journal', 'w') as stream:
        found = os.fstat(stream.fileno())
        assert is_journal(stream, {'JOURNAL_STREAM': f'{found.st_dev}:{found.st_ino}'})
        assert not is_journal(stream, {'JOURNAL_STREAM': f'{found.st_dev}:{found.st_ino + 1}'})
        assert not is_journal(stream, {})
    assert not is_journal(stream, {'JOURNAL_STREAM': '1:1'})


class TestUnits:
    UNIT = PROJECT / 'conf' / 'boxsession.service'

    @need('systemd-analyze')
    def test_they_are_valid(self, tmp_path):
        for name in ('boxsession.service', 'boxsession.socket'):
            shutil.copy(PROJECT / 'conf' / name, tmp_path)
        told = subprocess.run(['systemd-analyze', 'verify', '--man=no', '--recursive-errors=no',
                               *map(str, sorted(tmp_path.glob('boxsession.*')))], capture_output=True, text=True)
        assert (0, '') == (told.returncode, told.stderr + told.stdout)

    @need('systemd-analyze')
    def test_their_exposure_is_as_documented(self):
        told = subprocess.run(['systemd-analyze', 'security', '--offline=true', '--no-pager', str(self.UNIT)],
                              capture_output=True, text=True)
        [level] = re.findall(r'exposure level for \S+: ([\d.]+)', told.stdout)
        assert float(level) <= 2.0
        assert f'exposure level {level}' in (PROJECT / 'docs' / 'operations.rst').read_text()

    def test_the_addresses_are_of_the_shipped_settings(self):
        from boxsession.settings.reader import load
        found = re.findall(r'^ListenStream=(\S+)$', Path(PROJECT / 'conf' / 'boxsession.socket').read_text(), re.MULTILINE)
        assert [str(listener.address) for listener in load(PROJECT / 'conf' / 'boxsession.yml').listen] == found
