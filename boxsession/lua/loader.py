"""Loads the trusted Lua files. Each file is loaded after the files that it needs.

The head of a file names the files that it needs (`-- Needs: kernel/raw, wire/yaml`), in several such lines if one would be
too long. Its first statement names the ports that it takes (`local internal, LOG, CLOCK = ...`): so a port has
the same name in both languages.
"""
from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from importlib import resources
from typing import Any

from boxsession.lua import contract

__all__ = ['load', 'sources']

_ROOMS = ('kernel', 'rights', 'library', 'wire')
_NEEDS = re.compile(rb'^-- Needs: (.+)$', re.MULTILINE)
_TAKES = re.compile(rb'^local internal((?:, \w+)*) = \.\.\.$', re.MULTILINE)


def sources(wanted: Collection[str] | None = None) -> dict[str, bytes]:
    """The texts of the files by name (`'kernel/task'`), in load order.

    Args:
        wanted: names of files; only these and the files that they need are returned. None for all files.

    Raises:
        ValueError: files need each other.
    """
    package = resources.files(__package__)
    found = {f'{room}/{file.name.removesuffix(".lua")}': file for room in _ROOMS
             for file in package.joinpath(room).iterdir() if file.name.endswith('.lua')}
    ordered: dict[str, bytes] = {}
    under_way: list[str] = []

    def add(name: str) -> None:
        if name in ordered:
            return
        if name in under_way:
            raise ValueError(f'Lua files need each other: {", ".join(under_way)}')
        under_way.append(name)
        text = found[name].read_bytes()
        for needed in sorted(b', '.join(_NEEDS.findall(text)).decode().split(', ')):
            if needed:
                add(needed)
        under_way.remove(name)
        ordered[name] = text

    for name in sorted(found if wanted is None else wanted):
        add(name)
    return ordered


def load(lua: Any, internal: Any, ports: Mapping[str, Any], wanted: Collection[str] | None = None) -> None:
    """Runs the files in a Lua state.

    Args:
        lua: the `lupa.LuaRuntime`.
        internal: the Lua table through which the files share their functions.
        ports: the ports and values that files take, by their names in Lua.
        wanted: see `sources()`.
    """
    internal[b'contract'] = lua.table_from({name.encode(): number for name, number in contract.NUMBERS.items()})
    for name, text in sources(wanted).items():
        takes = _TAKES.search(text)
        if takes is None:
            raise ValueError(f'{name}.lua must begin with `local internal = ...`')
        arguments = [ports[port] for port in takes[1].decode().split(', ')[1:]]
        lua.execute(text, internal, *arguments, name=f'=builtin/{name.partition("/")[2]}.lua'.encode())
