"""What was typed, kept across runs: a file with a JSON string a line, so that entries of several lines stay whole.

It is its owner's alone (mode 0600). What seems to hold a password is never written. A history that cannot be read or
written is none: nobody is kept from working by it.
"""
from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from boxsession.base.redaction import may_hold_secret

__all__ = ['History', 'default_path']

_ENTRIES_MAX = 2000
# Above this the file is written anew, with its last entries.
_FILE_BYTES = 1 << 20
# Of a longer one, the end is read.
_READ_BYTES = 1 << 24


def default_path() -> Path | None:
    """Where the history is: in $XDG_STATE_HOME, or ~/.local/state. None where there is no home."""
    state = os.environ.get('XDG_STATE_HOME', '')
    try:
        folder = Path(state) if os.path.isabs(state) else Path.home() / '.local' / 'state'
    except RuntimeError:                # this uid has no entry, and there is no $HOME
        return None
    return folder / 'boxsession' / 'history' if folder.is_absolute() else None


class History:
    """The entries of one file.

    Attributes:
        entries: oldest first.
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
                # What no editor could take is no entry.
                is_entry = isinstance(entry, str) and b'\0' not in entry.encode(errors='surrogateescape')
            except (ValueError, RecursionError):        # cut off by a full disk, say
                continue
            if is_entry:
                self.entries.append(entry)
        del self.entries[:-_ENTRIES_MAX]
        if size > _FILE_BYTES:
            self._write_anew(path)

    def add(self, entry: str) -> None:
        """Adds an entry, unless it repeats the last."""
        if self.entries[-1:] == [entry]:
            return
        self.entries.append(entry)
        if self._path is not None and not may_hold_secret(entry.encode(errors='surrogateescape')):
            self._append([entry], self._path, os.O_APPEND)

    @staticmethod
    def _opened(path, flags) -> int:
        """A descriptor of a file, or -1: a device, a pipe, and what is somebody else's, is left alone."""
        fd = -1
        try:
            # A link or a folder that somebody else has made may lead anywhere.
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
            path = path.resolve()                   # where a link leads
            new = path.with_name(f'{path.name}.{os.getpid()}')
            if self._append(self.entries, new, os.O_EXCL):
                os.replace(new, path)
            else:
                new.unlink(missing_ok=True)
        except (OSError, RuntimeError):             # RuntimeError: links in a circle
            pass
