r"""Shows the answers of `\sessions`, `\greenlets`, `\threads`, `\profile` and `\memory types` as tables. Pure."""
from __future__ import annotations

import textwrap
from typing import Any

from boxsession.client.values import Unshowable, values, visible

__all__ = ['table']

_GAP = '  '
# The column that is cut to the rest of the line is not cut below this; names of functions make room for it, down to _NAME.
_LEAST, _NAME = 20, 24
_FUNCTIONS = ('run', 'at', 'call', 'function')
# Their ends tell more than their beginnings.
_CUT_IN_FRONT = (*_FUNCTIONS, 'where')
_CUT = '...'
# Calls that are shown of a thread, the innermost ones.
_CALLS = 8
_UNITS = ((86400, 'd'), (3600, 'h'), (60, 'min'), (0, 's'))


def table(statement: bytes, document: bytes, own: str, columns: int) -> bytes | None:
    r"""The reply to one of these commands as a table.

    Args:
        own: the id of the client's own session, which gets a star in `\sessions`.
        columns: the width of the terminal.

    Returns:
        The table; None for other statements, and for errors.
    """
    words = statement.split()
    command = b' '.join(words[:2] if words[:1] == [b'\\memory'] else words[:1])
    # A server need not have such a command with such an answer.
    try:
        if command == b'\\sessions' and len(words) == 1:
            lines = _sessions(document, own, columns)
        elif command in _TABLES:
            lines = _TABLES[command](values(document), columns)
        else:
            return None
    except (Unshowable, ValueError, TypeError, LookupError, AttributeError):
        return None
    return ('\n'.join(lines) + '\n').encode(errors='backslashreplace') if lines else None


def _sessions(document, own, columns):
    [sessions] = values(document)
    return _lines([_session(session, own) for session in sessions], columns, 'statement')


def _session(session: dict[str, Any], own: str) -> dict[str, str]:
    number, uid, language = str(session['id']), session.get('peer_uid'), session.get('language', 'lua')
    cells = {
        'id': f'{number} *' if number == own else number, 'user': session['user'], 'name': session['name'],
        'client': session['peer'] if uid is None else f'uid {uid}, pid {session["peer_pid"]}',
        'listener': session['listener'], 'type': session['type'] if session['type'] != 'console' else '',
        'language': language if language != 'lua' else '',
        'connected': _duration(session['connected_s']), 'idle': _duration(session['idle_s']),
        'statements': session['statements'], 'state': session['state'], 'statement': session['statement'],
    }
    return {name: _text(value) for name, value in cells.items()}


def _greenlets(found, columns):
    [groups] = found
    if not groups:
        return ['no greenlet fits. Each word is part of a function, a place or a state; or owner=program, but not on',
                'rescue listeners']
    rows = []
    for group in groups:
        # not started: NAME
        state, _, target = _text(group['state']).partition(': ')
        run = target or (_text(group['run']) if group['run'] != group['at'] else '')
        ids = group.get('ids', [])          # a rescue listener has none, and no owner and age
        more = ' ' + _CUT if group['count'] > len(ids) > 0 else ''
        rows.append({
            'count': _text(group['count']), 'state': state, 'owner': _text(group.get('owner')),
            'seen for': _duration(group['age_s']) if ids else '',
            'ids': ' '.join(map(_text, ids)) + more, 'run': run, 'at': _text(group['at']),
            'where': _text(group['where'])})
    return _lines(rows, columns, 'where')


def _threads(found, columns):
    [threads] = found
    lines = []
    for thread in threads:
        native = f'native id {_text(thread["native_id"])}' if thread['native_id'] is not None else ''
        marks = [native, 'daemon' if thread['is_daemon'] else '', 'event loop' if thread['is_loop'] else '']
        lines.append(_GAP.join([_text(thread['name']) or '(no name)', *filter(None, marks)]))
        calls = [dict(zip(('where', 'call'), _text(call).split(' ', 1), strict=True)) for call in thread['stack'][:_CALLS]]
        lines += [_GAP + line for line in _lines([{'call': call['call'], 'where': call['where']} for call in calls],
                                                 columns - len(_GAP), 'where')[1:]]
        if len(thread['stack']) > _CALLS:
            lines.append(f'{_GAP}and {len(thread["stack"]) - _CALLS} outer calls (\\set output lua,block shows all)')
    return lines


def _page(found, columns):
    """A mapping: its plain values, then each of its lists as a table."""
    [answer] = found
    lines, after = [], []
    plain = {_text(name): _text(value) for name, value in answer.items() if not isinstance(value, list)}
    if 'error' in plain:
        return []
    short = ', '.join(f'{name} {value}' for name, value in plain.items() if ' ' not in value)
    after += [f'{name}: {value}' for name, value in plain.items() if ' ' in value]
    lines += textwrap.wrap(short, max(_LEAST, columns - 1), break_on_hyphens=False)
    for rows in (rows for rows in answer.values() if isinstance(rows, list) and rows):
        # A row need not have all of them. Places are the last column.
        names = sorted(dict.fromkeys(name for row in rows for name in row), key=lambda name: name == 'where')
        lines += ['', *_lines([{_text(name): _text(row.get(name)) for name in names} for row in rows], columns, 'where')]
    return [*lines, *([''] if after else []), *after]


_TABLES = {b'\\greenlets': _greenlets, b'\\threads': _threads, b'\\profile': _page, b'\\memory types': _page}


def _lines(rows: list[dict[str, str]], columns: int, cut: str) -> list[str]:
    """The lines of a table, with the names of its columns. Empty columns are left out.

    Args:
        rows: the cells by the names of the columns; each row has the same names.
        cut: the last column, which gets the rest of the line.
    """
    if not rows:
        return []
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    if cut in names:
        room = columns - 1 - sum(widths[name] + len(_GAP) for name in names[:-1])
        for name in _FUNCTIONS:
            if name in names and room < widths[cut]:
                less = max(0, min(widths[cut] - room, widths[name] - _NAME))
                widths[name], room = widths[name] - less, room + less
        widths[cut] = max(_LEAST, room)
    numbers = {name for name in names if name != 'id' and all(_is_number(row[name]) for row in rows if row[name])}
    return [_GAP.join(_cell(row[name], widths[name], name in _CUT_IN_FRONT, name in numbers) for name in names).rstrip()
            for row in [{name: name for name in names}, *rows]]


def _cell(text: str, width: int, cuts_front: bool, is_number: bool) -> str:
    if len(text) <= width:
        return text.rjust(width) if is_number else text.ljust(width)
    return _CUT + text[len(_CUT) - width:] if cuts_front else text[:width - len(_CUT)] + _CUT


def _is_number(text: str) -> bool:
    return text.replace('.', '', 1).removeprefix('-').isdecimal()


def _text(value: Any) -> str:
    """A value as one line that is safe for a terminal."""
    return ' '.join(visible(str(value if value is not None else '')).split())


def _duration(seconds: float) -> str:
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size)
    return f'{int(seconds // (size or 1))} {unit}'
