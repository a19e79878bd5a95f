"""Writes short, plain values as YAML without the emitter, in the same bytes. The emitter takes 20 times as long."""
from __future__ import annotations

import re
from typing import Any

from boxsession.python.values import float_text, looks_typed

__all__ = ['quick_document']

# Values in a document, and its depth: larger ones are left to the emitter, which may be interrupted.
_MOST, _DEEPEST = 200, 16
# The emitter folds lines at a space behind this column.
_WIDTH = 72
_PLAIN = re.compile(r'[A-Za-z_/][\w./-]*(?: [\w./-]+)*', re.ASCII)
_QUOTED = re.compile(r'[\w.:+/-]*(?: [\w.:+/-]+)*', re.ASCII)
# Texts that are quoted if they are not plain.
_WITHOUT_ESCAPES = re.compile(r'[!-~]+(?: [!-~]+)*')
_WORDS = {None: 'null', True: 'true', False: 'false'}
# Larger integers are written in another way.
_INTEGER_MAX = 10 ** 30


class _Other(Exception):
    pass


def quick_document(value: Any) -> bytes | None:
    """The document of a reply with one value; None if it needs the emitter."""
    out = ['---\n- ']
    try:
        _write(value, out, 2, 0)
    except _Other:
        return None
    out.append('...\n')
    return ''.join(out).encode()


def _write(value: Any, out: list[str], column: int, depth: int) -> None:
    """Writes a value whose first line begins at `column`, up to the end of its last line."""
    kind = type(value)
    if kind is list or kind is tuple:
        _list(value, out, column, depth + 1)
    elif kind is dict:
        _map(value, out, column, depth + 1)
    else:
        out.append(_scalar(value, column) + '\n')


def _list(items: list[Any] | tuple[Any, ...], out: list[str], column: int, depth: int) -> None:
    if not items:
        out.append('[]\n')
        return
    _check(len(items), out, depth)
    between = ''
    for item in items:
        out.append(between + '- ')
        _write(item, out, column + 2, depth)
        between = ' ' * column


def _map(items: dict[Any, Any], out: list[str], column: int, depth: int) -> None:
    if not items:
        out.append('{}\n')
        return
    _check(len(items), out, depth)
    between = ''
    for key, value in items.items():
        if key == '__builtins__':
            raise _Other
        shown = between + _scalar(key, column)
        between = ' ' * column
        kind = type(value)
        if value and (kind is list or kind is tuple):       # it begins at the column of its key
            out.append(f'{shown}:\n{between}')
            _list(value, out, column, depth + 1)
        elif value and kind is dict:
            out.append(f'{shown}:\n{between}  ')
            _map(value, out, column + 2, depth + 1)
        else:
            out.append(shown + ': ')
            _write(value, out, column + len(shown) + 2, depth)


def _check(count: int, out: list[str], depth: int) -> None:
    if depth > _DEEPEST or len(out) + count > _MOST:
        raise _Other


def _scalar(value: Any, column: int) -> str:
    kind = type(value)
    if kind is str:
        if len(value) > _WIDTH - column:
            raise _Other
        if looks_typed(value):
            if _QUOTED.fullmatch(value):
                return f"'{value}'"
        elif _PLAIN.fullmatch(value):
            return str(value)
        elif ': ' in value and _WITHOUT_ESCAPES.fullmatch(value):
            quoted = "'" + value.replace("'", "''") + "'"
            if len(quoted) <= _WIDTH - column:
                return quoted
    elif kind is int:
        if -_INTEGER_MAX < value < _INTEGER_MAX:
            return str(value)
    elif kind is float:
        return float_text(value)
    elif value is None or kind is bool:
        return _WORDS[value]
    raise _Other
