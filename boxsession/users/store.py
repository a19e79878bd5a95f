"""Stores users, roles, functions and grants: in an SQLite file, or in memory only. The only import of sqlite3.

When transact() returns, the change is on the disk: it survives a crash of the process and of the machine. Several processes
may use one file (the daemon and `boxsession passwd`): each reads the changes of the other before it changes anything.
"""
from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from boxsession.base.errors import StoreError
from boxsession.users.access import Access
from boxsession.users.tables import Changes, row_of

__all__ = ['MemoryStore', 'Store', 'stored']

# The application id ('bxss') that marks the file as ours, and the version of its tables.
_APPLICATION_ID, _VERSION = 0x62787373, 2
_BUSY_SECONDS = 10
_TABLES = {
    'users': ('id', 'name', 'kind', 'owner', 'hash'),
    'functions': ('id', 'name', 'owner', 'setuid'),
    'commands': ('id', 'name'),
    'grants': ('grantee', 'type', 'object', 'privileges', 'grantor'),
    'meta': ('name', 'value'),
}
# How many of the first columns are the key.
_KEY_COLUMNS = {'users': 1, 'functions': 1, 'commands': 1, 'grants': 3, 'meta': 1}
_COMMANDS = 'CREATE TABLE commands (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)'
_SCHEMA = f"""
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL CHECK (kind IN ('user', 'role')),
    owner INTEGER NOT NULL REFERENCES users DEFERRABLE INITIALLY DEFERRED, hash TEXT NOT NULL);
CREATE TABLE functions (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    owner INTEGER NOT NULL REFERENCES users DEFERRABLE INITIALLY DEFERRED, setuid INTEGER NOT NULL);
CREATE TABLE grants (grantee INTEGER NOT NULL REFERENCES users DEFERRABLE INITIALLY DEFERRED, type TEXT NOT NULL,
    object INTEGER NOT NULL, privileges INTEGER NOT NULL, grantor INTEGER NOT NULL, PRIMARY KEY (grantee, type, object));
{_COMMANDS};
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


# Changes a row in place: a deletion would make SQLite look for what refers to it.
_UPSERTS = {
    table: f'INSERT INTO {table} VALUES ({", ".join("?" * len(columns))}) '
           f'ON CONFLICT ({", ".join(columns[:_KEY_COLUMNS[table]])}) DO UPDATE SET '
           + ', '.join(f'{column} = excluded.{column}' for column in columns[_KEY_COLUMNS[table]:])
    for table, columns in _TABLES.items()}
_DELETES = {
    table: f'DELETE FROM {table} WHERE ' + ' AND '.join(f'{column} = ?' for column in columns[:_KEY_COLUMNS[table]])
    for table, columns in _TABLES.items()}
# SQLite looks for what a deleted user owns.
_INDEXES = [f'CREATE INDEX IF NOT EXISTS {table}_owner ON {table} (owner)' for table in ('users', 'functions')]


class MemoryStore:
    """A store in memory: changes are lost when the process ends."""

    is_shared = False

    def __init__(self) -> None:
        self.access = Access()

    def refresh(self) -> bool:
        """See `Store.refresh`."""
        return False

    def commit(self, operation: Callable[[Access], Any]) -> tuple[Any, bool]:
        """See `Store.commit`."""
        self.access.begin()
        try:
            result = operation(self.access)
        except BaseException:
            self.access.roll_back()
            raise
        return result, bool(self.access.commit())

    transact = commit

    def publish(self) -> None:
        """See `Store.publish`."""

    def close(self) -> None:
        """Nothing to close."""


class Store:
    """A store in a file. Its methods wait for the disk: call them in a thread, one at a time; but publish() in the thread
    that reads `access`.

    There are two copies of the data: `access`, and another one that transactions change. So what is not on the disk yet is
    never seen, and a transaction takes time for its changes only.

    Args:
        path: the file. If it does not exist, it is created; only its owner can read it.
        is_server: whether a server uses it, for as long as it is open.

    Attributes:
        access: the users and grants as they are stored. Callers must not change the object.
        is_shared: whether another server used the file when this one opened it. Only known for servers.

    Raises:
        StoreError: the file cannot be opened, is damaged, is no store, or has a newer version.
    """

    def __init__(self, path: str | os.PathLike[str], is_server: bool = False):
        self._path = os.fspath(path)
        self._lock = -1
        self.is_shared = False
        try:
            # Created here with mode 0600, so that others can never read it. SQLite's files beside it get the same mode.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            if stat.S_IMODE(os.stat(self._path).st_mode) & 0o077:
                os.chmod(self._path, 0o600)
            if is_server:
                self._lock = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                self.is_shared = _lock_among_servers(self._lock)
        except OSError as error:
            raise StoreError(f'{self._path}: cannot be opened: {error.strerror}') from None
        self._db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._open()
        except sqlite3.Error as error:
            self.close()
            raise _damaged(self._path, error) from None
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        db = self._db
        version, is_empty = _format(db, self._path)
        db.execute('PRAGMA journal_mode = WAL')
        db.execute('PRAGMA synchronous = FULL')
        db.execute('PRAGMA foreign_keys = ON')
        if is_empty:
            self._create()
        problem = db.execute('PRAGMA quick_check(1)').fetchone()[0]
        if problem != 'ok':
            raise _damaged(self._path, problem)
        if not is_empty and version < _VERSION:
            self._upgrade()
        for statement in _INDEXES:
            db.execute(statement)
        self._load()

    def _upgrade(self) -> None:
        """Upgrades a file of version 1, which had no table of commands."""
        db = self._db
        db.execute('BEGIN IMMEDIATE')
        try:
            if db.execute('PRAGMA user_version').fetchone()[0] < _VERSION:      # else another process has upgraded it
                db.execute(_COMMANDS)
                db.execute(f'PRAGMA user_version = {_VERSION}')
            db.execute('COMMIT')
        except BaseException:
            db.execute('ROLLBACK')
            raise

    def _create(self) -> None:
        db = self._db
        db.execute('BEGIN IMMEDIATE')
        try:
            if not db.execute('SELECT count(*) FROM sqlite_master').fetchone()[0]:      # else another process has made it
                for statement in _SCHEMA.split(';')[:-1]:
                    db.execute(statement)
                db.execute(f'PRAGMA application_id = {_APPLICATION_ID}')
                db.execute(f'PRAGMA user_version = {_VERSION}')
                for table, rows in Access().rows().items():
                    places = ', '.join('?' * len(_TABLES[table]))
                    db.executemany(f'INSERT INTO {table} VALUES ({places})', rows)
            db.execute('COMMIT')
        except BaseException:
            db.execute('ROLLBACK')
            raise

    def _data_version(self) -> int:
        return self._db.execute('PRAGMA data_version').fetchone()[0]

    def _load(self) -> None:
        self.access = _read(self._db, self._path, _VERSION)
        self._draft = self.access.copy()
        self._stored: dict[Any, Any] = {}
        self._seen = self._data_version()

    def _write(self, changes: Changes) -> None:
        """Writes the old and the new values of rows, by table and key."""
        for (table, key), (old, new) in changes.items():
            if new is None:
                self._db.execute(_DELETES[table], row_of(table, key, old)[:_KEY_COLUMNS[table]])
        for (table, key), (_, new) in changes.items():
            if new is not None:
                self._db.execute(_UPSERTS[table], row_of(table, key, new))

    def refresh(self) -> bool:
        """Reads the changes of other processes; returns whether there were any.

        Raises:
            StoreError: the file cannot be read.
        """
        try:
            if self._data_version() == self._seen:
                return False
            self._load()
            return True
        except sqlite3.Error as error:
            raise StoreError(f'{self._path}: cannot be read: {error}') from None

    def transact(self, operation: Callable[[Access], Any]) -> tuple[Any, bool]:
        """commit() and publish() in one."""
        result = self.commit(operation)
        self.publish()
        return result

    def commit(self, operation: Callable[[Access], Any]) -> tuple[Any, bool]:
        """Runs an operation, and stores its changes. If it raises, nothing has changed. `access` changes in publish().

        Returns:
            The result of the operation, and whether it has changed anything.

        Raises:
            StoreError: the change cannot be stored.
            ClientError: raised by the operation.
        """
        db = self._db
        try:
            db.execute('BEGIN IMMEDIATE')
            try:
                if self._data_version() != self._seen:
                    self._load()
                self._draft.begin()
                result = operation(self._draft)
                changes = self._draft.commit()
                try:
                    self._write(changes)
                    db.execute('COMMIT')
                except BaseException:
                    self._draft.apply({place: old for place, (old, _) in changes.items()})
                    raise
            except BaseException:
                self._draft.roll_back()
                if db.in_transaction:
                    db.execute('ROLLBACK')
                raise
        except sqlite3.Error as error:
            raise StoreError(f'the change was not made, because it cannot be stored: {error} ({self._path})') from None
        self._stored = {place: new for place, (_, new) in changes.items()}
        return result, bool(changes)

    def publish(self) -> None:
        """Makes the changes of the last commit() visible in `access`."""
        stored, self._stored = self._stored, {}
        self.access.apply(stored)

    def close(self) -> None:
        """Closes the file."""
        self._db.close()
        if self._lock >= 0:             # after the database: closing any descriptor of the file ends SQLite's locks on it
            os.close(self._lock)
            self._lock = -1


def _lock_among_servers(descriptor: int) -> bool:
    """Locks the file for as long as the descriptor is open, and returns whether another server has locked it already.

    Several servers may have the lock. SQLite uses locks of another kind.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_shared = False
    except OSError as error:
        is_shared = isinstance(error, BlockingIOError)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:                     # the file system has no such locks, or another server starts in this very moment
        pass
    return is_shared


def stored(path: str) -> Access:
    """Reads the users and grants of a file. It changes nothing, and leaves no file beside it.

    Raises:
        OSError: the file cannot be opened.
        StoreError: as `Store`.
    """
    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    # Without a log of changes nobody has the file open. SQLite would then make files for a reader, if the database were not
    # declared as immutable.
    is_open = os.path.exists(f'{path}-wal')
    db = sqlite3.connect(f'file:{quote(os.path.abspath(path))}?mode=ro{"" if is_open else "&immutable=1"}', uri=True)
    try:
        version, is_empty = _format(db, path)
        return Access() if is_empty else _read(db, path, version)
    except sqlite3.Error as error:
        raise _damaged(path, error) from None
    finally:
        db.close()


def _format(db: sqlite3.Connection, path: str) -> tuple[int, bool]:
    """The version of a file's tables, and whether it has none yet. Raises StoreError if it is no store that can be read."""
    # The first query reads the first page, and fails if the file is no database.
    version = db.execute('PRAGMA user_version').fetchone()[0]
    application = db.execute('PRAGMA application_id').fetchone()[0]
    tables = db.execute('SELECT count(*) FROM sqlite_master').fetchone()[0]
    if tables and application != _APPLICATION_ID:
        raise StoreError(f'{path}: is a database of another program: set `store` to another file')
    if version > _VERSION:
        raise StoreError(f'{path}: was written by a newer boxsession (its format is {version}, this one reads up to '
                         f'{_VERSION}): use the newer boxsession, or restore an older backup')
    return version, not tables


def _read(db: sqlite3.Connection, path: str, version: int) -> Access:
    # Version 1 had no table of commands.
    rows = {table: [] if table == 'commands' and version < 2 else
            db.execute(f'SELECT {", ".join(columns)} FROM {table}').fetchall() for table, columns in _TABLES.items()}
    try:
        return Access.from_rows(rows)
    except (ValueError, TypeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: str, problem: object) -> StoreError:
    return StoreError(f'{path}: is damaged, or no store of users: {problem}. Restore it from a backup, or move it away: '
                      'then the server creates a new one, without your users')
