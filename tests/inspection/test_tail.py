"""`\\tail` and box.inspect.tail: log records of the program as they come, and how little they cost it."""
from __future__ import annotations

import datetime
import decimal
import logging
import logging.config
import os
import pathlib
import subprocess
import sys
import threading
import uuid

import gevent
import pytest
import yaml
from conftest import BINARY, TEXT
from waiting import connected, wait_for

from boxsession.inspection.records import exception_text, message
from boxsession.inspection.tail import QUEUE, Tail

log = logging.getLogger('taillog')
orders = logging.getLogger('taillog.orders')
apart = logging.getLogger('taillog.apart')


class Order:
    """No code of it may run."""

    def __repr__(self):
        raise AssertionError('repr was called')

    __str__ = __len__ = __iter__ = __bool__ = __eq__ = __hash__ = __int__ = __format__ = __repr__

    @property
    def __class__(self):
        raise AssertionError('__class__ was asked')


class OrderFailed(Exception):
    def __str__(self):
        raise AssertionError('str was called')


@pytest.fixture(autouse=True)
def levels():
    log.setLevel(logging.INFO)
    yield
    log.setLevel(logging.NOTSET)
    wait_for(lambda: not tails())


def tails():
    """The loggers that have a handler of a tail."""
    loggers = {'root': logging.root, **logging.root.manager.loggerDict}
    return [name for name, logger in loggers.items() if any(type(one) is Tail for one in getattr(logger, 'handlers', ()))]


@pytest.fixture
def served(console):
    return console()


def document(client):
    return yaml.load(client.document(), yaml.CSafeLoader)


def begin(client, line='\\tail taillog'):
    """Begins to follow; returns the first push."""
    client.send(line + '\n')
    return document(client)


class TestRecords:
    def test_they_come_as_pushes(self, served, connect):
        client = connect(served)
        assert {'tail': 'taillog', 'level': 'all', 'logger_level': 'INFO'} == begin(client)
        orders.info('order %d of %s', 7, 'ann')
        data = client.document()
        assert data.startswith(b'%TAG !push!')
        row = yaml.load(data, yaml.CSafeLoader)
        assert isinstance(row.pop('time'), datetime.datetime)
        assert {'level': 'INFO', 'logger': 'taillog.orders', 'message': 'order 7 of ann'} == row

    def test_of_other_threads_and_greenlets_in_their_order(self, served, connect):
        client = connect(served)
        begin(client, '\\tail taillog n=20')
        thread = threading.Thread(target=lambda: [log.info('thread %d', number) for number in range(10)])
        thread.start()
        gevent.spawn(lambda: [log.info('greenlet %d', number) for number in range(10)]).join()
        texts = [document(client)['message'] for _ in range(20)]
        thread.join()
        for kind in ('thread', 'greenlet'):
            assert [f'{kind} {number}' for number in range(10)] == [text for text in texts if text.startswith(kind)]
        assert [{'shown': 20, 'dropped': 0}] == document(client)

    def test_a_level_and_a_text(self, served, connect):
        client = connect(served)
        begin(client, '\\tail taillog level=warning match="not paid" n=1')
        log.info('not paid, but info')
        log.warning('paid')
        log.warning('is not paid')
        assert 'is not paid' == document(client)['message']
        assert [{'shown': 1, 'dropped': 0}] == document(client)

    def test_an_end_by_time(self, served, connect):
        client = connect(served)
        begin(client, 'box.inspect.tail({logger = "taillog", seconds = 0.05})')
        assert [{'shown': 0, 'dropped': 0}] == document(client)
        assert [2] == client.values('1 + 1')

    def test_lua_output(self, served, connect):
        client = connect(served)
        client.send('\\set output lua\n')
        client.read_until(b'true;')
        client.send('\\tail taillog n=1\n')
        client.read_until(b'"taillog"')
        log.info('hello')
        client.read_until(b'message = "hello"')

    def test_a_binary_session_and_a_fiber(self, console, connect, connect_binary):
        served = console(listen=[{'address': TEXT}, BINARY])
        client = connect(served)
        client.reply("require('fiber').create(function() ended = box.inspect.tail({logger = 'taillog', n = 1}) end)")
        assert 'taillog' in tails()
        log.info('for the fiber')
        wait_for(lambda: not tails())
        binary = connect_binary(served)
        with gevent.Timeout(30):
            sender = gevent.spawn(lambda: wait_for(tails) and log.info('for the request'))
            assert binary.eval("return box.inspect.tail({logger = 'taillog', n = 1})")[0]['tail'] == 'taillog'
            assert 'for the request' == binary.receive()[1][0x30][0]['message']
            assert [{'shown': 1, 'dropped': 0}] == binary.receive()[1][0x30]
            sender.join()

    def test_odd_fields_of_records(self, served, connect):
        class Text(str):
            def encode(self, *arguments):
                raise AssertionError('encode was called')

            __str__ = __format__ = encode

        class Number(int):
            def __str__(self):
                raise AssertionError('str was called')

            __repr__ = __format__ = __str__

        unknown = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        client, expected = connect(served), {'level': 'INFO', 'logger': 'taillog', 'message': 'm'}
        begin(client)
        tail = next(handler for handler in log.handlers if type(handler) is Tail)
        for fields, shown in (({'created': float('nan')}, {'time': unknown}),
                              ({'created': 1e300}, {'time': unknown}),
                              ({'created': None}, {'time': unknown}),
                              ({'name': Text('other')}, {'logger': 'other'}),
                              ({'name': 'x\udc80' + 'y' * 1000}, {'logger': 'x\\udc80' + 'y' * 198}),
                              ({'name': Order()}, {'logger': f'<{__name__}.Order>'}),
                              ({'levelno': Number(37)}, {'level': '37'}), ({'msg': Text('text')}, {'message': 'text'}),
                              ({'msg': '%s', 'args': (Text('text'),)}, {'message': 'text'})):
            tail.handle(logging.makeLogRecord({'name': 'taillog', 'levelno': 20, 'msg': 'm', **fields}))
            found = document(client)
            assert {**expected, **shown} == {name: found[name] for name in {**expected, **shown}}

    def test_an_exception_is_shown_with_its_calls(self, served, connect):
        client = connect(served)
        begin(client)
        try:
            {}['sku']
        except KeyError:
            log.exception('no such article')
        lines = document(client)['exception'].splitlines()
        assert lines[0] == "KeyError: 'sku'" and lines[1].startswith(f'  {__file__}:')


class TestLoggers:
    def test_the_first_push_says_what_the_logger_hides(self, served, connect):
        other = connect(served)
        client = connect(served)
        assert begin(client, '\\tail taillog.orders level=debug')['note'] == \
            'the logger taillog.orders lets records from INFO on through: \\log taillog.orders debug lets more through'
        other.value('\\log taillog.orders debug')
        orders.debug('now')
        assert 'now' == document(client)['message']

    def test_disabled_ones_and_logging_disable(self, served, connect):
        client = connect(served)
        log.disabled = True
        try:
            assert 'is disabled' in begin(client, '\\tail taillog level=error seconds=0.01')['note']
        finally:
            log.disabled = False
        document(client)
        logging.disable(logging.ERROR)
        try:
            assert 'turned off all records up to ERROR' in begin(client, '\\tail taillog level=error seconds=0.01')['note']
        finally:
            logging.disable(logging.NOTSET)
        document(client)

    def test_loggers_that_do_not_pass_records_on(self, served, connect):
        client = connect(served)
        apart.propagate = False
        try:
            begin(client)
            assert {'taillog', 'taillog.apart'} == set(tails())
            apart.error('from apart')
            log.error('from above')
            assert ['from apart', 'from above'] == [document(client)['message'] for _ in range(2)]
            client.close()
            wait_for(lambda: not tails())
        finally:
            apart.propagate = True

    def test_the_consoles_own_records_do_not_feed_themselves(self, served, connect):
        client, other = connect(served), connect(served)
        before = logging.getLogger('boxsession').level
        logging.getLogger('boxsession').setLevel(logging.DEBUG)
        try:
            begin(client, '\\tail boxsession')
            other.reply("require('log').info('one')")
            connect(served)
            assert 'one' == document(client)['message']
            assert 'session 3' in document(client)['message']
            other.reply("require('log').info('two')")
            assert 'two' == document(client)['message']
        finally:
            logging.getLogger('boxsession').setLevel(before)

    def test_set_up_logging_again(self, served, connect):
        client = connect(served)
        begin(client)
        logging.config.dictConfig({'version': 1, 'disable_existing_loggers': False,
                                   'loggers': {'taillog': {'level': 'INFO', 'handlers': []}}})
        assert not tails()
        assert 'set up its logging again' in document(client)['note']
        log.info('goes on')
        assert 'goes on' == document(client)['message']

    def test_the_last_resort_still_gets_what_it_would(self, served, connect, monkeypatch):
        seen = []

        class Last(logging.Handler):
            def emit(self, record):
                seen.append(record.getMessage())
        monkeypatch.setattr(logging, 'lastResort', Last(logging.WARNING))
        log.propagate = False
        try:
            client = connect(served)
            begin(client)
            for level in (logging.INFO, logging.ERROR):
                orders.log(level, 'level %d', level)
            assert 'level 40' == [document(client)['message'] for _ in range(2)][1]
            assert ['level 40'] == seen
            client.close()
            wait_for(lambda: not tails())
        finally:
            log.propagate = True

    def test_no_logger_is_made(self, served, connect):
        client = connect(served)
        assert "there is no logger 'taillog.ordres'" in client.error('\\tail taillog.ordres')
        assert 'taillog.ordres' not in logging.root.manager.loggerDict


class TestEnd:
    @pytest.mark.parametrize('how', ['cancel', 'interrupt', 'kill', 'close', 'reset', 'stop'])
    def test_the_handler_is_removed(self, served, connect, how):
        client, other = connect(served), connect(served)
        begin(client, '\\tail')
        assert 'root' in tails()
        {'cancel': lambda: other.values('\\cancel 1'), 'interrupt': lambda: client.send(b'\xff\xf4\xff\xfd\x06'),
         'kill': lambda: other.values('\\kill 1'), 'close': client.close, 'reset': client.reset,
         'stop': served.stop}[how]()
        wait_for(lambda: not tails())

    def test_a_cancel_tells_the_sums(self, served, connect):
        client, other = connect(served), connect(served)
        begin(client)
        log.info('one')
        document(client)
        other.values('\\cancel 1')
        assert 'the statement was cancelled by session 2: 1 records were shown, 0 dropped' == document(client)[0]['error']
        assert [2] == client.values('1 + 1')

    def test_a_cancel_while_it_sends(self, served, connect):
        client, other = connect(served), connect(served)
        begin(client)
        fill(client, served)
        other.values('\\cancel 1')
        wait_for(lambda: not tails())
        other.values('\\kill 1')

    def test_the_client_leaves_and_statements_may_finish(self, console, connect):
        client = connect(console(limits={'on_disconnect': 'finish'}))
        begin(client)
        client.close()
        wait_for(lambda: not tails())

    def test_the_end_of_the_input(self, served, connect):
        endless, counted = connect(served), connect(served)
        begin(counted, '\\tail taillog n=1')
        begin(endless)
        counted.end()
        endless.end()
        assert [{'shown': 0, 'dropped': 0}] == document(endless)
        log.info('one')
        assert 'one' == document(counted)['message'] and [{'shown': 1, 'dropped': 0}] == document(counted)

    def test_a_forked_child_has_none(self, served, connect):
        client = connect(served)
        begin(client, '\\tail')
        pid = os.fork()
        if pid == 0:
            os._exit(len(tails()))
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        log.info('in the parent')
        assert 'in the parent' == document(client)['message']

    def test_a_taken_lock_of_logging(self, served, connect):
        client = connect(served)
        begin(client)
        taken, done = threading.Event(), threading.Event()

        def hold():
            with logging._lock:
                taken.set()
                done.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        try:
            wait_for(taken.is_set)
            other = connect(served)
            other.values('\\kill 1')
            assert tails()
        finally:
            done.set()
            thread.join()
        wait_for(lambda: not tails())


def fill(client, served):
    """Logs until the client's connection, the output and the queue are full. Returns the number of records."""
    connection = served.connections()[0]
    count = 0
    while not connection.describe()['state'] == 'sending':
        for _ in range(100):
            log.info('x' * 1900)
        count += 100
        gevent.sleep(0.001)
    for _ in range(2 * QUEUE):
        log.info('x' * 1900)
    return count + 2 * QUEUE


class TestSlowReader:
    def test_what_is_dropped_is_counted_and_told(self, served, connect):
        client = connect(served)
        begin(client)
        count = fill(client, served)
        shown = dropped = 0
        while shown + dropped < count:
            row = document(client)
            shown, dropped = shown + ('message' in row), dropped + row.get('dropped', 0)
        assert (count, True) == (shown + dropped, dropped >= QUEUE)
        log.info('after')
        assert 'after' == document(client)['message']
        served._running.registry.of_id(1).cancel()
        assert f'{shown + 1} records were shown, {dropped} dropped' in document(client)[0]['error']

    def test_drops_of_many_threads_are_all_counted(self):
        tail = Tail('taillog', 0, '', lambda: None)
        tail.begin()
        try:
            threads = [threading.Thread(target=lambda: [log.info('n') for _ in range(2000)]) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert 16_000 == len(tail.queue) + tail.dropped and len(tail.queue) <= QUEUE + 8
        finally:
            tail.end()

    def test_a_wake_that_fails_reaches_nobody(self):
        def fail():
            raise ValueError
        tail = Tail('taillog', 0, '', fail)
        tail.begin()
        try:
            threading.Thread(target=log.info, args=('text',)).start()
            wait_for(lambda: tail.queue)
        finally:
            tail.end()


class TestSecrets:
    def test_they_are_cut_out(self, served, connect):
        client = connect(served)
        begin(client)
        log.error('connect to redis://ann:geheim@host/0', exc_info=ValueError("password = 'geheim'"))
        row = document(client)
        assert 'geheim' not in str(row) and '***' in row['message'] and '***' in row['exception']

    def test_they_cannot_be_found_by_trying(self, served, connect):
        client = connect(served)
        begin(client, '\\tail taillog match=geheim')
        log.error("connect with password = 'geheim'")
        log.error('geheim is shown here')
        assert document(client)['message'] == 'geheim is shown here'


class TestRights:
    def test_read_on_universe(self, served, connect):
        admin, client = connect(served), connect(served)
        admin.values("box.schema.user.create('ann', {password = 'a'})")
        client.values('\\login ann a')
        for line in ('\\tail', 'box.inspect.tail()'):
            assert 'access' in client.error(line)
        admin.values("box.schema.user.grant('ann', 'read', 'universe')")
        for line in ('\\tail taillog seconds=0.01', "box.inspect.tail({logger = 'taillog', seconds = 0.01})"):
            assert 'taillog' == begin(client, line)['tail'] and document(client)[0]['shown'] == 0

    def test_a_grant_by_name(self, served, connect):
        admin, client = connect(served), connect(served)
        admin.values("box.schema.user.create('ann', {password = 'a'})")
        client.values('\\login ann a')
        admin.values("box.schema.user.grant('ann', 'execute', 'command', 'tail')")
        for line in ('\\tail taillog n=1', "box.inspect.tail({logger = 'taillog', n = 1})"):
            begin(client, line)
            log.info('for ann')
            assert 'for ann' == document(client)['message'] and [{'shown': 1, 'dropped': 0}] == document(client)


@pytest.mark.parametrize(('line', 'error'), [
    ('\\tail taillog taillog', 'Usage: \\tail [LOGGER]'), ('\\tail taillog colour=red', 'Usage: \\tail'),
    ('\\tail n=x', 'Usage: \\tail'), ('\\tail match=', 'Usage: \\tail'), ('\\tail match="open', 'Usage: \\tail'),
    ('\\tail n=0', 'n is 0: expected a number above 0'), ('\\tail seconds=nan', 'seconds is nan: expected a number'),
    ('\\tail level=loud', "there is no level 'loud': expected debug, info"),
    ('box.inspect.tail(1)', 'Usage: box.inspect.tail('),
    ('box.inspect.tail{colour = 1}', 'Usage: box.inspect.tail('),
    ('box.inspect.tail{n = "1"}', 'Usage: box.inspect.tail(')])
def test_wrong_use(served, connect, line, error):
    assert connect(served).error(line).startswith(error)


def test_there_are_not_too_many(served, connect):
    clients = [connect(served) for _ in range(17)]
    for client in clients[:16]:
        begin(client)
    assert '16 tails are open' in clients[16].error('\\tail taillog')


PROGRAM = """
import logging, os, sys, time
if 'patched' in sys.argv:
    from gevent import monkey
    monkey.patch_all()
import threading
from boxsession import Console
logging.basicConfig(level=logging.WARNING)
log = logging.getLogger('proglog')
console = Console(['unix:' + sys.argv[1]], thread='thread' in sys.argv)
console.start()
print('started', flush=True)
def work():
    while log.level != logging.ERROR:
        log.info('from a worker')
        time.sleep(0.005)
worker = threading.Thread(target=work)
worker.start()
worker.join()
console.stop()
print(log.level, len(logging.root.handlers), len(log.handlers), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize('kind', ['patched', 'thread'])
def test_in_programs_of_both_kinds(tmp_path, kind):
    """One whose threads are greenlets, and one whose console has a thread of its own."""
    path = tmp_path / 's'
    program = subprocess.Popen([sys.executable, '-c', PROGRAM, str(path), kind], stdout=subprocess.PIPE, text=True)
    try:
        client = connected(path, program)
        assert client.value('\\log proglog info')['was'] == 'NOTSET'
        begin(client, '\\tail proglog n=3')
        assert 3 * ['from a worker'] == [document(client)['message'] for _ in range(3)]
        assert [{'shown': 3, 'dropped': 0}] == document(client)
        client.send('\\log proglog error\n')
        assert ['started', '0 1 0'] == program.communicate(timeout=30)[0].splitlines()
        client.close()
    finally:
        program.kill()
        program.wait()


class TestMessages:
    def test_no_code_of_the_program_runs(self):
        for template, arguments, text in (
                ('plain %s', (), 'plain %s'), ('%s %r %d %.1f', ('a', 'b', 3, 0.25), "a 'b' 3 0.2"),
                ('%(a)s', {'a': 1}, '1'),
                ('%s', (Order(),), f'<{__name__}.Order>'), ('%r', ([Order()],), f'[<{__name__}.Order>]'),
                ('%d', (Order(),), f'%d (<{__name__}.Order>)'), ('%s %s', ('a',), "%s %s ('a')"),
                (Order(), (), f'<{__name__}.Order>'), ('text', Order(), f'text <{__name__}.Order>'),
                ('%s', (uuid.UUID(int=1),), str(uuid.UUID(int=1))), ('%s', (decimal.Decimal('1.5'),), '1.5'),
                ('%s', (pathlib.Path('/a'),), '/a'), ('%s', (datetime.datetime(2026, 1, 2),), '2026-01-02 00:00:00'),
                ('%s', (10 ** 5000,), '<int of 16610 bits>'), ('%s', (ValueError('no', 1),), "('no', 1)"),
                ('%s', (ValueError('no'),), 'no'), ('%s', (KeyError('k'),), "'k'"),
                ('%s', (OSError(2, 'gone', '/f'),), "[Errno 2] gone: '/f'"), ('%s', (OrderFailed(1),), '(1)'),
                ('%s', (ValueError(Order()),), f'(<{__name__}.Order>)')):
            assert text == message({'msg': template, 'args': arguments})

    def test_a_time_zone_of_the_program(self):
        class Zone(datetime.tzinfo):
            def utcoffset(self, _):
                raise AssertionError('utcoffset was called')
        assert 'datetime' in message({'msg': '%s', 'args': (datetime.datetime(2026, 1, 2, tzinfo=Zone()),)})

    def test_long_ones_are_cut(self):
        assert 2000 == len(message({'msg': '%s %s', 'args': ('x' * 10 ** 6, 'y' * 10 ** 6)}))
        assert 'geheim' not in message({'msg': 'x' * 1950 + ' redis://ann:' + 'geheim' * 20 + '@host'})

    def test_a_deep_traceback_has_its_innermost_calls(self):
        def deep(level):
            if level == 0:
                raise OrderFailed(1)
            deep(level - 1)
        try:
            deep(500)
        except OrderFailed as error:
            lines = exception_text({'exc_info': (OrderFailed, error, error.__traceback__)}).splitlines()
        assert 9 == len(lines) and lines[0] == f'{__name__}.OrderFailed: (1)' and lines[1].endswith(' deep')

    def test_no_exception(self):
        assert ['', 'kept', ''] == [exception_text(fields) for fields in (
            {'exc_info': None}, {'exc_text': 'kept'}, {'exc_info': (None, None, None)})]
