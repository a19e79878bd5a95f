"""`box` for statements in Python: the session, and everything else by way of Lua."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from boxsession.base.errors import StatementCancelled
from boxsession.base.session import Session
from boxsession.python.values import packed
from boxsession.values.packed import Unpackable, pack, unpack

__all__ = ['Box', 'LuaError', 'Storage']

_PUSH_MAX = 1 << 24


class LuaError(Exception):
    """A statement of Lua has raised an error."""


class _Link(Protocol):
    """See boxsession.python.link.Link."""

    def exchange(self, request: bytes) -> bytes: ...
    def push(self, content: bytes) -> None: ...


class Box:
    """The functions of one session.

    Attributes:
        session: functions of the session, as `box.session` in Lua.
        inspect: functions that look into the program, as `box.inspect` in Lua.
    """

    def __init__(self, session: Session, link: _Link):
        self.session = _Session(session, link)
        self.inspect = _Functions(self.lua, 'box.inspect')
        self._link = link

    @property
    def info(self) -> dict[str, Any]:
        """Facts about the console, as `box.info()` in Lua."""
        found: dict[str, Any] = self.lua('return box.info()')
        return found or {}                  # an empty table of Lua is a list

    def lua(self, statement: str, *arguments: Any) -> Any:
        """Runs a statement in Lua, in this session. Arguments and values are copied.

        Args:
            arguments: the values of `...` in the statement.

        Returns:
            The value; None if there is none, a tuple if there are several.

        Raises:
            LuaError: the statement has raised an error.
            RuntimeError: another greenlet than that of the session's statement calls it.
        """
        return _exchanged(self._link, statement, arguments)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_'):
            raise AttributeError(name)
        raise AttributeError(f'box has no {name!r} in Python. Lua may have it: box.lua("return box.{name}...")')

    def __repr__(self) -> str:
        return 'box: session, info, inspect, lua(statement, ...)'


def _exchanged(link: _Link, statement: str, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(statement, str):
        raise TypeError(f'box.lua(): the statement must be a text, not {type(statement).__name__}')
    answer = link.exchange(_request(statement, arguments))
    if answer == b'!':
        raise StatementCancelled
    if answer[:1] == b'!':
        raise LuaError(answer[1:].decode(errors='backslashreplace'))
    values = unpack(answer, 1)
    return None if not values else values[0] if len(values) == 1 else tuple(values)


def _request(statement: str, arguments: tuple[Any, ...]) -> bytes:
    try:
        return pack([statement, len(arguments), *arguments])
    except Unpackable:
        for number, argument in enumerate(arguments, 1):
            try:
                pack(argument)
            except Unpackable as error:
                kind = TypeError if error.kind == 'TypeError' else ValueError
                raise kind(f'argument {number}: {error}') from None
        raise


class _Functions:
    """Functions of Lua under one name."""

    def __init__(self, lua: Callable[..., Any], name: str):
        self._lua = lua
        self._name = name

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith('_'):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            return self._lua(f'return {self._name}.{name}(...)', *arguments)
        call.__name__, call.__qualname__ = name, f'{self._name}.{name}'
        call.__doc__ = f'The function {self._name}.{name} of Lua: docs/console.rst has its arguments.'
        return call

    def __dir__(self) -> list[str]:
        found: list[str] = self._lua(f'local names = {{}} for name in pairs({self._name}) do names[#names + 1] = name end '
                                     'table.sort(names) return names')
        return found

    def __repr__(self) -> str:
        return f'the functions of {self._name} in Lua; dir() lists them'


class _Session:
    """`box.session`."""

    def __init__(self, session: Session, link: _Link):
        self._own = session
        self._link = link
        self.storage = Storage(link)

    def id(self) -> int:
        """The number of this session."""
        return self._own.id

    def peer(self, session_id: int | None = None) -> str | None:
        """The address of a session's client; without an argument, of this session's."""
        if session_id is None:
            return self._own.peer
        found: str | None = self._lua('peer', session_id)
        return found

    def user(self) -> str:
        """The user whose rights this session has."""
        return self._own.user

    def type(self) -> str:
        """The type of this session."""
        return self._own.type

    def push(self, value: Any) -> bool:
        """Sends a value to the client before the reply."""
        self._link.push(packed(value, _PUSH_MAX))
        return True

    def _lua(self, name: str, *arguments: Any) -> Any:
        return _exchanged(self._link, f'return box.session.{name}(...)', arguments)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The other functions of box.session in Lua: exists, list, kill, cancel, name, sync, fd, su ..."""
        if name.startswith('_'):
            raise AttributeError(name)

        def call(*arguments: Any, **options: Any) -> Any:
            return self._lua(name, *arguments, *([options] if options else []))
        call.__name__, call.__qualname__ = name, f'box.session.{name}'
        return call

    def __dir__(self) -> list[str]:
        return ['cancel', 'exists', 'id', 'kill', 'list', 'name', 'peer', 'push', 'storage', 'su', 'sync', 'type', 'user']

    def __repr__(self) -> str:
        return f'box.session: {", ".join(dir(self))}'


class Storage:
    """`box.session.storage`: the session's own table of Lua, for plain values. They are copied in both directions."""

    def __init__(self, link: _Link):
        object.__setattr__(self, '_link', link)

    def _lua(self, statement: str, *arguments: Any) -> Any:
        return _exchanged(self._link, statement, arguments)

    def __getitem__(self, key: Any) -> Any:
        has, value = self._lua('local value = box.session.storage[...] return value ~= nil, value', key)
        if not has:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._lua('local key, value = ... box.session.storage[key] = value', key, value)

    def __delitem__(self, key: Any) -> None:
        self[key]
        self._lua('box.session.storage[...] = nil', key)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f'the storage of this session has no {name!r}') from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f'the storage of this session has no {name!r}') from None

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or the default."""
        try:
            return self[key]
        except KeyError:
            return default

    def copy(self) -> Any:
        """A copy of the content."""
        return self._lua('return box.session.storage')

    def keys(self) -> list[Any]:
        """The keys."""
        return list(self._lua('local keys = {} for key in pairs(box.session.storage) do keys[#keys + 1] = key end '
                              'return keys'))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, key: Any) -> bool:
        return self.get(key, self) is not self

    def __repr__(self) -> str:
        return 'box.session.storage: copy() shows it'
