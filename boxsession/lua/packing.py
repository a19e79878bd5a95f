"""Values of the binary protocol, as a client has them, as packed strings (output/tagged.py has the grammar).

Values are as msgpack gives them: None, bool, int of up to 64 bits, float, bytes, list, dict, and extension values.
"""
from __future__ import annotations

from collections.abc import Callable

from boxsession.protocol.iproto import Extension

__all__ = ['pack_values']

# Above this a Lua number no longer holds every whole number.
_EXACT_MAX = 2 ** 53
_NONE, _TRUE, _FALSE, _NULL = b'N', b't', b'f', b'Z'
_NOTHING = b'L]'
_PAUSE_EVERY = 1000
# What is nested deeper is refused: by a number, since Python's own limit depends on its version.
_DEEPEST = 500
# msgpack's own extension, whose code is -1.
_TIMESTAMP = 255


def pack_values(values, pause: Callable[[], None] = lambda: None) -> bytes:
    """A list of values; `pause` is called now and then.

    Raises:
        ValueError: there is something that cannot be a key in Lua, or it is nested too deep.
    """
    if not values:
        return _NOTHING
    out = [b'L']
    for value in values:
        _pack(out, value, pause, 0, _NONE)
    out.append(b']')
    return b''.join(out)


def _pack(out, value, pause, depth, null=_NULL):
    kind = type(value)
    if depth > _DEEPEST:
        raise ValueError(f'nested too deep: more than {_DEEPEST} levels')
    if kind is bytes:
        out.append(b's%d:%s' % (len(value), value))
    elif kind is int:
        digits = b'%d' % value
        out.append(b'%s%d:%s' % (b'n' if -_EXACT_MAX <= value <= _EXACT_MAX else b'I', len(digits), digits))
    elif kind is float:
        digits = repr(value).encode()
        out.append(b'n%d:%s' % (len(digits), digits))
    elif value is None:
        out.append(null)
    elif kind is bool:
        out.append(_TRUE if value else _FALSE)
    elif kind is list:
        out.append(b'L')
        for number, item in enumerate(value, 1):
            _pack(out, item, pause, depth + 1)
            if not number % _PAUSE_EVERY:
                pause()
        out.append(b']')
    elif kind is dict:
        out.append(b'M')
        for key, item in value.items():
            if key is None or key != key:
                raise ValueError('nil or nan cannot be a key')
            _pack(out, key, pause, depth + 1)
            _pack(out, item, pause, depth + 1)
            if not len(out) % _PAUSE_EVERY:
                pause()
        out.append(b'}')
    else:
        code, data = (value.code, value.data) if kind is Extension else (_TIMESTAMP, value.to_bytes())
        out.append(b'E%d:%c%s' % (len(data) + 1, code, data))
