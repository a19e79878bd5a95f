"""Runs statements of the command line, of files and pipes. Results go to standard output, all else to standard error."""
from __future__ import annotations

import os
import re
import select
import signal
import sys
import time
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass

from boxsession.base.redaction import ANY, redacted
from boxsession.client.channel import CLOSED, LinkError, Lost, TimedOut
from boxsession.client.completeness import is_complete
from boxsession.client.link import Link
from boxsession.client.python_lines import Lines, leaves, place_in_file
from boxsession.client.settings import Settings, is_quit
from boxsession.client.streams import CannotWrite, Ended, say, signals, write
from boxsession.client.target import Target, WrongUsage
from boxsession.client.values import Unshowable, error_document, error_text, is_error, shown, text_of_push
from boxsession.protocol.client import Notice, Reply
from boxsession.protocol.text import NEED_DATA, ConsoleProtocol, End, More, Statement, Unfinished

__all__ = ['ALL_WELL', 'FAILED', 'NO_SERVER', 'WRONG_USAGE', 'Source', 'run_script']

ALL_WELL, FAILED, NO_SERVER, WRONG_USAGE = 0, 1, 2, 3
_READ_BYTES = 65536
# How long a cancelled statement may take to end, in seconds.
_PATIENCE_SECONDS = 1.0
# How much of an unfinished statement the error shows (characters), and is searched for passwords (bytes).
_SHOWN, _SHOWN_BYTES = 80, 1024
_HEADS = (b'#!', BOM_UTF8 + b'#!')
_BLANK = re.compile(rb'\s*(--(?!\[=*\[)[^\n]*(\n\s*)?)?')


@dataclass(frozen=True)
class Source:
    """A source of statements: one statement, or a file.

    Attributes:
        name: its name in errors; '' if it is the only source.
        statement: the statement; None for a file.
        path: the file; '-' is standard input.
    """

    name: str
    statement: str | None = None
    path: str = '-'

    def place(self, line: int) -> str:
        """A line of the file, for errors."""
        return f'{self.name}:{line}' if self.name else f'line {line}'


class _Script:
    def __init__(self, target: Target, *, form: str, keep_going: bool, timeout: float | None):
        self._target = target
        self._form = form                       # the format of results; \set output changes it
        self._settings = Settings(output='yaml' if form == 'raw' else form)
        self._keep_going = keep_going
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._link: Link | None = None
        self._is_busy = False
        self._signal = 0
        self._has_left = False              # a statement has ended the session
        self._code = ALL_WELL

    def run(self, sources: list[Source]) -> int:
        try:
            with signals(self._stop, signal.SIGINT):
                self._run(sources)
        except TimedOut:
            if self._signal:
                return 128 + self._signal
            _say('', '--timeout is over: the running statement was cancelled' if self._is_busy else '--timeout is over')
            return NO_SERVER
        except LinkError as error:
            _say('', str(error))
            return NO_SERVER
        except CannotWrite as error:
            if not error.has_left:              # a reader that closes the pipe (head, for example) is no error
                raise
        finally:
            signal.set_wakeup_fd(-1)
            if self._link is not None:
                self._link.close()
        return self._code

    def _run(self, sources):
        for source in sources:
            if source.statement is None and source.path != '-':
                _close_again(source.path)
        self._link = link = Link(self._target, self._deadline)
        link.interrupts.patience = _PATIENCE_SECONDS
        self._settings.language = link.language
        signal.set_wakeup_fd(link.interrupts.wakeup_fd, warn_on_full_buffer=False)
        for source in sources:
            for place, statement in self._statements(source):
                if is_quit(statement):
                    return
                if not self._perform(link, place, statement) and not self._keep_going or self._has_left:
                    return

    def _stop(self, number, _):
        self._signal = number
        if not self._is_busy or self._link is None or self._link.interrupts.interrupt() > 1:
            raise Ended(number)

    # Statements

    def _statements(self, source: Source) -> Iterator[tuple[str, bytes]]:
        """The statements of a source, each with its place. A statement may change the settings for the next one."""
        if source.statement is not None:
            yield source.name, os.fsencode(source.statement)
            return
        protocol, settings = ConsoleProtocol(continuation='auto', goodbyes=False), self._settings
        line, lines = 1, Lines()
        for data in _pieces(source.path, self._deadline, b'' if settings.language == 'python' else b'--'):
            protocol.receive_text(data)
            while True:
                protocol.delimiter, protocol.continuation = settings.delimiter, settings.continuation
                event = protocol.next_event()
                if event is NEED_DATA:
                    break
                if isinstance(event, Statement):
                    if event.may_continue and settings.language == 'python':
                        for begins, text in lines.take(event.text, line):
                            yield source.place(begins), text
                        line += 1
                    elif event.may_continue and not is_complete(event.text):
                        protocol.hold(event)
                    else:
                        begins, line = line, line + event.text.count(b'\n') + 1
                        if not _BLANK.fullmatch(event.text):
                            yield source.place(begins), event.text
                else:
                    assert isinstance(event, More)
        for begins, text in lines.rest():
            yield source.place(begins), text
        protocol.receive_eof()
        event = protocol.next_event()
        if not isinstance(event, End):
            assert isinstance(event, Unfinished)
            text = event.text.strip()
            self._fail(source.place(line),
                       'the input ended inside a statement, which was not run: '
                       + redacted(text, _SHOWN_BYTES, brief=True, languages=ANY)[:_SHOWN])

    def _perform(self, link: Link, place: str, statement: bytes) -> bool:
        """Runs a statement and shows its result; False if it ended in an error."""
        document = self._settings.take(statement)
        if document is not None:
            self._form = self._settings.output if self._form != 'raw' else 'raw'
        else:
            self._is_busy = True
            try:
                for event in link.ask(statement, self._deadline):
                    if isinstance(event, Reply):
                        document = event.document
                    elif isinstance(event, Notice):
                        _say(place, error_text(event.document))
                    else:
                        _push(text_of_push(event.document))
            except Lost as error:
                self._has_left = error.reason == CLOSED and link.language == 'python' and leaves(statement)
                if not self._has_left:
                    raise
                return True
            self._is_busy = False
            self._settings.language = link.language
            if self._signal:
                raise Ended(self._signal)
        assert document is not None         # ask() ends with a reply
        if is_error(document):
            message = error_text(document)
            return self._fail(place_in_file(place, message), message, document)
        try:
            write(sys.stdout, shown(document, self._form))
        except Unshowable as error:
            return self._fail(place, str(error))
        return True

    def _fail(self, place, message, document=None) -> bool:
        self._code = FAILED
        if document is None:
            document = error_document(message)
        try:
            data = shown(document, self._form)
        except Unshowable as error:
            data = shown(error_document(str(error)), self._form)
        write(sys.stdout, data)
        _say(place, message)
        return False


def run_script(target: Target, sources: list[Source], *, form: str = 'yaml', keep_going: bool = False,
               timeout: float | None = None) -> int:
    """Runs the statements of all sources in one session, and returns the exit code.

    Args:
        target: the server, and the user to log in as.
        sources: the statements, in their order.
        form: the format of results: one of `boxsession.client.values.FORMATS`, or 'raw'.
        keep_going: continues after an error.
        timeout: time limit in seconds for the whole run, connecting included.

    Raises:
        WrongUsage: a file cannot be read.
        CannotWrite: standard output cannot be written.
    """
    return _Script(target, form=form, keep_going=keep_going, timeout=timeout).run(sources)


def _close_again(path):
    try:
        open(path, 'rb').close()
    except OSError as error:
        raise WrongUsage(f'-f {path}: {error.strerror}') from None


def _pieces(path: str, deadline: float | None, comment: bytes) -> Iterator[bytes]:
    """The content of a file, piece by piece, with a line feed at its end. A byte order mark is left out, and a first line
    `#!...` becomes a comment: `comment` is put in front of it."""
    fd = sys.stdin.fileno() if path == '-' else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        is_first, head, last = True, b'', b''
        while True:
            if deadline is not None:
                poller = select.poll()
                poller.register(fd, select.POLLIN)
                if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise TimedOut('no more input in time')
            try:
                data = os.read(fd, _READ_BYTES)
            except OSError as error:
                raise WrongUsage(f'{"standard input" if path == "-" else f"-f {path}"}: {error.strerror}') from None
            if not data:
                break
            last = data[-1:]
            if is_first:
                head += data
                if any(mark.startswith(head) for mark in _HEADS):       # the rest of it may follow
                    continue
                is_first, data = False, head.removeprefix(BOM_UTF8)
                if data.startswith(b'#!'):
                    data = comment + data
            yield data
        if is_first:
            yield head.removeprefix(BOM_UTF8)
        if last not in (b'', b'\n'):
            yield b'\n'
    finally:
        if path != '-':
            os.close(fd)


def _push(text: bytes) -> None:
    try:
        write(sys.stderr, text)
    except CannotWrite:
        pass


def _say(place: str, message: str) -> None:
    say(f'boxsession: {place}: {message}' if place else f'boxsession: {message}')
