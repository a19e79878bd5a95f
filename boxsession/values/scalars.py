"""Writes long strings as YAML scalars, in pieces, with the same bytes as libyaml's emitter.

The emitter writes a scalar in one C call, which blocks the event loop. So a long string is given to the emitter as a short
placeholder in the style that the string needs. The emitter's output shows the column and the indent, and the string then
replaces the placeholder. One difference remains: in flow style (`[a, b]`) the emitter may break lines after a long string
at other places.

The rules are those of yaml_emitter_analyze_scalar() and the functions that it calls, for printable strings.
"""
from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Iterator

from boxsession.values.packed import is_printable_piece, pieces

__all__ = ['LONG', 'LongScalar', 'Placeholders']

# Strings of more bytes are written by this module.
LONG = 1 << 16

_WIDTH = 80                 # the emitter breaks lines at spaces after this column
_BREAKS = (b'\n', b'\xe2\x80\xa8', b'\xe2\x80\xa9')
_EXCEPT = {name: bytes(set(range(256)) - set(chars)) for name, chars in {
    # Not possible in single quotes and literals: control characters, and code points of more than 16 bits.
    'special': b'\t' + bytes(range(9)) + bytes(range(11, 32)) + b'\x7f' + bytes(range(0xf0, 0x100)),
    'flow': b',?[]{}:', 'quote': b"'", 'line': b'\n',
    # In double quotes these take one, three and six bytes more.
    'short': b'\0\a\b\t\n\v\f\r\x1b"\\', 'long': bytes({*range(32), 127} - set(b'\0\a\b\t\n\v\f\r\x1b')),
    'wide': bytes(range(0xf0, 0x100)),
}.items()}
_NUMERIC = b'0123456789abcdefABCDEFxXpP.+-'
_NUMBER = re.compile(rb'[+-]?\.?[0-9]')
# Start of a string that is not plain.
_INDICATOR = re.compile(rb'[#,\[\]{}&*!|>\'"%@` \n]|\xe2\x80[\xa8\xa9]|[-?:](?: |\Z)|---|\.\.\.')


# By code point: its form in double quotes. _WIDE matches those of more than 16 bits, which _escaped() writes.
_ESCAPES = {code: f'\\x{code:02X}' if code < 32 or code == 127 else chr(code) for code in range(128)}
_ESCAPES.update({ord(char): text for char, text in {
    '\0': '\\0', '\a': '\\a', '\b': '\\b', '\t': '\\t', '\n': '\\n', '\v': '\\v', '\f': '\\f', '\r': '\\r', '\x1b': '\\e',
    '"': '\\"', '\\': '\\\\', '\u2028': '\\L', '\u2029': '\\P'}.items()})
_WIDE = re.compile('[\U00010000-\U0010ffff]+')
_LINE_BREAKS = re.compile('([\n\u2028\u2029]+)')
_INDENTED = re.compile('(?<=[\n\u2028\u2029])(?=[^\n\u2028\u2029])')
# Places for a line break: a single space; in double quotes also the first of several spaces, but not the last character.
_SINGLE_SPACE, _FIRST_SPACE = re.compile('(?<! ) (?! )'), re.compile(r'(?<! ) (?!\Z)')


def _count(piece: bytes, what: str) -> int:
    return len(piece.translate(None, _EXCEPT[what]))


class LongScalar:
    """A long string to write.

    Args:
        data: the string.
        quoted: write it in quotes in any case.
        pause: called between two pieces, so that other greenlets can run; may raise.

    Attributes:
        style: '' (plain), one of the quotes, '|', or 'binary' for data that is not text.
        has_flow_indicators: the emitter must not write it plain in flow style.
        size: its length as a scalar in bytes, without the line breaks of folding.
    """

    __slots__ = ('_data', '_pause', 'style', 'has_flow_indicators', 'size')

    def __init__(self, data: bytes, quoted: bool, pause: Callable[[], None]):
        self._data, self._pause = data, pause
        self.has_flow_indicators = False
        self.style = self._chosen_style(quoted)

    def _chosen_style(self, quoted: bool) -> str:
        data = self._data
        special = breaks = break_space = space_break = indicators = empty_line = False
        may_be_number, seen_zero = _NUMBER.match(data) is not None, False
        double = single = len(data)
        tail = b''
        for piece in pieces(data, self._pause):
            if not is_printable_piece(piece):
                self.size = (len(data) + 2) // 3 * 4
                return 'binary'
            joint = tail + piece
            tail = piece[-3:]
            special = special or _count(piece, 'special') > 0
            for mark in _BREAKS:
                if mark in joint:
                    breaks = True
                    break_space = break_space or mark + b' ' in joint
                    space_break = space_break or b' ' + mark in joint
            # Tarantool searches for the empty line with strstr(), which stops at the first zero byte.
            if not seen_zero:
                text, zero, _ = joint.partition(b'\0')
                empty_line, seen_zero = empty_line or b'\n\n' in text, bool(zero)
            indicators = indicators or b': ' in joint or b' #' in joint
            self.has_flow_indicators = self.has_flow_indicators or _count(piece, 'flow') > 0
            may_be_number = may_be_number and not piece.translate(None, _NUMERIC)
            single += _count(piece, 'quote') + _count(piece, 'line')
            double += _count(piece, 'short') + 3 * _count(piece, 'long') + 6 * _count(piece, 'wide')
        style = "'" if quoted or may_be_number else '|' if empty_line else ''
        if not style and (special or breaks or indicators or data.endswith((b' ', b':')) or _INDICATOR.match(data)):
            style = "'"
        if (space_break or special or style == "'" and break_space or style == '|' and data.endswith(b' ')):
            style = '"'
        self.size = double if style == '"' else single if style == "'" else len(data)
        return style

    def written(self, style: str, column: int, indent: int) -> Iterator[bytes]:
        """Yields the scalar in pieces, without quotes.

        Args:
            style: the style in which the emitter has written the placeholder.
            column: the column at which the scalar begins.
            indent: number of spaces at the start of further lines.
        """
        if style == 'binary':
            # A multiple of three bytes, so that only the last piece has padding.
            step = 3 << 12
            for at in range(0, len(self._data), step):
                self._pause()
                yield base64.b64encode(self._data[at:at + step])
        elif style == '|':
            yield from self._literal(indent)
        else:
            for text in self._folded(style, column, indent):
                yield text.encode()

    def _texts(self) -> Iterator[tuple[str, str]]:
        """Pairs of a piece and the first character of the next piece, '' for the last piece."""
        last = ''
        for piece in pieces(self._data, self._pause):
            text = piece.decode()
            if last:
                yield last, text[0]
            last = text
        yield last, ''

    def _folded(self, style: str, column: int, indent: int) -> Iterator[str]:
        margin = ' ' * indent
        place = _FIRST_SPACE if style == '"' else _SINGLE_SPACE
        before, in_breaks = ' ', False
        for text, after in self._texts():
            out: list[str] = []
            if style == '"':
                parts = [_WIDE.sub(_escaped, text.translate(_ESCAPES))]
            elif style == "'":
                parts = _lines(text.replace("'", "''"), column, indent)
            else:
                parts = [text]
            for number, part in enumerate(parts):
                if not part:
                    continue
                if number % 2:
                    if not in_breaks and part[0] == '\n':
                        out.append('\n')
                    out.append(part)
                    in_breaks = True
                    continue
                if in_breaks:
                    out.append(margin)
                    column, in_breaks = indent, False
                if '\n' in part:
                    # Short lines, which need no folding. The first of several line breaks in a row is written twice.
                    part = part.replace('\n', '\n\n' + margin).replace(margin + '\n\n', '\n')
                    out.append(part)
                    column, before = len(part) - part.rfind('\n') - 1, part[-1]
                    continue
                is_last = number == len(parts) - 1
                behind = after if is_last else '\n'
                column = _fold(out, part, before, behind or ('' if style == '"' else ' '), place, column, margin)
                before = part[-1]
            yield ''.join(out)
        if in_breaks:
            yield margin

    def _literal(self, indent: int) -> Iterator[bytes]:
        data, margin = self._data, ' ' * indent
        chomping = b'-'
        for mark in _BREAKS:
            if data.endswith(mark):
                chomping = b'+' if data[:-len(mark)].endswith(_BREAKS) else b''
        yield b'|%s%s\n' % (b'2' if data.startswith((b' ', *_BREAKS)) else b'', chomping)
        before = '\n'
        for text, _ in self._texts():
            yield _INDENTED.sub(margin, before + text)[1:].encode()
            before = text[-1]

    def ends_line(self, style: str) -> bool:
        """Whether the written scalar ends with a line break."""
        return style == '|' and self._data.endswith(_BREAKS)


def _escaped(match: re.Match[str]) -> str:
    return ''.join([f'\\U{ord(char):08X}' for char in match.group()])


def _lines(text: str, column: int, indent: int) -> list[str]:
    """Splits a text into texts and line breaks, alternately. Lines that need no folding stay together."""
    if '\u2028' not in text and '\u2029' not in text and '\n' in text:
        lines = text.split('\n')
        if max(column, indent) + max(map(len, lines)) <= _WIDTH:
            inner = text.strip('\n')
            lead = len(text) - len(text.lstrip('\n')) if inner else len(text)
            return ['', text[:lead], inner, text[lead + len(inner):]]
    return _LINE_BREAKS.split(text)


def _fold(out: list[str], part: str, before: str, behind: str, place: re.Pattern[str], column: int, margin: str) -> int:
    """Appends a text to `out` and breaks lines that are too long. Returns the column after the text."""
    text = before + part + behind
    start, limit = 1, 1 + len(part)
    while True:
        found = place.search(text, max(start, start + _WIDTH + 1 - column))
        if found is None or found.start() >= limit:
            break
        at = found.start()
        out.append(text[start:at])
        out.append('\n')
        out.append(margin)
        start, column = at + 1, len(margin)
        if text[start:start + 1] == ' ':
            out.append('\\')
            column += 1
    out.append(text[start:limit])
    return column + limit - start


class Placeholders:
    """The long strings of one document, and the placeholders that the emitter writes for them."""

    def __init__(self) -> None:
        self._scalars: list[LongScalar] = []
        self._mark = secrets.token_hex(16)      # random, so that no text contains it
        self.size = 0                           # of all scalars, in bytes

    def add(self, scalar: LongScalar) -> tuple[str, str | None]:
        """Adds a scalar. Returns the placeholder for the emitter, and its style."""
        self._scalars.append(scalar)
        self.size += scalar.size
        # Too long for a key on one line. The emitter breaks the line at the space, which shows the indent.
        text = f'{self._mark}{"x" * 2 * _WIDTH} {"," if scalar.has_flow_indicators else "x"}x'
        return text, scalar.style if scalar.style in ("'", '"', '|') else None

    def replaced(self, document: bytes, check: Callable[[int], None]) -> list[bytes]:
        """Replaces the placeholders in a document by the long strings. Returns the document in pieces.

        Args:
            document: the emitter's output.
            check: called with the size of the strings so far, in bytes; may raise.
        """
        if not self._scalars:
            return [document]
        pattern = re.compile(rb'(\|-\n *)?%sx+(?:\n( *)| )[x,]x' % self._mark.encode())
        out: list[bytes] = []
        at = size = 0
        for scalar, found in zip(self._scalars, pattern.finditer(document), strict=False):
            start = found.start()
            line = document.rfind(b'\n', 0, start) + 1
            opening = document[start - 1:start].decode(errors='replace')
            if found.group(1):
                style, indent = '|', len(found.group(1)) - 3
            else:
                style = scalar.style if scalar.style == 'binary' else opening if opening in ('"', "'") else ''
                indent = len(found.group(2) or b'')
            out.append(document[at:start])
            for piece in scalar.written(style, len(document[line:start].decode()), indent):
                out.append(piece)
                size += len(piece)
                check(size)
            at = found.end() + scalar.ends_line(style)
        out.append(document[at:])
        return out
