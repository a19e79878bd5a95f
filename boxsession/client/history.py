"""What was typed, kept across runs: a file with a JSON string a line, so that entries of several lines stay whole.

It is its owner's alone (mode 0600). What seems to hold a password is never written. A history that cannot be read or
written is none: nobody is kept from working by it.
"""
from __future__ import annotations

import json
import os
from pathlib import Path

from boxsession.redaction import may_hold_secret

__all__ = ['History', 'default_path']

_ENTRIES_MAX = 2000
# Above this the file is written anew, with its last entries.
_FILE_BYTES = 1 << 20


def default_path() -> Path:
    """Where the history is: in $XDG_STATE_HOME, or ~/.local/state."""
    state = os.environ.get('XDG_STATE_HOME', '')
    folder = Path(state) if os.path.isabs(state) else Path.home() / '.local' / 'state'
    return folder / 'boxsession' / 'history'


class History:
    """The entries of one file.

    Attributes:
        entries: oldest first.
    """

    def __init__(self, path: Path):
        self._path = path
        self.entries: list[str] = []
        try:
            data = path.read_bytes()
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
        if len(data) > _FILE_BYTES:
            self._write_anew()

    def add(self, entry: str) -> None:
        """Adds an entry, unless it repeats the last."""
        if self.entries[-1:] == [entry]:
            return
        self.entries.append(entry)
        if not may_hold_secret(entry.encode(errors='surrogateescape')):
            self._append([entry], self._path, os.O_APPEND)

    def _append(self, entries, path, flags) -> bool:
        data = ''.join(json.dumps(entry) + '\n' for entry in entries).encode()
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
        except OSError:
            return False
        try:
            os.fchmod(fd, 0o600)
            return os.write(fd, data) == len(data)
        except OSError:
            return False
        finally:
            os.close(fd)

    def _write_anew(self):
        path = self._path.with_name(f'{self._path.name}.{os.getpid()}')
        if self._append(self.entries, path, os.O_TRUNC):
            os.replace(path, self._path)
