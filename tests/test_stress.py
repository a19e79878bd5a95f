"""Random statements that would break lupa if its rules were not kept: sleeps in callbacks, coroutines, cancels, many
sessions."""
from __future__ import annotations

import random

import gevent
import pytest
from conftest import rounds
from text_client import Client
from waiting import wait_for

STATEMENTS_TO_RUN = rounds(3000, 100_000)
STATEMENTS = [
    ('{n} + 1', lambda n: n + 1),
    ('require("fiber").sleep(0.00{d}) return {n}', lambda n: n),
    ('local t = {{3, 1, 2}} table.sort(t, function(a, b) require("fiber").yield() return a < b end) return t[1] + {n}',
     lambda n: n + 1),
    ('(("abc"):gsub("%w", function(c) require("fiber").sleep(0.001) return c:upper() end)) .. {n}', lambda n: f'ABC{n}'),
    ('setmetatable({{}}, {{__index = function(_, k) require("fiber").yield() return k end}})[{n}]', lambda n: n),
    ('tostring(setmetatable({{}}, {{__tostring = function() require("fiber").yield() return "t{n}" end}}))',
     lambda n: f't{n}'),
    ('select(2, pcall(function() pcall(function() require("fiber").sleep(0.001) error("in") end) error({{{n}}}) end))[1]',
     lambda n: n),
    ('local f = coroutine.wrap(function() require("fiber").sleep(0.001) coroutine.yield({n}) end) return f()',
     lambda n: n),
    ('local s = 0 for i = 1, 30000 do s = s + 1 end return s + {n}', lambda n: n + 30000),
    ('collectgarbage() return {n}', lambda n: n),
    ('box.session.push({{{n}}}) return {n}', None),
    ('echo({{a = {{{n}}}}}).a[1]', lambda n: n),
    ('local t = {{}} for i = 1, 300 do t[i] = coroutine.create(print) end return {n}', lambda n: n),
    ('setmetatable({{}}, {{__serialize = function() require("fiber").sleep(0.001) return {n} end}})', lambda n: n),
    ('local ok, e = xpcall(function() require("fiber").yield() error("x") end, function(m) require("fiber").yield() '
     'return {n} end) return e', lambda n: n),
]


def echo(value):
    gevent.sleep(0.001)
    return value


@pytest.mark.slow
def test_random_work_in_many_sessions_gives_right_results(console):
    served = console(expose={'echo': echo}, limits={'slice_ms': 1})
    address = served.addresses[0]
    counts = {'statements': 0, 'cancels': 0, 'sessions': 0}

    def session(seed):
        rng = random.Random(seed)
        while counts['statements'] < STATEMENTS_TO_RUN:
            client = Client(address)
            counts['sessions'] += 1
            number = client.value('box.session.id()')
            for _ in range(rng.randrange(1, 60)):
                if rng.random() < 0.05:
                    client.send(rng.choice(['while true do pcall(function() while true do end end) end\n',
                                            'while true do pcall(require("fiber").sleep, 1) end\n',
                                            'while true do pcall(echo, 1) end\n',
                                            'coroutine.wrap(function() while true do end end)()\n']))
                    gevent.sleep(rng.random() * 0.01)
                    client.send(b'\x03')
                    assert b'cancelled' in client.document()
                    counts['cancels'] += 1
                elif rng.random() < 0.05:
                    assert number == client.value('box.session.id()')
                else:
                    template, expected = rng.choice(STATEMENTS)
                    value = rng.randrange(1000)
                    statement = template.format(n=value, d=rng.randrange(1, 5))
                    if expected is None:
                        client.send(statement + '\n')
                        assert b'%%TAG !push! tag:tarantool.io/push,2018\n---\n- %d\n...\n' % value == client.document()
                        assert b'---\n- %d\n...\n' % value == client.document()
                    else:
                        assert expected(value) == client.value(statement), statement
                counts['statements'] += 1
            rng.choice([client.close, client.reset, client.end])()
            client.close()

    greenlets = [gevent.spawn(session, seed) for seed in range(30)]
    gevent.joinall(greenlets, raise_error=True)
    assert counts['cancels'] > 10, counts
    wait_for(lambda: not served.sessions)
