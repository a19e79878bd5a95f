"""Removes telnet commands from a text stream (RFC 854, 855, 860), also if they are split between packets.

A client that is not telnet may send the byte 0xff, too. If the next byte is not a telnet command, both bytes stay.
"""
from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ['INTERRUPT', 'Part', 'TelnetFilter']

IAC, DONT, DO, WONT, WILL, SB = 255, 254, 253, 252, 251, 250
AYT, IP, BRK, SE = 246, 244, 243, 240
ABORT, SUSP, EOF = 238, 237, 236
_FIRST_COMMAND = EOF
TIMING_MARK = 6
ETX = 3             # Ctrl-C of a client that does not speak telnet


class _Request(Enum):
    INTERRUPT = 'interrupt'


# An item in the output of TelnetFilter: the client asks to stop the running statement.
INTERRUPT: Final = _Request.INTERRUPT
Part = bytes | _Request

# Maximum length of a suboption in bytes. After that the filter reads text again.
_SUBOPTION_MAX = 1024


class TelnetFilter:
    """Splits a client's input into text and interrupts, and collects the answers that telnet expects."""

    __slots__ = ('_held', '_suboption', 'answers')

    def __init__(self) -> None:
        self._held = b''            # the start of a command whose rest has not arrived
        self._suboption = -1        # bytes read of the current suboption; -1 outside of one
        self.answers = bytearray()  # bytes to send; the caller takes and clears them

    def feed(self, data: bytes) -> list[Part]:
        """The text in `data`, in order, with INTERRUPT at the place of each interrupt."""
        if self._held:
            data = self._held + data
            self._held = b''
        parts: list[Part] = []
        at, end = 0, len(data)
        text_from = 0
        while at < end:
            if self._suboption >= 0:
                at = text_from = self._skip_suboption(data, at)
                continue
            byte = data[at]
            if byte == ETX:
                self._cut(parts, data, text_from, at)
                parts.append(INTERRUPT)
                at = text_from = at + 1
            elif byte != IAC:
                at = _next_special(data, at)
            elif at + 1 == end:
                break
            else:
                command = data[at + 1]
                if command == IAC:                      # an escaped 0xff: the second one is text
                    self._cut(parts, data, text_from, at)
                    text_from = at + 1
                    at += 2
                elif command < _FIRST_COMMAND:          # not a telnet command: text
                    at += 1
                elif command in (DO, DONT, WILL, WONT) and at + 2 == end:
                    break
                else:
                    self._cut(parts, data, text_from, at)
                    at = text_from = self._command(parts, data, at, command)
        self._cut(parts, data, text_from, at)
        self._held = self._held or data[at:]
        return parts

    def finds_interrupt(self, data: bytes) -> bool:
        """Whether there is an interrupt in data that is fed later."""
        later = TelnetFilter()
        later._held, later._suboption = self._held, self._suboption
        return INTERRUPT in later.feed(data)

    @property
    def is_at_rest(self) -> bool:
        """Whether it is outside of any command and has no answers to send."""
        return not self._held and self._suboption < 0 and not self.answers

    def flush(self) -> bytes:
        """The bytes held back, at the end of the input: a single 0xff is text then."""
        held, self._held = self._held, b''
        return held

    @staticmethod
    def _cut(parts: list[Part], data: bytes, start: int, stop: int) -> None:
        if stop > start:
            parts.append(data[start:stop])

    def _command(self, parts: list[Part], data: bytes, at: int, command: int) -> int:
        """Executes the command at `at`; returns the position after it."""
        if command in (DO, WILL):
            option = data[at + 2]
            if command == DO:
                # A timing mark is granted at once: until then telnet discards all output.
                self.answers += bytes((IAC, WILL if option == TIMING_MARK else WONT, option))
            else:
                self.answers += bytes((IAC, DONT, option))
            return at + 3
        if command in (DONT, WONT):
            return at + 3
        if command == SB:
            self._suboption = 0
        elif command in (IP, BRK, ABORT, SUSP):
            parts.append(INTERRUPT)
        elif command == AYT:
            self.answers += b'\r\n[boxsession is here]\r\n'
        return at + 2

    def _skip_suboption(self, data: bytes, at: int) -> int:
        """Skips a suboption up to its IAC SE, another command, or the end of `data`. Holds back an IAC at the end."""
        end = len(data)
        start = at
        while True:
            iac = data.find(b'\xff', at)
            if iac < 0 or iac + 1 == end:
                break
            if data[iac + 1] != IAC:
                # IAC SE ends it; another command abandons it.
                self._suboption = -1
                return iac + 2 if data[iac + 1] == SE else iac
            at = iac + 2
        self._suboption += end - start
        if self._suboption > _SUBOPTION_MAX:
            self._suboption = -1
        elif iac >= 0:
            self._held = data[-1:]
        return end


def _next_special(data: bytes, at: int) -> int:
    """The position of the next 0xff or Ctrl-C, or the end."""
    iac, etx = data.find(b'\xff', at), data.find(b'\x03', at)
    if iac < 0:
        iac = len(data)
    return iac if etx < 0 else min(iac, etx)
