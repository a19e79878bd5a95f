"""A Lua state without a console, for tests of the bridge."""
from __future__ import annotations

from boxsession.base.counters import Counters
from boxsession.lua.bridge import Runtime
from boxsession.scheduler.dispatcher import Dispatcher


def new_runtime(**options):
    counters = Counters()
    return Runtime(Dispatcher(counters.hits), counters, {'settings': {}}, **options)
