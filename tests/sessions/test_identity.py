"""Values that a restricted session passes to code that runs as another user, and that it gets back."""
from __future__ import annotations

import pytest
from iproto_client import BinaryClient
from text_client import Client
from waiting import wait_for

from boxsession import Console

INIT = r"""
fiber = require('fiber')
secret = 's3cret'
config = setmetatable({key = 's3cret'}, {__eq = function() return true end})
string.motd, string.reason, string.type, string.code, string.name = 's3cret', 's3cret', 's3cret', 42, 's3cret'
string.leak = function() return 's3cret' end
string[1], string[2] = 's3cret', 's3cret'
seen, results = {}, {}
for _, name in ipairs{'on_disconnect', 'on_connect', 'on_access_denied', 'on_auth'} do
    box.session[name](function() if look then look() end end)
end
-- What code of an admin may do with a value, by name.
use = {
    tostring = function(x) return tostring(x) end,
    concat = function(x) return secret .. x end,
    format = function(x) return ('%s'):format(x) end,
    print = function(x) return print(x) end,
    log = function(x) require('log').info(x) require('log').info('%s', x) end,
    index = function(x) return x[secret], x.field, x[1] end,
    newindex = function(x) x.field = config x[secret] = 1 end,
    call = function(x) return x(config) end,
    eq = function(x) return x == config, config == x end,
    lt = function(x) return x < config end,
    le = function(x) return config <= x end,
    add = function(x) return x + 1, 5 - x, -x, x * 2, x / 2, x % 2, x ^ 2 end,
    json = function(x) return require('json').encode({x, config}) end,
    yaml = function(x) return require('yaml').encode({x, config}) end,
    copy = function(x) return table.copy(x), table.deepcopy({x}) end,
    pairs = function(x) for k, v in pairs(x) do tostring(v) end return #x, next(x) end,
    sort = function(x) table.sort({x, config}) end,
    push = function(x) box.session.push({x, config}) end,
    error = function(x) error(x) end,
    raise = function(x) box.error({reason = x, type = x}) end,
    new = function(x) return box.error.new(x), box.error.new('T', '%s', x) end,
    gsub = function(x) return ('motd'):gsub('.+', x) end,
    unpack = function(x) return unpack(x, 1, 2) end,
    python = function(x) return show(x) end,
    name = function(x) box.session.name(tostring(x)) end,
    fiber = function(x) local f = fiber.new(function() return tostring(x), x.field end) f:set_joinable(true) f:join() end,
    traceback = function(x) return debug.traceback(x) end,
    xpcall = function(x) return xpcall(error, function() return tostring(x) end) end,
    coroutine = function(x) return coroutine.wrap(function() return tostring(x) .. secret end)() end,
    metatable = function(x) local m = getmetatable(x) return m and m.__tostring and m.__tostring(config) end,
    concat_list = function(x) return table.concat({secret, x}) end,
    eval = function(x) return require('console').eval('box.session.storage.trap') end,
    su = function(x) return box.session.su('guest', function() return tostring(x), x.field end) end,
}
function look()
    local trap = rawget(box.session.storage, 'trap')
    if trap == nil then return end
    box.session.storage.other = 1
    for name, func in pairs(use) do
        if not only or name == only then func(box.session.storage.trap) end
    end
end
function look_as(name)
    local x = box.session.storage.trap
    if name == 'all' then
        for _, func in pairs(use) do pcall(func, x) end
    else
        pcall(use[name], x)
    end
    return true
end
function look_and_tell(name)
    return use[name](box.session.storage.trap)
end
"""

# A value of the session: each metamethod records the user it runs as and its arguments, and tries forbidden things.
TRAP = r"""
local state, wrap = {notes = {}, kept = false}, coroutine.wrap
local function note(...)
    local notes = state.notes
    notes[#notes + 1] = 'it ran'
    notes[#notes + 1] = box.session.effective_user()
    for i = 1, select('#', ...) do
        local v = select(i, ...)
        if type(v) == 'table' and rawget(v, 'key') then notes[#notes + 1] = v.key v.key = 'changed' end
        if type(v) == 'string' then notes[#notes + 1] = v end
    end
    state.kept = wrap(function() while true do coroutine.yield(box.session.effective_user()) end end)
    return 'x'
end
local meta = {__index = function(t, k) note(k) return nil end, __newindex = function(t, k, v) note(k, v) end,
              __serialize = function(s) note() return {s = 1} end, __copy = function(s) note() return s end}
for _, event in ipairs{'tostring', 'concat', 'call', 'eq', 'lt', 'le', 'add', 'sub', 'unm', 'mul', 'div', 'mod', 'pow'} do
    meta['__' .. event] = note
end
box.session.storage.trap = setmetatable({}, meta)
box.session.storage.state = state
"""
NAMES = [
    'tostring', 'concat', 'format', 'print', 'log', 'index', 'newindex', 'call', 'eq', 'lt', 'le', 'add',
    'json', 'yaml', 'copy', 'pairs', 'sort', 'push', 'error', 'raise', 'new', 'gsub', 'unpack', 'python',
    'name', 'fiber', 'traceback', 'xpcall', 'coroutine', 'metatable', 'concat_list', 'eval', 'su',
]


def one_line(text):
    return ' '.join(text.split('\n'))


class World:
    def __init__(self, folder):
        init = folder / 'init.lua'
        init.write_text(INIT + r"""
        for _, name in ipairs{'look_as', 'look_and_tell', 'transfer', 'move', 'boom'} do
            box.schema.func.create(name, {setuid = true})
        end
        box.schema.func.create('plain') plain = function(name) return look_as(name) end
        box.schema.user.create('reader') box.schema.user.grant('reader', 'read', 'universe')
        box.schema.user.create('web', {password = 'p'})
        for _, user in ipairs{'guest', 'reader'} do
            for _, name in ipairs{'look_as', 'look_and_tell', 'transfer', 'move', 'plain', 'boom'} do
                box.schema.user.grant(user, 'execute', 'function', name)
            end
        end
        box.schema.user.grant('web', 'execute', 'function', 'transfer')
        """)
        self.shown = []
        self.console = Console(
            [{'address': '127.0.0.1:0', 'user': name} for name in ('admin', 'guest', 'reader')]
            + [{'address': '127.0.0.1:0', 'user': 'guest', 'protocol': 'binary'}],
            expose={'show': lambda value: self.shown.append(value)}, config={'init': str(init)})
        self.console.start()
        self.admin = Client(self.console.addresses[0])
        self.clients = [self.admin]

    def client(self, who):
        client = Client(self.console.addresses[('admin', 'guest', 'reader').index(who)])
        self.clients.append(client)
        return client

    def close(self):
        for client in self.clients:
            client.close()
        self.console.stop()


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp('world'))
    yield world
    world.close()


def values(client, statement):
    """The reply to a statement, after any pushes."""
    reply = client.reply(statement)
    while reply.startswith(b'%TAG'):
        reply = client.document()
    return reply


def trapped(world, who='guest'):
    client = world.client(who)
    assert b'error' not in client.reply(one_line(TRAP))
    return client


def is_clean(client):
    reply = values(client, "local s = box.session.storage.state "
                           "return #s.notes, s.kept == false, require('json').encode(s.notes)")
    assert reply.startswith(b'---\n- 0\n- true\n'), reply


@pytest.mark.parametrize('who', ['guest', 'reader'])
def test_the_traps_work_in_the_session_itself(world, who):
    client = trapped(world, who)
    assert b'- x' in client.reply('tostring(box.session.storage.trap)')
    client.reply("local t = box.session.storage.trap local _ = t.a, t .. 'b', t < t, t + 1, t() t.c = 1 return t")
    notes = client.value('box.session.storage.state.notes')
    assert 8 <= notes.count(who)
    assert {'a', 'b', 'c'} <= set(notes)
    assert who == client.value('box.session.storage.state.kept()')
    client.close()


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('how', ['look_as', 'plain'])
def test_a_granted_function_that_looks_at_a_storage_runs_nothing_of_it(world, name, how):
    for who in ('guest', 'reader'):
        client = trapped(world, who)
        assert b'- true' in values(client, f"{how}('{name}')")
        is_clean(client)
        assert b's3cret' not in values(client, f"pcall(look_and_tell, '{name}')") or name in (
            'concat', 'concat_list', 'coroutine', 'json', 'yaml', 'push', 'metatable')
        client.close()


@pytest.mark.parametrize('who', ['guest', 'reader'])
def test_triggers_run_nothing_of_a_storage(world, who):
    client = trapped(world, who)
    for name in NAMES:
        world.admin.reply(f"only = '{name}'")
        client.reply('\\login web wrong') if name == 'tostring' else None       # on_auth
        reply = values(client, 'box.cfg{}')                                      # on_access_denied
        assert b'denied' in reply
        is_clean(client)
    world.admin.reply('only = nil')
    # After on_disconnect the session cannot be asked: an admin keeps the table in which traps leave notes.
    world.admin.reply("held = nil box.session.on_disconnect(function() held = box.session.storage.trap and "
                      "{tostring(box.session.storage.trap), box.session.effective_user()} or held end)")
    client.end()
    client.read_to_end()
    assert ['table', 'admin'] == world.admin.value('held')
    client.close()


def test_an_admin_looks_at_all_storages(world):
    client = trapped(world)
    admin = world.admin
    number = client.value('box.session.id()')
    store = f'getmetatable(box.session).aggregate_storage[{number}]'
    assert {'trap': []} == {'trap': admin.value(store)['trap']}
    for name in NAMES:
        values(admin, f'pcall(use.{name}, {store}.trap)')
    admin.send(f'\\set output lua,block\n{store}\n\\set output yaml\n')
    admin.read_until(b'---\n- true\n...\n')
    is_clean(client)
    client.close()


def test_the_functions_of_a_restricted_session_can_do_nothing_for_others(world):
    """Those that an admin's code calls on purpose."""
    client = world.client('guest')
    client.reply(one_line(r"""
        local su, user, wrap, create, gsub, match, move, new, last = box.session.su, box.session.effective_user,
            coroutine.wrap, coroutine.create, string.gsub, string.match, table.move, box.error.new, box.error.last
        local pcall, setmetatable, select, error_call = pcall, setmetatable, select, box.error
        local found, kept = {}, nil
        box.session.storage.trap = function()
            local attempts = {
                function() su('admin') end, function() return user() end, function() return last() end,
                function() kept = wrap(function() return user() end) end,
                function() kept = create(function() return user() end) end,
                function() kept = wrap(gsub) end,
                function() return (gsub('motd', '.+', setmetatable({}, {__index = ''}))) end,
                function() return gsub('motd', '.+', setmetatable({}, {__index = ''})) end,
                function() return ('x').motd end, function() return ('x'):leak() end,
                function() return move(setmetatable({}, {__index = 'x'}), 1, 1, 1)[1] end,
                function() local t = {} move(setmetatable({}, {__index = 'x'}), 1, 1, 1, t) return t[1] end,
                function() return new(setmetatable({}, {__index = 'x'})).message end,
                function() return new(setmetatable({}, {__index = 'x'})).type end,
                function() error_call() end,
                function() return box.session.effective_user() end,
            }
            for i = 1, #attempts do
                local ok, value = pcall(attempts[i])
                found[i] = ok and value or false
            end
            return 'done'
        end
        function tell() return found, kept end
    """))
    world.admin.reply("pcall(box.error, {reason = 's3cret'})")
    for statement in ("look_and_tell('call')", "look_as('call')"):
        assert b'done' in client.reply(statement) or b'true' in client.reply(statement)
        found, kept = client.values('tell()')
        assert kept is None
        assert not [value for value in (found if isinstance(found, list) else found.values())
                    if value not in (False, 'motd', None)], found
    # The same in the session of an admin who calls the function.
    number = client.value('box.session.id()')
    assert 'done' == world.admin.value(f'getmetatable(box.session).aggregate_storage[{number}].trap()')
    found, kept = client.values('tell()')
    assert kept is None and b's3cret' not in client.reply('tell()')
    client.close()


@pytest.mark.parametrize('statement', [
    "(('motd'):gsub('.+', setmetatable({}, {__index = ''})))", "('motd'):gsub('.+', setmetatable({}, {__index = ''}))",
    "table.move(setmetatable({}, {__index = 'x'}), 1, 2, 1, {})",
    "table.move(setmetatable({}, {__index = ''}), 1, 1, 1)[1]",
    "box.error.new(setmetatable({}, {__index = ''})).message", "box.error.new(setmetatable({}, {__index = 'x'})).type",
    "pcall(box.error, setmetatable({}, {__index = 'x'}))", "table.copy(setmetatable({}, {__index = ''})).motd",
    "ipairs(setmetatable({}, {__index = ''}))(setmetatable({}, {__index = ''}), 0)",
    "unpack(setmetatable({}, {__index = ''}), 1, 2)", "table.concat(setmetatable({}, {__index = ''}), '', 1, 2)",
    "require('json').encode(setmetatable({}, {__index = ''}))",
    "string.format('%s', setmetatable({}, {__index = ''}).motd)",
    "select(2, pcall(setmetatable({}, {__index = ''}).leak))", "rawget(setmetatable({}, {__index = ''}), 'motd')",
    "coroutine.wrap(string.gsub)('motd', '.+', setmetatable({}, {__index = ''}))",
    "coroutine.wrap(table.move)(setmetatable({}, {__index = ''}), 1, 1, 1)[1]",
    "table.sort({1, 2}, function() found = ('motd'):gsub('.+', setmetatable({}, {__index = ''})) end) return found",
    "tostring(setmetatable({}, {__tostring = function() "
    "return (('motd'):gsub('.+', setmetatable({}, {__index = ''}))) end}))",
    "box.session.su('guest', string.gsub, 'motd', '.+', setmetatable({}, {__index = ''}))",
    "box.session.push(setmetatable({}, {__index = ''}))",
    "pcall(string.gsub, 'motd', '.+', setmetatable({}, {__index = ''}))",
    "load(setmetatable({}, {__call = function() return nil end, __index = ''}))",
])
def test_what_was_added_to_string_is_not_seen(world, statement):
    client = world.client('guest')
    assert b's3cret' not in values(client, statement), statement
    client.close()


def test_a_last_error_is_its_identitys_own(world):
    world.admin.reply("function boom(keep) pcall(box.error, {reason = 's3cret'}) if keep then fiber.sleep(1000) end end")
    world.admin.reply("use.last = function() pcall(box.error, {reason = 's3cret'}) pcall(error, 1) end only = 'last'")
    client = trapped(world)
    client.reply("box.error.set(box.error.new('T', 'mine'))")
    client.reply('boom()')
    client.reply('box.cfg{}')
    assert b's3cret' not in client.reply('box.error.last()')
    client.reply("box.error.set(box.error.new('T', 'mine'))")
    client.send('boom(true)\n')
    wait_for(lambda: world.admin.value("#box.session.list({state = 'running', user = 'guest'}) > 0"))
    client.send(b'\x03')
    client.document()
    assert 'mine' == client.value('box.error.last().message')
    world.admin.reply("only = nil use.last = nil")
    client.close()


def test_a_coroutine_is_its_makers(world):
    """A coroutine runs as the user that made it, also if another session resumes it."""
    client = world.client('guest')
    client.reply("f = coroutine.wrap(function() while true do coroutine.yield(box.session.effective_user()) end end) "
                 "box.session.storage.trap = f")
    assert 'guest' == client.value('f()')
    assert ['guest'] == client.values("look_and_tell('call')")
    number = client.value('box.session.id()')
    other = client.value('f()')
    assert 'guest' == other
    error = world.admin.error(f'getmetatable(box.session).aggregate_storage[{number}].trap()')
    assert 'does nothing for others' in error
    client.close()


def test_ordinary_code_of_a_sandbox_works(world):
    client = world.client('guest')
    client.reply(one_line("""
        Account = {} Account.__index = Account
        function Account.new(n) return setmetatable({n = n}, Account) end
        function Account:add(n) self.n = self.n + n return self end
        Account.__tostring = function(a) return 'account ' .. a.n end
        Account.__add = function(a, b) return Account.new(a.n + b.n) end
        Account.__eq = function(a, b) return a.n == b.n end
        Account.__lt = function(a, b) return a.n < b.n end
        Account.__le = function(a, b) return a.n <= b.n end
        Account.__concat = function(a, b) return tostring(a) .. tostring(b) end
        Account.__call = function(a, n) return a.n * n end
        Account.__serialize = function(a) return {balance = a.n} end
    """))
    assert ['account 3', 'account 8', True, True, False, 6, 'account 3!'] == client.values(
        "tostring(Account.new(1):add(2)), tostring(Account.new(3) + Account.new(5)), Account.new(1) == Account.new(1), "
        "Account.new(1) < Account.new(2), Account.new(3) <= Account.new(2), Account.new(3)(2), Account.new(3) .. '!'")
    assert {'balance': 4} == client.value('Account.new(4)')
    assert [True, None, 'locked'] == client.values(
        "getmetatable(Account.new(1)) == Account, getmetatable({}), "
        "getmetatable(setmetatable({}, {__metatable = 'locked'}))")
    assert ['b', 'c', 5] == client.values(
        "local base = {b = function() return 'b' end} base.__index = base "
        "local derived = setmetatable({c = function() return 'c' end}, base) derived.__index = derived "
        "local object = setmetatable({}, derived) object.x = 5 return object.b(), object.c(), object.x")
    assert [2, 1] == client.values(
        "local list = {setmetatable({n = 1}, Account), setmetatable({n = 2}, Account)} "
        "table.sort(list, function(a, b) return b < a end) return list[1].n, list[2].n")
    assert 'cannot change a protected metatable' in client.error("setmetatable(setmetatable({}, {__metatable = 1}), {})")
    client.close()


def test_shadows_of_metatables_keep_nothing_alive(world):
    client = world.client('guest')
    client.reply(one_line("""function fill() for i = 1, 10000 do local meta = {}
        meta.object = setmetatable({('x'):rep(100)}, meta)
        meta.__index = function() return meta end meta.__eq = meta.__index
        setmetatable({}, meta) end end"""))
    client.reply('fill()')
    world.admin.reply('collectgarbage() collectgarbage()')
    before = world.admin.value("collectgarbage('count')")
    for _ in range(3):
        client.reply('fill()')
    world.admin.reply('collectgarbage() collectgarbage()')
    assert world.admin.value("collectgarbage('count')") < before + 1000
    client.close()


def test_the_hooks_of_the_console_run_as_triggers_do(world):
    world.admin.reply("require('console').on_start(function() started = box.session.effective_user() end)")
    client = world.client('guest')
    client.reply('1')
    assert 'admin' == world.admin.value('started')
    world.admin.reply("require('console').on_start(nil)")
    client.close()


# Half of a change ------------------------------------------------------------------------------------------------------

TRANSFER = one_line(r"""
    accounts = {a = 1000, b = 0} calls, ends = 0, 0
    function deeper(n, f)
        if n == 0 then return f() end
        local ok, e = pcall(deeper, n - 1, f)
        if not ok then error(e, 0) end
    end
    function transfer()
        calls = calls + 1
        accounts.a = accounts.a - 1
        deeper(40, function() return tostring(setmetatable({}, {__tostring = function()
            return (('x'):gsub('x', function() accounts.between = true end)) end})) end)
        box.session.su('guest', deeper, 20, function() table.sort({3, 2, 1}, function(x, y) return x < y end) end)
        pcall(function() box.session.su('nobody') end)
        accounts.b = accounts.b + 1
        ends = ends + 1
        return true
    end
""")
BRINKS = {
    'pcall': 'function go() pcall(go) try() end',
    'calls': 'local down function down(n) if n > 0 then down(n - 1) return 1 end try() end '
             'function go() for n = 100, 15000, 1000 do pcall(down, n) end '
             'for n = 15000, 20000, 100 do pcall(down, n) end end',
    'gsub': "function go() pcall(string.gsub, 'x', 'x', go) try() end",
    'tostring': 'function go() pcall(tostring, setmetatable({}, {__tostring = function() go() return "" end})) try() end',
    'index': 'function go() pcall(function() return setmetatable({}, {__index = function() go() end}).x end) try() end',
    'sort': 'function go() pcall(table.sort, {2, 1}, function() go() end) try() end',
    'coroutines': 'function go() pcall(coroutine.wrap(function() go() end)) try() end',
    'load': 'function go() pcall(load, function() go() end) try() end',
    'concat': "function go() pcall(function() return setmetatable({}, {__concat = function() go() end}) .. 'x' end) "
              "try() end",
    'in one coroutine': 'function up() pcall(up) try() end function go() coroutine.wrap(up)() end',
}


@pytest.mark.parametrize('brink', BRINKS)
def test_a_granted_function_is_refused_before_it_begins_or_not_at_all(world, brink):
    world.admin.reply(TRANSFER)
    client = world.client('guest')
    assert [True] == client.values('transfer()')
    client.reply('done, refused = 0, 0 '
                 'function try() if pcall(transfer) then done = done + 1 else refused = refused + 1 end end')
    client.reply(BRINKS[brink])
    client.reply('pcall(go)')
    done, refused = client.values('done, refused')
    assert done > 0 and refused > 0 or brink == 'calls', (done, refused)
    a, b, calls, ends = world.admin.values('accounts.a, accounts.b, calls, ends')
    assert 1000 == a + b
    assert calls == ends == b
    assert done <= calls - 1
    client.close()


def test_triggers_are_not_cut_short_either(world):
    world.admin.reply(TRANSFER + ' on_denied = function() transfer() end box.session.on_access_denied(on_denied)')
    client = world.client('guest')
    client.reply('function try() pcall(function() return nosuch end) end ' + BRINKS['pcall'])
    client.reply('pcall(go) for i = 1, 3 do try() end')
    a, b, calls, ends = world.admin.values('accounts.a, accounts.b, calls, ends')
    assert calls == ends == b >= 3 and a + b == 1000
    world.admin.reply('box.session.on_access_denied(nil, on_denied)')
    client.close()


def test_an_exposed_function_is_called_once_or_not_at_all(console, connect):
    called = []
    made = console(expose={'note': lambda *_: called.append(1) or {'a': [1, {'b': 'c'}]}})
    client = connect(made)
    client.reply('done = 0 function try() local ok, r = pcall(note, {{{1}}}) if ok then done = done + 1 end end')
    for brink in BRINKS.values():
        client.reply(brink)
        client.reply('pcall(go)')
        assert client.value('done') <= len(called)
    assert 0 < client.value('done')
    assert {'a': [1, {'b': 'c'}]} == client.value('note()')


def test_requests_call_granted_functions_with_all_their_levels(world):
    world.admin.reply(TRANSFER)
    client = BinaryClient(world.console.addresses[3])
    for _ in range(5):
        assert [True] == client.call('transfer')
    assert [5, 5] == world.admin.values('calls, ends')
    client.close()


def test_a_change_in_a_fiber_is_not_ended_by_its_caller(world):
    """The recipe of docs/security.rst."""
    world.admin.reply(one_line("""
        accounts, begun = {a = 10, b = 0}, 0
        function move_money(sum)
            accounts.a = accounts.a - sum
            begun = begun + 1
            while not go_on do fiber.sleep(0.005) end
            accounts.b = accounts.b + sum
            return 'moved'
        end
        function move(sum)
            local work = fiber.new(move_money, sum)
            work:set_joinable(true)
            return select(2, assert(work:join()))
        end
    """))
    for number, leave in enumerate((lambda client: client.send(b'\x03'), lambda client: client.reset()), 1):
        client = world.client('guest')
        client.send('move(3)\n')
        wait_for(lambda number=number: world.admin.value('begun') >= number)
        leave(client)
        if number == 1:
            assert b'cancelled' in client.document()
    world.admin.reply('go_on = true')
    wait_for(lambda: world.admin.value('accounts.b') >= 6)
    assert [4, 6] == world.admin.values('accounts.a, accounts.b')
    client = world.client('guest')
    assert 'moved' == client.value('move(1)')
    world.admin.reply('go_on = nil')
    client.close()
