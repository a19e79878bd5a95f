"""Reloads: a daemon with its config file and signals, and Console.reload in this process."""
from __future__ import annotations

import functools
import json
import os
import signal
import socket as plain
import stat
from collections import Counter

import gevent
import pytest
import trustme
from gevent import socket, ssl
from waiting import wait_for

from boxsession import BoxsessionError, ConfigError, Console, ListenError
from boxsession.users.passwd import set_user


class Daemon:
    """A server process with a config file that tests rewrite."""

    def __init__(self, serve, path, settings, *arguments):
        self.path = path
        self.reloads = Counter()
        self.write(settings)
        self.served = serve('-c', str(path), *arguments)

    def write(self, settings):
        fresh = self.path.with_suffix('.new')
        fresh.write_text(settings if isinstance(settings, str) else json.dumps(settings))
        fresh.rename(self.path)

    def reload(self, settings, told='reloaded: '):
        """Rewrites the file and signals; gives the line of the log that ends it."""
        self.write(settings)
        self.reloads[told] += 1
        self.served.signal(signal.SIGHUP)
        return self.served.log_line(told, self.reloads[told])

    def refuse(self, settings):
        """The same for a file that is refused: all that the log says of it."""
        before = len(self.served.stderr)
        self.reload(settings, 'reload refused: the settings in force did not change')
        return self.served.stderr[before:]


@pytest.fixture
def daemon(serve, tmp_path):
    return lambda settings, *arguments: Daemon(serve, tmp_path / 'c.yml', settings, *arguments)


@pytest.fixture
def console(console):
    """Consoles whose listeners are a setting, as a config file's are: a reload may change them."""
    return functools.partial(console, listen=['127.0.0.1:0'], in_config=True)


@pytest.fixture
def sock(tmp_path):
    return f'unix:{tmp_path}/a.sock'


def test_limits_change_and_the_log_names_them(daemon, connect, sock):
    running = daemon({'listen': [sock]})
    running.served.addresses()
    client = connect(sock)
    line = running.reload({'listen': [sock], 'limits': {'statement_seconds': 0.05, 'slice_ms': 10}})
    assert line.endswith('INFO [0] reloaded: limits.statement_seconds, limits.slice_ms')
    assert 'limits.statement_seconds' in client.error('while true do end')      # the live session as well
    assert 10 == client.value('box.cfg.limits.slice_ms')
    # Settings that are no longer in the file have their defaults again.
    assert running.reload({'listen': [sock]}).endswith('reloaded: limits.statement_seconds, limits.slice_ms')
    assert 2 == client.value('box.cfg.limits.slice_ms')
    assert running.reload({'listen': [sock]}).endswith('reloaded: nothing has changed')


def test_what_box_cfg_changed_stays_until_the_file_changes_it(daemon, connect, sock):
    running = daemon({'listen': [sock], 'limits': {'slice_ms': 10}})
    running.served.addresses()
    client = connect(sock)
    client.reply('box.cfg{limits = {slice_ms = 20, idle_seconds = 500}}')
    running.reload({'listen': [sock], 'limits': {'slice_ms': 10, 'sessions': 50}})
    assert [20, 500, 50] == client.value('local l = box.cfg.limits return {l.slice_ms, l.idle_seconds, l.sessions}')
    running.reload({'listen': [sock], 'limits': {'slice_ms': 11, 'sessions': 50}})
    assert [11, 500] == client.value('local l = box.cfg.limits return {l.slice_ms, l.idle_seconds}')


def test_what_needs_a_restart_is_named_each_time(daemon, connect, sock, tmp_path):
    running = daemon({'listen': [sock]})
    running.served.addresses()
    (tmp_path / 'init.lua').write_text('')
    other = {'listen': [sock], 'store': str(tmp_path / 's.db'), 'init': str(tmp_path / 'init.lua'),
             'limits': {'sessions': 5}}
    assert running.reload(other).endswith('WARNING [0] reloaded: limits.sessions; a restart is needed for init, store')
    assert running.reload(other).endswith('reloaded: nothing has changed; a restart is needed for init, store')
    assert not (tmp_path / 's.db').exists()
    assert 5 == connect(sock).value('box.cfg.limits.sessions')
    assert running.reload({'listen': [sock]}).endswith('reloaded: limits.sessions')


class TestUsersThatListenersName:
    def test_who_was_dropped_blocks_no_reload(self, daemon, connect, sock, tmp_path):
        (tmp_path / 'init.lua').write_text("box.schema.user.create('bob')")
        listen = [sock, {'address': f'unix:{tmp_path}/peers', 'peers': {os.getuid(): 'bob'}}]
        running = daemon({'listen': listen, 'init': str(tmp_path / 'init.lua')})
        running.served.addresses(2)
        connect(sock).reply("box.schema.user.drop('bob')")
        assert f"unix:{tmp_path}/peers names the user 'bob', who does not exist any more" in running.served.stderr
        settings = {'listen': listen, 'init': str(tmp_path / 'init.lua'), 'limits': {'slice_ms': 9}}
        running.reload(settings)
        assert f"unix:{tmp_path}/peers: there is no user 'bob': create it" in running.served.log_line("no user 'bob'")
        assert 9 == connect(sock).value('box.cfg.limits.slice_ms')
        assert b'does not exist any more' in connect(f'unix:{tmp_path}/peers', greeting=False).read_to_end()
        # A changed listener is looked at again.
        settings['listen'] = [sock, {**listen[1], 'mode': '0666'}]
        assert "there is no user 'bob'" in running.refuse(settings)
        settings['listen'] = [sock]
        running.reload(settings)
        running.reload({**settings, 'limits': {}})
        assert 1 == running.served.stderr.count("WARNING [0] unix:")

    def test_who_was_created_by_another_process_is_known(self, daemon, connect, sock, tmp_path):
        store = str(tmp_path / 'users.db')
        peers = f'unix:{tmp_path}/peers'
        running = daemon({'listen': [sock], 'store': store})
        running.served.addresses()
        set_user(store, 'bob', None, create=True)
        running.reload({'listen': [sock, {'address': peers, 'user': 'bob'}], 'store': store})
        assert 'bob' == connect(peers).value('box.session.user()')
        admin = connect(sock)
        admin.reply("box.schema.user.drop('bob')")
        assert b'does not exist any more' in connect(peers, greeting=False).read_to_end()
        set_user(store, 'bob', None, create=True)
        assert 'bob' == connect(peers).value('box.session.user()')


class TestRefused:
    @pytest.mark.parametrize(('settings', 'told'), [
        ('limts: {}\nlog: {level: loud}\n', ['c.yml:1: unknown key `limts`', 'c.yml:2: `log.level` is loud']),
        ('a: [', ['c.yml:3: not YAML']),
        ('limits: {lua_memory_bytes: 16777216}\nlog: {file: /nosuch/x}', ['cannot open log.file /nosuch/x']),
        ('audit: {file: /nosuch/x}', ['cannot open audit.file /nosuch/x: No such file']),
        ('listen: ["unix:/nosuch/x"]', ['cannot listen on unix:/nosuch/x: No such file']),
        ('listen: [{address: "127.0.0.1:0", user: nobody}]', ["127.0.0.1:0: there is no user 'nobody'"]),
        ('listen: [{address: "127.0.0.1:0", tls: {cert: /nosuch/c, key: /nosuch/k}}]',
         ['cannot listen on 127.0.0.1:0: tls: cert /nosuch/c cannot be read: No such file'])])
    def test_everything_stays(self, daemon, connect, sock, tmp_path, settings, told):
        running = daemon({'listen': [sock], 'limits': {'slice_ms': 10}})
        running.served.addresses()
        log = running.refuse(settings + '\n# limits.slice_ms would be another\n')
        for text in told:
            assert text in log
        assert 10 == connect(sock).value('box.cfg.limits.slice_ms')
        assert 'reloaded: ' not in running.served.stderr

    def test_an_address_that_is_taken(self, daemon, connect, sock, tmp_path):
        log, audit, first, second = (tmp_path / name for name in ('x.log', 'audit', 'b.sock', 'c.sock'))
        running = daemon({'listen': [sock]})
        running.served.addresses()
        client = connect(sock)
        with plain.create_server(('127.0.0.1', 0)) as taken:
            told = running.refuse({
                'listen': [f'unix:{first}', '127.0.0.1:%d' % taken.getsockname()[1], f'unix:{second}'],
                'limits': {'slice_ms': 11}, 'log': {'file': str(log)}, 'audit': {'file': str(audit)}})
        assert 'Address already in use' in told
        # Listeners that were opened already are closed again.
        assert not first.exists() and not second.exists()
        assert 2 == client.value('box.cfg.limits.slice_ms')
        assert [sock] == client.value('box.info.listen')
        client.reply('print("still here")')
        assert 'still here' in running.served.log_line('still here')
        assert '' == audit.read_text() and '' == log.read_text()
        # And the next one, which is right, is taken.
        running.reload({'listen': [f'unix:{first}']})
        assert 2 == connect(f'unix:{first}').value('1 + 1')

    def test_a_file_that_is_gone(self, daemon, connect, sock):
        running = daemon({'listen': [sock]})
        running.served.addresses()
        os.rename(running.path, f'{running.path}.old')
        running.served.signal(signal.SIGHUP)
        running.served.log_line('c.yml: cannot be read')
        assert 2 == connect(sock).value('1 + 1')


class TestListeners:
    def test_they_come_and_go_and_sessions_stay(self, daemon, connect, sock, tmp_path):
        running = daemon({'listen': [sock, '127.0.0.1:0']})
        _, tcp = running.served.addresses(2)
        by_unix, by_tcp = connect(sock), connect(tcp)
        line = running.reload({'listen': [f'unix:{tmp_path}/b.sock', '127.0.0.1:0']})
        assert line.endswith(f'reloaded: listen (added unix:{tmp_path}/b.sock, removed {sock})')
        assert 2 == by_unix.value('1 + 1') and 2 == by_tcp.value('1 + 1')
        assert 2 == connect(f'unix:{tmp_path}/b.sock').value('1 + 1')
        assert f'listening: console unix:{tmp_path}/b.sock' in running.served.stderr
        assert not (tmp_path / 'a.sock').exists()
        # The other kept its port.
        assert [f'unix:{tmp_path}/b.sock', tcp] == connect(tcp).value('box.info.listen')

    def test_one_that_stays_never_refuses(self, daemon, sock, tmp_path):
        running = daemon({'listen': [sock, '127.0.0.1:0']})
        port = int(running.served.addresses(2)[1].rpartition(':')[2])
        served = Counter()

        def knock():
            while True:
                with socket.create_connection(('127.0.0.1', port)) as client:
                    served[client.recv(9)] += 1

        knocking = [gevent.spawn(knock) for _ in range(4)]
        try:
            for number in range(20):
                before = sum(served.values())
                running.reload({'listen': ['127.0.0.1:0', f'unix:{tmp_path}/{number}.sock']})
                wait_for(lambda before=before: sum(served.values()) >= before + 5)
            assert not any(greenlet.dead for greenlet in knocking)
        finally:
            gevent.killall(knocking)
        assert {b'Tarantool'} == set(served)

    def test_other_settings_for_the_same_address(self, daemon, connect, sock, tmp_path):
        running = daemon({'listen': [{'address': sock, 'mode': '0600'}, '127.0.0.1:0']})
        _, tcp = running.served.addresses(2)
        before = os.stat(tmp_path / 'a.sock')
        client = connect(sock)
        line = running.reload({'listen': [
            {'address': sock, 'mode': '0660', 'dialect': 'tarantool', 'peers': {str(os.getuid()): 'guest'}},
            {'address': '127.0.0.1:0', 'dialect': 'tarantool'}]})
        assert line.endswith(f'reloaded: listen (changed {sock}, changed {tcp})')
        after = os.stat(tmp_path / 'a.sock')
        assert (0o660, before.st_ino) == (stat.S_IMODE(after.st_mode), after.st_ino)
        fresh = connect(sock)
        assert 'guest' == fresh.value('box.session.user()')
        assert True is connect(tcp).value('box.session.exists(1)')
        # A live session keeps its user and dialect.
        assert ['admin', 1] == client.value('{box.session.user(), box.session.exists(1)}')
        running.served.stop()
        assert not (tmp_path / 'a.sock').exists()

    def test_who_connected_before_is_served_as_before(self, console, tmp_path, sock, connect):
        served = console()
        [tcp] = served.config.listen
        served.reload({'listen': [{'address': sock, 'mode': '0666', 'user': 'guest'}]})
        early = plain.socket(plain.AF_UNIX)
        with early:
            early.connect(str(tmp_path / 'a.sock'))     # it waits to be accepted: nothing has run since
            served.reload({'listen': [{'address': sock, 'mode': '0600', 'user': 'admin'}]})
            assert 'admin' == connect(sock).value('box.session.user()')
            early.sendall(b'box.session.user()\n')
            client = socket.socket(fileno=early.detach())
            with client, gevent.Timeout(20):
                data = b''
                while b'\n...\n' not in data:
                    data += client.recv(4096)
        assert data.endswith(b'---\n- guest\n...\n')

    @pytest.mark.parametrize(('before', 'after'), [('0666', '0600'), ('0600', '0666'), ('0620', '0602')])
    def test_until_then_only_those_connect_whom_both_let(self, console, monkeypatch, tmp_path, sock, before, after):
        from boxsession.net.listener import Listener
        served, seen = console(), []
        served.reload({'listen': [{'address': sock, 'mode': before}]})
        take_over = Listener.take_over

        def look(*arguments):
            seen.append(os.stat(tmp_path / 'a.sock').st_mode & 0o777)
            take_over(*arguments)
            seen.append(os.stat(tmp_path / 'a.sock').st_mode & 0o777)
        monkeypatch.setattr(Listener, 'take_over', look)
        served.reload({'listen': [{'address': sock, 'mode': after}]})
        assert [int(before, 8) & int(after, 8), int(after, 8)] == seen

    @pytest.mark.parametrize(('first', 'second'), [('127.0.0.1', '0.0.0.0'), ('0.0.0.0', '127.0.0.1')])
    def test_a_port_at_an_address_that_overlaps(self, daemon, connect, first, second):
        def listening(host):
            return {'listen': [{'address': f'{host}:{port}', 'insecure': True}]}
        with plain.create_server(('127.0.0.1', 0)) as free:
            port = free.getsockname()[1]
        running = daemon(listening(first))
        running.served.addresses()
        client = connect(f'127.0.0.1:{port}')
        assert f'added {second}:{port}, removed {first}:{port}' in running.reload(listening(second))
        assert 2 == client.value('1 + 1')
        assert [f'{second}:{port}'] == connect(f'127.0.0.1:{port}').value('box.info.listen')
        # The port cannot be bound by others.
        with plain.socket() as other, pytest.raises(OSError, match='in use'):
            other.setsockopt(plain.SOL_SOCKET, plain.SO_REUSEADDR, 1)
            other.bind(('127.0.0.1', port))
            other.listen()

    def test_a_socket_file_that_vanished_comes_back(self, daemon, connect, sock, tmp_path):
        running = daemon({'listen': [sock]})
        running.served.addresses()
        os.unlink(tmp_path / 'a.sock')
        running.reload({'listen': [sock]})
        assert 2 == connect(sock).value('1 + 1')

    def test_those_of_the_command_line_stay(self, daemon, connect, sock, tmp_path):
        running = daemon({'listen': ['127.0.0.1:0']}, '--listen', sock)
        running.served.addresses()
        line = running.reload({'listen': [f'unix:{tmp_path}/b.sock'], 'limits': {'slice_ms': 11}})
        assert line.endswith('reloaded: limits.slice_ms')
        assert [sock] == connect(sock).value('box.info.listen')

    def test_those_of_statements_stay(self, daemon, connect, sock):
        running = daemon({'listen': [sock]})
        running.served.addresses()
        connect(sock).reply("listener = require('console').listen('127.0.0.1:0')")
        line = running.served.log_line('listening: console 127.0.0.1')
        assert running.reload({'listen': [sock], 'limits': {'slice_ms': 11}}).endswith('reloaded: limits.slice_ms')
        client = connect(line.split()[-1])
        assert 2 == len(client.value('box.info.listen'))
        client.reply('listener:close()')
        assert [sock] == client.value('box.info.listen')


class TestFiles:
    def test_the_log(self, daemon, connect, sock, tmp_path):
        running = daemon({'listen': [sock], 'log': {'level': 'warning'}})
        running.served.addresses()
        client = connect(sock)
        client.reply('box.cfg{log = {format = "json"}}')
        path = tmp_path / 'x.log'
        running.write({'listen': [sock], 'log': {'file': str(path)}})
        running.served.signal(signal.SIGHUP)
        wait_for(lambda: path.exists() and 'reloaded' in path.read_text())
        # The level comes from the file, the format from box.cfg.
        assert 'reloaded: log.level, log.file' == json.loads(path.read_text().splitlines()[-1])['message']
        running.write({'listen': [sock]})
        running.served.signal(signal.SIGHUP)
        assert 'reloaded: log.file' in running.served.log_line('reloaded: log.file')

    def test_the_audit_file(self, daemon, connect, sock, tmp_path):
        first, second = tmp_path / '1', tmp_path / '2'
        running = daemon({'listen': [sock]})
        running.served.addresses()
        client = connect(sock)
        client.reply('0')
        for path in (first, second, None):
            running.reload({'listen': [sock], **({'audit': {'file': str(path), 'required': True}} if path else {})})
            client.reply(f'"{path}"')
        for path in (first, second):
            entries = [json.loads(line) for line in path.read_text().splitlines()]
            assert [f'"{path}"'] == [entry['statement'] for entry in entries]
            assert 0o600 == stat.S_IMODE(path.stat().st_mode)


    def test_metrics(self, daemon, connect, sock, tmp_path):
        def status(path):
            with gevent.Timeout(10), socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b'GET /healthz HTTP/1.0\r\n\r\n')
                return client.recv(12)[-3:]

        first, second = tmp_path / '1', tmp_path / '2'
        running = daemon({'listen': [sock]})
        running.served.addresses()
        for path in (first, second):
            assert 'metrics.address' in running.reload({'listen': [sock], 'metrics': {'address': f'unix:{path}'}})
            running.served.log_line(f'listening: metrics unix:{path}')
            assert b'200' == status(path)
        assert not first.exists()
        # If the new address cannot be opened, metrics keep the old one.
        (tmp_path / 'taken').write_text('')
        refused = running.refuse({'listen': [sock], 'metrics': {'address': f'unix:{tmp_path}/taken'}})
        assert 'no socket is in the way' in refused
        assert b'200' == status(second)
        running.reload({'listen': [sock]})
        assert not second.exists()


@pytest.fixture(scope='module')
def authority():
    return trustme.CA()


class TestTLS:
    def write(self, tmp_path, authority, name):
        issued = authority.issue_cert('localhost', '127.0.0.1', common_name=name)
        (tmp_path / 'cert').write_bytes(b''.join(pem.bytes() for pem in issued.cert_chain_pems))
        (tmp_path / 'key').write_bytes(issued.private_key_pem.bytes())
        return {'cert': str(tmp_path / 'cert'), 'key': str(tmp_path / 'key')}

    def name(self, authority, address):
        context = ssl.create_default_context()
        authority.configure_trust(context)
        host, _, port = address.rpartition(':')
        with socket.create_connection((host, int(port))) as raw, \
                context.wrap_socket(raw, server_hostname=host) as client:
            client.recv(1)
            return dict(part[0] for part in client.getpeercert()['subject'])['commonName']

    def test_files_whose_content_changed(self, daemon, tmp_path, authority):
        settings = {'listen': [{'address': '127.0.0.1:0', 'tls': self.write(tmp_path, authority, 'old')}]}
        running = daemon(settings)
        [address] = running.served.addresses()
        assert 'old' == self.name(authority, address)
        assert 'nothing has changed' in running.reload(settings)
        self.write(tmp_path, authority, 'new')
        assert f'listen (changed {address})' in running.reload(settings)
        assert 'new' == self.name(authority, address)

    def test_a_key_of_another_certificate(self, daemon, tmp_path, authority):
        settings = {'listen': [{'address': '127.0.0.1:0', 'tls': self.write(tmp_path, authority, 'old')}]}
        running = daemon(settings)
        [address] = running.served.addresses()
        (tmp_path / 'key').write_bytes(authority.issue_cert('other').private_key_pem.bytes())
        assert 'the key does not belong to the certificate' in running.refuse(settings)
        assert 'old' == self.name(authority, address)

    def test_a_handshake_under_way_keeps_the_rules_that_it_began_with(self, daemon, tmp_path, authority, sock):
        files = self.write(tmp_path, authority, 'server')
        (tmp_path / 'ca').write_bytes(authority.cert_pem.bytes())
        running = daemon({'listen': [{'address': '127.0.0.1:0', 'tls': files, 'user': 'guest'}]})
        [address] = running.served.addresses()
        host, _, port = address.rpartition(':')
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with gevent.Timeout(20), socket.create_connection((host, int(port))) as raw:
            # It has been accepted, since a later connection was served.
            assert 'server' == self.name(authority, address)
            running.reload({'listen': [{'address': '127.0.0.1:0', 'tls': {**files, 'ca': str(tmp_path / 'ca')}}]})
            with context.wrap_socket(raw, server_hostname=host) as client:
                client.sendall(b'box.session.user()\n')
                data = b''
                while b'\n...\n' not in data:
                    data += client.recv(4096)
        assert data.endswith(b'---\n- guest\n...\n')


class TestTimes:
    def test_many_signals(self, daemon, connect, sock):
        running = daemon({'listen': [sock]})
        running.served.addresses()
        for number in range(100):
            running.write({'listen': [sock], 'limits': {'slice_ms': 10 + number % 2}})
            running.served.signal(signal.SIGHUP)
        assert running.reload({'listen': [sock], 'limits': {'slice_ms': 99}}, 'reloaded: limits.slice_ms')
        client = connect(sock)
        wait_for(lambda: 99 == client.value('box.cfg.limits.slice_ms'))

    def test_before_it_is_ready(self, daemon, connect, sock, tmp_path):
        (tmp_path / 'init.lua').write_text('require("log").info("init runs") require("fiber").sleep(0.3)')
        running = daemon({'listen': [sock], 'init': str(tmp_path / 'init.lua')})
        running.served.log_line('init runs')
        running.reload({'listen': [sock], 'init': str(tmp_path / 'init.lua'), 'limits': {'slice_ms': 11}})
        assert 11 == connect(sock).value('box.cfg.limits.slice_ms')

    def test_while_it_drains(self, daemon, connect, sock, tmp_path):
        running = daemon({'listen': [sock], 'log': {'file': str(tmp_path / 'x.log')}})
        running.served.addresses()
        client = connect(sock)
        client.send('box.session.push(1) while not GO do require("fiber").sleep(0.01) end return "done"\n')
        client.document()
        running.served.signal(signal.SIGTERM)
        wait_for(lambda: 'stopping' in (tmp_path / 'x.log').read_text())
        (tmp_path / 'x.log').rename(tmp_path / 'old')
        running.write({'listen': [f'unix:{tmp_path}/b.sock']})
        running.served.signal(signal.SIGHUP)
        wait_for(lambda: (tmp_path / 'x.log').exists())         # log files are opened anew all the same
        assert not (tmp_path / 'b.sock').exists()
        client.send(b'\x03')
        client.read_to_end()
        assert 0 == running.served.wait()
        assert 'Traceback' not in running.served.stderr


class TestLibrary:
    def test_it_tells_what_changed(self, console, connect, caplog):
        served = console(limits={'slice_ms': 10})
        [before] = served.addresses
        changed = served.reload({'listen': ['127.0.0.1:0'],
                                 'limits': {'slice_ms': 11, 'drain_seconds': 0.2, 'share_percent': 0}})
        assert ['limits.slice_ms'] == changed
        assert [before] == served.addresses
        assert 11 == served.settings['limits.slice_ms'] == connect(served).value('box.cfg.limits.slice_ms')

    def test_what_the_program_listens_on_stays(self, connect):
        served = Console(listen=['127.0.0.1:0'])
        served.start()
        try:
            before = served.addresses
            assert ['limits.slice_ms'] == served.reload({'limits': {'slice_ms': 11}})
            assert before == served.addresses
        finally:
            served.stop()

    def test_it_raises_what_is_wrong(self, console, caplog):
        served = console()
        before = served.addresses
        for error, settings in ((ConfigError, {'limts': 5}), (ListenError, {'listen': ['unix:/nosuch/x']}),
                                (BoxsessionError, {'audit': {'file': '/nosuch/x'}}), (ConfigError, {'limits': 5})):
            with pytest.raises(error):
                served.reload(settings)
        assert before == served.addresses
        assert 'reloaded' not in caplog.text

    def test_memory_that_is_in_use(self, console, connect):
        served = console()
        connect(served).reply('kept = ("x"):rep(20e6)')
        with pytest.raises(ConfigError, match='`limits.lua_memory_bytes` should be at least twice the memory in use'):
            served.reload({'listen': ['127.0.0.1:0'], 'limits': {'lua_memory_bytes': 1 << 24}})

    def test_one_that_does_not_run(self, console):
        with pytest.raises(BoxsessionError, match='is not running'):
            Console(listen=['127.0.0.1:0']).reload({})
        served = console()
        served.stop()
        with pytest.raises(BoxsessionError, match='is not running'):
            served.reload({})

    def test_it_is_stopped_while_a_name_is_looked_up(self, console, monkeypatch):
        from boxsession.net import listener
        served = console()
        asked, go_on = gevent.event.Event(), gevent.event.Event()
        resolve = listener._resolve

        def slowly(address):
            if address.host == 'localhost':
                asked.set()
                go_on.wait()
            return resolve(address)
        monkeypatch.setattr(listener, '_resolve', slowly)
        outcome = []

        def reload():
            try:
                served.reload({'listen': ['localhost:0']})
            except BoxsessionError as error:
                outcome.append(str(error))
        reloading = gevent.spawn(reload)
        assert asked.wait(30)
        served.stop()
        go_on.set()
        reloading.get(timeout=30)
        assert ['the console is stopping: nothing was reloaded'] == outcome
        assert [] == served.addresses

    def test_they_take_their_turn(self, console, monkeypatch, sock, connect):
        from boxsession.net import listener
        served = console()
        resolve = listener._resolve

        def slowly(address):
            gevent.sleep(0.01)
            return resolve(address)
        monkeypatch.setattr(listener, '_resolve', slowly)
        several = [gevent.spawn(served.reload, {'listen': [
            {'address': sock, 'user': 'guest' if number % 2 else 'admin'}, f'127.0.0.{number}:0']})
                   for number in range(2, 7)]
        gevent.joinall(several, raise_error=True)
        assert ['', '127.0.0.6'] == [address.host for address in served.addresses]
        assert 'admin' == connect(sock).value('box.session.user()')

    def test_its_own_log_handlers_stay(self, console, tmp_path, caplog):
        served = console()
        served.reload({'listen': ['127.0.0.1:0'], 'log': {'file': str(tmp_path / 'x.log')}})
        assert not (tmp_path / 'x.log').exists()
        assert 'log.file' in caplog.text

    def test_what_waited_for_a_restart_is_in_force_after_it(self, console, tmp_path):
        served = console()
        served.reload({'listen': ['127.0.0.1:0'], 'store': str(tmp_path / 's.db')})
        assert None is served.settings['store']
        served.stop()
        served.start()
        assert (tmp_path / 's.db').exists()
        assert str(tmp_path / 's.db') == served.settings['store']
