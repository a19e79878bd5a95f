"""The rescue listener: a thread that answers while the event loop is held. Mostly in processes of their own."""
from __future__ import annotations

import fcntl
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import termios

import gevent
import pytest
from conftest import PROJECT
from greenlet import greenlet
from iproto_client import DATA, EVAL, MESSAGE, BinaryClient
from text_client import Client as TextClient
from waiting import connected as connected_to
from waiting import wait_for

from boxsession import Console
from boxsession.base.address import Address
from boxsession.base.errors import ConfigError, ListenError
from boxsession.inspection import rescue
from boxsession.inspection.outside import greenlet_groups, is_running
from boxsession.settings import reader

PROGRAM = """
import os, sys, time
mode = {mode!r}
if mode == 'patched':
    from gevent import monkey
    monkey.patch_all()
from gevent import monkey
sleep = monkey.get_original('time', 'sleep')
password = 'geheim'

def slow(seconds):
    sleep(seconds)

def hold_until(path):
    while not os.path.exists(path):
        sleep(0.005)

def stubborn():
    while True:
        try:
            len('')          # Python 3.10 looks for other threads at calls only, in such a loop
        except Exception:
            pass

class Endless:
    def __repr__(self):
        try:
            while True:
                1 + 1
        except BaseException:       # not twice
            while True:
                1 + 1

def keep(endless):
    import gevent
    gevent.sleep(1000)

def spawn_keep():
    import gevent
    gevent.spawn(keep, Endless())

def note(text):
    with open('notes', 'a') as file:
        file.write(text + ' ')

def fork():
    if os.fork() == 0:
        try:
            note('child')
            hold_until('child-ends')
        finally:
            os._exit(0)

def urgent():
    import signal
    signal.signal(signal.SIGURG, lambda number, frame: note('urgent'))

from boxsession import Console
import socket
free = socket.create_server(('127.0.0.1', 0))
port = free.getsockname()[1]
free.close()
console = Console(['unix:c', {{'address': 'unix:r', 'protocol': 'rescue'}},
                   {{'address': f'127.0.0.1:{{port}}', 'protocol': 'binary', 'user': 'admin'}}],
                  config={config!r}, thread=mode == 'thread',
                  expose=dict(port=port, slow=slow, hold_until=hold_until, stubborn=stubborn, note=note, nap=sleep,
                              fork=fork, spawn_keep=spawn_keep))
console.start()
if mode == 'thread':
    hold_until('ends')
else:
    console.serve_forever()
"""
MODES = ('plain', 'patched', 'thread')
SIGNALLED = MODES[:2]


_opened = []


def Client(address, greeting=True):
    """A client that is closed after the test."""
    _opened.append(TextClient(address, greeting))
    return _opened[-1]


def connected(path, process):
    _opened.append(connected_to(path, process))
    return _opened[-1]


@pytest.fixture(autouse=True)
def close_clients():
    yield
    while _opened:
        _opened.pop().close()


class Service:
    """The program above in a process, its clients, and the folder in which it runs."""

    def __init__(self, serve, folder, mode, config=None):
        (folder / 'service.py').write_text(PROGRAM.format(mode=mode, config=config or {}))
        self.folder = folder
        self.process = serve(program=str(folder / 'service.py')).process
        self.rescue = connected(folder / 'r', self.process)
        self.client = connected(folder / 'c', self.process)
        self.id = self.client.values('box.session.id()')[0]

    def hold(self, statement):
        """Sends a statement, and waits until it holds the loop."""
        self.client.send(statement + '\n')
        return wait_for(lambda: (row := self.where()).get('session') == self.id and row['held'] and row)

    def where(self):
        return self.rescue.values('\\where')[0]

    def notes(self):
        path = self.folder / 'notes'
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def service(serve, tmp_path):
    return lambda mode='plain', config=None: Service(serve, tmp_path, mode, config)


def error(row):
    return row[0]['error']


class TestHeldLoop:
    @pytest.mark.parametrize('mode', MODES)
    def test_where_names_the_statement_and_the_stack(self, service, mode):
        held = service(mode)
        row = held.hold("hold_until('go')")
        assert row['by'] == f'session {held.id}: "hold_until(\'go\')"'
        assert ('admin', 'a function of the program') == (row['user'], row['runs'])
        assert row['stack'][0].endswith('__main__:hold_until') and row['held_s'] > 0
        (held.folder / 'go').touch()
        assert held.client.document().decode() == '---\n- null\n...\n'
        assert not wait_for(lambda: not (row := held.where())['held'] and row)['held']

    @pytest.mark.parametrize('mode', MODES)
    def test_everything_answers(self, service, mode):
        held = service(mode)
        held.hold("hold_until('go')")
        sessions, = held.rescue.values('\\sessions')
        assert [(held.id, 'running', "hold_until('go')")] == [
            (row['id'], row['state'], row['statement']) for row in sessions]
        threads, = held.rescue.values('\\threads')
        assert ['hold_until'] == [row['stack'][0].rpartition(':')[2] for row in threads if row['is_loop']]
        greenlets, = held.rescue.values('\\greenlets')
        assert any(row['state'] == 'running' for row in greenlets)
        memory, = held.rescue.values('\\memory')
        assert memory['resident_bytes'] > 1 << 20 and memory['lua_bytes'] > 1 << 16
        assert held.rescue.values(f'\\where {held.id}')[0]['stack'][0].endswith('__main__:hold_until')
        assert '\\where [ID]' in held.rescue.value('\\help')
        (held.folder / 'go').touch()

    def test_boxsession_connect(self, service):
        held = service()
        held.hold("hold_until('go')")
        done = subprocess.run([sys.executable, '-m', 'boxsession', 'connect', f'unix:{held.folder}/r', '-e', '\\where'],
                              env={**os.environ, 'PYTHONPATH': str(PROJECT)}, capture_output=True, timeout=30)
        assert (0, b'') == (done.returncode, done.stderr) and b'hold_until' in done.stdout
        (held.folder / 'go').touch()


class TestCancel:
    @pytest.mark.parametrize('mode', SIGNALLED)
    @pytest.mark.parametrize('statement', ['slow(100)', 'nap(100)', 'stubborn()', "pcall(slow, 100) slow(100)"])
    def test_what_holds_the_loop_ends(self, service, mode, statement):
        held = service(mode)
        held.client.send(f"{statement}\nslow(0.2) return 'next'\n")
        wait_for(lambda: (row := held.where()).get('session') == held.id and row['held'])
        assert held.rescue.values('\\cancel')[0]['stopped']
        assert 'the statement was cancelled by session ' in held.client.document().decode()
        assert held.client.document().decode() == '---\n- next\n...\n'

    def test_a_loop_of_short_calls(self, service):
        held = service()
        held.client.send("while true do pcall(slow, 0.01) end\nslow(0.2) return 'next'\n")
        wait_for(lambda: held.where().get('session') == held.id)
        assert 'no statement of a session holds the event loop' in error(held.rescue.values('\\cancel'))
        assert held.rescue.values(f'\\cancel {held.id}')[0]['stopped']
        assert 'the statement was cancelled by session ' in held.client.document().decode()
        assert held.client.document().decode() == '---\n- next\n...\n'

    def test_cancels_at_once_stop_one_statement(self, service):
        held = service()
        rescuers = [connected(held.folder / 'r', held.process) for _ in range(5)]
        held.hold("slow(100)\nslow(0.005) return 'next'")
        for rescuer in rescuers:
            rescuer.send('\\cancel\n')
        answers = [rescuer.document().decode() for rescuer in rescuers]
        assert 1 == sum('stopped: true' in answer for answer in answers)
        assert 'the statement was cancelled by session ' in held.client.document().decode()
        assert held.client.document().decode() == '---\n- next\n...\n'

    @pytest.mark.parametrize('mode', SIGNALLED)
    def test_a_request_of_the_binary_protocol(self, service, mode):
        held = service(mode)
        client = BinaryClient(Address(host='127.0.0.1', port=int(held.client.value('port'))))
        try:
            requests = [client.frame({0: EVAL, 1: sync}, {0x27: text, 0x21: []})
                        for sync, text in ((1, 'slow(100)'), (2, 'slow(0.1) return 7'))]
            client.sock.sendall(b''.join(requests))
            assert 'slow(100)' in wait_for(lambda: (row := held.where())['held'] and row)['by']
            assert held.rescue.values('\\cancel')[0]['stopped']
            answers = {header[1]: body for header, body in (client.receive(), client.receive())}
            assert 'the statement was cancelled by session' in answers[1][MESSAGE] and [7] == answers[2][DATA]
        finally:
            client.close()

    def test_lua_is_cancelled_by_id(self, service):
        held = service()
        held.client.send('while true do end\n')
        wait_for(lambda: held.where().get('runs') == 'Lua')
        assert held.rescue.values(f'\\cancel {held.id}')[0]['stopped']
        assert 'cancelled' in held.client.document().decode()

    def test_what_cannot_be_interrupted_is_told_and_cancelled_later(self, service):
        held = service('thread')
        held.hold("hold_until('go') note('not run')")
        told, = held.rescue.values('\\cancel')
        assert not told['stopped'] and 'does not run in the main thread' in told['reason']
        assert 'hold_until' in told['reason']
        (held.folder / 'go').touch()
        assert 'the statement was cancelled' in held.client.document().decode()
        assert held.client.values("'next'") == ['next'] and held.notes() == []

    def test_a_repr_that_goes_on_after_an_exception_is_cancelled(self, service):
        held = service()
        held.client.values('spawn_keep()')
        number, = (row['ids'][0] for row in held.client.values('\\greenlets keep')[0] if row['run'] == '__main__:keep')
        row = held.hold(f'\\where {number} locals repr')
        assert f'session {held.id}: ' in row['by'] and any('__repr__' in call for call in row['stack'])
        assert held.rescue.values('\\cancel')[0]['stopped']
        assert 'the statement was cancelled by session ' in held.client.document().decode()
        assert [2] == held.client.values('1 + 1')

    def test_another_session_waits_for_the_loop(self, service):
        held = service()
        other = connected(held.folder / 'c', held.process)
        number = other.values('box.session.id()')[0]
        other.send("require('fiber').sleep(1000)\n")
        wait_for(lambda: any(row['id'] == number and row['state'] == 'running'
                             for row in held.rescue.values('\\sessions')[0]))
        held.hold("hold_until('go')")
        told, = held.rescue.values(f'\\cancel {number}')
        assert not told['stopped'] and f'held by session {held.id}' in told['reason']
        (held.folder / 'go').touch()
        assert 'cancelled' in other.document().decode() and 'null' in held.client.document().decode()

    def test_kill_lets_no_further_statement_run(self, service):
        held = service()
        held.client.send("slow(100)\nnote('not run')\n")
        wait_for(lambda: held.where().get('session') == held.id)
        assert held.rescue.values(f'\\kill {held.id}') == [{'killed': True}]
        assert 'the session was killed by session' in held.client.read_to_end().decode()
        assert held.notes() == []
        assert held.rescue.values('\\sessions') == [[]]

    @pytest.mark.parametrize('mode', SIGNALLED)
    def test_a_handler_of_the_program_is_kept(self, serve, tmp_path, mode):
        text = PROGRAM.format(mode=mode, config={}).replace('from boxsession import', 'urgent()\nfrom boxsession import', 1)
        (tmp_path / 'service.py').write_text(text)
        process = serve(program=str(tmp_path / 'service.py')).process
        connected(tmp_path / 'r', process)
        process.send_signal(signal.SIGURG)
        wait_for(lambda: (tmp_path / 'notes').exists() and (tmp_path / 'notes').read_text() == 'urgent ')


def unread(sock):
    """Bytes that the other end of a unix socket has not read."""
    found = bytearray(4)
    fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, found)
    return int.from_bytes(found, sys.byteorder)


class TestListener:
    """In this process."""

    @pytest.fixture
    def path(self, tmp_path):
        return str(tmp_path / 'r')

    @pytest.fixture
    def listener(self, path):
        return {'address': f'unix:{path}', 'protocol': 'rescue'}

    def test_bad_lines(self, console, listener):
        client = Client(console(listen=[listener]).addresses[0])
        assert "'box.info' is no command of a rescue listener" in error(client.values('box.info'))
        for line, problem in (('\\where x', 'Usage: \\where [ID]'), ('\\where 99', 'session 99 does not exist'),
                              ('\\cancel', 'no statement of a session holds the event loop'), ('\\cancel -1', 'Usage'),
                              ('\\kill', 'Usage: \\kill ID'), ('\\kill 99', 'session 99 does not exist'),
                              ('\\threads x', 'Usage: \\threads'), ('\\login', 'Usage: \\login USER PASSWORD'),
                              ('\\where ' + '9' * 5000, 'the line is too long')):
            assert problem in error(client.values(line)), line
        client.send('\\help\r\n\\help\n')
        assert client.document().decode() == client.document().decode()
        client.send('\\quit\n\\help\n')
        assert client.read_to_end().decode() == ''

    def test_lines_of_boxsession_connect(self, console, listener):
        client = Client(console(listen=[listener]).addresses[0])
        for line in (b'\\set output yaml\n', b'\\set delimiter --~boxsession~\n', b'\\set print on--~boxsession~\n',
                     b'\\set language--~boxsession~\n'):
            assert client.reply(line) == b'---\n- true\n...\n'
        assert client.reply(b'quit--~boxsession~\n') == b'---\n- null\n...\n'
        assert client.reply(b'\\complete \\th--~boxsession~\n') == b'---\n- - \\threads\n...\n'
        assert b'is no command' in client.reply(b'for i = 1, 2 do\nend--~boxsession~\n')
        assert b'lua_bytes' in client.reply(b'\\memory--~boxsession~\n')

    def test_a_free_loop_cancels_and_kills(self, console, connect, listener):
        served = console(listen=['127.0.0.1:0', listener])
        client, rescue = connect(served), Client(served.listeners[1].address)
        number = client.values('box.session.id()')[0]
        assert f'session {number} runs no statement' == rescue.values(f'\\cancel {number}')[0]['reason']
        client.send("require('fiber').sleep(1000)\n")
        wait_for(lambda: rescue.values('\\sessions')[0][0]['state'] == 'running')
        assert rescue.values(f'\\cancel {number}') == [{'stopped': True}]
        assert 'cancelled' in client.document().decode()
        assert rescue.values(f'\\kill {number}') == [{'killed': True}]
        assert rescue.values('\\where')[0]['held'] is False

    def test_at_most_eight_clients(self, console, listener):
        address = console(listen=[listener]).addresses[0]
        clients = [Client(address) for _ in range(8)]
        assert 'too many clients' in Client(address, greeting=False).read_to_end().decode()
        clients[0].close()
        wait_for(lambda: Client(address, greeting=False).read(3) == b'Tar')

    def test_silent_clients_and_slow_readers_are_left(self, console, listener, monkeypatch):
        monkeypatch.setattr(rescue, '_LOOK_SECONDS', 0.02)
        monkeypatch.setattr(rescue, '_SILENT_SECONDS', 0.1)
        address = console(listen=[listener]).addresses[0]
        assert Client(address).read_to_end().decode() == ''
        monkeypatch.setattr(rescue, '_SILENT_SECONDS', 100)
        monkeypatch.setattr(rescue, '_SEND_SECONDS', 0.1)
        slow, quick = Client(address), Client(address)
        with pytest.raises(OSError, match='Broken pipe|reset'):
            while True:
                slow.send('\\threads\n' * 100)
        assert quick.values('\\memory')[0]['lua_bytes'] > 0

    def test_a_long_line_in_pieces(self, console, listener):
        client = Client(console(listen=[listener]).addresses[0])
        client.send(b'x' * 30_000)
        assert 'the line is too long' in client.document().decode()
        # The rest of the line, read piece by piece: more of it, its end alone, and a command behind its end.
        for rest in (b'x' * 3000, b'\n'):
            client.send(rest)
            wait_for(lambda: not unread(client.sock))
        assert 'lua_bytes' in client.reply('\\memory').decode()
        client.send(b'x' * 30_000)
        assert 'the line is too long' in client.document().decode()
        client.send(b'\n\\memory\n')
        assert 'lua_bytes' in client.document().decode()

    def test_stop_closes_it(self, console, listener, path):
        served = console(listen=[listener, {**listener, 'address': f'unix:{path}2'}])
        client, other = map(Client, served.addresses)
        before = signal.getsignal(signal.SIGURG)
        assert callable(before)
        served.stop()
        assert client.read_to_end() == other.read_to_end() == b'' and not os.path.exists(path)
        assert signal.getsignal(signal.SIGURG) != before

    def test_a_forked_child_has_its_signal_back(self, console, listener):
        before = signal.getsignal(signal.SIGURG)
        console(listen=[listener])
        assert signal.getsignal(signal.SIGURG) != before
        pid = os.fork()
        if pid == 0:
            os._exit(0 if signal.getsignal(signal.SIGURG) == before else 1)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def test_reload_adds_changes_and_removes_it(self, console, listener, path):
        served = console(listen=['127.0.0.1:0'], in_config=True)
        with pytest.raises(FileNotFoundError):
            Client(f'unix:{path}')
        served.reload({'listen': ['127.0.0.1:0', listener]})
        client = Client(f'unix:{path}')
        served.reload({'listen': ['127.0.0.1:0', {**listener, 'user': 'guest'}]})
        assert 'access denied' in error(Client(f'unix:{path}').values('\\memory'))
        assert client.values('\\memory')[0]['lua_bytes'] > 0
        served.reload({'listen': ['127.0.0.1:0', {**listener, 'protocol': 'console'}]})
        assert client.read_to_end().decode() == ''
        assert Client(f'unix:{path}').values('1') == [1]
        served.reload({'listen': ['127.0.0.1:0', listener]})
        assert Client(f'unix:{path}').values('\\memory')[0]['lua_bytes'] > 0
        served.reload({'listen': ['127.0.0.1:0']})
        assert not os.path.exists(path)

    def test_a_socket_that_was_passed(self, listener, path):
        with socket.socket(socket.AF_UNIX) as passed:
            passed.bind(path)
            passed.listen()
            served = Console(listener, sockets=[passed])
            for _ in range(2):
                served.start()
                client = Client(f'unix:{path}')
                assert client.values('\\memory')[0]['lua_bytes'] > 0
                served.stop()
                assert client.read_to_end() == b'' and os.path.exists(path)

    def test_it_needs_a_unix_socket(self):
        with pytest.raises(ConfigError, match='`protocol: rescue` is for unix sockets: 127.0.0.1:1 is not one'):
            Console({'address': '127.0.0.1:1', 'protocol': 'rescue'})

    def test_it_is_in_the_table(self):
        read = reader.read({'listen': [{'address': 'unix:r', 'protocol': 'rescue', 'mode': '0660'}]})
        assert ('rescue', 0o660) == (read.listen[0].protocol, read.listen[0].mode)

    def test_only_peers_may_connect(self, console, listener):
        address = console(listen=[{**listener, 'peers': {os.getuid() + 1: 'admin'}}]).addresses[0]
        assert f'uid {os.getuid()} may not connect here (peers)' in Client(address, greeting=False).read_to_end().decode()

    def test_the_socket_is_in_use(self, console, listener):
        console(listen=[listener])
        with pytest.raises(ListenError):
            Console(listener).start()


USERS = """
    box.schema.user.create('ops', {password = 'right'})
    box.schema.user.create('viewer', {password = 'right'})
    box.schema.user.grant('viewer', 'read', 'universe')
    """


class TestRights:
    @pytest.fixture
    def rescue(self, console, tmp_path):
        def start(user, **config):
            listener = {'address': f'unix:{tmp_path}/r', 'protocol': 'rescue', 'user': user}
            return Client(console(listen=[listener], script=USERS, **config).addresses[0])
        return start

    def test_read_sees_and_does_nothing(self, rescue):
        client = rescue('viewer')
        assert client.values('\\where')[0]['held'] is False
        for line in ('\\cancel', '\\kill 1', '\\sessions'):
            assert 'access denied' in error(client.values(line)) and 'execute' in error(client.values(line))

    def test_a_granted_command(self, console, tmp_path):
        with pytest.raises(Exception, match='guest'):
            console(listen=[{'address': f'unix:{tmp_path}/r', 'protocol': 'rescue', 'user': 'guests'}])
        script = "box.schema.user.create('ops') box.schema.user.grant('ops', 'execute', 'command', 'cancel')"
        listener = {'address': f'unix:{tmp_path}/r', 'protocol': 'rescue', 'user': 'ops'}
        client = Client(console(listen=[listener], script=script).addresses[0])
        assert 'no statement' in error(client.values('\\cancel')) and 'denied' in error(client.values('\\where'))

    def test_login(self, rescue):
        client = rescue('guest')
        assert 'access denied' in error(client.values('\\where'))
        assert 'credentials are invalid' in error(client.values('\\login viewer wrong'))
        assert 'credentials are invalid' in error(client.values('\\login nobody wrong'))
        assert client.values('\\login viewer right') == [True]
        assert client.values('\\where')[0]['held'] is False
        assert client.values('box.session.id(), box.session.user()')[1] == 'viewer'

    def test_a_dropped_user(self, console, connect, tmp_path):
        listener = {'address': f'unix:{tmp_path}/r', 'protocol': 'rescue', 'user': 'viewer'}
        served = console(listen=['127.0.0.1:0', listener], script=USERS)
        client = Client(served.listeners[1].address)
        connect(served).values("box.schema.user.drop('viewer')")
        assert 'the user viewer does not exist any more' in error(client.values('\\where'))

    def test_the_audit_file_while_the_loop_is_held(self, service, tmp_path):
        held = service(config={'audit': {'file': 'audit'}})
        held.hold('slow(100)')
        held.rescue.values('\\login admin geheim')
        held.rescue.values('\\cancel')
        entries = [json.loads(line) for line in (tmp_path / 'audit').read_text().splitlines()]
        mine = [entry for entry in entries if entry['listener'].endswith(':r')]
        assert ['start', 'login', 'cancel'] == [entry['event'] for entry in mine if entry['event'] != 'statement']
        assert all((os.getuid(), os.getpid()) == (entry['peer_uid'], entry['peer_pid']) for entry in mine)
        assert held.id == next(entry['target'] for entry in mine if entry['event'] == 'cancel')
        assert 'geheim' not in (tmp_path / 'audit').read_text()
        assert {'\\where', '\\cancel'} <= {entry['statement'] for entry in mine if entry['event'] == 'statement'}

    def test_nothing_is_done_that_cannot_be_recorded(self, console, tmp_path):
        (tmp_path / 'folder').mkdir()
        listener = {'address': f'unix:{tmp_path}/r', 'protocol': 'rescue'}
        served = console(listen=['127.0.0.1:0', listener],
                         audit={'file': str(tmp_path / 'folder' / 'audit'), 'required': True})
        client, busy = Client(served.listeners[1].address), Client(served.addresses[0])
        os.rename(tmp_path / 'folder', tmp_path / 'elsewhere')
        assert 'the audit file cannot be written' in error(client.values('\\kill 1'))
        assert busy.values('1') == [1]


class TestThread:
    def test_a_forked_child_does_not_keep_it(self, service):
        held = service()
        held.client.send('fork()\n')
        wait_for(lambda: held.notes() == ['child'])
        assert held.rescue.values('\\memory')[0]['resident_bytes'] > 0
        held.process.send_signal(signal.SIGTERM)
        assert held.rescue.read_to_end().decode() == ''
        wait_for(lambda: held.process.poll() is not None)
        with pytest.raises(OSError, match='No such file|refused'):
            Client(f'unix:{held.folder}/r')
        (held.folder / 'child-ends').touch()

    def test_stacks_are_read_while_greenlets_switch(self, console, tmp_path):
        served = console(listen=[{'address': f'unix:{tmp_path}/r', 'protocol': 'rescue'}])
        client, is_over = Client(served.addresses[0]), []

        def work(depth):
            while not is_over:
                gevent.sleep(0)
                if depth:
                    sorted([3, 2, 1], key=lambda item: deep(depth) or item)

        def deep(depth):
            return deep(depth - 1) if depth else gevent.sleep(0)

        spawned = [gevent.spawn(work, depth) for depth in range(20)]
        for _ in range(20):
            for line in ('\\where', '\\greenlets', '\\threads'):
                assert 'error' not in client.values(line)[0]
        is_over.append(True)
        gevent.joinall(spawned)

    def test_greenlets_are_grouped_and_not_kept(self):
        def wait():
            gevent.get_hub().switch()

        spawned = [gevent.spawn(wait) for _ in range(5)]
        raw = greenlet(wait)
        gevent.sleep(0)
        row, = greenlet_groups('test_rescue waiting wait')
        assert 5 == row['count'] and row['where'].startswith(__file__)
        assert is_running(gevent.getcurrent()) and not is_running(spawned[0]) and not is_running(raw)
        gevent.killall(spawned)
        assert [] == greenlet_groups('test_rescue waiting wait')
        gc.collect()


def test_a_thread_that_begins_after_the_end(monkeypatch):
    begun = []
    monkeypatch.setattr(rescue, 'start_thread', begun.append)
    monkeypatch.setattr(rescue, '_END_SECONDS', 0)
    listening = socket.socket()
    listening.listen()
    acceptor = rescue.RescueAcceptor(listening, None, None, lambda: None, lambda: None)
    acceptor.start()
    acceptor.close()
    assert -1 == listening.fileno()
    begun[0]()                      # no error
    assert acceptor._ended.acquire(False)
