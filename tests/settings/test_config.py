"""Settings: errors name the line and the setting that was meant; generated files agree with the table of settings."""
from __future__ import annotations

import importlib.util
import os

import pytest
import trustme
from conftest import PROJECT
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from boxsession import ConfigError, Console
from boxsession.base.address import Address, peer_text
from boxsession.cli import main
from boxsession.settings.reader import load, read
from boxsession.settings.reference import default_file, reference
from boxsession.users.access import ADMIN
from boxsession.users.passwd import set_user
from boxsession.users.schema import Schema
from boxsession.users.store import Store


def problems(tmp_path, text):
    path = tmp_path / 'config.yml'
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [problem.removeprefix(f'{path}:') for problem in caught.value.problems]


@pytest.mark.parametrize(('text', 'told'), [
    ('limts: {}', '1: unknown key `limts`: did you mean `limits`?'),
    ('limits:\n  sesions: 5', '2: unknown key `sesions` in `limits`: did you mean `sessions`?'),
    ('limits:\n  frobnicate: 5', '2: unknown key `frobnicate` in `limits`: known keys are drain_seconds, '),
    ('limits: 5', '1: `limits` is 5: expected settings below it, as in `limits.sessions`'),
    ('limits: {sessions: many}', "1: `limits.sessions` is many: expected a whole number, 0 or more"),
    ('limits: {sessions: -1}', '1: `limits.sessions` is -1: expected a whole number, 0 or more'),
    ('limits: {sessions: true}', '1: `limits.sessions` is true: expected a whole number, 0 or more'),
    ('limits: {sessions: [1]}', '1: `limits.sessions` is a list: expected a whole number, 0 or more'),
    ('limits: {send_seconds: x}', "1: `limits.send_seconds` is x: expected a number of seconds: 0, or 0.001 or more"),
    ('name: "a b"', '1: `name` is "a b": expected a name of up to 24 letters, digits, -, _ and .'),
    ('name: "a\\nb\\eb"', r'1: `name` is "a\nb\x1bb": expected a name of up to 24 letters'),
    ('"a\\nb": 1', r'1: unknown key `a\nb`'),
    (f'name: {"a" * 25}', '1: `name` is aaaa'), ('name: 5', '1: `name` is 5: expected a name'),
    ('limits: {idle_seconds: 1.0e-300}', '1: `limits.idle_seconds` is 1.0e-300: expected a number of seconds: '
                                         '0, or 0.001 or more'),
    ('limits: {send_seconds: .nan}', '1: `limits.send_seconds` is .nan: expected a number of seconds: '
                                     '0, or 0.001 or more'),
    ('log:\n  level: loud', "2: `log.level` is loud: expected error or warning or info or debug"),
    ('store: 5', '1: `store` is 5: expected text'),
    ('audit: {required: 5}', '1: `audit.required` is 5: expected true or false'),
    ('metrics: {address: nowhere}', "1: `metrics.address`: 'nowhere' is not an address: expected 'host:port'"),
    ('init: 5', '1: `init` is 5: expected text'),
    ('init: a\ninit: b', '2: `init` is set twice'),
    ('listen: []', '1: `listen` must be an address, or a list of listeners: addresses, or maps with an `address`'),
    ('listen: ["127.0.0.1:5", "127.0.0.1:0", "127.0.0.1:0",\n"127.0.0.1:5"]', '2: `listen` has 127.0.0.1:5 twice'),
    ('listen: {}', '1: `listen` must be an address, or a list of listeners: addresses, or maps with an `address`'),
    ('listen:\n- dialect: classic', '2: a listener needs an `address`'),
    ('listen:\n- 5', '2: a listener needs an `address`'),
    ('listen: a..b:3313', "1: `address`: 'a..b:3313' is not an address: a host name has labels of 1 to 63 characters"),
    (f'metrics: {{address: "{"x" * 64}:1"}}',
     f"1: `metrics.address`: '{'x' * 64}:1' is not an address: a host name has labels of 1 to 63 characters"),
    ('listen:\n- address: nowhere', "2: `address`: 'nowhere' is not an address: expected 'host:port', '[v6]:port' or 'un"),
    ('listen:\n- address: "h:99999"', "2: `address`: 'h:99999' is not an address: the port must be at most 65535"),
    ('listen:\n- address: 127.0.0.1:0\n  dialect: new', "3: `dialect` is new: expected classic or tarantool"),
    ('listen:\n- address: 127.0.0.1:0\n  protocol: http', '3: `protocol` is http: expected console or binary'),
    ('listen:\n- address: 127.0.0.1:0\n  user: 7', '3: `user` is 7: expected text'),
    ('listen:\n- address: 127.0.0.1:0\n  tls: {}', '3: `tls` is a mapping: expected the files of a certificate'),
    ('listen:\n- address: 127.0.0.1:0\n  tls: {cert: a, key: 5}', '3: `tls` is a mapping: expected the files'),
    ('listen:\n- address: unix:/tmp/x\n  tls: {cert: a, key: b}', '3: `tls` is for addresses with a port'),
    ('listen:\n- address: 127.0.0.1:0\n  peers: {0: admin}', '3: `peers` is for unix sockets, and for tls with a `ca`'),
    ('listen:\n- address: unix:/x\n  peers: {nosuchuser: admin}', "3: `peers`: 'nosuchuser' is neither a uid nor a user"),
    ('listen:\n- address: unix:/tmp/x\n  peers: [admin]', '3: `peers` is a list: expected users by uid'),
    ('listen:\n- address: 0.0.0.0:0\n  tls: {cert: a, key: b}', '2: 0.0.0.0:0 can be reached from other machines'),
    ('listen:\n- address: 127.0.0.1:0\n  mode: "0600"', '3: `mode` is for unix sockets: 127.0.0.1:0 is not one'),
    ('listen:\n- address: unix:/x\n  mode: 0600', '3: `mode` is 0600: expected four octal digits in quotes, as in "0660"'),
    ('listen:\n- address: unix:/x\n  mode: "0999"', '3: `mode` is "0999": expected four octal digits in quotes'),
    ('listen:\n- address: unix:/x\n  owner: nosuchuser', "3: `owner` is nosuchuser: expected a user of this machine"),
    ('listen:\n- address: unix:/x\n  group: nosuchgroup', "3: `group` is nosuchgroup: expected a group of this machine"),
    ('listen:\n- address: 0.0.0.0:3313', '2: 0.0.0.0:3313 can be reached from other machines'),
    ('listen:\n- address: "[::]:3313"', '2: [::]:3313 can be reached from other machines'),
    *[(f'listen:\n- address: unix:/x\n  languages: {value}', '3: `languages`: expected a list of different languages, of '
       f'lua and python, as in [lua, python]; got {got}') for value, got in [
        ('[]', '[]'), ('[lua, lua]', "['lua', 'lua']"), ('python', "'python'"), ('[lua, sql]', "['lua', 'sql']"),
        ('[5, [], {a: 1}]', "[5, [], {'a': 1}]"), ('{lua: 1}', "{'lua': 1}")]],
    *[(f'listen:\n- address: unix:/x\n  protocol: {protocol}\n  languages: [lua]', '4: `languages` is for `protocol: '
       'console`: take it out') for protocol in ('binary', 'rescue')],
    ('listen:\n- address: 127.0.0.1:0\n  languages: [lua, python]', '3: 127.0.0.1:0: all users of this machine, and web '
     'pages in their browsers, can connect and run Python as admin: listen on a unix socket, set `tls` with a `ca`'),
    ('listen:\n- address: 127.0.0.1:0\n  tls: {cert: a, key: b}\n  languages: [python]', '4: 127.0.0.1:0: all users'),
    ('listen:\n- address: unix:/x\n  languages: [python]\n  mode: "0620"', '3: unix:/x has the mode 0620, so others than '
     'its owner can connect and run Python as admin: set `mode: "0600"`, name the users in `peers`'),
    ('listen:\n- address: unix:/x\n  languages: [python]\n  mode: "0604"\n  insecure: true', '3: unix:/x has the mode'),
    ('- 1', '1: a config file must be a mapping of settings'),
    ('a: [', '1: not YAML: '),
    ('a: &x [*x]', ' not a config file: it contains itself'),
    ('init: !!python/name:os.system ""', '1: not YAML: could not determine a constructor'),
    ('5: 5', '1: unknown key `5`: known keys are audit, init'),
    ('true: 5', '1: True is not the name of a setting'),
])
def test_a_wrong_setting_is_told(tmp_path, text, told):
    found = problems(tmp_path, text)
    assert 1 == len(found)
    assert found[0].startswith(told)


def test_all_problems_are_told_at_once(tmp_path):
    found = problems(tmp_path, 'limts: {}\nlog: {level: loud}\nlisten:\n- address: x\n- adress: 127.0.0.1:1\n')
    assert ['1', '2', '4', '5', '5'] == [problem.partition(':')[0] for problem in found]


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match='cannot be read: No such file'):
        load(tmp_path / 'nosuch.yml')


def test_what_is_right_is_taken(tmp_path):
    path = tmp_path / 'config.yml'
    path.write_text('''
listen:
- {address: "127.0.0.1:0", dialect: tarantool}
- address: unix:/tmp/x.sock
  mode: "0660"
  owner: root
  group: 0
- address: 0.0.0.0:1
  insecure: true
- "[::1]:5"
limits: {sessions: 7, send_seconds: 1.5}
log: {level: debug}
''')
    config = load(path)
    assert [Address('127.0.0.1', 0), Address(path='/tmp/x.sock'), Address('0.0.0.0', 1), Address('::1', 5)] == [
        listener.address for listener in config.listen]
    assert (0o660, 0, 0) == (config.listen[1].mode, config.listen[1].owner, config.listen[1].group)
    assert (7, 1.5, 'debug', 65536) == tuple(config[name] for name in (
        'limits.sessions', 'limits.send_seconds', 'log.level', 'limits.statement_bytes'))


def test_nothing_is_needed():
    config = read({})
    assert [Address('127.0.0.1', 3313)] == [listener.address for listener in config.listen]
    assert 'classic' == config.listen[0].dialect


def test_one_address_needs_no_list(tmp_path):
    path = tmp_path / 'config.yml'
    path.write_text('listen: unix:a.sock\n')
    [listener] = load(str(path)).listen
    assert 'unix:a.sock' == str(listener.address)


def test_an_empty_file_means_the_defaults(tmp_path):
    path = tmp_path / 'config.yml'
    path.write_text('# nothing\n')
    assert read({}).values == load(path).values


def test_the_shipped_file_is_the_table_and_is_valid(tmp_path):
    shipped = (PROJECT / 'conf' / 'boxsession.yml').read_text()
    assert default_file() == shipped
    config = load(PROJECT / 'conf' / 'boxsession.yml')
    assert read({}).values == config.values
    assert read({}).listen == config.listen


def test_the_shipped_file_is_valid_with_every_comment_taken_away(tmp_path):
    path = tmp_path / 'config.yml'
    lines = (PROJECT / 'conf' / 'boxsession.yml').read_text().splitlines()
    settings = [line.replace('# ', '', 1) if line.lstrip().removeprefix('# ').split(':')[0] in
                {'init', 'store', 'file', 'mode', 'owner', 'group', 'peers'} else line for line in lines]
    path.write_text('\n'.join(settings).replace('127.0.0.1:3313', 'unix:/tmp/x'))
    assert load(path)['init'] == '/etc/boxsession/init.lua'


def test_every_setting_is_documented():
    text = (PROJECT / 'docs' / 'configuration.rst').read_text()
    assert reference() in text, 'put what boxsession.settings.reference.reference() gives between the marks'


@pytest.mark.parametrize(('text', 'address'), [
    ('127.0.0.1:3313', Address('127.0.0.1', 3313)), ('localhost:0', Address('localhost', 0)),
    ('[::1]:5', Address('::1', 5)), ('[fe80::1%eth0]:5', Address('fe80::1%eth0', 5)), ('unix:/a b', Address(path='/a b')),
    ('unix:rel', Address(path='rel')),
])
def test_addresses(text, address):
    assert address == Address.parse(text)
    assert text == str(address)


@pytest.mark.parametrize('text', ['', ':', '5', 'host', 'host:', ':5', 'host:x', 'host:-1', 'host:65536', '::1:5', '[::1]',
                                  '[x]:5', '[::1]:x', 'unix:', 'unix:' + 'x' * 108, 'unix:\0x', 'host:\u0661'])
def test_no_addresses(text):
    with pytest.raises(ValueError):
        Address.parse(text)


@pytest.mark.parametrize(('text', 'local'), [
    ('127.0.0.1:1', True), ('127.5.5.5:1', True), ('localhost:1', True), ('[::1]:1', True), ('unix:/x', True),
    ('0.0.0.0:1', False), ('[::]:1', False), ('10.0.0.1:1', False), ('example.org:1', False)])
def test_what_only_this_machine_reaches(text, local):
    assert local == Address.parse(text).is_local


def test_peers():
    assert '127.0.0.1:5' == peer_text(('127.0.0.1', 5))
    assert '[::1]:5' == peer_text(('::1', 5, 0, 0))
    assert 'unix/:(socket)' == peer_text('')


class TestCheckConfig:
    def test_a_good_file(self, capsys):
        assert 0 == main(['check-config', str(PROJECT / 'conf' / 'boxsession.yml')])
        assert '' == ''.join(capsys.readouterr())

    def test_a_bad_file(self, tmp_path, capsys):
        path = tmp_path / 'config.yml'
        path.write_text('\nlimts: {}\n')
        assert 1 == main(['check-config', str(path)])
        assert f'{path}:2: unknown key `limts`: did you mean `limits`?\n' == capsys.readouterr().err


    @pytest.mark.parametrize(('text', 'told'), [
        ('log: {level: info}\ninit: FOLDER/init.lua\n',
         "2: `init`: FOLDER/init.lua:2: unexpected symbol near '='"),
        ('init: FOLDER/nosuch.lua\n', '1: `init`: FOLDER/nosuch.lua: cannot be read: No such file or directory'),
        ('init: FOLDER\n', '1: `init`: FOLDER: cannot be read: Is a directory'),
        ('\nstore: FOLDER/nosuch/users.db\n',
         '2: `store`: FOLDER/nosuch/users.db: its directory FOLDER/nosuch cannot be used: No such file or directory'),
        ('log:\n  file: FOLDER/init.lua/x.log\n', '2: `log.file`: FOLDER/init.lua/x.log: its directory FOLDER/init.lua '
                                                 'cannot be used: Not a directory'),
        ('audit: {file: FOLDER}\n', '1: `audit.file`: FOLDER is a directory: expected a file'),
        ('listen:\n- 127.0.0.1:0\n- address: 127.0.0.1:0\n  tls: {cert: FOLDER/c, key: FOLDER/k}\n',
         '4: `tls`: 127.0.0.1:0: tls: cert FOLDER/c cannot be read: No such file or directory'),
        ('listen:\n- address: 127.0.0.1:0\n  tls: {cert: FOLDER/init.lua, key: FOLDER/init.lua}\n',
         '3: `tls`: 127.0.0.1:0: tls: cert FOLDER/init.lua and key FOLDER/init.lua cannot be used: there is no certificate '
         'or key in PEM format'),
        ('listen:\n- address: 127.0.0.1:0\n  tls: {cert: FOLDER/cert, key: FOLDER/other}\n',
         '3: `tls`: 127.0.0.1:0: tls: cert FOLDER/cert and key FOLDER/other cannot be used: the key does not belong'),
        ('listen:\n- address: 127.0.0.1:0\n  tls: {cert: FOLDER/cert, key: FOLDER/key, ca: FOLDER/init.lua}\n',
         '3: `tls`: 127.0.0.1:0: tls: ca FOLDER/init.lua cannot be used: there is no certificate or key in PEM format'),
        ('listen:\n- address: 127.0.0.1:0\n  tls: {cert: FOLDER/cert, key: FOLDER/encrypted}\n',
         'cannot be used: the key is encrypted: store it without a password'),
    ])
    def test_what_only_a_start_would_find(self, tmp_path, capsys, text, told):
        (tmp_path / 'init.lua').write_text('x = 1\ny = = 1\n')
        authority = trustme.CA()
        issued = authority.issue_cert('localhost')
        (tmp_path / 'cert').write_bytes(issued.cert_chain_pems[0].bytes())
        (tmp_path / 'key').write_bytes(issued.private_key_pem.bytes())
        (tmp_path / 'other').write_bytes(authority.issue_cert('other').private_key_pem.bytes())
        (tmp_path / 'encrypted').write_bytes(load_pem_private_key(issued.private_key_pem.bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b'secret')))
        path = tmp_path / 'config.yml'
        path.write_text(text.replace('FOLDER', str(tmp_path)))
        before = sorted(tmp_path.iterdir())
        assert 1 == main(['check-config', str(path)])
        out, err = capsys.readouterr()
        assert '' == out and 1 == err.count('\n')
        assert told.replace('FOLDER', str(tmp_path)) in err and err.startswith(f'{path}:')
        assert before == sorted(tmp_path.iterdir())

    @pytest.mark.parametrize(('text', 'script', 'told'), [
        ('store: FOLDER/users.db\nlisten:\n- address: unix:FOLDER/a\n  peers: {0: ann, 1: bob}\n', None,
         "4: `peers`: unix:FOLDER/a: there is no user 'bob': create it in the init script, or run `boxsession passwd -c "
         'FILE --create bob`'),
        ('listen: [{address: "127.0.0.1:0", user: ann}]\n', None,
         "1: `user`: 127.0.0.1:0: there is no user 'ann': create it in the init script, or set `store` and run"),
        ('store: FOLDER/new.db\ninit: FOLDER/good.lua\nlisten:\n- address: 127.0.0.1:0\n  user: bo\n',
         "box.schema.user.create('bob')", "5: `user`: 127.0.0.1:0: there is no user 'bo'"),
        ('store: FOLDER/users.db\nlisten:\n- address: 0.0.0.0:0\n  user: ann\n', None,
         '3: `address`: 0.0.0.0:0 can be reached'),
        ('store: FOLDER/users.db\nlisten:\n- address: 127.0.0.1:0\n  user: ann\n  languages: [lua, python]\n', None,
         '5: `languages`: 127.0.0.1:0: all users of this machine, and web pages in their browsers, can connect and run '
         'Python as ann'),
        ('listen:\n- address: 0.0.0.0:0\n', None, '2: 0.0.0.0:0 can be reached from other machines'),
        ('listen:\n- address: unix:FOLDER/a\n  languages: [python]\n  mode: "0660"\n', None,
         '3: unix:FOLDER/a has the mode'),
        ('store: FOLDER/other\nlisten: [{address: "127.0.0.1:0", user: bob}]\n', None,
         '1: `store`: FOLDER/other: is damaged'),
        ('listen:\n- 127.0.0.1:0\n- unix:FOLDER/no/a.sock\n', None,
         '3: `address`: FOLDER/no/a.sock: its directory FOLDER/no cannot be used: No such file or directory. Create it'),
        ('listen: [unix:FOLDER/other]\n', None, '1: `address`: unix:FOLDER/other: a file that is no socket is in the way'),
        ('metrics: {address: unix:FOLDER/no/m.sock}\n', None, '1: `metrics.address`: FOLDER/no/m.sock: its directory'),
    ])
    def test_users_and_sockets(self, tmp_path, capsys, text, script, told):
        set_user(str(tmp_path / 'users.db'), 'ann', None, create=True, grants=['execute'])
        (tmp_path / 'other').write_text('no database' * 100)
        (tmp_path / 'good.lua').write_text(script or '')
        path = tmp_path / 'config.yml'
        path.write_text(text.replace('FOLDER', str(tmp_path)))
        before = sorted(tmp_path.iterdir())
        assert 1 == main(['check-config', str(path)])
        err = capsys.readouterr().err
        assert 1 == err.count('\n') and f'{path}:{told}'.replace('FOLDER', str(tmp_path)) in err
        assert before == sorted(tmp_path.iterdir())

    @pytest.mark.parametrize('script', [
        "box.schema.user.create('ann', {if_not_exists = true})", "for _, name in ipairs{'ann'} do f(name) end",
        'for _, name in ipairs(names) do box.schema.user.create(name) end'])
    def test_users_that_the_script_may_create(self, tmp_path, capsys, script):
        (tmp_path / 'init.lua').write_text(script)
        path = tmp_path / 'config.yml'
        path.write_text(f'init: {tmp_path}/init.lua\nlisten: [{{address: "127.0.0.1:0", user: ann}}]\n')
        assert 0 == main(['check-config', str(path)])

    def test_users_of_a_store_in_use(self, tmp_path):
        store = Store(tmp_path / 'users.db', is_server=True)
        path = tmp_path / 'config.yml'
        path.write_text(f'store: {tmp_path}/users.db\nlisten: [{{address: "127.0.0.1:0", user: ann}}]\n')
        assert 1 == main(['check-config', str(path)])
        store.transact(lambda access: Schema(access, ADMIN).user_create('ann'))
        assert 0 == main(['check-config', str(path)])
        store.close()

    def test_problems_of_all_kinds_are_told_in_one_round(self, tmp_path, capsys):
        path = tmp_path / 'config.yml'
        path.write_text("""listen:
- address: nowhere
- address: 127.0.0.1:0
  user: nobody
- address: 127.0.0.1:0
  tls: {cert: /nosuch/c, key: /nosuch/k}
limts: {}
log: {file: /nosuch/x.log, level: loud}
""")
        assert 1 == main(['check-config', str(path)])
        err = capsys.readouterr().err
        # Whether there is a user is not certain while the name of a setting is wrong.
        assert [2, 6, 7, 8, 8] == [int(line.split(':')[1]) for line in err.splitlines()]
        path.write_text(path.read_text().replace('limts', 'limits'))
        assert 1 == main(['check-config', str(path)])
        assert [2, 4, 6, 8, 8] == [int(line.split(':')[1]) for line in capsys.readouterr().err.splitlines()]

    def test_all_of_that_is_told_by_line(self, tmp_path, capsys):
        path = tmp_path / 'config.yml'
        path.write_text('store: /nosuch/a\nlog: {file: /nosuch/b}\ninit: /nosuch/c\n')
        assert 1 == main(['check-config', str(path)])
        assert [f'{path}:{line}' for line in (1, 2, 3)] == [
            line.rpartition(': `')[0] for line in capsys.readouterr().err.splitlines()]

    @pytest.mark.skipif(os.geteuid() != 0, reason='needs to become somebody else')
    def test_what_only_the_server_may_read_is_not_looked_at(self, tmp_path, capsys):
        secret = tmp_path / 'secret'
        secret.mkdir(mode=0o700)
        path = tmp_path / 'config.yml'
        path.write_text(f"""store: {secret}/a/users.db\ninit: {secret}/init.lua
listen: [{{address: "127.0.0.1:0", tls: {{cert: {secret}/c, key: {secret}/k}}}}]""")
        os.chmod(path, 0o644)
        assert 1 == main(['check-config', str(path)])
        parent = tmp_path
        while parent != parent.parent:
            os.chmod(parent, 0o755) if parent.stat().st_uid == 0 and parent.name.startswith('pytest') else None
            parent = parent.parent
        os.chmod(tmp_path, 0o755)
        os.seteuid(65534)
        try:
            assert 0 == main(['check-config', str(path)])
        finally:
            os.seteuid(0)

    def test_a_package_that_is_not_there(self, tmp_path, capsys, monkeypatch):
        find_spec = importlib.util.find_spec
        monkeypatch.setattr('importlib.util.find_spec',
                            lambda name, *rest: None if name == 'prometheus_client' else find_spec(name, *rest))
        path = tmp_path / 'config.yml'
        path.write_text('listen: [127.0.0.1:1]\nmetrics:\n  address: 127.0.0.1:0\n')
        assert 1 == main(['check-config', str(path)])
        assert f'{path}:3: `metrics.address`: needs prometheus-client' in capsys.readouterr().err

    def test_it_runs_nothing(self, tmp_path):
        (tmp_path / 'init.lua').write_text("require('log').info('x') error('it ran')")
        path = tmp_path / 'config.yml'
        path.write_text(f'init: {tmp_path}/init.lua\nlisten: [127.0.0.1:1]\nstore: {tmp_path}/users.db\n')
        assert 0 == main(['check-config', str(path)])
        assert not (tmp_path / 'users.db').exists()


def test_a_library_user_is_told_as_well():
    with pytest.raises(ConfigError, match='`limits.sessions` is'):
        Console(config={'limits': {'sessions': 'x'}})
    with pytest.raises(ConfigError, match='not an address'):
        Console(listen=['nowhere'])
    with pytest.raises(ConfigError, match='other machines'):
        Console(listen=['0.0.0.0:1'])
