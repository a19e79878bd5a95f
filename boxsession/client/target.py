"""What to connect to, and as whom: the address as users write it, the password, TLS."""
from __future__ import annotations

import getpass
import os
import ssl
import sys
from dataclasses import dataclass, field

from boxsession.address import Address
from boxsession.errors import BoxsessionError

__all__ = ['PASSWORD_VARIABLE', 'Target', 'WrongUsage']

PASSWORD_VARIABLE = 'BOXSESSION_PASSWORD'


class WrongUsage(BoxsessionError):
    """The command line asks for what cannot be."""


@dataclass
class Target:
    """Where a client connects to.

    Attributes:
        user: who to log in as; None for who the listener makes of us.
    """

    address: Address
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads `[USER@]ADDRESS`.

        Raises:
            WrongUsage: it is none, in words for the user.
        """
        user, at, address = text.rpartition('@')
        if ':' in user:
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
                with open(path, encoding='utf-8', errors='surrogateescape') as file:
                    self.password = file.readline().rstrip('\r\n')
            except OSError as error:
                raise WrongUsage(f'--password-file {path}: {error.strerror}') from None
        elif PASSWORD_VARIABLE in os.environ:
            self.password = os.environ[PASSWORD_VARIABLE]
        elif sys.stdin.isatty():
            self.password = getpass.getpass(f'Password for {self}: ')
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
