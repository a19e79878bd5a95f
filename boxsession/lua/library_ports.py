"""The ports for functions of library modules that Lua has no means for. Each takes a short text: callers cut long ones."""
from __future__ import annotations

import unicodedata

from boxsession.lua.memory_ports import MemoryPorts
from boxsession.lua.ports import Port
from boxsession.values.collation import compare

__all__ = ['LibraryPorts']

_SURROGATE = 'surrogateescape'


class LibraryPorts:
    """The ports of one Lua state."""

    def __init__(self, memory: MemoryPorts):
        self._memory = memory

    def ports(self) -> dict[str, Port]:
        """The ports, by their names in Lua."""
        text = self._memory.text
        return {'CASE': text(_in_case), 'CATEGORY': text(_category), 'COLLATE': Port(_collated)}


def _in_case(request):
    """A text in upper (b'u') or lower (b'l') case: one byte, and the text."""
    text = request[1:].decode(errors=_SURROGATE)
    return (text.upper() if request[:1] == b'u' else text.lower()).encode(errors=_SURROGATE)


def _category(code):
    """The Unicode category of a code."""
    return unicodedata.category(chr(int(code))).encode()


def _collated(request):
    """Compares two texts. Request: b'i' (ignore case) or b'c', the length of the first text, b':', and the two texts."""
    length, _, texts = request[1:].partition(b':')
    one, other = (text.decode(errors='replace') for text in (texts[:int(length)], texts[int(length):]))
    return compare(one, other, request[:1] == b'i')
