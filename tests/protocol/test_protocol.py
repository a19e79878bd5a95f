"""The text protocol without sockets: each case whole, byte by byte and in random splits."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxsession.protocol.foreign import foreign
from boxsession.protocol.greeting import console_greeting, process_of
from boxsession.protocol.text import (
    NEED_DATA,
    Cancelled,
    ConsoleProtocol,
    End,
    Foreign,
    Look,
    More,
    Quit,
    Statement,
    TooLong,
    Unfinished,
)

LIMIT = 20


def events(pieces, *, continuation='off', delimiter=b'', limit=LIMIT, eof=False, incomplete=()):
    """All events for input that arrives in `pieces`; statements in `incomplete` are treated as incomplete."""
    protocol = ConsoleProtocol(limit, continuation)
    protocol.delimiter = delimiter
    found = []

    def drain():
        while True:
            event = protocol.next_event()
            if event is NEED_DATA:
                return
            if isinstance(event, More):
                continue
            if isinstance(event, Statement) and event.may_continue and event.text in incomplete:
                protocol.hold(event)
                continue
            found.append(event)
            if isinstance(event, (End, Quit)):
                return

    for piece in pieces:
        protocol.receive_data(piece)
        drain()
    if eof:
        protocol.receive_eof()
        drain()
    return found, protocol


def texts(*lines):
    return [Statement(line, False) for line in lines]


CASES = {
    'one line': (b'1\n', {}, texts(b'1')),
    'several lines': (b'1\n2\n\n3\n', {}, texts(b'1', b'2', b'', b'3')),
    'CRLF is one end': (b'1\r\n2\r\n', {}, texts(b'1', b'2')),
    'a CR elsewhere is text': (b'a\rb\n\r\r\n', {}, texts(b'a\rb', b'\r')),
    'no end, no statement': (b'1', {}, []),
    'any byte': (b'\x00\x80\xfe\n', {}, texts(b'\x00\x80\xfe')),
    'delimiter': (b'1\n+ 1;\n2;\n', {'delimiter': b';'}, texts(b'1\n+ 1', b'2')),
    'delimiter inside a line': (b'1; 2;\n', {'delimiter': b';'}, texts(b'1; 2')),
    'delimiter and CRLF': (b'1\r\n2$$\r\n', {'delimiter': b'$$'}, texts(b'1\n2')),
    'delimiter alone': (b';\n', {'delimiter': b';'}, texts(b'')),
    'continuation on': (b'1 \\\n+ 1\n2\n', {'continuation': 'on'}, texts(b'1 \n+ 1', b'2')),
    'continuation on, CRLF': (b'1 \\\r\n+ 1\r\n', {'continuation': 'on'}, texts(b'1 \n+ 1')),
    'continuation off': (b'1 \\\n2\n', {'continuation': 'off'}, texts(b'1 \\', b'2')),
    'tilde and dot': (b'1\n~.\n', {}, [*texts(b'1'), Quit()]),
    'tilde and dot, CRLF': (b'~.\r\n', {}, [Quit()]),
    'tilde and dot inside a statement': (b'a\n~.\n', {'delimiter': b';'}, [Quit()]),
    'Ctrl-D': (b'1\n\x04\n', {}, [*texts(b'1'), Quit()]),
    'tilde and dot in a line': (b'~. \n', {}, texts(b'~. ')),
    'end after a statement': (b'1\n', {'eof': True}, [*texts(b'1'), End()]),
    'end inside a statement': (b'1\n12', {'eof': True}, [*texts(b'1'), Unfinished(b'12'), End()]),
    'end inside lines that are held': (b'a\nb', {'eof': True, 'delimiter': b';'}, [Unfinished(b'a\nb'), End()]),
    'end behind lines that are held': (b'a\n', {'eof': True, 'delimiter': b';'}, [Unfinished(b'a\n'), End()]),
    'end behind spaces': (b'1\n \t', {'eof': True}, [*texts(b'1'), End()]),
    'telnet IAC IAC': (b'a\xff\xffb\n', {}, texts(b'a\xffb')),
    'telnet command in a line': (b'a\xff\xf1b\n', {}, texts(b'ab')),
    'telnet option': (b'a\xff\xfd\x06b\n', {}, texts(b'ab')),
    'telnet suboption': (b'a\xff\xfa\x18\x00x\xff\xff\nty\xff\xf0b\n', {}, texts(b'ab')),
    'a 0xff that is no telnet': (b'a\xff\x41\n', {}, texts(b'a\xff\x41')),
    'a 0xff at the end': (b'a\xff', {'eof': True}, [Unfinished(b'a\xff'), End()]),
}


def outcome(pieces, options):
    found, protocol = events(pieces, **options)
    return found, protocol.data_to_send()


@pytest.mark.parametrize('name', CASES)
def test_events(name):
    data, options, expected = CASES[name]
    assert expected == events([data], **options)[0]


@pytest.mark.parametrize('name', CASES)
def test_events_byte_by_byte(name):
    data, options, expected = CASES[name]
    pieces = [data[at:at + 1] for at in range(len(data))]
    assert expected == events(pieces, **options)[0]


@given(name=st.sampled_from(sorted(CASES)), cuts=st.sets(st.integers(1, 30)))
def test_events_in_random_splits(name, cuts):
    data, options, expected = CASES[name]
    at = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    assert expected == events([data[a:b] for a, b in zip(at, at[1:], strict=False)], **options)[0]


@given(pieces=st.lists(st.binary(max_size=30), max_size=8), delimiter=st.sampled_from([b'', b';', b'$$']),
       continuation=st.sampled_from(['auto', 'on', 'off']), eof=st.booleans())
def test_any_bytes_in_any_splits_give_the_same_events(pieces, delimiter, continuation, eof):
    # An interrupt acts on the input that has arrived, so the split matters. Interrupts have their own tests.
    pieces = [piece.translate(None, b'\x03\xf4\xf3\xee\xed') for piece in pieces]
    options = {'delimiter': delimiter, 'continuation': continuation, 'eof': eof, 'limit': 0}
    assert outcome(pieces, options) == outcome([b''.join(pieces)], options)


@given(lines=st.lists(st.binary(max_size=12), max_size=10))
def test_lines_come_back_as_they_were_sent(lines):
    lines = [line.translate(None, b'\n\r\x03\xff') for line in lines]
    lines = [line for line in lines if line not in (b'~.', b'\x04')]
    found, _ = events([b''.join(line + b'\n' for line in lines)])
    assert texts(*lines) == found


def test_auto_continuation_joins_the_lines_of_a_held_statement():
    found, protocol = events([b'for\nx\nend\n1\n'], continuation='auto', incomplete={b'for', b'for\nx'})
    assert [Statement(b'for\nx\nend', True), Statement(b'1', True)] == found
    assert not protocol.holds_statement


def test_held_lines_at_the_end_are_unfinished():
    found, _ = events([b'for\n'], continuation='auto', incomplete={b'for'}, eof=True)
    assert [Unfinished(b'for\n'), End()] == found


LONG = b'x' * (LIMIT + 1)


@pytest.mark.parametrize('pieces', [[LONG + b'\n1\n'], [LONG[:-1], b'x', b'yyy', b'\n', b'1\n'],
                                    [LONG, LONG * 3, b'\n1\n']])
def test_a_line_over_the_limit_is_told_once_and_its_rest_skipped(pieces):
    assert [TooLong(LIMIT), *texts(b'1')] == events(pieces)[0]


def test_a_line_of_just_the_limit_is_taken():
    assert texts(LONG[:-1]) == events([LONG[:-1] + b'\n'])[0]
    assert texts(LONG[:-1]) == events([LONG[:-1] + b'\r\n'])[0]


def test_held_lines_count_for_the_limit():
    assert [TooLong(LIMIT), *texts(b'1')] == events([b'x' * 12 + b'\\\n' + b'y' * 12 + b'\n1\n'],
                                                  continuation='on')[0]


def test_with_a_delimiter_the_whole_statement_is_skipped():
    pieces = [LONG + b'\nos.exit()\nmore;\n1;\n']
    assert [TooLong(LIMIT), *texts(b'1')] == events(pieces, delimiter=b';')[0]
    assert [TooLong(LIMIT), *texts(b'1')] == events([piece[at:at + 1] for piece in pieces
                                                    for at in range(len(piece))], delimiter=b';')[0]


def test_what_is_skipped_is_not_kept():
    _, protocol = events([LONG] * 1000)
    assert protocol.buffered_bytes < 2 * LIMIT


def looking(*pieces):
    """The events of a block of Python, whose first line is held, for more input that arrives in pieces."""
    protocol = ConsoleProtocol(continuation='auto', looks=True)
    protocol.receive_data(b'if 1:\n')
    protocol.hold(protocol.next_event())
    found = []
    for piece in pieces:
        protocol.receive_data(piece)
        while True:
            event = protocol.next_event()
            if event is NEED_DATA:
                break
            found.append(event)
            if isinstance(event, Statement) and event.text.startswith(b'if') and event.text[-1:] != b'\n':
                protocol.hold(event)
                found.pop()
            elif isinstance(event, Look):
                break
    return found, protocol


def test_an_empty_line_in_front_of_an_indented_one_does_not_end_a_statement():
    whole = Statement(b'if 1:\n  a\n\n  b\n', True)
    assert looking(b'  a\n\n  b\n\nc\n')[0] == [More(), whole, Statement(b'c', True)]
    assert looking(b'  a\r\n\r\n  b\r\n\r\nc\n')[0] == [More(), whole, Statement(b'c', True)]
    assert looking(b'  a\n \t\n\n  b\n\nc\n')[0] == [More(), More(), Statement(b'if 1:\n  a\n \t\n\n  b\n', True),
                                                        Statement(b'c', True)]
    assert looking(b'  a\n\n\nc\n')[0] == [Statement(b'if 1:\n  a\n', True), Statement(b'', True), Statement(b'c', True)]


def test_a_look_asks_for_the_line_behind_an_empty_one():
    assert looking(b'  a\n\n', b'  b\n\n', b'c\n')[0] == [Look(), More(), Look(), Statement(b'if 1:\n  a\n\n  b\n', True),
                                                          Statement(b'c', True)]
    assert looking(b'  a\n\n', b'\n', b' ', b' b\n\nc\n')[0][:4] == [Look(), Look(), More(), More()]
    found, protocol = looking(b'  a\n\n')
    assert found == [Look()] and protocol.next_event() == Statement(b'if 1:\n  a\n', True)
    found, protocol = looking(b'  a\n\n')
    protocol.receive_eof()
    assert protocol.next_event() == Statement(b'if 1:\n  a\n', True)
    protocol = ConsoleProtocol(continuation='auto')
    protocol.receive_data(b'if 1:\n')
    protocol.hold(protocol.next_event())
    protocol.receive_data(b'\n')
    assert protocol.next_event() == Statement(b'if 1:\n', True)


def test_the_limit_holds_for_bytes_that_never_end():
    found, _ = events([b'x'] * 100, eof=True)
    assert [TooLong(LIMIT), End()] == found


INTERRUPTS = [b'\x03', b'\xff\xf4', b'\xff\xf4\xff\xfd\x06', b'\xff\xf3', b'\xff\xee', b'\xff\xed']


@pytest.mark.parametrize('interrupt', INTERRUPTS)
def test_an_interrupt_drops_a_half_typed_statement(interrupt):
    protocol = ConsoleProtocol()
    assert protocol.receive_data(b'half' + interrupt + b'1\n')
    assert Statement(b'1', False) == protocol.next_event()
    assert NEED_DATA is protocol.next_event()


@pytest.mark.parametrize('interrupt', INTERRUPTS)
def test_an_interrupt_cancels_what_waits_and_each_is_told(interrupt):
    protocol = ConsoleProtocol()
    protocol.receive_data(b'1\n2\nhalf')
    assert protocol.receive_data(interrupt)
    assert [Cancelled(b'1', False), Cancelled(b'2', False), NEED_DATA] == [protocol.next_event() for _ in range(3)]


def test_an_interrupt_drops_lines_that_are_held():
    protocol = ConsoleProtocol(continuation='auto')
    protocol.receive_data(b'for\n')
    protocol.hold(protocol.next_event())
    protocol.receive_data(b'\x03')
    assert not protocol.holds_statement


def test_a_half_typed_statement_of_several_lines_is_no_statement():
    protocol = ConsoleProtocol(continuation='auto')
    protocol.receive_data(b'for\nx\x031\n')
    event = protocol.next_event()
    assert Cancelled(b'for', True) == event
    protocol.hold(event)
    assert Statement(b'1', True) == protocol.next_event()


@pytest.mark.parametrize(('continuation', 'delimiter'), [('auto', b''), ('on', b''), ('off', b';')])
def test_an_interrupt_right_behind_a_line_drops_what_it_began(continuation, delimiter):
    protocol = ConsoleProtocol(continuation=continuation)
    protocol.delimiter = delimiter
    protocol.receive_data(b'for\\\n\x031%s\n' % delimiter)
    event = protocol.next_event()
    if isinstance(event, Cancelled):
        protocol.hold(event)
    assert Statement(b'1', continuation == 'auto') == protocol.next_event()


def test_what_comes_behind_an_interrupt_is_run():
    protocol = ConsoleProtocol()
    protocol.receive_data(b'1\n\x032\n\x033\n4')
    assert [Cancelled(b'1', False), Cancelled(b'2', False), Statement(b'3', False), NEED_DATA] == [
        protocol.next_event() for _ in range(4)]


def test_an_interrupt_cut_by_packets_is_seen():
    protocol = ConsoleProtocol()
    assert not protocol.receive_data(b'half\xff')
    assert protocol.receive_data(b'\xf4')


@pytest.mark.parametrize(('data', 'answer'), [
    (b'\xff\xf4\xff\xfd\x06', b'\xff\xfb\x06'),             # DO TIMING-MARK: WILL
    (b'\xff\xfd\x18', b'\xff\xfc\x18'),                     # DO anything else: WONT
    (b'\xff\xfb\x18', b'\xff\xfe\x18'),                     # WILL: DONT
    (b'\xff\xfe\x18\xff\xfc\x18', b''),                     # DONT and WONT want no answer
])
def test_telnet_is_answered(data, answer):
    for pieces in ([data], [data[at:at + 1] for at in range(len(data))]):
        protocol = ConsoleProtocol()
        for piece in pieces:
            protocol.receive_data(piece)
        assert answer == protocol.data_to_send()
        assert b'' == protocol.data_to_send()


def test_a_suboption_without_end_does_not_swallow_the_session():
    protocol = ConsoleProtocol()
    protocol.receive_data(b'\xff\xfa' + b'x' * 5000)
    protocol.receive_data(b'\n1\n')
    seen = [protocol.next_event() for _ in range(2)]
    assert Statement(b'1', False) in seen


def test_the_delimiter_of_the_moment_counts():
    protocol = ConsoleProtocol()
    protocol.receive_data(b'set\n1\n+1;\nunset;\n2\n')
    assert Statement(b'set', False) == protocol.next_event()
    protocol.delimiter = b';'
    assert More() == protocol.next_event()
    assert Statement(b'1\n+1', False) == protocol.next_event()
    assert Statement(b'unset', False) == protocol.next_event()
    protocol.delimiter = b''
    assert Statement(b'2', False) == protocol.next_event()


HELLO = b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(range(32))
STUN = b'\x00\x30\x00\x01\x00\x1c\x21\x12\xa4\x42' + b'i' * 12 + b'\x00\x06\x00\x0bab\nowned=1\nx'
FOREIGN = {
    b'GET / HTTP/1.1': 'HTTP', b'post /x http/1.0': 'HTTP', b'ANY-THING /a b HTTP/1.1': 'HTTP',
    b'PRI * HTTP/2.0': 'HTTP', b'GET http://x/ HTTP/1.1': 'HTTP', b'GET /' + b'x' * 300 + b' HTTP/1.1': 'HTTP',
    b'GET /': 'HTTP', b'get /index.html': 'HTTP', b'CONNECT x:443 HTTP/1.1': 'HTTP', b'Host: localhost:3313': 'HTTP',
    b'Content-Type: text/plain': 'HTTP', b'Origin:': 'HTTP', b'OPTIONS * RTSP/1.0': 'RTSP',
    b'INVITE sip:a@b SIP/2.0': 'SIP', b'SSH-2.0-OpenSSH_9.6': 'SSH', b'*3': 'Redis', b'$3': 'Redis',
    b'0032git-upload-pack /': 'git', b'set key 0 0 7': 'memcached', b'EHLO example.org': '', b'HELO x': '',
    b'ms a 5': 'memcached', b'mg a v': 'memcached', b'put 0 0 60 27': 'beanstalkd', b'EHLO [IPv6:::1]': '',
    b'CONNECT {"verbose":false}': '', b'NICK `x': '',
    b'USER anonymous': '', b'MAIL FROM:<a@b>': '', b'NICK x': '', b'CAP LS 302': '', b'CLIENT libcurl 8.5.0': '',
    b'PROXY TCP4 1.2.3.4 5.6.7.8 1 2': '', b'RFB 003.008': '', b'<34>Oct 11 host su:': '',
    b'<?xml version="1.0"?>': '', b'@RSYNCD: 31.0': '', b'%!PS-Adobe-3.0': '', HELLO.replace(b'\n', b''): 'TLS',
    b'\x00\x00\x00\x54\x00\x03\x00\x00user': '', b'AMQP\x00\x00\x09\x01': '',
    b'0\x0c\x02\x01\x01\x60\x07\x02\x01': 'LDAP', b'0"\x02\x01\x01c': 'LDAP', b'l\x00\x0b\x00\x00': '',
    b'JRMI\x00\x02K': '',
    b'get x HTTP-like': '', b'helo x': '', b'ehlo x': '', b'user x': '', b'Mail from:<a@b>': '', b'delete x 0': '',
    b'incr x 1': '', b'put sys.cpu 1700000000 1 host=a': '', b'config set dir /x': '', b'a.b:1|c': 'statsd',
    b'a.b-c:-0.5|ms|@0.1': 'statsd', b'a.b 1 1700000000': 'Graphite', b'a;t=1 -1.5e3 1700000000': 'Graphite',
    b'cpu,host=a value=1i 1700000000000000000': 'InfluxDB', b'cpu value=0.5,b="x" 1700000000': 'InfluxDB',
    b'{"jsonrpc": "2.0", "method": "x"}': 'JSON', b'{ "a" :1}': 'JSON', b'[{"a": 1}]': 'JSON', b'["tag", 1]': 'JSON',
    b'"jsonrpc": "2.0",': 'JSON', b'a1 LOGIN x y': 'IMAP', b'A001 CAPABILITY': 'IMAP', b'1 login x y': 'IMAP',
    b'CAPA': '', b'STLS': '', b'QUIT': '', b'CAPABILITY': '', b'PING': '', b'STOMP': '',
    b'( 2 ( edit-pipeline ) )': 'Subversion',
    b'85 <34>1 2003-10-11T22:14:15Z host su': '', b'\x05\x01\x00': '', b'\x04\x01\x00\x50abcd': '',
    b'\x03\x00\x00\x13\x0e': '',
    b'\x10\x10\x00\x04MQTT\x04\x02': '', b'U\x00\x00\x01\x85\xa6\x03\x20\x00': '', b'\x13BitTorrent protocol\x00': '',
}
A_CONSOLES = [
    b'1 + 1', b'return 1', b'x y z', b')', b'1 2', b'\\help', b'\\set output lua', b'-- GET / of HTTP', b'#t', b'"a" .. b',
    b'{1, 2}', b'[[x', b'box.session.id()', b'MAX', b'MAX + 1', b'MAX = 5', b'MAX or 5', b'SIZE / 2', b'count /2',
    b'obj:method()', b'obj: method("x")', b's: upper()', b'f: g{1}', b'send("GET / HTTP/1.1")', b'return "x HTTP/1.1"',
    b'fetch "http://x/"', b'#"\x00\x01\x02"', b"'\x00\x01'", b'select 1', b'SELECT', b'foo bar', b'?', b'~.x',
    b'quit', b'help', b'a.b', b'{"a"}', b'x', b'exit', b'get', b'user = 5', b'user "x"', b'get{1}', b'put or delete',
    b'user.name',
    b'x - 1700000000', b'return 1700000000', b'f(1, 1700000000)', b't1 or t2', b'x1 = 5', b'{"a", "b"}', b'{["a"] = 1}',
    b'"abc":upper()', b'a:b(1)', b'(1)', b'( 2 )', b'1 <2', b'stats', b'LIST', b'use db', b'show tables', b'x = {"a"}',
    b'[[a]]',
    b'caf\xc3\xa9', b'\x00', b'return \x00', b'a\x08\x08b', b'\x1b[A\x1b[B', b'-- \x01\x02',
]


def judged(pieces, **options):
    limit, eof = options.pop('limit', 100), options.pop('eof', False)
    protocol = ConsoleProtocol(limit, is_judging=True, **options)
    found = []
    for piece in [*pieces, None]:
        if piece is not None:
            protocol.receive_data(piece)
        elif eof:
            protocol.receive_eof()
        while True:
            event = protocol.next_event()
            if event is NEED_DATA or isinstance(event, End):
                break
            found.append(event)
    return found


@pytest.mark.parametrize('line', FOREIGN)
def test_lines_of_other_protocols(line):
    assert foreign(line) == foreign(b' \t' + line + b' ') == FOREIGN[line]


@pytest.mark.parametrize('line', A_CONSOLES)
def test_lines_that_may_be_a_consoles(line):
    assert foreign(line) is None
    assert [Statement(line, False)] == judged([line + b'\n'])


@given(line=st.sampled_from(sorted(FOREIGN)),
       front=st.sampled_from([b'', b'\n', b'\r\n \n', b' ', b'\xff\xfd\x18', b'\xff\xf6', b'\x03',
                              b'\xff\xfa\x1f\x00P\x00\x18\xff\xf0']), end=st.sampled_from([b'\n', b'\r\n']),
       delimiter=st.sampled_from([b'', b';', b'x']), continuation=st.sampled_from(['auto', 'on', 'off']),
       limit=st.sampled_from([0, 100, 400]), cuts=st.sets(st.integers(1, 60)))
def test_nothing_behind_another_protocols_line_is_handed_out(line, front, end, delimiter, continuation, limit, cuts):
    data = front + line + end + b'Host: x' + end + end + b'owned = 1' + end
    at = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[a:b] for a, b in zip(at, at[1:], strict=False)]
    protocol = ConsoleProtocol(limit, continuation, is_judging=True)
    protocol.delimiter = delimiter
    seen = []
    for piece in pieces:
        protocol.receive_data(piece)
        while (event := protocol.next_event()) is not NEED_DATA and not isinstance(event, End):
            seen.append(event)
            if isinstance(event, Statement):
                assert not event.text.strip()
    assert isinstance(seen[-1], Foreign)
    assert protocol.buffered_bytes == 0
    protocol.receive_data(b'owned = 1\n')
    assert isinstance(protocol.next_event(), End)


@pytest.mark.parametrize('data', [HELLO, STUN], ids=['TLS', 'STUN'])
def test_what_is_binary_is_seen_without_a_lines_end(data):
    assert isinstance(judged([data[:20].replace(b'\n', b'.')])[-1], Foreign)
    assert isinstance(judged([data[at:at + 1] for at in range(len(data))])[-1], Foreign)


@pytest.mark.parametrize('pieces', [
    [b'GET / HTTP/1.1\x03\r\nowned = 1\n'], [b'GET / HT', b'\x03TP/1.1\r\nowned = 1\n'],
    [b'GET / HTTP/1.1\r\n', b'\x03owned = 1\n'], [b'GET / HTTP/1.1\r\n\x03owned = 1\n']])
def test_an_interrupt_does_not_hide_another_protocol(pieces):
    assert [Foreign('HTTP')] == judged(pieces)


@pytest.mark.parametrize('pieces', [
    [b'POST /' + b'x' * 100 + b' HTTP/1.1\r\nowned = 1\n'], [b'x' * 60, b'y' * 60, b'\nowned = 1\n'],
    [b'\n', b'x' * 101 + b'\nowned = 1\n'], [b'x' * 60 + b'\x03', b'y' * 60, b'\nowned = 1\n']])
def test_a_first_line_that_is_too_long_to_tell(pieces):
    assert [Foreign('', 100)] == [event for event in judged(pieces) if event != Statement(b'', False)]


def test_a_first_line_without_end_is_not_run():
    assert [Foreign('HTTP')] == judged([b'GET / HTTP/1.1'], eof=True)
    assert [Unfinished(b'1 + 1')] == judged([b'1 + 1'], eof=True)


def test_a_wrong_line_is_no_reason_to_trust_the_next():
    assert [Statement(b'x y z', False), Foreign('HTTP')] == judged([b'x y z\r\nHost: x\r\n\r\nowned = 1\r\n'])


def test_it_tells_whether_more_than_blanks_has_come():
    protocol = ConsoleProtocol(100, is_judging=True)
    protocol.receive_data(b'x y z\n\r\n')
    assert Statement(b'x y z', False) == protocol.next_event()
    assert not protocol.has_more
    protocol.receive_data(b'1\n2')
    assert protocol.has_more


def test_who_is_trusted_may_send_anything():
    protocol = ConsoleProtocol(100, is_judging=True)
    protocol.receive_data(b'1\nGET / HTTP/1.1\n')
    assert Statement(b'1', False) == protocol.next_event()
    protocol.trust()
    assert Statement(b'GET / HTTP/1.1', False) == protocol.next_event()
    protocol.receive_data(b'x' * 101 + b'\n2\n')
    assert [TooLong(100), Statement(b'2', False)] == [protocol.next_event() for _ in range(2)]


@given(data=st.binary(max_size=200))
def test_judging_takes_any_bytes(data):
    foreign(data)
    judged([data[:50], data[50:]], eof=True)


@pytest.mark.parametrize('version', ['0.1.0', '1' * 100])
def test_greeting(version):
    greeting = console_greeting(version)
    assert 128 == len(greeting)
    assert b'\n' == greeting[63:64] == greeting[127:128]
    assert greeting.startswith(b'Tarantool 2.6.0 (Lua console) ')
    assert (0, '') == process_of(greeting)
    assert greeting[64:].startswith(b'boxsession 1' if version[0] == '1' else b'boxsession 0.1.0, \\help for help ')


@pytest.mark.parametrize(('pid', 'name', 'line', 'told'), [
    (42, 'shop', 'boxsession 0.1.0, \\help for help; pid 42, shop', (42, 'shop')),
    (4194304, '', 'boxsession 0.1.0, \\help for help; pid 4194304', (4194304, '')),
    (4194304, 'a' * 24, 'boxsession 0.1.0, \\help for help; pid 4194304, ' + 'a' * 16, (4194304, 'a' * 16))])
def test_the_greeting_tells_the_process(pid, name, line, told):
    greeting = console_greeting('0.1.0', pid, name)
    assert 128 == len(greeting)
    assert f'{line:<63}\n'.encode() == greeting[64:]
    assert told == process_of(greeting)


@pytest.mark.parametrize('second', [
    b'boxsession 1.0, \\help for help; pid x', b'boxsession 1.0, \\help for help; pid 1, a\x1b[2J',
    b'boxsession 1.0, \\help for help; pid 1, a b', b'something else; pid 1, shop'])
def test_a_greeting_that_tells_no_process(second):
    assert (0, '') == process_of(b'Tarantool 2.6.0 (Lua console)'.ljust(63) + b'\n' + second.ljust(63) + b'\n')
