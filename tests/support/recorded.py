"""Recorded statements of one connection each: tests/transcripts/modules/NAME.txt. A line `tarantool> STATEMENT`, then the
reply that Tarantool 2.6 gave.

    python tests/support/recorded.py tests/transcripts/modules/uri.txt

asks an installed Tarantool for all replies of the file again, and writes them.
"""
from __future__ import annotations

import sys
import tempfile
from pathlib import Path

MARK = 'tarantool> '


def read(path):
    """The (statement, reply) pairs of a file, as text and bytes. A statement without a reply has b''."""
    pairs = []
    for part in ('\n' + path.read_text().rstrip('\n')).split('\n' + MARK)[1:]:
        statement, _, reply = part.partition('\n')
        pairs.append((statement, reply.encode() + b'\n' if reply else b''))
    return pairs


def record(path, client):
    """Asks for all replies of a file, and writes them."""
    path.write_text(''.join(f'{MARK}{statement}\n{client.reply(statement).decode()}' for statement, _ in read(path)))


def main():
    sys.path.insert(0, str(Path(__file__).parent))
    from real_tarantool import Tarantool
    from text_client import Client
    with tempfile.TemporaryDirectory() as folder:
        started = Tarantool(Path(folder))
        try:
            for name in sys.argv[1:]:
                record(Path(name), Client(started.address))
        finally:
            started.stop()


if __name__ == '__main__':
    main()
