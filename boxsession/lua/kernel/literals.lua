-- Literals of LuaJIT that Lua 5.1 does not know: integers of 64 bits (`1LL`, `0xffULL`) and binary numbers (`0b101`).
--
-- Used after the compiler refused a number. First each literal is replaced by a plain number: the compiler then finds all
-- other errors, with their positions. Then each becomes `names[i]`, where `names` is an upvalue of the code, so that no
-- global name is needed and the code's arguments stay.
-- Needs: kernel/compiler
local internal = ...
local raw = internal.raw
local byte, find, format, gsub, loadstring, lower, match, rep, sub, tonumber = raw.byte, raw.find, raw.format, raw.gsub,
    raw.loadstring, raw.lower, raw.match, raw.rep, raw.sub, raw.tonumber
local concat = raw.concat

local SUFFIXES = {ll = 'LL', ull = 'ULL', llu = 'ULL'}
local LONGEST = 2^12
local HEX_MAX, BINARY_MAX, DECIMAL_MAX = 16, 64, '18446744073709551615'

-- The type of a literal (`LL`, `ULL`, or `number` for a plain binary number) and its digits, as Python or tonumber reads them
-- (`101`, `0xff`); nil if Lua knows the token, or LuaJIT does not either.
local function kind_of(token)
    local text = lower(token)
    local suffix = SUFFIXES[sub(text, -3)] and sub(text, -3) or SUFFIXES[sub(text, -2)] and sub(text, -2) or ''
    local kind = SUFFIXES[suffix] or 'number'
    text = sub(text, 1, #text - #suffix)
    local prefix = sub(text, 1, 2)
    local digits
    if prefix == '0x' then
        digits = kind ~= 'number' and #text > 2 and match(text, '^0x0*(%x*)$')
        return digits and #digits <= HEX_MAX and kind, digits and '0x0' .. digits
    elseif prefix == '0b' then
        digits = #text > 2 and match(text, '^0b0*([01]*)$')
        if not digits or #digits > BINARY_MAX then
            return nil
        end
        digits = rep('0', BINARY_MAX - #digits) .. digits
        return kind, format('0x%08x%08x', tonumber(sub(digits, 1, 32), 2), tonumber(sub(digits, 33), 2))
    end
    digits = kind ~= 'number' and match(text, '^0*(%d*)$')
    if not digits or #digits > #DECIMAL_MAX or #digits == #DECIMAL_MAX and digits > DECIMAL_MAX then
        return nil
    end
    return kind, digits == '' and '0' or digits
end

-- Calls found(from, to, token) for each number of a text, outside of strings and comments. A token ends as in LuaJIT.
local QUOTE, APOSTROPHE, BRACKET, MINUS = byte('"\'[-', 1, 4)
local behind_literal = internal.behind_literal
local function each_number(text, found)
    local at = 1
    while at do
        at = find(text, '[%d"\'%[%-]', at)
        local first = at and byte(text, at)
        if not at then
            return
        elseif first == MINUS and byte(text, at + 1) ~= MINUS then
            at = at + 1
        elseif first == QUOTE or first == APOSTROPHE or first == BRACKET or first == MINUS then
            at = behind_literal(text, at, first)
        else
            local from, before = at, at > 1 and sub(text, at - 1, at - 1) or ''
            at = match(text, '^[%w_.\128-\255]*()', from)
            -- A digit inside of a name, or behind a dot that begins a number. Not: `a..1LL`.
            if find(before, '[%w_\128-\255.]') and not find(text, '^%.%.', from - 2) then
                at = match(text, '^[%w_\128-\255]*()', from)
            else
                -- A sign belongs to a number with an exponent.
                local exponent = find(text, '^0[xX]', from) and '^[pP][+-]' or '^[eE][+-]'
                while find(text, exponent, at - 1) do
                    at = match(text, '^[%w_.\128-\255]*()', at + 1)
                end
                if at > from + 1 then           -- longer than a digit
                    found(from, at - 1, sub(text, from, at - 1))
                end
            end
        end
    end
end

-- Literals of a text that need a replacement: lists of their first and last positions, types and digits. `plain`: the text
-- with a number for each.
local PLACEHOLDER, PLACEHOLDER_SHOWN = '0xaced%06d', "near '0xaced(%d%d%d%d%d%d)'"
local function literals_of(text)
    local list, pieces, at = {}, {}, 1
    each_number(text, function(from, to, token)
        local kind, digits = kind_of(token)
        if kind then
            list[#list + 1] = {from = from, to = to, kind = kind, digits = digits, token = token}
            pieces[#pieces + 1] = sub(text, at, from - 1)
            pieces[#pieces + 1] = kind == 'number' and digits or format(PLACEHOLDER, #list)
            at = to + 1
        end
    end)
    pieces[#pieces + 1] = sub(text, at)
    return list, concat(pieces)
end

-- The text with each literal as `name[i]`, and the values. Equal literals are one value.
local function with_values(text, list, name)
    local pieces, values, places, count, at = {}, {}, {}, 0, 1
    for index = 1, #list do
        local literal = list[index]
        pieces[#pieces + 1] = sub(text, at, literal.from - 1)
        at = literal.to + 1
        if literal.kind == 'number' then
            pieces[#pieces + 1] = literal.digits
        else
            local key = literal.kind .. literal.digits
            local place = places[key]
            if not place then
                count = count + 1
                place, places[key] = count, count
                values[count] = internal.extension.literal(literal.kind, literal.digits)
            end
            pieces[#pieces + 1] = name .. '[' .. place .. ']'
        end
    end
    pieces[#pieces + 1] = sub(text, at)
    return concat(pieces), values
end

-- Compiles a text that loadstring(text, name) refused with `message`. Returns what loadstring returns.
function internal.load_with_literals(text, name, message)
    if not find(message, ": malformed number near '", 1, true) then
        return nil, message
    end
    if #text > LONGEST then             -- the search is one operation, and takes up to 2.5 us for each byte
        return nil, format('%s (literals of 64 bits, such as 5LL, are only known in code of up to %d bytes: '
                           .. "write tonumber64('5'), or split the code)", message, LONGEST)
    end
    local list, plain = literals_of(text)
    if #list == 0 then
        return nil, message
    end
    name = name or text
    local chunk, problem = loadstring(plain, name)
    if not chunk then
        return nil, (gsub(problem, PLACEHOLDER_SHOWN, function(index)
            return "near '" .. list[tonumber(index)].token .. "'"
        end))
    elseif not internal.extension then
        return chunk                    -- nobody will run it: see compile_problem() of bridge.py
    end
    local values_name = 'literals'
    while find(text, values_name, 1, true) do
        values_name = values_name .. '_'
    end
    local rewritten, values = with_values(text, list, values_name)
    -- A vararg function hides a global `arg`, so the function is one only where it must be.
    local parameters = find(text, '...', 1, true) and '(...) ' or '() '
    chunk, problem = loadstring('local ' .. values_name .. ' = ... return function' .. parameters .. rewritten .. '\nend', name)
    if not chunk then
        return nil, problem
    end
    return chunk(values)
end
