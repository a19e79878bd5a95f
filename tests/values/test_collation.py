"""The order of texts that the module utf8 compares by."""
from __future__ import annotations

import unicodedata

import pytest

from boxsession.values.collation import compare


@pytest.mark.parametrize('words', [
    [' ', '_', '-', '!', '(', '$', '0', '9', 'a', 'A', 'b', 'z', 'Z', 'α', 'я', '日'],
    ['cote', 'Cote', 'coté', 'côte', 'z'], ['d', 'đ', 'ð', 'e'], ['x¹', 'x2'], ['', '\0a'], ['a', '\ufffd'],
])
def test_order(words):
    assert all(compare(one, other, False) == -1 and compare(other, one, False) == 1
               for one, other in zip(words, words[1:], strict=False))


@pytest.mark.parametrize(('one', 'other'), [('a', 'A'), ('é', 'E'), ('Straße', 'STRASSE'), ('ﬁ', 'fi'), ('a\0', 'a')])
def test_equal_without_case(one, other):
    assert compare(one, other, True) == 0


def test_tables_stay_small():
    for start in range(0x3400, 0x9000, 500):
        compare(''.join(map(chr, range(start, start + 500))), 'x', False)
    from boxsession.values import collation
    assert len(collation._PRIMARY) <= collation._KEPT_MAX + 1


# Marks of two classes, which NFD brings into order; a character that decomposes into marks only.
MARKS, ONLY_MARKS = '\u0301\u0316', '\u0f73'


@pytest.mark.parametrize('unit', ['a' + MARKS, 'a' + MARKS * 7, '\u0f40' + ONLY_MARKS, '\u1f82', '\uac01', 'ab'])
@pytest.mark.parametrize('before', [0, 1, 2, 3])
def test_long_texts_are_equal_to_their_decomposition(unit, before):
    text = '-' * before + unit * 300
    assert 0 == compare(text, unicodedata.normalize('NFD', text), False)
    assert -1 == compare(text + 'a', unicodedata.normalize('NFD', text) + 'b', False)


@pytest.mark.parametrize('text', [MARKS * 4095, 'a' + MARKS * 4095, 'a' * 8191, '\u1f82' * 5461, (MARKS * 20 + 'a') * 200])
@pytest.mark.parametrize('ignores_case', [False, True])
def test_long_texts_are_compared_in_short_steps(monkeypatch, text, ignores_case):
    pieces, pauses = [], []
    normalize = unicodedata.normalize
    monkeypatch.setattr(unicodedata, 'normalize', lambda form, piece: pieces.append(piece) or normalize(form, piece))
    assert 0 == compare(text, text, ignores_case, lambda: pauses.append(1))
    assert max(map(len, pieces)) <= 300
    assert len(pauses) >= 4 * len(text) // 300
