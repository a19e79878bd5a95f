-- Objects for msgpack values that have no Lua type: 64-bit integers, decimals, datetimes, errors and other extensions. They
-- come by the binary protocol.
--
-- Invariants: an object is shown as Tarantool shows the value, compares by value, and is sent back with the same bytes.
-- Needs: kernel/guard, kernel/objects
local internal = ...
local raw = internal.raw
local byte, char, concat, date, find, floor, format, gsub, rep, sub = raw.byte, raw.char, raw.concat, raw.date, raw.find,
    raw.floor, raw.format, raw.gsub, raw.rep, raw.sub
local cdata = internal.cdata

local extension = {}
internal.extension = extension

local DECIMAL, UUID, ERROR, DATETIME, INTERVAL = 1, 2, 3, 4, 6
local INTEGER = 'integer'           -- our own code, not one of msgpack
-- An extension with more bytes is shown as 'extension'.
local SHOWN_MAX = 64

-- By extension code: a function that makes the text of the value's bytes.
local kinds = {}
local _, meta, make, state_of = internal.class('extension')

function meta.__tostring(object)
    local state = state_of(object)
    return state.suffix and state.text .. state.suffix or state.text
end
function meta.__serialize(object)
    return state_of(object).text
end
function meta.__eq(a, b)
    a, b = state_of(a), state_of(b)
    return a.code == b.code and a.data == b.data
end

local function object_of(code, data, text, suffix)
    local object = make({code = code, data = data, text = text, suffix = suffix})
    cdata[object] = true
    return object
end

-- An integer that a Lua number cannot hold exactly. `packed`: its msgpack bytes.
function extension.integer(digits, packed)
    return object_of(INTEGER, packed, digits, byte(digits) == 45 and 'LL' or 'ULL')
end

-- The scale of a decimal: a msgpack integer at the start of `data`. Returns it and its size in bytes.
local function scale_of(data)
    local first = byte(data)
    if first == 0xd0 then
        local value = byte(data, 2)
        return value < 128 and value or value - 256, 2
    elseif first >= 0xe0 then
        return first - 256, 1
    end
    return first, 1
end

-- Tarantool's decimals are packed BCD: two digits in a byte, and the sign in the last half byte.
kinds[DECIMAL] = function(data)
    local scale, taken = scale_of(data)
    local digits = {}
    for index = taken + 1, #data do
        digits[#digits + 1] = format('%x', floor(byte(data, index) / 16))
        digits[#digits + 1] = format('%x', byte(data, index) % 16)
    end
    local sign = digits[#digits]
    digits[#digits] = nil
    local text = concat(digits)
    if find(text, '%D') then
        return nil
    end
    text = gsub(text, '^0+', '')
    if scale > 0 then
        text = rep('0', scale + 1 - #text) .. text
        text = sub(text, 1, -scale - 1) .. '.' .. sub(text, -scale)
    elseif scale < 0 then
        text = text .. rep('0', -scale)
    end
    if text == '' then
        text = '0'
    end
    return (sign == 'b' or sign == 'd') and '-' .. text or text
end

local function little_endian(data, from, count, signed)
    local last = from + count - 1
    local value = byte(data, last) or 0
    if signed and value >= 128 then
        value = value - 256
    end
    for index = last - 1, from, -1 do
        value = value * 256 + (byte(data, index) or 0)
    end
    return value
end

-- Seconds since the epoch, then (optional) nanoseconds and the offset from UTC in minutes.
kinds[DATETIME] = function(data)
    local seconds = little_endian(data, 1, 8, true)
    local nanoseconds = #data >= 12 and little_endian(data, 9, 4, true) or 0
    local minutes = #data >= 14 and little_endian(data, 13, 2, true) or 0
    if seconds > 2^40 or seconds < -2^40 then
        return 'datetime'
    end
    local text = date('!%Y-%m-%dT%H:%M:%S', seconds + minutes * 60)
    if nanoseconds > 0 then
        text = text .. '.' .. gsub(format('%09d', nanoseconds), '0+$', '')
    end
    if minutes == 0 then
        return text .. 'Z'
    end
    local sign = minutes < 0 and '-' or '+'
    minutes = minutes < 0 and -minutes or minutes
    return text .. sign .. format('%02d%02d', floor(minutes / 60), minutes % 60)
end
kinds[ERROR] = function() return 'error' end
kinds[INTERVAL] = function() return 'interval' end

-- Makes the object of an extension value.
function extension.object(code, data)
    if code == UUID and #data == 16 then
        return internal.uuid_of(data)
    end
    local kind = #data <= SHOWN_MAX and kinds[code]
    local ok, text = false, nil
    if kind then
        ok, text = internal.task.protected(kind, data)
    end
    return object_of(code, data, ok and text or 'extension')
end

-- The code and bytes of an extension object; for an integer nil and its msgpack bytes; for other objects nil.
function extension.packed(object)
    local bytes = internal.uuid_bytes(object)
    if bytes then
        return UUID, bytes
    end
    if raw.debug_getmetatable(object) ~= meta then
        return nil
    end
    local state = state_of(object)
    if state.code == INTEGER then
        return nil, state.data
    end
    return state.code, state.data
end

-- The digits of an integer or decimal, which YAML and Lua output write as a number; nil for other objects.
function extension.number(object)
    if raw.debug_getmetatable(object) ~= meta then
        return nil
    end
    local state = state_of(object)
    return (state.code == INTEGER or state.code == DECIMAL) and state.text or nil
end
