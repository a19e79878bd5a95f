"""Who may import whom, and that each dependency has its one door."""
from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / 'boxsession'

# Lower layers first: a module imports only from layers below its own, or from the tables named beside it.
LAYERS = [
    {'version', 'errors', 'address', 'session', 'protocol', 'protocol.greeting', 'protocol.telnet', 'output.tagged',
     'output.reader', 'output.limits', 'auth', 'histogram', 'redaction', 'client', 'client.completeness'},
    {'protocol.console', 'protocol.iproto', 'output.scalars', 'output.lua', 'lua.exposed', 'lua.memory', 'config',
     'access', 'audit', 'systemd'},
    {'output.yaml', 'lua', 'lua.packing', 'logs', 'monitor', 'remote', 'store', 'tls'},
    {'output', 'accounts', 'listener', 'client.conversation', 'client.values', 'client.target', 'client.history'},
    {'client.link', 'client.settings', 'client.screen', 'client.plain', 'client.fancy'},
    {'client.script'},
    {'client.terminal'},
    {'client.command'},
    {'lua.runtime', 'metrics'},
    {'connection', 'services', 'reload', 'check'},
    {'console', 'binary', 'statistics'},
    {'server'},
    {'', 'daemon'},
    {'cli'},
    {'__main__'},
]
DOORS = {
    'lupa': {'lua.runtime', 'client.completeness'},
    'yaml': {'config', 'output.yaml', 'output.reader'},
    'gevent': {'session', 'lua.runtime', 'connection', 'binary', 'listener', 'monitor', 'remote',
               'server', 'services',
               'daemon', 'systemd', 'accounts', 'tls', 'metrics'},
    'prometheus_client': {'metrics'},
    'prompt_toolkit': {'client.fancy'}, 'pygments': {'client.fancy', 'client.screen'}, 'readline': {'client.plain'},
    'sqlite3': {'store'}, 'msgpack': {'protocol.iproto'},
    'argparse': {'cli', 'client.command'},
    'logging': {'audit', 'lua.runtime', 'connection', 'console', 'binary', 'listener', 'monitor', 'server',
        'services',
                'logs', 'daemon', 'reload', 'systemd', 'metrics'},
}
PURE = {'access', 'auth', 'protocol.iproto', 'lua.packing', 'protocol.console', 'protocol.telnet',
        'protocol.greeting', 'output', 'output.limits', 'output.scalars', 'output.yaml', 'output.lua',
        'output.tagged', 'lua.exposed', 'lua.memory', 'address', 'histogram', 'redaction', 'client.conversation',
        'client.values', 'client.settings'}
IMPURE = {'gevent', 'socket', 'time', 'threading', 'lupa', 'os'}


def modules():
    for path in PACKAGE.rglob('*.py'):
        name = '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)
        yield name.removesuffix('__init__').rstrip('.') if name != '__main__' else name, ast.parse(path.read_text())


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, 'imports are absolute'
            names = [f'{node.module}.{alias.name}' for alias in node.names]
            known = [name for name in names if (PACKAGE.parent / Path(*name.split('.'))).with_suffix('.py').exists()
                     or (PACKAGE.parent / Path(*name.split('.')) / '__init__.py').exists()]
            yield from known or [node.module]


def test_imports_go_downward():
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    found = dict(modules())
    assert set(level) == set(found)
    for name, tree in found.items():
        for target in imported(tree):
            if target.partition('.')[0] == 'boxsession':
                inner = target.removeprefix('boxsession').lstrip('.')
                assert level[inner] < level[name], f'{name} imports {inner}'


def test_each_dependency_has_its_doors():
    users = {dependency: set() for dependency in DOORS}
    for name, tree in modules():
        for target in imported(tree):
            users.get(target.partition('.')[0], set()).add(name)
    assert DOORS == users


def test_the_core_is_pure():
    for name, tree in modules():
        if name in PURE:
            assert not {target.partition('.')[0] for target in imported(tree)} & IMPURE, name
