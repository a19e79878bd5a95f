"""Sessions and file descriptors are kept for admins on the same machine, however many clients connect."""
from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket as plain
import struct

import gevent
import pytest
import trustme
from conftest import TEXT
from gevent import socket, ssl
from text_client import Client
from waiting import running, wait_for

from boxsession.base.address import Address
from boxsession.base.errors import ListenError
from boxsession.net import socket_file
from boxsession.net.listener import Listener
from boxsession.settings.table import ListenerConfig

DESCRIPTORS = 64


@pytest.fixture
def files(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert('localhost')
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / 'cert.pem'))
    certificate.private_key_pem.write_to_path(str(tmp_path / 'key.pem'))
    authority.cert_pem.write_to_path(str(tmp_path / 'ca.pem'))
    return {'cert': str(tmp_path / 'cert.pem'), 'key': str(tmp_path / 'key.pem')}


@pytest.fixture
def flood():
    """A factory of sockets that connect and do nothing more."""
    made = []

    def connect(address, count):
        host, _, port = str(address).rpartition(':')
        for _ in range(count):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((host, int(port)))
            made.append(sock)
        return made

    yield connect
    for sock in made:
        sock.close()


def starved(served):
    """Leaves a server few descriptors."""
    _, hard = resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))


class TestTheLastDescriptors:
    @pytest.mark.parametrize('protocol', ['console', 'binary', 'tls', 'metrics'])
    def test_an_admin_on_a_unix_socket_gets_in_and_acts(self, serve, connect, flood, files, tmp_path, protocol):
        listeners = {'console': '"127.0.0.1:0"', 'binary': '{address: "127.0.0.1:0", protocol: binary}',
                     'tls': '{address: "127.0.0.1:0", tls: %s}' % json.dumps(files), 'metrics': '"127.0.0.1:0"'}
        (tmp_path / 'config.yml').write_text(f"""
            listen: [{listeners[protocol]}, "unix:{tmp_path}/admin.sock"]
            store: {tmp_path}/users.db
            log: {{file: {tmp_path}/log}}
            audit: {{file: {tmp_path}/audit.jsonl}}
            metrics: {{address: "127.0.0.1:0"}}""")
        served = serve('-c', 'config.yml')
        what = {'tls': 'console'}.get(protocol, protocol)
        address = served.log_line(f'listening: {what} 127').split()[2]
        served.log_line('listening: metrics ')
        starved(served)
        socks = flood(address, 3 * DESCRIPTORS)
        log = tmp_path / 'log'
        if protocol != 'metrics':               # it keeps eight at a time
            wait_for(lambda: 'cannot accept clients: too many open files; the last file' in log.read_text())
        for _ in range(5):
            admin = connect(f'unix:{tmp_path}/admin.sock')
            assert 2 == admin.value('1 + 1')
        # Operations that need a descriptor work.
        admin.reply("box.schema.user.create('somebody')")
        assert admin.value("box.schema.user.exists('somebody')") is True
        log.rename(tmp_path / 'log.1')
        (tmp_path / 'audit.jsonl').rename(tmp_path / 'audit.1')
        served.signal(signal.SIGUSR1)
        wait_for(lambda: log.exists() and (tmp_path / 'audit.jsonl').exists())
        admin.reply('for _, shown in pairs(box.session.list()) do if shown.peer:find("127") then '
                    'box.session.kill(shown.id) end end')
        for sock in socks:
            sock.close()
        if protocol == 'console':
            assert 2 == connect(address).value('1 + 1')

    def test_they_are_few_where_there_are_few(self, serve, connect, tmp_path):
        served = serve('--listen', '127.0.0.1:0')
        [address] = served.addresses()
        _, hard = resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (32, hard))
        assert 2 == connect(address).value('1 + 1')


class TestHandshakes:
    @pytest.fixture
    def start(self, console, files, tmp_path):
        def start(**limits):
            return console(listen=[{'address': TEXT, 'tls': files}, TEXT, f'unix:{tmp_path}/a'], limits=limits)

        return start

    def client(self, address, tmp_path):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(str(tmp_path / 'ca.pem'))
        return Client(address, tls=context)

    def test_those_that_stall_make_room(self, start, flood, connect, tmp_path):
        served = start(sessions=40)
        socks = flood(served.addresses[0], 60)
        wait_for(lambda: served._running.runtime.counters.hits['refused.tls'] >= 50)
        assert len(served._running.admission.handshakes) <= 10
        # No client is refused because of them, with or without TLS.
        clients = [self.client(served.addresses[0], tmp_path) for _ in range(3)]
        clients.append(connect(str(served.addresses[1])))
        assert [2] * 4 == [client.value('1 + 1') for client in clients]
        for client in clients:
            client.close()
        assert 60 == len(socks)

    def test_they_count_as_sessions(self, start, flood, connect):
        served = start(sessions=12)
        flood(served.addresses[0], 3)
        wait_for(lambda: len(served._running.admission.handshakes) == 3)
        clients = [connect(str(served.addresses[1])) for _ in range(6)]
        assert b'too many sessions: the limit is 12' in connect(str(served.addresses[1]), greeting=False).read_to_end()
        assert 2 == connect(str(served.addresses[2])).value('1 + 1')
        assert 6 == len(clients)

    def test_a_tunnel_that_cannot_be_made_leaves_nothing(self, start, tmp_path, monkeypatch):
        served = start()

        def no_more():
            raise OSError(24, 'Too many open files')

        with monkeypatch.context() as patched:
            patched.setattr('boxsession.net.tls._plain_socketpair', no_more)
            with pytest.raises((EOFError, OSError)):
                self.client(served.addresses[0], tmp_path)
        wait_for(lambda: served._running.runtime.counters.hits['refused.tls'])
        assert not served._running.admission.handshakes
        client = self.client(served.addresses[0], tmp_path)
        assert 2 == client.value('1 + 1')
        client.close()

    def test_a_reset_after_the_goodbye_of_tls_ends_what_runs(self, start, tmp_path):
        served = start()
        client = self.client(served.addresses[0], tmp_path)
        client.send("require('fiber').sleep(1000)\n")
        wait_for(lambda: running(served))
        client.sock.settimeout(0.1)
        with pytest.raises(OSError):
            client.sock.unwrap()                # sends TLS's goodbye, then waits for the server's
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        socket.socket.close(client.sock)
        wait_for(lambda: not served.connections())


class TestTwoServersThatStartAtOnce:
    def test_one_of_them_listens(self, tmp_path, monkeypatch):
        path = str(tmp_path / 'a.sock')
        dead = plain.socket(plain.AF_UNIX)
        dead.bind(path)
        dead.close()
        unlink = socket_file.os.unlink

        flock, waits = fcntl.flock, gevent.event.Event()

        def lock(folder, how):
            try:
                flock(folder, how)
            except BlockingIOError:
                waits.set()
                raise

        def slowly(name):
            assert waits.wait(30)           # the other listener waits for the lock
            unlink(name)

        monkeypatch.setattr(socket_file.fcntl, 'flock', lock)
        monkeypatch.setattr(socket_file.os, 'unlink', slowly)
        config = ListenerConfig(Address.parse(f'unix:{path}'))
        both = [Listener(config, lambda sock, peer, _: sock.close()) for _ in range(2)]

        def bind(one):
            try:
                one.bind()
            except ListenError as error:
                return str(error)
            return None

        outcomes = [job.get(timeout=10) for job in [gevent.spawn(bind, one) for one in both]]
        assert outcomes.count(None) == 1
        assert 'another server is listening there' in next(filter(None, outcomes))
        winner = both[outcomes.index(None)]
        assert not winner.has_lost_its_file
        winner.stop()
        assert [] == [entry.name for entry in tmp_path.iterdir()]        # no lock is left, either

    def test_a_folder_that_somebody_else_has_locked(self, tmp_path, monkeypatch):
        monkeypatch.setattr(socket_file, '_LOCK_SECONDS', 0.1)
        folder = os.open(tmp_path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            with pytest.raises(ListenError, match='another process holds a lock'):
                Listener(ListenerConfig(Address.parse(f'unix:{tmp_path}/a.sock')), None).bind()
        finally:
            os.close(folder)
