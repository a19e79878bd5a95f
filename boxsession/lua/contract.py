"""The numbers that Python and Lua share. Lua reads them from `internal.contract`, under the same names."""
from __future__ import annotations

from collections.abc import Mapping

__all__ = ['NUMBERS']

# Operations of a session's coroutine (kernel/evaluator.lua).
STATEMENT, STATEMENT_OPEN, CONNECT, DISCONNECT, FAIL, CHECK, LEFT_REMOTE, LAST_ERROR, LEAVE, STYLE, EXCHANGE = range(1, 12)
DENY = 12
# Operations of a worker's coroutine (kernel/requests.lua). 0 ends the coroutine.
EVAL, CALL, LOGIN, BATCH, CALL_16, EVAL_ERROR = range(1, 7)
# Flags that are added to an operation: memory is short and the limit is lifted; collect the garbage first; much memory is
# in use, so one instruction may take long.
TIGHT, COLLECT, CLOSELY = 16, 32, 64

# Arguments of TICK in a task's own coroutine: a clock check, and the first clock check of a statement. In other coroutines
# the argument is 0.
OWN_LOOK, FIRST_LOOK = 1, 2
# Added to these if trusted code, not the hook, called for the check: after a C function.
CALLED = 4
# TICK returns the task's id, or minus the id if the task must end. Flags that are added to the id: garbage collection is
# late; the time slice is over; the monitor asked for this clock check; much memory is in use.
LATE, OVER, ASKED, MANY = 0.5, 0.25, 0.125, 0.0625

# Result of a port if there is no room for its string.
NO_ROOM = -1

# Arguments of CLOCK.
REALTIME, MONOTONIC, PROCESS, THREAD = range(4)

# Levels of a user's rights (users/access.py).
SANDBOX, READ, FULL = range(1, 4)

NUMBERS: Mapping[str, float] = {name: value for name, value in globals().items() if name.isupper()}
