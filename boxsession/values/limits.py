"""How long a document may be, and who else wants to run while one is written."""
from __future__ import annotations

from collections.abc import Callable

__all__ = ['UNLIMITED', 'Limits']


class Limits:
    """What the formatters ask while they write.

    Args:
        max_bytes: called for the longest document, in bytes; 0 for no limit.
        pause: called now and then; may let others run.
    """

    __slots__ = ('_max_bytes', 'pause', 'cuts')

    def __init__(self, max_bytes: Callable[[], int], pause: Callable[[], None]):
        self._max_bytes = max_bytes
        self.pause = pause
        self.cuts = 0               # how many documents were cut

    def is_over(self, size: int) -> bool:
        """Whether a document of `size` bytes is too long."""
        limit = self._max_bytes()
        return limit != 0 and size > limit

    def cut(self) -> None:
        """A document has been cut."""
        self.cuts += 1

    @property
    def message(self) -> str:
        """What a document that was cut says in place of the rest."""
        return f'the output is cut: it is over {self._max_bytes()} bytes (limits.output_bytes)'


UNLIMITED = Limits(lambda: 0, lambda: None)
