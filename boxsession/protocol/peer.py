"""The client's end of the binary protocol for net.box: requests and responses whose values stay msgpack. Pure."""
from __future__ import annotations

from dataclasses import dataclass

from boxsession.protocol import iproto
from boxsession.protocol.client import NEED_DATA, BadReply
from boxsession.protocol.frames import BadLength, Frames
from boxsession.values.msgpack import BadValue, Reader

__all__ = ['NEED_DATA', 'BadReply', 'Response', 'Responses', 'request']

_TYPE, _SYNC = 0, 1
_FUNCTION, _EXPRESSION, _TUPLE, _DATA, _MESSAGE, _ERROR_STACK = 0x22, 0x27, b'\x21', 0x30, 0x31, 0x52
_PUSH, _ERROR_BIT = 128, 0x8000
_KINDS = {'eval': (iproto.EVAL, _EXPRESSION), 'call': (iproto.CALL, _FUNCTION), 'call_16': (iproto.CALL_16, _FUNCTION)}
# Longest response to a failed request that is read whole, value by value; and the most keys of a header or body.
_ERROR_MAX, _KEYS_MAX = 1 << 14, 16
# The field of an error in the stack that has its type.
_ERROR_TYPE = 0


def request(kind: str, sync: int, name: str, arguments: bytes) -> bytes:
    """A request. `kind`: eval, call, call_16 or ping; `arguments`: a list in msgpack."""
    if kind == 'ping':
        code, body = iproto.PING, b'\x80'
    else:
        code, key = _KINDS[kind]
        body = b'\x82%s%s%s%s' % (bytes([key]), iproto.packed(name), _TUPLE, arguments)
    payload = iproto.packed({_TYPE: code, _SYNC: sync}) + body
    return b'\xce%s%s' % (len(payload).to_bytes(4, 'big'), payload)


@dataclass(slots=True)
class Response:
    """A response, or a push that comes before it.

    Attributes:
        kind: 'ok', 'error' or 'push'.
        sync: the number of the request.
        data: the list of values in msgpack; empty if there is none.
        message: the message of an error.
        code: the code of an error.
        type: the type of an error; empty if the server does not tell.
    """

    kind: str
    sync: int
    data: bytes = b''
    message: bytes = b''
    code: int = 0
    type: bytes = b''


class Responses:
    """Splits what a server sends into responses.

    Args:
        max_bytes: maximum length of a response.
    """

    def __init__(self, max_bytes: int):
        self._frames = Frames(max_bytes)
        self.receive_data = self._frames.receive_data

    def next_event(self) -> Response | None:
        """The next response, or NEED_DATA.

        Raises:
            BadReply: the bytes are not a response, or it is too long. Do not call this again.
        """
        try:
            frame = self._frames.next_frame()
        except BadLength as error:
            raise BadReply('Invalid MsgPack - packet length' if error.length is None else
                           f'the response is too long: {error.length} bytes, at most {self._frames.max_bytes}') from None
        if frame is None:
            return NEED_DATA
        try:
            return _response(frame)
        except BadValue:
            raise BadReply('Invalid MsgPack - packet') from None


def _number(reader: Reader) -> int:
    content = reader.head()[1]
    if type(content) is not int:
        raise BadValue('expected a number')
    return content


def _count(reader: Reader) -> int:
    count = _number(reader)
    if count > _KEYS_MAX:
        raise BadValue('too many keys')
    return count


def _text(reader: Reader) -> bytes:
    content = reader.head()[1]
    return content if isinstance(content, bytes) else b''


def _response(frame: bytes) -> Response:
    reader = Reader(frame)
    header = {}
    for _ in range(_count(reader)):
        key = _number(reader)
        header[key] = _number(reader)
    code, sync = header.get(_TYPE, 0), header.get(_SYNC, 0)
    if code & _ERROR_BIT:
        return _error(reader, len(frame), code & ~_ERROR_BIT, sync)
    kind = 'push' if code == _PUSH else 'ok'
    # The values are not looked at here, since there may be many: they are all that follows.
    if not reader.is_done and _number(reader) == 1 and _number(reader) == _DATA:
        return Response(kind, sync, frame[reader.position:])
    return Response(kind, sync)


def _error(reader: Reader, length: int, code: int, sync: int) -> Response:
    made = Response('error', sync, code=code)
    for _ in range(0 if reader.is_done else _count(reader)):
        key = _number(reader)
        if key == _MESSAGE:
            made.message = _text(reader)
        elif length > _ERROR_MAX:
            break
        elif key == _ERROR_STACK:
            made.type = _type(reader)
        else:
            reader.value()
    return made


def _type(reader: Reader) -> bytes:
    """The type of the first error of a stack: {0: [{0: type, ...}, ...]}."""
    found = b''
    for _ in range(_number(reader)):
        _number(reader)
        for index in range(_number(reader)):
            for _ in range(_number(reader)):
                key = _number(reader)
                if index == 0 and key == _ERROR_TYPE:
                    found = _text(reader)
                else:
                    reader.value()
    return found
