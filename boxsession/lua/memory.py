"""The memory limit of the Lua state: sets it, lifts it, and decides when to collect garbage.

The allocator refuses allocations over the limit. In user code that is an ordinary error. But while Python passes a value to
Lua, such an error would end the process, and in trusted code it would leave work half done. So the limit is lifted for a
moment if an operation must not fail and has no room. (kernel/task.lua is the other half: it asks for room, and restores the
limit before user code continues.)

Between two clock checks user code may allocate only a part of the limit. A string that is repeatedly added to itself
reaches the limit in about eighty instructions, and the copying blocks the event loop. The lower limit stops it early.

After any allocation the garbage collector may finish a cycle and halve Lua's table of all strings. For that Lua 5.1
allocates a new table. If this fails, Lua raises an error, and tries again at the next allocation, until it succeeds. So
"room" always includes space for that table.
"""
from __future__ import annotations

__all__ = ['UNLIMITED', 'Memory']

UNLIMITED = 1 << 62
# Room in bytes that trusted code needs for a statement and its error, and that lupa needs to pass a port's result.
_ROOM, _ANSWER_ROOM = 1 << 20, 1 << 12
# Maximum size of the halved string table, as a share of the limit. The full table has 8 bytes for each slot; its slots are
# as many as the strings that existed at once, or up to twice as many. The shortest distinct strings take 28 bytes each.
_STRING_TABLE = 0.14
# Memory use in bytes above which one instruction may take long, because it can copy or compare that much.
_LARGE = 1 << 24
# Shares of the limit: use at which garbage must be collected at once; growth before it is collected again; use that a
# statement may reach if it began with enough room; growth between two clock checks. (With the default limit the last one is
# 64 MiB: a list of two million items can still double.) The last share is the growth after a check that the monitor asked
# for. Such checks come after each long operation on a busy machine: two copies of 20 MB still fit, and a string of 16 MiB
# cannot double.
_COLLECT, _COLLECT_AGAIN, _UNRESERVED, _STRIDE, _STRIDE_ASKED = 0.75, 0.05, 0.9, 0.25, 0.155


class Memory:
    """The memory of one Lua state.

    Args:
        lua: a lupa runtime that was made with `max_memory=0`, so that its allocator counts.

    Attributes:
        used: function without arguments that returns the bytes in use, garbage included.
        ample: memory use in bytes up to which trusted code has room for any work on a statement.
        large: memory use in bytes above which hooks check the clock more often. At most `ample`.
        collect_at: memory use in bytes above which garbage is collected at once.
        lifted: whether the limit is lifted.
        look_at: memory use in bytes above which the limit in force may need a change; 0 if it is wide.
        in_force: the limit in force, in bytes.
    """

    __slots__ = ('used', 'ample', 'large', 'collect_at', 'lifted', 'look_at', '_from', '_to', '_set', '_limit', '_room',
                 '_ceiling', '_stride', '_stride_asked', 'in_force', '_collected')

    def __init__(self, lua):
        self.used = lua.get_memory_used
        self.ample: float = UNLIMITED
        self.large: float = _LARGE
        self.collect_at: float = UNLIMITED
        self.lifted = False
        self.look_at: float = UNLIMITED
        self._set = lua.set_max_memory
        self._limit = 0
        self._room = _ROOM                  # bytes that trusted code may need
        self._ceiling = UNLIMITED           # use that user code may reach in total
        self._stride = UNLIMITED            # growth allowed between two clock checks
        self._stride_asked = UNLIMITED      # the same after a check that the monitor asked for
        self._from: float = 0                   # while the use is between these two,
        self._to: float = UNLIMITED             # the limit in force needs no change
        self.in_force = UNLIMITED
        self._collected = False             # the last is_time_to_collect() returned True

    def limit(self, limit: int) -> None:
        """Sets the memory limit, in bytes; 0 for none. Memory in use above it is kept."""
        self._limit = limit
        self._room = _room_with(limit)
        self.ample = self.ample_with(limit)
        self.large = min(_LARGE, self.ample)
        self._stride = int(limit * _STRIDE) if limit else UNLIMITED
        self._stride_asked = int(limit * _STRIDE_ASKED) if limit else UNLIMITED
        self.collect_at = limit * _COLLECT if limit else UNLIMITED
        self.keep()

    @staticmethod
    def ample_with(limit: int) -> float:
        """The value of `ample` under a memory limit, in bytes."""
        return limit * _UNRESERVED - _room_with(limit) if limit else UNLIMITED

    def keep(self, with_reserve: bool = False) -> None:
        """Ends a lift: puts the limit in force.

        Args:
            with_reserve: allow the whole limit. Otherwise a tenth of it stays reserved for later statements.
        """
        self.lifted = False
        limit = self._limit
        if limit and not with_reserve:
            limit = int(limit * _UNRESERVED)
        self._ceiling = limit or UNLIMITED
        self.follow(self.used())

    def follow(self, used: int) -> None:
        """Sets the limit in force for the time until the next clock check, from the bytes in use now."""
        if self.lifted:
            return
        large, slack = self.large, self._stride // 16
        is_large = used > large
        base = used if is_large else large
        self.look_at = 0 if is_large else large
        self._from, self._to = base - slack, min(base + slack, self.ample)
        self._put(min(base + self._stride, self._ceiling))

    def has_moved(self, used: int) -> bool:
        """Whether the limit in force needs a change before the next statement."""
        return not self._from <= used <= self._to

    def _set_once(self, limit):
        self.look_at, self._from = 0, UNLIMITED
        self._put(limit)

    def asked(self, used: int) -> int:
        """The monitor asked for this clock check: leaves a little room for the next operation. Returns the limit."""
        least = min(used + self._stride_asked, self._ceiling)
        if not self.lifted and self.in_force < least:
            self._set_once(least)
        return self.in_force

    def narrow(self, limit: int) -> None:
        """Puts at most this limit in force, or what asked() leaves if that is more, until the next follow() or keep()."""
        limit = max(limit, self.used() + self._stride_asked)
        if not self.lifted and limit < self.in_force:
            self._set_once(limit)

    def give_all(self) -> None:
        """Puts the whole limit of user code in force, until the next follow() or keep()."""
        if not self.lifted:
            self._set_once(self._ceiling)

    def _put(self, limit):
        self.in_force = limit
        self._set(0 if limit >= UNLIMITED else limit)

    def lift(self, size: int = 0) -> None:
        """Lifts the limit if needed: makes room for `size` bytes and for the work of trusted code with them.

        The caller must call keep() before user code continues.
        """
        needed = self.used() + size + self._room
        if needed > self.in_force:
            self.lifted = True
            self._put(needed)

    def has_room(self, size: int) -> bool:
        """Whether `size` more bytes fit. If so, raises the limit in force for them."""
        needed = self.used() + size
        if self.in_force < needed <= self._ceiling:
            self._set_once(needed)
        return needed <= self.in_force

    def has_room_for(self, answer: bytes) -> bool:
        """Whether a string can be passed to Lua. If so, makes room for it; trusted Lua restores the limit afterwards."""
        needed = self.used() + len(answer) + _ANSWER_ROOM
        if needed > self._ceiling:
            return False
        needed += self._room
        if needed > self._ceiling:
            self.lifted = True
            self._put(needed)
        elif needed > self.in_force:
            self._set_once(needed)
        return True

    def is_time_to_collect(self, used: int) -> bool:
        """Whether to collect garbage now. After a True, the next one needs some growth."""
        if self._collected:
            self._collected = False
            self.collect_at = max(self._limit * _COLLECT, used + self._limit * _COLLECT_AGAIN)
        if used <= self.collect_at:
            return False
        self._collected = True
        return True


def _room_with(limit):
    return max(_ROOM, int(limit * _STRING_TABLE))
