"""Makes a Lua coroutine look at the clock at its next instruction. Called from another thread than the one that runs Lua.

A count hook counts instructions, but one instruction may add a string of 20 MB to a number, which takes 17 ms. So where a
turn is overdue, the monitor's thread asks for the hook itself. `lua_sethook` may be called at any time, also while the
coroutine runs: it only sets four fields of it (the standalone `lua` does so from a signal handler, for Ctrl-C).
"""
from __future__ import annotations

import ctypes
from typing import Any

from gevent import monkey
from lupa import lua51

__all__ = ['LOCK', 'address_of', 'interrupt']

_MASKCOUNT = 8


def _library() -> Any:
    """Lua's functions; None where the build of lupa keeps them to itself."""
    try:
        library: Any = ctypes.PyDLL(lua51.__file__)     # holds the GIL: so short a call need not give it up
        library.lua_gethook.restype = ctypes.c_void_p
        library.lua_gethook.argtypes = [ctypes.c_void_p]
        library.lua_sethook.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    except (OSError, AttributeError):
        return None
    return library


_LUA = _library()
# A real one, also in a program that is patched: the monitor's thread takes it.
LOCK = monkey.get_original('_thread', 'allocate_lock')()


def address_of(coroutine: Any) -> int:
    """Where the state of a coroutine is in memory; 0 where that is of no use.

    Whoever gives the coroutine up first makes interrupt() forget it, under LOCK.
    """
    if _LUA is None:
        return 0
    _, _, address = repr(coroutine).rpartition(' at 0x')
    return int(address.rstrip('>'), 16) if address else 0


def interrupt(task: Any) -> None:
    """Has the hook of a task's coroutine called at its next instruction, and at each behind it until it sets itself anew.

    The coroutine is not released meanwhile: `task.address` becomes 0 under LOCK before it is.
    """
    with LOCK:
        if task.address:
            hook = _LUA.lua_gethook(task.address)
            if hook:
                task.is_interrupted = True
                _LUA.lua_sethook(task.address, hook, _MASKCOUNT, 1)
