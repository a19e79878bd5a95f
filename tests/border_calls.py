"""Calls the functions that users reach with numbers at the borders of C's and Lua's types, from a seed. A process of its
own, since a crash would end the tests: prints what was called and the longest hold of the event loop, as JSON.

    python tests/border_calls.py [--seed N] [--calls N] [--only NAME]
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent), str(TESTS / 'support')]

import gevent  # noqa: E402
import yaml  # noqa: E402
from text_client import Client  # noqa: E402

from boxsession import Console  # noqa: E402

# Functions that by design end or block the caller, take long or much memory, write to the log, or replace things that other
# functions need.
LEFT_OUT = {'print', 'coroutine.yield', 'fiber.sleep', 'fiber.kill', 'fiber.cancel', 'fiber.join', 'setfenv', 'rawset',
            'setmetatable', 'collectgarbage', "require('digest').pbkdf2", "require('digest').pbkdf2_hex",
            "require('digest').urandom"}
LIBRARIES = ('_G', 'string', 'table', 'math', 'os', 'bit', 'coroutine', 'debug')
MODULES = ('json', 'yaml', 'uuid', 'clock', 'errno', 'uri', 'csv', 'utf8', 'digest', 'decimal', 'msgpack')
MORE = ('box.error.new', 'box.session.exists', 'box.session.peer', 'box.session.fd', 'box.session.name',
        "require('fiber').channel", "require('fiber').find", "require('fiber').info")

DRIVER = r"""
local borders = {0, 1, -1, 2, -2, 3, 255, 256, 2^31 - 1, 2^31, 2^31 + 1, -2^31, -2^31 - 1, -2^31 + 1, 2^32 - 1, 2^32,
                 2^32 + 1, -2^32 - 1, 2^53, -2^53, 2^63, -2^63, 2^64, 1e308, -1e308, 1/0, -1/0, 0/0, 0.5, -0.5, 1.5, -1.5,
                 7.999, 2^31 - 0.5, -2^31 - 0.5, 1e-308, -0}
local texts = {'', 'a', 'abc', 'a,b,c', '10', '-1', '0x7fffffff', '%d', '%s %5.3f %x %c', '%99.99f', '.', '%d+', '(.)(.)',
               '%Y-%m', '!*t', ('xy'):rep(500), '[1,2]', 'return 1', '%1%1', '%f[%w]%w'}
local function random_numbers(state)
    return function(count)
        state = state * 16807 % 2147483647
        return state % count + 1
    end
end
local makers = {
    function(random) return borders[random(#borders)] end,
    function(random) return texts[random(#texts)] end,
    function(random)
        local made = {}
        for index = 1, random(40) - 1 do made[index] = borders[random(#borders)] end
        if random(4) == 1 then
            for _, field in ipairs({'year', 'month', 'day', 'hour', 'min', 'sec'}) do
                made[field] = borders[random(#borders)]
            end
        end
        return made
    end,
    function() return nil end,
    function() return function(...) return ... end end,
}
function call_with_borders(name, first, seed, count)
    local found, func = pcall(loadstring('return ' .. name))
    if not found or type(func) ~= 'function' and type(func) ~= 'table' then return 0 end
    local random = random_numbers(seed)
    for _ = 1, count do
        local arguments, given = {}, random(5) - 1
        for index = 1, given do
            local kind = random(8)
            kind = index == 1 and kind > 2 and first or kind <= #makers and kind or 1
            arguments[index] = makers[kind](random)
        end
        last = {name, arguments}
        pcall(func, unpack(arguments, 1, given))
    end
    return count
end
function last_call()
    for index = 1, 5 do last[2][index] = tostring(last[2][index]):sub(1, 30) end
    return last[1] .. '(' .. table.concat(last[2], ', ') .. ')'
end
"""

NAMES = """local names = {}
for _, library in ipairs({%s}) do
    local found = library == '_G' and _G or _G[library] or require(library)
    for name, value in pairs(found) do
        if type(value) == 'function' and type(name) == 'string' then
            names[#names + 1] = library == '_G' and name or _G[library] and library .. '.' .. name
                or ("require('%%s').%%s"):format(library, name)
        end
    end
end
table.sort(names)
return names"""
# Type of the first argument of a function, or of all functions of a library, as DRIVER numbers types. Default: a number.
FIRST = {'string': 2, 'table': 3, 'unpack': 3, 'next': 3, 'pairs': 3, 'ipairs': 3, 'rawget': 3, 'tonumber': 2,
         'loadstring': 2, 'os.date': 2, 'os.time': 3}


class Holds:
    """The longest time for which the event loop was blocked since the last take()."""

    def __init__(self):
        self.longest = 0.0
        self._greenlet = gevent.spawn(self._run)

    def _run(self):
        before = time.monotonic()
        while True:
            gevent.sleep(0.001)
            now = time.monotonic()
            self.longest = max(self.longest, now - before)
            before = now

    def take(self):
        longest, self.longest = self.longest, 0.0
        return longest


def start():
    made = Console(listen=[{'address': '127.0.0.1:0'}, {'address': '127.0.0.1:0', 'user': 'guest'}], config={
        'limits': {'statement_seconds': 3, 'lua_memory_bytes': 64 << 20, 'drain_seconds': 0.1}})
    made.start()
    return made


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument('--seed', type=int, default=1)
    arguments.add_argument('--calls', type=int, default=200000)
    arguments.add_argument('--only', default='')
    chosen = arguments.parse_args()
    served = start()
    admin, guest = (Client(address) for address in served.addresses)
    for client in (admin, guest):
        client.send('\\set delimiter !\n')
        client.document()
        client.send(DRIVER + '!\n')
        reply = client.document()
        assert b'---\n...\n' == reply, reply
    admin.send(NAMES % ', '.join(f"'{name}'" for name in LIBRARIES + MODULES) + '!\n')
    names = yaml.safe_load(admin.document())[0]
    names = [name for name in [*names, *MORE] if name not in LEFT_OUT and chosen.only in name
             and name not in ('call_with_borders', 'last_call')]
    holds = Holds()
    called, functions, worst, stopped = 0, set(), [], []
    each = max(1, chosen.calls // len(names) // 2)
    for number, name in enumerate(names):
        for who, client in (('admin', admin), ('guest', guest)):
            print(f'{who}: {name}', file=sys.stderr, flush=True)        # after a crash the last line names the function
            first = FIRST.get(name, FIRST.get(name.partition('.')[0], 1))
            seed = chosen.seed * 1000003 + number * 2 + (who == 'guest') + 1
            client.send(f'return call_with_borders([[{name}]], {first}, {seed}, {each})!\n')
            reply = client.document()
            client.send('return last_call()!\n')
            last = client.document()[6:-5].decode(errors='replace')
            worst.append((round(holds.take() * 1000), who, name, last if b'error' in reply else ''))
            if b'error' in reply:
                stopped.append([who, name, reply.decode(errors='replace'), last])
            elif reply != b'---\n- 0\n...\n':
                called += each
                functions.add(name)
    assert b'---\n- 2\n...\n' == (admin.send('return 1 + 1!\n'), admin.document())[1]
    served.stop()
    worst.sort(reverse=True)
    print(json.dumps({'calls': called, 'functions': len(functions), 'worst': worst[:5], 'stopped': stopped}, indent=1))


if __name__ == '__main__':
    main()
