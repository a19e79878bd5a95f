"""Reads settings from a file or a mapping. If anything is wrong, refuses all and reports every problem with its line."""
from __future__ import annotations

import difflib
import os
import pwd
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from boxsession.base.address import Address
from boxsession.base.errors import ConfigError, printable
from boxsession.settings.table import (
    DEFAULT_ADDRESS,
    FOR_UNIX_SOCKETS,
    LISTENER_SETTINGS,
    SETTINGS,
    ListenerConfig,
    Setting,
    open_listener_problem,
    python_problem,
)

__all__ = ['Config', 'Examined', 'examine', 'load', 'read', 'told']


# The line in the file (None without a file) and the text.
Problem = tuple[int | None, str]


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, checked.

    Attributes:
        listen: the listeners.
        values: the values of SETTINGS, by dotted name.
        lines: the line of each setting in the file, by dotted name; for listeners by number and key (`listen.0.tls`).
        source: the path of the file; '' without one.
    """

    listen: tuple[ListenerConfig, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)
    source: str = field(default='', compare=False)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def for_process(self, pid: int) -> Config:
        """These settings with the process id in place of `%p` in addresses."""
        listen = tuple(replace(listener, address=listener.address.for_process(pid)) for listener in self.listen)
        metrics = self.values['metrics.address']
        if metrics is not None:
            metrics = str(Address.parse(metrics).for_process(pid))
        return replace(self, listen=listen, values={**self.values, 'metrics.address': metrics})

    def socket_paths(self) -> list[str]:
        """The paths of the unix sockets to listen on, maybe with `%p`."""
        addresses = [listener.address for listener in self.listen]
        if self.values['metrics.address'] is not None:
            addresses.append(Address.parse(self.values['metrics.address']))
        return [address.path for address in addresses if address.path]


@dataclass(frozen=True, slots=True)
class Examined:
    """A config file, right or wrong.

    Attributes:
        config: its settings, with defaults for those that are wrong; None if it cannot be read, or is not YAML.
        problems: the line and the text of each problem.
        has_users: whether the settings that say where users come from (`init` and `store`) are certain.
    """

    config: Config | None
    problems: list[Problem]
    has_users: bool = True


class _Node:
    """A value with its line in the file (None without a file)."""

    __slots__ = ('value', 'line', 'text')

    def __init__(self, value: Any, line: int | None = None, text: str | None = None):
        self.value = value
        self.line = line
        self.text = repr(value) if text is None else text       # as the file has it


def _from_yaml(node: yaml.Node, loader: yaml.SafeLoader, problems: list[Problem]) -> _Node:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, _Node] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            if isinstance(key, int) and not isinstance(key, bool):
                key = str(key)              # a uid
            if not isinstance(key, str):
                problems.append((key_node.start_mark.line + 1, f'{key!r} is not the name of a setting'))
                continue
            if key in mapping:
                problems.append((key_node.start_mark.line + 1, f'`{key}` is set twice'))
            mapping[key] = _from_yaml(value_node, loader, problems)
            mapping[key].line = key_node.start_mark.line + 1
        return _Node(mapping, line)
    if isinstance(node, yaml.SequenceNode):
        return _Node([_from_yaml(item, loader, problems) for item in node.value], line)
    assert isinstance(node, yaml.ScalarNode)
    quote = node.style or ''
    return _Node(loader.construct_object(node, deep=True), line, quote + node.value + quote)


def _from_data(value: Any) -> _Node:
    if isinstance(value, Mapping):
        return _Node({str(key) if isinstance(key, int) else key: _from_data(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return _Node([_from_data(item) for item in value])
    return _Node(value)


def _plain(node: _Node) -> Any:
    if isinstance(node.value, dict):
        return {key: _plain(inner) for key, inner in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(inner) for inner in node.value]
    return node.value


class _Reader:
    """Collects settings and problems from a tree of _Node."""

    def __init__(self, problems: list[Problem]):
        self.problems = problems
        self.has_users = True

    def complain(self, node: _Node, message: str) -> None:
        self.problems.append((node.line, message))

    def unknown(self, node: _Node, name: str, known: Iterable[str]) -> None:
        key, prefix = name.rpartition('.')[2], name.rpartition('.')[0]
        near = difflib.get_close_matches(key, [k.rpartition('.')[2] for k in known], 1)
        place = f' in `{prefix}`' if prefix else ''
        names = sorted(k.rpartition('.')[2] for k in known)
        hint = f': did you mean `{near[0]}`?' if near else f': known keys are {", ".join(names)}'
        self.complain(node, f'unknown key `{key}`{place}{hint}')

    def checked(self, setting: Setting, node: _Node) -> Any:
        try:
            return setting.check(_plain(node))
        except ValueError as error:
            got = 'a mapping' if isinstance(node.value, dict) else 'a list' if isinstance(node.value, list) \
                else node.text
            expected = str(error)
            if 'expected' in expected or 'address' in expected:
                self.complain(node, f'`{setting.name}`: {expected}')
            else:
                self.complain(node, f'`{setting.name}` is {got}: expected {expected}')
            return setting.default

    def values(self, root: dict[str, _Node]) -> dict[str, Any]:
        found = {setting.name: setting.default for setting in SETTINGS}
        by_name = {setting.name: setting for setting in SETTINGS}
        sections = {name.partition('.')[0] for name in by_name if '.' in name}
        top = sections | {name for name in by_name if '.' not in name} | {'listen'}
        for key, node in root.items():
            if key == 'listen':
                continue
            before = len(self.problems)
            if key in by_name:
                found[key] = self.checked(by_name[key], node)
            elif key not in sections:
                self.unknown(node, key, top)
            elif not isinstance(node.value, dict):
                if node.value is not None:
                    self.complain(node, f'`{key}` is {node.text}: expected settings below it, as in '
                                        f'`{next(name for name in by_name if name.startswith(key + "."))}`')
            else:
                names = [name for name in by_name if name.startswith(key + '.')]
                for inner, inner_node in node.value.items():
                    name = f'{key}.{inner}'
                    if name in by_name:
                        found[name] = self.checked(by_name[name], inner_node)
                    else:
                        self.unknown(inner_node, name, names)
            if len(self.problems) > before and key not in sections:
                self.has_users = False          # `init` or `store` is wrong, or its name is
        return found

    def listeners(self, root: dict[str, _Node]) -> tuple[ListenerConfig, ...]:
        node = root.get('listen')
        if node is None:
            return (ListenerConfig(Address.parse(DEFAULT_ADDRESS)),)
        if isinstance(node.value, str):
            node = root['listen'] = _Node([node], node.line)
        if not isinstance(node.value, list) or not node.value:
            self.complain(node, '`listen` must be an address, or a list of listeners: addresses, or maps with an `address`')
            return ()
        found = [self.listener(item) for item in node.value]
        seen: set[Address] = set()
        for item, listener in zip(node.value, found, strict=True):
            if listener is not None and listener.address in seen:
                self.complain(item, f'`listen` has {listener.address} twice')
            elif listener is not None and (listener.address.path or listener.address.port):
                seen.add(listener.address)
        # The others lose their entries in Config.lines, too.
        node.value = [item for item, listener in zip(node.value, found, strict=True) if listener is not None]
        return tuple(filter(None, found))

    def listener(self, node: _Node) -> ListenerConfig | None:
        if isinstance(node.value, str):
            node = _Node({'address': node}, node.line)
        if not isinstance(node.value, dict):
            self.complain(node, 'a listener needs an `address`')
            return None
        known = {setting.name: setting for setting in LISTENER_SETTINGS}
        found = {}
        for key, inner in node.value.items():
            if key in known:
                found[key] = self.checked(known[key], inner)
            else:
                self.unknown(inner, key, known)
        address = found.get('address')
        if 'address' not in node.value:
            self.complain(node, 'a listener needs an `address`')
        if address is None:
            return None
        if not address.path:
            for key in FOR_UNIX_SOCKETS:
                if key in node.value:
                    self.complain(node.value[key], f'`{key}` is for unix sockets: {address} is not one')
        if found.get('protocol') == 'rescue' and not address.path:
            self.complain(node.value['protocol'], f'`protocol: rescue` is for unix sockets: {address} is not one. Use '
                                                  'unix:PATH')
        if 'languages' in node.value and found.get('protocol', 'console') != 'console':
            self.complain(node.value['languages'], '`languages` is for `protocol: console`: take it out')
        if found.get('protocol') == 'binary':
            found.setdefault('user', 'guest')
        if found.get('peers') and address.path:
            found['peers'] = self.uids(node.value['peers'], found['peers'])
        listener = ListenerConfig(**found)
        if listener.peers and not address.path and not (listener.tls and listener.tls.ca):
            self.complain(node.value['peers'], '`peers` is for unix sockets, and for tls with a `ca`: '
                                               f'{address} cannot identify its clients')
        if address.path and listener.tls:
            self.complain(node.value['tls'], f'`tls` is for addresses with a port: {address} is a unix socket')
        if listener.is_open and (listener.user == 'admin'):
            self.complain(node, open_listener_problem(listener))
        elif listener.user == 'admin' and (problem := python_problem(listener)):
            self.complain(node.value.get('languages', node), problem)
        return listener

    def uids(self, node: _Node, peers: dict[str, str]) -> dict[int, str]:
        found = {}
        for name, user in peers.items():
            try:
                found[int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid] = user
            except KeyError:
                self.complain(node, f'`peers`: {name!r} is neither a uid nor a user of this machine')
        return found


def _examined(root: _Node, problems: list[Problem]) -> Examined:
    reader = _Reader(problems)
    if root.value is None:
        root = _Node({}, root.line)
    if not isinstance(root.value, dict):
        reader.complain(root, 'a config file must be a mapping of settings')
        return Examined(None, problems)
    values, listen = reader.values(root.value), reader.listeners(root.value)
    return Examined(Config(listen, values, _lines(root) if root.line else {}), problems, reader.has_users)


def _whole(examined: Examined, source: object) -> Config:
    """The settings. Raises ConfigError if there is a problem."""
    if examined.problems or examined.config is None:
        raise ConfigError(told(examined.problems, source))
    return examined.config


def told(problems: list[Problem], source: object) -> list[str]:
    """The problems of a file as lines for the user, in the order of the file."""
    ordered = sorted(problems, key=lambda problem: problem[0] or 0)
    return [printable(f'{source}:{line}: {text}' if line else f'{source}: {text}') for line, text in ordered]


def _lines(node: _Node, prefix: str = '') -> dict[str, int]:
    found: dict[str, int] = {}
    children = node.value if isinstance(node.value, dict) else dict(enumerate(node.value)) \
        if isinstance(node.value, list) else {}
    for key, inner in children.items():
        found[f'{prefix}{key}'] = inner.line
        found.update(_lines(inner, f'{prefix}{key}.'))
    return found


def examine(path: str | os.PathLike[str]) -> Examined:
    """Reads a config file that may be wrong."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        return Examined(None, [(None, f'cannot be read: {error.strerror}')])
    problems: list[Problem] = []
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            root = _Node(None, 1) if node is None else _from_yaml(node, loader, problems)
        finally:
            loader.dispose()
    except RecursionError:
        return Examined(None, [(None, 'not a config file: it contains itself, or is nested too deeply')])
    except yaml.YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        problem = getattr(error, 'problem', None) or str(error).partition('\n')[0]
        return Examined(None, [(mark.line + 1 if mark else None, f'not YAML: {problem}')])
    return _examined(root, problems)


def load(path: str | os.PathLike[str]) -> Config:
    """Reads a config file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or a setting is wrong.
    """
    return replace(_whole(examine(path), path), source=str(path))


def read(data: Mapping[str, Any], source: str = 'config') -> Config:
    """Checks settings from an embedding program. The keys are those of the config file.

    Args:
        source: the text in front of each problem.

    Raises:
        ConfigError: a setting is wrong.
    """
    return _whole(_examined(_from_data(data), []), source)
