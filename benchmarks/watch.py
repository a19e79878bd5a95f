"""What a function costs while it is watched, and afterwards: a loop of 100,000 calls a second, with a real client.

python benchmarks/watch.py
"""
from __future__ import annotations

import socket
import sys
import tempfile
import time
from pathlib import Path

import gevent

from boxsession import Console

PER_SECOND, TURN, SECONDS = 100_000, 0.01, 2.0
CASES = ('\\watch {} n=100000 rate=10', '\\watch {} if x > 5 n=100000', "\\watch {} if ms > 100 n=100000", '\\count {}',
         '\\stack {} n=100000 rate=10', '\\watch {} n=10 seconds=60')


def work(x, y=2):
    """The function that is watched."""
    return x


def nanoseconds(rounds=40, calls=5000):
    """The least time of one call with its loop, over some rounds."""
    least = float('inf')
    for _ in range(rounds):
        began = time.perf_counter_ns()
        for _ in range(calls):
            work(1)
        least = min(least, (time.perf_counter_ns() - began) / calls)
        gevent.sleep(0.001)
    return least


def busy(seconds=SECONDS):
    """Calls the function 100,000 times a second. Returns the calls that were made and the share of time that they took."""
    began, count, spent = time.perf_counter(), 0, 0.0
    calls = int(PER_SECOND * TURN)
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        for _ in range(calls):
            work(1)
        took = time.perf_counter() - start
        count, spent = count + calls, spent + took
        gevent.sleep(max(0.0, began + count / PER_SECOND - time.perf_counter()))
    passed = time.perf_counter() - began
    return count / passed, 100 * spent / passed


def client(path, statement):
    """A client whose statement watches."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.sendall(statement.encode() + b'\n')
    sock.setblocking(False)
    gevent.sleep(0.3)
    return sock


def received(sock):
    """All that has come."""
    data = b''
    try:
        while more := sock.recv(1 << 20):
            data += more
    except BlockingIOError:
        pass
    return data


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / 'socket')
        console = Console([f'unix:{path}'])
        console.start()
        rate, share = busy()
        print(f'{"":46} {"ns a call":>10} {"calls a second":>15} {"busy":>7}')
        print(f'{"not watched":46} {nanoseconds():10.0f} {rate:15.0f} {share:6.1f}%')
        for case in CASES:
            statement = case.format(f'{__name__}:work')
            sock = client(path, statement)
            each = nanoseconds()
            rate, share = busy()
            pushes = received(sock).count(b'\n---\n') - 1
            sock.close()
            gevent.sleep(1)
            print(f'{case.format("work"):46} {each:10.0f} {rate:15.0f} {share:6.1f}%  {pushes} pushes')
        rate, share = busy()
        print(f'{"not watched any more":46} {nanoseconds():10.0f} {rate:15.0f} {share:6.1f}%')
        console.stop()


if __name__ == '__main__':
    print(f'Python {sys.version.split()[0]}')
    main()
