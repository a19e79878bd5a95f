"""A watch of a function for one statement: what it reads, when it ends, and what it tells its reader."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gevent import get_hub, getcurrent
from gevent.event import Event

from boxsession.base.redaction import redacted_text
from boxsession.base.session import Session
from boxsession.inspection import watch_hooks
from boxsession.inspection.copies import text_of
from boxsession.inspection.expression import Expression, several
from boxsession.inspection.frames import utf8
from boxsession.inspection.watch import AT_END, CallWatch, Options, Seen, StackWatch, TraceWatch
from boxsession.inspection.watch_command import Request
from boxsession.inspection.watch_counts import CountWatch
from boxsession.inspection.watch_target import NotFound, Target, find
from boxsession.inspection.watch_trees import rows
from boxsession.net.hangup import sends_no_more
from boxsession.scheduler.task import current_task
from boxsession.sessions.stream import Connection

__all__ = ['LOOK_SECONDS', 'Watching']

# Rows of one answer; how often a watch looks whether it is still wanted; how often \count tells, and
# the shortest last interval.
_ROWS, LOOK_SECONDS, _SECOND, _LAST = 20, 0.4, 1.0, 0.1
_KINDS: dict[str, Any] = {'watch': CallWatch, 'trace': TraceWatch, 'stack': StackWatch, 'count': CountWatch}


class Watching:
    """One watch and its reader. Only the reader's greenlet calls its methods, except those that say so.

    Raises:
        NotFound, Wrong: the target or an expression is wrong.
    """

    def __init__(self, connection: Connection, session: Session, request: Request, pause: Callable[[], None]):
        self.connection, self.session, self.request, self.pause = connection, session, request, pause
        self.target = find(request.target)
        names = {*self.target.parameters, 'args', *(('self',) if self.target.has_self else ())}
        condition = Expression(request.condition, names | set(AT_END)) if request.condition else None
        shows = tuple(several(request.shows, names | set(AT_END))) if request.shows else ()
        numbers = {'most': float('inf'), **request.numbers}
        numbers['most'] = numbers.pop('n', numbers['most'])
        del numbers['seconds']
        self._options = Options(condition, shows, **numbers)        # type: ignore[arg-type]
        self.greenlet, self.task = getcurrent(), current_task()
        # The session's own greenlet may run the next statement before anybody notices that this one was cancelled.
        self.statement = connection.under_way() if self.greenlet is connection.greenlet else None
        loop = get_hub().loop
        self.event = Event()
        self.waker = loop.async_(ref=False)
        self.waker.start(self.event.set)
        self.timer = loop.timer(LOOK_SECONDS, LOOK_SECONDS, ref=False)
        self.watch = _KINDS[request.kind](self.target, self._options, self.waker.send)
        self.began = self.counted = self.looked = time.monotonic()
        self.ends_at = float('inf')
        self.reason = ''            # why it has ended
        self._told_stacks: set[int] = set()
        self._has_stopped = False

    # Called in the hub, too

    def is_abandoned(self) -> str:
        """Why nobody reads any more; '' if somebody does."""
        self.watch.look()
        if self.connection.is_over or self.greenlet.dead:
            return 'the session has ended'
        if self.task is None or self.task.killed or self.statement is not None \
                and self.connection.under_way() is not self.statement:
            return 'the statement was cancelled'
        # The end of input over TCP may be a half-close or the end of the client: a watch takes it for the latter.
        if sends_no_more(self.session.fd):
            return 'the client has ended its input'
        return ''

    def close(self, reason: str) -> None:
        """Nothing is watched any more."""
        self.reason = self.reason or reason
        self.stop()
        for watcher in (self.timer, self.waker):
            watcher.stop()
            watcher.close()
        self.event.set()

    def has_ended(self) -> bool:
        """Whether it has ended, although its reader may not know yet: its client reads slowly."""
        return bool(self.watch.gave_up or self.reason) or time.monotonic() >= self.ends_at

    def stop(self) -> None:
        """Watches nothing more. What is in the queue can be read."""
        if not self._has_stopped:
            self._has_stopped = True
            self._running = watch_hooks.unfinished(self.watch)
            self.watch.close()
            watch_hooks.remove(self.watch)

    # Called by the reader

    def begin(self, objects: Callable[[], list[Any]], pause: Callable[[], None]) -> None:
        """Begins to watch. See watch_hooks.add(). Its time counts from now on."""
        watch_hooks.add(self.target, self.watch, objects, pause)
        self.began = self.counted = self.looked = time.monotonic()
        self.ends_at = self.began + self.request.numbers['seconds']

    def begin_again(self, target: Target, objects: Callable[[], list[Any]], pause: Callable[[], None]) -> None:
        """Goes on with other code."""
        watch_hooks.remove(self.watch)
        self.target = target
        watch_hooks.add(target, self.watch, objects, pause)

    @property
    def condition_text(self) -> str:
        """The condition without secrets."""
        return redacted_text(self.request.condition.encode(errors='backslashreplace'))

    def first(self) -> dict[str, Any]:
        """The first row: what is watched."""
        code, target = self.target.codes[0], self.target
        row: dict[str, Any] = {self.request.kind: target.name, 'kind': f'{target.runs_as} {target.kind}'.strip(),
                               'where': utf8(f'{code.co_filename}:{code.co_firstlineno}'),
                               'parameters': [utf8(name) for name in target.parameters]}
        if self.request.condition:
            row['if'] = self.condition_text
        if target.notes:
            row['note'] = '; '.join(target.notes)
        return row

    def rows(self) -> list[dict[str, Any]]:
        """The next rows; none if nothing has come."""
        self.event.clear()
        watch = self.watch
        watch.is_woken = False
        rows: list[dict[str, Any]] = []
        while watch.told:
            rows.append({'note': redacted_text(watch.told.popleft().encode(errors='backslashreplace'))})
        while watch.queue and len(rows) < _ROWS:
            rows.append(_row(watch.queue.popleft(), self.target))
            self.pause()
        if self.request.kind == 'stack':
            rows += self._new_stacks()
        elif self.request.kind == 'count' and time.monotonic() - self.counted >= (_LAST if watch.is_over else _SECOND):
            rows.append(self._second())
        return rows

    def has_all(self) -> bool:
        """Whether it has shown as many calls as it may."""
        return self.watch.shown >= self._options.most and not self.watch.queue

    def wait(self) -> None:
        """Waits for rows, or until it has to look for something else."""
        now = time.monotonic()
        until = min(self.ends_at, now + LOOK_SECONDS, self.counted + _SECOND if self.request.kind == 'count' else now + 60)
        self.event.wait(max(0.0, until - now))

    def reloaded(self) -> Target | None:
        """The target, if its name stands for other code now: its module was loaded again, for example."""
        now = time.monotonic()
        if now - self.looked < _SECOND:
            return None
        self.looked = now
        try:
            found = find(self.request.target)
        except NotFound:
            return None
        return found if [id(code) for code in found.codes] != [id(code) for code in self.target.codes] else None

    def ended(self) -> dict[str, Any]:
        """The last row, which is the reply."""
        watch = self.watch
        row: dict[str, Any] = {'ended': self.reason}
        if self.request.kind == 'count':
            return {**row, 'calls': watch.counted, **self._problems()}
        if self.request.kind == 'stack':
            row['stacks'] = [{'calls': count, 'percent': round(100 * count / watch.shown, 1), 'stack': _stack(stack)}
                             for count, stack in watch.groups()[:_ROWS]]
        return {**row, 'shown': watch.shown, 'not_shown': watch.not_shown, **self._problems()}

    def shown(self) -> str:
        """How many calls were shown, in words."""
        return _calls(self.watch.shown, 'shown')

    def summary(self) -> str:
        """What it has seen, in words."""
        if self.request.kind == 'count':
            return _calls(self.watch.counted, 'counted')
        return f'{self.shown()}, {self.watch.not_shown} not'

    def _problems(self):
        found = {'problems': self.watch.problems} if self.watch.problems else {}
        return {**found, 'running': self.running} if self.running else found

    @property
    def running(self) -> int:
        """Calls that had begun and not ended."""
        return self._running if self._has_stopped else watch_hooks.unfinished(self.watch)

    _running = 0

    def _new_stacks(self):
        rows = []
        for key, (_, stack, _) in list(self.watch.stacks.items()):
            if hash(key) not in self._told_stacks and len(self._told_stacks) < _ROWS:
                self._told_stacks.add(hash(key))
                rows.append({'stack': _stack(stack)})
        return rows

    def _second(self):
        now = time.monotonic()
        second = self.watch.second()
        took, self.counted = now - self.counted, now
        row = {'time': _clock(time.time()), 'calls': second.calls, 'per_second': round(second.calls / took, 1),
               'errors': second.errors}
        if second.ms:
            row['ms'] = {name: _ms(value) for name, value in second.ms.items()}
        return row


def _row(seen: Seen, target: Target) -> dict[str, Any]:
    # What a function of such a name returns is a secret, and what the setter of such a property takes.
    secret = target.secret_name
    row: dict[str, Any] = {'time': _clock(seen.time), 'greenlet': seen.where.greenlet}
    if seen.where.session:
        row['session'] = seen.where.session
    if seen.where.request:
        row['request'] = redacted_text(seen.where.request.encode(errors='backslashreplace'))
    row['arguments'] = {
        utf8(name): text_of(secret if secret and target.is_setter and number else name, copy)
        for number, (name, copy) in enumerate(seen.arguments)}
    if seen.error is not None:
        row['error'] = text_of('error', seen.error)
    else:
        row['result'] = text_of(secret or 'result', seen.result if seen.result is not None else 'None')
    if seen.values:
        row['values'] = seen.values
    row['ms'] = _ms(seen.ms)
    if seen.shows:
        row['show'] = {utf8(name): text_of(name, copy) for name, copy in seen.shows}
    if seen.tree is not None:
        row['trace'] = rows(seen.tree.root)
        if seen.tree.is_cut:
            row['note'] = 'not all calls are in the trace: it was too long'
    return row


def _calls(count, how):
    return f'1 call was {how}' if count == 1 else f'{count} calls were {how}'


def _ms(value):
    return round(value, 3) if value < 100 else round(value, 1)


def _clock(seconds):
    return time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds)) + f'.{int(seconds * 1000) % 1000:03}Z'


def _stack(stack):
    return [f'{call.name} {call.where}' for call in stack]
