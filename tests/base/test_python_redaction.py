"""Redaction of statements in Python: secrets are removed and nothing else, in linear time."""
from __future__ import annotations

import ast
import importlib.util
import re
import textwrap
import time
from itertools import accumulate
from pathlib import Path

import pytest
from conftest import IS_LONG
from hypothesis import given, strategies

from boxsession.base.python_tokens import has_old_ends, tokens_of
from boxsession.base.redaction import ANY, LUA, PYTHON, may_hold_secret, redacted, redacted_error, redacted_text
from boxsession.base.secret_places import secret_places
from boxsession.base.secret_words import is_sensitive
from boxsession.base.tokens import STRING

SECRET, KEPT = 'geheim', 'visible'


def shown(statement, brief=False):
    return redacted(statement.encode('latin-1'), brief=brief, languages=(PYTHON,))


@pytest.mark.parametrize('statement', [
    # Assignments.
    "password = 'geheim'", 'password = "geheim"; x = "visible"', "password='geheim'\nx = 'visible'",
    "os.environ['API_KEY'] = 'geheim'; x = 'visible'", "d = {'password': 'geheim', 'a': 'visible'}",
    "d = {password: 'geheim', 'a': 'visible'}", "conf.secret: str = 'geheim'", "conf.secret: 'visible_not' = 'geheim'",
    "(password := 'geheim')", "if (token := 'geheim') and x == 'visible': pass", "password += 'geheim'; x = 'visible'",
    "a = password = 'geheim'", "password = a = 'geheim'", "user, password = 'ann', 'geheim'\nx = 'visible'",
    "(password, user) = ('geheim', 'ann')", "[password, user] = ['geheim', 'ann']", "password, *rest = ['geheim']",
    "password: Final[str] = 'geheim'", "self.db.password = ('ge' 'geheim')", "password = ['geheim', 'geheim']",
    "password = {'x': 'geheim'}", "password = ''.join(['geh', 'geheim'])", "password = f('geheim').strip('geheim')",
    "password = 'x' if y else 'geheim'\nz = 'visible'", "password = \\\n    'geheim'",
    "password = (\n  'geheim'\n)\nx = 'visible'",
    "password = lambda: 'geheim'", "password = x or 'geheim'", "password = [c for c in 'geheim']",
    "global password\npassword = 'geheim'",
    "class A:\n    password = 'geheim'\n    x = 'visible'", "def f():\n    password = 'geheim'\n    return 'visible'",
    "if x: password = 'geheim'", "try: password = 'geheim'\nexcept E: print('visible')", "with x: password: str = 'geheim'",
    "setattr(conf, 'password', 'geheim')", "conf.__dict__['password'] = 'geheim'", "globals()['password'] = 'geheim'",
    "d['a']['password']['b'] = 'geheim'", "d.update(password='geheim')", "d.update({'password': 'geheim'})",
    "d.setdefault('password', 'geheim')", "os.putenv('API_KEY', 'geheim')",
    "x = [('password', 'geheim'), ('a', 'visible')]",
    "dict([('token', 'geheim')])", "x = dict(token='geheim', a='visible')", "pin = 'geheim'",
    # Literals.
    "password = b'geheim'", "password = Rb'geheim'", "password = F'geheim'", "password = u'geheim'",
    "password = '''geheim'''",
    'password = """don\'t geheim"""\nx = "visible"', 'password = r"""a\\"geheim"""',
    "password = 'a\\'geheim'\nx = 'visible'",
    "password = 'ge\\\nheim geheim'", "password = r'geheim\\\\'\nx = 'visible'", "password = 'geh' 'geheim'; x = 'visible'",
    "password = 'geh' + 'geheim'", "password = ('geh'\n  'geheim')", "password = f'{x}geheim'",
    "password = f'''\n{x!r:>{w}} geheim'''",
    'password = f"{d["a"]}geheim"', "password = f'{{geheim}}'", "password = 'geheim", "password = '''geheim\nx",
    "password = f'{geheim",
    "d['p\\x61ssword'] = 'geheim'", "d['\\u0070assword'] = 'geheim'", "d['\\N{LATIN SMALL LETTER P}assword'] = 'geheim'",
    "d['pass' 'word'] = 'geheim'", "d['pa' + 'ssword'] = 'geheim'", "d[('password')] = 'geheim'",
    "d[f'password'] = 'geheim'",
    "d[b'password'] = 'geheim'", "d['pass'\n'word'] = 'geheim'", "d = {('pass' 'word'): 'geheim'}",
    # Calls.
    "login(user='bob', password='geheim')", "connect('visible', password='geheim')",
    "connect(\n  password='geheim',\n  host='visible')",
    "login('bob', 'geheim')", "login('bob', \"geheim\"); print('visible')", "user.login('web', 'geheim')\nprint('visible')",
    "getattr(x, 'login')('u', 'geheim')", "partial(login, 'u')('geheim')", "f = login\nf('u', 'geheim')",
    "f = x.login; f('u', 'geheim')",
    "p = partial(login, 'u'); p('geheim')", "gevent.spawn(login, 'u', 'geheim')",
    "Thread(target=login, args=('u', 'geheim'))",
    "login(*['u', 'geheim'])", "o = {'a': 'geheim'}; login(**o)", "(login)('u', 'geheim')", "login \\\n ('u', 'geheim')",
    "for p in ['geheim']: login('u', p)", "def f(p):\n    login('u', p)\nf('geheim')",
    "def f(*a): login(*a)\nf('u', 'geheim')",
    "def f(x, password): pass\nf('u', 'geheim')", "f = lambda p: login('u', p)\nf('geheim')",
    "(lambda password: 0)('geheim')",
    "class C:\n  def __init__(self, password): pass\nC('geheim')", "def f(password='geheim'): return 'visible'",
    "def f(password: str = 'geheim'): return 'visible'", "def password():\n    return 'geheim'",
    "p = 'geheim'\nlogin('u', p)\nprint('visible')",
    "a = 'geheim'; b = a; login('u', b); print('visible')", "session.get(url, auth=('ann', 'geheim'), timeout='visible')",
    "requests.get('visible', headers={'Authorization': 'Bearer geheim'})", "HTTPBasicAuth('ann', 'geheim')",
    "subprocess.run(['x', '--password', 'geheim', 'visible'])", "subprocess.run(['x', '--password=geheim', 'visible'])",
    "conf.update(dict(zip(['password'], ['geheim'])))", "password = yield 'geheim'", "k = 'password'; d[k] = 'geheim'",
    "for k in ('password',): d[k] = 'geheim'", "{k: 'geheim' for k in ['password']}",
    "k = 'password'; setattr(c, k, 'geheim')",
    "p = {'x': 'geheim'}; login(p['x'])", "p: str = 'geheim'; login(p)", "def f(p='geheim'): login(p)",
    "p += 'geheim'; login(p)",
    "with x as p: login(p, 'geheim')", "[f('geheim') for f in (login,)]",
    "os.environ |= {'TOKEN': 'geheim', 'x': 'visible'}",
    # Comparisons.
    "if password == 'geheim':\n    print('visible')", "if 'geheim' == password: print('visible')",
    "if 'geheim' == conf.password: print('visible')", "b'geheim' == d['token']", "'geheim' in password",
    "password in ('a', 'geheim')",
    "password not in ('a', 'geheim')", "password is not 'geheim'", "password != 'geheim'",
    "getattr(c, 'password') == 'geheim'",
    "str(password) == 'geheim'", "d.get('password') == 'geheim'", "password.startswith('geheim')",
    "password.replace('geheim', '')",
    "hmac.compare_digest('geheim', password)", "compare_digest(password, b'geheim')", "bcrypt.checkpw(b'geheim', h)",
    "match password:\n    case 'geheim':\n        print('visible')",
    "match d:\n    case {'password': 'geheim'}: print('visible')",
    "p = b'geheim'; x = p == password", "assert password == 'geheim', 'visible'",
    # Text that is put together.
    "':'.join(['ann', 'geheim']) + '@host'", "'{}:{}@{}'.format('ann', 'geheim', 'h')",
    "c.execute(\"ALTER USER x PASSWORD 'geheim'\")",
    "os.system('mysql --password geheim')", "Template('$password').substitute(password='geheim')",
    "'mysql://ann:geheim@host'", "f'mysql://ann:geheim@host/{db}'",
    "p = 'geheim'; f'mysql://ann:{p}@host'; print('visible')",
    "'ann:' + 'geheim' + '@host'", "'mysql://ann:%s@h' % 'geheim'", "'mysql://ann:{}@h'.format('geheim')",
    "p = 'geheim'\n'mysql://ann:%s@h' % p\nx = 'visible'", "p = 'geheim'; 'ann:' + p + '@host'",
    "'PGPASSWORD=%s psql' % 'geheim'",
    "p = 'geheim'; os.system(f'PGPASSWORD={p} psql')", "'Bearer ' + 'geheim'", "'password=' + 'geheim'",
    "'password={}'.format('geheim')",
    "t = 'password=%s'; t % 'geheim'", "''.join(['password=', 'geheim'])", "'password=%(p)s' % {'p': 'geheim'}",
    "cur.execute('UPDATE users SET password = ? WHERE id = 1', ('geheim',))", "os.system('PGPASSWORD=geheim psql visible')",
    "cur.execute('INSERT INTO users (name, password) VALUES (%s, %s)', ['ann', 'geheim'])",
    "json.loads('{\"password\": \"geheim\"}')",
    "json.loads('{\"password\": \"geheim\", \"a\": \"visible\"}')", "print('Authorization: Bearer geheim')",
    '"""\npassword: geheim\n"""',
    "exec(\"login('u', 'geheim')\")", "exec('''password = \"geheim\"''')", "eval('login(\"u\", \"geheim\")')",
    'f"{login("u", "geheim")}"',
    "f'{login(\"u\", \"geheim\")}'", "f'''{login('u', 'geheim')}'''", "'%s' % login('u', 'geheim')",
    # Lua inside.
    'box.lua("box.schema.user.passwd(\'bob\', \'geheim\')")',
    "box.lua('box.schema.user.passwd(\"bob\", [[geheim]])'); print('visible')",
    "box.lua('''\nbox.schema.user.create('x', {password = 'geheim'})''')",
    "q = \"box.schema.user.passwd('geheim')\"\nbox.lua(q)",
    'box.lua("local u=box.schema.user u[(\'passwd\')](\'x\',\'geheim\')")',
    "box.lua('box.schema.user.passwd(...)', 'bob', 'geheim')",
    "box.lua('local a, p = ... box.schema.user.passwd(a, p)', 'bob', 'geheim')",
    "box.lua('box.schema.user.' + \"passwd('bob', 'geheim')\")",
    "box.lua(\"box.schema.user.passwd('bob', \" \"'geheim')\")",
    "p = 'geheim'; box.lua(f\"box.schema.user.passwd('bob', '{p}')\")",
    "p = 'geheim'; box.lua(\"box.schema.user.passwd('bob', '%s')\" % p)",
    "box.lua(\"box.schema.user.%s('bob', 'geheim')\" % 'passwd')",
    "p = 'geheim'; box.lua(\"box.schema.user.passwd('bob', '\" + p + \"')\")",
    "run = box.lua; run(\"box.schema.user.passwd('b','geheim')\")",
    "box.lua(\"require('console').eval([[\\\\login ann geheim]])\")", "box.lua('\\\\login visible_not geheim')",
    # Commands, comments, what is no Python.
    '\\login ann geheim', '  \\login visible geheim', '\\logn web geheim', 'login web geheim', 'login geheim',
    'AUTH geheim', 'auth #geheim',
    "auth 'web' 'geheim'", 'auth "geheim"', '/login web geheim', 'HELLO 3 AUTH web geheim', 'PASS geheim',
    'x = 1\nAUTH geheim',
    'for i in x:\n\\login web geheim', '# password: geheim visible', "x = 1  # login('u', 'geheim')",
    "# don't\npassword = 'geheim'\nx = 'visible'",
    "don't password = 'geheim'", "x = 'it\npassword = 'geheim'", "x = \xe9 password = '\xff geheim'",
    "password = = 'geheim'",
    "login('u', 'geheim'", "login('u', 'geheim", "login(password='geheim'", "x[login('u', 'geheim')",
    "x) password = 'geheim'",
    "password = )('geheim'", "f'{x', password='geheim')", 'f"{x", password="geheim")', 'f"{x:" + (password := "geheim")',
    "password =\n'geheim'",
    "def f(password='geheim'", "if password == 'geheim", "{'password': 'geheim'", "login ('u', 'geheim') ) )",
    "login('u' 'geheim')",
    "c.connect(ann:geheim@host:1)", "password 'geheim'", "login 'geheim'", "login 'ann' 'geheim'", "auth 'ann', 'geheim'",
    "\xa0password = 'geheim'",
    "\x00password = 'geheim'"])
def test_a_secret_is_cut_out_and_the_rest_stays(statement):
    found = shown(statement)
    assert SECRET not in found and re.search(r'\*\*\* \(\d+ bytes, [0-9a-f]{12}\)', found)
    assert (re.search(r'visible\b', statement) is None) == (re.search(r'visible\b', found) is None)
    assert may_hold_secret(statement.encode('latin-1'), (PYTHON,)) and may_hold_secret(statement.encode('latin-1'))
    assert SECRET not in shown(statement, brief=True)
    assert SECRET not in redacted(statement.encode('latin-1'), languages=ANY)
    # The same further in.
    if statement[0] not in '\\ /' and 'AUTH' not in statement.upper() and not re.match('PASS|login [wg]', statement):
        block = 'if x:\n' + re.sub('(?m)^', '    ', statement)
        assert SECRET not in shown(f"x = 'a'; {statement}") and SECRET not in shown(f"y(1)\n{statement}\nx = 'b'")
        assert SECRET not in shown(block)


@pytest.mark.parametrize('name', [
    'token', 'pwd', 'secret', 'AWS_SECRET_ACCESS_KEY', 'apiToken', 'PGPASS', 'dbpass', 'passkey', 'otp', 'pin', 'userPin',
    'cookie',
    'jwt', 'creds', 'authKey', 'private_key'])
def test_names_of_secrets(name):
    for form in ('%s = "geheim"', 'x.%s = "geheim"', 't = {"%s": "geheim"}', 't["%s"] = """geheim"""', 'f("%s=geheim")',
    'f(%s="geheim")',
                 '%s: str = b"geheim"', 'f({"x": 1, "%s": rb\'geheim\'})', '(%s := "geheim")'):
        assert SECRET not in shown(form % name)


@pytest.mark.parametrize('statement', [
    '1 + 1', "x = 'visible' + 'y'", "print(f'{x!r:>10} {y}')",
    "# passw\nbox.lua(\"box.schema.user.grant('eve', 'super')\")",
    "box.lua(\"box.schema.user.grant('eve', 'super')\") # passw",
    "login()\nbox.lua(\"box.schema.user.grant('eve', 'super')\")",
    "x = passwd; box.lua(\"box.schema.role.grant('token', 'super')\")", '\\set output lua', '\\sessions', '\\kill 5',
    "print('it is 12:30, bob@x')", "x = {'a': 1, 'b': 'c'}", "if password: x = 'visible'",
    "for token in tokens: print('visible')",
    "with login as x: print('visible')", "from secrets import token_hex\nx = 'visible'", "import login; x = 'visible'",
    "@login_required\ndef f(): return 'visible'", "while not token: x = 'visible'", 'hello world', 'x @ y',
    "def login(user, password):\n    x = 'visible'", "print(f'{password}', 'visible')",
    "try: login()\nexcept E: x = 'visible'"])
def test_what_hides_nothing_stays_whole(statement):
    assert statement == shown(statement)
    assert not may_hold_secret(statement.encode(), (PYTHON,))


@pytest.mark.parametrize('statement, error', [
    ("f('geheim', password='geheim')", "ValueError: no geheim (statement:1)"), ("login('a\\'geh')", 'KeyError: "a\'geh"'),
    ("login(b'\\xffgeh')", "KeyError: b'\\xffgeh'"), ("p = 'geheim'; login('u', p)", "TypeError: 'geheim'"),
    ("password = 'ge\\x68eim'", 'E: geheim'), ("f()", 'E: mysql://ann:geheim@host'), ("login('u', 'ge\\nh')",
        "E: 'ge\\nh'")])
def test_an_error_tells_no_secret(statement, error):
    assert 'geh' not in redacted_error(statement.encode(), error.encode(), languages=(PYTHON,))
    assert 'ge\\nh' not in redacted_error(statement.encode(), error.encode(), languages=(PYTHON,))


def test_what_one_language_hides_is_hidden_in_a_statement_of_an_unknown_one():
    lua, python = b"password --[[x]] = [[geheim]]", b"f = {'password' : b'geheim'}"
    assert SECRET in redacted(python, languages=(LUA,))
    for statement in (lua, python):
        assert SECRET not in redacted(statement, languages=ANY) and SECRET not in redacted(statement, languages=('lua',
            'another'))


TOKENS = [
    'password', ' = ', "'", '"', "'''", '"""', 'f"', "rb'", 'f"""', '#', '\n', '\\', '(', ')', '{', '}', '[', ']', ',',
    '+', '%', '@', ':', ':=', '==', 'a', ' ', '5', 'def ', 'lambda', 'login', 'x', '\xff', 'match ', 'case ', 'if ',
    'in ', 'return ', ';', '.', '!r']


@given(strategies.lists(strategies.sampled_from(TOKENS)).map(''.join))
def test_any_text_is_shown_and_only_loses_pieces(text):
    data = text.encode('latin-1')
    found = redacted(data, languages=(PYTHON,))
    lengths = [int(n) for n in re.findall(r'\*\*\* \((\d+) bytes, [0-9a-f]{12}\)', found)]
    plain = data.decode(errors='backslashreplace')
    at = 0
    for piece in re.split(r'\*\*\* \(\d+ bytes, [0-9a-f]{12}\)', found):
        assert piece in plain[at:]
        at = plain.index(piece, at) + len(piece)
    assert sum(lengths) <= len(data)
    redacted_text(data)
    redacted_error(data, data, languages=ANY)


@given(strategies.lists(strategies.sampled_from(TOKENS)).map(''.join))
def test_tokens_of_valid_python_are_those_of_its_compiler(text):
    """At least the literals: where they begin and end decides about everything else."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    starts = {(node.lineno, node.col_offset) for node in ast.walk(tree)
              if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) or isinstance(node, ast.JoinedStr)}
    data = text.encode()
    tokens, _, _ = tokens_of(data, 0, lambda: None)
    found = set()
    for token in tokens:
        if token.kind == STRING:
            line = data.count(b'\n', 0, token.start)
            found.add((line + 1, token.start - (data.rfind(b'\n', 0, token.start) + 1)))
    inside = [token for token in tokens if token.kind == STRING and b'f' in token.prefix]
    assert inside or starts <= found


@pytest.mark.parametrize('text, ends', [
    ('f"{x}" + y', 6), ('f"{d["a"]}" + y', 11), ("f'{x!r:>{w}}' + y", 13), ('f"{{" + y', 5), ('f"{f"{"a"}"}" + y', 13),
        ('f"{x:{"a"}}" + y', 12),
    ("f'{(lambda: 1)()}' + y", 18), ("f'''{\n'a'}''' + y", 13), ('f"a\nb', 3), ("f'{x:%H:%M}' + y", 12), ('rf"\\{x}" + y',
        8), ("f'{ {1: 2}[1] }' + y", 16)])
def test_where_an_f_string_ends(text, ends):
    tokens, _, _ = tokens_of(text.encode(), 0, lambda: None)
    assert (tokens[0].kind, tokens[0].stop) == (STRING, ends)
    assert has_old_ends(text.encode(), tokens, lambda: None) == ('"a"' in text)


SECRETS = strategies.text('abcdefgh0123', min_size=12, max_size=20)
# A literal with the secret, in all the ways of writing one.
LITERALS = [
    "'%s'", '"%s"', "'''%s'''", '"""%s"""', "b'%s'", "r'%s'", 'Rb"%s"', "f'%s'", "f'{x}%s'", "'x' '%s'", "'%s' 'x'",
    "('%s')", "'x' + '%s'", "'%s' * 2", "b'%s'.decode()", "str('%s')", "'a\\'%s'", '"a\\\\%s"', "'a\\\n%s'", "'%s'\\\n",
    'f"{"x"}%s"', "['%s'][0]", "('x',\n '%s')[1]", "f'''{x}\n%s'''"]
# What may be around it without changing that it is a secret.
EXPRESSIONS = [
    '{}', 'f({})', 'x.f(1, {}, y)', '({},)', '[{}, x]', '({}).strip()', 'x if y else {}', '{} if y else x', 'x or {}',
    '[a for a in {}]', 'x + {}', '{} + x', '{} % x', "'%s' % {}", 'x[{}]', '(lambda: {})()', 'f(a={})', "{{'a': {}}}",
    'str({})', '{}[:5]', '(*{},)', 'await f({})', '(x :=\n {})', 'not {}', 'f(b)({})', 'f(*a, **{})', "f(x, # it's\n {})",
    '{}.a.b', '-{}', '{{x for y in {}}}', 'not x and {}']
# A literal with the secret, inside of up to two others.
VALUES = strategies.builds(
    lambda literal, inner, outer: outer.format(inner.format(literal)), strategies.sampled_from(LITERALS),
    strategies.sampled_from(EXPRESSIONS), strategies.sampled_from(EXPRESSIONS))
# Where a literal is a secret, known from what is in front of it.
PLACES = strategies.sampled_from([
    'password = {}', 'x = password = {}', 'conf.password = {}', "d['password'] = {}", 'password: str = {}',
    "x = {{'token': {}}}", 'f(password={})', "login('u', {})", 'login({})', "f('a', 1, token={}, b=2)",
    '(password := {})', 'if password == {}: pass', "setattr(c, 'password', {})", "[('password', {})]", 'password += {}',
    'def f(password={}): pass', 'lambda password={}: 0', 'x = password or {}', 'password in [{}]',
    "f(*a, **{{'api_key': {}}})", "'password=%s' % {}", "'Bearer ' + {}", 'user, password = 1, {}',
    "execute('SET password = ?', [{}])", 'spawn(login, 1, {})', 'print(login({}))'])
# Where only what follows tells it.
LATER = strategies.sampled_from([
    'x = {}\nlogin(x)', 'x = {}; password = x', 'if {} == password: pass', 'x = {}\ny = x\nlogin("u", y)',
    'for x in [{}]: login("u", x)', 'def f(x): login(x)\nf({})', 'f = login; f({})', 'compare_digest({}, password)'])
AROUND = strategies.sampled_from([
    '{}', 'x = 1; {}', "print('a')\n{}", 'if x:\n    {}', 'def g(a):\n    {}\n    return a', "# don't\n{}",
    '{}  # it\'s\ny = 1', "x = '''a\n'b\"'''\n{}", 'try: {}\nfinally: pass', "y = {{'a': 'b'}}\n{}", '(\n{}',
    'f(x[\n{}', ") {}", "x = 'a\n{}", "f'{{x'\n{}", 'class A:\n    """It\'s"""\n    {}'])


@given(SECRETS, VALUES, PLACES, AROUND, strategies.integers(5, 200))
def test_a_secret_never_stays_and_no_beginning_of_it(secret, literal, place, around, left):
    """Also if the statement is half typed: the end is missing."""
    statement = around.format(place.format(literal.replace('%s', secret)))
    assert secret not in shown(statement)
    assert secret not in redacted(statement.encode(), languages=ANY)
    beginning = statement[:statement.index(secret) + left]
    assert secret[:5] not in shown(beginning)
    assert secret not in redacted(statement.encode(), 200, brief=True, languages=(PYTHON,))


@given(SECRETS, VALUES, LATER, AROUND)
def test_a_secret_never_stays_if_what_follows_tells_it(secret, literal, place, around):
    assert secret not in shown(around.format(place.format(literal.replace('%s', secret))))


@given(SECRETS, PLACES, strategies.sampled_from(['exec("""{}""")', "exec('''{}''')", 'box.lua("""{}""")', '"""{}"""',
    "# {}", 'f"""{{{}}}"""']))
def test_a_secret_in_code_in_a_literal_never_stays(secret, place, around):
    statement = place.format(f"'{secret}'")
    assert secret not in shown(around.format(statement if "'''" not in around else statement.replace("'", '"')))


@pytest.mark.parametrize('piece', [
    ':', '@:', "''", '(', "pw='' ", "'''", 'f"{', "f'{x:", 'f"{f"', "'\\", 'login a b\n', 'def f(pw) ', 'lambda pw',
    '#pw\n', "'a'+", "'@'+", 'pw(',
    '=', 'a=b pw=a b=c ', 'l ', "'a' '@' ", "'\\'\\\\'", '\n\\', '\\ ', 'pw ', "f'{pw}'", "f('pw%s',", "'a'==", "b''", '{',
    "{'pw':", "'pw' 'a'+",
    'match pw:\ncase 1:\n', 'def f(a,', "f'{'pw'", '{{'])
def test_work_grows_with_the_length(piece):
    """Counted in tokens looked at, by the pauses."""
    def pauses(size):
        count = 0

        def pause():
            nonlocal count
            count += 1
        redacted(piece.encode() * size + b' pw', 1 << 20, pause=pause, languages=(PYTHON,))
        return count
    size = 8000 // len(piece)
    assert pauses(4 * size) <= 4.5 * pauses(size) + 10


@pytest.mark.skipif(not IS_LONG, reason='compares times: with BOXSESSION_LONG=1')
@pytest.mark.parametrize('piece', [
    '"', "'", "'''", "f'{", 'f"{x:', '\\ ', '\\\n', "'\\'", "'pw:{", "f'pw{", "'pw:%", "'pw=? ", "'pw://", "'pw{x", "'@:{a",
    "f'@{a b",
    "'pw='+", "'\\N{", ' ', "' ' ", '(', 'b', 'rb', '#', '{', 'def ', 'lambda ', 'pw.', "x == 'a' + ", "(x == 'a' + ", '5',
    '.', '...',
    "'pw...'(", "'a' ", "'pw' "])
def test_time_grows_with_the_length(piece):
    """The cost of one match of a pattern shows in CPU time only, not in the number of pauses."""
    def seconds(size):
        statement = piece.encode() * (size // len(piece)) + b"' @h token"
        began = time.process_time()
        redacted(statement, languages=(PYTHON,))
        return time.process_time() - began
    took = [(seconds(16000), seconds(64000)) for _ in range(5)]
    small, large = map(min, zip(*took, strict=True))
    assert large <= 12 * small + 0.01           # 4, were it not for the machine; 16, were it quadratic


def names_of(target):
    """The names by which a value is a secret, as the compiler sees them."""
    if isinstance(target, ast.Subscript):
        target = target.slice
    return str(getattr(target, 'id', getattr(target, 'attr', getattr(target, 'value', ''))))


def secret_values(tree):
    """The expressions whose literals are secrets in the syntax tree of a statement."""
    for node in ast.walk(tree):
        pairs = []
        if isinstance(node, ast.keyword):
            pairs = [(str(node.arg), node.value)]
        elif isinstance(node, ast.Assign):
            pairs = [(names_of(target), node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value:
            pairs = [(names_of(node.target), node.value)]
        elif isinstance(node, ast.Call):
            pairs = [(names_of(node.func), value) for value in node.args]
        elif isinstance(node, ast.Dict):
            pairs = [(names_of(key), value) for key, value in zip(node.keys, node.values, strict=True)]
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            pairs = [(names_of(one), other) for one in sides for other in sides if one is not other]
        yield from (value for name, value in pairs if is_sensitive(name.encode()) and not re.search('[ ={]', name))


@pytest.mark.parametrize('module', ['smtplib', 'imaplib', 'ftplib', 'poplib', 'netrc', 'urllib.request', 'http.cookies',
    'http.cookiejar',
                                    'getpass', 'hmac', 'ssl', 'secrets', 'tokenize', 'xmlrpc.client', 'nntplib', 'keyword'])
def test_in_statements_of_real_code_nothing_is_missed_that_the_compiler_knows(module):
    specification = importlib.util.find_spec(module)
    if specification is None:
        pytest.skip('this Python has no such module')
    source = Path(specification.origin).read_text()
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.stmt) or isinstance(node, ast.ClassDef):
            continue
        text = textwrap.dedent('\n'.join(lines[node.lineno - 1:node.end_lineno]))
        try:
            tree = ast.parse(text)
        except SyntaxError:                 # a part of a line, or a literal at the left edge
            continue
        # Before Python 3.12, the compiler does not know places inside of f-strings.
        inside = {id(item) for value in ast.walk(tree) if isinstance(value, ast.JoinedStr) for item in ast.walk(value)}
        literals = [item for value in secret_values(tree) for item in ast.walk(value)
                    if isinstance(item, ast.Constant) and isinstance(item.value, str | bytes) and item.value
                    and id(item) not in inside]
        if not literals:
            continue
        data = text.encode()
        spans = secret_places(data, 0, lambda: None, languages=(PYTHON,))
        starts = [0, *accumulate(len(line) for line in data.splitlines(keepends=True))]
        for literal in literals:
            first = starts[literal.lineno - 1] + literal.col_offset
            last = starts[literal.end_lineno - 1] + literal.end_col_offset
            assert any(start < last and stop > first for start, stop in spans), (text, literal.value)
