"""Metrics from outside: each number changes by the right amount; the dashboard and the docs name metrics that exist."""
from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import gevent
import pytest
import trustme
from conftest import BINARY, PROJECT, TEXT, need
from gevent import socket
from iproto_client import BinaryClient
from prometheus_client.parser import text_string_to_metric_families
from waiting import running, wait_for

import boxsession.operations.metrics
from boxsession import ConfigError, Console, ListenError
from boxsession.base.address import Address
from boxsession.base.histogram import BOUNDS, Histogram

DASHBOARD = PROJECT / 'conf' / 'grafana-dashboard.json'
SETTINGS = {'limits': {'sessions': 40, 'statement_bytes': 1000},
            'metrics': {'address': '127.0.0.1:0'}}


def ask(address, request):
    """All that comes back for a request's bytes."""
    address = Address.parse(str(address))
    if address.path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(address.path)
    else:
        sock = socket.create_connection((address.host, address.port))
    sock.settimeout(30)
    with sock:
        sock.sendall(request)
        answer = b''
        while piece := sock.recv(65536):
            answer += piece
        return answer


def get(address, path):
    """(status, body)."""
    head, _, body = ask(address, f'GET {path} HTTP/1.1\r\nHost: here\r\n\r\n'.encode()).partition(b'\r\n\r\n')
    assert f'Content-Length: {len(body)}'.encode() in head
    return int(head.split()[1]), body.decode()


@pytest.fixture
def served(console):
    return console(listen=[TEXT, {'address': TEXT, 'user': 'guest'}, BINARY], **SETTINGS)


class Scrapes:
    """Differences from one scrape to the next: {'name{labels}': difference}."""

    def __init__(self, console):
        self._address = console._running.metrics.address
        self._last = self.read()

    def read(self):
        status, text = get(self._address, '/metrics')
        assert 200 == status
        found = {}
        for family in text_string_to_metric_families(text):
            assert family.documentation and family.type != 'unknown', family.name
            for sample in family.samples:
                labels = ','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))
                key = f'{sample.name.removeprefix("boxsession_")}{{{labels}}}' if labels else \
                    sample.name.removeprefix('boxsession_')
                assert key not in found
                found[key] = sample.value
        return found

    def moved(self, *but):
        """Differences of the metrics with exact values; without those whose names begin with one of `but`."""
        before, self._last = self._last, self.read()
        skipped = ('process_', 'lua_memory', 'loop_lag', 'statement_seconds_bucket', 'statement_seconds_sum',
                   'received_', 'sent_', *but)
        return {key: value - before.get(key, 0) for key, value in {**dict.fromkeys(before, 0), **self._last}.items()
                if value != before.get(key, 0) and not key.startswith(skipped)}


@pytest.fixture
def scrapes(served):
    return Scrapes(served)


def one(count=1):
    return {'statements_total{language=lua,type=console}': count, 'statement_seconds_count{type=console}': count}


class TestEachNumberMoves:
    def test_sessions(self, served, scrapes, connect):
        first, guests, _ = (str(address) for address in served.addresses)
        clients = [connect(first), connect(first), connect(guests)]
        assert {f'sessions{{listener={first},type=console,user=admin}}': 2,
                f'sessions{{listener={guests},type=console,user=guest}}': 1,
                'sessions_started_total{type=console}': 3} == scrapes.moved()
        clients[0].reply("box.session.su('guest')")
        assert {f'sessions{{listener={first},type=console,user=admin}}': -1,
                f'sessions{{listener={first},type=console,user=guest}}': 1, **one()} == scrapes.moved()
        clients[0].close()
        wait_for(lambda: len(served.sessions) == 2)
        assert {f'sessions{{listener={first},type=console,user=guest}}': -1} == scrapes.moved()

    def test_what_an_ended_session_counted_stays(self, served, scrapes, connect):
        client = connect(served)
        client.reply('1')
        client.send('2\n\\quit\n')
        client.read_to_end()
        wait_for(lambda: not served.sessions)
        assert {'sessions_started_total{type=console}': 1, **one(3)} == scrapes.moved()
        assert {} == scrapes.moved()

    def test_statements_that_come_together_are_each_counted(self, served, scrapes, connect):
        client = connect(served)
        scrapes.moved()
        client.send('1\n' * 100 + "require('fiber').sleep(0.5)\n" + '2\n' * 100)
        for _ in range(201):
            client.document()
        before = scrapes._last
        assert one(201) == scrapes.moved()
        quick = 'statement_seconds_bucket{le=0.25,type=console}'
        after = scrapes._last
        assert 200 == after[quick] - before[quick]
        # A timer of the loop may end a little early.
        assert 0.45 <= after['statement_seconds_sum{type=console}'] - before['statement_seconds_sum{type=console}']

    def test_a_statement_on_several_lines_is_one(self, served, scrapes, connect):
        client = connect(served)
        scrapes.moved()
        client.send('for i = 1, 2 do\nx = i\nend\n')
        client.document()
        assert one() == scrapes.moved()

    @pytest.mark.parametrize(('statement', 'kind'), [
        ('local = 1', 'syntax'), ("error('x')", 'runtime'), ('error({})', 'runtime'), ('\\nosuch', 'runtime'),
        ("setmetatable({}, {__serialize = function() error('x') end})", 'output'),
        ("box.error(box.error.ACCESS_DENIED, 'a', 'b', 'c', 'd')", 'denied')])
    def test_an_error(self, served, scrapes, connect, statement, kind):
        client = connect(served)
        scrapes.moved()
        assert b'error' in client.reply(statement)
        assert {f'errors_total{{kind={kind}}}': 1, **one()} == scrapes.moved()

    def test_a_denial(self, served, scrapes, connect):
        guest = connect(str(served.addresses[1]))
        scrapes.moved()
        assert 'denied' in guest.error('box.stat')
        assert {'errors_total{kind=denied}': 1, 'denials_total': 1, **one()} == scrapes.moved()

    def test_a_failed_login(self, served, scrapes, connect):
        client = connect(served)
        scrapes.moved()
        client.error('\\login nobody wrong')
        assert {'errors_total{kind=runtime}': 1, 'failed_logins_total': 1, **one()} == scrapes.moved()

    def test_too_long_and_unfinished_input(self, served, scrapes, connect):
        client = connect(served)
        client.reply('1')
        scrapes.moved()
        client.error('"' + 'x' * 1000 + '"')
        assert {'errors_total{kind=input}': 1, 'limit_hits_total{limit=statement_bytes}': 1} == scrapes.moved()
        client.send('for i = 1, 2 do')
        client.end()
        client.read_to_end()
        wait_for(lambda: not served.sessions)
        assert {'errors_total{kind=input}': 1} == scrapes.moved('sessions')

    def test_a_timeout(self, served, scrapes, connect):
        served._running.configure({'limits.statement_seconds': 0.05})
        client = connect(served)
        scrapes.moved()
        assert 'was stopped' in client.error('while true do end')
        assert {'errors_total{kind=timeout}': 1, 'limit_hits_total{limit=statement_seconds}': 1, **one()} == scrapes.moved()

    def test_memory(self, served, scrapes, connect):
        client = connect(served)
        scrapes.moved()
        served._running.configure({'limits.lua_memory_bytes': 32 << 20})
        assert 'not enough memory' in client.error("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end")
        moved = scrapes.moved()
        assert {'errors_total{kind=memory}': 1, **one()}.items() <= moved.items()
        assert moved['limit_hits_total{limit=lua_memory_bytes}'] >= 1
        assert 32 << 20 == scrapes._last['lua_memory_limit_bytes']
        assert 0 < scrapes._last['lua_memory_bytes'] < 32 << 20

    @pytest.mark.parametrize('how', ['ctrl-c', 'cancel'])
    def test_a_cancel(self, served, scrapes, connect, how):
        client, admin = connect(served), connect(served)
        client.send("require('fiber').sleep(1000)\n")
        wait_for(lambda: running(served))
        scrapes.moved()
        if how == 'ctrl-c':
            client.send(b'\x03')
        else:
            assert admin.value('box.session.cancel(1)') is True
        assert b'cancelled' in client.document()
        ran = one(1 if how == 'ctrl-c' else 2)
        assert {'cancels_total': 1, 'errors_total{kind=cancelled}': 1, **ran} == scrapes.moved()
        client.send(b'\x03')            # nothing runs
        assert [1] == client.values('1')
        assert one() == scrapes.moved()

    def test_a_kill(self, served, scrapes, connect):
        client, admin = connect(served), connect(served)
        client.values('1')
        scrapes.moved()
        assert 1 == admin.value('box.session.kill(1)')
        assert {'kills_total': 1, f'sessions{{listener={served.addresses[0]},type=console,user=admin}}': -1, **one()} \
            == scrapes.moved()

    def test_refusals(self, served, scrapes, connect):
        admin = connect(served)
        admin.reply("box.session.on_connect(function() if box.session.user() == 'guest' then error('no') end end)")
        scrapes.moved()
        assert b'no' in connect(str(served.addresses[1]), greeting=False).read_to_end()
        wait_for(lambda: len(served.sessions) == 1)
        assert {'sessions_started_total{type=console}': 1,
                'sessions_refused_total{reason=on_connect}': 1} == scrapes.moved()
        served._running.configure({'limits.sessions': 1})
        assert b'too many' in connect(served, greeting=False).read_to_end()
        assert {'sessions_refused_total{reason=limit}': 1, 'limit_hits_total{limit=sessions}': 1,
                'sessions_limit': -39} == scrapes.moved()

    def test_bytes(self, served, connect):
        client = connect(served)
        scrapes = Scrapes(served)
        client.reply('1 + 1')
        before, scrapes._last = scrapes._last, scrapes.read()
        assert [6, len('---\n- 2\n...\n')] == [scrapes._last[name] - before[name] for name in (
            'received_bytes_total{type=console}', 'sent_bytes_total{type=console}')]
        client.close()
        wait_for(lambda: not served.sessions)
        assert scrapes._last['sent_bytes_total{type=console}'] == scrapes.read()['sent_bytes_total{type=console}']

    def test_fibers(self, served, scrapes, connect):
        client = connect(served)
        client.reply("f = require('fiber').create(function() require('fiber').sleep(1000) end)")
        assert 1 == scrapes.moved()['fibers']
        client.reply('f:cancel()')
        wait_for(lambda: scrapes.read()['fibers'] == 0)

    def test_the_binary_protocol(self, served, scrapes, connect_binary):
        client = connect_binary(served)
        assert [2] == client.eval('return 1 + 1')
        key = f'sessions{{listener={served.addresses[2]},type=binary,user=admin}}'
        run = {'statements_total{language=lua,type=binary}': 1, 'statement_seconds_count{type=binary}': 1}
        assert {key: 1, 'sessions_started_total{type=binary}': 1, **run} == scrapes.moved()
        for expression, kind in (('local =', 'syntax'), ("error('x')", 'runtime'),
                                 ("box.error(box.error.ACCESS_DENIED, 'a', 'b', 'c', 'd')", 'denied')):
            client.eval(expression)
            assert {f'errors_total{{kind={kind}}}': 1, **run} == scrapes.moved()
        client.close()
        wait_for(lambda: not served.sessions)
        assert {key: -1} == scrapes.moved()

    @pytest.mark.parametrize('sent', [
        BinaryClient.frame({0: 10, 1: 1}, {}), BinaryClient.frame({0: 10, 1: 1}, [5]), b'\xc1' * 10])
    def test_a_binary_request_that_is_none(self, served, scrapes, connect_binary, sent):
        client = connect_binary(served)
        scrapes.moved()
        client.sock.sendall(sent)
        client.receive()
        assert {'errors_total{kind=input}': 1} == scrapes.moved('sessions')
        client.close()
        wait_for(lambda: not served.sessions)

    def test_loop_lag(self, served, scrapes):
        before = scrapes._last
        time.sleep(0.5)                 # blocks the event loop
        wait_for(lambda: scrapes.read()['loop_lag_seconds_sum'] - before['loop_lag_seconds_sum'] > 0.3)

    def test_peers_and_tls(self, console, tmp_path, connect):
        authority = trustme.CA()
        certificate = authority.issue_cert('localhost')
        certificate.cert_chain_pems[0].write_to_path(str(tmp_path / 'cert.pem'))
        certificate.private_key_pem.write_to_path(str(tmp_path / 'key.pem'))
        files = {'cert': str(tmp_path / 'cert.pem'), 'key': str(tmp_path / 'key.pem')}
        served = console(listen=[{'address': f'unix:{tmp_path}/a.sock', 'peers': {12345: 'admin'}},
                                 {'address': '127.0.0.1:0', 'tls': files}], **SETTINGS)
        scrapes = Scrapes(served)
        assert b'may not connect' in connect(served, greeting=False).read_to_end()
        assert {'sessions_refused_total{reason=user}': 1} == scrapes.moved()
        client = connect(str(served.addresses[1]), greeting=False)
        client.send('this is no handshake\n' * 20)
        wait_for(lambda: scrapes.read()['sessions_refused_total{reason=tls}'] == 1)

    def test_the_audit_file(self, console, connect):
        served = console(audit={'file': '/dev/full'}, **SETTINGS)
        scrapes = Scrapes(served)
        connect(served).reply('1')
        assert 2 == scrapes.moved()['audit_failures_total']         # the session's start, the statement


def everything(served, connect):
    """A bit of all."""
    client, guest = connect(served), connect(str(served.addresses[1]))
    for statement in ('1', 'local =', "error('x')"):
        client.reply(statement)
    guest.reply('box.stat')
    binary = BinaryClient(served.addresses[2])
    binary.eval('return 1')
    binary.close()


def test_the_dashboard_asks_for_what_is_there(served, connect):
    everything(served, connect)
    there = {}
    for family in text_string_to_metric_families(get(served._running.metrics.address, '/metrics')[1]):
        for sample in family.samples:
            there.setdefault(sample.name, []).append(sample.labels)
    by_prometheus = {'job', 'instance'}
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [target['expr'] for panel in dashboard['panels'] for target in panel['targets']]
    assert len(expressions) > 15
    asked = set()
    for expression in expressions:
        selectors = re.findall(r'\b((?:boxsession|process)_\w+)\{([^}]*)\}', expression)
        assert selectors and len(selectors) == len(re.findall(r'\b(?:boxsession|process)_', expression)), expression
        grouped = {name.strip() for names in re.findall(r'\b(?:by|ignoring) \(?([^)]*)\)', expression)
                   for name in names.strip('(').split(',')}
        for name, matchers in selectors:
            assert name in there, expression
            asked.add(name)
            matched = dict(re.findall(r'(\w+)=~?"([^"]*)"', matchers))
            assert by_prometheus <= set(matched)
            wanted = {label: value for label, value in matched.items() if label not in by_prometheus}
            assert any(wanted.items() <= labels.items() for labels in there[name]), expression
        assert grouped <= {label for name, _ in selectors for labels in there[name] for label in labels}, expression
        # rate() is applied to counters only.
        for name in re.findall(r'rate\((\w+)', expression):
            assert name.endswith(('_total', '_bucket', '_sum', '_count')), expression
    assert {'boxsession_sessions', 'boxsession_errors_total', 'boxsession_loop_lag_seconds_bucket'} <= asked
    assert 'boxsession_build_info' in there


@need('promtool')
def test_promtool_has_nothing_to_say(served, connect):
    everything(served, connect)
    shown = get(served._running.metrics.address, '/metrics')[1]
    checked = subprocess.run(['promtool', 'check', 'metrics'], input=shown.encode(), capture_output=True, timeout=30)
    assert (0, b'') == (checked.returncode, checked.stderr)


def reference(text):
    """The list of docs/metrics.rst, from a scrape."""
    for family in text_string_to_metric_families(text):
        if family.name.startswith('boxsession_'):
            labels = dict.fromkeys(name for sample in family.samples for name in sample.labels if name != 'le')
            name = family.name + '_total' * (family.type == 'counter')
            yield f'``{name}`` ({", ".join([family.type, *labels])})\n    {family.documentation}\n'


def test_every_metric_is_documented(served, connect):
    everything(served, connect)
    shown = '\n'.join(reference(get(served._running.metrics.address, '/metrics')[1]))
    page = (PROJECT / 'docs' / 'metrics.rst').read_text()
    assert shown in page, 'put this into the page:\n' + shown
    for kind in served._running.statistics.snapshot()['errors']:
        assert f'\n``{kind}``\n' in page
    for name in re.findall(r'\b(?:boxsession|process)_\w+', page):
        assert re.search(rf'\b{name}\b', get(served._running.metrics.address, '/metrics')[1]), name


class TestBoxStat:
    def test_it_tells_the_same(self, served, connect):
        client = connect(served)
        client.reply("error('x')")
        statistics = client.value('box.stat()')
        assert set(served._running.statistics.snapshot()) == set(statistics)
        assert {'console': 1, 'binary': 0} == statistics['statements']
        assert 1 == statistics['errors']['runtime']
        assert [{'listener': str(served.addresses[0]), 'type': 'console', 'user': 'admin', 'current': 1}] == \
            statistics['sessions']['groups']
        assert statistics['seconds']['console']['count'] == statistics['seconds']['console']['buckets'][-1][1] == 1
        assert [2, 40] == client.values('box.stat.statements.console, box.stat.sessions.limit')
        assert client.value('box.stat.nosuch') is None
        assert 'read-only' in client.error('box.stat.own = 1')

    def test_as_tarantool_names_them(self, served, connect):
        client = connect(served)
        client.reply('1')
        net = client.value('box.stat.net()')
        assert {'current': 1, 'total': 1} == net['CONNECTIONS']
        assert {'current': 1, 'total': 1} == net['REQUESTS']
        assert net['RECEIVED']['total'] > 2 and net['SENT']['total'] > 128
        assert 2 == client.value('box.stat.net.REQUESTS.total')

    def test_requests_that_run(self, served, connect):
        client, other = connect(served), connect(served)
        other.send("require('fiber').sleep(1000)\n")
        while client.value('box.stat.net.REQUESTS.current') < 2:
            gevent.sleep(0.001)
        assert {'console': 2, 'binary': 0} == client.value('box.stat.running')

    def test_reset(self, served, connect):
        """Sums begin anew, states stay; the metrics do not fall."""
        client = connect(served)
        client.reply("error('x')")
        assert client.values('box.stat.reset()') is None
        found = client.value('box.stat()')
        assert {'console': 0, 'binary': 0} == found['sessions']['started'] and 1 == found['sessions']['current']
        assert 0 == found['errors']['runtime'] and 1 == found['statements']['console']
        assert found['seconds']['console']['count'] == found['seconds']['console']['buckets'][-1][1] <= 1
        assert found['memory']['lua'] > 0 and found['memory']['limit'] > 0 and 1 == found['running']['console']
        client.reply("error('x')")
        assert [1, 0] == client.values('box.stat.errors.runtime, box.stat.net.CONNECTIONS.total')
        assert 2 == served._running.statistics.snapshot()['errors']['runtime']


class TestServer:
    def test_health(self, served, connect):
        address = served._running.metrics.address
        assert (200, 'ok\n') == get(address, '/healthz')
        client = connect(served)
        client.send("require('fiber').sleep(1000)\n")
        wait_for(lambda: running(served))
        served._running.configure({'limits.drain_seconds': 50})
        stopping = gevent.spawn(served.stop)
        wait_for(lambda: get(address, '/healthz')[0] == 503)
        client.send(b'\x03')
        stopping.join()
        with pytest.raises(ConnectionRefusedError):
            get(address, '/healthz')

    @pytest.mark.parametrize(('request_', 'status'), [
        (b'GET / HTTP/1.1\r\n\r\n', 404), (b'POST /metrics HTTP/1.1\r\n\r\n', 405), (b'nonsense\n\n', 400),
        (b'OPTIONS /metrics HTTP/1.1\r\n\r\n', 405), (b'GET /metrics HTTP/1\r\n\r\n', 400),
        (b'GET /metrics HTTP/1.x\r\n\r\n', 400), (b'GET /metrics HTTP/1.1\r\nContent-Length: x\r\n\r\n', 400),
        (b'\x16\x03\x01' + b'\0' * 10000, 414), (b'GET /' + b'x' * 10000 + b' HTTP/1.1\r\n\r\n', 414),
        (b'GET /metrics HTTP/1.1\r\n' + b'a: b\r\n' * 1000, 400), (b'GET /metrics HTTP/1.1\r\n' + b'a: b\r\n' * 5000, 400),
        (b'GET /metrics HTTP/1.1\r\na: ' + b'b' * 100_000, 400),
        (b'POST /metrics HTTP/1.1\r\nContent-Length: 100000\r\n\r\n' + b'x' * 100_000, 405),
        (b'POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n', 405),
        (b'GET http://here/healthz HTTP/1.1\r\n\r\n', 200), (b'GET /metrics?name[]=x HTTP/1.0\n\n', 200),
        # A page of another host that has its name lead here.
        (b'GET /metrics HTTP/1.1\r\nHost: rebound.example:9000\r\n\r\n', 403),
        (b'GET /healthz HTTP/1.1\r\nA: b\r\nhOST:rebound.example\r\n\r\n', 403),
        (b'GET /metrics HTTP/1.1\r\nHost: localhost.example\r\n\r\n', 403),
        (b'GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: rebound.example\r\n\r\n', 403),
        (b'GET /metrics HTTP/1.1\r\na: ' + b'b' * 9000 + b'\r\nHost: rebound.example\r\n\r\n', 400),
        (b'GET /metrics HTTP/1.1\r\nHost: localhost:9000\r\n\r\n', 200),
        (b'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n', 200),
        (b'GET /metrics HTTP/1.1\r\nHost: [::1]:9000\r\n\r\n', 200)])
    def test_requests(self, served, request_, status):
        try:
            answer = ask(served._running.metrics.address, request_)
        except ConnectionResetError:        # closed with more of the request unread: the answer may be lost
            assert len(request_) > 9000
        else:
            assert answer.startswith(f'HTTP/1.1 {status} '.encode())
        assert 200 == get(served._running.metrics.address, '/healthz')[0]

    def test_head(self, served):
        answer = ask(served._running.metrics.address, b'HEAD /metrics HTTP/1.1\r\n\r\n')
        assert answer.startswith(b'HTTP/1.1 200 ') and answer.endswith(b'\r\n\r\n')
        assert int(re.search(rb'\r\nContent-Length: (\d+)\r\n', answer)[1]) > 1000

    def test_nothing_of_a_request_is_printed(self, served, capfd, caplog):
        address = served._running.metrics.address
        with caplog.at_level('DEBUG', 'boxsession'):
            ask(address, b'GET /healthz\x1b HTTP/1.1\r\n\r\n')
            ask(address, b'\x1b\n\n')
            ask(address, b'GET / HTTP/1.1\r\n' + b'a: b\r\n' * 200 + b'\r\n')
        assert '' == ''.join(capfd.readouterr())
        assert 3 == sum('\\x1b' in record.getMessage() for record in caplog.records if record.levelname == 'DEBUG')
        assert '\x1b' not in caplog.text

    @pytest.mark.parametrize('connection', [b'keep-alive', b'close', b'Upgrade'])
    def test_a_connection_gets_one_answer(self, served, connection):
        request = b'GET /healthz HTTP/1.1\r\nConnection: %s\r\n\r\n' % connection
        assert 1 == ask(served._running.metrics.address, request * 3).count(b'HTTP/1.1 200 OK\r\n')

    def test_who_says_nothing_is_closed_in_favour_of_others(self, served, monkeypatch, capfd):
        monkeypatch.setattr(boxsession.operations.metrics, '_SECONDS', 1000.0)
        address = served._running.metrics.address
        silent = [socket.create_connection((address.host, address.port)) for _ in range(30)]
        try:
            assert 200 == get(address, '/metrics')[0]
            silent[0].settimeout(30)
            assert b'' == silent[0].recv(1)
        finally:
            for sock in silent:
                sock.close()
        assert '' == ''.join(capfd.readouterr())

    @pytest.mark.parametrize('request_', [b'', b'GET /metrics', b'GET /metrics HTTP/1.1\r\n',
                                          b'POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n'])
    def test_who_is_slow_is_closed_in_the_end(self, served, monkeypatch, request_):
        monkeypatch.setattr(boxsession.operations.metrics, '_SECONDS', 0.05)
        answer = ask(served._running.metrics.address, request_)
        assert b'' == answer or request_.startswith(b'POST') and answer.startswith(b'HTTP/1.1 405 ')

    @pytest.mark.parametrize('is_endless', [False, True])
    def test_who_sends_on_and_on_is_closed_in_the_end(self, served, monkeypatch, is_endless):
        monkeypatch.setattr(boxsession.operations.metrics, '_SECONDS', 1000.0 if is_endless else 0.1)
        address = served._running.metrics.address
        with socket.create_connection((address.host, address.port)) as sock:
            sock.sendall(b'GET /metrics HTTP/1.1\r\na: ')

            def is_closed():
                try:
                    sock.sendall(b'b' * 10000 if is_endless else b'b')
                except (ConnectionResetError, BrokenPipeError):
                    return True
                return False

            wait_for(is_closed)

    def test_who_does_not_read_is_closed_in_the_end(self, served, monkeypatch, capfd):
        metrics = served._running.metrics
        monkeypatch.setattr(boxsession.operations.metrics, '_SECONDS', 0.1)
        monkeypatch.setattr(boxsession.operations.metrics, 'generate_latest', lambda registry: b'x' * (50 << 20))
        with socket.create_connection((metrics.address.host, metrics.address.port)) as sock:
            sock.sendall(b'GET /metrics HTTP/1.1\r\n\r\n')
            wait_for(lambda: metrics._greenlets)
            wait_for(lambda: not metrics._greenlets)
            sock.settimeout(30)
            received = 0
            while data := sock.recv(1 << 20):
                received += len(data)
        assert 0 < received < 50 << 20
        assert '' == ''.join(capfd.readouterr())

    def test_a_unix_socket(self, served, tmp_path):
        served.serve_metrics(f'unix:{tmp_path}/m.sock')
        assert 200 == get(f'unix:{tmp_path}/m.sock', '/metrics')[0]
        served.serve_metrics(None)
        assert not (tmp_path / 'm.sock').exists()

    def test_another_address(self, served):
        with pytest.raises(ListenError):
            served.serve_metrics(str(served.addresses[0]))
        old = served._running.metrics
        assert 200 == get(old.address, '/metrics')[0]           # still served
        served.serve_metrics(f'127.0.0.1:{old.address.port}')   # the same port, written in another way
        assert served._running.metrics is not old and 200 == get(old.address, '/metrics')[0]
        old = served._running.metrics
        served.serve_metrics(str(old.address))
        assert served._running.metrics is old
        served.serve_metrics(None)
        assert served._running.metrics is None
        with pytest.raises(ConnectionRefusedError):
            get(old.address, '/metrics')
        served.serve_metrics(None)

    def test_an_address_that_is_taken(self, served):
        other = Console(listen=['127.0.0.1:0'], config={'metrics': {'address': str(served._running.metrics.address)}})
        with pytest.raises(ListenError, match='in use'):
            other.start()
        assert not other.addresses
        with pytest.raises(RuntimeError, match='not started'):
            other.serve_metrics('127.0.0.1:0')

    def test_without_the_library(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'prometheus_client', None)
        monkeypatch.delitem(sys.modules, 'boxsession.operations.metrics', raising=False)
        console = Console(listen=['127.0.0.1:0'], config=SETTINGS)
        with pytest.raises(ConfigError, match=re.escape("pip install '.[metrics]' in a checkout")):
            console.start()
        assert not console.addresses

    def test_the_daemon_tells_where(self, serve, tmp_path):
        (tmp_path / 'config.yml').write_text('listen: ["127.0.0.1:0"]\nmetrics: {address: "127.0.0.1:0"}\n')
        served = serve('-c', 'config.yml')
        served.addresses()
        [address] = wait_for(lambda: re.findall(r'^listening: metrics (\S+)\n', served.stderr, re.MULTILINE))
        assert 'boxsession_sessions_limit 10000' in get(address, '/metrics')[1]
        assert 0 == served.stop()

    def test_nobody_pays_for_what_is_not_asked_for(self):
        code = ("import sys; from boxsession import Console; c = Console(listen=['127.0.0.1:0']); c.start(); c.stop(); "
                "sys.exit('prometheus_client' in sys.modules)")
        assert 0 == subprocess.run([sys.executable, '-c', code], timeout=30).returncode


def test_many_users_have_a_bounded_number_of_labels():
    groups = [{'listener': 'l', 'type': 'console', 'user': f'u{number}', 'current': 2} for number in range(1000)]
    shown = boxsession.operations.metrics._groups(groups)
    assert 201 == len(shown) and 2000 == sum(shown.values())
    assert 1600 == shown['', 'console', '']


def test_a_histogram():
    histogram = Histogram()
    histogram.observe(0.00005)
    histogram.observe(0.5, 5)           # a tenth of a second each
    histogram.observe_last(2.0, 3)      # one took it
    histogram.observe_last(0.0009, 3)   # all did
    histogram.observe(100.0)
    told = histogram.snapshot()
    at_most = dict(told['buckets'])
    assert [3, 6, 11, 11, 12, 12] == [at_most[bound] for bound in (0.0001, 0.05, 0.1, 1.0, 2.5, 30.0)]
    assert 13 == told['count'] and list(BOUNDS) == list(at_most)
    assert told['seconds'] == pytest.approx(102.50095)
