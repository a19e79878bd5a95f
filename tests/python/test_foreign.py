"""Lines of other protocols in sessions whose statements are in Python."""
from __future__ import annotations

import gevent
import pytest
from conftest import PYTHON, TEXT
from waiting import wait_for

from boxsession.protocol.foreign import foreign
from boxsession.python.doubts import is_blank, is_doubtful

NOT_DEFINED = b"NameError: name '%s' is not defined (statement:1)"


@pytest.mark.parametrize(('text', 'missing'), [
    (b'stats', b'stats'), (b' PING ', b'PING'), (b'anything', b'anything'), (b'command [1]', b'command'), (b'LIST -a',
        b'LIST'),
    (b'--boundary', b'boundary'), (b'----WebKit7x', b'WebKit7x'), (b'x + 1', b'x'), (b'list', b''), (b'exit', b''),
        (b'help', b''),
    (b'quit', b''), (b'STARTTLS', b''), (b'version', b'')])
def test_what_says_nothing_about_the_sender(text, missing):
    assert is_doubtful(text, NOT_DEFINED % missing if missing else b'')


@pytest.mark.parametrize(('text', 'failed'), [
    (b'nosuch()', NOT_DEFINED % b'nosuch'), (b'nosuch.x', NOT_DEFINED % b'nosuch'), (b'f(nosuch)', NOT_DEFINED % b'nosuch'),
    (b'x = nosuch', NOT_DEFINED % b'nosuch'), (b'1/0', b'ZeroDivisionError: division by zero (statement:1)'), (b'x', b''),
        (b'1 + 1', b''),
    (b'print(1)', b''), (b'nosuch[1]', NOT_DEFINED % b'nosuch')])
def test_what_is_no_command(text, failed):
    assert not is_doubtful(text, failed)


@pytest.mark.parametrize('text', [b'', b' \t', b'# x', b'  # x\n\n # y', b'#', b'\n'])
def test_blanks_and_comments(text):
    assert is_blank(text) and not is_blank(text + b'\nx') and not is_blank(b"'# x'")


@pytest.mark.parametrize('line', [
    b'try:', b'else:', b'finally:', b'except:', b'try: x()', b'@cache', b'@app.route("/x")', b'@Name', b'x: int = 5',
    b'names: dict[str, int] = {}',
    b'MAX in x', b'CACHE is None', b'FLAGS if x else y', b'config is None', b'options in x', b'class A:',
    b'with open(x) as f:', b'for x in y:',
    b"{'a': 1}", b'x = {"a": 1}', b'f({"a": 1})', b'# GET / of HTTP', b'async def f():', b'lambda: 0', b'x @ y',
    b'print("GET / HTTP/1.1")'])
def test_lines_of_python(line):
    assert foreign(line) is None


@pytest.mark.parametrize('line', [b'"a": 1,', b'    "a": 1', b'    name: str', b'    x: Host = 1', b'default:',
    b'    "a": {', b'{"a": 1},',
                                  b'    ["a", "b"],'])
def test_lines_of_a_statement_of_several_lines(line):
    assert foreign(line, b'class A:\n') is None and foreign(line, b'conf = {\n') is None


@pytest.mark.parametrize('line', [b'"a": 1,', b'    "a": 1', b'{"a": 1},', b'["a", "b"]'])
@pytest.mark.parametrize('held', [b'', b'{\n', b'[\n', b' {\n"a": 1,\n'])
def test_a_document_of_json_is_foreign(line, held):
    assert foreign(line, held) == 'JSON'


@pytest.fixture
def serve(console, connect):
    """A console whose new sessions begin with Python, and a client whose session does not."""
    served = console(listen=[{**PYTHON, 'languages': ['python', 'lua']}, TEXT])
    return served, connect(served.addresses[1])


OWNED = b'box.session.storage["owned"] = 1; box.lua("owned = 1")'


@pytest.mark.parametrize('opening', [
    b'GET / HTTP/1.1', b'post /x http/1.0', b'GET /', b'\r\n\nPOST / HTTP/1.1', b'EHLO x', b'*1\r\n$9', b'SSH-2.0-x',
    b'PING', b'STARTTLS', b'QUIT',
    b'{"a": 1}', b'[{"a": 1}]', b'"a": 1', b'{\n"a": 1\n}', b'Host: x', b'set key 0 0 7',
    b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    b'# x\nGET / HTTP/1.1', b'if x:\nGET / HTTP/1.1', b"'''\nGET / HTTP/1.1"])
def test_a_line_of_another_protocol_ends_the_session(serve, connect, caplog, opening):
    served, admin = serve
    page = connect(served)
    page.send(opening + b'\r\n' + (OWNED + b'\r\n') * 100)
    told = page.read_to_end()
    page.close()
    assert b'error: ' in told and b'owned' not in told
    wait_for(lambda: len(served.sessions) == 1)
    assert admin.values('owned') == [None]
    assert 1 == caplog.text.count(': closed')


@pytest.mark.parametrize('opening', [
    b'ruok', b'stats', b'quit', b'exit', b'help', b'list', b'reserve', b'UNKNOWN', b'get x y', b'unknown command', b'a b c',
    b'1 2', b'{"a" "b" 1}',
    b'ruok\r\n\r\n# x\r\nstat', b'--boundary', b'# x\r\n--boundary', b'AUTHENTICATE "PLAIN"', b"user 'x'", b'command {1}',
    b'command [1]', b'LIST -a',
    b'version', b'"', b'(]', b'a = = 1', b'INFO', b'monitor', b'dir'])
def test_what_comes_behind_a_line_that_no_console_knows_does_not_run(serve, connect, caplog, opening):
    served, admin = serve
    page = connect(served)
    page.send(opening + b'\r\n' + (OWNED + b'\r\n') * 5)
    page.end()
    page.read_to_end()
    assert admin.values('owned') == [None]
    assert 1 == caplog.text.count(': closed') + caplog.text.count(': not run')


@pytest.mark.parametrize('packets', [
    [b'x y z\nOWNED\n'], [b'x y z\nOW', b'NED\n'], [b'x y z\n\n\nOWNED\n'], [b'x y z\nx y\nOWNED\n'], [b'ruok\nOWNED'],
        [b'x y z\nif 1:\n    OWNED\n\n'],
    [b'x y z\n\\set output lua\nOWNED\n'], [b'x y z\n# c\nOWNED\n'], [b'x y z\n\x03OWNED\n'], [b'ruok\n\x03OWNED\n'],
        [b'ruok\n\\set language lua\nowned = 1\n']])
def test_python_that_comes_before_the_answer_to_what_is_none_does_not_run(serve, connect, packets):
    served, admin = serve
    page = connect(served)
    for packet in packets:
        page.send(packet.replace(b'OWNED', OWNED))
        admin.reply('1')
    page.end()
    page.read_to_end()
    assert admin.values('owned') == [None]


@pytest.mark.parametrize('statement', ['quit', 'help', 'x', 'foo bar', 'select 1', 'stats', 'MAX', 'exit', 'list', '1/0',
    'try:\n    pass\nfinally:\n    pass\n'])
def test_what_people_may_type_closes_nothing(serve, connect, statement):
    client = connect(serve[0])
    client.reply(statement)
    client.reply(statement)
    assert client.value('1 + 1') == 2


def test_statements_that_come_together_may_fail(serve, connect):
    client = connect(serve[0])
    client.send('nosuch()\n1/0\nnosuch.x\n1\nx y\n2\n')
    assert b'- 2\n' in [client.document() for _ in range(6)][-1]


def test_the_first_statement_may_have_lines_that_look_like_others(serve, connect):
    client = connect(serve[0])
    client.send('import functools\n')
    client.document()
    client = connect(serve[0])
    client.send('class A:\n    name: str\n    def f(self):\n        try:\n            return {\n"a": 1}\n'
                '        finally:\n            pass\n\n')
    assert client.document() == b'---\n...\n'
    assert client.value('A().f()') == {'a': 1}


def test_what_was_not_run_can_be_sent_again(serve, connect, monkeypatch):
    monkeypatch.setattr('boxsession.sessions.evaluators._DOUBT_SECONDS', 0.01)
    client = connect(serve[0])
    client.send('improt x\nx = 2\n')
    documents = [client.document() for _ in range(2)]
    assert b'SyntaxError' in documents[0] and b'not run' in documents[1]
    wait_for(lambda: gevent.sleep(0.02) or b'not run' not in client.reply('x = 2'))
    assert client.value('x') == 2
