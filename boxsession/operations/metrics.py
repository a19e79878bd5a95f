"""The HTTP server of the metrics: /metrics for Prometheus, and /healthz, which says whether the console accepts sessions.

It answers GET and HEAD, one request for each connection. It shows numbers and the names of users and listeners, runs no
statements, and asks for no password. gevent's WSGI server reads the requests; a listener of this package accepts the
clients.
"""
from __future__ import annotations

import io
import logging
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from gevent import Timeout, get_hub, getcurrent, socket
from gevent.pywsgi import WSGIHandler, WSGIServer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from boxsession.base.address import Address
from boxsession.base.inherited import own
from boxsession.base.version import __version__
from boxsession.net.listener import Listener
from boxsession.settings.table import ListenerConfig

__all__ = ['MetricsServer', 'families']

log = logging.getLogger('boxsession')

# How long a connection may take to send its request and read the answer, in seconds. Then it is closed.
_SECONDS = 5.0
# The most concurrent connections: one more closes the oldest.
_CONNECTIONS = 8
# The longest request, headers included.
_REQUEST_BYTES = 8192
# The most groups of sessions with labels of their own in one scrape. The sessions of smaller groups are summed up, with
# empty labels.
_GROUPS = 200

# The Host headers that a local address accepts: a name without a dot, localhost and its subdomains, an IP address. With DNS
# rebinding, a browser would send the domain name of the attacker instead.
_LOCAL_HOST = re.compile(r'([^.:]*|(.*\.)?localhost\.?|[0-9.]+|\[[0-9a-f:.]*\])(:[0-9]*)?', re.IGNORECASE)
# Proxies may send the whole URL in the request line.
_ORIGIN = re.compile(r'http://[^/]*')
_TEXT = 'text/plain; charset=utf-8'


def families(statistics: dict[str, Any]) -> Iterator[Metric]:
    """The metrics, made of `boxsession.operations.statistics.Statistics.snapshot()`."""
    def counter(name, help, numbers, *labels):
        return _filled(CounterMetricFamily(f'boxsession_{name}', help, labels=labels), numbers)

    def gauge(name, help, numbers, *labels):
        return _filled(GaugeMetricFamily(f'boxsession_{name}', help, labels=labels), numbers)

    def histogram(name, help, snapshots, *labels):
        family = HistogramMetricFamily(f'boxsession_{name}', help, labels=labels)
        for label, snapshot in snapshots.items():
            buckets = [(str(float(bound)), number) for bound, number in snapshot['buckets']]
            family.add_metric(label if isinstance(label, tuple) else (label,), [*buckets, ('+Inf', snapshot['count'])],
                              snapshot['seconds'])
        return family

    sessions, memory = statistics['sessions'], statistics['memory']
    yield gauge('build_info', 'Versions of boxsession and Python; always 1.', {(__version__, platform.python_version()): 1},
                'version', 'python')
    yield gauge('sessions', f'Live sessions. Beyond the {_GROUPS} largest groups, listener and user are empty.',
                _groups(sessions['groups']), 'listener', 'type', 'user')
    yield gauge('sessions_limit', 'The most concurrent sessions (limits.sessions); 0 for no limit.', sessions['limit'])
    yield counter('sessions_started', 'Sessions that have begun, by protocol.', sessions['started'], 'type')
    yield counter('sessions_refused', 'Clients that got no session, by reason: limits.sessions (limit), a failed TLS '
                  'handshake (tls), no user for the peer (user), an error in on_connect, or lines of another protocol '
                  '(foreign).', sessions['refused'], 'reason')
    yield counter('statements', 'Statements of text consoles and requests of the binary protocol that were answered.',
                  _by_language(statistics), 'type', 'language')
    yield histogram('statement_seconds', 'Duration of statements and requests that ran here, including their waits.',
                    statistics['seconds'], 'type')
    yield counter('errors', 'Statements and requests that ended in an error, and input that was not run (input), by kind.',
                  statistics['errors'], 'kind')
    yield counter('cancels', 'Running statements that were cancelled: by Ctrl-C, box.session.cancel() or the stop of the '
                  'server.', statistics['cancels'])
    yield counter('kills', 'Sessions that box.session.kill() ended.', statistics['kills'])
    yield counter('denials', 'Accesses that were denied.', statistics['denied'])
    yield counter('failed_logins', 'Logins with a wrong name or password.', statistics['failed_logins'])
    yield counter('audit_failures', 'Entries that could not be written to the audit file.', statistics['audit_failures'])
    yield counter('limit_hits', 'How often each limit was reached, by the name of its setting.', statistics['limits'],
                  'limit')
    yield counter('received_bytes', 'Bytes received from clients.', statistics['bytes_in'], 'type')
    yield counter('sent_bytes', 'Bytes sent to clients.', statistics['bytes_out'], 'type')
    yield gauge('lua_memory_bytes', 'Bytes that the Lua state holds, including garbage.', memory['lua'])
    yield gauge('lua_memory_limit_bytes', 'The memory limit of the Lua state in bytes (limits.lua_memory_bytes); 0 for no '
                'limit.', memory['limit'])
    yield gauge('fibers', 'Fibers that statements have started and that have not ended.', statistics['fibers'])
    yield histogram('loop_lag_seconds', 'Delay of the event loop, measured ten times a second.',
                    {(): statistics['loop_lag']})


def _filled(family, numbers):
    """Adds samples to a family: one number, or a dict of numbers by label."""
    if isinstance(numbers, dict):
        for label, number in numbers.items():
            family.add_metric(label if isinstance(label, tuple) else (label,), number)
    else:
        family.add_metric((), numbers)
    return family


def _by_language(statistics):
    """The numbers of statements by type of session and language. Only text consoles have statements in Python."""
    python = statistics['languages']['python']
    numbers = {(kind, 'lua'): number for kind, number in statistics['statements'].items()}
    numbers['console', 'lua'] -= python
    return {**numbers, ('console', 'python'): python}


def _groups(groups):
    shown = {(group['listener'], group['type'], group['user']): group['current'] for group in groups[:_GROUPS]}
    for group in groups[_GROUPS:]:
        rest = '', group['type'], ''
        shown[rest] = shown.get(rest, 0) + group['current']
    return shown


class _Sessions(Collector):
    """Collects the metrics of the console, for prometheus_client."""

    def __init__(self, statistics: Callable[[], dict[str, Any]]):
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        return families(self._statistics())

    def describe(self) -> Iterable[Metric]:
        return []


class _Process(Collector):
    """Collects the metrics of the process. With thousands of open files, counting them takes milliseconds, so a thread does
    that. It uses nothing of the console."""

    def __init__(self) -> None:
        self._collector = ProcessCollector(registry=None)

    def collect(self) -> Iterable[Metric]:
        return get_hub().threadpool.apply(self._collector.collect)

    def describe(self) -> Iterable[Metric]:
        return []


class _Request(io.RawIOBase):
    """The file that a request is read from. At the limit it raises an error, so a request is answered only if all its
    headers were read, the Host header included."""

    def __init__(self, sock: Any):
        self._sock = sock
        self._left = _REQUEST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            raise OSError(f'the request is longer than {_REQUEST_BYTES} bytes')
        received = self._sock.recv_into(buffer, min(self._left, len(buffer)))
        self._left -= received
        return received


class _Handler(WSGIHandler):
    """gevent's handler of a connection, made safe for untrusted clients."""

    def __init__(self, sock: Any, address: Any, server: Any):
        super().__init__(sock, address, server, rfile=io.BufferedReader(_Request(sock), _REQUEST_BYTES))

    def read_request(self, raw_requestline: str) -> bool:
        try:
            return super().read_request(raw_requestline)
        except Exception as error:          # of every other exception gevent prints the traceback
            raise ValueError(repr(error)) from error

    def handle_error(self, t: Any, v: BaseException, tb: TracebackType | None) -> None:
        raise v                             # gevent would swallow a Timeout and a GreenletExit, and continue


class _Log:
    """The log file for gevent's server, which writes requests and errors."""

    def write(self, line: str) -> None:
        log.debug('metrics: %r', line.rstrip())     # %r: the line has text of the client


class MetricsServer:
    """Serves /metrics and /healthz.

    Args:
        address: the address to listen on.
        statistics: returns the current numbers, as `Statistics.snapshot()`.
        is_serving: whether the console accepts sessions now.

    Attributes:
        config_address: the address as configured, maybe with port 0.
    """

    def __init__(self, address: Address, statistics: Callable[[], dict[str, Any]], is_serving: Callable[[], bool]):
        self.config_address = address
        self._is_loopback = address.is_local and not address.path
        self._listener = Listener(ListenerConfig(address), self._serve)
        self._is_serving = is_serving
        self._registry = CollectorRegistry()
        self._registry.register(_Sessions(statistics))
        self._registry.register(_Process())
        # Only its handle() is used; it is never started, and listens nowhere.
        self._server = WSGIServer(('', 0), self._application, log=_Log(), error_log=_Log(), handler_class=_Handler)
        self._greenlets: dict[Any, None] = {}       # the oldest first

    @property
    def address(self) -> Address:
        """The address, with the real port."""
        return self._listener.address

    def start(self) -> None:
        """Listens and accepts clients.

        Raises:
            ListenError: the address is taken or invalid.
        """
        self._listener.bind()
        self._listener.start()

    def stop(self) -> None:
        """Releases the address and closes all connections. Stopping twice is no error."""
        self._listener.stop()
        for greenlet in list(self._greenlets):
            greenlet.kill(block=False)

    def _serve(self, sock, peer, listener):
        """The body of a client's greenlet."""
        greenlet = getcurrent()
        if len(self._greenlets) >= _CONNECTIONS:
            oldest = next(iter(self._greenlets))
            del self._greenlets[oldest]
            oldest.kill(block=False)
        self._greenlets[greenlet] = None
        sock = own(socket.socket(sock.family, sock.type, fileno=sock.detach()))
        try:
            with Timeout(_SECONDS, False):
                self._server.handle(sock, peer)
        except OSError as error:
            log.debug('metrics: %s', error)
        finally:
            self._greenlets.pop(greenlet, None)
            sock.close()

    def _application(self, environ: dict[str, Any], start_response: Callable) -> list[bytes]:
        """The WSGI application. It replaces the one of prometheus_client, which cannot answer HEAD."""
        status, body = self._answer(environ)
        content_type = _TEXT if isinstance(body, str) else CONTENT_TYPE_LATEST
        data = body.encode() if isinstance(body, str) else body
        start_response(status, [('Content-Type', content_type), ('Content-Length', str(len(data))), ('Connection', 'close'),
                                *([('Allow', 'GET, HEAD')] if status.startswith('405') else [])])
        return [] if environ['REQUEST_METHOD'] == 'HEAD' else [data]

    def _answer(self, environ: dict[str, Any]) -> tuple[str, str | bytes]:
        """The status of a request, and the body: a text, or the metrics as bytes."""
        if environ['REQUEST_METHOD'] not in ('GET', 'HEAD'):
            return '405 Method Not Allowed', 'expected GET or HEAD\n'
        if self._is_loopback and not _LOCAL_HOST.fullmatch(environ.get('HTTP_HOST', '')):
            return '403 Forbidden', 'refused: this is a local address; use localhost or its IP address in the URL\n'
        path = _ORIGIN.sub('', environ['PATH_INFO'], count=1)
        if path == '/metrics':
            return '200 OK', generate_latest(self._registry)
        if path == '/healthz':
            if self._is_serving():
                return '200 OK', 'ok\n'
            return '503 Service Unavailable', 'no new sessions are accepted: the console is starting or draining\n'
        return '404 Not Found', 'not found: expected /metrics or /healthz\n'
