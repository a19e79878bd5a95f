"""Random statements, faults and kills from 100 clients for a given time. After that nothing may be left.

usage: python tests/soak.py [SECONDS [SEED]]

Exit code 1 and a reason if a reply was wrong, if the server did not reply, or if sessions, greenlets, open files or memory
are left.
"""
from __future__ import annotations

import gc
import logging
import os
import random
import sys
import time
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent), str(TESTS / 'support')]

import gevent  # noqa: E402
from iproto_client import DATA, EVAL, BinaryClient  # noqa: E402
from text_client import Client  # noqa: E402
from waiting import wait_for  # noqa: E402

from boxsession import Console  # noqa: E402

CLIENTS = 100
# In addition: clients of the binary protocol, and clients in the sandbox.
BINARY_CLIENTS, GUESTS = 10, 10
MEBIBYTE = 1 << 20

# (statement, function of n that returns the expected value): {n} is a number.
GOOD = [
    ('{n} + 1', lambda n: n + 1), ('"{n}"', str), ('{{a = {{{n}}}}}', lambda n: {'a': [n]}),
    ("require('fiber').sleep(0.001) return {n}", lambda n: n), ('pcall(error, {n}) return {n}', lambda n: n),
    ('box.session.storage.n = {n} require("fiber").yield() return box.session.storage.n', lambda n: n),
    ('local t = {{3, 1, 2}} table.sort(t, function(a, b) require("fiber").yield() return a < b end) return t[1] + {n}',
     lambda n: n + 1),
    ('(("abc"):gsub("%w", function(c) require("fiber").yield() return c:upper() end)) .. {n}', lambda n: f'ABC{n}'),
    ('local s = 0 for i = 1, 20000 do s = s + 1 end return s + {n}', lambda n: n + 20000),
    ('local f = require("fiber").new(function() require("fiber").sleep(0.001) return {n} end) f:set_joinable(true) '
     'return select(2, f:join())', lambda n: n),
    ('local c = require("fiber").channel(1) require("fiber").create(function() c:put({n}) end) return c:get(9)',
     lambda n: n),
    ('setmetatable({{}}, {{__serialize = function() require("fiber").yield() return {n} end}})', lambda n: n),
    ('require("json").decode(require("json").encode({{{n}}}))[1]', lambda n: n), ('echo({n})', lambda n: n),
    ('#require("yaml").encode({{{n}, "é"}}) > 5 and {n}', lambda n: n), ('("x"):rep(1000):find("y") or {n}', lambda n: n),
]
ENDLESS = ['while true do end', 'while true do pcall(function() while true do end end) end', "require('fiber').sleep(1000)",
           'coroutine.wrap(function() while true do end end)()', "require('fiber').channel():get()", 'echo_slowly(1000)',
           '("a"):rep(1e5):find(".-.-.-b")', 'while true do coroutine.resume(coroutine.create(error)) end']
NASTY = [
    'local t = {} for i = 1, 1e4 do t[i] = {i, "é"} end return t', 'error({{{}}})', 'x y z', '\\set output lua', '\\nosuch',
    'local s = "x" while true do s = s .. s end', 'return return', '("x"):rep(1e6)', "require('console').delimiter('!')",
    'error(setmetatable({}, {__tostring = error}))', 'setmetatable({}, {__index = function() error() end}).x',
    "for i = 1, 50 do require('fiber').create(function() require('fiber').sleep(0.01) end) end", 'box.session.push({1, 2})',
    "require('fiber').create(error)", 'local function f() return f() + 1 end f()',
]


class Soak:
    def __init__(self, seconds, seed):
        self.rng = random.Random(seed)
        self.end = time.monotonic() + seconds
        self.counts = dict.fromkeys(('sessions', 'statements', 'cancels', 'nasty', 'kills', 'vanished'), 0)
        self.console = Console(['127.0.0.1:0', {'address': '127.0.0.1:0', 'protocol': 'binary', 'user': 'admin'},
                                {'address': '127.0.0.1:0', 'user': 'guest'}],
                                expose={'echo': lambda value: gevent.sleep(0.001) or value,
                                                      'echo_slowly': gevent.sleep},
                               config={'limits': {'slice_ms': 2, 'statement_seconds': 20, 'send_seconds': 2,
                                                  'lua_memory_bytes': 128 * MEBIBYTE, 'drain_seconds': 5}})

    def ask(self, client, rng):
        statement, expected = rng.choice(GOOD)
        number = rng.randrange(1000)
        reply = client.values(statement.format(n=number))
        if 'was killed by' in str(reply):
            raise EOFError
        if reply == [None] and 'channel' in statement and client.value('box.info.limits.lua_memory_bytes.hits'):
            return                          # the fiber that was to put something in has failed
        if 'the fiber is dead' in str(reply) and 'join' in statement:
            return                          # it was preempted before set_joinable()
        if reply != [expected(number)] and 'not enough memory' not in str(reply):
            raise AssertionError(f'{statement.format(n=number)} gave {reply}')
        self.counts['statements'] += 1

    @contextmanager
    def connected(self, kind, number):
        """A client of a listener; once an admin has killed somebody, it may find itself disconnected."""
        self.counts['sessions'] += 1
        client = None
        try:
            client = kind(self.console.addresses[number])
            yield client
        except (EOFError, OSError):
            if not self.killed:
                raise
        finally:
            if client is not None:
                client.close()

    def session(self, rng):
        with self.connected(Client, 0) as client:
            for _ in range(rng.randrange(1, 40)):
                what = rng.random()
                if what < 0.8:
                    self.ask(client, rng)
                elif what < 0.9:
                    client.send(rng.choice(ENDLESS) + '\n')
                    gevent.sleep(rng.random() * 0.02)
                    client.send(rng.choice([b'\x03', b'\xff\xf4']))
                    reply = client.document()
                    if not any(end in reply for end in (b'cancelled', b'was killed by', b'not enough memory', b'overflow')):
                        raise AssertionError(f'a cancel gave {reply!r}')
                    self.counts['cancels'] += 1
                else:
                    client.send(rng.choice(NASTY) + '\n')
                    self.counts['nasty'] += 1
                    break                   # the reply is not known: only the end of the session counts
            self.leave(client, rng)

    def leave(self, client, rng):
        how = rng.randrange(5)
        if how == 0:
            client.send(rng.choice(ENDLESS) + '\n')
            gevent.sleep(rng.random() * 0.01)
        if how <= 1:
            client.reset()
            self.counts['vanished'] += 1
        elif how == 2:
            client.send('\\quit\n')
        elif how == 3:
            client.send('half a statement')

    def binary_client(self, seed):
        """Several requests at a time, of which one may be endless; then it leaves, one way or another."""
        rng = random.Random(seed)
        while time.monotonic() < self.end:
            with self.connected(BinaryClient, 1) as client:
                for _ in range(rng.randrange(1, 20)):
                    wanted = {client.send(EVAL, {0x27: "local n, wait = ... if wait then require('fiber').sleep(wait) end "
                                                       'return n, box.session.sync()', 0x21: [number, *wait]}): number
                              for number, wait in ((rng.randrange(1000), rng.choice([[], [0.001], [0]])) for _ in range(8))}
                    while wanted:
                        header, body = client.receive()
                        if header[1] == 0 and 'killed' in str(body):        # belongs to no request: the farewell
                            raise EOFError
                        assert header[1] in wanted, (header, body)
                        number = wanted.pop(header[1])
                        if body.get(DATA) != [number, header[1]] and 'not enough memory' not in str(body) and (
                                'killed' not in str(body)):
                            raise AssertionError(f'{number} gave {body}')
                        self.counts['statements'] += 1
                if rng.random() < 0.3:
                    client.send(EVAL, {0x27: rng.choice(ENDLESS)})
                    client.reset()          # after close() alone the server would finish the request
                    self.counts['vanished'] += 1
                elif rng.random() < 0.3:
                    client.sock.sendall(rng.randbytes(100))
                    self.counts['nasty'] += 1

    def guest(self, seed):
        """A client in the sandbox: allowed and forbidden statements."""
        rng = random.Random(seed)
        while time.monotonic() < self.end:
            with self.connected(Client, 2) as client:
                for _ in range(rng.randrange(1, 20)):
                    number = rng.randrange(1000)
                    reply = client.value(rng.choice([
                        f'{number}', f"mine = {number} require('fiber').sleep(0.001) return mine",
                        f'(("{number}"):rep(1)) + 0',
                        f'box.session.storage.n = {number} return box.session.storage.n']))
                    if reply != number and not any(text in str(reply) for text in ('not enough memory', 'killed')):
                        raise AssertionError(f'{number} gave {reply}')
                    if 'killed' in str(reply):
                        raise EOFError
                    reply = str(client.values(rng.choice(['secret()', 'box.cfg{}', '_G.nosuch',
                    "box.session.su('admin')"])))
                    if not any(text in reply for text in ('denied', 'not enough memory', 'killed')):
                        raise AssertionError(f'a guest got {reply}')
                    self.counts['statements'] += 2
                client.send(rng.choice(NASTY + ENDLESS) + '\n')
                client.reset()
                self.counts['vanished'] += 1

    killed = False

    def client(self, seed):
        rng = random.Random(seed)
        while time.monotonic() < self.end:
            self.session(rng)

    def killer(self):
        """An admin who kills a session now and then. After the first kill, any client may be disconnected."""
        admin = Client(self.console.addresses[0])
        me = admin.value('box.session.id()')
        while time.monotonic() < self.end:
            gevent.sleep(0.2)
            listed = admin.value('box.session.list()')
            victims = [shown['id'] for shown in listed if shown['id'] != me] if isinstance(listed, list) else []
            if victims:
                self.killed = True
                admin.value(f'box.session.kill({self.rng.choice(victims)})')
                self.counts['kills'] += 1
        admin.close()

    def run(self):
        self.console.start()
        self.warm_up()
        files, greenlets, memory = self.left()
        started = [gevent.spawn(self.client, self.rng.random()) for _ in range(CLIENTS)]
        started += [gevent.spawn(self.binary_client, self.rng.random()) for _ in range(BINARY_CLIENTS)]
        started += [gevent.spawn(self.guest, self.rng.random()) for _ in range(GUESTS)]
        started.append(gevent.spawn(self.killer))
        gevent.joinall(started, raise_error=True)
        wait_for(lambda: not self.console.sessions, what=lambda: 'end of all sessions')
        self.clean_up()
        after = self.left()
        print(', '.join(f'{count} {name}' for name, count in self.counts.items()))
        print(f'open files {files} -> {after[0]}, greenlets {greenlets} -> {after[1]}, '
              f'Lua {memory >> 10} -> {after[2] >> 10} KiB, resident {resident() >> 20} MiB')
        assert after[0] <= files, 'open files are left'
        assert after[1] <= greenlets, 'greenlets are left'
        assert after[2] < memory + 4 * MEBIBYTE, 'Lua memory is left'
        self.console.stop()

    def warm_up(self):
        clients = [Client(self.console.addresses[0]) for _ in range(CLIENTS)]
        for client in clients:
            for _ in range(5):
                self.ask(client, self.rng)
            client.close()
        wait_for(lambda: not self.console.sessions, what=lambda: 'end of all sessions')
        self.clean_up()

    def clean_up(self):
        """Waits for the end of fibers that sleep for a short time, and collects garbage."""
        gevent.sleep(1)
        admin = Client(self.console.addresses[0])
        admin.reply('for _ = 1, 12 do collectgarbage() end')     # each may halve the table of strings
        admin.close()
        wait_for(lambda: not self.console.sessions, what=lambda: 'end of all sessions')

    def left(self):
        gc.collect()
        greenlets = sum(issubclass(type(found), gevent.Greenlet) and not found.dead for found in gc.get_objects())
        return len(os.listdir('/proc/self/fd')), greenlets, self.console.memory_used


def resident():
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


if __name__ == '__main__':
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    print(f'soak: {seconds:g} s, seed {seed}', flush=True)
    logging.getLogger('boxsession').setLevel(logging.CRITICAL)      # fibers that raise are part of it
    Soak(seconds, seed).run()
