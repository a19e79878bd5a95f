"""`boxsession connect` for scripts: the real program against a live server."""
from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time

import pytest
import trustme
import yaml
from conftest import PROJECT, Served, need
from text_client import Client

from boxsession.client.target import Target

INIT = """
box.schema.user.create('ops', {password = 'secret:@ word'})
box.schema.user.grant('ops', 'execute', 'universe')
box.schema.user.create('web', {password = 'web'})
"""
PASSWORD = 'secret:@ word'


@pytest.fixture(scope='module')
def listeners(tmp_path_factory):
    """The addresses of a server, by name: classic, tarantool, unix, binary, tls, mutual."""
    folder = tmp_path_factory.mktemp('server')
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / 'ca.pem')
    authority.issue_cert('127.0.0.1').private_key_and_cert_chain_pem.write_to_path(folder / 'server.pem')
    authority.issue_cert('alice.example').private_key_and_cert_chain_pem.write_to_path(folder / 'alice.pem')
    (folder / 'init.lua').write_text(INIT)
    (folder / 'config.yml').write_text(f"""
init: {folder}/init.lua
listen:
- 127.0.0.1:0
- {{address: "127.0.0.1:0", dialect: tarantool}}
- unix:{folder}/a.sock
- {{address: "127.0.0.1:0", tls: {{cert: {folder}/server.pem, key: {folder}/server.pem}}}}
- {{address: "127.0.0.1:0", tls: {{cert: {folder}/server.pem, key: {folder}/server.pem, ca: {folder}/ca.pem}}}}
- {{address: "127.0.0.1:0", protocol: binary, user: admin}}
""")
    served = Served(['-c', str(folder / 'config.yml')], folder)
    try:
        addresses = served.addresses(5)
        found = dict(zip(('classic', 'tarantool', 'unix', 'tls', 'mutual'), addresses, strict=True), folder=folder)
        found['binary'] = served.log_line('listening: binary ').split()[-1]
        yield found
    finally:
        assert 0 == served.stop()


@pytest.fixture
def address(listeners):
    return listeners['classic']


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(('BOXSESSION_', 'XDG_'))}
    return {**kept, 'PYTHONPATH': str(PROJECT), **more}


def command(*arguments):
    return [sys.executable, '-m', 'boxsession', 'connect', *map(str, arguments)]


def connect(*arguments, stdin=b'', code=0, **more):
    """Runs the program and checks its exit code; returns its standard output and error."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(command(*arguments), input=data, capture_output=True, timeout=30, env=environment(**more))
    out, err = done.stdout.decode(errors='surrogateescape'), done.stderr.decode()
    assert 'Traceback' not in err, err
    assert code == done.returncode, (out, err)
    return out, err


# Texts that the client, telnet or a protocol of the server could take for something else.
TEXTS = ['~.', '\x04', 'a\n~.\nb', '\n\x04\n', '\x03', '\xff\xfa\xff', '--~boxsession~', '\n\n', '\n...\n', '---', '\\',
         'é', 'x' * 500]


def bytes_of(text):
    """A statement that lists the bytes of the text, and its raw reply."""
    # Lua drops a line feed right after the brackets.
    statement = b'local text = [==[\n%s]==] return (text:gsub(".", function(c) return c:byte() .. " " end))' \
        % text.encode('latin-1')
    return statement, ''.join(f'{ord(char)} ' for char in text) + '\n'


class TestStatements:
    def test_one(self, address):
        assert ('---\n- 2\n...\n', '') == connect(address, '-e', '1 + 1')

    def test_several_share_a_session(self, address):
        out, err = connect(address, '-e', 'box.session.storage.n = 41', '-e', 'box.session.storage.n + 1')
        assert ('---\n...\n---\n- 42\n...\n', '') == (out, err)

    def test_one_of_several_lines_is_one(self, address):
        assert '---\n- 6\n...\n' == connect(address, '-e', 'local n = 0\nfor i = 1, 3 do\n  n = n + i\nend\nreturn n')[0]

    @pytest.mark.parametrize('listener', ['classic', 'tarantool', 'unix', 'binary'])
    def test_a_pipe(self, listeners, listener):
        script = 'total = 0\nfor i = 1, 3 do\n\n  total = total + i\nend\n\n-- a comment\ntotal, {\n  a = 1\n}\n"last"'
        out, err = connect(listeners[listener], '--output', 'json', stdin=script)
        assert ('[]\n[]\n[6,{"a":1}]\n["last"]\n', '') == (out, err)

    def test_a_file_behind_statements(self, address, tmp_path):
        (tmp_path / 'a.lua').write_text('#!/usr/bin/env boxsession\nbox.session.storage.a\n')
        out, _ = connect(address, '-e', 'box.session.storage.a = 7', '-f', tmp_path / 'a.lua', '--raw')
        assert '7\n' == out
        assert '1\n' == connect(address, '-f', '-', '--raw', stdin='1')[0]

    @pytest.mark.parametrize('head', ['\ufeff', '\ufeff#!/bin/sh\n', '#!/bin/sh\n', '#! {\n', ''])
    def test_marks_at_the_start_of_a_file(self, address, tmp_path, head):
        script = f"{head}'first'\n'second'\nerror('third', 0)\n"
        (tmp_path / 'a.lua').write_text(script)
        place = 3 + head.count('\n')
        for arguments, stdin, name in (('-f', tmp_path / 'a.lua'), '', f'{tmp_path}/a.lua:'), ((), script, 'line '):
            out, err = connect(address, *arguments, '--raw', stdin=stdin, code=1)
            assert ('first\nsecond\n', f'boxsession: {name}{place}: third\n') == (out, err)

    @pytest.mark.parametrize(('text', 'out'), [('#', ''), ('\ufeff', ''), ('', ''), ('\ufeff1', '1\n')])
    def test_a_file_that_is_little_more_than_a_mark(self, address, text, out):
        assert out == connect(address, '--raw', stdin=text, code=1 if text == '#' else 0)[0]

    def test_a_mark_in_pieces(self, address):
        process = subprocess.Popen(command(address, '--raw'), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env=environment())
        with process:
            for byte in '\ufeff#!x\n#"four"\n'.encode():
                process.stdin.write(bytes([byte]))
                process.stdin.flush()
            assert select.select([process.stdout], [], [], 20)[0]
            assert b'4\n' == process.stdout.readline()
            process.stdin.close()

    def test_answers_come_as_their_statements_do(self, address):
        process = subprocess.Popen(command(address, '--raw'), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env=environment())
        with process:
            for number in (1, 2):
                process.stdin.write(b'%d\n' % number)
                process.stdin.flush()
                assert select.select([process.stdout], [], [], 20)[0]
                assert b'%d\n' % number == os.read(process.stdout.fileno(), 100)
            process.stdin.close()
            assert 0 == process.wait(20)

    @pytest.mark.parametrize('listener', ['classic', 'tarantool', 'binary'])
    @pytest.mark.parametrize('text', TEXTS)
    def test_any_text_arrives(self, listeners, listener, text):
        statement, expected = bytes_of(text)
        assert (expected, '') == connect(listeners[listener], '--raw', stdin=statement)

    @pytest.mark.parametrize('listener', ['classic', 'tarantool', 'binary'])
    def test_any_text_arrives_as_an_argument(self, listeners, listener):
        statements = [bytes_of(text) for text in TEXTS]
        arguments = [argument for statement, _ in statements for argument in ('-e', os.fsdecode(statement))]
        expected = ''.join(reply for _, reply in statements)
        assert (expected, '') == connect(listeners[listener], '--raw', *arguments)

    def test_a_delimiter_of_the_script(self, address):
        script = '\\set delimiter ;\nlocal a = 3\nreturn a;\n\\set delimiter;\n4'
        assert '3\n4\n' == connect(address, '--raw', stdin=script)[0]

    @pytest.mark.parametrize('listener', ['classic', 'tarantool'])
    def test_a_delimiter_of_the_server(self, listeners, listener):
        script = 'require("console").delimiter("x")\n1\nfor i = 1, 2 do\nn = i\nend\nn'
        assert '1\n2\n' == connect(listeners[listener], '--raw', stdin=script)[0]

    @pytest.mark.parametrize('listener', ['classic', 'tarantool', 'binary'])
    def test_commands_of_the_server(self, listeners, listener):
        assert 'console' in connect(listeners[listener], '--output', 'json', '-e', '\\sessions')[0]
        assert 'Usage: \\kill ID' in connect(listeners[listener], '-e', '\\kill', code=1)[1]

    def test_quit_leaves(self, address):
        assert '1\n' == connect(address, '--raw', stdin='1\n\\quit\n2')[0]
        assert '1\n' == connect(address, '--raw', stdin='1\n~.\n2')[0]

    def test_pushes_and_print_go_to_standard_error(self, address):
        out, err = connect(address, '--raw', '-e', 'print("hello", 1) box.session.push({a = 1}) return 5')
        assert ('5\n', 'hello\t1\n---\na: 1\n...\n') == (out, err)


class TestOutput:
    STATEMENTS = ('-e', '1, "a", nil, {b = {true}}, ""', '-e', 'x = 1', '-e', '{}', '-e', '0/0', '-e', '"123"')

    def test_json_is_a_line_for_each(self, address):
        out, _ = connect(address, '--output', 'json', *self.STATEMENTS)
        found = [json.loads(line) for line in out.splitlines()]
        assert [[1, 'a', None, {'b': [True]}, ''], [], [[]], [None], ['123']] == found

    def test_lua_is_a_line_for_each(self, address):
        out, _ = connect(address, '--output', 'lua', *self.STATEMENTS[:6])
        assert '1, "a", box.NULL, {b = {true}}, "";\n;\n{};\n' == out

    def test_yaml_is_the_servers(self, address):
        out, _ = connect(address, *self.STATEMENTS[:6])
        assert 3 == len(list(yaml.safe_load_all(out)))

    def test_raw_is_a_line_for_each_value(self, address):
        assert '1\na\nnull\n{"b":[true]}\n\n[]\nnull\n123\n' == connect(address, '--raw', *self.STATEMENTS)[0]

    def test_raw_bytes(self, address):
        assert '\udcff\udcfe\n' == connect(address, '--raw', '-e', r'"\255\254"')[0]

    @pytest.mark.parametrize(('form', 'out'), [
        ('yaml', '---\n- error: boom\n...\n'), ('json', '{"error":"boom"}\n'), ('lua', '{error = "boom"};\n')])
    def test_an_error_is_told_twice(self, address, form, out):
        assert (out, 'boxsession: boom\n') == connect(address, '--output', form, '-e', 'error("boom", 0)', code=1)

    def test_an_error_under_raw_is_told_once(self, address):
        assert ('', 'boxsession: {"code":5}\n') == connect(address, '--raw', '-e', 'error({code = 5})', code=1)

    def test_what_looks_like_an_error_only_at_first(self, address):
        connect(address, '-e', '{error = 1, more = 2}', '-e', '{error = 1}, 2', '-e', '{{error = 1}}', '-e', '"error: x"')

    def test_what_json_cannot_show_is_an_error(self, address):
        out, err = connect(address, '--output', 'json', '-e', 't = {} t.t = t return t', code=1)
        assert 'refers to itself' in json.loads(out)['error'] and 'refers to itself' in err

    def test_a_script_may_change_it(self, address):
        assert '[1]\n1;\n' == connect(address, '--output', 'json', stdin='1\n\\set output lua\n1')[0].replace('true;\n', '')


class TestErrors:
    def test_the_first_ends_the_script(self, address, tmp_path):
        (tmp_path / 'a.lua').write_text('1\n\nfor i = 1, 2 do\n  nosuch()\nend\n3\n')
        out, err = connect(address, '-f', tmp_path / 'a.lua', '--output', 'json', code=1)
        assert 2 == out.count('\n') and '[1]\n{"error":' == out[:13]
        assert err.startswith(f'boxsession: {tmp_path}/a.lua:3: ') and 'nosuch' in err

    def test_keep_going(self, address):
        out, err = connect(address, '--keep-going', '--raw', '-e', '1', '-e', 'error("a", 0)', '-e', '3', code=1)
        assert ('1\n3\n', 'boxsession: -e 2: a\n') == (out, err)

    def test_a_syntax_error_is_no_unfinished_statement(self, address):
        assert 'boxsession: line 1: ' in connect(address, stdin='x = = 1\n2', code=1)[1]

    def test_what_is_told_moves_no_cursor(self, address):
        err = connect(address, '--raw', '-e', 'error("\\27[31mred\\7")', code=1)[1]
        assert 'boxsession: \\x1b[31mred\\x07\n' == err

    def test_an_unfinished_statement_tells_no_password(self, address):
        assert 'secret' not in connect(address, '-f', '-', stdin="box.schema.user.passwd('secret', {", code=1)[1]

    def test_an_unfinished_statement_is_not_run(self, address):
        out, err = connect(address, '--output', 'json', stdin='1\nfor i = 1, 2 do\n  x = i\n', code=1)
        assert '[1]\n' == out[:4] and 'ended inside a statement' in json.loads(out[4:])['error']
        assert 'boxsession: line 2: the input ended inside a statement, which was not run: for i = 1, 2 do' in err
        connect(address, '-e', 'for i = 1, 2 do', code=1)

    def test_no_server(self, tmp_path):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        assert ('', f'boxsession: cannot connect to 127.0.0.1:{port}: Connection refused\n') == \
            connect(f'127.0.0.1:{port}', '-e', '1', code=2)
        assert 'No such file' in connect(f'unix:{tmp_path}/none', '-e', '1', code=2)[1]

    def test_what_is_no_console(self):
        with socket.create_server(('127.0.0.1', 0)) as listener:
            process = subprocess.Popen(command(f'127.0.0.1:{listener.getsockname()[1]}', '-e', '1'), stderr=subprocess.PIPE,
                                       stdout=subprocess.PIPE, env=environment())
            listener.settimeout(20)
            client = listener.accept()[0]
            client.sendall(b'SSH-2.0-OpenSSH_9.2\r\n')
            client.close()
            out, err = process.communicate(timeout=20)
        assert (2, b'') == (process.returncode, out) and b'is no console: expected its greeting' in err

    @pytest.mark.parametrize('reason', ['not now', 'not now ' * 50 + '.'])
    def test_a_session_that_is_refused(self, serve, tmp_path, reason):
        (tmp_path / 'init.lua').write_text(f'box.session.on_connect(function() error("{reason}", 0) end)')
        (tmp_path / 'c.yml').write_text(f'listen: ["127.0.0.1:0"]\ninit: {tmp_path}/init.lua\n')
        [address] = serve('-c', 'c.yml').addresses()
        assert ('', f'boxsession: {address} refused the session: {reason}\n') == connect(address, '-e', '1', code=2)

    def test_the_server_goes_away(self, serve):
        served = serve('--listen', '127.0.0.1:0')
        [address] = served.addresses()
        process = subprocess.Popen(command(address, '-e', '1', '-e', 'require("fiber").sleep(100)'), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=environment())
        assert b'---\n- 1\n...\n' == os.read(process.stdout.fileno(), 100)
        served.process.kill()
        out, err = process.communicate(timeout=20)
        assert (2, b'') == (process.returncode, out) and err.startswith(b'boxsession: the server went away')

    @pytest.mark.parametrize(('arguments', 'told'), [
        (['--nosuch'], 'unrecognized arguments: --nosuch'),
        (['--output', 'xml'], "invalid choice: 'xml'"),
        (['--timeout', '-1'], "invalid number of seconds value: '-1'"),
        (['-f', '/nosuch/file'], '-f /nosuch/file: No such file or directory'),
        (['--password-file', 'x', '-e', '1'], '--password-file needs a user'),
        (['--key', 'x'], '--key needs --cert'),
        (['--ca', '/nosuch/file'], 'a file of --ca, --cert or --key cannot be used: No such file or directory'),
    ])
    def test_wrong_usage(self, address, arguments, told):
        out, err = connect(address, *arguments, code=3)
        assert '' == out and told in err

    @pytest.mark.parametrize('target', ['a:b:c', 'unix:', '@127.0.0.1:1', '127.0.0.1:99999'])
    def test_wrong_addresses(self, target):
        assert 'boxsession: ' in connect(target, '-e', '1', code=3)[1]

    def test_a_reader_that_has_enough(self, address):
        lines = '\n'.join(['("x"):rep(1000)'] * 500)
        done = subprocess.run(['sh', '-c', f'{" ".join(command(address, "--raw"))} | head -c 10'], input=lines.encode(),
                              capture_output=True, timeout=30, env=environment())
        assert (b'x' * 10, b'') == (done.stdout, done.stderr)


class TestTimeout:
    @pytest.mark.parametrize('listener', ['classic', 'binary'])
    def test_the_statement_is_cancelled(self, listeners, listener):
        name = f'running_{listener}'
        out, err = connect(listeners[listener], '--timeout', '2', '-e',
                           f'{name} = true pcall(require("fiber").sleep, 100) while true do end', '-e', '1', code=2)
        assert ('', 'boxsession: --timeout is over: the running statement was cancelled\n') == (out, err)
        running = connect(listeners['classic'], '--raw', '-e', name, '-e', '#box.session.list({state = "running"})')
        assert 'true\n1\n' == running[0]          # the one that asks

    def test_it_is_for_all_of_them(self, address):
        assert 'x\n' == connect(address, '--raw', '--timeout', '2', '-e', '"x"', '-e', 'require("fiber").sleep(1.2)',
                                '-e', 'require("fiber").sleep(100)', code=2)[0]

    def test_a_server_that_says_nothing(self):
        with socket.create_server(('127.0.0.1', 0)) as listener:
            err = connect(f'127.0.0.1:{listener.getsockname()[1]}', '--timeout', '0.3', '-e', '1', code=2)[1]
        assert 'does not answer in time; if it is a TLS listener, use --tls' in err

    def test_a_process_of_this_machine_that_is_held(self, tmp_path):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / 's'))
            listener.listen()
            err = connect(f'unix:{tmp_path}/s', '--timeout', '4', '-e', '1', code=2)[1]
        assert f'process {os.getpid()} has not answered for 3 s' in err and 'py-spy dump' in err
        assert err.endswith('it does not answer in time\n')

    @pytest.mark.parametrize('data', [b'x' * 9999 + b'\n', b'%TAG !push! tag:tarantool.io/push,2018\n--- x\n...\n' * 200],
                             ids=['a reply without an end', 'pushes'])
    def test_a_server_that_never_stops(self, data):
        with socket.create_server(('127.0.0.1', 0)) as listener:
            listener.settimeout(20)
            process = subprocess.Popen(command(f'127.0.0.1:{listener.getsockname()[1]}', '--timeout', '1', '-e', '1'),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
            with process, listener.accept()[0] as client:
                client.settimeout(20)
                client.sendall(f'{"Tarantool 2.6.0 (Lua console)":<63}\n{"":<63}\n'.encode() + 2 * b'---\n...\n')
                ends = time.monotonic() + 20
                try:
                    while process.poll() is None and time.monotonic() < ends:
                        client.sendall(data)
                except OSError:
                    pass
                else:
                    process.kill()
            assert 2 == process.returncode

    def test_input_that_does_not_come(self, address):
        process = subprocess.Popen(command(address, '--timeout', '0.5'), stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=environment())
        with process:
            assert 2 == process.wait(20)
            assert b'boxsession: --timeout is over\n' == process.stderr.read()

    @pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_cancels(self, address, number):
        name = f'signal_{int(number)}'
        process = subprocess.Popen(command(address, '--raw', '-e', '"ready"', '-e', f'{name} = true while true do end'),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        assert b'ready\n' == os.read(process.stdout.fileno(), 100)
        connect(address, '-e', f'while not {name} do require("fiber").sleep(0.01) end')
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (128 + number, b'', b'') == (process.returncode, out, err)
        assert '1\n' == connect(address, '--raw', '-e', '#box.session.list({state = "running"})')[0]


class TestLogin:
    WHO = ('--raw', '-e', 'box.session.user()')

    @pytest.mark.parametrize('listener', ['classic', 'tarantool', 'unix', 'binary'])
    def test_a_password_file(self, listeners, listener, tmp_path):
        (tmp_path / 'password').write_text(PASSWORD + '\n')
        assert ('ops\n', '') == connect(f'ops@{listeners[listener]}', '--password-file', tmp_path / 'password', *self.WHO)

    def test_a_variable(self, address):
        assert 'ops\n' == connect(f'ops@{address}', *self.WHO, BOXSESSION_PASSWORD=PASSWORD)[0]

    @pytest.mark.parametrize('listener', ['unix', 'binary'])
    def test_a_wrong_one(self, listeners, listener):
        err = connect(f'nobody@{listeners[listener]}', *self.WHO, code=2, BOXSESSION_PASSWORD='wrong-one')[1]
        assert f'boxsession: cannot log in as nobody@{listeners[listener]}: Incorrect password' in err
        assert 'wrong-one' not in err

    @pytest.mark.parametrize('listener', ['classic', 'unix'])
    def test_guest_has_none(self, listeners, listener):
        assert ('guest\n', '') == connect(f'guest@{listeners[listener]}', *self.WHO)

    def test_none(self, address):
        assert 'no password for ops: use --password-file FILE or the environment variable BOXSESSION_PASSWORD' in \
            connect(f'ops@{address}', *self.WHO, code=3)[1]

    def test_never_in_the_address(self, address):
        err = connect(f'ops:hidden@{address}', *self.WHO, code=3)[1]
        assert 'the address must not contain a password' in err and 'hidden' not in err

    def test_a_sandbox(self, address):
        script = 'n = 1\nfor i = 1, 2 do\n n = n + i\nend\nn\n'
        assert '4\n' == connect(f'web@{address}', '--raw', stdin=script, BOXSESSION_PASSWORD='web')[0]


class TestAddresses:
    @pytest.mark.parametrize(('text', 'address'), [
        ('localhost', 'localhost:3313'), ('ann@shop.example', 'shop.example:3313'), ('[::1]', '[::1]:3313'),
        ('ann@[::1]', '[::1]:3313'), ('10.0.0.1', '10.0.0.1:3313'), ('4', '127.0.0.1:4'), ('a:5', 'a:5'),
        ('unix:a', 'unix:a'), ('unix/:/a', 'unix:/a'), ('ann@unix:a@b', 'unix:a@b')])
    def test_without_a_port_it_is_the_default_one(self, text, address):
        assert address == str(Target.parse(text).address)

    @pytest.mark.parametrize(('text', 'told'), [
        ('/run/a.sock', 'a unix socket is unix:/run/a.sock'), ('./a.sock', 'unix:./a.sock'), ('::1', "as in '[::1]:3313'"),
        ('a b', 'not an address'), ('localhost:', 'not an address'), ('[x]', 'is not IPv6')])
    def test_what_is_none(self, text, told):
        assert told in connect(text, '-e', '1', code=3)[1]


@pytest.mark.parametrize(('arguments', 'code', 'told'), [
    (['serve', '--port', '3313'], 2, '--listen 127.0.0.1:3313'), (['serve', '127.0.0.1:3313'], 2, '--listen ADDRESS'),
    (['serve', '3313'], 2, '--listen ADDRESS'), (['serve', 'shop.yml'], 2, '-c FILE'),
    (['serve', '--daemon'], 2, 'unrecognized arguments: --daemon\n'),
    (['check-config', '-c', 'shop.yml'], 2, 'boxsession check-config FILE'),
    (['passwd', '-c', 'shop.yml', 'ann', 'geheim'], 2, 'the first line of standard input'),
    (['connect', 'localhost', '3313'], 3, 'as in 127.0.0.1:3313'),
    (['connect', '--port', '3313'], 3, 'as in 127.0.0.1:3313')])
def test_a_wrong_usage_names_the_right_form(arguments, code, told):
    done = subprocess.run([sys.executable, '-m', 'boxsession', *arguments], capture_output=True, text=True, timeout=30,
                          env=environment())
    assert code == done.returncode
    assert done.stderr.startswith(f'usage: boxsession {arguments[0]} ') and told in done.stderr


def test_the_audit_file_has_the_statements_alone(serve, tmp_path):
    (tmp_path / 'c.yml').write_text('listen: ["127.0.0.1:0"]\naudit: {file: audit, required: true}\n')
    [address] = serve('-c', 'c.yml').addresses()
    connect(address, '-e', '1 + 1', '-e', '\\sessions')
    connect(address, stdin='\\set output lua\n2 + 2\n')
    client = Client(address)
    client.reply('\\set continuation off')
    client.close()
    events = [json.loads(line) for line in (tmp_path / 'audit').read_text().splitlines()]
    assert ['1 + 1', '\\sessions', '2 + 2', '\\set continuation off'] == [
        event['statement'] for event in events if event['event'] == 'statement']


class TestTls:
    def test_verified(self, listeners):
        assert '2\n' == connect(listeners['tls'], '--ca', listeners['folder'] / 'ca.pem', '--raw', '-e', '1 + 1')[0]

    def test_not_trusted(self, listeners):
        err = connect(listeners['tls'], '--tls', '-e', '1', code=2)[1]
        assert 'its certificate cannot be verified' in err
        assert '--ca FILE' in err

    def test_not_verified(self, listeners):
        assert '2\n' == connect(listeners['tls'], '--no-verify', '--raw', '-e', '1 + 1')[0]

    def test_another_name(self, listeners):
        other = listeners['tls'].replace('127.0.0.1', 'localhost')
        err = connect(other, '--ca', listeners['folder'] / 'ca.pem', '-e', '1', code=2)[1]
        assert "verified: Hostname mismatch, certificate is not valid for 'localhost'. It is valid for 127.0.0.1: " \
            'connect to one of these names\n' in err
        assert '--ca' not in err
        # The other name is trusted in no other way: nothing is told of a certificate that nobody trusted has signed.
        assert 'It is valid for' not in connect(other, '--tls', '-e', '1', code=2)[1]

    def test_names_that_are_none_or_many(self, serve, tmp_path):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / 'ca.pem')
        issued = authority.issue_cert(*(f'host{number}.example' for number in range(20)))
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / 'many.pem')
        (tmp_path / 'c.yml').write_text('listen: [{address: "127.0.0.1:0", tls: {cert: many.pem, key: many.pem}}]\n')
        [address] = serve('-c', 'c.yml').addresses()
        err = connect(address, '--ca', tmp_path / 'ca.pem', '-e', '1', code=2)[1]
        assert 'IP address mismatch' in err
        assert 'It is valid for host0.example, host1.example, ' in err and 'host9.example: connect' in err


    def test_a_client_certificate(self, listeners, tmp_path):
        folder = listeners['folder']
        arguments = (listeners['mutual'], '--ca', folder / 'ca.pem', '--raw', '-e', '1 + 1')
        assert '2\n' == connect(*arguments, '--cert', folder / 'alice.pem')[0]
        assert 'the listener wants a client certificate: use --cert FILE' in connect(*arguments, code=2)[1]
        stranger = trustme.CA().issue_cert('alice.example')
        stranger.private_key_and_cert_chain_pem.write_to_path(tmp_path / 'stranger.pem')
        err = connect(*arguments, '--cert', tmp_path / 'stranger.pem', code=2)[1]
        assert 'the listener does not accept the client certificate of --cert: unknown ca' in err

    def test_in_the_clear(self, listeners):
        err = connect(listeners['tls'], '--timeout', '0.5', '-e', '1', code=2)[1]
        assert 'if it is a TLS listener, use --tls' in err

    def test_tls_where_there_is_none(self, address):
        err = connect(address, '--tls', '-e', '1', code=2)[1]
        assert 'TLS failed' in err
        assert 'leave --tls out' in err

    def test_a_long_reply(self, listeners):
        out, _ = connect(listeners['tls'], '--no-verify', '--raw', '-e', '("x"):rep(3000000)')
        assert 3000001 == len(out)


@need('tarantool')
class TestTarantool:
    """The text console and the binary port of a real one."""

    @pytest.fixture(params=['text', 'binary'])
    def target(self, request, tarantool):
        return tarantool.address if request.param == 'text' else f'127.0.0.1:{tarantool.binary_port}'

    def test_a_script(self, target):
        script = 'total = 0\nfor i = 1, 3 do\n  total = total + i\nend\ntotal, "~."\n[[\n~.\n]]\n'
        assert '6\n~.\n~.\n\n' == connect(target, '--raw', stdin=script)[0]

    def test_an_error(self, target):
        out, err = connect(target, '--output', 'json', '-e', 'error("boom", 0)', code=1)
        assert ('{"error":"boom"}\n', 'boxsession: boom\n') == (out, err)

    def test_a_push(self, target):
        out, err = connect(target, '--raw', '-e', 'box.session.push("half") return "whole"')
        assert ('whole\n', 'half\n') == (out, err)

    def test_a_login(self, tarantool):
        target = f'ops@127.0.0.1:{tarantool.binary_port}'
        assert 'ops\n' == connect(target, '--raw', '-e', 'box.session.user()', BOXSESSION_PASSWORD='pass')[0]

    def test_a_timeout_leaves_it(self, target):
        err = connect(target, '--timeout', '2', '-e', 'require("fiber").sleep(20)', code=2)[1]
        assert '--timeout is over' in err


def test_it_starts_without_the_server():
    loaded = subprocess.run(
        [sys.executable, '-c', 'import sys, boxsession.cli; boxsession.cli.parser(); print(*sys.modules)'],
        capture_output=True, text=True, check=True, env=environment()).stdout.split()
    assert 'boxsession.client.command' in loaded
    assert not {'gevent', 'lupa', 'sqlite3', 'msgpack', 'prompt_toolkit', 'pygments', 'boxsession.embed'} & set(loaded)


def test_every_option_is_documented():
    from boxsession.cli import parser
    commands = next(action for action in parser()._actions if action.dest == 'command')
    options = {option for action in commands.choices['connect']._actions for option in action.option_strings}
    text = (PROJECT / 'docs' / 'connect.rst').read_text()
    told = {option for line in text.splitlines() if line.startswith('``-')
            for option in re.findall(r'(?<![\w-])--?[a-z][a-z-]*', line)}
    assert options - {'-h', '--help'} == told


def blocks(language):
    """The blocks of a language in docs/scripting.rst."""
    text = (PROJECT / 'docs' / 'scripting.rst').read_text()
    return ['\n'.join(line[4:] for line in block.splitlines()).strip('\n') + '\n'
            for block in re.findall(rf'\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)', text)]


class TestThePageOnScripting:
    """Runs the examples of docs/scripting.rst, with a server if they need one."""

    @pytest.fixture
    def run(self, address, tmp_path):
        program = tmp_path / 'boxsession'
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m boxsession "$@"\n')
        program.chmod(0o755)

        def run_it(*command):
            command = [part.replace('127.0.0.1:3313', address) for part in command]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path,
                                  env=environment(PATH=f'{tmp_path}:{os.environ["PATH"]}'))
            assert (0, '') == (done.returncode, done.stderr)
            return done.stdout
        return run_it

    def test_cron(self, run):
        line = blocks('text')[0]
        times = '*/5 * * * *  '
        assert line.startswith(times)
        assert '' == run('sh', '-c', line[len(times):])

    def test_shell(self, run):
        assert blocks('text')[1] == run('sh', '-c', blocks('sh')[0])

    def test_python(self, run):
        assert blocks('text')[2] == run(sys.executable, '-c', blocks('python')[0])

    def test_ansible(self, run):
        status, kill = yaml.safe_load(blocks('yaml')[0])
        assert 'running\n' == run(*status['ansible.builtin.command']['argv'])
        assert '0\n' == run(*kill['ansible.builtin.command']['argv'])
