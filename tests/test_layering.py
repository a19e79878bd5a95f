"""Who may import whom, and that each dependency has its one door.

`python tests/test_layering.py` prints the rooms as docs/design.rst shows them.
"""
from __future__ import annotations

import ast
import textwrap
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / 'boxsession'

# The rooms, the lowest first: a module imports only from rooms below its own, or from modules of its own room that stand in
# front of it there.
ROOMS = {
    'base': ['version', 'python_text', 'errors', 'address', 'descriptors', 'sockets', 'histogram', 'secret_words', 'tokens',
             'lua_tokens', 'python_tokens', 'secret_position', 'python_position', 'secret_places', 'redaction', 'session',
             'greenlets', 'inherited', 'own_threads', 'signals', 'counters', 'stacks'],
    'values': ['natural', 'packed', 'reader', 'limits', 'collation', 'hashes', 'whole', 'decimals', 'scalars', 'lua_text',
               'msgpack', 'yaml', 'documents'],
    'protocol': ['greeting', 'client', 'telnet', 'foreign', 'text', 'frames', 'iproto', 'answers', 'peer'],
    'scheduler': ['top', 'turns', 'loop', 'overruns', 'task', 'deadlines', 'dispatcher', 'calls'],
    'lua': ['contract', 'loader', 'ports', 'signatures', 'reachable', 'live', 'exposed', 'functions', 'arguments',
            'commands', 'memory', 'interrupt', 'task', 'state', 'evaluator', 'requests', 'fibers', 'memory_ports',
            'turn_ports', 'top_ports', 'host_ports', 'process_ports', 'library_ports', 'bridge'],
    'settings': ['table', 'live', 'reader', 'reference'],
    'users': ['passwords', 'tables', 'access', 'arguments', 'actor', 'grants', 'schema', 'store', 'passwd', 'accounts'],
    'net': ['hangup', 'tls', 'acceptor', 'socket_file', 'listener', 'listeners'],
    'operations': ['audit', 'systemd', 'logs', 'monitor', 'metrics', 'statistics'],
    'inspection': ['frames', 'shown', 'pace', 'living', 'reprs', 'variables', 'register', 'greenlets', 'threads',
                   'journal', 'loggers', 'records', 'tail', 'objects', 'memory', 'links', 'referrers', 'tracing', 'loop',
                   'outside', 'insisting', 'stopper', 'rescue', 'profile', 'sampler', 'tracebacks',
                   'static', 'copies', 'expression', 'caller', 'watch_target', 'watch_trees', 'watch_arguments',
                   'watch_swapped', 'watch_hooks', 'watch', 'watch_counts', 'watch_command'],
    'python': ['doubts', 'compiler', 'values', 'quick', 'landlock', 'snapshot_child', 'snapshot', 'clock', 'checks',
               'alarm', 'interrupts', 'output', 'results', 'functions', 'namespace', 'box', 'link', 'shared', 'showing',
               'completion', 'evaluator', 'evaluators'],
    'sessions': ['state', 'backlog', 'common', 'sleepers', 'input', 'output', 'stream', 'remote', 'beginning',
                 'languages', 'evaluators',
                 'refusals', 'text_output', 'text', 'binary_output', 'answers', 'workers', 'binary', 'netbox', 'registry',
                 'admission', 'changes', 'caller', 'rescue_commands', 'rescue', 'failures', 'user_services',
                 'session_services', 'netbox_services',
                 'inspection_services', 'log_services', 'tail_services', 'memory_services', 'loop_services',
                 'profile_services', 'watching', 'watch_services', 'python_services',
                 'services'],
    'client': ['completeness', 'python_lines', 'values', 'completions', 'tables', 'pushes', 'history', 'streams', 'target',
               'settings', 'screen', 'plain', 'fancy', 'channel', 'exchange', 'link', 'identity', 'script', 'terminal',
               'command'],
    '': ['check', 'surroundings', 'threads', 'call_in', 'running', 'reload', 'forks', 'embed', '', 'daemon',
         'cli', '__main__'],
}
# A person's client is beside the server: it knows values and protocols only.
APART = {'client': {'base', 'values', 'protocol'}}
DOORS = {
    'lupa': {'lua.bridge', 'lua.evaluator', 'lua.interrupt', 'client.completeness'},
    'yaml': {'settings.reader', 'values.yaml', 'values.reader'},
    'gevent': {'base.session', 'base.greenlets', 'base.inherited', 'base.own_threads', 'base.signals', 'scheduler.loop',
               'scheduler.task', 'scheduler.dispatcher', 'scheduler.calls', 'python.clock', 'python.alarm', 'python.checks',
               'python.output', 'python.snapshot', 'python.snapshot_child', 'python.link', 'python.evaluator',
               'lua.interrupt', 'lua.fibers',
               'lua.turn_ports', 'lua.host_ports', 'lua.bridge',
               'users.accounts', 'net.hangup', 'net.tls', 'net.acceptor', 'net.socket_file', 'net.listener',
               'operations.systemd', 'operations.logs', 'operations.monitor', 'operations.metrics', 'sessions.sleepers',
               'sessions.input', 'sessions.output',
               'sessions.stream', 'sessions.remote', 'sessions.text_output', 'sessions.binary_output',
               'sessions.workers', 'sessions.binary', 'sessions.registry', 'sessions.user_services',
               'sessions.session_services', 'sessions.netbox', 'inspection.living', 'inspection.greenlets',
               'sessions.changes', 'sessions.tail_services', 'inspection.tail', 'inspection.loop', 'inspection.sampler',
               'sessions.profile_services', 'sessions.watching', 'sessions.watch_services',
               'inspection.watch_swapped',
               'inspection.caller',
               'inspection.stopper', 'inspection.rescue', 'surroundings', 'threads', 'call_in', 'embed', 'daemon'},
    'prometheus_client': {'operations.metrics'},
    'prompt_toolkit': {'client.fancy'}, 'pygments': {'client.fancy', 'client.screen'}, 'readline': {'client.plain'},
    'sqlite3': {'users.store'}, 'msgpack': {'protocol.iproto'},
    'argparse': {'cli', 'client.command'},
    'logging': {'base.greenlets', 'lua.ports', 'lua.bridge', 'lua.evaluator', 'lua.turn_ports', 'lua.process_ports',
                'net.acceptor', 'net.socket_file', 'net.listener', 'operations.audit', 'operations.systemd',
                'operations.logs', 'operations.monitor', 'operations.metrics', 'sessions.stream', 'sessions.evaluators',
                'sessions.text', 'sessions.workers', 'sessions.binary', 'sessions.registry', 'sessions.admission',
                'sessions.failures', 'sessions.user_services', 'sessions.session_services', 'sessions.netbox_services',
                'sessions.inspection_services', 'sessions.memory_services', 'sessions.profile_services',
                'sessions.watch_services', 'sessions.services', 'sessions.rescue',
                'sessions.changes', 'inspection.loggers', 'inspection.tail',
                'threads', 'running',
                'reload', 'forks', 'daemon'},
}
PURE = {'inspection.frames', 'inspection.shown', 'inspection.profile', 'inspection.journal', 'inspection.records',
        'inspection.variables', 'inspection.static', 'inspection.copies', 'inspection.expression',
        'inspection.watch_target',
        'inspection.watch_arguments', 'inspection.watch_command',
        'base.python_text', 'client.python_lines',
        'base.address', 'base.histogram', 'base.secret_words', 'base.tokens', 'base.lua_tokens', 'base.python_tokens',
        'base.secret_position', 'base.python_position',
        'base.secret_places', 'base.redaction', 'values.natural', 'values.packed', 'values.limits', 'values.scalars',
        'values.lua_text', 'values.collation', 'values.hashes', 'values.whole', 'values.decimals',
        'values.msgpack', 'values.yaml', 'values.documents', 'protocol.greeting',
        'protocol.client', 'protocol.telnet', 'protocol.foreign', 'protocol.text', 'protocol.frames', 'protocol.iproto',
        'protocol.answers',
        'protocol.peer',
        'python.doubts', 'python.compiler', 'python.values', 'python.results', 'python.functions', 'python.box',
        'python.showing', 'python.quick', 'python.completion',
        'scheduler.turns', 'lua.functions', 'lua.arguments', 'lua.commands', 'lua.memory', 'users.passwords',
        'users.tables', 'users.access', 'users.arguments', 'users.actor', 'users.grants', 'users.schema', 'sessions.state',
        'sessions.refusals', 'client.values', 'client.settings'}
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
    order = [f'{room}.{name}'.strip('.') for room, names in ROOMS.items() for name in names]
    found = {name: tree for name, tree in modules() if name not in ROOMS or not name}
    assert sorted(order) == sorted(found)
    for name, tree in found.items():
        room = name.rpartition('.')[0]
        for target in imported(tree):
            if target.partition('.')[0] == 'boxsession':
                inner = target.removeprefix('boxsession').lstrip('.')
                assert order.index(inner) < order.index(name), f'{name} imports {inner}'
                assert room not in APART or inner.partition('.')[0] in APART[room] | {room}, f'{name} imports {inner}'


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


def picture():
    """The rooms, the highest first."""
    lines = []
    for room, names in reversed(ROOMS.items()):
        lines += textwrap.wrap(', '.join(name or '__init__' for name in names), 105,
                               initial_indent=f'    {room or "boxsession":14}', subsequent_indent=' ' * 18)
    return '\n'.join(lines) + '\n'


def test_no_two_modules_of_tests_have_one_name():
    """pytest imports them by their names alone: of two it collects none."""
    names = [path.name for path in Path(__file__).parent.rglob('test_*.py')]
    assert sorted(set(names)) == sorted(names)


if __name__ == '__main__':
    print(picture())
