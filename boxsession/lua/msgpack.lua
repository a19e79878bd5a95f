-- msgpack to values and back, for what most requests and results are made of: nil, booleans, numbers, strings, plain tables.
-- What is not told here (other types, long values, user-made metatables) is none of it: Python does that (packing.py).
local internal = ...
local raw = internal.raw
local NULL, list_length = internal.NULL, internal.yaml.list_length
local LIST_META, MAP_META = internal.array_mt, internal.map_mt
local byte, char, concat, floor, frexp, getmetatable, huge, ldexp, next, rawget, select, setmetatable, sub, type = raw.byte,
    raw.char, raw.concat, raw.floor, raw.frexp, raw.getmetatable, raw.huge, raw.ldexp, raw.next, raw.rawget, raw.select,
    raw.setmetatable, raw.sub, raw.type

local msgpack = {}
internal.msgpack = msgpack

local DEEPEST = 16
-- Above it a number no longer holds every whole one.
local EXACT_MAX = 2^53

-- Reading --------------------------------------------------------------------------------------------------------------

local decode

local function decode_list(data, at, count, depth)
    local list = {}
    for index = 1, count do
        list[index], at = decode(data, at, depth + 1)
        if not at then
            return nil, nil
        end
    end
    return setmetatable(list, LIST_META), at
end

local function decode_map(data, at, count, depth)
    local map = {}
    for _ = 1, count do
        local key
        key, at = decode(data, at, depth + 1)
        local kind = type(key)
        -- Python takes true for 1.
        if not at or kind ~= 'string' and kind ~= 'number' then
            return nil, nil
        end
        map[key], at = decode(data, at, depth + 1)
        if not at then
            return nil, nil
        end
    end
    return setmetatable(map, MAP_META), at
end

-- By the first byte: how many bytes make the number behind it; what is made of that.
local function with_number(size, make)
    return function(data, at, depth)
        local a, b, c, d = byte(data, at + 1, at + size)
        if size == 1 then
            b, c, d = 0, 0, 0
        elseif size == 2 then
            a, b, c, d = b, a, 0, 0
        else
            a, b, c, d = d, c, b, a
        end
        if not (a and b and c) then
            return nil, nil
        end
        return make(a + b * 2^8 + c * 2^16 + (d or 0) * 2^24, data, at + size + 1, depth)
    end
end

local function text_of(length, data, at)
    return sub(data, at, at + length - 1), at + length
end

local function signed(bits)
    return function(number, _, at)
        return number < 2^(bits - 1) and number or number - 2^bits, at
    end
end

local function halves(data, at)
    local a, b, c, d, e, f, g, h = byte(data, at + 1, at + 8)
    if not h then
        return nil
    end
    return a * 2^24 + b * 2^16 + c * 2^8 + d, e * 2^24 + f * 2^16 + g * 2^8 + h
end

local function unsigned(number, _, at)
    return number, at
end

local readers = {
    [0xc0] = function(_, at) return NULL, at + 1 end,
    [0xc2] = function(_, at) return false, at + 1 end,
    [0xc3] = function(_, at) return true, at + 1 end,
    [0xc4] = with_number(1, text_of), [0xc5] = with_number(2, text_of),
    [0xd9] = with_number(1, text_of), [0xda] = with_number(2, text_of),
    [0xcc] = with_number(1, unsigned), [0xcd] = with_number(2, unsigned), [0xce] = with_number(4, unsigned),
    [0xd0] = with_number(1, signed(8)), [0xd1] = with_number(2, signed(16)), [0xd2] = with_number(4, signed(32)),
    [0xdc] = with_number(2, function(count, data, at, depth) return decode_list(data, at, count, depth) end),
    [0xde] = with_number(2, function(count, data, at, depth) return decode_map(data, at, count, depth) end),
    [0xcf] = function(data, at)
        local high, low = halves(data, at)
        if not high or high >= 2^21 then
            return nil, nil
        end
        return high * 2^32 + low, at + 9
    end,
    [0xd3] = function(data, at)
        local high, low = halves(data, at)
        if not high then
            return nil, nil
        end
        if high >= 2^31 then
            high = high - 2^32
        end
        if high < -2^21 or high >= 2^21 then
            return nil, nil
        end
        return high * 2^32 + low, at + 9
    end,
    [0xcb] = function(data, at)
        local high, low = halves(data, at)
        if not high then
            return nil, nil
        end
        local sign = 1
        if high >= 2^31 then
            sign, high = -1, high - 2^31
        end
        local exponent = floor(high / 2^20)
        local fraction = high % 2^20 * 2^32 + low
        if exponent == 0 and fraction == 0 then
            return sign * 0, at + 9
        elseif exponent == 0 or exponent == 2047 then
            return nil, nil
        end
        return sign * ldexp(1 + fraction / 2^52, exponent - 1023), at + 9
    end,
}

-- The value at `at`, with NULL for nil, and where it ends; nothing where it is not told here, or the data end before it.
function decode(data, at, depth)
    local first = byte(data, at)
    if not first or depth > DEEPEST then
        return nil, nil
    elseif first < 0x80 then
        return first, at + 1
    elseif first < 0x90 then
        return decode_map(data, at + 1, first - 0x80, depth)
    elseif first < 0xa0 then
        return decode_list(data, at + 1, first - 0x90, depth)
    elseif first < 0xc0 then
        at = at + 1
        return sub(data, at, at + first - 0xa1), at + first - 0xa0
    elseif first >= 0xe0 then
        return first - 256, at + 1
    end
    local reader = readers[first]
    if reader then
        return reader(data, at, depth)
    end
    return nil, nil
end
msgpack.decode = decode

-- Writing --------------------------------------------------------------------------------------------------------------

local SMALL, STRING_HEADS, LIST_HEADS, MAP_HEADS = {}, {}, {}, {}
for number = -32, 127 do
    SMALL[number] = char(number % 256)
end
for length = 0, 31 do
    STRING_HEADS[length] = char(0xa0 + length)
end
for length = 0, 15 do
    LIST_HEADS[length], MAP_HEADS[length] = char(0x90 + length), char(0x80 + length)
end

local function quad(number)
    return char(floor(number / 2^24), floor(number / 2^16) % 256, floor(number / 2^8) % 256, number % 256)
end

local function encode_double(value)
    local sign = 0
    if value < 0 then
        sign, value = 2^31, -value
    end
    local fraction, exponent = frexp(value)
    exponent = exponent + 1022
    if exponent <= 0 then
        return nil
    end
    fraction = (fraction * 2 - 1) * 2^52
    return '\203' .. quad(sign + exponent * 2^20 + floor(fraction / 2^32)) .. quad(fraction % 2^32)
end

local function encode_number(value)
    if value % 1 ~= 0 then
        -- Nor are nan and the infinities told here.
        return value == value and value < huge and value > -huge and encode_double(value) or nil
    elseif value >= 0 then
        if value < 2^8 then
            return char(0xcc, value)
        elseif value < 2^16 then
            return char(0xcd, floor(value / 256), value % 256)
        elseif value < 2^32 then
            return '\206' .. quad(value)
        elseif value <= EXACT_MAX then
            return '\207' .. quad(floor(value / 2^32)) .. quad(value % 2^32)
        end
    elseif value >= -2^7 then
        return char(0xd0, value + 2^8)
    elseif value >= -2^15 then
        value = value + 2^16
        return char(0xd1, floor(value / 256), value % 256)
    elseif value >= -2^31 then
        return '\210' .. quad(value + 2^32)
    elseif value >= -EXACT_MAX then
        return '\211' .. quad(floor(value / 2^32) + 2^32) .. quad(value % 2^32)
    end
    return nil
end

local function head(length, heads, long)
    return heads[length] or length < 2^16 and char(long, floor(length / 256), length % 256) or nil
end

local encode_table

local function encode(value, depth)
    local kind = type(value)
    if kind == 'number' then
        return SMALL[value] or encode_number(value)
    elseif kind == 'string' then
        local length = #value
        local first = STRING_HEADS[length]
        if first then
            return first .. value
        elseif length < 2^8 then
            return '\217' .. char(length) .. value
        elseif length < 2^16 then
            return '\218' .. char(floor(length / 256), length % 256) .. value
        end
        return nil
    elseif kind == 'boolean' then
        return value and '\195' or '\194'
    elseif value == nil or value == NULL then
        return '\192'
    elseif kind == 'table' then
        return encode_table(value, depth)
    end
    return nil
end

function encode_table(value, depth)
    local meta, is_map = getmetatable(value), false
    if meta ~= nil then
        -- As it came.
        is_map = meta == MAP_META and rawget(meta, '__serialize') == 'map'
        if not is_map and (meta ~= LIST_META or rawget(meta, '__serialize') ~= 'seq') then
            return nil
        end
    end
    if depth >= DEEPEST then
        return nil
    end
    local length, out = not is_map and list_length(value), nil
    if length then
        out = {head(length, LIST_HEADS, 0xdc)}
        if not out[1] then
            return nil
        end
        for index = 1, length do
            local item = encode(rawget(value, index), depth + 1)
            if not item then
                return nil
            end
            out[index + 1] = item
        end
        return concat(out)
    end
    if meta == LIST_META then
        return nil
    end
    local count = 0
    out = {''}
    for key, item in next, value do
        local kind = type(key)
        key = (kind == 'string' or kind == 'number') and encode(key, depth + 1)
        item = key and encode(item, depth + 1)
        if not item then
            return nil
        end
        out[2 * count + 2], out[2 * count + 3] = key, item
        count = count + 1
    end
    out[1] = head(count, MAP_HEADS, 0xde)
    return out[1] and concat(out)
end

-- A list of these values; nil where one is not told here.
function msgpack.encode_list(...)
    local count = select('#', ...)
    if count == 1 then
        local item = encode((...), 0)
        return item and '\145' .. item
    end
    local out = {LIST_HEADS[count]}
    if not out[1] then
        return nil
    end
    for index = 1, count do
        local item = encode((select(index, ...)), 0)
        if not item then
            return nil
        end
        out[index + 1] = item
    end
    return concat(out)
end
