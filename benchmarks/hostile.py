"""Effect of attacks on other clients: the latency of a bystander before and during each, and the server's memory.

usage: python benchmarks/hostile.py [--seconds S] [--only ATTACK] [--sessions N] [--smoke]

Starts our server with its default settings (for some rows with an audit file, or inside a program). A bystander in another
process sends `1 + 1` 200 times a second, whether or not replies come. This process attacks, in threads of the lowest
priority (nice 19), since a real attacker's machine takes no CPU time from the server. Prints a row for each attack. Exit
code 1 if the bystander's p99 or worst latency exceeds the wanted one, or if the server had to be restarted.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

WANTED_P99_MS, WANTED_WORST_MS = 10, 50
GREETING_BYTES = 128
PAUSE_SECONDS = 0.005


def connect(address, timeout=30):
    host, _, port = address.rpartition(':')
    sock = socket.create_connection((host, int(port)), timeout=timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def open_session(address):
    sock = connect(address)
    if not sock.recv(GREETING_BYTES):
        sock.close()
        raise ConnectionError('the server closed the connection without a greeting')
    return sock


def bystander(address, seconds):
    """Milliseconds of each round trip. Statements are sent on schedule, whether or not the last one was answered."""
    sock = open_session(address)
    sent = []
    end = time.monotonic() + seconds

    last = None

    def send():
        nonlocal last
        while last is None:
            now = time.monotonic()
            if now >= end:
                last = len(sent)
            sent.append(now)
            sock.sendall(b'1 + 1\n')
            time.sleep(PAUSE_SECONDS)

    threading.Thread(target=send).start()
    took = []
    data = b''
    while last is None or len(took) <= last:
        piece = sock.recv(4096)
        if not piece:
            raise SystemExit('the bystander was disconnected')
        data += piece
        *replies, data = data.split(b'...\n')
        for reply in replies:
            if reply != b'---\n- 2\n':
                raise SystemExit(f'the bystander got {reply!r}')
            took.append((time.monotonic() - sent[len(took)]) * 1000)
    return took


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Server:
    """Ours, in a process of its own."""

    config = 'listen: ["127.0.0.1:0", {address: "127.0.0.1:0", protocol: binary}]'

    @classmethod
    def command(cls, folder):
        path = folder / 'config.yml'
        path.write_text(cls.config)
        return '-m', 'boxsession', 'serve', '-c', str(path)

    def __init__(self, folder):
        self.log = folder / 'log'
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen([sys.executable, *self.command(folder)], stderr=log, cwd=folder)
        while self.log.read_bytes().count(b'listening: ') < 2:
            if self.process.poll() is not None:
                raise SystemExit(self.log.read_text())
            time.sleep(0.01)
        self.address, self.binary_address = (self.log.read_text().partition(f'listening: {kind} ')[2].split()[0]
                                             for kind in ('console', 'binary'))

    def memory(self):
        """(resident now, at its peak) in MiB."""
        status = Path(f'/proc/{self.process.pid}/status').read_text()
        fields = dict(line.split(':', 1) for line in status.splitlines())
        return [int(fields[name].split()[0]) / 1024 for name in ('VmRSS', 'VmHWM')]

    def forget_peak(self):
        try:
            Path(f'/proc/{self.process.pid}/clear_refs').write_text('5')
        except OSError:
            pass

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Auditing(Server):
    """The same, with an audit file."""

    config = Server.config + '\naudit: {file: audit.jsonl}'


class Exposing(Server):
    """A program with functions for its console."""

    program = """
import sys
import gevent
from boxsession import Console
many, table = list(range(500000)), {str(number): [number] for number in range(100000)}
console = Console(listen=['127.0.0.1:0', {'address': '127.0.0.1:0', 'protocol': 'binary'}], expose={
    'take': lambda value: 0, 'give': lambda: many, 'give_map': lambda: table})
console.start()
for kind, address in zip(('console', 'binary'), console.addresses):
    print('listening:', kind, address, file=sys.stderr, flush=True)
gevent.get_hub().join()
"""

    @classmethod
    def command(cls, folder):
        return '-c', cls.program


# Attacks: each takes (server, seconds) and returns what it keeps open -----------------------------------------------------

def statements(*texts, sessions=1):
    """Sessions that send these statements and read nothing more."""
    def attack(server, seconds):
        socks = []
        for number in range(sessions):
            sock = open_session(server.address)
            sock.sendall(texts[number % len(texts)].encode() + b'\n')
            socks.append(sock)
        time.sleep(seconds)
        return socks
    return attack


def repeating(text, sessions=1):
    """Sessions that send a statement again and again, and read the replies."""
    def attack(server, seconds):
        end = time.monotonic() + seconds

        def run():
            sock = open_session(server.address)
            try:
                while time.monotonic() < end:
                    sock.sendall(text.encode() + b'\n')
                    reply = b''
                    while not reply.endswith(b'...\n'):
                        piece = sock.recv(1 << 20)
                        if not piece:
                            return
                        reply = reply[-4:] + piece
            finally:
                sock.close()
        threads = [threading.Thread(target=run) for _ in range(sessions)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return []
    return attack


def shown_as(mode, text, sessions=2):
    """Sessions that show a long string again and again."""
    end = b'\n...\n' if mode == 'yaml' else b';'

    def attack(server, seconds):
        until = time.monotonic() + seconds

        def run():
            sock = open_session(server.address)
            sock.sendall(f'\\set output {mode}\n'.encode())
            reply = b''
            while not reply.endswith(end):
                reply += sock.recv(100)
            while time.monotonic() < until:
                sock.sendall(f'return {text}\n'.encode())
                reply = b''
                while not reply.endswith(end):
                    piece = sock.recv(1 << 20)
                    if not piece:
                        return
                    reply = reply[-8:] + piece
            sock.close()
        threads = [threading.Thread(target=run) for _ in range(sessions)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return []
    return attack


@cache
def colliding_keys():
    """Integers of which a dict of Python's takes each only after it has looked at some 20,000 others.

    When a hash is used up, the dict goes on through all of its cells in one order. The first keys fill the cells from a
    place on, in that order; the others are such that the dict meets full cells only, and then comes to that place.
    """
    size = 1 << 17
    start = size // 3 + 10
    filled, keys, cell = {}, [], 0
    for number in range(start):
        filled[cell] = number
        keys.append(cell)
        cell = (cell * 5 + 1) % size
    key = size
    while len(keys) < start + 40000:
        key += 1
        cell, rest = key % size, key
        while cell in filled:
            rest >>= 5
            cell = (cell * 5 + rest + 1) % size
            if not rest:
                if filled.get(cell, start) < start // 2:
                    keys.append(key)
                break
    return keys


def colliding_requests(server, seconds):
    """Requests of the binary protocol, before a login, with keys that a dict of Python's looks for long."""
    keys = colliding_keys()
    payload = (b'\x82\x00\x0a\x01\x01\x82\x22\xa1x\x21\x91\xdf' + len(keys).to_bytes(4, 'big')
               + b''.join(b'\xce' + key.to_bytes(4, 'big') + b'\xc0' for key in keys))
    end = time.monotonic() + seconds
    sock = open_session(server.binary_address)
    while time.monotonic() < end:
        sock.sendall(b'\xce' + len(payload).to_bytes(4, 'big') + payload)
        sock.recv(1000)
    return [sock]


def accept_storm(server, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        socks = [connect(server.address) for _ in range(20)]
        for sock in socks:
            sock.close()
        time.sleep(0.01)
    return []


def idle_sessions(count):
    def attack(server, seconds):
        socks = []
        for number in range(count):
            socks.append(connect(server.address))
            if number % 100 == 99:
                time.sleep(0.02)
        time.sleep(seconds)
        return socks
    return attack


def garbage(server, seconds):
    rng = random.Random(1)
    noise = [bytes(byte for byte in rng.randbytes(10000) if byte != 4) for _ in range(20)]
    socks = [connect(server.address) for _ in range(20)]
    end = time.monotonic() + seconds
    for sock in socks:
        sock.setblocking(False)
    while time.monotonic() < end:           # 1 MB/s on each of 20 connections, if the server reads it
        for index, sock in enumerate(socks):
            try:
                sock.send(noise[index])
                sock.recv(1 << 20)
            except BlockingIOError:
                pass
            except OSError:
                sock.close()
                socks[index] = connect(server.address)
                socks[index].setblocking(False)
        time.sleep(0.01)
    return socks


def telnet_questions(server, seconds):
    """Sessions whose statements wait, and that send telnet's AYT (are you there) without reading the answers."""
    socks = [open_session(server.address) for _ in range(20)]
    for sock in socks:
        sock.sendall(b"require('fiber').sleep(1000)\n")
        sock.setblocking(False)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for sock in socks:
            try:
                sock.send(b'\xff\xf6' * 10000)
            except BlockingIOError:
                pass
        time.sleep(0.001)
    return socks


def web_pages(server, seconds):
    """Requests that web pages can make browsers send; the server closes each at its first line."""
    request = b'POST /' + b'x' * 70000 + b' HTTP/1.1\r\nHost: x\r\n\r\n' + b'while true do end\r\n'
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for sock in [connect(server.address) for _ in range(10)]:
            try:
                sock.sendall(request)
            except OSError:
                pass
            sock.close()
        time.sleep(0.01)
    return []


def slow_lorises(server, seconds):
    socks = [open_session(server.address) for _ in range(500)]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for sock in socks:
            sock.sendall(b'x')
        time.sleep(0.25)
    return socks


def no_more_files(server, seconds):
    pid = server.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (60, limits[1]))
    socks = [connect(server.address) for _ in range(200)]
    time.sleep(seconds)
    for sock in socks:
        sock.close()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    return []


def on(kind, attack):
    """The same attack on a server of another kind."""
    attack.kind = kind
    return attack


HUGE = 'local t = {} for i = 1, 1e6 do t[i] = ("x"):rep(92) .. i end return t'
LARGE = 'local t = {} for i = 1, 1e6 do t[i] = 1234567 end return t'
SPIN = 'while true do end'


def attacks(sessions):
    return {
        'an endless loop': statements(SPIN),
        '100 endless loops': statements(SPIN, sessions=100),
        'loops that catch everything': statements('while true do pcall(function() while true do end end) end', sessions=10),
        'coroutines in a loop': statements('while true do coroutine.wrap(function() while true do end end)() end',
                                           sessions=10),
        '2,000 spinning fibers': statements(
            "for i = 1, 2000 do require('fiber').new(function() while true do end end) end require('fiber').sleep(1e6)"),
        'costly patterns': statements('while true do ("a"):rep(1e5):find(".-.-.-b") end', sessions=4),
        'strings of a megabyte, joined': statements('local s = ("x"):rep(1e6) while true do local t = s .. "y" end',
                                                    sessions=2),
        'all the memory, again and again': repeating('local t = {} while true do t[#t + 1] = {} end'),
        'a string that doubles': repeating('local s = "x" while true do s = s .. s end'),
        'sorting, joining, formatting': statements(
            'local t = {} for i = 1, 1e5 do t[i] = i * 7919 % 1e5 end while true do table.sort(t) table.concat(t) end',
            'while true do string.format(("%s"):rep(100), unpack(string.split(("x "):rep(100)))) end', sessions=4),
        'long replacements': statements("('a'):rep(20000):gsub('', ('%0'):rep(1000000))",
                                       "('ab'):rep(200000):gsub('(a)(b)', ('%1%2'):rep(200000))", sessions=2),
        'long formats of dates': repeating("os.date(('%s'):rep(5000000))"),
        'long separators': repeating(
            "local t = {} for i = 1, 4000 do t[i] = 'x' end return #table.concat(t, ('y'):rep(20000))"),
        'functions of C that call others': statements(
            'local t = {} for i = 1, 1e6 do t[i] = i end while true do pcall(table.sort, t, rawequal) end',
            "local s = ('a'):rep(4e6) while true do s:gsub('a', tostring) end"),
        'the front of a long list': statements(
            'local t = {} for i = 1, 4e6 do t[i] = i end while true do table.insert(t, 1, i) table.remove(t, 1) end'),
        'code that is slow to compile': statements(
            "local text = 'return ' .. ('a and '):rep(20000) .. 'a' while true do loadstring(text) end",
            "local text = 'return ' .. ('a and '):rep(3900) .. 'a' while true do loadstring(text) end",
            "local text = ('local a' .. (',a'):rep(197) .. ' local function f() '):rep(35) .. ('x=x '):rep(10000) "
            "while true do loadstring(text) end"),
        'long texts of JSON': repeating("return #require('json').decode('\"' .. ('x'):rep(2e7) .. '\"')"),
        'calls that overrun the stack': repeating(
            f'(function({", ".join(f"p{number}" for number in range(99))}, ...) return ... end)()'),
        'ranges that wrap': repeating('return unpack({}, 2^31), unpack({}, -2^31, -2^31 - 1), unpack({}, 2^32, 2^31 - 1)'),
        '100 MB that nobody reads': statements(HUGE, sessions=2),
        'replies that 60 do not read': statements(LARGE, sessions=60),
        'pushes that 60 do not read': statements('while true do box.session.push(("x"):rep(1e5)) end', sessions=60),
        'questions of telnet, unread': telnet_questions,
        'requests of web pages': web_pages,
        'a huge result, read': repeating('local t = {} for i = 1, 1e5 do t[i] = {"é", i} end return t'),
        'control characters as Lua text': shown_as('lua', r"('\1'):rep(1.5e7)"),
        'letters with accents as Lua text': shown_as('lua,block', "('é'):rep(7.5e6)"),
        'long strings as YAML': shown_as('yaml', r"('é\1 😀'):rep(1e6)"),
        'long words as YAML': shown_as('yaml', "('ab '):rep(5e6)"),
        'YAML with long numbers': repeating("pcall(require('yaml').decode, ('1'):rep(1e5) .. 'x')"),
        'many arguments for Python': on(Exposing, repeating(
            'local t = {} for i = 1, 4e5 do t[i] = {i} end return take(t)', sessions=2)),
        'many results of Python': on(Exposing, repeating('return #give(), give_map()["7"]', sessions=2)),
        'statements with many secrets, audited': on(Auditing, statements(*(
            f"return {piece * (60000 // len(piece))} 'token'\n" * 50
            for piece in ("'\\'", "password = '' ", "'pw\\'", "u[('passwd')]('x') ", "'a'..'@'..", '(')), sessions=6)),
        'long lines for the log': repeating(r"print(('\255'):rep(1.5e7))"),
        'keys that collide, before a login': colliding_requests,
        'an accept storm': accept_storm,
        f'{sessions:,} idle sessions': idle_sessions(sessions),
        'no more files': no_more_files,
        'garbage, 20 MB/s': garbage,
        '500 slow lorises': slow_lorises,
    }


CLEAN_UP = b"""\\set delimiter !
fiber = require('fiber')
for _, shown in pairs(box.session.list()) do
    if shown.id ~= box.session.id() then box.session.kill(shown.id, {timeout = 0}) end
end
for id, shown in pairs(fiber.info()) do
    if shown.name == 'lua' then pcall(fiber.kill, id) end
end
fiber.sleep(0.5) collectgarbage() collectgarbage()!
"""


def end_attack(address, held):
    """Ends what the attack left in the server. Tries again while the server has no room for the session."""
    for sock in held:
        sock.close()
    deadline = time.monotonic() + 30
    while not is_cleaned_up(address):
        if time.monotonic() > deadline:
            raise TimeoutError('the server took no session for 30 s after the attack')
        time.sleep(0.1)


def is_cleaned_up(address):
    try:
        with open_session(address) as admin:
            admin.sendall(CLEAN_UP)
            reply = b''
            while reply.count(b'...\n') < 2:
                received = admin.recv(1000)
                if not received:
                    return False
                reply += received
            return True
    except ConnectionError:
        return False


def in_background(attack, server, seconds):
    """Runs attack(server, seconds) in a thread of the lowest priority, and returns its result. Its threads inherit
    the priority."""
    def run():
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        return attack(server, seconds)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def run_bystander(address, seconds):
    return subprocess.Popen([sys.executable, __file__, '--bystander', address, '--seconds', str(seconds)],
                            stdout=subprocess.PIPE)


def measured(process):
    out, _ = process.communicate()
    return json.loads(out) if process.returncode == 0 else None


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument('--seconds', type=float, default=4)
    arguments.add_argument('--only', default='')
    arguments.add_argument('--sessions', type=int, default=10000)
    arguments.add_argument('--smoke', action='store_true', help='only dying is a failure, slowness is not')
    arguments.add_argument('--bystander', help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.bystander:
        print(json.dumps(bystander(chosen.bystander, chosen.seconds)))
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    failed = []
    colliding_keys()                    # made once: it takes a while
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        print(f'{"attack":34} {"p99 before":>11} {"during":>9} {"worst":>9}   memory before, peak, after (MiB)')
        try:
            for name, attack in attacks(min(chosen.sessions, hard - 200)).items():
                if chosen.only not in name:
                    continue
                kind = getattr(attack, 'kind', Server)
                if type(server) is not kind:
                    server.stop()
                    server = kind(Path(folder))
                before = measured(run_bystander(server.address, 1))
                server.forget_peak()
                memory = server.memory()[0]
                watching = run_bystander(server.address, chosen.seconds + 0.5)
                time.sleep(0.3)
                held = in_background(attack, server, chosen.seconds)
                during = measured(watching)
                peak = server.memory()[1]
                end_attack(server.address, held)
                if server.process.poll() is not None or during is None or before is None:
                    failed.append(name)
                    print(f'{name:34} the server or the bystander died', flush=True)
                    server = kind(Path(folder))
                    continue
                p99 = percentile(during, 0.99)
                if not chosen.smoke and (p99 > WANTED_P99_MS or max(during) > WANTED_WORST_MS):
                    failed.append(name)
                print(f'{name:34} {percentile(before, 0.99):8.1f} ms {p99:6.1f} ms {max(during):6.1f} ms   '
                      f'{memory:6.0f} {peak:6.0f} {server.memory()[0]:6.0f}', flush=True)
        finally:
            server.stop()
    print('over what is wanted, or dead: ' + ', '.join(failed) if failed else
          f'no restart, all as wanted (p99 {WANTED_P99_MS} ms, worst {WANTED_WORST_MS} ms)')
    return 1 if failed else 0


if __name__ == '__main__':
    os.environ.setdefault('PYTHONPATH', str(Path(__file__).resolve().parent.parent))
    sys.exit(main())
