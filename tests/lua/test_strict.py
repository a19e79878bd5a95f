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


def test_it_works_beside_exposed_names(console, connect):
    """A program that exposes something has a metatable of _G of its own."""
    client = connect(console(dialect='tarantool', expose={'tell': lambda: 5}))
    client.reply("require('strict').on()")
    assert 5 == client.value('tell()')
    assert '[string "return nope"]:1: variable \'nope\' is not declared' == client.error('nope')
    assert "assign to undeclared variable 'own'" in client.error('(function() own = 1 end)()')
    assert [1] == client.values('own = 1 return own')
    assert 'cannot be replaced' in client.error('tell = 1')
    client.reply("require('strict').off()")
    assert [None] == client.values('nope')
