"""Whether a statement is complete, for the client: the rule of `\\set continuation auto`. The second import of lupa.

The server has the same rule for Lua in boxsession/lua/kernel/evaluator.lua; a test compares the two.
"""
from __future__ import annotations

from functools import cache

from boxsession.base import python_text

__all__ = ['is_complete']

# It only compiles the statement, and never runs it.
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


def is_complete(statement: bytes, language: str = 'lua') -> bool:
    """Whether a statement needs no further lines. A statement with another syntax error is complete, too."""
    if statement[:1] in (b'\\', b'\x1b'):       # a command; bytecode, which is never loaded
        return True
    if language == 'python':
        return not python_text.is_incomplete(statement.decode(errors='surrogateescape'))
    return not _compiler()(statement)
