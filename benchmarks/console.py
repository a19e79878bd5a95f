"""Speed of the text console, as ratios to other servers that are measured in the same run.

usage: python benchmarks/console.py [--rounds N] [--seconds S] [--only CASE] [--no-memory]

Starts our server, a bare gevent server that answers constant bytes (the speed of sockets alone), and a real Tarantool if
`tarantool` is installed. Drives each in turn with the same client, which runs in this process; the servers have processes
of their own. Repeats that for some rounds, and prints medians and their ratios.
"""
from __future__ import annotations

import argparse
import os
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

GREETING_BYTES = 128
# The client keeps one CPU for itself: the placement of the processes on CPUs changes the results more than their work does.
CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPUS = CPUS
IDLE_SESSIONS = 2000

LIST = '{%s}' % ', '.join(str(number) for number in range(1, 101))
MAP = '{%s}' % ', '.join(f'key_{number} = {number}' for number in range(1, 21))

# name: (statement, connections, statements sent at once on each, ratio to Tarantool that is wanted)
CASES = {
    'scalar, 1 connection': ('1 + 1', 1, 1, 0.95),
    'scalar, 64 connections': ('1 + 1', 64, 1, 1.0),
    'scalar, 64 pipelined': ('1 + 1', 1, 64, 100),
    'list of 100': (LIST, 1, 1, 1.0),
    'map of 20': (MAP, 1, 1, 1.2),
    'error': ("error('x')", 1, 1, 0.9),
}

BARE_SERVER = '''
import sys, _socket
from gevent import get_hub, monkey
from gevent.server import StreamServer
plain = monkey.get_original('socket', 'socket')

def handle(sock, peer):
    sock = plain(fileno=sock.detach())
    sock.setblocking(False)
    sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    hub = get_hub()
    watcher = hub.loop.io(sock.fileno(), 1)
    sock.send(b'x' * 128)
    while True:
        hub.wait(watcher)
        data = sock.recv(65536)
        if not data:
            return
        sock.send(reply * data.count(b'\\n'))

reply = sys.argv[1].encode().decode('unicode_escape').encode()
server = StreamServer(('127.0.0.1', 0), handle)
server.start()
print('listening:', server.server_port, file=sys.stderr, flush=True)
server.serve_forever()
'''


class Server:
    """A server process on a port of 127.0.0.1."""

    def __init__(self, name, command, port=None):
        self.name = name
        # A file, not a pipe: the output of a server is not read while it is measured.
        self.told = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stderr=self.told, stdout=subprocess.DEVNULL)
        self.port = port or self._told_port()

    def _told_port(self):
        while self.process.poll() is None:
            said = os.pread(self.told.fileno(), 65536, 0)
            for line in said.splitlines(keepends=True):
                if line.startswith(b'listening:') and line.endswith(b'\n'):
                    return int(line.split()[-1].rpartition(b':')[2])
            time.sleep(0.01)
        raise SystemExit(f'{self.name} did not start: {said.decode()}')

    def connect(self):
        deadline = time.monotonic() + 10
        while True:
            try:
                sock = socket.create_connection(('127.0.0.1', self.port), timeout=10)
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        greeting = b''
        while len(greeting) < GREETING_BYTES:
            data = sock.recv(GREETING_BYTES - len(greeting))
            if not data:
                raise SystemExit(f'{self.name} closed the connection')
            greeting += data
        return sock

    def run_on(self, cpus):
        for thread in os.listdir(f'/proc/{self.process.pid}/task'):
            os.sched_setaffinity(int(thread), cpus)

    def memory_kib(self):
        with open(f'/proc/{self.process.pid}/smaps_rollup') as file:
            return int(next(line for line in file if line.startswith('Rss:')).split()[1])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.told.close()


def ours():
    return Server('boxsession', [sys.executable, '-m', 'boxsession', 'serve', '--listen', '127.0.0.1:0'])


def bare(reply):
    return Server('bare gevent', [sys.executable, '-c', BARE_SERVER, reply.decode().encode('unicode_escape').decode()])


def tarantool(folder):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    script = os.path.join(folder, 'console.lua')
    with open(script, 'w') as file:
        file.write(f"box.cfg{{log = '{folder}/log', work_dir = '{folder}'}}\n"
                   f"require('console').listen('127.0.0.1:{port}')\nrequire('fiber').sleep(1e9)\n")
    return Server('tarantool', ['tarantool', script], port)


def one_reply(sock, statement):
    """The reply to a statement, whole."""
    sock.sendall(statement.encode() + b'\n')
    data = b''
    while not data.endswith(b'\n...\n'):
        data += sock.recv(65536)
    return data


def drive(server, statement, connections, pipelined, seconds):
    """Statements a second: each connection sends as many as `pipelined`, waits for all answers, and again."""
    socks = [server.connect() for _ in range(connections)]
    reply_bytes = len(one_reply(socks[0], statement)) * pipelined
    request = (statement.encode() + b'\n') * pipelined
    by_fd = {sock.fileno(): sock for sock in socks}
    missing = dict.fromkeys(by_fd, reply_bytes)
    poller = select.epoll()
    for sock in socks:
        sock.setblocking(False)
        poller.register(sock, select.EPOLLIN)
    recv = {fd: sock.recv for fd, sock in by_fd.items()}
    send = {fd: sock.send for fd, sock in by_fd.items()}
    poll = poller.poll
    done = 0
    for fd in by_fd:
        send[fd](request)
    started = time.perf_counter()
    deadline = started + seconds
    while time.perf_counter() < deadline:
        for fd, _ in poll():
            left = missing[fd] - len(recv[fd](65536))
            if left <= 0:
                done += pipelined
                send[fd](request)
                left = reply_bytes
            missing[fd] = left
    elapsed = time.perf_counter() - started
    for sock in socks:
        sock.close()
    poller.close()
    return done / elapsed


def idle_memory(server):
    """KiB a session that has said nothing costs."""
    one = server.connect()
    one_reply(one, '1')
    before = server.memory_kib()
    socks = [server.connect() for _ in range(IDLE_SESSIONS)]
    one_reply(one, '1')
    after = server.memory_kib()
    for sock in [*socks, one]:
        sock.close()
    return (after - before) / IDLE_SESSIONS


def run_case(name, servers, rounds, seconds):
    statement, connections, pipelined, wanted = CASES[name]
    with_reply = servers[0].connect()
    reply = one_reply(with_reply, statement)
    with_reply.close()
    competitors = [*servers, bare(reply)]
    rates = {server.name: [] for server in competitors}
    # The placement of client and server on CPUs changes the results more than their work does. With one connection they
    # are never busy at the same time: they share a CPU. With many connections each gets its own.
    together = connections * pipelined == 1
    os.sched_setaffinity(0, CPUS[:1])
    for server in competitors:
        server.run_on(CPUS[:1] if together else CPUS[1:] or CPUS)
    for _ in range(rounds):
        for server in competitors:
            rates[server.name].append(drive(server, statement, connections, pipelined, seconds))
    competitors[-1].stop()
    medians = {server: statistics.median(values) for server, values in rates.items()}
    own = medians['boxsession']
    columns = [f'{own:10,.0f}/s', f'{own / medians["bare gevent"]:7.2f} of bare gevent']
    if 'tarantool' in medians:
        columns.append(f'{own / medians["tarantool"]:8.2f} of tarantool ({medians["tarantool"]:,.0f}/s)')
        columns.append(f'wanted {wanted}')
    print(f'{name:24}', '  '.join(columns), flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    options.add_argument('--rounds', type=int, default=9)
    options.add_argument('--seconds', type=float, default=0.5, help='for each server in each round')
    options.add_argument('--only', default='', help='cases whose name holds this')
    options.add_argument('--no-memory', action='store_true')
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        servers = [ours()]
        if shutil.which('tarantool'):
            servers.append(tarantool(folder))
        try:
            for name in CASES:
                if arguments.only in name:
                    run_case(name, servers, arguments.rounds, arguments.seconds)
            if not arguments.no_memory:
                for server in servers:
                    print(f'memory of an idle session, {server.name}: {idle_memory(server):.1f} KiB '
                          f'(at {IDLE_SESSIONS} sessions)', flush=True)
        finally:
            for server in servers:
                server.stop()


if __name__ == '__main__':
    main()
