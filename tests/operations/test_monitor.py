"""The monitor's log lines while the event loop is blocked: who blocks it, and where."""
from __future__ import annotations

import time

import gevent
import pytest


@pytest.fixture
def hold(caplog):
    """A function that blocks the event loop until the log says so."""
    def block_until_told(secret='hidden'):
        end = time.monotonic() + 10
        while 'the event loop is held' not in caplog.text:
            assert time.monotonic() < end
            time.sleep(0.01)

    return block_until_told


def told(caplog):
    [message] = [record.getMessage() for record in caplog.records if 'is held' in record.getMessage()]
    return message


def test_the_programs_stack_is_in_the_line(console, caplog, hold):
    def load_prices(depth):
        if depth:
            load_prices(depth - 1)
        else:
            hold()

    console()
    gevent.spawn(load_prices, 2).join()
    message = told(caplog)
    assert ' s so far, by the program around the console: ' in message
    calls = message.partition('the console: ')[2].split(', called from ')
    assert [call.rpartition(' ')[2] for call in calls[:4]] == ['block_until_told', *['load_prices'] * 3]
    assert all(call.startswith(f'{__file__}:') for call in calls[:4])
    assert 'hidden' not in message


def test_a_deep_stack_is_cut(console, caplog, hold):
    def recurse(depth):
        return recurse(depth - 1) if depth else hold()

    console()
    recurse(100)
    assert 10 == told(caplog).count(', called from ')
    assert told(caplog).endswith(' recurse, called from ...')


def test_an_exposed_functions_stack_ends_at_the_console(console, connect, caplog, hold):
    def reload_prices():
        hold()

    connect(console(expose={'reload': reload_prices})).reply('reload()')
    message = told(caplog)
    assert "by session 1: 'reload()': " in message
    assert 1 == message.count(', called from ')
    assert message.endswith(' reload_prices')
