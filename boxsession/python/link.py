"""What a statement in Python reaches through its session: Lua, and the client."""
from __future__ import annotations

from gevent import getcurrent

from boxsession.base.errors import StatementCancelled
from boxsession.lua.evaluator import Evaluator
from boxsession.python.checks import Checks, need_room
from boxsession.python.values import packed
from boxsession.scheduler.calls import flush_if_waiting
from boxsession.scheduler.dispatcher import Dispatcher
from boxsession.values.documents import as_push

__all__ = ['YAML', 'Link']

# The style of YAML.
YAML = b'\1'
_ELSEWHERE = ('Lua runs in the greenlet of the statement itself: another greenlet, or a statement that is over, cannot use '
              'this function of `box`')
_IN_SNAPSHOT = (r'a snapshot has no Lua, and sends no pushes but what it prints: use \set python live')


class Link:
    """The link of one session.

    Args:
        own: the session's Lua evaluator.

    Attributes:
        style: the beginning of a tagged string in the session's output format, when the running statement, or the last one,
            began. Packed values have to follow.
        is_stale: Lua has run since, and may have changed the style.
        is_cut: this process is a snapshot: it has neither.
    """

    __slots__ = ('style', 'is_stale', 'is_cut', '_own', '_checks', '_dispatcher', '_is_in_lua')

    def __init__(self, own: Evaluator, checks: Checks, dispatcher: Dispatcher):
        self.style = YAML
        self.is_stale = True
        self.is_cut = False
        self._own = own
        self._checks = checks
        self._dispatcher = dispatcher
        self._is_in_lua = False

    def begin(self) -> None:
        """A statement begins."""
        if self.is_stale:
            self.style = self._own.style()
            self.is_stale = False

    def exchange(self, request: bytes) -> bytes:
        """Runs a statement of Lua. See boxsession.lua.evaluator.Evaluator.exchange().

        Raises:
            RuntimeError: another greenlet than that of the session's statement calls it, or a snapshot.
            StatementCancelled: the statement was cancelled.
        """
        if self.is_cut:
            raise RuntimeError(_IN_SNAPSHOT)
        need_room()
        task = self._own.task
        if task.greenlet is not getcurrent() or not task.calling or self._is_in_lua:
            raise RuntimeError(_ELSEWHERE)
        self._dispatcher.rejoin()
        self._is_in_lua, task.calling, self.is_stale = True, False, True
        try:
            answer = self._own.exchange(request)
        finally:
            self._is_in_lua, task.calling = False, True
        if task.killed:
            raise StatementCancelled
        return answer

    def push_text(self, line: str) -> None:
        """Sends a text as a push. See push()."""
        self.push(packed(line, 1 << 62))

    def push(self, content: bytes) -> None:
        """Sends a packed value as a push. It may wait for a slow client. Any greenlet may call it.

        Raises:
            RuntimeError: a snapshot or another thread calls it.
        """
        if self.is_cut:
            raise RuntimeError(_IN_SNAPSHOT)
        need_room()
        own = self._own.task
        self._checks.adopt()
        assert own.host is not None
        own.host.push(as_push(self.style + content))
        if own.greenlet is getcurrent():
            flush_if_waiting(own)
        else:                           # one that a statement has started: the session's own may wait for its client
            own.host.switching_out()
        self._dispatcher.rejoin()
