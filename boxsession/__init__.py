"""boxsession: a multi-client admin console for gevent programs that answers as Tarantool's console does.

    from boxsession import Console

    console = Console(listen=['127.0.0.1:3313'], expose={'cache': cache})
    console.start()

Importing it patches nothing and starts nothing.
"""
from importlib import import_module
from typing import TYPE_CHECKING, Any

from boxsession.base.errors import BoxsessionError, ConfigError, ListenError, ScriptError, StoreError
from boxsession.base.version import __version__

if TYPE_CHECKING:
    from boxsession.base.session import Session, current_session
    from boxsession.embed import Console
    from boxsession.lua.live import Live

__all__ = ['BoxsessionError', 'ConfigError', 'Console', 'ListenError', 'Live', 'ScriptError', 'Session', 'StoreError',
           '__version__', 'current_session']

# Modules of the names that are imported at first use. `logs` is public for its filters: see docs/operations.rst.
_LATE = {'Console': 'embed', 'Live': 'lua.live', 'Session': 'base.session', 'current_session': 'base.session',
         'logs': 'operations.logs'}


def __getattr__(name: str) -> Any:
    # Imported at first use: `boxsession connect` must not pay for the server's imports.
    place = _LATE.get(name)
    if place is None:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module = import_module(f'boxsession.{place}')
    value = globals()[name] = getattr(module, name, module)
    return value
