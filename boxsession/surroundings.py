"""What kind of program is around the console: whether a gevent loop will run in the calling thread."""
from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from gevent import monkey
from gevent.hub import _get_hub as get_hub_if_exists

__all__ = ['is_without_gevent', 'running_asyncio_loop']

_OURS = ('boxsession', 'gevent')


def running_asyncio_loop() -> Any:
    """The asyncio loop that runs in the calling thread; None if there is none, or if gevent runs below it."""
    asyncio = sys.modules.get('asyncio')
    if asyncio is None or monkey.is_module_patched('select'):
        return None
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return None if 'gevent' in type(loop).__module__ else loop


def is_without_gevent() -> bool:
    """Whether it is certain, or nearly so, that no gevent loop will run in the calling thread.

    It is certain while asyncio runs in it. Nearly certain is a program that has patched nothing, has used gevent nowhere in
    this thread, and has no module that imports gevent.
    """
    if running_asyncio_loop() is not None:
        return True
    return not monkey.saved and get_hub_if_exists() is None and not _imports_gevent()


def _imports_gevent() -> bool:
    """Whether a module of the program has a global that is gevent's: a module, a class or a function."""
    modules = [(name.partition('.')[0], module) for name, module in list(sys.modules.items())
               if isinstance(module, ModuleType)]
    theirs = {id(module) for package, module in modules if package == 'gevent'}
    theirs |= {id(value) for package, module in modules if package == 'gevent' for value in _globals(module)
               if str(getattr(value, '__module__', '')).startswith('gevent')}
    return any(id(value) in theirs for package, module in modules if package not in _OURS for value in _globals(module))


def _globals(module: ModuleType) -> list[Any]:
    # A lazy module would be loaded by an ordinary access.
    return list(object.__getattribute__(module, '__dict__').values())
