"""yaml and json: the replies of a real Tarantool 2.6.0 to the same statements."""
from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

YAML = {
    'yaml.encode({1, 2})': "- '---\n\n  - 1\n\n  - 2\n\n  ...\n\n  '",
    'yaml.encode(print)': "- error: unsupported Lua type 'function'",
    'yaml.encode({print})': "- error: unsupported Lua type 'function'",
    'yaml.encode(box.NULL)': "- '--- null\n\n  ...\n\n  '",
    'yaml.encode()': "- error: 'Usage: encode(object, {tag_prefix = <string>, tag_handle = <string>})'",
    'yaml.decode("- 1\\n- [a, b]\\n- {c: d}")': "- [1, ['a', 'b'], {'c': 'd'}]",
    'yaml.decode("a: [")': "- error: 'did not find expected node content at document: 1, line: 2, column: 1\n\n"
                           "    while parsing a flow node at line: 2, column: 1\n\n    '",
    'yaml.decode("!!binary aGVsbG8=")': '- hello',
    'yaml.decode("!!str 1")': "- '1'",
    'yaml.decode("&a [1, *a]")': '- &0 [1, *0]',
    'yaml.decode("yes"), yaml.decode("no"), yaml.decode("on"), yaml.decode("True"), yaml.decode("~"), yaml.decode("NULL")':
        '- true\n- false\n- on\n- True\n- null\n- NULL',
    'yaml.decode("0x10"), yaml.decode("1e3"), yaml.decode("1_000"), yaml.decode(".5"), yaml.decode("inf"), '
    'yaml.decode(".inf"), yaml.decode("007")': '- 16\n- 1000\n- 1_000\n- 0.5\n- inf\n- .inf\n- 7',
    'yaml.decode(5)': '- 5',
    'yaml.decode({})': "- error: 'Usage: yaml.decode(document, [{tag_only = boolean}])'",
    'yaml.decode("a: 1\\nb: [1, 2]").b': '- [1, 2]',
    'select("#", yaml.decode("")), yaml.decode("--- 1\\n--- 2")': '- 0\n- 1\n- 2',
    'yaml.decode("\\t")': "- error: 'found character that cannot start any token at document: 0\n\n"
                          "    while scanning for the next token at line: 1, column: 1\n\n    '",
}
JSON = {
    'json.encode({1, 2, {a = 1}})': '- \'[1,2,{"a":1}]\'',
    'json.encode("a\\"b\\\\/\\n\\t\\0\\127")': "- '" + r'"a\"b\\\/\n\t\u0000\u007f"' + "'",
    'json.encode(1/0), json.encode(0/0), json.encode(1.5), json.encode(1e15), json.encode(1e100), json.encode(2^63)':
        "- 'inf'\n- 'nan'\n- '1.5'\n- '1000000000000000'\n- '1e+100'\n- '9223372036854775808'",
    'json.encode(nil), json.encode(box.NULL), json.encode({}), json.encode(setmetatable({}, {__serialize = "map"}))':
        "- 'null'\n- 'null'\n- '[]'\n- '{}'",
    'json.encode()': "- error: 'bad argument #1 to ''?'' (expected 1 or 2 arguments)'",
    'json.encode({print})': "- error: unsupported Lua type 'function'",
    'json.encode({[true] = 1})': '- error: table key must be a number or string',
    'local t = {} t.t = t return json.encode(t)': '- error: Too high nest level',
    'json.encode(setmetatable({1}, {__serialize = function() return "x" end}))': "- '\"x\"'",
    'json.encode(box.error.new({reason = "r"}))': "- '\"r\"'",
    'json.decode("[1, {\\"a\\": [true, null]}, {}]")': "- [1, {'a': [true, null]}, {}]",
    'json.decode("\\"\\\\u0041\\\\ud83d\\\\ude00\\\\n\\"")': '- "A\\U0001F600\\n"',
    'json.decode("1e3"), json.decode("true"), json.decode(5), json.decode("null") == json.NULL':
        '- 1000\n- true\n- 5\n- true',
    'json.decode("")': '- error: Expected value but found T_END on line 1 at character 1',
    'json.decode("x")': '- error: Expected value but found invalid token on line 1 at character 1',
    'json.decode("[1,")': '- error: Expected value but found T_END on line 1 at character 4',
    'json.decode("[1,]")': '- error: Expected value but found T_ARR_END on line 1 at character 4',
    'json.decode("[1] x")': '- error: Expected the end but found invalid token on line 1 at character 5',
    'json.decode("{1:2}")': '- error: Expected object key string but found T_INT on line 1 at character 2',
    'json.decode("{\\"a\\" 1}")': '- error: Expected colon but found T_INT on line 1 at character 6',
    'json.decode("[1 2]")': '- error: Expected comma or array end but found T_INT on line 1 at character 4',
    'json.decode("{\\"a\\":1,}")': '- error: Expected object key string but found T_OBJ_END on line 1 at character 8',
    'json.decode("01")': '- error: Expected value but found invalid token on line 1 at character 1',
    'json.decode()': "- error: 'bad argument #1 to ''?'' (expected 1 or 2 arguments)'",
}


@pytest.fixture
def client(console, connect):
    client = connect(console(dialect='tarantool', expose={'same': lambda value: value}))
    client.reply("yaml, json = require('yaml'), require('json')")
    return client


@pytest.mark.parametrize('statement', [*YAML, *JSON])
def test_as_tarantool_answers(client, statement):
    assert f'---\n{ {**YAML, **JSON}[statement] }\n...\n'.encode() == client.reply(statement)


VALUES = st.recursive(st.one_of(st.booleans(), st.integers(-2**53, 2**53), st.text(max_size=10), st.just(0.5)),
                      lambda inner: st.one_of(
                          st.lists(inner, min_size=1, max_size=4),
                          st.dictionaries(st.text(min_size=1, max_size=5), inner, min_size=1, max_size=4)),
                      max_leaves=8)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_what_is_encoded_is_decoded(value):
    from boxsession.lua.exposed import pack, unpack
    from boxsession.output import yaml as writer
    from boxsession.output.reader import read_documents
    from boxsession.output.tagged import tokens
    document = writer.document(tokens(pack(value)), as_list=True)
    answer = read_documents(document)
    assert answer[:1] == b'='
    assert isinstance(unpack(answer[1:])[0][0], type(value)) or isinstance(value, (str, float))


@pytest.mark.parametrize('text', ['a: b: c', '[', '{', '&', '*a', '!!binary x', '!!binary "===="', '"\\x"', '%',
                                  '- - -\n  -', '? [a]: b', '\\255\\254', '\\0', '[' * 500, '--- 1\n... x', '<<: {a: 1}'])
def test_no_text_breaks_the_reader(client, text):
    statement = 'pcall(yaml.decode, "%s")' % text.replace('"', '\\"').replace('\n', '\\n').replace('\\x', '\\\\x')
    assert client.reply(statement).endswith(b'\n...\n')
    assert 2 == client.value('1 + 1')


def test_json_text_goes_around(client):
    assert ['{"a":[1,"x\\"y"]}'] == client.values('json.encode(json.decode(\'{"a": [1, "x\\\\"y"]}\'))')
    assert [True] == client.values('#json.encode(same({1, 2, {a = "b"}})) > 5')
