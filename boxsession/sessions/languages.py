"""The languages of a session's statements: which it uses, and whether its user may."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from boxsession.base.session import Session
from boxsession.sessions.common import Common
from boxsession.values.packed import Tagged

__all__ = ['Language', 'Spoken', 'first_language', 'language_told', 'spoken']


class Language(Protocol):
    """The evaluator of a language: runs a session's statements in this process."""

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged: ...
    def is_incomplete(self, text: bytes) -> bool: ...
    def is_wrong(self, text: bytes) -> bool: ...
    def is_blank(self, text: bytes) -> bool: ...        # only blanks and comments: nothing runs
    # Whether another program may have sent the statement: it is wrong, or a command of another protocol. `reply` is its
    # reply, None if it did not run; last_error() is its error.
    def is_doubtful(self, text: bytes, reply: Tagged | None) -> bool: ...
    def last_error(self) -> bytes: ...
    def error(self, message: str) -> bytes: ...
    def left_remote(self) -> None: ...          # called when statements run here again after console.connect


class Own(Language, Protocol):
    """The session's own evaluator, that of Lua."""

    def denied(self, kind: str) -> bytes: ...


class Other(Language, Protocol):
    """The evaluator of another language."""

    def command_ran(self) -> None: ...      # a backslash command runs, which may change settings


class Spoken:
    """Runs statements in another language (`\\set language`). Backslash commands still go to the session's own evaluator.

    Args:
        own: the session's own evaluator.
        other: the evaluator of the other language. It runs in the same task: so turns, deadlines and cancellation are the
            same.
        may_speak: whether a user may use a language. Asked before each statement: rights and users of sessions change.
    """

    __slots__ = ('_own', '_other', '_last', '_session', '_language', '_may_speak')

    def __init__(self, own: Own, other: Other, session: Session, may_speak: Callable[[int, str], bool]):
        self._own = own
        self._other = other
        self._last: Language = own
        self._session = session
        self._language = session.language
        self._may_speak = may_speak

    def statement(self, text: bytes, may_continue: bool = False) -> Tagged:
        if text.startswith(b'\\'):
            self._last = self._own
            self._other.command_ran()
        elif self._may_speak(self._session.uid, self._language):
            self._last = self._other
        else:
            self._last = self._own
            return self._own.denied(self._language)
        return self._last.statement(text, may_continue)

    def is_incomplete(self, text: bytes) -> bool:
        return self._other.is_incomplete(text)

    def is_wrong(self, text: bytes) -> bool:
        return self._other.is_wrong(text)

    def is_blank(self, text: bytes) -> bool:
        return self._other.is_blank(text)

    def is_doubtful(self, text: bytes, reply: Tagged | None) -> bool:
        return (self._own if text.startswith(b'\\') else self._other).is_doubtful(text, reply)

    def last_error(self) -> bytes:
        return self._last.last_error()

    def error(self, message: str) -> bytes:
        return self._own.error(message)

    def left_remote(self) -> None:
        self._own.left_remote()


def spoken(own: Own, session: Session, common: Common) -> Language:
    """The evaluator of the language that a session uses. `own` is the session's own evaluator."""
    other: Other = common.languages[session.language](own, session)
    return own if other is own else Spoken(own, other, session, common.may_speak)


def first_language(session: Session, common: Common) -> str:
    """The first language of the session's listener that its user may use. If there is none: the first, and statements are
    refused until the user has logged in."""
    allowed = session.allowed_languages
    return next((language for language in allowed if common.may_speak(session.uid, language)), allowed[0])


def language_told(session: Session, statement: bytes) -> dict[str, Any]:
    """The language of a session's next statement as a field for the audit file, which has none for Lua and for commands."""
    return {} if session.language == 'lua' or statement.startswith(b'\\') else {'language': session.language}
