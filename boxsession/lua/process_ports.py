"""The ports by which Lua has Python write and read documents, and reaches the process: clocks, logs, environment."""
from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from boxsession.base.errors import StatementCancelled
from boxsession.base.redaction import redacted_text
from boxsession.lua.memory import UNLIMITED
from boxsession.lua.memory_ports import MemoryPorts
from boxsession.lua.ports import Port
from boxsession.lua.state import State
from boxsession.values.documents import reply_document
from boxsession.values.limits import Limits
from boxsession.values.packed import pack
from boxsession.values.reader import read_documents

__all__ = ['ProcessPorts']

# As contract.py numbers them.
_CLOCKS = (time.time, time.monotonic, time.process_time, time.thread_time)
_VISIBLE = {code: repr(chr(code))[1:-1] for code in (*range(32), 127, 0x85, 0x2028, 0x2029) if code != 9}
_REPORT_BYTES = 4096
# A longer line of a script's is cut.
_LOGGED_MAX = 1 << 14

script_log = logging.getLogger('boxsession.lua')
log = logging.getLogger('boxsession')


class ProcessPorts:
    """The ports of one Lua state that ask for no session.

    Args:
        facts: what box.info tells, as `Runtime` takes it.
        longest: gives how long a document for a client may be; 0 for no limit.
    """

    def __init__(self, state: State, memory: MemoryPorts, facts: Mapping[str, Any], longest: Callable[[], int]):
        self._dispatcher = state.dispatcher
        self._hits = state.counters.hits
        self._memory = memory
        self._facts = facts
        self._longest = longest

    def ports(self) -> dict[str, Port]:
        """The ports by the names that they have in Lua."""
        text, pause = self._memory.text, self._dispatcher.pause
        return {'LOG': Port(_log), 'CLOCK': Port(lambda which: _CLOCKS[int(which)]()), 'COUNT': Port(self._count),
                'INFO': text(self._info), 'GETENV': text(_environment), 'RANDOM': text(_random),
                'MOST': Port(lambda _: self._longest() or UNLIMITED),
                # What stays in Lua has its own limit.
                'FORMAT': self._documents(reply_document, Limits(lambda: 0, pause)),
                'DECODE': self._documents(read_documents, pause)}

    def _documents(self, function, helper):
        def answer(key):
            self._dispatcher.has_ticked = True
            try:
                return self._memory.if_there_is_room(function(key, helper))
            except StatementCancelled:
                return False
        return Port(answer)

    def _count(self, what):
        self._hits[what.decode()] += 1
        return True

    def _info(self, name):
        return pack(self._facts[name.decode()]())


def _log(line):
    level, _, text = line[:_LOGGED_MAX].partition(b':')
    if level == b'report':          # of ours, with an error that may quote a statement
        log.error('%s', redacted_text(text, _REPORT_BYTES).translate(_VISIBLE))
        return True
    # One line stays one line, whatever is in it.
    text = text.decode(errors='backslashreplace').translate(_VISIBLE)
    if len(line) > _LOGGED_MAX:
        text += f'... ({len(line) - _LOGGED_MAX} bytes more)'
    script_log.log(logging.getLevelName(level.decode().upper()), '%s', text)
    return True


def _environment(name):
    """A variable of the environment; stdlib.lua says which may be read."""
    value = os.environ.get(name.decode())
    return None if value is None else value.encode(errors='surrogateescape')


def _random(count):
    return os.urandom(int(count))
