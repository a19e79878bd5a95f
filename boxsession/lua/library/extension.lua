-- Objects for values that have no Lua type: integers that a Lua number cannot hold exactly, and msgpack's extensions
-- (decimals, datetimes, errors and others). They come from the binary protocol and from exposed functions; integers also
-- from json and yaml.
--
-- Invariants: an object is shown as Tarantool shows the value, compares by value, and is sent back with the same bytes.
-- Integers of 64 bits calculate as LuaJIT's int64_t and uint64_t do (boxsession/values/whole.py).
-- Needs: kernel/ctypes, kernel/guard, kernel/objects, kernel/task
local internal, WHOLE = ...
local raw = internal.raw
local byte, char, concat, date, find, floor, format, gsub, match, rep, sub, tonumber = raw.byte, raw.char, raw.concat, raw.date,
    raw.find, raw.floor, raw.format, raw.gsub, raw.match, raw.rep, raw.sub, raw.tonumber
local error, select, type = raw.error, raw.select, raw.type
local cdata = internal.cdata

local extension = {}
internal.extension = extension

local DECIMAL, UUID, ERROR, DATETIME, INTERVAL = 1, 2, 3, 4, 6
local INTEGER, LONG = 'integer', 'long integer'     -- our own codes, not msgpack's
-- An extension with more bytes is shown as 'extension'.
local SHOWN_MAX = 64

-- By extension code: a function that makes the text of the value's bytes, and for a decimal (library/decimal.lua) also the
-- text with an exponent.
local kinds = {}
extension.kinds = kinds
local _, meta, make, state_of = internal.class('extension')

function meta.__tostring(object)
    local state = state_of(object)
    return state.suffix and state.text .. state.suffix or state.text
end
function meta.__serialize(object)
    return state_of(object).text
end

local function object_of(code, data, text, suffix)
    local object = make({code = code, data = data, text = text, suffix = suffix})
    cdata[object] = true
    return object
end

-- The state of a decimal; nil for other values, and for a decimal whose bytes are wrong.
local function decimal_state(value)
    local state = type(value) == 'userdata' and raw.debug_getmetatable(value) == meta and state_of(value)
    return state and state.exact and state or nil
end
extension.decimal_state = decimal_state

-- `exact`: the text with an exponent, from which Python calculates.
function extension.new_decimal(data, text, exact)
    local object = object_of(DECIMAL, data, text)
    state_of(object).exact = exact
    return object
end

-- An integer that a Lua number cannot hold exactly. `packed`: its msgpack bytes.
function extension.integer(digits, packed)
    return object_of(INTEGER, packed, digits, byte(digits) == 45 and 'LL' or 'ULL')
end

local function big_endian(high, low)
    return char(floor(high / 2^24), floor(high / 2^16) % 256, floor(high / 2^8) % 256, high % 256,
                floor(low / 2^24), floor(low / 2^16) % 256, floor(low / 2^8) % 256, low % 256)
end

-- The msgpack bytes of an integer; nil if it has more than 64 bits.
local CHUNK = 6
local function packed_integer(sign, digits)
    local high, low = 0, 0
    for from = 1, #digits, CHUNK do
        local part = sub(digits, from, from + CHUNK - 1)
        local scale = 10^#part
        low = low * scale + tonumber(part)
        high = high * scale + floor(low / 2^32)
        low = low % 2^32
        if high >= 2^32 then
            return nil
        end
    end
    if sign == '' then
        return '\207' .. big_endian(high, low)
    elseif high > 2^31 or high == 2^31 and low > 0 then
        return nil
    end
    high, low = low == 0 and 2^32 - high or 2^32 - 1 - high, low == 0 and 0 or 2^32 - low
    return '\211' .. big_endian(high, low)
end

-- The number that a text is, if the text has only digits after an optional sign: an object if a Lua number cannot hold it
-- exactly. For other texts, `number`. An integer of more than 64 bits has no form in msgpack: it is shown, but sent as text.
local EXACT_MAX = 2^53
function extension.exact(text, number)
    if number < EXACT_MAX and number > -EXACT_MAX then
        return number
    end
    local sign, digits = match(text, '^([+-]?)0*(%d+)$')
    if not digits or digits == '9007199254740992' then
        return number
    end
    sign = sign == '-' and '-' or ''
    local packed = packed_integer(sign, digits)
    if packed then
        -- Tarantool reads an integer as a signed one where it can.
        return object_of(INTEGER, packed, sign .. digits, (sign == '-' or byte(packed, 2) < 128) and 'LL' or 'ULL')
    end
    return object_of(LONG, sign .. digits, sign .. digits)
end

-- Arithmetic ----------------------------------------------------------------------------------------------------------

-- The state of an integer with 64 bits; nil for other values.
local function whole_state(value)
    local state = type(value) == 'userdata' and raw.debug_getmetatable(value) == meta and state_of(value)
    return state and state.code == INTEGER and state or nil
end

-- An operand for Python: its type and digits; nil if it does not calculate. `suffix`: the other operand's type, which a Lua
-- number takes.
local function operand(value, suffix)
    local state = whole_state(value)
    if state then
        return state.suffix .. ':' .. state.text
    elseif suffix and type(value) == 'number' then
        return suffix .. ':' .. format('%.17g', value)
    end
end

-- The same for an operand that is taken as the type `suffix`.
local function as_type(value, suffix)
    local state = whole_state(value)
    return suffix .. ':' .. (state and state.text or format('%.17g', value))
end

local NAMES, STRUCT = {LL = 'int64_t', ULL = 'uint64_t'}, 'struct 114'        -- what LuaJIT calls a decimal
local function type_name(object)
    local state = whole_state(object)
    return state and NAMES[state.suffix] or decimal_state(object) and STRUCT
end

local function object_of_answer(answer)
    local suffix, sign, digits = match(answer, '^(U?LL):(-?)(%d+)$')
    return object_of(INTEGER, packed_integer(sign, digits), sign .. digits, suffix)
end

-- The value of a literal: its type, and its digits (`101`, `0xff`).
function extension.literal(suffix, digits)
    local number = tonumber(digits)
    if number < EXACT_MAX then
        return object_of_answer(suffix .. ':' .. format('%.0f', number))
    end
    return object_of_answer(internal.task.text(WHOLE, 'literal:' .. suffix .. ':' .. digits))
end

-- The type of an integer with 64 bits, `LL` or `ULL`; nil for other values.
function extension.suffix(value)
    local state = whole_state(value)
    return state and state.suffix
end

-- Calculates with integers; Lua numbers are taken as integers of the type `suffix`. The result has this type.
function extension.calculated(sign, a, b, suffix)
    return object_of_answer(internal.task.text(WHOLE, sign .. ':' .. as_type(a, suffix) .. ':' .. as_type(b, suffix)))
end

-- The 16 hexadecimal digits of an integer.
function extension.in_hex(value)
    return internal.task.text(WHOLE, 'hex:' .. operand(value))
end

for event, sign in raw.pairs({__add = '+', __sub = '-', __mul = '*', __div = '/', __mod = '%', __pow = '^'}) do
    meta[event] = function(a, b)
        if decimal_state(a) or decimal_state(b) then
            local made, problem = extension.decimal_operation(sign, a, b)
            return made or error(problem, 2)
        end
        local one, other = whole_state(a), whole_state(b)
        local left, right = operand(a, other and other.suffix), operand(b, one and one.suffix)
        if not (left and right and (one or other)) then
            return error(internal.ctypes.no_arithmetic(a, b), 2)
        end
        return object_of_answer(internal.task.text(WHOLE, sign .. ':' .. left .. ':' .. right))
    end
end
function meta.__unm(value)
    if decimal_state(value) then
        return (extension.decimal_minus(value))
    end
    local state = whole_state(value)
    if not state then
        return error(internal.ctypes.no_arithmetic(value, value), 2)
    end
    return object_of_answer(internal.task.text(WHOLE, '-:' .. state.suffix .. ':0:' .. operand(value)))
end
function meta.__eq(a, b)
    local one, other = state_of(a), state_of(b)
    if one.code == INTEGER and other.code == INTEGER then
        return internal.task.text(WHOLE, '=:' .. operand(a) .. ':' .. operand(b)) == 'true'
    elseif one.exact and (other.exact or other.code == INTEGER) or other.exact and one.code == INTEGER then
        return extension.decimal_operation('=', a, b) == 'true'
    end
    return one.code == other.code and one.data == other.data
end
for event, sign in raw.pairs({__lt = '<', __le = '<='}) do
    meta[event] = function(a, b)
        if decimal_state(a) or decimal_state(b) then
            local made, problem = extension.decimal_operation(sign, a, b)
            return made and made == 'true' or not made and error(problem, 2)
        end
        if not (whole_state(a) and whole_state(b)) then
            return error(internal.ctypes.no_comparison(a, b), 2)
        end
        return internal.task.text(WHOLE, sign .. ':' .. operand(a) .. ':' .. operand(b)) == 'true'
    end
end
-- Integers and decimals have no fields, as in LuaJIT; other objects have none, either, but give nil.
local function refuse_key(object, key)
    return type_name(object) and error(internal.ctypes.no_member(object, key), 2) or nil
end
meta.__index, meta.__newindex, meta.__metatable = refuse_key, refuse_key, 'ffi'
internal.ctypes.define(meta, type_name)

-- A number from a text; an object from 1e14 on, as in Tarantool.
local TEXT_MAX, SHOWN_EXACT_MAX = 2^10, 1e14
function _G.tonumber64(...)
    local value, base = ...
    if select('#', ...) == 0 then
        return error("bad argument #1 to '?' (value expected)", 0)
    elseif base ~= nil then
        base = tonumber(base)
        if not base then
            return error("bad argument #2 to '?' (number expected, got " .. type((select(2, ...))) .. ')', 0)
        elseif type(value) ~= 'string' then
            return error("bad argument #1 to '?' (string expected)", 0)
        elseif not (base >= 2 and base <= 36) then
            return error("bad argument #2 to '?' (base out of range)", 0)
        end
    end
    if type(value) == 'number' or whole_state(value) then
        return value
    elseif type(value) ~= 'string' or #value > TEXT_MAX then
        return nil
    end
    local answer = internal.task.text(WHOLE, 'read:' .. floor(base or 0) .. ':' .. value)
    if answer == '' then
        return nil
    end
    local number = tonumber(match(answer, ':(.*)$'))
    if number < SHOWN_EXACT_MAX and number > -SHOWN_EXACT_MAX then
        return number
    end
    return object_of_answer(answer)
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
    local ok, text, exact = false, nil, nil
    if kind then
        ok, text, exact = internal.task.protected(kind, data)
    end
    if ok and exact then
        return extension.new_decimal(data, text, exact)
    end
    return object_of(code, data, ok and text or 'extension')
end

-- The code and bytes of an extension object; for an integer of up to 64 bits nil and its msgpack bytes; for other objects
-- nil.
function extension.packed(object)
    local bytes = internal.uuid_bytes(object)
    if bytes then
        return UUID, bytes
    end
    if raw.debug_getmetatable(object) ~= meta then
        return nil
    end
    local state = state_of(object)
    if state.code == LONG then
        return nil
    elseif state.code == INTEGER then
        local number = tonumber(state.text)
        return nil, number < EXACT_MAX and number > -EXACT_MAX and internal.msgpack.encode(number) or state.data
    end
    return state.code, state.data
end

-- The digits of an integer, or nil.
function extension.digits(object)
    if raw.debug_getmetatable(object) ~= meta then
        return nil
    end
    local state = state_of(object)
    return (state.code == INTEGER or state.code == LONG) and state.text or nil
end

-- The digits of an integer or decimal, which YAML and Lua output write as a number; nil for other objects.
function extension.number(object)
    if raw.debug_getmetatable(object) ~= meta then
        return nil
    end
    return state_of(object).code == DECIMAL and state_of(object).text or extension.digits(object)
end
