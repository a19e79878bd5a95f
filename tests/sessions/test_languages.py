"""A second language of statements: it is added by one line in a table, and sessions switch to it."""
from __future__ import annotations

import json

import pytest
from waiting import asleep, wait_for

from boxsession import running
from boxsession.sessions import registry


class Shouting:
    """A language whose replies repeat the statement."""

    def __init__(self, own, session):
        self._session = session
        self._error = b''

    def statement(self, text, may_continue=False):
        if text.endswith(b'...') and may_continue:
            return b''
        self._error = b'do not whisper' if text.islower() else b''
        if self._error:
            return b'---\n- error: %s\n...\n' % self._error
        return b'---\n- "%s, says %d"\n...\n' % (text.replace(b'\n', b' '), self._session.id)

    def is_incomplete(self, text):
        return text.endswith(b'...')

    def is_wrong(self, text):
        return False

    def is_blank(self, text):
        return not text.strip()

    def is_doubtful(self, text, reply):
        return False

    def last_error(self):
        return self._error


@pytest.fixture
def shouting(monkeypatch):
    monkeypatch.setitem(running.LANGUAGES, 'shouting', Shouting)


def test_there_is_lua_alone(console, connect):
    client = connect(console())
    assert client.value('\\set language') == {'language': 'lua'}
    assert client.value('\\set language lua') is True
    assert b'Invalid language "python", supported languages: lua.' in client.reply('\\set language python')


def test_statements_are_in_it_and_commands_stay(console, connect, shouting):
    served = console()
    client, other = connect(served), connect(served)
    client.reply('x = 41')
    assert client.value('\\set language shouting') is True
    assert client.value('\\set language') == {'language': 'shouting'}
    assert client.value('HELLO') == 'HELLO, says 1'
    assert client.value('HELLO...\nTHERE') == 'HELLO... THERE, says 1'
    assert b'supported languages: lua, shouting.' in client.reply('\\set language python')
    assert b'connected_s' in client.reply('\\sessions')
    assert other.value('x + 1') == 42
    assert client.value('\\set lang lua') is True
    assert client.value('x + 1') == 42


def test_a_session_that_sleeps_keeps_it(console, connect, shouting, monkeypatch):
    monkeypatch.setattr(registry, '_SLEEP_SECONDS', 0)
    monkeypatch.setattr(registry, '_IDLE_LOOK_SECONDS', 0.02)
    served = console()
    client = connect(served)
    client.reply('\\set language shouting')
    wait_for(lambda: asleep(served))
    assert client.value('HELLO') == 'HELLO, says 1'


def test_secrets_are_those_of_each_language_that_the_session_has_spoken(console, connect, shouting, tmp_path):
    client = connect(console(audit={'file': str(tmp_path / 'audit.jsonl')}))
    client.reply("x = {'password' : b'kept'}")                      # wrong in Lua
    client.reply('\\set language shouting')
    client.reply("x = {'password' : b'geheim'}")
    client.reply('\\set language lua')
    client.reply("password --[[x]] = 'geheim'")
    client.reply("x = {'password' : b'geheim'}")
    text = (tmp_path / 'audit.jsonl').read_text()
    assert 'geheim' not in text and 'kept' in text


def test_a_list_and_an_error_show_no_secret_of_it(console, connect, monkeypatch, tmp_path):
    class Telling(Shouting):
        def statement(self, text, may_continue=False):
            listed = [running_console.registry.of_id(self._session.id).describe()['statement']]
            self._error = b'no geheim'
            return b'---\n- "%s"\n...\n' % listed[0].replace('"', '').encode()

    monkeypatch.setitem(running.LANGUAGES, 'telling', Telling)
    served = console(audit={'file': str(tmp_path / 'audit.jsonl')})
    running_console = served._running
    client = connect(served)
    client.reply('\\set language telling')
    assert client.value("x = {'password' : b'geheim'}") == "x = {'password' : b'***'}"
    assert 'geheim' not in (tmp_path / 'audit.jsonl').read_text()


def test_it_is_recorded(console, connect, shouting, tmp_path):
    client = connect(console(audit={'file': str(tmp_path / 'audit.jsonl')}))
    client.reply('\\set language shouting')
    client.reply('HELLO')
    client.reply('hello')
    records = [json.loads(line) for line in (tmp_path / 'audit.jsonl').read_text().splitlines()]
    assert [('HELLO', True, None), ('hello', False, 'do not whisper')] == [
        (record['statement'], record['ok'], record['error']) for record in records[-2:]]
