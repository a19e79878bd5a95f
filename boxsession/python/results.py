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
        self._values: deque[Any] = deque(maxlen=_KEPT)          # the last first
        self._sizes: deque[int] = deque(maxlen=_KEPT)
        self.add_error(None)
        names['_'] = None
        names.update(dict.fromkeys(_NAMES))

    def add(self, value: Any, size: int, most: int) -> None:
        """A statement has a value.

        Args:
            size: the size of the value in a reply, in bytes.
            most: the maximum size of all kept values; 0 for no limit.
        """
        values, sizes, names = self._values, self._sizes, self._names
        values.appendleft(value)
        sizes.appendleft(size)
        while most and sum(sizes) > most and len(sizes) > 1:
            values.pop()
            sizes.pop()
            names[_NAMES[len(sizes)]] = None
        names['_'] = value
        names.update(zip(_NAMES, values, strict=False))

    def add_error(self, error: BaseException | None) -> None:
        """A statement has raised an exception."""
        self._names['_e'] = error

    @property
    def last(self) -> Any:
        """The last value; None without one."""
        return self._values[0] if self._values else None
