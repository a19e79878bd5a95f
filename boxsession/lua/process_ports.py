"""The ports for documents (Python writes and reads them for Lua) and for the process: clocks, logs, environment."""
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

# In the order of the numbers in contract.py.
_CLOCKS = (time.time, time.monotonic, time.process_time, time.thread_time)
_VISIBLE = {code: repr(chr(code))[1:-1] for code in (*range(32), 127, 0x85, 0x2028, 0x2029) if code != 9}
_REPORT_BYTES = 4096
# A longer log line of user code is truncated, in bytes.
_LOGGED_MAX = 1 << 14

script_log = logging.getLogger('boxsession.lua')
log = logging.getLogger('boxsession')


class ProcessPorts:
    """The ports of one Lua state that need no session.

    Args:
        facts: the fields of box.info: see `Runtime`.
        longest: returns the maximum size of a document for a client, in bytes; 0 for no limit.
    """

    def __init__(self, state: State, memory: MemoryPorts, facts: Mapping[str, Any], longest: Callable[[], int]):
        self._dispatcher = state.dispatcher
        self._hits = state.counters.hits
        self._memory = memory
        self._facts = facts
        self._longest = longest

    def ports(self) -> dict[str, Port]:
        """The ports, by their names in Lua."""
        text, pause = self._memory.text, self._dispatcher.pause
        return {'LOG': Port(_log), 'CLOCK': Port(lambda which: _CLOCKS[int(which)]()), 'COUNT': Port(self._count),
                'INFO': text(self._info), 'GETENV': text(_environment), 'RANDOM': text(_random),
                'STRERROR': text(lambda number: os.strerror(int(number)).encode()),
                'MOST': Port(lambda _: self._longest() or UNLIMITED),
                # No output limit: these documents stay in Lua, where the memory limit holds.
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
    if level == b'report':          # a report of trusted code; its error may quote a statement with secrets
        log.error('%s', redacted_text(text, _REPORT_BYTES).translate(_VISIBLE))
        return True
    # Escape control characters: a text with line feeds must not make several log lines.
    text = text.decode(errors='backslashreplace').translate(_VISIBLE)
    if len(line) > _LOGGED_MAX:
        text += f'... ({len(line) - _LOGGED_MAX} bytes more)'
    script_log.log(logging.getLevelName(level.decode().upper()), '%s', text)
    return True


def _environment(name):
    """An environment variable. kernel/stdlib.lua restricts which ones user code may read."""
    value = os.environ.get(name.decode())
    return None if value is None else value.encode(errors='surrogateescape')


def _random(count):
    return os.urandom(int(count))
