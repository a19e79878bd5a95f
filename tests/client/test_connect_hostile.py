"""`boxsession connect` with servers that try to get a password, to fill its memory or to control its terminal; and in odd
environments."""
from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys

import msgpack
import pytest
from conftest import IS_LONG, need, rounds
from fake_server import ELSEWHERE, Fake
from test_connect import command, connect, environment, listeners  # noqa: F401
from waiting import wait_for

from boxsession.client import channel
from boxsession.client.channel import LinkError, Refused
from boxsession.client.link import Link
from boxsession.client.target import Target
from boxsession.protocol import iproto
from boxsession.protocol.greeting import console_greeting

SECONDS = 120
OURS = console_greeting('0.1.0')
THEIRS = f'{"Tarantool 2.6.0 (Lua console)":<63}\n{"type help for interactive help":<63}\n'.encode()
BINARY = iproto.greeting('2.6.0', 'x', bytes(32))
TRUE, EMPTY = b'---\n- true\n...\n', b'---\n...\n'
LUA = b'---\n- language: lua\n...\n'
# The replies to the settings with which the client begins. Then comes that to a login, and LUA, the session's language.
OPENED = TRUE + EMPTY + TRUE
SECRET = b'geheim'


needs_network = pytest.mark.skipif(ELSEWHERE is None, reason='this machine has a loopback address only')


@pytest.fixture
def fake():
    made = []

    def make(*pieces, host='127.0.0.1'):
        made.append(Fake(pieces[0] if len(pieces) == 1 and not isinstance(pieces[0], bytes) else pieces, host))
        return made[-1]

    yield make
    for server in made:
        server.close()


def little_memory(limit):
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def limited(*arguments, code, memory=1 << 30, **more):
    """As connect(), with `memory` bytes of address space; returns standard error."""
    done = subprocess.run(command(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          timeout=SECONDS, env=environment(**more), preexec_fn=little_memory(memory))
    err = done.stderr.decode()
    assert 'Traceback' not in err, err
    assert code == done.returncode, err
    return err


def frame(payload):
    return b'\xce' + len(payload).to_bytes(4, 'big') + payload


def pushed(value, sync=1):
    """A frame that pushes a value, given as msgpack."""
    return frame(msgpack.packb({0: 128, 1: sync}) + b'\x81\x30\x91' + value)


@needs_network
class TestCleartext:
    """A password is never sent in cleartext over a network."""

    @pytest.mark.parametrize('greeting', [OURS, THEIRS])
    @pytest.mark.parametrize('is_file', [False, True])
    def test_a_login_sends_nothing_at_all(self, fake, tmp_path, greeting, is_file):
        server = fake(greeting, OPENED, host=ELSEWHERE)
        (tmp_path / 'password').write_bytes(SECRET)
        given = ('--password-file', tmp_path / 'password') if is_file else ()
        err = connect(f'ops@{server.address}', *given, '-e', '1', code=2, BOXSESSION_PASSWORD=SECRET.decode())[1]
        assert f'cannot log in as ops@{server.address}: ' in err and SECRET.decode() not in err
        assert b'' == server.received

    @pytest.mark.parametrize(('arguments', 'stdin'), [
        (['-e', '\\login ops geheim'], b''), ([], b'\\login ops geheim\n'), ([], b'\\  login   ops geheim\r\n'),
        (['-f', 'script'], b''), ([], b'\\set delimiter ;\n\\login ops geheim;\n'),
        (['-e', 'require("console").eval("\\\\login ops geheim")'], b''),
    ])
    @pytest.mark.parametrize('greeting', [OURS, BINARY])
    def test_a_login_line_is_not_sent(self, fake, tmp_path, monkeypatch, greeting, arguments, stdin):
        server = fake(greeting, OPENED + LUA if greeting == OURS else b'', host=ELSEWHERE)
        (tmp_path / 'script').write_bytes(b'\\login ops geheim')
        monkeypatch.chdir(tmp_path)
        err = connect(server.address, *arguments, stdin=stdin, code=1)[1]
        assert '--insecure' in err and SECRET not in server.received

    def test_insecure_sends_it(self, fake):
        server = fake(OURS, OPENED, TRUE, LUA, TRUE, host=ELSEWHERE)
        connect(f'ops@{server.address}', '--insecure', '--raw', '-e', '1', BOXSESSION_PASSWORD=SECRET.decode())
        assert b'\\login ops geheim--~boxsession~\n' in server.received

    def test_a_scramble_is_no_password(self, fake):
        server = fake(BINARY, iproto.ok(1), iproto.ok(2, iproto.packed(['---\n- 5\n...\n'])), host=ELSEWHERE)
        assert '5\n' == connect(f'ops@{server.address}', '--raw', '-e', '1', BOXSESSION_PASSWORD=SECRET.decode())[0]
        assert b'chap-sha1' in server.received and SECRET not in server.received

    @pytest.mark.parametrize(('name', 'host', 'is_sent'), [('far.example', '127.0.0.1', True),
                                                           ('localhost', ELSEWHERE, False)])
    def test_the_address_counts_and_no_name(self, fake, monkeypatch, name, host, is_sent):
        server = fake(OURS, OPENED, TRUE, LUA, host=host)
        port = int(server.address.rpartition(':')[2])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, '', (host, port))]
        monkeypatch.setattr(socket, 'getaddrinfo', lambda *_, **__: found)
        target = Target.parse(f'ops@{name}:{port}')
        target.password = SECRET.decode()
        if is_sent:
            Link(target).close()
        else:
            with pytest.raises(Refused, match='others could read it on the network'):
                Link(target)
            assert b'' == server.received


class TestLogin:
    @pytest.mark.parametrize('password', ['wrong\x03', 'a\nb', 'a\rb', '\x1b', 'a\0b', '\x7f', '--~boxsession~'])
    def test_no_control_characters_in_a_login_line(self, fake, password):
        server = fake(OURS, OPENED, EMPTY)
        target = Target.parse(f'ops@{server.address}')
        target.password = password
        with pytest.raises(Refused, match='control characters'):
            Link(target)
        assert b'' == server.received

    def test_nor_in_a_statement_that_is_one(self, fake):
        server = fake(OURS, OPENED, LUA, EMPTY)
        connect(server.address, '-e', '\\login ops wrong\x03', code=1)
        assert b'wrong' not in server.received

    def test_white_space_in_a_name(self, fake):
        server = fake(OURS, OPENED, TRUE)
        assert 'white space' in connect(f'a b@{server.address}', '-e', '1', code=2, BOXSESSION_PASSWORD='x')[1]
        assert b'' == server.received

    @pytest.mark.parametrize('reply', [b'---\n- 1\n...\n', b'---\n- true\n- 1\n...\n', b"---\n- 'true'\n...\n",
                                       b'---\n- error: {true: 1}\n- 1\n...\n'])
    @pytest.mark.parametrize('greeting', [OURS, BINARY])
    def test_only_true_is_success(self, fake, greeting, reply):
        binary = iproto.ok(1, iproto.packed([reply.decode()])) + iproto.ok(2, iproto.packed(['---\n- 1\n']))
        server = fake(greeting, OPENED + reply + TRUE if greeting == OURS else binary)
        out, err = connect(f'ops@{server.address}', '--raw', '-e', 'secret_action()', code=2, BOXSESSION_PASSWORD='x')
        assert '' == out and 'cannot log in as ops@' in err
        assert b'secret_action' not in server.received

    @pytest.mark.parametrize('form', [b'geheim', b"'geheim'", b'"\\x67eheim"'])
    def test_an_error_that_holds_the_password(self, fake, form):
        document = b'---\n- error: !!str ' + form + b'\n...\n'
        server = fake(OURS, OPENED + document)
        err = connect(f'ops@{server.address}', '-e', '1', code=2, BOXSESSION_PASSWORD=SECRET.decode())[1]
        assert 'cannot log in' in err and SECRET.decode() not in err
        server = fake(OURS, OPENED + LUA + document)
        out, err = connect(server.address, '-e', '\\login ops geheim', code=1)
        assert SECRET.decode() not in out + err

    @need('tarantool')
    @pytest.mark.parametrize('arguments', [['-e', '1'], ['-e', '\\login web geheim']])
    def test_a_server_without_logins(self, tarantool, arguments):
        is_login = 'login' in arguments[1]
        out, err = connect(('' if is_login else 'web@') + tarantool.address, *arguments, code=1 if is_login else 2,
                           BOXSESSION_PASSWORD='geheim')
        assert 'the server has no \\login' in err and 'geheim' not in out + err

    @pytest.mark.parametrize('content', [b'geheim', b'geheim\n', b'geheim\r\n', b'\xef\xbb\xbfgeheim\r\n', b'geheim\nx\n'])
    def test_forms_of_a_password_file(self, fake, tmp_path, content):
        (tmp_path / 'password').write_bytes(content)
        server = fake(OURS, OPENED, TRUE, LUA, TRUE)
        connect(f'ops@{server.address}', '--password-file', tmp_path / 'password', '-e', '1')
        assert b'\\login ops geheim--~boxsession~\n' in server.received

    @pytest.mark.parametrize('path', ['/', '/dev/null', '/dev/zero'])
    def test_what_is_no_password_file(self, path):
        assert f'--password-file {path}: ' in connect('ops@127.0.0.1:1', '--password-file', path, '-e', '1', code=3)[1]


@pytest.mark.slow
class TestMemory:
    """Input without an end is an error with exit code 2, and takes little memory."""

    @pytest.mark.parametrize('pieces', [
        itertools.repeat(b'- x\n' * 50000), itertools.repeat(b'x' * 100000), itertools.repeat(b'\n' * 100000),
        itertools.repeat(b'\xff\xfb\x01' * 50000)],
        ids=['lines', 'a line', 'empty lines', 'telnet'])
    @pytest.mark.parametrize('arguments', [[], ['--max-reply', '3000000']], ids=['default', 'less'])
    def test_a_document_without_an_end(self, fake, pieces, arguments):
        server = fake(itertools.chain([OURS, OPENED + LUA, b'---\n- "'], pieces))
        err = limited(server.address, '--raw', *arguments, '-e', '1', code=2)
        most = 3000000 if arguments else 256 << 20
        assert f'the reply is too long: more than {most} bytes (--max-reply)' in err
        assert server.sent < most + (32 << 20)

    @pytest.mark.parametrize('piece', [b'%TAG !push! tag:tarantool.io/push,2018\n--- x\n...\n' * 1000])
    def test_pushes_without_an_end_take_no_memory(self, fake, piece):
        server = fake(itertools.chain([OURS, OPENED + LUA], itertools.repeat(piece)))
        done = subprocess.run(command(server.address, '--timeout', '1.5', '-e', '1'), stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SECONDS, env=environment(),
                              preexec_fn=little_memory(1 << 28))
        assert 2 == done.returncode

    def test_a_push_without_an_end(self, fake):
        server = fake(itertools.chain([OURS, OPENED + LUA, b'%TAG !push! x\n--- '], itertools.repeat(b'x' * 100000)))
        assert 'too long' in limited(server.address, '-e', '1', code=2)

    @pytest.mark.parametrize('data', [
        b'\xce\xff\xff\xff\xff', b'\xcf' + b'\x7f' * 8, frame(b'\x82\x00\x00\x01\x01\x81\x30\xdd\xff\xff\xff\xff'),
        frame(b'\x82\x00\x00\x01\x01\x81\x30\xdb\xff\xff\xff\xff'), frame(b'\xdf\xff\xff\xff\xff'),
        pushed(b'\x91' * 100000 + b'\xc0'), pushed(b'\xdd' + (2100000).to_bytes(4, 'big') + b'\x80' * 2100000),
        frame(msgpack.packb({0: 0, 1: 99}) + msgpack.packb({0x30: []})),
    ], ids=['4 GB', '2^63', 'an array', 'a string', 'a header', 'deep', 'many values', 'of no request'])
    def test_frames_that_claim_too_much(self, fake, data):
        server = fake(BINARY, data)
        assert 'this ' in limited(server.address, '-e', '1', code=2, memory=1 << 29)

    def test_answers_to_nobody_without_an_end(self, fake):
        server = fake(itertools.chain([BINARY], itertools.repeat(iproto.ok(7, iproto.packed(['x'])) * 1000)))
        assert 'belongs to no request' in limited(server.address, '-e', '1', code=2)

    @pytest.mark.parametrize('form', [['--raw'], ['--output', 'json'], ['--output', 'lua']])
    @pytest.mark.parametrize('document', [
        b'---\n- ' + b'[' * 1100 + b']' * 1100 + b'\n...\n',
        b'---\n' + b'- [a]\n' * 2_100_000 + b'...\n',
        b'---\n- &a [x,x,x,x,x,x,x,x,x,x]\n' + b''.join(
            b'- &%c [%s]\n' % (98 + n, b','.join([b'*%c' % (97 + n)] * 10)) for n in range(9)) + b'...\n',
        b'---\n- ' + b'1' * 300_000 + b'x\n...\n',
    ], ids=['deep', 'many', 'aliases', 'digits'])
    def test_replies_that_are_long_once_they_are_read(self, fake, form, document):
        if len(document) > 1 << 20 and form != ['--raw'] and not IS_LONG:
            pytest.skip('takes ten seconds: with BOXSESSION_LONG=1')
        server = fake(OURS, OPENED + LUA, document)
        code = 0 if document[:20].endswith(b'1111') or b'&a' in document and form[-1] == 'lua' else 1
        limited(server.address, *form, '-e', '1', code=code)

    def test_what_fits_is_shown_whole(self, listeners):  # noqa: F811
        out, _ = connect(listeners['classic'], '--raw', '--max-reply', '1100000', '-e', '("x"):rep(1000000)')
        assert 1000001 == len(out)
        assert 'too long' in connect(listeners['classic'], '--max-reply', '1000', '-e', '("x"):rep(2000)', code=2)[1]
        connect(listeners['classic'], '--max-reply', '0', '-e', '("x"):rep(2000)')

    @pytest.mark.parametrize('value', ['-1', 'x', '1.5', '', '9' * 30])
    def test_wrong_limits(self, value):
        assert 'number of bytes' in connect('--max-reply', value, '-e', '1', code=3)[1]


ODD = {
    'a list as a key': b'\x81\x91\x01\x02', 'a map as a key': b'\x81\x81\x01\x02\x03', 'nil as a key': b'\x81\xc0\x01',
    'nan as a key': b'\x81\xcb\x7f\xf8' + bytes(6) + b'\x01', 'true and 1': b'\x82\xc3\x01\x01\x02',
    'bytes as a key': b'\x81\xc4\x02\xff\x00\x01', 'a float as a key': b'\x81\xcb' + struct.pack('>d', 1.5) + b'\x01',
    'the same key twice': b'\x82\x01\x01\x01\x02', 'an extension as a key': b'\x81\xd4\x05\x01\x01',
    'an extension': b'\xd8\x02' + bytes(16), 'an empty extension': b'\xc7\x00\x05', 'a timestamp': b'\xd6' + b'\xff' * 5,
    'a timestamp out of range': b'\xc7\x0c\xff' + b'\xff' * 12, 'a timestamp of no length': b'\xc7\x03\xff\x01\x02\x03',
    'a huge number': b'\xcf' + b'\xff' * 8, 'the least number': b'\xd3\x80' + bytes(7), 'infinity': b'\xca\x7f\x80\x00\x00',
    'no UTF-8': b'\xa3\xff\xfe\x00', 'a surrogate': b'\xa3\xed\xa0\x80', 'deep': b'\x91' * 300 + b'\xc0',
    'a deep key': b'\x81' * 300 + b'\xc0' + b'\x01' * 300, 'empty': b'\x80', 'an empty list': b'\x90',
    'a control character': b'\xa5\x1b[31m', 'a word': b'\xa4null', 'a line feed': b'\xa3a\nb', 'an anchor': b'\xa2&a',
}


class TestOddValues:
    @pytest.mark.parametrize('value', list(ODD.values())[::rounds(3, 1)], ids=list(ODD)[::rounds(3, 1)])
    def test_pushes(self, fake, value):
        server = fake(BINARY, pushed(value), iproto.ok(1, iproto.packed(['---\n- 5\n...\n'])))
        done = subprocess.run(command(server.address, '--raw', '-e', '1'), capture_output=True, timeout=SECONDS,
                              env=environment())
        assert (0, b'5\n') == (done.returncode, done.stdout) and done.stderr and b'Traceback' not in done.stderr

    # Every second value in one of the forms; each in all of them in long mode.
    @pytest.mark.parametrize(('name', 'form'), [(name, form) for number, name in enumerate(ODD)
                                                for place, form in enumerate(('yaml', 'json', 'lua'))
                                                if IS_LONG or number % 6 == 2 * place])
    def test_results(self, fake, name, form):
        value = ODD[name]
        server = fake(BINARY, frame(msgpack.packb({0: 0, 1: 1}) + b'\x81\x30\x91' + value))
        done = subprocess.run(command(server.address, '--output', form, '-e', '1'), capture_output=True, timeout=SECONDS,
                              env=environment())
        assert b'Traceback' not in done.stderr and done.returncode in (0, 1), done

    def test_messages(self, fake):
        for value in list(ODD.values())[::rounds(4, 1)]:
            server = fake(BINARY, frame(msgpack.packb({0: 0x8001, 1: 1}) + b'\x81\x31' + value))
            connect(server.address, '-e', '1', code=1)

    @pytest.mark.parametrize('data', [
        b'\xc1', b'\x80', frame(b''), frame(b'\xc0'), frame(b'\x80\x80\x80'), frame(b'\x81\x00\xa1x'),
        frame(b'\x82\x00\xc0\x01\xc0'),
        frame(b'\x82\x00\xcb' + b'\xff' * 8 + b'\x01\x01'), frame(b'\x82\x00\x00\x01\x01\x81\x30\x05'),
        frame(b'\x82\x00\x00\x01\x01\xc1'), frame(b'\x82\x00\x4c\x01\x00\x80'), b'\x01\x93'])
    def test_what_is_no_answer(self, fake, data):
        server = fake(BINARY, data)
        assert 'the server went away' in (err := connect(server.address, '-e', '1', code=2)[1]) or 'was closed' in err


class TestSurroundings:
    @pytest.fixture
    def address(self, listeners):  # noqa: F811
        return listeners['classic']

    def shell(self, address, redirection, *arguments, **more):
        """The program in a shell, with a redirection: (exit code, standard output, standard error)."""
        done = subprocess.run(['sh', '-c', f'exec "$@" {redirection}', 'sh', *command(address, *arguments)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
                              env=environment(**more))
        assert 'Traceback' not in done.stderr and 'Exception ignored' not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    def test_standard_error_is_closed(self, address):
        assert (1, '1\n', '') == self.shell(address, '2>&-', '--raw', '-e', '1', '-e', 'error("boom", 0)')
        assert (0, '[5]\n', '') == self.shell(address, '2>&-', '--output', 'json', '-e', 'print("hello") return 5')

    def test_standard_output_is_closed(self, address):
        code, _, err = self.shell(address, '>&-', '-e', 'closed_output = true')
        assert (3, 'boxsession: standard output is closed, so results cannot be shown: open it, or redirect it to a '
                   'file\n') == (code, err)
        assert 'null\n' == connect(address, '--raw', '-e', 'closed_output')[0]
        assert 3 == self.shell(address, '<&- >&- 2>&-', '-e', '1')[0]

    def test_standard_input_is_closed(self, address):
        assert (0, '', '') == self.shell(address, '<&-')
        assert (0, '1\n', '') == self.shell(address, '<&-', '--raw', '-e', '1')
        assert (0, '1\n', '') == self.shell(address, '<&- 2>&-', '--raw', '-e', '1')

    @pytest.mark.parametrize('redirection', ['2>&-', '<&- 2>&-', '<&- >&- 2>&-'])
    def test_a_daemon_without_standard_streams(self, redirection, tmp_path):
        process = subprocess.Popen(
            ['sh', '-c', f'exec "$@" {redirection}', 'sh', sys.executable, '-m', 'boxsession', 'serve',
             '--listen', 'unix:a.sock'],
            cwd=tmp_path, env=environment())
        try:
            def listens():
                assert process.poll() is None
                with socket.socket(socket.AF_UNIX) as probe:
                    return probe.connect_ex(os.path.relpath(tmp_path / 'a.sock')) == 0

            wait_for(listens)
            target = os.path.relpath(tmp_path / 'a.sock')
            assert '2\n' == connect(f'unix:{target}', '--raw', '-e', '1 + 1')[0]
        finally:
            process.terminate()
            assert 0 == process.wait(SECONDS)

    def test_standard_output_is_full(self, address):
        told = 'boxsession: cannot write: No space left on device\n'
        for arguments in (['-e', '1'], ['--raw', '-e', '1'], ['--output', 'json', '-e', 'error(1)']):
            assert (3, '', told) == self.shell(address, '>/dev/full', *arguments)
        assert (3, '', '') == self.shell(address, '>/dev/full 2>/dev/full', '-e', '1')
        assert (1, '1\n', '') == self.shell(address, '2>/dev/full', '--raw', '-e', 'print(5) return 1', '-e', 'error(1)')
        assert (3, '', 'boxsession: cannot write: Bad file descriptor\n') == self.shell(address, '1</dev/null', '-e', '1')

    def test_a_full_disk_under_help(self):
        for arguments in ('--help', '--version'):
            done = subprocess.run(f'exec {sys.executable} -m boxsession {arguments} >/dev/full', shell=True,
                                  stderr=subprocess.PIPE, env={**environment(), 'PYTHONUNBUFFERED': ''}, timeout=SECONDS)
            assert (3, b'boxsession: cannot write: No space left on device\n') == (done.returncode, done.stderr)

    def test_no_home_and_no_environment(self, address):
        done = subprocess.run(command(address, '--raw', '-e', '1'), env={'PYTHONPATH': environment()['PYTHONPATH']},
                              capture_output=True, timeout=SECONDS)
        assert (0, b'1\n', b'') == (done.returncode, done.stdout, done.stderr)

    @pytest.mark.parametrize(('target', 'code'), [
        (b'\xff:1', 3), (b'unix:/\xff', 2), (b'a..b:1', 3), (b'x' * 300 + b':1', 3), (b'\xff@127.0.0.1:1', 2),
        (b'[::1%nosuch]:1', 2), (b'unix:/run/app@1.sock', 2), (b'ops@unix:/run/app@1.sock', 2), (b'o:p@unix:/a@b', 3),
        ('127.0.0.1:٣'.encode(), 3), (b'127.0.0.1:1\n', 3), (b' ', 3)])
    def test_odd_addresses(self, target, code):
        err = connect(os.fsdecode(target), '-e', '1', code=code, BOXSESSION_PASSWORD='x')[1]
        assert 1 == err.count('\n')

    @pytest.mark.parametrize('number', [signal.SIGHUP, signal.SIGQUIT])
    def test_a_signal_cancels(self, address, number):
        name = f'ended_{int(number)}'
        process = subprocess.Popen(command(address, '--raw', '-e', '"ready"', '-e', f'{name} = true while true do end'),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        assert b'ready\n' == os.read(process.stdout.fileno(), 100)
        connect(address, '-e', f'while not {name} do require("fiber").sleep(0.01) end')
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (128 + number, b'', b'') == (process.returncode, out, err)
        assert '1\n' == connect(address, '--raw', '-e', '#box.session.list({state = "running"})')[0]

    def test_nohup(self, address):
        process = subprocess.Popen(['nohup', *command(address, '--raw', '-e', '"ready"', '-e', 'nohup_went_on = true '
                                                      'while not nohup_ends do require("fiber").sleep(0.01) end return 7')],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=environment())
        assert b'ready\n' == os.read(process.stdout.fileno(), 100)
        connect(address, '-e', 'while not nohup_went_on do require("fiber").sleep(0.01) end')
        process.send_signal(signal.SIGHUP)
        connect(address, '-e', 'nohup_ends = true')
        assert b'7\n' == process.communicate(timeout=20)[0] and 0 == process.returncode

    def test_a_greeting_and_a_refusal_move_no_cursor(self, fake):
        for data in (b'\x1b[31m\xe2\x80\xae' * 20, '---\n- error: "\\e[31m\u202e\u2066\u200b"\n...\n'.encode()):
            err = connect(fake([data]).address, '--timeout', '1', '-e', '1', code=2)[1]
            assert not set('\x1b\u202e\u2066\u200b') & set(err)


def test_no_descriptors_left(monkeypatch):
    def none():
        raise OSError(24, 'Too many open files')

    monkeypatch.setattr(channel.os, 'pipe', none)
    with pytest.raises(LinkError, match='Too many open files'):
        Link(Target.parse('127.0.0.1:1'))


def test_json_of_what_deceives_is_as_it_was(listeners):  # noqa: F811
    out, _ = connect(listeners['classic'], '--output', 'json', '-e', r'"\226\128\174"')
    assert ['\u202e'] == json.loads(out)
