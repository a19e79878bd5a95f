"""Asks a server for the id and the user of the session."""
from __future__ import annotations

import re

from boxsession.client.link import Link
from boxsession.client.values import Unshowable, error_text, is_error, text_of_push, values, visible

__all__ = ['identity']

_SECONDS = 5.0
_IDENTITY = b'box.session.id(), box.session.user()'
# In Python it has no value, which would become `_`.
_IN_PYTHON = b'print(box.session.id(), box.session.user())'
# The error of a user who has no right to use Python names him.
_DENIED = re.compile(r"Execute access .* is denied for user '(.*)'")
_WORD_MAX = 64


def identity(link: Link) -> tuple[str, str]:
    """The id and the user of the session. Each is empty if the server does not tell it."""
    is_python, printed = link.language == 'python', list[bytes]()
    document = link.query(_IN_PYTHON if is_python else _IDENTITY, _SECONDS, printed if is_python else None) or b''
    try:
        if is_error(document) and (denied := _DENIED.search(error_text(document))):
            session, user = '', denied[1]
        elif is_python:
            session, _, user = text_of_push(b''.join(printed)).decode(errors='replace').partition(' ')
        else:
            session, user = values(document)
    except (Unshowable, ValueError):            # the server has no such functions
        return '', ''
    return _word(session), _word(user)


def _word(value: object) -> str:
    """A value of the server as one short word, safe for a prompt."""
    return visible(' '.join(str(value).split()))[:_WORD_MAX]
