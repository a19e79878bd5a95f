"""Tells statements in Python that may be lines of other protocols. See sessions.evaluators.Judge. Pure."""
from __future__ import annotations

import builtins
import re

from boxsession.protocol.foreign import is_word

__all__ = ['is_blank', 'is_doubtful']

_BLANK = re.compile(rb'(?:\s|#[^\r\n]*)*')
# A name, perhaps behind signs as in the lines between the parts of a multipart body, and what follows it.
_FIRST_NAME = re.compile(rb'[\s+~*-]*([A-Za-z_]\w*)(.?)', re.DOTALL)
_NO_NAME = re.compile(rb"NameError: name '([^']*)'")


def is_blank(text: bytes) -> bool:
    """Whether a statement has only blanks and comments."""
    return _BLANK.fullmatch(text) is not None


def is_doubtful(text: bytes, failed: bytes) -> bool:
    """Whether a valid statement may be a command of another protocol.

    A name without a value is one: `stats`, `command [1]`, `--boundary`. A call or an attribute of it is none. A name alone
    that has a value runs nothing: `list`, `exit`.

    Args:
        failed: its error; empty without one.
    """
    word = text.strip()
    if is_word(word) or word.isalpha() and hasattr(builtins, word.decode()):
        return True
    missing, first = _NO_NAME.match(failed), _FIRST_NAME.match(text)
    return missing is not None and first is not None and missing[1] == first[1] and first[2] not in (b'(', b'.', b'[')
