"""Takes rights from the process by Linux's Landlock (5.13; each later version of it can take more).

It needs no privileges, and cannot be undone. It is no sandbox: rights of files (chmod), UDP and unix sockets remain, and
the process may read what it could read.
"""
from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable

__all__ = ['restriction']

_CREATE, _ADD, _RESTRICT = 444, 445, 446            # the system calls
_VERSION, _PATH = 1, 1                              # a flag of the first, a type of rules of the second
_NO_NEW_PRIVILEGES = 38                             # of prctl()
# The rights to write a file, and to remove and to make files of all kinds; then those that later versions know.
_WRITE = 1 << 1
_FILES = _WRITE | sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE = (2, 1 << 13), (3, 1 << 14)
# To bind TCP sockets and to connect them; to connect to abstract unix sockets and to send signals of other processes.
_TCP, _SCOPES = (4, 0b11), (6, 0b11)


def restriction() -> Callable[[], None]:
    """Makes a function that takes the rights to write files, to use TCP and to send signals to other processes.

    It takes what the system can take, and raises nothing. Files that are open stay as they are.
    """
    library = ctypes.PyDLL(None, use_errno=True)
    call = library.syscall
    call.restype = ctypes.c_long

    def restrict() -> None:
        version = call(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION))
        if version < 1:
            return
        files = _FILES | _from(_REFER, version) | _from(_TRUNCATE, version)
        attributes = struct.pack('QQQ', files, _from(_TCP, version), _from(_SCOPES, version))
        rules = call(_CREATE, attributes, ctypes.c_size_t(_size(version)), ctypes.c_uint(0))
        if rules < 0:
            return
        try:
            null = os.open(os.devnull, os.O_PATH | os.O_CLOEXEC)
            try:
                call(_ADD, ctypes.c_int(rules), ctypes.c_int(_PATH), struct.pack('=Qi', _WRITE, null), ctypes.c_uint(0))
            finally:
                os.close(null)
            library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
            call(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint(0))
        finally:
            os.close(rules)
    return restrict


def _from(right: tuple[int, int], version: int) -> int:
    return right[1] if version >= right[0] else 0


def _size(version: int) -> int:
    """The size of the attributes that a version knows."""
    return 24 if version >= _SCOPES[0] else 16 if version >= _TCP[0] else 8
