"""What a log call costs the program while a session follows the log with \\tail: CPU time of the calling thread.

python benchmarks/tail.py
"""
from __future__ import annotations

import logging
import socket
import tempfile
import time
from pathlib import Path

import gevent

from boxsession import Console

CALLS, ROUNDS, READ_ROUNDS = 200, 300, 40


class Order:
    """A class of the program."""


def microseconds(log, argument, rounds=ROUNDS, before=lambda: None, error=None):
    """The least CPU time of one call, over many rounds."""
    least = float('inf')
    for _ in range(rounds):
        before()
        began = time.thread_time()
        for number in range(CALLS):
            log.info('order %d of %s', number, argument, exc_info=error)
        least = min(least, (time.thread_time() - began) / CALLS)
    return least * 1e6


def followed(path):
    """A client that follows the log."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    client.sendall(b'\\tail shop\n')
    client.setblocking(False)
    gevent.sleep(0.1)
    return client


def reader(client):
    """A function that reads the records of the round before; nothing the first time."""
    left = 0

    def read():
        nonlocal left
        while left > 0:
            gevent.sleep(0.001)
            try:
                data = client.recv(1 << 20)
            except BlockingIOError:
                continue
            assert b'dropped' not in data
            left -= data.count(b'order ')
        left = CALLS

    return read


def main():
    logging.getLogger('boxsession').setLevel(logging.ERROR)
    log = logging.getLogger('shop')
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(logging.NullHandler())
    try:
        raise KeyError('sku')
    except KeyError as raised:
        error = raised
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / 'socket')
        console = Console([f'unix:{path}'])
        console.start()
        print(f'nobody follows                      {microseconds(log, "ann"):5.2f} us')
        client = followed(path)
        read = reader(client)
        for name, argument, exception in (('a text', 'ann', None), ('an object', Order(), None),
                                          ('an exception', 'ann', error)):
            spent = microseconds(log, argument, READ_ROUNDS, read, exception)
            print(f'the client reads, {name:17} {spent:5.2f} us')
        while console.connections()[0].describe()['state'] != 'sending':
            for _ in range(CALLS):
                log.info('x' * 500)
            gevent.sleep(0.001)
        for _ in range(2000):
            log.info('x' * 500)
        print(f'the client never reads: dropped     {microseconds(log, "ann"):5.2f} us')
        client.close()
        gevent.sleep(2)
        print(f'nobody follows any more             {microseconds(log, "ann"):5.2f} us')
        console.stop()


if __name__ == '__main__':
    main()
