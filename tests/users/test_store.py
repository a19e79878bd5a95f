"""The store of users: a change that was confirmed is never lost, and a damaged file is an error."""
from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading

import gevent
import pytest
from conftest import PROJECT, rounds
from text_client import Client
from waiting import wait_for

from boxsession import Console
from boxsession.base.errors import ClientError, StoreError
from boxsession.users.access import ADMIN, Access
from boxsession.users.passwd import set_user
from boxsession.users.schema import Schema
from boxsession.users.store import Store

ROUNDS = rounds(6, 100)
USERS_AT_A_TIME = 4


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'users.db'


def test_what_is_stored_is_found(path):
    store = Store(path)
    assert (None, True) == store.transact(lambda access: Schema(access, ADMIN).user_create('ann', {'password': 'x'}))
    assert (None, False) == store.transact(lambda access: Schema(access, ADMIN).user_create('ann', {'if_not_exists': True}))
    store.transact(lambda access: Schema(access, ADMIN).func_create('f', {'setuid': True}))
    store.transact(lambda access: Schema(access, ADMIN).user_grant('ann', 'execute', 'function', 'f'))
    rows = store.access.rows()
    store.close()
    store = Store(path)
    assert rows == store.access.rows()
    store.transact(lambda access: Schema(access, ADMIN).func_drop('f'))
    store.transact(lambda access: Schema(access, ADMIN).user_drop('ann'))
    store.close()
    store = Store(path)
    assert {**Access().rows(), 'meta': {('last_id', 33)}} == store.access.rows()
    store.close()


def test_what_is_refused_changes_nothing(path):
    store = Store(path)
    before = store.access.rows()
    with pytest.raises(ClientError):
        store.transact(lambda access: (Schema(access, ADMIN).user_create('ann'), Schema(access, ADMIN).user_create('ann')))
    assert before == store.access.rows()
    store.close()
    store = Store(path)
    assert before == store.access.rows()
    store.close()


def test_two_processes_see_each_others_changes(path):
    one, two = Store(path), Store(path)
    one.transact(lambda access: Schema(access, ADMIN).user_create('ann'))
    assert two.access.user('ann') is None
    assert two.refresh() and not two.refresh()
    assert two.access.user('ann') is not None
    one.transact(lambda access: Schema(access, ADMIN).user_create('bob'))
    with pytest.raises(ClientError):
        two.transact(lambda access: Schema(access, ADMIN).user_create('bob'))
    two.transact(lambda access: Schema(access, ADMIN).user_create('cid'))
    one.refresh()
    assert one.access.rows() == two.access.rows()
    one.close()
    two.close()


def test_it_is_its_owners_alone(path):
    old = os.umask(0)
    try:
        store = Store(path)
        store.transact(lambda access: Schema(access, ADMIN).user_create('ann'))
        modes = {stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
        store.close()
        assert {0o600} == modes
        path.chmod(0o644)
        Store(path).close()
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    finally:
        os.umask(old)


def damage_page(path):
    content = bytearray(path.read_bytes())
    content[4096:8192] = os.urandom(4096)
    path.write_bytes(content)


def cut(path):
    os.truncate(path, 6000)


def no_database(path):
    path.write_bytes(b'not a database, but long enough to be taken for one' * 100)


def execute(statement):
    def change(path):
        db = sqlite3.connect(path)
        db.execute(statement)
        db.commit()
        db.close()
    return change


@pytest.mark.parametrize(('change', 'told'), [
    (damage_page, 'is damaged'), (cut, 'is damaged'), (no_database, 'is damaged'),
    (execute('DELETE FROM users WHERE id = 1'),
     'is damaged, or no store of users: admin, guest, public or super is missing'),
    (execute('DROP TABLE grants'), 'is damaged'),
    (execute('PRAGMA user_version = 3'),
     'was written by a newer boxsession (its format is 3, this one reads up to 2): use the newer'),
    (execute('PRAGMA application_id = 5'), 'is a database of another program: set `store` to another file')])
def test_what_cannot_be_read_is_an_error(path, change, told):
    store = Store(path)
    store.transact(lambda access: Schema(access, ADMIN).user_create('ann'))
    store.close()
    change(path)
    with pytest.raises(StoreError) as caught:
        Store(path)
    assert told in str(caught.value) and str(path) in str(caught.value)


def test_a_place_that_is_none(tmp_path):
    with pytest.raises(StoreError, match='cannot be opened: No such file or directory'):
        Store(tmp_path / 'nosuch' / 'users.db')
    with pytest.raises(StoreError, match='cannot be opened: Is a directory'):
        Store(tmp_path)


def test_the_daemon_says_what_is_wrong(serve, tmp_path):
    (tmp_path / 'users.db').write_text('no database' * 100)
    (tmp_path / 'config.yml').write_text(f'store: {tmp_path}/users.db\nlisten: ["127.0.0.1:0"]\n')
    served = serve('-c', 'config.yml')
    assert 1 == served.wait()
    assert f'boxsession: {tmp_path}/users.db: is damaged, or no store of users' in served.stderr
    assert 'listening' not in served.stderr


def test_a_full_disk_is_told_and_changes_nothing(console, connect, path, monkeypatch):
    client = connect(console(store=str(path)))

    def fail(*_):
        raise sqlite3.OperationalError('database or disk is full')
    with monkeypatch.context() as patch:
        patch.setattr(Store, '_write', fail)
        assert client.error("box.schema.user.create('ann')").startswith(
            'the change was not made, because it cannot be stored: database or disk is full')
    assert not client.value("box.schema.user.exists('ann')")
    assert client.values("box.schema.user.create('ann')") is None


def slow_writes(monkeypatch):
    """Makes each write, which another thread does, wait: (event when one has begun, event that lets all go on)."""
    begun, go_on = threading.Event(), threading.Event()
    write = Store._write

    def wait(*arguments):
        begun.set()
        assert go_on.wait(30)
        return write(*arguments)

    monkeypatch.setattr(Store, '_write', wait)
    return begun, go_on


def test_others_go_on_while_the_disk_is_slow(console, connect, path, monkeypatch):
    served = console(store=str(path))
    slow, other = connect(served), connect(served)
    begun, go_on = slow_writes(monkeypatch)
    slow.send("box.schema.user.create('ann')\n")
    wait_for(begun.is_set)
    assert 2 == other.value('1 + 1')
    assert not other.value("box.schema.user.exists('ann')")
    slow.send(b'\x03')                  # too late to undo: the statement ends, and its change is made
    assert b'cancelled' in slow.document()
    go_on.set()
    wait_for(lambda: other.value("box.schema.user.exists('ann')"))


def test_a_change_counts_whose_statement_was_cancelled(console, connect, path, tmp_path, monkeypatch):
    served = console(store=str(path), audit={'file': str(tmp_path / 'audit')})
    slow, ann = connect(served), connect(served)
    for statement in ("box.schema.user.create('ann')", "box.schema.user.grant('ann', 'read,execute', 'universe')"):
        assert slow.values(statement) is None
    ann.reply("box.session.su('ann')")
    assert 'running' == ann.value('box.info.status')
    assert 'boxsession' == ann.value('box.cfg and box.info.package')
    begun, go_on = slow_writes(monkeypatch)
    slow.send("box.schema.user.revoke('ann', 'execute', 'universe')\n")
    wait_for(begun.is_set)
    slow.send(b'\x03')
    assert b'cancelled' in slow.document()
    go_on.set()
    wait_for(lambda: 'boxsession' != ann.reply('box.cfg and box.info.package')[6:16].decode())
    assert 'denied' in ann.error('box.cfg')
    assert '"operation":"user.revoke"' in (tmp_path / 'audit').read_text()


def test_passwd(serve, connect, path, tmp_path):
    (tmp_path / 'config.yml').write_text(f'store: {path}\nlisten: ["127.0.0.1:0"]\n')

    def passwd(user, text, config='config.yml'):
        return subprocess.run([sys.executable, '-m', 'boxsession', 'passwd', '-c', config, user], input=text, text=True,
                              cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(PROJECT)}, capture_output=True, timeout=20)
    assert 'no such file. The server creates it' in passwd('admin', 'x\n').stderr
    client = connect(serve('-c', 'config.yml').addresses()[0])
    assert 'Incorrect password' in client.error('\\login admin a word')
    done = passwd('admin', 'a word\n')              # while the server runs
    assert (0, '', '') == (done.returncode, done.stdout, done.stderr)
    assert client.value('\\login admin a word') is True
    assert "there is no user 'nobody' in " in passwd('nobody', 'x\n').stderr
    assert 1 == passwd('guest', 'x\n').returncode
    (tmp_path / 'none.yml').write_text('{}')
    assert 'does not set `store`' in passwd('admin', 'x\n', 'none.yml').stderr


def test_the_first_admin(serve, connect, path, tmp_path):
    (tmp_path / 'config.yml').write_text(
        f'store: {path}\nlisten:\n- {{address: "127.0.0.1:0", user: guest}}\n'
        f'- {{address: "unix:{tmp_path}/a", peers: {{0: bob}}}}\n')

    def passwd(*arguments, text='a word\n'):
        done = subprocess.run([sys.executable, '-m', 'boxsession', 'passwd', '-c', 'config.yml', *arguments], input=text,
                              text=True, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(PROJECT)}, capture_output=True,
                              timeout=20)
        return done.returncode, done.stdout + done.stderr
    assert 'or use --create' in passwd('ann')[1]
    assert (0, '') == passwd('--create', '--grant', 'super', 'ann')
    assert (0, '') == passwd('--create', '--no-password', '--grant', 'read,write', 'bob', text='')
    client = connect(serve('-c', 'config.yml').addresses(2)[0])
    assert client.value('\\login ann a word') is True
    assert 'read,write,session,usage' == client.value("box.schema.user.info('bob')[2][1]")
    # While the server runs, and again.
    assert (0, '') == passwd('--create', '--grant', 'super', 'ann', text='another\n')
    assert client.value('\\login ann another') is True
    for arguments, told in ((['--create', '--grant', 'sooper', 'eve'], '--grant sooper: expected a role'),
                            (['--create', ''], "'' cannot be the name of a user: expected one or more printable"),
                            (['--create', 'x\ny\x1b[m'], r"'x\ny\x1b[m' cannot be the name of a user: expected one"),
                            (['x\ny'], r"there is no user 'x\ny'"),
                            (['--create', '--grant', 'x\ny', 'eve'], r'--grant x\ny: expected a role'),
                            (['--create', '--grant', '', 'eve'], "--grant '': expected a role"),
                            (['--create', 'a b'], 'no blanks'), (['--create', 'super'], 'super is a role'),
                            (['--create', 'guest'], 'guest has no password'),
                            (['--grant', 'super', 'admin'], 'admin has all privileges')):
        code, said = passwd(*arguments)
        assert 1 == code and told in said and 'Traceback' not in said
        assert 1 == said.count('\n') and said[:-1].isprintable()
    assert client.value("box.schema.user.exists('eve')") is False


@pytest.mark.skipif(os.geteuid() != 0, reason='needs to be root')
def test_a_store_that_root_creates_is_its_folders_owners(tmp_path):
    os.chown(tmp_path, 65534, 65534)
    set_user(str(tmp_path / 'users.db'), 'ann', 'x', create=True)
    assert {(65534, 0o600)} == {(entry.stat().st_uid, stat.S_IMODE(entry.stat().st_mode)) for entry in tmp_path.iterdir()}


def test_two_servers_of_one_store_say_so(path, caplog):
    servers = []
    try:
        for _ in range(3):
            servers.append(Console(listen=['127.0.0.1:0'], config={'store': str(path)}))
            servers[-1].start()
            set_user(str(path), 'ann', 'x', create=True)            # is no server
        assert 2 == caplog.text.count(f'the store {path} is in use by another server, too')
    finally:
        for server in servers:
            server.stop()
    caplog.clear()
    servers[0].start()
    servers[0].stop()
    assert 'another server' not in caplog.text


def test_what_was_answered_survives_kill_9(serve, tmp_path, path):
    rng = random.Random(9)
    address = f'unix:{tmp_path}/admin.sock'
    (tmp_path / 'config.yml').write_text(f'store: {path}\nlisten: ["{address}"]\n')
    answered = set()

    def create(names):
        client = None
        try:
            client = Client(address)
            for name in names:
                if client.reply(f"box.schema.user.create('{name}')") == b'---\n...\n':
                    answered.add(name)
        except (EOFError, OSError):
            pass
        finally:
            if client is not None:
                client.close()

    for number in range(ROUNDS):
        served = serve('-c', 'config.yml')
        served.addresses()
        clients = [gevent.spawn(create, [f'u{number}_{who}_{count}' for count in range(1000)])
                   for who in range(USERS_AT_A_TIME)]
        wanted = len(answered) + rng.randrange(30)
        wait_for(lambda wanted=wanted: len(answered) > wanted)
        gevent.sleep(rng.random() * 0.005)      # the moment is random: anywhere in a write
        served.signal(signal.SIGKILL)
        served.wait()
        gevent.joinall(clients, timeout=30, raise_error=True)
        store = Store(path)
        kept = {user.name for user in store.access.users.values()}
        store.close()
        assert answered <= kept


def refuse_writes(path, table):
    """Makes SQLite refuse new rows of a table. Returns what allows them again."""
    execute(f"CREATE TRIGGER refuse BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END")(path)
    return lambda: execute('DROP TRIGGER refuse')(path)


@pytest.mark.parametrize('table', ['users', 'grants', 'meta'])
def test_what_cannot_be_stored_is_not_there(path, table):
    store = Store(path)
    store.transact(lambda access: Schema(access, ADMIN).user_create('ann'))
    before = store.access.rows()
    allow = refuse_writes(path, table)
    with pytest.raises(StoreError, match='the change was not made'):
        store.transact(lambda access: Schema(access, ADMIN).user_create('bob'))
    assert before == store.access.rows()
    allow()
    store.transact(lambda access: Schema(access, ADMIN).user_create('cid'))
    assert store.access.user('bob') is None and store.access.user('cid') is not None
    after = store.access.rows()
    store.close()
    store = Store(path)
    assert after == store.access.rows()
    store.close()


def test_a_change_is_seen_when_it_is_stored(path):
    store = Store(path)
    before = store.access.rows()

    def change(access):
        Schema(access, ADMIN).user_create('ann')
        assert before == store.access.rows()

    assert (None, True) == store.commit(change)
    assert before == store.access.rows()
    store.publish()
    assert store.access.user('ann') is not None
    other = Store(path)
    assert other.access.rows() == store.access.rows()
    other.close()
    store.close()


# One after the other.
CHANGES = [
    ('user_create', 'new', {'password': 'x'}), ('user_grant', 'new', 'read', 'universe'), ('role_create', 'r'),
    ('user_grant', 'new', 'r'), ('func_create', 'g'), ('user_grant', 'new', 'execute', 'function', 'g'),
    ('user_passwd', 'new', 'y'), ('user_revoke', 'new', 'read', 'universe'),
    ('user_grant', 'new', 'execute', 'command', 'c'), ('user_disable', 'new'), ('user_info', 'new'),
    ('user_exists', 'nosuch'), ('func_drop', 'g'), ('role_drop', 'r'), ('user_drop', 'new')]


def steps(path, count):
    """How many lines of Python, and steps of SQLite, each change takes in a store with a number of users."""
    store = Store(path)

    def fill(access):
        for number in range(count):
            Schema(access, ADMIN).user_create(f'user{number}')
            Schema(access, ADMIN).func_create(f'f{number}')
            Schema(access, ADMIN).user_grant(f'user{number}', 'execute', 'function', f'f{number}')

    store.transact(fill)
    found = []
    try:
        for operation, *arguments in CHANGES:
            lines = [0]

            def trace(frame, event, argument, lines=lines):
                lines[0] += event == 'line'
                return trace

            def step(lines=lines):
                lines[0] += 1

            store._db.set_progress_handler(step, 10)
            sys.settrace(trace)
            try:
                store.transact(lambda access, arguments=arguments, operation=operation:
                               getattr(Schema(access, ADMIN, {'c'}), operation)(*arguments))
                store.access.level(store.access.last_id)
                store.access.executable(store.access.last_id)
                store.access.granted_commands(store.access.last_id)
            finally:
                sys.settrace(None)
                store._db.set_progress_handler(None, 0)
            found.append(lines[0])
    finally:
        store.close()
    return found


def test_a_change_takes_as_long_with_many_users_as_with_few(tmp_path):
    few, many = steps(tmp_path / 'few.db', 10), steps(tmp_path / 'many.db', 1000)
    for change, one, other in zip(CHANGES, few, many, strict=True):
        assert other <= 1.5 * one + 20, (change, one, other)
