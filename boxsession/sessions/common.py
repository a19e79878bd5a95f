"""What the sessions of a console have in common: one object, which all of them read."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from boxsession.base.session import Session
from boxsession.lua.bridge import Runtime
from boxsession.operations.audit import Audit
from boxsession.sessions.backlog import Backlog

__all__ = ['Common', 'Languages']

# Of statements, each with what makes an evaluator of a session's own one and the session.
Languages = Mapping[str, Callable[[Any, Session], Any]]


class Common:
    """What the sessions of a console have in common. The settings among it change while sessions live.

    Attributes:
        runtime: evaluates statements.
        languages: those that statements may be in.
        recorder: writes the audit file, where there is one.
        unsent: counts output that clients have not taken.
        unread: counts input that cannot be run yet.
        audit: the recorder while it is on, or None.
        send_seconds: how long a client may take to read a reply; 0 for ever.
        cancels: whether a client that vanished has its statement cancelled.
        statement_bytes, request_bytes: the longest statement and the longest request; 0 for any.
        requests: how many requests of a binary connection may run at a time; 0 for any number.
    """

    __slots__ = ('runtime', 'languages', 'dispatcher', 'counters', 'recorder', 'unsent', 'unread', 'audit', 'send_seconds',
                 'cancels', 'statement_bytes', 'request_bytes', 'requests')

    def __init__(self, runtime: Runtime, languages: Languages, recorder: Audit, unsent: Backlog, unread: Backlog,
                 settings: Mapping[str, Any]):
        self.runtime = runtime
        self.languages = languages
        self.dispatcher = runtime.dispatcher
        self.counters = runtime.counters
        self.recorder = recorder
        self.unsent = unsent
        self.unread = unread
        self.configure(settings)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Takes the settings in force, by dotted name."""
        self.audit = self.recorder if self.recorder.is_on else None
        self.send_seconds: float = settings['limits.send_seconds']
        self.cancels = settings['limits.on_disconnect'] == 'cancel'
        self.statement_bytes: int = settings['limits.statement_bytes']
        self.request_bytes: int = settings['limits.request_bytes']
        self.requests: int = settings['limits.requests']
        self.unsent.limit = settings['limits.total_output_bytes']
        self.unread.limit = settings['limits.total_input_bytes']
