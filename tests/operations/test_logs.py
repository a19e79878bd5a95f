"""The log from outside: destination, format, sessions of its lines, rotation, folding of repeated lines."""
from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess

import gevent
import pytest
from conftest import PROJECT, need
from waiting import wait_for

from boxsession import __version__

INIT = '''
box.schema.user.create('ann', {password = 'x'})
box.session.on_connect(function() require('log').info('connected') end)
box.session.on_disconnect(function() require('log').info('disconnected') end)
'''


def config(tmp_path, **log):
    (tmp_path / 'init.lua').write_text(INIT)
    (tmp_path / 'c.yml').write_text(json.dumps({
        'listen': ['127.0.0.1:0', {'address': '127.0.0.1:0', 'protocol': 'binary', 'user': 'admin'}],
        'init': str(tmp_path / 'init.lua'), 'log': log}))


def lines_with(path, text):
    """Waits for a file in which `text` is; returns its lines."""
    wait_for(lambda: path.exists() and text in path.read_text(), what=lambda: f'{text!r} in {path}')
    return path.read_text().splitlines()


def test_every_line_of_a_session_names_it(serve, connect, tmp_path):
    config(tmp_path, format='json', file=str(tmp_path / 'x.log'), level='debug')
    served = serve('-c', 'c.yml')
    [address] = served.addresses()
    connect(address)                                    # session 1, so that the other one's id is 2
    client = connect(address)
    for statement in ('print("mine")', 'require("fiber").create(function() print("of a fiber") end)',
                      'require("console").connect("127.0.0.1:1")', '\\login ann wrong', '\\login ann x'):
        client.reply(statement)
    client.send('while true do box.session.push(("x"):rep(1e6)) end\n')
    client.read(100)
    client.reset()
    lines = [json.loads(line) for line in lines_with(tmp_path / 'x.log', 'disconnected')]
    assert all(set(line) >= {'time', 'level', 'logger', 'session', 'message'} for line in lines)
    of_two = [line['message'] for line in lines if line['session'] == 2]
    for text in ('connected', 'mine', 'failed to log in', 'changed its user from admin to ann', 'of a fiber',
                 'console.connect', 'disconnected'):
        assert any(text in message for message in of_two), text
    # Lines of other sessions do not name session 2.
    assert not [line for line in lines if line['session'] != 2 and 'session 2' in line['message']]


def test_a_request_of_the_binary_protocol_names_its_session(serve, connect, tmp_path):
    import tarantool
    config(tmp_path, format='json', file=str(tmp_path / 'x.log'))
    served = serve('-c', 'c.yml')
    connect(served.addresses()[0])
    port = int(served.log_line('listening: binary').rpartition(':')[2])
    connection = tarantool.Connection('127.0.0.1', port, fetch_schema=False)
    try:
        connection.eval('print("by request")')
        connection.eval('require("fiber").sleep(0.01) print("after a wait")')
    finally:
        connection.close()
    lines = {line['message']: line['session']
             for line in map(json.loads, lines_with(tmp_path / 'x.log', 'after a wait'))}
    assert (2, 2) == (lines['by request'], lines['after a wait'])


def test_what_nobody_caught_is_a_line_as_well(serve, tmp_path):
    program = tmp_path / 'fails.py'
    program.write_text('''
import gevent
from boxsession.settings.reader import read
from boxsession.daemon import Daemon
daemon = Daemon(lambda: read({'listen': ['127.0.0.1:0'], 'log': {'format': 'json'}}))
gevent.spawn(lambda: 1 / 0)
daemon.run()
''')
    line = json.loads(serve(program=str(program)).log_line('ZeroDivisionError'))
    assert ('error', 0) == (line['level'], line['session'])
    assert 'unexpected error' in line['message'] and 'Traceback' in line['exception']


class TestWhatHappens:
    """Each start, stop, session, login, refusal, change, cancel and kill has a line, with the client."""

    @pytest.fixture
    def served(self, serve, tmp_path):
        (tmp_path / 'init.lua').write_text("box.schema.user.create('ann', {password = 'geheim'})")
        self.write(tmp_path)
        return serve('-c', 'c.yml')

    @staticmethod
    def write(tmp_path, mode='0600', **limits):
        (tmp_path / 'c.yml').write_text(json.dumps({
            'listen': [{'address': f'unix:{tmp_path}/a', 'mode': mode}, '127.0.0.1:0',
                       {'address': f'unix:{tmp_path}/b', 'peers': {os.getuid() + 1: 'admin'}}],
            'init': str(tmp_path / 'init.lua'), 'limits': {'drain_seconds': 0.2, **limits}}))

    def test_start_and_stop(self, served, tmp_path):
        addresses = served.addresses(3)
        line = served.log_line('started: ')
        assert f'started: boxsession {__version__}, pid {served.process.pid}, config {tmp_path}/c.yml, ' \
            f'init {tmp_path}/init.lua, console unix:{tmp_path}/a, console {addresses[1]}, ' in line
        # Scripts look for the lines of the listeners first.
        assert served.stderr.index('listening: ') < served.stderr.index('started: ') and 'listening' not in line
        assert 0 == served.stop()
        assert re.search(r'INFO \[0\] stopping: SIGTERM\n(.*\n)*.*INFO \[0\] stopped: ', served.stderr)

    def test_a_second_signal(self, serve, connect, tmp_path):
        (tmp_path / 'c.yml').write_text('listen: ["127.0.0.1:0"]\nlimits: {drain_seconds: 100}\n')
        served = serve('-c', 'c.yml')
        client, other = (connect(served.addresses()[0]) for _ in range(2))
        other.send('require("fiber").sleep(100)\n')
        wait_for_state(client, 2, 'running')
        served.signal(signal.SIGINT)
        served.log_line('stopping: SIGINT')
        served.signal(signal.SIGTERM)
        assert 1 == served.wait()
        assert 'stopped at once: SIGTERM came again' in served.stderr

    def test_a_session_on_a_unix_socket(self, served, connect, tmp_path):
        address = served.addresses(3)[0]
        client = connect(address)
        assert [os.getuid(), os.getpid()] == client.values('box.session.peer_uid(), box.session.peer_pid()')
        assert [[os.getuid(), os.getpid()]] == client.value(
            'local found = {} for _, s in ipairs(box.session.list{peer_pid = box.session.peer_pid()}) do '
            'found[#found + 1] = {s.peer_uid, s.peer_pid} end return found')
        who = f'session 1 (admin from unix/:(socket), uid {os.getuid()}, pid {os.getpid()})'
        assert served.log_line(' began: ').endswith(f'INFO [1] {who} began: console {address}')
        client.end()
        line = served.log_line(' ended: ')
        assert re.search(re.escape(f'INFO [1] {who} ended: the client left; console {address}, ')
                         + r'\d+\.\d s, 2 statements$', line)

    def test_a_session_over_tcp(self, served, connect):
        client = connect(served.addresses(3)[1])
        assert [None, None] == client.values('box.session.peer_uid(), box.session.peer_pid(box.session.id())')
        assert client.value('box.session.list()[1].peer_pid == nil') is True
        assert [] == client.value('box.session.list{peer_uid = 0}')
        assert 'session.peer_uid(): session does not exist' == client.error('box.session.peer_uid(77)')
        peer = client.value('box.session.peer()')
        assert f'session 1 (admin from {peer}) began: ' in served.log_line(' began: ')
        served.signal(signal.SIGTERM)
        served.wait()
        assert f'session 1 (admin from {peer}) ended: the server stopped; ' in served.stderr

    def test_refused_clients(self, served, connect, tmp_path):
        first, second, third = served.addresses(3)
        process = f'unix/:(socket), uid {os.getuid()}, pid {os.getpid()}'
        connect(third, greeting=False).read_to_end()
        assert f'refused {process} at {third}: uid {os.getuid()} may not connect here' in served.log_line('refused ')
        client = connect(second)
        client.reply('box.cfg{limits = {sessions = 1}}')
        connect(first, greeting=False).read_to_end()
        assert f'refused a session of {process} at {first}: 1 are open (limits.sessions)' in served.log_line('refused a')

    def test_logins_rights_and_settings(self, served, connect):
        admin, ann = (connect(served.addresses(3)[1]) for _ in range(2))
        who, other = (f'session {number} (admin from {client.value("box.session.peer()")})'
                      for number, client in ((1, admin), (2, ann)))
        admin.reply("box.schema.user.grant('ann', 'read,write', 'universe', nil, {if_not_exists = true})")
        assert served.log_line('user.grant').endswith(
            f"box.schema.user.grant('ann', 'read,write', 'universe', nil, {{if_not_exists = true}}) by {who}")
        admin.reply("box.schema.user.create('bob', {password = 'geheim'})")
        assert served.log_line('user.create', 2).endswith(f"box.schema.user.create('bob') by {who}")
        assert served.log_line("create('ann')").endswith("box.schema.user.create('ann') by the init script")
        admin.reply('box.cfg{limits = {slice_ms = 9}}')
        assert served.log_line('slice_ms').endswith(f'limits.slice_ms is set to 9 by {who}; it was 2')
        ann.reply('\\login ann wrong')
        assert served.log_line('failed to').endswith(f"{other} failed to log in as 'ann'")
        ann.reply('\\login ann geheim')
        assert served.log_line('changed its').endswith(f'{other} changed its user from admin to ann (login)')
        ann.send('require("fiber").sleep(100)\n')
        wait_for_state(admin, 2, 'running')
        admin.reply('box.session.cancel(2)')
        other = other.replace('admin', 'ann')
        assert served.log_line('is cancelled').endswith(f'the statement of {other} is cancelled by {who}')
        admin.reply('box.session.kill(2)')
        assert served.log_line('is killed').endswith(f'{other} is killed by {who}')
        assert f'{other} ended: the session was killed by session 1; ' in served.log_line(' ended: ')
        assert 'geheim' not in served.stderr

    def test_a_reload(self, served, tmp_path):
        served.addresses(3)
        self.write(tmp_path, mode='0660', slice_ms=7)
        served.signal(signal.SIGHUP)
        served.log_line('reloaded: ')
        for text in ('limits.slice_ms is set to 7 by a reload; it was 2',
                     f'listen unix:{tmp_path}/a: mode is set to 0660 by a reload; it was 0600'):
            assert f'INFO [0] {text}\n' in served.stderr

    def test_a_start_that_fails_is_in_the_log_file(self, serve, tmp_path):
        (tmp_path / 'c.yml').write_text('listen: [{address: "127.0.0.1:0", user: bob}]\nlog: {file: x.log}\n')
        assert 1 == serve('-c', 'c.yml').wait()
        assert "ERROR [0] cannot start: 127.0.0.1:0: there is no user 'bob'" in (tmp_path / 'x.log').read_text()

    def test_files_that_cannot_be_opened_again(self, serve, connect, tmp_path):
        (tmp_path / 'c.yml').write_text(
            'listen: ["127.0.0.1:0"]\nlog: {file: x.log}\naudit: {file: audit, required: true}\n')
        served = serve('-c', 'c.yml')
        client = connect(served.addresses()[0])
        for name in ('x.log', 'audit'):
            (tmp_path / name).rename(tmp_path / f'{name}.1')
            (tmp_path / name).mkdir()
        served.signal(signal.SIGUSR1)
        lines = lines_with(tmp_path / 'x.log.1', 'audit: Is a directory. The old file stays in use')
        assert [line for line in lines if f'log.file {tmp_path}/x.log cannot be reopened: Is a directory' in line]
        assert 2 == client.value('1 + 1')
        events = [json.loads(line) for line in (tmp_path / 'audit.1').read_text().splitlines()]
        assert ['start', 'audit', 'statement'] == [event['event'] for event in events]
        assert 'audit cannot be reopened: Is a directory; this file stays in use' == events[1]['message']

    def test_as_json_it_has_the_client(self, serve, connect, tmp_path):
        (tmp_path / 'c.yml').write_text(f'listen: ["unix:{tmp_path}/a"]\nlog: {{format: json}}\naudit: {{file: audit}}\n')
        served = serve('-c', 'c.yml')
        connect(served.addresses()[0]).reply('1')
        line = json.loads(served.log_line(' began: '))
        process = {'peer_uid': os.getuid(), 'peer_pid': os.getpid()}
        assert {'session': 1, 'user': 'admin', 'peer': 'unix/:(socket)', **process}.items() <= line.items()
        assert process.items() <= json.loads((tmp_path / 'audit').read_text().splitlines()[0]).items()


def wait_for_state(client, number, state):
    """Waits until a session has a state, as `client` sees it."""
    wait_for(lambda: client.value(f"#box.session.list{{id = {number}, state = '{state}'}} > 0"))


class TestJournal:
    """If standard error is the journal (known by its inode), lines begin with their priority."""

    @pytest.fixture
    def journal(self, serve, tmp_path):
        def start(**log):
            config(tmp_path, **log)
            program = tmp_path / 'journal.py'
            program.write_text('''
import os, sys
found = os.fstat(2)
os.environ['JOURNAL_STREAM'] = f'{found.st_dev}:{found.st_ino}'
os.execv(sys.executable, [sys.executable, '-m', 'boxsession', 'serve', '-c', 'c.yml'])
''')
            return serve(program=str(program))
        return start

    def test_as_text(self, journal, connect):
        served = journal()
        client = connect(served.addresses()[0])
        client.reply("local log = require('log') log.error('bad') log.warn('odd') log.info('fine')")
        served.log_line('fine')
        lines = served.stderr.splitlines()
        assert ['<3>[1] bad', '<4>[1] odd', '<6>[1] fine'] == [line for line in lines if line[-3:] in ('bad', 'odd', 'ine')]
        # The ready lines are for scripts, and as ever.
        assert any(line.startswith('listening: console ') for line in lines)

    def test_as_json(self, journal, connect):
        served = journal(format='json')
        connect(served.addresses()[0]).reply("require('log').warn('odd')")
        line = served.log_line('odd')
        assert line.startswith('<4>{') and 'odd' == json.loads(line[3:])['message']

    def test_each_line_of_a_long_message(self):
        import sys

        from boxsession.operations.logs import _formatter
        try:
            raise ValueError('first\nsecond')
        except ValueError:
            record = logging.LogRecord('boxsession', logging.ERROR, '', 0, 'failed', (), sys.exc_info())
        record.session = 7
        lines = _formatter('text', True).format(record).splitlines()
        assert '<3>[7] failed' == lines[0]
        assert all(line.startswith('<3>') for line in lines) and '<3>    second' in lines

    def test_another_stream_has_no_priorities(self, serve, connect, tmp_path):
        config(tmp_path)
        served = serve('-c', 'c.yml', environment={'JOURNAL_STREAM': '1:1'})
        connect(served.addresses()[0]).reply("require('log').warn('odd')")
        assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING \[1\] odd', served.log_line('odd'))


class TestRotation:
    def test_no_line_is_lost(self, serve, connect, tmp_path):
        path, old = tmp_path / 'x.log', tmp_path / 'x.log.1'
        config(tmp_path, file=str(path))
        served = serve('-c', 'c.yml')
        client = connect(served.addresses()[0])
        client.send('for i = 1, 300 do print("line " .. i) require("fiber").sleep(0.001) end print("last")\n')
        lines_with(path, 'line 50')
        path.rename(old)
        lines_with(old, 'line 100')               # until the signal, lines go to the file that was renamed
        served.signal(signal.SIGHUP)
        lines_with(path, 'last')
        text = old.read_text() + path.read_text()
        assert [str(i) for i in range(1, 301)] == re.findall(r'line (\d+)', text)

    def test_a_folder_that_has_gone(self, serve, connect, tmp_path):
        (tmp_path / 'logs').mkdir()
        config(tmp_path, file=str(tmp_path / 'logs' / 'x.log'))
        served = serve('-c', 'c.yml')
        client = connect(served.addresses()[0])
        shutil.rmtree(tmp_path / 'logs')
        served.signal(signal.SIGHUP)
        assert 'x.log cannot be reopened, the old file stays in use: No such file' in served.log_line('reopened')
        assert None is client.values('print(1)')
        (tmp_path / 'logs').mkdir()
        served.signal(signal.SIGHUP)
        lines_with(tmp_path / 'logs' / 'x.log', 'reloaded')

    def test_a_full_disk_hurts_nobody_and_is_told_once(self, serve, connect, tmp_path):
        config(tmp_path, file='/dev/full')
        served = serve('-c', 'c.yml')
        client = connect(served.addresses()[0])
        for _ in range(3):
            assert None is client.values('print(1)')
        assert 'boxsession: log.file /dev/full cannot be written: No space left on device' == served.log_line('log.file')
        assert 1 == served.stderr.count('No space') and 'Traceback' not in served.stderr

    @need('logrotate')
    def test_with_logrotate(self, serve, connect, tmp_path):
        path, audit = tmp_path / 'boxsession.log', tmp_path / 'audit.jsonl'
        (tmp_path / 'c.yml').write_text(json.dumps({'listen': ['127.0.0.1:0'], 'log': {'file': str(path)},
                                                    'audit': {'file': str(audit)}}))
        served = serve('-c', 'c.yml')
        client = connect(served.addresses()[0])
        client.reply('print("before")')
        os.chmod(tmp_path, 0o755)
        # The shipped recipe, with a signal to the process in place of systemctl.
        recipe = (PROJECT / 'conf' / 'boxsession.logrotate').read_text()
        assert 'systemctl kill' in recipe
        recipe = re.sub('systemctl kill .*', f'kill -USR1 {served.process.pid}', recipe)
        recipe = re.sub(r'^(/\S+ ?)+ \{$', f'{path} {audit} {{', recipe, flags=re.MULTILINE)
        (tmp_path / 'recipe').write_text(recipe)
        os.chmod(tmp_path / 'recipe', 0o644)
        told = subprocess.run(['logrotate', '--force', '--state', str(tmp_path / 'state'), str(tmp_path / 'recipe')],
                              capture_output=True, text=True)
        assert (0, '') == (told.returncode, told.stderr)
        lines_with(path, '')
        client.reply('print("after")')
        lines_with(path, 'after')
        assert 'reloaded' not in path.read_text()
        [old] = [found for found in tmp_path.glob('boxsession.log[.-]*')]
        assert 'before' in old.read_text() and 'after' not in old.read_text()
        assert 'before' not in audit.read_text() and 'after' in audit.read_text()


class TestFolding:
    """Lines that clients cause again and again are folded into a few lines with a count."""

    @pytest.fixture(autouse=True)
    def short_window(self, monkeypatch):
        monkeypatch.setattr('boxsession.operations.logs._WINDOW_SECONDS', 0.5)

    @pytest.fixture
    def written(self, tmp_path):
        """The log as a daemon writes it, in this process."""
        from boxsession.operations import logs
        logger = logging.getLogger('boxsession')
        before = list(logger.handlers), logger.propagate, logger.level
        path = tmp_path / 'x.log'

        def start(format_name='json'):
            logs.use(logs.open_handler(str(path)), 'info', format_name)
            return path
        yield start
        for handler in logs.our_handlers():
            logger.removeHandler(handler)
            handler.close()
        logger.propagate = before[1]
        logger.setLevel(before[2])
        for handler in before[0]:
            logger.addHandler(handler)

    @staticmethod
    def told(lines, text):
        """(how often a message was logged in all, number of lines with it)."""
        found = [json.loads(line) for line in lines if text in line]
        return sum(line.get('repeated', 1) for line in found), len(found)

    @pytest.mark.parametrize('line, text', [
        ("box.session.su('ann')", 'changed its user from ann to ann'),
        ("box.schema.user.passwd('y') box.schema.user.passwd('x')", 'box.schema.user.passwd'),
        ('\\\\nonsense', None)])
    def test_own_statements(self, written, console, connect, line, text):
        path = written()
        served = console()
        client = connect(served)
        client.reply("box.schema.user.create('ann', {password = 'x'})")
        client.reply('\\login ann x')
        client.send((line + '\n') * 1000)
        for _ in range(1000):
            client.document()
        if text is None:
            assert path.stat().st_size < 5000
            return
        # The count comes though nothing else is logged.
        lines_with(path, 'repeated')
        wait_for(lambda: self.told(path.read_text().splitlines(), text)[0] >= 1000)
        assert self.told(path.read_text().splitlines(), text)[1] < 300 and path.stat().st_size < 100000

    def test_connections(self, written, console, connect):
        path = written()
        made = console(listen=[{'address': '127.0.0.1:0', 'user': 'guest'}], limits={'sessions': 1})
        address = made.addresses[0]
        connect(address)
        for _ in range(200):
            gevent.socket.create_connection((address.host, address.port)).close()
        lines = lines_with(path, 'repeated')
        assert 1 <= self.told(lines, 'refused a session')[1] < 100

    def test_the_count_is_told_at_the_end(self, written, console, connect):
        from boxsession.operations import logs
        path = written('text')
        client = connect(console())
        client.send("box.session.su('admin')\n" * 100)
        for _ in range(100):
            client.document()
        [handler] = logs.our_handlers()
        handler.close()
        assert re.search(r'INFO \[1\] \.\.\. repeated \d+ times in [0-9.]+ s, at last: session 1 \(admin from 127[0-9.:]+'
                         r'\) changed its user from admin to admin \(su\)\n', path.read_text())

    def test_many_origins_take_bounded_memory(self):
        from boxsession.operations.logs import _APART_MAX, Folding
        kept = []
        handler = logging.Handler()
        handler.emit = kept.append
        folding = Folding(handler)
        handler.addFilter(folding)
        for number in range(5000):
            handler.handle(logging.makeLogRecord({'name': 'boxsession', 'msg': 'refused %s', 'args': (number,),
                                                  'origin': str(number)}))
        assert len(folding._seen) <= _APART_MAX + 1
        folding.close()
        assert 5000 == sum(getattr(record, 'repeated', 1) for record in kept) and len(kept) < 1100

    def test_lines_of_the_server_and_of_scripts_are_whole(self, written, console, connect):
        path = written()
        client = connect(console())
        client.reply('for i = 1, 100 do print("the same") end')
        for number in range(100):
            logging.getLogger('boxsession').info('reloaded: %d', number)
        lines = lines_with(path, 'reloaded: 99')
        assert (100, 100) == self.told(lines, 'the same') == self.told(lines, 'reloaded')


@pytest.mark.parametrize('statement', [
    'error("a\\n2026-01-01 INFO [0] forged")', "require('log').info('a\\n2026 forged\\r\\27[2J')",
    "require('fiber').create(function() error('a\\n2026 forged') end)", "box.session.name('a\\n2026 forged')",
    "box.session.su('a\\n2026 forged')", "\\login a\v2026_forged x", "require('console').listen('unix:a\\n2026 forged')",
    "require('console').connect('unix:a\\n2026 forged')", "box.schema.user.create('a\\n2026 forged')",
    "box.schema.func.create('a\\n2026 forged')", "box.session.on_disconnect(function() error('a\\n2026 forged') end)",
    "box.cfg{metrics = {address = 'a\\n2026 forged'}}", "print('a\\xe2\\x80\\xa82026 forged')"])
def test_no_line_is_forged(serve, connect, tmp_path, statement):
    config(tmp_path, file=str(tmp_path / 'x.log'))
    served = serve('-c', 'c.yml')
    client = connect(served.addresses()[0])
    client.reply(statement)
    client.reply('print("last")')
    client.close()
    lines_with(tmp_path / 'x.log', 'disconnected')
    text = (tmp_path / 'x.log').read_text()
    assert not [line for line in re.split('[\n\r\x0b\x0c\x85\u2028\u2029]', text) if line.startswith('2026 forged')
                or line and not re.match(r'\d{4}-\d\d-\d\dT', line)]
    assert '\x1b' not in text and not [line for line in served.stderr.splitlines() if line.startswith('2026 forged')]


def test_an_error_of_a_fiber_or_trigger_tells_no_password(serve, connect, tmp_path):
    config(tmp_path, file=str(tmp_path / 'x.log'))
    client = connect(serve('-c', 'c.yml').addresses()[0])
    client.reply("require('fiber').create(function() local c = 'u:geheim@host' error('no ' .. c) end)")
    client.reply("pw = 'geheim' require('fiber').create(function() error() + 1 end)")
    client.reply("require('fiber').create(function() box.schema.user.passwd('ann', 'geheim') local x = nil + 1 end)")
    lines = lines_with(tmp_path / 'x.log', 'raised')
    client.reply('print("last")')
    assert lines and 'geheim' not in (tmp_path / 'x.log').read_text()
