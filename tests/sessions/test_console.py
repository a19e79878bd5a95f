"""The text console over real sockets: statements, continuation, Ctrl-C, and input of other protocols."""
from __future__ import annotations

import os
import sys

import gevent
import pytest
import yaml
from gevent import socket
from waiting import running, wait_for

from boxsession.protocol.greeting import process_of

NO_VALUES = b'---\n...\n'


def documents(data):
    return list(yaml.safe_load_all(data))


def test_the_greeting_comes_first(console, connect):
    client = connect(console())
    assert 128 == len(client.greeting)
    assert client.greeting.startswith(b'Tarantool 2.6.0 (Lua console)')
    assert os.getpid() == process_of(client.greeting)[0]


def test_the_greeting_names_the_service(console, connect):
    served = console(name='shop-1.eu')
    assert (os.getpid(), 'shop-1.eu') == process_of(connect(served).greeting)
    served.reload({'listen': [str(served.addresses[0])], 'name': 'other'})
    assert (os.getpid(), 'other') == process_of(connect(served).greeting)


@pytest.mark.parametrize(('program', 'name'), [
    ('/srv/shop/app.py', 'app'), ('/srv/shop/shop/__main__.py', 'shop'), ('/usr/bin/gunicorn', 'gunicorn'), ('-c', ''),
    ('', ''), ('/usr/bin/boxsession', ''), ('/x/boxsession/__main__.py', ''), ('/x/a b.py', '')])
def test_without_a_name_it_is_the_programs(console, connect, monkeypatch, program, name):
    monkeypatch.setattr(sys, 'argv', [program])
    assert name == process_of(connect(console()).greeting)[1]


def test_pipelined_statements_are_answered_in_order_in_one_write(console, connect):
    client = connect(console(limits={'slice_ms': 10000}))      # a busy machine would end a shorter one
    count = 100
    client.send(''.join(f'{number}\n' for number in range(count)))
    expected = b''.join(b'---\n- %d\n...\n' % number for number in range(count))
    first = client.sock.recv(1 << 16)
    assert expected == first


def test_lines_end_with_lf_or_crlf_and_get_one_reply_each(console, connect):
    client = connect(console())
    client.send(b'1\r\n2\n\r\n3\r\n')
    client.end()
    assert [[1], [2], None, [3]] == documents(client.read_to_end())


def test_end_of_input_answers_what_is_finished_and_closes(console, connect):
    client = connect(console())
    client.send(b'1\n2\n')
    client.end()
    assert b'---\n- 1\n...\n---\n- 2\n...\n' == client.read_to_end()


@pytest.mark.parametrize('rest', ['x = 12', 'for i = 1, 3 do\n', 'for i = 1, 3 do\n x = i\n'])
def test_an_unfinished_statement_is_never_run_but_told(console, connect, rest):
    served = console()
    client = connect(served)
    client.send('x = 1\n' + rest)
    client.end()
    first, told = documents(client.read_to_end())
    assert first is None
    assert 'not run' in told[0]['error'] and rest.strip().splitlines()[0] in told[0]['error']
    assert 1 == connect(served).value('x')


@pytest.mark.parametrize('goodbye', ['~.', '\\quit', '\\q', '\x04'])
def test_leaving_closes_at_once(console, connect, goodbye):
    client = connect(console())
    client.send(f'1\n{goodbye}\n2\n')
    assert b'---\n- 1\n...\n' == client.read_to_end()


def test_bytes_pass_unharmed(console, connect):
    client = connect(console())
    data = bytes(byte for byte in range(1, 256) if byte not in b'\n\r\x03"\\\xff')
    client.send(b's = "' + data + b'"\n')
    assert NO_VALUES == client.document()
    assert len(data) == client.value('#s')
    assert list(data) == client.value('{s:byte(1, -1)}')


@pytest.mark.parametrize('data', [b'\x00\n', b'\x80\xfe\n', b'\x1bLua\n', b'return \x00\n', b'\xff\xfe\xff\xff\n'])
def test_garbage_gets_an_error_and_the_session_lives_on(console, connect, data):
    client = connect(console())
    client.send(data)
    assert b'error' in client.document()
    assert 2 == client.value('1 + 1')


def test_a_line_over_the_limit_is_an_error_in_the_sessions_format(console, connect):
    client = connect(console(limits={'statement_bytes': 1000}))
    client.reply('1')
    client.send('x' * 1001 + 'yyy\n1\n')
    assert 'limits.statement_bytes' in documents(client.document())[0][0]['error']
    assert b'---\n- 1\n...\n' == client.document()
    client.send('\\set output lua\n')
    assert b'true;' == client.read_until(b';')
    client.send('x' * 100_000 + '\n1\n')
    assert client.read_until(b';').startswith(b'{error = "the statement is too long')
    assert b'1;' == client.read_until(b';')


class TestContinuation:
    LOOP = ['n = 0', 'for i = 1, 3 do', '  n = n + i', 'end']

    def test_auto_waits_for_the_end_of_a_statement(self, console, connect):
        client = connect(console())
        client.send('\n'.join([*self.LOOP, 'n', '']))
        assert [NO_VALUES, NO_VALUES, b'---\n- 6\n...\n'] == [client.document() for _ in range(3)]

    @pytest.mark.parametrize('lines', ['x = {\n1,\n2}\n#x\n', 'x = [[\n]]\n#x + 2\n', '--[[\n]] 2\n', '1 +\n1\n',
                                       'function f()\n return 2 end f()\nf()\n', '(\n2)\n', '2 --[==[\n]==]\n'])
    def test_auto_knows_every_way_to_be_unfinished(self, console, connect, lines):
        client = connect(console())
        client.send(lines)
        client.end()
        assert [2] == documents(client.read_to_end())[-1]

    @pytest.mark.parametrize('line', ['"unfinished', "'unfinished", 'x = = 1', 'end', 'x y'])
    def test_auto_tells_what_no_line_can_mend(self, console, connect, line):
        client = connect(console())
        assert client.error(line)

    def test_off_lets_every_line_stand_alone(self, console, connect):
        client = connect(console(dialect='tarantool'))
        assert "near '<eof>'" in client.error('for i = 1, 3 do')
        assert [True] == client.values('\\set continuation auto')
        client.send('for i = 1, 3 do\nx = i end x = x + 1\nx\n')
        assert NO_VALUES == client.document()
        assert b'---\n- 4\n...\n' == client.document()

    def test_on_joins_lines_at_a_backslash(self, console, connect):
        client = connect(console(dialect='tarantool'))
        assert [True] == client.values('\\set continuation on')
        client.send('1 \\\n+ 1\n')
        assert b'---\n- 2\n...\n' == client.document()
        assert [True] == client.values('\\set continuation off')
        assert client.error('1 \\')

    def test_is_this_sessions_own(self, console, connect):
        served = console(dialect='tarantool')
        first, second = connect(served), connect(served)
        first.values('\\set continuation on')
        assert second.error('1 \\')

    def test_wrong_value_is_told(self, console, connect):
        assert 'auto, on, off' in connect(console()).error('\\set continuation maybe')


def test_a_prompt_is_shown_when_asked_for(console, connect):
    client = connect(console())
    assert b'---\n- true\n...\ntarantool> ' == client.reply('\\set prompt on') + client.read(11)
    client.send('for i = 1, 2 do\n')
    assert b'         > ' == client.read(11)
    client.send(b'\x03')
    assert b'\ntarantool> ' == client.read(12)
    client.send('for i = 1, 2 do\nend\n')
    assert b'         > ' == client.read(11)
    assert NO_VALUES + b'tarantool> ' == client.document() + client.read(11)
    assert NO_VALUES + b'tarantool> ' == client.reply('\\set delimiter ;') + client.read(11)
    client.send('1\n+ 1;\n')
    assert b'         > ---\n- 2\n...\ntarantool> ' == client.read(11) + client.document() + client.read(11)
    client.send(b'"' + b'x' * 70000 + b'";\n')
    assert b'limits.statement_bytes' in client.document()
    assert b'tarantool> ' == client.read(11)
    client.send('\\set prompt off;\n')
    assert b'---\n- true\n...\n' == client.document()


def test_help_names_every_parameter(console, connect):
    told = connect(console()).value('\\help')[0]
    for word in ('\\quit', '~.', 'output', 'delimiter', 'continuation', 'prompt'):
        assert word in told


class TestInterrupt:
    @pytest.mark.parametrize('interrupt', [b'\x03', b'\xff\xf4\xff\xfd\x06'])
    def test_it_drops_a_half_typed_statement(self, console, connect, interrupt):
        client = connect(console())
        client.send(b'for i = 1, 3 do\nx = ' + interrupt + b'7\n')
        if interrupt[0] == 0xff:
            assert b'\xff\xfb\x06' == client.read(3)
        assert b'---\n- 7\n...\n' == client.document()

    @pytest.mark.parametrize('statement', [
        "require('fiber').sleep(1000)",
        'while true do end',
        'while true do pcall(function() while true do end end) end',
        'while true do pcall(require("fiber").sleep, 1000) end',
        'while true do xpcall(function() while true do end end, function() while true do end end) end',
        'coroutine.wrap(function() while true do coroutine.wrap(function() while true do end end)() end end)()',
        'coroutine.wrap(function() while true do pcall(require("fiber").sleep, 1000) end end)()',
        'table.sort({3, 1, 2}, function() while true do end end)',
        '("x"):gsub("x", function() while true do end end)',
        'setmetatable({}, {__index = function() while true do end end}).x',
        'setmetatable({}, {__serialize = function() while true do end end})',
        'error(setmetatable({}, {__serialize = function() while true do end end}))',
        'wait(1000)',
        'while true do pcall(wait, 1000) end',
        'function f() return f() end f()',
    ])
    @pytest.mark.parametrize('interrupt', [b'\x03', b'\xff\xf4\xff\xfd\x06'])
    def test_it_cancels_a_running_statement_and_keeps_the_session(self, console, connect, statement, interrupt):
        served = console(expose={'wait': gevent.sleep}, limits={'slice_ms': 5})
        client, bystander = connect(served), connect(served)
        client.reply('box.session.storage.mark = 5')
        client.send(statement + '\n')
        assert 2 == bystander.value('1 + 1')
        client.send(interrupt)
        if interrupt[0] == 0xff:
            assert b'\xff\xfb\x06' == client.read(3)
        assert b"---\n- error: the statement was cancelled\n...\n" == client.document()
        assert 5 == client.value('box.session.storage.mark')

    def test_what_waits_behind_it_is_cancelled_too(self, console, connect):
        served = console()
        client = connect(served)
        client.send("require('fiber').sleep(1000)\nx = 1\n")
        wait_for(lambda: running(served))
        client.send(b'\x03x\n')
        assert [b'cancelled' in client.document() for _ in range(2)] == [True, True]
        assert b'---\n- null\n...\n' == client.document()

    def test_it_does_nothing_to_an_idle_session(self, console, connect):
        client = connect(console())
        client.send(b'\x03')
        assert 1 == client.value('1')
        client.send(b'\x03\x03')
        assert 2 == client.value('2')


def test_a_push_goes_out_before_the_statement_ends(console, connect):
    client = connect(console())
    client.send("box.session.push({1}) require('fiber').sleep(1000)\n")
    assert b'%TAG !push! tag:tarantool.io/push,2018\n---\n- 1\n...\n' == client.document()


def test_replies_in_front_of_a_slow_statement_are_not_held_back(console, connect):
    client = connect(console())
    client.send("1\nrequire('fiber').sleep(1000)\n")
    assert b'---\n- 1\n...\n' == client.document()


def test_spinning_sessions_do_not_stop_the_others(console, connect):
    served = console(limits={'slice_ms': 5})
    spinners = [connect(served) for _ in range(5)]
    for spinner in spinners:
        spinner.send('while true do end\n')
    client = connect(served)
    for number in range(20):
        assert number == client.value(str(number))
    for spinner in spinners:
        spinner.send(b'\x03')
        assert b'cancelled' in spinner.document()


def test_a_short_statement_is_not_interrupted(console, connect):
    served = console()
    first, second = connect(served), connect(served)
    first.send('for i = 1, 1000 do x = i end y = x\n')
    second.send('z = x\n')
    first.document(), second.document()
    assert [True] == first.values('z == nil or z == y')


def test_a_client_that_does_not_read_costs_only_itself(console, connect):
    served = console(limits={'send_seconds': 0.5})
    greedy, bystander = connect(served), connect(served)
    greedy.send('big = ("x"):rep(100000) ended = 0 box.session.on_disconnect(function() ended = ended + 1 end)\n')
    greedy.document()
    greedy.send('{%s}\n' % ', '.join(['big'] * 300))
    for number in range(50):
        assert number == bystander.value(str(number))
    wait_for(lambda: bystander.value('ended'))
    assert 1 == bystander.value('ended')
    bystander.reply('box.session.on_disconnect(nil, box.session.on_disconnect()[1])')


def test_a_large_reply_arrives_whole(console, connect):
    client = connect(console())
    values = client.value('t = {} for i = 1, 50000 do t[i] = i end return t')
    assert list(range(1, 50001)) == values


def test_sessions_over_the_limit_are_told(console, connect):
    served = console(limits={'sessions': 2})
    first, _second = connect(served), connect(served)
    refused = connect(served, greeting=False)
    assert 'limits.sessions' in documents(refused.read_to_end())[0][0]['error']
    first.close()
    wait_for(lambda: connect(served, greeting=False).read(3) != b'---')


def test_what_is_said_before_a_wait_arrives_then(console, connect):
    client = connect(console())
    client.send("box.session.push(('x'):rep(8e6)) require('fiber').sleep(1000)\n")
    assert len(client.document()) > 8e6


OPENINGS = [
    b'GET / HTTP/1.1', b'post /x http/1.0', b'OPTIONS * HTTP/1.1', b'PRI * HTTP/2.0', b'ANY / HTTP/1.1', b'GET /',
    b'\r\n\nPOST / HTTP/1.1', b' \t POST / HTTP/1.1', b'\xff\xfd\x01POST / HTTP/1.1', b'\x03POST / HTTP/1.1',
    b'x y z\r\nHost: x', b'EHLO x', b'*1\r\n$9', b'CLIENT libcurl 8.5.0', b'SSH-2.0-x',
    b'PROXY TCP4 1.2.3.4 5.6.7.8 1 2', b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    b'POST /' + b'x' * 70000 + b' HTTP/1.1', b'POST /' + b'x' * 70000]


@pytest.mark.parametrize('limit', [65536, 0])
@pytest.mark.parametrize('opening', OPENINGS, ids=lambda opening: repr(opening[:24]))
def test_what_another_program_was_made_to_send_runs_nothing(console, connect, caplog, opening, limit):
    if limit == 0 and len(opening) > 70000 and not opening.endswith(b'1.1'):
        pytest.skip('a line of any length is text there')
    served = console(limits={'statement_bytes': limit})
    page, admin = connect(served), connect(served)
    admin.reply('ends = 0 box.session.on_disconnect(function() ends = ends + 1 end)')
    page.send(opening + b'\r\nHost: x\r\nContent-Length: 9\r\n\r\nowned = 1\r\n' + b'owned = 1\r\n' * 1000)
    told = page.read_to_end()
    page.close()
    assert b'error: ' in told and b'owned' not in told
    wait_for(lambda: len(served.sessions) == 1)
    assert [None, 1] == admin.values('owned, ends')
    assert 1 == caplog.text.count(': closed')
    admin.reply('box.session.on_disconnect(nil, box.session.on_disconnect()[1])')


@pytest.mark.parametrize('opening', [
    b'get x y', b'unknown command', b'ruok', b'stats', b'reserve', b'UNKNOWN', b'a:b', b'*x', b'1 2', b'{"a" "b"}',
    b'{\n"a" 1}',
    b'ruok\r\n\r\n \r\nstat', b'"a":1', b'mn', b'status', b'--boundary\r\nget x y', b'--\r\n\r\n  --[x\r\nPOST / HTTP/1.1',
    b'AUTHENTICATE "PLAIN"', b"user 'x'", b'command {1}'])
@pytest.mark.parametrize('output', ['yaml', 'lua'])
def test_what_comes_behind_a_line_that_no_console_knows_does_not_run(console, connect, caplog, opening, output):
    served = console()
    admin = connect(served)
    admin.reply("set = box.session.on_connect(function() require('console').set_default_output('%s') end)" % output)
    page = connect(served)
    page.send(opening + b'\r\nowned = 1\r\n' * 5)
    page.end()
    page.read_to_end()
    assert [None] == admin.values('owned')
    assert 1 == caplog.text.count(': closed') + caplog.text.count(': not run')
    admin.reply('box.session.on_connect(nil, set)')


@pytest.mark.parametrize('statement', [
    'quit', 'help', 'a.b', '{"a"}', 'x', 'foo bar', 'select 1', 'x y z', 'stats', 'MAX', 'exit'])
def test_what_people_may_type_closes_nothing(console, connect, statement):
    client = connect(console())
    client.reply(statement)
    client.reply(statement)
    assert 2 == client.value('1 + 1')
    assert [None, 3] == [client.value(text) for text in ('x', '3')]


@pytest.mark.parametrize('packets', [
    ['x y z\nowned = 1\n'], ['x y z\now', 'ned = 1\n'], ['x y z\n\n\nowned = 1\n'], ['x y z\nx y\nowned = 1\n'],
    ['ruok\nowned = 1'], ['x y z\ndo\nowned = 1 end\n'], ['x y z\n\\set output lua\nowned = 1\n'],
    ['\n\nx y z\nx\nowned = 1\n'], ['x y z\n\x03owned = 1\n'], ['ruok\n\x03owned = 1\n']])
def test_lua_that_comes_before_the_answer_to_what_is_none_does_not_run(console, connect, packets):
    served = console()
    admin, page = connect(served), connect(served)
    for packet in packets:
        page.send(packet)
        admin.reply('1')
    page.end()
    page.read_to_end()
    assert [None] == admin.values('owned')


def test_behind_a_first_line_that_is_wrong_each_statement_is_answered_and_can_be_sent_again(console, connect, monkeypatch):
    monkeypatch.setattr('boxsession.sessions.evaluators._DOUBT_SECONDS', 0.01)
    client = connect(console())
    client.send('lcoal x = 1\nx = 2\n\nfor i = 1, 2 do\nx = i end\nx\n')
    documents = [client.document() for _ in range(5)]
    assert b'lcoal x' in documents[0] and documents[2] == b'---\n...\n'
    assert all(b'not run' in documents[number] for number in (1, 3, 4))
    # A statement is run again once the client was silent for a while, which each attempt ends.
    wait_for(lambda: gevent.sleep(0.02) or b'not run' not in client.reply('x = 2'))
    assert 2 == client.value('x')


def test_what_the_server_is_slow_to_read_is_no_silence(console, connect, monkeypatch):
    """All input is sent at once. The server takes longer to run its first part than the silence after which it trusts a
    client again."""
    monkeypatch.setattr('boxsession.sessions.evaluators._DOUBT_SECONDS', 0.05)
    served = console()
    admin, page = connect(served), connect(served)
    block = 'do\n' + 'x = 1\n' * 1000 + '\n' * 400 + 'end\n'
    page.send('hello there, my friend\n' + block + ('-- ' + 'c' * 997 + '\n') * 300 + '1\n' * 4000 + 'owned = 1\n' * 10)
    page.end()
    page.read_to_end()
    assert [None] == admin.values('owned')


@pytest.mark.parametrize('statement', ['--x\rx = 1', '--[[x]] x = 1', '--[==[x]==] x = 1', '  --[[x\n]] x = 1'])
def test_a_comment_with_a_statement_is_one(console, connect, statement):
    client = connect(console())
    client.send('\\set continuation on\n')
    client.document()
    client.send(statement.replace('\n', '\\\n') + '\n')
    assert b'---\n...\n' == client.document()
    client.send('x y z\nx = x + 1\nx\n')
    assert [b'error' in client.document() for _ in range(2)] == [True, False]
    assert b'---\n- 2\n...\n' == client.document()


def test_lua_that_comes_behind_the_answer_runs(console, connect):
    client = connect(console())
    client.send('x y z\n\n')
    client.document()
    client.send('\nx y\nfoo bar\n')
    documents = [client.document() for _ in range(4)]
    assert 2 == sum(b'error' in document for document in documents)
    assert 2 == client.value('1 + 1')


def test_statements_that_come_together_may_fail(console, connect):
    client = connect(console())
    client.send('nosuch()\nerror("x")\nnosuch.x\n1\nx y\n2\n')
    assert b'- 2\n' in [client.document() for _ in range(6)][-1]


@pytest.mark.parametrize('opening', [b'GET / HTTP/1.1\r\n', b'GET / HTTP/1.1', b'\x16\x03\x01'])
@pytest.mark.parametrize('leave', ['end', 'reset', 'stay'])
def test_another_protocols_client_that_leaves_or_stays_is_closed(console, connect, opening, leave):
    served = console()
    page = connect(served)
    page.send(opening)
    if leave == 'stay' and not opening.endswith(b'1.1'):
        page.read_to_end()
    elif leave == 'stay':
        page.send(b'\r')
        page.send(b'\n')
        page.read_to_end()
    else:
        getattr(page, leave)()
    wait_for(lambda: not served.sessions)


def test_http_in_packets_of_a_byte(console, connect):
    served = console()
    page, admin = connect(served), connect(served)
    for byte in b'POST / HTTP/1.1\r':
        page.send(bytes([byte]))
        admin.reply('1')
    page.send(b'\nowned = 1\n')
    assert b'---\n- error: this is no HTTP server\n...\n' == page.read_to_end()
    assert admin.value('owned') is None


def test_on_connect_may_set_a_delimiter_for_http(console, connect):
    served = console()
    admin = connect(served)
    admin.reply("require('console') set = box.session.on_connect(function() require('console').delimiter(';') end)")
    page = connect(served)
    page.send(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n; owned = 1;\r\n')
    assert b'this is no HTTP server' in page.read_to_end()
    assert admin.value('owned') is None
    admin.reply('box.session.on_connect(nil, set)')


@pytest.mark.parametrize('how', ['on_connect', 'limit'])
def test_a_refused_client_that_has_sent_something_reads_why(console, connect, how):
    running = console(limits={'sessions': 1} if how == 'limit' else {})
    admin = connect(running)
    if how == 'on_connect':
        admin.reply('box.session.on_connect(function() error("go away", 0) end)')
    with socket.create_connection((running.addresses[0].host, running.addresses[0].port)) as client:
        client.settimeout(10)
        client.sendall(b'1\n2\n')           # unread, this would make the close a reset
        said = b''
        while piece := client.recv(4096):
            said += piece
    assert said.startswith(b'---\n- error: ') and (b'go away' in said or b'too many sessions' in said)
