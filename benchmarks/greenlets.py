"""The time of `\\greenlets` and `\\where` in a gevent service with many waiting greenlets, and how long they hold its loop.

usage: python benchmarks/greenlets.py [--greenlets N] [--depth N] [--rounds N] [--smoke]

The service runs in a process of its own. Its greenlets wait, each in a stack of some calls. One more greenlet sleeps for
1 ms again and again, and notes how late it woke up at most. Prints both times for each command: the
first look and the later ones. Exit code 1 if a command took more than 0.5 s, or the loop was held for more than 30 ms.
"""
from __future__ import annotations

import argparse
import re
import socket
import subprocess
import sys
import time

WANTED_SECONDS, WANTED_HELD_MS = 0.5, 30.0
GREETING_BYTES = 128
SLEEP_SECONDS = 0.001


def serve(count: int, depth: int) -> None:
    """The program: greenlets that wait, the ticker and the console."""
    import gc

    import gevent
    from gevent.event import Event

    from boxsession import Console

    event, worst = Event(), [0.0]

    def wait_for_order(level):
        if level > 1:
            wait_for_order(level - 1)
        else:
            event.wait()

    def tick():
        while True:
            began = time.perf_counter()
            gevent.sleep(SLEEP_SECONDS)
            worst[0] = max(worst[0], time.perf_counter() - began - SLEEP_SECONDS)

    def held():
        longest, worst[0] = worst[0], 0.0
        return longest * 1000

    def accept():
        return [gevent.spawn(wait_for_order, depth) for _ in range(count)]

    spawned = gevent.spawn(accept).get()
    gevent.spawn(tick)
    gevent.sleep(0)
    gc.collect()
    console = Console(listen=['127.0.0.1:0'], expose={'held': held})
    console.start()
    print(f'listening: {console.addresses[0]}', flush=True)
    console.serve_forever()
    del spawned


class Client:
    def __init__(self, address: str):
        host, _, port = address.rpartition(':')
        self.sock = socket.create_connection((host, int(port)), timeout=60)
        self._read(lambda data: len(data) >= GREETING_BYTES)

    def _read(self, is_whole) -> bytes:
        data = b''
        while not is_whole(data):
            piece = self.sock.recv(65536)
            if not piece:
                raise SystemExit('the service has closed the connection')
            data += piece
        return data

    def ask(self, statement: str) -> str:
        self.sock.sendall(statement.encode() + b'\n')
        reply = self._read(lambda data: data.endswith(b'...\n')).decode()
        if 'error:' in reply:
            raise SystemExit(f'{statement}: {reply}')
        return reply


def measure(client: Client, statement: str) -> tuple[float, float, str]:
    """How long the reply took in seconds, how long the loop was held meanwhile in milliseconds, and the reply."""
    time.sleep(0.2)
    client.ask('held()')
    began = time.perf_counter()
    reply = client.ask(statement)
    taken = time.perf_counter() - began
    return taken, float(client.ask('held()').split()[2]), reply


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--greenlets', type=int, default=100_000)
    parser.add_argument('--depth', type=int, default=3, help='calls of the stack of each greenlet')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--smoke', action='store_true', help='few greenlets, to see that it runs; slowness is no failure')
    parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.smoke:
        options.greenlets, options.rounds = 2000, 1
    if options.serve:
        serve(options.greenlets, options.depth)
        return 0
    command = [sys.executable, __file__, '--serve', '--greenlets', str(options.greenlets), '--depth', str(options.depth)]
    has_failed = False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            client = Client(service.stdout.readline().removeprefix('listening: '))
            for number in range(1, options.rounds + 1):
                taken, held, reply = measure(client, '\\greenlets wait_for_order')
                rows = [('\\greenlets', taken, held)]
                if f'count: {options.greenlets}\n' not in reply:
                    raise SystemExit(f'{options.greenlets} greenlets were expected: {reply[:2000]}')
                one = re.search(r'ids:[^0-9]*([0-9]+)', reply)[1]
                rows.append(('\\where ID', *measure(client, f'\\where {one}')[:2]))
                for name, taken, held in rows:
                    has_failed |= taken > WANTED_SECONDS or held > WANTED_HELD_MS
                    print(f'look {number}  {name:12} {taken:6.3f} s   loop held {held:5.1f} ms', flush=True)
        finally:
            service.kill()
    return int(has_failed and not options.smoke)


if __name__ == '__main__':
    sys.exit(main())
