"""Compiles statements in Python, with checks that end or preempt them.

A check is `if BUSY: TICK()`, compiled into the statement's own code: into loops, comprehensions, generators, functions,
lambdas, handlers of exceptions and `finally`. So code of the program is never preempted. While nothing is to be done, a
check costs the look-up of one name. Whoever runs the statement makes BUSY true when the slice is over or the statement is
cancelled; TICK then switches or raises. While BUSY stays true, code that has caught the exception gets it again at its next
check.

Code that the statement imports has no checks. That which it makes from a text has, by the functions of functions.py.
"""
from __future__ import annotations
import __future__

import ast
import builtins
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from traceback import walk_tb
from types import CodeType, TracebackType
from typing import Any

from boxsession.base.errors import Internal, StatementCancelled, type_name
from boxsession.base.python_text import is_block, is_incomplete

__all__ = ['NAME', 'SOURCE_MAX', 'Compiler', 'Statement', 'compile_checked', 'described', 'surroundings']

# The file name of a statement's code.
NAME = 'statement'
# Compiling is one operation that cannot be preempted: it takes 1 to 3 ms for 1000 characters.
SOURCE_MAX = 1 << 14

# No identifiers: no code can use these names by mistake. They are built-in names, so globals() does not show them.
_BUSY, _TICK = 'is busy', 'look up'
_BUILTINS = '__builtins__'
# A statement without these words has no checks: it needs no syntax tree.
_NEEDS_CHECKS = re.compile(r'for|while|lambda|def|class|except|finally|\A\s')
# One simple statement, which is no expression, has none of these.
_MAY_END_WITH_EXPRESSION = re.compile(r'[;:\n]')
# Statements up to this length, in characters, are kept, and up to this number.
_KNOWN_LENGTH, _KNOWN_MOST = 512, 256
_FEATURES = [getattr(__future__, name).compiler_flag for name in __future__.all_feature_names]
_LOOPS = (ast.While, ast.For, ast.AsyncFor)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_TRIES: tuple[type, ...] = (ast.Try, ast.TryStar) if hasattr(ast, 'TryStar') else (ast.Try,)
_MESSAGE_MAX = 4096
# Frames of this package run statements, or are functions for them.
_PACKAGE = str(Path(__file__).resolve().parent.parent) + '/'


class Statement:
    """A compiled statement.

    Args:
        body: the code in front of the last expression; None if there is nothing.
        value: the last expression; None if the statement ends with something else.
        is_block: it ends with a block, such as a loop or a function, which more lines could go on.
    """

    __slots__ = ('is_block', '_body', '_value')

    def __init__(self, body: CodeType | None, value: CodeType | None, is_block: bool):
        self.is_block = is_block
        self._body = body
        self._value = value

    def run(self, names: dict[str, Any], builtins: dict[str, Any]) -> Any:
        """Runs the statement with these global and built-in names. Returns the value of its last expression, or None."""
        if self._body is not None:
            names[_BUILTINS] = builtins
            exec(self._body, names)
        if self._value is None:
            return None
        names[_BUILTINS] = builtins         # another session may share the global names
        return eval(self._value, names)


class Compiler:
    """Compiles the statements of one session. `from __future__ import` holds for the later ones, too."""

    __slots__ = ('_flags', '_known')

    def __init__(self) -> None:
        self._flags = 0
        self._known: dict[str, Statement] = {}      # compiled statements, by text: scripts repeat the same few

    def compile(self, text: str, name: str = NAME) -> Statement:
        """Compiles a statement.

        Raises:
            SyntaxError: it is wrong, too long or nested too deeply.
        """
        known = self._known.get(text)
        if known is not None:
            return known
        if len(text) > SOURCE_MAX:
            raise SyntaxError(f'the statement has {len(text)} characters, more than {SOURCE_MAX}: import longer code from '
                              'a module')
        try:
            statement = self._compiled(text, name)
        except (ValueError, OverflowError) as error:            # a null byte; a number that is too large
            raise SyntaxError(str(error)) from None
        except (RecursionError, MemoryError):
            raise SyntaxError('the statement is nested too deeply') from None
        if len(text) <= _KNOWN_LENGTH:
            if len(self._known) >= _KNOWN_MOST:
                self._known.clear()
            self._known[text] = statement
        return statement

    def _compiled(self, text: str, name: str) -> Statement:
        if not _NEEDS_CHECKS.search(text):
            value = None
            try:
                value = compile(text, name, 'eval', self._flags, dont_inherit=True)
            except SyntaxError:
                pass                    # below: an error there must not have this one as its context
            if value is not None or not _MAY_END_WITH_EXPRESSION.search(text):
                return Statement(self._body(text, name) if value is None else None, value, False)
        tree = compile(text, name, 'exec', ast.PyCF_ONLY_AST | self._flags, dont_inherit=True)
        assert isinstance(tree, ast.Module)
        ends_with_block = is_block(tree)
        _add_checks(tree)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        body = self._body(tree, name) if tree.body else None
        value = None
        if isinstance(last, ast.Expr):
            value = compile(ast.Expression(last.value), name, 'eval', self._flags, dont_inherit=True)
        return Statement(body, value, ends_with_block)

    def _body(self, source: str | ast.Module, name: str) -> CodeType:
        body: CodeType = compile(source, name, 'exec', self._flags, dont_inherit=True)
        flags = self._flags
        for feature in _FEATURES:
            flags |= body.co_flags & feature
        if flags != self._flags:
            self._flags = flags
            self._known.clear()
        return body

    def is_incomplete(self, text: str) -> bool:
        """Whether the statement needs more lines. A block ends with an empty line."""
        return len(text) <= SOURCE_MAX and is_incomplete(text)


def compile_checked(source: Any, name: Any, mode: str, flags: int = 0, optimize: int = -1) -> CodeType:
    """Like compile() of a text, but the code has checks."""
    tree = compile(source, name, mode, flags | ast.PyCF_ONLY_AST, dont_inherit=True, optimize=optimize)
    _add_checks(tree)
    code: CodeType = compile(tree, name, mode, flags, dont_inherit=True, optimize=optimize)
    return code


def surroundings(busy: object, tick: Callable[[], Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """The built-in names for statements, for Statement.run(): `names` over a copy of Python's own.

    Args:
        busy: true while checks have to call `tick`. Its truth must not run Python code.
        tick: called by checks: it may switch to another greenlet, or raise. What it returns must be true.
    """
    return {**vars(builtins), **names, _BUSY: busy, _TICK: tick}


def described(error: BaseException, name: str = NAME) -> str:
    """The text of an error: `ZeroDivisionError: division by zero (statement:2)`.

    If code of another file raised it, the text has both places. The message runs `__str__` of the exception, and nothing
    else of its class. Only a cancel, or the end of the console, comes out of it.
    """
    if issubclass(type(error), SyntaxError):
        message, file, line = (_field(error, field) for field in ('msg', 'filename', 'lineno'))
        place = f'{file or name}:{line}' if line else ''
    else:
        try:
            message = str(error)
        except (StatementCancelled, Internal):
            raise
        except BaseException as problem:
            message = f'<its message raised {type_name(problem)}>'
        place = _place(_TRACEBACK(error), name)
    size = str.__len__(message)
    message = str.__getitem__(message, slice(0, _MESSAGE_MAX)) + (f'... ({size})' if size > _MESSAGE_MAX else '')
    kind = _NAME(type(error))
    return (f'{kind}: {message}' if message else kind) + (f' ({place})' if place else '')


_TRACEBACK, _NAME = BaseException.__dict__['__traceback__'].__get__, type.__dict__['__qualname__'].__get__


def _field(error: BaseException, name: str) -> str:
    """A field of a syntax error as text; '' if it is not set, or no text and no number."""
    value = SyntaxError.__dict__[name].__get__(error)
    return str(value) if type(value) in (str, int) else ''


def _place(traceback: TracebackType | None, name: str) -> str:
    own = last = ''
    for frame, line in walk_tb(traceback):
        if frame.f_code.co_filename.startswith(_PACKAGE):
            continue
        last = f'{frame.f_code.co_filename}:{line}'
        if frame.f_code.co_filename == name:
            own = last
        elif not own:
            last = ''           # the code that runs statements
    return own if last == own else f'{last}, from {own}'


# Checks ---------------------------------------------------------------------------------------------------------------

def _add_checks(tree: ast.AST) -> None:
    # Not recursive: a long chain of operators is deeper than a stack of Python's frames may be.
    for node in list(ast.walk(tree)):
        if isinstance(node, _LOOPS):
            node.body.insert(0, _check(node.body[0]))
        elif isinstance(node, _FUNCTIONS):
            node.body.insert(_has_text(node.body), _check(node.body[0]))
        elif isinstance(node, ast.Lambda):
            node.body = _at(ast.BoolOp(ast.And(), [_condition(node.body), node.body]), node.body)
        elif isinstance(node, ast.comprehension):
            node.ifs.insert(0, _condition(node.iter))
        elif isinstance(node, ast.ExceptHandler):
            node.body.insert(0, _check(node.body[0]))
        elif isinstance(node, _TRIES):
            if node.finalbody:                                              # type: ignore[attr-defined]
                node.finalbody.insert(0, _check(node.finalbody[0]))         # type: ignore[attr-defined]
        elif isinstance(node, ast.ClassDef):
            # The checks of its body must not look into the mapping that its metaclass has prepared.
            node.body.insert(_has_text(node.body), _at(ast.Global([_BUSY, _TICK]), node.body[0]))


def _has_text(body: list[ast.stmt]) -> bool:
    """Whether a body begins with a documentation string."""
    first = body[0]
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _at(node: Any, place: ast.AST) -> Any:
    return ast.copy_location(node, place)


def _name(name: str, place: ast.AST) -> ast.expr:
    found: ast.expr = _at(ast.Name(name, ast.Load()), place)
    return found


def _check(place: ast.AST) -> ast.stmt:
    """`if BUSY: TICK()`"""
    call = _at(ast.Call(_name(_TICK, place), [], []), place)
    check: ast.stmt = _at(ast.If(_name(_BUSY, place), [_at(ast.Expr(call), place)], []), place)
    return check


def _condition(place: ast.AST) -> ast.expr:
    """`not BUSY or TICK()`, which is always true."""
    is_idle = _at(ast.UnaryOp(ast.Not(), _name(_BUSY, place)), place)
    condition: ast.expr = _at(ast.BoolOp(ast.Or(), [is_idle, _at(ast.Call(_name(_TICK, place), [], []), place)]), place)
    return condition
