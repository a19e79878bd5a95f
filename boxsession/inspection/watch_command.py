r"""The arguments of `\watch` and its like: `TARGET [if EXPR] [show EXPR,...] [n=10] [rate=10] [seconds=60]`. Pure."""
from __future__ import annotations

import ast
import re
from typing import Any, NamedTuple

__all__ = ['DEFAULTS', 'Misread', 'Request', 'read_line', 'read_options']

# What each kind of watch does, unless the user says something else, and the greatest numbers.
DEFAULTS: dict[str, dict[str, float]] = {
    'watch': {'n': 10, 'rate': 10, 'depth': 2, 'seconds': 60},
    'stack': {'n': 100, 'rate': 1000, 'depth': 20, 'seconds': 60},
    'trace': {'n': 3, 'rate': 10, 'depth': 1, 'seconds': 60},
    'count': {'seconds': 60},
}
_MOST = {'watch': {'n': 100_000, 'rate': 1000, 'depth': 5, 'seconds': 3600},
         'stack': {'n': 100_000, 'rate': 10_000, 'depth': 50, 'seconds': 3600},
         'trace': {'n': 1000, 'rate': 100, 'depth': 5, 'seconds': 3600},
         'count': {'seconds': 3600}}
# Characters in which the end of a condition is looked for: more than an expression may have.
_CHARACTERS = 1100
_OPTION = re.compile(r'(?:^|\s)(n|rate|depth|seconds)=([^=\s]\S*)\s*$')
_LEADING = re.compile(r'(n|rate|depth|seconds)=([^=\s]\S*)(?:\s+|$)')
_ASSIGNMENT = re.compile(r'([a-z_]+)=\S*')
_NUMBER = re.compile(r'(-?\d{1,15}(?:\.\d{1,9})?)(/s|s)?')


class Misread(ValueError):
    """The arguments are wrong. The text says why."""


class Request(NamedTuple):
    """What is to be watched."""

    kind: str
    target: str
    condition: str          # '' without one
    shows: str
    numbers: dict[str, float]


def read_line(kind: str, line: str) -> Request:
    """The arguments of a command.

    Raises:
        Misread: they are wrong.
    """
    options: dict[str, Any] = {}
    rest = line.strip()
    while match := _OPTION.search(rest):
        _add(options, match)
        rest = rest[:match.start()]
    target, _, rest = rest.strip().partition(' ')
    rest = rest.strip()
    while match := _LEADING.match(rest):        # n=5 if ms > 100
        _add(options, match)
        rest = rest[match.end():]
    if rest.startswith('if ') or rest == 'if':
        options['if'], rest = _until_show(rest[3:])
    if rest.startswith('show ') or rest == 'show':
        options['show'], rest = rest[5:].strip(), ''
        _check_order(options['show'])
    if not target or rest:
        if unknown := _ASSIGNMENT.match(rest):
            raise Misread(f'\\{kind} has no {unknown[1]}. {_usage(kind)}')
        raise Misread(f"'{rest}' is not expected there. {_usage(kind)}" if rest else _usage(kind))
    return read_options(kind, target, options)


def _add(options, match):
    if match[1] in options:
        raise Misread(f'{match[1]} is there twice')
    options[match[1]] = match[2]


def _check_order(shows):
    before, found, _ = shows.partition(' if ')
    if found and not _is_expression(f'({shows},)') and _is_expression(f'({before},)'):
        raise Misread("'if' comes before 'show'")


def read_options(kind: str, target: str, options: dict[str, Any]) -> Request:
    """The arguments of a function: `if`, `show`, and the numbers.

    Raises:
        Misread: they are wrong.
    """
    numbers = dict(DEFAULTS[kind])
    for name, value in options.items():
        if name in ('if', 'show'):
            if not isinstance(value, str) or not value.strip():
                raise Misread(f'{name} needs an expression. {_usage(kind)}')
            if name == 'show' and kind != 'watch':
                raise Misread(f'\\{kind} has no show. {_usage(kind)}')
        elif name in numbers:
            numbers[name] = _number(kind, name, value)
        else:
            raise Misread(f'\\{kind} has no {name}. {_usage(kind)}')
    return Request(kind, target.strip(), options.get('if', '').strip(), options.get('show', '').strip(), numbers)


def _number(kind: str, name: str, value: Any) -> float:
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        if match is None or match[2] == '/s' and name != 'rate' or match[2] == 's' and name != 'seconds':
            raise Misread(f"{name}={value} is no number. {_usage(kind)}")
        value = float(match[1])
    most = _MOST[kind][name]
    least = 0 if name in ('rate', 'seconds') else 1
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most or not value:
        given = f'{value:g}' if isinstance(value, float) else value
        raise Misread(f'{name} is {given}: expected a number ' + (f'from {least} to {most:g}' if least
                      else f'above 0, {most:g} at most'))
    return value if name in ('rate', 'seconds') else int(value)


def _until_show(text: str) -> tuple[str, str]:
    """An expression, and what follows it: `show` may also be in a text of the expression."""
    at = -1
    # Not longer ones than an expression may be: each place is parsed from the begin of the text.
    while (at := text.find(' show ', at + 1, _CHARACTERS)) >= 0:
        if _is_expression(text[:at].strip()):
            return text[:at].strip(), text[at:].strip()
    return text.strip(), ''


def _is_expression(text: str) -> bool:
    try:
        ast.parse(text, mode='eval')
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def _usage(kind: str) -> str:
    options = ''.join(f' [{name}={number:g}]' for name, number in DEFAULTS[kind].items())
    show = ' [show EXPR,...]' if kind == 'watch' else ''
    return f'Usage: \\{kind} MODULE:FUNCTION [if EXPR]{show}{options}'
