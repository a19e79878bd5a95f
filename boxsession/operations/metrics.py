"""Numbers for Prometheus at /metrics, and /healthz for whoever asks whether the server lives: on an address of their own.

It answers GET and nothing else, one request for each connection, with no thread. It shows numbers and names of users and
listeners, runs nothing, and asks nobody for a password.
"""
from __future__ import annotations

import logging
import platform
import re
from collections.abc import Callable, Iterator
from typing import Any

from gevent import Timeout, get_hub, getcurrent, socket
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from boxsession.base.address import Address
from boxsession.base.version import __version__
from boxsession.net.listener import Listener
from boxsession.settings.table import ListenerConfig

__all__ = ['MetricsServer', 'families']

log = logging.getLogger('boxsession')

# A request is read and answered in so long, or its connection is closed.
_SECONDS = 5.0
# Connections at a time: for one more, the oldest is closed.
_CONNECTIONS = 8
_REQUEST_BYTES = 8192
# Labels that users make, in one scrape: the largest groups have their own, the others are summed up without a name.
_GROUPS = 200

_REQUEST = re.compile(rb'(GET|HEAD) (?:http://[^/ ]*)?(/[^ ?]*)(?:\?[^ ]*)? HTTP/1\.[01]\r?\n')
_HOST = re.compile(rb'\nhost:[ \t]*(\[[0-9a-f:.]*\]|[^:\r\n \t]*)', re.IGNORECASE)
# What a client on this machine may call it: a name without a dot, or a number. A browser that a page led here by a name of
# its own domain (DNS rebinding) sends that.
_LOCAL_HOST = re.compile(rb'[^.]*|(.*\.)?localhost\.?|[0-9.]+|\[.*\]', re.IGNORECASE)
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
    """What generate_latest() asks."""

    def __init__(self, statistics: Callable[[], dict[str, Any]]):
        self._statistics = statistics

    def collect(self):
        return families(self._statistics())

    def describe(self):
        return []


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
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
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
                sock.sendall(self._answer(_read_request(sock)))
        except OSError as error:
            log.debug('metrics: %s', error)
        finally:
            self._greenlets.pop(greenlet, None)
            sock.close()

    def _answer(self, request: bytes) -> bytes:
        found = _REQUEST.match(request)
        if found is None:
            return _response('400 Bad Request', 'expected GET /metrics or GET /healthz\n', False)
        only_head = found[1] == b'HEAD'
        host = _HOST.search(request)
        if host and self._is_loopback and not _LOCAL_HOST.fullmatch(host[1]):
            return _response('403 Forbidden', 'a local address: ask for it as localhost, or by its number\n', only_head)
        if found[2] == b'/metrics':
            # To count its files takes the kernel milliseconds, where a process has thousands: that is done in a thread,
            # which sees nothing of the console.
            process = get_hub().threadpool.apply(generate_latest, (self._process,))
            return _response('200 OK', generate_latest(self._registry) + process, only_head, CONTENT_TYPE_LATEST)
        if found[2] == b'/healthz':
            if self._is_serving():
                return _response('200 OK', 'ok\n', only_head)
            return _response('503 Service Unavailable', 'no new sessions: starting, or draining\n', only_head)
        return _response('404 Not Found', 'here are /metrics and /healthz\n', only_head)


def _read_request(sock) -> bytes:
    """A request's line and headers, or as much as is wanted of what is none."""
    request = b''
    while b'\n\r\n' not in request and b'\n\n' not in request and len(request) < _REQUEST_BYTES:
        data = sock.recv(_REQUEST_BYTES)
        if not data:
            break
        request += data
    return request


def _response(status: str, body: str | bytes, only_head: bool, content_type: str = _TEXT) -> bytes:
    if isinstance(body, str):
        body = body.encode()
    head = (f'HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n'
            'Connection: close\r\n\r\n').encode()
    return head if only_head else head + body
