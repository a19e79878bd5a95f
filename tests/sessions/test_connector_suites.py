"""What the connectors' own suites expect, where no space is needed: tarantool-python, asynctnt, net.box, tarantool-driver.

Each test names the connector and the behaviour. What ours does not do as they expect is marked, with the reason.
"""
from __future__ import annotations

import asyncio
import contextlib
import datetime
import decimal
import json
import subprocess
import sys
import uuid
import warnings

import msgpack
import pytest
from conftest import Served, need

PASSWORD = 'eggs-and-milk'
INIT = """
json, fiber, uuid = require('json'), require('fiber'), require('uuid')
box.schema.user.create('shop', {password = 'eggs-and-milk'}) box.schema.user.grant('shop', 'execute', 'universe')
box.schema.user.create('open', {password = ''}) box.schema.user.grant('open', 'execute', 'universe')
box.schema.func.create('hello') box.schema.user.grant('guest', 'execute', 'function', 'hello')
function hello() return 'hello' end
function echo(...) return ... end
function slow(seconds) fiber.sleep(seconds) return 'slept' end
function fails() box.error{code = 0, reason = 'my reason'} end
function pushes(count, ...)
    for i = 1, count do box.session.push({i, 0}) fiber.yield() end
    return ...
end
X = {} X.X = X
function X.fn(x, y) return y or x end
"""



@pytest.fixture(scope='module')
def places(tmp_path_factory):
    """The addresses of a server: (port, path of a unix socket)."""
    folder = tmp_path_factory.mktemp('suites')
    (folder / 'init.lua').write_text(INIT)
    (folder / 'config.yml').write_text(f'init: {folder}/init.lua\nlimits: {{drain_seconds: 0.2}}\nlisten:\n'
                                       '- {address: "127.0.0.1:0", protocol: binary}\n'
                                       f'- {{address: "unix:{folder}/s", protocol: binary}}\n')
    served = Served(['-c', 'config.yml'], folder)
    served.log_line('listening: binary unix')
    yield int(served.log_line('listening: binary 127').rpartition(':')[2]), str(folder / 's')
    assert 0 == served.stop(), served.stderr
    assert 'Traceback' not in served.stderr


# tarantool-python -----------------------------------------------------------------------------------------------------

@pytest.fixture
def python(places):
    """A factory of connections: python(encoding=None, ...)."""
    tarantool = pytest.importorskip('tarantool')
    opened = []

    def connect(**options):
        options = {'user': 'shop', 'password': PASSWORD, 'socket_timeout': 10, 'reconnect_max_attempts': 1, **options}
        opened.append(tarantool.Connection('127.0.0.1', places[0], **options))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def fails_with(code, ask, *arguments):
    tarantool = pytest.importorskip('tarantool')
    with pytest.raises(tarantool.DatabaseError) as caught:
        ask(*arguments)
    assert code == caught.value.args[0]
    return caught.value.extra_info


class TestPython:
    def test_login_later(self, python):
        """tarantool-python: authenticate() on a guest's connection gives no data, and what follows is the user's."""
        connection = python(user=None, password=None)
        assert ['hello'] == list(connection.call('hello'))
        assert 42 == fails_with(42, connection.eval, 'return 1').errcode
        assert connection.authenticate('shop', PASSWORD).data is None
        assert ['shop'] == list(connection.eval('return box.session.user()'))

    def test_login_without_a_password(self, python):
        """tarantool-python: a user whose password is empty logs in with an empty one."""
        assert ['open'] == list(python(user='open', password='').eval('return box.session.user()'))

    @pytest.mark.parametrize('old', [False, True])
    def test_a_call_of_arrays(self, python, old):
        """tarantool-python: a table of arrays is one value for CALL, and rows for the old one."""
        connection = python(call_16=old)
        assert ([[1], [2, 3]] if old else [[[1], [2, 3]]]) == list(connection.call('json.decode', '[[1], [2, 3]]'))

    def test_an_old_call_of_a_map(self, python):
        """tarantool-python: the old CALL puts a map into a row, as it does with a number."""
        assert [[{'k': 1}]] == list(python(call_16=True).call('json.decode', '{"k": 1}'))

    @pytest.mark.parametrize('old', [False, True])
    def test_calls(self, python, old):
        """tarantool-python: an argument alone, in a list and in a tuple are one; the old CALL gives rows."""
        connection = python(call_16=old)

        def row(value):
            return [[value]] if old else [value]
        for arguments in ('[123, 234]', ['[123, 234]'], ('[123, 234]',)):
            assert [[123, 234]] == list(connection.call('json.decode', arguments))
        for arguments in ((), ('{[1, 2]: "world"}',)):
            assert 32 == fails_with(32, connection.call, 'json.decode', *arguments).errcode
        assert 33 == fails_with(33, connection.call, 'nosuch').errcode
        for name, kind in (('fiber.time', float), ('fiber.time64', int), ('uuid.str', str)):
            [value] = connection.call(name)
            assert kind is type(value[0] if old else value)
        assert row('x') == list(connection.call('echo', 'x'))
        assert [] == list(connection.call('echo'))

    def test_evals(self, python):
        """tarantool-python: eval gives each value that is returned, and nothing where none is."""
        connection = python()
        for arguments in ('[1, 2]', ['[1, 2]'], ('[1, 2]',)):
            assert [[1, 2]] == list(connection.eval('return json.decode(...)', arguments))
        assert [[1], [1]] == list(connection.eval('return json.decode("[1]"), json.decode("[1]")'))
        assert [] == list(connection.eval('json.decode("[1]")'))

    def test_ping(self, python):
        """tarantool-python: ping() tells a time, or Success."""
        assert python().ping() > 0
        assert 'Success' == python().ping(notime=True)

    def test_closing_twice(self, python):
        """tarantool-python: close() twice is close() once."""
        connection = python()
        for _ in range(2):
            connection.close()
            assert connection.is_closed()

    def test_a_unix_socket(self, places):
        """tarantool-python: a port that is a path is a unix socket."""
        tarantool = pytest.importorskip('tarantool')
        with contextlib.closing(tarantool.Connection(None, places[1], user='shop', password=PASSWORD)) as connection:
            assert [1] == list(connection.eval('return 1'))

    @pytest.mark.parametrize('encoding', ['utf-8', None])
    def test_the_error_of_text_that_is_no_lua(self, python, encoding):
        """tarantool-python: an error's extra_info is the map of 2.4: its kind, message, file, line, codes, and no more."""
        told = fails_with(32, python(encoding=encoding).eval, 'not a Lua code')
        message = "eval:1: unexpected symbol near 'not'"
        kind, message = ('LuajitError', message) if encoding else (b'LuajitError', message.encode())
        assert (kind, message, 0, 32, None, None) == (
            told.type, told.message, told.errno, told.errcode, told.fields, told.prev)
        assert type(kind) is type(told.file) and type(told.line) is int

    def test_the_error_of_a_missing_right(self, python):
        """tarantool-python: a denial has fields that name the right and the object."""
        told = fails_with(42, python(user=None, password=None).call, 'echo')
        assert ('AccessDeniedError', {'access_type': 'Execute', 'object_type': 'function', 'object_name': 'echo'}) == (
            told.type, told.fields)

    def test_encodings(self, python):
        """tarantool-python: text comes back as text, and with encoding=None as bytes; bytes are strings in Lua."""
        assert ['é', 'string'] == list(python().eval('return ..., type(...)', 'é'))
        assert ['é'.encode(), b'string'] == list(python(encoding=None).eval('return ..., type(...)', 'é'))
        assert [b'\xde\xad\xbe\xaf', 4] == list(python(encoding=None).eval('return ..., #...', b'\xde\xad\xbe\xaf'))
        assert ['string', 4] == list(python().eval('return type(...), #...', b'\xde\xad\xbe\xaf'))

    def test_packers_of_ones_own(self, python):
        """tarantool-python: packer_factory and unpacker_factory decide how values are packed."""
        def packer(_):
            return msgpack.Packer(default=lambda value: msgpack.ExtType(1, b'\x00\x1c'))
        assert [decimal.Decimal(1)] == list(python(packer_factory=packer).eval('return ...', (decimal.Decimal(9),)))
        connection = python(unpacker_factory=lambda _: msgpack.Unpacker(use_list=False, strict_map_key=False))
        assert (1, 2) == connection.eval('return {1, 2}')[0]

    @pytest.mark.parametrize('text', [
        '0', '-12.34', '0.33', '0.000000000000000000000000000000000010', '-0.1111111111111111', '1e33', '1.2345e33',
        '1.2345e4', '11111111111111111111111111111111111111', '-1234567891234567890.0987654321987654321'])
    def test_decimals(self, python, text):
        """tarantool-python and asynctnt: decimals of up to 38 digits, with exponents too, come back."""
        value = decimal.Decimal(text)
        assert [value] == list(python().eval('return ...', (value,)))

    def test_other_values(self, python):
        """tarantool-python: uuid, datetime with a zone and without, interval and error come back."""
        tarantool = pytest.importorskip('tarantool')
        values = [uuid.UUID('f6423bdf-b49e-4913-b361-0740c9702e4b'), uuid.UUID(int=0),
                  tarantool.Datetime(year=2022, month=8, day=31, hour=18, minute=7, sec=54, nsec=308543321),
                  tarantool.Datetime(year=1900, month=1, day=1, tzoffset=-180),
                  tarantool.Datetime(year=2022, month=8, day=31, tz='Europe/Moscow'),
                  tarantool.Interval(year=1, month=-2, day=3, nsec=5, adjust=tarantool.IntervalAdjust.LAST),
                  tarantool.BoxError(type='ClientError', file='eval', line=1, message='Unknown error', errno=0, errcode=0)]
        assert values == list(python().eval('return ...', *values))

    def test_pushes(self, python):
        """tarantool-python: on_push is called for each push, in order, before the answer, by call and eval alike."""
        connection = python()
        for ask, text in ((connection.call, 'pushes'), (connection.eval, 'return pushes(...)')):
            seen = []
            answer = ask(text, 3, [3, 0], on_push=lambda data, seen: seen.append(data), on_push_ctx=seen)
            assert ([[[1, 0]], [[2, 0]], [[3, 0]]], [[3, 0]]) == (seen, list(answer))

    def test_what_there_is_not(self, python):
        """tarantool-python: an unknown space is an error, by name and by number; SQL is an unknown request."""
        tarantool = pytest.importorskip('tarantool')
        with pytest.raises(tarantool.SchemaError):
            python().select('nosuch', 1)
        fails_with(36, python().select, 512, 1)
        fails_with(48, python().execute, 'SELECT 1')

    def test_the_protocol(self, python):
        """tarantool-python: a server of before 2.10 is not asked for its protocol, and whoever requires one is refused."""
        tarantool = pytest.importorskip('tarantool')
        connection = python()
        assert connection._protocol_version is None and not any(connection._features.values())
        with pytest.raises(tarantool.NetworkError, match='protocol version 3 is required'):
            python(required_protocol_version=3)

    def test_reconnecting(self, python):
        """tarantool-python: when the connection has ended, the next request reconnects and logs in."""
        tarantool = pytest.importorskip('tarantool')
        connection = python()
        with pytest.raises(tarantool.DatabaseError, match='killed'):
            connection.eval('box.session.kill(box.session.id())')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', tarantool.NetworkWarning)
            assert ['shop'] == list(connection.eval('return box.session.user()'))

    def test_a_pool(self, places):
        """tarantool-python: ConnectionPool asks box.info by CALL which server can be written to."""
        pytest.importorskip('tarantool')
        script = (f"import tarantool\npool = tarantool.ConnectionPool([{{'host': '127.0.0.1', 'port': {places[0]}}}],\n"
                  f"    user='shop', password='{PASSWORD}')\n"
                  "print(pool.eval('return 1', mode=tarantool.Mode.ANY)[0])\npool.close()\n")
        done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=30)
        assert '1\n' == done.stdout, done.stderr

    def test_a_mesh(self, places):
        """tarantool-python: MeshConnection calls and takes pushes as a connection does."""
        tarantool = pytest.importorskip('tarantool')
        seen = []
        with contextlib.closing(tarantool.MeshConnection('127.0.0.1', places[0], user='shop', password=PASSWORD)) as mesh:
            assert [7] == list(mesh.call('pushes', 2, 7, on_push=lambda data, seen: seen.append(data), on_push_ctx=seen))
        assert [[[1, 0]], [[2, 0]]] == seen


# asynctnt -------------------------------------------------------------------------------------------------------------

@pytest.fixture
def asynchronous(places):
    """Runs a coroutine function with a connection: asynchronous(function, **options)."""
    asynctnt = pytest.importorskip('asynctnt')

    def run(function, **options):
        async def main():
            connection = asynctnt.Connection(**{'host': '127.0.0.1', 'port': places[0], 'username': 'shop',
                                                'password': PASSWORD, 'reconnect_timeout': 0, **options})
            await connection.connect()
            try:
                return await function(connection)
            finally:
                await connection.disconnect()
        return asyncio.run(asyncio.wait_for(main(), 20))
    return run


COMPLEX = {'a': 1, 'b': 2.5, 'c': 'text', 'd': [1, 2, [3, None]], 'e': {'f': {'g': [{'h': True}]}}, 'big': 2 ** 64 - 1,
           'small': -2 ** 63, 'é': 'ю', 'none': None, 'false': False}


class TestAsynctnt:
    def test_connecting(self, asynchronous, places):
        """asynctnt: a connected one knows the version, with fetch_schema and without, on a unix socket too."""
        async def look(connection):
            assert connection.is_connected and connection.is_fully_connected and connection.version >= (2, 6)
            return list((await connection.eval('return box.session.user()')).body)
        for options in ({}, {'fetch_schema': False, 'auto_refetch_schema': False}, {'host': 'unix/', 'port': places[1]},
                        {'initial_read_buffer_size': 1}, {'encoding': 'cp1251'}):
            assert ['shop'] == asynchronous(look, **options)

    def test_box_info(self, asynchronous):
        """asynctnt: call('box.info') is how its suite sees that a connection works."""
        async def ask(connection):
            return (await connection.call('box.info')).body
        [info] = asynchronous(ask)
        assert 'version' in info

    def test_disconnecting(self, asynchronous):
        """asynctnt: ten times there and back; a request under way and a later one are told that it is not connected."""
        asynctnt = pytest.importorskip('asynctnt')

        async def ask(connection):
            for _ in range(10):
                await connection.disconnect()
                await connection.connect()
            under_way = asyncio.ensure_future(connection.call('slow', [5]))
            await connection.ping()
            await connection.disconnect()
            with pytest.raises(asynctnt.exceptions.TarantoolNotConnectedError):
                await under_way
            with pytest.raises(asynctnt.exceptions.TarantoolNotConnectedError):
                await connection.call('hello')
            await connection.connect()
            return list((await connection.call('hello')).body)
        assert ['hello'] == asynchronous(ask)

    def test_a_wrong_password(self, asynchronous):
        """asynctnt: a wrong password is a database error of code 47, not a lost connection."""
        asynctnt = pytest.importorskip('asynctnt')
        with pytest.raises(asynctnt.exceptions.TarantoolDatabaseError) as caught:
            asynchronous(None, username='nobody', password='wrong')
        assert 47 == caught.value.code

    def test_answers(self, asynchronous):
        """asynctnt: an answer has code 0 and its sync; a ping's has no body; an old CALL's values are rows."""
        async def ask(connection):
            answer, ping, old = await connection.call('hello'), await connection.ping(), await connection.call16('hello')
            assert answer.code == ping.code == 0 and 0 < answer.sync < ping.sync < old.sync
            return list(answer.body), ping.body, [list(row) for row in old.body]
        assert (['hello'], None, [['hello']]) == asynchronous(ask)

    @pytest.mark.parametrize('value', [COMPLEX, {'k': 'x' * 307200}, {str(n): [n] * 10 for n in range(5000)},
                                       {1: 1, 2: 2, 'hello': 3, -3: 5, 4.5: 6}],
                             ids=['complex', 'long', 'wide', 'numeric keys'])
    def test_values(self, asynchronous, value):
        """asynctnt: nested values, those longer than its buffers, and numeric keys come back, by call and eval."""
        async def ask(connection):
            return [(await answer).body[0] for answer in (
                connection.call('echo', [value]), connection.eval('return ...', [value]))]
        assert [value, value] == asynchronous(ask)
        assert [value, value] == asynchronous(ask, initial_read_buffer_size=1)

    def test_times(self, asynchronous):
        """asynctnt: datetimes with an offset, before 1970 and of the year 1004, come back."""
        values = [datetime.datetime.fromisoformat(text) for text in (
            '2000-01-01T02:17:43.230000-08:00', '1930-01-01T02:17:43-08:00', '1004-01-01T02:17:43.230000+04:00')]

        async def ask(connection):
            return list((await connection.eval('return ...', values)).body)
        assert values == asynchronous(ask)

    def test_a_timeout(self, asynchronous):
        """asynctnt: a request that takes too long is a timeout; its late response is ignored."""
        async def ask(connection):
            with pytest.raises(asyncio.TimeoutError):
                await connection.call('slow', [0.2], timeout=0.05)
            later = await asyncio.gather(connection.call('slow', [0.3]), *(connection.call('echo', [n]) for n in range(50)))
            return [answer.body[0] for answer in later]
        assert ['slept', *range(50)] == asynchronous(ask)

    def test_errors(self, asynchronous):
        """asynctnt: error 33 for an unknown function; code and reason of box.error{}; the frames of the error's trace."""
        asynctnt = pytest.importorskip('asynctnt')

        async def ask(connection):
            found = []
            for name in ('nosuch', 'fails'):
                with pytest.raises(asynctnt.exceptions.TarantoolDatabaseError) as caught:
                    await connection.call(name)
                [frame] = caught.value.error.trace
                found.append((caught.value.code, caught.value.message, frame.error_type, frame.message, frame.code))
            return found
        missing = "Procedure 'nosuch' is not defined"
        assert [(33, missing, 'ClientError', missing, 33),
                (0, 'my reason', 'ClientError', 'my reason', 0)] == asynchronous(ask)

    def test_a_custom_error(self, asynchronous):
        """asynctnt: an error with a type of the user's is a CustomError, with the type in custom_type."""
        asynctnt = pytest.importorskip('asynctnt')

        async def ask(connection):
            with pytest.raises(asynctnt.exceptions.TarantoolDatabaseError) as caught:
                await connection.eval("box.error(box.error.new{code = 5, reason = 'A', type = 'B'})")
            return caught.value.error.trace[0]
        frame = asynchronous(ask)
        assert ('CustomError', 'A', 5, {'custom_type': 'B'}) == (frame.error_type, frame.message, frame.code, frame.fields)

    def test_pushes(self, asynchronous):
        """asynctnt: pushes are iterated to the end, in parts, and by two iterators that share them; errors end them."""
        asynctnt = pytest.importorskip('asynctnt')

        async def drain(iterator, most=100):
            found = []
            async for entry in iterator:
                found.append(entry[0])
                if len(found) == most:
                    break
            return found

        async def ask(connection):
            whole = connection.call('pushes', [5, 'ret'], push_subscribe=True)
            iterator = asynctnt.PushIterator(whole)
            parts = await drain(iterator, 2), await drain(iterator)
            shared = connection.eval('for i = 1, 3 do box.session.push(i) end', push_subscribe=True)
            both = await asyncio.gather(*(drain(asynctnt.PushIterator(shared)) for _ in range(2)))
            failing = connection.eval("error('some')", push_subscribe=True)
            for waiting in (drain(asynctnt.PushIterator(failing)), failing):
                with pytest.raises(asynctnt.exceptions.TarantoolDatabaseError, match='some'):
                    await waiting
            return parts, list((await whole).body), sorted(sum(both, []))
        assert (([[1, 0], [2, 0]], [[3, 0], [4, 0], [5, 0]]), ['ret'], [1, 2, 3]) == asynchronous(ask)


# net.box --------------------------------------------------------------------------------------------------------------

@pytest.fixture
def net_box(places, tmp_path):
    """Runs Lua in a real Tarantool: `c` is a net.box connection, `uri` where to; gives what is returned, as data."""
    def run(text):
        (tmp_path / 'client.lua').write_text(f"""
            local net, fiber, json = require('net.box'), require('fiber'), require('json')
            local address = '127.0.0.1:{places[0]}'
            local uri = 'shop:{PASSWORD}@' .. address
            local c = net.connect(uri)
            local function told(...) local ok, err = pcall(...) return ok and 'no error' or tostring(err) end
            local ok, found = pcall(function() {text} end)
            print(json.encode(ok and found or {{tostring(found)}}))
            os.exit(0)""")
        done = subprocess.run(['tarantool', 'client.lua'], cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert 0 == done.returncode, done.stderr
        return json.loads(done.stdout)
    return run


@need('tarantool')
class TestNetBox:
    def test_evals(self, net_box):
        """net.box: eval gives what is returned, nil and nothing too; errors of Lua, of box and of syntax are told."""
        assert [4, [1, 2, 3], [{'k': 'v1'}, True, {'xx': 10}], 0, 1, 'eval:1: exception', 'Unknown error',
                "eval:1: unexpected symbol near '!'"] == net_box("""
            return {c:eval('return 2+2'), {c:eval('return ...', {1, 2, 3})}, {c:eval('return {k = "v1"}, true, {xx = 10}')},
                    select('#', c:eval('return')), select('#', c:eval('return nil')), told(c.eval, c, 'error("exception")'),
                    told(c.eval, c, 'box.error(0)'), told(c.eval, c, '!invalid expression')}""")

    def test_paths(self, net_box):
        """net.box: a function is found by its path through tables, and a method gets its table."""
        assert ['u', 'u', 'u', "Procedure 'X.nosuch' is not defined", 'attempt to call a table value'] == net_box("""
            return {c:call('X.fn', {'u'}), c:call('X.X.X.X.fn', {'u'}), c:call('X.X:fn', {'u'}),
                    told(c.call, c, 'X.nosuch'), told(c.call, c, 'X')}""")

    @pytest.mark.parametrize('path', ['X..fn', '.echo', 'X.fn.'])
    def test_paths_with_nothing_in_them(self, net_box, path):
        """net.box: a path with an empty word is a function that is not defined."""
        assert [f"Procedure '{path}' is not defined"] == net_box(f"return {{told(c.call, c, '{path}', {{'u'}})}}")

    def test_box_info(self, net_box):
        """net.box: a table that can be called is called."""
        assert ['table'] == net_box("return {type(c:call('box.info'))}")

    @pytest.mark.parametrize(('expression', 'rows'), [
        ('', []), ('nil', [[None]]), ('true, false', [[True], [False]]), ('1, "a"', [[1], ['a']]), ('{}', [[]]),
        ('{1, 2}', [[1, 2]]), ('{1, {2}, 3}', [[1, [2], 3]]), ('{1}, {2}', [[1], [2]]),
        ('{1, 2, {k = 1}}', [[1, 2, {'k': 1}]]), ('{{k = 1}, 2}', [[{'k': 1}, 2]]),
        ('{{1}}', [[1]]), ('{{1}, {2}}', [[1], [2]]), ('{{1}, 2, 3}', [[1], [2], [3]]), ('{{}}', [[]]),
        ('{k = 1}', [[{'k': 1}]]), ('setmetatable({1}, {__serialize = "map"})', [[{'1': 1}]])])
    def test_the_old_call(self, net_box, expression, rows):
        """net.box: call_16 makes rows: of each value, or of each array in the one table whose first item is an array."""
        assert rows == net_box(f"""
            c:eval([[function rows() return {expression} end]])
            local found = {{}}
            for i, row in ipairs(c:call_16('rows')) do found[i] = type(row) == 'cdata' and row:totable() or row end
            return setmetatable(found, {{__serialize = 'seq'}})""")

    def test_long_replies(self, net_box):
        """net.box: replies of 5,000, 50,000 and 5,000,000 bytes arrive whole."""
        assert [5000, 50000, 5000000] == net_box("""
            local found = {}
            for i, n in ipairs{5000, 50000, 5000000} do found[i] = #c:call('string.rep', {'a', n}) end
            return found""")

    def test_logins(self, net_box):
        """net.box: a wrong password, and a user without one, are an error of the connection's; an empty one is fine."""
        wrong = "Incorrect password supplied for user '{}'"
        assert ['error', wrong.format('netbox'), False, 'open', wrong.format('nobody')] == net_box("""
            local a, b = net.connect(address, {user = 'netbox', password = '123'}), net.connect('open:@' .. address)
            return {a.state, tostring(a.error), a:ping(), b:eval('return box.session.user()'),
                    tostring(net.connect('nobody@' .. address).error)}""")

    def test_timeouts(self, net_box):
        """net.box: a timeout ends the wait, not the connection; the late response is ignored."""
        assert ['Timeout exceeded', 'Timeout exceeded', 'slept', True, 'active'] == net_box("""
            return {told(c.call, c, 'slow', {0.1}, {timeout = 1e-9}),
                    told(c.eval, c, 'return slow(0.1)', {}, {timeout = 0.01}),
                    c:call('slow', {0.2}, {timeout = 5}), c:ping({timeout = 1}), c.state}""")

    def test_side_by_side(self, net_box):
        """net.box: 1,000 calls of as many fibers over one connection, of which some wait: each gets its own answer."""
        assert [1000] == net_box("""
            local right, fibers = 0, {}
            for i = 1, 1000 do
                fibers[i] = fiber.new(function()
                    if c:eval('if ... % 3 == 0 then fiber.sleep(0.001) end return ...', {i}) == i then right = right + 1 end
                end)
                fibers[i]:set_joinable(true)
            end
            for _, f in ipairs(fibers) do f:join() end
            return {right}""")

    def test_futures(self, net_box):
        """net.box: is_async gives a future: not ready, then ready; an error is told by it; a discarded one does no harm."""
        assert [False, [7], True, 'boom', True] == net_box("""
            local future = c:call('slow', {0.05}, {is_async = true})
            local ready = future:is_ready()
            future:wait_result(5)
            local failing = c:eval("error('boom', 0)", {}, {is_async = true})
            local _, err = failing:wait_result(5)
            local dropped = c:call('slow', {0.01}, {is_async = true})
            dropped:discard()
            return {ready, c:eval('return ...', {7}, {is_async = true}):wait_result(5), future:is_ready(), tostring(err),
                    c:ping()}
        """)

    def test_pushes(self, net_box):
        """net.box: pushes by a callback and by a future's pairs(), nil too, before an error, and to nobody."""
        assert [[[1, 0], [2, 0], [3, 0]], 5, [101, 102, 'done'], 6, 1, ['x', 'boom']] == net_box("""
            local seen, nils, failing = {}, {}, {}
            local got = c:call('pushes', {3, 5}, {on_push = table.insert, on_push_ctx = seen})
            local future = c:eval("for i = 101, 102 do box.session.push(i) fiber.yield() end return 'done'", {},
                                  {is_async = true})
            local paired = {}
            for _, message in future:pairs(5) do
                table.insert(paired, type(message) == 'table' and message[1] or message)
            end
            c:eval('box.session.push(box.NULL)', {},
                   {on_push = function(t, m) table.insert(t, m == nil) end, on_push_ctx = nils})
            local _, err = pcall(c.eval, c, "box.session.push('x') error('boom', 0)", {},
                                 {on_push = table.insert, on_push_ctx = failing})
            table.insert(failing, tostring(err))
            return {seen, got, paired, c:call('pushes', {4, 6}), #nils, failing}""")

    def test_pushes_side_by_side(self, net_box):
        """net.box: pushes of 100 calls at a time reach their own callbacks, in order."""
        assert [100] == net_box("""
            local right, fibers = 0, {}
            for i = 1, 100 do
                fibers[i] = fiber.new(function()
                    local seen = {}
                    local got = c:eval('for i = 1, 5 do box.session.push({..., i}) fiber.yield() end return ...', {i},
                                       {on_push = table.insert, on_push_ctx = seen})
                    local fine = got == i and #seen == 5
                    for k, v in ipairs(seen) do fine = fine and v[1] == i and v[2] == k end
                    right = right + (fine and 1 or 0)
                end)
                fibers[i]:set_joinable(true)
            end
            for _, f in ipairs(fibers) do f:join() end
            return {right}""")

    def test_a_push_that_cannot_be_made(self, net_box):
        """net.box: a push that fails returns nil and an error; the request continues."""
        assert [True, True, 3] == net_box("""
            local a, b, n = c:eval([[local t = setmetatable({100}, {__serialize = function() error('err in ser') end})
                local ok, err = box.session.push(t) return ok == nil, tostring(err):find('err in ser') ~= nil, 3]])
            return {a, b, n}""")

    def test_the_form_of_an_answer(self, net_box):
        """net.box: with `buffer` the body comes as msgpack, and can be read from it."""
        assert [{'48': [1, 'x', [2]]}] == net_box("""
            local buffer, msgpack = require('buffer').ibuf(), require('msgpack')
            c:eval('return ...', {1, 'x', {2}}, {buffer = buffer})
            local body = msgpack.decode_unchecked(buffer.rpos)
            return {{['48'] = body[48]}}""")

    def test_reconnecting(self, net_box):
        """net.box: on_disconnect triggers run when the server ends the connection, and reconnect_after reconnects."""
        assert [True, True, 1] == net_box("""
            c:close()
            local c = net.connect(uri, {reconnect_after = 0.01})
            local told_of = 0
            c:on_disconnect(function() told_of = told_of + 1 end)
            pcall(c.eval, c, 'box.session.kill(box.session.id())')
            while told_of == 0 do fiber.sleep(0.001) end
            return {c:wait_state('active', 5), c:ping(), told_of}""")

    def test_the_schema(self, net_box):
        """net.box: the schema is read, without a space of the user's; a space that is not there is nil."""
        assert [True, True, True] == net_box("return {c.space ~= nil, c.space.nosuch == nil, pcall(c.reload_schema, c)}")

    def test_closing_with_requests_under_way(self, net_box):
        """net.box: close() ends requests under way with an error, and the server ends the session."""
        assert ['Connection closed', True] == net_box("""
            local id = c:eval('return box.session.id()')
            local future = c:call('slow', {60}, {is_async = true})
            c:close()
            local _, err = future:wait_result(5)
            local other = net.connect(uri)
            while other:eval('return box.session.exists(...)', {id}) == 1 do fiber.sleep(0.01) end
            return {tostring(err), other:ping()}""")


# tarantool-driver -----------------------------------------------------------------------------------------------------

NODE = """
const Tarantool = require('tarantool-driver');
const port = Number(process.argv[2]), path = process.argv[3], password = process.argv[4];
const silent = {retryStrategy: null};
const told = (promise) => promise.then(() => 'no error', (error) => error.message);
(async () => {
    const found = {};
    const c = new Tarantool({host: '127.0.0.1', port, username: 'shop', password, lazyConnect: true});
    await c.connect();
    found.user = await c.eval('return box.session.user()');
    found.again = await told(c.connect());
    found.ping = await c.ping();
    found.values = await c.eval('return ...', 1, 'é', null, [1, [2]], {k: {l: []}}, 1.5, -5, 4294967296 * 16, true);
    found.call = await c.call('echo', 'x', 2);
    found.nothing = await c.eval('local x = 1');
    found.errors = [await told(c.call('nosuch')), await told(c.eval("error('boom', 0)")), await told(c.eval('x y'))];
    const id = 'f6423bdf-b49e-4913-b361-0740c9702e4b';
    found.extensions = await c.eval('return ..., tostring(...)', c.packUuid(id));
    const many = await Promise.all(Array.from({length: 2000}, (_, n) =>
        c.eval('if ... % 7 == 0 then fiber.yield() end return ...', n)));
    found.many = many.every((row, n) => row[0] === n);
    found.long = (await c.eval("return ('x'):rep(3000000)"))[0].length;
    const guest = new Tarantool({host: '127.0.0.1', port});
    found.guest = [await guest.call('hello'), await told(guest.eval('return 1'))];
    guest.disconnect();
    const local = new Tarantool({path, username: 'shop', password});
    found.path = await local.eval('return 1');
    local.disconnect();
    const wrong = new Tarantool({host: '127.0.0.1', port, username: 'userloser', password: 'test', lazyConnect: true,
                                 ...silent});
    wrong.on('error', () => {});
    found.wrong = await told(wrong.connect());
    wrong.disconnect();
    c.disconnect();
    found.over = await told(c.eval('return 1'));
    console.log(JSON.stringify(found));
    process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
"""


@need('npm')
@need('node')
def test_node(places, tmp_path):
    """tarantool-driver: lazyConnect, login, ping, values, pipelines, errors, guests, a unix socket, a wrong password.

    Its call() is the old one, which gives rows.
    """
    done = subprocess.run(['npm', 'install', '--silent', '--no-audit', '--no-fund', 'tarantool-driver@3'], cwd=tmp_path,
                          capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f'npm cannot install tarantool-driver: {done.stderr[-200:]}')
    (tmp_path / 'client.js').write_text(NODE)
    done = subprocess.run(['node', 'client.js', str(places[0]), places[1], PASSWORD], cwd=tmp_path, capture_output=True,
                          text=True, timeout=30)
    assert 0 == done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert 'connecting/connected' in found.pop('again') and found.pop('over')
    assert {'user': ['shop'], 'ping': True, 'call': [['x'], [2]], 'nothing': [], 'many': True, 'long': 3000000,
            'values': [1, 'é', None, [1, [2]], {'k': {'l': []}}, 1.5, -5, 68719476736, True],
            'errors': ["Procedure 'nosuch' is not defined", 'boom', "eval:1: '=' expected near 'y'"],
            'extensions': ['f6423bdf-b49e-4913-b361-0740c9702e4b'] * 2,
            'guest': [[['hello']], "Execute access to universe '' is denied for user 'guest'"], 'path': [1],
            'wrong': 'Connection is closed.'} == found
