"""Where the statements of a text session go: each evaluator here stands in front of another one, or in its place.

All have `statement(text, may_continue)`, which gives a reply as `boxsession.lua.evaluator.Evaluator` does: what leaves the
language, final text, or b'' where the statement waits for more lines; and SENT where the reply has gone out already.
`Route` says which of them a statement goes to.
"""
from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from boxsession.base.errors import StatementError
from boxsession.base.redaction import redacted
from boxsession.base.session import Session
from boxsession.operations.audit import Audit
from boxsession.protocol.text import ConsoleProtocol
from boxsession.sessions.common import Common
from boxsession.sessions.remote import RemoteClosed, RemoteConsole
from boxsession.values.packed import Tagged

__all__ = ['SENT', 'Evaluates', 'Judge', 'Language', 'Recorder', 'Relay', 'Route', 'note_not_run']

log = logging.getLogger('boxsession')


class _Sent(Enum):
    SENT = 'the reply has gone out already'

    def __bool__(self) -> bool:
        return False            # there is none to be sent


SENT = _Sent.SENT

_UNRECORDED = 'the audit file cannot be written: no statement is run until it can (audit.required)'
# How another console's error begins, and how much of one is recorded.
_ERROR, _REMOTE_ERROR_BYTES = b'---\n- error: ', 4096

# Behind so many statements that failed a session is judged no more: another protocol shows itself sooner.
_JUDGED_MAX = 100
# What a name that nothing has is answered with, and names that are commands of other protocols, too.
_NOTHING = (b'---\n- null\n...\n', b'nil;')
_WORD_BYTES = 128
_WORD = re.compile(
    rb'\s*(?:(?i:capa|cons|crst|dump|envi|exit|flush_all|info|isro|list|mn|mntr|monitor|noop|ping|pong|quit|reserve|reset|rset|'
    rb'ruok|shutdown|srst|srvr|starttls|stat|stats|status|stls|sync|time|verbosity|version|wchs|workers)|[A-Z][A-Z0-9_]+)\s*')
# What says nothing of who sent it: other protocols' lines (of multipart bodies, say) are comments, too.
_EMPTY = re.compile(rb'\s*(?:--(?!\[=*\[)[^\r\n]*(?:[\r\n]\s*)?)?')
# The same with an argument: the call of a function that is none.
_COMMAND, _NO_FUNCTION = re.compile(rb'\s*[A-Za-z_]\w*\s*["\'{\[]'), b'attempt to call'
# What was sent before the answer to such a line is not run, until the client has been silent for so long.
_DOUBT_SECONDS = 0.5
_DOUBTED = ('not run: it was sent before the answer to a line that is no Lua, or is a command of another protocol. '
            'Correct that line, and send this again')


def _is_word(text: bytes) -> bool:
    return len(text) <= _WORD_BYTES and _WORD.fullmatch(text) is not None


class Evaluates(Protocol):
    """What runs statements, or has them run."""

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged | _Sent: ...


class Language(Evaluates, Protocol):
    """What runs the statements of a session here."""

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged: ...
    def is_incomplete(self, text: bytes) -> bool: ...
    def is_wrong(self, text: bytes) -> bool: ...
    def last_error(self) -> bytes: ...
    def error(self, message: str) -> bytes: ...
    def left_remote(self) -> None: ...          # statements run here again


class Spoken:
    """Statements in another language than a session's own. Backslash commands stay as they are.

    Args:
        own: the session's own evaluator. The other one runs as the same task, so that turns, deadlines and cancellation are
            the same.
        other: runs the statements of the other language.
    """

    __slots__ = ('_own', '_other', '_last')

    def __init__(self, own: Language, other: Language):
        self._own = own
        self._other = other
        self._last = own

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged:
        self._last = self._own if text.startswith(b'\\') else self._other
        return self._last.statement(text, may_continue)

    def is_incomplete(self, text: bytes) -> bool:
        return self._other.is_incomplete(text)

    def is_wrong(self, text: bytes) -> bool:
        return self._other.is_wrong(text)

    def last_error(self) -> bytes:
        return self._last.last_error()

    def error(self, message: str) -> bytes:
        return self._own.error(message)

    def left_remote(self) -> None:
        self._own.left_remote()


class Recorder:
    """Records each statement before its reply can leave.

    Args:
        pause: lets the others in while a long statement is looked through for secrets.
    """

    __slots__ = ('_inner', '_session', '_audit', '_pause')

    def __init__(self, inner: Language, session: Session, audit: Audit, pause: Callable[[], None]):
        self._inner = inner
        self._session = session
        self._audit = audit
        self._pause = pause

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged:
        audit, inner, user = self._audit, self._inner, self._session.user
        if audit.refuses:
            return inner.error(_UNRECORDED)
        began = time.monotonic()
        try:
            reply = inner.statement(text, may_continue)
        except BaseException as error:          # the client is gone, or the server ends
            problem = f'{type(error).__name__}: {error}'.encode()
            audit.statement(self._session, user, text, problem, time.monotonic() - began)
            raise
        if reply and not audit.statement(self._session, user, text, inner.last_error(), time.monotonic() - began,
                                         self._pause):
            return inner.error('the statement ran, but the audit file cannot be written (audit.required)')
        return reply


class Judge:
    """Looks at what the first statements of a session come to: see docs/design.rst, "Lines of other protocols".

    Behind a statement that is no Lua, or another protocol's command (a name that nothing has), no Lua is run that came
    before the answer: who sends it does not wait for answers, as a program that was made to speak another protocol.

    Args:
        inner: where statements go.
        language: what knows whether they are any.
        read: reads what has come meanwhile.
    """

    __slots__ = ('inner', '_language', '_session', '_common', '_protocol', '_read', '_count', '_doubts', '_has_refused')

    def __init__(self, inner: Evaluates, language: Language, session: Session, common: Common, protocol: ConsoleProtocol,
                 read: Callable[[], None]):
        self.inner = inner
        self._language = language
        self._session = session
        self._common = common
        self._protocol = protocol
        self._read = read
        self._count = 0
        self._doubts = False            # of what has come no Lua is to be run
        self._has_refused = False       # nor has been

    @property
    def is_done(self) -> bool:
        """Whether the session is judged no more."""
        return not self._protocol.is_judging and not self._doubts

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged | _Sent:
        is_any = _EMPTY.fullmatch(text) is None
        if self._doubts and is_any and not self._language.is_wrong(text):
            return self._doubted(text, may_continue)
        reply = self.inner.statement(text, may_continue)
        if reply and is_any and self._protocol.is_judging:
            self._judge(text, reply)
        return reply

    @property
    def seconds_to_doubt(self) -> float:
        """For how long the client has to be silent until what it sends is run; 0 where there is no doubt."""
        return max(_DOUBT_SECONDS, 1e-3) if self._doubts else 0.0

    def was_silent(self) -> None:
        """The client has sent nothing for so long, while its session waited for it."""
        self._doubts = self._has_refused = False

    def was_cancelled(self, text: bytes) -> None:
        """A statement was cancelled before it was run."""
        if self._protocol.is_judging and (_is_word(text) or self._language.is_wrong(text)):
            self._doubts = self._doubts or self._protocol.has_more

    def _doubted(self, text, may_continue) -> Tagged:
        if may_continue and self._language.is_incomplete(text):
            return b''
        if not self._has_refused:
            self._has_refused = True
            log.info('session %d from %s sent more behind a line that is no Lua, and did not wait for the answer: not run',
                     self._session.id, self._session.peer)
        note_not_run(self._common, self._session, text, 'behind a line that is no Lua')
        return self._language.error(_DOUBTED)

    def _judge(self, statement, reply) -> None:
        failed = self._language.last_error()
        if self._has_refused:
            return
        self._count += 1
        if self._count >= _JUDGED_MAX:
            self._protocol.trust()
            return
        if failed:
            is_command = _NO_FUNCTION in failed and _COMMAND.match(statement) is not None
            is_doubtful = is_command or self._language.is_wrong(statement)
        else:
            is_doubtful = reply in _NOTHING and _is_word(statement)
        if is_doubtful:
            self._read()                    # what has come meanwhile
            self._doubts = self._protocol.has_more
        elif not failed:
            self._protocol.trust()


class Relay:
    """Has statements run by another console (console.connect).

    Args:
        language: knows whether a statement is complete, and writes errors as the session shows them.
        audit: the recorder while it is on, or None.
        put: sends a piece of a reply on, at once.
        closed: called when the other console is gone.
    """

    def __init__(self, remote: RemoteConsole, language: Language, session: Session, audit: Audit | None,
                 put: Callable[[bytes], None], closed: Callable[[], None], pause: Callable[[], None]):
        self.remote = remote
        self.audit = audit
        self._language = language
        self._session = session
        self._put = put
        self._closed = closed
        self._pause = pause

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged | _Sent:
        if may_continue and self._language.is_incomplete(text):
            return b''
        try:
            if self.audit is None:
                self._relay(text)
            elif not self._relay_recorded(text):
                return self._language.error(_UNRECORDED)
            return SENT
        except StatementError as error:
            return self._language.error(str(error))
        except RemoteClosed as error:
            reply = self._language.error(str(error))
            self._closed()
            return reply

    def _relay(self, statement) -> bytes:
        """Passes a statement and its reply on; gives the reply's beginning."""
        reply = b''
        for piece in self.remote.ask(statement):
            if len(reply) < _REMOTE_ERROR_BYTES and not piece.startswith(b'%TAG'):      # that is a push
                reply += piece[:_REMOTE_ERROR_BYTES]
            self._put(piece)
        return reply

    def _relay_recorded(self, statement) -> bool:
        """The same, recorded: what was sent before its reply comes, and how that ended. False where it cannot be."""
        audit, session, remote = self.audit, self._session, str(self.remote.address)
        assert audit is not None
        if audit.refuses or not audit.event('remote', session, remote=remote,
                                            statement=redacted(statement, pause=self._pause)):
            return False
        problem, began = b'the reply did not come', time.monotonic()
        try:
            reply = self._relay(statement)
            problem = reply[len(_ERROR):].partition(b'\n...')[0] if reply.startswith(_ERROR) else b''
            return True
        except BaseException as error:
            problem = f'{type(error).__name__}: {error}'.encode()
            raise
        finally:
            audit.statement(session, session.user, statement, problem, time.monotonic() - began, remote=remote)


class Route:
    """Which evaluator the next statement of a text session goes to.

    Args:
        read: reads what has come while a statement runs.
        send: sends a piece of another console's reply, at once.

    Attributes:
        evaluate: runs a statement. Each change makes another one of it.
        judge: looks at the first statements; None where there is nothing left to judge.
        relay: has statements run by another console; None while they run here.
    """

    __slots__ = ('evaluate', 'judge', 'relay', '_own', '_language', '_session', '_common', '_send')

    def __init__(self, own: Language, session: Session, common: Common, protocol: ConsoleProtocol,
                 read: Callable[[], None], send: Callable[[bytes], None]):
        self.judge = Judge(own, own, session, common, protocol, read) if protocol.is_judging else None
        self.relay: Relay | None = None
        self._own = self._language = own
        self._session = session
        self._common = common
        self._send = send
        self.choose()

    @property
    def is_usual(self) -> bool:
        """Whether a new one would be the same."""
        return self.relay is None and self._language is self._own

    def speak(self, language: str) -> None:
        """From the next statement on, they are in a language."""
        other = self._common.languages[language](self._own, self._session)
        self._language = self._own if other is self._own else Spoken(self._own, other)
        self.choose()

    def choose(self) -> None:
        """Chooses anew."""
        chosen: Evaluates = self._language
        if self.relay is not None:
            chosen = self.relay
            self.relay.audit = self._common.audit
        elif self._common.audit is not None:
            chosen = Recorder(self._language, self._session, self._common.audit, self._common.dispatcher.let_others_in)
        if self.judge is not None:
            self.judge.inner = chosen
            chosen = self.judge
        self.evaluate: Any = chosen.statement

    def end_judging(self) -> None:
        """Judges no more, where there is nothing left to judge."""
        if self.judge is not None and self.judge.is_done:
            self.judge = None
            self.choose()

    def go_remote(self, remote: RemoteConsole) -> None:
        """From the next statement on, they are run by another console."""
        if self.relay is not None:
            self.relay.remote.close()
        self.relay = Relay(remote, self._language, self._session, self._common.audit, self._send, self.leave_remote,
                           self._common.dispatcher.let_others_in)
        self.choose()

    def leave_remote(self) -> None:
        """From the next statement on, they run here again."""
        assert self.relay is not None
        remote, self.relay = self.relay.remote, None
        self.choose()
        remote.close()
        self._language.left_remote()


def note_not_run(common: Common, session: Session, text: bytes, problem: str) -> None:
    """Records a statement that was not run."""
    if common.audit is not None:
        common.audit.statement(session, session.user, text, f'not run: {problem}'.encode(), 0.0,
                               common.dispatcher.let_others_in)
