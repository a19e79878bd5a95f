-- Functions that LuaJIT and Tarantool 2.6 add to the standard library: string.split and others, table.copy, dostring,
-- os.environ.
-- Needs: kernel/bit, kernel/guard, kernel/task
local internal, GETENV = ...
local raw = internal.raw
local byte, char, error, find, floor, format, getmetatable, gsub, max, next, rawget, rep, select, setmetatable, sub,
    tonumber, type = raw.byte, raw.char, raw.error, raw.find, raw.floor, raw.format, raw.debug_getmetatable,
    raw.gsub, raw.max, raw.next, raw.rawget, string.rep, raw.select, raw.setmetatable, raw.sub, raw.tonumber, raw.type
local reverse = raw.reverse
local find_text = string.find          -- the users' one, which can be interrupted
local string, table, os = string, table, os

-- string --------------------------------------------------------------------------------------------------------------

local function expect(number, name, expected, got)
    return error(format("bad argument #%d to 'string.%s' (%s expected, got %s)", number, name, expected, got), 3)
end

local function check_text(number, name, value)
    if type(value) ~= 'string' then
        return expect(number, name, 'string', type(value))
    end
end

-- The pieces of a text between separators; without a separator, between runs of white space.
function string.split(text, separator, most)
    if type(text) ~= 'string' then
        return expect(1, 'split', 'string', type(text))
    elseif separator ~= nil and type(separator) ~= 'string' then
        return expect(2, 'split', 'string', type(separator))
    elseif most ~= nil and (type(most) ~= 'number' or most < 0) then
        return expect(3, 'split', 'positive integer', type(most))
    elseif separator == '' then
        return expect(2, 'split', 'non-empty string', 'empty string')
    end
    local pieces, count, from = {}, 0, 1
    if separator == nil then
        from = find_text(text, '%S') or #text + 1
    end
    while from <= #text or separator do
        local start, stop
        if not most or count < most then
            if separator then
                start, stop = find_text(text, separator, from, true)
            else
                start, stop = find_text(text, '%s+', from)
            end
        end
        count = count + 1
        pieces[count] = sub(text, from, (start or 0) - 1)
        if not start then
            break
        end
        from = stop + 1
    end
    return pieces
end

-- strip removes white space, or the bytes of `chars`, from the left and right end of a text. Texts longer than this many
-- bytes are searched by C in steps, between which the clock is read.
local STRIP_STEP = 2^16

-- other_than: the pattern of a byte that is not in `members`. first_other, last_other: position of the first and last such
-- byte.
local function other_than(members)
    local set = '[^'
    for member in next, members do
        local letter = char(member)
        set = set .. (member == 0 and '%z' or find(letter, '%w') and letter or '%' .. letter)
    end
    return next(members) and set .. ']' or ''
end
local function first_other(text, pattern, first)
    for from = first, #text, STRIP_STEP do
        local at = find(sub(text, from, from + STRIP_STEP - 1), pattern)
        if at then
            return from + at - 1
        end
        internal.look()
    end
    return #text + 1
end
local function last_other(text, pattern, first, last)
    for to = last, first, -STRIP_STEP do
        local at = find(reverse(sub(text, max(first, to - STRIP_STEP + 1), to)), pattern)
        if at then
            return to - at + 1
        end
        internal.look()
    end
    return first - 1
end

local function stripper(name, left, right)
    return function(text, chars)
        check_text(1, name, text)
        local first, last = 1, #text
        local members
        if chars ~= nil and chars ~= internal.NULL then
            check_text(2, name, chars)
            members = {}
            for index = 1, #chars do
                members[byte(chars, index)] = true
            end
        else
            members = {[32] = true, [9] = true, [10] = true, [11] = true, [12] = true, [13] = true}
        end
        if last > STRIP_STEP then
            local pattern = other_than(members)
            first = left and first_other(text, pattern, first) or first
            last = right and last_other(text, pattern, first, last) or last
            return sub(text, first, last)
        end
        while left and first <= last and members[byte(text, first)] do
            first = first + 1
        end
        while right and last >= first and members[byte(text, last)] do
            last = last - 1
        end
        return sub(text, first, last)
    end
end
string.strip, string.lstrip, string.rstrip = stripper('strip', true, true), stripper('lstrip', true, false),
    stripper('rstrip', false, true)

-- A part of a text; negative positions count from its end.
local function part(name, text, from, to)
    for number, value in next, {[3] = from, [4] = to} do
        if type(value) ~= 'number' then
            return expect(number, name, 'integer', type(value))
        end
    end
    return sub(text, from, to)
end

function string.startswith(text, head, from, to)
    check_text(1, 'startswith', text)
    check_text(2, 'startswith', head)
    return sub(part('startswith', text, from or 1, to or -1), 1, #head) == head
end

function string.endswith(text, tail, from, to)
    check_text(1, 'endswith', text)
    check_text(2, 'endswith', tail)
    return tail == '' or sub(part('endswith', text, from or 1, to or -1), -#tail) == tail
end

local function to_hex(letter)
    return format('%02x', byte(letter))
end
function string.hex(text)
    check_text(1, 'hex', text)
    return (gsub(text, '.', to_hex))
end

local function from_hex(pair)
    return char(tonumber(pair, 16))
end
function string.fromhex(text)
    check_text(1, 'fromhex', text)
    if #text % 2 ~= 0 then
        return expect(1, 'fromhex', 'even amount of chars', 'odd amount')
    elseif find_text(text, '%X') then
        return expect(1, 'fromhex', 'hex string', 'non hex chars')
    end
    return (gsub(text, '..', from_hex))
end

-- Pads a text to a width. `share`: fraction of the padding that goes before the text.
local function filler(name, share)
    return function(text, width, letter)
        check_text(1, name, text)
        if type(width) ~= 'number' or width < 0 then
            return expect(2, name, 'positive integer', type(width))
        elseif letter ~= nil and (type(letter) ~= 'string' or #letter ~= 1) then
            return expect(3, name, 'char', type(letter))
        end
        letter = letter or ' '
        local missing = max(0, floor(width) - #text)
        local front = floor(missing * share)
        return rep(letter, front) .. text .. rep(letter, missing - front)
    end
end
string.ljust, string.rjust, string.center = filler('ljust', 0), filler('rjust', 1), filler('center', 0.5)

-- table ---------------------------------------------------------------------------------------------------------------

local function copied_by(value, name)
    local meta = getmetatable(value)
    return type(meta) == 'table' and rawget(meta, name) or nil
end

-- A shallow copy of a table, or the result of its metatable's __copy.
function table.copy(value)
    if type(value) ~= 'table' then
        return internal.exposed.is_object(value) and internal.exposed.copy(value) or value
    end
    local copy = copied_by(value, '__copy')
    if copy then
        return copy(value)
    end
    local made = {}
    for key, item in next, value do
        made[key] = item
    end
    return setmetatable(made, getmetatable(value))
end

local function deep_copy(value, known)
    if type(value) ~= 'table' then
        return value
    elseif known[value] then
        return known[value]
    end
    local copy = copied_by(value, '__copy')
    if copy then
        return copy(value)
    end
    local made = {}
    known[value] = made
    for key, item in next, value do
        made[deep_copy(key, known)] = deep_copy(item, known)
    end
    return setmetatable(made, getmetatable(value))
end

-- A deep copy. A table that occurs several times is copied once.
function table.deepcopy(value)
    if internal.exposed.is_object(value) then
        return internal.exposed.copy(value)
    end
    return deep_copy(value, {})
end

local function check_number(number, value, count)
    local got = tonumber(value)
    if not got or type(value) == 'boolean' then
        return error("bad argument #" .. number .. " to '?' (number expected, got "
                     .. (count and number > count and 'no value' or type(value)) .. ')', 3)
    end
    return got
end

-- An empty table. LuaJIT uses the sizes as a hint; PUC Lua cannot.
function table.new(...)
    local count = select('#', ...)
    local list, map = ...
    check_number(1, list, count)
    check_number(2, map, count)
    return {}
end

-- Removes all items of a table.
function table.clear(...)
    local list = ...
    if type(list) ~= 'table' then
        internal.exposed.refuse_change(list)
        return error("bad argument #1 to '?' (table expected, got "
                     .. (select('#', ...) == 0 and 'no value' or type(list)) .. ')', 2)
    end
    for key in next, list do
        list[key] = nil
    end
end

-- Copies list[first..last] to target[at..]. From INDEX_MAX on, a double cannot hold the next index.
local MOVE_MAX, INDEX_MAX = 1e7, 2^53
function table.move(list, first, last, at, target)
    if type(list) ~= 'table' then
        list = target ~= nil and internal.exposed.is_object(list) and internal.exposed.list(list) or list
    end
    if type(list) ~= 'table' then
        internal.exposed.refuse_change(list)
        return error("bad argument #1 to '?' (table expected, got " .. type(list) .. ')', 2)
    end
    first, last, at = check_number(2, first), check_number(3, last), check_number(4, at)
    target = target == nil and list or target
    if type(target) ~= 'table' then
        internal.exposed.refuse_change(target)
        return error("bad argument #5 to '?' (table expected, got " .. type(target) .. ')', 2)
    end
    if last < first then
        return target
    end
    if not (last - first <= MOVE_MAX and first > -INDEX_MAX and last < INDEX_MAX and at > -INDEX_MAX
            and at + last - first < INDEX_MAX) then
        return error('too many elements to move', 2)
    end
    local step = (target == list and at > first and at <= last) and -1 or 1
    local from, to = step == 1 and first or last, step == 1 and last or first
    for index = from, to, step do
        target[at + index - first] = list[index]
    end
    return target
end

-- Globals -------------------------------------------------------------------------------------------------------------

local load_string = loadstring          -- the users' one
function _G.dostring(text, ...)
    local func, problem = load_string(text)
    if not func then
        return error(problem, 0)
    end
    return func(...)
end

-- Memory use in KiB.
function _G.gcinfo()
    return floor(raw.collectgarbage('count'))
end

-- os ------------------------------------------------------------------------------------------------------------------

-- Environment variables that users may read: none of these contains a secret.
local VARIABLES = {'HOME', 'HOSTNAME', 'LANG', 'LC_ALL', 'LOGNAME', 'PATH', 'PWD', 'SHELL', 'TERM', 'TZ', 'USER'}

-- What os.setenv() has set, by name; false if it removed the variable. Only Lua sees this copy: a change of the process's
-- environment would reach the program's libraries and child processes, and C's setenv() is not safe beside other threads.
local changed = {}

-- The variables that users may read and that are set.
function os.environ()
    local found = {}
    for index = 1, #VARIABLES do
        local name = VARIABLES[index]
        found[name] = internal.task.text(GETENV, name) or nil
    end
    for name, value in next, changed do
        found[name] = value or nil
    end
    return found
end

function os.getenv(...)
    local name = ...
    if type(name) ~= 'string' and type(name) ~= 'number' then
        return error("bad argument #1 to 'getenv' (string expected, got "
                     .. (select('#', ...) == 0 and 'no value' or type(name)) .. ')', 2)
    end
    return os.environ()[name .. '']
end

-- As in C, a value ends before its first zero byte.
function os.setenv(name, value)
    if type(name) ~= 'string' or not find(name, '^[^=%z]+$') then
        return error("bad argument #1 to 'setenv' (name of a variable expected)", 2)
    elseif value ~= nil and value ~= internal.NULL and type(value) ~= 'string' then
        return error("bad argument #2 to 'setenv' (string expected, got " .. type(value) .. ')', 2)
    end
    changed[name] = type(value) == 'string' and raw.match(value, '^%Z*')
end
