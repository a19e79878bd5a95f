"""Decimals as Tarantool 2.6's module `decimal` calculates: 38 digits. Pure; each operation takes bounded time."""
from __future__ import annotations

import decimal
import re
from collections.abc import Callable
from decimal import Context, Decimal

__all__ = ['calculate']

PRECISION = 38
_FAILURES = (decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow)
_NUMBER = re.compile(r'[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?')


def _context(emin: int) -> Context:
    return Context(prec=PRECISION, rounding=decimal.ROUND_HALF_UP, Emin=emin, Emax=PRECISION - 1, clamp=0, traps=[])


# Fractions have up to 38 digits; logarithms have their own limits in Tarantool, 37 and none.
_DEFAULT, _LN, _LOG10 = _context(-1), _context(0), _context(-1000)
_TWO: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
    '+': _DEFAULT.add, '-': _DEFAULT.subtract, '*': _DEFAULT.multiply, '/': _DEFAULT.divide, '%': _DEFAULT.remainder,
    '^': _DEFAULT.power,
}
_ONE: dict[str, tuple[Context, Callable[[Decimal], Decimal]]] = {
    'new': (_DEFAULT, lambda value: value), 'abs': (_DEFAULT, _DEFAULT.abs), 'minus': (_DEFAULT, _DEFAULT.minus),
    'exp': (_DEFAULT, _DEFAULT.exp), 'sqrt': (_DEFAULT, _DEFAULT.sqrt), 'ln': (_LN, _LN.ln),
    'log10': (_LOG10, _LOG10.log10),
}


def calculate(request: bytes) -> bytes:
    """The result of `operation:operand` or `operation:operand:operand`; operands are decimals as texts.

    A decimal is `text with exponent:text without exponent:bytes in msgpack`. A comparison gives `true` or `false`; scale
    and precision give a number. Failures: `incorrect:NUMBER` of an operand that is no decimal in range, `failed`.
    """
    operation, *texts = request.decode(errors='replace').split(':')
    operands = []
    for number, text in enumerate(texts, 1):
        value = _read(text)
        if value is None:
            return b'incorrect:%d' % number
        operands.append(value)
    one, other = operands[0], operands[-1]
    if operation in ('=', '<', '<='):
        is_true = one == other if operation == '=' else one < other if operation == '<' else one <= other
        return b'true' if is_true else b'false'
    if operation in ('scale', 'precision'):
        return b'%d' % (_scale(one) if operation == 'scale' else _precision(one))
    context, made = _made(operation, one, other)
    if not made.is_finite() or any(context.flags[failure] for failure in _FAILURES):
        return b'failed'
    return b'%s:%s:%s' % (str(made).encode(), _shown(made).encode(), _packed(made))


def _read(text: str) -> Decimal | None:
    if not _NUMBER.fullmatch(text):
        return None
    _DEFAULT.clear_flags()
    value = _DEFAULT.create_decimal(text)
    if not value.is_finite() or any(_DEFAULT.flags[failure] for failure in _FAILURES):
        return None
    return value


def _made(operation: str, one: Decimal, other: Decimal) -> tuple[Context, Decimal]:
    _DEFAULT.clear_flags()
    if operation in ('round', 'rescale', 'trim'):
        made = (_trimmed(one) if operation == 'trim' else _rounded(one, int(other)) if operation == 'round'
                else _rescaled(one, int(other)))
        _DEFAULT.clear_flags()
        return _DEFAULT, made
    if operation in _TWO:
        return _DEFAULT, _TWO[operation](one, other)
    context, function = _ONE[operation]
    context.clear_flags()
    return context, function(one)


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _scale(value: Decimal) -> int:
    return max(0, -_exponent(value))


def _precision(value: Decimal) -> int:
    digits, exponent = len(value.as_tuple().digits), _exponent(value)
    return max(digits, -exponent) if exponent <= 0 else digits + exponent


def _rescaled(value: Decimal, scale: int) -> Decimal:
    """The value with another scale; the value itself if its digits would be too many."""
    if not 0 <= scale <= PRECISION - (len(value.as_tuple().digits) - _scale(value)):
        return value
    made = value.quantize(Decimal((0, (1,), -scale)), context=_DEFAULT)
    return made if made.is_finite() else value


def _rounded(value: Decimal, scale: int) -> Decimal:
    """The value with fewer digits; by a carry their number stays, and so the scale may become less."""
    if not 0 <= scale < _scale(value):
        return value
    digits = max(len(value.as_tuple().digits) - _scale(value) + scale, 1)
    return Context(prec=digits, rounding=decimal.ROUND_HALF_UP, Emin=-scale, Emax=PRECISION - 1, clamp=0,
                   traps=[]).plus(value)


def _trimmed(value: Decimal) -> Decimal:
    """The value without zeros at the end of its fraction."""
    sign, digits, _ = value.as_tuple()
    exponent = _exponent(value)
    if not any(digits):
        return Decimal((sign, (0,), 0))
    while exponent < 0 and digits[-1] == 0:
        digits, exponent = digits[:-1], exponent + 1
    return Decimal((sign, digits, exponent))


def _shown(value: Decimal) -> str:
    digits, exponent = ''.join(map(str, value.as_tuple().digits)), _exponent(value)
    if exponent >= 0:
        digits += '0' * exponent
    else:
        digits = digits.rjust(1 - exponent, '0')
        digits = f'{digits[:exponent]}.{digits[exponent:]}'
    return '-' + digits if value.is_signed() else digits


def _packed(value: Decimal) -> bytes:
    """The scale as a msgpack integer, then two digits in each byte; the last half byte is the sign."""
    scale = -_exponent(value)
    head = bytes((scale % 256,)) if -32 <= scale < 128 else b'\xd0' + bytes((scale % 256,))
    digits = ''.join(map(str, value.as_tuple().digits)) + ('d' if value.is_signed() else 'c')
    return head + bytes.fromhex(digits.rjust(len(digits) + len(digits) % 2, '0'))
