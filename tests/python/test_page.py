"""The walk through docs/python.rst, in examples/prices.py."""
from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml
from conftest import PROJECT
from waiting import wait_for

PAGE = (PROJECT / 'docs' / 'python.rst').read_text()
WALK = PAGE.partition('A walk through a service')[2].partition('\nValues\n')[0]


def steps():
    """(statement, reply as it is shown) of each step of the walk."""
    lines = [line[4:] for line in WALK.splitlines() if line.startswith('    ')]
    found = []
    for line in lines:
        if line.startswith('> '):
            found.append(([line[2:]], []))
        elif line[:1] == '.' and line != '...' and not found[-1][1]:
            found[-1][0].append(line[2:])
        elif found:
            found[-1][1].append(line)
    return [('\n'.join(statement), '\n'.join(reply).partition('\n...')[0]) for statement, reply in found]


def alike(text):
    """The value of a document, without what differs in each run."""
    text = re.sub(r'/\S*/examples/', '/examples/', text).replace(':Prices.', ':')        # 3.10 knows no class of a call
    return re.sub(r'\d{3,}\.\d+', 'N', repr(yaml.safe_load(re.sub(r'^(%TAG .*\n)?', '', text))))


@pytest.fixture
def prices(connect, tmp_path):
    process = subprocess.Popen([sys.executable, str(PROJECT / 'examples' / 'prices.py')], cwd=tmp_path,
                               stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == 'console on unix:prices.sock\n'
        yield connect(f'unix:{tmp_path}/prices.sock')
    finally:
        process.terminate()
        assert process.wait(10) == 0
        process.stdout.close()


def test_the_walk(prices):
    wait_for(lambda: prices.value('len(prices.cache)') == 3)
    walk = steps()
    assert len(walk) >= 12
    found = 0
    for statement, shown in walk:
        if 'gkill' in statement:
            statement = statement.replace('5', str(found))
        prices.send(statement.encode() + b'\n')
        reply = prices.document().decode()
        if "['ids']" in statement:
            found = yaml.safe_load(reply)[0][0][0][0]
            reply = reply.replace(str(found), '5', 1)
        assert alike(reply) == alike(shown), statement
