"""Values as YAML documents, written by PyYAML's libyaml emitter with the choices of Tarantool 2.6's serializer."""
from __future__ import annotations

import base64
import io
from collections.abc import Iterable

from yaml import events
from yaml.cyaml import CEmitter

from boxsession.output.tagged import Token, is_printable

__all__ = ['document']

_BINARY_TAG = 'tag:yaml.org,2002:binary'
_QUOTED_WORDS = frozenset([b'true', b'false', b'null', b'~', b'yes', b'no'])
_PLAIN_WORDS = {'N': 'null', 'Z': 'null', 't': 'true', 'f': 'false'}


def _emitter(stream: io.BytesIO) -> CEmitter:
    return CEmitter(stream, indent=2, width=80, allow_unicode=True, line_break='\n')


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


def _events(tokens: Iterable[Token]):
    """Emitter events for the tokens of one value, or of several that follow one another."""
    anchor = None
    flow = [False]
    for mark, data in tokens:
        if mark == 's' or mark == 'q':
            yield _string(data, mark == 'q', flow[-1])
        elif mark == 'n':
            yield _plain(data.decode())
        elif mark in 'Ll':
            flow.append(flow[-1] or mark == 'l')
            yield events.SequenceStartEvent(anchor, None, True, flow_style=flow[-1])
            anchor = None
        elif mark in 'Mm':
            flow.append(flow[-1] or mark == 'm')
            yield events.MappingStartEvent(anchor, None, True, flow_style=flow[-1])
            anchor = None
        elif mark == ']':
            flow.pop()
            yield events.SequenceEndEvent()
        elif mark == '}':
            flow.pop()
            yield events.MappingEndEvent()
        elif mark == '&':
            anchor = data.decode()
        elif mark == '*':
            yield events.AliasEvent(data.decode())
        else:
            yield _plain(_PLAIN_WORDS[mark])


def document(tokens: Iterable[Token], *, as_list: bool) -> bytes:
    """One YAML document, from `---` to `...`.

    Args:
        tokens: one value, or with `as_list` any number of values that become a list.
    """
    stream = io.BytesIO()
    emitter = _emitter(stream)
    try:
        emitter.emit(events.StreamStartEvent(encoding='utf-8'))
        emitter.emit(events.DocumentStartEvent(explicit=True))
        if as_list:
            emitter.emit(events.SequenceStartEvent(None, None, True, flow_style=False))
        for event in _events(tokens):
            emitter.emit(event)
        if as_list:
            emitter.emit(events.SequenceEndEvent())
        emitter.emit(events.DocumentEndEvent(explicit=True))
        emitter.emit(events.StreamEndEvent())
        return stream.getvalue()
    finally:
        emitter.dispose() if hasattr(emitter, 'dispose') else None
