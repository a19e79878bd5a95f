"""What refers to the objects of a type, and what refers to that: chains of referrers as text.

gc.get_referrers() holds the loop while it looks through all objects. Here the same is done in pieces. Calls no code of the
program.
"""
from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType, FunctionType, ModuleType
from typing import Any

from boxsession.inspection.links import described, local_variable, module_names, variables
from boxsession.inspection.living import frames_among
from boxsession.inspection.memory import mro, short_name
from boxsession.inspection.objects import Pause, Refused, parts, pieces, scan

__all__ = ['who']

# Objects of the type that are looked at, referrers of each of them, and links of a chain.
_OBJECTS, _REFERRERS, _LINKS = 5, 5, 5
# Names of types in an error.
_NAMES = 10
# These are the ends of chains: very much refers to them.
_ENDS = {id(kind) for kind in (ModuleType, FrameType, FunctionType, type)}


@dataclass(slots=True, eq=False)
class _Node:
    """An object of a chain.

    Attributes:
        item: the object; None for a local variable.
        target: the node of what it refers to; None for the object that the chain begins with.
        text: how a local variable is described.
        by: the nodes of what refers to the object.
    """

    item: Any
    target: _Node | None = None
    text: str = ''
    by: list[_Node] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.by) >= (1 if self.target else _REFERRERS)

    def has(self, item: Any) -> bool:
        """Whether the object is a referrer already, or a part of the chain up to here."""
        node: _Node | None = self
        while node is not None:
            if node.item is item:
                return True
            node = node.target
        return any(other.item is item for other in self.by)

    def clear(self) -> None:
        """Drops the objects of this node and of all that follow."""
        self.item = self.target = None
        for other in self.by:
            other.clear()
        self.by.clear()


def who(let_others_run: Pause, name: str) -> dict[str, Any]:
    """Some objects of the type with this name, and the chains of what refers to them.

    Args:
        let_others_run: lets others run. Called from time to time.
        name: module and name of the type, its last part, or a part of it.

    Raises:
        Refused: there is no object of such a type, or there are several such types.
    """
    with scan(let_others_run) as (found, pause):
        count, whole, roots = _objects_of(name, found, pause)
        level, modules = list(roots), module_names()
        try:
            for _ in range(_LINKS):
                level = [node for node in _followed(level, found, pause) if id(node.item) not in modules]
            chains = Counter(chain for root in roots for chain in {_chain(node, modules) for node in root.by})
            row = {'type': whole, 'count': count, 'looked_at': len(roots),
                   'referrers': [{'objects': number, 'by': chain} for chain, number in chains.most_common()]}
            if unseen := sum(not root.by for root in roots):
                row['without_referrer'] = unseen
        finally:
            # A traceback or a cycle must not keep an object of the program.
            for root in roots:
                root.clear()
    return row


def _chain(node: _Node, modules: dict[int, str]) -> str:
    """What the node refers to the first object by, and so on: `list of 3 <- attribute items of app.Store`."""
    links = []
    at: _Node | None = node
    while at is not None:
        owner = at.by[0] if at.by else None
        text = at.text or described(at.item, at.target.item if at.target else None, owner.item if owner else None,
                                    modules)
        links.append(text[0] if isinstance(text, tuple) else text)
        if isinstance(text, tuple) and owner is not None:       # the link of the owner's __dict__ is one with the owner's
            owner = owner.by[0] if owner.by else None
        at = owner
    return ' <- '.join(links)


def _objects_of(name: str, found: list[Any], pause: Pause) -> tuple[int, str, list[_Node]]:
    """The number of objects of the type that `name` names, the type's whole name, and nodes of some objects at random."""
    kinds: dict[int, type] = {}                             # by their ids: a metaclass may define a hash
    names: dict[int, str] = {}                              # the types that match
    samples: dict[int, list[_Node]] = {}
    counts: Counter[int] = Counter()
    generator = random.Random()                             # the program's own numbers stay as they are
    for piece in pieces(found, pause):
        for item in piece:
            key = id(type(item))
            if key not in kinds:
                kinds[key] = type(item)
                if name in (whole := short_name(type(item))):
                    names[key], samples[key] = whole, []
            if key in names:
                counts[key] += 1
                if len(samples[key]) < _OBJECTS:
                    samples[key].append(_Node(item))
                elif generator.random() * counts[key] < _OBJECTS:
                    samples[key][generator.randrange(_OBJECTS)] = _Node(item)
    whole = _chosen(name, set(names.values()))
    keys = [key for key in names if names[key] == whole]
    return sum(counts[key] for key in keys), whole, [node for key in keys for node in samples[key]][:_OBJECTS]


def _chosen(name: str, names: set[str]) -> str:
    found: list[str] = []
    for matches in (name.__eq__, lambda whole: whole.endswith(f'.{name}'), lambda whole: True):
        found = sorted(filter(matches, names))
        # A type of the program comes before one of the console.
        found = [whole for whole in found if not whole.startswith('boxsession.')] or found
        if found:
            break
    if not found:
        raise Refused(f'the garbage collector tracks no object of a type named {name!r}: \\memory types lists the types; '
                      'strings, numbers and collections of only these are not tracked')
    if len(found) > 1:
        more = f' and {len(found) - _NAMES} more' if len(found) > _NAMES else ''
        raise Refused(f'several types match {name!r}: {", ".join(found[:_NAMES])}{more}: write more of the name')
    return found[0]


def _followed(level: list[_Node], found: list[Any], pause: Pause) -> list[_Node]:
    """Adds the referrers of these nodes. Returns the new nodes whose referrers are to be found next."""
    wanted: dict[int, list[_Node]] = {}
    for node in level:
        wanted.setdefault(id(node.item), []).append(node)
    if wanted:
        _add_variables(wanted, found, pause)
    for item, key in _references(wanted, found, pause):
        for node in wanted[key]:
            if not node.is_full and not node.has(item):
                node.by.append(_Node(item, node))
        if all(node.is_full for node in wanted[key]):
            del wanted[key]
    return [other for node in level for other in node.by
            if not other.text and _ENDS.isdisjoint(map(id, mro(type(other.item))))]


def _references(wanted: dict[int, Any], found: list[Any], pause: Pause) -> Iterator[tuple[Any, int]]:
    """Pairs of an object and the id in `wanted` of something that it refers to. `wanted` may shrink meanwhile."""
    for piece in pieces(found, pause):
        if not wanted:
            return
        for item in piece:
            for part in parts(item, pause):
                if not wanted.keys().isdisjoint(map(id, part)):
                    for key in wanted.keys() & set(map(id, part)):
                        yield item, key


def _add_variables(wanted: dict[int, list[_Node]], found: list[Any], pause: Pause) -> None:
    """Adds the local variables of all calls that run or wait, without those of the console itself."""
    for frame in frames_among(found, pause):
        for name, key in variables(frame, wanted):
            for node in wanted[key]:
                if not node.is_full:
                    node.by.append(_Node(None, node, local_variable(name, frame)))
