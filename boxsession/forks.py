"""Forks of a process with a started console. The parent goes on with it; the child gives it up, and may start it again."""
from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from boxsession.base import inherited

__all__ = ['ForkGuard', 'give_up_inherited']

log = logging.getLogger('boxsession')

_TOLD = ('the console of process %d, which forked this process (%d), does not serve it: clients still reach that process. '
         'To serve this one, start a console after the fork, with `%%p` in the path of its socket (docs/embedding.rst)')


class ForkGuard:
    """Makes a forked child give up a started console.

    Python's hook does so in the fork itself. It is not called if a program in C forks, as uWSGI does: then the event loop
    notices in its first iteration, before it looks at any socket.

    Args:
        hub: the event loop of the console.
        give_up: called in the child, also in its hub.
    """

    def __init__(self, hub: Any, give_up: Callable[[], None]):
        self.pid = os.getpid()
        self.give_up = give_up
        self.has_told = False
        self._watcher = hub.loop.fork(ref=False)
        self._watcher.start(give_up_inherited)
        _guards.add(self)
        _register()

    def end(self) -> None:
        """The console has stopped."""
        self._watcher.stop()
        self._watcher.close()
        _guards.discard(self)


_guards: WeakSet[ForkGuard] = WeakSet()
_registered: list[bool] = []


def _register() -> None:
    if not _registered:
        _registered.append(True)
        os.register_at_fork(after_in_parent=_tell_once, after_in_child=give_up_inherited)


def give_up_inherited() -> None:
    """Gives up the consoles that the parent of this process has started. Does nothing in any other process."""
    if inherited.snapshots:
        return
    left = [guard for guard in list(_guards) if guard.pid != os.getpid()]
    if left:
        inherited.give_up()
    for guard in left:
        guard.end()
        guard.give_up()
        if not guard.has_told and not _runs_program():
            log.warning(_TOLD, guard.pid, os.getpid())


def _tell_once() -> None:
    """In the parent: only its first child logs the warning."""
    if inherited.snapshots or _runs_program():
        return
    for guard in list(_guards):
        guard.has_told = True


def _runs_program() -> bool:
    """Whether gevent's subprocess forks this child: it runs another program at once."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == '_execute_child' and frame.f_code.co_filename.endswith('gevent/subprocess.py'):
            return True
        frame = frame.f_back        # type: ignore[assignment]
    return False
