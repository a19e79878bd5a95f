-- The standard library as users get it: what could crash, hang or leave the process is taken away or replaced.
-- Needs: kernel/compiler, kernel/pattern, kernel/raw
local internal = ...
local raw = internal.raw

local error, find, gsub, loadstring, pcall, select, sub, type = raw.error, raw.find, raw.gsub, raw.loadstring,
    raw.pcall, raw.select, raw.sub, raw.type
local concat, tonumber, unpack = raw.concat, raw.tonumber, raw.unpack

-- An error of a replaced function names the user's line, not ours: the C function is called again, its message loses the
-- position that points here and is raised from the caller's caller. Arguments that it takes after all (a number in a string)
-- are taken: so nothing may come here that is not safe to call.
local BLAME_LEVEL = 4      -- blamed, and the tail calls that led there from the replaced function
local byte, BUILTIN = raw.byte, raw.byte('builtin')
local function strip_position(message)
    if byte(message) ~= BUILTIN then
        return message
    end
    return (gsub(message, '^builtin/[%w_]+%.lua:%d+: ', ''))
end
internal.strip_position = strip_position

local function blamed(ok, ...)
    if ok then
        return ...
    end
    local message = ...
    if message == internal.OUT_OF_MEMORY then
        return error(message, 0)
    end
    return error(type(message) == 'string' and strip_position(message) or message, BLAME_LEVEL)
end
local function blame(func, ...)
    return blamed(pcall(func, ...))
end
internal.blame = blame

-- What a function of C does is bounded by the product of its arguments. Where that is more than some 5 ms, it is done in
-- Lua, where the clock is looked at.
local WORK_MAX = 2^20

-- A function of C, or a table, that a function of C asks for each of many items: in between no instruction would be counted.
local getinfo = raw.getinfo
local function counted(func)
    if type(func) == 'table' then
        return function(key)
            return func[key]
        end
    elseif type(func) == 'function' and getinfo(func, 'S').what == 'C' then
        return function(...)
            return func(...)
        end
    end
    return func
end

-- What takes long in C for itself: behind it the clock is looked at, however few instructions have passed.
local LONG_TEXT, LONG_LIST = 2^16, 2^12
local function looked(...)
    internal.look()
    return ...
end

-- What takes more at once than user code may: once more, with all the room that there is. Like pcall.
local function given_room(func, ok, result, ...)
    if not ok and result == internal.OUT_OF_MEMORY then
        internal.task.collect()
        return internal.task.with_all_room(func, ...)
    end
    return ok, result
end
local function with_room(func, ...)
    local ok, result = pcall(func, ...)
    return blamed(given_room(func, ok, result, ...))
end

-- As a Lua function it is left by a tail call, so that `error('x')` typed alone has no position: LuaJIT's way.
function _G.error(message, level)
    if level == nil then
        return error(message, 2)
    end
    local number = tonumber(level)
    if not number then
        return error("bad argument #2 to 'error' (number expected, got " .. type(level) .. ')', 2)
    end
    return error(message, number == 0 and 0 or number + 1)
end

function _G.assert(...)
    local value, message = ...
    if value then
        return ...
    end
    if select('#', ...) == 0 then
        return error("bad argument #1 to 'assert' (value expected)", 2)
    end
    if message ~= nil and type(message) ~= 'string' and type(message) ~= 'number' then
        return error("bad argument #2 to 'assert' (string expected, got " .. type(message) .. ')', 2)
    end
    return error(message == nil and 'assertion failed!' or raw.match(message, '^%Z*'), 0)
end

-- LuaJIT reads binary digits, and no number in a text with a zero byte.
local BITS_MAX = 64
local NUMBER_MAX = 2^16
function _G.tonumber(...)
    local text, base = ...
    if type(text) ~= 'string' then
        return blame(tonumber, ...)
    end
    if type((...)) == 'string' and #(...) > NUMBER_MAX then
        return nil
    end
    local number = blame(tonumber, ...)
    if find(text, '\0', 1, true) then
        return nil
    end
    if number == nil and (base == nil or base == 10) then
        local _, _, sign, bits = find(text, '^%s*([+-]?)0[bB]([01]+)%s*$')
        if bits and #bits <= BITS_MAX then
            return tonumber(bits, 2) * (sign == '-' and -1 or 1)
        end
    end
    return number
end

-- C reads each argument as a number without a pause between: so many long texts would take long. (No number is that long.)
local FEW_NUMBERS = 2
for _, place in raw.ipairs({{math, 'max'}, {math, 'min'}, {string, 'char'}}) do
    local library, name = place[1], place[2]
    local func = library[name]
    library[name] = function(...)
        local count = select('#', ...)
        if count > FEW_NUMBERS then
            local arguments = {...}
            for index = 1, count do
                local value = arguments[index]
                if type(value) == 'string' and #value > NUMBER_MAX then
                    return error('bad argument #' .. index .. " to '" .. name .. "' (number expected, got string)", 2)
                end
            end
        end
        return blame(func, ...)
    end
end

-- Compiling is not interrupted, and takes time with the square of some texts.
local CODE_MAX = 2^17
local load_text = internal.load_text
local function load_code(text, name)
    if #text > CODE_MAX then
        return nil, 'the code is too long (' .. #text .. ' bytes, at most ' .. CODE_MAX .. ')'
    end
    return load_text(text, name)
end

local function text_or_nil(value)
    return type(value) == 'number' and value .. '' or value
end

function _G.loadstring(...)
    local text, name = ...
    text, name = text_or_nil(text), text_or_nil(name)
    if type(text) == 'function' then
        return _G.load(text, name)
    end
    if type(text) ~= 'string' then
        return error("bad argument #1 to 'loadstring' (function expected, got "
                     .. (select('#', ...) == 0 and 'no value' or type(text)) .. ')', 2)
    elseif name ~= nil and type(name) ~= 'string' then
        return blame(loadstring, text, name)
    end
    return load_code(text, name)
end

-- load() reads its pieces here: inside the C reader a switch to another session could not be allowed.
function _G.load(chunk, name)
    chunk = text_or_nil(chunk)
    if type(chunk) == 'string' then
        return load_code(chunk, name or chunk)
    end
    if type(chunk) ~= 'function' then
        return error("bad argument #1 to 'load' (function expected, got " .. type(chunk) .. ')', 2)
    end
    local pieces, count = {}, 0
    while true do
        local piece = chunk()
        if piece == nil or piece == '' then
            break
        end
        if type(piece) ~= 'string' then
            return nil, 'reader function must return a string'
        end
        count = count + 1
        pieces[count] = piece
    end
    return load_code(concat(pieces), name or '=(load)')
end

-- unpack of 5.1 narrows both ends and their distance to an int, and walks off the stack where one of them wraps
-- (CVE-2025-46817): what goes there is in the range of an int, in order and not too much.
local UNPACK_MAX, INT_MIN, INT_MAX = 1e6, -2^31, 2^31 - 1
function _G.unpack(...)
    local list, first, last = ...
    if type(list) ~= 'table' then
        return blame(unpack, ...)
    end
    local from, to = tonumber(first or 1), tonumber(last or #list)
    if not from or not to then
        return blame(unpack, list, from or first, to or last)
    end
    if from > to then
        return
    end
    if not (from >= INT_MIN and to <= INT_MAX and to - from < UNPACK_MAX) then
        return error('too many results to unpack', 2)
    end
    return unpack(list, from, to)
end

-- table.insert of 5.1 shifts every element from a far position on, one by one: only a list's own positions are meant.
local INSERT_MIN = -2^12
local insert, rawget, rawset = raw.insert, raw.rawget, raw.rawset
local function truncated(number)
    return number < 0 and -raw.floor(-number) or raw.floor(number)
end
table.insert = function(...)
    local list, position = ...
    local count = select('#', ...)
    if type(list) == 'table' then
        if count == 2 then
            return insert(...)
        end
        local number = count == 3 and tonumber(position)
        if number then
            local length = #list
            if number >= INSERT_MIN and number <= length + 2^20 then
                if length - number > WORK_MAX then
                    number = truncated(number)
                    for index = length, number, -1 do
                        rawset(list, index + 1, rawget(list, index))
                    end
                    rawset(list, number, (select(3, ...)))
                    return
                elseif length > LONG_LIST then
                    return looked(insert(...))
                end
                return insert(...)
            end
            return error("bad argument #2 to 'insert' (position out of bounds)", 2)
        end
    end
    return blame(insert, ...)
end

-- The matcher of 5.1 recurses in C for each item of a pattern: a longer pattern would overflow the stack. What it could take
-- too long over, with nothing to interrupt it, goes to the one in Lua (pattern.lua).
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

-- As Lua functions these count arguments as LuaJIT does, also when they are called as methods.
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

-- string.rep in C puts a long result together byte by byte; doubled in Lua it is quick, and others get their turns.
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

-- Joins pieces[1..count], eight at a time: each join copies once, and in between others get their turns.
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

-- string.rep of LuaJIT takes a separator.
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
    -- 5.1 cuts the count to 32 bits.
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

-- string.format by pieces, since LuaJIT's %s takes any value, and zero bytes, and its %q writes control characters as
-- numbers. Formats by their text: {is_simple, {text or specification, letter}...}.
local format, tostring = raw.format, raw.tostring
local plans, plan_count = {}, 0
local PLANS_MAX, PLAN_LENGTH = 512, 200
local SPEC_MAX = 20             -- C takes at most 12 bytes, and says what is wrong with more

local function plan_of(text, values)
    local plan = plans[text]
    if plan then
        return plan
    end
    local is_long = #text > PLAN_LENGTH
    plan = {is_simple = not is_long}
    local count, from, specs = 0, 1, 0
    while not is_long or specs <= values do         -- beyond these, a value is missing
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

-- In steps, since gsub is not interrupted. What a control character becomes depends on the letter behind it: each step sees
-- one letter more, and gives it back.
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
        return error(text, 3)
    end
    return text
end

-- Longer strings are not copied by C's format: it knows nothing of what may be filled at once.
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

internal.format = string.format     -- as users had it at the start

-- LuaJIT's math.log takes a base.
local log = math.log
function math.log(...)
    local value, base = ...
    if base == nil then
        return blame(log, ...)
    end
    return blame(log, value) / blame(log, base)
end

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

local remove = raw.remove
table.remove = function(...)
    local list, position = ...
    if type(list) == 'table' and select('#', ...) > 1 and #list > LONG_LIST then
        local length, number = #list, tonumber(position)
        if number and number >= 1 and length - number > WORK_MAX then
            number = truncated(number)
            local value = rawget(list, number)
            for index = number, length - 1 do
                rawset(list, index, rawget(list, index + 1))
            end
            rawset(list, length, nil)
            return value
        end
        return looked(blame(remove, ...))
    end
    return blame(remove, ...)
end

-- table.concat and table.sort of long lists, in steps between which others get their turns.
local CONCAT_STEP, CONCAT_BYTES = 1024, 2^20
function table.concat(...)
    local list, separator, first, last = ...
    if type(list) ~= 'table' then
        return blame(concat, ...)
    end
    local from, to = first == nil and 1 or tonumber(first), last == nil and #list or tonumber(last)
    separator = separator == nil and '' or text_or_nil(separator)
    if type(separator) == 'string' and from and to then
        if from > to then
            return ''
        elseif not (from >= INT_MIN and to <= INT_MAX) then
            return error('invalid value (nil) at index ' .. INT_MIN .. " in table for 'concat'", 2)
        end
    end
    if type(separator) ~= 'string' or not from or not to
       or not (to - from > CONCAT_STEP or (to - from) * #separator > CONCAT_BYTES) then
        return with_room(concat, ...)
    end
    -- C puts separators in byte by byte: where they are long, few at a time.
    local step = raw.floor(CONCAT_BYTES / (#separator + 1))
    step = step > CONCAT_STEP and CONCAT_STEP or step < 1 and 1 or step
    local pieces, count = {}, 0
    for start = from, to, step do
        local stop = start + step - 1
        pieces[count + 1] = with_room(concat, list, separator, start, stop < to and stop or to)
        pieces[count + 2] = start + step <= to and separator or ''
        count = count + 2
        internal.look()
    end
    return join_all(pieces, count)
end
internal.concat = table.concat

local SORT_IN_C, LONG_ITEM = 4096, 2^10
-- Whether C sorts it soon: not many items, and none that takes long to compare. (Strings are compared with strings only.)
local function is_quick(list)
    local length = #list
    if length > SORT_IN_C then
        return false
    end
    if type(rawget(list, 1)) == 'string' then
        for index = 1, length do
            local item = rawget(list, index)
            if type(item) == 'string' and #item > LONG_ITEM then
                return false
            end
        end
    end
    return true
end

local sort = raw.sort
local function is_less(a, b)
    return a < b
end
function table.sort(...)
    local list, compare = ...
    if type(list) == 'table' and compare == nil then
        -- With a function in Lua the hook is asked now and then.
        return blame(sort, list, not is_quick(list) and is_less or nil)
    elseif type(compare) == 'function' then
        return blame(sort, list, counted(compare))
    end
    return blame(sort, ...)
end

local maxn = table.maxn
function table.maxn(...)
    local list = ...
    if type(list) ~= 'table' then
        return blame(maxn, ...)
    end
    local most = 0
    for key in raw.next, list do
        if type(key) == 'number' and key > most then
            most = key
        end
    end
    return most
end

-- A format is a line, not a file: what C takes for each conversion, and how long its result is, is not known before.
local DATE_FORMAT_MAX = 2^12
local date = raw.date
local function bounded_date(...)
    local text = ...
    if type(text) == 'string' and #text > DATE_FORMAT_MAX then
        return error("bad argument #1 to 'date' (format of " .. #text .. ' bytes, at most ' .. DATE_FORMAT_MAX .. ')', 2)
    end
    return date(...)
end

-- LuaJIT words a missing argument of these its own way.
for name, iterate in raw.pairs({ipairs = raw.ipairs, pairs = raw.pairs}) do
    _G[name] = function(...)
        if select('#', ...) == 0 then
            return error("bad argument #1 to '" .. name .. "' (value expected)", 2)
        end
        if type((...)) ~= 'table' then
            return blame(iterate, ...)
        end
        return iterate((...))
    end
end

-- Hash collisions aside, a collector is not a user's to stop: only what reads it, or runs it once, is left.
local collectgarbage = raw.collectgarbage
function _G.collectgarbage(option, ...)
    if option == 'count' then
        return collectgarbage('count')
    end
    if option == nil or option == 'collect' then
        internal.task.collect_now()
        return 0
    end
    if option == 'step' or option == 'stop' or option == 'restart' or option == 'setpause'
       or option == 'setstepmul' then
        return error("collectgarbage: only 'count' and 'collect' are allowed here", 2)
    end
    return blame(collectgarbage, option, ...)
end

_G.debug = {traceback = raw.traceback}
_G.os = {clock = raw.clock, date = bounded_date, time = raw.time, difftime = os.difftime}
for _, name in raw.ipairs({'dofile', 'loadfile', 'io', 'module', 'package', 'newproxy', 'python', 'gcinfo'}) do
    _G[name] = nil
end
string.dump = nil
string.gfind = nil
table.setn = nil
math.mod = nil

-- The metatable that all strings share can be read, not changed. (New methods go to `string`, as everywhere.)
raw.getmetatable('').__metatable = {__index = string}

-- box.NULL: a value that stands for nil inside a table. Its type is Tarantool's.
local NULL = raw.newproxy(true)
local null_meta = raw.getmetatable(NULL)
null_meta.__tostring = function()
    return 'cdata<void *>: NULL'
end
null_meta.__metatable = false
internal.NULL = NULL

-- Objects whose type is told as Tarantool's (where they are C data), with what belongs to them.
local cdata = raw.setmetatable({[NULL] = true}, {__mode = 'k'})
internal.cdata = cdata

local raw_type = raw.type
function _G.type(...)
    if select('#', ...) == 0 then
        return error("bad argument #1 to 'type' (value expected)", 2)
    end
    local name = raw_type((...))
    if name == 'userdata' and cdata[(...)] then
        return 'cdata'
    end
    return name
end
