"""The client's core, without sockets: conversations, formats, the rule of completeness, the history's file."""
from __future__ import annotations

import json
import os
import random
import stat
from pathlib import Path

import msgpack
import pytest

from boxsession.base.redaction import login_password
from boxsession.client.completeness import is_complete
from boxsession.client.history import History, default_path
from boxsession.client.settings import Settings, is_quit
from boxsession.client.target import Target, WrongUsage
from boxsession.client.values import (
    Unshowable,
    document_of,
    error_text,
    is_error,
    shown,
    text_of_push,
    values,
    visible,
    visible_pieces,
)
from boxsession.protocol import iproto
from boxsession.protocol.answers import BinaryConversation
from boxsession.protocol.client import (
    DONE,
    NEED_DATA,
    BadReply,
    Documents,
    Notice,
    Piece,
    Push,
    RelayedConversation,
    Reply,
    Send,
    TextConversation,
)
from boxsession.protocol.greeting import console_greeting, protocol_of

OURS = console_greeting('0.1.0')
TARANTOOL = f'{"Tarantool 2.6.0 (Lua console)":<63}\n{"type help for interactive help":<63}\n'.encode()
TRUE = b'---\n- true\n...\n'
EMPTY = b'---\n...\n'
PUSH = b'%TAG !push! tag:tarantool.io/push,2018\n--- half\n...\n'


@pytest.fixture
def text():
    conversation = TextConversation(OURS)
    assert b'\\set output yaml\n\\set delimiter --~boxsession~\n\\set print on--~boxsession~\n' == conversation.opening()
    conversation.receive_data(TRUE + EMPTY + TRUE)
    assert conversation.next_event() is NEED_DATA
    return conversation


class TestText:
    def test_a_statement_and_its_reply(self, text):
        ticket, data = text.ask(b'for i = 1, 2 do\n\nend')
        assert b'for i = 1, 2 do\n\nend--~boxsession~\n' == data
        text.receive_data(EMPTY)
        assert Reply(ticket, EMPTY) == text.next_event()
        assert text.next_event() is NEED_DATA

    def test_in_any_split(self, text):
        tickets = [text.ask(b'%d' % number)[0] for number in range(3)]
        documents = [b"---\n- 'a\n\n    ...\n\n    b'\n...\n", b'---\n- |\n  ...\n  x\n...\n', EMPTY]
        stream = PUSH + documents[0] + documents[1] + PUSH + documents[2] + b'---\n- error: bye\n...\n'
        expected = [Push(PUSH), Reply(tickets[0], documents[0]), Reply(tickets[1], documents[1]), Push(PUSH),
                    Reply(tickets[2], EMPTY), Notice(b'---\n- error: bye\n...\n')]
        rest, found, chance = stream, [], random.Random(5)
        while rest:
            count = chance.randint(1, 9)
            text.receive_data(rest[:count])
            rest = rest[count:]
            while (event := text.next_event()) is not NEED_DATA:
                found.append(event)
        assert expected == found

    @pytest.mark.parametrize('statement', [
        b'"--~boxsession~"', b'"\x03"', b'[[\n~.\n]]', b'[[\r\n~.\r\n]]', b'\x04', b'require("console").delimiter(";")',
    ])
    def test_what_would_break_the_wire_goes_as_a_string(self, text, statement):
        ticket, data = text.ask(statement)
        assert data.count(b'\n') == 1 and data.count(b'--~boxsession~\n') == 1
        assert b'\x03' not in data and b'require("console").eval("' in data
        text.receive_data(b'---\n- |\n  ---\n  - 5\n  ...\n...\n')
        assert Reply(ticket, b'---\n- 5\n...\n') == text.next_event()

    def test_an_error_of_eval_itself_is_the_reply(self, text):
        ticket, _ = text.ask(b'"\x03"')
        text.receive_data(b'---\n- error: no such module\n...\n')
        assert Reply(ticket, b'---\n- error: no such module\n...\n') == text.next_event()

    def test_bytes_of_telnet(self, text):
        assert b'"\xff\xff"--~boxsession~\n' == text.ask(b'"\xff"')[1]
        theirs = TextConversation(TARANTOOL)
        theirs.opening()
        assert b'"\xff"--~boxsession~\n' == theirs.ask(b'"\xff"')[1]

    def test_who_can_cancel(self, text):
        assert b'\x03' == text.cancel()
        assert b'' == TextConversation(TARANTOOL).cancel()

    def test_what_is_no_document(self, text):
        text.receive_data(b'1;')
        with pytest.raises(BadReply, match="b'1;'"):
            text.next_event()


class TestDocuments:
    DOCUMENTS = (PUSH, b"---\n- 'a\n\n    ...\n\n    b'\n...\n", EMPTY,
                 b'--- half\n...\n', b'---\n- %s\n...\n' % (b'x' * 99))

    @pytest.mark.parametrize('piece_bytes', [0, 8, 20])
    def test_in_any_split(self, piece_bytes):
        chance = random.Random(7)
        for _ in range(100):
            documents, rest, found = Documents(piece_bytes), b''.join(self.DOCUMENTS), [b'']
            while rest:
                count = chance.randint(1, 40)
                documents.receive_data(rest[:count])
                rest = rest[count:]
                while (piece := documents.next_piece()) is not NEED_DATA:
                    assert piece.is_push == (len(found) == 1)
                    assert piece_bytes or piece.is_last
                    found[-1] += piece.data
                    found += [b''] * piece.is_last
                assert not piece_bytes or documents.buffered_bytes <= piece_bytes
            assert [*self.DOCUMENTS, b''] == found

    @pytest.mark.parametrize('data', [b'1', b'--x', b'---x', b'%TAX', b';'])
    def test_what_is_none(self, data):
        documents = Documents()
        documents.receive_data(data)
        with pytest.raises(BadReply, match='not a YAML document'):
            documents.next_piece()
        assert data == documents.rest() and documents.next_piece() is NEED_DATA


class TestRelayed:
    @pytest.fixture
    def relayed(self):
        conversation = RelayedConversation(TARANTOOL)
        assert Send(b'\\set continuation off\n') == conversation.next_event()
        conversation.receive_data(PUSH + TRUE)
        assert conversation.next_event() is DONE
        return conversation

    @staticmethod
    def passed_on(conversation, stream):
        """Feeds a stream byte by byte; returns the bytes that are relayed until the next command to send, or the end."""
        data = b''
        for byte in stream:
            conversation.receive_data(bytes([byte]))
            while isinstance(event := conversation.next_event(), Piece):
                data += event.data
            if event is not NEED_DATA:
                return data, event
        return data, NEED_DATA

    def test_a_statement_and_its_reply(self, relayed):
        relayed.ask(b'1')
        assert Send(b'1\n') == relayed.next_event()
        assert (PUSH + TRUE, DONE) == self.passed_on(relayed, PUSH + TRUE)

    def test_several_lines_are_one_statement(self, relayed):
        relayed.ask(b'do\nend')
        assert Send(b'require("console").delimiter("$EOF$")\n') == relayed.next_event()
        assert (b'', Send(b'do\nend$EOF$\n')) == self.passed_on(relayed, EMPTY)
        assert (TRUE, Send(b'require("console").delimiter("")$EOF$\n')) == self.passed_on(relayed, TRUE)
        assert (b'', DONE) == self.passed_on(relayed, EMPTY)

    def test_a_push_is_passed_on_before_the_reply(self, relayed):
        relayed.ask(b'1')
        relayed.next_event()
        assert (PUSH, NEED_DATA) == self.passed_on(relayed, PUSH + b'---\n- ')

    def test_a_long_reply_is_passed_on_in_pieces(self, relayed):
        relayed.ask(b'1')
        relayed.next_event()
        relayed.receive_data(b'---\n- ' + b'x' * 100_000)
        piece = relayed.next_event()
        assert len(piece.data) > 100_000 and not piece.is_last
        assert relayed.next_event() is NEED_DATA

    def test_lua_output_ends_when_nothing_follows(self, relayed):
        relayed.ask(b'1')
        relayed.next_event()
        assert relayed.patience is None
        relayed.receive_data(b'{1,')
        assert Piece(b'{1,', False, False) == relayed.next_event()
        patience = relayed.patience
        relayed.receive_data(b'---\n2};')
        assert Piece(b'---\n2};', False, False) == relayed.next_event() and relayed.next_event() is NEED_DATA
        assert 0 < relayed.patience < patience
        relayed.receive_silence()
        assert relayed.next_event() is DONE and relayed.patience is None

    @pytest.mark.parametrize('endless', [b'---\n- ' + b'x' * 70000, PUSH * 5000])
    def test_its_own_statements_have_short_replies(self, endless):
        conversation = RelayedConversation(TARANTOOL)
        conversation.next_event()
        conversation.receive_data(endless)
        with pytest.raises(BadReply):
            conversation.next_event()

    def test_who_can_cancel(self, relayed):
        assert b'' == relayed.cancel()
        assert b'\x03' == RelayedConversation(OURS).cancel()


@pytest.mark.parametrize(('greeting', 'protocol'), [
    (OURS, 'text'), (TARANTOOL, 'text'), (iproto.greeting('2.6.0', 'x', bytes(32)), 'binary'), (OURS[:-1], None),
    (b'SSH-2.0'.ljust(128), None), (b'', None)])
def test_a_greeting_tells_the_protocol(greeting, protocol):
    assert protocol == protocol_of(greeting)


class TestBinary:
    GREETING = iproto.greeting('2.6.0', 'x', bytes(32))

    def ask(self, statement=b'1'):
        conversation = BinaryConversation(self.GREETING)
        return conversation, *conversation.ask(statement)

    def test_a_statement_goes_by_eval(self):
        _, ticket, data = self.ask(b'"\xff" + 1')
        protocol = iproto.IprotoProtocol()
        protocol.receive_data(data)
        request = protocol.next_event()
        assert (iproto.EVAL, ticket, b"return require('console').eval(...)") == (request.type, request.sync, request.name)
        assert [b'"\xff" + 1'] == msgpack.unpackb(request.arguments, raw=True)

    def test_answers_in_any_split(self):
        conversation, ticket, _ = self.ask()
        reply = iproto.ok(ticket, iproto.packed(['---\n- 1\n...\n']))
        stream = iproto.push(ticket, b'\x91\x91\x01') + reply + iproto.error(0, 32, 'bye')
        found = []
        for at in range(len(stream)):
            conversation.receive_data(stream[at:at + 1])
            while (event := conversation.next_event()) is not NEED_DATA:
                found.append(event)
        assert [Push(b'---\n- 1\n...\n'), Reply(ticket, b'---\n- 1\n...\n'), Notice(b'---\n- error: bye\n...\n')] == found

    def test_an_error(self):
        conversation, ticket, _ = self.ask()
        conversation.receive_data(iproto.error(ticket, 42, "it's denied"))
        reply = conversation.next_event()
        assert "it's denied" == error_text(reply.document) and is_error(reply.document)

    def test_a_server_that_cannot_cancel(self):
        conversation, ticket, _ = self.ask()
        assert conversation.cancel() and conversation.can_cancel
        conversation.receive_data(iproto.error(ticket + 1, 32, "attempt to call field 'cancel' (a nil value)"))
        assert conversation.next_event() is NEED_DATA and not conversation.can_cancel

    def test_the_scramble_is_the_servers(self):
        from boxsession.users.passwords import password_hash
        conversation = BinaryConversation(iproto.greeting('2.6.0', 'x', b's' * 32))
        protocol = iproto.IprotoProtocol()
        protocol.receive_data(conversation.login('ops', 'é secret')[1])
        request = protocol.next_event()
        method, scramble = iproto.login_arguments(request.arguments)
        assert b'ops' == request.name and b'chap-sha1' == method
        assert iproto.scramble_matches(scramble, b's' * 32, password_hash('é secret'))
        assert not iproto.scramble_matches(scramble, b't' * 32, password_hash('é secret'))

    @pytest.mark.parametrize('data', [b'\xce\x00\x00\x00\x01\x01', b'\x02\xc1\xc1', b'\xce\x00\x00\x00\x02\x80\x05'])
    def test_what_is_no_answer(self, data):
        conversation, *_ = self.ask()
        conversation.receive_data(data)
        with pytest.raises(BadReply):
            conversation.next_event()


TEXTS = ['1', 'x = 1', 'x = = 1', 'for i = 1, 2 do end', 'end', '"a', '\\set x', '', '--', '-- [[', 'return', 'x y', "'",
         '"\\', 'for i = 1, 2 do', 'f(', 'x =', '{', '{1,', '[[', '--[[', 'function f()', '1 +', 'a.', 'return 1,', '(',
         'repeat', 'f{', 'local', 'local function', 'x = [=[ ]]', '--[==[ ]]']


class TestCompleteness:
    @pytest.mark.parametrize('text', TEXTS)
    def test_it_is_the_servers_rule(self, console, connect, text):
        client = connect(console())
        client.send(text + '\n')
        # Ctrl-C drops an unfinished one without a reply.
        client.send('\x03')
        client.send('"end"\n')
        is_answered = not client.document().startswith(b'---\n- end')
        assert is_answered == is_complete(text.encode())


VALUES = b"---\n- 1\n- 'a: b'\n- null\n- {}\n- - 1.5\n  - x: y\n- \n- !!binary /w==\n...\n"


class TestFormats:
    def test_values(self):
        assert [1, 'a: b', None, {}, [1.5, {'x': 'y'}], '', '\ufffd'] == values(VALUES)
        assert [] == values(EMPTY)

    @pytest.mark.parametrize(('form', 'expected'), [
        ('yaml', VALUES),
        ('json', '[1,"a: b",null,{},[1.5,{"x":"y"}],"","\ufffd"]\n'.encode()),
        ('lua', b'1, "a: b", box.NULL, {}, {1.5, {x = "y"}}, "", "/w==";\n'),
        ('raw', b'1\na: b\nnull\n{}\n[1.5,{"x":"y"}]\n\n\xff\n'),
    ])
    def test_shown(self, form, expected):
        assert expected == shown(VALUES, form)

    @pytest.mark.parametrize(('form', 'expected'), [('json', b'[]\n'), ('lua', b';\n'), ('raw', b''), ('yaml', EMPTY)])
    def test_nothing(self, form, expected):
        assert expected == shown(EMPTY, form)

    def test_references(self):
        document = b'---\n- &0\n  - 1\n- *0\n...\n'
        assert b'[[1],[1]]\n' == shown(document, 'json')
        with pytest.raises(Unshowable):
            shown(b'---\n- &0\n  t: *0\n...\n', 'json')

    @pytest.mark.parametrize('form', ['json', 'raw'])
    @pytest.mark.parametrize('is_key', [False, True])
    def test_references_that_would_fill_the_memory(self, form, is_key):
        lists = b'- &a [1]\n' + b''.join(b'- &%c [%s]\n' % (97 + level, b','.join([b'*%c' % (96 + level)] * 10))
                                        for level in range(1, 9))
        with pytest.raises(Unshowable, match='too large'):
            shown(b'---\n%s- %s\n...\n' % (lists, b'{? *i : 1}' if is_key else b'1'), form)

    @pytest.mark.parametrize('form', ['json', 'raw', 'lua', 'lua,block'])
    def test_what_is_nested_too_deep(self, form):
        with pytest.raises(Unshowable, match='too deep'):
            shown(b'---\n- %s%s\n...\n' % (b'[' * 990, b']' * 990), form)

    @pytest.mark.parametrize(('document', 'expected'), [
        ({'error': 'x'}, True), ({'error': 'long ' * 40}, True), ({'error': 'a\n\nb\n- c'}, True),
        ({'error': {'code': 1}}, True), ({'error': [1, 2]}, True), ({'error': None}, True), ({'error': ''}, True),
        ({'error': 'x', 'more': 1}, False),
        ({'errors': 1}, False), ('error: x', False), ([{'error': 1}], False),
    ])
    def test_what_is_an_error(self, document, expected):
        assert expected == is_error(document_of([document], as_list=True))
        assert not is_error(document_of([document, 1], as_list=True))

    @pytest.mark.parametrize(('document', 'expected'), [
        (PUSH, b'half\n'), (b"--- 'a\n\n  b'\n...\n", b'a\nb\n'), (b'--- 5\n...\n', b'--- 5\n...\n'),
        (b'%TAG !push! x\n---\n- 1\n...\n', b'---\n- 1\n...\n'),
    ])
    def test_a_push(self, document, expected):
        assert expected == text_of_push(document)


class TestSettings:
    def test_commands_of_the_client(self):
        settings = Settings()
        assert TRUE == settings.take(b'\\set output json') == settings.take(b'\\s o lua,block')
        assert 'lua,block' == settings.output
        assert is_error(settings.take(b'\\set output xml')) and is_error(settings.take(b'\\set continuation x'))
        assert None is settings.take(b'\\set scope session') is settings.take(b'\\help') is settings.take(b'set output lua')

    @pytest.mark.parametrize(('continuation', 'delimiter', 'text', 'expected'), [
        ('auto', b'', b'do\nend', b'do\nend'), ('auto', b'', b'do', None), ('off', b'', b'do', b'do'),
        ('on', b'', b'1 +\\', None), ('on', b'', b'1 +\\\n2', b'1 +\n2'),
        ('auto', b';', b'1', None), ('auto', b';', b'do\nend; ', b'do\nend'),
    ])
    def test_what_is_whole(self, continuation, delimiter, text, expected):
        assert expected == Settings(continuation=continuation, delimiter=delimiter).whole(text)

    @pytest.mark.parametrize(('text', 'expected'), [(b'\\q', True), (b'\\quit ', True), (b'~.', True), (b'quit', False)])
    def test_leaving(self, text, expected):
        assert expected == is_quit(text)


class TestTarget:
    @pytest.mark.parametrize(('text', 'user', 'address'), [
        ('127.0.0.1:1', None, '127.0.0.1:1'), ('ops@[::1]:1', 'ops', '[::1]:1'), ('o@p@unix:/a', 'o@p', 'unix:/a'),
        ('3313', None, '127.0.0.1:3313')])
    def test_parse(self, text, user, address):
        target = Target.parse(text)
        assert (user, address) == (target.user, str(target.address))

    def test_a_password_is_refused_and_not_told(self):
        with pytest.raises(WrongUsage) as caught:
            Target.parse('ops:hidden@127.0.0.1:1')
        assert 'hidden' not in str(caught.value)

    def test_a_password_is_not_in_its_text(self):
        target = Target.parse('ops@127.0.0.1:1')
        target.password = 'hidden'
        assert 'hidden' not in repr(target) + str(target)


class TestHistory:
    def test_it_is_kept_whole_and_private(self, tmp_path):
        path = tmp_path / 'state' / 'history'
        first = History(path)
        for entry in ('1', 'for i = 1, 2 do\n  é()\nend', '2', '2', '\udcff'):
            first.add(entry)
        assert ['1', 'for i = 1, 2 do\n  é()\nend', '2', '\udcff'] == first.entries == History(path).entries
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)

    @pytest.mark.parametrize('entry', ["box.schema.user.passwd('x')", '\\login ops secret', "c.connect('ops:secret@h:1')"])
    def test_a_password_is_not_written(self, tmp_path, entry):
        history = History(tmp_path / 'history')
        history.add('before')
        history.add(entry)
        assert [entry] == history.entries[-1:]
        assert ['before'] == History(tmp_path / 'history').entries

    def test_what_others_could_read_is_made_private(self, tmp_path):
        path = tmp_path / 'history'
        path.write_text('"a"\n')
        path.chmod(0o644)
        History(path).add('b')
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)

    def test_a_damaged_or_missing_file_is_no_harm(self, tmp_path):
        damage = '[' * 100_000 + '\n"\\u0000"\n"\\ud800"\n'
        (tmp_path / 'history').write_text(f'"a"\n"cut o\n5\n{damage}"b"\n')
        assert ['a', 'b'] == History(tmp_path / 'history').entries
        History(tmp_path).add('x')
        (tmp_path / 'file').write_text('')
        History(tmp_path / 'file' / 'history').add('x')

    def test_it_does_not_grow_for_ever(self, tmp_path):
        path = tmp_path / 'history'
        path.write_text(''.join(json.dumps(f'{number} {"x" * 500}') + '\n' for number in range(3000)))
        assert 2000 == len(History(path).entries) == len(path.read_text().splitlines())
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)

    def test_where_it_is(self, monkeypatch, tmp_path):
        monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path))
        assert tmp_path / 'boxsession' / 'history' == default_path()
        monkeypatch.setenv('XDG_STATE_HOME', 'relative')
        assert default_path().is_absolute()

    @pytest.mark.parametrize('kind', ['folder', 'pipe', 'device', 'circle', 'dangling'])
    def test_what_is_no_file_is_left_alone(self, tmp_path, kind):
        path = tmp_path / 'history'
        if kind == 'folder':
            path.mkdir()
        elif kind == 'pipe':
            os.mkfifo(path)
        else:
            path.symlink_to({'device': '/dev/null', 'circle': path, 'dangling': tmp_path / 'a' / 'b'}[kind])
        before = stat.S_IMODE(os.stat('/dev/null').st_mode)
        history = History(path)
        history.add('x')
        assert ['x'] == history.entries
        assert before == stat.S_IMODE(os.stat('/dev/null').st_mode)

    def test_a_link_leads_to_the_file(self, tmp_path):
        real, path = tmp_path / 'real', tmp_path / 'history'
        real.write_text('"x"\n' * 300_000)
        path.symlink_to(real)
        History(path).add('y')
        assert path.is_symlink() and ['x', 'y'] == History(path).entries[-2:] and real.stat().st_size < 300_000

    @pytest.mark.skipif(os.geteuid() != 0, reason='only root can make files of others')
    @pytest.mark.parametrize('kind', ['file', 'link', 'folder'])
    def test_what_is_somebody_elses_is_left_alone(self, tmp_path, kind):
        path, ours = tmp_path / 'state' / 'history', tmp_path / 'ours'
        path.parent.mkdir()
        ours.write_text('"a"\n')
        if kind == 'file':
            path.write_text('"a"\n')
            os.chown(path, 12345, 12345)
        elif kind == 'link':
            path.symlink_to(ours)
            os.lchown(path, 12345, 12345)
        else:
            os.chown(path.parent, 12345, 12345)
        history = History(path)
        history.add('b')
        assert ['b'] == history.entries and '"a"\n' == ours.read_text()

    def test_a_huge_one_is_not_read_whole(self, tmp_path):
        path = tmp_path / 'history'
        with open(path, 'wb') as file:
            file.truncate(1 << 40)
            file.seek(0, 2)
            file.write(b'\n"last"\n')
        assert ['last'] == History(path).entries
        assert path.stat().st_size < 100

    def test_there_may_be_no_home(self, monkeypatch):
        monkeypatch.delenv('XDG_STATE_HOME', raising=False)
        monkeypatch.setenv('HOME', '')
        assert default_path() is None or default_path().is_absolute()
        monkeypatch.setattr(Path, 'home', lambda: (_ for _ in ()).throw(RuntimeError))
        assert None is default_path()
        History(None).add('x')


class TestVisible:
    @pytest.mark.parametrize(('text', 'expected'), [
        ('a\tb\nc', 'a\tb\nc'), ('\x1b[31m', '\\x1b[31m'), ('\r', '\\x0d'), ('\x9b', '\\x9b'), ('\u202e', '\\u202e'),
        ('\U000e0041', '\\U000e0041'), ('\ud800', '\\ud800'), ('\ufeff', '\\ufeff'), ('\ufffe', '\\ufffe'),
        ('ad\u200dmin', 'ad\\u200dmin'), ('\u200dmin', '\\u200dmin'), ('a\ufe0f', 'a\\ufe0f'),
        ('é\ufe0f\ufe0f', 'é\ufe0f\\ufe0f'), ('é\u200d\u200d', 'é\u200d\\u200d'),
        # As writing and emoji need them.
        ('می\u200cخواهم', 'می\u200cخواهم'), ('👩\u200d❤\ufe0f\u200d👨', '👩\u200d❤\ufe0f\u200d👨'),
        ('中é\u0301', '中é\u0301'),
    ])
    def test_escapes(self, text, expected):
        assert expected == visible(text)

    def test_in_pieces(self):
        text = ('é\x1b中' * 60000).encode() + b'\xff\xc3'
        pieces = list(visible_pieces(text))
        assert len(pieces) > 4 and 'é\\x1b中' * 60000 + '\\xff\\xc3' == ''.join(pieces)

    def test_every_invisible_character(self):
        import unicodedata
        shown = [point for point in range(0x110000) if unicodedata.category(chr(point)) in ('Cc', 'Cf', 'Cs', 'Zl', 'Zp')
                 and visible(chr(point)) == chr(point)]
        # Signs of Arabic, Syriac, Kaithi and the joints of hieroglyphs, which are visible.
        assert all(point in (9, 10, 0x6dd, 0x70f, 0x890, 0x891, 0x8e2, 0x110bd, 0x110cd) or 0x600 <= point <= 0x605
                   or 0x13430 <= point <= 0x1343f for point in shown)


class TestLoginLines:
    @pytest.mark.parametrize(('statement', 'password'), [
        (b'\\login ops secret', b'secret'), (b'  \\ login ops  a b ', b'a b'), (b'e("\\\\login ops secret")', b'secret'),
        (b'\\login ops', None), (b'login("ops", "x")', None), (b'\\loginops x y', None),
        (b'\\' * 50000 + b' ' * 50000, None)])
    def test_their_password(self, statement, password):
        assert password == login_password(statement)


@pytest.mark.parametrize('scalar', ['1' * 500_000 + 'x', '1' * 500_000, '0x' + 'f' * 500_000 + 'g', '1e' * 200_000,
                                    '.' * 500_000])
def test_a_long_run_of_digits_is_read_once(scalar):
    # If time grew with the square of the length, this would not end.
    shown(f'---\n- {scalar}\n...\n'.encode(), 'lua')
