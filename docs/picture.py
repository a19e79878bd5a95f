"""Writes docs/images/session.svg: two people at the console of one program, from a real run over a socket.

    python docs/picture.py

A test compares the file with what a new run gives. The run has no port, time, process or address in it.
"""
from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.sax.saxutils import escape

from gevent import Timeout, socket

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from boxsession import Console  # noqa: E402

PICTURE = PROJECT / 'docs' / 'images' / 'session.svg'
_PROMPT = 'tarantool> '
_GREETING_BYTES = 128
_RUN_SECONDS = 30
# Pixels. A column is as wide as DejaVu Sans Mono has it at this size.
_SIZE, _COLUMN, _LINE, _MARGIN = 13, 7.83, 18, 14
_COLUMNS = 52


class Cache:
    """What the program of the picture exposes."""

    def __init__(self):
        self._entries = {'7': 'report 7', '8': 'report 8'}

    def stats(self):
        return {'entries': len(self._entries)}

    def forget(self, name):
        return self._entries.pop(name, None) is not None


class Terminal:
    """A client, and the lines that its user sees.

    Attributes:
        lines: (kind, text) each; the kind is 'shell', 'typed', 'reply' or 'error'.
    """

    def __init__(self, address):
        self._sock = socket.create_connection((address.host, address.port))
        self.lines = [('shell', '$ telnet 127.0.0.1 3313')]
        self._show(re.sub(r'pid \d+', 'pid 4242', self._read(lambda data: len(data) >= _GREETING_BYTES)))
        self.ask('\\set prompt on')

    def type(self, statement):
        """Types a statement, and does not wait for its reply."""
        self.lines.append(('typed', _PROMPT + statement))
        self._sock.sendall(f'{statement}\n'.encode())

    def wait(self):
        """Shows the reply of what was typed."""
        self._show(self._reply())

    def ask(self, statement):
        """Sends a statement and gives its reply. Neither is shown."""
        self._sock.sendall(f'{statement}\n'.encode())
        return self._reply()

    def close(self):
        self._sock.close()

    def _reply(self):
        # The prompt of the next statement follows each reply.
        return self._read(lambda data: data.endswith(f'...\n{_PROMPT}')).removesuffix(_PROMPT)

    def _read(self, is_whole):
        data = ''
        while not is_whole(data):
            piece = self._sock.recv(1 << 16)
            if not piece:
                raise EOFError(f'the console closed the connection after {data!r}')
            data += piece.decode()
        return data

    def _show(self, text):
        self.lines += [('error' if line.startswith('- error') else 'reply', line.rstrip()) for line in text.splitlines()]


def run():
    """Runs the scene; gives the lines of both terminals."""
    console = Console(listen=['127.0.0.1:0'], expose={'cache': Cache()}, config={'name': 'shop'})
    console.start()
    try:
        with Timeout(_RUN_SECONDS):
            one, other = Terminal(console.addresses[0]), Terminal(console.addresses[0])
            one.type('cache.stats()')
            one.wait()
            one.type("box.session.storage.note = 'eggs'")
            one.wait()
            one.type('while true do end')
            while 'while true' not in other.ask('box.session.list()[1].statement'):
                pass
            for statement in ("cache.forget('7')", 'box.session.list()[1].statement', '\\cancel 1'):
                other.type(statement)
                other.wait()
            one.wait()
            one.type('box.session.storage.note')
            one.wait()
            one.close()
            other.close()
    finally:
        console.stop()
    return one.lines, other.lines


def svg(*terminals):
    """The picture of some terminals, side by side."""
    width = _COLUMNS * _COLUMN + 2 * _MARGIN
    height = max(map(len, terminals)) * _LINE + 2 * _MARGIN
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{len(terminals) * (width + _MARGIN) - _MARGIN:.0f}" '
           f'height="{height:.0f}" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{_SIZE}">',
           '<title>Two sessions of one console: an endless loop in the first does not stop the second, which cancels it'
           '</title>',
           '<style>.shell { fill: #8a8f98 } .typed { fill: #ffffff; font-weight: bold } .reply { fill: #b8d7a3 } '
           '.error { fill: #ff9b8e }</style>']
    for number, lines in enumerate(terminals):
        left = number * (width + _MARGIN)
        out.append(f'<rect x="{left:.0f}" width="{width:.0f}" height="{height:.0f}" rx="6" fill="#1e2127"/>')
        for row, (kind, text) in enumerate(lines):
            out.append(f'<text class="{kind}" x="{left + _MARGIN:.0f}" y="{_MARGIN + row * _LINE + _SIZE}" '
                       f'xml:space="preserve">{escape(text)}</text>')
    return '\n'.join([*out, '</svg>']) + '\n'


def picture():
    """The file's text, from a new run."""
    return svg(*run())


if __name__ == '__main__':
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture())
