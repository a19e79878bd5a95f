"""The quick writer of YAML: the same bytes as the emitter's, or nothing."""
from __future__ import annotations

from conftest import rounds
from hypothesis import example, given, settings
from hypothesis import strategies as st

from boxsession.python.quick import quick_document
from boxsession.python.values import packed
from boxsession.values.packed import tokens
from boxsession.values.yaml import document

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20),
                    st.sampled_from(['on', 'yes', 'true', '1:30', '2001-01-01', '~', '-', 'a b', ' a', 'a ', 'a:b', 'a: b',
                                     '', 'x' * 70,
                                     '.5', "it's: a", 'Error: x (y:1)', "'a': b", 'a: b ', ': ', 'a: "b"', '# a: b',
                                     '/usr/bin', 'it is ' * 12, '---', '...', 'a #b', 'a/b.c-d']))
VALUES = st.recursive(SCALARS, lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(SCALARS, inner, max_size=4)), max_leaves=12)


@given(VALUES)
@example({'a': [1, [2, []], {}], 'b': {'c': {'d': []}}})
@example([[{'a': {'b': [[1]]}}]])
@settings(max_examples=rounds(300, 5000))
def test_its_bytes_are_those_of_the_emitter(value):
    content = packed(value, 1 << 20)
    quick = quick_document(value)
    assert quick is None or quick == document(tokens(content), as_list=True)


def test_it_writes_what_is_plain():
    for value in (1, 1.5, True, 'abc', 'a b', '12', [1, 2], {'a': [1, {'b': None}], 'c': {'d': 1}}, [], {}, [[], {}]):
        assert quick_document(value) is not None


def test_it_leaves_the_rest_to_the_emitter():
    for value in ('\n', 'a: b ', 'ä', 'x' * 100, [1] * 2000):
        assert quick_document(value) is None
