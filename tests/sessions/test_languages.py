"""The languages of statements: which a listener allows, which a session uses, and who may."""
from __future__ import annotations

import json
import os

import pytest
from waiting import asleep, wait_for

from boxsession import ConfigError, running
from boxsession.base.address import Address
from boxsession.sessions import registry
from boxsession.settings import table

DENIED = "Execute access to python '' is denied for user '{}'"


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

    def command_ran(self):
        pass

    def is_doubtful(self, text, reply):
        return False

    def last_error(self):
        return self._error


@pytest.fixture
def shouting(monkeypatch):
    """A third language. Gives a listener that allows it."""
    monkeypatch.setitem(running.LANGUAGES, 'shouting', Shouting)
    monkeypatch.setattr(table, 'LANGUAGES', (*table.LANGUAGES, 'shouting'))
    return {'address': '127.0.0.1:0', 'languages': ['lua', 'shouting']}


@pytest.fixture
def listener(tmp_path):
    """Makes a listener on a unix socket with these languages."""
    numbers = iter(range(9))
    return lambda *languages, **more: {'address': f'unix:{tmp_path}/{next(numbers)}.sock', 'languages': list(languages),
                                       **more}


@pytest.fixture
def fast_asleep(monkeypatch):
    monkeypatch.setattr(registry, '_SLEEP_SECONDS', 0)
    monkeypatch.setattr(registry, '_IDLE_LOOK_SECONDS', 0.02)


def language(client):
    return client.value('\\set language')['language']


# Another language ---------------------------------------------------------------------------------------------------

def test_there_is_lua_alone(console, connect):
    client = connect(console())
    assert client.value('\\set language') == {'language': 'lua'}
    assert client.value('\\set language lua') is True
    assert client.error('\\set language python') == 'Invalid language "python", supported languages: lua.'
    assert client.value('box.info.languages') == ['lua', 'python']


def test_statements_are_in_it_and_commands_stay(console, connect, shouting):
    served = console(listen=[shouting])
    client, other = connect(served), connect(served)
    client.reply('x = 41')
    assert client.value('\\set language shouting') is True
    assert client.value('\\set language') == {'language': 'shouting'}
    assert client.value('HELLO') == 'HELLO, says 1'
    assert client.value('HELLO...\nTHERE') == 'HELLO... THERE, says 1'
    assert b'supported languages: lua, shouting.' in client.reply('\\set language python')
    assert [shown['language'] for shown in client.value('\\sessions')] == ['shouting', 'lua']
    assert other.value('x + 1') == 42
    assert other.value("box.session.list({language = 'shouting'})")[0]['id'] == 1
    assert client.value('\\set lang lua') is True
    assert client.value('x + 1') == 42


def test_a_session_that_sleeps_keeps_it(console, connect, shouting, fast_asleep):
    served = console(listen=[shouting])
    client = connect(served)
    client.reply('\\set language shouting')
    wait_for(lambda: asleep(served))
    assert client.value('HELLO') == 'HELLO, says 1'


def test_secrets_are_those_of_each_language_that_the_session_has_spoken(console, connect, shouting, tmp_path):
    client = connect(console(listen=[shouting], audit={'file': str(tmp_path / 'audit.jsonl')}))
    client.reply("x = {'password' : b'kept'}")                      # wrong in Lua
    client.reply('\\set language shouting')
    client.reply("x = {'password' : b'geheim'}")
    client.reply('\\set language lua')
    client.reply("password --[[x]] = 'geheim'")
    client.reply("x = {'password' : b'geheim'}")
    text = (tmp_path / 'audit.jsonl').read_text()
    assert 'geheim' not in text and 'kept' in text


def test_a_list_and_an_error_show_no_secret_of_it(console, connect, shouting, monkeypatch, tmp_path):
    class Telling(Shouting):
        def statement(self, text, may_continue=False):
            listed = [running_console.registry.of_id(self._session.id).describe()['statement']]
            self._error = b'no geheim'
            return b'---\n- "%s"\n...\n' % listed[0].replace('"', '').encode()

    monkeypatch.setitem(running.LANGUAGES, 'shouting', Telling)
    served = console(listen=[shouting], audit={'file': str(tmp_path / 'audit.jsonl')})
    running_console = served._running
    client = connect(served)
    client.reply('\\set language shouting')
    assert client.value("x = {'password' : b'geheim'}") == "x = {'password' : b'***'}"
    assert 'geheim' not in (tmp_path / 'audit.jsonl').read_text()


def test_it_is_recorded(console, connect, shouting, tmp_path):
    client = connect(console(listen=[shouting], audit={'file': str(tmp_path / 'audit.jsonl')}))
    client.reply('\\set language shouting')
    client.reply('HELLO')
    client.reply('hello')
    records = [json.loads(line) for line in (tmp_path / 'audit.jsonl').read_text().splitlines()]
    assert [('HELLO', True, None), ('hello', False, 'do not whisper')] == [
        (record['statement'], record['ok'], record['error']) for record in records[-2:]]
    assert [record.get('language') for record in records[-3:]] == [None, 'shouting', 'shouting']


# The first language ---------------------------------------------------------------------------------------------------

def test_a_session_begins_in_the_first_language(console, connect, listener, fast_asleep):
    served = console(listen=[listener('python', 'lua')])
    client = connect(served)
    wait_for(lambda: asleep(served))
    assert client.value('2 ** 5') == 32
    assert language(client) == 'python'
    assert client.value('_ + 1') == 33
    assert client.value('\\set language lua') is True
    assert language(client) == 'lua'
    assert client.values('2 ^ 5, type(nil)') == [32, 'nil']
    assert client.value('\\set language python') is True
    assert client.value('2 ** 5') == 32


def test_python_alone(console, connect, listener):
    client = connect(console(listen=[listener('python')]))
    assert client.value('2 ** 5') == 32
    assert client.error('\\set language lua') == 'Invalid language "lua", supported languages: python.'


def test_a_user_who_may_not_use_it_begins_in_lua(console, connect, listener):
    served = console(listen=[listener('python', 'lua', user='guest')])
    client = connect(served)
    assert language(client) == 'lua'
    assert client.values('2 ^ 5, type(nil)') == [32, 'nil']
    assert client.error('\\set language python') == DENIED.format('guest')
    assert language(client) == 'lua'


def test_a_user_who_logs_in_begins_anew(console, connect, listener):
    script = "box.schema.user.create('ann', {password = 'p'}) box.schema.user.grant('ann', 'execute', 'python')"
    served = console(listen=[listener('python', 'lua', user='guest')], script=script)
    client = connect(served)
    assert client.value('\\login ann p') is True
    assert language(client) == 'python'
    assert client.value('2 ** 5') == 32
    chooser = connect(served)
    assert chooser.value('\\set language lua') is True
    assert chooser.value('\\login ann p') is True
    assert chooser.values('2 ^ 5, type(nil)') == [32, 'nil']


def test_where_only_python_is_allowed_guest_can_only_log_in(console, connect, listener):
    script = "box.schema.user.create('ann', {password = 'p'}) box.schema.user.grant('ann', 'execute', 'python')"
    client = connect(console(listen=[listener('python', user='guest')], script=script))
    assert client.error('1 + 1') == DENIED.format('guest')
    assert client.value('\\login ann p') is True
    assert client.value('2 ** 5') == 32


def test_on_connect_may_change_the_user(console, connect, listener):
    script = "box.session.on_connect(function() box.session.su('guest') end)"
    client = connect(console(listen=[listener('python', 'lua')], script=script))
    assert language(client) == 'lua'


def test_the_binary_protocol_stays_lua(console, connect, listener):
    served = console(listen=[listener('python', 'lua'), {'address': '127.0.0.1:0', 'protocol': 'binary'}])
    assert [shown['language'] for shown in connect(served).value('\\sessions')] == ['python']


# Who may --------------------------------------------------------------------------------------------------------------

@pytest.fixture
def served(console, listener, tmp_path):
    script = "for _, name in pairs({'ann', 'bob'}) do box.schema.user.create(name, {password = 'p'}) end"
    return console(listen=[listener('lua', 'python')], script=script, audit={'file': str(tmp_path / 'audit.jsonl')})


@pytest.fixture
def admin(served, connect):
    return connect(served)


@pytest.fixture
def as_user(served, connect):
    def log_in(name):
        client = connect(served)
        assert client.value(f'\\login {name} p') is True
        return client
    return log_in


@pytest.mark.parametrize('grant', ["'execute', 'python'", "'execute', 'universe'", "'snakes'", "'super'"])
def test_it_needs_a_grant(served, admin, as_user, grant):
    admin.reply("box.schema.role.create('snakes') box.schema.role.grant('snakes', 'execute', 'python')")
    client = as_user('bob')
    assert client.error('\\set language python') == DENIED.format('bob')
    assert client.values('1 + 1') == [2]
    admin.reply(f"box.schema.user.grant('bob', {grant})")
    assert client.value('\\set language python') is True
    assert client.value('2 ** 5') == 32
    # Looked at before each statement.
    admin.reply(f"box.schema.user.revoke('bob', {grant})")
    assert client.error('2 ** 5') == DENIED.format('bob')
    assert client.error('\\show') == DENIED.format('bob')
    assert language(client) == 'python'
    assert client.value('\\set language lua') is True
    assert client.values('1 + 1') == [2]


def test_a_denial_is_counted_told_and_recorded(served, admin, as_user, tmp_path):
    admin.reply("seen = {} box.session.on_access_denied(function(...) table.insert(seen, {...}) end)")
    client = as_user('ann')
    admin.reply("box.schema.user.grant('ann', 'execute', 'python')")
    client.reply('\\set language python')
    before = admin.value('box.info.access.denied')
    assert client.value('\\login bob p') is True
    assert client.error('thing = 1') == DENIED.format('bob')
    assert language(client) == 'python'
    client.send(b'\\set output lua,block\nfor x in y:\n')
    client.read_until(b';')
    assert client.read_until(b';').startswith(b'{\n  error = "Execute access to python')
    assert admin.value('box.info.access.denied') == before + 2
    assert admin.value('seen') == [['Execute', 'python', None]] * 2
    assert admin.value('box.stat().errors.denied') == 2
    entries = [json.loads(line) for line in (tmp_path / 'audit.jsonl').read_text().splitlines()]
    assert [('bob', 'thing = 1', False, DENIED.format('bob'), 'python')] == [
        tuple(entry[name] for name in ('effective_user', 'statement', 'ok', 'error', 'language')) for entry in entries
        if entry['event'] == 'statement' and entry['statement'].startswith('thing')]


def test_su_changes_who_may(served, admin):
    admin.reply('\\set language python')
    assert admin.value('2 ** 5') == 32
    admin.reply("box.session.su('bob')")
    assert admin.error('2 ** 5') == DENIED.format('bob')
    admin.reply('\\set language lua')
    admin.reply("box.session.su('admin')")
    admin.reply('\\set language python')
    assert admin.value('2 ** 5') == 32


def test_a_user_without_usage_or_that_was_dropped(served, admin, as_user):
    clients = {name: as_user(name) for name in ('ann', 'bob')}
    for name, client in clients.items():
        admin.reply(f"box.schema.user.grant('{name}', 'execute', 'python')")
        client.reply('\\set language python')
        assert client.value('2 ** 5') == 32
    admin.reply("box.schema.user.revoke('ann', 'usage', 'universe')")
    admin.reply("box.schema.user.drop('bob')")
    assert "denied for user 'ann'" in clients['ann'].error('2 ** 5')
    assert "denied for user 'bob'" in clients['bob'].error('2 ** 5')


def test_the_grant_has_no_name(admin, as_user):
    grant = "box.schema.user.grant('bob', 'execute', 'python'"
    assert "a grant on python is on all of it: leave out the name 'os'" in admin.error(f"{grant}, 'os')")
    assert "wrong object name type" in admin.error(f'{grant}, {{}})')
    assert admin.error("box.schema.user.grant('bob', 'read', 'python')") == "Unsupported python privilege 'read'"
    assert admin.error("box.schema.user.revoke('bob', 'execute', 'python')") == \
        "User 'bob' does not have execute access on python ''"
    assert admin.values(f'{grant})') is None
    assert admin.error(f'{grant})') == "User 'bob' already has execute access on python ''"
    assert admin.values(f"{grant}, '', {{if_not_exists = true}})") is None
    assert ['execute', 'python', None] in admin.value("box.schema.user.info('bob')")
    admin.reply("box.schema.role.create('snakes') box.schema.role.grant('snakes', 'execute', 'python')")
    assert admin.value("box.schema.role.info('snakes')") == [['execute', 'python', None]]
    admin.reply("box.schema.user.grant('ann', 'read,write', 'universe')")
    assert 'denied' in as_user('ann').error("box.schema.user.grant('ann', 'execute', 'python')")


def test_nobody_gets_it_by_a_password(admin, as_user):
    admin.reply("box.schema.user.grant('ann', 'read,write,alter', 'universe')")
    ann = as_user('ann')
    assert ann.values("box.schema.user.passwd('bob', 'q')") is None
    admin.reply("box.schema.user.grant('bob', 'execute', 'python')")
    assert 'denied' in ann.error("box.schema.user.passwd('bob', 'mine')")
    admin.reply("box.schema.user.grant('ann', 'execute', 'python')")
    assert ann.values("box.schema.user.passwd('bob', 'mine')") is None


def test_the_grant_is_kept(console, connect, listener, tmp_path):
    store, listen = str(tmp_path / 'users.db'), [listener('python', 'lua', user='bob')]
    made = console(listen=[listener('lua')], store=store)
    admin = connect(made)
    admin.reply("box.schema.user.create('bob') box.schema.user.grant('bob', 'execute', 'python')")
    made.stop()
    client = connect(console(listen=listen, store=store))
    assert client.value('2 ** 5') == 32


# Where it is refused --------------------------------------------------------------------------------------------------

BOB_MAY = "box.schema.user.create('bob') box.schema.user.grant('bob', 'execute', 'python')"


@pytest.mark.parametrize('more', [{'user': 'guest'}, {'insecure': True}, {'user': 'bob', 'insecure': True}])
def test_a_tcp_listener_that_is_fine(console, connect, more):
    served = console(listen=[{'address': '127.0.0.1:0', 'languages': ['lua', 'python'], **more}], script=BOB_MAY)
    assert language(connect(served)) == 'lua'


@pytest.mark.parametrize('more', [{'user': 'guest', 'mode': '0666'}, {'peers': {os.getuid(): 'bob'}, 'mode': '0666'}])
def test_a_unix_socket_that_is_fine(console, connect, listener, more):
    assert language(connect(console(listen=[listener('lua', 'python', **more)], script=BOB_MAY))) == 'lua'


def test_a_user_who_may_is_found_at_the_start_and_at_a_reload(console, connect, listener):
    tcp = {'address': '127.0.0.1:0', 'languages': ['python'], 'user': 'bob'}
    with pytest.raises(ConfigError, match='^127.0.0.1:0: all users of this machine, .* connect and run Python as bob: '):
        console(listen=[tcp], script=BOB_MAY)
    socket = listener('lua', 'python', user='bob')
    with pytest.raises(ConfigError, match='has the mode 0660, so others than its owner can connect and run Python as bob'):
        console(listen=[{**socket, 'mode': '0660'}], script=BOB_MAY)
    served = console(listen=[socket], in_config=True, script=BOB_MAY)
    init = served.config['init']
    with pytest.raises(ConfigError, match='as bob'):
        served.reload({'init': init, 'listen': [tcp]})
    with pytest.raises(ConfigError, match='0640'):
        served.reload({'init': init, 'listen': [{**socket, 'mode': '0640'}]})
    client = connect(served)
    assert client.value('\\set language python') is True


def test_a_reload_changes_it_for_new_sessions(console, connect, listener, caplog):
    socket = listener('lua')
    served = console(listen=[socket], in_config=True)
    before = connect(served)
    before.reply('1')
    served.reload({'listen': [{**socket, 'languages': ['python', 'lua']}]})
    assert connect(served).value('2 ** 5') == 32
    assert 'languages is set to [python, lua] by a reload; it was [lua]' in caplog.text
    assert before.error('\\set language python') == 'Invalid language "python", supported languages: lua.'


def test_console_listen_inherits_them(console, connect, listener, tmp_path):
    served = console(listen=[listener('python', 'lua'), listener('lua')], script=BOB_MAY)
    client, other = connect(served), connect(served.addresses[1])
    client.reply('\\set language lua')
    listen = "require('console').listen"
    problem = client.error(f"{listen}('127.0.0.1:0')")
    assert 'can connect and run Python as admin' in problem and 'takes the languages of its session, python, lua' in problem
    client.reply(f"listener = {listen}('unix/:{tmp_path}/more.sock')")
    assert connect(Address.parse(f'unix:{tmp_path}/more.sock')).value('2 ** 5') == 32
    other.reply(f"{listen}('unix/:{tmp_path}/less.sock')")
    less = connect(Address.parse(f'unix:{tmp_path}/less.sock'))
    assert less.error('\\set language python') == 'Invalid language "python", supported languages: lua.'
    port = other.value(f"{listen}('127.0.0.1:0'):name().port")
    assert connect(Address.parse(f'127.0.0.1:{port}')).values('1 + 1') == [2]


def test_a_grant_that_opens_a_listener_is_told(console, connect, caplog):
    tcp = {'address': '127.0.0.1:0', 'languages': ['lua', 'python'], 'user': 'bob'}
    served = console(listen=[tcp, '127.0.0.1:0'], script="box.schema.user.create('bob')")
    admin = connect(served.addresses[1])
    admin.reply("box.schema.user.grant('bob', 'execute', 'python')")
    assert 'can connect and run Python as bob' in caplog.text
