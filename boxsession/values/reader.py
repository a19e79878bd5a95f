"""Reads YAML text into packed values (values/packed.py), for yaml.decode() and for clients.

Scalars have the types that Tarantool 2.6 gives them. Plain `null` and `~` are nil. Plain `true`, `false`, `yes` and `no`
are booleans. A plain scalar that strtod() reads is a number. All others, and quoted ones, are strings. So is an empty
scalar, since Tarantool writes the empty string like that. The tags `!!str`, `!!int`, `!!float`, `!!bool` and `!!binary`
override this.
"""
from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator

import yaml
from yaml import events

from boxsession.values.packed import text

__all__ = ['VALUES_MAX', 'Unshowable', 'packed_value', 'read_documents']

_WORDS = {'null': b'Z', '~': b'Z', 'true': b't', 'yes': b't', 'false': b'f', 'no': b'f'}
# No digits can be matched by two parts of a pattern: backtracking would take time that is quadratic in their number.
_DECIMAL = re.compile(r'[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?', re.ASCII)
_HEX = re.compile(r'[+-]?0[xX]([0-9a-fA-F]+(\.[0-9a-fA-F]*)?|\.[0-9a-fA-F]+)([pP][+-]?\d+)?', re.ASCII)
_NAMED = re.compile(r'[+-]?(inf|infinity|nan)', re.IGNORECASE | re.ASCII)
_NUMBERS = (_HEX, _DECIMAL, _NAMED)
# Numbers of YAML 1.1 that Tarantool does not have: what values in Python are shown as.
_STANDARD = {'.inf': 'inf', '-.inf': '-inf', '.nan': 'nan'}
_FRACTION = re.compile('[.pP]')
# A longer hexadecimal integer is read as a float: writing its decimal digits would take long.
_HEX_WHOLE_MAX = 300
_WHOLE = re.compile(r'[+-]?\d+', re.ASCII)
_ZERO = re.compile(r'[+-]?0+')
_SPACE = ' \t\n\r\v\f'
_STEP = 256         # number of events between two pauses
_DEEPEST = 1000
# Maximum number of values of a document that packed_value() reads. A value has at most two events.
VALUES_MAX = 2_000_000
_PAUSES_MAX = 2 * VALUES_MAX // _STEP
# libyaml compares each tag with all %TAG lines.
_TAG_LINES_MAX = 100
_BRACKETS = re.compile(rb'[\[\]{}]')
_STANDARD_TAGS = 'tag:yaml.org,2002:'
_NOT_BASE64 = re.compile(r'[^A-Za-z0-9+/]')


class Unshowable(Exception):
    """A document cannot be shown in this format. The message says why."""


def _number(plain: str) -> str | None:
    """Text that Lua's tonumber() reads, if a scalar is a number; otherwise None."""
    plain = plain.strip(_SPACE)
    for pattern in _NUMBERS:
        if pattern.fullmatch(plain):
            return _lua_number(plain)
    return None


def _number_at_start(value: str) -> str:
    """The number with which a text begins, as strtod() reads it; '0' if there is none."""
    value = value.lstrip(_SPACE)
    for pattern in _NUMBERS:
        match = pattern.match(value)
        if match:
            return _lua_number(match[0])
    return '0'


def _lua_number(number: str) -> str:
    """A number of one of the forms of _NUMBERS, for Lua's tonumber(). Integers keep all digits."""
    if 'x' in number or 'X' in number:
        if _FRACTION.search(number) or len(number) > _HEX_WHOLE_MAX:
            try:
                return repr(float.fromhex(number))
            except OverflowError:
                return '-inf' if number[0] == '-' else 'inf'
        return str(int(number, 16))
    return '0' if _ZERO.fullmatch(number) else number       # -0 is the integer 0


def _tagged(kind: str, value: str) -> bytes | None:
    """A scalar with the standard tag `kind`, whatever its style; None if the tag gives it no type."""
    if kind == 'str':
        return text(b's', value.encode(errors='surrogatepass'))
    if kind == 'int':
        match = _WHOLE.match(value.lstrip(_SPACE))
        return text(b'n', (_lua_number(match[0]) if match else '0').encode())
    if kind == 'float':
        number = _number_at_start(value)
        return text(b'n', (number + '.0' if _WHOLE.fullmatch(number) else number).encode())
    if kind == 'bool':
        return b't' if value in ('true', 'yes') else b'f'
    if kind == 'binary':
        data = _NOT_BASE64.sub('', value)
        data = data[:-1] if len(data) % 4 == 1 else data
        return text(b's', base64.b64decode(data + '=' * (-len(data) % 4)))
    return None


def _scalar(event: events.ScalarEvent, is_standard: bool) -> bytes:
    value = event.value
    if event.tag is not None and event.tag.startswith(_STANDARD_TAGS):
        tagged = _tagged(event.tag.removeprefix(_STANDARD_TAGS), value)
        if tagged is not None:
            return tagged
    if not event.style:
        word = _WORDS.get(value)
        if word is not None:
            return word
        number = _STANDARD.get(value) if is_standard else None
        number = number or _number(value)
        if number is not None:
            return text(b'n', number.encode())
    return text(b's', value.encode(errors='surrogatepass'))


def _packed(parsed: Iterable[events.Event], is_standard: bool) -> bytes:
    out = [b'L']
    anchors: set[str] = set()
    for event in parsed:
        anchor = getattr(event, 'anchor', None)
        if isinstance(event, events.AliasEvent):
            if anchor not in anchors:
                raise ValueError(f'found undefined alias {anchor!r}')
            out.append(text(b'*', anchor.encode()))
            continue
        if anchor is not None:
            anchors.add(anchor)
            out.append(text(b'&', anchor.encode()))
        if isinstance(event, events.ScalarEvent):
            out.append(_scalar(event, is_standard))
        elif isinstance(event, events.SequenceStartEvent):
            out.append(b'L')
        elif isinstance(event, events.MappingStartEvent):
            out.append(b'M')
        elif isinstance(event, events.SequenceEndEvent):
            out.append(b']')
        elif isinstance(event, events.MappingEndEvent):
            out.append(b'}')
        elif isinstance(event, events.DocumentStartEvent):
            anchors.clear()
    out.append(b']')
    return b''.join(out)


def _is_too_deep(data: bytes, pause: Callable[[], None]) -> bool:
    """Whether a text is nested so deeply that libyaml would need time quadratic in the depth."""
    if data.count(b'[') + data.count(b'{') > _DEEPEST:
        depth = 0
        for number, match in enumerate(_BRACKETS.finditer(data)):
            depth += 1 if match.group() in b'[{' else -1
            if depth > _DEEPEST:
                return True
            if number % _STEP == 0:
                pause()
    if data.count(b'- ') + data.count(b'? ') <= _DEEPEST:
        return False
    data = data.replace(b'\r', b'\n')
    start = number = 0
    while start < len(data):
        stop = data.find(b'\n', start)
        stop = len(data) if stop < 0 else stop
        if data.count(b'- ', start, stop) + data.count(b'? ', start, stop) > _DEEPEST:
            return True
        start, number = stop + 1, number + 1
        if number % _STEP == 0:
            pause()
    return False


def read_documents(data: bytes, pause: Callable[[], None] = lambda: None, is_standard: bool = False) -> bytes:
    """Reads all documents of a YAML text.

    Args:
        pause: called now and then, so that other greenlets can run. Only its exceptions are raised.
        is_standard: numbers are also .inf, -.inf and .nan, as in YAML 1.1. For Tarantool they are strings.

    Returns:
        '=' and a packed list of the values, or '!' and a packed error message.
    """
    if _is_too_deep(data, pause):
        return b'!' + text(b's', b'Too high nest level')
    if data.count(b'%TAG') > _TAG_LINES_MAX:
        return b'!' + text(b's', b'Too many tags are declared: more than %d' % _TAG_LINES_MAX)
    document = 0

    def parsed() -> Iterator[events.Event]:
        nonlocal document
        for number, event in enumerate(yaml.parse(data, Loader=yaml.CSafeLoader)):
            if number % _STEP == 0:
                pause()
            document += isinstance(event, events.DocumentStartEvent)
            yield event

    try:
        return b'=' + _packed(parsed(), is_standard)
    except yaml.MarkedYAMLError as error:
        message = error.problem or 'invalid YAML'
        mark = error.problem_mark
        if mark is not None:
            place = f', line: {mark.line + 1}, column: {mark.column + 1}' if mark.line or mark.column else ''
            message += f' at document: {document}{place}\n'
        if error.context is not None and error.context_mark is not None:
            mark = error.context_mark
            message += f'{error.context} at line: {mark.line + 1}, column: {mark.column + 1}\n'
    except (yaml.YAMLError, ValueError, binascii.Error) as error:
        message = str(error)
    return b'!' + text(b's', message.encode(errors='replace'))


def packed_value(document: bytes) -> bytes:
    """The value of a document, packed.

    Raises:
        Unshowable: the document cannot be read, has no value, or is too large.
    """
    pauses = 0

    def pause() -> None:
        nonlocal pauses
        pauses += 1
        if pauses > _PAUSES_MAX:
            raise Unshowable('the result is too large: only yaml can show it')

    packed = read_documents(document, pause, is_standard=True)
    if packed == b'=L]':
        raise Unshowable('the reply has no document')
    if packed[:1] != b'=':
        raise Unshowable(f'the reply cannot be read: {packed.partition(b":")[2].decode(errors="replace").strip()}')
    return packed[2:-1]
