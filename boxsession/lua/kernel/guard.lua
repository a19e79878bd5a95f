-- The base, math, os and debug functions as users get them. Functions that could crash the process, block it or reach
-- outside it are removed or replaced.
-- Needs: kernel/blame, kernel/compiler, kernel/lists, kernel/strings
local internal = ...
local raw = internal.raw
local concat, error, find, loadstring, select, tonumber, type = raw.concat, raw.error, raw.find, raw.loadstring, raw.select,
    raw.tonumber, raw.type
local blame, text_or_nil = internal.guard.blame, internal.guard.text_or_nil

-- The call of the C function is a tail call, so `error('x')` as a whole statement has no position, as in LuaJIT.
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

-- As in LuaJIT: binary digits are accepted, a text with a zero byte is no number, and an integer object becomes the nearest
-- number.
local BITS_MAX = 64
local NUMBER_MAX = 2^16
function _G.tonumber(...)
    local text, base = ...
    if type(text) == 'userdata' and base == nil then
        return tonumber(internal.extension.digits(text) or text)
    elseif type(text) ~= 'string' then
        return blame(tonumber, ...)
    end
    if #text > NUMBER_MAX then
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

-- C converts all arguments to numbers without a look at the clock, so many long texts would take long. Texts longer than
-- any number are refused.
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

-- The compiler cannot be interrupted, and for some texts its time grows with the square of their length.
local CODE_MAX = 2^17
local load_text = internal.load_text
local function load_code(text, name)
    if #text > CODE_MAX then
        return nil, 'the code is too long (' .. #text .. ' bytes, at most ' .. CODE_MAX .. ')'
    end
    return load_text(text, name)
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

-- load() calls the reader function here, in Lua: inside the C reader no switch to another session is possible.
function _G.load(...)
    local chunk, name = ...
    chunk = text_or_nil(chunk)
    if type(chunk) == 'string' then
        return load_code(chunk, name or chunk)
    end
    if type(chunk) ~= 'function' then
        return error("bad argument #1 to 'load' (function expected, got "
                     .. (select('#', ...) == 0 and 'no value' or type(chunk)) .. ')', 2)
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

-- math.log takes a base, as in LuaJIT.
local log = math.log
function math.log(...)
    local value, base = ...
    if base == nil then
        return blame(log, ...)
    end
    return blame(log, value) / blame(log, base)
end

-- A date format is limited in length: C's time for each conversion, and the length of its result, are not known before.
local DATE_FORMAT_MAX = 2^12
local date = raw.date
local function bounded_date(...)
    local text = ...
    if type(text) == 'string' and #text > DATE_FORMAT_MAX then
        return error("bad argument #1 to 'date' (format of " .. #text .. ' bytes, at most ' .. DATE_FORMAT_MAX .. ')', 2)
    end
    return blame(date, ...)
end

-- LuaJIT has its own message for a missing argument of these.
for name, iterate in raw.pairs({ipairs = raw.ipairs, pairs = raw.pairs}) do
    _G[name] = function(...)
        if select('#', ...) == 0 then
            return error("bad argument #1 to '" .. name .. "' (value expected)", 2)
        end
        if type((...)) ~= 'table' then
            if internal.exposed.is_object((...)) then
                return internal.exposed[name]((...))
            end
            return blame(iterate, ...)
        end
        return iterate((...))
    end
end

-- Users must not stop or tune the garbage collector: they can only read the memory use and run a collection.
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

-- All strings share one metatable. Users get a copy, so they cannot change it. (They can add methods to `string`.)
raw.getmetatable('').__metatable = {__index = string}

-- box.NULL stands for nil inside a table. Its type is 'cdata', as in Tarantool.
local NULL = raw.newproxy(true)
local null_meta = raw.getmetatable(NULL)
null_meta.__tostring = function()
    return 'cdata<void *>: NULL'
end
null_meta.__metatable = false
internal.NULL = NULL

-- Objects whose type() is 'cdata', as in Tarantool. The value depends on the kind of object.
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
