-- Reads and writes msgpack: arguments and results of the binary protocol. It is written in Lua, so the hook can interrupt
-- it.
--
-- Longer than usual: the reader and the writer of one format stand side by side, so that they can be compared.
-- Needs: library/extension, library/modules, wire/serializer, wire/shape
local internal = ...
local raw = internal.raw
local NULL, list_length = internal.NULL, internal.yaml.list_length
local resolve, highest_index = internal.shape.resolve, internal.shape.highest_index
local integer_of, object_of = internal.extension.integer, internal.extension.object
local LIST_META, MAP_META = internal.array_mt, internal.map_mt
local byte, char, concat, error, floor, format, frexp, getmetatable, huge, ldexp, next, rawget, select, setmetatable, sub, type =
    raw.byte, raw.char, raw.concat, raw.error, raw.floor, raw.format, raw.frexp, raw.debug_getmetatable, raw.huge, raw.ldexp,
    raw.next, raw.rawget, raw.select, raw.setmetatable, raw.sub, raw.type

local msgpack = {}
internal.msgpack = msgpack

local DEEPEST, DEEPEST_RESULT = 510, 128

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
        -- Lua tables cannot have nil or nan as a key.
        if not at or key == NULL or key ~= key then
            return nil, nil
        end
        map[key], at = decode(data, at, depth + 1)
        if not at then
            return nil, nil
        end
    end
    return setmetatable(map, MAP_META), at
end

-- A reader for values whose first byte is followed by a number of `size` bytes; make() gets the number.
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

-- The digits of a 64-bit integer, in two parts that a double can hold exactly.
local function digits_of(high, low)
    local rest = high % 1e6 * 2^32 + low
    local last = rest % 1e6
    return format('%.0f%06d', floor(high / 1e6) * 2^32 + (rest - last) / 1e6, last)
end

-- High word from which a double cannot hold every integer, and from which a signed integer is negative.
local EXACT_HIGH, NEGATIVE_HIGH = 2^21, 2^31

local function whole(high, low, data, at)
    if high < EXACT_HIGH or high == EXACT_HIGH and low == 0 then
        return high * 2^32 + low, at + 9
    end
    return integer_of(digits_of(high, low), '\207' .. sub(data, at + 1, at + 8)), at + 9
end

local function extension_of(length, data, at)
    local code = byte(data, at)
    if not code or at + length > #data then
        return nil, nil
    end
    return object_of(code, sub(data, at + 1, at + length)), at + 1 + length
end
local function fixed_extension(length)
    return function(data, at)
        return extension_of(length, data, at + 1)
    end
end

local function double_of(sign, exponent, fraction, bits, bias)
    if exponent == 0 then
        return sign * ldexp(fraction, 1 - bias - bits)
    elseif exponent == 2 * bias + 1 then
        return fraction == 0 and sign * huge or 0 / 0
    end
    return sign * ldexp(1 + fraction / 2^bits, exponent - bias)
end

local readers = {
    [0xc0] = function(_, at) return NULL, at + 1 end,
    [0xc2] = function(_, at) return false, at + 1 end,
    [0xc3] = function(_, at) return true, at + 1 end,
    [0xc4] = with_number(1, text_of), [0xc5] = with_number(2, text_of), [0xc6] = with_number(4, text_of),
    [0xc7] = with_number(1, extension_of), [0xc8] = with_number(2, extension_of), [0xc9] = with_number(4, extension_of),
    [0xd4] = fixed_extension(1), [0xd5] = fixed_extension(2), [0xd6] = fixed_extension(4), [0xd7] = fixed_extension(8),
    [0xd8] = fixed_extension(16),
    [0xd9] = with_number(1, text_of), [0xda] = with_number(2, text_of), [0xdb] = with_number(4, text_of),
    [0xcc] = with_number(1, unsigned), [0xcd] = with_number(2, unsigned), [0xce] = with_number(4, unsigned),
    [0xd0] = with_number(1, signed(8)), [0xd1] = with_number(2, signed(16)), [0xd2] = with_number(4, signed(32)),
    [0xdc] = with_number(2, function(count, data, at, depth) return decode_list(data, at, count, depth) end),
    [0xdd] = with_number(4, function(count, data, at, depth) return decode_list(data, at, count, depth) end),
    [0xde] = with_number(2, function(count, data, at, depth) return decode_map(data, at, count, depth) end),
    [0xdf] = with_number(4, function(count, data, at, depth) return decode_map(data, at, count, depth) end),
    [0xca] = with_number(4, function(number, _, at)
        local sign = number < 2^31 and 1 or -1
        return double_of(sign, floor(number / 2^23) % 2^8, number % 2^23, 23, 127), at
    end),
    [0xcf] = function(data, at)
        local high, low = halves(data, at)
        if not high then
            return nil, nil
        end
        return whole(high, low, data, at)
    end,
    [0xd3] = function(data, at)
        local high, low = halves(data, at)
        if not high then
            return nil, nil
        elseif high < NEGATIVE_HIGH then
            return whole(high, low, data, at)
        elseif high >= 2^32 - EXACT_HIGH then
            return (high - 2^32) * 2^32 + low, at + 9
        end
        high, low = low == 0 and 2^32 - high or 2^32 - 1 - high, low == 0 and 0 or 2^32 - low
        return integer_of('-' .. digits_of(high, low), sub(data, at, at + 8)), at + 9
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
        return double_of(sign, floor(high / 2^20), high % 2^20 * 2^32 + low, 52, 1023), at + 9
    end,
}

-- The value at `at` (NULL for nil) and the position after it; nil, nil if it is invalid or incomplete.
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
    if value ~= value then
        return '\203\127\248\0\0\0\0\0\0'
    end
    local sign = 0
    if value < 0 then
        sign, value = 2^31, -value
    end
    if value == huge then
        return '\203' .. quad(sign + 2047 * 2^20) .. '\0\0\0\0'
    end
    local fraction, exponent = frexp(value)
    exponent = exponent + 1022
    if exponent <= 0 then
        fraction, exponent = ldexp(value, 1074), 0
    else
        fraction = (fraction * 2 - 1) * 2^52
    end
    return '\203' .. quad(sign + exponent * 2^20 + floor(fraction / 2^32)) .. quad(fraction % 2^32)
end

-- Integers of up to 64 bits are written as integers, all other numbers as doubles.
local function encode_number(value)
    if value % 1 ~= 0 then
        return encode_double(value)
    elseif value >= 0 then
        if value < 2^8 then
            return char(0xcc, value)
        elseif value < 2^16 then
            return char(0xcd, floor(value / 256), value % 256)
        elseif value < 2^32 then
            return '\206' .. quad(value)
        elseif value < 2^64 then
            return '\207' .. quad(floor(value / 2^32)) .. quad(value % 2^32)
        end
    elseif value >= -2^7 then
        return char(0xd0, value + 2^8)
    elseif value >= -2^15 then
        value = value + 2^16
        return char(0xd1, floor(value / 256), value % 256)
    elseif value >= -2^31 then
        return '\210' .. quad(value + 2^32)
    elseif value >= -2^63 then
        return '\211' .. quad(floor(value / 2^32) + 2^32) .. quad(value % 2^32)
    end
    return encode_double(value)
end

local function head(length, heads, long)
    return heads[length] or length < 2^16 and char(long, floor(length / 256), length % 256) or char(long + 1) .. quad(length)
end

local function long_string_head(length)
    return length < 2^8 and '\217' .. char(length) or head(length, STRING_HEADS, 0xda)
end
local function string_head(length)
    return STRING_HEADS[length] or long_string_head(length)
end

local FIXED_EXTENSIONS = {[1] = '\212', [2] = '\213', [4] = '\214', [8] = '\215', [16] = '\216'}
local function encode_extension(code, data)
    local length = #data
    local first = FIXED_EXTENSIONS[length] or length < 2^8 and '\199' .. char(length) or head(length, FIXED_EXTENSIONS, 0xc8)
    return first .. char(code) .. data
end

local encode

local function encode_object(value, depth)
    if internal.exposed.is_object(value) then
        return encode(internal.exposed.content(value), depth)
    end
    local code, data = internal.extension.packed(value)
    if code then
        return encode_extension(code, data)
    elseif data then
        return data
    elseif internal.cdata[value] then
        local text = raw.tostring(value)            -- of an error object
        return string_head(#text) .. text
    end
    return error("unsupported Lua type 'userdata'", 0)
end

local encode_table

function encode(value, depth)
    local kind = type(value)
    if kind == 'number' then
        return SMALL[value] or encode_number(value)
    elseif kind == 'string' then
        local length = #value
        return (STRING_HEADS[length] or long_string_head(length)) .. value
    elseif kind == 'boolean' then
        return value and '\195' or '\194'
    elseif value == nil or value == NULL then
        return '\192'
    elseif kind == 'table' then
        return encode_table(value, depth)
    elseif kind == 'userdata' then
        return encode_object(value, depth)
    end
    return error("unsupported Lua type '" .. kind .. "'", 0)
end

msgpack.encode = encode

-- Pieces are joined every PIECES items, so that no single concat takes long.
local PIECES = 4096
local function put_together(out, count, joined)
    joined = joined or {}
    joined[#joined + 1] = concat(out, '', 1, count)
    return joined
end
local function text_of_pieces(out, count, joined)
    if not joined then
        return concat(out, '', 1, count)
    end
    return concat(put_together(out, count, joined))
end

local function encode_items(value, length, depth)
    local out, count, joined = {head(length, LIST_HEADS, 0xdc)}, 1, nil
    for index = 1, length do
        count = count + 1
        out[count] = encode(rawget(value, index), depth + 1)
        if count == PIECES then
            joined, count = put_together(out, count, joined), 0
        end
    end
    return text_of_pieces(out, count, joined)
end

local function encode_map(value, depth)
    local out, count, joined, size = {}, 0, nil, 0
    for key, item in next, value do
        local kind = type(key)
        if kind == 'table' then
            return error('a table cannot be a key', 0)
        elseif kind == 'boolean' and rawget(value, key and 1 or 0) ~= nil then
            -- In many client languages true equals 1.
            return error('true and 1, or false and 0, cannot both be keys', 0)
        end
        out[count + 1], out[count + 2] = encode(key, depth + 1), encode(item, depth + 1)
        count, size = count + 2, size + 1
        if count == PIECES then
            joined, count = put_together(out, count, joined), 0
        end
    end
    return head(size, MAP_HEADS, 0xde) .. text_of_pieces(out, count, joined)
end

function encode_table(value, depth)
    if depth > DEEPEST_RESULT then
        return error('Too high nest level - ' .. depth, 0)
    end
    local forced
    if getmetatable(value) ~= nil then
        value, forced = resolve(value)
        if type(value) ~= 'table' then
            return encode(value, depth)
        end
    end
    local length = forced ~= 'map' and list_length(value)
    if forced == 'list' then
        length = length or highest_index(value)
    end
    if length then
        return encode_items(value, length, depth)
    end
    return encode_map(value, depth)
end

-- The arguments as a msgpack list.
local function encode_list(...)
    local count = select('#', ...)
    if count == 1 then
        local value = ...
        if type(value) == 'string' then
            return '\145' .. string_head(#value) .. value
        end
        return '\145' .. encode(value, 0)
    elseif count == 2 then
        local one, two = ...
        return '\146' .. encode(one, 0) .. encode(two, 0)
    end
    return encode_items({...}, count, -1)
end
msgpack.encode_list = encode_list

local function is_list(value)
    if type(value) ~= 'table' then
        return false
    end
    local shown, forced = resolve(value)
    return type(shown) == 'table' and forced ~= 'map' and (forced == 'list' or list_length(shown) ~= nil)
end

-- The same for the CALL of Tarantool 1.6: a list of lists, since it returned tuples.
function msgpack.encode_rows(...)
    local values, count = {...}, select('#', ...)
    if count == 1 and is_list(values[1]) and is_list(values[1][1]) then
        values, count = values[1], list_length(values[1]) or highest_index(values[1])
    end
    local rows = {}
    for index = 1, count do
        local value = values[index]
        if value == nil then
            value = NULL
        end
        rows[index] = is_list(value) and value or {value}
    end
    return encode_items(rows, count, -1)
end
