"""Backslash commands: those of the embedding program, the rights to call them, and help and completion for all."""
from __future__ import annotations

import functools
import json
import shlex
import sqlite3
from typing import Literal, Optional

import gevent
import pytest
import yaml
from conftest import BINARY, rounds
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import running, wait_for

from boxsession import Console, current_session
from boxsession.base import secret_words
from boxsession.base.errors import StatementCancelled
from boxsession.lua.arguments import split
from boxsession.lua.commands import BUILT_IN
from boxsession.protocol.answers import BinaryConversation


def restart(workers: int, grace: float = 1.5):
    """Restarts the workers.

    They end what they do first.
    """
    return {'workers': workers, 'grace': grace}


@pytest.fixture
def served(console):
    return console(dialect='tarantool')


@pytest.fixture
def admin(served, connect):
    return connect(served)


@pytest.fixture
def as_user(served, admin, connect):
    """A factory of clients of users: as_user('ops') is created and logged in."""
    def open_client(name):
        admin.reply(f"box.schema.user.create('{name}', {{password = 'x', if_not_exists = true}})")
        client = connect(served)
        assert client.value(f'\\login {name} x') is True
        return client

    return open_client


def help_of(client, name=''):
    [[text]] = client.values(f'\\help {name}')
    return text


# A program's commands


def test_a_command(served, admin):
    served.command(restart)
    assert {'workers': 3, 'grace': 1.5} == admin.value('\\restart 3')
    assert {'workers': 3, 'grace': 0.25} == admin.value('\\restart 3 .25')
    assert {'workers': -3, 'grace': 2} == admin.value("  \\restart '-3'   2 ".strip())
    assert b'---\n- grace: 1.5\n  workers: 3\n...\n' == admin.reply('\\restart 3')


def test_a_command_that_was_added_before_the_start(connect):
    console = Console(listen=['127.0.0.1:0'])

    @console.command
    def hello():
        return 'hello'

    @console.command(name='good-bye', access='read')
    def bye(name):
        return f'bye {name}'

    assert ('hello', 'bye ann') == (hello(), bye('ann'))
    for _ in range(2):          # it has them when it is started again, too
        console.start()
        try:
            client = connect(console)
            assert ['hello'] == client.values('\\hello')
            assert ['bye ann'] == client.values('\\good-bye ann')
            client.close()
        finally:
            console.stop()


def test_a_command_that_a_statement_adds(console, connect):
    served = console(expose={'add': lambda name: served.command(lambda: name, name=name) and None})
    client = connect(served)
    assert [None] == client.values("add('late')")
    assert ['late'] == client.values('\\late')


@pytest.mark.parametrize(('name', 'told'), [
    ('restart', 'the command \\restart exists already: pass another'),
    ('help', '\\help is a built-in command'),
    ('s', '\\s is a built-in command'), ('two words', 'letters, digits, - and _'), ('', 'letters, digits'),
    ('-x', 'letters, digits'), ('ä', 'letters, digits'), ('x' * 65, 'up to 64 letters'), (5, 'cannot be the name')])
def test_names_that_are_refused(served, admin, name, told):
    served.command(restart)
    with pytest.raises(ValueError, match='(?s).') as caught:
        served.command(restart, name=name)
    assert told in str(caught.value)
    assert {'workers': 1, 'grace': 1.5} == admin.value('\\restart 1')


def test_functions_that_are_refused(served):
    def of_a_dict(where: dict):
        pass

    def by_name(*, where):
        pass

    def unknown(where: Nowhere):      # noqa: F821
        pass

    def either(where: int | str):
        pass

    for function, told in ((of_a_dict, "'where' is annotated with <class 'dict'>: expected str, int"),
                           (by_name, "'where' can only be given by name"), (unknown, "'Nowhere' is not defined"),
                           (either, 'expected str, int, float, bool'), (lambda: 1, "'<lambda>' cannot be the name"),
                           (functools.partial(restart, 1), "'' cannot be the name"), (5, 'a int cannot be called')):
        with pytest.raises(ValueError, match='(?s).') as caught:
            served.command(function)
        assert told in str(caught.value)
    with pytest.raises(ValueError, match="access is 'write': expected one of 'execute', 'read'"):
        served.command(restart, access='write')


def typed(text, whole: int = 0, number: float = 0.5, switch: bool = False, mode: Literal['soft', 'hard', 3] = 'soft',
          maybe: Optional[int] = None, also: int | None = None, *rest: str):      # noqa: UP007, UP045
    return [text, whole, number, switch, mode, maybe, also, *rest]


@pytest.mark.parametrize(('line', 'values'), [
    ('a', ['a', 0, 0.5, False, 'soft', None, None]),
    ('"a  b" +7 1e2 YES hard 5 6 x "" y', ['a  b', 7, 100, True, 'hard', 5, 6, 'x', None, 'y']),     # '' in YAML
    ("'a\"b'\\ c 0 0 off 3", ['a"b c', 0, 0, False, 3, None, None]),
    (r'"a\"b\\c\d"', ['a"b\\c\\d', 0, 0.5, False, 'soft', None, None]),
    ('ж', ['ж', 0, 0.5, False, 'soft', None, None])])
def test_arguments(served, admin, line, values):
    served.command(typed)
    assert values == admin.value(f'\\typed {line}')


USAGE = '. Usage: \\typed TEXT [WHOLE] [NUMBER] [SWITCH] [MODE] [MAYBE] [ALSO] [REST]...'


@pytest.mark.parametrize(('line', 'told'), [
    ('', 'TEXT is missing'), ('a x', "WHOLE should be a whole number: got 'x'"),
    ('a 1.0', "WHOLE should be a whole number: got '1.0'"), ('a 1_0', "WHOLE should be a whole number: got '1_0'"),
    ('a 1 nan', "NUMBER should be a number: got 'nan'"), ('a 1 1e999', "NUMBER should be a number: got '1e999'"),
    ('a 1 1 maybe', "SWITCH should be on or off: got 'maybe'"),
    ('a 1 1 on warm', "MODE should be soft, hard or 3: got 'warm'"),
    ('a 1 1 on 3 x', "MAYBE should be a whole number: got 'x'"),
    ("'a", "the quote ' is not closed: a \\ in front of it makes it a plain character"),
    ('a\\', 'a backslash is the last character: a \\ in front of it makes it a plain character'),
    (b'\xff\xfe', 'the arguments are not UTF-8')])
def test_wrong_arguments(served, admin, line, told):
    served.command(typed)
    line = line if isinstance(line, bytes) else line.encode()
    if line.startswith(b'\xff'):
        line = line.replace(b'\xff', b'\xff\xff')       # as telnet has it
    admin.send(b'\\typed ' + line + b'\n')
    document = admin.document()
    admin.send('\\set output lua\n')
    assert b'true;' == admin.read_until(b';')
    admin.send(b'\\typed ' + line + b'\n')
    in_lua = admin.read_until(b';')
    assert b'- error: ' in document and b'error = ' in in_lua
    assert f'\\typed: {told}{USAGE}' == ' '.join(
        yaml.load(document, yaml.CSafeLoader)[0]['error'].split('\n'))


def test_a_line_that_is_too_long_for_arguments(console, connect):
    served = console(limits={'statement_bytes': 1 << 20})
    served.command(typed)
    assert 'the arguments are too long: more than 65536 characters' in connect(served).error('\\typed ' + 'x ' * 40000)


def test_too_many_arguments(served, admin):
    served.command(restart)
    assert '\\restart: there are too many arguments: 3. Usage: \\restart WORKERS [GRACE]' == admin.error('\\restart 1 2 3')
    assert "\\restart: WORKERS should be a whole number: got 'x'. Usage: \\restart WORKERS [GRACE]" == \
        admin.error('\\restart x')
    assert len(admin.error(f'\\restart {"x" * 1000}')) < 200


@settings(max_examples=rounds(200, 5000))
@given(line=st.text(alphabet='ab \t\n\'"\\#$ж', max_size=30))
def test_words_are_those_of_a_shell(line):
    try:
        words = shlex.split(line)
    except ValueError:
        words = None
    try:
        ours = split(line)
    except ValueError:
        ours = None
    assert words == ours


def test_a_command_runs_as_an_exposed_function_does(served, admin):
    seen = []

    @served.command
    def who():
        seen.append(current_session())
        return current_session().user

    @served.command
    def fail(how):
        if how == 'key':
            raise KeyError('eggs')
        if how == 'timeout':
            raise gevent.Timeout(5)
        return object()

    @served.command
    def nothing():
        pass

    assert 'admin' == admin.value('\\who')
    assert [1] == [session.id for session in seen]
    assert "KeyError: 'eggs'" == admin.error('\\fail key')
    assert 'Timeout: 5 seconds' == admin.error('\\fail timeout')
    assert 'TypeError' in admin.error('\\fail object')
    assert [None] == admin.values('\\nothing')


def test_ctrl_c_cancels_a_command(served, admin):
    ends = []

    @served.command
    def wait():
        try:
            gevent.sleep(1000)
        except StatementCancelled:
            ends.append('cancelled')
            raise

    admin.send('\\wait\n')
    wait_for(lambda: running(served))
    admin.send('\x03')
    assert b'error: the statement was cancelled' in admin.document()
    assert ['cancelled'] == ends


def test_a_limit_ends_a_command(console, connect):
    served = console(limits={'statement_seconds': 0.05})
    served.command(lambda: gevent.sleep(1000), name='wait')
    assert 'it ran for 0.05 seconds (limits.statement_seconds)' in connect(served).error('\\wait')


def test_a_delimiter_ends_a_command(served, admin):
    served.command(typed)
    admin.reply("\\set delimiter ;")
    assert 'a\nb' == admin.value("\\typed 'a\nb';")[0]
    assert 'a' == admin.value("\\typed\na\n7;")[0]


def test_commands_run_in_console_eval(served, admin):
    served.command(restart)
    assert 'workers: 2' in admin.value("require('console').eval('\\\\restart 2')")


# Help and completion


def test_help_shows_the_commands_of_the_program(served, admin):
    before = help_of(admin)
    assert 'Commands of this program' not in before
    served.command(restart)
    served.command(typed, name='a-longer-name')
    after = help_of(admin)
    added = ('Commands of this program:\n\n'
             '  \\restart WORKERS [GRACE]       Restarts the workers.\n'
             '  \\a-longer-name TEXT [WHOLE] [NUMBER] [SWITCH] [MODE] [MAYBE] [ALSO] [REST]...\n\n')
    assert after == before.replace('\nCtrl-C', f'\n{added}Ctrl-C')


def test_help_on_one_command(served, admin):
    served.command(restart)
    told = ('  \\restart WORKERS [GRACE]       Restarts the workers.\n\n'
            'They end what they do first.\n\n'
            'Arguments:\n  WORKERS: a whole number\n  GRACE: a number\n')
    assert [told, told] == [help_of(admin, 'restart'), help_of(admin, '\\restart')]
    assert '  \\kill ID                       end a session\n' == help_of(admin, 'kill')
    assert help_of(admin, 's') == help_of(admin, 'set')
    assert 'Also: \\s\n' in help_of(admin, 'set')
    assert 'There is no command \\nosuch. Type \\help for help.' == admin.error('\\help nosuch')


def test_a_long_help_is_folded(served, admin):
    def wordy():
        pass

    wordy.__doc__ = 'word ' * 30
    served.command(wordy)
    lines = help_of(admin, 'wordy').splitlines()
    assert 4 == len(lines) and max(map(len, lines)) <= 76
    assert {' ' * 33 + 'word'} == {line[:37] for line in lines[1:]}


def test_completion_of_commands(served, admin):
    assert ['\\se', '\\sessions', '\\set'] == admin.value('\\complete \\se')
    assert ['\\quit', '\\quit'] == admin.value('\\complete \\q')
    assert None is admin.values('\\complete \\nosuch')
    served.command(restart)
    assert ['\\restart', '\\restart'] == admin.value('\\complete \\re')
    assert ['\\restart', '\\restart'] == admin.value("require('console').completion_handler('\\\\rest x', 0, 3)")
    assert ['\\', *(f'\\{command.name}' for command in BUILT_IN), '\\restart'] == admin.value('\\complete \\')


# Rights to call a command


def denied(name, user='ops'):
    return f"Execute access to command '{name}' is denied for user '{user}'"


def test_a_command_needs_a_grant(served, admin, as_user):
    served.command(restart)
    ops = as_user('ops')
    assert denied('restart') == ops.error('\\restart 1')
    assert denied('restart') == ops.error('\\help restart')
    assert 'restart' not in help_of(ops)
    assert None is ops.values('\\complete \\re')
    admin.reply("box.schema.user.grant('ops', 'execute', 'command', 'restart')")
    assert {'workers': 1, 'grace': 1.5} == ops.value('\\restart 1')
    assert 'restart' in help_of(ops)
    assert ['\\restart', '\\restart'] == ops.value('\\complete \\re')
    assert ['execute', 'command', 'restart'] in admin.value("box.schema.user.info('ops')")
    admin.reply("box.schema.user.revoke('ops', 'execute', 'command', 'restart')")
    assert denied('restart') == ops.error('\\restart 1')
    assert 'command' not in str(admin.value("box.schema.user.info('ops')"))


def test_a_role_brings_commands(served, admin, as_user):
    served.command(restart)
    ops = as_user('ops')
    admin.reply("box.schema.role.create('keepers')")
    admin.reply("box.schema.role.grant('keepers', 'execute', 'command', 'restart')")
    assert [['execute', 'command', 'restart']] == admin.value("box.schema.role.info('keepers')")
    admin.reply("box.schema.user.grant('ops', 'keepers')")
    assert 1 == ops.value('\\restart 1')['workers']
    admin.reply("box.schema.role.drop('keepers')")
    assert denied('restart') == ops.error('\\restart 1')


def test_all_commands_can_be_granted(served, admin, as_user):
    ops = as_user('ops')
    admin.reply("box.schema.user.grant('ops', 'execute', 'command')")
    served.command(restart)         # also commands that are added later
    assert 1 == ops.value('\\restart 1')['workers']
    assert [1, 2] == [shown['id'] for shown in ops.value('\\sessions')]
    assert ['execute', 'command', None] in admin.value("box.schema.user.info('ops')")


def test_execute_on_universe_and_super_may_call_all(served, admin, as_user):
    served.command(restart)
    for name, grant in (('ann', "'execute', 'universe'"), ('bob', "'super'")):
        client = as_user(name)
        assert denied('restart', name) == client.error('\\restart 1')
        admin.reply(f"box.schema.user.grant('{name}', {grant})")
        assert 1 == client.value('\\restart 1')['workers']


def test_access_read(served, admin, as_user):
    served.command(lambda: 'fine', name='health', access='read')
    served.command(restart)
    reader, ops = as_user('reader'), as_user('ops')
    assert denied('health', 'reader') == reader.error('\\health')
    admin.reply("box.schema.user.grant('reader', 'read', 'universe')")
    assert 'fine' == reader.value('\\health')
    assert denied('restart', 'reader') == reader.error('\\restart 1')
    assert denied('health') == ops.error('\\health')
    admin.reply("box.schema.user.grant('ops', 'execute', 'command', 'health')")
    assert 'fine' == ops.value('\\health')


def test_built_in_commands_that_need_a_right(served, admin, as_user):
    ops = as_user('ops')
    told = help_of(ops)
    for name in ('sessions', 'cancel', 'kill'):
        assert denied(name) == ops.error(f'\\{name} 1')
        assert f'\\{name}' not in told
    for command in ('help', 'set prompt off', 'complete x'):
        assert b'denied' not in ops.reply(f'\\{command}')
    admin.reply("box.schema.user.grant('ops', 'execute', 'command', 'sessions')")
    assert [1, 2] == [shown['id'] for shown in ops.value('\\sessions')]
    assert "function 'box.session.list' is denied" in ops.error('box.session.list()')


def test_grants_that_are_refused(served, admin, as_user):
    ops = as_user('ops')
    served.command(restart)
    assert "Command 'nosuch' does not exist" == admin.error(
        "box.schema.user.grant('ops', 'execute', 'command', 'nosuch')")
    assert "Function 'nosuch' does not exist" == admin.error(
        "box.schema.user.grant('ops', 'execute', 'function', 'nosuch')")
    assert 'wrong object name type' in admin.error("box.schema.user.grant('ops', 'execute', 'command', {})")
    assert "Unsupported command privilege 'read'" == admin.error(
        "box.schema.user.grant('ops', 'read', 'command', 'restart')")
    assert "User 'ops' does not have execute access on command 'restart'" == admin.error(
        "box.schema.user.revoke('ops', 'execute', 'command', 'restart')")
    grant = "box.schema.user.grant('ops', 'execute', 'command', 'restart'"
    assert None is admin.values(f'{grant})')
    assert "User 'ops' already has execute access on command 'restart'" == admin.error(f'{grant})')
    assert None is admin.values(f'{grant}, {{if_not_exists = true}})')
    assert "Write access to space '_priv' is denied for user 'ops'" == ops.error(
        "box.schema.user.revoke('ops', 'execute', 'command', 'restart')")
    assert "Command 'kill' does not exist" == ops.error("box.schema.user.grant('ops', 'execute', 'command', 'kill')")


def test_a_denial_is_counted_told_and_recorded(console, connect, tmp_path):
    path = tmp_path / 'audit.jsonl'
    served = console(audit={'file': str(path)})
    served.command(restart)

    @served.command
    def set_pin(user, password):
        if password != 'hunter2':
            raise ValueError(password)
        return user

    admin, guest = connect(served), connect(served)
    admin.reply("seen = {} box.session.on_access_denied(function(...) table.insert(seen, {...}) end)")
    guest.reply("box.session.su('guest')")
    assert denied('restart', 'guest') == guest.error('\\restart 7')
    assert [[['Execute', 'command', 'restart']]] == admin.values('seen')
    assert 1 == admin.value('box.info.access.denied')
    assert 'ann' == admin.value('\\set_pin ann hunter2')
    assert 7 == admin.value('\\restart 7')['workers']
    assert 'hunter3' in admin.error("\\set_pin ann 'hunter3'")
    assert 'too many' in admin.error("\\set_pin ann 'hunter 4' x")
    assert 'got' in admin.error('\\restart x')
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    told = [(entry['statement'], entry['ok'], entry['error']) for entry in entries
            if entry['event'] == 'statement' and entry['statement'].startswith('\\')]
    assert ('\\restart 7', False, denied('restart', 'guest')) == told[0]
    assert ('\\restart 7', True, None) == told[2]
    assert told[1][0].startswith('\\set_pin *** (3 bytes, ') and told[1][1]
    assert ('\\set_pin', False) == (told[4][0][:8], told[4][1])
    assert 'hunter' not in path.read_text()
    assert "WORKERS should be a whole number: got 'x'" in told[5][2]


def test_grants_are_kept(connect, tmp_path):
    store = str(tmp_path / 'users.db')
    grant = "box.schema.user.grant('ops', 'execute', 'command', 'restart')"
    for first in (True, False):
        console = Console(listen=['127.0.0.1:0'], config={'store': store})
        console.command(restart)
        console.start()
        try:
            admin = connect(console)
            if first:
                admin.reply("box.schema.user.create('ops', {password = 'x'})")
                assert None is admin.values(grant)
            ops = connect(console)
            assert ops.value('\\login ops x') is True
            assert 1 == ops.value('\\restart 1')['workers']
            admin.close(), ops.close()
        finally:
            console.stop()
    # A command that the program has no more can still be revoked, and not be granted to others.
    console = Console(listen=['127.0.0.1:0'], config={'store': store})
    console.start()
    try:
        admin = connect(console)
        assert ['execute', 'command', 'restart'] in admin.value("box.schema.user.info('ops')")
        assert None is admin.values(grant.replace('grant', 'revoke'))
        assert "Command 'restart' does not exist" == admin.error(grant)
        admin.close()
    finally:
        console.stop()


def test_a_file_of_the_version_without_commands(connect, tmp_path):
    path = tmp_path / 'users.db'
    for is_old in (True, False):
        console = Console(listen=['127.0.0.1:0'], config={'store': str(path)})
        console.command(restart)
        console.start()
        try:
            admin = connect(console)
            if is_old:
                admin.reply("box.schema.user.create('ops', {password = 'x'})")
            else:
                assert None is admin.values("box.schema.user.grant('ops', 'execute', 'command', 'restart')")
                assert ['execute', 'command', 'restart'] in admin.value("box.schema.user.info('ops')")
            admin.close()
        finally:
            console.stop()
        if is_old:
            db = sqlite3.connect(path)
            db.executescript('DROP TABLE commands; PRAGMA user_version = 1')
            db.close()


# Commands in the client and in redaction


def test_the_client_asks_for_commands_on_either_port(console, connect_binary):
    served = console(listen=[BINARY])
    served.command(restart)
    binary = connect_binary(served)
    asked = BinaryConversation(binary.greeting).completion(b'\\rest').decode()
    assert [['\\restart', '\\restart']] == binary.eval(f'return {asked}')
    assert ['---\n- grace: 1.5\n  workers: 3\n...\n'] == binary.eval("return require('console').eval('\\\\restart 3')")


def test_what_follows_a_built_in_command_is_told():
    names = {name.encode() for command in BUILT_IN for name in (command.name, *command.aliases)}
    assert names - {b'login'} <= secret_words._COMMANDS
