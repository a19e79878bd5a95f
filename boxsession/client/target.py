"""What to connect to, and as whom: the address as users write it, the password, TLS."""
from __future__ import annotations

import getpass
import os
import re
import ssl
import sys
from codecs import BOM_UTF8
from dataclasses import dataclass, field
from typing import BinaryIO

from boxsession.base.address import Address
from boxsession.base.errors import BoxsessionError
from boxsession.client.values import visible
from boxsession.protocol.client import MAX_REPLY_BYTES

__all__ = ['PASSWORD_VARIABLE', 'Target', 'WrongUsage', 'ask_password', 'password_line']

PASSWORD_VARIABLE = 'BOXSESSION_PASSWORD'
_PASSWORD_MAX = 4096
_UNIX = re.compile(r'(?:([^:]*)(@))?(unix/?:.*)', re.DOTALL)


class WrongUsage(BoxsessionError):
    """The command line asks for what cannot be."""


def password_line(file: BinaryIO) -> str:
    """The password that a file's first line is; bytes that are no UTF-8 are surrogates.

    Raises:
        ValueError: there is none, in words for the user.
    """
    line = file.readline(_PASSWORD_MAX + 1)
    if len(line) > _PASSWORD_MAX:
        raise ValueError(f'its first line is no password: it is longer than {_PASSWORD_MAX} bytes')
    password = line.removeprefix(BOM_UTF8).rstrip(b'\r\n')
    if not password:
        raise ValueError('it has no password in its first line')
    return password.decode(errors='surrogateescape')


def ask_password(prompt: str) -> str:
    """Asks for a password on the terminal.

    Raises:
        WrongUsage: none was given.
    """
    try:
        return getpass.getpass(visible(prompt).encode('ascii', errors='backslashreplace').decode())
    except (EOFError, OSError, UnicodeError):
        sys.stderr.write('\n')
        raise WrongUsage('no password was given') from None


@dataclass
class Target:
    """Where a client connects to.

    Attributes:
        user: who to log in as; None for who the listener makes of us.
        insecure: whether a password may be sent where others can read it.
        max_reply: how many bytes a reply or a push may have; 0 for no limit.
    """

    address: Address
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    insecure: bool = False
    max_reply: int = MAX_REPLY_BYTES

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads `[USER@]ADDRESS`.

        Raises:
            WrongUsage: it is none, in words for the user.
        """
        match = _UNIX.fullmatch(text)           # a path may have an @, too
        user, at, address = match.groups() if match else text.rpartition('@')
        if user and ':' in user:
            raise WrongUsage("a password does not belong into the address, where others can see it: leave it out to be "
                             f'asked, or use --password-file or {PASSWORD_VARIABLE}')
        if at and not user:
            raise WrongUsage(f'{text!r} names no user in front of the @')
        try:
            return cls(Address.from_uri(address), user or None)
        except ValueError as error:
            raise WrongUsage(str(error)) from None

    def find_password(self, path: str | None) -> None:
        """Finds the user's password: in a file, in the environment, or by asking on the terminal.

        Raises:
            WrongUsage: there is none to be had.
        """
        if self.user is None:
            if path is not None:
                raise WrongUsage('--password-file needs a user: USER@ADDRESS')
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
        elif sys.stdin.isatty():
            self.password = ask_password(f'Password for {self}: ')
        else:
            raise WrongUsage(f'no password for {self.user}: use --password-file FILE or the variable {PASSWORD_VARIABLE}')

    def use_tls(self, ca: str | None, cert: str | None, key: str | None, verify: bool) -> None:
        """Connects by TLS; `ca`, `cert` and `key` are files.

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
            raise WrongUsage(f'--ca, --cert or --key cannot be used: {error.strerror or error}') from None
        self.tls = context

    def __str__(self):
        return f'{self.user}@{self.address}' if self.user else str(self.address)
