"""Writes values as YAML documents with libyaml's emitter (PyYAML), in the styles of Tarantool 2.6's serializer."""
from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator

from yaml import events
from yaml.cyaml import CEmitter  # type: ignore[attr-defined]     # the stubs do not export it

from boxsession.values import scalars
from boxsession.values.limits import UNLIMITED, Limits
from boxsession.values.packed import Token, is_printable
from boxsession.values.scalars import LongScalar, Placeholders

__all__ = ['document', 'document_pieces']

_BINARY_TAG = 'tag:yaml.org,2002:binary'
_QUOTED_WORDS = frozenset([b'true', b'false', b'null', b'~', b'yes', b'no'])
# Before a longer text, the limit is checked and others may run.
_LONG = 1 << 10
_PRINTABLE = bytes(range(32, 127)) + b'\t\n'
_PLAIN_WORDS = {'N': 'null', 'Z': 'null', 't': 'true', 'f': 'false'}


class _FlowState:
    """Tracks whether libyaml's emitter reports flow style at the next event.

    Tarantool quotes all strings in flow style, and asks its emitter for the style. But the emitter queues some events
    before it enters a collection. So the answer is wrong at a few places, and a string stays plain there. To write the
    same bytes, this class models the emitter's queue (yaml_emitter_need_more_events): the start of a collection waits for
    as many events as it needs, and flow style begins with the first item of the collection.
    """

    _LOOK_AHEAD = {'L': 2, 'M': 3}

    def __init__(self) -> None:
        self._queue: list[tuple[str, bool]] = []        # (mark, is flow) of the queued events
        # Open collections: 'first' (flow, before its first item), 'flow' or 'block'.
        self._open: list[str] = []
        self._level = 0             # the emitter's counter of flow levels

    def __bool__(self) -> bool:
        return self._level > 0 or any(is_flow for _, is_flow in self._queue)

    def add(self, mark: str, is_flow: bool = False) -> None:
        """Adds an event of the emitter: 'L' or 'M' starts a collection, 'E' ends one, 's' is any other."""
        self._queue.append((mark, is_flow))
        while self._queue and not self._waits():
            self._process(*self._queue.pop(0))

    def _waits(self) -> bool:
        needed = self._LOOK_AHEAD.get(self._queue[0][0])
        if needed is None or len(self._queue) > needed:
            return False
        depth = 0
        for mark, _ in self._queue:
            depth += (mark in 'LM') - (mark == 'E')
            if depth == 0:
                return False
        return True

    def _process(self, mark: str, is_flow: bool) -> None:
        if self._open and self._open[-1] == 'first':
            self._open[-1] = 'flow'
            self._level += 1
        if mark in 'LM':
            is_empty = bool(self._queue) and self._queue[0][0] == 'E'
            self._open.append('first' if self._level or is_flow or is_empty else 'block')
        elif mark == 'E':
            self._level -= self._open.pop() == 'flow'


def _plain(text: str) -> events.ScalarEvent:
    return events.ScalarEvent(None, None, (True, True), text)


def _string(data: bytes, looks_numeric: bool, in_flow: bool) -> events.ScalarEvent:
    if not is_printable(data):
        text = base64.b64encode(data).decode()
        return events.ScalarEvent(None, _BINARY_TAG, (False, False), text, style='')
    text = data.decode()
    if looks_numeric or data in _QUOTED_WORDS or in_flow:
        return events.ScalarEvent(None, None, (True, True), text, style="'")
    # Tarantool looks for the empty line with strstr(), which sees a string up to its first zero byte.
    if b'\n\n' in data.partition(b'\0')[0]:
        return events.ScalarEvent(None, None, (True, True), text, style='|')
    return events.ScalarEvent(None, None, (True, True), text)


def _long_string(scalar: LongScalar, placeholders: Placeholders) -> events.ScalarEvent:
    text, style = placeholders.add(scalar)
    if scalar.style == 'binary':
        return events.ScalarEvent(None, _BINARY_TAG, (False, False), text, style='')
    return events.ScalarEvent(None, None, (True, True), text, style=style)


# Number of tokens between two pauses.
_STEP = 256


def _written_bytes(data: bytes) -> int:
    """The approximate length of a string in YAML: a control character takes four bytes."""
    return len(data) + 3 * len(data.translate(None, _PRINTABLE)) if data.isascii() else len(data)


class _Open:
    """An open collection.

    Attributes:
        is_map: it is a map, not a list.
        count: number of its items so far; keys and values of a map count as items.
    """

    __slots__ = ('is_map', 'count')

    def __init__(self, is_map: bool):
        self.is_map = is_map
        self.count = 0


def _events(tokens: Iterable[Token], flow: _FlowState, limits: Limits, size: Callable[[], int],
            placeholders: Placeholders) -> Iterator[events.Event]:
    """Emitter events for the tokens of one value or several."""
    anchor = None
    nesting: list[_Open] = []
    for number, (mark, data) in enumerate(tokens):
        scalar = None
        if number % _STEP == 0 or len(data) > _LONG:
            limits.pause()
            if len(data) > scalars.LONG and mark in 'sq':
                scalar = LongScalar(data, mark == 'q' or bool(flow), limits.pause)
            if limits.is_over(size() + (scalar.size if scalar else _written_bytes(data))):
                yield from _cut(nesting, limits)
                return
        if nesting and mark not in ']}&':
            nesting[-1].count += 1
        if mark == 'X':
            yield from _cut(nesting, limits)
            return
        if mark == '&':
            anchor = data.decode()
        elif mark in 'LlMm':
            is_flow = mark in 'lm'
            start = events.SequenceStartEvent if mark in 'Ll' else events.MappingStartEvent
            yield start(anchor, None, True, flow_style=is_flow)
            anchor = None
            flow.add(mark.upper(), is_flow)
            nesting.append(_Open(mark in 'Mm'))
        elif mark in ']}':
            nesting.pop()
            yield events.SequenceEndEvent() if mark == ']' else events.MappingEndEvent()
            flow.add('E')
        else:
            if scalar is not None:
                yield _long_string(scalar, placeholders)
            elif mark == 's' or mark == 'q':
                yield _string(data, mark == 'q', bool(flow))
            elif mark in 'nI':
                yield _plain(data.decode())
            elif mark == '*':
                yield events.AliasEvent(data.decode())
            else:
                yield _plain(_PLAIN_WORDS[mark])
            flow.add('s')


def _cut(nesting: list[_Open], limits: Limits) -> Iterator[events.Event]:
    """Closes all open collections and adds an item with the error that the rest is missing."""
    while nesting:
        last = nesting.pop()
        if last.is_map and last.count % 2:
            yield _plain('null')
        yield events.MappingEndEvent() if last.is_map else events.SequenceEndEvent()
    limits.cut()
    yield events.MappingStartEvent(None, None, True, flow_style=False)
    yield _plain('error')
    yield _plain(limits.message)
    yield events.MappingEndEvent()


def document(tokens: Iterable[Token], *, as_list: bool) -> bytes:
    """document_pieces() as one bytes object."""
    return b''.join(document_pieces(tokens, as_list=as_list))


def document_pieces(tokens: Iterable[Token], *, as_list: bool, limits: Limits = UNLIMITED) -> list[bytes]:
    """Writes a YAML document, from `---` to `...`, in pieces. Joining long pieces would block the event loop.

    Args:
        tokens: one value, or any number of values if `as_list`.
        as_list: write the values as a list.
        limits: the maximum length, and the pause. A list that is too long is truncated.

    Raises:
        ValueError: a single value is too long, or a list is too long because of its line breaks.
    """
    stream = io.BytesIO()
    emitter = CEmitter(stream, indent=2, width=80, allow_unicode=True, line_break='\n')
    flow = _FlowState()
    emitter.emit(events.StreamStartEvent(encoding='utf-8'))
    emitter.emit(events.DocumentStartEvent(explicit=True))
    if as_list:
        emitter.emit(events.SequenceStartEvent(None, None, True, flow_style=False))
        flow.add('L')
    cuts = limits.cuts
    placeholders = Placeholders()
    for event in _events(tokens, flow, limits, lambda: stream.tell() + placeholders.size, placeholders):
        emitter.emit(event)
        if limits.cuts > cuts and not as_list:
            raise ValueError(limits.message)
    if as_list:
        emitter.emit(events.SequenceEndEvent())
    emitter.emit(events.DocumentEndEvent(explicit=True))
    emitter.emit(events.StreamEndEvent())

    def check(size: int) -> None:
        # Sizes are counted without line breaks. Deep in a table, these may take more than the text.
        if limits.is_over(size // 2):
            limits.cut()
            raise ValueError(limits.message)
    return placeholders.replaced(stream.getvalue(), check)
