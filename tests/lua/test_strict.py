"""The module strict beside the rest of the console: it is in force for all sessions, and breaks none of them."""
from __future__ import annotations

import pytest


@pytest.fixture
def strict_console(console, connect):
    served = console(dialect='classic')
    connect(served).reply("require('strict').on()")
    return served


def test_it_is_in_force_for_others(strict_console, connect):
    other = connect(strict_console)
    assert "variable 'nope' is not declared" in other.error('nope')
    other.reply("require('strict').off()")
    assert [None] == connect(strict_console).values('nope')


def test_the_classic_session_stays(strict_console, connect):
    client = connect(strict_console)
    assert client.value('session.id()') == client.value('box.session.id()')
    client.reply("require('strict').off()")
    assert client.value('session.id()') == client.value('box.session.id()')


def test_commands_and_completion_stay(strict_console, connect):
    client = connect(strict_console)
    assert isinstance(client.value('\\sessions'), list)
    assert client.values('\\complete nosu') is None
    assert client.values('\\set scope session') == [True]
    assert client.values('own = 1 return own') == [1]
    assert "variable 'nope' is not declared" in client.error('nope')
