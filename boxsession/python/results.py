"""The last results of a session: `_`, `_1` to `_9`, and `_e`, the last exception."""
from __future__ import annotations

from collections import deque
from typing import Any

__all__ = ['Results']

_KEPT = 9
_NAMES = [f'_{number + 1}' for number in range(_KEPT)]


class Results:
    """Keeps the last values of a session's statements among its names.

    Args:
        names: where the values are found.
    """

    def __init__(self, names: dict[str, Any]):
        self._names = names
        self._last: deque[tuple[Any, int]] = deque(maxlen=_KEPT)        # with their sizes, the last first
        self.add_error(None)
        self._show()

    def add(self, value: Any, size: int, most: int) -> None:
        """A statement has a value.

        Args:
            size: the size of the value in a reply, in bytes.
            most: the maximum size of all kept values; 0 for no limit.
        """
        self._last.appendleft((value, size))
        if most:
            total = 0
            for index, (_, one) in enumerate(self._last):
                total += one
                if total > most and index:
                    while len(self._last) > index:
                        self._last.pop()
                    break
        self._show()

    def add_error(self, error: BaseException | None) -> None:
        """A statement has raised an exception."""
        self._names['_e'] = error

    @property
    def last(self) -> Any:
        """The last value; None without one."""
        return self._last[0][0] if self._last else None

    def _show(self) -> None:
        names = self._names
        names['_'] = self.last
        for name, (value, _) in zip(_NAMES, self._last, strict=False):
            names[name] = value
        for name in _NAMES[len(self._last):]:
            names[name] = None
