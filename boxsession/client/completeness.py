"""Whether a statement is complete: the rule of `\\set continuation auto`, for the client. The second import of lupa.

The rule itself is in boxsession/lua/kernel/evaluator.lua; a test holds the two together.
"""
from __future__ import annotations

from functools import cache

__all__ = ['is_complete']

# Nothing that it compiles is ever run.
_COMPILE = b'''
local loadstring, sub, find = loadstring, string.sub, string.find
local function ends_too_early(text)
    local chunk, message = loadstring(text)
    return chunk and 'complete'
        or sub(message, -13) == " near '<eof>'" and not find(message, 'unfinished string near', 1, true)
end
return function(text)
    local expression = ends_too_early('return ' .. text)
    if expression == 'complete' then
        return false
    end
    local statement = ends_too_early(text)
    return statement ~= 'complete' and (expression or statement)
end
'''


@cache
def _compiler():
    from lupa import lua51

    return lua51.LuaRuntime(encoding=None, register_eval=False, register_builtins=False).execute(_COMPILE)


def is_complete(statement: bytes) -> bool:
    """Whether nothing is missing at a statement's end: what is wrong otherwise is complete, too."""
    if statement[:1] in (b'\\', b'\x1b'):       # a command; compiled Lua, which nobody loads
        return True
    return not _compiler()(statement)
