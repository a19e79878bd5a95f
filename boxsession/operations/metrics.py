"""Numbers for Prometheus at /metrics, and /healthz, which tells whether the server lives: on an address of their own.

It answers GET and HEAD, one request for each connection. It shows numbers and names of users and listeners, runs nothing,
and asks for no password. gevent's WSGI server reads the requests, but accepts no clients: the package's own listener does.
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
from boxsession.base.version import __version__
from boxsession.net.listener import Listener
from boxsession.settings.table import ListenerConfig

__all__ = ['MetricsServer', 'families']

log = logging.getLogger('boxsession')

# Deadline for reading a request and sending its answer. The connection is closed then.
_SECONDS = 5.0
# Connections at a time: for one more, the oldest is closed.
_CONNECTIONS = 8
# The longest request, with its headers.
_REQUEST_BYTES = 8192
# Labels that users make, in one scrape: the largest groups have their own, the others are summed up without a name.
_GROUPS = 200

# Host headers of clients on this machine: a name without a dot, a subdomain of localhost, or a number. A browser that was
# led here by another name of an attacker's domain (DNS rebinding) sends that name.
_LOCAL_HOST = re.compile(r'([^.:]*|(.*\.)?localhost\.?|[0-9.]+|\[[0-9a-f:.]*\])(:[0-9]*)?', re.IGNORECASE)
# A proxy sends the whole URL.
_ORIGIN = re.compile(r'http://[^/]*')
_TEXT = 'text/plain; charset=utf-8'


def families(statistics: dict[str, Any]) -> Iterator[Metric]:
    """The metrics of `boxsession.operations.statistics.Statistics.snapshot()`."""
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
    yield gauge('build_info', 'What runs: always 1.', {(__version__, platform.python_version()): 1}, 'version', 'python')
    yield gauge('sessions', 'Sessions now; those beyond the largest groups are without a listener and a user.',
                _groups(sessions['groups']), 'listener', 'type', 'user')
    yield gauge('sessions_limit', 'Sessions that there may be (limits.sessions); 0 for no limit.', sessions['limit'])
    yield counter('sessions_started', 'Sessions that have begun, by what they speak.', sessions['started'], 'type')
    yield counter('sessions_refused', 'Clients that got no session: for limits.sessions, a failed TLS handshake, a peer '
                  'that is no user, an error in on_connect, or lines of another protocol (foreign).',
                  sessions['refused'], 'reason')
    yield counter('statements', 'Statements of text consoles and requests of the binary protocol that were answered.',
                  statistics['statements'], 'type')
    yield histogram('statement_seconds', 'How long statements and requests took that were run here, their waits included.',
                    statistics['seconds'], 'type')
    yield counter('errors', 'Errors that statements and requests ended in, and input that was not run (input), by kind.',
                  statistics['errors'], 'kind')
    yield counter('cancels', 'Running statements that were cancelled: by Ctrl-C, box.session.cancel() or the server\'s '
                  'stop.', statistics['cancels'])
    yield counter('kills', 'Sessions that box.session.kill() ended.', statistics['kills'])
    yield counter('denials', 'Accesses that were denied.', statistics['denied'])
    yield counter('failed_logins', 'Attempts to log in with a wrong name or password.', statistics['failed_logins'])
    yield counter('audit_failures', 'Entries that could not be written to the audit file.', statistics['audit_failures'])
    yield counter('limit_hits', 'How often each limit was met, by the name of its setting.', statistics['limits'], 'limit')
    yield counter('received_bytes', 'Bytes that clients sent.', statistics['bytes_in'], 'type')
    yield counter('sent_bytes', 'Bytes that clients were sent.', statistics['bytes_out'], 'type')
    yield gauge('lua_memory_bytes', 'Bytes that the Lua state holds, its garbage included.', memory['lua'])
    yield gauge('lua_memory_limit_bytes', 'Bytes that it may hold (limits.lua_memory_bytes); 0 for no limit.',
                memory['limit'])
    yield gauge('fibers', 'Fibers that statements have started and that have not ended.', statistics['fibers'])
    yield histogram('loop_lag_seconds', 'How late the event loop was, looked at ten times a second.',
                    {(): statistics['loop_lag']})


def _filled(family, numbers):
    """Adds samples: one number, or numbers by label."""
    if isinstance(numbers, dict):
        for label, number in numbers.items():
            family.add_metric(label if isinstance(label, tuple) else (label,), number)
    else:
        family.add_metric((), numbers)
    return family


def _groups(groups):
    shown = {(group['listener'], group['type'], group['user']): group['current'] for group in groups[:_GROUPS]}
    for group in groups[_GROUPS:]:
        rest = '', group['type'], ''
        shown[rest] = shown.get(rest, 0) + group['current']
    return shown


class _Sessions(Collector):
    """The console's numbers, as prometheus_client asks for them."""

    def __init__(self, statistics: Callable[[], dict[str, Any]]):
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        return families(self._statistics())

    def describe(self) -> Iterable[Metric]:
        return []


class _Process(Collector):
    """The process' numbers. To count its files takes the kernel milliseconds where there are thousands, so that is done in
    a thread, which sees nothing of the console."""

    def __init__(self) -> None:
        self._collector = ProcessCollector(registry=None)

    def collect(self) -> Iterable[Metric]:
        return get_hub().threadpool.apply(self._collector.collect)

    def describe(self) -> Iterable[Metric]:
        return []


class _Request(io.RawIOBase):
    """The file that a request is read from. It ends in an error at the limit: a request of which only a part was looked at,
    and its Host maybe not, is not answered."""

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
    """gevent's handler of a connection, for clients that nobody trusts."""

    def __init__(self, sock: Any, address: Any, server: Any):
        super().__init__(sock, address, server, rfile=io.BufferedReader(_Request(sock), _REQUEST_BYTES))

    def read_request(self, raw_requestline: str) -> bool:
        try:
            return super().read_request(raw_requestline)
        except Exception as error:          # gevent prints the traceback of anything but a ValueError
            raise ValueError(repr(error)) from error

    def handle_error(self, t: Any, v: BaseException, tb: TracebackType | None) -> None:
        raise v                             # gevent would go on after a timeout, or after it was killed


class _Log:
    """Where gevent's server logs requests and what was wrong with them."""

    def write(self, line: str) -> None:
        log.debug('metrics: %r', line.rstrip())     # it holds what the client sent


class MetricsServer:
    """Serves /metrics and /healthz.

    Args:
        address: where.
        statistics: gives the numbers of the moment.
        is_serving: whether clients are accepted now.
    """

    def __init__(self, address: Address, statistics: Callable[[], dict[str, Any]], is_serving: Callable[[], bool]):
        self.config_address = address           # with the port that was asked for
        self._is_loopback = address.is_local and not address.path
        self._listener = Listener(ListenerConfig(address), self._serve)
        self._is_serving = is_serving
        self._registry = CollectorRegistry()
        self._registry.register(_Sessions(statistics))
        self._registry.register(_Process())
        # It is never started.
        self._server = WSGIServer(('', 0), self._application, log=_Log(), error_log=_Log(), handler_class=_Handler)
        self._greenlets: dict[Any, None] = {}       # the oldest first

    @property
    def address(self) -> Address:
        """Where it listens, with the port that was taken."""
        return self._listener.address

    def start(self) -> None:
        """Listens.

        Raises:
            ListenError: the address cannot be had.
        """
        self._listener.bind()
        self._listener.start()

    def stop(self) -> None:
        """Gives the address back and closes what is open. Stopping twice is no error."""
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
        sock = socket.socket(sock.family, sock.type, fileno=sock.detach())
        try:
            with Timeout(_SECONDS, False):
                self._server.handle(sock, peer)
        except OSError as error:
            log.debug('metrics: %s', error)
        finally:
            self._greenlets.pop(greenlet, None)
            sock.close()

    def _application(self, environ: dict[str, Any], start_response: Callable) -> list[bytes]:
        """The WSGI application. It answers HEAD itself: prometheus_client's own application cannot."""
        status, body = self._answer(environ)
        content_type = _TEXT if isinstance(body, str) else CONTENT_TYPE_LATEST
        data = body.encode() if isinstance(body, str) else body
        start_response(status, [('Content-Type', content_type), ('Content-Length', str(len(data))), ('Connection', 'close'),
                                *([('Allow', 'GET, HEAD')] if status.startswith('405') else [])])
        return [] if environ['REQUEST_METHOD'] == 'HEAD' else [data]

    def _answer(self, environ: dict[str, Any]) -> tuple[str, str | bytes]:
        """A request's status, and its text or the metrics."""
        if environ['REQUEST_METHOD'] not in ('GET', 'HEAD'):
            return '405 Method Not Allowed', 'expected GET or HEAD\n'
        if self._is_loopback and not _LOCAL_HOST.fullmatch(environ.get('HTTP_HOST', '')):
            return '403 Forbidden', 'a local address: ask for it as localhost, or by its number\n'
        path = _ORIGIN.sub('', environ['PATH_INFO'], count=1)
        if path == '/metrics':
            return '200 OK', generate_latest(self._registry)
        if path == '/healthz':
            if self._is_serving():
                return '200 OK', 'ok\n'
            return '503 Service Unavailable', 'no new sessions: starting, or draining\n'
        return '404 Not Found', 'here are /metrics and /healthz\n'
