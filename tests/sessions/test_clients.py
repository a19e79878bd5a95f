"""Clients written for Tarantool with our text console, and our console.connect with a real Tarantool."""
from __future__ import annotations

import subprocess

import gevent
import pytest
from conftest import need

pytestmark = need('tarantool')

TAG = b'%TAG !push! tag:tarantool.io/push,2018\n'


def run(command, stdin, folder):
    """Runs a program while this process serves it: (standard output, standard error, exit code)."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder)
    pool = gevent.get_hub().threadpool
    out, err = pool.apply(process.communicate, (stdin.encode(), 30))
    return out.decode(), err.decode(), process.returncode


@need('tarantoolctl')
@pytest.mark.parametrize('dialect', ['classic', 'tarantool'])
class TestTarantoolctl:
    def connect(self, console, dialect, statements, folder):
        address = console(dialect=dialect).addresses[0]
        return run(['tarantoolctl', 'connect', str(address)], statements, folder)

    def test_statements_on_stdin(self, console, dialect, tmp_path):
        script = 'local sum = 0\nfor i = 1, 4 do\n  sum = sum + i\nend\nreturn sum, {a = 1}'
        out, err, code = self.connect(console, dialect, script, tmp_path)
        assert '---\n- 10\n- a: 1\n...\n' == out.rstrip('\n') + '\n'
        assert 0 == code and 'connected to' in err

    def test_an_expression(self, console, dialect, tmp_path):
        out, _, code = self.connect(console, dialect, '1 + 1', tmp_path)
        assert ('---\n- 2\n...', 0) == (out.strip(), code)

    def test_an_error(self, console, dialect, tmp_path):
        out, err, code = self.connect(console, dialect, 'x y', tmp_path)
        assert 3 == code and "'=' expected near 'y'" in err and out == ''

    def test_a_push(self, console, dialect, tmp_path):
        out, _, code = self.connect(console, dialect, 'box.session.push({1, 2}) return 3', tmp_path)
        assert '---\n- 1\n- 2\n...\n' in out and out.strip().endswith('---\n- 3\n...') and 0 == code


class TestFromTarantool:
    """console.connect from a real Tarantool to ours."""

    @pytest.fixture(params=['classic', 'tarantool'])
    def session(self, request, console, connect, tarantool):
        client = connect(tarantool.address)
        address = console(dialect=request.param).addresses[0]
        assert b'---\n- true\n...\n' == client.reply(f"require('console').connect('{address}')")
        return client

    def test_statements(self, session):
        assert ['console', 1] == session.values('box.session.type(), box.session.id()')
        assert b"boom" in session.reply('error("boom")')
        assert [{'a': [1, 2]}] == session.values('{a = {1, 2}}')
        assert b'---\n...\n' == session.reply('x = 1')
        assert [1] == session.values('x')

    def test_push(self, session):
        session.send('box.session.push(5) return 6\n')
        assert TAG + b'--- 5\n...\n' == session.document()
        assert b'---\n- 6\n...\n' == session.document()

    def test_lua_output(self, session):
        session.send('\\set output lua\n')
        assert b'true;' == session.read_until(b';')
        session.send('{1, 2}\n')
        assert b'{1, 2};' == session.read_until(b';')
        assert b'---\n- true\n...\n' == session.reply('\\set output yaml')

    def test_it_ends_here(self, session):
        assert b'Peer closed' in session.reply('\\quit')
        assert [2] == session.values('1 + 1')

    def test_net_box_in_console_mode(self, console, connect, tarantool):
        client = connect(tarantool.address)
        client.reply("c = require('net.box').connect('%s', {console = true})" % console().addresses[0])
        assert ['---\n- 2\n...\n'] == client.values("c:eval('1 + 1')")
        assert b'boom' in client.reply("c:eval('error([[boom]])')")
        client.reply('c:close()')


class TestToTarantool:
    """console.connect from ours to a real Tarantool."""

    @pytest.fixture
    def session(self, console, connect, tarantool):
        client = connect(console())
        assert [True] == client.values(f"require('console').connect('{tarantool.address}')")
        return client

    def test_statements(self, session):
        assert ['Tarantool'] == session.values('box.info.package')
        assert 'boom' == session.error('error("boom")')
        session.send('t = {}\nfor i = 1, 3 do\n  t[i] = i\nend\nt\n')
        assert b'---\n...\n' * 2 + b'---\n- - 1\n  - 2\n  - 3\n...\n' == b''.join(session.document() for _ in range(3))

    def test_push(self, session):
        session.send('box.session.push({5}) return 6\n')
        assert TAG + b'---\n- 5\n...\n' == session.document()
        assert b'---\n- 6\n...\n' == session.document()

    def test_lua_output(self, session):
        session.send('\\set output lua\n')
        assert b'true;' == session.read_until(b';')
        session.send('{1, ";"}\n')
        assert b'{1, ";"};' == session.read_until(b'};')
        assert b'---\n- true\n...\n' == session.reply('\\set output yaml')

    def test_back_again(self, session):
        session.send('~.\nbox.info.package\n')
        assert b'---\n- boxsession\n...\n' == session.document()

    def test_ctrl_c_leaves_what_cannot_be_stopped(self, session):
        session.send("box.session.push(1) require('fiber').sleep(5) return 'late'\n")
        session.document()
        session.send('\x03')
        assert b'error' in session.document()
        assert ['boxsession'] == session.values('box.info.package')

    def test_its_binary_port_is_told_from_a_console(self, console, connect, tarantool):
        there = connect(tarantool.address)
        there.reply("box.cfg{listen = 'unix/:./binary.sock'}")
        path = tarantool.folder / 'binary.sock'
        assert 'binary protocol' in connect(console()).error(f"require('console').connect('unix/:{path}')")
