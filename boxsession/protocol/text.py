r"""The server's side of the text protocol: lines in, statements out.

Theory of operation
-------------------
receive_data() takes bytes, removes telnet commands and keeps the rest. next_event() takes one event off the front, with
the settings of that moment. A statement may change the delimiter or the continuation, so no event is made before the
statement in front of it has run.

    statement    = *(line LF) line terminator
    terminator   = LF, or delimiter LF if a delimiter is set; a CR in front of LF belongs to it

The end of a statement depends on `delimiter` (if set, nothing else ends a statement) and on `continuation`: 'auto' (the
driver calls hold() if a statement is incomplete), 'on' (a backslash at the end of a line continues it) or 'off'.

In Python an empty line ends a block. With 'auto', an empty line inside an incomplete statement does not end it if an
indented line follows at once: so pasted functions may have empty lines. No statement begins with an indented line.

A server's protocol begins with `is_judging`: each line is checked before any event is made of it. A line of another
protocol, or one that is too long to check, becomes a Foreign event; after that only End follows. The driver ends the
checks by trust() when a statement has run without an error.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

from boxsession.protocol.foreign import START_BYTES, foreign, foreign_start
from boxsession.protocol.telnet import INTERRUPT, TelnetFilter

__all__ = ['NEED_DATA', 'Cancelled', 'ConsoleProtocol', 'End', 'Foreign', 'Look', 'More', 'Quit', 'Statement', 'TooLong',
           'Unfinished']

_SPECIAL = (b'\xff', b'\x03')
# Last bytes of lines that need a closer look: CR, the backslash of a continuation, the two of _GOODBYES.
_ENDINGS = b'\r\\.\x04'
# Lines that end the session: ssh's escape, and Ctrl-D from a terminal that does not end the input itself.
_GOODBYES = (b'~.', b'\x04')
# Empty lines, and nothing behind them; the same with an indented line behind them. Limited: each empty line is matched.
_EMPTY = re.compile(rb'(?:[ \t\r]{0,200}\n){1,20}\Z')
_EMPTY_AND_INDENTED = re.compile(rb'(?:[ \t\r]{0,200}\n){1,20}[ \t]{1,200}(?:\S|\Z)')


# next_event() returns this if it needs more bytes.
NEED_DATA = None


@dataclass(slots=True)       # not frozen: each statement makes one, and freezing doubles the cost
class Statement:
    """A statement to run and answer."""

    text: bytes
    may_continue: bool      # if it is incomplete, call hold() instead of answering


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A statement that was cancelled by an interrupt before it ran: answer it, do not run it."""

    text: bytes
    may_continue: bool      # if it is incomplete, call hold() instead of answering


@dataclass(frozen=True, slots=True)
class More:
    """A line whose statement continues. It gets no reply; a prompt may show it."""


@dataclass(frozen=True, slots=True)
class Look:
    """A statement may be over. Wait a moment for more input, then ask again: the text may be pasted."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """A statement over the limit. Its rest is skipped."""

    limit: int              # bytes


@dataclass(frozen=True, slots=True)
class Foreign:
    """A line of another protocol, or one that is too long to check. All later input is dropped."""

    protocol: str           # its name, or empty
    limit: int = 0          # in bytes, if the line was longer; otherwise 0


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An incomplete statement at the end of the input."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Quit:
    """The client ends the session (`~.` or Ctrl-D alone on a line)."""


@dataclass(frozen=True, slots=True)
class End:
    """The input has ended, and all of it has become events."""


Event = Statement | Cancelled | More | Look | TooLong | Foreign | Unfinished | Quit | End


class ConsoleProtocol:
    """Splits the input of one client into events.

    Longer than usual: all methods work on one buffer, and the fast path in next_event() reads its fields directly.

    Args:
        max_statement_bytes: maximum length of a statement, with the line feeds inside it; 0 for no limit.
        continuation: 'auto', 'on' or 'off'.
        goodbyes: `~.` and Ctrl-D alone on a line end the session. In a file they are text.
        is_judging: check for lines of other protocols until trust() is called.
        looks: give Look events. Without them, a statement is over if nothing that follows has been received.
    """

    __slots__ = ('continuation', 'delimiter', 'max_statement_bytes', '_data', '_at', '_buffer', '_scanned', '_held',
                 '_skipping', '_ended', '_doomed', '_telnet', '_goodbyes', 'is_judging', '_dropped', '_looks',
                 '_has_looked')

    def __init__(self, max_statement_bytes: int = 0, continuation: str = 'off', goodbyes: bool = True,
                 is_judging: bool = False, looks: bool = False):
        self.continuation = continuation
        self._goodbyes = _GOODBYES if goodbyes else ()
        self.delimiter = b''                        # the end of a statement, in front of its line feed; b'': none
        self.max_statement_bytes = max_statement_bytes
        # Text that no event has taken: the rest of the last packet (_data from _at on). If a line continues in the next
        # packet, all text is in _buffer instead.
        self._data = b''
        self._at = 0
        self._buffer = bytearray()
        self._scanned = 0                           # number of bytes of _buffer that contain no line feed
        self._held: bytes | None = None             # the lines of the incomplete statement
        self._skipping = False                      # reading the rest of a statement that is too long
        self._ended = False
        self._doomed = 0                            # number of bytes of _buffer in front of the last interrupt
        # Made when it is needed. While it exists, receive_data() does not take its fast path.
        self._telnet = TelnetFilter() if is_judging else None
        self.is_judging = is_judging
        self._dropped = b''                         # while judging: parts of the current line that interrupts have removed
        self._looks = looks
        self._has_looked = False                    # a Look was given, and nothing was received since

    def receive_data(self, data: bytes) -> bool:
        """Takes input of the client. Returns whether it contains an interrupt: then cancel the running statement."""
        if self._telnet is None:
            if _SPECIAL[0] not in data and _SPECIAL[1] not in data:
                if self._at == len(self._data) and not self._buffer:
                    self._data = data
                    self._at = 0
                else:
                    self._keep(data)
                return False
            self._telnet = TelnetFilter()
        if self._ended:                             # after a Foreign event
            return False
        interrupted = False
        for part in self._telnet.feed(data):
            if part is INTERRUPT:
                interrupted = True
                self._interrupt()
            else:
                self._keep(part)
        return interrupted

    def has_interrupt(self, data: bytes) -> bool:
        """Whether there is an interrupt in data that is received later."""
        return not self._ended and (self._telnet or TelnetFilter()).finds_interrupt(data)

    def receive_text(self, data: bytes) -> None:
        """Takes text without telnet commands, such as the content of a file."""
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        self._has_looked = False
        if self._at < len(self._data):
            self._buffer += self._data[self._at:]
            self._at = len(self._data)
        self._buffer += data

    def trust(self) -> None:
        """Ends the checks for lines of other protocols."""
        self.is_judging = False
        self._dropped = b''
        if self._telnet is not None and self._telnet.is_at_rest:
            self._telnet = None

    @property
    def has_more(self) -> bool:
        """Whether the input that is not yet an event has more than white space."""
        return bool(self._data[self._at:].strip() or self._buffer.strip())

    def receive_eof(self) -> None:
        """Says that the client sends no more."""
        if not self._ended:
            self._ended = True
            if self._telnet is not None:
                self._keep(self._telnet.flush())

    def data_to_send(self) -> bytes:
        """Takes the answers to telnet commands, to send before the next reply."""
        if self._telnet is None or not self._telnet.answers:
            return b''
        data = bytes(self._telnet.answers)
        self._telnet.answers.clear()
        return data

    @property
    def is_plain(self) -> bool:
        """Whether input is taken unchanged: the client has sent no telnet command, and is_judging is over."""
        return self._telnet is None

    @property
    def buffered_bytes(self) -> int:
        """Number of bytes of input that are not yet events."""
        return len(self._buffer) + len(self._data) - self._at

    @property
    def kept_bytes(self) -> int:
        """buffered_bytes and the lines of the incomplete statement."""
        return len(self._buffer) + len(self._data) - self._at + len(self._held or b'')

    @property
    def holds_statement(self) -> bool:
        """Whether the next line continues an incomplete statement."""
        return self._held is not None

    def hold(self, statement: Statement | Cancelled) -> None:
        """Says that a statement is incomplete: the next lines belong to it."""
        if isinstance(statement, Statement) or self._doomed:
            self._held = statement.text + b'\n'

    def next_event(self) -> Event | None:
        """The next event, or NEED_DATA."""
        if self._doomed:
            event = self._take_doomed()
            if event is not None:
                return event
        data, at = self._data, self._at
        if at < len(data):
            newline = data.find(b'\n', at)
            if newline >= 0 and self._held is None and not (self.delimiter or self._skipping):
                # The common case: one line, one statement.
                line = data[at:newline]
                if 0 < newline - at <= (self.max_statement_bytes or newline) and line[-1] not in _ENDINGS:
                    self._at = newline + 1
                    return Statement(line, self.continuation == 'auto')
            self._keep(b'')
        elif not self._buffer and not self._ended:
            return NEED_DATA
        return self._take()

    def _interrupt(self) -> None:
        """Cancels all input so far that has no reply. A whole statement still becomes a Cancelled event."""
        self._keep(b'')
        self._doomed = len(self._buffer)
        if not self._doomed:
            self._drop_statement()

    def _drop_statement(self) -> None:
        self._held = None
        self._skipping = False
        self._scanned = 0

    def _take_doomed(self) -> Event | None:
        """The next event in front of the last interrupt, or None if there are no more."""
        buffer = self._buffer
        while True:
            newline = buffer.find(b'\n', 0, self._doomed)
            if newline < 0:
                if self.is_judging:
                    self._dropped += buffer[:self._doomed]
                del buffer[:self._doomed]
                self._doomed = 0
                self._drop_statement()
                return None
            self._doomed -= newline + 1
            event = self._cut_line(newline)
            if not self._doomed:
                self._drop_statement()          # the interrupt came right after this line
            if isinstance(event, Statement):
                return Cancelled(event.text, event.may_continue)
            if event is not None:
                return event

    def _take(self) -> Event | None:
        buffer = self._buffer
        while True:
            newline = buffer.find(b'\n', self._scanned)
            if newline < 0:
                return self._take_partial()
            is_inside = False
            if self._held is not None and self.continuation == 'auto' and not self.delimiter:
                if self._looks and not self._has_looked and not self._ended and _EMPTY.match(buffer):
                    self._has_looked = True
                    return Look()
                is_inside = _EMPTY_AND_INDENTED.match(buffer) is not None
            event = self._cut_line(newline)
            if is_inside and isinstance(event, Statement):
                self.hold(event)
                return More()
            if event is not None:
                return event

    def _cut_line(self, newline: int) -> Event | None:
        """Takes the line that ends at `newline` off the buffer. Returns the event that it completes, or None."""
        buffer = self._buffer
        stop = newline - 1 if newline and buffer[newline - 1] == 13 else newline
        line = bytes(buffer[:stop])
        if self.is_judging:
            event = self._judge(line)
            if event is not None:
                return event
        del buffer[:newline + 1]
        self._scanned = 0
        if line in self._goodbyes:
            return Quit()
        if self._skipping:
            self._skipping = bool(self.delimiter) and not line.endswith(self.delimiter)
            return None
        held, self._held = self._held, None
        text = line if held is None else held + line
        ends = True
        if self.delimiter:
            ends = line.endswith(self.delimiter)
            if ends:
                text = text[:-len(self.delimiter)]
        elif self.continuation == 'on' and line.endswith(b'\\'):
            ends = False
            text = text[:-1]
        if self._is_over(len(text)):
            self._skipping = not ends and bool(self.delimiter)
            return TooLong(self.max_statement_bytes)
        if ends:
            return Statement(text, self.continuation == 'auto' and not self.delimiter)
        self._held = text + b'\n'
        return More()

    def _judge(self, line: bytes) -> Foreign | None:
        """Checks a whole line, including the parts that interrupts have removed."""
        whole, self._dropped = self._dropped + line, b''
        if self._is_over(len(whole)):
            return self._refuse(Foreign('', self.max_statement_bytes))
        name = foreign(whole, self._held or b'')
        return None if name is None else self._refuse(Foreign(name))

    def _judge_partial(self) -> Foreign | None:
        """Checks a line that is not complete, or never will be."""
        buffer = self._buffer
        if self._ended:
            return self._judge(bytes(buffer))
        count = len(self._dropped) + len(buffer)
        if self._is_over(count - len(self.delimiter) - 1):
            return self._refuse(Foreign('', self.max_statement_bytes))
        name = foreign_start(self._dropped + buffer[:START_BYTES])
        return None if name is None else self._refuse(Foreign(name))

    def _refuse(self, event: Foreign) -> Foreign:
        """Drops all input, also later input."""
        self._buffer.clear()
        self._data, self._at = b'', 0
        self._doomed = 0
        self._drop_statement()
        self._ended, self.is_judging = True, False
        return event

    def _is_over(self, count: int) -> bool:
        return bool(self.max_statement_bytes) and count > self.max_statement_bytes

    def _take_partial(self) -> Event | None:
        """Handles a line that is not complete."""
        buffer = self._buffer
        if self.is_judging:
            event = self._judge_partial()
            if event is not None:
                return event
        if self._ended:
            text = (self._held or b'') + bytes(buffer)
            buffer.clear()
            self._held = None
            self._scanned = 0
            skipping, self._skipping = self._skipping, False
            if text.strip() and not skipping:
                return Unfinished(text)
            return End()
        if self._skipping:
            # Keep only the bytes that may be the start of the delimiter.
            del buffer[:max(0, len(buffer) - len(self.delimiter) - 1)]
        elif self._is_over(len(buffer) + len(self._held or b'') - len(self.delimiter) - 1):
            self._skipping = True
            self._held = None
            buffer.clear()
            self._scanned = 0
            return TooLong(self.max_statement_bytes)
        self._scanned = len(buffer)
        return NEED_DATA
