"""Shows the list of sessions as a table. Pure."""
from __future__ import annotations

from typing import Any

from boxsession.client.values import Unshowable, values, visible

__all__ = ['sessions_table']

_GAP = '  '
# The statement is cut to the rest of the line, but not below this.
_LEAST_STATEMENT = 20
_UNITS = ((86400, 'd'), (3600, 'h'), (60, 'min'), (0, 's'))


def sessions_table(document: bytes, own: str, columns: int) -> bytes | None:
    r"""The reply to `\sessions` as a table.

    Args:
        own: the id of the client's own session, which gets a star.
        columns: the width of the terminal.

    Returns:
        The table; None if the document is no list of sessions.
    """
    try:
        [sessions] = values(document)
        rows = [_row(session, own) for session in sessions]
    except (Unshowable, ValueError, TypeError, KeyError, AttributeError):
        return None
    if not rows:
        return None
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    if 'statement' in names:
        before = sum(widths[name] + len(_GAP) for name in names[:-1])
        widths['statement'] = max(_LEAST_STATEMENT, columns - before - 1)
    lines = [_GAP.join(_cell(row[name], widths[name]) for name in names).rstrip()
             for row in [{name: name for name in names}, *rows]]
    return ('\n'.join(lines) + '\n').encode(errors='backslashreplace')


def _row(session: dict[str, Any], own: str) -> dict[str, str]:
    number, uid = str(session['id']), session.get('peer_uid')
    cells = {
        'id': f'{number} *' if number == own else number, 'user': session['user'], 'name': session['name'],
        'client': session['peer'] if uid is None else f'uid {uid}, pid {session["peer_pid"]}',
        'listener': session['listener'], 'type': session['type'] if session['type'] != 'console' else '',
        'connected': _duration(session['connected_s']), 'idle': _duration(session['idle_s']),
        'statements': session['statements'], 'state': session['state'], 'statement': session['statement'],
    }
    return {name: ' '.join(visible(str(value if value is not None else '')).split()) for name, value in cells.items()}


def _cell(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[:width - 3] + '...'


def _duration(seconds: float) -> str:
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size)
    return f'{int(seconds // (size or 1))} {unit}'
