"""Integers of 64 bits as LuaJIT's int64_t (LL) and uint64_t (ULL) calculate. Pure; each operation takes bounded time."""
from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable

__all__ = ['whole']

_WRAP, _HALF = 2 ** 64, 2 ** 63
# Operations on the bits of two unsigned integers.
_BITS: dict[str, Callable[[int, int], int]] = {
    '&': operator.and_, '|': operator.or_, '~': operator.xor, '<<': operator.lshift, '>>': operator.rshift,
    '>>>': lambda a, by: _wrapped(a, 'LL') >> by,
    'rol': lambda a, by: a << by | a >> (64 - by), 'ror': lambda a, by: a << (64 - by) | a >> by,
    'not': lambda a, _: ~a, 'swap': lambda a, _: int.from_bytes(a.to_bytes(8, 'little'), 'big'),
}
_SUFFIX = re.compile('(?:ll|ull|llu)$', re.IGNORECASE)


def whole(request: bytes) -> bytes:
    """The result of `sign:type:digits:type:digits` as `type:digits`; of a comparison, `true` or `false`.

    `read:base:text` reads a text; base 0 is 10, 16 after `0x`, or 2 after `0b`. The result is b'' if the text is no integer
    of 64 bits.
    Operations on bits take the type of the left integer, which a number on the left takes from the right one; they shift by
    0 to 63. `hex:type:digits` gives 16 hexadecimal digits.
    `literal:type:text` reads the digits of a literal, which wrap.
    """
    sign, _, rest = request.decode(errors='replace').partition(':')
    if sign == 'read':
        base, _, text = rest.partition(':')
        return _read(text, int(base))
    if sign == 'literal':
        kind, _, text = rest.partition(':')
        return b'%s:%d' % (kind.encode(), _wrapped(int(text, 0), kind))
    if sign == 'hex':
        return b'%016x' % (int(rest.partition(':')[2]) % _WRAP)
    left, one, right, other = rest.split(':')
    kind = 'LL' if left == right == 'LL' else 'ULL'
    a, b = _wrapped(_converted(one, left), kind), _wrapped(_converted(other, right), kind)
    if sign in ('=', '<', '<='):
        return b'true' if (a == b if sign == '=' else a < b if sign == '<' else a <= b) else b'false'
    if sign in _BITS:
        result = _BITS[sign](a % _WRAP, b % _WRAP)
    else:
        result = _calculated(sign, a, b)
    return b'%s:%d' % (kind.encode(), _wrapped(result, kind))


def _wrapped(value: int, kind: str) -> int:
    value %= _WRAP
    return value - _WRAP if kind == 'LL' and value >= _HALF else value


def _converted(digits: str, kind: str) -> int:
    """An integer from its digits, or from a Lua number as C converts a double.

    Out of range it is the lowest int64_t; from 2^64 on, 0 as a uint64_t.
    """
    if digits.lstrip('-').isdigit() and -_HALF <= int(digits) < _WRAP:
        value = int(digits)
    else:
        number = float(digits)
        if kind == 'ULL' and number >= _WRAP:
            return 0
        if not math.isfinite(number):
            return -_HALF
        value = int(number)
    return value if -_HALF <= value < (_HALF if kind == 'LL' else _WRAP) else -_HALF


def _calculated(sign: str, a: int, b: int) -> int:
    if sign == '+':
        return a + b
    if sign == '-':
        return a - b
    if sign == '*':
        return a * b
    if sign == '^':
        return _power(a, b)
    if b == 0:
        return -_HALF
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return quotient if sign == '/' else a - quotient * b


def _power(a: int, b: int) -> int:
    if b >= 0:
        return pow(a, b, _WRAP)
    if a == 0:
        return _HALF - 1
    return (a if b % 2 else 1) if abs(a) == 1 else 0


def _read(text: str, base: int) -> bytes:
    text = text.strip(' \t\n\r\v\f')
    if base == 0:
        text = _SUFFIX.sub('', text)
        base = 16 if re.match('[+-]?0[xX]', text) else 2 if re.match('[+-]?0[bB]', text) else 10
    if not text.isascii() or '_' in text or ' ' in text:
        return b''
    try:
        value = int(text, base)
    except ValueError:
        return b''
    if not -_HALF <= value < _WRAP:
        return b''
    return b'%s:%d' % (b'LL' if value < 0 else b'ULL', value)
