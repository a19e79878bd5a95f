"""Ctrl-C that arrives together with statements in Python, before they run."""
from __future__ import annotations

import pytest


@pytest.mark.parametrize('statement', ['while True: pass\n\n', 'if 1:\n  pass\n\n', '1 + 1\n'])
def test_a_whole_statement_is_answered(console, connect, tmp_path, statement):
    client = connect(console(listen=[{'address': f'unix:{tmp_path}/sock', 'languages': ['python']}]))
    client.send(statement + '\x03')
    assert b'the statement was cancelled' in client.document()
    assert client.value('1 + 1') == 2


def test_the_beginning_of_one_is_dropped(console, connect, tmp_path):
    client = connect(console(listen=[{'address': f'unix:{tmp_path}/sock', 'languages': ['python']}]))
    client.send('while True:\n  pass\n\x031 + 1\n')
    assert client.document() == b'---\n- 2\n...\n'
