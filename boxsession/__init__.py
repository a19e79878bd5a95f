"""boxsession: a multi-client admin console for gevent programs that answers as Tarantool's console does.

    from boxsession import Console

    console = Console(listen=['127.0.0.1:3313'], expose={'cache': cache})
    console.start()

Importing it patches nothing and starts nothing.
"""
from boxsession.errors import BoxsessionError, ConfigError, ListenError, ScriptError, StoreError
from boxsession.server import Console
from boxsession.session import Session, current_session
from boxsession.version import __version__

__all__ = ['BoxsessionError', 'ConfigError', 'Console', 'ListenError', 'ScriptError', 'Session', 'StoreError',
           '__version__', 'current_session']
