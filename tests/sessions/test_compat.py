"""docs/compat.rst lists what exists and what does not: both lists are right, and complete."""
from __future__ import annotations

import csv

import pytest
from conftest import PROJECT

TABLE = PROJECT / 'docs' / 'compat.rst'
STATES = {'same', 'different', 'not yet', 'ours'}
# Tables that hold our modules' names; every name in them has its row.
MODULES = ('box.session', 'box.error', 'box.schema.user', 'box.schema.role', 'box.schema.func',
           'console', 'fiber', 'log', 'clock', 'uuid', 'yaml', 'json', 'bit', 'errno', 'uri', 'strict', 'fun', 'csv',
           'utf8', 'digest', 'decimal', 'net.box', 'msgpack')
REQUIRED = ('console', 'fiber', 'log', 'clock', 'uuid', 'yaml', 'json', 'errno', 'uri', 'strict', 'fun', 'csv', 'utf8',
            'digest', 'decimal', 'msgpack')
# Names that PUC Lua 5.1 itself has.
LUA = {
    'string': 'byte char find format gmatch gsub len lower match rep reverse sub upper',
    'table': 'concat foreach foreachi getn insert maxn remove setn sort',
    'coroutine': 'create resume running status wrap yield',
    'os': 'clock date difftime time',
}


def rows():
    """(name, state, remark) of all tables; a backslash command's name as it is typed."""
    inside = False
    for line in TABLE.read_text().splitlines():
        if line.startswith('.. csv-table::'):
            inside = True
        elif inside and line.startswith('   ') and not line.startswith('   :') and line.strip():
            name, state, remark = (cell.strip() for cell in next(csv.reader([line], skipinitialspace=True)))
            yield name.replace('\\\\', '\\'), state, remark
        elif line and not line.startswith(' '):
            inside = False


ROWS = list(rows())


@pytest.fixture
def client(console, connect):
    client = connect(console(dialect='tarantool'))
    for name in REQUIRED:
        client.reply(f"{name} = require('{name}')")
    client.reply("net = {box = require('net.box')} conn = net.box.connect('127.0.0.1:1') "
                 "future = conn:eval('1', {}, {is_async = true})")
    return client


def test_each_row_is_whole():
    names = [name for name, _, _ in ROWS]
    assert len(names) > 100 and len(set(names)) == len(names)
    for name, state, remark in ROWS:
        assert state in STATES, name
        assert remark or state != 'different', f'{name}: why is it different?'


def test_what_is_told_is_true(client):
    for name, state, _ in ROWS:
        if name.startswith('\\'):
            if name in ('\\quit', '\\tail'):
                continue                # shown by tests of their own
            answer = str(client.values(name))
            is_there = 'Invalid command' not in answer and 'Unknown parameter' not in answer
        else:
            is_there = client.value(f'type({name.replace(":", ".")})') != 'nil'
        assert is_there == (state != 'not yet'), f'{name} is {state} in the table'


def test_nothing_is_left_out(client):
    told = {name for name, _, _ in ROWS}
    names = "local names = {} for name in pairs(%s) do names[#names + 1] = name end return table.concat(names, ' ')"
    for module in MODULES:
        found = client.value(names % ('getmetatable(box.error).__index' if module == 'box.error' else module))
        assert found
        assert not {f'{module}.{name}' for name in found.split()} - told
    for module, known in LUA.items():
        assert not {f'{module}.{name}' for name in client.value(names % module).split()} - told - {
            f'{module}.{name}' for name in known.split()}
    fields = client.value('box.info')
    assert not {f'box.info.{name}' for name in fields} - told


def test_backslash_commands_are_all_told(client):
    told = {name for name, _, _ in ROWS}
    for line in client.value('\\help')[0].splitlines():
        words = line.split()
        if words and words[0].startswith('\\'):
            name = ' '.join(words[:2]) if words[0] == '\\set' else words[0]
            assert name in told
