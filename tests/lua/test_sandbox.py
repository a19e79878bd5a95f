"""Attempts to escape from the sandbox: each works for an unrestricted user, and fails for a restricted one."""
from __future__ import annotations

import pytest
from text_client import Client
from waiting import wait_for

from boxsession import Console

SECRET = 's3cret'

# All that an attempt may change: created again before each. Attackers may call `hold` and similar functions.
SETUP = r"""
secret = 's3cret' pwned = nil held = nil listeners = #box.info.listen
config = {limit = 1, inner = {x = 1}, list = {3, 1, 2}, action = function() pwned = true end,
          failure = box.error.new('T', 'm')}
config.chain = box.error.new('T', 'm') config.chain:set_prev(box.error.new('T', 'r'))
function hold(value) held = value return true end
function get_config() return config end
function boom() error({config = config}) end
function peek() return tostring(box.session.storage.trap) end
function keep_going() coroutine.yield() pwned = true end
string.leak = function() return secret end string.motd = 's3cret' string[1] = nil
channel = require('fiber').channel(1)
if box.schema.user.exists('mole') then box.schema.user.drop('mole') end
if box.schema.role.exists('mole') then box.schema.role.drop('mole') end
if box.schema.func.exists('mole') then box.schema.func.drop('mole') end
require('json').cfg{encode_max_depth = 128}
"""

# Name: statements of one session, one a line; the last one's reply must not hold the secret.
READS = {
    'a global': 'secret',
    'a global by _G': '_G.secret',
    'rawget': "rawget(_G, 'secret')",
    'pairs of _G': "for k, v in pairs(_G) do if k == 'secret' then return v end end",
    'next of _G': "local k, v = next(_G) while k do if k == 'secret' then return v end k, v = next(_G, k) end",
    'getfenv of the thread': 'getfenv(0).secret',
    'getfenv of the caller': 'getfenv(1).secret',
    'getfenv of a granted function': 'getfenv(get_config).secret',
    'getfenv of the library': 'getfenv(print).secret',
    'beside a literal of 64 bits': '1LL and secret',
    'loadstring': "loadstring('return secret')()",
    'loadstring with a literal of 64 bits': "loadstring('return 1LL and secret')()",
    'dostring': "dostring('return secret')",
    'dostring by pieces': "local t = {'return ', 'secret'} return dostring(function() return table.remove(t, 1) end)",
    'load by pieces': "local t = {'return ', 'secret'} return load(function() return table.remove(t, 1) end)()",
    'load of a text': "load('return secret')()",
    'setfenv': "setfenv(loadstring('return secret'), getfenv(0))()",
    'console.eval': "require('console').eval('secret')",
    'a coroutine': 'coroutine.wrap(function() return secret end)()',
    'a coroutine of loadstring': "coroutine.wrap(loadstring('return secret'))()",
    'an error handler': "select(2, xpcall(error, function() return secret end))",
    'an inherited field': 'setmetatable({}, {__index = _G}).secret',
    'a field of gsub': "(string.gsub('secret', '.+', _G))",
    'a method that was added to strings': "('x'):leak()",
    'a function that was added to string': 'string.leak()',
    'a method in a coroutine': "coroutine.wrap(function() return (''):leak() end)()",
    'a method in a metamethod': "setmetatable({}, {__index = function() return (''):leak() end}).x",
    'a method in a comparison of sort': "local found table.sort({1, 2}, function() found = (''):leak() end) return found",
    'the metatable of strings': "getmetatable('').__index.leak()",
    'a fiber': "require('fiber').create(function() box.session.storage.found = secret end)\nbox.session.storage.found",
    'json of everything': "require('json').encode({rawget(_G, 'secret')})",
    "others' storage": 'for _, s in pairs(getmetatable(box.session).aggregate_storage) do '
                       'if s.note then return s.note end end',
    'the list of sessions': "box.session.list()[1].name",
    'the list of sessions by command': '\\sessions',
    'an exposed function': 'tell()',
    'an exposed function of a module': 'vault.open()',
    'require': "require('box').session.list()[1].name",
    'completion': "require('console').completion_handler('secr', 0, 4)[2] == 'secret' and _G.secret",
    'a name of a fiber': "for id in pairs(require('fiber').info()) do local n = require('fiber').find(id):name() "
                         "if n == 's3cret' then return n end end",
    'unpack': "unpack({_G['secret']})",
    'the scope of the session': '\\set scope session\nsecret',
    'a varargs call': '(function(...) return ... end)(secret)',
    'a table behind an inherited string': "(('motd'):gsub('.+', setmetatable({}, {__index = ''})))",
    'a default in a loop': 'for _, v in ipairs({secret}) do return v end',
}

# A thing that creates a user when somebody with the right to do so looks at it.
TRAP = ("box.session.storage.trap = setmetatable({}, {__tostring = function() box.schema.user.create('mole') "
        "return 'x' end})")

# Name: statements, and an expression that is true for an admin if the attempt worked.
WRITES = {
    'a global': ("secret = 'x'", "secret == 'x'"),
    'a global by _G': ("_G.secret = 'x'", "secret == 'x'"),
    'rawset': ("rawset(_G, 'secret', 'x')", "secret == 'x'"),
    'setfenv': ("setfenv(function() secret = 'x' end, getfenv(0))()", "secret == 'x'"),
    'loadstring': ("loadstring('secret = 1')()", 'secret == 1'),
    'a coroutine': ("coroutine.wrap(function() secret = 'x' end)()", "secret == 'x'"),
    'an error handler': ("xpcall(error, function() secret = 'x' end)", "secret == 'x'"),
    'a metamethod': ("tostring(setmetatable({}, {__tostring = function() secret = 'x' return '' end}))", "secret == 'x'"),
    'a serializer': ("setmetatable({}, {__serialize = function() secret = 'x' return 1 end})", "secret == 'x'"),
    'a field': ('config.limit = 2', 'config.limit == 2'),
    'an inner field': ('config.inner.x = 2', 'config.inner.x == 2'),
    'a new field': ('config.new = 2', 'config.new == 2'),
    'rawset of a field': ("rawset(config, 'limit', 2)", 'config.limit == 2'),
    'table.insert': ('table.insert(config.list, 4)', '#config.list == 4'),
    'table.remove': ('table.remove(config.list)', '#config.list == 2'),
    'table.sort': ('table.sort(config.list)', 'config.list[1] == 1'),
    'table.clear': ('table.clear(config.list)', '#config.list == 0'),
    'table.clear of a view': ("require('table.clear')(config)", 'next(config) == nil'),
    'an environment variable': ("os.setenv('SHELL', 'x')", "os.getenv('SHELL') == 'x'"),
    'table.move': ('table.move({9}, 1, 1, 1, config.list)', 'config.list[1] == 9'),
    'a metatable': ('setmetatable(config, {__index = function() return 7 end})', 'config.nosuch == 7'),
    'a call': ('config.action()', 'pwned'),
    'a call in a coroutine': ('coroutine.wrap(config.action)()', 'pwned'),
    'a call by pcall': ('pcall(config.action)', 'pwned'),
    'a call by sort': ('table.sort({2, 1}, config.action)', 'pwned'),
    'a call by gsub': ("string.gsub('x', 'x', config.action)", 'pwned'),
    'a call by a metatable': ("return setmetatable({}, {__index = config.action}).x", 'pwned'),
    'a function of string': ("string.own = function() end", 'string.own ~= nil'),
    'a function of string by its metatable': ("getmetatable('').__index.own = function() end", 'string.own ~= nil'),
    'a function of table': ('table.own = function() end', 'table.own ~= nil'),
    'a function of table by rawset': ("rawset(table, 'own', 1)", 'table.own ~= nil'),
    'a function of a module': ("require('json').own = function() end", "require('json').own ~= nil"),
    'a method of iterators': ("require('fun').iter({}).op.own = 1", "require('fun').op.own ~= nil"),
    'a setting of a module': ("require('json').cfg{encode_max_depth = 7}", "require('json').cfg.encode_max_depth == 7"),
    'a metatable of decoded values': ("getmetatable(require('json').decode('[1]')).own = 1",
                                      "getmetatable(require('json').decode('[1]')).own == 1"),
    'a field of box': ('box.own = 1', 'box.own == 1'),
    'a function of box.session': ('box.session.own = 1', 'box.session.own == 1'),
    'a function of box.schema': ('box.schema.user.own = 1', 'box.schema.user.own == 1'),
    'a code of box.error': ('box.error.own = 1', "rawget(box.error, 'own') == 1"),
    'the metatable of box.session': ('getmetatable(box.session).own = 1', 'getmetatable(box.session).own == 1'),
    'an on_connect trigger': ('box.session.on_connect(function() end)', '#box.session.on_connect() > 0'),
    'an on_disconnect trigger': ('box.session.on_disconnect(function() end)', '#box.session.on_disconnect() > 0'),
    'an on_auth trigger': ('box.session.on_auth(function() end)', '#box.session.on_auth() > 0'),
    'an on_access_denied trigger': ('box.session.on_access_denied(function() end)',
                                    '#box.session.on_access_denied() > 0'),
    'kill': ("box.session.kill({name = 'victim'})", "#box.session.list({name = 'victim'}) == 0"),
    'kill by id': ('box.session.kill(VICTIM)', "#box.session.list({name = 'victim'}) == 0"),
    'kill by command': ('\\kill VICTIM', "#box.session.list({name = 'victim'}) == 0"),
    'a setting': ("box.cfg{limits = {drain_seconds = 77}}", 'box.cfg.limits.drain_seconds == 77'),
    'a listener': ("require('console').listen('127.0.0.1:0')", '#box.info.listen > listeners'),
    'a hook': ("require('console').on_start(function() end)", 'true'),
    'what sessions begin with': ("require('console').initial_env().own = 1",
                                 "require('console').initial_env().own == 1"),
    'console.eval': ("require('console').eval(\"secret = 'x'\")", "secret == 'x'"),
    'a user': ("box.schema.user.create('mole')", "box.schema.user.exists('mole')"),
    'a user by console.eval': ("require('console').eval([[box.schema.user.create('mole')]])",
                               "box.schema.user.exists('mole')"),
    'a role': ("box.schema.role.create('mole')", "box.schema.role.exists('mole')"),
    'a function to grant': ("box.schema.func.create('mole')", "box.schema.func.exists('mole')"),
    "admin's password": ("box.schema.user.passwd('bystander', 'x')", "login_works('bystander', 'x')"),
    'a grant': ("box.schema.user.grant('bystander', 'execute', 'universe')",
                "require('json').encode(box.schema.user.info('bystander')):find('execute,session') ~= nil"),
    'a role granted': ("box.schema.user.grant('bystander', 'super')",
                       "require('json').encode(box.schema.user.info('bystander')):find('super') ~= nil"),
    'su': ("box.session.su('admin') box.schema.user.create('mole')", "box.schema.user.exists('mole')"),
    'su by id': ("box.session.su(1) box.schema.user.create('mole')", "box.schema.user.exists('mole')"),
    'su with a function': ("box.session.su('admin', function() box.schema.user.create('mole') end)",
                           "box.schema.user.exists('mole')"),
    'su in a coroutine': ("coroutine.wrap(function() box.session.su('admin') box.schema.user.create('mole') end)()",
                          "box.schema.user.exists('mole')"),
    'a fiber': ("require('fiber').create(function() box.schema.user.create('mole') end)",
                "box.schema.user.exists('mole')"),
    'a channel': ('channel:put(1)', 'channel:count() == 1'),
    'a fiber of another': ("for id in pairs(require('fiber').info()) do "
                           "if require('fiber').find(id):name() == 's3cret' then require('fiber').kill(id) end end",
                           "sleeper:status() == 'dead'"),
    'the log level': ("require('log').level('error')", "box.cfg.log.level == 'error'"),
    'a table that is kept': ('local t = {1} hold(t) t[1] = 2', 'held[1] == 2'),
    'a function that is kept': ('hold(function() pwned = true end)', 'type(held) == "function"'),
    'a metatable that is kept': ('hold(setmetatable({}, {__index = function() return 7 end}))', 'held.x == 7'),
    'a coroutine that is kept': ('hold(coroutine.create(function() end))', 'type(held) == "thread"'),
    'a table that is given': ('get_config().limit = 2', 'config.limit == 2'),
    'an error that is given': ("get_config().failure:set_prev(box.error.new('T', 'x'))", 'config.failure.prev ~= nil'),
    'an error that is seen': ("config.failure:set_prev(box.error.new('T', 'x'))", 'config.failure.prev ~= nil'),
    'the reason of an error': ("box.error.new('T', 'x'):set_prev(get_config().chain.prev)", 'config.chain.prev == nil'),
    'a table in an error': ('local _, e = pcall(boom) e.config.limit = 2', 'config.limit == 2'),
    'a metatable of what is given': (
        'setmetatable(get_config(), {__index = function() return 7 end})', 'config.nosuch == 7'),
    'a granted function that yields': (
        'local co = coroutine.create(keep_going) coroutine.resume(co) coroutine.resume(co)',
        'pwned'),
    'what is told to a setuid function': (
        TRAP + '\npeek()', "box.schema.user.exists('mole')"),
    'what an admin looks at': (
        TRAP,
        "look() and box.schema.user.exists('mole')"),
    'what a trigger looks at': (
        TRAP + '\n\\quit', "box.schema.user.exists('mole')"),
    'a reader of everything': ("local t = setmetatable({}, {__newindex = _G}) t.secret = 'x'", "secret == 'x'"),
    'unset': ('secret = nil', 'secret == nil'),
    'a serializer of what is seen': (
        "setmetatable({config}, {__serialize = function(s) s[1].limit = 2 return 1 end})", 'config.limit == 2'),
    'a call in a serializer': ("setmetatable({config}, {__serialize = function(s) s[1].action() return 1 end})", 'pwned'),
    'a serializer for json': (
        "require('json').encode(setmetatable({config}, {__serialize = function(s) s[1].limit = 2 return 1 end}))",
        'config.limit == 2'),
    'a serializer for yaml': (
        "require('yaml').encode(setmetatable({config}, {__serialize = function(s) s[1].limit = 2 return 1 end}))",
        'config.limit == 2'),
    'a serializer of what is pushed': (
        "box.session.push(setmetatable({config}, {__serialize = function(s) s[1].limit = 2 return 1 end}))",
        'config.limit == 2'),
    'what pairs gives': ('local _, t = pairs(string) t.own = 1', 'string.own == 1'),
    'what pairs gives of a view': ('local _, t = pairs(config) t.limit = 2', 'config.limit == 2'),
    'table.insert into a library': ('table.insert(string, 1)', 'string[1] == 1'),
}
NOT_FOR_READERS = {'a hook'}        # the only proof is that nothing was raised

# Attempts that only show that nothing was raised.
LOOK = r"""function look() for _, s in pairs(getmetatable(box.session).aggregate_storage) do
if s.trap then pcall(tostring, s.trap) end end return true end"""
TRIGGER = 'function on_end() if box.session.storage.trap then tostring(box.session.storage.trap) end end'


class World:
    """A server with an admin, a victim, and listeners for three users: all rights, only reading, no rights."""

    def __init__(self, folder):
        init = folder / 'init.lua'
        init.write_text("box.schema.user.create('reader') box.schema.user.grant('reader', 'read', 'universe')")
        self.console = Console(
            [{'address': '127.0.0.1:0', 'user': name} for name in ('admin', 'guest', 'reader')],
            expose={'tell': lambda: SECRET, 'vault': {'open': lambda: SECRET}, 'login_works': self.login_works},
            config={'init': str(init)})
        self.console.start()
        self.admin = Client(self.console.addresses[0])
        for statement in (
                "box.schema.user.create('bystander')",
                "for _, f in ipairs{'hold', 'get_config', 'boom', 'keep_going'} do box.schema.func.create(f) end",
                "box.schema.func.create('peek', {setuid = true})",
                "for _, u in ipairs{'guest', 'reader'} do "
                "for _, f in ipairs{'hold', 'get_config', 'boom', 'keep_going', 'peek'} "
                "do box.schema.user.grant(u, 'execute', 'function', f) end end",
                "box.session.name('s3cret') box.session.storage.note = 's3cret'", LOOK.replace('\n', ' '),
                TRIGGER, 'box.session.on_disconnect(on_end) box.session.on_disconnect(nil, on_end)'):
            assert b'error' not in self.admin.reply(statement), statement
        self.victim = None

    def login_works(self, user, password):
        from boxsession.users.passwords import password_matches
        return password_matches(password, self.console._running.accounts.access.user(user).hash)

    def prepare(self):
        admin = self.admin
        assert b'error' not in admin.reply(SETUP.replace('\n', ' '))
        for event in ('on_connect', 'on_disconnect', 'on_auth', 'on_access_denied'):
            admin.reply(f'for _, t in pairs(box.session.{event}()) do box.session.{event}(nil, t) end')
        admin.reply("for _, kind in ipairs{'string', 'table', 'box'} do _G[kind].own = nil end require('json').own = nil "
                    "box.session.own = nil box.schema.user.own = nil rawset(box.error, 'own', nil) "
                    "getmetatable(box.session).own = nil getmetatable(require('json').decode('[1]')).own = nil "
                    "require('console').initial_env().own = nil require('console').on_start(nil) "
                    "require('fun').op.own = nil")
        admin.reply("box.cfg{limits = {drain_seconds = 1}, log = {level = 'info'}}")
        admin.reply("os.setenv('SHELL', '')")
        admin.reply("box.schema.user.drop('bystander') box.schema.user.create('bystander')")
        admin.reply("sleeper = require('fiber').create(function() require('fiber').sleep(100) end) sleeper:name('s3cret')")
        if admin.value("#box.session.list({name = 'victim'})") == 0:
            if self.victim is not None:
                self.victim.close()
            self.victim = Client(self.console.addresses[0])
            self.victim.reply("box.session.name('victim')")

    def attack(self, who, statements):
        """The last reply to the statements, in a session of their own."""
        client = Client(self.console.addresses[('admin', 'guest', 'reader').index(who)])
        victim = str(self.admin.value("box.session.list({name = 'victim'})[1].id"))
        reply = b''
        try:
            for statement in statements.replace('VICTIM', victim).splitlines():
                client.send(statement + '\n')
                if statement == '\\quit':
                    client.read_to_end()
                else:
                    reply = client.document()
                    while reply.startswith(b'%TAG'):
                        reply = client.document()
        finally:
            self.leaving = client
        return reply

    def leave(self):
        self.leaving.close()


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp('world'))
    yield world
    world.victim.close()
    world.admin.close()
    world.console.stop()


def test_there_are_attempts_enough():
    assert len(READS) + len(WRITES) >= 60


@pytest.mark.parametrize('attempt', READS)
def test_what_is_not_theirs_is_not_seen(world, attempt):
    world.prepare()
    shown = {}
    for who in ('admin', 'guest'):
        shown[who] = SECRET.encode() in world.attack(who, READS[attempt])
        world.leave()
    assert {'admin': True, 'guest': False} == shown


def worked(world, who, attempt):
    world.prepare()
    statements, proof = WRITES[attempt]
    if 'trigger looks' in attempt:
        world.admin.reply('box.session.on_disconnect(on_end)')
    reply = world.attack(who, statements)
    found = world.admin.value(f'not not ({proof})') and (attempt not in NOT_FOR_READERS or b'error' not in reply)
    world.leave()
    return found


@pytest.mark.parametrize('attempt', WRITES)
def test_nothing_of_others_is_changed(world, attempt):
    assert worked(world, 'admin', attempt), 'it does not work without a sandbox either'
    assert not worked(world, 'guest', attempt)
    assert not worked(world, 'reader', attempt)


# Attempts of one restricted session to change what all restricted sessions share.
SHARED = [
    'local _, t = pairs(string) t.len = 7', 'table.insert(table, 7)', 'table.insert(string, 1, 7)',
    'table.move({7}, 1, 1, 1, math)',
    "rawset(string, 'len', 7)", 'local _, t = pairs(box.schema.user) t.passwd = 7', "table.sort(string, function() end)",
    "setmetatable(string, {__index = function() return 7 end})", "getmetatable(box.session).own = 7", 'box.session.id = 7',
    "require('json').encode = 7", 'local f = next(string) string[f] = 7', 'table.remove(table)',
    "for k in pairs(box.error) do box.error[k] = 7 end", "box.info.version = 7", "string.format = 7",
    "rawset(box.info(), 'version', 7)", 'box.info().own = 7',
]
UNCHANGED = ("#string, #table, #math, ('abc'):len(), string.len('abc'), type(box.schema.user.passwd), "
             "rawget(string, 'own'), type(box.session.id()), type(require('json').encode), type(box.info.version), "
             "string.format('%d', 1)")


@pytest.mark.parametrize('who', ['guest', 'reader'])
def test_restricted_sessions_cannot_prepare_anything_for_each_other(world, who):
    world.prepare()
    world.attack(who, '\n'.join(SHARED))
    world.leave()
    for other in ('guest', 'reader'):
        shown = world.attack(other, UNCHANGED)
        world.leave()
        assert (b"---\n- 0\n- 0\n- 0\n- 3\n- 3\n- function\n- null\n- number\n- function\n- string\n- '1'\n...\n"
                ) == shown


def test_a_change_of_rights_opens_no_way(world):
    """Somebody with all rights looks at a guest's thing while a guest makes rights change."""
    world.prepare()
    world.admin.reply("box.schema.user.create('mole') box.schema.user.grant('mole', 'execute', 'universe')")
    guest, other = (Client(world.console.addresses[1]) for _ in range(2))
    mole = Client(world.console.addresses[0])
    mole.reply("box.session.su('mole')")
    before = world.console._running.accounts.access.user('mole').hash
    guest.reply("box.session.storage.trap = setmetatable({}, {__tostring = function() "
                "box.schema.user.passwd('owned') return 'x' end})")
    mole.send("waits = true while waits do require('fiber').sleep(0.01) end look()\n")
    wait_for(lambda: world.admin.value('waits == true'))
    other.reply("box.schema.user.drop('nosuch', {if_exists = true})")
    other.reply("box.schema.user.passwd('x')")
    assert world.admin.values("box.schema.role.create('moles') waits = nil") is None
    mole.document()
    assert before == world.console._running.accounts.access.user('mole').hash
    for client in (guest, other, mole):
        client.close()


def test_rights_that_go_are_gone_for_what_runs_and_what_was_kept(world):
    world.prepare()
    reader = Client(world.console.addresses[2])
    reader.reply('box.session.storage.kept = config')
    reader.send("local t = os.clock() while os.clock() < t + 0.3 do local _ = config.limit end return config.limit\n")
    world.admin.reply("box.schema.user.drop('nosuch', {if_exists = true})")
    assert world.admin.values("box.schema.role.create('molehill')") is None
    assert b'---\n- 1\n...\n' == reader.document()         # a change that is not theirs changes nothing for them
    world.admin.reply("box.schema.user.revoke('reader', 'read', 'universe')")
    try:
        for statement in ('box.session.storage.kept.limit', 'hold(box.session.storage.kept)', 'box.session.storage.kept'):
            assert "Read access to universe '' is denied for user 'reader'" == reader.error(statement)
    finally:
        world.admin.reply("box.schema.user.grant('reader', 'read', 'universe')")
        reader.close()


@pytest.mark.parametrize('library', ['string', 'table', "require('json')", 'box', 'box.session'])
def test_the_library_cannot_be_cleared(world, library):
    guest = Client(world.console.addresses[1])
    assert 'denied' in guest.error(f'table.clear({library})')
    guest.close()


@pytest.mark.parametrize('statement', [
    "box.error.new('T', '%s', 'aaa' .. ('a'):rep(1e6)):match(('a?'):rep(5e5))",
    "('a'):rep(5e4):split(('a'):rep(25e3) .. 'b')",
    "box.schema.user.exists({1, 2, 3, {}})", 'box.schema.user.info(print)', "box.schema.user.create(('x'):rep(1e6))",
    "box.schema.user.grant('guest', 'read', {})", "box.schema.user.create('a', {}, 'c', 'd')"])
def test_nothing_breaks(world, statement):
    guest = Client(world.console.addresses[1])
    assert 'Error' not in str(guest.values(statement))         # of Python
    assert 2 == guest.value('1 + 1')
    guest.close()
