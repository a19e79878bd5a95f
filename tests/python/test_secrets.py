"""No secret of a statement in Python reaches a record, the log, a list or a kept traceback."""
from __future__ import annotations

import json

import pytest
from conftest import PYTHON
from waiting import wait_for

SECRET = 'geheim'


@pytest.fixture
def served(console, tmp_path):
    return console(listen=[{**PYTHON, 'languages': ['python', 'lua']}, {'address': f'unix:{tmp_path}/r.sock',
    'protocol': 'rescue'}],
                   audit={'file': str(tmp_path / 'audit.jsonl')})


def records(tmp_path):
    return [json.loads(line) for line in (tmp_path / 'audit.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('statement', [
    "dict(user='ann', password='geheim')['nosuch']", "d = {'password': b'geheim'}; d['user']",
    "box.lua(\"error('no')\") if (token := 'geheim') else 0",
    "(password := 'geheim') and 1/0",
    "int(*[password := 'geheim'])", "login = lambda user, password: {}[password]; login('ann', 'geheim')",
    "box.lua(\"return box.schema.user.passwd('nobody', 'geheim')\")", "password = 'geheim", "login 'ann' 'geheim'"])
def test_what_is_recorded_and_kept(served, connect, tmp_path, caplog, statement):
    client = connect(served)
    client.reply(statement)
    told = client.reply('\\traceback')
    client.close()
    wait_for(lambda: not served.sessions)
    found = [record for record in records(tmp_path) if record['event'] == 'statement']
    assert len(found) == 2 and '***' in found[0]['statement']
    assert SECRET not in json.dumps(found)
    assert SECRET.encode() not in told
    assert SECRET not in caplog.text


def test_a_running_statement(served, connect, tmp_path, caplog):
    client, other, rescue = connect(served), connect(served), connect(served.addresses[1])
    client.send("import gevent, time; password='geheim'; time.sleep(0.5); gevent.sleep(1000)\n")
    wait_for(lambda: 'is held' in caplog.text)
    assert "password='***'" in caplog.text
    wait_for(lambda: any(row['state'] == 'running' and row['id'] == 1 for row in rescue.value('\\sessions')))
    told = rescue.reply('\\sessions') + rescue.reply('\\where 1') + other.reply('\\sessions')
    told += other.reply('box.session.list()')
    assert told.count(b"password='***'") + told.count(b"password=''***''") == 4
    assert SECRET.encode() not in told
    assert SECRET not in caplog.text and SECRET not in (tmp_path / 'audit.jsonl').read_text()
