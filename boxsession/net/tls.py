"""TLS of a connection: two greenlets copy bytes between the client's TLS socket and a socket pair. The session uses the
other end of the pair, so it needs only plain sockets."""
from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gevent
from gevent import monkey, socket, ssl

from boxsession.base.descriptors import is_kept
from boxsession.base.errors import ListenError
from boxsession.base.inherited import own
from boxsession.net.hangup import is_hung_up
from boxsession.settings.table import TLSConfig

__all__ = ['Handshakes', 'TLSTunnel', 'tls_context', 'tls_digest']

_HANDSHAKE_SECONDS = 10
_PROBE_SECONDS = 1
# How long a client may take to read its last output after its session has ended, in seconds.
_LINGER_SECONDS = 5
_PIECE_BYTES = 1 << 16
_plain_socketpair = monkey.get_original('socket', 'socketpair')


def tls_context(config: TLSConfig, address: object) -> ssl.SSLContext:
    """The TLS context of a listener. If `ca` is set, clients must have a certificate.

    Raises:
        ListenError: a file cannot be read, or has no usable certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for name, path in _files(config):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise ListenError(address, f'tls: {name} {path} cannot be read: {error.strerror}') from error
    is_encrypted = False

    def password() -> str:              # without this, OpenSSL would ask for the password on the terminal
        nonlocal is_encrypted
        is_encrypted = True
        return ''

    try:
        context.load_cert_chain(config.cert, config.key, password=password)
    except (OSError, ValueError) as error:            # ssl.SSLError is an OSError
        reason = 'the key is encrypted: store it without a password, in a file that only the server can read' \
            if is_encrypted else _reason(error)
        raise ListenError(address, f'tls: cert {config.cert} and key {config.key} cannot be used: {reason}') from None
    if config.ca:
        try:
            context.load_verify_locations(config.ca)
        except OSError as error:
            raise ListenError(address, f'tls: ca {config.ca} cannot be used: {_reason(error)}') from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _files(config):
    return [(name, path) for name, path in (('cert', config.cert), ('key', config.key), ('ca', config.ca)) if path]


def _reason(error):
    reason = getattr(error, 'reason', None)
    if reason == 'KEY_VALUES_MISMATCH':
        return 'the key does not belong to the certificate'
    return 'there is no certificate or key in PEM format' \
        if reason in ('NO_START_LINE', 'NO_CERTIFICATE_OR_CRL_FOUND', 'PEM_LIB', None) else str(error)


def tls_digest(config: TLSConfig) -> bytes:
    """A hash of the content of all files, to find out whether one has changed; empty if one cannot be read."""
    digest = hashlib.sha256()
    try:
        for _, path in _files(config):
            digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    except OSError:
        return b''
    return digest.digest()


class TLSTunnel:
    """The TLS of one client. Making it does the handshake.

    Args:
        client: a plain socket; the tunnel owns it from now on.
        context: see `tls_context`.

    Attributes:
        sock: the plain, non-blocking socket for the session, which closes it.
        name: the common name of the client's certificate; None without a certificate or without a common name.

    Raises:
        OSError: the handshake failed, the common name is unusable, or file descriptors are short. The client is
            disconnected then.
    """

    def __init__(self, client, context: ssl.SSLContext):
        client.settimeout(None)             # gevent waits from now on
        self._secure = own(context.wrap_socket(client, server_side=True, do_handshake_on_connect=False,
                                               suppress_ragged_eofs=False))
        try:
            with gevent.Timeout(_HANDSHAKE_SECONDS, TimeoutError(f'no TLS handshake within {_HANDSHAKE_SECONDS} s')):
                self._secure.do_handshake()
            self.name = _common_name(self._secure.getpeercert())
            self.sock, far = _plain_socketpair()
        except BaseException:
            self._secure.close()
            raise
        if is_kept(max(self.sock.fileno(), far.fileno())):
            for sock in (self._secure, self.sock, far):
                sock.close()
            raise OSError(errno.EMFILE, 'too many open files; the last file descriptors are kept for unix sockets')
        self.sock.setblocking(False)
        self._far = socket.socket(fileno=far.detach())
        self._inward = gevent.spawn(self._carry, self._secure.recv, self._far.sendall, self._end_input)
        self._outward = gevent.spawn(self._carry, self._far.recv, self._secure.sendall, self._end_output)

    def _carry(self, receive, send, end):
        try:
            while True:
                data = receive(_PIECE_BYTES)
                if not data:
                    break
                send(data)
        except (OSError, ValueError):   # also a client that closes without close_notify: it is gone, not half-closed
            self._break()
        else:
            end()

    def _end_input(self):
        try:
            self._far.shutdown(socket.SHUT_WR)
        except OSError:
            return
        # The client may still read. TLS reports nothing after its goodbye, so a hang-up is looked for below TLS.
        while not is_hung_up(self._secure):
            gevent.sleep(_PROBE_SECONDS)
        self._break()

    def _end_output(self):
        self._inward.kill()             # no other greenlet may use the socket during unwrap()
        try:
            with gevent.Timeout(_LINGER_SECONDS, False):
                self._secure.unwrap()
        except (OSError, ValueError):
            pass

    def _break(self):
        """Shows the session that the client is gone."""
        try:
            self._far.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        """Ends TLS after the session has closed its socket. Waits some seconds until its last output is sent."""
        self._outward.join(_LINGER_SECONDS)
        gevent.killall([self._inward, self._outward])
        self._secure.close()
        self._far.close()


def _common_name(certificate) -> str | None:
    """The common name of a certificate; None if it has none.

    Raises:
        OSError: there are several, so none can be chosen, or it has characters that could make it look like another name.
    """
    names = [value for part in (certificate or {}).get('subject', ()) for key, value in part if key == 'commonName']
    if len(names) > 1:
        raise OSError(f'the certificate has {len(names)} common names')
    if names and not (names[0] and names[0].isprintable()):
        raise OSError("the certificate's common name is empty or has characters that cannot be printed")
    return names[0] if names else None


# The most concurrent handshakes; besides, at most 1/4 of limits.sessions.
_HANDSHAKES, _HANDSHAKES_SHARE = 256, 4


class Handshakes:
    """The TLS handshakes in progress. Their number is limited, so that clients that stall take no places of others: at
    the limit, a new handshake ends the oldest one.

    Args:
        settings: the settings in force, by dotted name.
    """

    def __init__(self, settings: Mapping[str, Any]):
        self._settings = settings
        self._live: dict[Any, None] = {}        # greenlets, the oldest first
        self._stalled: set[Any] = set()         # greenlets whose handshake is to be ended

    def __len__(self) -> int:
        return len(self._live)

    def tunnel(self, sock: Any, context: ssl.SSLContext) -> TLSTunnel:
        """Does the handshake with a client.

        Raises:
            OSError: the handshake failed, or was ended for newer clients.
        """
        limit = self._settings['limits.sessions']
        most = min(_HANDSHAKES, max(1, limit // _HANDSHAKES_SHARE)) if limit else _HANDSHAKES
        if len(self._live) >= most:
            oldest = next(iter(self._live))
            del self._live[oldest]
            self._stalled.add(oldest)
            gevent.get_hub().loop.run_callback(self._end, oldest)
        greenlet = gevent.getcurrent()
        self._live[greenlet] = None
        try:
            return TLSTunnel(sock, context)
        finally:
            self._live.pop(greenlet, None)
            self._stalled.discard(greenlet)

    def _end(self, greenlet):
        if greenlet in self._stalled:               # otherwise its handshake has just ended
            greenlet.throw(ConnectionAbortedError('its TLS handshake was ended to make room for newer clients'))
