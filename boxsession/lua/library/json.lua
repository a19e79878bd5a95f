-- The module json. Behaviour and messages: Tarantool 2.6.
-- Needs: library/extension, library/modules, wire/order, wire/serializer, wire/shape
local internal = ...
local raw = internal.raw
local NULL, shape, yaml_writer = internal.NULL, internal.shape, internal.yaml
local digits_of, exact = internal.extension.digits, internal.extension.exact
local byte, char, concat, error, find, floor, format, gsub, next, rawget, select, setmetatable, sub, tonumber, tostring,
    type = raw.byte, raw.char, raw.concat, raw.error, raw.find, raw.floor, raw.format, raw.gsub, raw.next, raw.rawget,
    raw.select, raw.setmetatable, raw.sub, raw.tonumber, raw.tostring, raw.type
local DEFAULTS, settings_of_call = internal.serializer_defaults, internal.settings_of_call

-- Encode --------------------------------------------------------------------------------------------------------------

local ESCAPES = {['"'] = '\\"', ['\\'] = '\\\\', ['/'] = '\\/', ['\b'] = '\\b', ['\f'] = '\\f', ['\n'] = '\\n',
                 ['\r'] = '\\r', ['\t'] = '\\t', ['\127'] = '\\u007f'}
for code = 0, 31 do
    ESCAPES[char(code)] = ESCAPES[char(code)] or format('\\u%04x', code)
end

-- Appends a string to `out`, and `behind` after it. Works in steps, since gsub cannot be interrupted.
local ESCAPE_STEP = 2^14
local function put_string(out, text, behind)
    if #text <= ESCAPE_STEP then
        out[#out + 1] = '"' .. gsub(text, '[%z\1-\31"\\/\127]', ESCAPES) .. behind
        return
    end
    out[#out + 1] = '"'
    for from = 1, #text, ESCAPE_STEP do
        out[#out + 1] = gsub(sub(text, from, from + ESCAPE_STEP - 1), '[%z\1-\31"\\/\127]', ESCAPES)
        internal.look()
    end
    out[#out + 1] = behind
end

local function json_number(value, settings)
    if value ~= value or value == raw.huge or value == -raw.huge then
        if not settings.encode_invalid_numbers then
            return error('number must not be NaN or Inf', 0)
        end
        return value ~= value and 'nan' or value > 0 and 'inf' or '-inf'
    end
    return yaml_writer.number_with_digits(value, settings.encode_number_precision)
end

local encode_value

-- Encodes a value that JSON has no form for, as the settings say.
local function encode_other(out, value, depth, settings)
    if settings.encode_use_tostring then
        return encode_value(out, tostring(value), depth, settings)
    elseif settings.encode_invalid_as_nil then
        out[#out + 1] = 'null'
        return
    end
    return error("unsupported Lua type '" .. type(value) .. "'", 0)
end

local function encode_table(out, value, forced, depth, settings)
    if depth >= settings.encode_max_depth then
        if settings.encode_deep_as_nil then
            out[#out + 1] = 'null'
            return
        end
        return error('Too high nest level', 0)
    end
    local length
    if forced == 'list' then
        length = shape.list_length(settings, value, true)
    elseif forced ~= 'map' then
        length = shape.list_length(settings, value)
    end
    local first = true
    out[#out + 1] = length and '[' or '{'
    if length then
        for index = 1, length do
            if index > 1 then
                out[#out + 1] = ','
            end
            encode_value(out, rawget(value, index), depth + 1, settings)
        end
    else
        for key, item in internal.order.items(value) do
            if not first then
                out[#out + 1] = ','
            end
            first = false
            local kind = type(key)
            if kind == 'number' and key % 1 == 0 then
                key = json_number(key, settings)
            elseif kind == 'userdata' and digits_of(key) then
                key = digits_of(key)
            elseif kind ~= 'string' then
                return error((kind == 'number' or kind == 'boolean') and 'table key must be a number or string'
                             or "unsupported Lua type '" .. kind .. "'", 0)
            end
            put_string(out, key, '":')
            encode_value(out, item, depth + 1, settings)
        end
    end
    out[#out + 1] = length and ']' or '}'
end

function encode_value(out, value, depth, settings)
    local kind, forced = type(value), nil
    local digits = kind == 'userdata' and digits_of(value)
    if digits then
        out[#out + 1] = digits
        return
    end
    if (kind == 'table' or kind == 'userdata' and value ~= NULL) and settings.encode_load_metatables then
        value, forced = shape.resolve_object(value)
        kind = type(value)
    end
    if kind == 'table' then
        encode_table(out, value, forced, depth, settings)
    elseif kind == 'string' then
        put_string(out, value, '"')
    elseif kind == 'number' then
        out[#out + 1] = json_number(value, settings)
    elseif kind == 'boolean' then
        out[#out + 1] = value and 'true' or 'false'
    elseif value == nil or value == NULL then
        out[#out + 1] = 'null'
    else
        encode_other(out, value, depth, settings)
    end
end

-- Any value on one line, for the log.
function internal.json_text(value)
    local settings = settings_of_call(DEFAULTS, {encode_use_tostring = true, encode_deep_as_nil = true})
    local out = {}
    encode_value(out, value, 0, settings)
    return concat(out)
end

local function check_count(count)
    if count < 1 or count > 2 then
        return error("bad argument #1 to '?' (expected 1 or 2 arguments)", 0)
    end
end

-- Decode --------------------------------------------------------------------------------------------------------------

-- Tokens are (name, value, position); error messages contain these names.
local PUNCTUATION = {['['] = 'T_ARR_BEGIN', [']'] = 'T_ARR_END', ['{'] = 'T_OBJ_BEGIN', ['}'] = 'T_OBJ_END',
                     [','] = 'T_COMMA', [':'] = 'T_COLON'}
local UNESCAPES = {b = '\b', f = '\f', n = '\n', r = '\r', t = '\t', ['"'] = '"', ['\\'] = '\\', ['/'] = '/'}
local WORDS = {{'^true', 'T_BOOLEAN', true}, {'^false', 'T_BOOLEAN', false}, {'^null', 'T_NULL'}}

local function utf8(code)
    if code < 0x80 then
        return char(code)
    elseif code < 0x800 then
        return char(0xc0 + floor(code / 64), 0x80 + code % 64)
    elseif code < 0x10000 then
        return char(0xe0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
    end
    return char(0xf0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64, 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
end

-- find() cannot be interrupted, so a long text is searched in windows.
local WINDOW, FIRST_WINDOW = 2^16, 2^6

-- Position of the first byte of a class from `at` on.
local function find_first(text, class, at)
    if #text - at < WINDOW then
        return find(text, class, at)
    end
    local size = FIRST_WINDOW
    while at <= #text do
        local found = find(sub(text, at, at + size - 1), class)
        if found then
            return at + found - 1
        end
        at, size = at + size, size < WINDOW and size * 4 or WINDOW
    end
end

-- Line and column of a byte of the text, both counted from 1.
local function place(text, at)
    local line, column = 1, at
    for from = 1, at - 1, WINDOW do
        local window = sub(text, from, from + WINDOW < at and from + WINDOW - 1 or at - 1)
        local _, count = gsub(window, '\n', '')
        line = line + count
        if count > 0 then
            column = at - from + 1 - find(window, '\n[^\n]*$')
        end
        internal.look()
    end
    return line, column
end

local function complain(text, expected, found, at)
    local line, column = place(text, at)
    return error(format('Expected %s but found %s on line %d at character %d', expected, found, line, column), 0)
end

local PIECES = 4096
local function read_string(text, at)
    local pieces, from, joined = {}, at + 1, nil
    local position = from
    while true do
        local stop = find_first(text, '["\\%z]', position)
        local mark = stop and sub(text, stop, stop)
        if not stop or mark == '\0' then
            return nil, 'unexpected end of string', stop or #text + 1
        end
        pieces[#pieces + 1] = sub(text, from, stop - 1)
        if #pieces > PIECES then
            joined = joined or {}
            joined[#joined + 1], pieces = concat(pieces), {}
        end
        if mark == '"' then
            local last = concat(pieces)
            return joined and concat(joined) .. last or last, stop + 1
        end
        local escape = sub(text, stop + 1, stop + 1)
        if UNESCAPES[escape] then
            pieces[#pieces + 1] = UNESCAPES[escape]
            from = stop + 2
        elseif escape == 'u' then
            local code = tonumber(raw.match(text, '^%x%x%x%x', stop + 2) or '', 16)
            if not code then
                return nil, 'invalid unicode escape code', stop
            end
            from = stop + 6
            if code >= 0xd800 and code <= 0xdfff then
                local low = tonumber(raw.match(text, '^\\u(%x%x%x%x)', from) or '', 16)
                if code >= 0xdc00 or not low or low < 0xdc00 or low > 0xdfff then
                    return nil, 'invalid unicode escape code', stop
                end
                code, from = 0x10000 + (code - 0xd800) * 1024 + low - 0xdc00, from + 6
            end
            pieces[#pieces + 1] = utf8(code)
        else
            return nil, 'invalid escape code', stop
        end
        position = from
    end
end

-- Longest text of a number, and the length up to which most are.
local NUMBER_MAX, SHORT_NUMBER = 4096, 32

-- The number that begins at `at`: the token's name, the number, and the position after it; or nil.
local function read_number(text, at)
    local part = sub(text, at, at + SHORT_NUMBER)
    if not find(part, '[^-+.%deE]') then
        part = sub(text, at, at + NUMBER_MAX)
    end
    local _, stop = find(part, '^-?%d+%.?%d*')
    if not stop or find(part, '^-?0[%dxX]') then
        return nil
    end
    local _, exponent = find(part, '^[eE][+-]?%d+', stop + 1)
    stop = exponent or stop
    if stop > NUMBER_MAX then
        return nil
    end
    local digits = sub(part, 1, stop)
    local number = tonumber(digits)
    if find(digits, '[.eE]') then
        return 'T_NUMBER', number, at + stop
    end
    return 'T_INT', number == 0 and 0 or exact(digits, number), at + stop       -- -0 is the integer 0
end

-- Infinity and nan, as json.encode() writes them.
local INVALID_NUMBERS = {inf = raw.huge, ['-inf'] = -raw.huge, nan = tonumber('nan'), ['-nan'] = tonumber('nan')}

-- The first token from `at` on: its name, value, position, and the position after it. A zero byte ends the text.
local function next_token(text, at, settings)
    at = find_first(text, '[^ \t\r\n]', at) or #text + 1
    local mark = sub(text, at, at)
    if mark == '' or mark == '\0' then
        return 'T_END', nil, at, at
    elseif PUNCTUATION[mark] then
        return PUNCTUATION[mark], nil, at, at + 1
    elseif mark == '"' then
        local value, stop, problem_at = read_string(text, at)
        if value then
            return 'T_STRING', value, at, stop
        end
        return stop, nil, problem_at, problem_at
    end
    for index = 1, #WORDS do
        local _, stop = find(text, WORDS[index][1], at)
        if stop then
            return WORDS[index][2], WORDS[index][3], at, stop + 1
        end
    end
    local name, number, stop = read_number(text, at)
    if name then
        return name, number, at, stop
    end
    local word = settings.decode_invalid_numbers and raw.match(text, '^-?%l%l%l', at)
    if word and INVALID_NUMBERS[word] then
        return 'T_NUMBER', INVALID_NUMBERS[word], at, at + #word
    end
    return 'invalid token', nil, at, at
end

local VALUES = {T_STRING = true, T_INT = true, T_NUMBER = true, T_BOOLEAN = true}

-- The value that begins with a token, and the position after it.
local function decode_value(text, depth, settings, name, value, at, stop)
    if VALUES[name] then
        return value, stop
    elseif name == 'T_NULL' then
        return NULL, stop
    elseif name ~= 'T_ARR_BEGIN' and name ~= 'T_OBJ_BEGIN' then
        return complain(text, 'value', name, at)
    end
    if depth >= settings.decode_max_depth then
        local line, column = place(text, at)
        return error(format('Found too many nested data structures (%d) on line %d at character %d', depth + 1, line,
                            column), 0)
    end
    local is_list = name == 'T_ARR_BEGIN'
    local made, count = {}, 0
    local meta = settings.decode_save_metatables and (is_list and internal.array_mt or internal.map_mt) or nil
    local closing = is_list and 'T_ARR_END' or 'T_OBJ_END'
    local position = stop
    name, value, at, stop = next_token(text, position, settings)
    if name == closing then
        return setmetatable(made, meta), stop
    end
    while true do
        local key = count + 1
        if not is_list then
            if name ~= 'T_STRING' then
                return complain(text, 'object key string', name, at)
            end
            key = value
            name, value, at, stop = next_token(text, stop, settings)
            if name ~= 'T_COLON' then
                return complain(text, 'colon', name, at)
            end
            name, value, at, stop = next_token(text, stop, settings)
        end
        local item
        item, position = decode_value(text, depth + 1, settings, name, value, at, stop)
        made[key] = item
        count = count + 1
        name, value, at, stop = next_token(text, position, settings)
        if name == closing then
            return setmetatable(made, meta), stop
        elseif name ~= 'T_COMMA' then
            return complain(text, is_list and 'comma or array end' or 'comma or object end', name, at)
        end
        name, value, at, stop = next_token(text, stop, settings)
    end
end

internal.serializer('json', function(json, settings)
    json.null = NULL

    function json.encode(...)
        check_count(select('#', ...))
        local value, options = ...
        local out = {}
        encode_value(out, value, 0, settings_of_call(settings, options))
        return concat(out)
    end

    function json.decode(...)
        check_count(select('#', ...))
        local text, options = ...
        if type(text) == 'number' then
            text = text .. ''
        end
        if type(text) ~= 'string' then
            return error("bad argument #1 to '?' (string expected, got " .. type(text) .. ')', 0)
        end
        if find(text, '^.?%z.') or find(text, '^.%z') then
            return error('JSON parser does not support UTF-16 or UTF-32', 0)
        end
        local in_force = settings_of_call(settings, options)
        local value, position = decode_value(text, 0, in_force, next_token(text, 1, in_force))
        local name, _, at = next_token(text, position, in_force)
        if name ~= 'T_END' then
            return complain(text, 'the end', name, at)
        end
        return value
    end
end)
