"""The names that a program gives to statements in Python."""
from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Any
from unicodedata import normalize

from boxsession.python.functions import functions

__all__ = ['checked_namespace']

# Names that each session has for itself: results, the last exception, and those of the language.
_OF_SESSIONS = re.compile(r'_|_e|_\d+|__\w*__')
_OF_CONSOLE = {'box', 'shared', *functions(lambda text: None)}


def checked_namespace(namespace: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of the mapping of names to objects. The objects are not touched.

    Raises:
        TypeError: it is no mapping.
        ValueError: a name cannot be used in a statement, or is one of the console's own.
    """
    if namespace is None:
        return {}
    if not isinstance(namespace, Mapping):
        raise TypeError(f'namespace must be a mapping of names to objects, not a {type(namespace).__name__}')
    found = dict(namespace)
    for name in found:
        # Python reads names in a statement in their normal form.
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) \
                or normalize('NFKC', name) != name:
            raise ValueError(f'namespace: {name!r} cannot be used in a statement: expected the name of a variable, such as '
                             'app')
        if name in _OF_CONSOLE or _OF_SESSIONS.fullmatch(name):
            raise ValueError(f'namespace: {name!r} is a name of the console: choose another one')
    return found
