"""What trusted code reads and changes in one step stays one step: another session can have its turn between any two
instructions of it."""
from __future__ import annotations

import gevent

SESSIONS = 4


def at_once(console, connect, statement):
    """The value that each of several sessions gets for the same statement; each takes many slices."""
    running = console(limits={'slice_ms': 1, 'fibers': 0})
    clients = [connect(running) for _ in range(SESSIONS)]
    statement = ' '.join(statement.split())
    jobs = [gevent.spawn(client.value, statement.replace('NUMBER', str(number))) for number, client in enumerate(clients)]
    gevent.joinall(jobs, raise_error=True)
    values = [job.value for job in jobs]
    assert not any(isinstance(value, dict) for value in values), values
    return values


def test_fibers_of_several_sessions_have_different_ids(console, connect):
    made = at_once(console, connect, """
        local fiber, ids = require('fiber'), {}
        local function wait() fiber.sleep(1000) end
        for i = 1, 1500 do ids[i] = fiber.id(fiber.new(wait)) end
        return ids""")
    ids = [number for one in made for number in one]
    assert len(ids) == len(set(ids)) == 1500 * SESSIONS


def test_documents_of_several_sessions_are_not_mixed(console, connect):
    mixed = at_once(console, connect, """
        local eval, first, mixed = require('console').eval, nil, 0
        for i = 1, 20000 do
            local reply = eval('{NUMBER, {NUMBER, NUMBER}}')
            first = first or reply
            if reply ~= first then mixed = mixed + 1 end
        end
        return mixed""")
    assert mixed == [0] * SESSIONS
