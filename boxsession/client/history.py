"""The history of typed statements: a file with one JSON string a line, so an entry can have several lines.

Only its owner can read it (mode 0600). Statements that may contain a password are not written. If the file cannot be read
or written, there is no history, and no error.
"""
from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from boxsession.base.redaction import may_hold_secret

__all__ = ['History', 'default_path']

_ENTRIES_MAX = 2000
# A larger file is rewritten with the last entries only.
_FILE_BYTES = 1 << 20
# Of a still larger file, only this many bytes at the end are read.
_READ_BYTES = 1 << 24


def default_path() -> Path | None:
    """The file of the history: in $XDG_STATE_HOME, or in ~/.local/state. None without a home directory."""
    state = os.environ.get('XDG_STATE_HOME', '')
    try:
        folder = Path(state) if os.path.isabs(state) else Path.home() / '.local' / 'state'
    except RuntimeError:                # no $HOME, and the uid is not in the user database
        return None
    return folder / 'boxsession' / 'history' if folder.is_absolute() else None


class History:
    """The entries of one file.

    Args:
        path: the file; None keeps the entries in memory only.

    Attributes:
        entries: the statements, the oldest first.
    """

    def __init__(self, path: Path | None):
        self._path = path
        self.entries: list[str] = []
        if path is None:
            return
        fd = self._opened(path, os.O_RDONLY)
        if fd < 0:
            return
        with open(fd, 'rb') as file:
            try:
                size = os.fstat(fd).st_size
                file.seek(max(0, size - _READ_BYTES))
                data = file.read(_READ_BYTES)
            except OSError:
                return
        for line in data.splitlines():
            try:
                entry = json.loads(line)
                # No editor can hold a NUL, or a surrogate that stands for no byte.
                is_entry = isinstance(entry, str) and b'\0' not in entry.encode(errors='surrogateescape')
            except (ValueError, RecursionError):        # a damaged line, for example truncated by a full disk
                continue
            if is_entry:
                self.entries.append(entry)
        del self.entries[:-_ENTRIES_MAX]
        if size > _FILE_BYTES:
            self._write_anew(path)

    def add(self, entry: str) -> None:
        """Adds an entry, unless it is equal to the last one."""
        if self.entries[-1:] == [entry]:
            return
        self.entries.append(entry)
        if self._path is not None and not may_hold_secret(entry.encode(errors='surrogateescape')):
            self._append([entry], self._path, os.O_APPEND)

    @staticmethod
    def _opened(path, flags) -> int:
        """Opens the file; -1 on failure, or if it is no regular file or belongs to another user."""
        fd = -1
        try:
            # A link or directory of another user could lead to any file.
            if any(os.lstat(place).st_uid != os.geteuid() for place in (path.parent, path) if os.path.lexists(place)):
                return -1
            fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
                return fd
        except OSError:
            pass
        if fd >= 0:
            os.close(fd)
        return -1

    def _append(self, entries, path, flags) -> bool:
        data = ''.join(json.dumps(entry) + '\n' for entry in entries).encode()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            return False
        fd = self._opened(path, os.O_WRONLY | os.O_CREAT | flags)
        if fd < 0:
            return False
        try:
            os.fchmod(fd, 0o600)
            return os.write(fd, data) == len(data)
        except OSError:
            return False
        finally:
            os.close(fd)

    def _write_anew(self, path: Path) -> None:
        try:
            path = path.resolve()                   # os.replace() would replace a link itself
            new = path.with_name(f'{path.name}.{os.getpid()}')
            if self._append(self.entries, new, os.O_EXCL):
                os.replace(new, path)
            else:
                new.unlink(missing_ok=True)
        except (OSError, RuntimeError):             # RuntimeError: links in a circle
            pass
