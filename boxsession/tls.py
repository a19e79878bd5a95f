"""TLS in front of a connection: two greenlets carry bytes between the client and a socket pair, so that a connection sees
a plain socket whatever its client speaks."""
from __future__ import annotations

import gevent
from gevent import monkey, socket, ssl

from boxsession.config import TLSConfig
from boxsession.errors import ListenError

__all__ = ['TLSTunnel', 'tls_context']

_HANDSHAKE_SECONDS = 10
# How long the last answer may take to reach a client after its session is over.
_LINGER_SECONDS = 5
_PIECE_BYTES = 1 << 16
_plain_socketpair = monkey.get_original('socket', 'socketpair')


def tls_context(config: TLSConfig, address: object) -> ssl.SSLContext:
    """The server's side of TLS, with client certificates where `ca` is set.

    Raises:
        ListenError: a file cannot be read, or holds something else.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.cert, config.key)
        if config.ca:
            context.load_verify_locations(config.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:            # ssl.SSLError is one
        raise ListenError(address, f'tls: cert, key or ca cannot be used: {error.strerror or error}') from None
    return context


class TLSTunnel:
    """One client's TLS.

    Attributes:
        sock: what the connection uses: plain and non-blocking, ours to make and the connection's to close.
        name: the common name of the client's certificate, or None.

    Args:
        client: a plain socket, which is taken over.
        context: see `tls_context`.

    Raises:
        OSError: there was no handshake; the client is disconnected.
    """

    def __init__(self, client, context: ssl.SSLContext):
        client.settimeout(None)             # that is gevent's from now on
        self._secure = context.wrap_socket(client, server_side=True, do_handshake_on_connect=False,
                                           suppress_ragged_eofs=False)
        try:
            with gevent.Timeout(_HANDSHAKE_SECONDS, TimeoutError('no TLS handshake in time')):
                self._secure.do_handshake()
        except BaseException:
            self._secure.close()
            raise
        self.name = _common_name(self._secure.getpeercert())
        self.sock, far = _plain_socketpair()
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
        except (OSError, ValueError):   # one that leaves without TLS's goodbye, too, is gone: that is no half-close
            self._break()
        else:
            end()

    def _end_input(self):
        try:
            self._far.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _end_output(self):
        self._inward.kill()             # nobody else may use the socket while it says goodbye
        try:
            with gevent.Timeout(_LINGER_SECONDS, False):
                self._secure.unwrap()
        except (OSError, ValueError):
            pass

    def _break(self):
        """The client is gone: the connection is to see that."""
        try:
            self._far.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        """The session is over, and its socket closed: what it sent last goes out, for a while, then all is given back."""
        self._outward.join(_LINGER_SECONDS)
        gevent.killall([self._inward, self._outward])
        self._secure.close()
        self._far.close()


def _common_name(certificate) -> str | None:
    for part in (certificate or {}).get('subject', ()):
        for key, value in part:
            if key == 'commonName':
                return value
    return None
