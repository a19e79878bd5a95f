"""Addresses as users write them: `host:port`, `[v6]:port` or `unix:PATH`."""
from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Any

__all__ = ['DEFAULT_PORT', 'PID', 'Address', 'is_local_peer', 'peer_text', 'socket_text']

# In the path of a unix socket to listen on: the id of the process.
PID = '%p'
_LONGEST_PID = '4194304'

DEFAULT_PORT = 3313

_SURROGATES = re.compile('[\udc80-\udcff]')
_SCHEME = re.compile(r'^[A-Za-z][A-Za-z0-9+.-]*://')
_LOGIN_OR_REST = re.compile(r'^[^/?#@]*@|[/?#].*$', re.DOTALL)
_EXPECTED = "expected 'host:port', '[v6]:port' or 'unix:PATH'"


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on or to connect to: a host and a port, or the path of a unix socket."""

    host: str = ''
    port: int = 0
    path: str = ''

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads an address.

        Raises:
            ValueError: the text is not an address. The message is for the user.
        """
        if text.startswith('unix:'):
            path = text[5:]
            if not path:
                raise ValueError(f"{text!r} has no path: expected 'unix:PATH'")
            # The path is written to log lines. Bytes that are not UTF-8 are surrogates here, and harmless.
            if not _SURROGATES.sub('', path).isprintable():
                raise ValueError(f'{text!r} is not an address: its path has characters that cannot be printed')
            if len(path.replace(PID, _LONGEST_PID).encode(errors='surrogateescape')) > 107:
                raise ValueError(f'{text!r} is not an address: the path of a unix socket has at most 107 bytes')
            return cls(path=path)
        host, colon, port = text.rpartition(':')
        if host.startswith('[') and host.endswith(']'):
            host = host[1:-1]
            try:
                ipaddress.IPv6Address(host.partition('%')[0])
            except ValueError:
                raise ValueError(f'{text!r} is not an address: [{host}] is not IPv6') from None
        elif ':' in host:
            raise ValueError(f"{text!r} is not an address: IPv6 needs brackets, as in '[::1]:3313'")
        if not colon or not host or not (port.isascii() and port.isdigit()):
            raise ValueError(f'{text!r} is not an address: {_EXPECTED}')
        try:
            host.encode('idna')         # as the resolver does; in its thread an error would go to the log
        except UnicodeError:
            raise ValueError(f'{text!r} is not an address: a host name has labels of 1 to 63 characters') from None
        if int(port) > 65535:
            raise ValueError(f'{text!r} is not an address: the port must be at most 65535')
        return cls(host=host, port=int(port))

    @classmethod
    def from_whole_uri(cls, uri: object) -> Address:
        """Reads a URI as Tarantool's console.listen() and console.connect() do: any scheme, login, path and query are
        ignored, and `/PATH` is a unix socket. Also all that from_uri() reads.

        Raises:
            ValueError: it is not an address.
        """
        if isinstance(uri, str) and not uri.startswith('unix:'):
            text = _SCHEME.sub('', uri)
            if text.startswith('/') and text == uri:
                uri = f'unix:{text}'
            elif not text.startswith('unix/:'):
                uri = _LOGIN_OR_REST.sub('', text)
            elif text.startswith('unix/:/'):
                uri = text
            else:
                raise ValueError(f"{text!r} is not an address: expected 'unix/:/PATH'")
        return cls.from_uri(uri)

    @classmethod
    def from_uri(cls, uri: object) -> Address:
        """Reads an address in any form that Tarantool's functions take: also a port of this machine, and `unix/:PATH`.

        Raises:
            ValueError: it is not an address.
        """
        if isinstance(uri, int) and not isinstance(uri, bool):
            uri = str(uri)
        if not isinstance(uri, str):
            raise ValueError(f'{uri!r} is not an address: {_EXPECTED}')
        if uri.isascii() and uri.isdigit():
            uri = f'127.0.0.1:{uri}'
        if uri.startswith('unix/:'):
            uri = 'unix:' + uri[6:]
        return cls.parse(uri)

    def for_process(self, pid: int) -> Address:
        """This address with the process id in place of `%p`."""
        return replace(self, path=self.path.replace(PID, str(pid))) if PID in self.path else self

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.path or self.host == 'localhost':
            return True
        try:
            ip = ipaddress.ip_address(self.host.partition('%')[0])
        except ValueError:
            return False
        # Python before 3.13 does not know ::ffff:127.0.0.1 as a loopback address.
        return (getattr(ip, 'ipv4_mapped', None) or ip).is_loopback

    def __str__(self) -> str:
        if self.path:
            return f'unix:{self.path}'
        return f'[{self.host}]:{self.port}' if ':' in self.host else f'{self.host}:{self.port}'


def peer_text(address: Any) -> str:
    """The peer in the form that box.session.peer() returns; `address` comes from accept()."""
    if isinstance(address, tuple):
        return str(Address(host=address[0], port=address[1]))
    return 'unix/:(socket)'


def is_local_peer(name: Any) -> bool:
    """Whether the peer is on this machine; `name` comes from getpeername() or accept()."""
    return not isinstance(name, tuple) or Address(host=name[0]).is_local


def socket_text(name: Any) -> str:
    """The address of a listening socket, as users write it; `name` comes from getsockname()."""
    if isinstance(name, tuple):
        return str(Address(host=name[0], port=name[1]))
    return f'unix:{name}' if name and isinstance(name, str) else 'unix:(no path)'
