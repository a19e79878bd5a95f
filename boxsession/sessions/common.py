"""One object with the things that all sessions of a console share."""
from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from boxsession.base.session import Session
from boxsession.base.version import __version__
from boxsession.lua.bridge import Runtime
from boxsession.operations.audit import Audit
from boxsession.protocol.greeting import SERVICE_NAME, console_greeting
from boxsession.sessions.backlog import Backlog

__all__ = ['Common', 'Languages', 'program_name']

# The languages of statements by name. Each value makes an evaluator from the session's own evaluator and the session.
Languages = Mapping[str, Callable[[Any, Session], Any]]


class Common:
    """Objects and settings that all sessions of a console share. The settings may change while sessions live.

    Attributes:
        runtime: the Lua state.
        languages: the languages of statements.
        may_speak: whether the user with an id may use a language.
        dispatcher: switches between tasks.
        counters: counts events of all sessions.
        recorder: the audit file; it may be off.
        unsent: the backlog of output that clients have not read.
        unread: the backlog of input that cannot be run yet.
        audit: the recorder while it is on, or None.
        send_seconds: maximum time for a client to read a reply; 0 for no limit.
        cancels: whether a lost connection cancels the running statement.
        greeting: the greeting of a text console.
        statement_bytes, request_bytes: maximum size of a statement and of a request; 0 for no limit.
        requests: maximum number of running requests of one binary connection; 0 for no limit.
    """

    __slots__ = ('runtime', 'languages', 'may_speak', 'dispatcher', 'counters', 'recorder', 'unsent', 'unread', 'audit',
                 'send_seconds', 'cancels', 'greeting', 'statement_bytes', 'request_bytes', 'requests')

    def __init__(self, runtime: Runtime, languages: Languages, may_speak: Callable[[int, str], bool], recorder: Audit,
                 unsent: Backlog, unread: Backlog, settings: Mapping[str, Any]):
        self.runtime = runtime
        self.languages = languages
        self.may_speak = may_speak
        self.dispatcher = runtime.dispatcher
        self.counters = runtime.counters
        self.recorder = recorder
        self.unsent = unsent
        self.unread = unread
        self.configure(settings)

    @property
    def too_slow(self) -> str:
        """The reason why a session ends whose client does not read."""
        return f'the client did not read for {self.send_seconds:g} seconds (limits.send_seconds)'

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Applies the settings in force, given by dotted name."""
        self.greeting = console_greeting(__version__, os.getpid(), settings['name'] or program_name())
        self.audit = self.recorder if self.recorder.is_on else None
        self.send_seconds: float = settings['limits.send_seconds']
        self.cancels = settings['limits.on_disconnect'] == 'cancel'
        self.statement_bytes: int = settings['limits.statement_bytes']
        self.request_bytes: int = settings['limits.request_bytes']
        self.requests: int = settings['limits.requests']
        self.unsent.limit = settings['limits.total_output_bytes']
        self.unread.limit = settings['limits.total_input_bytes']


def program_name() -> str:
    """The name of the program around the console; '' if it has none, or is `boxsession serve`."""
    path = Path(sys.argv[0] if sys.argv else '')
    name = path.parent.name if path.name == '__main__.py' else path.stem
    return name if name != 'boxsession' and re.fullmatch(SERVICE_NAME, name) and not name.startswith('-') else ''
