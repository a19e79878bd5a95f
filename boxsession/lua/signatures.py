"""The signatures of exposed functions: how they are shown, and which calls from Lua pass keyword arguments."""
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from boxsession.base.secret_words import is_sensitive

__all__ = ['call', 'documentation', 'from_lua', 'secret_arguments', 'shown']

_SHOWN, _DOCUMENTATION = 500, 1 << 14
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class _Text:
    """Stands in a signature for what is shown as this text."""

    def __init__(self, text: str):
        self._text = text

    def __repr__(self) -> str:
        return self._text


_HIDDEN = _Text('...')


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except Exception:               # functions in C often have none, and a program may override how it is found
        return None


def shown(name: str, function: Callable[..., Any]) -> str:
    """A function's name with its parameters and defaults. The default of a parameter for a secret is left out."""
    signature = _signature(function)
    if signature is None:
        return f'{name}(...)'
    try:
        text = f'{name}{_plain(signature)}'
    except Exception:               # a default's repr() failed
        text = f'{name}({", ".join(signature.parameters)})'
    text = ' '.join(text.split())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + '...'


def _plain(signature: inspect.Signature) -> inspect.Signature:
    result = signature.return_annotation
    return signature.replace(parameters=[_parameter(one) for one in signature.parameters.values()],
                             return_annotation=_Text(result) if isinstance(result, str) else result)


def _parameter(parameter: inspect.Parameter) -> inspect.Parameter:
    if isinstance(parameter.annotation, str):
        parameter = parameter.replace(annotation=_Text(parameter.annotation))
    if parameter.default not in (parameter.empty, None) and is_sensitive(parameter.name.encode()):
        parameter = parameter.replace(default=_HIDDEN)
    return parameter


def documentation(value: Any) -> str:
    """The docstring of a function or of an object's class; '' if it has none."""
    if isinstance(value, functools.partial):
        value = value.func
    try:
        text = inspect.getdoc(value)
    except Exception:
        text = None
    return text[:_DOCUMENTATION].strip() if isinstance(text, str) else ''


def secret_arguments(function: Callable[..., Any], arguments: Sequence[Any]) -> set[str]:
    """The arguments of a call that are secrets, by the names of their parameters or keys."""
    signature = _signature(function)
    named: list[tuple[Any, Any]] = []
    if signature is not None:
        named += zip(signature.parameters, arguments, strict=False)
    for argument in arguments:
        if isinstance(argument, dict):
            named += argument.items()
    return {value for name, value in named
            if isinstance(value, str) and value and isinstance(name, str) and is_sensitive(name.encode())}


class _Keywords:
    """Which calls of a function pass keyword arguments.

    The last argument, a table, holds them if all its keys are names of parameters that may be passed by name (or the
    function has `**`), and the call then fits the signature.
    """

    def __init__(self, signature: inspect.Signature):
        self._signature = signature
        parameters = signature.parameters.values()
        self._names = {parameter.name for parameter in parameters if parameter.kind in _BY_NAME}
        self._takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)

    @property
    def are_possible(self) -> bool:
        """Whether the function can be called with keyword arguments at all."""
        return bool(self._names) or self._takes_all

    def are_in(self, positional: Sequence[Any], last: Mapping[Any, Any]) -> bool:
        """Whether the last argument holds keyword arguments."""
        if not (self._takes_all or last.keys() <= self._names) or not all(type(key) is str for key in last):
            return False
        try:
            self._signature.bind(*positional, **last)
        except TypeError:
            return False
        return True


def from_lua(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function to be called with arguments from Lua instead of `function`."""
    signature = _signature(function)
    keywords = _Keywords(signature) if signature is not None else None
    if keywords is None or not keywords.are_possible:
        return function

    @functools.wraps(function, (), ())
    def called(*arguments: Any) -> Any:
        if arguments:
            last = arguments[-1]
            if type(last) is dict and last and keywords.are_in(arguments[:-1], last):
                return function(*arguments[:-1], **last)
        return function(*arguments)

    return called


def call(function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """Calls a function with arguments from Lua."""
    if arguments and type(arguments[-1]) is dict:
        function = from_lua(function)
    return function(*arguments)
