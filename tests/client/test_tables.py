"""Answers and pushes of commands as people see them on a terminal."""
import pytest

from boxsession.client.completions import completions
from boxsession.client.pushes import line_of_push
from boxsession.client.tables import table
from boxsession.client.values import document_of, error_document

GROUP = {'count': 60, 'run': 'shop.web:handle', 'at': 'shop.stock:wait', 'where': '/srv/shop/stock.py:6',
         'state': 'waiting', 'owner': 'program', 'age_s': 61.2, 'ids': [4, 5, 6, 7, 8]}
THREAD = {'name': 'MainThread', 'native_id': 7, 'is_daemon': False, 'id': 99, 'is_loop': True,
          'stack': [f'/srv/a b/shop.py:{line} shop:call{line}' for line in range(10)]}
RECORD = {'time': '2026-11-27T03:12:09.412Z', 'level': 'DEBUG', 'logger': 'shop.orders', 'message': 'order 6119 is done'}


def lines(statement, answer, columns=120):
    found = table(statement, document_of([answer], as_list=True), '1', columns)
    return found if found is None else found.decode().splitlines()


def line(push, statement=b'\\tail shop'):
    found = line_of_push(statement, document_of(push))
    return found if found is None else found.decode()


class TestSessions:
    SESSION = {'id': 1, 'user': 'admin', 'peer': 'unix/:(socket)', 'peer_uid': 0, 'peer_pid': 7, 'type': 'console',
               'listener': 'unix:a.sock', 'name': '', 'connected_s': 1.2, 'idle_s': 0, 'state': 'idle', 'statement': '',
               'statements': 3, 'bytes_in': 5, 'bytes_out': 6}

    @pytest.mark.parametrize('more', [{}, {'language': 'lua'}])
    def test_the_usual_language_is_left_out(self, more):
        assert lines(b'\\sessions', [self.SESSION | more])[0].split() == [
            'id', 'user', 'client', 'listener', 'connected', 'idle', 'statements', 'state']

    def test_another_is_shown(self):
        head, one, other = lines(b'\\sessions', [self.SESSION | {'language': 'python'}, self.SESSION | {'id': 2}])
        at = head.index('language')
        assert (one[at:at + 6], other[at:at + 6].strip()) == ('python', '')


class TestGreenlets:
    def test_the_groups(self):
        here = GROUP | {'count': 1, 'run': 'shop.stock:wait', 'age_s': 0, 'ids': [9]}
        assert [
            'count  state    owner    seen for  ids            run              at               where',
            '   60  waiting  program  1 min     4 5 6 7 8 ...  shop.web:handle  shop.stock:wait  /srv/shop/stock.py:6',
            '    1  waiting  program  0 s       9                               shop.stock:wait  /srv/shop/stock.py:6',
        ] == lines(b'\\greenlets owner=program', [GROUP, here])

    def test_names_and_places_keep_their_ends(self):
        long = GROUP | {'run': 'r' * 80 + '.run', 'at': 'a' * 80 + '.at', 'where': '/w' * 80 + '.py:6'}
        head, row = lines(b'\\greenlets', [long], 130)
        assert row.endswith('.py:6') and '.run  ...' in row and 'a.at  ...' in row
        assert len(head) < 130 and len(row) < 130

    def test_one_that_has_not_started(self):
        waits = GROUP | {'state': 'not started: shop.web:handle', 'at': '', 'run': '', 'where': ''}
        assert 'not started  program' in lines(b'\\greenlets', [waits])[1]
        assert lines(b'\\greenlets', [waits])[1].endswith('shop.web:handle')

    def test_those_of_a_rescue_listener(self):
        group = {name: GROUP[name] for name in ('count', 'run', 'at', 'where', 'state')}
        assert ['count', 'state', 'run', 'at', 'where'] == lines(b'\\greenlets', [group])[0].split()

    def test_none(self):
        assert lines(b'\\greenlets xyzzy', [])[0].startswith('no greenlet fits')

    def test_nothing_commands_the_terminal(self):
        [_, row] = lines(b'\\greenlets', [GROUP | {'at': 'a\x1b[2J\nb'}])
        assert 'a\\x1b[2J b' in row


class TestOthers:
    def test_threads_with_their_innermost_calls(self):
        raw = {'name': '', 'native_id': None, 'is_daemon': None, 'id': 5, 'is_loop': False, 'stack': []}
        shown = lines(b'\\threads', [THREAD, raw])
        assert 'MainThread  native id 7  event loop' == shown[0]
        assert 8 == sum('shop:call' in line for line in shown)
        assert ['  and 2 outer calls (\\set output lua,block shows all)', '(no name)'] == shown[-2:]

    def test_a_profile(self):
        row = {'function': 'shop:render', 'own_percent': 14.6, 'total_percent': 15, 'where': '/srv/shop.py:17'}
        shown = lines(b'\\profile 3', {
            'seconds': 3, 'busy_percent': 9.2, 'functions': [row, row | {'own_waiting_percent': 0.4}], 'greenlets': [],
            'method': 'signal: by a timer'})
        assert ['seconds 3, busy_percent 9.2', '',
                'function     own_percent  total_percent  own_waiting_percent  where',
                'shop:render         14.6             15                       /srv/shop.py:17',
                'shop:render         14.6             15                  0.4  /srv/shop.py:17', '',
                'method: signal: by a timer'] == shown

    def test_memory_types(self):
        assert ['tracked_objects 5', '', 'type  count  bytes', 'str      17   3342'] == lines(
            b'\\memory  types 3', {'tracked_objects': 5, 'types': [{'type': 'str', 'count': 17, 'bytes': 3342}]})

    @pytest.mark.parametrize('statement', [b'\\memory', b'\\greenlet', b'box.inspect.greenlets()', b'', b'\\log'])
    def test_other_statements_have_no_table(self, statement):
        assert lines(statement, [GROUP]) is None

    @pytest.mark.parametrize('command', ['sessions', 'greenlets', 'threads', 'profile', 'memory types'])
    @pytest.mark.parametrize('answer', [{}, [1], [[]], [{}], 'x', None, {'functions': [3]}, [GROUP | {'ids': 4}]])
    def test_an_answer_that_is_none_of_ours(self, command, answer):
        lines(f'\\{command}'.encode(), answer)          # a table or None, but no error
        for document in (b'', b'---\n...\n', error_document('access denied'), b'--- &a [*a]\n...\n'):
            assert table(f'\\{command}'.encode(), document, '1', 80) is None


class TestPushes:
    def test_a_record(self):
        assert '03:12:09.412 DEBUG shop.orders: order 6119 is done\n' == line(RECORD)

    def test_no_record_looks_like_another(self):
        text = line(RECORD | {'message': 'a\n03:12:10.000 ERROR forged: b\r\x1b[2J', 'logger': 'c\n03:12',
                              'exception': 'E: d\n  e'})
        assert [
            '03:12:09.412 DEBUG c 03:12: a', '    03:12:10.000 ERROR forged: b\\x0d\\x1b[2J', '    E: d', '      e',
        ] == text.splitlines()

    def test_what_else_a_tail_says(self):
        assert '(3 records were dropped' in line({'dropped': 3})
        assert '(it was removed)\n' == line({'note': 'it was removed'})
        first = line({'tail': 'shop', 'level': 'DEBUG', 'logger_level': 'WARNING', 'note': 'nothing below WARNING comes'})
        assert first.startswith('(shop: level DEBUG; the logger lets WARNING and above through.')
        assert first.endswith('\n(nothing below WARNING comes)\n')

    def test_the_progress_of_a_profile(self):
        push = {'profile': {'seconds': 2, 'busy_percent': 9.2, 'samples': 210}}
        assert '2 s: 9.2 % busy, 210 samples\n' == line(push, b'\\profile 3')
        assert line(push, b'\\tail') is None

    def test_watched_calls(self):
        first = {'watch': 'shop:pay', 'kind': 'function', 'where': '/srv/shop.py:3', 'parameters': ['x'], 'id': 1}
        assert line(first, b'\\watch shop:pay') == \
            '(shop:pay: function, /srv/shop.py:3. Times are UTC. Ctrl-C ends this.)\n'
        call = {'time': '2026-11-27T03:12:09.412Z', 'greenlet': 'shop:serve', 'session': 5,
                'arguments': {'x': '1', 'y': "'a'"}, 'result': '5', 'ms': 2.149, 'show': {'x + 1': '2'}}
        assert line(call, b'\\watch shop:pay') == \
            "03:12:09.412     2.149 ms  shop:serve session 5  (x=1, y='a') -> 5\n    x + 1 = 2\n"
        method = {**call, 'arguments': {'self': '<shop.Shop x=1, y=2>', 'y': '<shop.Y z=1>'}, 'show': {}}
        assert "(self=<shop.Shop ...>, y=<shop.Y z=1>) -> 5" in line(method, b'\\watch shop:pay')
        failed = {name: call[name] for name in ('time', 'greenlet', 'arguments', 'ms')}
        failed |= {'error': "KeyError('x')", 'values': 2}
        assert line(failed, b'\\watch shop:pay').endswith("(x=1, y='a') !! KeyError('x') (2 values)\n")
        trace = [{'function': 'Shop.look', 'calls': 2, 'ms': 1.5, 'where': '/x.py:1', 'errors': 1,
                  'trace': [{'function': 'low', 'calls': 1, 'ms': 1.0, 'where': '/x.py:9'}]}]
        assert line({**call, 'trace': trace, 'show': {}}, b'\\trace m:f').splitlines()[1:] == \
            ['          1.5 ms  Shop.look 2 times, 1 errors  /x.py:1', '              1.0 ms  low  /x.py:9']
        assert line({'stack': ['a:b /x:1', 'c:d /y:2']}, b'\\stack m:f') == 'a:b /x:1\n    c:d /y:2\n'
        second = {'time': '2026-11-27T03:12:09.412Z', 'calls': 27, 'per_second': 26.9, 'errors': 5,
                  'ms': {'p50': 2.3, 'max': 120.6}}
        assert line(second, b'\\count m:f') == \
            '03:12:09.412       27 calls      5 errors  p50 2.3 ms  max 120.6 ms\n'
        assert line({'note': 'loaded again'}, b'\\watch m:f') == '(loaded again)\n'

    @pytest.mark.parametrize('push', [{}, [], 'message', None, 5, {'message': 'a'}, {'profile': 3}, RECORD | {'time': 7},
                                      RECORD | {'message': 7}])
    @pytest.mark.parametrize('statement', [
        b'\\tail', b'\\watch m:f', b'\\count m:f', b'\\profile 1', b'box.session.push(1)'])
    def test_other_pushes(self, push, statement):
        assert line(push, statement) is None


@pytest.mark.parametrize('typed, found', [
    ('\\memory tr', (2, ['trace start', 'trace diff', 'trace stop'])), ('\\memory w', (1, ['who '])),
    ('\\changes ', (0, ['undo '])),
])
def test_completion_of_words_of_a_command(typed, found):
    assert found == completions(typed, lambda text: None)
