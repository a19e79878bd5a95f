"""Functions and modules of Tarantool 2.6 that are no part of its console: recorded statements have the recorded replies."""
from __future__ import annotations

import pytest
import recorded
from conftest import PROJECT, need
from differences import same

FILES = sorted((PROJECT / 'tests' / 'transcripts' / 'modules').glob('*.txt'))
NAMES = [path.stem for path in FILES]


def differences(path, client):
    return [(statement, want.decode(), got.decode()) for statement, want in recorded.read(path)
            if not same(want, got := client.reply(statement))]


@pytest.mark.parametrize('path', FILES, ids=NAMES)
def test_replies_are_as_recorded(console, connect, path):
    assert [] == differences(path, connect(console(dialect='tarantool')))


@need('tarantool')
@pytest.mark.parametrize('path', FILES, ids=NAMES)
def test_the_record_is_true(tarantool, connect, path):
    assert [] == differences(path, connect(tarantool.address))
