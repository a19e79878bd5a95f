"""Known bugs of the bundled Lua 5.1.5, from outside: none of them can be reached by a client. docs/design.rst lists them.

What crashed runs in a process of its own (`boxsession serve`, border_calls.py), which has to survive it.
"""
from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import BINARY, PROJECT, rounds

from boxsession.lua.bridge import compile_problem

# Adjusting the arguments of these functions writes beyond the end of Lua's stack.
MANY = ', '.join(f'p{number}' for number in range(99))
UNSAFE = {
    'called at once': f'(function({MANY}, ...) return ... end)()',
    'four parameters': 'return (function(a, b, c, d, ...) return ... end)()',
    'in a coroutine': f'return coroutine.wrap(function({MANY}, ...) return ... end)()',
    'nested': f'return (function() return function() return function({MANY}, ...) return ... end end end)()()()',
    'behind a safe one': f'local function f(...) return ... end return f((function({MANY}, ...) return ... end)())',
    'a tail call': f'local function f({MANY}, ...) return ... end local function g() return f() end return g()',
    'a method': f'local t = {{}} function t:m({MANY}, ...) return ... end return t:m()',
    'a metamethod': f'return #setmetatable({{}}, {{__call = function({MANY}, ...) return ... end}})()',
    'a comment in between': f'return (function({MANY}, --[[ no, ]] ...) return ... end)()',
    'a comment between the dots': f'return (function({MANY},\n--.\n...) return ... end)()',
    'dots that are used in a table': f'return (function({MANY}, ...) local t = {{...}} return #t end)()',
}
SAFE = {
    'return (function(...) return select("#", ...) end)(1, 2)': 2,
    'return (function(a, ...) return ... end)(1, 2)': 2,
    'return (function(a, b, c, ...) return ... end)(1, 2, 3, 4)': 4,
    # A function that does not use `...` gets the table `arg`, for which Lua checks the stack.
    f'return (function({MANY}, ...) return arg.n end)()': 0,
    f'return (function({MANY}) return p98 end)()': None,
    f'return "function({MANY}, ...) return ... end" and 1 -- ...': 1,
    'return ({...})[1]': None,
}
EVERY_ALIGNMENT = """
local meta = setmetatable({}, {__newindex = function() end, __add = function() return 1 end})
for count = 0, 40 do
    local names = {}
    for index = 1, count do names[index] = 'l' .. index end
    local recurse = assert(loadstring([[
        local meta = ...
        local function f(a, b, c, ...) meta[1] = 2 local x = meta + 1 local t = {...} return ... end
        local function g(depth)
            ]] .. (count > 0 and 'local ' .. table.concat(names, ',') or '') .. [[
            f() if depth > 0 then local r = g(depth - 1) return r end f()
        end
        return g]]))(meta)
    for depth = 1, 60 do coroutine.wrap(recurse)(depth) end
end
return 'survived'!
"""
REFUSED = "parameters in front of '...' (at most 3 are safe in Lua 5.1)"


@pytest.fixture
def served(console, connect):
    made = console()
    return made, connect(made)


def refused(reply):
    text = ' '.join(reply.decode().replace("''", "'").split())
    return REFUSED in text


@pytest.mark.parametrize('statement', UNSAFE.values(), ids=UNSAFE)
class TestFunctionsThatOverrunTheStackAreRefused:
    def test_as_a_statement(self, served, statement):
        client = served[1]
        client.reply('\\set delimiter !')
        assert refused(client.reply(statement + '!'))
        assert refused(client.reply(statement + '!'))       # nothing of it was kept

    def test_by_every_function_that_compiles(self, served, statement):
        client = served[1]
        client.reply('\\set delimiter !')
        client.reply(f'text = [==[{statement}]==]!')
        for compiling in ('loadstring(text)', 'load(text)', "require('console').eval(text .. '\\n')",
                          'load(function() local piece = text text = false return piece or nil end)'):
            assert refused(client.reply(compiling + '!')), compiling

    def test_in_a_sandbox(self, served, connect, statement):
        served[1].reply("box.schema.user.create('bob', {password = 'x', if_not_exists = true})")
        client = connect(served[0])
        client.reply('\\login bob x')
        client.reply('\\set delimiter !')
        assert refused(client.reply(statement + '!'))
        client.reply(f'text = [==[{statement}]==]!')
        for compiling in ('return loadstring(text)', 'return load(text)',
                          'return load(function() local piece = text text = false return piece or nil end)'):
            assert refused(client.reply(compiling + '!')), compiling

    def test_as_a_request(self, console, connect_binary, statement):
        client = connect_binary(console(listen=[BINARY]))
        for _ in range(2):
            assert REFUSED in client.eval(statement)

    def test_in_a_script(self, statement):
        assert REFUSED in compile_problem(statement.encode(), 'init.lua')


@pytest.mark.parametrize(('statement', 'value'), SAFE.items(), ids=range(len(SAFE)))
def test_other_functions_are_not_refused(served, statement, value):
    assert [value] == served[1].values(statement)


def test_the_line_is_told(served):
    assert 'x:2: function has 5 parameters' in served[1].values(
        'loadstring("local y\\nlocal function f(a, b, c, d, e, ...) return ... end", "=x")')[1]


def test_unfinished_code_waits_for_its_end_and_is_refused_then(served):
    client = served[1]
    client.send('function f(a, b, c, d, ...)\nreturn ...\nend\n')
    assert refused(client.document())


def test_three_parameters_are_safe_at_every_depth_and_frame(serve, connect):
    """One more than three ends a bare Lua by this loop: every alignment of the frame with the end of the stack is met."""
    client = connect(serve('--listen', '127.0.0.1:0').addresses()[0])
    client.send('\\set delimiter !\n')
    client.document()
    client.send(EVERY_ALIGNMENT)
    assert b'survived' in client.document()


def test_an_init_script_and_check_config(serve, tmp_path):
    (tmp_path / 'init.lua').write_text('\n' + UNSAFE['called at once'])
    (tmp_path / 'c.yml').write_text(f'init: {tmp_path}/init.lua\nlisten: ["127.0.0.1:0"]\n')
    served = serve('-c', 'c.yml')
    assert 1 == served.wait()
    assert 'init.lua:2: function has 99 ' + REFUSED in served.stderr
    checked = subprocess.run([sys.executable, '-m', 'boxsession', 'check-config', 'c.yml'], cwd=tmp_path,
                             capture_output=True, text=True, timeout=30, check=False)
    assert 0 != checked.returncode
    assert 'init.lua:2: function has 99 ' + REFUSED in checked.stdout + checked.stderr


def test_our_own_lua_is_safe():
    folder = PROJECT / 'boxsession' / 'lua'
    for path in folder.rglob('*.lua'):
        assert compile_problem(path.read_bytes(), path.name) is None


@pytest.mark.parametrize('statement', ['unpack({}, 2^31)', 'unpack({}, -2^31, -2^31 - 1)', 'unpack({}, 2^32, 2^31 - 1)',
                                       'unpack({}, 1, -2^53)', 'unpack({}, 1/0)', 'unpack({}, 2, -1/0)'])
def test_an_empty_range_is_unpacked_to_nothing(serve, connect, statement):
    client = connect(serve('--listen', '127.0.0.1:0').addresses()[0])
    assert 0 == client.value(f"select('#', {statement})")
    assert 2 == client.value('1 + 1')


@pytest.mark.parametrize('last', ['2^31', '2^53', '1/0', '0/0', '2^31 - 1'])
def test_a_range_that_is_too_wide_is_not_unpacked(served, last):
    assert 'too many results to unpack' in served[1].error(f'unpack({{}}, 1, {last})')


def test_indexes_that_cannot_be_counted_are_not_moved(served):
    for arguments in ('2^63, 2^63, 1', '-1e308, -1e308, 2', '1, 2, 2^53', '0/0, 1, 1', '1, 2, 1/0'):
        assert 'too many elements to move' in served[1].error(f'table.move({{}}, {arguments})')
    assert [[]] == served[1].values('table.move({}, 1, 0, 2^63)')


def test_numbers_at_the_borders_of_types():
    """Many calls of all functions that users reach: nothing crashes, and no statement is stopped for its time."""
    calls = rounds(20000, 200000)
    script = PROJECT / 'tests' / 'border_calls.py'
    ran = subprocess.run([sys.executable, script, '--seed', '1', '--calls', str(calls)], cwd=PROJECT, capture_output=True,
                         text=True, timeout=rounds(50, 200), check=False)
    assert 0 == ran.returncode, ran.stderr[-2000:]
    told = json.loads(ran.stdout)
    assert told['calls'] > 0.7 * calls and told['functions'] > 120
    assert [] == told['stopped']
