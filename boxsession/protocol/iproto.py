"""The binary protocol (IPROTO): frames in, requests out; responses as frames. Only this module imports msgpack.

A frame is a length (a msgpack unsigned integer) and that many bytes: a header map and a body map. The numbers of requests,
keys and errors are those of Tarantool 2.6; ID, WATCH and UNWATCH are those of 2.10.

Only the fields that a type of request needs are read; others are skipped. Arguments stay bytes. They are not decoded before
the sender's right to run the request is checked, since the sender chooses their size.

Longer than usual: the requests that are read and the responses that are written share their numbers.
"""
from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

__all__ = ['AUTH', 'BadFrame', 'BadRequest', 'CALL', 'CALL_16', 'EVAL', 'Extension', 'ID', 'IprotoProtocol',
           'NEED_DATA', 'PING', 'Request', 'SCRAMBLE_BYTES', 'SELECT', 'UNWATCH', 'WATCH', 'auth_request',
           'error', 'eval_request', 'event', 'failure', 'greeting', 'id_answer', 'login_arguments', 'ok', 'packed', 'push',
           'scramble_matches', 'unpacked']

SELECT, CALL_16, AUTH, EVAL, CALL, PING, ID, WATCH, UNWATCH = 1, 6, 7, 8, 10, 64, 73, 74, 75
_EVENT, _PUSH, _ERROR_BIT = 76, 128, 0x8000

_TYPE, _SYNC = 0, 1
_SPACE_ID, _TUPLE, _FUNCTION, _USER, _EXPRESSION = 0x10, 0x21, 0x22, 0x23, 0x27
_DATA, _MESSAGE, _ERROR_STACK = 0x30, 0x31, 0x52
_VERSION, _FEATURES, _EVENT_KEY = 0x54, 0x55, 0x57
# Response to ID: the version of the protocol; the only feature is watchers (3).
_ID_ANSWER = {_VERSION: 3, _FEATURES: [3]}

_INVALID_MSGPACK, _MISSING_FIELD = 20, 69
SCRAMBLE_BYTES = 20

Extension = msgpack.ExtType


# next_event() returns this if it needs more bytes.
NEED_DATA = None


@dataclass(slots=True)
class Request:
    """A request.

    Attributes:
        type: EVAL, CALL and so on.
        sync: its number, which the response repeats.
        name: the expression, function, user or event key, by type.
        arguments: a list in msgpack.
        space: the id of the space, of SELECT.
    """

    type: int
    sync: int
    name: bytes = b''
    arguments: bytes = b'\x90'
    space: int = 0


@dataclass(slots=True)
class BadRequest:
    """A frame with an invalid request. Answer it with an error; the connection stays open."""

    sync: int
    code: int
    message: str


@dataclass(slots=True)
class BadFrame:
    """Invalid bytes, or a frame over the limit. Answer with an error and close the connection."""

    code: int
    message: str
    is_too_long: bool = False


Event = Request | BadRequest | BadFrame

# Number of bytes after the first byte of an unsigned integer.
_WIDTHS = {0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8}


class IprotoProtocol:
    """Splits the input of one client into requests.

    Args:
        max_request_bytes: maximum length of a frame; 0 for no limit.
    """

    __slots__ = ('max_request_bytes', '_buffer', '_at', '_broken')

    def __init__(self, max_request_bytes: int = 0):
        self.max_request_bytes = max_request_bytes
        self._buffer = b''
        self._at = 0
        self._broken = False

    def receive_data(self, data: bytes) -> None:
        """Takes input of the client."""
        if self._at:
            self._buffer = self._buffer[self._at:] + data
            self._at = 0
        elif self._buffer:
            self._buffer += data
        else:
            self._buffer = data

    @property
    def buffered_bytes(self) -> int:
        """Number of bytes that are not yet requests."""
        return len(self._buffer) - self._at

    def pending_data(self, most: int) -> bytes:
        """At most `most` of the buffered bytes, from the start of a frame on; they stay in the buffer."""
        return self._buffer[self._at:self._at + most]

    def take(self, count: int) -> None:
        """Removes the first `count` buffered bytes, which are whole frames."""
        self._at += count
        if self._at == len(self._buffer):
            self._buffer, self._at = b'', 0

    def next_event(self) -> Event | None:
        """The next Request, BadRequest or BadFrame (after which nothing follows), or NEED_DATA."""
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

    def _break(self, message: str, is_too_long: bool = False) -> BadFrame:
        self._broken = True
        self._buffer, self._at = b'', 0
        return BadFrame(_INVALID_MSGPACK, message, is_too_long)

    def _request(self, frame: bytes) -> Event:
        # Fast path: a header {type, sync}, as all connectors write it, of a request whose body is not needed.
        if frame[:2] == b'\x82\x00' and len(frame) > 4 and frame[2] < 0x80 and frame[3] == 1 and frame[2] not in _FIELDS:
            first = frame[4]
            end = 5 if first < 0x80 else 5 + _WIDTHS.get(first, len(frame))
            if end == len(frame):
                return Request(frame[2], first if end == 5 else int.from_bytes(frame[5:end], 'big'))
        unpacker = msgpack.Unpacker(max_buffer_size=len(frame) or 1)
        unpacker.feed(frame)
        try:
            header: dict[int, bytes] = {}
            for raw, value in _pairs(unpacker, frame):
                number = _integer(raw)
                if number is None:
                    return self._break('Invalid MsgPack - packet header')
                header[number] = value
            kind, sync = (_integer(header.get(key, b'\0')) for key in (_TYPE, _SYNC))
            if kind is None or sync is None or not 0 <= sync < 1 << 64:
                return self._break('Invalid MsgPack - packet header')
        except (msgpack.UnpackException, ValueError):
            return self._break('Invalid MsgPack - packet header')
        wanted = _FIELDS.get(kind)
        at = unpacker.tell()
        if wanted is None:
            # Its body is not needed, but it must be one value.
            if at < len(frame) and not _is_value(unpacker, len(frame)):
                return BadRequest(sync, _INVALID_MSGPACK, 'Invalid MsgPack - packet body')
            return Request(kind, sync)
        if at == len(frame):
            return BadRequest(sync, _INVALID_MSGPACK, 'Invalid MsgPack - missing request body')
        try:
            body = {}
            for key, value in _pairs(unpacker, frame):
                if len(key) == 1:
                    body[key[0]] = value
            if unpacker.tell() == len(frame):
                return _checked(kind, sync, body, *wanted)
        except (msgpack.UnpackException, ValueError):
            pass
        return BadRequest(sync, _INVALID_MSGPACK, 'Invalid MsgPack - packet body')


def _is_value(unpacker: msgpack.Unpacker, end: int) -> bool:
    """Whether the rest of a frame is one value. As in Tarantool, the byte that is never used passes."""
    try:
        unpacker.skip()
    except msgpack.OutOfData:
        return False
    except (msgpack.UnpackException, ValueError):
        return True
    return unpacker.tell() == end


def _pairs(unpacker: msgpack.Unpacker, frame: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of the next map, as msgpack bytes."""
    count = unpacker.read_map_header()
    if count > _PAIRS_MAX:
        raise ValueError('too many keys')
    end = unpacker.tell()
    for _ in range(count):
        start = end
        unpacker.skip()
        middle = unpacker.tell()
        unpacker.skip()
        end = unpacker.tell()
        yield frame[start:middle], frame[middle:end]


def _integer(raw: bytes) -> int | None:
    """The integer in msgpack bytes; None for any other type."""
    first = raw[0]
    if first < 0x80:
        return first
    if first >= 0xe0:
        return first - 256
    if 0xcc <= first <= 0xd3:
        return int.from_bytes(raw[1:], 'big', signed=first >= 0xd0)
    return None


def _bytes(raw: bytes) -> bytes | None:
    """The string or binary data in msgpack bytes; None for any other type."""
    first = raw[0]
    if 0xa0 <= first < 0xc0:
        return raw[1:]
    width = _STRING_HEADS.get(first)
    return raw[width:] if width else None


def _is_list(raw: bytes) -> bool:
    return 0x90 <= raw[0] < 0xa0 or raw[0] in (0xdc, 0xdd)


def _checked(kind: int, sync: int, body: dict[int, bytes], key: int,
             of_kind: Callable[[bytes], Any], told: str) -> Request | BadRequest:
    """Makes a request of a body.

    Args:
        key: the key of the mandatory field.
        of_kind: reads that field.
        told: its name in the error if it is missing.
    """
    raw, arguments = body.get(key, _NIL), body.get(_TUPLE, b'\x90')
    if raw == _NIL:
        return BadRequest(sync, _MISSING_FIELD, f"Missing mandatory field '{told}' in request")
    value = of_kind(raw)
    if value is None or not _is_list(arguments):
        return BadRequest(sync, _INVALID_MSGPACK, 'Invalid MsgPack - packet body')
    if kind == AUTH and (len(value) > _USER_MAX or len(arguments) > _LOGIN_MAX):
        return BadRequest(sync, _INVALID_MSGPACK, 'Invalid MsgPack - authentication request body')
    if of_kind is _integer:
        return Request(kind, sync, space=value)
    return Request(kind, sync, value, arguments)


def login_arguments(arguments: bytes) -> list[bytes] | None:
    """The method and the scramble in the arguments of AUTH; None if they are not strings."""
    try:
        found = msgpack.unpackb(arguments, raw=True, strict_map_key=False)[:2]
    except (ValueError, TypeError):
        return None
    return found if all(type(argument) is bytes for argument in found) else None


# Maximum number of keys of a header or a body.
_PAIRS_MAX = 64
# Maximum length in bytes of a user name, and of the arguments of AUTH.
_USER_MAX, _LOGIN_MAX = 1024, 256
_NIL = b'\xc0'
# By the first byte: number of bytes in front of the string's content.
_STRING_HEADS = {0xc4: 2, 0xc5: 3, 0xc6: 5, 0xd9: 2, 0xda: 3, 0xdb: 5}

_FIELDS: dict[int, tuple[int, Callable[[bytes], Any], str]] = {
    EVAL: (_EXPRESSION, _bytes, 'expression'), CALL: (_FUNCTION, _bytes, 'function name'),
    CALL_16: (_FUNCTION, _bytes, 'function name'), AUTH: (_USER, _bytes, 'user name'),
    SELECT: (_SPACE_ID, _integer, 'space id'), WATCH: (_EVENT_KEY, _bytes, 'event key'),
    UNWATCH: (_EVENT_KEY, _bytes, 'event key'),
}

# Frames ---------------------------------------------------------------------------------------------------------------

_pack = msgpack.Packer(use_bin_type=True, unicode_errors='surrogateescape', autoreset=True).pack


def _frame(kind: int, sync: int, body: Any) -> bytes:
    # {type, sync, schema version}
    payload = b'\x83\x00%s\x01%s\x05\x01%s' % (_pack(kind), _pack(sync), body)
    return b'\xce%s%s' % (len(payload).to_bytes(4, 'big'), payload)


_EMPTY = _pack({})
_DATA_PREFIX = b'\x81' + _pack(_DATA)


def ok(sync: int, data: bytes | None = None) -> bytes:
    """The response to a request; `data` is the list of its results in msgpack, None if it has no results."""
    return _frame(0, sync, _EMPTY if data is None else _DATA_PREFIX + data)


def packed(value: Any) -> bytes:
    """Encodes a value in msgpack."""
    return _pack(value)


def unpacked(data: bytes) -> Any:
    """Decodes msgpack that we have written. Strings become str; bytes that are not UTF-8 become surrogates."""
    return msgpack.unpackb(data, raw=False, unicode_errors='surrogateescape')


def id_answer(sync: int) -> bytes:
    """The response to ID."""
    return _frame(0, sync, _pack(_ID_ANSWER))


def push(sync: int, data: bytes) -> bytes:
    """A push, sent before the response; `data` is a list of one value in msgpack."""
    return _frame(_PUSH, sync, _DATA_PREFIX + data)


def event(key: bytes) -> bytes:
    """The first event of a watcher: its key has no value."""
    return _frame(_EVENT, 0, _pack({_EVENT_KEY: key.decode(errors='surrogateescape')}))


def error(sync: int, code: int, message: str, kind: str = 'ClientError') -> bytes:
    """The response to a request that failed by an error of the server."""
    return failure(sync, [(kind, code, message, {}, '', 0)])


def failure(sync: int, errors: Sequence[Sequence[Any]]) -> bytes:
    """The response to a failed request: the message, and the error stack of Tarantool 2.4 and later.

    Args:
        errors: the error, and those that it came of: kind, code, message, further fields, and the file and line that
            raised it. Without a file the server did.
    """
    stack = []
    for kind, code, message, fields, file, line in errors:
        detail = {0: kind, 2: line, 1: file or 'boxsession', 3: message, 4: 0, 5: code}
        if fields:
            detail[6] = fields
        stack.append(detail)
    _, code, message, *_ = errors[0]
    return _frame(_ERROR_BIT | code, sync, _pack({_MESSAGE: message, _ERROR_STACK: {0: stack}}))


def greeting(version: str, instance: str, salt: bytes) -> bytes:
    """The greeting of a binary listener: 128 bytes."""
    first = f'Tarantool {version} (Binary) {instance}'
    return f'{first:<63}\n{base64.b64encode(salt).decode():<63}\n'.encode()


def scramble_matches(scramble: bytes, salt: bytes, kept: str) -> bool:
    """Whether a chap-sha1 scramble proves the password whose hash is `kept` (see `boxsession.users.passwords`).

    Without a hash the result is False, after the same computation.
    """
    if len(scramble) != SCRAMBLE_BYTES:
        return False
    stored = base64.b64decode(kept) if kept else bytes(SCRAMBLE_BYTES)
    mask = hashlib.sha1(salt[:SCRAMBLE_BYTES] + stored).digest()
    once = bytes(a ^ b for a, b in zip(scramble, mask, strict=True))
    return hmac.compare_digest(hashlib.sha1(once).digest(), stored) and bool(kept)


# The client's side ----------------------------------------------------------------------------------------------------

def _request(kind: int, sync: int, body: Any) -> bytes:
    payload = _pack({_TYPE: kind, _SYNC: sync}) + _pack(body)
    return b'\xce%s%s' % (len(payload).to_bytes(4, 'big'), payload)


def eval_request(sync: int, expression: str, arguments: list[Any]) -> bytes:
    """An EVAL request. Strings may have surrogates for bytes that are not UTF-8."""
    return _request(EVAL, sync, {_EXPRESSION: expression, _TUPLE: arguments})


def auth_request(sync: int, user: str, password: str, greeting: bytes) -> bytes:
    """An AUTH request by chap-sha1, with the salt in the server's greeting."""
    salt = base64.b64decode(greeting[64:108])[:SCRAMBLE_BYTES]
    once = hashlib.sha1(password.encode(errors='surrogateescape')).digest()
    mask = hashlib.sha1(salt + hashlib.sha1(once).digest()).digest()
    scramble = bytes(a ^ b for a, b in zip(once, mask, strict=True))
    return _request(AUTH, sync, {_USER: user, _TUPLE: ['chap-sha1', scramble]})
