"""What all services are asked with: who asks, and of which console."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from boxsession.base.counters import Counters
from boxsession.base.session import Session, current_session
from boxsession.net.listener import Listener
from boxsession.operations.audit import Audit
from boxsession.sessions.registry import Registry
from boxsession.settings.table import ListenerConfig
from boxsession.users.accounts import Accounts

__all__ = ['NAME_LENGTH', 'Console', 'caller', 'caller_id']

# So much of a name is kept and recorded.
NAME_LENGTH = 64


class Console(Protocol):
    """What the services need of a running console (`boxsession.running.Running`)."""

    settings: dict[str, Any]
    accounts: Accounts
    audit: Audit
    counters: Counters
    registry: Registry

    def check(self, changes: Mapping[str, Any]) -> None: ...
    def configure(self, changes: Mapping[str, Any]) -> None: ...
    def listen(self, config: ListenerConfig) -> Listener: ...
    def unlisten(self, listener: Listener) -> None: ...


def caller() -> Session:
    """The session that asks."""
    session = current_session()
    assert session is not None, 'only sessions call this'
    return session


def caller_id() -> int:
    """Its id; 0 where none asks."""
    session = current_session()
    return session.id if session is not None else 0
