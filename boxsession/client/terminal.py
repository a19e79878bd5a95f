"""The interactive session: reads statements, runs them, shows the replies, and reconnects if the connection is lost."""
from __future__ import annotations

import os
import re
import signal
import time

from boxsession.client.channel import CLOSED, Abandoned, LinkError, Lost, Refused
from boxsession.client.completions import completions
from boxsession.client.history import History, default_path
from boxsession.client.identity import identity
from boxsession.client.link import Link
from boxsession.client.plain import PlainEditor
from boxsession.client.pushes import shown_push
from boxsession.client.python_lines import leaves
from boxsession.client.screen import Screen
from boxsession.client.script import ALL_WELL, NO_SERVER
from boxsession.client.settings import Settings, is_quit
from boxsession.client.streams import CannotWrite, Ended, signals
from boxsession.client.tables import table
from boxsession.client.target import Target
from boxsession.client.values import Unshowable, error_text, shown
from boxsession.protocol.client import Notice, Reply
from boxsession.protocol.greeting import is_ours, process_of

__all__ = ['run_terminal']

_COMPLETION_SECONDS = 0.2
# How long a statement may take to end after a signal that ends the client, in seconds.
_PATIENCE_SECONDS = 1.0
# The duration of a statement is shown from here on.
_SLOW_SECONDS = 1.0
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 2.0
# Words that leave, or give help, in other consoles. They are evaluated as Lua first: a global with that name is shown.
_LEAVING, _ASKING = (b'quit', b'exit'), (b'help', b'help()')
_HELP_SECONDS = 5.0
_NIL = b'---\n- null\n...\n'
# In Python, the two words are functions that end the session.
_LEFT = (_NIL, b'---\n- exit() or \\quit ends the session\n...\n')
_SHOWN_LANGUAGES = {'lua': '', 'python': ' py'}
# Statements that may change the user of the session.
_CHANGES_USER = re.compile(rb'login|\bsu\b')

_HELP = r"""Keys and commands of this client:

  Return           runs the statement if it is complete, else begins a new line
  Alt-Return       begins a new line
  Tab              completes a name or a command
  Up, Ctrl-R       earlier statements; search in them
  Ctrl-C           drops the typed text; cancels a running statement, the
                   second time stops waiting for it and leaves
  Ctrl-D           leaves, as \quit, quit and exit do
  \set output yaml|json|lua|lua,block
                   the format of replies
  \set delimiter TEXT, \set continuation auto|on|off
                   when a statement is complete

Help of the server:
"""


class _Terminal:
    def __init__(self, target: Target, form: str, plain: bool):
        self._target = target
        self._settings = Settings(output=form)
        self._screen = Screen(plain)
        self._history = History(default_path())
        self._editor = _editor(plain)(self._history, self._is_whole, self._completions, lambda: self._settings.language)
        self._link: Link | None = None
        self._session, self._user = '', ''
        self._process = 0, ''               # the pid of the server, and the name of its service
        self._kept = ''

    def run(self) -> int:
        try:
            greeting = self._connect().greeting
        except LinkError as error:
            self._screen.say(f'boxsession: {error}')
            return NO_SERVER
        version = greeting[64:].split(b',')[0].strip() if is_ours(greeting) else greeting[:64].partition(b' (')[0]
        pid, name = self._process
        process = f' ({name}, pid {pid})' if name else f' (pid {pid})' if pid else ''
        self._screen.say(f'{version.decode(errors="replace")}{process} at {self._target.address}, session {self._session}; '
                         '\\help for help, Ctrl-D leaves')
        try:
            while self._turn():
                pass
        except (CannotWrite, OSError):              # the terminal is gone
            pass
        finally:
            if self._link is not None:
                self._link.close()
        return ALL_WELL

    def _turn(self) -> bool:
        """Reads a statement and runs it; False if the user leaves."""
        try:
            return self._read_and_run()
        except KeyboardInterrupt:                   # drops the typed text, or the rest of a long output
            return True

    def _read_and_run(self):
        kept, self._kept = self._kept, ''
        try:
            text = self._editor.read(self._prompt(), kept)
        except EOFError:
            self._screen.say('')
            return False
        whole = self._settings.whole(text.encode(errors='surrogateescape'))
        statement = text.encode(errors='surrogateescape') if whole is None else whole
        if not statement.strip():
            return True
        if is_quit(statement):
            return False
        document = self._settings.take(statement)
        if document is not None:
            self._show(document)
            return True
        if statement.strip() in (b'\\help', b'\\h', b'\\'):
            self._screen.say(_HELP)
        try:
            link = self._link
            if link is None:
                link = self._connect()
                self._screen.say(f'connected: session {self._session}')
            return self._ask(link, statement)
        except Lost as error:
            if error.reason == CLOSED and self._settings.language == 'python' and leaves(statement):
                return False
            self._kept = text
            self._come_back(error)
        except Abandoned as error:
            self._screen.say(f'boxsession: {error}')
            return False
        except LinkError as error:
            self._kept = text
            self._screen.say(f'boxsession: {error}')
        except MemoryError:
            self._screen.say('boxsession: not enough memory for this reply; --max-reply BYTES limits replies')
        return True

    def _prompt(self) -> str:
        where = f'{self._target.address}{_SHOWN_LANGUAGES[self._settings.language]}> '
        return f'(not connected) {where}' if self._link is None else _service(self._process) + f'{self._user}@{where}'

    def _show(self, document: bytes, shown_as: bytes | None = None) -> None:
        form = self._settings.output if shown_as is None else 'table'
        try:
            self._screen.show(shown(document, form) if shown_as is None else shown_as, form)
        except Unshowable as error:
            self._screen.say(f'boxsession: {error}')

    # Statements

    def _ask(self, link: Link, statement: bytes) -> bool:
        """Runs a statement and shows its reply; False if it was a word that leaves."""
        began = time.monotonic()
        ending = 0

        def interrupted(number, _):
            nonlocal ending
            if number != signal.SIGINT:             # for example SIGHUP: the terminal was closed
                if ending:
                    raise Ended(number)
                ending, link.interrupts.patience = number, _PATIENCE_SECONDS
                link.interrupts.interrupt()
            elif link.interrupts.interrupt() == 1:
                self._screen.say(' cancelling the statement; Ctrl-C again leaves' if link.can_cancel else
                                 ' this server cannot cancel a statement; Ctrl-C again leaves, and it may go on running')

        wakeup_fd = signal.set_wakeup_fd(link.interrupts.wakeup_fd, warn_on_full_buffer=False)
        try:
            with signals(interrupted, signal.SIGINT):
                for event in link.ask(statement):
                    if isinstance(event, Reply):
                        seconds, document = time.monotonic() - began, event.document
                    elif isinstance(event, Notice):
                        self._screen.say(f'the server says: {error_text(event.document)}')
                    else:
                        self._screen.show(*shown_push(event.document, statement, self._settings.output))
        except (LinkError, CannotWrite):
            if not ending:
                raise
        finally:
            signal.set_wakeup_fd(wakeup_fd)
        if ending:
            raise Ended(ending)
        self._settings.language = link.language
        word = statement.strip()
        if word in _LEAVING and document in _LEFT:
            return False
        if word in _ASKING:
            if document == _NIL:                    # the server has no such name
                self._screen.say(_HELP)
                return self._ask(link, b'\\help')
            if document == link.query(b'\\help', _HELP_SECONDS):        # else a user's global has this name
                self._screen.say(_HELP)
        self._show(document, table(statement, document, self._session, self._screen.columns)
                   if self._settings.output == 'yaml' else None)
        if seconds > _SLOW_SECONDS:
            self._screen.say(f'({seconds:.1f} s)')
        if _CHANGES_USER.search(statement):
            self._identify(link)
        return True

    def _identify(self, link: Link) -> None:
        session, user = identity(link)
        self._session, self._user = session or self._session or '?', user or self._user or self._target.user or '?'

    # Connecting

    def _connect(self) -> Link:
        self._link = None
        self._link = link = Link(self._target)
        self._process = process_of(link.greeting)
        if self._session:                   # the connection was lost
            _speak_again(link, self._settings.language, self._screen)
        self._settings.language = link.language
        self._identify(link)
        return link

    def _come_back(self, lost: Lost) -> None:
        session, user = self._session, self._user
        if self._link is not None:
            self._link.close()
            self._link = None
        self._screen.say(f'boxsession: {lost}')
        self._screen.say('the statement may have run, completely or in part' if lost.was_sent else
                         'the statement was not sent')
        delay, problem = _FIRST_DELAY, LinkError('not connected')
        try:
            self._screen.say('connecting again; Ctrl-C stops trying')
            while True:
                try:
                    self._connect()
                    break
                except Refused as error:
                    self._screen.say(f'boxsession: {error}; the next statement connects again')
                    return
                except LinkError as error:
                    problem = error
                time.sleep(delay)
                delay = min(2 * delay, _LONGEST_DELAY)
        except KeyboardInterrupt:
            self._screen.say(f'boxsession: {problem}; the next statement connects again')
            return
        self._screen.say(f'connected again: session {self._session} (it was {session}). The state of the former session is '
                         'lost: its storage, its names of session scope, its settings')
        if self._user != user:
            self._screen.say(f'the user is {self._user} now (it was {user})')

    # For the editor

    def _is_whole(self, text: str) -> bool:
        return not text.strip() or self._settings.whole(text.encode(errors='surrogateescape')) is not None

    def _completions(self, line: str) -> tuple[int, list[str]]:
        link = self._link
        return completions(line, lambda text: link.completions(text, _COMPLETION_SECONDS) if link is not None else None,
                           self._settings.language)


def _service(process: tuple[int, str]) -> str:
    """The process and the service for the prompt; '' if the server does not tell them."""
    pid, name = process
    return f'{name}[{pid}] ' if pid else ''


def _speak_again(link: Link, language: str, screen: Screen) -> None:
    """Sets the language of a new session to that of the lost one. If it cannot be set, the user is told why."""
    try:
        if link.language != language:
            link.speak(language)
    except Refused as error:
        screen.say(f'boxsession: {error}')


def _editor(plain: bool):
    if not plain and (os.environ.get('TERM') or 'dumb') != 'dumb':
        try:
            from boxsession.client.fancy import FancyEditor

            return FancyEditor
        except ImportError:
            pass
    return PlainEditor


def run_terminal(target: Target, *, form: str = 'yaml', plain: bool = False) -> int:
    """Runs an interactive session on the terminal until the user leaves, and returns the exit code.

    Args:
        target: the server, and the user to log in as.
        form: the first format of replies: one of `boxsession.client.values.FORMATS`.
        plain: True for no prompt_toolkit and no colours, even if they are installed.
    """
    return _Terminal(target, form, plain).run()
