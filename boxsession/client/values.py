"""Documents as people and scripts want them: YAML, JSON, Lua text or bare strings. Pure."""
from __future__ import annotations

import json
import math
import re
from typing import Any

from boxsession.output import lua
from boxsession.output.reader import read_documents
from boxsession.output.tagged import tokens

__all__ = ['FORMATS', 'Unshowable', 'error_text', 'is_error', 'shown', 'text_of_push', 'values', 'visible']

FORMATS = ('yaml', 'json', 'lua', 'lua,line', 'lua,block')
_NO_VALUES = b'---\n...\n'
_ERROR = b'---\n- error:'
# A second value, or a second key in the first.
_MORE = re.compile(rb'\n(?:- |-\n|  [^ \n-])')
_TAG_LINE = re.compile(rb'%TAG [^\n]*\n')
# What could move the cursor or change the terminal: C0 but for tab and line feed, DEL, C1.
_CONTROLS = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f]')
# Where values refer to others, what is shown can be longer than any memory: so many are written out, in a key fewer.
_VALUES_MAX, _KEY_VALUES_MAX = 2_000_000, 1000
_TOO_DEEP = 'the result is nested too deep'


class Unshowable(Exception):
    """A document cannot be shown in this format. The text says why."""


def _packed(document: bytes) -> bytes:
    """The one value of a document, in the grammar of `boxsession.output.tagged`."""
    packed = read_documents(document, empty=b's0:')
    if packed[:1] != b'=':
        raise Unshowable(f'the reply cannot be read: {packed.partition(b":")[2].decode(errors="replace").strip()}')
    return packed[2:-1]


def is_error(document: bytes) -> bool:
    """Whether a reply is an error: one value, a table with the one key `error`."""
    return document.startswith(_ERROR) and not _MORE.search(document, len(_ERROR))


def error_text(document: bytes) -> str:
    """What an error reply says, in words."""
    try:
        value = values(document)[0]['error']
    except (Unshowable, LookupError, TypeError):
        return document.decode(errors='backslashreplace')
    return value if isinstance(value, str) else _json(value)


def values(document: bytes) -> list[Any]:
    """The values of a reply, as plain data; text that is not UTF-8 has replacement characters.

    Raises:
        Unshowable: it refers to itself, is nested too deep, or too large once what it refers to is written out.
    """
    if document == _NO_VALUES:
        return []
    return _plain(_tree(document))


def _tree(document):
    try:
        value = _value(tokens(_packed(document)), {})
    except RecursionError:
        raise Unshowable(_TOO_DEEP) from None
    return value if isinstance(value, list) else [value]


def _value(stream, anchors, token=None):
    mark, data = token or next(stream)
    name = None
    if mark == '&':
        name = data
        mark, data = next(stream)
    if mark == '*':
        return anchors[data]
    if mark == 'L':
        items = []
        anchors[name] = items
        for token in stream:
            if token[0] == ']':
                break
            items.append(_value(stream, anchors, token))
        return items
    if mark == 'M':
        mapping = anchors[name] = {}
        for token in stream:
            if token[0] == '}':
                break
            key = _value(stream, anchors, token)
            mapping[_key(key)] = _value(stream, anchors)
        return mapping
    value = data if mark == 's' else _number(data) if mark == 'n' else {'t': True, 'f': False}.get(mark)
    if name is not None:
        anchors[name] = value
    return value


def _number(data):
    try:
        return int(data)
    except ValueError:
        return float(data)


def _key(key):
    if isinstance(key, bytes):
        return key.decode(errors='replace')
    return json.dumps(_plain(key, _KEY_VALUES_MAX), ensure_ascii=False)


def _plain(value, most=_VALUES_MAX):
    try:
        return _written_out(value, (), [most])
    except RecursionError:
        raise Unshowable(_TOO_DEEP) from None


def _written_out(value, inside, left):
    left[0] -= 1
    if left[0] < 0:
        raise Unshowable('the result is too large: it refers to the same values again and again; only yaml and lua can '
                         'show it')
    if isinstance(value, bytes):
        return value.decode(errors='replace')
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (list, dict)):
        if id(value) in inside:
            raise Unshowable('the result refers to itself: only yaml and lua can show it')
        inside = (*inside, id(value))
        if isinstance(value, list):
            return [_written_out(item, inside, left) for item in value]
        return {key: _written_out(item, inside, left) for key, item in value.items()}
    return value


def _json(value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(',', ':'))


def shown(document: bytes, form: str) -> bytes:
    """A reply in one of FORMATS, or 'raw': whole lines.

    Raises:
        Unshowable: this cannot be shown so.
    """
    if form == 'yaml':
        return document
    try:
        return _shown(document, form)
    except RecursionError:
        raise Unshowable(_TOO_DEEP) from None


def _shown(document, form):
    if form == 'json':
        text = _json({'error': values(document)[0]['error']}) if is_error(document) else _json(values(document))
        return text.encode(errors='replace') + b'\n'
    if form == 'raw':
        if is_error(document) or document == _NO_VALUES:
            return b''
        return b''.join((value if isinstance(value, bytes) else _json(_plain(value)).encode(errors='replace')) + b'\n'
                        for value in _tree(document))
    packed = b'' if document == _NO_VALUES else _packed(document)[1:-1]
    return lua.values(tokens(b's1:;' + packed), block=form == 'lua,block') + b'\n'


def visible(text: str) -> str:
    """A text for a terminal: with escapes for what could move the cursor or change the terminal."""
    return _CONTROLS.sub(lambda match: f'\\x{ord(match.group()):02x}', text)


def text_of_push(document: bytes) -> bytes:
    """A push for people: a string, which is what print() sends, as it is; anything else as YAML."""
    document = _TAG_LINE.sub(b'', document, count=1)
    try:
        packed = _packed(document)
        found = next(tokens(packed)) if packed[:1] == b's' else None
    except Unshowable:
        found = None
    if found is None:
        return document
    return found[1] if found[1].endswith(b'\n') else found[1] + b'\n'
