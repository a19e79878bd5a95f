"""The recorded cases of the real console, one test for each, in their order on one fresh server."""
from __future__ import annotations

import pytest
import replay
import yaml
from conftest import PROJECT

pytestmark = pytest.mark.slow
CASES = yaml.load((PROJECT / 'tests' / 'transcripts' / 'tarantool-2.6.yml').read_bytes(), yaml.CSafeLoader)

@pytest.fixture(scope='module')
def address(tmp_path_factory):
    from conftest import Served
    folder = tmp_path_factory.mktemp('transcripts')
    (folder / 'config.yml').write_text('listen:\n- {address: "127.0.0.1:0", dialect: tarantool}\n')
    served = Served(['-c', 'config.yml'], folder)
    host, _, port = served.addresses()[0].rpartition(':')
    yield host, int(port)
    assert served.stop() == 0


@pytest.mark.parametrize('case', CASES, ids=[case['name'] for case in CASES])
def test_answers_as_recorded(address, case):
    difference = replay.run_case(address, case, patience=1.0)
    if difference:
        where, want, got = difference
        assert want == got, where
