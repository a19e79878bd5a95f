"""Converts reply documents to the output formats: YAML, JSON, Lua, or plain strings. Pure."""
from __future__ import annotations

import json
import math
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import Any

from boxsession.values import lua_text as lua
from boxsession.values import yaml
from boxsession.values.packed import pack, tokens, tree
from boxsession.values.reader import VALUES_MAX, Unshowable, packed_value

__all__ = ['FORMATS', 'Unshowable', 'document_of', 'error_document', 'error_text', 'is_error', 'shown', 'text_of_push',
           'values', 'visible', 'visible_pieces']

FORMATS = ('yaml', 'json', 'lua', 'lua,line', 'lua,block')
_NO_VALUES = b'---\n...\n'
_ERROR = b'---\n- error:'
# The begin of a second value, or of a second key in the first value.
_MORE = re.compile(rb'\n(?:- |-\n|  [^ \n-])')
_TAG_LINE = re.compile(rb'%TAG [^\n]*\n')
# The characters that visible() escapes. Control characters (C0 except tab and line feed, DEL, C1) can move the cursor or
# change the terminal. Others can make a text look like another one: line separators, surrogates, and Unicode's default
# ignorable characters, which are invisible or change the direction of text. Joiners and variation selectors are kept after
# a non-ASCII character: scripts and emoji need them there.
_JOINERS, _SELECTORS = '\u200c\u200d', '\ufe00-\ufe0f\U000e0100-\U000e01ef'
_DECEIVES = re.compile(
    '[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e'
    '\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a'
    '\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]'
    f'|(?<![^\\x00-\\x7f{_JOINERS}])[{_JOINERS}]|(?<![^\\x00-\\x7f{_JOINERS}{_SELECTORS}])[{_SELECTORS}]')
_PIECE_BYTES = 1 << 16
# The limits of a mapping's key. With YAML references a short document can have a huge expansion, so values are counted:
# VALUES_MAX in a result, fewer in a key.
_KEY_VALUES_MAX, _KEY_LENGTH_MAX = 1000, 100_000
_TOO_DEEP = 'the result is nested too deeply to be shown'


def document_of(value: Any, as_list: bool = False) -> bytes:
    """Makes a YAML document, as a console writes it, of plain data (strings as str or bytes)."""
    packed = pack([value])
    return yaml.document(tokens(packed[2:-2] if as_list else packed[1:-1]), as_list=as_list)


def error_document(message: str) -> bytes:
    """Makes a reply that is an error."""
    return document_of([{'error': message}], as_list=True)


def is_error(document: bytes) -> bool:
    """Whether a reply is an error: one value, a table with the one key `error`."""
    return document.startswith(_ERROR) and not _MORE.search(document, len(_ERROR))


def error_text(document: bytes) -> str:
    """The message of an error reply."""
    try:
        value = values(document)[0]['error']
    except (Unshowable, LookupError, TypeError):
        return document.decode(errors='backslashreplace')
    return value if isinstance(value, str) else _json(value)


def values(document: bytes) -> list[Any]:
    """The values of a reply, as plain data. Bytes that are not UTF-8 become replacement characters.

    Raises:
        Unshowable: a value refers to itself, is nested too deeply, or is too large with its references written out.
    """
    if document == _NO_VALUES:
        return []
    return _plain(_tree(document))


def _tree(document):
    try:
        value = tree(tokens(packed_value(document)), _scalar, _key)
    except RecursionError:
        raise Unshowable(_TOO_DEEP) from None
    return value if isinstance(value, list) else [value]


def _scalar(mark, data):
    return data if mark == 's' else _number(data) if mark == 'n' else {'t': True, 'f': False}.get(mark)


def _number(data):
    try:
        return int(data)
    except ValueError:
        return float(data)


def _key(key):
    if isinstance(key, bytes):
        return key.decode(errors='replace')
    text = json.dumps(_plain(key, _KEY_VALUES_MAX), ensure_ascii=False)
    if len(text) > _KEY_LENGTH_MAX:         # with each level of keys in keys, the number of backslashes doubles
        raise Unshowable('the result has a key that is too large: only the output formats yaml and lua can show it')
    return text


def _plain(value, most=VALUES_MAX):
    try:
        return _written_out(value, (), [most])
    except RecursionError:
        raise Unshowable(_TOO_DEEP) from None


def _written_out(value, inside, left):
    left[0] -= 1
    if left[0] < 0:
        raise Unshowable('the result is too large, because it refers to the same values many times: only the output '
                         'formats yaml and lua can show it')
    if isinstance(value, bytes):
        return value.decode(errors='replace')
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (list, dict)):
        if id(value) in inside:
            raise Unshowable('the result refers to itself: only the output formats yaml and lua can show it')
        inside = (*inside, id(value))
        if isinstance(value, list):
            return [_written_out(item, inside, left) for item in value]
        return {key: _written_out(item, inside, left) for key, item in value.items()}
    return value


def _json(value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(',', ':'))


def shown(document: bytes, form: str) -> bytes:
    """A reply in one of FORMATS, or as 'raw'; it ends with a line feed, or is empty.

    Raises:
        Unshowable: this format cannot show the reply.
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
    packed = b'' if document == _NO_VALUES else packed_value(document)[1:-1]
    return lua.values(tokens(b's1:;' + packed), block=form == 'lua,block') + b'\n'


def visible(text: str) -> str:
    """A text that is safe for a terminal: escapes characters that change the terminal or disguise the text."""
    return text if text.isascii() and text.isprintable() else _DECEIVES.sub(_escaped, text)


def _escaped(match):
    point = ord(match.group())
    return f'\\x{point:02x}' if point < 0x100 else f'\\u{point:04x}' if point < 0x10000 else f'\\U{point:08x}'


def visible_pieces(data: bytes) -> Iterator[str]:
    """visible() of bytes, piece by piece: escaped, a long text can need many times its memory."""
    decoder = getincrementaldecoder('utf-8')('backslashreplace')
    for start in range(0, len(data), _PIECE_BYTES):
        end = start + _PIECE_BYTES
        yield visible(decoder.decode(data[start:end], end >= len(data)))


def text_of_push(document: bytes) -> bytes:
    """A push as text: a string, which print() sends, as it is; any other value as YAML."""
    document = _TAG_LINE.sub(b'', document, count=1)
    found = None
    if document.startswith(b'--- '):            # a scalar, maybe a string
        try:
            packed = packed_value(document)
            found = next(tokens(packed)) if packed[:1] == b's' else None
        except Unshowable:
            pass
    if found is None:
        return document
    return found[1] if found[1].endswith(b'\n') else found[1] + b'\n'
