"""repr() of an object of the program, within limits. It runs code of the program.

It runs in a greenlet of its own, which gevent does not let wait, with a trace function that counts the lines that run and
raises an exception when they are too many or take too long. This does not end an operation of C that takes long, or code
that goes on after every exception: a rescue listener may end these (inspection/stopper.py).
"""
from __future__ import annotations

import re
import sys
import time
from collections import deque
from types import FrameType
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from boxsession.base.secret_words import is_sensitive

__all__ = ['READS', 'Reader', 'Reprs', 'reads_for']

# Lines, calls and returns of all calls of one Reprs.
_EVENTS = 10_000
# Collections of more items have no repr: that of the built-in classes is one operation of C.
_ITEMS = 1000
_COLLECTIONS: tuple[type, ...] = (dict, list, tuple, set, frozenset, str, bytes, bytearray, deque)
# A value behind a name, in quotes or not, also if it was cut.
_ASSIGNMENT = re.compile(r"""(\w+)(['"]?\s*[=:]\s*)('[^']*'?|"[^"]*"?|[^,;<>()\[\]{}'"]+)""")


def _without_secret(found: re.Match[str]) -> str:
    return f'{found[1]}{found[2]}***' if is_sensitive(found[1].encode(errors='replace')) else found[0]


class _Ended(BaseException):
    """Ends a repr(). The text says why."""


class Reader(greenlet):
    """The greenlet in which repr() runs.

    Attributes:
        end: when it has to end, by time.perf_counter().
    """

    end = 0.0

    def switch_out(self) -> None:
        """gevent calls this before a wait."""
        raise _Ended('waits')

    def look(self) -> None:
        """Raises an exception if it takes too long."""
        if time.perf_counter() > self.end:
            raise _Ended('took too long')


# The greenlets in which repr() runs now, by the addresses of those that wait for it.
_readers: dict[int, greenlet] = {}


def reads_for(caller: Any) -> greenlet | None:
    """The greenlet in which repr() runs for this one; None without any. For any thread."""
    return _readers.get(id(caller))


class Reprs:
    """repr(value), cut. If it is too large, raises an exception, waits or takes too long: a text that says so.

    All calls of one object share its time, which begins with the first. A call takes the name of the value's class, too.

    Args:
        characters: the maximum length of each text.
        seconds: the maximum time of all calls.
    """

    def __init__(self, characters: int = 100, seconds: float = 0.005):
        self._characters = characters
        self._seconds = seconds
        self._left = _EVENTS
        self._end = 0.0
        self._reader: Reader | None = None

    def __call__(self, value: Any, name: str) -> str:
        for base in _COLLECTIONS:
            if issubclass(type(value), base):
                size = base.__len__(value)              # type: ignore[attr-defined]
                if size > _ITEMS:
                    return f'<{name} of {size} items>'
        self._end = self._end or time.perf_counter() + self._seconds
        results: list[str] = []
        self._reader = reader = Reader(lambda: results.append(self._text_or_reason(value, name)))
        reader.end = self._end
        before, caller = sys.gettrace(), getcurrent()
        _readers[id(caller)] = reader
        try:
            reader.switch()
        finally:
            sys.settrace(before)
            del _readers[id(caller)]
        if not reader.dead:         # it has switched by other means than gevent's
            reader.throw(GreenletExit)
        return results[0] if results else f'<{name}: repr waits>'

    def _text_or_reason(self, value: Any, name: str) -> str:
        before = sys.gettrace()
        try:
            sys.settrace(self._trace)
            try:
                text = repr(value)
            finally:
                sys.settrace(before)
        except _Ended as ended:
            return f'<{name}: repr {ended}>'
        except GreenletExit:
            return f'<{name}: repr waits>'
        except BaseException as error:
            return f'<{name}: repr raised {type.__dict__["__name__"].__get__(type(error))}>'
        size = str.__len__(text)
        cut = _ASSIGNMENT.sub(_without_secret, str.__getitem__(text, slice(0, self._characters)))
        return cut + (f'... ({size})' if size > self._characters else '')

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if getcurrent() is not self._reader:        # the code has switched: others are not to be traced
            sys.settrace(None)
            return None
        self._left -= 1
        if self._left < 0:
            raise _Ended('took too long')
        self._reader.look()
        return self._trace


# The code in which it is called.
READS = Reprs._text_or_reason.__code__
