"""The arguments of a call that begins: read from its frame, or bound to the names of the parameters."""
from __future__ import annotations

import inspect
import sys
from types import CodeType
from typing import Any

from boxsession.inspection.watch_target import parameters

__all__ = ['Call', 'arguments', 'frame_of']

_KEEPS_LOCALS = sys.version_info < (3, 13)


class Call:
    """A call before Python 3.12: its arguments as they were passed, and the frame that stands for the function's."""

    __slots__ = ('args', 'code', 'defaults', 'frame', 'keyword_defaults', 'kwargs')

    def __init__(self, code: CodeType, args: tuple[Any, ...], kwargs: dict[str, Any], defaults: tuple[Any, ...] | None,
                 keyword_defaults: dict[str, Any] | None, frame: Any):
        self.code, self.args, self.kwargs = code, args, kwargs
        self.defaults, self.keyword_defaults, self.frame = defaults, keyword_defaults, frame


def arguments(source: Any, names: list[str]) -> dict[str, Any]:
    """The values of the parameters, by name.

    Args:
        source: the frame of a call that has just begun, or a Call.
        names: the parameters of the code.
    """
    if type(source) is Call:
        return _bound(source)
    values = source.f_locals
    found = {name: values[name] for name in names if name in values}
    # Before Python 3.13 the frame keeps this copy of its variables, and so the values in it, until it ends.
    if _KEEPS_LOCALS and sys.getrefcount(values) <= 3:
        values.clear()
    return found


def frame_of(source: Any) -> Any:
    """The frame of the function that begins, or that which stands for it."""
    return source.frame if type(source) is Call else source


def _bound(call: Call) -> dict[str, Any]:
    """As Python binds arguments. Wrong ones, for which the call will fail, are left out."""
    code, found = call.code, {}
    names = code.co_varnames[:code.co_argcount]
    defaults = call.defaults or ()
    first_default = len(names) - len(defaults)
    more = dict(call.kwargs)
    for place, name in enumerate(names):
        if place < len(call.args):
            found[name] = call.args[place]
        elif name in more and place >= code.co_posonlyargcount:
            found[name] = more.pop(name)
        elif place >= first_default:
            found[name] = defaults[place - first_default]
    count = code.co_argcount + code.co_kwonlyargcount
    if code.co_flags & inspect.CO_VARARGS:
        found[code.co_varnames[count]] = call.args[len(names):]
    for name in code.co_varnames[code.co_argcount:count]:
        if name in more:
            found[name] = more.pop(name)
        elif call.keyword_defaults and name in call.keyword_defaults:
            found[name] = call.keyword_defaults[name]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        found[parameters(code)[-1]] = more
    return found
