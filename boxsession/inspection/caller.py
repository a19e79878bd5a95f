"""Where a call of the program runs: greenlet or thread, session, request. Calls no code of the program."""
from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from gevent import monkey
from greenlet import getcurrent

from boxsession.base.greenlets import UserGreenlet
from boxsession.base.session import current_session
from boxsession.inspection.frames import file_is_of_console, file_is_of_program
from boxsession.inspection.living import is_hub, parent_of, target
from boxsession.inspection.static import variables

__all__ = ['Where', 'called_by_console', 'where']

_ident = monkey.get_original('_thread', 'get_ident')
_loop_thread = threading.main_thread().ident
# Calls of a stack in which a request is looked for.
_CALLS = 60
# The frames of a watch itself.
_WATCH = str(Path(__file__).parent / 'watch')


class Where(NamedTuple):
    """Where a call runs."""

    greenlet: str           # the function that it runs, or the name of a thread
    session: int            # the id of a session of the console; 0 for none
    request: str            # the first line of a request of gevent's WSGI server; '' if there is none


def where(frame: Any) -> Where:
    """Where the running call is.

    Args:
        frame: a frame of it; None for that of the caller.
    """
    found: Any = getcurrent()
    session = None
    if issubclass(type(found), UserGreenlet):
        session = current_session()
    if is_hub(found):
        name = 'hub'
    elif parent_of(found) is None:
        name = _thread()
    else:
        name = target(found)
    return Where(name, session.id if session is not None else 0, _request(frame or sys._getframe(1)))


def called_by_console(frame: Any) -> bool:
    """Whether the console calls this, perhaps through gevent or the library: its calls hold what sessions send.

    Args:
        frame: that of the caller.
    """
    left = _CALLS
    while frame is not None and left:
        file = frame.f_code.co_filename
        if file_is_of_program(file):
            return False
        if file_is_of_console(file) and not file.startswith(_WATCH):
            return True
        frame = frame.f_back
        left -= 1
    return False


def _thread() -> str:
    thread = threading._active.get(_ident())       # type: ignore[attr-defined]
    name = variables(thread).get('_name') if thread is not None else None
    return f'thread {name[:50]}' if type(name) is str else 'thread'


def _request(frame: Any) -> str:
    left = _CALLS
    while frame is not None and left:
        code = frame.f_code
        if code.co_name == 'run_application' and code.co_filename.endswith('gevent/pywsgi.py'):
            line = variables(frame.f_locals.get('self')).get('requestline')
            return line[:200] if type(line) is str else ''
        frame = frame.f_back
        left -= 1
    return ''
