"""The calling session of a service, and the console as services see it."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from boxsession.base.counters import Counters
from boxsession.base.errors import StatementError
from boxsession.base.session import Session, current_session
from boxsession.inspection.stopper import Stopper
from boxsession.lua.bridge import Runtime
from boxsession.net.listener import Listener
from boxsession.net.listeners import Listeners
from boxsession.operations.audit import Audit
from boxsession.operations.monitor import Monitor
from boxsession.python.evaluators import Evaluators
from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.sessions.changes import Changes
from boxsession.sessions.registry import Registry
from boxsession.settings.table import ListenerConfig
from boxsession.users.accounts import Accounts

__all__ = ['NAME_LENGTH', 'Console', 'caller', 'caller_id', 'check_not_ended']

# Names are truncated to this number of characters.
NAME_LENGTH = 64


class Console(Protocol):
    """The interface of a running console for services (`boxsession.running.Running`)."""

    settings: dict[str, Any]
    accounts: Accounts
    audit: Audit
    counters: Counters
    dispatcher: Dispatcher
    registry: Registry
    listeners: Listeners
    changes: Changes
    monitor: Monitor
    python: Evaluators
    runtime: Runtime
    stopper: Stopper

    def check(self, changes: Mapping[str, Any]) -> None: ...
    def configure(self, changes: Mapping[str, Any]) -> None: ...
    def listen(self, config: ListenerConfig) -> Listener: ...
    def unlisten(self, listener: Listener) -> None: ...


def check_not_ended(registry: Registry) -> None:
    """For a change that is undone when its session ends.

    Raises:
        StatementError: the calling session has ended already: this is a fiber that has outlived it.
    """
    session = current_session()
    if session is not None and registry.of_id(session.id) is None:
        raise StatementError('the session has ended, so nothing would undo this change: keep it')


def caller() -> Session:
    """The session whose statement calls the service."""
    session = current_session()
    assert session is not None, 'only sessions call this'
    return session


def caller_id() -> int:
    """The id of the calling session; 0 if the caller is not a session."""
    session = current_session()
    return session.id if session is not None else 0
