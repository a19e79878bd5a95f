"""Existing connectors with the binary listener: the examples of docs/binary.rst run."""
from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys

import pytest
from conftest import PROJECT, need

DOC = PROJECT / 'docs' / 'binary.rst'

INIT = """
box.schema.user.create('shop', {password = 'eggs-and-milk'})
box.schema.user.grant('shop', 'execute', 'universe')
stock = {eggs = 12}
function count(name) return stock[name] end
function add(name, n) stock[name] = (stock[name] or 0) + n return stock[name] end
"""


@pytest.fixture
def port(serve, tmp_path):
    (tmp_path / 'init.lua').write_text(INIT)
    (tmp_path / 'config.yml').write_text(f'init: {tmp_path}/init.lua\nlimits: {{drain_seconds: 0.2}}\n'
                                         'listen: ["127.0.0.1:0", {address: "127.0.0.1:0", protocol: binary}]\n')
    served = serve('-c', 'config.yml')
    served.addresses()
    return int(served.log_line('listening: binary ').rpartition(':')[2])


def example(language):
    """The example of docs/binary.rst in a language."""
    text = DOC.read_text()
    block = re.search(rf'\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)', text)[1]
    return '\n'.join(line[4:] for line in block.splitlines()) + '\n'


def run(command, **arguments):
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, **arguments)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize('number', [1, 2])
def test_python_examples(port, tmp_path, number):
    pytest.importorskip('tarantool' if number == 1 else 'asynctnt')
    blocks = re.findall(r'\.\. code-block:: python\n\n((?:    .*\n|\n)+)', DOC.read_text())
    text = '\n'.join(line[4:] for line in blocks[number - 1].splitlines())
    (tmp_path / 'example.py').write_text(text.replace('3301', str(port)))
    assert '12\n15\n' == run([sys.executable, 'example.py'], cwd=tmp_path)


@need('tarantool')
def test_net_box_example(port, tmp_path):
    (tmp_path / 'example.lua').write_text(example('lua').replace('3301', str(port)) + '\nos.exit(0)\n')
    assert '12\n15\n' == run(['tarantool', 'example.lua'], cwd=tmp_path)


@need('npm')
@need('node')
def test_node_example(port, tmp_path):
    done = subprocess.run(['npm', 'install', '--silent', '--no-audit', '--no-fund', 'tarantool-driver@3'], cwd=tmp_path,
                          capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f'npm cannot install tarantool-driver: {done.stderr[-200:]}')
    (tmp_path / 'example.js').write_text(example('javascript').replace('3301', str(port)))
    assert '12\n15\n' == run(['node', 'example.js'], cwd=tmp_path)


@need('tarantoolctl')
def test_tarantoolctl(port, tmp_path):
    text = run(['tarantoolctl', 'connect', f'shop:eggs-and-milk@127.0.0.1:{port}'],
               input='box.session.user(), count("eggs")\n', cwd=tmp_path)
    assert '- shop\n- 12\n' in text


NET_BOX = r"""
local net, json = require('net.box'), require('json')
local uri = 'shop:eggs-and-milk@127.0.0.1:' .. arg[1]
local found = {}
local c = net.connect(uri)
found.state, found.ping = c.state, c:ping()
found.call = {c:call('add', {'milk', 2}), (c:eval('return box.session.user(), ...', {5}))}
local future = c:eval("require('fiber').sleep(0.2) return box.session.sync() > 0", {}, {is_async = true})
found.ready_at_once, found.async = future:is_ready(), future:wait_result(5)
local pushed = {}
found.pushing = c:eval('for i = 1, 3 do box.session.push({i}) end return 4', {},
                       {on_push = table.insert, on_push_ctx = pushed})
found.pushed = pushed
found.failed = {pcall(c.eval, c, 'error("boom")')}
found.nosuch = {pcall(c.call, c, 'nosuch')}
found.timeout = {pcall(c.eval, c, "require('fiber').sleep(5)", {}, {timeout = 0.1})}
found.wrong = net.connect('shop:wrong@127.0.0.1:' .. arg[1]).error
local guest = net.connect('127.0.0.1:' .. arg[1])
found.guest = {pcall(guest.eval, guest, 'return 1')}
local uuid, decimal = require('uuid').new(), require('decimal').new('1.25')
local a, b, n = c:call('add_none', {uuid, decimal, 18446744073709551615ULL})
found.values = {a == uuid, b == decimal, n == 18446744073709551615ULL}
found.console = {pcall(function()
    local console = require('console')
    return c:eval('return require("console").eval("1 + 1")')
end)}
c:close()
for key, value in pairs(found) do if type(value) == 'table' then
    for index, item in pairs(value) do if type(item) == 'cdata' then value[index] = tostring(item) end end
elseif type(value) == 'cdata' then found[key] = tostring(value) end end
print(json.encode(found))
os.exit(0)
"""


@need('tarantool')
def test_net_box(port, tmp_path):
    script = tmp_path / 'client.lua'
    script.write_text(NET_BOX.replace("c:call('add_none',", "c:eval('return ...',"))
    found = json.loads(run(['tarantool', str(script), str(port)], cwd=tmp_path))
    assert ('active', True) == (found['state'], found['ping'])
    assert [2, 'shop'] == found['call']
    assert (False, [True]) == (found['ready_at_once'], found['async'])
    assert (4, [[1], [2], [3]]) == (found['pushing'], found['pushed'])
    assert [False, 'eval:1: boom'] == found['failed']
    assert [False, "Procedure 'nosuch' is not defined"] == found['nosuch']
    assert [False, 'Timeout exceeded'] == found['timeout']
    assert "Incorrect password supplied for user 'shop'" == found['wrong']
    assert [False, "Execute access to universe '' is denied for user 'guest'"] == found['guest']
    assert [True, True, True] == found['values']
    assert [True, '---\n- 2\n...\n'] == found['console']


def test_tarantool_python(port):
    tarantool = pytest.importorskip('tarantool')
    connection = tarantool.Connection('127.0.0.1', port, user='shop', password='eggs-and-milk', fetch_schema=True)
    try:
        assert [12] == list(connection.call('count', 'eggs'))
        assert [1, 'é', None, [1, 2], {'a': 1}] == list(connection.eval('return ...', 1, 'é', None, [1, 2], {'a': 1}))
        assert connection.ping() > 0
        pushed = []
        connection.call('box.session.push', 'x', on_push=lambda data, _: pushed.append(data), on_push_ctx=[])
        assert [['x']] == pushed
        with pytest.raises(tarantool.DatabaseError, match='boom') as caught:
            connection.eval("error('boom', 0)")
        assert 32 == caught.value.extra_info.errcode
        with pytest.raises(tarantool.DatabaseError, match="Procedure 'nosuch' is not defined"):
            connection.call('nosuch')
    finally:
        connection.close()
    with pytest.raises(tarantool.DatabaseError, match='Incorrect password supplied for user'):
        tarantool.Connection('127.0.0.1', port, user='shop', password='wrong')


def test_asynctnt(port):
    asynctnt = pytest.importorskip('asynctnt')

    async def ask():
        connection = asynctnt.Connection(host='127.0.0.1', port=port, username='shop', password='eggs-and-milk')
        await connection.connect()
        try:
            assert [12] == list((await connection.call('count', ['eggs'])).body)
            answers = await asyncio.gather(*(connection.eval(
                "require('fiber').sleep(0.001 * (... % 3)) return ...", [n]) for n in range(500)))
            assert [[n] for n in range(500)] == [list(answer.body) for answer in answers]
            with pytest.raises(asynctnt.exceptions.TarantoolDatabaseError, match='boom'):
                await connection.eval("error('boom', 0)")
            pushing = connection.call('box.session.push', ['x'], push_subscribe=True)
            assert ['x'] == [entry[0] async for entry in asynctnt.PushIterator(pushing)]
            assert [True] == list((await pushing).body)
        finally:
            await connection.disconnect()
    asyncio.run(asyncio.wait_for(ask(), 20))


def test_the_page_shows_each_client():
    text = DOC.read_text()
    for name in ('tarantool', 'asynctnt', 'net.box', 'tarantool-driver', 'tarantoolctl'):
        assert name in text
