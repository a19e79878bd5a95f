-- LuaJIT's module bit: 32-bit operations, computed on doubles.
-- Needs: kernel/guard
local internal = ...
local raw = internal.raw
local error, floor, format, rep, select, sub, tonumber, type = raw.error, raw.floor, raw.format, string.rep, raw.select,
    raw.sub, raw.tonumber, raw.type
local raw_frexp = math.frexp

local bit = {}
internal.bit = bit

local WORD, SIGN = 2^32, 2^31

-- The low 32 bits of a number, as LuaJIT computes them: it adds 2^52 + 2^51 and takes the low bits of the sum's mantissa.
local function unsigned(value)
    if value % 1 == 0 and value > -2^51 and value < 2^51 then
        return value % WORD
    end
    local mantissa = raw_frexp(value + 2^52 + 2^51)
    if mantissa ~= mantissa or mantissa == raw.huge or mantissa == -raw.huge or value - value ~= 0 then
        return 0
    end
    return (mantissa < 0 and -mantissa or mantissa) * 2^53 % WORD
end

local function signed(word)
    return word >= SIGN and word - WORD or word
end

local function argument(number, count, value)
    local got = (type(value) == 'number' or type(value) == 'string') and tonumber(value)
    if not got then
        return error("bad argument #" .. number .. " to '?' (number expected, got "
                     .. (number > count and 'no value' or type(value)) .. ')', 0)
    end
    return unsigned(got)
end

-- Table of an operation's results for all pairs of 4-bit numbers, at index 16 * a + b.
local function by_nibbles(operation)
    local results = {}
    for a = 0, 15 do
        for b = 0, 15 do
            local result = 0
            for power = 0, 3 do
                local weight = 2^power
                if operation(floor(a / weight) % 2, floor(b / weight) % 2) then
                    result = result + weight
                end
            end
            results[16 * a + b] = result
        end
    end
    return results
end

local function folding(operation)
    local results = by_nibbles(operation)
    return function(...)
        local count = select('#', ...)
        local word = argument(1, count, (...))
        for number = 2, count do
            local other = argument(number, count, (select(number, ...)))
            local made, weight = 0, 1
            for _ = 1, 8 do
                local a, b = word % 16, other % 16
                made = made + results[16 * a + b] * weight
                word, other, weight = (word - a) / 16, (other - b) / 16, weight * 16
            end
            word = made
        end
        return signed(word)
    end
end
bit.band = folding(function(a, b) return a + b == 2 end)
bit.bor = folding(function(a, b) return a + b > 0 end)
bit.bxor = folding(function(a, b) return a ~= b end)

local function shifting(shift)
    return function(...)
        local count = select('#', ...)
        local word, by = argument(1, count, (...)), argument(2, count, (select(2, ...))) % 32
        return signed(shift(word, by))
    end
end
local function shift_left(word, by)
    return word % 2^(32 - by) * 2^by
end
local function shift_right(word, by)
    return floor(word / 2^by)
end
bit.lshift, bit.rshift = shifting(shift_left), shifting(shift_right)
bit.arshift = shifting(function(word, by)
    return floor(signed(word) / 2^by) % WORD
end)
local function rotate_left(word, by)
    return shift_left(word, by) + shift_right(word, 32 - by)
end
bit.rol = shifting(rotate_left)
bit.ror = shifting(function(word, by)
    return by == 0 and word or rotate_left(word, 32 - by)
end)

function bit.tobit(...)
    return signed(argument(1, select('#', ...), (...)))
end

function bit.bnot(...)
    return signed(WORD - 1 - argument(1, select('#', ...), (...)))
end

function bit.bswap(...)
    local word, made = argument(1, select('#', ...), (...)), 0
    for _ = 1, 4 do
        made = made * 256 + word % 256
        word = floor(word / 256)
    end
    return signed(made)
end

-- The lowest hexadecimal digits of a number; a negative count gives upper case.
function bit.tohex(...)
    local count = select('#', ...)
    local word, digits = argument(1, count, (...)), 8
    if count > 1 then
        digits = signed(argument(2, count, (select(2, ...))))
    end
    local text = format(digits < 0 and '%08X' or '%08x', word)
    digits = digits < 0 and -digits or digits
    return digits > 254 and rep('0', 246) .. text or digits > 8 and rep('0', digits - 8) .. text
        or digits == 0 and '' or sub(text, -digits)
end
_G.bit = bit
