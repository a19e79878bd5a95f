"""Where memory grows: compares what tracemalloc has traced, by source line."""
from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from boxsession.inspection.objects import Refused

__all__ = ['Tracing']

# Bytes that tracemalloc keeps for a block, and seconds in which it copies the record of one: measured, for estimates.
_BYTES, _SECONDS = 55, 0.3e-6
# So many blocks are read without `force`: that holds the loop for about 30 ms.
_BLOCKS = 100_000
_OWN = (str(Path(__file__).parent) + '/', tracemalloc.__file__)
_COST = ('until the end, the program allocates about three times slower, and each block takes about 60 bytes more; '
         'a diff holds the loop for about 0.3 s per million of blocks that were allocated meanwhile and are still in use')

_Sums = dict[tuple[str, int], list[int]]


class Tracing:
    """The tracing of memory blocks of this process. If the program traces already, it is left to go on at the end."""

    def __init__(self) -> None:
        self._before: _Sums | None = None       # sums at the start; None if nothing is traced
        self._is_ours = False
        self._began = 0.0
        self.label = ''                         # who has started it

    def start(self, pause: Callable[[], None], label: str, force: bool = False) -> dict[str, Any]:
        """Starts to trace. `label` names the caller.

        Raises:
            Refused: it has started already; or the program traces so much that the loop would be held.
        """
        if self._before is not None:
            raise Refused(f'tracing was started by {self.label} already: \\memory trace diff shows growth, \\memory trace '
                          'stop ends it')
        self._is_ours = not tracemalloc.is_tracing()
        self._before, self.label, self._began = {}, label, time.monotonic()
        if self._is_ours:
            tracemalloc.start()
            return {'tracing': True, 'cost': _COST}
        try:
            self._before, held = _sums(pause, force)
        except BaseException:
            self._before = None
            raise
        return {'tracing': True, 'remark': 'the program itself traces: it goes on after stop', 'held_ms': held}

    # As a place of the journal (inspection/journal.py)

    key = 'tracing', 'memory'
    what = 'tracing of the memory'

    def read(self) -> bool:
        """Whether it is on."""
        return self._before is not None

    def write(self, value: bool) -> None:
        """Ends it: start() begins it."""
        if not value:
            self.stop()

    @staticmethod
    def text(value: bool) -> str:
        """A value of read() for people."""
        return 'started' if value else 'stopped'

    # Use

    def diff(self, pause: Callable[[], None], most: int, force: bool = False) -> dict[str, Any]:
        """The lines whose blocks have grown most since the start.

        Raises:
            Refused: nothing is traced; or reading it would hold the loop for long, and `force` is not said.
        """
        if self._before is None or not tracemalloc.is_tracing():
            raise Refused('nothing is traced: \\memory trace start begins it')
        seconds, before = time.monotonic() - self._began, self._before
        traced = tracemalloc.get_traced_memory()[0]
        sums, held = _sums(pause, force)
        rows = []
        for at, (count, size) in sums.items():
            count_before, size_before = before.get(at, (0, 0))
            if size > size_before and not at[0].startswith(_OWN):
                rows.append({'where': f'{at[0]}:{at[1]}', 'bytes': size - size_before, 'blocks': count - count_before})
        rows.sort(key=lambda row: -row['bytes'])        # type: ignore[operator]
        return {'seconds': round(seconds, 1), 'traced_bytes': traced, 'own_bytes': tracemalloc.get_tracemalloc_memory(),
                'held_ms': held, 'growth': rows[:most]}

    def stop(self) -> bool:
        """Ends the tracing. False if there is none."""
        if self._before is None:
            return False
        self._before = None
        if self._is_ours:
            tracemalloc.stop()
        return True


def _sums(pause: Callable[[], None], force: bool) -> tuple[_Sums, float]:
    """The number and the bytes of all traced blocks by file and line, and for how many milliseconds the loop was held."""
    blocks = tracemalloc.get_tracemalloc_memory() // _BYTES
    if blocks > _BLOCKS and not force:
        raise Refused(f'about {blocks} blocks are traced: to read them holds the loop for about {blocks * _SECONDS:.1f} s; '
                      'add the word force to do it')
    began = time.perf_counter()
    # Tuples (domain, size, frames, ...); the first frame is the innermost: (file, line).
    traces = tracemalloc.take_snapshot().traces._traces             # type: ignore[attr-defined]
    held = round((time.perf_counter() - began) * 1000, 1)
    sums: _Sums = {}
    while traces:
        piece = traces[-500:]
        del traces[-500:]
        for trace in piece:
            at = trace[2][0]
            known = sums.get(at)
            if known is None:
                sums[at] = [1, trace[1]]
            else:
                known[0] += 1
                known[1] += trace[1]
        pause()
    return sums, held
