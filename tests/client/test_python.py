"""`boxsession connect` with statements in Python: scripts, and a person at a terminal."""
from __future__ import annotations

import pytest
from conftest import Served
from fake_server import Fake
from test_connect import connect
from test_connect_hostile import LUA, OPENED, OURS
from test_terminal import CTRL_C, SOCKET, open_terminal  # noqa: F401

from boxsession.client.completeness import is_complete
from boxsession.client.completions import completions
from boxsession.client.python_lines import Lines, indentation, place_in_file, problem
from boxsession.values.documents import reply_document
from boxsession.values.packed import pack

INIT = """
box.schema.user.create('ops', {password = 'ops'})
box.schema.user.grant('ops', 'execute', 'python')
box.schema.user.create('web', {password = 'web'})
"""
SCRIPT = '''#!/usr/bin/env python
"""Sums a column.
\\set is text here
~ and so is this
"""
import csv, io


def total(rows):
    result = 0
    for row in rows:
        result += int(row[0])

    return result


total(csv.reader(io.StringIO('1;2\\n3;4'), delimiter=';'))
'''


@pytest.fixture(scope='module')
def listeners(tmp_path_factory):
    """The addresses of a server, by the languages of its listeners."""
    folder = tmp_path_factory.mktemp('server')
    (folder / 'init.lua').write_text(INIT)
    (folder / 'config.yml').write_text(f"""
init: {folder}/init.lua
listen:
- {{address: "unix:{folder}/both.sock", languages: [lua, python]}}
- {{address: "unix:{folder}/python.sock", languages: [python, lua]}}
- {{address: "127.0.0.1:0"}}
- {{address: "unix:{folder}/binary.sock", protocol: binary, user: admin}}
- {{address: "unix:{folder}/rescue.sock", protocol: rescue}}
""")
    served = Served(['-c', str(folder / 'config.yml')], folder)
    try:
        both, python, lua = served.addresses(3)
        yield {'both': both, 'python': python, 'lua': lua, 'binary': f'unix:{folder}/binary.sock',
               'rescue': f'unix:{folder}/rescue.sock'}
    finally:
        assert served.stop() == 0


@pytest.fixture
def address(listeners):
    return listeners['both']


@pytest.fixture
def fake():
    made = []

    def make(*pieces):
        made.append(Fake(pieces))
        return made[-1]

    yield make
    for server in made:
        server.close()


class TestLanguage:
    def test_it_is_asked_for(self, listeners):
        for name in ('both', 'python'):
            assert connect(listeners[name], '-l', 'python', '--raw', '-e', '2 if True else 3')[0] == '2\n'
            assert connect(listeners[name], '--language', 'lua', '--raw', '-e', 'return 1 + 1')[0] == '2\n'
        assert connect(listeners['lua'], '-l', 'lua', '--raw', '-e', 'return 1 + 1')[0] == '2\n'
        assert connect(listeners['binary'], '-l', 'lua', '--raw', '-e', 'return 1 + 1')[0] == '2\n'

    def test_else_it_is_that_of_the_session(self, listeners):
        assert connect(listeners['both'], '--raw', '-e', '"a" .. 1')[0] == 'a1\n'
        assert connect(listeners['python'], '--raw', '-e', '[1, 2]')[0] == '[1,2]\n'

    def test_a_server_that_refuses(self, listeners):
        out, err = connect(listeners['lua'], '-l', 'python', '--keep-going', '-e', '1', code=2)
        assert (out, err) == ('', f'boxsession: no statements in python at {listeners["lua"]}: Invalid language "python", '
                                  'supported languages: lua.\n')
        for name in ('binary', 'rescue'):
            out, err = connect(listeners[name], '-l', 'python', '-e', '1', code=2)
            assert out == '' and 'there statements are in Lua. Text listeners with `languages`' in err

    @pytest.mark.parametrize('reply', [b'---\n- error: no\n...\n', b'---\n...\n', b'---\n- 1\n- true\n...\n'])
    def test_only_true_is_success(self, fake, reply):
        server = fake(OURS, OPENED, reply, reply)
        assert 'no statements in python' in connect(server.address, '-l', 'python', '-e', 'secret()', code=2)[1]
        assert b'secret' not in server.received

    @pytest.mark.parametrize('reply', [b'---\n- 1\n...\n', b'---\n- language: [1]\n...\n', b'---\n- &a [*a]\n...\n'])
    def test_odd_replies_mean_lua(self, fake, reply):
        connect(fake(OURS, OPENED, reply, LUA).address, '-e', '[[\n~.\n]]')

    def test_users(self, listeners):
        ops, web = (f'{user}@{listeners["python"]}' for user in ('ops', 'web'))
        assert connect(ops, '--raw', '-e', 'box.session.user()', '-e', '[1]', BOXSESSION_PASSWORD='ops')[0] == 'ops\n[1]\n'
        err = connect(web, '-l', 'python', '-e', '1', BOXSESSION_PASSWORD='web', code=2)[1]
        assert "denied for user 'web'" in err

    def test_a_bad_name(self, address):
        assert "invalid choice: 'perl'" in connect(address, '-l', 'perl', '-e', '1', code=3)[1]


class TestScripts:
    def test_numbers_that_are_not_finite(self, address):
        shown = '[float("inf"), -1e999, float("nan"), ".inf"]'
        for output, expected in (('json', '[[null,null,null,".inf"]]\n'), ('lua', '{inf, -inf, nan, ".inf"};\n')):
            assert connect(address, '-l', 'python', '--output', output, '-e', shown) == (expected, '')

    def test_a_file_is_one_statement(self, address, tmp_path):
        (tmp_path / 'sum.py').write_text(SCRIPT)
        assert connect(address, '-l', 'python', '--raw', '-f', tmp_path / 'sum.py') == ('4\n', '')
        assert connect(address, '-l', 'python', '--raw', stdin=SCRIPT.replace('\n', '\r\n')) == ('4\n', '')
        (tmp_path / 'sum.py').write_bytes(b'\xef\xbb\xbf' + SCRIPT.rstrip().encode())
        assert connect(address, '-l', 'python', '--raw', '-f', tmp_path / 'sum.py') == ('4\n', '')

    def test_errors_have_the_lines_of_the_file(self, address, tmp_path):
        script = tmp_path / 'fails.py'
        script.write_text('import json\n\n\\set output json\nx = 1\nif x:\n    y = 2\n\n    1/0\n')
        out, err = connect(address, '-l', 'python', '-f', script, code=1)
        assert out.endswith('[true]\n{"error":"ZeroDivisionError: division by zero (statement:8)"}\n')
        assert err == f'boxsession: {script}:8: ZeroDivisionError: division by zero (statement:8)\n'
        err = connect(address, '-l', 'python', stdin='\n# a comment\nx = = 1\n', code=1)[1]
        assert err.startswith('boxsession: line 3: SyntaxError: ') and err.endswith('(statement:3)\n')
        err = connect(address, '-l', 'python', '-e', '1', '-e', '1\n1/0', code=1)[1]
        assert err == 'boxsession: -e 2: ZeroDivisionError: division by zero (statement:2)\n'

    def test_commands_divide_it(self, address):
        script = 'a = 1\n\\set output json\na + 1\n\\set language lua\nx = a\nx\n\\set language python\n[a,\n1]'
        assert connect(address, '-l', 'python', '--raw', stdin=script)[0] == 'true\n2\ntrue\nnull\ntrue\n[1,1]\n'
        assert connect(address, '-l', 'python', '--raw', stdin='1\n\\quit\n2\n')[0] == '1\n'

    def test_a_delimiter_divides_it(self, listeners):
        script = '\\set delimiter ;\nx = 5;\ndef f():\n  return x\n\n  return 0;\nf();\n'
        assert connect(listeners['python'], '--raw', stdin=script)[0] == '5\n'

    def test_nothing_to_run(self, address):
        assert connect(address, '-l', 'python', stdin='#!/usr/bin/env python\n\n  # nothing\n')[0] == ''

    def test_what_it_prints(self, address):
        assert connect(address, '-l', 'python', '--raw', '-e', 'print("half"); "whole"') == ('whole\n', 'half\n')

    def test_text_that_cannot_be_sent(self, address):
        for text in ('"""\n~.\n"""', '"--~boxsession~"', '"\x03"', 'box.lua("require(\'console\').delimiter(\';\')")'):
            assert connect(address, '-l', 'python', '--raw', '-e', text, code=1)[0] == ''
        statement = 'class A:\n    delimiter = [3]\n\nA.delimiter[0], "\\x7e.", b"\\xff", "é"'
        assert connect(address, '-l', 'python', '--output', 'json', '-e', statement)[0] == '[[3,"~.","\ufffd","é"]]\n'

    @pytest.mark.parametrize('text', ['exit()', 'print(1)\nquit()', 'for n in range(3):\n    exit(n)'])
    def test_leaving(self, address, text):
        assert connect(address, '-l', 'python', '--raw', '-e', '"a"', '-e', text, '-e', '"b"')[0] == 'a\n'

    def test_a_timeout_cancels(self, address):
        err = connect(address, '-l', 'python', '--timeout', '2', '-e', 'while True: pass', code=2)[1]
        assert '--timeout is over' in err


class TestLines:
    def test_they_are_one_statement(self):
        lines = Lines()
        assert [lines.take(line, number) for number, line in enumerate((b'', b'a', b'\\', b'b'), 1)] == [[]] * 2 + [
            [(2, b'\na'), (3, b'\\')], []]
        assert lines.rest() == [(4, b'\n\n\nb')] and lines.rest() == []

    def test_a_backslash_in_a_string(self):
        lines = Lines()
        assert [lines.take(line, number) for number, line in enumerate((b'"""', b'\\set', b'"""'), 1)] == [[]] * 3
        assert lines.rest() == [(1, b'"""\n\\set\n"""')]

    @pytest.mark.parametrize(('place', 'message', 'expected'), [
        ('a.py:1', 'E: x (statement:12)', 'a.py:12'), ('line 1', 'E: x (/a.py:3, from statement:2)', 'line 2'),
        ('-e 1', 'E (statement:2)', '-e 1'), ('', 'E (statement:2)', ''), ('a.py:1', 'cancelled', 'a.py:1')])
    def test_places(self, place, message, expected):
        assert place_in_file(place, message) == expected

    @pytest.mark.parametrize(('line', 'expected'), [
        ('if x:', '    '), ('  if x: ', '      '), ('    x', '    '), ('    return x', ''), ('        pass', '    '),
        ('', ''),
        ('    passes', '    '), ('    ', '    ')])
    def test_indentation(self, line, expected):
        assert indentation(line) == expected

    @pytest.mark.parametrize(('text', 'is_fine'), [
        (b'x', True), (b'~. x', True), (b'a\n~.\nb', False), (b'a\n\x04\r\nb', False), (b'--~boxsession~', False),
        (b'\x03', False), (b'f(delimiter="x")', True), (b'self.delimiter[0]', True), (b'box.lua("delimiter(1)")', False)])
    def test_what_can_be_sent(self, text, is_fine):
        assert (problem(text) == '') is is_fine


TEXTS = ['1', 'x = 1', 'x = = 1', 'for i in x:', 'for i in x: pass', 'for i in x: pass\n', 'def f():\n  return 1',
         'def f():\n  return 1\n', 'def f():\n  return 1\n  ', 'def f():\n  x\n\n  y', 'if x:\n  y\nelse:', '(', '[1,', '{',
         '"""',
         '"a', "'", 'x = \\', '1 +', '@f', 'class A:', 'try:\n  x\n', '# x', '', 'f(', 'lambda:', 'match x:\n case 1: y\n',
         ' x',
         'def f():\n  return 1\n\nf()', 'with a:\n  b\n', 'x; y', 'é = 1', '\\set', 'print "a"', '0777', '"\\d"']


@pytest.mark.parametrize('text', TEXTS)
def test_completeness_is_the_servers_rule(listeners, text):
    from boxsession.python.compiler import Compiler

    assert is_complete(text.encode(), 'python') is (text.startswith('\\') or not Compiler().is_incomplete(text))


class TestCompletions:
    @pytest.mark.parametrize(('line', 'asked'), [
        ('app.cache.ent', 'app.cache.ent'), ('x = app.ca', 'app.ca'),
        ("flags['ne", "flags['ne"), ('f(flags["n c', 'flags["n c'),
        ("flags['a'].b['c", "flags['a'].b['c"), ('flags[', 'flags['), ("a['x'] + b['y", "b['y"), ('f().x', None),
        ('"abc', None),
        ('1.re', None), ('x]', None), ('d[flags.a', 'flags.a'), ('', None), ('if ap', 'ap'), ('f"{app.n', 'app.n'),
        ('(app)', None)])
    def test_what_is_asked(self, line, asked):
        seen = []
        completions(line, seen.append, 'python')
        assert seen == ([] if asked is None else [asked])

    @pytest.mark.parametrize(('name', 'is_fine'), [
        ('app.cache', True), ('app.close(', True), ('app["a b"].c', True), ("app['x y']", True), ('app\x1b', False),
        ('app;x', False), ('app["é"]', False), ('app[0]', False), ('app else ', False), ('other', False), (7, False)])
    def test_names_are_checked(self, name, is_fine):
        reply = reply_document(b'\1' + pack([['app', name]])[1:-1])
        assert completions('app', lambda text: reply, 'python') == ((3, [name]) if is_fine else (0, []))


@pytest.mark.parametrize('plain', [(), ('--plain',)], ids=['fancy', 'plain'])
class TestTerminal:
    @pytest.fixture
    def terminal(self, open_terminal, address, plain):  # noqa: F811
        terminal = open_terminal(address, '-l', 'python', *plain, columns=200)
        terminal.expect(f'admin@{address} py>')
        return terminal

    def test_statements(self, terminal):
        terminal.type('[n for n in range(2)]')
        terminal.expect('---\n- - 0\n  - 1\n...\n')
        terminal.type('_')
        terminal.expect('---\n- - 0\n  - 1\n...\n')
        terminal.type('1/0')
        terminal.expect('ZeroDivisionError')
        assert terminal.leave() == 0

    def test_the_first_value_is_the_users(self, terminal):
        terminal.prompted()
        terminal.type('_')
        terminal.expect(' _\n---\n...\n')

    def test_a_block_ends_with_an_empty_line(self, terminal, plain):
        terminal.prompted()
        terminal.type('def double(n):')
        terminal.expect('> ')
        terminal.type('    return 2 * n' if plain else 'return 2 * n')
        terminal.expect('> ')
        terminal.type('')
        terminal.expect('---\n...\n')
        terminal.type('double(21)')
        terminal.expect('---\n- 42\n...\n')

    def test_completion(self, terminal):
        terminal.type('flags = {"new checkout": {"deep": 7}}; rubbish_heap = 8')
        terminal.expect('---\n...\n')
        terminal.prompted()
        terminal.send("flags['new ch\t")
        terminal.expect("eckout']")
        terminal.send('["de\t')
        terminal.expect('ep"]')
        terminal.send(', rubbish_h\t')
        terminal.expect('eap')
        terminal.type('')
        terminal.expect('---\n- - 7\n  - 8\n...\n')

    def test_languages_change(self, terminal, address):
        terminal.type('\\set language lua')
        terminal.expect(f'admin@{address}>')
        terminal.type('"a" .. 1')
        terminal.expect('- a1\n')
        terminal.type('\\set lang python')
        terminal.expect(f'admin@{address} py>')
        terminal.type('\\sessions')
        terminal.expect('running')
        terminal.type('[5]')
        terminal.expect('- - 5\n')

    def test_another_user(self, terminal, address):
        terminal.type('\\login ops ops')
        terminal.expect(f'ops@{address} py>')
        terminal.type('[5]')
        terminal.expect('- - 5\n')
        terminal.type('\\login web web')
        terminal.expect(f'web@{address} py>')
        terminal.type('[5]')
        terminal.expect("denied for user 'web'")

    @pytest.mark.parametrize('word', ['quit', 'exit', 'exit()', 'quit()', '\\quit'])
    def test_leaving(self, terminal, word):
        terminal.prompted()
        terminal.type(word)
        assert terminal.wait() == 0

    def test_ctrl_c_cancels(self, terminal):
        terminal.type('print("going"); any(False for _ in iter(int, 1))')
        terminal.expect('going\n')
        terminal.send(CTRL_C)
        terminal.expect('- error: the statement was cancelled\n')
        terminal.type('6 * 7')
        terminal.expect('- 42\n')

    def test_a_server_without_python(self, open_terminal, listeners, plain):  # noqa: F811
        terminal = open_terminal(listeners['lua'], '-l', 'python', *plain)
        terminal.expect('no statements in python at')
        assert terminal.wait() == 2

    def test_after_a_restart(self, open_terminal, serve, tmp_path, plain):  # noqa: F811
        (tmp_path / 'c.yml').write_text(f'listen: [{{address: "{SOCKET}", languages: [lua, python]}}]\n')
        (tmp_path / 'lua.yml').write_text(f'listen: ["{SOCKET}"]\n')
        served = serve('-c', 'c.yml')
        served.addresses()
        terminal = open_terminal(SOCKET, *plain)
        terminal.prompted()
        terminal.type('\\set language python')
        terminal.expect(f'admin@{SOCKET} py>')
        for config, prompt in (('c.yml', ' py>'), ('lua.yml', '>')):
            assert served.stop() == 0
            terminal.prompted()
            terminal.type('[1]')
            terminal.expect('the server went away')
            served = serve('-c', config)
            served.addresses()
            terminal.expect('connected again')
            terminal.expect(f'admin@{SOCKET}{prompt}')
            terminal.drop()
