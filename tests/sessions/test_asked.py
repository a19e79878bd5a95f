"""The replies that Tarantool gave (tests/transcripts/*.txt) are ours, too."""
from __future__ import annotations

import asked
import pytest
from conftest import PROJECT, need
from differences import same
from real_tarantool import Tarantool

FILES = sorted((PROJECT / 'tests' / 'transcripts').glob('*.txt'))
IDS = [path.stem for path in FILES]
# As the script of the real Tarantool (tests/support/real_tarantool.py) before the first statement.
BEFORE = ["box.schema.user.grant('guest', 'execute', 'universe')", "box.schema.user.create('ops', {password = 'pass'})",
          "box.schema.user.grant('ops', 'execute', 'universe')"]


def differing(client, path):
    """The statements whose replies differ, with the expected and the actual reply."""
    return [(statement, want, got) for statement, want in asked.read(path)
            if not same(want, got := client.reply(statement))]


@pytest.mark.parametrize('path', FILES, ids=IDS)
def test_answers_as_recorded(console, connect, path):
    client = connect(console(dialect='tarantool'))
    for statement in BEFORE:
        client.reply(statement)
    assert [] == differing(client, path)


@need('tarantool')
@pytest.mark.parametrize('path', FILES, ids=IDS)
def test_the_record_is_true(connect, tmp_path, path):
    server = Tarantool(tmp_path)
    try:
        assert [] == differing(connect(server.address), path)
    finally:
        server.stop()
