"""Frames of the binary protocol made by hand, and the responses of a real Tarantool to each (frames.json).

Run as a program, `python tests/support/iproto_frames.py`, it sends them to the installed Tarantool and writes frames.json.
"""
from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from pathlib import Path

import msgpack
from gevent import socket

RECORDED = Path(__file__).parent / 'frames.json'
READ_SECONDS = 10
# A server that sends nothing for this time waits for the rest of the frame.
WAITS_SECONDS = 1
GREETING_BYTES = 128
# The sync of the ping that is sent after a frame.
MARK = 0x7777

SELECT, CALL, AUTH, EVAL, PING = 1, 10, 7, 8, 64
_pack = msgpack.Packer(use_bin_type=True).pack


def frame(*parts: bytes) -> bytes:
    """A frame of these parts; its length takes five bytes."""
    payload = b''.join(parts)
    return b'\xce' + len(payload).to_bytes(4, 'big') + payload


def _header(kind, sync=9) -> bytes:
    return b'\x82\x00' + _pack(kind) + b'\x01' + _pack(sync)


def _body(**fields) -> bytes:
    """The body of an EVAL; a given field replaces the usual one."""
    fields = {'expression': b'\xa6return', 'arguments': b'\x90', **fields}
    keys = {'expression': b'\x27', 'arguments': b'\x21'}
    return bytes([0x80 + len(fields)]) + b''.join(keys[name] + value for name, value in fields.items())


PING_FRAME = b'\x05\x82\x00\x40\x01\x09'
_EVAL = _header(EVAL)
_USUAL = _body()
DEEP = 10000

# One value of each type of MessagePack, by name.
KINDS = {
    'nil': b'\xc0', 'true': b'\xc3', 'int': b'\x05', 'negative': b'\xff', 'uint64': b'\xcf' + b'\xff' * 8,
    'int64': b'\xd3\x80' + bytes(7), 'float': b'\xca\x3f\x80\x00\x00', 'double': b'\xcb\x3f\xf8' + bytes(6),
    'str': b'\xa1x', 'empty str': b'\xa0', 'bin': b'\xc4\x01y', 'array': b'\x91\x01', 'empty array': b'\x90',
    'map': b'\x81\x01\x01', 'empty map': b'\x80', 'uuid': b'\xd8\x02' + bytes(16), 'unknown ext': b'\xd4\x4dx',
    'never used': b'\xc1',
}


def _frames():
    """(name, bytes) of each frame."""
    yield 'a ping', PING_FRAME
    yield 'a ping with a body', frame(_header(PING), b'\x80')
    # The length's encodings.
    payload = PING_FRAME[1:]
    for name, length in {
            'fixint': b'\x05', 'uint8': b'\xcc\x05', 'uint16': b'\xcd\0\x05', 'uint32': b'\xce\0\0\0\x05',
            'uint64': b'\xcf' + bytes(7) + b'\x05', 'negative fixint': b'\xff', 'int8': b'\xd0\x05',
            'int8 below zero': b'\xd0\xfb',
            'int16': b'\xd1\0\x05', 'int32': b'\xd2\0\0\0\x05', 'int64': b'\xd3' + bytes(7) + b'\x05', 'nil': b'\xc0',
            'str': b'\xa1\x05', 'array': b'\x91\x05', 'map': b'\x81\x05\x05', 'float': b'\xca\x40\xa0\0\0',
            'never used': b'\xc1', 'bool': b'\xc3', 'ext': b'\xd4\x01\x05'}.items():
        yield f'length as {name}', length + payload
    for name, length in {'fixint': b'\0', 'uint8': b'\xcc\0', 'uint32': b'\xce\0\0\0\0',
                         'uint64': b'\xcf' + bytes(8)}.items():
        yield f'length zero as {name}', length
    yield 'length of 4 GiB', b'\xce\xff\xff\xff\xff'
    yield 'length of 64 bits', b'\xcf' + b'\xff' * 8
    yield 'length shorter than the header', b'\x03' + payload
    yield 'length shorter than the body', bytes([len(_EVAL + _USUAL) - 3]) + _EVAL + _USUAL
    # Headers.
    for name, value in KINDS.items():
        if name not in ('map', 'empty map'):
            yield f'header is {name}', frame(value)
            yield f'header is {name}, then a body', frame(value, _USUAL)
        yield f'type is {name}', frame(b'\x82\x00' + value + b'\x01\x09')
        yield f'sync is {name}', frame(b'\x82\x00\x40\x01' + value)
        yield f'header key is {name}', frame(b'\x83\x00\x40\x01\x09' + value + b'\x01')
        yield f'schema version is {name}', frame(b'\x83\x00\x40\x01\x09\x05' + value)
        yield f'unknown key with {name}', frame(b'\x83\x00\x40\x01\x09\x7f' + value)
    yield 'header is empty', frame(b'\x80')
    yield 'header is empty, then a body', frame(b'\x80', _USUAL)
    yield 'header without type', frame(b'\x81\x01\x09')
    yield 'header without type, then a body', frame(b'\x81\x01\x09', _USUAL)
    yield 'header without sync', frame(b'\x81\x00\x40')
    yield 'header in the other order', frame(b'\x82\x01\x09\x00\x40')
    yield 'header as map16', frame(b'\xde\x00\x02\x00\x40\x01\x09')
    yield 'header as map32', frame(b'\xdf\0\0\0\x02\x00\x40\x01\x09')
    yield 'header with wide integers', frame(b'\x82\xcc\x00\xcf' + bytes(7) + b'\x40\xcd\0\x01\xce\0\0\0\x09')
    yield 'header with signed integers', frame(b'\x82\xd0\x00\xd0\x40\xd1\0\x01\xd2\0\0\0\x09')
    yield 'header with a schema version', frame(b'\x83\x00\x40\x01\x09\x05\x01')
    yield 'header with the type twice', frame(b'\x83\x00\x08\x00\x40\x01\x09')
    yield 'header with the sync twice', frame(b'\x83\x00\x40\x01\x08\x01\x09')
    yield 'header cut off', frame(b'\x82\x00')
    yield 'header cut off behind a key', frame(b'\x82\x00\x40\x01')
    yield 'header with a deep value', frame(b'\x83\x00\x40\x01\x09\x7f' + b'\x91' * DEEP + b'\xc0')
    yield 'header deep', frame(b'\x91' * DEEP + b'\xc0')
    yield 'header deep in maps', frame(b'\x81\x01' * DEEP + b'\xc0')
    # Bodies.
    yield 'an eval', frame(_EVAL, _USUAL)
    yield 'body missing', frame(_EVAL)
    yield 'body empty', frame(_EVAL, b'\x80')
    yield 'two bodies', frame(_EVAL, _USUAL, _USUAL)
    yield 'two empty bodies', frame(_EVAL, b'\x80\x80')
    yield 'a body and a byte', frame(_EVAL, _USUAL, b'\x00')
    yield 'a ping and two bodies', frame(_header(PING), b'\x80\x80')
    yield 'a ping and a body that is none', frame(_header(PING), b'\x05')
    yield 'a ping and a body that is cut off', frame(_header(PING), b'\x81')
    yield 'body cut off', frame(_EVAL, _USUAL[:-1])
    yield 'body cut off in the text', frame(_EVAL, _USUAL[:5])
    yield 'body as map16', frame(_EVAL, b'\xde\x00\x02' + _USUAL[1:])
    yield 'body as map32', frame(_EVAL, b'\xdf\0\0\0\x02' + _USUAL[1:])
    yield 'body with a key twice', frame(_EVAL, b'\x83\x27\xa8return 1\x27\xa8return 2\x21\x90')
    yield 'body with more keys than it holds', frame(_EVAL, b'\x83' + _USUAL[1:])
    yield 'body with fewer keys than it holds', frame(_EVAL, b'\x81' + _USUAL[1:])
    yield 'body deep', frame(_EVAL, b'\x91' * DEEP + b'\xc0')
    yield 'body with a deep value', frame(_EVAL, b'\x83' + _USUAL[1:] + b'\x7f' + b'\x91' * DEEP + b'\xc0')
    yield 'body with a deep map', frame(_EVAL, b'\x83' + _USUAL[1:] + b'\x7f' + b'\x81\x01' * DEEP + b'\xc0')
    for levels in (20, 100, 200, 500, 1015, DEEP):
        yield f'arguments {levels} deep', frame(_EVAL, _body(arguments=b'\x91' + b'\x91' * levels + b'\xc0'))
        yield f'arguments {levels} deep in maps', frame(_EVAL, _body(arguments=b'\x91' + b'\x81\x01' * levels + b'\xc0'))
    yield 'expression as str8', frame(_EVAL, _body(expression=b'\xd9\x06return'))
    yield 'expression as str16', frame(_EVAL, _body(expression=b'\xda\0\x06return'))
    yield 'expression as str32', frame(_EVAL, _body(expression=b'\xdb\0\0\0\x06return'))
    yield 'arguments as array16', frame(_EVAL, _body(arguments=b'\xdc\0\0'))
    yield 'arguments as array32', frame(_EVAL, _body(arguments=b'\xdd\0\0\0\0'))
    yield 'arguments missing', frame(_EVAL, b'\x81\x27\xa6return')
    yield 'an array of 4 G', frame(_EVAL, _body(arguments=b'\xdd\xff\xff\xff\xff'))
    yield 'a map of 4 G', frame(_EVAL, _body(arguments=b'\x91\xdf\xff\xff\xff\xff'))
    yield 'a text of 4 GiB', frame(_EVAL, _body(arguments=b'\x91\xdb\xff\xff\xff\xff'))
    yield 'a text that is no UTF-8', frame(_EVAL, _body(expression=b'\xabreturn "\xff\xfe"'))
    yield 'login method is int', frame(_header(AUTH), b'\x82\x23\xa3ops\x21\x92\x05\xb4' + b'x' * 20)
    for name, value in KINDS.items():
        if name not in ('map', 'empty map'):
            yield f'body is {name}', frame(_EVAL, value)
        yield f'body key is {name}', frame(_EVAL, b'\x83' + _USUAL[1:] + value + b'\x01')
        yield f'unknown body key with {name}', frame(_EVAL, b'\x83' + _USUAL[1:] + b'\x7f' + value)
        yield f'expression is {name}', frame(_EVAL, _body(expression=value))
        yield f'arguments are {name}', frame(_EVAL, _body(arguments=value))
        yield f'an argument is {name}', frame(_EVAL, _body(arguments=b'\x91' + value))
        yield f'function name is {name}', frame(_header(CALL), b'\x82\x22' + value + b'\x21\x90')
        yield f'call arguments are {name}', frame(_header(CALL), b'\x82\x22\xa4echo\x21' + value)
        yield f'user name is {name}', frame(_header(AUTH), b'\x82\x23' + value + b'\x21\x92\xa9chap-sha1\xb4' + b'x' * 20)
        yield f'scramble is {name}', frame(_header(AUTH), b'\x82\x23\xa3ops\x21\x92\xa9chap-sha1' + value)
        yield f'login is {name}', frame(_header(AUTH), b'\x82\x23\xa3ops\x21' + value)
        yield f'space is {name}', frame(_header(SELECT), b'\x86\x10' + value + b'\x11\x00\x12\x01\x13\x00\x14\x00\x20\x90')
        yield f'limit is {name}', frame(_header(SELECT), b'\x86\x10\xcd\x02\x00\x11\x00\x12' + value
                                          + b'\x13\x00\x14\x00\x20\x90')


FRAMES = dict(_frames())


def exchange(host: str, port: int, data: bytes, seconds: float = READ_SECONDS, *, ends: bool = False) -> dict:
    """Sends a frame to a server, and a ping after it.

    Args:
        host, port: where the server listens.
        data: the frame.
        seconds: time without a byte after which the server counts as waiting.
        ends: whether to close the sending half instead of sending a ping.

    Returns:
        {'answers': [[code, sync, message or data], ...], 'then': 'open' if it answered the ping, 'closed' or 'waits'}
    """
    mark = frame(b'\x82\x00\x40\x01\xcd' + MARK.to_bytes(2, 'big'))
    answers, then = [], 'closed'
    with socket.create_connection((host, port), timeout=seconds) as sock:
        try:
            stream = sock.makefile('rb')
            assert len(stream.read(GREETING_BYTES)) == GREETING_BYTES
            sock.sendall(data if ends else data + mark)
            if ends:
                sock.shutdown(socket.SHUT_WR)
            while prefix := stream.read(5):
                unpacker = msgpack.Unpacker(strict_map_key=False, unicode_errors='backslashreplace')
                unpacker.feed(stream.read(int.from_bytes(prefix[1:], 'big')))
                header, body = unpacker
                if header[1] == MARK:
                    assert header[0] == 0, body
                    # A request that runs longer than the ping is answered after it.
                    then = 'open'
                    sock.shutdown(socket.SHUT_WR)
                    continue
                answers.append([header[0] & 0x7fff, header[1], body.get(0x31, str(body.get(0x30)))])
        except (ConnectionResetError, BrokenPipeError):
            pass
        except TimeoutError:
            return {'answers': answers, 'then': 'waits'}
    return {'answers': answers, 'then': then}


def record() -> None:
    """Writes frames.json."""
    from real_tarantool import Tarantool
    found, server = {}, None
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, data in FRAMES.items():
                server = server or Tarantool(Path(folder))
                found[name] = answer = exchange('127.0.0.1', server.binary_port, data, WAITS_SECONDS)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.process.wait(0 if answer['then'] == 'open' else 0.3)
                    answer['then'], server = 'died', None
        finally:
            if server:
                server.stop()
    lines = [f'{json.dumps(name)}: {json.dumps(answer)}' for name, answer in found.items()]
    RECORDED.write_text('{\n' + ',\n'.join(lines) + '\n}\n')


if __name__ == '__main__':
    record()
