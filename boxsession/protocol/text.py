r"""The text protocol: lines in, statements out.

Theory of operation
-------------------
Bytes go in with receive_data(), which takes telnet's commands out and keeps the rest. next_event() cuts one event off
the front, under the settings of that moment: a statement may change the delimiter or the continuation, so nothing is
cut before what stands in front of it has run.

    statement    = *(line LF) line terminator
    terminator   = LF, or delimiter LF when a delimiter is set; a CR in front of LF belongs to it

Which lines make one statement depends on `delimiter` (if set, nothing else ends a statement) and on `continuation`:
auto (the driver says with hold() that a statement is not complete), on (a backslash at a line's end), off.

A server's protocol `is_judging` at first: each line is looked at before anything of it is handed out, and one of another
protocol, or one that is too long to tell, is a Foreign event, behind which there is only End. The driver ends that with
trust(), when a statement was run without an error.
"""
from __future__ import annotations

from dataclasses import dataclass

from boxsession.protocol.foreign import START_BYTES, foreign, foreign_start
from boxsession.protocol.telnet import INTERRUPT, TelnetFilter

__all__ = ['NEED_DATA', 'Cancelled', 'ConsoleProtocol', 'End', 'Foreign', 'More', 'Quit', 'Statement', 'TooLong',
           'Unfinished']

_SPECIAL = (b'\xff', b'\x03')
# A line that ends in one of these may not be a statement: CR, a continuation's backslash, what says goodbye.
_ENDINGS = b'\r\\.\x04'
# Alone on a line: ssh's escape, and what a terminal sends for Ctrl-D when it does not end the input itself.
_GOODBYES = (b'~.', b'\x04')


# What next_event() gives when it has nothing until more bytes come.
NEED_DATA = None


@dataclass(slots=True)       # not frozen: one is made for each statement, and freezing doubles its price
class Statement:
    """A statement to run and answer."""

    text: bytes
    may_continue: bool      # when it turns out to be incomplete, hold() it instead of answering


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A statement that an interrupt overtook: to be answered, not run."""

    text: bytes
    may_continue: bool      # when it turns out to be incomplete, hold() it instead of answering


@dataclass(frozen=True, slots=True)
class More:
    """A line that leaves its statement open. Nothing to answer; a prompt may say so."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """A statement over the limit. What is left of it is skipped."""

    limit: int              # bytes


@dataclass(frozen=True, slots=True)
class Foreign:
    """A line of another protocol, or one too long to tell. What comes behind it is dropped."""

    protocol: str           # its name, empty where it has none
    limit: int = 0          # bytes; where the line was over it


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What was typed of a statement when the input ended."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Quit:
    """The client asked to be disconnected (`~.` or Ctrl-D alone on a line)."""


@dataclass(frozen=True, slots=True)
class End:
    """The input has ended and everything in it has been handed out."""


Event = Statement | Cancelled | More | TooLong | Foreign | Unfinished | Quit | End


class ConsoleProtocol:
    """One client's side of the text protocol.

    Longer than usual: all of it cuts one buffer, and the short way through it (next_event) reads its fields directly.

    Args:
        max_statement_bytes: the longest statement, line feeds inside it counted; 0 for no limit.
        continuation: 'auto', 'on' or 'off'.
        goodbyes: whether `~.` and Ctrl-D alone on a line leave; in a file they are text.
        is_judging: whether lines of other protocols are looked for, until trust().
    """

    __slots__ = ('continuation', 'delimiter', 'max_statement_bytes', '_data', '_at', '_buffer', '_scanned', '_held',
                 '_skipping', '_ended', '_doomed', '_telnet', '_goodbyes', 'is_judging', '_dropped')

    def __init__(self, max_statement_bytes: int = 0, continuation: str = 'off', goodbyes: bool = True,
                 is_judging: bool = False):
        self.continuation = continuation
        self._goodbyes = _GOODBYES if goodbyes else ()
        self.delimiter = b''                        # what ends a statement, in front of its line feed
        self.max_statement_bytes = max_statement_bytes
        # Text that no event has taken: what is left of the last packet, or, when a line goes on in the next one, all of
        # it in the buffer. Never in both.
        self._data = b''
        self._at = 0
        self._buffer = bytearray()
        self._scanned = 0                           # how much of it holds no line feed for certain
        self._held: bytes | None = None             # the lines of the statement that is not complete
        self._skipping = False                      # inside the rest of a statement that was too long
        self._ended = False
        self._doomed = 0                            # how much of the buffer an interrupt has overtaken
        # Made when first needed; while there is one, nothing takes the short way past it.
        self._telnet = TelnetFilter() if is_judging else None
        self.is_judging = is_judging
        self._dropped = b''                         # while judging: of the line under way, what interrupts took

    def receive_data(self, data: bytes) -> bool:
        """Takes what came from the client. True if there was an interrupt in it: what runs now is to be cancelled."""
        if self._telnet is None:
            if _SPECIAL[0] not in data and _SPECIAL[1] not in data:
                if self._at == len(self._data) and not self._buffer:
                    self._data = data
                    self._at = 0
                else:
                    self._keep(data)
                return False
            self._telnet = TelnetFilter()
        if self._ended:                             # behind a Foreign
            return False
        interrupted = False
        for part in self._telnet.feed(data):
            if part is INTERRUPT:
                interrupted = True
                self._interrupt()
            else:
                self._keep(part)
        return interrupted

    def receive_text(self, data: bytes) -> None:
        """Takes text that no telnet has sent, such as a file's: nothing in it is a command of telnet's."""
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        if self._at < len(self._data):
            self._buffer += self._data[self._at:]
            self._at = len(self._data)
        self._buffer += data

    def trust(self) -> None:
        """Says that the client is one of a console: its lines are looked at no more."""
        self.is_judging = False
        self._dropped = b''
        if self._telnet is not None and self._telnet.is_at_rest:
            self._telnet = None

    @property
    def has_more(self) -> bool:
        """Whether more than blanks is waiting to be cut into statements."""
        return bool(self._data[self._at:].strip() or self._buffer.strip())

    def receive_eof(self) -> None:
        """The client sends no more."""
        if not self._ended:
            self._ended = True
            if self._telnet is not None:
                self._keep(self._telnet.flush())

    def data_to_send(self) -> bytes:
        """Telnet's answers, to go out in front of the next reply."""
        if self._telnet is None or not self._telnet.answers:
            return b''
        data = bytes(self._telnet.answers)
        self._telnet.answers.clear()
        return data

    @property
    def is_plain(self) -> bool:
        """Whether what comes is taken as it is: no command of telnet's has been seen, and nothing is judged."""
        return self._telnet is None

    @property
    def buffered_bytes(self) -> int:
        """How much is waiting to be cut into statements."""
        return len(self._buffer) + len(self._data) - self._at

    @property
    def kept_bytes(self) -> int:
        """The same, and the lines of a statement that goes on."""
        return len(self._buffer) + len(self._data) - self._at + len(self._held or b'')

    @property
    def holds_statement(self) -> bool:
        """Whether the next line goes on with a statement that has begun."""
        return self._held is not None

    def hold(self, statement: Statement | Cancelled) -> None:
        """Says that a statement is not complete: the lines to come belong to it."""
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
        """Everything sent so far and not answered is off; what was a whole statement still gets its answer."""
        self._keep(b'')
        self._doomed = len(self._buffer)
        if not self._doomed:
            self._drop_statement()

    def _drop_statement(self) -> None:
        self._held = None
        self._skipping = False
        self._scanned = 0

    def _take_doomed(self) -> Event | None:
        """The next event in front of the last interrupt, or None when there is no more."""
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
                self._drop_statement()          # the interrupt stands right behind this line
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
            event = self._cut_line(newline)
            if event is not None:
                return event

    def _cut_line(self, newline: int) -> Event | None:
        """Takes the line that ends at `newline` off the buffer: the event that it completes, or None."""
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
        """Looks at a whole line, with what interrupts took of it."""
        whole, self._dropped = self._dropped + line, b''
        if self._is_over(len(whole)):
            return self._refuse(Foreign('', self.max_statement_bytes))
        name = foreign(whole)
        return None if name is None else self._refuse(Foreign(name))

    def _judge_partial(self) -> Foreign | None:
        """Looks at a line whose end is not there, or will not come."""
        buffer = self._buffer
        if self._ended:
            return self._judge(bytes(buffer))
        count = len(self._dropped) + len(buffer)
        if self._is_over(count - len(self.delimiter) - 1):
            return self._refuse(Foreign('', self.max_statement_bytes))
        name = foreign_start(self._dropped + buffer[:START_BYTES])
        return None if name is None else self._refuse(Foreign(name))

    def _refuse(self, event: Foreign) -> Foreign:
        """Nothing more is taken, and nothing is kept."""
        self._buffer.clear()
        self._data, self._at = b'', 0
        self._doomed = 0
        self._drop_statement()
        self._ended, self.is_judging = True, False
        return event

    def _is_over(self, count: int) -> bool:
        return bool(self.max_statement_bytes) and count > self.max_statement_bytes

    def _take_partial(self) -> Event | None:
        """What to do with a line whose end is not there."""
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
            # Only what may be the beginning of the statement's end has to be kept.
            del buffer[:max(0, len(buffer) - len(self.delimiter) - 1)]
        elif self._is_over(len(buffer) + len(self._held or b'') - len(self.delimiter) - 1):
            self._skipping = True
            self._held = None
            buffer.clear()
            self._scanned = 0
            return TooLong(self.max_statement_bytes)
        self._scanned = len(buffer)
        return NEED_DATA
