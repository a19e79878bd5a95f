"""Whether a statement in Python needs more lines. Server and client have the same rule."""
from __future__ import annotations

import ast
import codeop
import warnings

__all__ = ['is_block', 'is_incomplete', 'is_module']

_WRONG = (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError)


def is_incomplete(text: str) -> bool:
    """Whether a statement needs more lines. A block ends with an empty line. One with another syntax error does not."""
    try:
        if codeop.compile_command(text, 'statement', 'exec') is None:
            return True
        tree = _parsed(text)
    except _WRONG:
        return False
    return is_block(tree) and text.rpartition('\n')[2].strip() != ''


def is_block(tree: ast.Module) -> bool:
    """Whether a statement ends with a block, such as a loop or a function, which more lines could go on."""
    return bool(tree.body) and (hasattr(tree.body[-1], 'body') or isinstance(tree.body[-1], ast.Match))


def is_module(text: str) -> bool:
    """Whether a text is without an error of syntax as the content of a file."""
    try:
        _parsed(text)
    except _WRONG:
        return False
    return True


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return ast.parse(text)
