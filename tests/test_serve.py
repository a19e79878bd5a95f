"""The daemon from outside: `boxsession serve` as a process: sockets, signals, and how it ends."""
from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys

import pytest
import yaml
from gevent import Timeout, socket
from waiting import wait_for

import boxsession


def test_it_needs_nothing_and_says_when_it_is_ready(serve, connect):
    served = serve('--listen', '127.0.0.1:0')
    [address] = served.addresses()
    assert 2 == connect(address).value('1 + 1')
    assert 0 == served.stop()


def test_it_listens_on_several_addresses(serve, connect, tmp_path):
    served = serve('--listen', '127.0.0.1:0', '--listen', f'unix:{tmp_path}/a.sock', '--listen', '[::1]:0')
    tcp, unix, tcp6 = served.addresses(3)
    ids = [connect(address).value('box.session.id()') for address in (tcp, unix, tcp6)]
    assert 3 == len(set(ids))
    assert 'unix/:(socket)' == connect(unix).value('box.session.peer()')
    assert connect(tcp6).value('box.session.peer()').startswith('[::1]:')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(serve, connect, tmp_path, number):
    served = serve('--listen', f'unix:{tmp_path}/a.sock')
    client = connect(served.addresses()[0])
    served.signal(number)
    assert b'' == client.read_to_end()
    assert 0 == served.wait()
    assert not (tmp_path / 'a.sock').exists()


def test_a_signal_is_served_while_a_statement_spins(serve, connect, tmp_path):
    (tmp_path / 'c.yml').write_text('listen: ["127.0.0.1:0"]\nlimits: {drain_seconds: 0.2}\n')
    served = serve('-c', 'c.yml')
    client = connect(served.addresses()[0])
    client.send('box.session.push(1) while true do pcall(function() while true do end end) end\n')
    client.document()
    served.signal(signal.SIGTERM)
    assert b"---\n- error: the statement was cancelled\n...\n" == client.read_to_end()
    assert 0 == served.wait()


def test_running_statements_finish_and_triggers_run(serve, connect, tmp_path):
    (tmp_path / 'init.lua').write_text('''
        box.session.on_disconnect(function()
            require('log').info('gone: %d %s', box.session.id(), box.session.storage.mark)
            is_gone = true
        end)''')
    (tmp_path / 'c.yml').write_text(f'listen: ["127.0.0.1:0"]\ninit: {tmp_path}/init.lua\n')
    served = serve('-c', 'c.yml')
    [address] = served.addresses()
    working, idle = connect(address), connect(address)
    for client in (working, idle):
        client.reply('box.session.storage.mark = "m" .. box.session.id()')
    # It ends after the idle session, so while the server stops.
    working.send('box.session.push(1) while not is_gone do require("fiber").sleep(0.01) end return "done"\n')
    working.document()
    served.signal(signal.SIGTERM)
    assert b'' == idle.read_to_end()
    host, _, port = address.rpartition(':')

    def is_refused():
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_for(is_refused)
    assert b'---\n- done\n...\n' == working.read_to_end()
    assert 0 == served.wait()
    assert 'gone: 1 m1' in served.stderr and 'gone: 2 m2' in served.stderr


def test_a_second_signal_ends_it_at_once(serve, connect):
    served = serve('--listen', '127.0.0.1:0')
    client = connect(served.addresses()[0])
    client.send('box.session.push(1) require("fiber").sleep(1000)\n')
    client.document()
    served.signal(signal.SIGTERM)
    served.log_line('stopping')
    served.signal(signal.SIGTERM)
    assert 0 != served.wait()


class TestInitScript:
    @pytest.mark.parametrize(('script', 'line'), [
        ('x = 1\nwhile true do end', 2), ("require('fiber').sleep(1000)", 1),
        ('while true do\n pcall(function() while true do end end)\nend', 2),
        ("local f = require('fiber').new(function() while true do end end)\nf:set_joinable(true)\nf:join()", 3)])
    def test_a_signal_stops_it(self, serve, tmp_path, script, line):
        (tmp_path / 'init.lua').write_text("require('log').info('the script runs')\n" + script)
        (tmp_path / 'c.yml').write_text('init: init.lua\nlisten: ["127.0.0.1:0"]\n')
        served = serve('-c', 'c.yml')
        served.log_line('the script runs')
        served.signal(signal.SIGTERM)
        assert 0 == served.wait()
        assert 'stopping: SIGTERM came during the start, waiting for the end of the init script init.lua' in served.stderr
        assert f'init.lua:{line + 1}: the script was stopped' in served.stderr
        assert 'listening: ' not in served.stderr and 'Traceback' not in served.stderr

    @pytest.mark.parametrize(('script', 'told'), [
        ("box.schema.user.create('admin')", "init.lua:1: User 'admin' already exists"),
        ("local function f()\nbox.schema.user.grant('admin', 'nosuch')\nend\nf()",
         "init.lua:2: Role 'nosuch' is not found"),
        ("error('plain', 0)", 'init.lua:1: plain'),
        ("error(box.error.new{code = 1, reason = 'mine'})", 'init.lua:1: mine'),
        ('\nlocal x = nil + 1', "init.lua:2: attempt to perform arithmetic on a nil value"),
        ("return box.schema.user.create('admin')", "init.lua: User 'admin' already exists"),
        ("box.cfg{limits = {slice_ms = 'x'}}", 'init.lua:1: '),
        ('x = (', "init.lua:1: unexpected symbol near '<eof>'"),
        ('local function f() return 1 + f() end f()', 'init.lua:1: stack overflow')])
    @pytest.mark.parametrize('folder', ['.', 'a folder with a long name/' * 4])
    def test_its_errors_name_file_and_line(self, tmp_path, script, told, folder):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / 'init.lua').write_text(script)
        path = os.path.join(folder, 'init.lua')
        console = boxsession.Console(listen=['127.0.0.1:0'], config={'init': str(tmp_path / path)})
        with pytest.raises(boxsession.ScriptError) as caught:
            console.start()
        assert str(caught.value).startswith(f'{tmp_path / path}:')
        assert told in str(caught.value)

    def test_a_timeout_of_the_program_stops_it(self, tmp_path):
        (tmp_path / 'init.lua').write_text('while true do end')
        console = boxsession.Console(listen=['127.0.0.1:0'], config={'init': str(tmp_path / 'init.lua')})
        with pytest.raises(Timeout), Timeout(0.2):
            console.start()
        assert not console.is_accepting
        (tmp_path / 'init.lua').write_text('x = 1')
        console.start()
        console.stop()


class TestUnixSockets:
    def test_mode_owner_and_group(self, serve, tmp_path):
        path = tmp_path / 'a.sock'
        (tmp_path / 'c.yml').write_text(f'''listen:
- {{address: "unix:{path}", mode: "0660", owner: {os.getuid()}, group: {os.getgid()}}}''')
        serve('-c', 'c.yml').addresses()
        found = os.stat(path)
        assert (0o660, os.getuid(), os.getgid()) == (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)

    def test_without_a_mode_it_is_the_owners_alone(self, serve, tmp_path):
        serve('--listen', f'unix:{tmp_path}/a.sock').addresses()
        assert 0o600 == stat.S_IMODE(os.stat(tmp_path / 'a.sock').st_mode)

    def test_a_stale_file_is_replaced(self, serve, connect, tmp_path):
        first = serve('--listen', f'unix:{tmp_path}/a.sock')
        first.addresses()
        first.process.kill()
        first.process.wait()
        assert (tmp_path / 'a.sock').exists()
        [address] = serve('--listen', f'unix:{tmp_path}/a.sock').addresses()
        assert 2 == connect(address).value('1 + 1')

    def test_a_live_one_is_refused(self, serve, connect, tmp_path):
        first = serve('--listen', f'unix:{tmp_path}/a.sock')
        [address] = first.addresses()
        second = serve('--listen', f'unix:{tmp_path}/a.sock')
        assert 1 == second.wait()
        assert 'another server is listening there' in second.stderr
        assert 2 == connect(address).value('1 + 1')

    def test_a_second_server_does_not_change_the_users_of_the_first(self, serve, connect, tmp_path):
        (tmp_path / 'init.lua').write_text("box.schema.user.create('web', {password = 'a', if_not_exists = true})")
        (tmp_path / 'second.lua').write_text("box.schema.user.drop('web')")
        for name in ('init', 'second'):
            (tmp_path / f'{name}.yml').write_text(
                f'listen: ["unix:{tmp_path}/a.sock"]\nstore: users.db\ninit: {name}.lua\n')
        client = connect(serve('-c', 'init.yml').addresses()[0])
        second = serve('-c', 'second.yml')
        assert 1 == second.wait() and 'another server is listening there' in second.stderr
        assert client.value("box.schema.user.exists('web')") is True
        assert client.value("\\login web a") is True

    def test_a_file_in_the_way_is_refused_and_kept(self, serve, tmp_path):
        (tmp_path / 'a.sock').write_text('precious')
        served = serve('--listen', f'unix:{tmp_path}/a.sock')
        assert 1 == served.wait()
        assert 'no socket is in the way' in served.stderr
        assert 'precious' == (tmp_path / 'a.sock').read_text()


@pytest.mark.heavy
class TestErrors:
    def test_a_port_in_use(self, serve, tmp_path):
        with socket.socket() as taken:
            taken.bind(('127.0.0.1', 0))
            taken.listen()
            port = taken.getsockname()[1]
            served = serve('--listen', f'unix:{tmp_path}/a.sock', '--listen', f'127.0.0.1:{port}')
            assert 1 == served.wait()
        assert f'boxsession: cannot listen on 127.0.0.1:{port}: Address already in use\n' == served.stderr
        assert not (tmp_path / 'a.sock').exists()

    @pytest.mark.parametrize('head', ['#!/usr/bin/env tarantool\n', '\ufeff', '\ufeff#!x\n', '# { any text\n'])
    def test_an_init_script_with_a_mark_at_its_start(self, serve, connect, tmp_path, head):
        (tmp_path / 'init.lua').write_text(f"{head}x = 5 where = debug.traceback():match('lua:(%d+)')")
        (tmp_path / 'c.yml').write_text(f'init: {tmp_path}/init.lua\nlisten: ["127.0.0.1:0"]\n')
        checked = subprocess.run([sys.executable, '-m', 'boxsession', 'check-config', tmp_path / 'c.yml'],
                                 capture_output=True, timeout=30)
        assert (0, b'', b'') == (checked.returncode, checked.stdout, checked.stderr)
        [address] = serve('-c', 'c.yml').addresses()
        assert [5, str(1 + head.count('\n'))] == connect(address).values('x, where')

    @pytest.mark.parametrize(('script', 'told'), [
        ('x = = 1', "init.lua:1: unexpected symbol near '='"),
        ('\nerror("boom")', 'init.lua:2: boom'),
        ('error({code = 5})', 'table: '),
        ('\33Lua', 'binary chunk'),
        (None, 'init.lua: cannot be read: No such file or directory'),
    ])
    def test_an_init_script_that_fails(self, serve, tmp_path, script, told):
        if script is not None:
            (tmp_path / 'init.lua').write_text(script)
        (tmp_path / 'c.yml').write_text(f'init: {tmp_path}/init.lua\nlisten: ["127.0.0.1:0"]\n')
        served = serve('-c', 'c.yml')
        assert 1 == served.wait()
        assert told in served.stderr
        assert 'listening' not in served.stderr and 'Traceback' not in served.stderr

    def test_a_config_that_is_wrong(self, serve, tmp_path):
        (tmp_path / 'c.yml').write_text('limts: {}\n')
        served = serve('-c', 'c.yml')
        assert 1 == served.wait()
        assert 'c.yml:1: unknown key `limts`: did you mean `limits`?\n' == served.stderr

    def test_an_open_listener(self, serve):
        served = serve('--listen', '0.0.0.0:0')
        assert 1 == served.wait()
        assert 'insecure: true' in served.stderr

    def test_a_listener_on_which_all_could_use_python(self, serve, tmp_path):
        (tmp_path / 'c.yml').write_text('listen:\n- address: 127.0.0.1:0\n  languages: [lua, python]\n')
        served = serve('-c', 'c.yml')
        assert 1 == served.wait()
        assert served.stderr.startswith('c.yml:3: 127.0.0.1:0: all users of this machine, and web pages in their browsers')
        checked = subprocess.run([sys.executable, '-m', 'boxsession', 'check-config', 'c.yml'], capture_output=True,
                                 text=True, timeout=30, cwd=tmp_path)
        assert (1, served.stderr) == (checked.returncode, checked.stderr)

    def test_python_for_those_who_log_in(self, serve, connect, tmp_path):
        (tmp_path / 'init.lua').write_text("box.schema.user.create('ann', {password = 'p'}) "
                                           "box.schema.user.grant('ann', 'execute', 'python')")
        (tmp_path / 'c.yml').write_text('init: init.lua\nlisten:\n- address: 127.0.0.1:0\n  user: guest\n'
                                        '  languages: [python, lua]\n')
        [address] = serve('-c', 'c.yml').addresses()
        client = connect(address)
        assert [4] == client.values('2 ^ 2')
        assert [True] == client.values('\\login ann p')
        assert [0] == client.values('2 ^ 2')

    def test_a_log_file_that_cannot_be_opened(self, serve, tmp_path):
        (tmp_path / 'c.yml').write_text('log: {file: /nosuch/folder/x.log}\n')
        served = serve('-c', 'c.yml')
        assert 1 == served.wait()
        assert 'cannot open log.file' in served.stderr


def test_the_log_file_is_opened_anew_on_sighup(serve, connect, tmp_path):
    (tmp_path / 'c.yml').write_text(f'listen: ["127.0.0.1:0"]\nlog: {{file: {tmp_path}/x.log, format: json}}\n')
    served = serve('-c', 'c.yml')
    client = connect(served.addresses()[0])
    client.reply('print("before", 1)')
    (tmp_path / 'x.log').rename(tmp_path / 'x.log.1')
    served.signal(signal.SIGHUP)
    wait_for(lambda: (tmp_path / 'x.log').exists())
    client.reply('print("after")')
    rotated = yaml.safe_load((tmp_path / 'x.log.1').read_text().splitlines()[-1])
    assert ('before\t1', 1) == (rotated['message'], rotated['session'])
    lines = [yaml.safe_load(line)['message'] for line in (tmp_path / 'x.log').read_text().splitlines()]
    assert 'after' in lines and 'before\t1' not in lines


def test_version():
    told = subprocess.run([sys.executable, '-m', 'boxsession', '--version'], capture_output=True, text=True, check=True)
    assert f'boxsession {boxsession.__version__}\n' == told.stdout


def test_no_traceback_ever_reaches_a_client_or_the_log(serve, connect):
    served = serve('--listen', '127.0.0.1:0')
    [address] = served.addresses()
    for data in (b'\x00' * 100 + b'\n', b'\xff' * 101, b'\xff\xfa' * 50 + b'\n', os.urandom(5000) + b'\n', b'"' * 70000,
                 b'~.', b'\\set\n\\set x y z\n\\\n', b'(' * 60000 + b'\n'):
        client = connect(address)
        client.send(data)
        client.end()
        assert b'Traceback' not in client.read_to_end()
        client = connect(address)
        client.send(data)
        client.reset()
    assert 2 == connect(address).value('1 + 1')
    assert 0 == served.stop()
    assert 'Traceback' not in served.stderr
