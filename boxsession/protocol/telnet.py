"""Telnet inside a text stream (RFC 854, 855, 860): commands are taken out, wherever packets cut them.

A client that is not telnet may send the byte 0xff too; what follows it then is no telnet command, and both bytes stay.
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


# Stands in the output of TelnetFilter for a request to stop what runs.
INTERRUPT: Final = _Request.INTERRUPT
Part = bytes | _Request

# What a suboption may at most hold before it is given up for garbage.
_SUBOPTION_MAX = 1024


class TelnetFilter:
    """Splits what a client sends into text and interrupts, and collects the answers that telnet expects."""

    __slots__ = ('_held', '_suboption', 'answers')

    def __init__(self) -> None:
        self._held = b''            # the beginning of a command that the last packet cut
        self._suboption = -1        # bytes seen of the suboption we are inside, -1 outside
        self.answers = bytearray()  # what is to be sent; the caller takes and clears it

    def feed(self, data: bytes) -> list[Part]:
        """The text in `data`, as bytes objects in order, with INTERRUPT where one stood."""
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
                if command == IAC:                      # an escaped 0xff: one of the two is text
                    self._cut(parts, data, text_from, at)
                    text_from = at + 1
                    at += 2
                elif command < _FIRST_COMMAND:          # no telnet at all
                    at += 1
                elif command in (DO, DONT, WILL, WONT) and at + 2 == end:
                    break
                else:
                    self._cut(parts, data, text_from, at)
                    at = text_from = self._command(parts, data, at, command)
        self._cut(parts, data, text_from, at)
        self._held = self._held or data[at:]
        return parts

    @property
    def is_at_rest(self) -> bool:
        """Whether it is inside of no command and has no answer."""
        return not self._held and self._suboption < 0 and not self.answers

    def flush(self) -> bytes:
        """What is held back when no more can come: a lone 0xff is text after all."""
        held, self._held = self._held, b''
        return held

    @staticmethod
    def _cut(parts: list[Part], data: bytes, start: int, stop: int) -> None:
        if stop > start:
            parts.append(data[start:stop])

    def _command(self, parts: list[Part], data: bytes, at: int, command: int) -> int:
        """Obeys the command at `at`; returns the position behind it."""
        if command in (DO, WILL):
            option = data[at + 2]
            if command == DO:
                # A timing mark is granted at once: telnet drops what it gets until it sees the answer.
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
        """Passes over a suboption, to its IAC SE, another command, or the end of `data`; an IAC that ends it is kept."""
        end = len(data)
        start = at
        while True:
            iac = data.find(b'\xff', at)
            if iac < 0 or iac + 1 == end:
                break
            if data[iac + 1] != IAC:
                # Its end; or another command, by which the client has given it up.
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
    """The position of the next byte that may not be text, or the end."""
    iac, etx = data.find(b'\xff', at), data.find(b'\x03', at)
    if iac < 0:
        iac = len(data)
    return iac if etx < 0 else min(iac, etx)
