r"""The settings of a session that the client keeps itself: the output format, and how a statement ends. Pure.

The session on the server always has the same settings (`boxsession.protocol.client`). So the client answers
`\set output`, `\set delimiter`, `\set continuation` and `\set prompt` itself, with the replies of a server.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

from boxsession.client.completeness import is_complete
from boxsession.client.values import FORMATS, error_document

__all__ = ['Settings', 'is_quit']

_SET = re.compile(rb'\\\s*(?:set|s)\s+(\w+)(?:\s+(\S+))?\s*')
_QUIT = re.compile(rb'\\\s*(?:quit|q)\s*|~\.')
_NAMES = {b'output': 'output', b'o': 'output', b'delimiter': 'delimiter', b'delim': 'delimiter', b'd': 'delimiter',
          b'continuation': 'continuation', b'c': 'continuation', b'prompt': 'prompt', b'p': 'prompt'}
_CONTINUATIONS = (b'auto', b'on', b'off')
_NOTHING = b'---\n...\n'
_TRUE = b'---\n- true\n...\n'


def is_quit(statement: bytes) -> bool:
    """Whether a statement is a command that leaves the client."""
    return _QUIT.fullmatch(statement) is not None


@dataclass
class Settings:
    """The settings of one client. `language` is that of the session, which the server sets."""

    output: str = 'yaml'
    continuation: str = 'auto'
    delimiter: bytes = b''
    language: str = 'lua'

    def take(self, statement: bytes) -> bytes | None:
        """Runs a command that belongs to the client and returns its reply; None for any other statement."""
        match = _SET.fullmatch(statement)
        if match is None or match[1] not in _NAMES:
            return None
        name = _NAMES[match[1]]
        value = match[2]
        if name == 'delimiter':
            self.delimiter = value or b''
            return _NOTHING
        if name == 'output':
            if value is None or value.decode(errors='replace') not in FORMATS:
                return error_document(f'Specify output format: {", ".join(FORMATS)}.')
            self.output = value.decode()
        elif name == 'continuation':
            if value not in _CONTINUATIONS:
                return error_document('Specify continuation: auto, on, off.')
            self.continuation = value.decode()
        return _TRUE                            # also for `prompt`, which changes nothing: the client has its own prompt

    def whole(self, text: bytes) -> bytes | None:
        """The statement in a text, without its delimiter; None if it needs more lines."""
        if self.delimiter:
            text = text.rstrip()
            return text[:-len(self.delimiter)] if text.endswith(self.delimiter) else None
        if self.continuation == 'on':
            return None if text.endswith(b'\\') else text.replace(b'\\\n', b'\n')
        if self.continuation == 'auto' and not is_complete(text, self.language):
            return None
        return text
