-- Values that Lua has no type for, as they come by the binary protocol: whole numbers of 64 bits, decimals, times, errors.
-- Objects that show themselves as Tarantool shows them, compare by value, and go back as they came.
-- Needs: kernel/guard, kernel/objects
local internal = ...
local raw = internal.raw
local byte, char, concat, date, find, floor, format, gsub, rep, sub = raw.byte, raw.char, raw.concat, raw.date, raw.find,
    raw.floor, raw.format, raw.gsub, raw.rep, raw.sub
local cdata = internal.cdata

local extension = {}
internal.extension = extension

local DECIMAL, UUID, ERROR, DATETIME, INTERVAL = 1, 2, 3, 4, 6
local INTEGER = 'integer'           -- ours: no code of msgpack's
-- What is longer has no text of its own.
local SHOWN_MAX = 64

-- What is told of each kind: whether it is written as a number, and how its text is made of its bytes.
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

-- A whole number that a Lua number does not hold, by its digits and as msgpack has it.
function extension.integer(digits, packed)
    return object_of(INTEGER, packed, digits, byte(digits) == 45 and 'LL' or 'ULL')
end

-- A msgpack integer at the beginning of `data`, and how many bytes it takes: a decimal's scale.
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

-- Packed decimal digits, two in a byte, the sign in the last half: what Tarantool's decimals are.
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

-- Seconds since the epoch, then, if given, nanoseconds and minutes east of Greenwich.
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

-- The object of an extension value: its code and bytes.
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

-- The code and the bytes of an object that is an extension value; no code, and what msgpack has, for a whole number; nothing
-- for others.
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

-- The digits of what is written as a number in YAML and Lua output.
function extension.number(object)
    if raw.debug_getmetatable(object) ~= meta then
        return nil
    end
    local state = state_of(object)
    return (state.code == INTEGER or state.code == DECIMAL) and state.text or nil
end
