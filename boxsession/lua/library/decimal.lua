-- The module decimal: numbers of 38 decimal digits. Behaviour and messages: Tarantool 2.6. Python calculates
-- (boxsession/values/decimals.py). Decimals that come in msgpack are the same objects.
-- Needs: library/extension, library/modules
local internal, DECIMAL = ...
local raw, extension = internal.raw, internal.extension
local byte, concat, error, find, floor, format, gsub, huge, match, rep, select, sub, tonumber, type = raw.byte, raw.concat,
    raw.error, raw.find, raw.floor, raw.format, raw.gsub, raw.huge, raw.match, raw.rep, raw.select, raw.sub, raw.tonumber, raw.type

local decimal = {}
internal.modules.decimal = decimal

local CODE, TEXT_MAX = 1, 2^12
local state_of = extension.decimal_state

-- An operand as a text for Python; nil and what is wrong with it as argument `place`.
local function operand(value, place)
    local state = state_of(value)
    if state then
        return state.exact or state.text
    elseif type(value) == 'number' then
        value = format('%.15g', value)
    elseif type(value) ~= 'string' then
        value = extension.digits(value)
        if not value then
            return nil, 'expected decimal, number or string as ' .. place .. ' argument'
        end
    end
    if #value > TEXT_MAX or find(value, '[^%d.eE+-]') then
        return nil, 'incorrect value to convert to decimal as ' .. place .. ' argument'
    end
    return value
end

-- The result of an operation on texts; nil and an error message.
local function calculated(request)
    local answer = internal.task.text(DECIMAL, request)
    local exact, shown, data = match(answer, '^([^:]*):([^:]*):(.*)$')
    if exact then
        return extension.new_decimal(data, shown, exact)
    end
    local place = match(answer, '^incorrect:(%d)$')
    if place then
        return nil, 'incorrect value to convert to decimal as ' .. place .. ' argument'
    elseif answer == 'failed' then
        return nil, 'decimal operation failed'
    end
    return answer
end

-- The result of `a sign b`, of which one is a decimal; nil and an error message.
function extension.decimal_operation(sign, a, b)
    local left, problem = operand(a, 1)
    if not left then
        return nil, problem
    end
    local right
    right, problem = operand(b, 2)
    if not right then
        return nil, problem
    end
    return calculated(sign .. ':' .. left .. ':' .. right)
end
function extension.decimal_minus(value)
    return calculated('minus:' .. operand(value, 1))
end

for name, usage in raw.pairs({new = 'value', abs = 'decimal', exp = 'decimal', ln = 'decimal', log10 = 'decimal',
                              sqrt = 'decimal'}) do
    decimal[name] = function(...)
        if select('#', ...) == 0 then
            return error(format('usage: decimal.%s(%s)', name, usage), 2)
        end
        local made
        local text, problem = operand((...), 1)
        if text then
            made, problem = calculated(name .. ':' .. text)
        end
        if not made then
            return error(problem, 2)
        end
        return made
    end
end

-- These take only decimals.
for name, count in raw.pairs({precision = 1, scale = 1, trim = 1, round = 2, rescale = 2}) do
    decimal[name] = function(...)
        local value, scale = ...
        if select('#', ...) < count then
            return error(format('usage: decimal.%s(decimal%s)', name, count == 2 and ', scale' or ''), 2)
        elseif not state_of(value) then
            return error('expected ' .. (internal.cdata[value] and 'decimal' or 'cdata') .. ' as 1 argument', 2)
        end
        local request = name .. ':' .. operand(value, 1)
        if count == 2 then
            scale = (type(scale) == 'number' or type(scale) == 'string') and tonumber(scale) or 0
            scale = scale < 0 and -floor(-scale) or floor(scale)
            if not (scale >= 0 and scale < huge) then
                return value
            end
            request = request .. ':' .. format('%.0f', scale < TEXT_MAX and scale or TEXT_MAX)
        end
        local made, problem = calculated(request)
        if not made then
            return error(problem, 2)
        end
        return type(made) == 'string' and tonumber(made) or made
    end
end

function decimal.is_decimal(...)
    if select('#', ...) == 0 then
        return error('usage: decimal.is_decimal(value)', 2)
    end
    return state_of((...)) ~= nil
end

-- msgpack ---------------------------------------------------------------------------------------------------------------

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

-- Tarantool's decimals are packed BCD: two digits in a byte, and the sign in the last half byte. Returns the text, and a
-- text with an exponent.
extension.kinds[CODE] = function(data)
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
    sign = (sign == 'b' or sign == 'd') and '-' or ''
    local exact = sign .. text .. 'E' .. -scale
    text = gsub(text, '^0+', '')
    if text == '' then
        text = '0'
    end
    if scale > 0 then
        text = rep('0', scale + 1 - #text) .. text
        text = sub(text, 1, -scale - 1) .. '.' .. sub(text, -scale)
    elseif scale < 0 then
        text = text .. rep('0', -scale)
    end
    return sign .. text, exact
end
