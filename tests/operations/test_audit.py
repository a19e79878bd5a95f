"""The audit file: each entry is written before the reply is sent, and holds no password."""
from __future__ import annotations

import json
import os
import re
import signal

import pytest
from conftest import BINARY, TEXT
from iproto_client import CALL, EVAL
from waiting import running, wait_for

from boxsession.operations.audit import Audit

COMMON = {'time', 'boot', 'event', 'session', 'user', 'effective_user', 'peer', 'listener'}


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'audit.jsonl'


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_session_from_its_start_to_its_end(console, connect, path):
    served = console(audit={'file': str(path)})
    client = connect(served)
    client.reply('1 + 1')
    # The entry is there before the answer is.
    assert ['start', 'statement'] == [entry['event'] for entry in entries(path)]
    client.reply("error('no\\nway')")
    client.reply('error({})')
    client.reply('x y')
    client.send('for i = 1, 2 do\nend\n')
    client.document()
    client.send('\\quit\n')
    client.read_to_end()
    found = entries(path)
    assert all(set(entry) >= COMMON for entry in found)
    assert 1 == len({entry['boot'] for entry in found})
    assert all(re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z', entry['time']) for entry in found)
    statements = [entry for entry in found if entry['event'] == 'statement']
    assert [('1 + 1', True, None), ("error('no\\nway')", False, 'no\nway'),
            ('error({})', False, 'an error object'),
            ('x y', False, '[string "x y"]:1: \'=\' expected near \'y\''),
            ('for i = 1, 2 do\nend', True, None), ('\\quit', True, None)] == [
        (entry['statement'], entry['ok'], entry['error']) for entry in statements]
    assert all(0 <= entry['milliseconds'] < 10000 for entry in statements)
    assert 'end' == found[-1]['event'] and found[-1]['reason'] == 'the client left'


def test_who_it_was(console, connect, path):
    client = connect(console(audit={'file': str(path)}))
    client.reply("box.schema.user.create('ann', {password = 'x'})")
    client.reply("box.session.su('ann')")
    client.reply('1')
    client.reply('\\login ann y')
    client.reply('\\login ann x')
    client.reply('2')
    found = entries(path)
    assert ['admin'] * 8 + ['ann'] * 3 == [entry['user'] for entry in found]
    assert ('user.create', 'ann') == (found[1]['operation'], found[1]['name'])
    assert [('access', 'admin'), ('statement', 'admin'), ('su', 'ann'), ('statement', 'admin'), ('statement', 'ann'),
            ('login', 'ann'),
            ('statement', 'ann'),
            ('login', 'ann'), ('statement', 'ann'), ('statement', 'ann')] == [
        (entry['event'], entry['effective_user']) for entry in found[1:]]
    assert [False, True] == [entry['ok'] for entry in found if entry['event'] == 'login']


def test_what_is_under_way_when_it_begins(console, connect, connect_binary, path):
    begun = console(listen=[TEXT, BINARY])
    client, other = connect(begun.addresses[0]), connect(begun.addresses[0])
    binary, later = connect_binary(begun), connect_binary(begun)
    client.reply("fiber = require('fiber') box.schema.user.create('ann', {password = 'x'})")
    client.send("fiber.sleep(1000, {password = 'Tr0ub4dor'})\n1\n")
    binary.send(EVAL, {0x27: 'fiber.sleep(...)', 0x21: [1000]})
    binary.send(CALL, {0x22: 'fiber.sleep', 0x21: [1000]})
    later.send(EVAL, {0x27: "return require('console').eval(...)", 0x21: ['fiber.sleep(1000) return 2']})
    wait_for(lambda: sum(len(connection._asked_for()) for connection in begun.connections()) == 4)
    assert not path.exists()
    for _ in range(2):
        begun.reload({'audit': {'file': str(path)}, 'limits': {'drain_seconds': 0.2}})
    found = entries(path)
    assert all(set(entry) >= COMMON and entry['event'] == 'running' for entry in found)
    told = {entry['statement']: entry for entry in found}
    assert {"fiber.sleep(1000, {password = *** })", 'fiber.sleep(...)', 'fiber.sleep', 'fiber.sleep(1000) return 2'} == {
        re.sub(r"'\*\*\* [^']*'", '*** ', statement) for statement in told}
    assert ('eval', '1000') == (told['fiber.sleep(...)']['kind'], told['fiber.sleep(...)']['arguments'])
    assert 'call' == told['fiber.sleep']['kind'] and 'console.eval' == told['fiber.sleep(1000) return 2']['kind']
    assert len(found) == 4
    wake = "for id in pairs(fiber.info()) do if id ~= fiber.id() then pcall(fiber.wakeup, id) end end"
    other.reply(wake)
    client.document()
    client.document()
    later.receive()
    # A statement that began before the file was opened has no second entry.
    assert ['1', wake] == sorted(entry['statement'] for entry in entries(path)[4:])


def test_what_is_under_way_when_it_ends(console, connect, path):
    served = console(audit={'file': str(path)})
    admin, client = connect(served), connect(served)
    client.send("require('fiber').sleep(1000, {password = 'Tr0ub4dor'})\n")
    wait_for(lambda: running(served))
    served.reload({'limits': {'drain_seconds': 0.2}})
    admin.reply('2')
    [*_, last] = entries(path)
    assert ('running', 2) == (last['event'], last['session'])
    assert 'fiber' in last['statement'] and 'Tr0ub4dor' not in path.read_text()


def test_how_a_session_ends(console, connect, path):
    served = console(audit={'file': str(path)})
    admin = connect(served)
    admin.reply("box.session.on_connect(function() if box.session.id() == 3 then error('go away') end end)")
    for how in ('kill', 'refuse', 'reset'):
        client = connect(served, greeting=how != 'refuse')
        if how == 'kill':
            admin.reply('box.session.kill(2)')
        elif how == 'reset':
            client.send('1\n')
            client.document()
            client.reset()
    wait_for(lambda: len(served.sessions) == 1)
    reasons = {entry['session']: entry['reason'] for entry in entries(path) if entry['event'] == 'end'}
    assert {2: 'the session was killed by session 1', 3: 'refused by on_connect',
            4: 'connection lost: [Errno 104] Connection reset by peer'} == reasons


def test_one_line_for_whatever_is_sent(console, connect, path):
    client = connect(console(audit={'file': str(path)}))
    client.reply(b"return '\xe9\x00\x85'\n")
    client.reply('return "\u2028\\n{"'.encode() + b'\n')
    assert [r"return '\xe9" + "\x00" + r"\x85'", 'return "\u2028\\n{"'] == [
        entry['statement'] for entry in entries(path)[1:]]


def test_what_failed_on_its_way_is_recorded(console, connect, path):
    served = console(audit={'file': str(path)})
    client = connect(served)
    client.send("for i = 1, 400 do box.session.push(('a'):rep(1e6)) end\n")
    client.read(100)
    client.reset()
    wait_for(lambda: not served.sessions)
    [entry] = [entry for entry in entries(path) if entry['event'] == 'statement']
    # The loss is found by the write, or by the watcher of the socket, which cancels.
    assert not entry['ok']
    assert entry['error'].startswith(('ConnectionResetError', 'BrokenPipeError', 'the statement was cancelled'))


def test_it_is_opened_anew_on_sighup(serve, connect, tmp_path, path):
    (tmp_path / 'config.yml').write_text(f'audit: {{file: {path}}}\nlisten: ["127.0.0.1:0"]\n')
    served = serve('-c', 'config.yml')
    client = connect(served.addresses()[0])
    client.reply('1')
    assert 0o600 == path.stat().st_mode & 0o777
    old = path.rename(tmp_path / 'old')
    client.reply('2')
    served.signal(signal.SIGHUP)
    wait_for(lambda: path.exists())
    client.reply('3')
    assert ['1', '2'] == [entry['statement'] for entry in entries(old) if entry['event'] == 'statement']
    assert ['3'] == [entry['statement'] for entry in entries(path)]


def full(monkeypatch):
    write = os.write

    def fail(fd, data):
        if data.startswith(b'{"time"') or data.startswith(b'{"event"'):
            raise OSError(28, 'No space left on device')
        return write(fd, data)
    patch = pytest.MonkeyPatch()
    patch.setattr(os, 'write', fail)
    return patch


@pytest.mark.parametrize('required', [True, False])
def test_where_it_cannot_be_written(console, connect, path, monkeypatch, caplog, required):
    served = console(audit={'file': str(path), 'required': required})
    client = connect(served)
    client.reply('n = 0')
    patch = full(monkeypatch)
    try:
        replies = [client.value('n') if not required else client.error('n = n + 1') for _ in range(3)]
    finally:
        patch.undo()
    if required:
        # The statement that had begun when writing failed has run. No later one runs.
        assert ['the statement ran, but the audit file cannot be written (audit.required)',
                *['the audit file cannot be written: no statement is run until it can (audit.required)'] * 2] == replies
        assert 1 == client.value('n')
    else:
        assert [0, 0, 0] == replies
        client.value('n')
    assert 1 == caplog.text.count('No space left on device')
    assert 'can be written again' in caplog.text


def test_a_place_that_is_none(serve, tmp_path):
    (tmp_path / 'config.yml').write_text('audit: {file: /nosuch/audit}\nlisten: ["127.0.0.1:0"]\n')
    served = serve('-c', 'config.yml')
    assert 1 == served.wait()
    assert 'boxsession: cannot open audit.file /nosuch/audit: No such file or directory\n' == served.stderr


def test_nothing_is_written_where_nothing_is_asked_for():
    audit = Audit(None)
    assert not audit.is_on and not audit.refuses
    audit.reopen()
    audit.close()


@pytest.fixture
def both(console, path):
    """A console with a text and a binary listener for admin, and an audit file."""
    return console(listen=[{'address': '127.0.0.1:0', 'user': 'admin'}, BINARY], audit={'file': str(path)})


def statements(path):
    return [entry for entry in entries(path) if entry['event'] == 'statement']


class TestRequests:
    @pytest.fixture
    def client(self, both, connect_binary):
        return connect_binary(both)

    def test_arguments_are_recorded(self, client, path):
        client.eval('return ...', 'a"b', 1, [True, None, {'k': 'v'}], {'password': 'geheim'}, b'\xff')
        client.call('box.schema.user.create', 'ann', {'password': 'geheim'})
        client.call('box.schema.user.passwd', 'ann', 'geheim')
        client.call('tostring', 'u:geheim@host')
        found = statements(path)
        assert '"a\\"b", 1, {true, null, {["k"] = "v"}}' == found[0]['arguments'].partition(', {["password"]')[0]
        assert ['eval', 'call', 'call', 'call'] == [entry['kind'] for entry in found]
        assert found[1]['arguments'].startswith('"ann"')
        assert 'geheim' not in path.read_text()

    def test_what_comes_by_connect_is_the_statement_and_its_end(self, client, path):
        for statement in ("error('no')", 'x y', '1 + 1', "box.schema.user.passwd('nobody', 'geheim')", "error({})"):
            client.eval("return require('console').eval(...)", statement)
        found = statements(path)
        assert ["error('no')", 'x y', '1 + 1'] == [entry['statement'] for entry in found[:3]]
        assert [False, False, True, False, False] == [entry['ok'] for entry in found]
        assert 'no' == found[0]['error'] and "expected near 'y'" in found[1]['error']
        assert {'console.eval'} == {entry['kind'] for entry in found}
        assert 'geheim' not in path.read_text()

    def test_the_error_is_of_this_request(self, client, path):
        client.eval("return require('console').eval(...)", "error('no')")
        client.eval("return require('console').eval(...)", '1')
        client.eval("return require('console').eval(...)")
        assert [False, True, True] == [entry['ok'] for entry in statements(path)]

    def test_a_long_one_is_bounded(self, client, path):
        client.eval('return 1 --' + 'x' * 500000)
        client.eval('return 1', 'y' * 500000)
        client.eval('return 1', ['y' * 9] * 50000)
        found = statements(path)
        assert all(len(json.dumps(entry)) < 140000 for entry in found)
        assert re.search(r'\.\.\. \(\d+ bytes, \w+\)$', found[0]['statement'])
        assert re.search(r'\.\.\. \(of \d+ bytes, \w+\)$', found[1]['arguments'])
        assert re.search(r'\.\.\. \(of \d+ bytes, \w+\)$', found[2]['arguments'])

    def test_what_cannot_be_a_request_is_recorded(self, client, path):
        client.ask(EVAL, {0x27: 'return 1', 0x21: [{None: 1}]})
        [entry] = statements(path)
        assert not entry['ok'] and entry['error'].startswith('Invalid MsgPack')


@pytest.mark.parametrize('line', [b':' * 60000, b'a:' * 30000 + b'@', b"password = '" + b"''" * 30000, b'(' * 60000 + b'pw',
                                  b"'@'.." * 12000])
def test_another_is_answered_while_a_hostile_line_is_recorded(both, connect, path, line):
    attacker, other = connect(both.addresses[0]), connect(both.addresses[0])
    attacker.send(line + b'\n')
    answered = 0
    while path.read_bytes().count(b'"event":"statement"') - answered < 1:
        other.value('1')
        answered += 1
    assert answered > 4


class TestWhatElse:
    def test_grants_beside_a_password(self, both, connect, path):
        client = connect(both.addresses[0])
        client.reply("box.schema.user.create('eve', {password = 'geheim'}) box.schema.user.grant('eve', 'super')")
        found = entries(path)
        assert [('user.create', 'eve', [{}]), ('user.grant', 'eve', ['super'])] == [
            (entry['operation'], entry['name'], entry['arguments']) for entry in found if entry['event'] == 'access']
        assert "box.schema.user.grant('eve', 'super')" in statements(path)[0]['statement']

    def test_who_stops_whom_and_changes_what(self, both, connect, path):
        client, other = connect(both.addresses[0]), connect(both.addresses[0])
        client.reply('box.session.cancel(2)')
        client.reply('\\kill 2')
        other.read_to_end()
        client.reply("l = require('console').listen('127.0.0.1:0')")
        client.reply('l:close()')
        client.reply("box.cfg{limits = {idle_seconds = 77}}")
        found = {(entry['event'], entry.get('operation')): entry for entry in entries(path)}
        assert 2 == found['cancel', None]['target'] == found['kill', None]['target']
        assert found['listener', 'open']['address'] == found['listener', 'close']['address']
        assert {'limits.idle_seconds': 77} == found['settings', None]['changes']

    def test_what_was_not_run(self, both, connect, path):
        client = connect(both.addresses[0])
        client.reply('local first')         # a long first line would end the session
        client.send(b'x' * 100000 + b'\n')
        client.document()
        client.send(b'local half\\')
        client.end()
        client.read_to_end()
        assert [('', 'not run: the statement is too long'),
                ('local half\\', 'not run: the input ended inside a statement, which was not run')] == [
            (entry['statement'], entry['error']) for entry in statements(path)[1:]]

    def test_another_consoles_answer(self, both, console, connect, path):
        elsewhere = console()
        client = connect(both.addresses[0])
        client.reply(f"require('console').connect('{elsewhere.addresses[0]}')")
        for statement in ('1', "error('no')", "box.schema.user.passwd('geheim')"):
            client.reply(statement)
        found = [entry for entry in statements(path) if 'remote' in entry]
        assert [True, False] == [entry['ok'] for entry in found[:2]] and 'no' in found[1]['error']
        assert 'geheim' not in path.read_text()

    def test_refused_while_the_file_cannot_be_written(self, console, connect, path, monkeypatch):
        served = console(audit={'file': str(path), 'required': True})
        client, elsewhere = connect(served), console()
        client.reply(f"require('console').connect('{elsewhere.addresses[0]}')")
        patch = full(monkeypatch)
        try:
            for _ in range(3):
                assert 'audit.required' in client.error('n = 1')
        finally:
            patch.undo()
        client.reply('1')
        [entry] = [entry for entry in entries(path) if entry['event'] == 'audit']
        assert entry['refused_statements'] >= 1
        assert 'n = 1' not in path.read_text() and CALL
