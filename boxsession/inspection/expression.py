"""Conditions of a watch: a small part of Python's expressions. They run no code of the program, and their cost is bounded.

Allowed are names, numbers, texts, attributes that are stored, items of lists, tuples and dicts, comparisons, `in`, `and`,
`or`, `not`, arithmetic on numbers, and len(). Everything else is an error, when the expression is read or when it is
evaluated: with these values no method of a class of the program can be called.
"""
from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from boxsession.base.secret_words import is_sensitive
from boxsession.inspection.shown import class_name
from boxsession.inspection.static import NotStatic, attribute

__all__ = ['HIDDEN', 'Expression', 'Failed', 'Wrong', 'several']

# Characters of an expression, its parts, items and characters that a search looks through, and bits of a number.
_CHARACTERS, _PARTS, _ITEMS, _TEXT, _BITS = 1000, 100, 1000, 100_000, 256

Values = Mapping[str, Any]
_Part = Callable[[Values], Any]

_ARITHMETIC: dict[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ('+', operator.add), ast.Sub: ('-', operator.sub), ast.Mult: ('*', operator.mul),
    ast.Div: ('/', operator.truediv), ast.FloorDiv: ('//', operator.floordiv), ast.Mod: ('%', operator.mod)}
_ORDERS: dict[type, tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Lt: ('<', operator.lt), ast.LtE: ('<=', operator.le), ast.Gt: ('>', operator.gt), ast.GtE: ('>=', operator.ge)}
_COLLECTIONS = (list, tuple, set, frozenset, dict)

_NOT: Any = object()             # no value; no plain value


class Hidden:
    """Stands for an argument that may be a secret, by its name."""


HIDDEN = Hidden()


class Wrong(ValueError):
    """The expression is not allowed. The text says why."""


class Failed(Exception):
    """The expression cannot be evaluated for these values. The text says why."""


class Expression:
    """An expression that was read.

    Args:
        text: its source.
        names: the names that it may use.

    Attributes:
        text: its source.
        uses: the names that it uses.

    Raises:
        Wrong: it is no such expression.
    """

    def __init__(self, text: str, names: Mapping[str, Any] | set[str]):
        self.text = text = text.strip()
        tree = _parsed(text)
        self.uses: set[str] = set()
        self._evaluate = _Reader(set(names), self.uses).part(tree)

    def value(self, values: Values) -> Any:
        """Its value.

        Raises:
            Failed: it has none.
        """
        try:
            return self._evaluate(values)
        except Failed:
            raise
        except NotStatic as problem:
            raise Failed(str(problem)) from None
        except RecursionError:
            raise Failed('the stack is too deep') from None
        except Exception as problem:        # a dict that another thread changes, for example
            raise Failed(f'{type(problem).__name__}: {problem}') from None

    def is_true(self, values: Values) -> bool:
        """Whether its value counts as true. See value()."""
        found = self.value(values)
        return found if found is True or found is False else _truth(found)


def several(text: str, names: Mapping[str, Any] | set[str]) -> list[Expression]:
    """Expressions with commas between them.

    Raises:
        Wrong: one is not allowed.
    """
    tree = _parsed(f'({text},)')
    if not isinstance(tree, ast.Tuple):         # x) + (y
        raise Wrong(f"'{text}' is no expression: a bracket is closed that was not opened")
    return [Expression(ast.unparse(part), names) for part in tree.elts]


def _parsed(text):
    if len(text) > _CHARACTERS:
        raise Wrong(f'the expression has {len(text)} characters: expected up to {_CHARACTERS}')
    try:
        tree = ast.parse(text, mode='eval').body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as problem:
        told = problem.msg if isinstance(problem, SyntaxError) else problem
        raise Wrong(f"'{text}' is no expression: {told}") from None
    if sum(1 for _ in ast.walk(tree)) > 3 * _PARTS:
        raise Wrong(f'the expression has more than {_PARTS} parts')
    return tree


class _Reader:
    """Makes functions of the parts of an expression."""

    def __init__(self, names, uses):
        self._names, self._uses = names, uses

    def part(self, node: ast.AST) -> _Part:
        """The function that evaluates a part."""
        method = getattr(self, f'_{type(node).__name__.lower()}', None)
        if method is None:
            raise Wrong(f'{_source(node)}: {_described(node)} is not possible here. Possible are names, attributes, items, '
                        'comparisons, in, and, or, not, + - * / // % and len()')
        return method(node)

    def _constant(self, node):
        value = node.value
        if type(value) not in (str, bytes, int, float, bool, type(None)):
            raise Wrong(f'{_source(node)}: expected a number, a text, True, False or None')
        return lambda values: value

    def _name(self, node):
        name = _no_secret(node.id)
        if name not in self._names:
            raise Wrong(f'{name} is unknown here: expected one of {", ".join(sorted(self._names))}')
        self._uses.add(name)

        def value(values):
            found = values.get(name, _NOT)
            if found is _NOT:
                raise Failed(f'{name} has no value')
            return found

        return value

    def _attribute(self, node):
        part, name = self.part(node.value), _no_secret(node.attr)
        return lambda values: attribute(part(values), name)

    def _subscript(self, node):
        part, key = self.part(node.value), self.part(node.slice)
        if isinstance(node.slice, ast.Constant):
            _no_secret(node.slice.value)
        return lambda values: _item(part(values), key(values))

    def _tuple(self, node):
        parts = [self.part(item) for item in node.elts]
        return lambda values: tuple(part(values) for part in parts)

    _list = _set = _tuple

    def _call(self, node):
        if not (isinstance(node.func, ast.Name) and node.func.id == 'len' and len(node.args) == 1 and not node.keywords):
            raise Wrong(f'{_source(node)}: only len() can be called')
        part = self.part(node.args[0])
        return lambda values: _length(part(values))

    def _boolop(self, node):
        parts, stops_at = [self.part(item) for item in node.values], isinstance(node.op, ast.Or)

        def value(values):
            found = None
            for part in parts:
                found = part(values)
                if _truth(found) is stops_at:
                    break
            return found

        return value

    def _unaryop(self, node):
        part = self.part(node.operand)
        if isinstance(node.op, ast.Not):
            return lambda values: not _truth(part(values))
        if isinstance(node.op, ast.USub):
            return lambda values: -_number(part(values), '-')
        raise Wrong(f'{_source(node)}: the operator is not possible here')

    def _binop(self, node):
        if type(node.op) not in _ARITHMETIC:
            raise Wrong(f'{_source(node)}: the operator is not possible here: expected + - * / // %')
        sign, function = _ARITHMETIC[type(node.op)]
        left, right = self.part(node.left), self.part(node.right)

        def value(values):
            try:
                return function(_number(left(values), sign), _number(right(values), sign))
            except ArithmeticError as problem:
                raise Failed(f'{sign}: {problem}') from None

        return value

    def _compare(self, node):
        parts = [self.part(item) for item in (node.left, *node.comparators)]
        compare = [self._comparison(node, kind) for kind in node.ops]
        if len(compare) == 1:
            [first, second], [only] = parts, compare
            return lambda values: only(first(values), second(values))

        def value(values):
            left = parts[0](values)
            for part, function in zip(parts[1:], compare, strict=True):
                right = part(values)
                if not function(left, right):
                    return False
                left = right
            return True

        return value

    @staticmethod
    def _comparison(node, kind):
        if type(kind) in _ORDERS:
            return _ordering(*_ORDERS[type(kind)])
        found: dict[type, Callable[[Any, Any], bool]] = {
            ast.Eq: _equal, ast.NotEq: lambda left, right: not _equal(left, right), ast.In: _contains,
            ast.NotIn: lambda left, right: not _contains(left, right), ast.Is: operator.is_, ast.IsNot: operator.is_not}
        return found[type(kind)]


def _no_secret(name):
    """The name of a value. One could find a secret by trying conditions."""
    if _is_secret(name):
        raise Wrong(f'{name} may be a secret, by its name: an expression cannot use it')
    return name


def _is_secret(name):
    if type(name) is str:
        name = name.encode(errors='backslashreplace')
    return type(name) is bytes and is_sensitive(name)


def _source(node):
    return ast.unparse(node)[:100]


def _described(node):
    return {'Lambda': 'a function', 'IfExp': 'if ... else', 'NamedExpr': ':=', 'JoinedStr': 'an f-string',
            'Slice': 'a slice', 'Dict': 'a dict', 'Starred': '*'}.get(type(node).__name__, type(node).__name__)


# Values. A str, int, float, list and so on of a class of the program counts as what it is derived from.

def _plain(value: Any) -> Any:
    """A plain number, text or None in the place of one of a class of the program; _NOT for other objects."""
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None or kind is bytes:
        return value
    if issubclass(kind, str):
        return str.__getitem__(value, slice(None))[:]
    if issubclass(kind, int):
        return int.__pos__(value)
    if issubclass(kind, float):
        return float.__pos__(value)
    return _NOT


def _number(value, sign):
    found = _plain(value)
    if type(found) is float or type(found) is bool or type(found) is int and found.bit_length() <= _BITS:
        return found
    raise Failed(f'{sign} needs numbers of up to {_BITS} bits: this is a {class_name(type(value))}')


def _equal(left, right):
    if left is right:
        return True
    if type(left) is type(right) is str:
        return left == right
    one, other = _plain(left), _plain(right)
    if one is _NOT and other is _NOT:
        raise Failed(f'== compares numbers, texts and None: these are a {class_name(type(left))} and a '
                     f'{class_name(type(right))}')
    if one is _NOT or other is _NOT or isinstance(one, bytes) is not isinstance(other, bytes):
        return False
    return one == other


def _ordering(sign, function):
    def compare(left, right):
        one, other = type(left), type(right)
        if (one is int or one is float) and (other is int or other is float):
            return function(left, right)
        return _in_order(left, right, sign, function)

    return compare


def _in_order(left, right, sign, function):
    one, other = _plain(left), _plain(right)
    for kinds in ((int, float, bool), (str,), (bytes,)):
        if type(one) in kinds and type(other) in kinds:
            return function(one, other)
    raise Failed(f"{sign} compares numbers, or texts: these are a {class_name(type(left))} and a "
                 f"{class_name(type(right))}")


def _truth(value):
    if value is True or value is False:
        return value
    found = _plain(value)
    if found is not _NOT:
        return bool(found)
    for base in _COLLECTIONS:
        if issubclass(type(value), base):
            return base.__len__(value) > 0
    return True


def _base(value):
    for base in (str, bytes, *_COLLECTIONS):
        if issubclass(type(value), base):
            return base
    return None


def _length(value):
    base = _base(value)
    if base is None:
        raise Failed(f'len() needs a text or a collection: this is a {class_name(type(value))}')
    return base.__len__(value)


def _looked_through(value, base):
    if base.__len__(value) > _ITEMS:
        raise Failed(f'the {class_name(type(value))} has {base.__len__(value)} items: up to {_ITEMS} are searched')
    return list(base.__iter__(value))


def _same(item, wanted):
    found = _plain(item)
    return item is wanted or found is not _NOT and _equal(found, wanted)


def _place(items, wanted):
    """The place of the first item that is equal to a plain value, or that is an object itself; None if there is none."""
    kind = type(wanted)
    is_plain = kind is str or kind is int or kind is bytes or kind is float
    for place, item in enumerate(items):
        # Most items have the class of a plain value: that is compared without a call.
        if is_plain and type(item) is kind:
            if item == wanted or item is wanted:
                return place
        elif _same(item, wanted):
            return place
    return None


def _contains(wanted, collection):
    base = _base(collection)
    if base is None:
        raise Failed(f'in needs a text or a collection: this is a {class_name(type(collection))}')
    plain = _plain(wanted)
    if base is str or base is bytes:
        if type(plain) is not base:
            raise Failed(f'in {base.__name__} needs a {base.__name__}: this is a {class_name(type(wanted))}')
        return plain in base.__getitem__(collection, slice(0, _TEXT))
    wanted = wanted if plain is _NOT else plain
    return _place(_looked_through(collection, base), wanted) is not None


def _item(collection, key):
    base, key = _base(collection), _plain(key)
    if base is dict:
        if _is_secret(key):
            raise Failed('the key may be a secret, by its name')
        place = _place(_looked_through(collection, dict), key)
        if place is None:
            raise Failed(f'the {class_name(type(collection))} has no such key')
        # By its place: a look-up may call the __eq__ of other keys.
        stored, value = next(islice(dict.items(collection), place, None), (_NOT, None))
        if not _same(stored, key):
            raise Failed('another thread changes the dict')
        return value
    if base in (list, tuple, str, bytes) and type(key) is int:
        try:
            return base.__getitem__(collection, key)
        except IndexError:
            raise Failed(f'the {class_name(type(collection))} has {base.__len__(collection)} items: no {key}') from None
    raise Failed(f'[...] needs a list, a tuple or a text and a number, or a dict: this is a {class_name(type(collection))}')
