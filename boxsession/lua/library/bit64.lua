-- The module bit for integers of 64 bits. If an argument is one, the result has 64 bits; shifts look at the first argument.
-- Needs: kernel/bit, library/extension
local internal = ...
local raw, bit, extension = internal.raw, internal.bit, internal.extension
local error, floor, format, rep, select, sub, tonumber, type = raw.error, raw.floor, raw.format, raw.rep, raw.select,
    raw.sub, raw.tonumber, raw.type
local suffix_of, calculated = extension.suffix, extension.calculated

-- The index of the first argument that is no number, text of a number or integer of 64 bits; nil if all are.
local function wrong_argument(...)
    for index = 1, select('#', ...) do
        local value = select(index, ...)
        if not suffix_of(value) and not (type(value) ~= 'userdata' and tonumber(value)) then
            return index
        end
    end
end

local function refuse(index, ...)
    local value = select(index, ...)
    if value == internal.NULL then
        return error(format("bad argument #%d to '?' (cannot convert 'void *' to 'int64_t')", index), 0)
    end
    return error(format("bad argument #%d to '?' (number expected, got %s)", index,
                        internal.cdata[value] and 'cdata' or type(value)), 0)
end

-- A Lua number as it is; a text as a number.
local function operand(value)
    return type(value) == 'string' and tonumber(value) or value
end

for name, sign in raw.pairs({band = '&', bor = '|', bxor = '~'}) do
    local plain = bit[name]
    local function long(...)
        local wrong = wrong_argument(...)
        if wrong then
            return refuse(wrong, ...)
        end
        local suffix
        for index = 1, select('#', ...) do
            local found = suffix_of((select(index, ...)))
            suffix = found == 'ULL' and found or suffix or found
        end
        local made = operand((...))
        if not suffix_of(made) then
            made = calculated('|', made, made, suffix)
        end
        for index = 2, select('#', ...) do
            made = calculated(sign, made, operand((select(index, ...))), suffix)
        end
        return made
    end
    bit[name] = function(...)
        local one, other = ...
        if type(one) == 'number' and type(other) == 'number' and select('#', ...) == 2 then
            return plain(one, other)
        end
        for index = 1, select('#', ...) do
            if suffix_of((select(index, ...))) then
                return long(...)
            end
        end
        return plain(...)
    end
end

-- A count of bits or digits as a plain number.
local function count_of(value)
    local suffix = suffix_of(value)
    return suffix and bit.tobit(value) or value
end

for name, sign in raw.pairs({lshift = '<<', rshift = '>>', arshift = '>>>', rol = 'rol', ror = 'ror'}) do
    local plain = bit[name]
    bit[name] = function(...)
        local value, by = ...
        if type(value) == 'number' and type(by) == 'number' then
            return plain(value, by)
        end
        local suffix = suffix_of(value)
        if not suffix and not suffix_of(by) then
            return plain(...)
        elseif select('#', ...) < 2 then
            return error("bad argument #2 to '?' (number expected, got no value)", 0)
        end
        local wrong = wrong_argument(value, by)
        if wrong then
            return refuse(wrong, ...)
        elseif not suffix then
            return plain(value, count_of(by))
        end
        return calculated(sign, value, bit.tobit(by) % 64, suffix)
    end
end

for name, sign in raw.pairs({bnot = 'not', bswap = 'swap'}) do
    local plain = bit[name]
    bit[name] = function(...)
        local suffix = suffix_of((...))
        if suffix then
            return calculated(sign, (...), 0, suffix)
        end
        return plain(...)
    end
end

local tobit, tohex = bit.tobit, bit.tohex

-- The hexadecimal digits of an integer: 16.
local function digits_of(value)
    return extension.in_hex(value)
end

function bit.tobit(...)
    if suffix_of((...)) then
        return tobit(tonumber(sub(digits_of((...)), 9), 16))
    end
    return tobit(...)
end

local HEX, HEX_MAX = 16, 254
function bit.tohex(...)
    local value, count = ...
    if select('#', ...) > 1 and suffix_of(count) then
        count = count_of(count)
        return bit.tohex(value, count)
    elseif not suffix_of(value) then
        return tohex(...)
    end
    count = select('#', ...) > 1 and bit.tobit(count) or HEX
    local text = digits_of(value)
    if count < 0 then
        text, count = raw.upper(text), -count
    end
    count = count > HEX_MAX and HEX_MAX or floor(count)
    return count > HEX and rep('0', count - HEX) .. text or count == 0 and '' or sub(text, -count)
end
