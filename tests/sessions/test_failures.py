r"""Exceptions of exposed functions: their tracebacks in the log, and \traceback."""
from __future__ import annotations

import json
import logging
import sys
from contextlib import contextmanager

import gevent
import gevent.event
import pytest
from iproto_client import BinaryClient
from waiting import wait_for

from boxsession import Console
from boxsession.operations import logs


class Unshowable(Exception):
    def __str__(self):
        raise SystemExit(3)


class Service:
    def go(self, **options):
        return outer('x', **options)


def inner(name):
    return {}[name]


def outer(name, password=None):
    try:
        inner(name)
    except KeyError as error:
        raise ValueError(f'no {name} with {password}\n2026-01-01 ERROR a line of its own') from error


def deep(number=0):
    return deep(number + 1)


def unshowable():
    raise Unshowable


def timed_out():
    with gevent.Timeout(0.01):
        gevent.sleep(5)


def refused():
    return object()


EXPOSED = {'outer': outer, 'svc': Service(), 'deep': deep, 'unshowable': unshowable, 'timed_out': timed_out, 'inner': inner,
           'refused': refused, 'leave': lambda: sys.exit(3), 'waits': gevent.sleep}


@pytest.fixture
def served(console, tmp_path):
    init = tmp_path / 'init.lua'
    init.write_text("box.schema.func.create('inner') for _, name in ipairs{'bob', 'rea'} do box.schema.user.create(name) "
                    "box.schema.user.grant(name, 'execute', 'function', 'inner') end "
                    "box.schema.user.grant('rea', 'read', 'universe')")
    return console(expose=EXPOSED, init=str(init))


@pytest.fixture
def client(served, connect):
    return connect(served)


@contextmanager
def logging_as(form):
    """The daemon's log on standard error."""
    logger = logging.getLogger('boxsession')
    level, handlers = logger.level, logger.handlers[:]
    logs.use(logs.open_handler('-'), 'info', form)
    try:
        yield
    finally:
        for handler in logs.our_handlers():
            handler.close()
        logger.handlers[:], logger.propagate, logger.level = handlers, True, level


def raised(caplog):
    return [record for record in caplog.records if ' raised ' in record.getMessage()]


def test_an_exception_is_logged_with_its_traceback(client, caplog):
    client.reply('svc:go()')
    [record] = raised(caplog)
    assert ('svc.go raised ValueError', logging.WARNING) == (record.getMessage(), record.levelno)
    lines = record.exc_text.splitlines()
    assert all(line.startswith('    ') for line in lines)
    assert ['inner', 'outer'] == [name for name in ('inner', 'outer') if any(f'in {name}' in line for line in lines)]
    assert any('KeyError' in line for line in lines) and any('direct cause' in line for line in lines)
    assert 'signatures.py' not in record.exc_text and 'functions.py' not in record.exc_text


@pytest.mark.parametrize(('statement', 'secret'), [
    ('outer("x", "hunter2secret")', 'hunter2secret'), ('svc:go{password = "hunter2secret"}', 'hunter2secret'),
    ('local password = "hunter2secret" outer(password)', 'hunter2secret'),
    ('inner("https://user:hunter2secret@example.org/")', 'hunter2secret')])
def test_secrets_are_not_in_it(client, caplog, statement, secret):
    client.reply(statement)
    [record] = raised(caplog)
    assert secret not in record.exc_text + record.getMessage()
    assert secret.encode() not in client.reply('\\traceback')


@pytest.mark.parametrize(('statement', 'words'), [
    ('deep()', 'RecursionError'), ('unshowable()', 'Unshowable'), ('timed_out()', 'Timeout'), ('leave()', 'SystemExit: 3'),
    ('inner()', "inner() missing 1 required positional argument: 'name'")])
def test_every_exception(client, caplog, statement, words):
    client.reply(statement)
    [record] = raised(caplog)
    assert words in record.exc_text
    assert len(record.exc_text) < 20000
    [text] = client.value('\\traceback')
    assert words in text


def test_what_is_no_exception_of_the_function_is_not_logged(client, caplog):
    assert 'cannot be passed' in client.error('refused()')
    assert 'cannot pass a function' in client.error('inner(print)')
    client.send('waits(1000)\n')
    client.send(b'\x03')
    assert b'cancelled' in client.document()
    assert [] == raised(caplog)


def test_a_client_cannot_fill_the_log(client, capsys):
    with logging_as('text'):
        client.reply('for _ = 1, 200 do pcall(inner, "x") end')
        client.reply('for _ = 1, 200 do pcall(outer, "x") end')
        assert 5 == capsys.readouterr().err.count(' raised ')


def test_json_lines_have_it(client, capsys):
    with logging_as('json'):
        client.reply('outer("x")')
        [line] = [json.loads(line) for line in capsys.readouterr().err.splitlines() if ' raised ' in line]
    assert 'outer raised ValueError' == line['message'] and 'in inner' in line['exception']


def test_traceback_shows_the_last_exception_of_the_session(served, client, connect):
    assert 'no function of the program has raised' in client.error('\\traceback')
    client.reply('outer("x")')
    client.reply('pcall(inner, "last")')
    client.reply('1 + 1')
    [text] = client.value('\\traceback')
    assert text.startswith('inner raised KeyError at 2') and text.endswith("KeyError: 'last'\n")
    other = connect(served)
    assert 'no function of the program has raised' in other.error('\\traceback')
    assert [text] == other.value(f'\\traceback {client.value("box.session.id()")}')
    assert 'does not exist' in other.error('\\traceback 12345')
    assert 'Usage' in other.error('\\traceback x')


def test_who_may_see_it(served, client, connect):
    number = client.value('box.session.id()')
    for user in ('bob', 'rea'):
        restricted = connect(served)
        restricted.reply(f"box.session.su('{user}')")
        assert "KeyError: 'x'" == restricted.error('inner("x")')
        if user == 'rea':
            assert 'in inner' in restricted.value('\\traceback')[0]
        else:
            assert 'denied' in restricted.error('\\traceback')
        assert 'denied' in restricted.error(f'\\traceback {number}')


@pytest.mark.parametrize('become', ["box.session.su('rea')", '\\login rea secret'])
def test_another_user_of_the_session_does_not_see_it(client, become):
    client.reply("box.schema.user.passwd('rea', 'secret')")
    client.reply("box.schema.user.grant('rea', 'session', 'universe', nil, {if_not_exists = true})")
    client.reply('inner("of admin")')
    client.reply("box.session.su('admin')")
    assert 'of admin' in client.value('\\traceback')[0]
    assert b'error' not in client.reply(become)
    assert 'rea' == client.value('box.session.user()')
    assert 'no function of the program has raised' in client.error('\\traceback')


def test_commands_fibers_and_requests_of_the_binary_protocol(console, connect, caplog):
    served = Console(listen=['127.0.0.1:0', {'address': '127.0.0.1:0', 'protocol': 'binary', 'user': 'admin'}],
                     expose=EXPOSED)
    served.command(lambda name: inner(name), name='find')
    served.start()
    try:
        client = connect(served)
        client.reply('\\find "x"')
        client.reply('require("fiber").new(function() inner("y") end)')
        client.reply('require("fiber").sleep(0)')
        binary = BinaryClient(served.addresses[1])
        assert 'KeyError' in binary.call('inner', 'z')
        binary.sock.close()
        assert ['\\find raised KeyError', 'inner raised KeyError', 'inner raised KeyError'] == [
            record.getMessage() for record in raised(caplog)]
        client.close()
    finally:
        served.stop()


def test_the_console_stops_without_a_session_that_goes_on_after_every_exception(connect, caplog):
    may_end = gevent.event.Event()

    def resist():
        while not may_end.is_set():
            try:
                may_end.wait()
            except BaseException:
                pass

    console = Console('127.0.0.1:0', {'resist': resist}, {'limits': {'drain_seconds': 0.1}})
    console.start()
    client = connect(console)
    client.send('resist()\n')
    wait_for(lambda: any(connection.under_way() for connection in console.connections()))
    console.stop()
    assert 'stopping without session 1' in caplog.text
    assert not console.addresses
    may_end.set()
