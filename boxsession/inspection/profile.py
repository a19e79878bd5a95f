"""A profile: how long which stack ran and waited. Its hottest functions, and the same for speedscope.

Shares are of the time that has passed. Nothing here keeps a frame.
"""
from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from boxsession.base.stacks import DEPTH

__all__ = ['IDLE', 'UNSEEN', 'Profile']

# Stacks of no code: the loop waits for events; it ran code between two looks, in turns that were too short to be seen.
IDLE, UNSEEN = (0,), (1,)
_NAMES = {0: '(idle)', 1: '(short turns, not seen)'}
# Different stacks, beyond which only the innermost call is kept; functions and greenlets of the answer.
_STACKS, _FUNCTIONS, _GREENLETS = 20_000, 20, 10
# Samples in one piece of the file.
_PIECE = 500

Stack = tuple[int, ...]


@dataclass(slots=True)
class _Sums:
    number: int
    count: int = 0
    ran: float = 0.0
    waited: float = 0.0


@dataclass(slots=True)
class _Row:
    count: int = 0
    own: float = 0.0
    own_waited: float = 0.0
    total: float = 0.0


@dataclass(slots=True)
class Profile:
    """What was seen so far. A stack is the ids of its code objects, the innermost first.

    Attributes:
        seconds: the time that has passed.
        ran: the processor time that the loop's thread has used, in seconds.
        queued: the seconds that it waited for a processor; they are counted as waits where it was.
    """

    seconds: float = 0.0
    ran: float = 0.0
    queued: float = 0.0
    _codes: dict[int, tuple[Any, str]] = field(default_factory=dict)        # keeps the code: so its id stays valid
    _stacks: dict[Stack, _Sums] = field(default_factory=dict)
    _order: array = field(default_factory=lambda: array('L'))               # the samples: numbers of stacks, and seconds
    _weights: array = field(default_factory=lambda: array('d'))
    _numbers: Iterator[int] = field(default_factory=count)

    def stack_of(self, frames: Iterable[Any]) -> Stack:
        """The stack of these frames."""
        codes = self._codes
        found: list[int] = []
        for frame in frames:
            code = frame.f_code
            key = id(code)
            if key not in codes:
                module = frame.f_globals.get('__name__')
                codes[key] = code, module if type(module) is str else ''
            found.append(key)
        return tuple(found)

    def stack(self, frame: Any) -> Stack:
        """The stack of a frame of the calling thread: up to 200 calls."""
        found: list[int] = []
        codes = self._codes
        while frame is not None and len(found) < DEPTH:
            key = id(frame.f_code)
            if key not in codes:
                self.stack_of((frame,))
            found.append(key)
            frame = frame.f_back
        return tuple(found)

    def add(self, stack: Stack, ran: float = 0.0, waited: float = 0.0) -> None:
        """Adds seconds to a stack: one sample."""
        sums = self._stacks.get(stack)
        if sums is None:
            if len(self._stacks) >= _STACKS:
                stack = stack[:1]
            sums = self._stacks.setdefault(stack, _Sums(next(self._numbers)))
        sums.count += 1
        sums.ran += ran
        sums.waited += waited
        if self._order and self._order[-1] == sums.number:
            self._weights[-1] += ran + waited
        else:
            self._order.append(sums.number)
            self._weights.append(ran + waited)

    @property
    def samples(self) -> int:
        return sum(sums.count for sums in list(self._stacks.values()))

    def progress(self) -> dict[str, Any]:
        """The totals so far."""
        return {'seconds': round(self.seconds, 1), 'busy_percent': self._percent(self.ran), 'samples': self.samples}

    def answer(self) -> dict[str, Any]:
        """The totals, the functions with the largest shares of their own, and the functions that the greenlets run."""
        rows: dict[int, _Row] = {}
        greenlets: dict[int, float] = {}
        for stack, sums in self._stacks.items():
            if stack == IDLE:
                continue
            seconds = sums.ran + sums.waited
            for key in set(stack):
                rows.setdefault(key, _Row()).total += seconds
            row = rows[stack[0]]
            row.count += sums.count
            row.own += seconds
            row.own_waited += sums.waited
            greenlets[stack[-1]] = greenlets.get(stack[-1], 0.0) + seconds
        hottest = sorted(rows, key=lambda key: (-rows[key].own, -rows[key].total))[:_FUNCTIONS]
        idle = self._stacks.get(IDLE)
        idle_seconds = idle.waited if idle else 0.0
        return {**self.progress(), 'idle_percent': self._percent(idle_seconds),
                'held_waiting_percent': self._percent(max(0.0, self.seconds - self.ran - idle_seconds)),
                'no_processor_percent': self._percent(self.queued),
                'functions': [self._function(key, rows[key]) for key in hottest],
                'greenlets': [{'run': self._name(key), 'percent': self._percent(greenlets[key])}
                              for key in sorted(greenlets, key=lambda key: -greenlets[key])[:_GREENLETS]]}

    def _function(self, key, row):
        shown = {'function': self._name(key), 'own_percent': self._percent(row.own),
                 'total_percent': self._percent(row.total), 'samples': row.count}
        if key in self._codes:
            shown['where'] = f'{self._codes[key][0].co_filename}:{self._codes[key][0].co_firstlineno}'
        if self._percent(row.own_waited):
            shown['own_waiting_percent'] = self._percent(row.own_waited)
        return shown

    def _percent(self, seconds: float) -> float:
        return round(100 * seconds / self.seconds, 1) if self.seconds else 0.0

    def _name(self, key: int) -> str:
        if key not in self._codes:
            return _NAMES[key]
        code, module = self._codes[key]
        return f'{module}:{getattr(code, "co_qualname", code.co_name)}'

    def speedscope(self, name: str) -> Iterator[str]:
        """The text of a file for speedscope, in pieces. The samples are in the order of time."""
        # A last sample may come meanwhile, from the loop's thread: its stack is known before its number is.
        order = self._order[:]
        weights = self._weights[:len(order)]
        del order[len(weights):]
        stacks = list(self._stacks.items())
        keys = list(dict.fromkeys(key for stack, _ in stacks for key in stack))
        places = {key: place for place, key in enumerate(keys)}
        frames = [{'name': self._name(key)} | ({'file': self._codes[key][0].co_filename,
                                                'line': self._codes[key][0].co_firstlineno} if key in self._codes else {})
                  for key in keys]
        yield json.dumps({'$schema': 'https://www.speedscope.app/file-format-schema.json', 'name': name,
                          'exporter': 'boxsession', 'activeProfileIndex': 0, 'shared': {'frames': frames}})[:-1]
        yield ', "profiles": [' + json.dumps({'type': 'sampled', 'name': name, 'unit': 'seconds', 'startValue': 0,
                                              'endValue': sum(weights)})[:-1]
        shown = {sums.number: [places[key] for key in reversed(stack)] for stack, sums in stacks}
        yield ', "samples": ['
        for start in range(0, len(order), _PIECE):
            piece = json.dumps([shown[number] for number in order[start:start + _PIECE]])
            yield (', ' if start else '') + piece[1:-1]
        yield '], "weights": ['
        for start in range(0, len(weights), _PIECE):
            piece = json.dumps([round(weight, 6) for weight in weights[start:start + _PIECE]])
            yield (', ' if start else '') + piece[1:-1]
        yield ']}]}\n'
