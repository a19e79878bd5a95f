"""yaml and json: the replies of a real Tarantool 2.6.0 to the same statements."""
from __future__ import annotations

import pytest
from conftest import need, rounds
from hypothesis import HealthCheck, example, given, settings
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


# Each in a session of its own: settings are kept.
SETTINGS = {
    'yaml.cfg(1)': "- error: 'bad argument #2 to ''?'' (table expected, got number)'",
    'yaml.cfg()': "- error: 'bad argument #2 to ''?'' (table expected, got no value)'",
    'yaml.cfg{nosuch = 1} return yaml.cfg.nosuch': '- null',
    'json.cfg{encode_max_depth = 2} return pcall(json.encode, {{{{1}}}})': '- false\n- Too high nest level',
    'json.cfg{encode_max_depth = 2, encode_deep_as_nil = true} return json.encode({{{{1}}}})': "- '[[null]]'",
    'json.cfg{encode_number_precision = 5} return json.encode(3.141592653)': "- '3.1416'",
    'json.encode({{{1}}}, {encode_max_depth = 1, encode_deep_as_nil = true}), json.encode({{{1}}})':
        "- '[null]'\n- '[[[1]]]'",
    'json.encode({1}, 2)': '- error: attempt to index a number value',
    'json.decode("[[[1]]]", {decode_max_depth = 2})':
        '- error: Found too many nested data structures (3) on line 1 at character 3',
    'json.cfg{encode_use_tostring = true} return #json.encode(print) > 10': '- true',
    'json.cfg{encode_invalid_as_nil = true} return json.encode({print, 1})': "- '[null,1]'",
    'json.cfg{encode_invalid_numbers = false} return json.encode(1/0)': '- error: number must not be NaN or Inf',
    'json.encode(1/3, {encode_number_precision = -1}), json.encode(1/3, {encode_number_precision = 15})':
        "- '0.33333333333333'\n- '0.33333333333333'",
    'json.encode(1/3, {encode_number_precision = 2.7}), json.encode(1/3, {encode_number_precision = "x"})':
        "- '0.33'\n- '0.33333333333333'",
    'json.cfg{encode_number_precision = 0} return json.cfg.encode_number_precision, json.encode(1/3)':
        "- 0\n- '0.33333333333333'",
    'json.cfg.encode_max_depth = 1 return json.encode({{1}})': "- '[[1]]'",
    'pcall(json.encode, {{1}}, {encode_max_depth = "1"})': '- false\n- Too high nest level',
    'json.encode({[12] = 1}, {encode_sparse_ratio = "x"})':
        "- '[null,null,null,null,null,null,null,null,null,null,null,1]'",
    'json.encode({[12] = 1}, {encode_sparse_safe = -1})': "- '[null,null,null,null,null,null,null,null,null,null,null,1]'",
    'json.encode({[12] = 1}, {encode_sparse_safe = 2^40})': "- '{\"12\":1}'",
    'json.decode("nan", {decode_invalid_numbers = false})':
        '- error: Expected value but found invalid token on line 1 at character 1',
    'json.encode({[100] = 1}, {encode_sparse_convert = false})': '- error: excessively sparse array',
    'json.encode({[12] = 1}, {encode_sparse_safe = 20})':
        "- '[null,null,null,null,null,null,null,null,null,null,null,1]'",
    'json.encode({[12] = 1}, {encode_sparse_ratio = 0})':
        "- '[null,null,null,null,null,null,null,null,null,null,null,1]'",
    "json.encode(setmetatable({1}, {__serialize = 'map'}), {encode_load_metatables = false})": "- '[1]'",
    'getmetatable(json.decode("[1]", {decode_save_metatables = false}))': '- null',
    'j = json.new() j.cfg{encode_max_depth = 1} return pcall(j.encode, {{1}}), json.encode({{1}})': "- false\n- '[[1]]'",
    'json.null == json.NULL, json.array_mt == yaml.array_mt': '- true\n- true',
    'a = json.decode("{}") a[1] = 1 return a': '- - 1',
    'a = json.decode("[1]") a.x = 1 return a.x, getmetatable(a)': '- 1\n- null',
    'yaml.cfg{encode_number_precision = 5} return yaml.encode(3.14159265)': "- '--- 3.1416\n\n  ...\n\n  '",
    'yaml.cfg{encode_invalid_numbers = false} return yaml.encode({0/0})': '- error: number must not be NaN or Inf',
    'yaml.cfg{encode_use_tostring = true} return #yaml.encode({print}) > 10': '- true',
    'yaml.cfg{encode_invalid_as_nil = true} return yaml.encode({print, 1})': "- '---\n\n  - null\n\n  - 1\n\n  ...\n\n  '",
    'yaml.cfg{encode_sparse_convert = false} return yaml.encode({[100] = 1})': '- error: excessively sparse array',
    "yaml.cfg{encode_load_metatables = false} return yaml.encode(setmetatable({1}, {__serialize = 'map'}))":
        "- '---\n\n  - 1\n\n  ...\n\n  '",
    "yaml.cfg{decode_invalid_numbers = false} return yaml.decode('nan')": '- error: number must not be NaN or Inf',
    "yaml.encode(1, {tag_prefix = 'tag:x.io,2018:push', tag_handle = '!push!'})":
        "- '%TAG !push! tag:x.io,2018:push\n\n  --- 1\n\n  ...\n\n  '",
    "yaml.encode(1, {tag_prefix = 'x'})":
        "- error: 'Usage: encode(object, {tag_prefix = <string>, tag_handle = <string>})'",
    "yaml.encode(1, {tag_prefix = 'tag:x.io,2018', tag_handle = 'a'})": "- null\n- tag handle must start with '!'",
    "yaml.decode('%TAG !push! tag:x\\n--- 1\\n...\\n', {tag_only = true})": "- '!push!'\n- tag:x",
    "yaml.decode('--- 1', {tag_only = true})": '- null',
    "yaml.decode('--- 1', {tag_only = false})": '- 1',
    "yaml.decode('--- 1', 1)": "- error: 'Usage: yaml.decode(document, [{tag_only = boolean}])'",
    "yaml.decode('%TAG !a! tag:x\\n%TAG !b! tag:y\\n--- 1\\n...\\n', {tag_only = true})":
        '- null\n- can not decode multiple tags',
}


# Results of decode(), as `type:value` (see SHOWN). None: an error.
DECODED_YAML = {
    '': '', '- ': '{1=string:}', '{a: , b: 1}': '{a=string:, b=number:1}', 'a:': '{a=string:}', '? ': '{=string:}',
    '---\n---\n': 'string: string:', "''": 'string:', '~': 'NULL', 'null': 'NULL', 'Null': 'string:Null', '! ""': 'string:',
    '! null': 'NULL', '!foo 5': 'number:5', '!foo null': 'NULL', '!foo "5"': 'string:5', '!!null ""': 'string:',
    '!!null 5': 'number:5', '!!int "5"': 'number:5', '!!int 5.7': 'number:5', '!!int 0x1F': 'number:0',
    '!!int a': 'number:0',
    '!!int "-12abc"': 'number:-12', '!!int': 'number:0', '!!float "1.5"': 'number:1.5', '!!float "1.5x"': 'number:1.5',
    '!!float x': 'number:0', '!!float inf': 'number:inf', '!!float 0x10': 'number:16', '!!bool "true"': 'boolean:true',
    '!!bool yes': 'boolean:true', '!!bool no': 'boolean:false', '!!bool TRUE': 'boolean:false', '!!str 5': 'string:5',
    '!!str null': 'string:null', '!!str': 'string:', '!!binary aGk=': 'string:hi', '!!binary "aGk"': 'string:hi',
    '!!binary "a"': 'string:', '!!set {a, b}': '{a=string:, b=string:}', '!<tag:yaml.org,2002:int> "7"': 'number:7',
    '%TAG !y! tag:yaml.org,2002:\n---\n!y!int "8"': 'number:8', '!!seq 5': 'number:5', '0b11': 'string:0b11',
    '0x1p4': 'number:16', '0x.8': 'number:0.5', '-0x10': 'number:-16', '0x': 'string:0x', '-0': 'number:0',
    '1_000': 'string:1_000', '{nan: 1}': None, '9007199254740993': 'number:9007199254740993',
    '+9007199254740993': 'number:9007199254740993', '000009007199254740993': 'number:9007199254740993',
    '-9223372036854775808': 'number:-9223372036854775808', '18446744073709551615': 'number:18446744073709551615',
    '9007199254740993.0': 'number:9007199254740992',
}
DECODED_JSON = {
    '+1': None, '[+1]': None, '01': None, '-01': None, '0x10': None, '-0x10': None, '1e': None, '1.e': None, '.5': None,
    '5.': 'number:5', '1.e3': 'number:1000', '-0': 'number:0', 'inf': 'number:inf', '-inf': 'number:-inf',
    'nan': 'number:nan', 'Inf': None, 'NaN': None, 'Infinity': None, '+inf': None, '-NaN': None, '1e400': 'number:inf',
    '[1]\0': '{1=number:1}',
    '[1]\0x': '{1=number:1}', '\0': None, '1\0': None, '[1\0]': None, '"a\0b"': None, '"a\tb"': 'string:a\tb',
    '"a\nb"': 'string:a\nb', '"\x01\x1f"': 'string:\x01\x1f', '{"\t": 1}': '{\t=number:1}', r'"\ude00"': None,
    r'"\udfff\ud83d"': None, r'"\ud83d"': None, r'"\ud83d\ud83d"': None, r'"\ud83d\ude00"': 'string:\U0001f600',
    '9007199254740993': 'number:9007199254740993', '-9007199254740993': 'number:-9007199254740993',
    '[9223372036854775808]': '{1=number:9223372036854775808}', '-9223372036854775808': 'number:-9223372036854775808',
    '{"a": 18446744073709551615}': '{a=number:18446744073709551615}', '9007199254740993.0': 'number:9007199254740992',
    '9007199254740992': 'number:9007199254740992',
}
SHOWN = """
    function shown(value)
        if value == box.NULL then return 'NULL' end
        if type(value) == 'table' then
            local items = {}
            for key, item in pairs(value) do items[#items + 1] = tostring(key) .. '=' .. shown(item) end
            table.sort(items)
            return '{' .. table.concat(items, ', ') .. '}'
        end
        local text = tostring(value):gsub('U?LL$', '')
        if type(value) == 'number' and math.abs(value) ~= math.huge and value % 1 == 0 then
            text = ('%.0f'):format(value)
        end
        return (type(value) == 'cdata' and 'number' or type(value)) .. ':' .. text
    end
    function decoded(func, text)
        local values = {pcall(func, text)}
        for index = 1, #values do values[index] = shown(values[index]) end
        return table.concat(values, ' ')
    end
"""


@pytest.fixture
def client(console, connect):
    client = connect(console(dialect='tarantool', expose={'same': lambda value: value}))
    client.reply("yaml, json = require('yaml'), require('json')")
    return client


@pytest.mark.parametrize('statement', [*YAML, *JSON, *SETTINGS])
def test_as_tarantool_answers(client, statement):
    assert f'---\n{ {**YAML, **JSON, **SETTINGS}[statement] }\n...\n'.encode() == client.reply(statement)


def lua_text(text):
    return '"%s"' % ''.join(f'\\{byte:03}' for byte in text.encode())


def decoded(client, module, text):
    values = client.value(f'decoded({module}.decode, {lua_text(text)})')
    outcome, _, rest = values.partition(' ')
    return rest if outcome == 'boolean:true' else None


@pytest.mark.parametrize('target', [pytest.param('', id='ours'),
                                    pytest.param('real', id='Tarantool', marks=need('tarantool'))])
@pytest.mark.parametrize(('module', 'cases'), [('yaml', DECODED_YAML), ('json', DECODED_JSON)])
def test_decode(client, connect, request, module, cases, target):
    if target:
        client = connect(request.getfixturevalue('tarantool').address)
        client.reply("yaml, json = require('yaml'), require('json')")
    client.reply(' '.join(SHOWN.split()))
    assert cases == {text: decoded(client, module, text) for text in cases}


class TestIntegers:
    """Integers that a Lua number cannot hold."""

    @pytest.mark.parametrize('value', [2**53 + 1, -2**53 - 1, 2**60, 2**63 - 1, 2**63, -2**63, 2**64 - 1, 2**64, -2**63 - 1,
                                       10**40 + 7])
    def test_all_digits_survive(self, client, value):
        for module in ('json', 'yaml'):
            client.reply(f"n = {module}.decode('{value}')")
            assert [value, [value], {'a': value}] == client.values('n, {n}, {a = n}')
            assert [f'[{value}]', True, 'cdata'] == client.values(
                'json.encode{n}, n == yaml.decode(yaml.encode(n)), type(n)')
            assert [f'{{"{value}":1}}', True] == client.values(
                'json.encode{[n] = 1}, json.decode(json.encode(n)) == n')
            assert float(value) == pytest.approx(float(client.value('tonumber(n)')))

    def test_what_a_number_can_hold_is_one(self, client):
        assert ['number'] * 3 == client.values(
            "type(json.decode('9007199254740992')), type(yaml.decode('-9007199254740992')), type(json.decode('1e300'))")

    def test_hexadecimal(self, client):
        assert [2**53 + 1, 2**64 - 1] == client.values("yaml.decode('[0x20000000000001, 0xffffffffffffffff]')[1], "
                                                       "yaml.decode('0xffffffffffffffff')")

    def test_shown_as_tarantool_shows_it(self, client):
        client.reply("n = json.decode('9007199254740993')")
        assert ['9007199254740993LL', '18446744073709551615ULL'] == client.values(
            "tostring(n), tostring(json.decode('18446744073709551615'))")
        client.send('\\set output lua\n')
        client.read_until(b';')
        client.send('{n}, {a = n}\n')
        assert b'{9007199254740993}, {a = 9007199254740993};' == client.read_until(b';')


VALUES = st.recursive(st.one_of(st.booleans(), st.integers(-2**53, 2**53), st.text(max_size=10), st.just(0.5)),
                      lambda inner: st.one_of(
                          st.lists(inner, min_size=1, max_size=4),
                          st.dictionaries(st.text(min_size=1, max_size=5), inner, min_size=1, max_size=4)),
                      max_leaves=8)


@settings(max_examples=rounds(60, 500), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
@example(value={'\u06f0': 0.5})         # a digit, but not of a number
@example(value={'\u0131nf': 1})
def test_what_is_encoded_is_decoded(value):
    from boxsession.lua.functions import pack, unpack
    from boxsession.values import yaml as writer
    from boxsession.values.packed import tokens
    from boxsession.values.reader import read_documents
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


@pytest.mark.parametrize('length', [2**16, 2**16 + 1, 200000])
def test_long_text_to_json_and_back(client, length):
    client.reply(f"text = ('\\0\"a/'):rep({length} / 4)")
    assert [True, True] == client.values('json.decode(json.encode(text)) == text, #json.encode(text) == #text / 4 * 11 + 2')


def test_a_reply_of_many_pieces(client):
    client.reply('list = {} for i = 1, 9000 do list[i] = {i, "é", {k = i}} end')
    assert [[[i, 'é', {'k': i}] for i in range(1, 9001)]] == client.values('list')
    assert [[['é'] * 3000] * 2] == client.values(
        'setmetatable({}, {__serialize = function() local l = {} for i = 1, 3000 do l[i] = "é" end '
        'return {l, same(l)} end})')


def test_what_fails_in_the_middle_of_many_pieces(client):
    client.reply("bad = setmetatable({}, {__serialize = function() error('no', 0) end})")
    client.reply('list = {} for i = 1, 9000 do list[i] = i end list[9001] = bad')
    assert 'console: an exception occurred when formatting the output: no' == client.error('list')
    client.send('\\set output lua\n')
    assert b'true;' == client.read_until(b';')
    client.send('1, list, 2\n')
    assert b'1, {error = "console: exception while formatting output: \\"no\\""}, 2;' == client.read_until(b';')


def test_long_text_quoted(client):
    client.reply(r"""text = ('xxxxx"x\0x\1' .. '5\n'):rep(6000)""")
    assert [True] == client.values("loadstring('return ' .. string.format('%q', text))() == text")
    client.reply(r"text = ('x'):rep(2^16 - 1) .. '\1' .. '5'")
    assert [True] == client.values("loadstring('return ' .. string.format('%q', text))() == text")
