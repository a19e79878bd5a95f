"""Where users, roles, functions and grants are kept: an SQLite file, or memory only. The one import of sqlite3.

What transact() has returned is on the disk: it survives the end of the process, and of the machine. Several processes may
use one file (the daemon, and `boxsession passwd`): each sees what the other has written before it changes anything.
"""
from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from typing import Any

from boxsession.base.errors import StoreError
from boxsession.users.access import Access, Rows

__all__ = ['MemoryStore', 'Store']

# What marks the file as ours ('bxss'), and the version of its tables.
_APPLICATION_ID, _VERSION = 0x62787373, 2
_BUSY_SECONDS = 10
_TABLES = {
    'users': ('id', 'name', 'kind', 'owner', 'hash'),
    'functions': ('id', 'name', 'owner', 'setuid'),
    'commands': ('id', 'name'),
    'grants': ('grantee', 'type', 'object', 'privileges', 'grantor'),
    'meta': ('name', 'value'),
}
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


class MemoryStore:
    """Keeps nothing: what is changed is gone with the process."""

    def __init__(self) -> None:
        self.access = Access()

    def refresh(self) -> bool:
        """See `Store.refresh`."""
        return False

    def transact(self, operation: Callable[[Access], Any]) -> tuple[Any, bool]:
        """See `Store.transact`."""
        changed = self.access.copy()
        result = operation(changed)
        has_changed = changed.rows() != self.access.rows()
        self.access = changed
        return result, has_changed

    def close(self) -> None:
        """Nothing to give back."""


class Store:
    """One file. Its methods wait for the disk, so they belong into a thread, one at a time; `access` may be read meanwhile.

    Args:
        path: of the file, which is made where there is none, for its owner's eyes only.

    Attributes:
        access: what is stored, as of the last call. Not to be changed.

    Raises:
        StoreError: the file cannot be had, is damaged, no store, or of a newer version.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._path = os.fspath(path)
        try:
            # The file, and what SQLite keeps beside it with the same rights, is readable by its owner alone from the start.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            if stat.S_IMODE(os.stat(self._path).st_mode) & 0o077:
                os.chmod(self._path, 0o600)
        except OSError as error:
            raise StoreError(f'{self._path}: cannot be opened: {error.strerror}') from None
        self._db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._open()
        except sqlite3.Error as error:
            self._db.close()
            raise self._damaged(error) from None
        except BaseException:
            self._db.close()
            raise

    def _damaged(self, problem: object) -> StoreError:
        return StoreError(f'{self._path}: is damaged, or no store of users: {problem}. Restore it from a backup; moved out '
                          'of the way, it is begun anew with admin alone')

    def _open(self) -> None:
        db = self._db
        # Until the first page is read it is not known whether this is a database at all.
        version = db.execute('PRAGMA user_version').fetchone()[0]
        application = db.execute('PRAGMA application_id').fetchone()[0]
        tables = db.execute('SELECT count(*) FROM sqlite_master').fetchone()[0]
        if tables and application != _APPLICATION_ID:
            raise StoreError(f'{self._path}: is a database of another program: name another file in `store`')
        if version > _VERSION:
            raise StoreError(f'{self._path}: was written by a newer boxsession (format {version}, this one knows '
                             f'{_VERSION}): run that one, or restore an older backup')
        db.execute('PRAGMA journal_mode = WAL')
        db.execute('PRAGMA synchronous = FULL')
        db.execute('PRAGMA foreign_keys = ON')
        if not tables:
            self._create()
        problem = db.execute('PRAGMA quick_check(1)').fetchone()[0]
        if problem != 'ok':
            raise self._damaged(problem)
        if tables and version < _VERSION:
            self._upgrade()
        self._load()

    def _upgrade(self) -> None:
        """A file of the first version, which had no commands."""
        db = self._db
        db.execute('BEGIN IMMEDIATE')
        try:
            if db.execute('PRAGMA user_version').fetchone()[0] < _VERSION:              # nobody was faster
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
            if not db.execute('SELECT count(*) FROM sqlite_master').fetchone()[0]:      # nobody was faster
                for statement in _SCHEMA.split(';')[:-1]:
                    db.execute(statement)
                db.execute(f'PRAGMA application_id = {_APPLICATION_ID}')
                db.execute(f'PRAGMA user_version = {_VERSION}')
                self._write({table: set() for table in _TABLES}, Access().rows())
            db.execute('COMMIT')
        except BaseException:
            db.execute('ROLLBACK')
            raise

    def _data_version(self) -> int:
        return self._db.execute('PRAGMA data_version').fetchone()[0]

    def _load(self) -> None:
        rows = {table: self._db.execute(f'SELECT {", ".join(columns)} FROM {table}').fetchall()
                for table, columns in _TABLES.items()}
        try:
            self.access = Access.from_rows(rows)
        except (ValueError, TypeError) as error:
            raise self._damaged(error) from None
        self._seen = self._data_version()

    def _write(self, before: Rows, after: Rows) -> None:
        for table, columns in _TABLES.items():
            where = ' AND '.join(f'{column} = ?' for column in columns)
            self._db.executemany(f'DELETE FROM {table} WHERE {where}', before[table] - after[table])
            places = ', '.join('?' * len(columns))
            self._db.executemany(f'INSERT INTO {table} VALUES ({places})', after[table] - before[table])

    def refresh(self) -> bool:
        """Reads what another process has written since; True if there was something.

        Raises:
            StoreError: the file cannot be read any more.
        """
        try:
            if self._data_version() == self._seen:
                return False
            self._load()
            return True
        except sqlite3.Error as error:
            raise StoreError(f'{self._path}: cannot be read: {error}') from None

    def transact(self, operation: Callable[[Access], Any]) -> tuple[Any, bool]:
        """Runs an operation on a copy of what is stored, and stores what it made of it; gives what it returned, and whether
        anything has changed.

        Raises:
            StoreError: it cannot be stored. Nothing has changed.
            ClientError: what the operation raised. Nothing has changed.
        """
        db = self._db
        try:
            db.execute('BEGIN IMMEDIATE')
            try:
                if self._data_version() != self._seen:
                    self._load()
                changed = self.access.copy()
                result = operation(changed)
                before, after = self.access.rows(), changed.rows()
                if before != after:
                    self._write(before, after)
                db.execute('COMMIT')
            except BaseException:
                if db.in_transaction:
                    db.execute('ROLLBACK')
                raise
        except sqlite3.Error as error:
            raise StoreError(f'cannot be stored, and was not done: {error} ({self._path})') from None
        self.access = changed
        return result, before != after

    def close(self) -> None:
        """Gives the file back."""
        self._db.close()
