"""Statistics since the start, as plain values, for box.stat() and the metrics.

Connections count their statements and bytes, the runtime counts errors and limits; the sums are made here on request. The
counts of ended sessions are kept, so no sum ever falls.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from boxsession.base.counters import PYTHON_STATEMENTS
from boxsession.base.histogram import Histogram
from boxsession.base.session import TYPES, Session
from boxsession.lua.bridge import Runtime
from boxsession.operations.audit import Audit

__all__ = ['Statistics']

_REFUSALS = ('limit', 'tls', 'user', 'on_connect', 'foreign')
# Groups of the snapshot that tell a state, not a sum; and such fields of other groups.
_STATES = {'running', 'memory', 'fibers'}
_STATE_FIELDS = {'current', 'limit', 'groups'}


class Counted(Protocol):
    """The part of a session's connection that is used here."""

    @property
    def session(self) -> Session: ...
    def counters(self) -> tuple[int, int, int]: ...         # statements, bytes in, bytes out
    def running_count(self) -> int: ...                     # statements that run now


class Statistics:
    """The sums of one console.

    Args:
        connections: the live connections; the keys are not used.
        runtime: counts errors, limits and durations.
        settings: the settings in force, by dotted name.
        limits: the names of the settings whose hits are counted.
        audit: counts the entries that it could not write.
        loop_lag: how late the beats of the event loop were.
    """

    def __init__(self, connections: Mapping[int, Counted], runtime: Runtime, settings: Mapping[str, Any],
                 limits: tuple[str, ...], audit: Audit, loop_lag: Histogram):
        self._connections = connections
        self._runtime = runtime
        self._settings = settings
        self._limits = limits
        self._audit = audit
        self._loop_lag = loop_lag
        self._started = dict.fromkeys(TYPES, 0)
        self._ended = {kind: (0, 0, 0) for kind in TYPES}       # statements, bytes in, bytes out of ended sessions
        self._before: dict[str, Any] | None = None              # the snapshot of the last reset()

    def begin(self, session: Session) -> None:
        """Counts a session that has begun."""
        self._started[session.type] += 1

    def end(self, connection: Counted) -> None:
        """Keeps the counts of an ended session. Its connection must have left the live ones."""
        kind = connection.session.type
        statements, received, sent = connection.counters()
        ended = self._ended[kind]
        self._ended[kind] = ended[0] + statements, ended[1] + received, ended[2] + sent

    def reset(self) -> None:
        """Begins the sums of since_reset() anew. Those of snapshot(), which the metrics show, never fall."""
        self._before = self.snapshot()

    def since_reset(self) -> dict[str, Any]:
        """The same as snapshot(), with the sums since the last reset()."""
        now = self.snapshot()
        return now if self._before is None else {
            name: group if name in _STATES else _difference(group, self._before[name]) for name, group in now.items()}

    def snapshot(self) -> dict[str, Any]:
        """All numbers, of one moment: no greenlet switch happens meanwhile. docs/metrics.rst describes them."""
        groups: dict[tuple[str, str, str], list[int]] = {}
        running = dict.fromkeys(TYPES, 0)
        for connection in self._connections.values():
            session = connection.session
            key = session.listener, session.type, session.user
            group = groups.get(key)
            if group is None:
                group = groups[key] = [0, 0, 0, 0]
            statements, bytes_in, bytes_out = connection.counters()
            group[0] += 1
            group[1] += statements
            group[2] += bytes_in
            group[3] += bytes_out
            running[session.type] += connection.running_count()
        sums = {kind: list(ended) for kind, ended in self._ended.items()}
        for (_, kind, _), group in groups.items():
            sums[kind] = list(map(sum, zip(sums[kind], group[1:], strict=True)))
        runtime, settings = self._runtime, self._settings
        hits = runtime.counters.hits
        python = hits[PYTHON_STATEMENTS]
        return {
            'sessions': {
                'current': len(self._connections), 'limit': settings['limits.sessions'],
                'started': dict(self._started),
                'refused': {reason: hits[f'refused.{reason}'] for reason in _REFUSALS},
                'groups': [{'listener': listener, 'type': kind, 'user': user, 'current': number}
                           for (listener, kind, user), (number, *_) in
                           sorted(groups.items(), key=lambda item: -item[1][0])]},
            'statements': {kind: counted[0] for kind, counted in sums.items()},
            'languages': {'lua': sum(counted[0] for counted in sums.values()) - python, 'python': python},
            'running': running,
            'seconds': {kind: runtime.counters.seconds_taken[kind].snapshot() for kind in TYPES},
            'errors': runtime.errors(),
            'bytes_in': {kind: counted[1] for kind, counted in sums.items()},
            'bytes_out': {kind: counted[2] for kind, counted in sums.items()},
            'cancels': hits['cancels'], 'kills': hits['kills'],
            'denied': hits['denied'], 'failed_logins': hits['failed_logins'],
            'audit_failures': self._audit.failures,
            'limits': {name.partition('.')[2]: hits[name] for name in self._limits},
            'memory': {'lua': runtime.memory.used(), 'limit': settings['limits.lua_memory_bytes']},
            'fibers': len(runtime.fibers),
            'loop_lag': self._loop_lag.snapshot(),
        }


def _difference(now: Any, before: Any) -> Any:
    """Sums since an earlier moment: numbers, mappings of such, and the buckets of a histogram."""
    if isinstance(now, dict):
        return {name: value if name in _STATE_FIELDS else _difference(value, before.get(name, 0))
                for name, value in now.items()}
    if isinstance(now, list):
        return [[bound, count - counted] for (bound, count), (_, counted) in zip(now, before, strict=True)]
    return now - before
