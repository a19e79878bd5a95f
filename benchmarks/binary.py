"""The binary protocol: EVAL and CALL of one scalar, against a Tarantool in the same run.

usage: python benchmarks/binary.py [--rounds N] [--seconds S] [--only CASE] [--smoke]

The client is the same for both, and uses no connector: it sends frames that were packed before, keeps a number of requests
in flight on each connection, and counts the responses. Prints a row for each case: requests per second, and the ratio to
Tarantool (the median of the rounds). Without Tarantool it prints no ratio. Exit code 1 if a ratio is below the wanted one.
"""
from __future__ import annotations

import argparse
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgpack

EVAL, CALL = 8, 10
# Connections, requests in flight on each, and the least ratio to Tarantool that is wanted (0: none).
CASES = [(name, connections, flight, wanted) for name in ('eval', 'call')
         for connections, flight, wanted in ((1, 1, 0), (1, 64, 0.5), (64, 1, 0), (64, 64, 0.5))]
BODIES = {'eval': (EVAL, {0x27: 'return ...', 0x21: [1]}), 'call': (CALL, {0x22: 'echo', 0x21: [1]})}
SCRIPT = r'''
box.cfg{listen = '127.0.0.1:%d', log = '%s/log', wal_mode = 'none', memtx_memory = 33554432, work_dir = '%s'}
box.schema.user.grant('guest', 'execute', 'universe')
function echo(...) return ... end
io.stdout:write('ready\n') io.stdout:flush()
'''
INIT = '''
box.schema.user.grant('guest', 'execute', 'universe')
function echo(...) return ... end
'''


def frame(kind, body, sync):
    payload = msgpack.packb({0: kind, 1: sync}) + msgpack.packb(body)
    return b'\xce' + len(payload).to_bytes(4, 'big') + payload


class Connection:
    """A connection that keeps a number of requests in flight."""

    def __init__(self, port, request, flight):
        self.sock = socket.create_connection(('127.0.0.1', port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        greeting = b''
        while len(greeting) < 128:
            greeting += self.sock.recv(128 - len(greeting))
        self.request = request
        self.flight = flight
        self.rest = b''

    def start(self):
        self.sock.sendall(self.request * self.flight)

    def receive(self):
        """Reads the responses that have come, sends as many new requests, and returns the number of responses."""
        data = self.rest + self.sock.recv(1 << 18)
        count = at = 0
        while len(data) - at >= 5:
            stop = at + 5 + int.from_bytes(data[at + 1:at + 5], 'big')
            if stop > len(data):
                break
            count += 1
            at = stop
        self.rest = data[at:]
        if count:
            self.sock.sendall(self.request * count)
        return count


def measure(port, name, connections, flight, seconds):
    """Requests a second."""
    kind, body = BODIES[name]
    made = [Connection(port, frame(kind, body, 1), flight) for _ in range(connections)]
    with selectors.DefaultSelector() as selector:
        for connection in made:
            selector.register(connection.sock, selectors.EVENT_READ, connection)
            connection.start()
        done = 0
        began = time.perf_counter()
        end = began + seconds
        while time.perf_counter() < end:
            for key, _ in selector.select(1):
                done += key.data.receive()
        took = time.perf_counter() - began
    for connection in made:
        connection.sock.close()
    return done / took


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def start_ours(folder):
    (folder / 'init.lua').write_text(INIT)
    (folder / 'config.yml').write_text(
        f'init: {folder}/init.lua\nlog: {{level: error}}\nlisten:\n- {{address: "127.0.0.1:0", protocol: binary}}\n')
    process = subprocess.Popen([sys.executable, '-m', 'boxsession', 'serve', '-c', str(folder / 'config.yml')],
                               stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith('listening: binary'):
            return process, int(line.rpartition(':')[2])
    raise SystemExit('our server did not start')


def start_tarantool(folder):
    port = free_port()
    script = folder / 'tarantool.lua'
    script.write_text(SCRIPT % (port, folder, folder))
    process = subprocess.Popen(['tarantool', str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if process.stdout.readline() != 'ready\n':
        raise SystemExit('tarantool did not start')
    return process, port


def main():
    options = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    options.add_argument('--rounds', type=int, default=5)
    options.add_argument('--seconds', type=float, default=0.5, help='for each server in each round')
    options.add_argument('--only', default='', help='cases whose name holds this')
    options.add_argument('--smoke', action='store_true', help='whether it runs at all: no ratio is wanted')
    options = options.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        ours, port = start_ours(folder)
        theirs = None
        try:
            if shutil.which('tarantool'):
                theirs, their_port = start_tarantool(folder)
            for name, connections, flight, wanted in CASES:
                title = f'{name}, {connections} connection{"s" * (connections > 1)}, {flight} in flight'
                if options.only not in title:
                    continue
                rates, ratios = [], []
                for _ in range(options.rounds):
                    rate = measure(port, name, connections, flight, options.seconds)
                    rates.append(rate)
                    if theirs:
                        ratios.append(rate / measure(their_port, name, connections, flight, options.seconds))
                row = f'{title:<36} {statistics.median(rates):>10,.0f}/s'
                if ratios:
                    ratio = statistics.median(ratios)
                    failed |= ratio < wanted and not options.smoke
                    row += f'   {ratio:.2f} of tarantool' + (f'   wanted {wanted}' if wanted else '')
                print(row, flush=True)
        finally:
            for process in (ours, theirs):
                if process is not None:
                    process.kill()
                    process.wait()
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
