"""Effect of attacks on a program that embeds the console: requests per second and p99 latency of a gevent HTTP service,
before and during each attack.

usage: python benchmarks/service.py [--seconds S] [--only ATTACK] [--sessions N] [--smoke]

One process serves HTTP and embeds a Console with its default settings. `wrk`, or our own generator in another process if it
is not installed, keeps 4 connections busy. This process attacks, as benchmarks/hostile.py does, with the lowest priority
(nice 19), since a real attacker's machine takes no CPU time from the load generator. The handler yields after each reply:
without that, 4 connections that always have a request keep the event loop busy, and the p99 means nothing. Prints a row for
each attack. Exit code 1 if a row has less than 75 % of the undisturbed requests per second (the mean of before and after),
or a p99 that is more than 5 ms longer.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostile

WANTED_SHARE, WANTED_MORE_MS = 0.75, 5.0
CONNECTIONS = 4
REQUEST = b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'
UNITS = {'us': 0.001, 'ms': 1.0, 's': 1000.0}


def serve():
    """The program: a service that embeds a console. Prints the addresses of both."""
    import gevent
    from gevent.server import StreamServer

    from boxsession import Console

    body = b'hello\n'
    reply = b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body)

    def handle(sock, _):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b''
        while True:
            piece = sock.recv(65536)
            if not piece:
                return
            data += piece
            while b'\r\n\r\n' in data:
                data = data.partition(b'\r\n\r\n')[2]
                sock.sendall(reply)
                gevent.sleep(0)

    server = StreamServer(('127.0.0.1', 0), handle)
    server.start()
    console = Console(listen=['127.0.0.1:0', {'address': '127.0.0.1:0', 'protocol': 'binary'}])
    console.start()
    print(f'service: {server.server_port}', file=sys.stderr, flush=True)
    for kind, address in zip(('console', 'binary'), console.addresses, strict=True):
        print(f'listening: {kind} {address}', file=sys.stderr, flush=True)
    console.serve_forever()


class Service(hostile.Server):
    """The program in a process of its own; a Server to the attacks of hostile.py."""

    @classmethod
    def command(cls, _):
        return __file__, '--serve'

    @property
    def port(self):
        return int(self.log.read_text().partition('service: ')[2].split()[0])


def generate(port, seconds):
    """Our own generator, used without wrk: sends a request on each connection as soon as the last one was answered."""
    import select
    socks = [socket.create_connection(('127.0.0.1', port)) for _ in range(CONNECTIONS)]
    poller = select.epoll()
    sent, took = {}, []
    for sock in socks:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poller.register(sock, select.EPOLLIN)
        sent[sock.fileno()] = time.monotonic()
        sock.sendall(REQUEST)
    known = {sock.fileno(): sock for sock in socks}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for number, _ in poller.poll(end - time.monotonic()):
            known[number].recv(65536)
            now = time.monotonic()
            took.append(now - sent[number])
            sent[number] = now
            known[number].sendall(REQUEST)
    return {'rate': len(took) / seconds, 'p99': hostile.percentile(took, 0.99) * 1000}


def start_load(port, seconds):
    if shutil.which('wrk'):
        command = ['wrk', '-t1', f'-c{CONNECTIONS}', f'-d{max(1, round(seconds))}s', '--latency', f'http://127.0.0.1:{port}/']
    else:
        command = [sys.executable, __file__, '--generate', str(port), '--seconds', str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish_load(process):
    """{'rate': requests per second, 'p99': milliseconds}, or None if the service died."""
    out, _ = process.communicate()
    if process.returncode:
        return None
    if out.startswith('{'):
        return json.loads(out)
    rate = re.search(r'Requests/sec:\s*([\d.]+)', out)
    p99 = re.search(r'99%\s*([\d.]+)(us|ms|s)', out)
    return {'rate': float(rate[1]), 'p99': float(p99[1]) * UNITS[p99[2]]} if rate and p99 else None


def in_the_background(attack, service, seconds):
    """Runs attack(service, seconds) in a thread of the lowest priority, and returns its result. Its threads inherit the
priority."""
    def run():
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        return attack(service, seconds)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument('--seconds', type=float, default=8)
    arguments.add_argument('--only', default='')
    arguments.add_argument('--sessions', type=int, default=1000)
    arguments.add_argument('--smoke', action='store_true', help='only dying is a failure, slowness is not')
    arguments.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
    arguments.add_argument('--generate', type=int, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.serve:
        serve()
        return 0
    if chosen.generate:
        print(json.dumps(generate(chosen.generate, chosen.seconds)))
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    failed = []
    print(f'{"attack":34} {"alone/s":>9} {"during/s":>9} {"ratio":>6} {"p99 alone":>11} {"during":>9}')
    hostile.colliding_keys()            # made once: it takes a while
    with tempfile.TemporaryDirectory() as folder:
        for name, attack in hostile.attacks(chosen.sessions).items():
            if chosen.only not in name or name in ('no more files',) or hasattr(attack, 'kind'):
                continue
            service = Service(Path(folder))
            try:
                before = finish_load(start_load(service.port, max(1, chosen.seconds / 2)))
                load = start_load(service.port, chosen.seconds)
                held = in_the_background(attack, service, chosen.seconds)
                during = finish_load(load)
                for sock in held:
                    sock.close()
                after = finish_load(start_load(service.port, max(1, chosen.seconds / 2)))
                if service.process.poll() is not None or before is None or during is None or after is None:
                    failed.append(name)
                    print(f'{name:34} the service died', flush=True)
                    continue
                rate, p99 = ((before[key] + after[key]) / 2 for key in ('rate', 'p99'))
                ratio, more = during['rate'] / rate, during['p99'] - p99
                if not chosen.smoke and (ratio < WANTED_SHARE or more > WANTED_MORE_MS):
                    failed.append(name)
                print(f'{name:34} {rate:9.0f} {during["rate"]:9.0f} {ratio:6.2f} {p99:8.2f} ms '
                      f'{during["p99"]:6.2f} ms', flush=True)
            finally:
                service.process.kill()
                service.process.wait()
    print('under what is wanted, or dead: ' + ', '.join(failed) if failed else
          f'all as wanted: {WANTED_SHARE:.0%} of the requests, p99 at most {WANTED_MORE_MS:g} ms more')
    return 1 if failed else 0


if __name__ == '__main__':
    os.environ.setdefault('PYTHONPATH', str(Path(__file__).resolve().parent.parent))
    sys.exit(main())
