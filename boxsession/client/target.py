"""The target of a connection: the address, the user, the password, TLS."""
from __future__ import annotations

import getpass
import os
import re
import ssl
import sys
from codecs import BOM_UTF8
from dataclasses import dataclass, field
from typing import BinaryIO

from boxsession.base.address import DEFAULT_PORT, Address
from boxsession.base.errors import BoxsessionError
from boxsession.client.values import visible
from boxsession.protocol.client import MAX_REPLY_BYTES

__all__ = ['PASSWORD_VARIABLE', 'Target', 'WrongUsage', 'ask_password', 'password_line']

PASSWORD_VARIABLE = 'BOXSESSION_PASSWORD'
_PASSWORD_MAX = 4096
_HOST_ALONE = re.compile(r'[^\s:/@\[\]]+|\[[^\s/@\[\]]+\]')
_UNIX = re.compile(r'(?:([^:]*)(@))?(unix/?:.*)', re.DOTALL)


class WrongUsage(BoxsessionError):
    """An argument of the command line is wrong, or a file that it names cannot be used. The text is for the user."""


def password_line(file: BinaryIO) -> str:
    """Reads a password: the first line of a file. Bytes that are not UTF-8 become surrogates.

    Raises:
        ValueError: the line is empty or too long. The text is for the user.
    """
    line = file.readline(_PASSWORD_MAX + 1)
    if len(line) > _PASSWORD_MAX:
        raise ValueError(f'its first line is too long for a password: expected at most {_PASSWORD_MAX} bytes')
    password = line.removeprefix(BOM_UTF8).rstrip(b'\r\n')
    if not password:
        raise ValueError('its first line is empty: expected the password there')
    return password.decode(errors='surrogateescape')


def ask_password(prompt: str) -> str:
    """Asks for a password on the terminal.

    Raises:
        WrongUsage: the input has ended.
    """
    try:
        return getpass.getpass(visible(prompt).encode('ascii', errors='backslashreplace').decode())
    except (EOFError, OSError, UnicodeError):
        sys.stderr.write('\n')
        raise WrongUsage('no password was given') from None


@dataclass
class Target:
    """The target of a connection.

    Attributes:
        address: the address of the server.
        user: the user to log in as; None for no login.
        password: the password of `user`.
        tls: the TLS context; None without TLS.
        insecure: whether the password may be sent if others can read it.
        max_reply: the longest accepted reply or push, in bytes; 0 for no limit.
        language: the language of statements; None for the one in which the session begins.
    """

    address: Address
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    insecure: bool = False
    max_reply: int = MAX_REPLY_BYTES
    language: str | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads `[USER@]ADDRESS`. A host without a port gets the default port, digits alone are a port of this machine.

        Raises:
            WrongUsage: the text has another form, or has a password.
        """
        match = _UNIX.fullmatch(text)           # the path of a unix socket may have an @
        user, at, address = match.groups() if match else text.rpartition('@')
        if user and ':' in user:
            raise WrongUsage("the address must not contain a password, because others can see it: leave it out, and it is "
                             f'asked for, or use --password-file or the environment variable {PASSWORD_VARIABLE}')
        if at and not user:
            raise WrongUsage(f'{text!r} has no user before the @: expected USER@ADDRESS')
        if address.startswith(('/', './')):
            raise WrongUsage(f'{address!r} is not an address: a unix socket is unix:{address}')
        if _HOST_ALONE.fullmatch(address) and not address.isdecimal():
            address = f'{address}:{DEFAULT_PORT}'
        try:
            return cls(Address.from_uri(address), user or None)
        except ValueError as error:
            raise WrongUsage(str(error)) from None

    def find_password(self, path: str | None) -> None:
        """Sets the password of the user: from the file `path`, the environment, or the terminal. Without a user, none.
        That of guest is empty, unless it is given.

        Raises:
            WrongUsage: the file has no password, none was typed, or there is no terminal to ask on.
        """
        if self.user is None:
            if path is not None:
                raise WrongUsage('--password-file needs a user in the address: USER@ADDRESS')
            return
        if path is not None:
            try:
                with open(path, 'rb') as file:
                    self.password = password_line(file)
            except OSError as error:
                raise WrongUsage(f'--password-file {path}: {error.strerror}') from None
            except ValueError as error:
                raise WrongUsage(f'--password-file {path}: {error}') from None
        elif PASSWORD_VARIABLE in os.environ:
            self.password = os.environ[PASSWORD_VARIABLE]
        elif self.user == 'guest':
            self.password = ''
        elif sys.stdin.isatty():
            self.password = ask_password(f'Password for {self}: ')
        else:
            raise WrongUsage(f'no password for {self.user}: use --password-file FILE or the environment variable '
                             f'{PASSWORD_VARIABLE}')

    def use_tls(self, ca: str | None, cert: str | None, key: str | None, verify: bool) -> None:
        """Makes the connection use TLS.

        Args:
            ca: file with the trusted CAs; None for those of the system.
            cert: file with a client certificate, or None.
            key: file with its private key; None if that is in `cert`.
            verify: whether to check the certificate of the server.

        Raises:
            WrongUsage: a file cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=ca)
            if not verify:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if cert:
                context.load_cert_chain(cert, key)
        except OSError as error:            # ssl.SSLError is one
            raise WrongUsage(f'a file of --ca, --cert or --key cannot be used: {error.strerror or error}') from None
        self.tls = context

    def __str__(self):
        return f'{self.user}@{self.address}' if self.user else str(self.address)
