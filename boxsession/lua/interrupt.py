"""Makes a Lua coroutine check the clock at its next instruction. The monitor's thread calls this while Lua runs.

The hook counts instructions. But one instruction may take long: adding a string of 20 MB to a number takes 17 ms. So the
monitor's thread asks for a hook call if a turn is overdue. `lua_sethook` may be called at any time, also while the
coroutine runs: it only sets four fields. (The standalone `lua` calls it from a signal handler, for Ctrl-C.)
"""
from __future__ import annotations

import ctypes
from typing import Any

from gevent import monkey
from lupa import lua51

__all__ = ['LOCK', 'address_of', 'interrupt']

_MASKCOUNT = 8


def _library() -> Any:
    """The C functions of Lua; None if this build of lupa does not export them."""
    try:
        library: Any = ctypes.PyDLL(lua51.__file__)     # PyDLL keeps the GIL: these calls are too short to release it
        library.lua_gethook.restype = ctypes.c_void_p
        library.lua_gethook.argtypes = [ctypes.c_void_p]
        library.lua_sethook.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    except (OSError, AttributeError):
        return None
    return library


_LUA = _library()
# An unpatched lock, also in a program that gevent has patched: the monitor's thread takes it.
LOCK = monkey.get_original('_thread', 'allocate_lock')()


def address_of(coroutine: Any) -> int:
    """The address of a coroutine's lua_State; 0 if interrupts are not possible.

    Before the coroutine is released, its owner must set `task.address` to 0 under LOCK.
    """
    if _LUA is None:
        return 0
    _, _, address = repr(coroutine).rpartition(' at 0x')
    return int(address.rstrip('>'), 16) if address else 0


def interrupt(task: Any) -> None:
    """Makes the hook of a task's coroutine run at each instruction, until the hook sets its own count again.

    The coroutine is not released meanwhile: its owner must first set `task.address` to 0 under LOCK.
    """
    with LOCK:
        if task.address:
            hook = _LUA.lua_gethook(task.address)
            if hook:
                task.is_interrupted = True
                _LUA.lua_sethook(task.address, hook, _MASKCOUNT, 1)
