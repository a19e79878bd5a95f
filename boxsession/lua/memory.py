"""The memory limit of the Lua state: when it is in force, when it is lifted, when the garbage is to be collected.

The allocator refuses what is over the limit. Where Lua allocates for user code, that is an error like any other; where
Python puts something into Lua it would end the process, and in trusted code it would leave things half done. So the limit
is always in force, and lifted, for a moment, where there is no room for what must not fail. (kernel/task.lua is the other
half: it asks for room, and puts the limit back before user code goes on.)

What user code may fill between two looks at the clock is less than that. A string that is added to itself comes to the
limit in some eighty instructions, and holds everybody for as long as the copying takes: it is refused in time.

Any allocation may be the one behind which the collector, once it has swept everything, makes the table of all strings half
as large: Lua 5.1 takes a new one for that, and raises where it cannot, again and again until it can. So there is room where
there is that much.
"""
from __future__ import annotations

__all__ = ['UNLIMITED', 'Memory']

UNLIMITED = 1 << 62
# Room for what trusted code does with a statement and its error; for what lupa does with an answer. In bytes.
_ROOM, _ANSWER_ROOM = 1 << 20, 1 << 12
# The share of the limit that half of the largest table of strings takes which fits: it has 8 bytes for each of as many as
# were ever there at once, or for twice as many, and the shortest that differ have 28.
_STRING_TABLE = 0.14
# Where more than this is used, one instruction may take long: it can copy or compare so much.
_LARGE = 1 << 24
# Shares of the limit: where collecting cannot wait, and how much more is used before it is done again; how much a statement
# may fill that began when there was enough, and how much of that between two looks. (The default's are 64 MiB: a list of
# two million may still double.)
_COLLECT, _COLLECT_AGAIN, _UNRESERVED, _STRIDE = 0.75, 0.05, 0.9, 0.25


class Memory:
    """The memory of one Lua state.

    Args:
        lua: a lupa runtime whose allocator counts (`max_memory=0`).
    """

    __slots__ = ('used', 'ample', 'large', 'collect_at', 'lifted', 'look_at', '_from', '_to', '_set', '_limit', '_room',
                 '_ceiling', '_stride', 'in_force', '_collected')

    def __init__(self, lua):
        self.used = lua.get_memory_used     # () -> bytes, garbage included
        self.ample: float = UNLIMITED       # up to here there is room for whatever trusted code does with a statement
        self.large: float = _LARGE          # from here on tasks are watched closely; never more than `ample`
        self.collect_at: float = UNLIMITED  # from here on the garbage is collected out of turn
        self.lifted = False                 # whether more than the limit is in force
        self.look_at: float = UNLIMITED     # from here on what may be filled is looked at now and then: 0 when it is wide
        self._set = lua.set_max_memory
        self._limit = 0
        self._room = _ROOM                  # what trusted code may need
        self._ceiling = UNLIMITED           # what user code may fill in the end
        self._stride = UNLIMITED            # and at once
        self._from: float = 0                   # between these
        self._to: float = UNLIMITED             # as long as so much is used that need not be told again
        self.in_force = UNLIMITED
        self._collected = False             # has just been

    def limit(self, limit: int) -> None:
        """Sets the limit, in bytes; 0 for none. What is over it already may stay."""
        self._limit = limit
        self._room = _room_with(limit)
        self.ample = self.ample_with(limit)
        self.large = min(_LARGE, self.ample)
        self._stride = int(limit * _STRIDE) if limit else UNLIMITED
        self.collect_at = limit * _COLLECT if limit else UNLIMITED
        self.keep()

    @staticmethod
    def ample_with(limit: int) -> float:
        """How much may be used, in bytes, for `ample` room under a limit."""
        return limit * _UNRESERVED - _room_with(limit) if limit else UNLIMITED

    def keep(self, with_reserve: bool = False) -> None:
        """Puts the limit in force: all of it, or what one may fill that leaves a reserve to those who come after."""
        self.lifted = False
        limit = self._limit
        if limit and not with_reserve:
            limit = int(limit * _UNRESERVED)
        self._ceiling = limit or UNLIMITED
        self.follow(self.used())

    def follow(self, used: int) -> None:
        """So much is used now: puts in force what may be filled until that is looked at again."""
        if self.lifted:
            return
        large, slack = self.large, self._stride // 16
        is_large = used > large
        base = used if is_large else large
        self.look_at = 0 if is_large else large
        self._from, self._to = base - slack, min(base + slack, self.ample)
        self._put(min(base + self._stride, self._ceiling))

    def has_moved(self, used: int) -> bool:
        """Whether to tell anew, before a statement, what may be filled."""
        return not self._from <= used <= self._to

    def _set_once(self, limit):
        self.look_at, self._from = 0, UNLIMITED
        self._put(limit)

    def narrow(self, limit: int) -> None:
        """Puts no more than this in force, until it is told anew what may be filled."""
        if not self.lifted and limit < self.in_force:
            self._set_once(limit)

    def give_all(self) -> None:
        """Puts in force what may be filled in the end."""
        if not self.lifted:
            self._set_once(self._ceiling)

    def _put(self, limit):
        self.in_force = limit
        self._set(0 if limit >= UNLIMITED else limit)

    def lift(self, size: int = 0) -> None:
        """Makes room for `size` bytes and what trusted code does with them. Whoever lifts sees to it that the limit is kept
        again before user code goes on."""
        needed = self.used() + size + self._room
        if needed > self.in_force:
            self.lifted = True
            self._put(needed)

    def has_room(self, size: int) -> bool:
        """Whether `size` bytes more can be had; they then can, at once."""
        needed = self.used() + size
        if self.in_force < needed <= self._ceiling:
            self._set_once(needed)
        return needed <= self.in_force

    def has_room_for(self, answer: bytes) -> bool:
        """Whether a string can be put into Lua; what is to be in force behind that is for Lua to say."""
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
        """Whether to collect now; if so, not again before some more has been used."""
        if self._collected:
            self._collected = False
            self.collect_at = max(self._limit * _COLLECT, used + self._limit * _COLLECT_AGAIN)
        if used <= self.collect_at:
            return False
        self._collected = True
        return True


def _room_with(limit):
    return max(_ROOM, int(limit * _STRING_TABLE))
