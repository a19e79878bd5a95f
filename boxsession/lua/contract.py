"""The numbers that Python and Lua agree on. Lua finds them in `internal.contract`, under the same names."""
from __future__ import annotations

from collections.abc import Mapping

__all__ = ['NUMBERS']

# What a session's coroutine is to do (kernel/evaluator.lua).
STATEMENT, STATEMENT_OPEN, CONNECT, DISCONNECT, FAIL, CHECK, LEFT_REMOTE, LAST_ERROR = range(1, 9)
# What the coroutine of requests is to do (kernel/requests.lua); 0 ends it.
EVAL, CALL, LOGIN, BATCH, CALL_16, EVAL_ERROR = range(1, 7)
# Added to these: memory is short, and the limit is lifted; the garbage is to be collected first; there is much in memory,
# so that one instruction may take long.
TIGHT, COLLECT, CLOSELY = 16, 32, 64

# TICK's argument in a task's own coroutine, and there at the first look at a statement; 0 in others.
OWN_LOOK, FIRST_LOOK = 1, 2
# Added to its answer, the task's id, or minus that where the task is to end: the collector is late; the time slice is over;
# the monitor asked for this look; there is much in memory.
LATE, OVER, ASKED, MANY = 0.5, 0.25, 0.125, 0.0625

# The answer of a port for whose string there is no room.
NO_ROOM = -1

# CLOCK's arguments.
REALTIME, MONOTONIC, PROCESS, THREAD = range(4)

# What a user may do (users/access.py).
SANDBOX, READ, FULL = range(1, 4)

NUMBERS: Mapping[str, float] = {name: value for name, value in globals().items() if name.isupper()}
