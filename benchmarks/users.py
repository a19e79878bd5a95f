"""The cost of creating a user, of a grant and of a login, by the number of users.

usage: python benchmarks/users.py [--users N ...] [--rounds N] [--in-memory] [--smoke]

For each number of users, a new server has that many, in a file (each change waits for the disk) or in memory. A client then
creates users, grants each a function, makes each log in, and drops each. Prints the lower quartile of the times of each,
and its ratio to that of the first number. Exit code 1 if a ratio is over 2.
"""
from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from boxsession.users.access import ADMIN
from boxsession.users.schema import Schema
from boxsession.users.store import Store

NUMBERS, ROUNDS, MOST = (20, 2000, 10000), 100, 2.0
GREETING_BYTES = 128
# In the order in which they are run. `%d` is the number of the round.
STEPS = {
    'create': "box.schema.user.create('new%d', {password = 'secret'})",
    'grant': "box.schema.user.grant('new%d', 'execute', 'function', 'f')",
    'login': '\\login new%d secret',
    'drop': "box.schema.user.drop('new%d')",
}
FILL = "box.schema.func.create('f') for n = 1, %d do box.schema.user.create('user' .. n, {password = 'x'}) end"


class Server:
    """A `boxsession serve` with a number of users."""

    def __init__(self, folder: Path, count: int, in_memory: bool):
        config = folder / 'config.yml'
        if in_memory:
            (folder / 'init.lua').write_text(FILL % count)
            config.write_text(f'init: {folder}/init.lua\n')
        else:
            fill(folder / 'users.db', count)
            config.write_text(f'store: {folder}/users.db\n')
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'boxsession', 'serve', '-c', str(config), '--listen', '127.0.0.1:0'],
            stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith('listening: '):
                host, _, port = line.split()[-1].rpartition(':')
                self.address = host, int(port)
                return
        raise SystemExit('no server')

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def fill(path: Path, count: int) -> None:
    """Makes a store with users, in one transaction."""
    def change(access):
        schema = Schema(access, ADMIN)
        schema.func_create('f')
        for number in range(count):
            schema.user_create(f'user{number}', {'password': 'x'})

    store = Store(path)
    store.transact(change)
    store.close()


class Client:
    def __init__(self, address: tuple[str, int]):
        self.sock = socket.create_connection(address, timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read(lambda data: len(data) >= GREETING_BYTES)

    def _read(self, is_whole) -> bytes:
        data = b''
        while not is_whole(data):
            piece = self.sock.recv(65536)
            if not piece:
                raise SystemExit('the server has closed the connection')
            data += piece
        return data

    def seconds(self, statement: str) -> float:
        began = time.perf_counter()
        self.sock.sendall(statement.encode() + b'\n')
        reply = self._read(lambda data: data.endswith(b'...\n'))
        taken = time.perf_counter() - began
        if b'error' in reply:
            raise SystemExit(f'{statement}: {reply.decode()}')
        return taken


def measure(count: int, rounds: int, in_memory: bool) -> dict[str, float]:
    """The lower quartile of each step's times in milliseconds: what else the machine does makes some longer."""
    # In memory, if there is such a folder: a disk's fsync takes longer, and varies more, than what is measured.
    with tempfile.TemporaryDirectory(dir='/dev/shm' if os.path.isdir('/dev/shm') else None) as folder:
        server = Server(Path(folder), count, in_memory)
        try:
            admin, other = Client(server.address), Client(server.address)
            times = {}
            for step, statement in STEPS.items():
                client = other if step == 'login' else admin
                taken = [client.seconds(statement % number) for number in range(rounds)]
                times[step] = 1000 * statistics.quantiles(taken)[0]
            return times
        finally:
            server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--users', type=int, nargs='+', default=NUMBERS, help='numbers of users')
    parser.add_argument('--rounds', type=int, default=ROUNDS)
    parser.add_argument('--in-memory', action='store_true', help='without a file')
    parser.add_argument('--smoke', action='store_true', help='a few rounds, to see that it runs')
    options = parser.parse_args()
    if options.smoke:
        options.users, options.rounds = NUMBERS[:2], 5
    print(f'{"users":>8}', *(f'{step:>20}' for step in STEPS))
    first: dict[str, float] = {}
    worst = 0.0
    for count in options.users:
        times = measure(count, options.rounds, options.in_memory)
        first = first or times
        ratios = {step: times[step] / first[step] for step in STEPS}
        worst = max(worst, *ratios.values())
        print(f'{count:>8}', *(f'{times[step]:>11.3f} ms {ratios[step]:>4.1f}x' for step in STEPS), flush=True)
    return int(worst > MOST and not options.smoke)


if __name__ == '__main__':
    sys.exit(main())
