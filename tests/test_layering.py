"""Who may import whom, and that each dependency has its one door."""
from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / 'boxsession'

# Lower layers first: a module imports only from layers below its own, or from the tables named beside it.
LAYERS = [
    {'version', 'errors', 'address', 'backlog', 'descriptors', 'session', 'protocol', 'protocol.greeting',
     'protocol.answers', 'protocol.telnet', 'protocol.foreign', 'output.tagged', 'output.reader', 'output.limits', 'auth',
     'histogram', 'redaction', 'client', 'client.completeness', 'scheduler', 'scheduler.turns', 'scheduler.loop'},
    {'protocol.console', 'protocol.iproto', 'output.scalars', 'output.lua', 'lua.exposed', 'lua.memory', 'lua.interrupt',
     'lua.operations', 'config', 'access', 'audit', 'systemd', 'greenlets'},
    {'output.yaml', 'lua', 'lua.packing', 'logs', 'monitor', 'remote', 'store', 'tls'},
    {'output', 'accounts', 'listener', 'client.values', 'client.history'},
    {'client.conversation', 'client.streams'},
    {'client.target', 'client.settings', 'client.screen', 'client.plain', 'client.fancy'},
    {'client.link'},
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
    'lupa': {'lua.runtime', 'lua.interrupt', 'client.completeness'},
    'yaml': {'config', 'output.yaml', 'output.reader'},
    'gevent': {'session', 'greenlets', 'lua.interrupt', 'lua.runtime', 'scheduler.loop', 'connection', 'binary', 'listener',
               'monitor', 'remote', 'server', 'services', 'logs',
               'daemon', 'systemd', 'accounts', 'tls', 'metrics'},
    'prometheus_client': {'metrics'},
    'prompt_toolkit': {'client.fancy'}, 'pygments': {'client.fancy', 'client.screen'}, 'readline': {'client.plain'},
    'sqlite3': {'store'}, 'msgpack': {'protocol.iproto'},
    'argparse': {'cli', 'client.command'},
    'logging': {'audit', 'greenlets', 'lua.runtime', 'connection', 'console', 'binary', 'listener', 'monitor', 'server',
        'services',
                'logs', 'daemon', 'reload', 'systemd', 'metrics'},
}
PURE = {'access', 'auth', 'scheduler.turns', 'protocol.iproto', 'protocol.answers', 'lua.packing', 'protocol.console',
        'protocol.telnet', 'protocol.foreign', 'protocol.greeting', 'output', 'output.limits', 'output.scalars',
        'output.yaml', 'output.lua',
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
