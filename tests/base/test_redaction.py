"""Redaction of statements: secrets are removed and nothing else, in linear time."""
from __future__ import annotations

import re
import time

import pytest
from conftest import IS_LONG
from hypothesis import given, strategies

from boxsession.base.redaction import may_hold_secret, redacted, redacted_arguments, redacted_error, redacted_text

SECRET, KEPT = 'geheim', 'visible'


@pytest.mark.parametrize('statement', [
    "box.schema.user.create('ann', {password = 'geheim'}) box.schema.user.grant('ann', 'visible')",
    "box.schema.user.create('ann', {Password='geheim'})", 'box.schema.user.passwd("a\\"b", [==[geheim]]]==])',
    "box.schema.user.passwd('geheim", "-- don't tell\nbox.schema.user.passwd('geheim')", "passwd([[geheim",
    "passwd[[geheim]] print('visible')", "passwd{'geheim'} print('visible')", "passwd'geheim' print('visible')",
    '\\login ann geheim heim', '  \\login visible geheim', '\\ login ann geheim', '\\\\login ann geheim',
    '\\LOGIN ann geheim', '\\login geheim', '\\logn web geheim', '\\su web geheim', 'login web geheim',
    'logn web geheim', 'login geheim', 'login web 4geheim', "login web p'w(geheim", 'for i = 1, 2 do\n\\login web geheim',
    'x =\nlogin web geheim', "c.connect('ann:geheim@host:1')", 'c.connect(ann:geheim@host:1)',
    "x = 'http://ann:geheim@host/x' y = 'visible'", "'ann:' .. 'geheim' .. '@host'",
    "local q = 'geheim' connect('ann:' .. q .. '@host')", "token = 'geheim' print('visible')", "pwd = 'geheim'",
    "secret = 'geheim'", "AWS_SECRET_ACCESS_KEY = 'geheim'", "apiKey = 'geheim'", "key = 'geheim' print('visible')",
    "credentials.db = 'geheim' print('visible')", "passwords['ann'] = 'geheim' print('visible')",
    "password = 'geh' .. 'geheim' print('visible')", "password = ('geheim'):rep(2) print('visible')",
    "local p = 'geheim' box.schema.user.passwd('x', p) print('visible')",
    "local a = 'geheim' local b = a passwd(b) print('visible')",
    "local function f(p) passwd(p) end f('geheim') print('visible')", "(function(p) passwd('u', p) end)('geheim')",
    "for _, p in ipairs{'geheim'} do passwd('u', p) end", "t['password'] = 'geheim'", "t['p\\97ssword'] = 'geheim'",
    "t['pass' .. 'word'] = 'geheim'", "rawset(t, 'password', 'geheim')", "x = {['token'] = 'geheim', a = 'visible'}",
    "local user, password = 'ann', 'geheim' print('visible')", "password --[[x]] = --[==[ y ]==] 'geheim'",
    "password =\n\n'geheim'", "password = 'ge\\\nheim geheim'", "if password == 'geheim' then print('visible') end",
    "if 'geheim' == password then print('visible') end", "user:login('web', 'geheim') print('visible')",
    "loadstring(\"box.schema.user.passwd('geheim')\")() print('visible')",
    "loadstring('box.schema.user.passwd(\\'geheim\\')')() print('visible')", "console.eval('\\\\login visible geheim')",
    "json.decode('{\"password\": \"geheim\", \"a\": \"visible\"}')", "os.execute('PGPASSWORD=geheim psql visible')",
    "headers = {Authorization = 'Bearer geheim'}", "x = 'Authorization: Bearer geheim'", '-- password: geheim visible',
    "don't password = 'geheim'", "x = \xe9 password = '\xff geheim'", "print('visible') password = 'geheim'",
    "pw = 'geheim'", "f = box.schema.user.passwd f('x', 'geheim')", "local c = box.schema.user['passwd'] c('geheim')",
    "pcall(box.schema.user.passwd, 'x', 'geheim') print('visible')", "fiber.create(box.schema.user.passwd, 'geheim')",
    "print('visible') \\login a geheim", "\xff\\login a geheim", '/login web geheim', 'su web geheim',
    'AUTH geheim', 'auth web geheim', 'Auth web 4geheim', "auth 'web' 'geheim'", 'auth "geheim"', '/auth geheim',
    '\\auth web geheim', 'HELLO 3 AUTH web geheim', 'authenticate web geheim', 'PASS geheim', 'x = 1\nAUTH geheim',
    'auth $geheim', 'auth #geheim', 'for i = 1, 2 do\nauth "geheim"',
    "login('visible_not')('geheim') print('visible')", "login 'ann' 'geheim' print('visible')", "login'ann'{'geheim'}",
    "x = login(a)('geheim')", "t = {set = function(pw) end} t.set('geheim')", "password = string.format('%s', 'geheim')"])
def test_a_secret_is_cut_out_and_the_rest_stays(statement):
    data = statement.encode('latin-1')
    shown = redacted(data)
    assert SECRET not in shown and re.search(r'\*\*\* \(\d+ bytes, [0-9a-f]{12}\)', shown)
    assert (KEPT in statement) == (KEPT in shown)
    assert may_hold_secret(data)
    assert SECRET not in redacted(data, 200, brief=True)


@pytest.mark.parametrize('name', [
    'token', 'pwd', 'secret', 'AWS_SECRET_ACCESS_KEY', 'apiToken', 'PGPASS', 'dbpass', 'sshpw', 'passcode', 'passkey',
    'wpa_psk', 'otp', 'pin', 'userPin', 'cookie', 'session_cookie', 'jwt', 'creds', 'db_cred', 'authKey',
    'private_key', 'oauth_x', 'kennwort'])
def test_names_of_secrets(name):
    for form in ('%s = "geheim"', 'x.%s = "geheim"', 't = {%s = "geheim"}', 't["%s"] = [[geheim]]', 'f("%s=geheim")'):
        assert SECRET not in redacted((form % name).encode())
        assert may_hold_secret((form % name).encode())


@pytest.mark.parametrize('name', ['pins', 'spin', 'opinion', 'monkey', 'keyboard', 'credit', 'author', 'hotpot', 'passive'])
def test_names_of_other_values(name):
    assert f'{name} = "visible"' == redacted(f'{name} = "visible"'.encode())


@pytest.mark.parametrize('statement', [
    '1 + 1', "box.schema.user.grant('ann', 'execute', 'universe')", 'box.info.access',
    "-- passw\nbox.schema.user.grant('eve', 'super')", "box.schema.user.grant('eve', 'super') -- passw",
    "--[[ passwd( ]] box.schema.user.grant('eve', 'super')", "x = passwd box.schema.user.grant('eve', 'super')",
    "login() box.schema.user.grant('eve', 'super')", "box.schema.user.grant('login', 'execute', 'function', 'f')",
    "box.schema.role.grant('token', 'super')", '\\set output lua', '\\sessions', '\\kill 5', "print('it is 12:30, bob@x')",
    "log.info('a', 1) return {1, 2}", 'hello world', 'hello 3'])
def test_what_hides_nothing_stays_whole(statement):
    assert statement == redacted(statement.encode())
    assert not may_hold_secret(statement.encode())


@pytest.mark.parametrize('statement', [
    "local u=box.schema.user u[('passwd')]('zz1',[==[geheim]==])",
    "local u=box.schema.user u[(('passwd'))]('zz1','geheim')",
    "local u=box.schema.user u['pass'..'wd']('zz1','geheim')",
    "local u=box.schema.user u[('pass')..'wd']('zz1','geheim')",
    "local u=box.schema.user u[('pass'..'wd')]('zz1','geheim')",
    "local u=box.schema.user u['\\112asswd']('zz1','geheim')",
    "local u=box.schema.user u['pass\\\nwd']('zz1','geheim')",
    "local u=box.schema.user u[ [=[passwd]=] ]('zz1','geheim')",
    "local u=box.schema.user u[--[[x]]('passwd'--[==[y]==])]--z\n('zz1','geheim')",
    "local u=box.schema.user u.passwd--[[x]]('zz1','geheim')",
    "local u=box.schema.user local p = u.passwd p('x','geheim')",
    "local u=box.schema.user local p = (u.passwd) p('x','geheim')",
    "local u=box.schema.user local p = u[('passwd')] p('x','geheim')",
    "local u=box.schema.user local p, a = u.passwd, 1 p('x','geheim')",
    "local u=box.schema.user local a, p = 1, u.passwd p('x','geheim')",
    "local u=box.schema.user local t = {u.passwd} t[1]('x','geheim')",
    "local u=box.schema.user local t = {f = u.passwd} t.f('x','geheim')",
    "local u=box.schema.user local k = 'passwd' u[k]('x','geheim')",
    "local u=box.schema.user local k = 'pass' u[k .. 'wd']('x','geheim')",
    "local u=box.schema.user u[('dwssap'):reverse()]('x','geheim')",
    "local u=box.schema.user u[string.char(112,97,115,115,119,100)]('x','geheim')",
    "box.schema.user[table.concat{'pa','ss','wd'}]('x','geheim')",
    "box.schema.user.create('x',{[('password')]='geheim'})",
    "box.schema.user.create('x',{['pass'..'word']='geheim'})",
    "box.schema.user.create('x',{[ [[password]] ]='geheim'})",
    "local k='password' box.schema.user.create('x',{[k]='geheim'})",
    "local o = {} o['pass'..('word')] = 'geheim' box.schema.user.create('x', o)",
    "local o = {} o[('password')] = 'geheim'",
    "t = {[('password')] = 'geheim'}",
    "rawget(box.schema.user, 'passwd')('x','geheim')",
    "rawget(box.schema.user, 'pass'..'wd')('x','geheim')",
    "(box.schema.user)['passwd']('x', 'geheim')",
    "(box.schema.user.passwd)('x', 'geheim')",
    "((box.schema.user).passwd)('x', 'geheim')",
    "(box.schema.user.passwd or print)('x', 'geheim')",
    "select(1, box.schema.user.passwd)('x', 'geheim')",
    "for k, f in pairs(box.schema.user) do if k:find('^pass') then f('x', 'geheim') end end",
    "for k, f in pairs(box.schema.user) do if k == 'passwd' then f('x', 'geheim') end end",
    "local p = function(...) return box.schema.user.passwd(...) end p('x', 'geheim')",
    "local function p(...) box.schema.user.passwd(...) end p('x', 'geheim')",
    "local function p(a, b) box.schema.user.passwd(a, b) end p('x', 'geheim')",
    "local s = 'geheim' box.schema.user[('passwd')]('x', s)",
    "local o = {'x', 'geheim'} box.schema.user.passwd(unpack(o))",
    "box.schema.user.passwd(unpack{'x', 'geheim'})",
    "local o = {'x', 'geheim'} box.schema.user[('passwd')](unpack(o))",
    "pcall(box.schema.user[('passwd')], 'x', 'geheim')",
    "xpcall(function() box.schema.user[('passwd')]('x', 'geheim') end, print)",
    'loadstring(\'box.schema.user[("passwd")]("x", "geheim")\')()',
    'loadstring([[box.schema.user[("passwd")]("x", "geheim")]])()',
    "setmetatable({}, {__index = box.schema.user})[('passwd')]('x', 'geheim')",
    'console.eval("box.schema.user[(\'passwd\')](\'x\', \'geheim\')")',
    "with = box.schema.user.passwd; with('x', 'geheim')",
    'local u=box.schema.user u.passwd   -- hi\n  (\'x\', "ge\\\nheim geheim")'])
def test_a_secret_is_cut_out_however_its_function_is_reached(statement):
    assert SECRET not in redacted(statement.encode())
    assert SECRET not in redacted(f'x = 1 {statement} return x'.encode())
    assert may_hold_secret(statement.encode())


@pytest.mark.parametrize('statement', [
    "box.schema.user.grant('eve', 'super') x = t[('passwd')]", "local t = {u.passwd} box.schema.user.grant('eve', 'super')",
    "box.schema.user.grant(names[i], 'execute', 'function', 'super')",
    "local k = 'passwd' box.schema.user.revoke('eve', 'super')"])
def test_rights_are_not_hidden_by_it(statement):
    assert "'super'" in redacted(statement.encode())


@pytest.mark.parametrize('statement', [
    "box.schema.func.create('f') print(t[1], t['a'], 'visible')", "print(t[i], t[('a')], 'visible')",
    "box.schema.user.create('ann') print('the password is long', 'visible')", "return f(...), 'visible'"])
def test_ordinary_keys_hide_nothing(statement):
    assert statement == redacted(statement.encode())


def test_tags_tell_the_same_from_another_and_cannot_be_found_by_trying():
    import hashlib
    first, again, other = (redacted(b"password = '%s'" % word) for word in (b'geheim', b'geheim', b'anders'))
    assert first == again != other
    assert hashlib.sha256(b'geheim').hexdigest()[:12] not in first
    assert hashlib.blake2b(b'geheim', digest_size=6).hexdigest() not in first


def test_what_is_long_is_cut_with_its_length():
    shown = redacted(b"x = '" + b'a' * 100000)
    assert len(shown) < 70000 and shown.endswith(')') and '(34469 bytes, ' in shown
    # What would tell that a password is one may stand behind the cut.
    assert SECRET not in redacted(b"connect('ann:geheim" + b'x' * 300 + b"@h')", 100)
    assert SECRET not in redacted(b"local p = 'geheim'" + b' ' * 300 + b'passwd(p)', 100, brief=True)


@pytest.mark.parametrize('statement, error', [
    ("passwd('geheim' x)", "[string \"passwd('geheim' x)\"]:1: ')' expected near 'x'"),
    ("passwd('geheim", "[string \"passwd('geh...\"]:1: unfinished string near ''geheim'"),
    ("local p = 'geheim' passwd(p) error('no ' .. p)", 'no geheim'),
    ('\\logn web geheim', 'Invalid command \\logn web geheim.'),
    ('f()', 'cannot connect to ann:geheim@host'), ('f()', '[string "box.schema.user.passwd(\'geheim..."]:1: no')])
def test_an_error_tells_no_secret(statement, error):
    assert 'geh' not in redacted_error(statement.encode(), error.encode())


def test_an_error_of_a_statement_without_secrets_is_kept():
    error = "[string \"x y\"]:1: '=' expected near 'y'"
    assert error == redacted_error(b'x y', error.encode())


def test_arguments():
    assert '"a", 1' == redacted_arguments(b'f', b'"a", 1', b'')
    for name, source in ((b'box.schema.user.passwd', b'"geheim"'), (b'f', b'{["password"] = "geheim"}'),
                         (b'f', b'"u:geheim@h"'), (b'local u, p = ... passwd(u, p)', b'"u", "geheim"'),
                         (b"local k, u, p = ... box.schema.user[k](u, p)", b'"x", "u", "geheim"'),
                         (b"box.schema.user[('dwssap'):reverse()](...)", b'"u", "geheim"')):
        assert SECRET not in redacted_arguments(name, source, b'')


TOKENS = ['password', ' = ', "'", '"', '[[', ']]', '[=[', '--', '\n', '\\', '(', ')', '{', '}', ',', '..', '@', ':', 'a',
          ' ', '5', 'function', 'local', 'login', 'x', '\xff', 'end', '=', ';', '[', ']', '//']


@given(strategies.lists(strategies.sampled_from(TOKENS)).map(''.join))
def test_any_text_is_shown_and_only_loses_pieces(text):
    data = text.encode('latin-1')
    shown = redacted(data)
    pieces = re.split(r'\*\*\* \((?:\d+) bytes, [0-9a-f]{12}\)', shown)
    lengths = [int(n) for n in re.findall(r'\*\*\* \((\d+) bytes, [0-9a-f]{12}\)', shown)]
    plain = data.decode(errors='backslashreplace')
    at = 0
    for piece in pieces:
        assert plain.startswith(piece, at) or piece in plain[at:]
        at += len(piece)
    assert sum(lengths) <= len(data)
    redacted_text(data)
    redacted_error(data, data)


@given(strategies.sampled_from(["password = '%s'", "passwd('x', '%s')", '%s = {password = "%s"}', "p = '%s' login('u', p)",
                                "\\login u %s", "x('u:%s@h')", "t['token'] = [[%s]]"]),
       strategies.text('abcdefgh0123', min_size=12, max_size=20), strategies.sampled_from(['', "print('a') ", 'x = 1; ']))
def test_a_secret_never_stays(form, secret, before):
    statement = (before if form[0] != '\\' else '') + form.replace('%s', secret)
    assert form.startswith('%s') or secret not in redacted(statement.encode())


@pytest.mark.parametrize('piece', [
    ':', '@:', "''", '(', "pw='' ", '[=[', ']=', "'\\", 'login a b\n', 'function(pw) ', '--pw\n', "'a'..", "'@'..", 'pw(',
    '=', 'a=b pw=a b=c ', 'l ', "'a'..'@'..", "'\\'\\\\'", '\n\\', '-', 'pw '])
def test_work_grows_with_the_length(piece):
    """Counted in tokens looked at, by the pauses."""
    def pauses(size):
        count = 0

        def pause():
            nonlocal count
            count += 1
        redacted((piece * (size // len(piece) + 1))[:size].encode() + b' pw', 1 << 20, pause=pause)
        return count
    assert pauses(60000) <= 4.5 * pauses(15000) + 10


@pytest.mark.skipif(not IS_LONG, reason='compares times: with BOXSESSION_LONG=1')
@pytest.mark.parametrize('piece', ["'\\'", "'pw\\'", '\\ ', '\\x', "\\login", 'x\\', ":for',pw", '//\\'])
def test_time_grows_with_the_length(piece):
    """The cost of one match of a pattern shows in CPU time only, not in the number of pauses."""
    def seconds(size):
        statement = (piece * size)[:size].encode() + b'token'
        began = time.process_time()
        redacted(statement)
        return time.process_time() - began
    took = [(seconds(16000), seconds(64000)) for _ in range(5)]
    small, large = map(min, zip(*took, strict=True))
    assert large <= 12 * small + 0.01           # 4, were it not for the machine; 16, were it quadratic
