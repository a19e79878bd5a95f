"""boxsession: a multi-client admin console for gevent programs that answers as Tarantool's console does.

    from boxsession import Console

    console = Console(listen=['127.0.0.1:3313'], expose={'cache': cache})
    console.start()

Importing it patches nothing and starts nothing.
"""
from typing import TYPE_CHECKING, Any

from boxsession.base.errors import BoxsessionError, ConfigError, ListenError, ScriptError, StoreError
from boxsession.base.version import __version__

if TYPE_CHECKING:
    from boxsession.base.session import Session, current_session
    from boxsession.embed import Console

__all__ = ['BoxsessionError', 'ConfigError', 'Console', 'ListenError', 'ScriptError', 'Session', 'StoreError',
           '__version__', 'current_session']


def __getattr__(name: str) -> Any:
    # When first asked for: the client does not pay for the server's imports.
    if name == 'Console':
        from boxsession import embed as module
    elif name in ('Session', 'current_session'):
        from boxsession.base import session as module
    elif name == 'logs':            # for its filters: see docs/operations.rst
        from boxsession.operations import logs
        return logs
    else:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(module, name)
    return value
