"""The variables of a stack of frames as text."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from boxsession.inspection.frames import calls_of, local_items, utf8
from boxsession.inspection.reprs import Reprs
from boxsession.inspection.shown import assignment

__all__ = ['variables']

# Calls, the innermost first, and variables of each that are shown.
_CALLS, _VARIABLES = 30, 50


def variables(frames: list[Any], pause: Callable[[], None], with_repr: bool = False) -> list[dict[str, str]]:
    """The variables of each call, cut and without secrets, the innermost call first. Those of the console's own calls are
    left out: they hold what other sessions send.

    Args:
        frames: the stack, the innermost frame first. It is empty afterwards.
        pause: lets others run. Called from time to time. All values are read before.
        with_repr: shows objects of the program's classes by their repr(), within limits. It runs code of the program.
    """
    stack = calls_of(frames)
    found = [(call.name, *_values(frame)) for frame, call in zip(frames[:_CALLS], stack, strict=False)
             if not call.is_of_console]
    frames.clear()
    rows = []
    while found:
        name, values, more = found.pop(0)
        row = {'call': name}
        while values:
            variable, value = values.pop(0)
            row[utf8(variable)] = assignment(variable, value, Reprs() if with_repr else None)
            del value
            pause()
        if more:
            row['...'] = f'{more} more variables'
        rows.append(row)
    if len(stack) > _CALLS:
        rows.append({'call': f'... {len(stack) - _CALLS} more calls'})
    return rows


def _values(frame: Any) -> tuple[list[tuple[str, Any]], int]:
    """The first variables of a frame, and the number of the others."""
    found, count = local_items(frame, _VARIABLES)
    return [(name, value) for name, value in found if type(name) is str], count - len(found)
