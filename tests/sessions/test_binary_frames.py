"""Bytes that are no frames, and frames that are no requests: what a real Tarantool answers, and what hypothesis makes.

iproto_frames.py has the frames, frames.json what Tarantool 2.6 answered. The same is asked of ours, but for DIFFERENCES.
"""
from __future__ import annotations

import contextlib
import json
import re

import gevent
import msgpack
import pytest
from conftest import need, rounds
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from iproto_client import EVAL, MESSAGE, PING, READ_SECONDS, BinaryClient
from iproto_frames import FRAMES, PING_FRAME, RECORDED, exchange, frame
from text_client import Client

from boxsession import Console

REQUEST_BYTES = 200000
THEIRS = json.loads(RECORDED.read_text())
ORDER = settings(max_examples=rounds(80, 1000),
                 suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp('frames') / 'init.lua'
    path.write_text("""
        box.schema.user.grant('guest', 'execute', 'universe')
        box.schema.user.create('ops', {password = 'pass'})
        function echo(...) return ... end""")
    console = Console([{'address': '127.0.0.1:0', 'protocol': 'binary'}],
                      config={'init': str(path), 'limits': {'drain_seconds': 0.2, 'request_bytes': REQUEST_BYTES}})
    console.start()
    yield console.addresses[0]
    console.stop()


def ping(address):
    """A newcomer is served."""
    with contextlib.closing(BinaryClient(address)) as client:
        assert {} == client.ask(PING)


def closed(code, sync, message):
    return {'answers': [[code, sync, message]], 'then': 'closed'}


def answered(code, sync, message):
    return {'answers': [[code, sync, message]], 'then': 'open'}


KIND = ('(nil|true|int|negative|uint64|int64|float|double|str|empty str|bin|array|empty array|map|empty map|uuid|'
        'unknown ext|never used)')
# Responses that differ from Tarantool's on purpose, by the names of frames, with the reason.
DIFFERENCES = [
    # If a header is invalid, the bytes after it cannot be trusted either.
    (r'length zero .*|length shorter than the header|header (is|cut off|deep|with a deep).*|(type|sync|header key) is .*|'
     r'(schema version|unknown key) (is|with) never used', closed(20, 0, 'Invalid MsgPack - packet header')),
    # The limit is a setting, and says so.
    (r'length of (4 GiB|64 bits)', closed(20, 0, 'the request is too long: .*')),
    # There is no schema, so no schema version is wrong. Other keys of a header are for later versions.
    (f'(header key|schema version|unknown key) (is|with) {KIND}|header with a schema version|header with signed integers',
     answered(0, 9, 'None')),
    # Names of requests are told as they came; 5 needs a space there.
    (r'type is (int|negative|uint64|int64)', answered(48, 9, 'Unknown request type .*')),
    # Keys that nobody knows are let pass, whatever they are; what is in them must be msgpack, and not too deep.
    (f'body key is {KIND}', answered(0, 9, '\\[\\]')),
    (r'body with a deep (value|map)|unknown body key with never used|an argument is never used',
     answered(20, 9, 'Invalid MsgPack - packet body')),
    # A Tarantool dies of it.
    (r'arguments (1015|10000) deep.*', answered(20, 9, 'Invalid MsgPack - .*')),
    # nil is as good as nothing.
    (r'(expression|function name|user name|space) is nil', answered(69, 9, "Missing mandatory field '.*' in request")),
    # Binary data is as good as text.
    (r'expression is bin', answered(32, 9, 'eval:1: .*')), (r'function name is bin', answered(33, 9, "Procedure 'y' .*")),
    # The response does not reveal whether a user exists.
    (r'user name is (str|empty str|bin)', answered(47, 9, "Incorrect password supplied for user '.*'")),
    # The words for a login that is none differ.
    (r'login method is int|scramble is .*|login is empty array', answered(20, 9, 'Invalid MsgPack - .*')),
    # Of a SELECT only the space is looked at: there is none.
    (r'(limit|space) is .*', answered(36, 9, "Space '.*' does not exist")),
    # Unknown extensions pass through.
    (r'an argument is unknown ext', answered(0, 9, '\\[\\]')),
]


def _is_as(expected, got):
    return expected['then'] == got['then'] and len(expected['answers']) == len(got['answers']) and all(
        wanted[:2] == found[:2] and re.fullmatch(wanted[2], found[2])
        for wanted, found in zip(expected['answers'], got['answers'], strict=True))


@pytest.mark.parametrize('name', FRAMES)
def test_a_frame_is_answered_as_by_tarantool(address, name):
    theirs = THEIRS[name]
    waits = theirs['then'] == 'waits'
    got = exchange(address.host, address.port, FRAMES[name], ends=waits)
    assert got == {**theirs, 'then': 'closed'} if waits else got == theirs or any(
        re.fullmatch(pattern, name) and _is_as(ours, got) for pattern, ours in DIFFERENCES), (theirs, got)
    ping(address)


def test_each_frame_is_recorded():
    assert list(FRAMES) == list(THEIRS)
    for pattern, _ in DIFFERENCES:
        assert any(re.fullmatch(pattern, name) for name in FRAMES), pattern


@need('tarantool')
def test_what_is_recorded_is_what_tarantool_answers(tarantool_binary):
    """All that neither waits nor ends it; the schema's version is that of its database."""
    where = tarantool_binary.host, tarantool_binary.port
    for name, theirs in THEIRS.items():
        if theirs['then'] in ('open', 'closed'):
            assert theirs == exchange(*where, FRAMES[name]), name


FULL = frame(msgpack.packb({0: EVAL, 1: 9}), msgpack.packb({0x27: 'cut = ...', 0x21: [1, 'x', {'k': [1.5, None]}]}))


@pytest.mark.parametrize('length', range(len(FULL)))
def test_a_frame_that_ends_too_early_is_not_run(address, length):
    assert {'answers': [], 'then': 'closed'} == exchange(address.host, address.port, FULL[:length], ends=True)
    with contextlib.closing(BinaryClient(address)) as client:
        assert [None] == client.eval('return cut')


@pytest.mark.parametrize('extra', [0, 1])
def test_the_longest_request(address, extra):
    """limits.request_bytes is exact; the length prefix does not count."""
    head = msgpack.packb({0: EVAL, 1: 9}) + b'\x82\x27\xabreturn #...\x21\x91\xdb'
    count = REQUEST_BYTES - len(head) - 4 + extra
    got = exchange(address.host, address.port, frame(head, count.to_bytes(4, 'big'), b'x' * count))
    if extra:
        assert _is_as(closed(20, 0, f'the request is too long: {REQUEST_BYTES + 1} bytes, at most {REQUEST_BYTES} .*'), got)
    else:
        assert {'answers': [[0, 9, str([count])]], 'then': 'open'} == got


# Any bytes

def _answers_or_end(address, data):
    """Everything until the server closes, the client having ended; each frame of it is whole and an answer."""
    with contextlib.closing(BinaryClient(address)) as client, gevent.Timeout(READ_SECONDS):
        # The server may have closed the connection before it read everything.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            client.sock.sendall(data)
            client.sock.shutdown(1)
        answers = []
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                answers.append(client.receive())
        return answers


PIECES = [b'\x82', b'\x81', b'\x80', b'\x00', b'\x01', b'\x08', b'\x0a', b'\x07', b'\x40', b'\x49', b'\x27', b'\x22',
          b'\x21', b'\x57', b'\x90', b'\x91', b'\xc0', b'\xc3', b'\xcb', b'\xa1x', b'\xcf', b'\xdf', b'\xdd', b'\xdb',
          b'\xd4', b'\xc1', b'\xff', b'\xce\x00\x00\x00\x05', b'\x05', b'\xa6return', b'\xa4echo']
mutated = st.builds(lambda at, gone, new: FULL[5:][:at] + new + FULL[5:][at + gone:],
                    st.integers(0, len(FULL) - 6), st.integers(0, 3), st.binary(max_size=3))
# Without the key of a user's name (0x23): wrong logins are made to wait.
noise = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES), max_size=30).map(b''.join), mutated).map(
    lambda data: data.replace(b'\x23', b'\x24'))


@ORDER
@given(noise)
@example(b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03')       # a client of TLS
@example(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
@example(b'return 1\r\n')
def test_any_bytes_are_answered_or_end_the_connection(address, data):
    for header, body in _answers_or_end(address, data):
        assert (header[0] >= 0x8000) == (MESSAGE in body)
    ping(address)


@ORDER
@given(noise)
def test_any_bytes_in_a_frame_get_an_answer(address, data):
    answers = _answers_or_end(address, frame(data))
    assert len(answers) == 1 or not answers and b'\x4b' in data, answers     # an UNWATCH (0x4b) has no response
    ping(address)


@ORDER
@given(st.sampled_from([1, 6, 7, 8, 10, 64, 73, 74, 11, 200]), st.integers(0, 2 ** 64 - 1), noise)
def test_any_bytes_behind_a_header_are_answered_with_its_sync(address, kind, sync, data):
    [(header, _)] = _answers_or_end(address, frame(msgpack.packb({0: kind, 1: sync}), data))
    assert sync == header[1]
    ping(address)


# Any split

STREAM = [
    (PING_FRAME, (0, 9)), (frame(b'\x80'), (48, 0)), (b'\xcd\0\x05' + PING_FRAME[1:], (0, 9)),
    (frame(msgpack.packb({0: EVAL, 1: 1}), msgpack.packb({0x27: 'return ...', 0x21: [1, 'x' * 300]})), (0, 1)),
    (frame(msgpack.packb({1: 2, 0: EVAL}), msgpack.packb({0x27: 'x y'})), (32, 2)),
    (b'\xcf' + bytes(7) + b'\x05' + PING_FRAME[1:], (0, 9)),
    (frame(msgpack.packb({0: EVAL, 1: 2 ** 64 - 1})), (20, 2 ** 64 - 1)),
    (frame(msgpack.packb({0: 10, 1: 3}), msgpack.packb({0x22: 'echo', 0x21: [{'k': None}]})), (0, 3)),
    (frame(msgpack.packb({0: EVAL, 1: 4}), b'\x91' * 100), (20, 4)), (PING_FRAME, (0, 9)),
]


@ORDER
@given(st.lists(st.integers(1, sum(len(data) for data, _ in STREAM) - 1), max_size=12), st.booleans())
def test_any_split_of_a_stream_gives_the_same(address, cuts, at_once):
    data = b''.join(data for data, _ in STREAM)
    cuts = [0, *sorted(cuts), len(data)]
    with contextlib.closing(BinaryClient(address)) as client:
        for start, stop in zip(cuts, cuts[1:], strict=False):
            client.sock.sendall(data[start:stop])
            if not at_once:
                gevent.sleep(0)             # lets the server read it
        # Responses come in the order in which requests end.
        assert sorted(want for _, want in STREAM) == sorted((header[0] & 0x7fff, header[1]) for header, _ in
                                                            (client.receive() for _ in STREAM))


@pytest.mark.parametrize('opening', [
    b'GET / HTTP/1.1\r\nHost: x\r\n\r\n', b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(600), b'EHLO x\r\n', b'*3\r\n$3\r\n',
    b'\x00\x30\x00\x01\x00\x1c\x21\x12\xa4\x42' + bytes(40), b'0\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00',
    b'1 + 1\n' * 20, b'\xff\xfd\x18\xff\xfb\x1f'], ids=lambda opening: repr(opening[:12]))
def test_another_protocol_ends_the_connection(address, opening):
    client = Client(address)
    try:
        # A whole request stands behind it, once where a frame of that length would end.
        client.send(opening + b'x' * 300 + PING_FRAME * 3)
        with contextlib.suppress(ConnectionResetError):
            assert 1 >= client.read_to_end().count(b'\xce')       # what is wrong, and no answer to a ping
    finally:
        client.close()
