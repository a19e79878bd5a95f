"""The table of settings that the config file, the documentation and the program all read."""
from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from boxsession.base.address import Address

__all__ = ['DEFAULT_ADDRESS', 'FOR_UNIX_SOCKETS', 'LISTENER_SETTINGS', 'SETTINGS', 'ListenerConfig', 'Setting', 'TLSConfig',
           'open_listener_problem']


Check = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str                               # dotted path in the file
    default: Any
    check: Check                            # the value for the program, or ValueError with what was expected
    help: str                               # what it is for, in one sentence
    example: str = ''                       # what the commented file shows instead of the default
    is_live: bool = False                   # whether a running server can change it (box.cfg, and a reload of the file)
    is_reloaded: bool = False               # whether a reload of the file changes it, and box.cfg does not


# Checks: each takes what YAML made of the value ----------------------------------------------------------------------

# No setting means more; what counts in C takes no larger numbers.
_MOST = 1 << 46


def _whole(expected: str = 'a whole number, 0 or more', least: int = 1, most: int = _MOST) -> Check:
    """A check for 0 or a whole number in a range, which `expected` tells."""
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not (value == 0 or least <= value <= most):
            raise ValueError(expected)
        return value
    return check


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value == 0 or 0.001 <= value < 1e9):
        raise ValueError('a number of seconds, 0 or more than 0.001')
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError('text')
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError('true or false')
    return value


def _one_of(*known: str) -> Check:
    def check(value: Any) -> str:
        # YAML 1.1 reads some words as booleans: `off` is meant as text where a word is expected.
        if isinstance(value, bool):
            value = 'on' if value else 'off'
        if value not in known:
            raise ValueError(' or '.join(known))
        return str(value)
    return check


def _address(value: Any) -> Address:
    return Address.parse(_text(value))


def _address_text(value: Any) -> str:
    return str(_address(value))


def _mode(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch('0?[0-7]{3}', value):
        return int(value, 8)
    raise ValueError('four octal digits in quotes, as in "0660"')


def _owner(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    try:
        return pwd.getpwnam(_text(value)).pw_uid
    except KeyError:
        raise ValueError('a user of this machine') from None


def _group(value: Any) -> int:
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


def _tls(value: Any) -> TLSConfig:
    expected = 'the files of a certificate, as in {cert: FILE, key: FILE, ca: FILE}; with ca, clients must have one, too'
    if not isinstance(value, dict) or not {'cert', 'key'} <= value.keys() <= {'cert', 'key', 'ca'} or not all(
            isinstance(path, str) and path for path in value.values()):
        raise ValueError(expected)
    return TLSConfig(**value)


def _peers(value: Any) -> dict[str, str]:
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

FOR_UNIX_SOCKETS = ('mode', 'owner', 'group')

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
