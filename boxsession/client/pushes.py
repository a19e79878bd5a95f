r"""Shows the pushes of `\tail`, `\profile`, `\watch` and its like as a line each. Pure."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from boxsession.client.values import Unshowable, text_of_push, values, visible

__all__ = ['line_of_push', 'shown_push']

# A record's further lines begin with this: none of them looks like another record.
_INDENT = '    '
# Of a trace: functions in one, and levels.
_BRANCHES, _LEVELS = 200, 5


def shown_push(document: bytes, statement: bytes, form: str) -> tuple[bytes, str]:
    """A push of a statement, and the format of its text for `Screen.show`.

    Args:
        form: the format of replies: only for 'yaml' it may be a line.
    """
    line = line_of_push(statement, document) if form == 'yaml' else None
    return (text_of_push(document), 'yaml') if line is None else (line, 'table')


def line_of_push(statement: bytes, document: bytes) -> bytes | None:
    r"""A push as a line: `03:12:09.412 DEBUG shop.orders: order 6119 is done`.

    Args:
        statement: what the user typed.
        document: the push.

    Returns:
        The line (more, if a record has more); None if it is no push of one of these commands.
    """
    show = _COMMANDS.get(statement.strip().partition(b' ')[0])
    if show is None:
        return None
    try:
        # A push is one value: here a mapping. Its keys are not trusted.
        [push] = values(document)
        text = show(push)
    except (Unshowable, ValueError, TypeError, KeyError, AttributeError):
        return None
    return None if text is None else (visible(text) + '\n').encode(errors='backslashreplace')


def _tail(push: dict[str, Any]) -> str | None:
    if 'message' in push:
        # 2026-11-27T03:12:09.412Z
        clock = push['time'].partition('T')[2].removesuffix('Z')
        text = '\n'.join([push['message'], *filter(None, [push.get('exception')])])
        return f'{clock} {push["level"]} {_line(push["logger"])}: {_indented(text)}'
    if 'dropped' in push:
        return f'({push["dropped"]} records were dropped: they came faster than this connection took them)'
    if 'tail' in push:
        first = f'({_line(push["tail"])}: level {push["level"]}; the logger lets {push["logger_level"]} and above through. '
        return first + 'Times are UTC. Ctrl-C ends this.)' + (f'\n({_indented(push["note"])})' if 'note' in push else '')
    return f'({_indented(push["note"])})' if 'note' in push else None


def _profile(push: dict[str, Any]) -> str:
    row = push['profile']
    return f'{row["seconds"]} s: {row["busy_percent"]} % busy, {row["samples"]} samples'


def _watch(push: dict[str, Any]) -> str | None:
    """`20:33:39.017    2.149 ms  shop:serve  (amount=33.0, currency='EUR') -> {'paid': 33.0}`."""
    if 'arguments' not in push:
        return _watch_note(push)
    arguments = ', '.join(f'{name}={_folded(name, value)}' for name, value in push['arguments'].items())
    where = ' '.join(filter(None, [str(push['greenlet']), f'session {push["session"]}' if 'session' in push else '',
                                   str(push.get('request', ''))]))
    ended = f'!! {push["error"]}' if 'error' in push else f'-> {push["result"]}'
    values = f' ({push["values"]} values)' if 'values' in push else ''
    shows = ''.join(f'\n{name} = {value}' for name, value in push.get('show', {}).items())
    ended = f'{_line(ended)}{values}{_indented(shows)}'
    return f'{_time(push)} {push["ms"]:>9} ms  {_line(where)}  ({_line(arguments)}) {ended}'


def _folded(name: str, value: Any) -> str:
    """The fields of `self` would hide the arguments: `show self` shows them."""
    opening, space, _ = str(value).partition(' ')
    return f'{opening} ...>' if name == 'self' and opening.startswith('<') and space else str(value)


def _trace(push: dict[str, Any]) -> str | None:
    text = _watch(push)
    rows = push.get('trace')
    return text + ''.join(_branches(rows, 1)) if text is not None and isinstance(rows, list) else text


def _branches(rows: list[dict[str, Any]], level: int) -> Iterator[str]:
    for row in rows[:_BRANCHES]:
        errors = f', {row["errors"]} errors' if 'errors' in row else ''
        times = '' if row['calls'] == 1 else f' {row["calls"]} times'
        yield f'\n{_INDENT * level}{row["ms"]:>9} ms  {_line(row["function"])}{times}{errors}  {_line(row["where"])}'
        if level < _LEVELS:
            yield from _branches(row.get('trace', []), level + 1)


def _stack(push: dict[str, Any]) -> str | None:
    stack = push.get('stack')
    return '\n    '.join(map(_line, stack)) if isinstance(stack, list) else _watch_note(push)


def _count(push: dict[str, Any]) -> str | None:
    if 'per_second' not in push:
        return _watch_note(push)
    times = '  '.join(f'{name} {value} ms' for name, value in push.get('ms', {}).items())
    return f'{_time(push)} {push["calls"]:>8} calls {push["errors"]:>6} errors  {times}'.rstrip()


def _watch_note(push: dict[str, Any]) -> str | None:
    if 'parameters' in push:
        target = next(str(push[kind]) for kind in ('watch', 'trace', 'stack', 'count') if isinstance(push.get(kind), str))
        first = f'({_line(target)}: {_line(push["kind"])}, {_line(push["where"])}. Times are UTC. Ctrl-C ends this.)'
        return first + (f'\n({_indented(push["note"])})' if 'note' in push else '')
    return f'({_indented(push["note"])})' if 'note' in push else None


def _time(push: dict[str, Any]) -> str:
    clock: str = push['time'].partition('T')[2].removesuffix('Z')
    return clock


_COMMANDS = {b'\\tail': _tail, b'\\profile': _profile, b'\\watch': _watch, b'\\trace': _trace, b'\\stack': _stack,
             b'\\count': _count}


def _line(text: Any) -> str:
    return ' '.join(str(text).split())


def _indented(text: Any) -> str:
    return str(text).rstrip('\n').replace('\n', '\n' + _INDENT)
