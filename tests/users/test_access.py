"""Users, roles, functions and grants: the rules, and the replies of a real Tarantool to the same statements."""
from __future__ import annotations

import pytest
from conftest import need, rounds
from differences import same
from hypothesis import given, settings
from hypothesis import strategies as st

from boxsession.base.errors import ClientError
from boxsession.users.access import ADMIN, GUEST, SUPER, Access, Level
from boxsession.users.passwords import Throttle, password_hash, password_matches, throttled_address
from boxsession.users.schema import OPERATIONS, Schema

# Statements for Tarantool and for boxsession, in this order. `S` is box.session.su: the reply to a user.
STATEMENTS = r"""
u, r, f, S = box.schema.user, box.schema.role, box.schema.func, box.session.su
u.create('v1', {password = 'x'}) u.create('v2') r.create('q1') r.create('q2') f.create('fa') f.create('fb')
u.grant('v1', 'read,write', 'universe')
u.grant('v1', 'execute,read', 'universe')
u.grant('v1', 'read', 'universe')
u.info('v1')
u.grant('v1', 'execute', 'function')
u.grant('v1', 'execute', 'function', 'fa')
u.grant('v1', 'execute', 'function', 'fb')
u.grant('v1', 'execute', 'function', '')
u.grant('v1', 'read', 'function', 'fa')
u.grant('v1', 'drop', 'function', 'fa')
u.grant('v1', 'create', 'function')
u.grant('v1', 'create,alter,drop', 'user')
u.grant('v1', 'create', 'role')
u.grant('v1', 'alter', 'user', 'v2')
u.grant('v1', 'read', 'user', 'v2')
u.grant('v1', 'execute', 'role', 'q1')
u.grant('v1', 'q2')
u.grant('v1', 'execute', 'role', 'nosuch')
u.grant('v1', 'nosuch')
u.grant('v1', 'read')
u.grant('v1', nil, 'universe')
u.grant('v1', '', 'universe')
u.grant('v1', 'execute', 'bogus')
u.grant('nosuch', 'execute', 'universe')
u.info('v1')
r.info('q1')
r.grant('q1', 'q2')
r.grant('q2', 'q1')
r.grant('q1', 'q2')
r.revoke('q1', 'q2')
r.revoke('q1', 'q2')
r.grant('q1', 'execute', 'function', 'fa')
r.revoke('q1', 'execute', 'function', 'fb')
r.grant('q1', 'execute', 'function', 'fa')
r.grant('q1', 'execute', 'universe', nil, {if_not_exists = true})
r.grant('nosuch', 'execute', 'universe')
r.grant('v1', 'execute', 'universe')
u.revoke('v1', 'nosuch')
u.revoke('v1', 'super')
u.revoke('v1', 'q2')
u.revoke('v1', 'read', 'universe')
u.revoke('v1', 'read,execute', 'universe')
u.revoke('v1', 'public')
u.info('v1')
u.grant('public', 'execute', 'universe')
r.info('v1')
r.create('admin')
r.create('v1')
u.create('q1')
u.create('public')
r.drop('v1')
u.drop('q1')
r.drop('super')
r.drop('nosuch', {if_exists = true})
r.create('')
r.create('z', {nosuch = 1})
r.create('z', 1)
f.create('')
f.create('x', {nosuch = 1})
f.create('x', {setuid = true})
f.create('y3', {language = 'PASCAL'})
f.create('y4', 5)
f.create('y5', {setuid = 5})
f.exists()
f.drop('nosuch', {if_exists = true})
f.drop('nosuch')
f.drop('fa')
u.info('v1')
u.drop('v2', {nosuch = 1})
u.drop('v2', 5)
u.create('o1') u.grant('o1', 'create', 'universe')
u.grant('o1', 'read,write', 'universe') S('o1', u.create, 'o2')
u.info('o2')
u.info('o1')
u.drop('o1')
S('o2', function() return f.exists('fb'), f.exists('nosuch') end)
S('o2', function() return f.drop('fb') end)
S('o2', function() return r.drop('q1') end)
S('o2', function() return u.revoke('guest', 'execute', 'universe') end)
S('o2', function() return u.grant('guest', 'q1') end)
S('o2', function() return u.drop('guest') end)
S('o2', function() return u.enable('o2') end)
S('o2', function() return u.passwd('o1', 'x') end)
S('o2', function() return u.passwd('mine') end)
S('o2', function() return u.info() end)
S('o2', function() return r.exists('q1'), r.exists('public') end)
S('o2', function() return r.create('zz') end)
S('o2', function() return u.info('guest') end)
S('o2', u.create, 'x')
S('o2', u.drop, 'o2')
S('o2', u.grant, 'o2', 'execute', 'universe')
S('o2', u.grant, 'o2', 'super')
S('o2', f.create, 'ff')
S('o2', function() return box.session.user(), box.session.effective_user(), box.session.uid() ~= box.session.euid() end)
S('o2', 5)
S('public')
S('super')
S('nosuch')
S()
u.disable('o2')
u.info('o2')
S('o2', box.session.id) == box.session.id()
u.enable('o2')
S('o2', box.session.id) == box.session.id()
u.enable('nosuch')
u.create('a', 1)
u.create('b', {password = 1})
u.create('c', {if_not_exists = 1})
r.create('a b')
r.exists('a b')
u.create('\0')
u.create('ж')
u.exists()
u.exists('public')
u.drop('public')
u.drop('super')
u.drop('guest', {if_exists = true})
u.passwd()
u.passwd('public', 'x')
u.passwd('guest', 'x')
u.password('secret')
u.info('public')
u.info('super')
r.info('super')
r.info('o2')
u.drop('o2') u.drop('o1')
u.exists('o1')
box.session.su('v1')
box.session.user(), box.session.effective_user()
""".strip().splitlines()


@need('tarantool')
def test_answers_as_tarantool_does(tarantool, console, connect):
    ours = connect(console(dialect='tarantool'))
    theirs = connect(tarantool.address)
    for statement in STATEMENTS:
        want, got = theirs.reply(statement), ours.reply(statement)
        assert same(want, got), f'{statement}\nTarantool: {want.decode()}\nhere: {got.decode()}'


NAMES = st.sampled_from(['admin', 'guest', 'public', 'super', 'ann', 'bob', 'r1', 'r2', 'r3', 'f1', 'f2', '', None, 1, 31,
                         99])
ARGUMENTS = st.one_of(NAMES, st.sampled_from(
    ['execute', 'read,write', 'session,usage', 'create,drop', 'universe', 'role', 'user', 'function', 'command', 'python',
     'c1', 'c2', 'bogus']),
    st.fixed_dictionaries({}, optional={'if_exists': st.booleans(), 'if_not_exists': st.booleans(), 'password': st.text(),
                                        'setuid': st.booleans(), 'nosuch': st.none()}))
CALLS = st.tuples(st.sampled_from(sorted(OPERATIONS)), st.sampled_from([ADMIN, ADMIN, ADMIN, GUEST, SUPER, 32, 33, 34]),
                  st.lists(ARGUMENTS, max_size=5))


@settings(max_examples=rounds(100, 1000))
@given(calls=st.lists(CALLS, max_size=25))
def test_whatever_is_asked_what_is_kept_is_whole(calls):
    access = Access()
    for operation, actor, arguments in calls:
        changed = access.copy()
        try:
            getattr(Schema(changed, actor, {'c1', 'c2'}), operation)(*arguments)
        except ClientError:
            continue
        except TypeError as error:          # more arguments than it takes
            assert 'positional argument' in str(error)
            continue
        assert OPERATIONS[operation] or changed.rows() == access.rows()
        access = changed
    rows = access.rows()
    assert rows == Access.from_rows(rows).rows()
    assert Level.FULL == access.level(ADMIN)
    assert {0, 1, 2, 31} <= set(access.users)
    for grant in access.grants.values():
        assert grant.grantee in access.users
        things = {'universe': {0}, 'function': access.functions, 'role': access.users, 'user': access.users,
                  'command': access.commands, 'python': ()}[grant.type]
        assert grant.object in things or grant.object > 1 << 30
    assert set(access.commands) == {grant.object for grant in access.grants.values()
                                    if grant.type == 'command' and grant.object < 1 << 30}
    for uid in access.users:
        # No role comes back to itself.
        assert uid not in {role for held in access.roles_of(uid) for role in access.grantees(held)}


def indexes(access):
    return access.users, access.kinds, access._ids, access._owned, access._grants_of, access._grantees_on


@settings(max_examples=rounds(60, 500))
@given(calls=st.lists(st.tuples(CALLS, st.booleans()), max_size=25))
def test_the_indexes_agree_with_the_tables_and_what_is_undone_is_as_before(calls):
    access, other = Access(), Access()
    for (operation, actor, arguments), undo in calls:
        before = access.rows()
        access.begin()
        try:
            getattr(Schema(access, actor, {'c1', 'c2'}), operation)(*arguments)
        except (ClientError, TypeError):
            undo = True
        if undo:
            access.roll_back()
            assert before == access.rows()
        else:
            other.apply({place: new for place, (_, new) in access.commit().items()})
        assert access.rows() == other.rows()
    fresh = Access.from_rows(access.rows())
    assert indexes(fresh) == indexes(access) == indexes(other)


@settings(max_examples=rounds(40, 500))
@given(calls=st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), st.lists(ARGUMENTS, max_size=4)), max_size=15))
def test_who_has_no_rights_changes_nothing_but_the_own_password(calls):
    access = Access()
    Schema(access, ADMIN).user_create('ann')
    Schema(access, ADMIN).func_create('f1')
    uid = access.user('ann').id
    before = access.rows()
    for operation, arguments in calls:
        changed = access.copy()
        try:
            getattr(Schema(changed, uid), operation)(*arguments)
        except (ClientError, TypeError):
            continue
        access = changed
    after = access.rows()
    assert before['grants'] == after['grants'] and before['functions'] == after['functions']
    assert {row[:4] for row in before['users']} == {row[:4] for row in after['users']}
    assert {row for row in before['users'] if row[0] != uid} == {row for row in after['users'] if row[0] != uid}


def test_levels_follow_grants_and_roles():
    access = Access()
    Schema(access, ADMIN).user_create('ann')
    ann = access.user('ann').id
    assert Level.SANDBOX == access.level(ann)
    Schema(access, ADMIN).role_create('looker')
    Schema(access, ADMIN).role_grant('looker', 'read', 'universe')
    Schema(access, ADMIN).user_grant('ann', 'looker')
    assert Level.READ == access.level(ann)
    Schema(access, ADMIN).user_grant('ann', 'super')
    assert Level.FULL == access.level(ann) and access.is_super(ann)
    Schema(access, ADMIN).user_revoke('ann', 'usage', 'universe')
    assert Level.FULL == access.level(ann)          # by super
    Schema(access, ADMIN).user_revoke('ann', 'super')
    assert Level.SANDBOX == access.level(ann) and not access.is_super(ann)
    Schema(access, ADMIN).user_disable('ann')
    assert not access.may_log_in(ann)


def test_ids_are_never_used_twice():
    access = Access()
    Schema(access, ADMIN).user_create('ann')
    first = access.user('ann').id
    Schema(access, ADMIN).user_drop('ann')
    Schema(access, ADMIN).user_create('ann')
    assert first != access.user('ann').id


def test_passwords():
    assert 'FOZVZ6vbUTXQz9mnCzAywXmknuc=' == password_hash('secret')       # as Tarantool 2.6 says
    assert password_matches('secret', password_hash(b'secret'))
    assert not password_matches('Secret', password_hash('secret'))
    assert not password_matches('', '')


def test_failures_make_the_next_attempt_wait():
    throttle = Throttle(first=1, longest=30, forget=900, most=8)
    assert [0, 1, 3, 7, 15] == [throttle.seconds_to_wait('ann', 'a', 0) for _ in range(5)]
    assert 0 == throttle.seconds_to_wait('ann', 'b', 0)
    assert 0 == throttle.seconds_to_wait('bob', 'a', 0)
    assert throttle.seconds_to_wait('ann', 'a', 0) > 30           # an immediate attempt is refused
    assert throttle.seconds_to_wait('ann', 'a', 0) == throttle.seconds_to_wait('ann', 'a', 0)
    assert 0 == throttle.seconds_to_wait('ann', 'a', 62)
    throttle.succeeded('ann', 'a')
    assert 0 == throttle.seconds_to_wait('ann', 'a', 62)
    assert 1 == throttle.seconds_to_wait('ann', 'a', 62)
    assert 0 == throttle.seconds_to_wait('ann', 'a', 2000)
    for number in range(8):
        throttle.seconds_to_wait(f'user {number}', 'a', 2000)
    assert 0 == throttle.seconds_to_wait('ann', 'a', 2000)        # it had to make room


def test_many_names_from_one_address_make_it_wait():
    throttle = Throttle(first=1, longest=30, free=10)
    assert [0] * 11 + [1, 3, 7, 15] == [throttle.seconds_to_wait(f'user {number}', 'a', 0) for number in range(15)]
    assert 0 == throttle.seconds_to_wait('ann', 'b', 0)
    for _ in range(20):                 # an own login now and then does not help
        throttle.succeeded('own', 'b')
        throttle.seconds_to_wait('own', 'b', 0)
    assert throttle.seconds_to_wait('other', 'b', 0) == 0
    throttle.succeeded('own', 'a')
    assert throttle.seconds_to_wait('bob', 'a', 0) > 30


@pytest.mark.parametrize(('peer', 'address'), [
    ('127.0.0.1:5', 'loopback'), ('127.3.2.1:5', 'loopback'), ('[::1]:5', 'loopback'), ('[::ffff:127.0.0.1]:5', 'loopback'),
    ('10.0.0.1:5', '10.0.0.1'), ('[2001:db8::1:2:3:4]:5', '2001:db8::/64'), ('[fe80::1%eth0]:5', 'fe80::/64'),
    ('unix/:(socket)', 'unix/')])
def test_what_attempts_are_counted_by(peer, address):
    assert address == throttled_address(peer)


@pytest.mark.parametrize('statement', ["box.schema.user.grant('admin', 'super')",
                                       "box.schema.user.revoke('admin', 'execute', 'universe')",
                                       "box.schema.role.revoke('super', 'execute', 'universe')",
                                       "box.schema.user.disable('admin')"])
def test_nobody_takes_what_admin_has(console, connect, statement):
    client = connect(console())
    before = client.value("box.schema.user.info('admin')")
    assert 'Incorrect grant arguments: ' in client.error(statement)
    assert before == client.value("box.schema.user.info('admin')")


@pytest.mark.parametrize('name', ['sp ace', 'a:b', 'a@b', ' a', 'a\u00a0b', 'x' * 256, 'a\nb', 'a\x1b', 'a\u202eb'])
def test_a_user_has_a_name_that_can_be_used(console, connect, name):
    client = connect(console())
    quoted = "'" + ''.join(f'\\{byte:03d}' for byte in name.encode()) + "'"
    assert client.error(f"box.schema.user.create({quoted}, {{password = 'pw'}})")
    assert not client.value(f'box.schema.user.exists({quoted})')
    assert not (name.isprintable() and len(name) < 256) or client.values(f'box.schema.role.create({quoted})') is None


ALL_BUT_EXECUTE = 'read,write,session,usage,create,drop,alter,reference,trigger,insert,update,delete'


@pytest.fixture
def operator():
    """Rights with an operator (id 32), who has all privileges on universe except execute, and other users."""
    access = Access()
    Schema(access, ADMIN).user_create('operator')
    Schema(access, ADMIN).user_grant('operator', ALL_BUT_EXECUTE, 'universe')
    for name in ('evaluator', 'reader', 'web', 'chief', 'role_chief'):
        Schema(access, ADMIN).user_create(name, {'password': 'old'})
    Schema(access, ADMIN).user_grant('evaluator', 'execute', 'universe')
    Schema(access, ADMIN).user_grant('reader', 'read', 'universe')
    Schema(access, ADMIN).user_grant('chief', 'super')
    Schema(access, ADMIN).role_create('bosses')
    Schema(access, ADMIN).role_grant('bosses', 'super')
    Schema(access, ADMIN).user_grant('role_chief', 'bosses')
    return access


def test_no_privilege_but_execute_leads_to_all_of_them(operator):
    access, actor = operator, 32
    for name in ('admin', 1, 'chief', 'role_chief', 'evaluator'):
        with pytest.raises(ClientError, match='ACCESS_DENIED'):
            Schema(access, actor).user_passwd(name, 'mine')
    for name in ('reader', 'web', 'operator'):
        Schema(access, actor).user_passwd(name, 'mine')
    Schema(access, actor).user_create('creature', {'password': 'mine'})
    Schema(access, actor).role_create('rank')
    attempts = [
        ('func_create', 'f'), ('func_create', 'box.schema.user.grant', {'setuid': True}),
        ('user_grant', 'operator', 'execute', 'universe'), ('user_grant', 'creature', 'execute', 'universe'),
        ('user_grant', 'operator', 'super'), ('user_grant', 'creature', 'super'), ('role_grant', 'rank', 'super'),
        ('role_grant', 'rank', 'execute', 'universe'), ('role_grant', 'public', 'execute', 'universe'),
        ('user_grant', 'operator', 'bosses'), ('role_grant', 'rank', 'bosses'),
        ('user_grant', 'operator', 'execute', 'role'),
        ('user_grant', 'operator', 'execute', 'function'), ('user_passwd', 'chief', 'x'), ('user_drop', 'admin'),
    ]
    for operation, *arguments in attempts:
        with pytest.raises(ClientError):
            getattr(Schema(access, actor), operation)(*arguments)
    for name in ('operator', 'creature'):
        uid = access.user(name).id
        assert access.level(uid) < Level.FULL and not access.is_super(uid) and not access.executable(uid)


@pytest.mark.parametrize('name', ['admin', 'chief', 'evaluator', 'web'])
def test_who_is_there_already_keeps_the_password(operator, name):
    access, before = operator, operator.rows()
    for actor in (32, ADMIN):
        Schema(access, actor).user_create(name, {'if_not_exists': True, 'password': 'mine'})
    assert before == access.rows()


def test_a_number_is_an_id():
    access = Access()
    before = access.rows()
    with pytest.raises(ClientError, match='FIELD_TYPE: 3, string'):
        Schema(access, ADMIN).user_create(5, {'password': 'x'})
    with pytest.raises(ClientError, match='USER_EXISTS: 1'):
        Schema(access, ADMIN).user_create(1)
    Schema(access, ADMIN).user_create(1, {'if_not_exists': True, 'password': 'x'})
    assert before == access.rows()


def test_who_may_alter_needs_to_write_and_no_more_than_a_level(operator):
    access = operator
    Schema(access, ADMIN).user_create('helper')
    Schema(access, ADMIN).user_grant('helper', 'alter', 'universe')
    Schema(access, ADMIN).user_grant('helper', 'alter', 'user')
    helper = access.user('helper').id
    with pytest.raises(ClientError, match='Write, space, _user'):
        Schema(access, helper).user_passwd('web', 'x')
    Schema(access, ADMIN).user_grant('helper', 'write', 'universe')
    Schema(access, helper).user_passwd('web', 'x')
    for name in ('reader', 'operator', 'evaluator', 'admin', 'chief'):
        with pytest.raises(ClientError):
            Schema(access, helper).user_passwd(name, 'x')
    Schema(access, ADMIN).user_grant('helper', 'execute', 'universe')
    Schema(access, helper).user_passwd('evaluator', 'x')
    with pytest.raises(ClientError):
        Schema(access, helper).user_passwd('chief', 'x')
    Schema(access, access.user('chief').id).user_passwd('admin', 'x')
    Schema(access, helper).user_passwd('x')
