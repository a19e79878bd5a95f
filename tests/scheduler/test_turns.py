"""Loops of short calls into Python: a call does not begin a new time slice, so other sessions run and Ctrl-C works."""
from __future__ import annotations

import pytest
from conftest import BINARY, rounds
from iproto_client import EVAL, BinaryClient
from text_client import Client

from boxsession.base.address import Address
from boxsession.sessions.admission import Admission
from boxsession.sessions.binary import BinaryConnection
from boxsession.sessions.text import ConsoleConnection

EXPRESSION, ARGUMENTS = 0x27, 0x21
# The server has its own process, so that a blocked event loop does not block the test.
PROGRAM = """
import sys
import gevent
from boxsession import Console

class Cache:
    def size(self):
        return 1

def failing():
    raise ValueError('no')

console = Console(
    listen=[{'address': '127.0.0.1:0', 'user': 'guest'}, {'address': '127.0.0.1:0', 'user': 'admin'},
            {'address': '127.0.0.1:0', 'protocol': 'binary', 'user': 'admin'}],
    expose={'short': lambda: 1, 'failing': failing, 'cache': Cache(), 'doze': gevent.sleep})
console.start()
for listener in console.listeners:
    print('listening:', 'console', listener.address, file=sys.stderr, flush=True)
console.serve_forever()
"""
GUEST = [
    "while true do box.session.name('x') end",
    "while true do box.session.su('guest') end",
    "while true do pcall(box.session.su, 'admin') end",
    "while true do box.schema.user.exists('guest') end",
    "while true do pcall(box.schema.user.passwd, 'x') end",
    "while true do pcall(box.schema.user.info) end",
    "while true do require('uuid').new() end",
    "while true do require('clock').time() end",
    "while true do pcall(function() return box.cfg end) end",
    "while true do pcall(box.session.peer, 1000) end",
]
ADMIN = [
    'while true do short() end',
    'while true do pcall(failing) end',
    'while true do cache.size() end',
    'while true do local x = box.cfg.limits end',
    'while true do local x = box.info.memory.lua end',
    'while true do local x = box.info() end',
    'while true do local x = box.stat() end',
    'while true do box.session.list() end',
    'while true do pcall(box.session.cancel, 1000) end',
    'while true do box.session.kill(1000) end',
    'while true do pcall(box.cfg, {}) end',
    'while true do require("fiber").create(function() end) end',
    'while true do require("fiber").create(function() require("fiber").yield() end) end',
    'while true do require("console").eval("1") end',
    'while true do require("log").debug("x") end',
    'local f = require("fiber") local g = f.create(function() while true do f.sleep(1000) end end) '
    'while true do g:wakeup() end',
    'while true do doze(0) end',
    'while true do for i = 1, 100 do short() end doze(0) end',
    'local f = require("fiber") local a, b = f.channel(1), f.channel(1) '
    'f.create(function() while true do a:get() b:put(1) end end) while true do a:put(1) b:get() end',
    'setmetatable({}, {__index = function() while true do short() end end}).x()',
    'coroutine.wrap(function() while true do short() end end)()',
    'return setmetatable({}, {__serialize = function() while true do short() end end})',
]


@pytest.fixture
def addresses(serve, tmp_path):
    (tmp_path / 'program.py').write_text(PROGRAM)
    return serve(program=str(tmp_path / 'program.py')).addresses(3)


def check(bystander, client, statement, times=5):
    """Others are answered while the statement runs, and Ctrl-C ends it."""
    client.send(statement + '\n')
    for number in range(times):
        assert number == bystander.value(f'{number}')
    client.send(b'\x03')
    while b'cancelled' not in client.document():
        pass


class TestLoopsOfShortCalls:
    @pytest.mark.parametrize('listener', ['guest', 'admin'])
    def test_text(self, addresses, listener):
        guest, admin, _ = addresses
        address, statements = (guest, GUEST) if listener == 'guest' else (admin, GUEST + ADMIN)
        bystander = Client(admin)
        for statement in statements:
            client = Client(address)
            check(bystander, client, statement)
            client.reset()
        bystander.close()

    def test_binary(self, addresses):
        _, admin, binary = addresses
        bystander = Client(admin)
        for statement in ADMIN:
            client = BinaryClient(Address.parse(binary))
            client.send(EVAL, {EXPRESSION: statement, ARGUMENTS: []})
            for number in range(5):
                assert number == bystander.value(f'{number}')
            # Others can come in, too.
            newcomer = BinaryClient(Address.parse(binary))
            newcomer.close()
            client.reset()
        bystander.close()


class TestLoopsAsLongAsALook:
    """The count hook checks the clock after a fixed number of instructions, but not near a call into Python."""

    @pytest.mark.parametrize(('start', 'end'), [('', ''), ('coroutine.wrap(function()', 'end)()')])
    def test_whatever_their_length_others_are_answered(self, addresses, start, end):
        _, admin, _ = addresses
        bystander = Client(admin)
        for length in range(*rounds((0, 320, 4), (320,))):
            client = Client(admin)
            check(bystander, client, f'{start} local a while true do short() {"a = 1 " * length} end {end}', 2)
            client.reset()
        bystander.close()


class TestLongInstructions:
    """One instruction on a long string takes many milliseconds: a turn ends after a few of them."""

    # One statement each: a statement may allocate a quarter of the memory limit between two clock checks.
    MADE = ("A = (' '):rep(2e7) .. '1'", "B = A .. 'x'", "C = A .. 'y'",
            'function loop(work) for i = 1, 250 do local _ = work() end end',
            'co = coroutine.create(function() loop(function() return A + 1 end) end)')

    @pytest.mark.parametrize('statement', [
        'for i = 1, 250 do local _ = A + 1 end',
        'for i = 1, 250 do local _ = B < C end',
        'for i = 1, 250 do local _ = math.floor(A) end',
        'loop(function() return -A end)',
        'coroutine.wrap(function() for i = 1, 250 do local _ = A * 2 end end)()',
        'coroutine.resume(co)',
        "local f = require('fiber').new(loop, function() return A % 7 end) f:set_joinable(true) f:join()",
    ])
    def test_others_are_answered_meanwhile(self, addresses, statement):
        _, admin, _ = addresses
        bystander, client = Client(admin), Client(admin)
        for made in self.MADE:
            assert b'---\n...\n' == client.reply(made)
        client.send(statement + '\n')
        for number in range(20):
            assert number == bystander.value(f'{number}')
        client.send(b'\x03')
        assert 'cancelled' in client.document().decode()
        client.reset()
        bystander.close()

    @pytest.mark.parametrize('call', ['math.max(unpack(t))', 'math.min(unpack(t))', 'string.char(unpack(t))'])
    def test_many_numbers_in_long_texts_are_refused(self, addresses, call):
        client = Client(addresses[1])
        error = client.error(f"local t = {{}} for i = 1, 40 do t[i] = (' '):rep(2e7) .. '1' end return {call}")
        assert 'bad argument #1' in error
        client.close()


class TestWhatIsATurn:
    """Work besides statements that a client causes is charged to its account, too."""

    @pytest.fixture
    def charged(self, monkeypatch):
        """Records for each call of some methods whether it ran inside a turn: {name: [is in a turn, ...]}."""
        found = {}

        def note(owner, name, turns_of):
            original = getattr(owner, name)

            def noted(self, *arguments, **named):
                found.setdefault(name, []).append(turns_of(self).is_running)
                return original(self, *arguments, **named)
            monkeypatch.setattr(owner, name, noted)
        note(ConsoleConnection, 'read', lambda connection: connection._dispatcher.turns)
        note(BinaryConnection, 'read', lambda connection: connection._dispatcher.turns)
        note(Admission, 'accept', lambda admission: admission._registry._common.dispatcher.turns)
        return found

    def test_text(self, charged, console, connect):
        client = connect(console())
        client.send('require("fiber").sleep(1000)\n')
        for _ in range(5):
            client.send(b'\xff\xf6')
            client.read_until(b'here]')
        client.send(b'\x03')
        assert 'cancelled' in client.document().decode()
        assert len(charged['read']) > 5 and all(charged['read'])
        assert [True] == charged['accept']

    def test_binary(self, charged, console, connect_binary):
        client = connect_binary(console(listen=[BINARY]))
        for _ in range(5):
            client.send(EVAL, {EXPRESSION: 'return 1', ARGUMENTS: []})
            client.receive()
        assert len(charged['read']) >= 5 and all(charged['read'])
        assert [True] == charged['accept']
