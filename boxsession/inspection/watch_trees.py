"""What a watched call calls, with times: a tree, while the call runs in its greenlet.

Python reports all calls of the program meanwhile (3.12 and newer), or those of the thread (before). Those of other
greenlets are passed over.
"""
from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import CodeType
from typing import Any

from greenlet import getcurrent

from boxsession.inspection.frames import file_is_of_console, utf8

__all__ = ['Node', 'Tree', 'begin', 'end', 'end_all', 'may_begin', 'rows', 'switches', 'trees']

# Functions of a tree; events after which a tree is not continued; and its time, in ns.
_NODES, _EVENTS, _LONGEST = 200, 100_000, 10_000_000_000

_clock = time.perf_counter_ns
# The trees that grow, by the id of their greenlet.
trees: dict[int, Tree] = {}
# Turns the reports on and off; from watch_hooks.
switches: list[Callable[[bool], None]] = []


class Node:
    """The calls of one function by another one."""

    __slots__ = ('calls', 'code', 'errors', 'inner', 'ns')

    def __init__(self, code: CodeType):
        self.code = code
        self.calls = self.errors = self.ns = 0
        self.inner: dict[int, Node] = {}

    def row(self) -> dict[str, Any]:
        """The node and those below it, the longest first."""
        code = self.code
        row: dict[str, Any] = {'function': utf8(getattr(code, 'co_qualname', code.co_name)), 'calls': self.calls,
                               'ms': round(self.ns / 1e6, 3), 'where': utf8(f'{code.co_filename}:{code.co_firstlineno}')}
        if self.errors:
            row['errors'] = self.errors
        if self.inner:
            row['trace'] = rows(self)
        return row


def rows(node: Node) -> list[dict[str, Any]]:
    """The nodes below one, the longest first."""
    return [inner.row() for inner in sorted(node.inner.values(), key=lambda one: -one.ns)]


class Tree:
    """What one call calls.

    Args:
        code: that of the call.
        depth: levels below it.

    Attributes:
        is_cut: not all is in it.
    """

    def __init__(self, code: CodeType, depth: int):
        self.root = Node(code)
        self.is_cut = False
        self._depth, self._left, self._events = depth, _NODES, _EVENTS
        self._began = _clock()
        self.key = 0                # the id of the greenlet
        # Of the calls under way: the id of the frame, its node (None below the depth), and when it began.
        self._stack: list[tuple[int, Node | None, int]] = []

    def enter(self, code: CodeType, frame: int) -> None:
        """A call begins, or a generator goes on."""
        self._events -= 1
        now = _clock()
        if self._events < 0:
            self.cut()
            return
        if not self._stack and code is not self.root.code:      # of the caller of a generator, while that waits
            return
        parent = self._stack[-1][1] if self._stack else None
        node = None if self._stack else self.root               # the call itself
        if parent is not None and len(self._stack) <= self._depth:
            node = parent.inner.get(id(code))
            if node is None:
                self._left -= 1
                if self._left < 0:
                    self.is_cut = True
                else:
                    node = parent.inner[id(code)] = Node(code)
        self._stack.append((frame, node, now))

    def cut(self) -> None:
        """Nothing more is put into it."""
        self.is_cut = True
        end(self.key)

    def is_too_long(self) -> bool:
        """Whether it has grown for too long: that costs all calls of the program something."""
        return _clock() - self._began > _LONGEST

    def leave(self, frame: int, has_failed: bool = False) -> None:
        """A call ends, or a generator waits."""
        now = _clock()
        stack = self._stack
        if not any(one[0] == frame for one in stack[-50:]):
            return
        while stack:
            key, node, began = stack.pop()
            if node is not None:
                node.calls += 1
                node.ns += now - began
                node.errors += has_failed
            if key == frame:
                return


def begin(tree: Tree) -> None:
    """Calls of this greenlet are put into a tree from now on."""
    tree.key = id(getcurrent())
    trees[tree.key] = tree
    if sys.version_info >= (3, 12):
        if len(trees) == 1:
            switches[0](True)
    else:
        sys.setprofile(_profile)


def may_begin() -> bool:
    """Whether a tree can grow in this greenlet."""
    return id(getcurrent()) not in trees and (sys.version_info >= (3, 12) or sys.getprofile() in (None, _profile))


def end(key: int) -> None:
    """Ends the tree of a greenlet, by the greenlet's id."""
    if trees.pop(key, None) is None or trees:
        return
    if sys.version_info >= (3, 12):
        switches[0](False)
    elif sys.getprofile() is _profile:
        sys.setprofile(None)


def end_all() -> None:
    """Ends all trees."""
    for key in list(trees):
        end(key)


def _profile(frame: Any, event: str, _argument: Any) -> None:
    """Before Python 3.12."""
    tree = trees.get(id(getcurrent()))
    if tree is None:
        if not trees:
            sys.setprofile(None)
        return
    if file_is_of_console(frame.f_code.co_filename):
        return
    if event == 'call':
        tree.enter(frame.f_code, id(frame))
    elif event == 'return':
        tree.leave(id(frame))       # whether by an exception is not told
