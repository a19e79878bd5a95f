"""Evaluators of a text session that wrap or replace the one of its language. `Route` chooses between them.

All of them have `statement(text, may_continue)`. It returns a reply like `boxsession.lua.evaluator.Evaluator`: a tagged
string or final text, or b'' if the statement waits for more lines. It returns SENT if the reply has already been sent.
"""
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from boxsession.base.errors import StatementError
from boxsession.base.redaction import ANY, redacted
from boxsession.base.session import Session
from boxsession.operations.audit import Audit
from boxsession.protocol.text import ConsoleProtocol
from boxsession.sessions.beginning import Beginning, is_opening
from boxsession.sessions.common import Common
from boxsession.sessions.languages import Language, Own, first_language, language_told, spoken
from boxsession.sessions.remote import RemoteClosed, RemoteConsole
from boxsession.values.packed import Tagged

__all__ = ['SENT', 'Evaluates', 'Judge', 'Language', 'Recorder', 'Relay', 'Route', 'note_not_run']

log = logging.getLogger('boxsession')


class _Sent(Enum):
    SENT = 'the reply has already been sent'

    def __bool__(self) -> bool:
        return False            # the caller has no reply to send


SENT = _Sent.SENT

_UNRECORDED = 'the audit file cannot be written: no statement is run until it can (audit.required)'
# Beginning of another console's error reply, and maximum bytes of it that are recorded.
_ERROR, _REMOTE_ERROR_BYTES = b'---\n- error: ', 4096

# After this number of failed statements a session is not judged any more: another protocol is found earlier.
_JUDGED_MAX = 100
# Doubt ends after this time without input, in seconds.
_DOUBT_SECONDS = 0.5
_DOUBTED = ('not run: it was sent before the reply to a line that is no statement, or is a command of another protocol. '
            'Correct that line, and send this again')


class Evaluates(Protocol):
    """Runs statements, or passes them on."""

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged | _Sent: ...


class Recorder:
    """Writes each statement to the audit file before its reply is sent, except the settings with which our client begins.

    Args:
        pause: lets other tasks run while a long statement is searched for secrets.
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
        if is_opening(text):
            return inner.statement(text, may_continue)
        began, told = time.monotonic(), language_told(self._session, text)
        try:
            reply = inner.statement(text, may_continue)
        except BaseException as error:          # the connection is lost, or the server stops
            problem = f'{type(error).__name__}: {error}'.encode()
            audit.statement(self._session, user, text, problem, time.monotonic() - began, **told)
            raise
        if reply and not audit.statement(self._session, user, text, inner.last_error(), time.monotonic() - began,
                                         self._pause, **told):
            return inner.error('the statement ran, but the audit file cannot be written (audit.required)')
        return reply


class Judge:
    """Detects clients that speak another protocol: see docs/design.rst, "Lines of other protocols".

    A first statement may be wrong, or a command of another protocol (an undefined name). If more input arrived before the
    reply to it, the client does not wait for replies: an attacker may have made another program send this. Then the session
    is in doubt: it runs no statement until the client has been silent for a while.

    Args:
        inner: the evaluator to which statements go.
        language: tells whether a statement is valid or incomplete.
        read: reads the input that has arrived meanwhile.

    Attributes:
        inner, language: as given. They may be replaced between two statements.
    """

    __slots__ = ('inner', 'language', '_session', '_common', '_protocol', '_read', '_count', '_doubts', '_has_refused')

    def __init__(self, inner: Evaluates, language: Language, session: Session, common: Common, protocol: ConsoleProtocol,
                 read: Callable[[], None]):
        self.inner = inner
        self.language = language
        self._session = session
        self._common = common
        self._protocol = protocol
        self._read = read
        self._count = 0
        self._doubts = False            # the session is in doubt
        self._has_refused = False       # it has not run a statement because of that

    @property
    def is_done(self) -> bool:
        """Whether judging is over."""
        return not self._protocol.is_judging and not self._doubts

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged | _Sent:
        is_any = not self.language.is_blank(text)
        if self._doubts and is_any and not self.language.is_wrong(text):
            return self._doubted(text, may_continue)
        reply = self.inner.statement(text, may_continue)
        if reply and is_any and self._protocol.is_judging:
            self._judge(text, reply)
        return reply

    @property
    def seconds_to_doubt(self) -> float:
        """The silence of the client, in seconds, that ends the doubt; 0 without a doubt."""
        return max(_DOUBT_SECONDS, 1e-3) if self._doubts else 0.0

    def was_silent(self) -> None:
        """Ends the doubt: the client was silent for `seconds_to_doubt` while its session waited for input."""
        self._doubts = self._has_refused = False

    def was_cancelled(self, text: bytes) -> None:
        """Judges a statement that was cancelled before it ran."""
        if self._protocol.is_judging and self.language.is_doubtful(text, None):
            self._doubts = self._doubts or self._protocol.has_more

    def _doubted(self, text, may_continue) -> Tagged:
        if may_continue and self.language.is_incomplete(text):
            return b''
        if not self._has_refused:
            self._has_refused = True
            log.info('%s sent more after a line that is no statement, and did not wait for the reply: not run',
                     self._session.described)
        note_not_run(self._common, self._session, text, 'sent after a line that is no statement')
        return self.language.error(_DOUBTED)

    def _judge(self, statement, reply) -> None:
        if self._has_refused:
            return
        self._count += 1
        if self._count >= _JUDGED_MAX:
            self._protocol.trust()
            return
        if self.language.is_doubtful(statement, reply):
            self._read()                    # more input may have arrived meanwhile
            self._doubts = self._protocol.has_more
        elif not self.language.last_error():
            self._protocol.trust()


class Relay:
    """Sends statements to another console (console.connect).

    Args:
        remote: the connection to the other console.
        language: tells whether a statement is complete, and formats errors for the session.
        audit: the audit file while it is on, or None.
        put: sends a piece of a reply to the client at once.
        closed: called when the connection to the other console is closed.
        pause: lets other tasks run while a long statement is searched for secrets.
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
        """Sends a statement to the other console and its reply to the client. Returns the beginning of the reply."""
        reply = b''
        for piece in self.remote.ask(statement):
            if len(reply) < _REMOTE_ERROR_BYTES and not piece.startswith(b'%TAG'):      # %TAG: a push
                reply += piece[:_REMOTE_ERROR_BYTES]
            self._put(piece)
        return reply

    def _relay_recorded(self, statement) -> bool:
        """Like _relay(), but records the statement before it is sent, and its end. False if it cannot be recorded."""
        audit, session, remote = self.audit, self._session, str(self.remote.address)
        assert audit is not None
        if audit.refuses or not audit.event('remote', session, remote=remote,
                                            statement=redacted(statement, pause=self._pause, languages=session.languages)):
            return False
        problem, began = b'the reply did not arrive', time.monotonic()
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
    """Chooses the evaluator for the next statement of a text session.

    Args:
        own: the session's own evaluator.
        read: reads input while a statement runs.
        send: sends a piece of another console's reply at once.
        leave_out: called for each setting with which our client begins; None after the first statement.

    Attributes:
        evaluate: the `statement` method of the chosen evaluator. choose() replaces it.
        judge: detects other protocols in the first statements; None once judging is over.
        relay: sends statements to another console; None while they run here.
    """

    __slots__ = ('evaluate', 'judge', 'relay', '_own', '_language', '_session', '_common', '_send', '_leave_out')

    def __init__(self, own: Own, session: Session, common: Common, protocol: ConsoleProtocol,
                 read: Callable[[], None], send: Callable[[bytes], None], leave_out: Callable[[], None] | None):
        self.judge = Judge(own, own, session, common, protocol, read) if protocol.is_judging else None
        self.relay: Relay | None = None
        self._own = own
        self._language = spoken(own, session, common)
        self._session = session
        self._common = common
        self._send = send
        self._leave_out = leave_out
        self.choose()

    @property
    def is_usual(self) -> bool:
        """Whether a new Route would choose the same evaluators."""
        return self.relay is None and self._language is self._own

    def is_incomplete(self, text: bytes) -> bool:
        """Whether a statement in the current language needs more lines."""
        return self._language.is_incomplete(text)

    def speak(self, language: str) -> None:
        """Sets the language of the following statements."""
        self._session.speaks(language)
        self._session.language = language
        self._language = spoken(self._own, self._session, self._common)
        self.choose()

    def begin(self) -> None:
        """The session has its user: it begins in the first language that this user may use."""
        session = self._session
        first = first_language(session, self._common)
        if first != session.language and not session.has_chosen_language:
            self.speak(first)

    def logged_in(self) -> None:
        """The user has logged in, and may use more languages now. One that he may not use is kept: statements are refused,
        since they were written for it."""
        if self._common.may_speak(self._session.uid, self._session.language):
            self.begin()

    def choose(self) -> None:
        """Sets `evaluate` for the current language, relay, audit file and judge."""
        chosen: Evaluates = self._language
        if self.relay is not None:
            chosen = self.relay
            self.relay.audit = self._common.audit
        elif self._common.audit is not None:
            chosen = Recorder(self._language, self._session, self._common.audit, self._common.dispatcher.let_others_in)
        if self.judge is not None:
            self.judge.inner, self.judge.language = chosen, self._language
            chosen = self.judge
        if self._leave_out is not None:
            chosen = Beginning(chosen, self._leave_out, self.has_begun)
        self.evaluate: Any = chosen.statement

    def has_begun(self) -> None:
        """The client's own statements begin: all of them count."""
        self._leave_out = None
        self.choose()

    def end_judging(self) -> None:
        """Removes the judge once judging is over."""
        if self.judge is not None and self.judge.is_done:
            self.judge = None
            self.choose()

    def go_remote(self, remote: RemoteConsole) -> None:
        """Sends the following statements to another console."""
        if self.relay is not None:
            self.relay.remote.close()
        self._session.speaks(*ANY)              # the other console's language is not known here
        self.relay = Relay(remote, self._language, self._session, self._common.audit, self._send, self.leave_remote,
                           self._common.dispatcher.let_others_in)
        self.choose()

    def leave_remote(self) -> None:
        """Closes the connection to the other console. The following statements run here again."""
        assert self.relay is not None
        remote, self.relay = self.relay.remote, None
        self.choose()
        remote.close()
        self._language.left_remote()


def note_not_run(common: Common, session: Session, text: bytes, problem: str) -> None:
    """Writes a statement that was not run to the audit file."""
    if common.audit is not None:
        common.audit.statement(session, session.user, text, f'not run: {problem}'.encode(), 0.0,
                               common.dispatcher.let_others_in, **language_told(session, text))
