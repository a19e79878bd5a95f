"""The tables of users, roles, functions, granted commands and grants. Pure data.

Lookups and changes take constant time, however many users there are: each table has the indexes that they need, and a
journal notes what a transaction changes.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ['Changes', 'Function', 'Grant', 'Row', 'Rows', 'Tables', 'User', 'row_of']


@dataclass(frozen=True, slots=True)
class User:
    """A user or a role."""

    id: int
    name: str
    kind: str                   # 'user' or 'role'
    owner: int
    hash: str = ''              # of the password (`boxsession.users.passwords`); '' without a password


@dataclass(frozen=True, slots=True)
class Function:
    """A function that can be granted: a Lua global of that name. With `setuid` it runs as `owner`, else as the caller."""

    id: int
    name: str
    owner: int
    setuid: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """Privileges of a user or role on an object."""

    grantee: int
    type: str                   # a key of access.GRANTABLE
    object: int                 # an id, access.UNIVERSE or access.EVERY
    privileges: int             # a bit mask: see access.PRIVILEGES
    grantor: int


Row = tuple[Any, ...]
# The rows of each table, by the table's name.
Rows = dict[str, set[Row]]
# A row's table, and its key.
Place = tuple[str, Any]
# The old and the new value of each row that has changed; None for no row.
Changes = dict[Place, tuple[Any, Any]]


class Tables:
    """The tables, as dictionaries by key. Change them with put() and remove() only.

    Attributes:
        commands: names of the granted console commands, by the object id in the grants.
        grants: by grantee, type and object.
        numbers: 'last_id', the last id that was given.
        kinds: the numbers of users and roles.
        journal: the values before a transaction, by place; None outside of one.
    """

    def __init__(self) -> None:
        self.users: dict[int, User] = {}
        self.functions: dict[int, Function] = {}
        self.commands: dict[int, str] = {}
        self.grants: dict[tuple[int, str, int], Grant] = {}
        self.numbers: dict[str, int] = {'last_id': 0}
        self.kinds: Counter[str] = Counter()
        self.journal: dict[Place, Any] | None = None
        self._tables: dict[str, dict[Any, Any]] = {
            'users': self.users, 'functions': self.functions, 'commands': self.commands, 'grants': self.grants,
            'meta': self.numbers}
        # The ids of users and roles, functions and commands, by name.
        self._ids: dict[str, dict[str, int]] = {'users': {}, 'functions': {}, 'commands': {}}
        # The ids of what each user owns, by table and owner.
        self._owned: dict[tuple[str, int], set[int]] = {}
        # The grants of each grantee, by type and object; the grantees of each object, by type and object.
        self._grants_of: dict[int, dict[tuple[str, int], Grant]] = {}
        self._grantees_on: dict[tuple[str, int], set[int]] = {}

    @property
    def last_id(self) -> int:
        """The last id that was given to a user, role, function or command. Ids are never reused: a session whose user was
        dropped must not become another user."""
        return self.numbers['last_id']

    # Changes

    def put(self, table: str, key: Any, value: Any) -> None:
        """Adds or replaces a row."""
        self._change(table, key, value)

    def remove(self, table: str, key: Any) -> None:
        """Removes a row, if it is there. The last grant of a command takes the command with it."""
        self._change(table, key, None)
        if table == 'grants' and key[1] == 'command' and not self._grantees_on.get(key[1:]):
            self._change('commands', key[2], None)

    def next_id(self) -> int:
        """Gives an id."""
        self._change('meta', 'last_id', self.last_id + 1)
        return self.last_id

    def _change(self, table: str, key: Any, value: Any) -> None:
        rows = self._tables[table]
        old = rows.get(key)
        if old == value:
            return
        if self.journal is not None:
            self.journal.setdefault((table, key), old)
        if old is not None:
            self._unindex(table, key, old)
        if value is None:
            del rows[key]
        else:
            rows[key] = value
            self._index(table, key, value)

    def _index(self, table: str, key: Any, value: Any) -> None:
        if table == 'grants':
            self._grants_of.setdefault(key[0], {})[key[1:]] = value
            self._grantees_on.setdefault(key[1:], set()).add(key[0])
        elif table == 'commands':
            self._ids[table][value] = key
        elif table != 'meta':
            self._ids[table][value.name] = key
            self._owned.setdefault((table, value.owner), set()).add(key)
            if table == 'users':
                self.kinds[value.kind] += 1

    def _unindex(self, table: str, key: Any, value: Any) -> None:
        if table == 'grants':
            _discard(self._grants_of, key[0], key[1:])
            _discard(self._grantees_on, key[1:], key[0])
        elif table == 'commands':
            del self._ids[table][value]
        elif table != 'meta':
            del self._ids[table][value.name]
            _discard(self._owned, (table, value.owner), key)
            if table == 'users':
                self.kinds[value.kind] -= 1

    # Transactions

    def begin(self) -> None:
        """Begins to note changes in the journal."""
        self.journal = {}

    def commit(self) -> Changes:
        """Ends a transaction. Returns what it has changed."""
        journal, self.journal = self.journal or {}, None
        changes: Changes = {}
        for (table, key), old in journal.items():
            new = self._tables[table].get(key)
            if old != new:
                changes[table, key] = (old, new)
        return changes

    def roll_back(self) -> None:
        """Ends a transaction, and undoes its changes."""
        journal, self.journal = self.journal or {}, None
        self.apply(journal)

    def apply(self, values: Mapping[Place, Any]) -> None:
        """Sets rows; None removes a row."""
        # Removals first: a name may go to another row.
        for (table, key), value in values.items():
            if value is None:
                self._change(table, key, None)
        for (table, key), value in values.items():
            if value is not None:
                self._change(table, key, value)

    # Lookups

    def id_of(self, table: str, name: Any) -> int | None:
        """The id of a user or role, a function or a command."""
        return self._ids[table].get(name) if isinstance(name, str) else None

    def owned(self, table: str, owner: int) -> Iterable[int]:
        """The ids of the users and roles, or of the functions, that a user owns."""
        return list(self._owned.get((table, owner), ()))

    def grants_of(self, grantee: int) -> Mapping[tuple[str, int], Grant]:
        """The grants of a user or role, by type and object."""
        return self._grants_of.get(grantee, {})

    def grantees_on(self, kind: str, object_id: int) -> Iterable[int]:
        """The ids of the users and roles that were granted privileges on an object."""
        return list(self._grantees_on.get((kind, object_id), ()))

    # Storage

    def rows(self) -> Rows:
        """The whole content as rows of tables."""
        return {table: {row_of(table, key, value) for key, value in rows.items()} for table, rows in self._tables.items()}

    def fill(self, rows: Mapping[str, Iterable[Row]]) -> None:
        """Adds rows, as rows() returns them."""
        for table, found in rows.items():
            for row in found:
                key, value = _from_row(table, row)
                self._change(table, key, value)


def row_of(table: str, key: Any, value: Any) -> Row:
    """A row, with its columns in the order of the table."""
    if table == 'users':
        return (value.id, value.name, value.kind, value.owner, value.hash)
    if table == 'functions':
        return (value.id, value.name, value.owner, int(value.setuid))
    if table == 'grants':
        return (value.grantee, value.type, value.object, value.privileges, value.grantor)
    return (key, value)


def _from_row(table: str, row: Row) -> tuple[Any, Any]:
    if table == 'users':
        return row[0], User(*row)
    if table == 'functions':
        return row[0], Function(row[0], row[1], row[2], bool(row[3]))
    if table == 'grants':
        return tuple(row[:3]), Grant(*row)
    return row[0], row[1]


def _discard(index: dict[Any, Any], key: Any, item: Any) -> None:
    """Removes an item from the set or dictionary of a key, and the last item with its key."""
    items = index[key]
    if isinstance(items, set):
        items.discard(item)
    else:
        items.pop(item, None)
    if not items:
        del index[key]
