"""Parses the arguments of a command: splits them as a shell does, and converts them by the function's annotations. Pure."""
from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from boxsession.base.errors import StatementError

__all__ = ['Arguments', 'split']

# A longer line is refused: splitting it would block the event loop.
_LINE_BYTES = 1 << 16
_SHOWN = 60
_BLANKS = ' \t\r\n'
# The tokens of a line, as shlex.split() finds them. The last two are errors.
_PIECE = re.compile(r"""(?P<blank>[ \t\r\n]+)|(?P<plain>[^ \t\r\n'"\\]+)|'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"
                        |\\(?P<escaped>.)|(?P<quote>['"])|(?P<backslash>\\)""", re.DOTALL | re.VERBOSE)
_ESCAPED_IN_QUOTES = re.compile(r'\\(["\\])')
_WHOLE = re.compile(r'[+-]?[0-9]{1,300}')
_NUMBER = re.compile(r'[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?')
_SWITCH = {'on': True, 'true': True, 'yes': True, 'off': False, 'false': False, 'no': False}


def split(line: str) -> list[str]:
    """Splits a line at blanks, as `shlex.split()`. Quotes and backslashes keep blanks.

    Raises:
        ValueError: a quote is not closed, or a backslash is the last character.
    """
    words: list[str] = []
    word: list[str] | None = None
    for match in _PIECE.finditer(line):
        kind = match.lastgroup or ''
        text = match[kind]
        if kind == 'blank':
            if word is not None:
                words.append(''.join(word))
            word = None
            continue
        if kind == 'quote':
            raise ValueError(f'the quote {text} is not closed')
        if kind == 'backslash':
            raise ValueError('a backslash is the last character')
        if kind == 'double':
            text = _ESCAPED_IN_QUOTES.sub(r'\1', text)
        if word is None:
            word = []
        word.append(text)
    if word is not None:
        words.append(''.join(word))
    return words


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError
    return int(text)


def _number(text: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    if math.isinf(value):
        raise ValueError
    return value


def _switch(text: str) -> bool:
    try:
        return _SWITCH[text.lower()]
    except KeyError:
        raise ValueError from None


class _Kind(NamedTuple):
    """A type of arguments: its name for messages, and its converter, which raises ValueError for other text."""

    words: str
    read: Callable[[str], Any]


_KINDS = {
    str: _Kind('a text', str),
    int: _Kind('a whole number', _whole),
    float: _Kind('a number', _number),
    bool: _Kind('on or off', _switch),
}


def _choice(choices) -> _Kind:
    def read(text):
        for choice in choices:
            try:
                if choice == _KINDS[type(choice)].read(text):
                    return choice
            except ValueError:
                pass
        raise ValueError

    shown = [('on' if choice else 'off') if isinstance(choice, bool) else str(choice) for choice in choices]
    return _Kind(' or '.join(filter(None, [', '.join(shown[:-1]), shown[-1]])), read)


def _kind(annotation) -> _Kind:
    """The kind of arguments for an annotation.

    Raises:
        TypeError: values of this type cannot be typed into a console.
    """
    if annotation is inspect.Parameter.empty:
        return _KINDS[str]
    if isinstance(annotation, type) and annotation in _KINDS:
        return _KINDS[annotation]
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal and all(type(choice) in _KINDS for choice in inner):
        return _choice(inner)
    if origin in (typing.Union, types.UnionType):
        rest = [one for one in inner if one is not types.NoneType]
        if len(rest) == 1:
            return _kind(rest[0])
    raise TypeError


class _Argument(NamedTuple):
    name: str           # in capitals, for the usage
    kind: _Kind
    is_required: bool


class Arguments:
    """Converts the words after a command to the arguments of its function.

    Args:
        name: the command's name.
        function: its annotations may be str, int, float, bool, `typing.Literal` of these, or a union of one of these and
            None. A parameter without an annotation is a str. A default makes a parameter optional.

    Attributes:
        usage: the command's arguments, for its help.
        names: the names of the function's parameters.
        described: a pair for each argument: its name in the usage, and its type in words.

    Raises:
        ValueError: a parameter cannot be typed into a console.
    """

    def __init__(self, name: str, function: Callable):
        self._name = name
        self._arguments: list[_Argument] = []
        self._rest: _Argument | None = None
        try:
            signature = inspect.signature(function, eval_str=True)
        except Exception as error:          # evaluating an annotation may raise anything
            raise ValueError(f'\\{name}: the parameters of its function cannot be read: {error}: annotate them with names '
                             'that are known where it is defined') from error
        self.names = tuple(signature.parameters)
        for parameter in signature.parameters.values():
            self._take(parameter)
        words = [name, *(argument.name if argument.is_required else f'[{argument.name}]' for argument in self._arguments)]
        if self._rest is not None:
            words.append(f'[{self._rest.name}]...')
        self.usage = ' '.join(words[1:])
        self._full_usage = 'Usage: \\' + ' '.join(words)
        self.described = [(argument.name, argument.kind.words) for argument in
                          (*self._arguments, *((self._rest,) if self._rest else ()))]

    def _take(self, parameter):
        has_default = parameter.default is not parameter.empty
        if parameter.kind is parameter.VAR_KEYWORD or parameter.kind is parameter.KEYWORD_ONLY and has_default:
            return
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise ValueError(f'\\{self._name}: its parameter {parameter.name!r} can only be given by name: a command gives '
                             'arguments in order')
        try:
            kind = _kind(parameter.annotation)
        except TypeError:
            raise ValueError(f'\\{self._name}: its parameter {parameter.name!r} is annotated with {parameter.annotation!r}'
                             ': expected str, int, float, bool, Literal of such, or one of these or None') from None
        name = parameter.name.upper()
        if parameter.kind is parameter.VAR_POSITIONAL:
            self._rest = _Argument(name, kind, False)
        else:
            self._arguments.append(_Argument(name, kind, not has_default))

    def read(self, line: str | bytes) -> list[Any]:
        """Converts a line to arguments.

        Args:
            line: the text after the command's name; bytes if it is not valid UTF-8.

        Raises:
            StatementError: an argument is missing, superfluous or of the wrong type.
        """
        if isinstance(line, bytes):
            raise self._wrong('the arguments are not UTF-8')
        if len(line) > _LINE_BYTES:
            raise self._wrong(f'the arguments are too long: more than {_LINE_BYTES} characters')
        try:
            words = split(line)
        except ValueError as error:
            raise self._wrong(f'{error}: a \\ in front of it makes it a plain character') from None
        missing = [argument.name for argument in self._arguments[len(words):] if argument.is_required]
        if missing:
            raise self._wrong(f'{missing[0]} is missing')
        given, rest = words[:len(self._arguments)], words[len(self._arguments):]
        if rest and self._rest is None:
            raise self._wrong(f'there are too many arguments: {len(words)}')
        values = [self._value(argument, word) for argument, word in zip(self._arguments, given, strict=False)]
        return values + [self._value(self._rest, word) for word in rest]

    def _value(self, argument, word):
        try:
            return argument.kind.read(word)
        except ValueError:
            shown = word if len(word) <= _SHOWN else word[:_SHOWN] + '...'
            raise self._wrong(f'{argument.name} should be {argument.kind.words}: got {shown!r}') from None

    def _wrong(self, problem):
        return StatementError(f'\\{self._name}: {problem}. {self._full_usage}')
