r"""What a person sets of the console that is the client's business: how values are shown, and what ends a statement. Pure.

The wire stays as it is (`boxsession.client.conversation`): `\set output`, `\set delimiter`, `\set continuation` and
`\set prompt` are answered here, with what a server would answer.
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
    """Whether a statement asks to leave."""
    return _QUIT.fullmatch(statement) is not None


@dataclass
class Settings:
    """One client's settings."""

    output: str = 'yaml'
    continuation: str = 'auto'
    delimiter: bytes = b''

    def take(self, statement: bytes) -> bytes | None:
        """The reply to a command that is the client's; None for what the server is to answer."""
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
        return _TRUE                            # a prompt is there when somebody types

    def whole(self, text: bytes) -> bytes | None:
        """The statement that a text is, without what ends it; None when more lines belong to it."""
        if self.delimiter:
            text = text.rstrip()
            return text[:-len(self.delimiter)] if text.endswith(self.delimiter) else None
        if self.continuation == 'on':
            return None if text.endswith(b'\\') else text.replace(b'\\\n', b'\n')
        if self.continuation == 'auto' and not is_complete(text):
            return None
        return text
