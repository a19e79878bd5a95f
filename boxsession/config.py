"""Settings: one table that the config file, the documentation and the program all read.

A file is read whole or refused whole; every problem is told at once, with its line.
"""
from __future__ import annotations

import difflib
import grp
import os
import pwd
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from boxsession.address import Address
from boxsession.errors import ConfigError

__all__ = ['LISTENER_SETTINGS', 'SETTINGS', 'Config', 'ListenerConfig', 'Refused', 'Setting', 'TLSConfig', 'changes',
           'default_file', 'load', 'nested', 'open_listener_problem', 'read', 'reference']


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str                               # dotted path in the file
    default: Any
    check: Callable[[Any], Any]             # the value for the program, or ValueError with what was expected
    help: str                               # what it is for, in one sentence
    example: str = ''                       # what the commented file shows instead of the default
    is_live: bool = False                   # whether a running server can change it (box.cfg, and a reload of the file)
    is_reloaded: bool = False               # whether a reload of the file changes it, and box.cfg does not


# Checks: each takes what YAML made of the value ----------------------------------------------------------------------

# No setting means more; what counts in C takes no larger numbers.
_MOST = 1 << 46


def _whole(expected='a whole number, 0 or more', least=1, most=_MOST):
    """A check for 0 or a whole number in a range, which `expected` tells."""
    def check(value):
        if isinstance(value, bool) or not isinstance(value, int) or not (value == 0 or least <= value <= most):
            raise ValueError(expected)
        return value
    return check


def _seconds(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise ValueError('a number of seconds, 0 or more')
    return value


def _text(value):
    if not isinstance(value, str) or not value:
        raise ValueError('text')
    return value


def _flag(value):
    if not isinstance(value, bool):
        raise ValueError('true or false')
    return value


def _one_of(*known):
    def check(value):
        # YAML 1.1 reads some words as booleans: `off` is meant as text where a word is expected.
        if isinstance(value, bool):
            value = 'on' if value else 'off'
        if value not in known:
            raise ValueError(' or '.join(known))
        return value
    return check


def _address(value):
    return Address.parse(_text(value))


def _address_text(value):
    return str(_address(value))


def _mode(value):
    if isinstance(value, str) and re.fullmatch('0?[0-7]{3}', value):
        return int(value, 8)
    raise ValueError('four octal digits in quotes, as in "0660"')


def _owner(value):
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    try:
        return pwd.getpwnam(_text(value)).pw_uid
    except KeyError:
        raise ValueError('a user of this machine') from None


def _group(value):
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    try:
        return grp.getgrnam(_text(value)).gr_gid
    except KeyError:
        raise ValueError('a group of this machine') from None


@dataclass(frozen=True, slots=True)
class TLSConfig:
    """Files of a TLS listener: its certificate with the chain, the key, and who signs its clients' certificates."""

    cert: str
    key: str
    ca: str | None = None


def _tls(value):
    expected = 'the files of a certificate, as in {cert: FILE, key: FILE, ca: FILE}; with ca, clients must have one, too'
    if not isinstance(value, dict) or not {'cert', 'key'} <= value.keys() <= {'cert', 'key', 'ca'} or not all(
            isinstance(path, str) and path for path in value.values()):
        raise ValueError(expected)
    return TLSConfig(**value)


def _peers(value):
    if not isinstance(value, dict) or not value or not all(
            isinstance(name, str) and name and isinstance(user, str) and user for name, user in value.items()):
        raise ValueError('users by uid or certificate name, as in {0: admin, 1000: ops}')
    return value


# The tables ----------------------------------------------------------------------------------------------------------

LISTENER_SETTINGS = (
    Setting('address', None, _address, 'Where to listen: host:port, [v6]:port or unix:PATH. Port 0 takes a free one.',
            '127.0.0.1:3313'),
    Setting('protocol', 'console', _one_of('console', 'binary'),
            'What is spoken there: console, the text protocol, or binary, which Tarantool\'s connectors speak (IPROTO).'),
    Setting('dialect', 'classic', _one_of('classic', 'tarantool'),
            'How box.session answers: classic as its manual page has it, or tarantool as Tarantool 2.x does.'),
    Setting('user', 'admin', _text, 'Who a session is until it logs in; guest for binary, where nothing else is set.'),
    Setting('peers', None, _peers,
            'Who a session is instead, by the uid at the other end of a unix socket, or by the common name of a client '
            'certificate; others are refused.', '{0: admin, 1000: ops}'),
    Setting('tls', None, _tls,
            'Files for TLS: cert, key and, where clients must have certificates, ca, which signs them.',
            '{cert: server.pem, key: server.key, ca: ca.pem}'),
    Setting('mode', 0o600, _mode, 'Permissions of a unix socket, in force before anyone can connect.', '"0600"'),
    Setting('owner', None, _owner, 'Owner of a unix socket: a name or a uid.', 'root'),
    Setting('group', None, _group, 'Group of a unix socket: a name or a gid.', 'adm'),
    Setting('insecure', False, _flag,
            'Serve everyone who can reach an address that is not of this machine alone. They may all run code.'),
)

SETTINGS = (
    Setting('init', None, _text, 'Lua file that is run once, as admin, before anything listens.',
            '/etc/boxsession/init.lua'),
    Setting('store', None, _text, 'File that keeps users, roles and grants (SQLite); without it they live in memory.',
            '/var/lib/boxsession/users.db'),
    Setting('limits.sessions', 10000, _whole(),
            'Sessions at a time, of which the last few are kept for unix sockets; 0 for no limit.', is_live=True),
    Setting('limits.statement_seconds', 0, _seconds, 'How long a statement may run or wait; 0 for no limit.', is_live=True),
    Setting('limits.trigger_seconds', 10, _seconds,
            'How long the triggers of one event may run, lest they lock everyone out; 0 for no limit.', is_live=True),
    Setting('limits.idle_seconds', 0, _seconds,
            'Closes a session that has sent nothing for so long, never while a statement runs; 0 for no limit.',
            is_live=True),
    Setting('limits.on_disconnect', 'cancel', _one_of('cancel', 'finish'),
            'Whether the statement of a client that has vanished is cancelled, or may finish.', is_live=True),
    Setting('limits.lua_memory_bytes', 268435456, _whole('a whole number of bytes, 16777216 or more, or 0', 1 << 24),
            'How much memory the Lua state that all sessions share may hold: at least 16 MiB, or 0 for no limit.',
            is_live=True),
    Setting('limits.statement_bytes', 65536, _whole('a whole number of bytes, 256 or more, or 0', 256),
            'Longest statement, at least 256; 0 for no limit.', is_live=True),
    Setting('limits.output_bytes', 67108864, _whole('a whole number of bytes, 4096 or more, or 0', 4096),
            'Longest reply, at least 4096: what is over it is cut behind a value, and says so; 0 for no limit.',
            is_live=True),
    Setting('limits.total_output_bytes', 268435456, _whole('a whole number of bytes, 1048576 or more, or 0', 1 << 20),
            'Output of all sessions together that clients have not taken, at least 1048576: over it, the session is closed '
            'that holds most of it for longest; 0 for no limit.', is_live=True),
    Setting('limits.total_input_bytes', 268435456, _whole('a whole number of bytes, 1048576 or more, or 0', 1 << 20),
            'Input of all sessions together that cannot be run yet, at least 1048576: over it, the session is closed that '
            'holds most of it for longest; 0 for no limit.', is_live=True),
    Setting('limits.request_bytes', 1048576, _whole('a whole number of bytes, 256 or more, or 0', 256),
            'Longest request of the binary protocol, at least 256; 0 for no limit.', is_live=True),
    Setting('limits.requests', 768, _whole(),
            'Requests of one binary connection that run at a time; what more comes waits. 0 for no limit.', is_live=True),
    Setting('limits.fibers', 10000, _whole(),
            'Fibers at a time, of all sessions: each takes some 5 KB outside of lua_memory_bytes. 0 for no limit.',
            is_live=True),
    Setting('limits.slice_ms', 2, _whole('a whole number from 0 to 60000', most=60000),
            'How long a statement runs before others get their turn; 0 lets it run to its end.', is_live=True),
    Setting('limits.share_percent', 25, _whole('a whole number from 0 to 100', most=100),
            "Share of the event loop's time for statements that run longer than a slice, while the loop has other work; "
            '0 for no limit.', is_live=True),
    Setting('limits.send_seconds', 30, _seconds,
            'How long a client may take to read 256 KiB of what it asked for, or less; 0 for no limit.', is_live=True),
    Setting('limits.drain_seconds', 10, _seconds, 'How long running statements may go on when the server stops.',
            is_live=True),
    Setting('audit.file', None, _text, 'Where each statement is recorded, one JSON object a line; SIGHUP opens it anew.',
            '/var/log/boxsession/audit.jsonl', is_reloaded=True),
    Setting('audit.required', False, _flag, 'Refuse statements while they cannot be recorded.', is_reloaded=True),
    Setting('log.level', 'info', _one_of('error', 'warning', 'info', 'debug'), 'What is logged.', is_live=True),
    Setting('log.file', '-', _text, 'Where to; - is standard error. SIGHUP opens it anew.', '"-"',
            is_reloaded=True),
    Setting('log.format', 'text', _one_of('text', 'json'), 'text, or json for one object a line. What goes to systemd\'s '
            'journal has its level in front, as the journal reads it.', is_live=True),
    Setting('metrics.address', None, _address_text,
            'Where Prometheus finds /metrics, and a load balancer /healthz: host:port, [v6]:port or unix:PATH. It asks '
            'nobody for a password.', '127.0.0.1:9313', is_reloaded=True),
)

_FOR_UNIX_SOCKETS = ('mode', 'owner', 'group')

DEFAULT_ADDRESS = '127.0.0.1:3313'


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """One listener, checked."""

    address: Address
    protocol: str = 'console'
    dialect: str = 'classic'
    user: str = 'admin'
    mode: int = 0o600
    owner: int | None = None
    group: int | None = None
    peers: Mapping[Any, str] | None = None      # by uid (unix sockets) or common name (TLS)
    tls: TLSConfig | None = None
    insecure: bool = False


    @property
    def is_open(self) -> bool:
        """Whether other machines can reach it without a certificate, and nobody has said that this is meant."""
        return not self.address.is_local and not self.insecure and not (self.tls and self.tls.ca)


def open_listener_problem(listener: ListenerConfig) -> str:
    """What is wrong with an open listener whose sessions may evaluate from their start, and what to do."""
    return (f'{listener.address} can be reached from other machines, and everyone who reaches it may run code as '
            f'{listener.user}: listen on 127.0.0.1 or a unix socket, give it `tls` with a `ca` that signs your clients, '
            'let sessions begin as a `user` without rights (guest), or set `insecure: true` in the config file if you mean '
            'it')


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, checked.

    Attributes:
        values: those of SETTINGS, by dotted name.
        lines: where what is set stands in the file, by dotted name, and for listeners by number and key (`listen.0.tls`).
    """

    listen: tuple[ListenerConfig, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)

    def __getitem__(self, name: str):
        return self.values[name]


class _Node:
    """A value with the line it came from (None where there is no file)."""

    __slots__ = ('value', 'line', 'text')

    def __init__(self, value, line=None, text=None):
        self.value = value
        self.line = line
        self.text = repr(value) if text is None else text       # as it stands in the file


def _from_yaml(node, loader, problems):
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        mapping = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            if isinstance(key, int) and not isinstance(key, bool):
                key = str(key)              # a uid
            if not isinstance(key, str):
                problems.append((key_node.start_mark.line + 1, f'{key!r} is no name of a setting'))
                continue
            if key in mapping:
                problems.append((key_node.start_mark.line + 1, f'`{key}` stands here twice'))
            mapping[key] = _from_yaml(value_node, loader, problems)
            mapping[key].line = key_node.start_mark.line + 1
        return _Node(mapping, line)
    if isinstance(node, yaml.SequenceNode):
        return _Node([_from_yaml(item, loader, problems) for item in node.value], line)
    quote = node.style or ''
    return _Node(loader.construct_object(node, deep=True), line, quote + node.value + quote)


def _from_data(value):
    if isinstance(value, Mapping):
        return _Node({str(key) if isinstance(key, int) else key: _from_data(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return _Node([_from_data(item) for item in value])
    return _Node(value)


def _plain(node):
    if isinstance(node.value, dict):
        return {key: _plain(inner) for key, inner in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(inner) for inner in node.value]
    return node.value


class _Reader:
    """Collects settings and problems from a tree of _Node."""

    def __init__(self):
        self.problems: list[tuple[int | None, str]] = []

    def complain(self, node, message):
        self.problems.append((node.line, message))

    def unknown(self, node, name, known):
        key, prefix = name.rpartition('.')[2], name.rpartition('.')[0]
        near = difflib.get_close_matches(key, [k.rpartition('.')[2] for k in known], 1)
        place = f' in `{prefix}`' if prefix else ''
        names = sorted(k.rpartition('.')[2] for k in known)
        hint = f': did you mean `{near[0]}`?' if near else f': known are {", ".join(names)}'
        self.complain(node, f'unknown key `{key}`{place}{hint}')

    def checked(self, setting, node):
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

    def values(self, root):
        found = {setting.name: setting.default for setting in SETTINGS}
        by_name = {setting.name: setting for setting in SETTINGS}
        sections = {name.partition('.')[0] for name in by_name if '.' in name}
        top = sections | {name for name in by_name if '.' not in name} | {'listen'}
        for key, node in root.items():
            if key == 'listen':
                continue
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
        return found

    def listeners(self, root):
        node = root.get('listen')
        if node is None:
            return (ListenerConfig(Address.parse(DEFAULT_ADDRESS)),)
        if not isinstance(node.value, list) or not node.value:
            self.complain(node, '`listen` must be a list of listeners, each with an `address`')
            return ()
        found = [self.listener(item) for item in node.value]
        seen = set()
        for item, listener in zip(node.value, found, strict=True):
            if listener is not None and listener.address in seen:
                self.complain(item, f'`listen` has {listener.address} twice')
            elif listener is not None and (listener.address.path or listener.address.port):
                seen.add(listener.address)
        return tuple(filter(None, found))

    def listener(self, node):
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
            for key in _FOR_UNIX_SOCKETS:
                if key in node.value:
                    self.complain(node.value[key], f'`{key}` is for unix sockets: {address} has no file')
        if found.get('protocol') == 'binary':
            found.setdefault('user', 'guest')
        if found.get('peers') and address.path:
            found['peers'] = self.uids(node.value['peers'], found['peers'])
        listener = ListenerConfig(**found)
        if listener.peers and not address.path and not (listener.tls and listener.tls.ca):
            self.complain(node.value['peers'], '`peers` is for unix sockets, and for tls with a `ca`: '
                                               f'{address} knows nobody')
        if address.path and listener.tls:
            self.complain(node.value['tls'], f'`tls` is for addresses with a port: {address} is a unix socket')
        if listener.is_open and (listener.user == 'admin'):
            self.complain(node, open_listener_problem(listener))
        return listener

    def uids(self, node, peers):
        found = {}
        for name, user in peers.items():
            try:
                found[int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid] = user
            except KeyError:
                self.complain(node, f'`peers`: {name!r} is no uid and no user of this machine')
        return found


def _finish(root, problems, source):
    reader = _Reader()
    reader.problems = problems
    if root.value is None:
        root = _Node({}, root.line)
    if not isinstance(root.value, dict):
        reader.complain(root, 'a config file is a mapping of settings')
        values, listen = {}, ()
    else:
        values, listen = reader.values(root.value), reader.listeners(root.value)
    if reader.problems:
        ordered = sorted(reader.problems, key=lambda problem: problem[0] or 0)
        raise ConfigError([f'{source}:{line}: {text}' if line else f'{source}: {text}' for line, text in ordered])
    return Config(listen, values, _lines(root) if root.line else {})


def _lines(node, prefix=''):
    found = {}
    children = node.value if isinstance(node.value, dict) else dict(enumerate(node.value)) \
        if isinstance(node.value, list) else {}
    for key, inner in children.items():
        found[f'{prefix}{key}'] = inner.line
        found.update(_lines(inner, f'{prefix}{key}.'))
    return found


def load(path: str | os.PathLike) -> Config:
    """Reads a config file.

    Raises:
        ConfigError: it cannot be read, is no YAML, or something in it is wrong.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError([f'{path}: cannot be read: {error.strerror}']) from None
    problems: list[tuple[int | None, str]] = []
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            root = _Node(None, 1) if node is None else _from_yaml(node, loader, problems)
        finally:
            loader.dispose()
    except RecursionError:
        raise ConfigError([f'{path}: not a config file: it contains itself, or is nested too deep']) from None
    except yaml.YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        line = f':{mark.line + 1}' if mark else ''
        problem = getattr(error, 'problem', None) or str(error).partition('\n')[0]
        raise ConfigError([f'{path}{line}: not YAML: {problem}']) from None
    return _finish(root, problems, path)


def read(data: Mapping[str, Any], source: str = 'config') -> Config:
    """Checks settings that a program gives: the same keys as in the file.

    Raises:
        ConfigError: something in them is wrong.
    """
    return _finish(_from_data(data), [], source)


# Settings in a running server -----------------------------------------------------------------------------------------

class Refused(Exception):
    """A change that cannot be made: the name of the setting, and the reason, None for what no running server changes."""

    def __init__(self, name: str, reason: str | None):
        super().__init__(f'{name}: {reason}')
        self.name = name
        self.reason = reason


def changes(data: Mapping[str, Any]) -> dict[str, Any]:
    """Checks changes to settings, given as a mapping for each section or by dotted name; gives them by dotted name.

    Raises:
        Refused: one of them is unknown, wrong, or cannot be changed while the server runs.
    """
    by_name = {setting.name: setting for setting in SETTINGS}
    sections = {name.partition('.')[0] for name in by_name if '.' in name}
    flat = {}
    for key, value in data.items():
        if key in sections and isinstance(value, Mapping):
            flat.update({f'{key}.{inner}': inner_value for inner, inner_value in value.items()})
        elif key in sections and isinstance(value, list) and not value:     # an empty table of Lua's
            continue
        elif key in sections:
            raise Refused(str(key), 'should be a table of settings')
        else:
            flat[str(key)] = value
    checked = {}
    for name, value in flat.items():
        setting = by_name.get(name)
        if setting is None and name != 'listen':
            raise Refused(name, 'unexpected option')
        if setting is None or not setting.is_live:
            raise Refused(name, None)
        try:
            checked[name] = setting.check(value)
        except ValueError as error:
            raise Refused(name, f'should be {error}') from None
    return checked


def nested(values: Mapping[str, Any]) -> dict:
    """Settings by dotted name as a mapping for each section; what is not set is left out."""
    shown: dict = {}
    for name, value in values.items():
        section, _, key = name.rpartition('.')
        if value is not None:
            (shown.setdefault(section, {}) if section else shown)[key] = value
    return shown


# The commented file --------------------------------------------------------------------------------------------------

def _shown(setting) -> str:
    if setting.example:
        return setting.example
    if setting.default is None:
        return ''
    return str(setting.default).lower() if isinstance(setting.default, bool) else str(setting.default)


def default_file() -> str:
    """conf/boxsession.yml: every setting with its default, commented."""
    lines = ['# Settings of boxsession, each with its default. Check a changed file with: boxsession check-config FILE', '',
             'listen:']
    for number, setting in enumerate(LISTENER_SETTINGS):
        if number == 0:
            lines += [f'  # {setting.help}', f'  - {setting.name}: {_shown(setting)}']
        else:
            lines += _commented(setting, setting.name, '    ',
                                off=setting.default is None or setting.name in _FOR_UNIX_SOCKETS)
    section = ''
    for setting in SETTINGS:
        prefix, _, key = setting.name.rpartition('.')
        if prefix != section:
            lines += ['', f'{prefix}:']
            section = prefix
        elif not prefix:
            lines.append('')
        lines += _commented(setting, key, '  ' if prefix else '', off=setting.default is None)
    return '\n'.join(lines) + '\n'


def reference() -> str:
    """The settings as docs/configuration.rst lists them."""
    def entries(table):
        for setting in table:
            default = f' ({_shown(setting)})' if setting.default is not None else ''
            live = ' *' if setting.is_live else ' +' if setting.is_reloaded else ''
            yield f'``{setting.name}``{default}{live}\n    {setting.help}\n'

    return '\n'.join([*entries(SETTINGS), 'Each entry of ``listen`` is an address, or a mapping of these:\n',
                      *entries(LISTENER_SETTINGS)])


def _commented(setting, key, indent, off) -> list[str]:
    """A setting's help and its line; `off` where the line shows an example that is not in force."""
    return [f'{indent}# {setting.help}', f'{indent}{"# " if off else ""}{key}: {_shown(setting)}']
