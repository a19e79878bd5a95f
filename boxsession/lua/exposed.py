"""Describes what a program exposes: for Lua, which builds it, and for help()."""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from boxsession.lua import signatures
from boxsession.lua.live import Live, LiveData, public_methods
from boxsession.values.natural import NoValue, natural
from boxsession.values.packed import Unpackable, pack

__all__ = ['Exposed']

_NAME = re.compile('[A-Za-z_][A-Za-z0-9_]*')
_KEYWORDS = frozenset("""and break do else elseif end false for function if in local nil not or repeat return then true
                         until while""".split())
_DATA = (int, float, str, bytes, bytearray, memoryview, Mapping, list, tuple, set, frozenset)
_LINE = 200


class Exposed:
    """Makes the description of exposed values.

    Args:
        number: gives a number to a Python function that Lua is to call, and to its name.
    """

    def __init__(self, number: Callable[[Callable[..., Any], str], int]):
        self._number = number
        self._help: dict[str, dict[str, str]] = {}

    def describe(self, expose: Mapping[str, Any]) -> bytes:
        """Packs a description of each exposed name for library/exposed.lua. Plain values are copied now.

        Raises:
            ValueError: a name or a value cannot be exposed.
        """
        for name in expose:
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _KEYWORDS or name == 'session':
                raise ValueError(f'cannot expose {name!r}: expected the name of a Lua variable, other than `session`')
        return pack({'specs': {name: self._spec(value, name) for name, value in expose.items()}, 'help': self._help})

    def _spec(self, value: Any, name: str) -> dict[str, Any]:
        if isinstance(value, Live):
            return self._live(value, name)
        if isinstance(value, type) or callable(value) and not _has_methods(value):
            return self._function(value, name)
        if isinstance(value, Mapping) and any(callable(inner) or isinstance(inner, Live) for inner in value.values()):
            self._explain(name, f'{name}: {len(value)} names', 'names of the program')
            return {'names': {key: self._spec(inner, f'{name}.{key}') for key, inner in value.items()}}
        methods = {} if _is_data(value) else public_methods(value)
        if methods:
            listed = '\n'.join(f'  {signatures.shown(f"{name}.{key}", method)}' for key, method in methods.items())
            documentation = signatures.documentation(type(value))
            self._explain(name, f'{name}: {type(value).__name__}', _first_line(documentation),
                          '\n\n'.join(filter(None, [documentation, listed])))
            return {'names': {key: self._function(method, f'{name}.{key}') for key, method in methods.items()}}
        return self._copy(value, name)

    def _function(self, function: Callable[..., Any], name: str) -> dict[str, Any]:
        documentation = signatures.documentation(function)
        self._explain(name, signatures.shown(name, function), _first_line(documentation), documentation)
        return {'call': self._number(signatures.from_lua(function), name)}

    def _copy(self, value: Any, name: str) -> dict[str, Any]:
        try:
            pack(value)
        except Unpackable as error:
            reason = error if _is_data(value) else (f'{type(value).__name__} has no public methods; Live() exposes its '
                                                    'attributes')
            raise ValueError(f'cannot expose {name!r}: {reason}') from None
        self._explain(name, f'{name}: {type(value).__name__}', 'a copy, made when the console started')
        return {'value': value}

    def _live(self, live: Live, name: str) -> dict[str, Any]:
        kind = type(live.value)
        documentation = signatures.documentation(kind) if kind.__module__ != 'builtins' else ''
        self._explain(name, f'{name}: {kind.__name__}', _first_line(documentation) or 'live data of the program',
                      '\n\n'.join(filter(None, [documentation, 'Live data: reads and writes go to the program.'])))
        return {'live': self._number(LiveData(name, live), name)}

    def _explain(self, name: str, head: str, first: str, text: str | None = None) -> None:
        """Keeps the line and the text about a name."""
        line = f'{head} -- {first}' if first else head
        text = first if text is None else text
        self._help[name] = {'line': line if len(line) <= _LINE else line[:_LINE] + '...',
                            'text': f'{head}\n\n{text}\n' if text else head}


def _first_line(documentation: str) -> str:
    return documentation.partition('\n')[0].strip()


def _has_methods(value: Any) -> bool:
    return not hasattr(value, '__code__') and not hasattr(value, '__self__') and bool(public_methods(value))


def _is_data(value: Any) -> bool:
    """Whether a value is exposed as a copy. Other types, such as a deque or a dataclass, may have methods to expose."""
    if value is None or isinstance(value, _DATA) or hasattr(type(value), '__serialize__'):
        return True
    try:
        return not isinstance(natural(value), (list, dict, NoValue))
    except ValueError:              # a decimal that is too long
        return True
