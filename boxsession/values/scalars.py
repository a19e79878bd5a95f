"""Long strings as YAML scalars, in pieces, with the bytes that libyaml's emitter writes for them.

The emitter writes a scalar in one call of C, during which nobody else runs. A long string is therefore given to it as a
short placeholder in the style that the string needs; what the emitter then writes tells the column and the indent, and
the string takes the place of the placeholder. Only where the emitter writes in flow style (`[a, b]`) it may break lines
behind a long string at other places.

The rules are those of yaml_emitter_analyze_scalar() and the functions behind it, for strings that are printable.
"""
from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Iterator

from boxsession.values.packed import is_printable_piece, pieces

__all__ = ['LONG', 'LongScalar', 'Placeholders']

# Strings of more bytes are written here.
LONG = 1 << 16

_WIDTH = 80                 # the emitter breaks lines at spaces behind this column
_BREAKS = (b'\n', b'\xe2\x80\xa8', b'\xe2\x80\xa9')
_EXCEPT = {name: bytes(set(range(256)) - set(chars)) for name, chars in {
    # What single quotes and literals cannot hold: control characters, and code points of more than 16 bits.
    'special': b'\t' + bytes(range(9)) + bytes(range(11, 32)) + b'\x7f' + bytes(range(0xf0, 0x100)),
    'flow': b',?[]{}:', 'quote': b"'", 'line': b'\n',
    # In double quotes these take one byte more than themselves, three, and six.
    'short': b'\0\a\b\t\n\v\f\r\x1b"\\', 'long': bytes({*range(32), 127} - set(b'\0\a\b\t\n\v\f\r\x1b')),
    'wide': bytes(range(0xf0, 0x100)),
}.items()}
_NUMERIC = b'0123456789abcdefABCDEFxXpP.+-'
_NUMBER = re.compile(rb'[+-]?\.?[0-9]')
# How a string begins that is not plain.
_INDICATOR = re.compile(rb'[#,\[\]{}&*!|>\'"%@` \n]|\xe2\x80[\xa8\xa9]|[-?:](?: |\Z)|---|\.\.\.')


# By code point: what stands for it in double quotes, where that is not itself; wider ones beside.
_ESCAPES = {code: f'\\x{code:02X}' if code < 32 or code == 127 else chr(code) for code in range(128)}
_ESCAPES.update({ord(char): text for char, text in {
    '\0': '\\0', '\a': '\\a', '\b': '\\b', '\t': '\\t', '\n': '\\n', '\v': '\\v', '\f': '\\f', '\r': '\\r', '\x1b': '\\e',
    '"': '\\"', '\\': '\\\\', '\u2028': '\\L', '\u2029': '\\P'}.items()})
_WIDE = re.compile('[\U00010000-\U0010ffff]+')
_LINE_BREAKS = re.compile('([\n\u2028\u2029]+)')
_INDENTED = re.compile('(?<=[\n\u2028\u2029])(?=[^\n\u2028\u2029])')
# Where a line may be broken: at a single space; in double quotes at the first of several, too. Not at the last character.
_SINGLE_SPACE, _FIRST_SPACE = re.compile('(?<! ) (?! )'), re.compile(r'(?<! ) (?!\Z)')


def _count(piece: bytes, what: str) -> int:
    return len(piece.translate(None, _EXCEPT[what]))


class LongScalar:
    """A long string that is to be written.

    Args:
        data: the string.
        quoted: whether it is to stand in quotes, whatever it is.
        pause: called between two pieces; may raise.

    Attributes:
        style: '' (plain), one of the quotes, '|', or 'binary' for what is no text.
        has_flow_indicators: whether the emitter must not write it plain in flow style.
        size: how many bytes it takes, without the breaks of lines.
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
            # Tarantool looks for the empty line with strstr(), which sees a string up to its first zero byte.
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
        """The scalar in pieces, without quotes, from a column on; `style` is what the emitter made of its placeholder."""
        if style == 'binary':
            # Whole groups of three bytes.
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
        """Pairs of a piece and the first character behind it, which is '' behind the last."""
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
                    # Short lines. Of breaks that follow one another the first is written twice.
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
        """Whether it ends with a line break of its own."""
        return style == '|' and self._data.endswith(_BREAKS)


def _escaped(match: re.Match[str]) -> str:
    return ''.join([f'\\U{ord(char):08X}' for char in match.group()])


def _lines(text: str, column: int, indent: int) -> list[str]:
    """Texts and the breaks of lines behind them, in turns; lines that need not be broken stay together."""
    if '\u2028' not in text and '\u2029' not in text and '\n' in text:
        lines = text.split('\n')
        if max(column, indent) + max(map(len, lines)) <= _WIDTH:
            inner = text.strip('\n')
            lead = len(text) - len(text.lstrip('\n')) if inner else len(text)
            return ['', text[:lead], inner, text[lead + len(inner):]]
    return _LINE_BREAKS.split(text)


def _fold(out: list[str], part: str, before: str, behind: str, place: re.Pattern[str], column: int, margin: str) -> int:
    """Appends a text, with line breaks where it is too long; gives the column behind it."""
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
    """The long strings of one document."""

    def __init__(self) -> None:
        self._scalars: list[LongScalar] = []
        self._mark = secrets.token_hex(16)      # no text can have it by chance
        self.size = 0                           # of all of them, in bytes

    def add(self, scalar: LongScalar) -> tuple[str, str | None]:
        """The text that the emitter is to write in its place, and the style."""
        self._scalars.append(scalar)
        self.size += scalar.size
        # It is too long for a key on one line, and is broken at its space, which tells the indent.
        text = f'{self._mark}{"x" * 2 * _WIDTH} {"," if scalar.has_flow_indicators else "x"}x'
        return text, scalar.style if scalar.style in ("'", '"', '|') else None

    def replaced(self, document: bytes, check: Callable[[int], None]) -> list[bytes]:
        """The document in pieces, with the long strings in their places.

        `check` is called with the sizes so far, and may raise.
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
