"""The walk through docs/worst_night.rst, in examples/troubled.py."""
from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from conftest import PROJECT
from waiting import connected, wait_for

PAGE = (PROJECT / 'docs' / 'worst_night.rst').read_text()
SOURCE = (PROJECT / 'examples' / 'troubled.py').read_text().splitlines()


@pytest.fixture
def start(tmp_path):
    """Starts the service in a folder of its own; start('--refunds-after', '0') returns a client of its console, and one of
    its rescue listener."""
    started = []

    def run(*options):
        process = subprocess.Popen([sys.executable, str(PROJECT / 'examples' / 'troubled.py'), *options], cwd=tmp_path,
                                   env={**os.environ, 'PYTHONPATH': str(PROJECT)}, stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        clients = [connected(tmp_path / name) for name in ('shop.sock', 'rescue.sock')]
        started.extend(clients)
        return clients

    yield run
    for client in started[1:]:
        client.close()
    with started[0] as process:
        process.terminate()
        try:
            assert 0 == process.wait(30)
        finally:
            process.kill()


def line_of(where):
    return SOURCE[int(where.rpartition(':')[2]) - 1].strip()


def test_a_held_loop(start):
    client, rescue = start()
    client.send('shop:report()\n')
    # Long enough for the list of holds.
    shown = wait_for(lambda: (found := rescue.value('\\where')).get('held_s', 0) > 0.5 and found)
    # Python 3.10 has no qualified names.
    assert "shop:report()" in shown['by'] and shown['stack'][0].endswith('report')
    assert rescue.value('\\cancel')['stopped']
    assert 'cancelled' in client.document().decode()
    assert 'report' in str(wait_for(lambda: client.value('\\loop')['holds'])[0]['stack'])


def test_a_deadlock(start):
    client, _ = start('--refunds-after', '0.05', '--each-second', '200')

    def deadlocked():
        rows = client.value('\\greenlets owner=program')
        kinds = sum(row['run'].endswith(('order', 'refund')) for row in rows)
        return (kinds >= 4 and sum(row['count'] for row in rows) > 50
                and [row['ids'][0] for row in rows if row['run'].endswith('refund') and row['count'] == 1])

    number, = wait_for(deadlocked)
    shown = client.value(f'\\where {number} locals')
    assert 'with self.stock_lock:' == line_of(shown['stack'][0].partition(' ')[0])
    assert "'tea'" == shown['locals'][0]['article']
    assert [True] == client.values(f'\\gkill {number}')
    wait_for(lambda: number not in [row['ids'][0] for row in client.value('\\greenlets owner=program')])


def test_a_leak(start):
    client, _ = start('--refunds-after', '600', '--each-second', '500')
    # Some may still be variables of requests under way.
    wait_for(lambda: 'attribute history of __main__.Shop' in str(client.value('\\memory who Order')['referrers']))
    assert client.value('\\memory trace start')['tracing']

    note = "self.note = f'order {number} of {article} ' * 20"
    wait_for(lambda: note in [line_of(grown['where']) for grown in client.value('\\memory trace diff')['growth']
                              if 'troubled.py' in grown['where']])
    client.reply('\\memory trace stop')


def test_what_the_log_says(start):
    client, _ = start('--refunds-after', '600')
    assert 'DEBUG' in client.reply('\\log shop.orders DEBUG for 10m').decode()
    assert 'shop.orders' in str(client.value('\\changes'))
    client.send('\\tail shop.orders n=2\n')
    seen = ''
    while not re.search(r'order \d+ is done', seen):
        seen = client.document().decode()


def test_the_page_names_lines_of_the_program():
    lines = {int(number) for number in re.findall(r'troubled\.py:(\d+)', PAGE)}
    assert {SOURCE[number - 1].strip() for number in lines} == {
        'with self.stock_lock:', 'with self.till_lock:', "self.note = f'order {number} of {article} ' * 20",
        'total += len(self.history[page * 50:page * 50 + 50])'}
