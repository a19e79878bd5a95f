"""The names that a program exposes: nobody replaces them, grants work with methods, help() shows them."""
from __future__ import annotations

import functools

import pytest
from iproto_client import BinaryClient

from boxsession import Console, Live, current_session


class Service:
    """Who is there.

    More about it.
    """

    limit = 5

    def __init__(self):
        self.read = []

    @property
    def slow(self):
        self.read.append('slow')
        return len

    @functools.cached_property
    def cached(self):
        self.read.append('cached')
        return len

    def who(self):
        """The user."""
        return current_session().user

    def echo(self, value=None):
        return value

    @staticmethod
    def fixed():
        return 'fixed'

    @classmethod
    def name(cls):
        return cls.__name__

    part = functools.partialmethod(echo, 'part')


def reload(name: str, grace: float = 1.5, password='hunter2', *, hard=False):
    """Reloads the prices.

    Takes a minute.
    """
    return [name, grace, hard]


EXPOSED = {'reload': reload, 'copied': {'a': 1, 'list': [1, 2], 'map': {1: 'a', 5: 'b'}}, 'names': ['a', 'b'], 'answer': 42,
           'tools': {'up': str.upper, 'n': 1, 'deep': {'len': len}}, 'same': lambda *values: list(values),
           'options': lambda *values, **named: [list(values), named], 'flags': Live({'a': 1})}
INIT = '''
for _, name in ipairs{'bob', 'all', 'rea'} do
    box.schema.user.create(name)
end
inner = {factor = 2}
function inner.times(self, number) return self.factor * number end
other = {hidden = function() end}
for _, name in ipairs{'svc.who', 'svc.echo', 'svc', 'tools', 'inner.times', 'tools.deep.len'} do
    box.schema.func.create(name)
end
for _, user in ipairs{'bob', 'rea'} do
    for _, name in ipairs{'svc.who', 'svc.echo', 'inner.times', 'tools.deep.len'} do
        box.schema.user.grant(user, 'execute', 'function', name)
    end
end
box.schema.user.grant('rea', 'read', 'universe')
box.schema.user.grant('all', 'execute', 'function', 'svc')
box.schema.user.grant('all', 'execute', 'function', 'tools')
'''


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def served(console, service, tmp_path):
    (tmp_path / 'init.lua').write_text(INIT)
    return console(expose={**EXPOSED, 'svc': service}, init=str(tmp_path / 'init.lua'))


@pytest.fixture
def client(served, connect):
    return connect(served)


def of(user, served, connect):
    client = connect(served)
    client.reply(f"box.session.su('{user}')")
    return client


def test_exposing_runs_no_property(client, service):
    assert ['admin', 'fixed', 'Service', 'part'] == client.values('svc:who(), svc.fixed(), svc:name(), svc:part()')
    assert [None, None, None] == client.values('svc.slow, svc.cached, svc.limit')
    assert [] == service.read


@pytest.mark.parametrize('statement', [
    'svc = 5', 'svc = nil', '_G.svc = 5', "rawset(_G, 'svc', 5)", "_G['svc'] = 5", 'reload = 1', 'answer = 1', 'names = {}',
    'flags = 1', 'function reload() end', "setfenv(1, setmetatable({}, {__newindex = _G})) svc = 5",
    "local t = setmetatable({}, {__newindex = _G}) t.svc = 5", "loadstring('svc = 5')()",
    'setmetatable(_G, {__newindex = function(t, k, v) rawset(t, k, v) end}) svc = 5',
    "require('fiber').new(function() svc = 5 end):join()", 'svc.who = 5', 'svc.nosuch = 5', "rawset(svc, 'who', 5)",
    'tools.up = 5', 'tools.deep.len = nil', 'copied.a = 2', 'copied.list[1] = 5', "copied['new'] = 1",
    'copied.map[5] = nil',
    "names[1] = 'x'", "table.insert(names, 'x')", 'table.sort(names)', "table.remove(names)", 'setmetatable(svc, {})'])
def test_nothing_of_it_can_be_replaced(client, served, connect, statement):
    assert client.error(f'local ok, problem = pcall(function() {statement} end) error(problem, 0)')
    other = connect(served)
    assert ['admin', ['x', 1.5, False], 42, 'AB', 3] == other.values(
        'svc:who(), reload("x"), answer, tools.up("ab"), tools.deep.len({1, 2, 3})')
    assert [{'a': 1, 'list': [1, 2], 'map': {1: 'a', 5: 'b'}}, ['a', 'b'], 1] == other.values('copied, names, flags.a')


@pytest.mark.parametrize('statement', [
    'getmetatable(box.session).__newindex(_G, "svc", 5)', 'for name in pairs(_G) do _G[name] = nil end',
    "getmetatable(require('json').decode('{}')).__newindex(_G, 'svc', 5)", 'setfenv(0, {})', 'setmetatable(_G, nil)',
    'setmetatable(_G, {__index = function() return 5 end})', "getmetatable(_G).__index = {svc = 5}", 'local svc = 5',
    "\\set scope session\nsvc = 5", "box.session.su('bob') svc = 5"])
def test_tricks_leave_it_to_others(client, served, connect, statement):
    for line in statement.split('\n'):
        client.reply(line)
    assert ['admin', 42] == connect(served).values('svc:who(), answer')


def test_the_error_says_what_to_do(client):
    assert ('`svc` is exposed by the program to all sessions and cannot be replaced: choose another name, or a local '
            'variable' == client.error('svc = 5'))
    assert client.error('svc.who = 5').startswith('svc.who belongs to the program and cannot be changed')
    assert client.error('copied.list[1] = 5').startswith(
        "copied.list[1] cannot be changed: `copied` is a copy of the program's data")


CHANGES = ['table.insert({}, 5)', 'table.insert({}, 1, 5)', 'table.remove({})', 'table.remove({}, 1)', 'table.sort({})',
           'table.sort({}, function(a, b) return a > b end)', 'table.clear({})', 'require("table.clear")({})',
           'table.move({}, 1, 2, 2)', 'table.move({{1}}, 1, 1, 1, {})', 'rawset({}, "x", 5)', 'setmetatable({}, {{}})']


@pytest.mark.parametrize('change', CHANGES)
def test_functions_that_change_tables_say_what_a_copy_is(client, connect, served, change):
    assert client.error(change.format('copied.list')).startswith(
        "copied.list cannot be changed: `copied` is a copy of the program's data, which would stay as it is.")
    assert 'Live()' in client.error(change.format('names'))
    assert client.error(change.format('flags')).startswith('flags is live data of the program and not a table')
    assert client.error(change.format('svc')).startswith('svc belongs to the program and cannot be changed')
    assert [[1, 2], ['a', 'b']] == client.values('copied.list, names')
    bob = connect(served)
    bob.reply("box.session.su('all')")
    assert bob.error(change.format('tools')).startswith('tools belongs to the program and cannot be changed')
    assert 'expected' in client.error(change.format('newproxy or 5'))


def test_a_list_of_a_copy_is_moved_into_another_table(client):
    assert [[1, 2]] == client.values('table.move(copied.list, 1, 2, 1, {})')


def test_other_globals_and_metatables_of_g_work_as_ever(client):
    client.reply('made = 5')
    assert [5, 5, None] == client.values("made, rawget(_G, 'made'), nosuch")
    client.reply("setmetatable(_G, {__index = function(_, k) error('undeclared ' .. k, 0) end, "
                 "__newindex = function(t, k, v) rawset(t, k, v * 2) end})")
    assert 'undeclared nosuch' == client.error('nosuch')
    client.reply('doubled = 2')
    assert [4, 42, True] == client.values('doubled, answer, getmetatable(_G).__index ~= nil')
    client.reply('setmetatable(_G, {__index = {fallback = 1}, __newindex = inner})')
    client.reply('into = 3')
    assert [1, 3, None] == client.values("fallback, inner.into, rawget(_G, 'into')")
    assert [None, None] == client.values('getmetatable(setmetatable(_G, nil)), fallback')
    assert 'bad argument #2' in client.error('setmetatable(_G, 1)')
    assert "bad argument #1 to 'rawset'" in client.error('rawset(1, 2, 3)')
    assert 'index is nil' in client.error('rawset(_G, nil, 1)')
    assert 'protected' in client.error('setmetatable(setmetatable({}, {__metatable = 1}), {})')
    assert [{'a': 1}, None, True] == client.values(
        "rawset({}, 'a', 1), getmetatable({}), getmetatable(setmetatable({}, {__metatable = true}))")


def test_strict_mode_knows_exposed_names(client, served, connect):
    client.reply("require('strict').on()")
    assert ['admin', 42] == client.values('svc:who(), answer')
    assert "variable 'nosuch' is not declared" in client.error('nosuch')
    assert "assign to undeclared variable 'x'" in client.error('(function() x = 1 end)()')
    assert '`svc` is exposed' in client.error('svc = 5')
    client.reply('declared = 1')
    assert [1, 42] == connect(served).values('declared, answer')
    client.reply("require('strict').off()")
    assert [None, 'admin'] == client.values('nosuch, svc.who()')


def test_the_classic_dialect_has_its_global(console, connect):
    client = connect(console(dialect='classic', expose={'answer': 42}))
    assert [42, True] == client.values('answer, session == box.session')
    assert [None] == connect(console(dialect='tarantool', expose={'answer': 42})).values('session')


def test_copies_are_read_as_tables_are(client):
    assert [2, 'a', 'a,b', 'a', 'b'] == client.values('#names, names[1], table.concat(names, ","), unpack(names)')
    client.reply('found = {} for k, v in pairs(copied) do found[k] = type(v) end')
    client.reply('for i, v in ipairs(names) do found[i] = v end')
    assert {'a': 'number', 'list': 'userdata', 'map': 'userdata', 1: 'a', 2: 'b'} == client.value('found')
    client.reply('own = table.deepcopy(copied) own.list[1] = 9 own.a = 8')
    assert [9, 8, 1, 1] == client.values('own.list[1], own.a, copied.list[1], copied.a')
    assert [[['a', 'b'], {'a': 1, 'list': [1, 2], 'map': {1: 'a', 5: 'b'}}]] == client.values('same(names, copied)')
    assert ['["a","b"]', True, False] == client.values(
        "require('json').encode(names), copied.list == copied.list, copied.list == names")


def test_objects_in_the_binary_protocol(service):
    served = Console(listen=[{'address': '127.0.0.1:0', 'protocol': 'binary', 'user': 'admin'}],
                     expose={**EXPOSED, 'svc': service})
    served.start()
    try:
        client = BinaryClient(served.addresses[0])
        assert [{'a': 1, 'list': [1, 2], 'map': {1: 'a', 5: 'b'}}] == client.eval('return copied')
        assert ['admin'] == client.call('svc:who') == client.call('svc.who')
        assert [3] == client.call('tools.deep.len', [1, 2, 3])
        assert [1] == client.eval('flags.b = 2 return flags.a')
        client.sock.close()
    finally:
        served.stop()


# Grants ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('user', ['bob', 'rea'])
def test_a_granted_method_is_called_as_admin_calls_it(served, connect, user):
    client = of(user, served, connect)
    assert [user, user, 5, 5, 6] == client.values('svc:who(), svc.who(), svc:echo(5), svc.echo(5), inner:times(3)')
    assert [3, {'a': 1}] == client.values('tools.deep.len({1, 2, 3}), svc:echo({a = 1})')
    assert 'denied' in client.error('svc:fixed()')
    assert 'denied' in client.error('reload("x")')


def test_a_granted_object_has_all_its_functions(served, connect):
    client = of('all', served, connect)
    assert ['all', 5, 'fixed', 'AB', 3, 1] == client.values(
        'svc:who(), svc:echo(5), svc.fixed(), tools.up("ab"), tools.deep.len({1, 2, 3}), tools.n')
    assert 'belongs to the program' in client.error('svc.who = 5')
    assert 'denied' in client.error('names[1]')
    assert b'function' in client.reply('svc')


def test_a_user_who_may_read_sees_copies_and_changes_nothing(served, connect):
    client = of('rea', served, connect)
    assert [{'a': 1, 'list': [1, 2], 'map': {1: 'a', 5: 'b'}}, 'a', 42] == client.values('copied, names[1], answer')
    for statement in ('copied.a = 2', 'svc = 5', 'svc.who = 5', 'names[1] = 2', 'flags.a'):
        assert 'denied' in client.error(statement)
    assert [2] == client.values('inner.factor')


def test_granted_methods_in_the_binary_protocol(service, tmp_path):
    (tmp_path / 'init.lua').write_text(INIT)
    served = Console(listen=[{'address': '127.0.0.1:0', 'protocol': 'binary', 'user': 'bob'}],
                     expose={**EXPOSED, 'svc': service}, config={'init': str(tmp_path / 'init.lua')})
    served.start()
    try:
        client = BinaryClient(served.addresses[0])
        assert ['bob'] == client.call('svc:who') == client.call('svc.who')
        assert [6] == client.call('inner:times', 3)
        assert 'denied' in client.call('svc:fixed')
        client.sock.close()
    finally:
        served.stop()


# Keyword arguments ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(('statement', 'result'), [
    ('reload("a", 2)', ['a', 2, False]), ('reload{name = "a", hard = true}', ['a', 1.5, True]),
    ('reload("a", {hard = true})', ['a', 1.5, True]), ('reload("a", {grace = 3})', ['a', 3, False]),
    # Not all keys are parameters, the place is taken, or a key is no string: a value as any other.
    ('reload("a", {x = 1})', ['a', {'x': 1}, False]), ('reload("a", {name = "b"})', ['a', {'name': 'b'}, False]),
    ('reload("a", {})', ['a', [], False]), ('reload("a", {grace = 1, [2] = 2})', ['a', {'grace': 1, 2: 2}, False]),
    ('reload({hard = true})', [{'hard': True}, 1.5, False]), ('reload{name = {name = 1}}', [{'name': 1}, 1.5, False]),
    ('reload({hard = true}, 2)', [{'hard': True}, 2, False]),
    ('same({a = 1})', [{'a': 1}]), ('options(1, {a = 1})', [[1], {'a': 1}]), ('options({1}, {2})', [[[1], [2]], {}]),
    ('svc:echo{value = 5}', 5), ('svc.echo({other = 5})', {'other': 5}), ('tools.up("a")', 'A')])
def test_keyword_arguments(client, statement, result):
    assert [result] == client.values(statement)


# Help -----------------------------------------------------------------------------------------------------------------

def test_help_shows_the_signature_and_the_docstring(client):
    text = 'reload(name: str, grace: float = 1.5, password=..., *, hard=False)\n\nReloads the prices.\n\nTakes a minute.\n'
    for statement in ('help("reload")', 'help(reload)', '\\help reload'):
        assert [text] == client.value(statement)
    assert b'hunter2' not in client.reply('\\help reload') + client.reply('box.info.exposed')
    for statement in ('help("svc:who")', 'help("svc.who")', 'help(svc.who)', '\\help svc.who'):
        assert ['svc.who()\n\nThe user.\n'] == client.value(statement)
    [text] = client.value('help(svc)')
    assert text.startswith('svc: Service\n\nWho is there.\n\nMore about it.\n\n') and '  svc.echo(value=None)\n' in text
    assert 'a copy' in client.value('help("answer")')[0]
    assert 'Live data' in client.value('help(flags)')[0]
    assert 'A statement is Lua' in client.value('help()')[0] and '  answer, copied, flags, names' in client.value('help')[0]
    assert client.value('\\help') == client.value('help()')
    assert '\\quit' in client.value('help("quit")')[0]
    assert ('There is no command \\nosuch, and the program exposes no such name. Type \\help for the commands and names.'
            == client.error('help("nosuch")'))
    assert 'expected a name' in client.error('help(print)')


@pytest.mark.parametrize(('name', 'meant'), [
    ('relaod', 'reload'), ('Reload1', 'reload'), ('SVC:wo', 'svc.who'), ('who', 'svc.who'), ('flag', 'flags'),
    ('quti', '\\quit'), ('traceback1', '\\traceback')])
def test_help_on_a_mistyped_name_tells_the_right_one(client, name, meant):
    for error in (client.error(f'\\help {name}'), client.error(f'help("{name}")')):
        assert f'There is no command \\{name}, ' in error and f' Perhaps you mean {meant}. Type ' in error


def test_help_on_a_long_or_empty_name(client):
    for name in ('', 'x', 'x' * 5000, '\\', '%', 'a.b:c'):
        assert 'There is no command' in client.error(f'help([[{name}]])')


def test_help_of_who_may_little(served, connect):
    bob = of('bob', served, connect)
    assert ['svc.who()\n\nThe user.\n'] == bob.value('help("svc.who")') == bob.value('\\help svc:who')
    for name in ('reload', 'svc.fixed', 'svc', 'flags', 'answer'):
        assert 'There is no command' in bob.error(f'help("{name}")')
    for name in ('reloa', 'flag', 'killl', 'svc.fixd'):
        assert 'Perhaps' not in bob.error(f'help("{name}")')
    assert 'Perhaps you mean svc.who.' in bob.error('help("svc.wo")')
    assert 'exposes' not in bob.value('\\help')[0].split('Ctrl-C')[0].partition('\\quit')[2]
    assert '  svc, tools\n' in of('all', served, connect).value('\\help')[0]


def test_box_info_lists_all_with_a_line(client):
    lines = client.value('box.info.exposed')
    assert {'reload', 'svc', 'svc.who', 'copied', 'tools', 'tools.up', 'tools.deep.len', 'flags'} <= lines.keys()
    assert 'svc.who() -- The user.' == lines['svc.who']
    assert lines['reload'].endswith(' -- Reloads the prices.')
    assert 'names: list -- a copy, made when the console started' == lines['names']
    assert lines == client.value('box.info()')['exposed']


def test_a_program_may_expose_help(console, connect):
    assert ['mine'] == connect(console(expose={'help': lambda: 'mine'})).values('help()')


def test_completion_finds_exposed_names(client, service):
    complete = 'require("console").completion_handler("%s", 0, 99)'
    assert ['svc.who(', 'svc.who('] == client.value(complete % 'svc.w')
    assert ['copied.', 'copied.a', 'copied.list', 'copied.map'] == sorted(client.value(complete % 'copied.'))
    assert ['reload(', 'reload('] == client.value(complete % 'relo')
    assert b'flags' not in client.reply(complete % 'flags.')
    assert [] == service.read
