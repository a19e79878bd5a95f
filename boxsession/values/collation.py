"""Compares texts like the root collation of Unicode (UCA), without its rules for single languages and its weights of rare
characters: spaces, punctuation, symbols, digits, letters; then accents; then case. For the module utf8 of Tarantool.
"""
from __future__ import annotations

import unicodedata
from collections.abc import Callable

__all__ = ['compare']

# ASCII in the order of the root collation, up to the digits. Letters follow, by their alphabets.
_FIRST = '\t\n\v\f\r _-,;:!?.\'"()[]{}@*/\\&#%`^+<=>|~$0123456789'
_RANKS = {character: chr(rank) for rank, character in enumerate(_FIRST, 1)}
# Where characters beyond ASCII of a category begin: behind ASCII's of that kind.
_BEHIND = {'Z': ' ', 'P': '%', 'S': '~', 'N': '9'}
# Letters without a decomposition that count as others with an accent, and letters with places of their own behind others.
_LIKE = {'ø': 'o', 'đ': 'd', 'ħ': 'h', 'ł': 'l', 'ŧ': 't', 'æ': 'ae', 'œ': 'oe'}
_PLACES = {'ı': 'i\uffff', 'ð': 'd\uffff', 'ŋ': 'n\uffff', 'ĸ': 'q\uffff', 'þ': 'z\uffff'}
# What invalid bytes become. It is behind all others.
_INVALID = '\ufffd'
_KEPT_MAX = 4096
# Characters that are compared at once, and combining marks that may follow them.
_PIECE, _MARKS_MAX = 256, 30


class _Keys(dict[int, str]):
    """A table for str.translate() that is filled on demand."""

    def __init__(self, make: Callable[[str], str]):
        super().__init__()
        self._make = make

    def __missing__(self, code: int) -> str:
        if len(self) >= _KEPT_MAX:
            self.clear()
        key = self[code] = self._make(chr(code))
        return key


def _is_ignored(character: str) -> bool:
    return unicodedata.category(character) in ('Cc', 'Cf', 'Cs') and character not in _RANKS


def _primary(character: str) -> str:
    rank = _RANKS.get(character)
    if rank is not None:
        return rank
    category = unicodedata.category(character)
    if character == _INVALID:
        return '\U0010ffff'
    if category[0] == 'M' or _is_ignored(character):
        return ''
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return _RANKS[str(int(digit))]
    behind = _BEHIND.get(category[0])
    if behind is not None:
        return _RANKS[behind] + character
    if category == 'Sc':
        return _RANKS['$'] + character
    letters = unicodedata.normalize('NFKD', character.casefold())
    return ''.join(_PLACES.get(letter) or _LIKE.get(letter) or letter for letter in letters
                   if unicodedata.category(letter)[0] != 'M')


def _secondary(character: str) -> str:
    if unicodedata.category(character)[0] == 'M':
        return character
    lower = character.lower()
    return '\1' + lower if lower in _LIKE else '' if _is_ignored(character) else '\1'


def _tertiary(character: str) -> str:
    if unicodedata.category(character)[0] == 'M' or _is_ignored(character):
        return ''
    return '\2' if character != character.lower() else '\1'


_PRIMARY, _SECONDARY, _TERTIARY = _Keys(_primary), _Keys(_secondary), _Keys(_tertiary)


def compare(one: str, other: str, ignores_case: bool, pause: Callable[[], None] = lambda: None) -> int:
    """-1, 0 or 1. With `ignores_case`, accents do not count either. Calls pause() about every millisecond."""
    first, second = _decomposed(one, pause), _decomposed(other, pause)
    for keys in (_PRIMARY,) if ignores_case else (_PRIMARY, _SECONDARY, _TERTIARY):
        left, right = _key(first, keys, pause), _key(second, keys, pause)
        if left != right:
            return -1 if left < right else 1
    return 0


def _decomposed(text: str, pause: Callable[[], None]) -> list[str]:
    """The NFD of a text, in pieces. Each ends before a character that begins a new sequence of combining marks.

    Bringing such a sequence into order takes quadratic time. So a piece also ends after _MARKS_MAX more marks, the limit of
    Unicode's Stream-Safe Text Format: behind it marks count in the order of the text.
    """
    pieces, start = [], 0
    while start < len(text):
        end = start + _PIECE
        while end < min(len(text), start + _PIECE + _MARKS_MAX) and _combines(text[end]):
            end += 1
        pieces.append(unicodedata.normalize('NFD', text[start:end]))
        start = end
        pause()
    return pieces


def _combines(character: str) -> bool:
    return unicodedata.combining(unicodedata.normalize('NFD', character)[0]) > 0


def _key(pieces: list[str], keys: _Keys, pause: Callable[[], None]) -> str:
    parts = []
    for piece in pieces:
        parts.append(piece.translate(keys))
        pause()
    return ''.join(parts)
