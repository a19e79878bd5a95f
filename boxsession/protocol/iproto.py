"""The binary protocol (IPROTO): frames in, requests out; what is answered, as frames. The one import of msgpack.

A frame is a length (a msgpack unsigned integer) and so many bytes: a header map and a body map. Numbers of requests, keys
and errors: Tarantool 2.6, and 2.10 for ID, WATCH and UNWATCH.

Strings and binary data are both bytes here; maps keep their keys whatever they are; extension values are
`msgpack.ExtType`.
"""
from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

import msgpack

__all__ = ['AUTH', 'BadFrame', 'BadRequest', 'CALL', 'CALL_16', 'EVAL', 'Extension', 'ID', 'IprotoProtocol',
           'NEED_DATA', 'PING', 'Request', 'SCRAMBLE_BYTES', 'SELECT', 'Timestamp', 'UNWATCH', 'WATCH', 'auth_request',
           'error', 'eval_request', 'event', 'greeting', 'id_answer', 'ok', 'push', 'scramble_matches']

SELECT, CALL_16, AUTH, EVAL, CALL, PING, ID, WATCH, UNWATCH = 1, 6, 7, 8, 10, 64, 73, 74, 75
_EVENT, _PUSH, _ERROR_BIT = 76, 128, 0x8000

_TYPE, _SYNC = 0, 1
_SPACE_ID, _TUPLE, _FUNCTION, _USER, _EXPRESSION = 0x10, 0x21, 0x22, 0x23, 0x27
_DATA, _MESSAGE, _ERROR_STACK = 0x30, 0x31, 0x52
_VERSION, _FEATURES, _EVENT_KEY, _EVENT_DATA = 0x54, 0x55, 0x57, 0x58
# What ID tells: the protocol's version, and of its features only watchers (3).
_ID_ANSWER = {_VERSION: 3, _FEATURES: [3]}

_INVALID_MSGPACK, _MISSING_FIELD = 20, 69
SCRAMBLE_BYTES = 20

Extension, Timestamp = msgpack.ExtType, msgpack.Timestamp


class _NeedData:
    __slots__ = ()


# What next_event() gives when it has nothing until more bytes come.
NEED_DATA = _NeedData()


@dataclass(slots=True)
class Request:
    """A request with what its kind needs, checked: `name` is an expression, function or user; `arguments` a list."""

    type: int
    sync: int
    name: bytes = b''
    arguments: Any = ()
    space: int = 0


@dataclass(slots=True)
class BadRequest:
    """A frame that holds no request of ours: to be answered with an error; the connection goes on."""

    sync: int
    code: int
    message: str


@dataclass(slots=True)
class BadFrame:
    """Bytes that are no frame, or one over the limit: to be answered with an error, and the connection closed."""

    code: int
    message: str
    is_too_long: bool = False


# How many bytes follow the first of an unsigned integer.
_WIDTHS = {0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8}


class IprotoProtocol:
    """One client's side of the binary protocol.

    Args:
        max_request_bytes: the longest frame; 0 for no limit.
    """

    __slots__ = ('max_request_bytes', '_buffer', '_at', '_broken')

    def __init__(self, max_request_bytes: int = 0):
        self.max_request_bytes = max_request_bytes
        self._buffer = b''
        self._at = 0
        self._broken = False

    def receive_data(self, data: bytes) -> None:
        """Takes what came from the client."""
        if self._at:
            self._buffer = self._buffer[self._at:] + data
            self._at = 0
        elif self._buffer:
            self._buffer += data
        else:
            self._buffer = data

    @property
    def buffered_bytes(self) -> int:
        """How much is waiting to be cut into requests."""
        return len(self._buffer) - self._at

    def pending_data(self, most: int) -> bytes:
        """What is waiting to be cut into requests, from the beginning of a frame on, or so many bytes of it."""
        return self._buffer[self._at:self._at + most]

    def take(self, count: int) -> None:
        """So many bytes of that, whole frames, are done with."""
        self._at += count
        if self._at == len(self._buffer):
            self._buffer, self._at = b'', 0

    def next_event(self):
        """The next Request or BadRequest, a BadFrame (and nothing behind it), or NEED_DATA."""
        if self._broken:
            return NEED_DATA
        data, at = self._buffer, self._at
        if at >= len(data):
            return NEED_DATA
        first = data[at]
        if first == 0xce:
            start = at + 5
            if len(data) < start:
                return NEED_DATA
            length = int.from_bytes(data[at + 1:start], 'big')
        elif first < 0x80:
            start, length = at + 1, first
        elif first in (0xcc, 0xcd, 0xcf):
            start = at + 1 + (1 << first - 0xcc)
            if len(data) < start:
                return NEED_DATA
            length = int.from_bytes(data[at + 1:start], 'big')
        else:
            return self._break('Invalid MsgPack - packet length')
        if self.max_request_bytes and length > self.max_request_bytes:
            return self._break(f'the request is too long: {length} bytes, at most {self.max_request_bytes} '
                               '(limits.request_bytes)', is_too_long=True)
        stop = start + length
        if len(data) < stop:
            return NEED_DATA
        self._at = stop
        if stop == len(data):
            self._buffer, self._at = b'', 0
        return self._request(data[start:stop])

    def _break(self, message, is_too_long=False):
        self._broken = True
        self._buffer, self._at = b'', 0
        return BadFrame(_INVALID_MSGPACK, message, is_too_long)

    def _request(self, frame):
        # The common case: a header as all connectors write it, {type, sync}, and one map behind it.
        if frame[:2] == b'\x82\x00' and len(frame) > 4 and frame[2] < 0x80 and frame[3] == 1:
            first = frame[4]
            body = 5 if first < 0x80 else 5 + _WIDTHS.get(first, len(frame))
            if body <= len(frame) and (body < len(frame) or frame[2] not in _FIELDS):
                sync = first if body == 5 else int.from_bytes(frame[5:body], 'big')
                if frame[2] not in _FIELDS:
                    return Request(frame[2], sync)      # whatever comes with it is not looked at
                try:
                    fields = msgpack.unpackb(frame[body:], raw=True, strict_map_key=False)
                except (msgpack.UnpackException, ValueError, TypeError, RecursionError):
                    fields = None
                if type(fields) is dict:
                    return _checked(frame[2], sync, fields)
        return self._uncommon_request(frame)

    def _uncommon_request(self, frame):
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=len(frame) or 1)
        unpacker.feed(frame)
        sync, header = 0, None
        try:
            # As pairs: among the keys of a dict, true and 1.0 would be 1.
            pairs = [(unpacker.unpack(), unpacker.unpack()) for _ in range(unpacker.read_map_header())]
            if not all(type(key) is int for key, _ in pairs):
                return self._break('Invalid MsgPack - packet header')
            header = dict(pairs)
            kind, sync = header.get(_TYPE, 0), header.get(_SYNC, 0)
            if type(kind) is not int or type(sync) is not int or not 0 <= sync < 1 << 64:
                return self._break('Invalid MsgPack - packet header')
            body = None
            if unpacker.tell() < len(frame):
                body = unpacker.unpack()
                if type(body) is not dict or unpacker.tell() < len(frame):
                    return BadRequest(sync, _INVALID_MSGPACK, 'Invalid MsgPack - packet body')
        except (msgpack.UnpackException, ValueError, TypeError, RecursionError):
            if header is None:
                return self._break('Invalid MsgPack - packet header')
            return BadRequest(sync, _INVALID_MSGPACK, 'Invalid MsgPack - packet body')
        return _checked(kind, sync, body)


def _checked(kind, sync, body):
    fields = _FIELDS.get(kind)
    if fields is None:
        return Request(kind, sync)
    if body is None:
        return BadRequest(sync, _INVALID_MSGPACK, 'Invalid MsgPack - missing request body')
    key, expected, told = fields
    name = body.get(key)
    arguments = body.get(_TUPLE, ())
    if name is None:
        return BadRequest(sync, _MISSING_FIELD, f"Missing mandatory field '{told}' in request")
    if type(name) is not expected or not (arguments == () or type(arguments) is list):
        return BadRequest(sync, _INVALID_MSGPACK, 'Invalid MsgPack - packet body')
    if expected is int:
        return Request(kind, sync, space=name)
    return Request(kind, sync, name, arguments)


_FIELDS = {
    EVAL: (_EXPRESSION, bytes, 'expression'), CALL: (_FUNCTION, bytes, 'function name'),
    CALL_16: (_FUNCTION, bytes, 'function name'), AUTH: (_USER, bytes, 'user name'), SELECT: (_SPACE_ID, int, 'space id'),
    WATCH: (_EVENT_KEY, bytes, 'event key'), UNWATCH: (_EVENT_KEY, bytes, 'event key'),
}

# Frames ---------------------------------------------------------------------------------------------------------------

_pack = msgpack.Packer(use_bin_type=True, unicode_errors='surrogateescape', autoreset=True).pack


def _frame(kind, sync, body) -> bytes:
    # {type, sync, schema version}
    payload = b'\x83\x00%s\x01%s\x05\x01%s' % (_pack(kind), _pack(sync), body)
    return b'\xce%s%s' % (len(payload).to_bytes(4, 'big'), payload)


_EMPTY = _pack({})
_DATA_PREFIX = b'\x81' + _pack(_DATA)


def ok(sync: int, data: list | None = None) -> bytes:
    """The answer to a request; `data` is what it gave, None for requests that give nothing.

    Raises:
        ValueError: something in it has no form in msgpack.
    """
    try:
        return _frame(0, sync, _EMPTY if data is None else _DATA_PREFIX + _pack(data))
    except (TypeError, OverflowError) as problem:
        raise ValueError(str(problem)) from None


def id_answer(sync: int) -> bytes:
    """The answer to ID."""
    return _frame(0, sync, _pack(_ID_ANSWER))


def push(sync: int, value: Any) -> bytes:
    """What box.session.push() sends in front of the answer."""
    return _frame(_PUSH, sync, _DATA_PREFIX + _pack([value]))


def event(key: bytes) -> bytes:
    """What a watcher is told at once: that there is nothing under its key."""
    return _frame(_EVENT, 0, _pack({_EVENT_KEY: key.decode(errors='surrogateescape')}))


def error(sync: int, code: int, message: str, kind: str = 'ClientError', fields: dict | None = None) -> bytes:
    """The answer to a request that failed: in the old form and as the map of 2.4 and later."""
    detail = {0: kind, 2: 0, 1: 'boxsession', 3: message, 4: 0, 5: code}
    if fields:
        detail[6] = fields
    return _frame(_ERROR_BIT | code, sync, _pack({_MESSAGE: message, _ERROR_STACK: {0: [detail]}}))


def greeting(version: str, instance: str, salt: bytes) -> bytes:
    """The 128 bytes that a server begins with."""
    first = f'Tarantool {version} (Binary) {instance}'
    return f'{first:<63}\n{base64.b64encode(salt).decode():<63}\n'.encode()


def scramble_matches(scramble: bytes, salt: bytes, kept: str) -> bool:
    """Whether AUTH's chap-sha1 scramble was made with the password whose hash is kept; see `boxsession.auth`."""
    if len(scramble) != SCRAMBLE_BYTES:
        return False
    stored = base64.b64decode(kept) if kept else bytes(SCRAMBLE_BYTES)
    mask = hashlib.sha1(salt[:SCRAMBLE_BYTES] + stored).digest()
    once = bytes(a ^ b for a, b in zip(scramble, mask, strict=True))
    return hmac.compare_digest(hashlib.sha1(once).digest(), stored) and bool(kept)


# The client's side ----------------------------------------------------------------------------------------------------

def _request(kind, sync, body) -> bytes:
    payload = _pack({_TYPE: kind, _SYNC: sync}) + _pack(body)
    return b'\xce%s%s' % (len(payload).to_bytes(4, 'big'), payload)


def eval_request(sync: int, expression: str, arguments: list) -> bytes:
    """EVAL; strings of any bytes have surrogates for those that are no UTF-8."""
    return _request(EVAL, sync, {_EXPRESSION: expression, _TUPLE: arguments})


def auth_request(sync: int, user: str, password: str, greeting: bytes) -> bytes:
    """AUTH by chap-sha1, with the salt of the server's greeting."""
    salt = base64.b64decode(greeting[64:108])[:SCRAMBLE_BYTES]
    once = hashlib.sha1(password.encode(errors='surrogateescape')).digest()
    mask = hashlib.sha1(salt + hashlib.sha1(once).digest()).digest()
    scramble = bytes(a ^ b for a, b in zip(once, mask, strict=True))
    return _request(AUTH, sync, {_USER: user, _TUPLE: ['chap-sha1', scramble]})
