"""`boxsession connect` for people: the real program in a pseudo-terminal, with typed input."""
from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

import pytest
from conftest import IS_LONG, Served, need
from test_connect import environment

SECONDS = 40
CTRL_C, CTRL_D, UP, ALT_RETURN = '\x03', '\x04', '\x1b[A', '\x1b\r'
# The child takes the pseudo-terminal for its own, so that Ctrl-C becomes a signal.
TAKE_TERMINAL = 'import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); ' \
                'os.execv(sys.executable, [sys.executable, *sys.argv[1:]])'
# Relative to the test's folder, in which server and client both run: the prompt shows it, and a long one would wrap.
SOCKET = 'unix:a.sock'
ESCAPES = re.compile(r'\x1b(?:\[[0-9;?]*[A-Za-z]|[=>])')

PROGRAM = """
import sys
from boxsession import Console
console = Console(listen=['127.0.0.1:0'])
@console.command
def restart(workers: int):
    return 2 * workers
console.start()
print('listening: console', console.addresses[0], file=sys.stderr, flush=True)
console.serve_forever()
"""

LOGS = """
import logging
import sys
import gevent
from boxsession import Console
logging.basicConfig(filename='a.log')
console = Console(listen=['127.0.0.1:0'])
def work():
    while True:
        logging.getLogger('shop').warning('an order\\nof two lines')
        gevent.sleep(0.01)
console.start()
gevent.spawn(work)
print('listening: console', console.addresses[0], file=sys.stderr, flush=True)
console.serve_forever()
"""


class Terminal:
    """The client in a pseudo-terminal. expect() searches from the end of its last match on."""

    def __init__(self, *arguments, rows=40, columns=110, program=('-m', 'boxsession', 'connect'), folder=None,
                 **variables):
        self.raw = ''
        self._seen = 0
        self._main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
        # This terminal does not answer queries for the cursor's position, for which prompt_toolkit would wait.
        variables = {'TERM': 'xterm', 'PROMPT_TOOLKIT_NO_CPR': '1', 'NO_COLOR': '1', 'PAGER': 'cat', **variables}
        self.process = subprocess.Popen([sys.executable, '-c', TAKE_TERMINAL, *program, *map(str, arguments)],
                                        stdin=side, stdout=side, stderr=side, env=environment(**variables),
                                        cwd=folder)
        os.close(side)

    @property
    def text(self):
        return ESCAPES.sub('', self.raw).replace('\r', '')

    def send(self, text):
        os.write(self._main, text.encode())

    def type(self, line):
        self.send(line + '\r')

    def expect(self, text):
        """Waits for `text`; returns the output before it."""
        deadline = time.monotonic() + SECONDS
        while (at := self.text.find(text, self._seen)) < 0:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self._main], [], [], left)[0], f'no {text!r} in {self.text[self._seen:]!r}'
            assert self._read(), f'ended without {text!r}: {self.text[self._seen:]!r}'
        before = self.text[self._seen:at]
        self._seen = at + len(text)
        return before

    def _read(self):
        try:
            piece = os.read(self._main, 65536)
        except OSError:                             # EIO: the other side is closed
            piece = b''
        self.raw += piece.decode(errors='replace')
        return bool(piece)

    def prompted(self):
        """Waits for a prompt: before that, the terminal is not the editor's, and Ctrl-D or Ctrl-C mean something else."""
        deadline = time.monotonic() + SECONDS
        while not re.search('> ?$', self.text):
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self._main], [], [], left)[0], f'no prompt: {self.text!r}'
            assert self._read(), f'ended without a prompt: {self.text!r}'

    def drop(self):
        """Ctrl-C at the prompt, and the new prompt. Python does not see one that comes while readline handles a key."""
        seen, deadline = len(self.text), time.monotonic() + SECONDS
        while '> ' not in self.text[seen:]:
            assert time.monotonic() < deadline, f'no new prompt: {self.text!r}'
            self.send(CTRL_C)
            while select.select([self._main], [], [], 0.5)[0] and '> ' not in self.text[seen:]:
                assert self._read(), self.text

    def leave(self):
        """Presses Ctrl-D at the prompt; returns the exit code."""
        self.prompted()
        self.send(CTRL_D)
        return self.wait()

    def wait(self):
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f'it does not end: {self.text!r}'
            if select.select([self._main], [], [], 0.05)[0] and not self._read():
                break
        while select.select([self._main], [], [], 0)[0] and self._read():
            pass                            # its last output
        return self.process.wait(SECONDS)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._main)


@pytest.fixture
def address(serve):
    return serve('--listen', '127.0.0.1:0').addresses()[0]


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    """The address of a server that tests share which change no globals and do not stop it."""
    served = Served(['--listen', '127.0.0.1:0'], tmp_path_factory.mktemp('shared'))
    yield served.addresses()[0]
    served.process.kill()
    served.process.wait()


@pytest.fixture
def open_terminal(tmp_path):
    opened = []

    def open_it(*arguments, **options):
        terminal = Terminal(*arguments, XDG_STATE_HOME=str(tmp_path / 'state'), folder=tmp_path, **options)
        opened.append(terminal)
        return terminal

    yield open_it
    for terminal in opened:
        terminal.close()


def history(tmp_path):
    return [json.loads(line) for line in (tmp_path / 'state' / 'boxsession' / 'history').read_text().splitlines()]


@pytest.mark.parametrize('plain', [(), ('--plain',)], ids=['fancy', 'plain'])
class TestTheService:
    def test_prompt_and_first_line_name_it(self, open_terminal, serve, tmp_path, plain):
        (tmp_path / 'c.yml').write_text(f'listen: ["{SOCKET}"]\nname: shop\n')
        served = serve('-c', 'c.yml')
        served.addresses()
        terminal = open_terminal(SOCKET, *plain)
        terminal.expect(f' (shop, pid {served.process.pid}) at {SOCKET}, session 1')
        terminal.expect(f'shop[{served.process.pid}] admin@{SOCKET}>')
        assert 0 == served.stop()
        terminal.type('1')
        terminal.expect('the server went away')
        again = serve('-c', 'c.yml')
        again.addresses()
        terminal.expect(f'shop[{again.process.pid}] admin@{SOCKET}>')

    def test_the_sessions_are_a_table(self, open_terminal, serve, connect, tmp_path, plain):
        [address, unix] = serve('--listen', '127.0.0.1:0', '--listen', SOCKET).addresses(2)
        other = connect(address)
        other.reply("box.session.name('\\27[31m deploy')")
        other.send("require('fiber').sleep(1000) -- " + 'x' * 200 + '\n')
        terminal = open_terminal(SOCKET, *plain, columns=150)
        terminal.expect('session 2')
        terminal.prompted()
        terminal.type('\\sessions')
        terminal.expect('statement\n')
        lines = terminal.text[:terminal.text.index('statement\n')].splitlines()
        assert ['id', 'user', 'name', 'client', 'listener', 'connected', 'idle', 'statements', 'state'] == lines[-1].split()
        terminal.expect(f'uid {os.getuid()}, pid {terminal.process.pid} ')
        terminal.prompted()
        assert re.search(r'\n2 \*  admin +uid \d+, pid \d+ +unix:a.sock +\d s +\d s +\d+ +running +\\sessions\n',
                         terminal.text)
        [line] = [line for line in terminal.text.splitlines() if '\\x1b[31m deploy' in line]
        assert line.startswith('1    admin') and line.endswith('...') and len(line) < 150
        terminal.type('\\set output json')
        terminal.prompted()
        terminal.type('\\sessions')
        terminal.expect('"connected_s"')
        other.reset()           # else the server waits for its statement when it stops

    def test_the_program_is_shown_in_tables(self, open_terminal, serve, tmp_path, plain):
        (tmp_path / 'program.py').write_text(LOGS)
        address = serve(program=str(tmp_path / 'program.py')).addresses()[0]
        terminal = open_terminal(address, *plain, columns=150)
        terminal.prompted()
        terminal.type('\\greenlets main__:work')
        terminal.expect('count  state    owner    seen for  ids  at             where\n')
        terminal.expect('program.py:11\n')
        terminal.prompted()
        terminal.type('\\profile 1.2')
        terminal.expect('% busy')
        terminal.expect('seconds 1.2, busy_percent ')
        terminal.prompted()
        terminal.type('\\tail shop n=1')
        terminal.expect('Ctrl-C ends this.)\n')
        terminal.expect(' WARNING shop: an order\n    of two lines\n')
        terminal.expect('shown: 1')
        terminal.prompted()
        terminal.type('\\set output json')
        terminal.prompted()
        terminal.type('\\tail shop n=1')
        terminal.expect('\nmessage: ')
        terminal.expect('"shown":1')


@pytest.mark.parametrize('plain', [(), ('--plain',)], ids=['fancy', 'plain'])
class TestBoth:
    """With prompt_toolkit and with readline alone."""

    @pytest.fixture
    def terminal(self, open_terminal, address, plain):
        terminal = open_terminal(address, *plain)
        terminal.expect(f'at {address}, session 1; \\help for help')
        terminal.expect(f'admin@{address}>')
        return terminal

    def test_statements(self, terminal):
        terminal.type('"a" .. 1 + 1')
        terminal.expect('---\n- a2\n...\n')
        terminal.type('error("boom", 0)')
        terminal.expect('---\n- error: boom\n...\n')
        assert 0 == terminal.leave()

    @pytest.mark.parametrize('word', ['quit', 'exit'])
    def test_a_word_that_leaves(self, terminal, word):
        terminal.prompted()
        terminal.type(word)
        assert 0 == terminal.wait()

    @pytest.mark.parametrize('word', ['help', 'help()'])
    def test_the_word_help(self, terminal, word):
        terminal.prompted()
        terminal.type(word)
        terminal.expect('Keys and commands of this client:')
        terminal.expect('\\sessions ')

    def test_such_a_word_may_be_a_name(self, terminal):
        terminal.type('exit, help = 7, 8')
        terminal.expect('---\n...\n')
        terminal.type('exit')
        terminal.expect('---\n- 7\n...\n')
        terminal.type('help')
        terminal.expect('---\n- 8\n...\n')

    def test_several_lines_are_one_statement(self, terminal, tmp_path):
        terminal.type('for i = 1, 2 do')
        terminal.expect('> ')
        terminal.type('  n = (n or 0) + i')
        terminal.expect('> ')
        terminal.type('end')
        terminal.expect('---\n...\n')
        terminal.type('n')
        terminal.expect('---\n- 3\n...\n')
        assert 0 == terminal.leave()
        assert ['for i = 1, 2 do\n  n = (n or 0) + i\nend', 'n'] == history(tmp_path)

    def test_history_goes_on_in_the_next_run(self, terminal, open_terminal, address, plain):
        terminal.type('"one" .. "two"')
        terminal.expect('---\n- onetwo\n')
        assert 0 == terminal.leave()
        again = open_terminal(address, *plain)
        again.expect(f'admin@{address}>')
        again.send(UP)
        again.expect('"one" .. "two"')
        again.type('')
        again.expect('---\n- onetwo\n')

    @pytest.mark.parametrize('statement', ['\\login ops secret', "connect({'password' : b'secret'})"])
    def test_a_password_is_not_kept(self, terminal, tmp_path, statement):
        terminal.type(statement)
        terminal.expect('- error: ')
        terminal.type('1 + 1')
        terminal.expect('- 2\n')
        assert 0 == terminal.leave()
        assert ['1 + 1'] == history(tmp_path)

    def test_completion(self, terminal):
        terminal.send('rubb = {ish_heap = 7}\r')
        terminal.expect('---\n...\n')
        terminal.send('rubb.ish\t')
        terminal.expect('_heap')
        terminal.type('')
        terminal.expect('---\n- 7\n...\n')

    def test_completion_of_commands(self, open_terminal, serve, tmp_path, plain):
        program = tmp_path / 'program.py'
        program.write_text(PROGRAM)
        address = serve(program=str(program)).addresses()[0]
        terminal = open_terminal(address, *plain)
        terminal.expect(f'admin@{address}>')
        terminal.prompted()
        terminal.send('\\resta\t')
        terminal.expect('rt')
        terminal.type(' 7')
        terminal.expect('---\n- 14\n...\n')

    def test_completion_sees_what_the_user_sees(self, terminal):
        terminal.type('mysterious = 1')
        terminal.expect('---\n...\n')
        terminal.type('box.session.su("guest")')
        terminal.expect('guest@')
        terminal.prompted()
        terminal.send('box.session.pus\t')
        terminal.expect('h(')           # what is typed may be on the screen before
        terminal.type('"pushed") return mysteri\t')
        terminal.expect("- error: Execute access to function 'mysteri' is denied")

    def test_ctrl_c_cancels_a_statement(self, terminal):
        terminal.type('box.session.push("going") while true do end')
        terminal.expect('going\n')
        terminal.send(CTRL_C)
        terminal.expect('cancelling the statement; Ctrl-C again leaves')
        terminal.expect('- error: the statement was cancelled\n')
        terminal.type('1 + 1')
        terminal.expect('- 2\n')

    def test_ctrl_c_drops_what_is_typed(self, terminal):
        terminal.prompted()
        terminal.send('garbage')
        terminal.expect('garbage')
        terminal.drop()
        terminal.type('1 + 1')
        terminal.expect('---\n- 2\n')

    def test_pushes_and_prints_come_as_they_are_sent(self, terminal):
        terminal.type('print("hello", 1) box.session.push({a = 1}) require("fiber").sleep(1000)')
        terminal.expect('hello\t1\n')
        terminal.expect('a: 1\n...\n')
        terminal.send(CTRL_C)
        terminal.expect('cancelled')

    def test_help_of_both_sides(self, terminal):
        terminal.type('\\help')
        terminal.expect('Ctrl-D')
        terminal.expect('\\cancel ID')

    def test_output_is_the_clients_choice(self, terminal):
        terminal.type('\\set output json')
        terminal.expect('[true]\n')
        terminal.type('{a = {1}}, nil')
        terminal.expect('[{"a":[1]},null]\n')

    def test_a_restart_of_the_server(self, open_terminal, serve, plain):
        listen = SOCKET
        served = serve('--listen', listen)
        served.addresses()
        terminal = open_terminal(listen, *plain)
        terminal.expect(f'admin@{listen}>')
        terminal.type('box.session.storage.a = 1')
        terminal.expect('---\n...\n')
        assert 0 == served.stop()
        terminal.type('"kept" .. "text"')
        terminal.expect('the server went away')
        terminal.expect('the statement was not sent')
        serve('--listen', listen).addresses()
        terminal.expect('connected again: session 1 (it was 1)')
        terminal.expect('"kept" .. "text"')         # in the line again
        terminal.type('')
        terminal.expect('- kepttext\n')
        assert 0 == terminal.leave()

    def test_a_server_that_dies_under_a_statement(self, open_terminal, serve, plain):
        listen = SOCKET
        served = serve('--listen', listen)
        served.addresses()
        terminal = open_terminal(listen, *plain)
        terminal.expect(f'admin@{listen}>')
        terminal.type('box.session.push("going") require("fiber").sleep(1000)')
        terminal.expect('going\n')
        served.process.kill()
        terminal.expect('the statement may have run')
        terminal.expect('Ctrl-C stops trying')
        terminal.send(CTRL_C)
        terminal.expect('the next statement connects again')
        terminal.expect('(not connected)')
        terminal.expect('going')                    # in the line again
        terminal.drop()
        assert 0 == terminal.leave()


class TestLeaving:
    @pytest.fixture
    def address(self, shared):
        return shared

    @pytest.mark.parametrize('typed', ['\\quit\r', '~.\r', CTRL_D])
    def test_ways(self, open_terminal, address, typed):
        terminal = open_terminal(address)
        terminal.expect('admin@')
        terminal.prompted()
        terminal.send(typed)
        assert 0 == terminal.wait()

    @need('tarantool')
    def test_ctrl_c_twice_where_a_statement_cannot_be_stopped(self, open_terminal, tarantool):
        terminal = open_terminal(tarantool.address)
        terminal.expect(f'admin@{tarantool.address}>')
        terminal.type('box.session.push("be" .. "gun") require("fiber").sleep(3) return "done"')
        terminal.expect('begun')
        terminal.send(CTRL_C)
        terminal.expect('this server cannot cancel a statement; Ctrl-C again leaves, and it may go on running')
        terminal.send(CTRL_C)
        assert 0 == terminal.wait()

    def test_no_server(self, open_terminal):
        terminal = open_terminal('unix:none')
        assert 2 == terminal.wait()
        assert 'cannot connect' in terminal.text


class TestScreen:
    @pytest.fixture
    def address(self, shared):
        return shared

    def test_colours_only_where_they_are_wanted(self, open_terminal, address):
        coloured, bare = open_terminal(address, NO_COLOR=''), open_terminal(address, '--plain', NO_COLOR='')
        for terminal, expected in ((coloured, True), (bare, False)):
            terminal.expect('admin@')
            terminal.type('{ab = 12345}')
            terminal.expect('- ab: 12345')
            assert expected == ('\x1b[39;49;00m' in terminal.raw)

    def test_a_pager_for_what_is_longer_than_the_screen(self, open_terminal, address, tmp_path):
        pager = tmp_path / 'pager'
        pager.write_text('#!/bin/sh\necho "paged: $(wc -l) lines"\n')
        pager.chmod(0o755)
        terminal = open_terminal(address, rows=10, PAGER=str(pager))
        terminal.expect('admin@')
        terminal.type('1, 2, 3')
        terminal.expect('---\n- 1\n- 2\n- 3\n...\n')
        terminal.type('local t = {} for i = 1, 50 do t[i] = i end return unpack(t)')
        terminal.expect('paged: 52 lines')
        assert 'paged' not in terminal.text[:terminal.text.index('- 3')]

    def test_a_reply_cannot_command_the_terminal(self, open_terminal, address):
        terminal = open_terminal(address, '--plain')
        terminal.expect('admin@')
        terminal.type(r'print("\27]0;title\7")')
        terminal.expect('\\x1b]0;title\\x07')

    def test_slow_statements_tell_how_long(self, open_terminal, address):
        terminal = open_terminal(address, '--plain')
        terminal.expect('admin@')
        terminal.type('require("fiber").sleep(1.1)')
        assert re.search(r'\(1\.\d s\)', terminal.expect('admin@') + terminal.text)


class TestFancy:
    @pytest.fixture
    def terminal(self, open_terminal, address):
        terminal = open_terminal(address)
        terminal.expect('admin@')
        return terminal

    def test_alt_return_begins_a_line(self, terminal):
        terminal.send('1 +' + ALT_RETURN)
        terminal.send('2' + ALT_RETURN + '+ 3')
        terminal.type('')
        terminal.expect('---\n- 6\n')

    def test_pasted_lines_are_one_statement(self, terminal):
        terminal.send('\x1b[200~local a = 5\n\nreturn a * 2\x1b[201~')
        terminal.type('')
        terminal.expect('---\n- 10\n')

    def test_an_entry_of_several_lines_comes_back_whole(self, terminal):
        terminal.send('\x1b[200~local a = 5\nreturn a * 2\x1b[201~')
        terminal.type('')
        terminal.expect('---\n- 10\n')
        terminal.send(UP)
        terminal.expect('return a * 2')
        terminal.type('')
        terminal.expect('---\n- 10\n')

    def test_a_server_that_does_not_answer_blocks_no_key(self, terminal, address):
        other = subprocess.Popen([sys.executable, '-m', 'boxsession', 'connect', address, '-e', '1'],
                                 env=environment(), stdout=subprocess.DEVNULL)
        assert 0 == other.wait(SECONDS)
        # The server stops answering. Typing still works, and a late completion is ignored.
        pid = int(subprocess.check_output([sys.executable, '-m', 'boxsession', 'connect', address, '--raw', '-e',
                                           'box.info.pid'], env=environment()))
        os.kill(pid, signal.SIGSTOP)
        try:
            terminal.send('box.info.pi\t')
            terminal.send(' == 5')
            terminal.expect(' == 5')
        finally:
            os.kill(pid, signal.SIGCONT)
        terminal.type('')
        terminal.expect('---\n')


class TestLogin:
    def test_the_password_is_asked_for(self, open_terminal, serve, tmp_path):
        (tmp_path / 'init.lua').write_text("box.schema.user.create('ops', {password = 'se cret'}) "
                                           "box.schema.user.grant('ops', 'execute', 'universe')")
        (tmp_path / 'c.yml').write_text(f'listen: ["127.0.0.1:0"]\ninit: {tmp_path}/init.lua\n')
        [address] = serve('-c', 'c.yml').addresses()
        terminal = open_terminal(f'ops@{address}')
        terminal.expect(f'Password for ops@{address}: ')
        terminal.type('se cret')
        terminal.expect(f'ops@{address}>')
        assert 'se cret' not in terminal.text
        assert 0 == terminal.leave()

    def test_the_prompt_follows_who_one_is(self, open_terminal, address):
        terminal = open_terminal(address)
        terminal.expect('admin@')
        terminal.type('box.session.su("guest")')
        terminal.expect('guest@')


def test_without_prompt_toolkit(open_terminal, address, tmp_path):
    (tmp_path / 'run.py').write_text(
        'import sys\n'
        'for name in ("prompt_toolkit", "pygments"):\n    sys.modules[name] = None\n'
        'from boxsession.cli import main\nsys.exit(main(["connect", *sys.argv[1:]]))\n')
    terminal = open_terminal(address, program=(str(tmp_path / 'run.py'),), NO_COLOR='')
    terminal.expect('admin@')
    terminal.type('1 + 1')
    terminal.expect('---\n- 2\n...\n')
    assert 0 == terminal.leave()


@pytest.mark.parametrize('statement', [(), ('-e', '1')], ids=['typed', 'a script'])
def test_a_server_cannot_move_the_cursor(open_terminal, statement):
    with socket.create_server(('127.0.0.1', 0)) as listener:
        listener.settimeout(SECONDS)
        terminal = open_terminal(f'127.0.0.1:{listener.getsockname()[1]}', '--plain', *statement)
        with listener.accept()[0] as client:
            client.settimeout(SECONDS)
            client.sendall(f'{"Tarantool 2.6.0 (Lua console)":<63}\n{"":<63}\n'.encode() + 2 * b'---\n...\n'
                           + (b'---\n- \x1b[41m\n...\n' if statement else b'---\n- 1\n- "\\e[41m\\n"\n...\n'))
            terminal.expect(r'\x1b[41m')
    assert '\x1b[41m' not in terminal.raw


# Unusual variables of the environment, each in one of the two forms; in both in long mode.
VARIABLES = [
    {'TERM': ''}, {'TERM': 'dumb'}, {'TERM': 'nosuch'}, {'COLUMNS': '0', 'LINES': '0'}, {'COLUMNS': 'x', 'LINES': '-3'},
    {'PYTHONIOENCODING': 'ascii'}, {'PYTHONIOENCODING': 'iso-8859-1'}, {'LC_ALL': 'C'}, {'LC_ALL': 'nosuch.KOI8'},
    {'HOME': '/nonexistent'}, {'HOME': ''}, {'PAGER': "less '"}, {'PAGER': '/nosuch'}, {'PAGER': '/'}, {'PAGER': '  '},
    {'PAGER': __file__}]


@pytest.mark.parametrize(('plain', 'variables'), [
    pytest.param(plain, variables, id=f'{form}-' + ' '.join(f'{name}={value}' for name, value in variables.items())[-30:])
    for number, variables in enumerate(VARIABLES)
    for place, (form, plain) in enumerate([('fancy', ()), ('plain', ('--plain',))])
    if IS_LONG or number % 2 == place])
def test_unusual_variables(open_terminal, shared, plain, variables):
    terminal = open_terminal(shared, *plain, rows=10, **variables)
    terminal.expect('admin@')
    terminal.prompted()
    terminal.type(r'"\208\191\208\176", "end" .. "ed"')
    terminal.expect('- ended\n...\n')
    terminal.prompted()
    terminal.type('string.rep("x\\n", 50) .. "la" .. "st"')
    terminal.expect('last')
    assert 0 == terminal.leave()
    assert 'Traceback' not in terminal.text


@pytest.mark.parametrize('plain', [(), ('--plain',)], ids=['fancy', 'plain'])
class TestSurroundings:
    """Unusual terminals, and terminals that are closed."""

    @pytest.fixture
    def address(self, shared):
        return shared

    def test_an_empty_term_is_a_dumb_one(self, open_terminal, address, plain):
        terminal = open_terminal(address, *plain, TERM='')
        terminal.expect('admin@')
        assert 0 == terminal.leave()
        assert '\x1b[?25' not in terminal.raw and '\x1b[0m' not in terminal.raw

    def test_history_that_the_terminal_cannot_show(self, open_terminal, address, plain, tmp_path):
        path = tmp_path / 'state' / 'boxsession' / 'history'
        path.parent.mkdir(parents=True)
        path.write_text('"\\u043f\\u0440"\n"\\ud800"\n"\\udcff"\n"1 + 1"\n')
        for variables in ({'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}, {'LC_ALL': 'C'},
                          {'PYTHONIOENCODING': 'ascii'}):
            terminal = open_terminal(address, *plain, **variables)
            terminal.expect('admin@')
            terminal.prompted()
            terminal.type('"an" .. "swer"')
            terminal.expect('- answer\n')
            assert 0 == terminal.leave()

    @pytest.mark.parametrize('rows, columns', [(1, 1), (0, 0), (2, 5)])
    def test_small_windows(self, open_terminal, address, plain, rows, columns):
        terminal = open_terminal(address, *plain, rows=rows, columns=columns)
        deadline = time.monotonic() + SECONDS
        while 'elp' not in re.sub(r'\s', '', terminal.text):
            assert time.monotonic() < deadline and terminal._read()
        terminal.send('1\r')
        terminal.send('\\quit\r')
        assert 0 == terminal.wait()

    @pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_at_the_prompt(self, open_terminal, address, plain, number):
        terminal = open_terminal(address, *plain)
        terminal.expect('admin@')
        terminal.prompted()
        terminal.send('half')           # the echo shows that the editor waits for keys
        terminal.expect('half')
        before = termios.tcgetattr(terminal._main)
        # Python misses a signal that comes right before readline waits. Users would send it again.
        for _ in range(20):
            terminal.process.send_signal(number)
            patience = time.monotonic() + SECONDS / 20
            while terminal.process.poll() is None and time.monotonic() < patience:
                if select.select([terminal._main], [], [], 0.1)[0] and not terminal._read():
                    break
            if terminal.process.poll() is not None:
                break
        assert terminal.wait() in (128 + number, -number)     # the last one may come when the client has put all back
        assert 'Traceback' not in terminal.text
        after = termios.tcgetattr(terminal._main)
        assert after[3] & termios.ECHO and after[3] & termios.ICANON, (before, after)

    @pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP, None])
    def test_a_signal_cancels_a_statement(self, open_terminal, address, plain, number):
        terminal = open_terminal(address, *plain)
        terminal.expect('admin@')
        terminal.type('box.session.push("go" .. "ing") while true do end')
        terminal.expect('going\n')
        if number is None:                          # the terminal is closed
            os.close(terminal._main)
            terminal._main = os.open(os.devnull, os.O_RDONLY)
            terminal.process.wait(SECONDS)
        else:
            terminal.process.send_signal(number)
            assert 128 + number == terminal.wait()
        assert 'Traceback' not in terminal.text
        running = subprocess.check_output([sys.executable, '-m', 'boxsession', 'connect', address, '--raw', '-e',
                                           '#box.session.list({state = "running"})'], env=environment())
        assert b'1\n' == running


def test_ctrl_d_and_signals_at_the_password(open_terminal):
    terminal = open_terminal('ops@127.0.0.1:1')
    terminal.expect('Password for ops@127.0.0.1:1: ')
    terminal.send(CTRL_D)
    assert 3 == terminal.wait()
    assert 'no password was given' in terminal.text
    terminal = open_terminal('ops@127.0.0.1:1')
    terminal.expect('Password for ops@127.0.0.1:1: ')
    terminal.process.send_signal(signal.SIGTERM)
    assert 143 == terminal.wait()
    assert termios.tcgetattr(terminal._main)[3] & termios.ECHO


DECEIVING = ['\u202e', '\u202a', '\u2066', '\u2069', '\u200e', '\u200f', '\u061c', '\u200b', '\u2060', '\ufeff', '\xad',
             '\u2028', '\u2029', '\x85', '\x9b', '\U000e0041', '\x7f', '\x1b', '\u3164']


@pytest.mark.parametrize('plain', [(), ('--plain',), ('-e', '1')], ids=['fancy', 'plain', 'a script'])
def test_what_deceives_is_shown_as_escapes(open_terminal, serve, tmp_path, plain):
    text = ''.join(DECEIVING)
    shown = ''.join(f'\\{ord(byte)}' if isinstance(byte, str) else f'\\{byte}' for byte in text.encode())
    (tmp_path / 'init.lua').write_text(
        f'deceiving = "{shown}"\n'
        'box.session.on_connect(function() box.session.push(deceiving) end)\n'
        f'names = {{[deceiving .. "a"] = 1}}\n')
    (tmp_path / 'c.yml').write_text(f'listen: ["127.0.0.1:0"]\ninit: {tmp_path}/init.lua\n')
    [address] = serve('-c', 'c.yml').addresses()
    statements = ['deceiving', 'print(deceiving)', 'box.session.push({deceiving})', 'error(deceiving, 0)',
                  'require("yaml").decode("[" .. deceiving)', '"the" .. " end"']
    if plain[:1] == ('-e',):
        terminal = open_terminal(address, '--keep-going', *(part for statement in statements for part in ('-e', statement)))
        terminal.expect('the end')
        terminal.wait()
    else:
        terminal = open_terminal(address, *plain)
        terminal.expect('admin@')
        terminal.prompted()
        for statement in (*statements[:-1], '\\set output lua', *statements):
            terminal.type(statement)
        terminal.expect('the end')
    ours = terminal.raw if '--plain' in plain or plain[:1] == ('-e',) else terminal.text
    assert not set(DECEIVING) - {'\x1b'} & set(ours)
    assert '\\u202e' in ours
