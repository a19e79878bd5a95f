"""The audit file: who did what, told before the answer leaves, and no password in it."""
from __future__ import annotations

import json
import os
import re
import signal

import gevent
import pytest

from boxsession.audit import Audit, redacted

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
    assert ['admin'] * 7 + ['ann'] * 3 == [entry['user'] for entry in found]
    assert ('user.create', 'ann') == (found[1]['operation'], found[1]['name'])
    assert [('access', 'admin'), ('statement', 'admin'), ('statement', 'admin'), ('statement', 'ann'), ('login', 'ann'),
            ('statement', 'ann'),
            ('login', 'ann'), ('statement', 'ann'), ('statement', 'ann')] == [
        (entry['event'], entry['effective_user']) for entry in found[1:]]
    assert [False, True] == [entry['ok'] for entry in found if entry['event'] == 'login']


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
    with gevent.Timeout(10):
        while len(served.sessions) > 1:
            gevent.sleep(0.01)
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
    with gevent.Timeout(10):
        while len(served.sessions):
            gevent.sleep(0.01)
    [entry] = [entry for entry in entries(path) if entry['event'] == 'statement']
    assert not entry['ok'] and entry['error'].startswith(('ConnectionResetError', 'BrokenPipeError'))


def test_it_is_opened_anew_on_sighup(serve, connect, tmp_path, path):
    (tmp_path / 'config.yml').write_text(f'audit: {{file: {path}}}\nlisten: ["127.0.0.1:0"]\n')
    served = serve('-c', 'config.yml')
    client = connect(served.addresses()[0])
    client.reply('1')
    assert 0o600 == path.stat().st_mode & 0o777
    old = path.rename(tmp_path / 'old')
    client.reply('2')
    served.signal(signal.SIGHUP)
    with gevent.Timeout(10):
        while not path.exists():
            gevent.sleep(0.01)
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
        # What had begun when it failed has run; nothing does from then on.
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


@pytest.mark.parametrize('statement', ['1 + 1', "box.schema.user.grant('ann', 'execute', 'universe')", 'box.info.access'])
def test_what_is_kept(statement):
    assert statement == redacted(statement.encode())


@pytest.mark.parametrize('statement', [
    "box.schema.user.create('ann', {password = 'x'})", "box.schema.user.create('ann', {Password='x'})",
    'box.schema.user.passwd("a\\"b", [==[x]]]==])', "box.schema.user.passwd('x",
    "-- don't tell\nbox.schema.user.passwd('x')",
    '\\login ann x y', '  \\login ann x', '\\ login ann x', '\\\\login ann x', '\\LOGIN ann x', '\\login x',
    "c.connect('ann:x@host:1')"])
def test_what_is_not(statement):
    assert '*** (it may hold a password)' == redacted(statement.encode())


def test_nothing_is_written_where_nothing_is_asked_for():
    audit = Audit(None)
    assert not audit.is_on and not audit.refuses
    audit.reopen()
    audit.close()
