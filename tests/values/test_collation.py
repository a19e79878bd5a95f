"""The order of texts that the module utf8 compares by."""
from __future__ import annotations

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
