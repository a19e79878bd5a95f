"""The table of settings. The config file, the documentation and the program are all made from it."""
from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from boxsession.base.address import DEFAULT_PORT, Address
from boxsession.protocol.greeting import SERVICE_NAME

__all__ = ['DEFAULT_ADDRESS', 'FOR_UNIX_SOCKETS', 'LANGUAGES', 'LISTENER_SETTINGS', 'SETTINGS', 'ListenerConfig', 'Setting',
           'TLSConfig', 'open_listener_problem', 'python_problem']


Check = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str                               # dotted name, as in limits.sessions
    default: Any
    check: Check                            # converts a value, or raises ValueError with the expected form as text
    help: str                               # for the documentation and the commented config file
    example: str = ''                       # shown in the commented config file instead of the default
    is_live: bool = False                   # box.cfg and a reload can change it in a running server
    is_reloaded: bool = False               # a reload can change it, box.cfg cannot


# Checks: each takes the value that the YAML reader made -----------------------------------------------------------------

# Greatest number of a setting. Counters in C, such as the limit of the Lua allocator, take no larger one.
_MOST = 1 << 46
_NAME_LENGTH = 24


def _whole(expected: str = 'a whole number, 0 or more', least: int = 1, most: int = _MOST) -> Check:
    """A check for 0 or a whole number from `least` to `most`; `expected` is the text of the error."""
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not (value == 0 or least <= value <= most):
            raise ValueError(expected)
        return value
    return check


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value == 0 or 0.001 <= value < 1e9):
        raise ValueError('a number of seconds: 0, or 0.001 or more')
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError('text')
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(SERVICE_NAME, value) or len(value) > _NAME_LENGTH:
        raise ValueError(f'a name of up to {_NAME_LENGTH} letters, digits, -, _ and .')
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError('true or false')
    return value


def _one_of(*known: str) -> Check:
    def check(value: Any) -> str:
        # YAML 1.1 reads `on` and `off` as booleans; here they are words.
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
    """Files of a TLS listener, in PEM format.

    Attributes:
        cert: the server's certificate with its chain.
        key: the private key of the certificate.
        ca: the certificate authority that signs the clients' certificates; None: clients need none.
    """

    cert: str
    key: str
    ca: str | None = None


def _tls(value: Any) -> TLSConfig:
    expected = 'the files of a certificate, as in {cert: FILE, key: FILE, ca: FILE}; with `ca`, clients need a certificate'
    if not isinstance(value, dict) or not {'cert', 'key'} <= value.keys() <= {'cert', 'key', 'ca'} or not all(
            isinstance(path, str) and path for path in value.values()):
        raise ValueError(expected)
    return TLSConfig(**value)


def _peers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not value or not all(
            isinstance(name, str) and name and isinstance(user, str) and user for name, user in value.items()):
        raise ValueError('users by uid or certificate name, as in {0: admin, 1000: ops}')
    return value


# The languages of statements that a listener may allow.
LANGUAGES = ('lua', 'python')


def _languages(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(name in LANGUAGES for name in value) \
            or len(set(value)) < len(value):
        raise ValueError(f'expected a list of different languages, of {" and ".join(LANGUAGES)}, as in [lua, python]; '
                         f'got {value!r}')
    return tuple(value)


# The tables ----------------------------------------------------------------------------------------------------------

LISTENER_SETTINGS = (
    Setting('address', None, _address,
            'Address to listen on: host:port, [v6]:port or unix:PATH. Port 0 takes a free port. In a path, %p is '
            'replaced by the process id.',
            '127.0.0.1:3313'),
    Setting('protocol', 'console', _one_of('console', 'binary', 'rescue'),
            'Protocol: console for text, binary for the protocol of Tarantool\'s connectors (IPROTO), rescue for a '
            'listener on a unix socket that answers a few commands while the event loop is held.'),
    Setting('dialect', 'classic', _one_of('classic', 'tarantool'),
            'Behaviour in which Tarantool versions differ: classic follows the manual of 1.6, tarantool follows 2.x.'),
    Setting('languages', ('lua',), _languages,
            'Languages of the statements of a console: lua, python, or both. A session begins in the first one that its '
            'user may use. Python needs execute on universe, or on python: whoever has it can do all that the process can.',
            '[lua]'),
    Setting('user', 'admin', _text, 'User of a session until it logs in. The default of the binary protocol is guest.'),
    Setting('peers', None, _peers,
            'User of each client, instead of user: by uid on a unix socket, by common name of the client certificate with '
            'TLS. Other clients are refused.', '{0: admin, 1000: ops}'),
    Setting('tls', None, _tls,
            'TLS files in PEM format: cert (with its chain), key, and optionally ca. With ca, each client needs a '
            'certificate that this authority has signed.', '{cert: server.pem, key: server.key, ca: ca.pem}'),
    Setting('mode', 0o600, _mode,
            'Permissions of the unix socket, in quotes. They are in force before a client can connect.', '"0600"'),
    Setting('owner', None, _owner, 'Owner of the unix socket: a name or a uid.', 'root'),
    Setting('group', None, _group, 'Group of the unix socket: a name or a gid.', 'adm'),
    Setting('insecure', False, _flag,
            'Allow a listener on which clients from other machines can run any code without a login or a certificate. '
            'Without this setting, the server refuses to start with such a listener.'),
)

SETTINGS = (
    Setting('name', None, _name,
            'Name of the service, which the greeting and the prompt of boxsession connect show: up to 24 letters, digits, '
            '-, _ and dots. The default is the name of the program around the console.', 'shop', is_reloaded=True),
    Setting('init', None, _text, 'Lua file that runs once at the start, as admin, before the server listens.',
            '/etc/boxsession/init.lua'),
    Setting('store', None, _text,
            'SQLite file for users, roles and grants. Without it they are lost when the server stops.',
            '/var/lib/boxsession/users.db'),
    Setting('limits.sessions', 10000, _whole(),
            'Maximum number of sessions; 0 for no limit. If the server listens on a unix socket, the last 3 places are '
            'reserved for unix sockets.', is_live=True),
    Setting('limits.statement_seconds', 0, _seconds,
            'Maximum time of a statement or request in seconds, including the time that it waits; 0 for no limit. There is '
            'none by default: no long job of an admin is stopped halfway, and an endless statement does not stop others.',
            is_live=True),
    Setting('limits.trigger_seconds', 10, _seconds,
            'Maximum time in seconds of all triggers of one connect or disconnect; 0 for no limit. If the on_connect '
            'triggers take longer, the client is refused.', is_live=True),
    Setting('limits.idle_seconds', 0, _seconds,
            'The server closes a session whose client has sent nothing for this many seconds, unless a statement runs; 0 '
            'for no limit.', is_live=True),
    Setting('limits.on_disconnect', 'cancel', _one_of('cancel', 'finish'),
            'What happens to a running statement if its client disconnects: cancel ends it, finish lets it run to its end.',
            is_live=True),
    Setting('limits.lua_memory_bytes', 268435456, _whole('a whole number of bytes, 16777216 or more, or 0', 1 << 24),
            'Memory limit in bytes of the Lua state, which all sessions share: at least 16777216 (16 MiB); 0 for no limit.',
            is_live=True),
    Setting('limits.python_memory_bytes', 1073741824, _whole('a whole number of bytes, 16777216 or more, or 0', 1 << 24),
            'Maximum growth of the process, in bytes, while a statement in Python runs: at least 16777216 (16 MiB); 0 for '
            'no limit. Above it, the statement ends with an error. It is looked at between steps of the statement only.',
            is_live=True),
    Setting('limits.kept_bytes', 1048576, _whole(),
            'Maximum size of the last results that a session in Python keeps (_1 to _9), in bytes of their replies; 0 '
            'for no limit.', is_live=True),
    Setting('limits.statement_bytes', 65536, _whole('a whole number of bytes, 256 or more, or 0', 256),
            'Maximum length of a statement in bytes, at least 256; 0 for no limit.', is_live=True),
    Setting('limits.output_bytes', 67108864, _whole('a whole number of bytes, 4096 or more, or 0', 4096),
            'Maximum length of a reply in bytes, at least 4096; 0 for no limit. A longer reply is truncated after a value '
            'and ends with an error; in the binary protocol the whole response becomes an error.', is_live=True),
    Setting('limits.total_output_bytes', 268435456, _whole('a whole number of bytes, 1048576 or more, or 0', 1 << 20),
            'Maximum unsent output of all sessions together in bytes, at least 1048576 (1 MiB); 0 for no limit. Above it, '
            'the server closes the session with the most unsent bytes for the longest time.', is_live=True),
    Setting('limits.total_input_bytes', 268435456, _whole('a whole number of bytes, 1048576 or more, or 0', 1 << 20),
            'Maximum input of all sessions together that cannot run yet, in bytes, at least 1048576 (1 MiB); 0 for no '
            'limit. Above it, the server closes the session with the most such bytes for the longest time.', is_live=True),
    Setting('limits.request_bytes', 1048576, _whole('a whole number of bytes, 256 or more, or 0', 256),
            'Maximum length of a request of the binary protocol in bytes, at least 256; 0 for no limit.', is_live=True),
    Setting('limits.requests', 768, _whole(),
            'Maximum number of requests that run at a time on one binary connection; further requests wait; 0 for no '
            'limit.', is_live=True),
    Setting('limits.fibers', 10000, _whole(),
            'Maximum number of fibers of all sessions together; 0 for no limit. Each fiber takes about 5 KB that '
            'lua_memory_bytes does not include.', is_live=True),
    Setting('limits.slice_ms', 2, _whole('a whole number from 0 to 60000', most=60000),
            'Time slice in milliseconds: a statement that runs longer is preempted, so that other sessions can run; 0 for '
            'no preemption.', is_live=True),
    Setting('limits.share_percent', 25, _whole('a whole number from 0 to 100', most=100),
            "Maximum share of the event loop's time, in percent, for statements that run longer than a time slice, while "
            'the loop has other work; 0 for no limit.', is_live=True),
    Setting('limits.send_seconds', 30, _seconds,
            'Maximum time in seconds that a client may take to read the next 256 KiB of its output; 0 for no limit. The '
            'session of a slower client is closed.', is_live=True),
    Setting('limits.drain_seconds', 10, _seconds,
            'Maximum time in seconds that running statements get to finish when the server stops; 0 for no limit. After '
            'that they are cancelled.', is_live=True),
    Setting('audit.file', None, _text,
            'Audit file: one JSON object per line for each statement, login and other event. SIGHUP and SIGUSR1 reopen it.',
            '/var/log/boxsession/audit.jsonl', is_reloaded=True),
    Setting('audit.required', False, _flag, 'Refuse statements while the audit file cannot be written.', is_reloaded=True),
    Setting('log.level', 'info', _one_of('error', 'warning', 'info', 'debug'),
            'Least severe level that is logged: error, warning, info or debug.', is_live=True),
    Setting('log.file', '-', _text, 'Log file; - for standard error. SIGHUP and SIGUSR1 reopen it.', '"-"',
            is_reloaded=True),
    Setting('log.format', 'text', _one_of('text', 'json'),
            'Format of log lines: text, or json for one object per line. A line to systemd\'s journal begins with its '
            'level, in the form that the journal reads.', is_live=True),
    Setting('metrics.address', None, _address_text,
            'Address of the HTTP server for /metrics (Prometheus) and /healthz (load balancers): host:port, [v6]:port or '
            'unix:PATH. It asks for no password.', '127.0.0.1:9313', is_reloaded=True),
)

FOR_UNIX_SOCKETS = ('mode', 'owner', 'group')

DEFAULT_ADDRESS = f'127.0.0.1:{DEFAULT_PORT}'


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """The checked settings of one listener; see LISTENER_SETTINGS."""

    address: Address
    protocol: str = 'console'
    dialect: str = 'classic'
    languages: tuple[str, ...] = ('lua',)
    user: str = 'admin'
    mode: int = 0o600
    owner: int | None = None
    group: int | None = None
    peers: Mapping[Any, str] | None = None      # by uid (unix sockets) or common name (TLS)
    tls: TLSConfig | None = None
    insecure: bool = False

    @property
    def users(self) -> list[str]:
        """The names of the users that its sessions begin as."""
        return sorted(set(self.peers.values())) if self.peers else [self.user]

    @property
    def is_open(self) -> bool:
        """Whether other machines can reach it without a client certificate, and `insecure` is not set."""
        return not self.address.is_local and not self.insecure and not (self.tls and self.tls.ca)


def open_listener_problem(listener: ListenerConfig) -> str:
    """The error for an open listener whose sessions may evaluate code without a login."""
    return (f'{listener.address} can be reached from other machines, and every client there may run code as '
            f'{listener.user}: listen on 127.0.0.1 or a unix socket, set `tls` with a `ca` for client certificates, set '
            '`user` to a user without rights (guest), or set `insecure: true` in the config file to allow it')


def python_problem(listener: ListenerConfig) -> str:
    """The error for a listener whose sessions begin as a user who may use Python, if others than this user can connect;
    '' if they cannot."""
    if 'python' not in listener.languages or listener.peers:
        return ''
    guest = 'set `user` to one who may not use Python (guest; clients log in by \\login)'
    if listener.address.path:
        if not listener.mode & 0o077:
            return ''
        return (f'{listener.address} has the mode {listener.mode:04o}, so others than its owner can connect and run Python '
                f'as {listener.user}: set `mode: "0600"`, name the users in `peers`, {guest}, or take '
                'python out of `languages`')
    if listener.insecure or listener.tls and listener.tls.ca:
        return ''
    who = 'all users of this machine, and web pages in their browsers,' if listener.address.is_local \
        else 'clients on other machines'
    return (f'{listener.address}: {who} can connect and run Python as {listener.user}: listen on a unix socket, set `tls` '
            f'with a `ca` for client certificates, {guest}, take python out of `languages`, or set '
            '`insecure: true` to allow it')
