"""The memory of the process: totals, the garbage collector's state, and counts and sizes by type."""
from __future__ import annotations

import gc
import sys
import tracemalloc
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path
from types import MethodDescriptorType
from typing import Any

from boxsession.inspection.objects import Pause, parts, scan, taken_pieces
from boxsession.inspection.shown import class_name

__all__ = ['mro', 'overview', 'short_name', 'types']

# Fields of /proc/self/status by their names here.
_STATUS = {'VmRSS': 'resident_bytes', 'VmHWM': 'peak_bytes', 'VmSwap': 'swapped_bytes'}
_mro = type.__dict__['__mro__'].__get__
_basic_size = type.__dict__['__basicsize__'].__get__
# Nested collections that the collector does not track are followed down to this depth.
_DEPTH = 4


def mro(kind: type) -> tuple[type, ...]:
    """The classes in which an attribute of an instance is looked up. Runs no code of the metaclass."""
    return _mro(kind)


def short_name(kind: type) -> str:
    """The module and the name of a class; of built-in ones only the name."""
    return class_name(kind).removeprefix('builtins.')


def overview() -> dict[str, Any]:
    """The memory of the process, the collector's generations (the youngest first), and the state of tracemalloc."""
    generations = [{'count': count, 'threshold': threshold, **stats}
                   for count, threshold, stats in zip(gc.get_count(), gc.get_threshold(), gc.get_stats(), strict=False)]
    row: dict[str, Any] = {'process': _of_process(), 'gc': {'enabled': gc.isenabled(), 'frozen': gc.get_freeze_count(),
                                                          'generations': generations}}
    traced, peak = tracemalloc.get_traced_memory()
    row['tracemalloc'] = {'tracing': tracemalloc.is_tracing()}
    if tracemalloc.is_tracing():
        row['tracemalloc'].update(frames=tracemalloc.get_traceback_limit(), traced_bytes=traced, peak_bytes=peak,
                                  own_bytes=tracemalloc.get_tracemalloc_memory())
    return row


def _of_process() -> dict[str, int]:
    try:
        lines = Path('/proc/self/status').read_text(errors='replace').splitlines()
    except OSError:             # no /proc
        return {}
    fields = dict(line.partition(':')[::2] for line in lines)
    return {ours: int(fields[theirs].split()[0]) * 1024 for theirs, ours in _STATUS.items() if theirs in fields}


@dataclass(slots=True)
class _Row:
    kind: type
    has_own_size: bool      # sys.getsizeof() runs code of the program
    count: float = 0.0
    size: float = 0.0

    def add(self, item: Any, share: float) -> None:
        size = 0
        if not self.has_own_size:
            try:
                size = sys.getsizeof(item)
            except Exception:           # an extension's object in a state that has no size
                pass
        self.count += share
        self.size += share * (size or _basic_size(self.kind))


class _Rows(dict[int, _Row]):
    """Rows by the ids of the types: a metaclass may define a hash. A row keeps its type, so the ids stay valid."""

    def of(self, kind: type) -> _Row:
        row = self.get(id(kind))
        if row is None:
            sizes = (vars['__sizeof__'] for vars in map(_class_vars, _mro(kind)) if '__sizeof__' in vars)
            row = self[id(kind)] = _Row(kind, type(next(sizes, None)) is not MethodDescriptorType)
        return row

    def add_untracked(self, part: list[Any], pause: Pause, share: float = 1.0, depth: int = 0) -> None:
        """Counts objects that the collector does not track: each of its references counts for an equal share of it."""
        for item in filterfalse(gc.is_tracked, part):
            own = share / max(1, sys.getrefcount(item) - _OWN_REFERENCES)
            self.of(type(item)).add(item, own)
            if (type(item) is dict or type(item) is tuple) and depth < _DEPTH and own > 0.001:
                pause()
                for inner in parts(item, pause):
                    self.add_untracked(inner, pause, own, depth + 1)


_class_vars = type.__dict__['__dict__'].__get__
# References to an object in add_untracked() that are our own: the list's, the variable's, and (before 3.14) the argument's.
_OWN_REFERENCES = 2 if sys.version_info >= (3, 14) else 3


def types(let_others_run: Pause, most: int) -> dict[str, Any]:
    """How many objects of each type there are, and their own sizes in bytes: the largest sums first.

    The collector tracks collections and objects with attributes. Other objects (strings, numbers, collections of only such)
    are found through those that refer to them. Their counts are estimates: a reference counts for 1/n of an object with n
    references.

    Args:
        let_others_run: lets others run. Called from time to time.
        most: the number of types.
    """
    rows = _Rows()
    with scan(let_others_run) as (found, pause):
        count = len(found)
        for piece in taken_pieces(found, pause):
            for item in piece:
                rows.of(type(item)).add(item, 1)
                for part in parts(item, pause):
                    rows.add_untracked(part, pause)
            del item, part, piece
    listed = sorted(rows.values(), key=lambda row: -row.size)
    return {'tracked_objects': count, 'frozen_objects': gc.get_freeze_count(),
            'types': [{'type': short_name(row.kind), 'count': round(row.count), 'bytes': round(row.size)}
                      for row in listed[:most]]}
