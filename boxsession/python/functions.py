"""Built-in functions that are different in a session: exec, eval and compile, input and breakpoint, help, exit."""
from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable
from typing import Any

from boxsession.python.compiler import compile_checked

__all__ = ['Quit', 'functions']

_NO_INPUT = ('input(): a session of the console has no terminal to read from: write the value into the statement, or '
             'assign it to a name first')
_NO_DEBUGGER = ('breakpoint(): a session of the console has no terminal for a debugger: _e is the last exception, and '
                '\\traceback shows it')
_COMPILED_ELSEWHERE = ast.PyCF_ONLY_AST


class Quit(BaseException):
    """Ends the session: raised by exit() and quit()."""


def functions(show: Callable[[str], None]) -> dict[str, Any]:
    """The functions, by name.

    Args:
        show: prints a text for the session.
    """
    return {'exec': _exec, 'eval': _eval, 'compile': _compile, 'input': _input, 'breakpoint': _breakpoint,
            'help': _Help(show), 'exit': _exit, 'quit': _exit}


def _is_text(source: Any) -> bool:
    return isinstance(source, (str, bytes, bytearray, memoryview))


def _scopes(given: Any, local: Any) -> tuple[Any, Any]:
    """The names for exec() and eval(): by default those of the function that calls them."""
    if given is None:
        caller = sys._getframe(2)
        return caller.f_globals, caller.f_locals if local is None else local
    return given, given if local is None else local


def _exec(source: Any, globals: Any = None, locals: Any = None, /, **options: Any) -> None:
    """Like Python's exec(). Code in a text gets the checks of a statement."""
    given, local = _scopes(globals, locals)
    builtins.exec(compile_checked(source, '<string>', 'exec') if _is_text(source) else source, given, local, **options)


def _eval(source: Any, globals: Any = None, locals: Any = None, /) -> Any:
    """Like Python's eval(). Code in a text gets the checks of a statement."""
    given, local = _scopes(globals, locals)
    if isinstance(source, str):
        source = source.lstrip(' \t')
    return builtins.eval(compile_checked(source, '<string>', 'eval') if _is_text(source) else source, given, local)


def _compile(source: Any, filename: Any, mode: str, flags: int = 0, dont_inherit: bool = False, optimize: int = -1,
             **options: Any) -> Any:
    """Like Python's compile(). Code in a text gets the checks of a statement."""
    if _is_text(source) and not flags & _COMPILED_ELSEWHERE and mode in ('exec', 'eval', 'single'):
        return compile_checked(source, filename, mode, flags, optimize)
    return builtins.compile(source, filename, mode, flags, True, optimize, **options)


def _input(*_: Any) -> str:
    """There is no terminal to read from."""
    raise RuntimeError(_NO_INPUT)


def _breakpoint(*_: Any, **__: Any) -> None:
    """There is no terminal for a debugger."""
    raise RuntimeError(_NO_DEBUGGER)


class _Help:
    """help(OBJECT) shows the documentation of an object."""

    def __init__(self, show: Callable[[str], None]):
        self._show = show

    def __call__(self, thing: Any = None) -> None:
        if thing is None:
            self._show(repr(self))
            return
        import pydoc  # it takes a while: only when it is needed
        self._show(pydoc.plain(pydoc.render_doc(thing, 'Help on %s:', renderer=pydoc.plaintext)).rstrip())  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return 'help(OBJECT) shows the documentation of an object, \\help the commands of the console'


class _Exit:
    """exit() ends the session."""

    def __call__(self, code: Any = None) -> None:
        raise Quit

    def __repr__(self) -> str:
        return 'exit() or \\quit ends the session'


_exit = _Exit()
