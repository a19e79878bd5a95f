"""`\\log`, `\\changes` and box.inspect: the levels of the program's loggers, and how changes end."""
from __future__ import annotations

import json
import logging
import os
import threading

import gevent
import pytest
from text_client import Client
from waiting import wait_for

from boxsession.inspection import loggers
from boxsession.inspection.journal import COVERED, GONE, LEFT, RESTORED, Journal
from boxsession.inspection.loggers import Level, NotPossible, read_duration, read_level

NAMES = ('shoplog', 'shoplog.orders', 'shoplog.orders.paid')


class Strict(logging.Logger):
    """No code of it may run."""

    def setLevel(self, level):
        raise AssertionError('setLevel was called')

    getEffectiveLevel = hasHandlers = __repr__ = setLevel


@pytest.fixture(autouse=True)
def loggers_of_the_program():
    logging.getLogger('shoplog.orders.paid')
    logging.getLogger('shoplog').setLevel(logging.WARNING)
    logging.getLogger('shoplog.orders')
    yield
    for name in NAMES:
        found = logging.root.manager.loggerDict.pop(name, None)
        assert found is not None


@pytest.fixture
def served(console):
    return console()


def level(name='shoplog.orders'):
    return logging.getLogger(name).level


class TestLevels:
    def test_the_list(self, served, connect):
        logging.getLogger('shoplog').addHandler(handler := logging.StreamHandler())
        try:
            rows = connect(served).value('\\log shoplog')
        finally:
            logging.getLogger('shoplog').removeHandler(handler)
        assert list(NAMES) == [row['name'] for row in rows]
        assert {'name': 'shoplog', 'level': 'WARNING', 'effective': 'WARNING', 'handlers': ['logging.StreamHandler'],
                'disabled': False, 'propagate': True} == rows[0]
        assert ('NOTSET', 'WARNING', []) == (rows[1]['level'], rows[1]['effective'], rows[1]['handlers'])

    def test_all_the_root_logger_first(self, served, connect):
        names = [row['name'] for row in connect(served).value('\\log')]
        assert names[0] == 'root' and names[1:] == sorted(names[1:]) and {'boxsession', *NAMES} <= set(names)

    def test_patterns(self, served, connect):
        client = connect(served)
        assert ['shoplog.orders.paid'] == [row['name'] for row in client.value('\\log *og.*.pai?')]
        assert client.value('\\log shoplog') == client.value("box.inspect.log('shoplog')")

    def test_a_name_without_a_logger_is_not_listed_and_none_is_made(self, served, connect):
        logging.getLogger('placelog.inner')
        client = connect(served)
        before = dict(logging.root.manager.loggerDict)
        try:
            assert ['placelog.inner'] == [row['name'] for row in client.value('\\log placelog')]
            assert client.error('\\log placelog debug') == \
                "there is no logger 'placelog': similar names are placelog.inner"
            assert "there is no logger 'shoplog.oders': similar names are shoplog" in \
                client.error('\\log shoplog.oders debug')
            assert "no logger has a name like 'hoplog': similar names are shoplog" in client.error('\\log hoplog')
            assert before == logging.root.manager.loggerDict
        finally:
            for name in ('placelog', 'placelog.inner'):
                del logging.root.manager.loggerDict[name]

    def test_no_code_of_a_logger_class_runs(self, served, connect):
        logging.root.manager.loggerDict['strictlog'] = strict = Strict('strictlog', 20)
        strict.parent, strict.manager = logging.root, logging.root.manager
        try:
            client = connect(served)
            assert client.value('\\log strictlog')[0]['level'] == 'INFO'
            assert client.value('\\log strictlog debug')['was'] == 'INFO'
            assert strict.level == 10
            assert client.value('\\changes undo all')[0]['result'] == 'restored' and strict.level == 20
        finally:
            del logging.root.manager.loggerDict['strictlog']

    @pytest.mark.parametrize(('line', 'error'), [
        ('\\log shoplog verbose', "there is no level 'verbose': expected debug, info, warning, error, critical, a number"),
        ('\\log shoplog debug for', 'Usage: \\log [FILTER], or \\log LOGGER LEVEL [for TIME] [keep]'),
        ('\\log shoplog debug 10m', 'Usage: \\log'), ('\\log shoplog debug keep for 1s', 'Usage: \\log'),
        ('\\log shoplog debug for 10', "'10' is not a time: expected a time of up to 30 days, such as 30s, 10m or 2h"),
        ('\\log shoplog debug for 0s', "'0s' is not a time"), ('\\log shoplog debug for 721h', "'721h' is not a time"),
        ('\\log shoplog -1', "there is no level '-1'"), ('\\log shoplog 99999999', "there is no level '99999999'"),
        ('\\changes all', 'Usage: \\changes, or \\changes undo N|all'),
        ('\\changes undo x', 'Usage: \\changes'), ('\\changes undo 7', 'there is no change 7: no change is in force'),
        ('\\changes undo nan', 'there is no change nan'),
        ('box.inspect.changes{undo = {}}', 'Usage: box.inspect.changes()'),
        ('\\log ' + '*a' * 101, 'the name has 202 characters: expected up to 200'),
        ('box.inspect.log(1)', 'Usage: box.inspect.log('),
        ("box.inspect.log('shoplog', 'info', 1)", 'Usage: box.inspect.log('),
        ("box.inspect.log('shoplog', 'info', {time = 0/0})", "'nans' is not a time")])
    def test_wrong_use(self, served, connect, line, error):
        assert connect(served).error(line).startswith(error)
        assert logging.getLogger('shoplog').level == logging.WARNING


class TestChange:
    def test_it_is_in_force_at_once_and_told(self, served, connect, caplog):
        logger, client = logging.getLogger('shoplog.orders'), connect(served)
        assert not logger.isEnabledFor(logging.DEBUG)       # logging keeps this answer
        with caplog.at_level(logging.INFO, 'boxsession'):
            told = client.value('\\log shoplog.orders debug')
        assert {'name': 'shoplog.orders', 'level': 'DEBUG', 'was': 'NOTSET', 'effective': 'DEBUG',
                'until': 'the session ends', 'change': 1} == told
        assert logger.isEnabledFor(logging.DEBUG)
        assert 'level of the logger shoplog.orders is set to DEBUG by session 1 (admin from' in caplog.text

    @pytest.mark.parametrize(('text', 'value'), [('INFO', 20), ('33', 33), ('unset', 0), ('Warn', 30)])
    def test_names_and_numbers(self, served, connect, text, value):
        connect(served).value(f'\\log shoplog.orders {text} keep')
        assert value == level()

    def test_the_root_logger(self, served, connect):
        before, client = logging.root.level, connect(served)
        assert client.value('\\log root 27')['level'] == '27'
        assert logging.root.level == 27
        client.value('\\changes undo all')
        assert logging.root.level == before

    @pytest.mark.parametrize('how', ['quit', 'close', 'reset', 'kill', 'stop'])
    def test_it_ends_with_its_session(self, served, connect, how):
        client, other = connect(served), connect(served)
        client.value('\\log shoplog.orders debug')
        client.value('\\log shoplog.orders.paid debug for 2h')
        kept = client.value('\\log shoplog error keep')
        assert ('kept', logging.DEBUG) == (kept['until'], level())
        {'quit': lambda: client.send('\\quit\n'), 'close': client.close, 'reset': client.reset,
         'kill': lambda: other.values('\\kill 1'), 'stop': served.stop}[how]()
        wait_for(lambda: level() == logging.NOTSET == level('shoplog.orders.paid'))
        assert level('shoplog') == logging.ERROR

    def test_it_ends_in_the_midst_of_a_statement(self, served, connect):
        client, other = connect(served), connect(served)
        client.send("box.inspect.log('shoplog.orders', 'debug') require('fiber').sleep(1000)\n")
        wait_for(lambda: level() == logging.DEBUG)
        other.values('\\kill 1')
        wait_for(lambda: level() == logging.NOTSET)

    def test_it_ends_after_its_time(self, served, connect):
        client = connect(served)
        assert client.value('\\log shoplog.orders debug for 1s')['until'].endswith('Z, or the session ends')
        wait_for(lambda: level() == logging.NOTSET)
        assert client.value('\\changes') == []

    def test_a_time_that_is_kept_outlives_the_session(self, served, connect):
        client, other = connect(served), connect(served)
        client.value('\\log shoplog.orders debug for 1h keep')
        client.value('\\log shoplog.orders.paid debug')
        client.close()
        wait_for(lambda: level('shoplog.orders.paid') == logging.NOTSET)
        assert level() == logging.DEBUG and 'session' not in str(other.value('\\changes')[0]['until'])
        served.stop()
        assert level() == logging.NOTSET

    def test_a_fiber_that_outlives_its_session_must_keep(self, served, connect):
        client, other = connect(served), connect(served)
        client.reply("fiber = require('fiber') gate = fiber.cond() fiber.create(function() gate:wait() "
                     "seen = {pcall(box.inspect.log, 'shoplog.orders', 'debug')} end)")
        client.close()
        wait_for(lambda: len(other.value('\\sessions')) == 1)
        other.reply('gate:signal()')
        assert 'the session has ended' in wait_for(lambda: other.value('seen'))[1]
        assert level() == logging.NOTSET

    def test_the_init_script_keeps(self, console):
        console(script="box.inspect.log('shoplog.orders', 'error')")
        assert level() == logging.ERROR

    def test_a_taken_lock_of_logging_holds_nothing(self, served, connect):
        taken, done = threading.Event(), threading.Event()

        def hold():
            with logging._lock:
                taken.set()
                done.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        try:
            wait_for(taken.is_set)
            client = connect(served)
            assert 3 == len(client.value('\\log shoplog'))
            assert client.value('\\log shoplog.orders debug')['level'] == 'DEBUG'
            assert served._running.changes._timers
        finally:
            done.set()
            thread.join()
        wait_for(lambda: not served._running.changes._timers)

    def test_the_audit_file_has_both(self, console, tmp_path):
        path = tmp_path / 'audit'
        served = console(audit={'file': str(path)})
        client = Client(served.addresses[0])
        client.value('\\log shoplog.orders debug for 1h')
        client.close()
        wait_for(lambda: level() == logging.NOTSET)
        events = {entry['event']: entry for entry in map(json.loads, path.read_text().splitlines())}
        change, undo = events['change'], events['undo']
        assert (1, 'level of the logger shoplog.orders', 'DEBUG', 'NOTSET', 3600, False) == tuple(
            change[name] for name in ('session', 'what', 'value', 'was', 'seconds', 'keep'))
        assert (1, 'NOTSET', 'restored', 'its session has ended') == tuple(
            undo[name] for name in ('target', 'value', 'result', 'reason'))
        assert '\\\\log shoplog.orders debug for 1h' in path.read_text()

    def test_a_forked_child_has_its_own_levels(self, served, connect):
        connect(served).value('\\log shoplog.orders debug')
        pid = os.fork()
        if pid == 0:
            os._exit(level())
        assert logging.NOTSET == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert level() == logging.DEBUG


class TestChanges:
    def test_two_sessions_change_one_logger(self, served, connect):
        first, second = connect(served), connect(served)
        first.value('\\log shoplog.orders debug')
        second.value('\\log shoplog.orders error')
        rows = second.value('\\changes')
        assert rows == second.value('box.inspect.changes()')
        assert [('NOTSET', 'DEBUG', 'ERROR', 'covered'), ('DEBUG', 'ERROR', 'ERROR', 'in force')] == [
            (row['old'], row['set'], row['now'], row['state']) for row in rows]
        assert rows[1]['by'].startswith('session 2 (admin from')
        second.close()
        wait_for(lambda: level() == logging.DEBUG)
        first.close()
        wait_for(lambda: level() == logging.NOTSET)

    def test_the_first_session_leaves_first(self, served, connect):
        first, second = connect(served), connect(served)
        first.value('\\log shoplog.orders debug')
        second.value('\\log shoplog.orders error')
        first.close()
        wait_for(lambda: len(second.value('\\changes')) == 1)
        assert level() == logging.ERROR and second.value('\\changes')[0]['old'] == 'NOTSET'

    def test_what_the_program_sets_stays(self, served, connect, caplog):
        client, other = connect(served), connect(served)
        client.value('\\log shoplog.orders debug')
        logging.getLogger('shoplog.orders').setLevel(logging.CRITICAL)
        assert other.value('\\changes')[0]['state'] == 'left as it is'
        with caplog.at_level(logging.INFO, 'boxsession'):
            client.close()
            wait_for(lambda: other.value('\\changes') == [])
        assert level() == logging.CRITICAL and 'left as it is' in caplog.text

    def test_undo(self, served, connect):
        client = connect(served)
        client.value('\\log shoplog.orders debug')
        client.value('\\log shoplog.orders.paid debug')
        assert "there is no change 9: expected one of 1, 2" == client.error('\\changes undo 9')
        assert [{'id': 1, 'what': 'level of the logger shoplog.orders', 'now': 'NOTSET', 'result': 'restored'}] == \
            client.value('\\changes undo 1')
        assert [2] == [row['id'] for row in client.value('box.inspect.changes({undo = "all"})')]
        assert level() == level('shoplog.orders.paid') == logging.NOTSET


class TestRights:
    @pytest.fixture
    def ann(self, served, connect):
        admin, client = connect(served), connect(served)
        admin.values("box.schema.user.create('ann', {password = 'a'})")
        client.values('\\login ann a')
        return client, admin

    def test_without_a_grant(self, ann):
        for line in ('\\log', '\\log shoplog info', '\\changes', 'box.inspect.log()', 'box.inspect.changes()'):
            assert 'access' in ann[0].error(line), line

    def test_read_sees_and_does_not_change(self, ann):
        client, admin = ann
        admin.values("box.schema.user.grant('ann', 'read', 'universe')")
        admin.value('\\log shoplog.orders debug')
        assert 3 == len(client.value('\\log shoplog')) == len(client.value("box.inspect.log('shoplog')"))
        assert 1 == len(client.value('\\changes'))
        for line in ('\\log shoplog info', "box.inspect.log('shoplog', 'info')", '\\changes undo 1', '\\changes undo all',
                     'box.inspect.changes({undo = 1})'):
            assert 'access' in client.error(line), line
        assert (logging.WARNING, logging.DEBUG) == (level('shoplog'), level())

    def test_a_grant_by_name_changes_and_undoes_its_own(self, ann):
        client, admin = ann
        admin.value('\\log shoplog.orders debug')
        for command in ('log', 'changes'):
            admin.values(f"box.schema.user.grant('ann', 'execute', 'command', '{command}')")
        assert 2 == client.value('\\log shoplog info')['change']
        assert 'needs execute on universe' in client.error('\\changes undo 1')
        assert [2] == [row['id'] for row in client.value('\\changes undo all')]
        assert (logging.WARNING, logging.DEBUG) == (level('shoplog'), level())
        assert 3 == len(client.value("box.inspect.log('shoplog')")) and 1 == len(client.value('box.inspect.changes()'))
        client.value('\\log shoplog info')
        assert admin.value('\\changes undo 3')[0]['now'] == 'WARNING'


class Place:
    """A value of the program, for the journal."""

    def __init__(self, value=0):
        self.value = value
        self.key, self.what, self.text = ('place', str(id(self))), 'a place', str

    def read(self):
        return self.value

    def write(self, value):
        self.value = value


class TestJournal:
    def test_a_change_with_a_time_lies_over_one_without(self):
        journal, place = Journal(), Place()
        journal.change(place, 1, owner=7, who='')
        journal.change(place, 2, owner=7, who='', expires=10.0)
        assert 10.0 == journal.next_expiry() and [] == journal.expire(9.0)
        assert [RESTORED] == [one.result for one in journal.expire(10.0)] and place.value == 1
        journal.change(place, 3, owner=7, who='', expires=10.0)
        journal.change(place, 4, owner=7, who='')
        assert 1 == len(journal) and journal.next_expiry() is None
        journal.end(7)
        assert (0, 0) == (place.value, len(journal))

    def test_what_is_kept_is_the_new_base(self):
        journal, place = Journal(), Place()
        journal.change(place, 1, owner=7, who='')
        assert 1 == len(journal.keep(place, 5))
        journal.change(place, 6, owner=8, who='')
        assert [] == journal.end(7)
        journal.end(8)
        assert place.value == 5

    def test_the_programs_value_is_the_base_of_later_changes(self):
        journal, place = Journal(), Place()
        journal.change(place, 1, owner=7, who='')
        place.value = 50
        journal.change(place, 2, owner=8, who='')
        assert [] == journal.end(7)
        assert [RESTORED] == [one.result for one in journal.end(8)] and place.value == 50

    def test_results(self):
        journal, place = Journal(), Place()
        first, second = (journal.change(place, value, owner=value, who='') for value in (1, 2))
        assert COVERED == journal.state(first) and 'in force' == journal.state(second)
        assert COVERED == journal.undo(first.number).result
        place.value = 9
        assert LEFT == journal.undo(second.number).result and journal.undo(second.number) is None
        third = journal.change(place, 3, owner=3, who='')
        place.value = None
        assert GONE == journal.state(third) == journal.undo(third.number).result

    def test_one_session_holds_at_most_two_changes_of_a_place(self):
        journal, place = Journal(), Place()
        for value in range(1, 100):
            journal.change(place, value, owner=7, who='', expires=5.0 if value % 3 else None)
        assert 2 >= len(journal)
        journal.undo_of(None)
        assert (0, 0) == (place.value, len(journal))


class TestReading:
    @pytest.mark.parametrize(('text', 'seconds'), [('30s', 30), ('10m', 600), ('2h', 7200), ('720h', 2592000)])
    def test_times(self, text, seconds):
        assert seconds == read_duration(text)

    @pytest.mark.parametrize('text', ['', 'm', '1.5h', '-1s', '1d', '９s', '1' * 50 + 's'])
    def test_what_is_no_time(self, text):
        with pytest.raises(NotPossible):
            read_duration(text)

    @pytest.mark.parametrize('text', ['', '²', '1e3', '9' * 5000])
    def test_what_is_no_level(self, text):
        with pytest.raises(NotPossible):
            read_level(text)

    def test_ten_thousand_loggers_are_listed_in_pieces(self):
        pauses = []
        for number in range(10_000):
            logging.root.manager.loggerDict[f'manylog{number}'] = logging.Logger(f'manylog{number}')
        try:
            assert 10_000 == len(loggers.listed('manylog', lambda: pauses.append(1))) and len(pauses) == 50
        finally:
            for number in range(10_000):
                del logging.root.manager.loggerDict[f'manylog{number}']

    def test_a_level_that_an_enum_has_set(self):
        import enum
        number = enum.IntEnum('Levels', {'LOUD': 20})
        logging.getLogger('shoplog.orders').level = number.LOUD
        assert type(Level('shoplog.orders', gevent.sleep).read()) is int
