"""Statements with the replies that Tarantool 2.6 gave to them: tests/transcripts/*.txt, in which `> ` begins a statement.

`python tests/support/asked.py FILE...` asks the installed Tarantool again, and writes its replies into the files. The
statements of a file are sent in one session to a new server.
"""
from __future__ import annotations

import sys
import tempfile
from pathlib import Path

MARK = '> '


def read(path):
    """The pairs of a statement and its reply (bytes)."""
    pairs = []
    for line in path.read_text().splitlines(keepends=True):
        if line.startswith(MARK):
            pairs.append((line[len(MARK):-1], []))
        else:
            pairs[-1][1].append(line)
    return [(statement, ''.join(reply).encode()) for statement, reply in pairs]


def record(path):
    """Asks the installed Tarantool again."""
    from real_tarantool import Tarantool
    from text_client import Client
    with tempfile.TemporaryDirectory() as folder:
        server = Tarantool(Path(folder))
        try:
            client = Client(server.address)
            asked = [(statement, client.reply(statement).decode()) for statement, _ in read(path)]
        finally:
            server.stop()
    path.write_text(''.join(f'{MARK}{statement}\n{reply}' for statement, reply in asked))


if __name__ == '__main__':
    for name in sys.argv[1:]:
        record(Path(name))
