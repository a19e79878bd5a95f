"""What a thread can see of the loop's thread without its help: its stack, the greenlets, memory. Calls no code of the
program, takes no lock, and keeps nothing alive. What changes meanwhile may be missing; it does no harm.
"""
from __future__ import annotations

import gc
from dataclasses import dataclass
from itertools import chain, compress, tee
from typing import Any

from greenlet import greenlet

from boxsession.base.stacks import frames_from
from boxsession.inspection.frames import Call, calls_of, calls_of_thread, own_call, started_by
from boxsession.inspection.living import frame_of, has_ended, kinds_of_greenlets
from boxsession.inspection.reprs import reads_for

__all__ = ['calls_of_thread', 'greenlet_groups', 'is_running', 'memory', 'shown_calls', 'stack_of', 'waits_for_events']

_PAGE_BYTES = 4096


def is_running(found: Any) -> bool:
    """Whether a greenlet runs now, in its thread, or waits for a repr() that runs."""
    return frame_of(found) is None and greenlet.__bool__(found) or reads_for(found) is not None


def stack_of(found: Any, thread: int) -> list[Call]:
    """The stack of a greenlet that belongs to a thread, the innermost call first; empty if it does not run any more."""
    if is_running(found):
        return calls_of_thread(thread)
    return calls_of(frames_from(map(frame_of, (found,))))


def waits_for_events(stack: list[Call]) -> bool:
    """Whether a thread with this stack lets its event loop wait, or the loop is between two events."""
    return bool(stack) and stack[0].is_of_gevent and stack[0].file.endswith('hub.py') and stack[0].function in (
        'run', 'Hub.run')


def shown_calls(stack: list[Call]) -> list[str]:
    """A stack as text, a line each."""
    return [f'{call.where} {call.name}' for call in stack]


@dataclass(slots=True)
class _Group:
    stack: list[Call]
    state: str
    count: int = 0


def greenlet_groups(words: str = '') -> list[dict[str, Any]]:
    """The living greenlets, grouped by equal stacks and states; the most numerous group first.

    Looking for them holds the GIL for about 50 ms per million objects of the program.

    Args:
        words: each must be part of what a group shows.
    """
    groups: dict[Any, _Group] = {}
    found = _greenlets()
    while found:
        at = found.pop()
        if has_ended(at):
            continue
        stack = calls_of(frames_from(map(frame_of, (at,))))
        state = 'waiting' if stack else 'running' if greenlet.__bool__(at) else f'not started: {type(at).__name__}'
        if stack and waits_for_events(stack):
            state = 'hub'
        key = state, tuple((call.file, call.line, call.function) for call in stack)
        group = groups.setdefault(key, _Group(stack, state))
        group.count += 1
    rows = [_row(group) for group in sorted(groups.values(), key=lambda group: -group.count)]
    wanted = words.split()
    return [row for row in rows if all(word in ' '.join(map(str, row.values())) for word in wanted)]


def _greenlets() -> list[Any]:
    """All greenlets, the ended ones, too. One call of C: no other object is kept alive while another thread runs."""
    kinds = kinds_of_greenlets()
    objects, same = tee(chain.from_iterable(map(gc.get_objects, (None,))))
    return list(compress(objects, map(kinds.__contains__, map(id, map(type, same)))))


def _row(group: _Group) -> dict[str, Any]:
    at, run = own_call(group.stack), started_by(group.stack)
    return {'count': group.count, 'run': run.name if run else '', 'at': at.name if at else '',
            'where': at.where if at else '', 'state': group.state}


def memory() -> dict[str, Any]:
    """The memory of the process, and the counters of Python's garbage collector."""
    resident = 0
    try:
        with open('/proc/self/statm', 'rb') as file:
            resident = int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        pass
    return {'resident_bytes': resident, 'gc_counts': list(gc.get_count()), 'gc_thresholds': list(gc.get_threshold()),
            'gc_collections': [row['collections'] for row in gc.get_stats()]}
