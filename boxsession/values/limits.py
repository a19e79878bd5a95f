"""What formatters need while they write: the maximum length of a document, and a pause for other greenlets."""
from __future__ import annotations

from collections.abc import Callable

__all__ = ['UNLIMITED', 'Limits']


class Limits:
    """The limits of a formatter.

    Args:
        max_bytes: called for the maximum length of a document in bytes; 0 for no limit.
        pause: called now and then, so that other greenlets can run; it may raise.

    Attributes:
        cuts: number of documents that were truncated.
    """

    __slots__ = ('_max_bytes', 'pause', 'cuts')

    def __init__(self, max_bytes: Callable[[], int], pause: Callable[[], None]):
        self._max_bytes = max_bytes
        self.pause = pause
        self.cuts = 0

    def is_over(self, size: int) -> bool:
        """Whether a document of `size` bytes is too long."""
        limit = self._max_bytes()
        return limit != 0 and size > limit

    def cut(self) -> None:
        """Counts a truncated document."""
        self.cuts += 1

    @property
    def message(self) -> str:
        """The error text that stands in a truncated document instead of the rest."""
        return f'the output is truncated: it is longer than {self._max_bytes()} bytes (limits.output_bytes)'


UNLIMITED = Limits(lambda: 0, lambda: None)
