"""Statements in Python: the round trip of one line, and what endless ones cost the others.

`python benchmarks/python.py [--rounds N]`

Round trip: one client, one line at a time, in turn to the console and to a server that only calls exec() and eval() for
each line, as gevent.backdoor does; the best of the rounds, and their ratio. `new`: each line is another one.
Bystander: a client whose statement is `1`, while another session runs an endless statement; and the time from Ctrl-C to the
answer.
"""
from __future__ import annotations

import argparse
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time

PLAIN = '''
import sys
from gevent.server import StreamServer

def serve(sock, address):
    names = {}
    for line in sock.makefile('rb'):
        text = line.decode()
        try:
            try:
                value = eval(compile(text, 's', 'eval'), names)
            except SyntaxError:
                exec(compile(text, 's', 'exec'), names)
                value = None
            reply = '---\\n...\\n' if value is None else '---\\n- %r\\n...\\n' % (value,)
        except Exception as error:
            reply = '---\\n- error: %r\\n...\\n' % (error,)
        sock.sendall(reply.encode())

server = StreamServer(('127.0.0.1', 0), serve)
server.start()
print(server.server_port, flush=True)
server.serve_forever()
'''
CONSOLE = '''
from boxsession import Console
console = Console(listen=[{'address': '127.0.0.1:0', 'languages': ['python'], 'insecure': True}])
console.start()
print(console.addresses[0].port, flush=True)
console.serve_forever()
'''
LINES = {'1+1': '1+1', 'assignment': 'x = 5', 'call': 'sorted([3, 1, 2])', 'text': '"abc"',
         'data': '{"a": [1, 2], "b": "x y"}', 'new expression': '{} + 1', 'new assignment': 'y = {}', 'error': '1/0'}
ENDLESS = {'while': 'while True: pass\n', 'comprehension': '[0 for x in iter(int, 1)]',
           'except BaseException': 'while True:\n  try:\n    while True: pass\n  except BaseException: pass\n',
           'sorted with a key': 'while True: sorted(range(1000), key=lambda x: -x)\n',
           'print': 'while True: print("x" * 100)\n'}
EACH, SECONDS = 1000, 1.0


class Client:
    def __init__(self, port, greeting=True):
        self.sock = socket.create_connection(('127.0.0.1', port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(20)
        self.rest = b''
        if greeting:
            self.sock.recv(128)

    def document(self):
        while b'...\n' not in self.rest:
            data = self.sock.recv(1 << 16)
            if not data:
                raise EOFError
            self.rest += data
        found, _, self.rest = self.rest.partition(b'...\n')
        return found

    def ask(self, line):
        self.sock.sendall(line)
        return self.document()


def server(program):
    process = subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               text=True, cwd=tempfile.gettempdir(), env={**os.environ, 'PYTHONPATH': os.getcwd()})
    return process, int(process.stdout.readline())


def round_trips(plain, console, rounds):
    numbers = itertools.count(1)
    clients = {'exec': Client(plain, greeting=False), 'console': Client(console)}
    for name, text in LINES.items():
        best = dict.fromkeys(clients, float('inf'))
        for _ in range(rounds):
            for kind, client in clients.items():
                lines = [(text.format(next(numbers)) + '\n').encode() if name.startswith('new') else text.encode() + b'\n'
                         for _ in range(EACH)]
                began = time.perf_counter()
                for line in lines:
                    client.ask(line)
                best[kind] = min(best[kind], (time.perf_counter() - began) / EACH)
        print(f'{name:20} exec {1e6 * best["exec"]:6.1f} us   console {1e6 * best["console"]:6.1f} us   '
              f'{best["console"] / best["exec"]:5.2f}', flush=True)


def bystander(console):
    for name, text in ENDLESS.items():
        admin, other = Client(console), Client(console)
        other.ask(b'1\n')
        admin.sock.sendall(text.encode() + b'\n')
        lags, end = [], time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            began = time.perf_counter()
            other.ask(b'1\n')
            lags.append(time.perf_counter() - began)
            time.sleep(0.0005)
        lags.sort()
        began = time.perf_counter()
        admin.sock.sendall(b'\x03')
        while b'cancelled' not in admin.document():
            pass
        print(f'{name:20} bystander p50 {1e3 * lags[len(lags) // 2]:5.2f} ms   '
              f'p99 {1e3 * lags[len(lags) * 99 // 100]:5.2f} ms   worst'
              f' {1e3 * lags[-1]:5.2f} ms   Ctrl-C {1e3 * (time.perf_counter() - began):5.2f} ms', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=10)
    options = parser.parse_args()
    plain, plain_port = server(PLAIN)
    console, console_port = server(CONSOLE)
    try:
        round_trips(plain_port, console_port, options.rounds)
        bystander(console_port)
    finally:
        plain.kill()
        console.kill()


if __name__ == '__main__':
    main()
