"""Statements in Python, line by line: from files, and as they are typed. Pure."""
from __future__ import annotations

import re

from boxsession.base.python_text import is_module
from boxsession.protocol.client import INTERRUPT, OPENING

__all__ = ['INDENT', 'Lines', 'indentation', 'leaves', 'place_in_file', 'problem']

INDENT = '    '
_BLANK = re.compile(rb'(?:\s|#[^\n]*)*')
_LEAVES_BLOCK = re.compile(r'\s*(?:return|raise|pass|break|continue)\b')
# The line of the statement in which an error happened: (statement:12).
_ERROR_LINE = re.compile(r'\bstatement:(\d+)\)?$')
# Text that cannot be sent: the delimiter of the client's statements, and what ends a session or cancels a statement.
_DELIMITER = OPENING[1].split()[-1]
_GOODBYE = re.compile(rb'^(~\.|\x04)\r?$', re.MULTILINE)
_SETS_DELIMITER = re.compile(rb'\bdelimiter\s*[("\'\[]')
_EXIT = re.compile(rb'\b(?:exit|quit)\s*\(')
_FILE_LINE = re.compile(r'(line |.*:)\d+', re.DOTALL)


class Lines:
    """The lines of a file. Together they are one statement, except that lines with commands divide it.

    A statement begins with as many empty lines as there are lines in front of it in the file. So the lines in its errors
    are those of the file.
    """

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._first = 1                     # the number of the first line

    def take(self, line: bytes, number: int) -> list[tuple[int, bytes]]:
        """Takes a line with its number in the file. Returns the statements that are complete now, each with its number."""
        if line.startswith(b'\\') and self._is_between_statements():
            return [*self.rest(), (number, line)]
        if not self._lines:
            self._first = number
        self._lines.append(line)
        return []

    def rest(self) -> list[tuple[int, bytes]]:
        """The statement of the lines since the last command; none if they are blank."""
        lines, self._lines = self._lines, []
        for number, line in enumerate(lines, self._first):
            if not _BLANK.fullmatch(line):
                return [(number, b'\n' * (self._first - 1) + b'\n'.join(lines))]
        return []

    def _is_between_statements(self) -> bool:
        """Whether the next line does not belong to a string, to brackets, or to a line that goes on."""
        return is_module(b'\n'.join(self._lines).decode(errors='surrogateescape'))


def place_in_file(place: str, message: str) -> str:
    """The place of an error: `FILE:12` or `line 12`, with the line that the error names."""
    named, line = _ERROR_LINE.search(message), _FILE_LINE.fullmatch(place)
    return line[1] + named[1] if named is not None and line is not None else place


def indentation(line: str) -> str:
    """The white space with which the line after this one begins."""
    margin = line[:len(line) - len(line.lstrip())]
    if line.rstrip().endswith(':'):
        return margin + INDENT
    return margin[:-len(INDENT)] if _LEAVES_BLOCK.match(line) else margin


def leaves(statement: bytes) -> bool:
    """Whether a statement may have ended the session, if the server closes the connection instead of a reply."""
    return not statement.startswith(b'\\') and _EXIT.search(statement) is not None


def problem(statement: bytes) -> str:
    """Why a statement must not be sent; empty if it may be sent. In Lua, such text is sent as a string to console.eval."""
    if _DELIMITER in statement or INTERRUPT in statement or _GOODBYE.search(statement):
        return (f'a statement in Python must not have the text {_DELIMITER.decode()}, the byte 0x03, or a line with ~. or '
                'the byte 0x04 alone: write \\x2d, \\x03, \\x7e or \\x04 in its strings')
    if _SETS_DELIMITER.search(statement) and b'lua' in statement:
        return 'the client needs its delimiter: \\set delimiter TEXT sets that of your input'
    return ''
