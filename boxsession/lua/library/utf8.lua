-- The module utf8, which is a global, too. Behaviour and messages: Tarantool 2.6, which uses the library ICU. Here Python has
-- the tables of Unicode; cmp() and casecmp() follow ICU's order for most characters (boxsession/values/collation.py).
-- Needs: kernel/task, library/modules
local internal, CASE, CATEGORY, COLLATE = ...
local raw, task = internal.raw, internal.task
local byte, char, error, floor, format, select, sub, tonumber, type = raw.byte, raw.char, raw.error, raw.floor, raw.format,
    raw.select, raw.sub, raw.tonumber, raw.type
local join = table.concat           -- the users' one, which can be interrupted

local utf8 = {}
internal.modules.utf8, _G.utf8 = utf8, utf8

-- Bytes that a port gets at once, and the longest text that cmp() takes.
local PIECE, COMPARED_MAX = 2^14, 2^14

local function text_argument(usage, value)
    if type(value) == 'number' then
        return value .. ''
    elseif type(value) ~= 'string' then
        return error('Usage: ' .. usage, 0)
    end
    return value
end

-- An optional whole number; fractions are cut off.
local function number_argument(place, value, default)
    if value == nil and default then
        return default
    end
    local number = (type(value) == 'number' or type(value) == 'string') and tonumber(value)
    if not number or number ~= number or number == raw.huge or number == -raw.huge then
        return error(format("bad argument #%d to '?' (number expected, got %s)", place, type(value)), 0)
    end
    return number < 0 and -floor(-number) or floor(number)
end

-- By the first byte from 0xe0 on: the lowest and highest second byte that is allowed.
local function second_range(first)
    if first == 0xe0 then
        return 0xa0, 0xbf
    elseif first == 0xed then
        return 0x80, 0x9f
    elseif first == 0xf0 then
        return 0x90, 0xbf
    elseif first == 0xf4 then
        return 0x80, 0x8f
    end
    return 0x80, 0xbf
end

-- The character at a position: its code, nil if it is invalid, and the position behind it. An incomplete sequence counts as
-- one invalid character.
local function decoded(text, at)
    local first = byte(text, at)
    if first < 0x80 then
        return first, at + 1
    elseif first < 0xc2 or first > 0xf4 then
        return nil, at + 1
    end
    local low, high = second_range(first)
    local more = first < 0xe0 and 1 or first < 0xf0 and 2 or 3
    local code = first - (more == 1 and 0xc0 or more == 2 and 0xe0 or 0xf0)
    for index = 1, more do
        local part = byte(text, at + index)
        if not part or part < low or part > high then
            return nil, at + index
        end
        code, low, high = code * 64 + part - 0x80, 0x80, 0xbf
    end
    return code, at + more + 1
end

-- Counts characters between two bytes. Returns nil and a position if one is invalid.
function utf8.len(...)
    local text, from, to = ...
    text = text_argument('utf8.len(<string>, [i, [j]])', text)
    from, to = number_argument(2, from, 1), number_argument(3, to, -1)
    from = from < 0 and from + #text + 1 or from
    to = to < 0 and to + #text + 1 or to
    if from < 1 or from > #text + 1 or to > #text then
        return nil, 'position is out of string'
    end
    local count = 0
    while from <= to do
        local code
        code, from = decoded(text, from)
        if not code then
            return nil, from - 1
        end
        count = count + 1
    end
    return count
end

-- The position behind the character at a byte, and its code.
function utf8.next(...)
    local text, at = ...
    text, at = text_argument('utf8.next(<string>, [<byte offset>])', text), number_argument(2, at, 1)
    if at < 0 then
        at = at + #text + 1
    end
    at = at < 1 and 1 or at
    if at > #text then
        return
    end
    local code, behind = decoded(text, at)
    if code then
        return behind, code
    end
end

-- The characters from..to, counted from 1, or from the end.
function utf8.sub(...)
    local text, from, to = ...
    if select('#', ...) < 2 or type(text) ~= 'string' then
        return error('Usage: utf8.sub(<string>, [i, [j]])', 0)
    end
    from, to = number_argument(2, from), number_argument(3, to, -1)
    if from < 0 or to < 0 then
        local count, at, _ = 0, 1, nil
        while at <= #text do
            _, at = decoded(text, at)
            count = count + 1
        end
        from, to = from < 0 and from + count + 1 or from, to < 0 and to + count + 1 or to
    end
    from = from < 1 and 1 or from
    local index, at, first, _ = 1, 1, nil, nil
    while at <= #text and index <= to do
        if index == from then
            first = at
        end
        _, at = decoded(text, at)
        index = index + 1
    end
    return first and sub(text, first, at - 1) or ''
end

-- The bytes of a code; of a code that Unicode does not have, those that ICU makes of its lowest 32 bits.
local function encoded(code)
    code = code % 2^32
    local low, middle, high = code % 64, floor(code / 64) % 64, floor(code / 4096) % 64
    if code < 0x80 then
        return char(code)
    elseif code < 0x800 then
        return char(0xc0 + floor(code / 64), 0x80 + low)
    elseif code < 0x10000 then
        return char(0xe0 + high, 0x80 + middle, 0x80 + low)
    end
    local top = floor(code / 262144) % 256
    return char(top % 16 + 0xf0, 0x80 + high, 0x80 + middle, 0x80 + low)
end

function utf8.char(...)
    local count, codes, out = select('#', ...), {...}, {}
    if count == 0 then
        return error('Usage: utf8.char(<char code>', 0)
    end
    for index = 1, count do
        out[index] = encoded(number_argument(index, codes[index]))
    end
    return join(out)
end

-- Makes a function that tells whether a character, or a code, is of a category.
local CODE_MAX = 0x10ffff
local function classifier(name, pattern)
    utf8[name] = function(...)
        local value = ...
        if select('#', ...) == 0 then
            return error('Usage: utf8.' .. name .. '(<string> or <one symbol code>)', 0)
        end
        local code
        if type(value) == 'string' then
            local behind
            if value ~= '' then
                code, behind = decoded(value, 1)
            end
            if not code or behind <= #value then
                return false
            end
        else
            code = number_argument(1, value)
            if code < 0 or code > CODE_MAX then
                return false
            end
        end
        return raw.find(task.text(CATEGORY, code), pattern) ~= nil
    end
end
classifier('isalpha', '^L')
classifier('islower', '^Ll$')
classifier('isupper', '^Lu$')
classifier('isdigit', '^Nd$')

-- Where a piece that begins at `from` ends: before a character, and better behind a space, since a letter's form may depend
-- on those beside it.
local SPACE_WITHIN = 100
local function piece_end(text, from)
    local last = from + PIECE - 1
    if last >= #text then
        return #text
    end
    for at = last, last - SPACE_WITHIN, -1 do
        if byte(text, at) == 32 then
            return at
        end
    end
    for _ = 1, 3 do
        local following = byte(text, last + 1)
        if following < 0x80 or following >= 0xc0 then
            break
        end
        last = last - 1
    end
    return last
end

local function changer(name, operation)
    utf8[name] = function(text)
        text = text_argument('utf8.' .. name .. '(<string>)', text)
        local out, from = {}, 1
        while from <= #text do
            local last = piece_end(text, from)
            out[#out + 1] = task.text(CASE, operation .. sub(text, from, last))
            from = last + 1
            internal.look()
        end
        return join(out)
    end
end
changer('upper', 'u')
changer('lower', 'l')

local function comparer(name, operation)
    utf8[name] = function(...)
        local usage = 'utf8.' .. name .. '(<string1>, <string2>)'
        local one, other = ...
        one, other = text_argument(usage, one), text_argument(usage, other)
        if one == other then
            return 0
        elseif #one > COMPARED_MAX or #other > COMPARED_MAX then
            return error(format('utf8.%s: the text is too long (%d bytes, at most %d)', name,
                                #one > #other and #one or #other, COMPARED_MAX), 0)
        end
        local answer = task.block(COLLATE, operation .. #one .. ':' .. one .. other)
        internal.look()
        return answer
    end
end
comparer('cmp', 'c')
comparer('casecmp', 'i')
