-- The string library as users get it. Work that takes long in C is done in Lua, or in steps between which other tasks can
-- run.
-- Needs: kernel/blame, kernel/pattern
local internal = ...
local raw, guard = internal.raw, internal.guard
local error, find, gsub, pcall, select, sub, type = raw.error, raw.find, raw.gsub, raw.pcall, raw.select, raw.sub, raw.type
local tonumber, unpack = raw.tonumber, raw.unpack
local blame, counted, looked, with_room, text_or_nil = guard.blame, guard.counted, guard.looked, guard.with_room,
    guard.text_or_nil
local WORK_MAX = guard.WORK_MAX
-- Longer texts take long in C: the clock is read afterwards.
local LONG_TEXT = 2^16

-- The C matcher of Lua 5.1 recurses for each item of a pattern, so a longer pattern would overflow the C stack. It cannot
-- be interrupted, so pattern.lua does the matches that could take it too long.
local PATTERN_MAX = 10000
local PLAIN_WORK_MAX = 2e7      -- bytes compared at worst: some 10 ms
local SHORT_TEXT = 2^8
local is_costly = internal.pattern.is_costly
for _, name in raw.ipairs({'find', 'match', 'gmatch', 'gsub'}) do
    local matcher, patient_matcher = string[name], internal.pattern[name]
    local every_start = name == 'gmatch' or nil
    string[name] = function(...)
        local text, pattern, start, plain = ...
        text, pattern = text_or_nil(text), text_or_nil(pattern)
        if type(text) ~= 'string' or type(pattern) ~= 'string' or (start ~= nil and name ~= 'gsub'
           and type(start) ~= 'number') then
            return blame(matcher, ...)
        end
        if name == 'find' and plain then
            if #text * #pattern > PLAIN_WORK_MAX then
                return patient_matcher(text, pattern, start, true)
            end
        elseif #pattern > PATTERN_MAX then
            return error('pattern is too long (' .. #pattern .. ' bytes, at most ' .. PATTERN_MAX .. ')', 2)
        elseif is_costly(#text, pattern, every_start) then
            return blame(patient_matcher, text, pattern, select(3, ...))
        elseif name == 'gsub' then
            local kind = type(start)
            if kind == 'string' and (#text + 1) * #start > WORK_MAX then
                return blame(patient_matcher, text, pattern, select(3, ...))
            elseif (kind == 'table' or kind == 'function') and #text > SHORT_TEXT then
                local replacement = counted(start)
                if #text > LONG_TEXT then
                    return looked(matcher(text, pattern, replacement, select(4, ...)))
                end
                return matcher(text, pattern, replacement, select(4, ...))
            end
        end
        if #text > LONG_TEXT then
            return looked(matcher(...))
        end
        return matcher(...)
    end
end

-- As Lua functions, these number their arguments in error messages as LuaJIT does, also if called as methods.
for _, name in raw.ipairs({'sub', 'byte'}) do
    local cut = string[name]
    string[name] = function(...)
        local text, from, to = ...
        if type(text) == 'string' and type(from) == 'number' and (to == nil or type(to) == 'number') then
            if #text > LONG_TEXT then
                return looked(cut(...))
            end
            return cut(...)
        end
        return blame(cut, ...)
    end
end

-- string.rep of C builds a long result byte by byte. Doubling in Lua is quick, and other tasks can run in between.
local REP_IN_C = 2^16
local LONG_PIECE = 2^22
local function join(one, other)
    return one .. other
end
local function joined(one, other)
    if #one + #other < LONG_PIECE then
        return one .. other
    end
    internal.look()
    return with_room(join, one, other)
end

-- Joins pieces[1..count], eight at a time, and empties the list. Each join copies its pieces once; other tasks can run in
-- between.
local function join_eight(a, b, c, d, e, f, g, h)
    return a .. (b or '') .. (c or '') .. (d or '') .. (e or '') .. (f or '') .. (g or '') .. (h or '')
end
local function join_all(pieces, count)
    while count > 1 do
        local made = 0
        for index = 1, count, 8 do
            made = made + 1
            local whole = with_room(join_eight, unpack(pieces, index, index + 7))
            for used = index, index + 7 do
                pieces[used] = nil
            end
            pieces[made] = whole
            internal.look()
        end
        count = made
    end
    return pieces[1] or ''
end
internal.pattern.join = join_all

local function repeated(text, count)
    count = raw.floor(count)
    if text == '' then
        return ''
    end
    if #text * count <= REP_IN_C then
        return raw.rep(text, count)
    end
    local made, power = '', text
    while true do
        if count % 2 == 1 then
            made = joined(made, power)
        end
        count = (count - count % 2) / 2
        if count == 0 then
            internal.look()
            return made
        end
        power = joined(power, power)
    end
end

-- string.rep takes a separator, as in LuaJIT.
local rep = raw.rep
local REP_MAX = 2^28
function string.rep(...)
    local text, count, separator = ...
    text, count, separator = text_or_nil(text), tonumber(count), text_or_nil(separator)
    if type(text) ~= 'string' or not count then
        return blame(rep, ...)
    end
    if separator ~= nil and type(separator) ~= 'string' then
        return error("bad argument #3 to 'rep' (string expected, got " .. type(separator) .. ')', 2)
    end
    -- Lua 5.1 truncates the count to 32 bits.
    if count * (#text + (separator and #separator or 0)) > REP_MAX or count ~= count or count > REP_MAX then
        return error('resulting string too large', 2)
    end
    if count < 1 then
        return ''
    end
    if separator == nil then
        return repeated(text, count)
    end
    return repeated(text .. separator, count - 1) .. text
end

-- string.format works piece by piece, as in LuaJIT: %s takes any value and keeps zero bytes, and %q writes control
-- characters as numbers. Parsed formats by their text: {is_simple, {text or specification, letter}...}. C's format can
-- write a simple one, if its arguments allow.
local format, tostring = raw.format, raw.tostring
local plans, plan_count = {}, 0
local PLANS_MAX, PLAN_LENGTH = 512, 200
local SPEC_MAX = 20             -- bytes of a specification; C takes at most 12 and reports an error for more

local function plan_of(text, values)
    local plan = plans[text]
    if plan then
        return plan
    end
    local is_long = #text > PLAN_LENGTH
    plan = {is_simple = not is_long}
    local count, from, specs = 0, 1, 0
    while not is_long or specs <= values do         -- the first one without a value raises
        local start = find(text, '%', from, true)
        if not start then
            break
        end
        local _, stop, letter = find(sub(text, start, start + SPEC_MAX - 1), '^%%[-+ #0-9.]*(.?)')
        stop = start + stop - 1
        count = count + 1
        plan[count] = {text = sub(text, from, start - 1)}
        if letter == '%' and stop == start + 1 then
            plan[count].text = plan[count].text .. '%'
        else
            count, specs = count + 1, specs + 1
            plan[count] = {spec = sub(text, start, stop), letter = letter}
            if letter == 'q' or letter == 'c' then
                plan.is_simple = false
            end
        end
        from = stop + 1
    end
    plan[count + 1] = {text = sub(text, from)}
    if not is_long then
        if plan_count >= PLANS_MAX then
            plans, plan_count = {}, 0
        end
        plans[text] = plan
        plan_count = plan_count + 1
    end
    return plan
end

local function padded(spec, text)
    local _, _, flags, width, precision = find(spec, '^%%([-+ #0]*)(%d*)%.?(%d*)')
    if find(spec, '.', 1, true) then
        text = sub(text, 1, tonumber(precision) or 0)
    end
    local missing = (tonumber(width) or 0) - #text
    if missing <= 0 then
        return text
    end
    return find(flags, '-', 1, true) and text .. raw.rep(' ', missing) or raw.rep(' ', missing) .. text
end

local function quoted_piece(text)
    text = gsub(gsub(text, '[\\"]', '\\%0'), '\n', '\\\n')
    text = gsub(text, '([%z\1-\9\11-\31\127])%f[%d]', function(letter)
        return format('\\%03d', raw.byte(letter))
    end)
    return (gsub(text, '[%z\1-\9\11-\31\127]', function(letter)
        return '\\' .. raw.byte(letter)
    end))
end

-- Works in steps, since gsub cannot be interrupted. The form of a control character depends on whether a digit follows it.
-- So a step sees a digit that follows it, and removes it from its result.
local QUOTE_STEP = 2^16
local function quoted(text)
    if #text <= QUOTE_STEP then
        return '"' .. quoted_piece(text) .. '"'
    end
    local pieces = {}
    for from = 1, #text, QUOTE_STEP do
        local following = sub(text, from + QUOTE_STEP, from + QUOTE_STEP)
        local is_digit = find(following, '%d')
        local piece = quoted_piece(sub(text, from, from + QUOTE_STEP - 1) .. (is_digit and following or ''))
        pieces[#pieces + 1] = is_digit and sub(piece, 1, -2) or piece
        internal.look()
    end
    return '"' .. join_all(pieces, #pieces) .. '"'
end

local function formatted_piece(piece, number, count, value)
    local letter = piece.letter
    if number > count then
        return error("bad argument #" .. number .. " to 'format' (no value)", 3)
    end
    if letter == 's' and #piece.spec < 10 then
        if type(value) ~= 'string' then
            value = tostring(value)
            if type(value) ~= 'string' then
                return error("'tostring' must return a string to 'format'", 3)
            end
        end
        return padded(piece.spec, value)
    elseif letter == 'q' and piece.spec == '%q' then
        return quoted(tostring(value))
    elseif letter == 'c' and type(value) == 'number' then
        return padded(piece.spec, raw.char(value % 256))
    end
    local ok, text = pcall(format, piece.spec, value)
    if not ok then
        text = gsub(gsub(text, '^builtin/[%w_]+%.lua:%d+: ', ''), "argument #%d+ to '[^']*'",
                    "argument #" .. number .. " to 'format'")
        text = internal.cdata[value] and gsub(text, 'got userdata', 'got cdata') or text
        return error(text, 3)
    end
    return text
end

-- Longer strings do not go through C's format, which cannot get more memory than user code may allocate at once.
local FORMAT_MAX = 2^16
function string.format(...)
    local text = ...
    if type(text) ~= 'string' then
        return blame(format, ...)
    end
    local count = select('#', ...)
    local plan = plan_of(text, count - 1)
    local is_simple = plan.is_simple
    for index = 2, count do
        local value = select(index, ...)
        local kind = type(value)
        if kind ~= 'number' and (kind ~= 'string' or #value > FORMAT_MAX or find(value, '\0', 1, true)) then
            is_simple = false
        end
    end
    if is_simple then
        return blame(format, ...)
    end
    local pieces, number = {}, 1
    for index = 1, #plan do
        local piece = plan[index]
        if piece.text then
            pieces[index] = piece.text
        else
            number = number + 1
            pieces[index] = formatted_piece(piece, number, count, (select(number, ...)))
        end
    end
    return join_all(pieces, #pieces)
end

internal.format = string.format     -- before users can replace it

local CONVERT_STEP = 2^18
local function in_steps(convert, text, is_backwards)
    local pieces, count, length = {}, 0, #text
    for from = 1, length, CONVERT_STEP do
        count = count + 1
        if is_backwards then
            pieces[count] = convert(sub(text, -from - CONVERT_STEP + 1, -from))
        else
            pieces[count] = convert(sub(text, from, from + CONVERT_STEP - 1))
        end
        internal.look()
    end
    return join_all(pieces, count)
end
for _, name in raw.ipairs({'upper', 'lower', 'reverse'}) do
    local convert = string[name]
    string[name] = function(...)
        local text = ...
        if type(text) == 'string' and #text > CONVERT_STEP then
            return in_steps(convert, text, name == 'reverse')
        end
        return blame(convert, ...)
    end
end
