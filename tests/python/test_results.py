"""The last results of a session."""
from __future__ import annotations

from boxsession.python.results import Results


def shown(names):
    return [names[f'_{number}'] for number in range(1, 10)]


def test_the_last_nine():
    names = {}
    results = Results(names)
    assert results.last is None and names['_'] is None and shown(names) == [None] * 9
    for number in range(12):
        results.add(number, 1, 0)
    assert results.last == names['_'] == 11
    assert shown(names) == [11, 10, 9, 8, 7, 6, 5, 4, 3]


def test_a_limit_drops_the_oldest_but_keeps_the_last():
    names = {}
    results = Results(names)
    for number in range(5):
        results.add(number, 10, 30)
    assert shown(names) == [4, 3, 2] + [None] * 6
    results.add('long', 100, 30)
    assert shown(names) == ['long'] + [None] * 8
    results.add('short', 1, 30)
    assert shown(names) == ['short'] + [None] * 8
