"""What may be kept of a statement: nothing of one that seems to hold a password. Pure."""
from __future__ import annotations

import re

__all__ = ['HIDDEN', 'may_hold_secret', 'redacted']

# Where one of these stands, any text may be a password.
_SECRET = re.compile(rb'passw|\\\s*login|login\s*[=(]|:[^@\s]+@', re.IGNORECASE)
HIDDEN = '*** (it may hold a password)'


def may_hold_secret(statement: bytes) -> bool:
    """Whether a statement seems to hold a password."""
    return _SECRET.search(statement) is not None


def redacted(statement: bytes) -> str:
    """A statement as it may be kept in a log, an audit file or a list."""
    return HIDDEN if may_hold_secret(statement) else statement.decode(errors='backslashreplace')
