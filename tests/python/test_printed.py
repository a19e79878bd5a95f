"""When the output of statements in Python is sent."""
from __future__ import annotations

import pytest

PUSH = b'%%TAG !push! tag:tarantool.io/push,2018\n--- %s\n...\n'


@pytest.fixture
def python(console, connect, tmp_path):
    """Gives a client whose session uses Python. Nothing sets its `event`. To be called in the test: pytest replaces
    sys.stdout before that."""
    def start():
        client = connect(console(listen=[{'address': f'unix:{tmp_path}/sock', 'languages': ['lua', 'python']}]))
        assert client.value('\\set language python') is True
        client.reply('import gevent, gevent.event; event = gevent.event.Event()')
        return client
    return start


def test_each_line_before_a_wait(python):
    client = python()
    client.send('print("one"); gevent.sleep(0.01); print("two"); event.wait()\n')
    assert [client.document(), client.document()] == [PUSH % b'one', PUSH % b'two']


def test_what_a_greenlet_prints_after_its_statement(python):
    client = python()
    assert client.value('left = gevent.spawn_later(0.01, print, "later"); 1') == 1
    assert client.document() == PUSH % b'later'


def test_what_a_greenlet_prints_while_its_statement_waits(python):
    client = python()
    client.send('left = gevent.spawn_later(0.01, print, "meanwhile"); event.wait()\n')
    assert client.document() == PUSH % b'meanwhile'
