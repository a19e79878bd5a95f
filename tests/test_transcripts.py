"""The recorded cases of the real console, one test for each, in their order on one fresh server.

The cases of functions that are not there yet are expected to fail, by name; one that passes anyway shows as XPASS.
"""
from __future__ import annotations

from pathlib import Path

import pytest
import replay
import yaml

CASES = yaml.load((Path(__file__).parent / 'transcripts' / 'tarantool-2.6.yml').read_bytes(), yaml.CSafeLoader)

# Name of a case: what it needs.
NOT_YET = {
    **dict.fromkeys(['session-26', 'session-27', 'session-28', 'session-32', 'session-33', 'session-34', 'session-35'],
                    'box.session.su'),
    'user': 'box.schema.user', 'role': 'box.schema.role', 'func': 'box.schema.func',
}


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    from conftest import Served
    folder = tmp_path_factory.mktemp('transcripts')
    (folder / 'config.yml').write_text('listen:\n- {address: "127.0.0.1:0", dialect: tarantool}\n')
    served = Served(['-c', 'config.yml'], folder)
    host, _, port = served.addresses()[0].rpartition(':')
    yield host, int(port)
    assert served.stop() == 0


def parameters():
    for case in CASES:
        reason = NOT_YET.get(case['name'])
        marks = [pytest.mark.xfail(reason=f'not yet: {reason}', strict=True)] if reason else []
        yield pytest.param(case, id=case['name'], marks=marks)


@pytest.mark.parametrize('case', list(parameters()))
def test_answers_as_recorded(address, case):
    difference = replay.run_case(address, case, patience=1.0)
    if difference:
        where, want, got = difference
        assert want == got, where


def test_every_expected_failure_names_a_case():
    assert set(NOT_YET) <= {case['name'] for case in CASES}
