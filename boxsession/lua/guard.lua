-- The standard library as users get it: what could crash, hang or leave the process is taken away or replaced.
--
-- Runs first. Trusted files take what they need from `raw` (kept in their locals), so nothing a user does to the
-- global table, or to a library table, can reach them.
local internal = ...

local raw = {
    assert = assert, collectgarbage = collectgarbage, error = error, getfenv = getfenv, getmetatable = getmetatable,
    loadstring = loadstring, next = next, newproxy = newproxy, pairs = pairs, ipairs = ipairs, pcall = pcall,
    rawequal = rawequal, rawget = rawget, rawset = rawset, select = select, setfenv = setfenv,
    setmetatable = setmetatable, tonumber = tonumber, tostring = tostring, type = type, unpack = unpack,
    xpcall = xpcall,
    byte = string.byte, char = string.char, find = string.find, format = string.format, gmatch = string.gmatch,
    gsub = string.gsub, lower = string.lower, match = string.match, rep = string.rep, sub = string.sub,
    concat = table.concat, insert = table.insert, remove = table.remove, sort = table.sort,
    floor = math.floor, huge = math.huge,
    co_create = coroutine.create, co_resume = coroutine.resume, co_running = coroutine.running,
    co_status = coroutine.status, co_yield = coroutine.yield,
    sethook = debug.sethook, traceback = debug.traceback, debug_getmetatable = debug.getmetatable,
    clock = os.clock, date = os.date, time = os.time,
}
internal.raw = raw

local error, find, gsub, loadstring, pcall, select, sub, type = raw.error, raw.find, raw.gsub, raw.loadstring,
    raw.pcall, raw.select, raw.sub, raw.type
local concat, unpack = raw.concat, raw.unpack

-- An error of a replaced function names the user's line, not ours: the C function is called again, its message
-- loses the position that points here and is raised from the caller's caller.
local BLAME_LEVEL = 3
local function strip_position(message)
    if type(message) ~= 'string' then
        return message
    end
    return (gsub(message, '^builtin/%w+%.lua:%d+: ', ''))
end
local function blame(func, ...)
    local ok, message = pcall(func, ...)
    if ok then
        return error('bad arguments', BLAME_LEVEL)
    end
    return error(strip_position(message), BLAME_LEVEL)
end
internal.blame = blame
internal.strip_position = strip_position

-- As a Lua function it is left by a tail call, so that `error('x')` typed alone has no position: LuaJIT's way.
function _G.error(message, level)
    return error(message, (level or 1) == 0 and 0 or (level or 1) + 1)
end

-- Bytecode is never loaded: PUC 5.1 does not verify it, so it reads and writes where it likes.
local BYTECODE = 27
local byte = raw.byte
local function load_text(text, name)
    if byte(text, 1) == BYTECODE then
        return nil, 'attempt to load a binary chunk (only text is allowed)'
    end
    return loadstring(text, name)
end
internal.load_text = load_text

function _G.loadstring(text, name)
    if type(text) == 'number' then
        text = text .. ''
    end
    if type(text) ~= 'string' or (name ~= nil and type(name) ~= 'string') then
        return blame(loadstring, text, name)
    end
    return load_text(text, name)
end

-- load() reads its pieces here: inside the C reader a switch to another session could not be allowed.
function _G.load(chunk, name)
    if type(chunk) == 'string' then
        return load_text(chunk, name or chunk)
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
    return load_text(concat(pieces), name or '=(load)')
end

-- lua_unpack of 5.1 computes the count in an int: a range wider than that walks off the stack.
local UNPACK_MAX = 1e6
function _G.unpack(list, first, last)
    if type(list) == 'table' and (first == nil or type(first) == 'number')
       and (last == nil or type(last) == 'number') then
        local from, to = first or 1, last or #list
        if to - from >= UNPACK_MAX then
            return error('too many results to unpack', 2)
        end
        if from >= -2^31 and to < 2^31 then
            return unpack(list, from, to)
        end
    end
    return blame(unpack, list, first, last)
end

-- table.insert of 5.1 shifts every element from a far position on, one by one: only a list's own positions are meant.
local insert = raw.insert
table.insert = function(list, ...)
    local count = select('#', ...)
    if type(list) == 'table' then
        if count == 1 then
            return insert(list, (...))
        end
        local position = ...
        if count == 2 and type(position) == 'number' and position >= 0 and position <= #list + 2^20 then
            return insert(list, ...)
        end
        if count == 2 and type(position) == 'number' then
            return error("bad argument #2 to 'insert' (position out of bounds)", 2)
        end
    end
    return blame(insert, list, ...)
end

-- The matcher of 5.1 recurses in C for each item of a pattern: a longer pattern would overflow the stack.
local PATTERN_MAX = 10000
for _, name in raw.ipairs({'find', 'match', 'gmatch', 'gsub'}) do
    local matcher = string[name]
    string[name] = function(text, pattern, ...)
        if type(text) == 'string' and type(pattern) == 'string' and #pattern <= PATTERN_MAX then
            return matcher(text, pattern, ...)
        end
        if type(pattern) == 'string' and #pattern > PATTERN_MAX then
            if name == 'find' and select(2, ...) then
                return matcher(text, pattern, ...)
            end
            return error('pattern is too long (' .. #pattern .. ' bytes, at most ' .. PATTERN_MAX .. ')', 2)
        end
        local text_type, pattern_type = type(text), type(pattern)
        if (text_type == 'string' or text_type == 'number')
           and (pattern_type == 'string' or pattern_type == 'number') then
            return matcher(text, pattern, ...)
        end
        return blame(matcher, text, pattern, ...)
    end
end

-- string.rep of LuaJIT takes a separator.
local rep = raw.rep
function string.rep(text, count, separator)
    if separator == nil then
        if type(text) == 'string' and type(count) == 'number' then
            return rep(text, count)
        end
        if text == nil and count == nil then
            return blame(rep)
        end
        return blame(rep, text, count)
    end
    if type(text) ~= 'string' or type(count) ~= 'number' or type(separator) ~= 'string' then
        return blame(rep, text, count)
    end
    if count < 1 then
        return ''
    end
    return rep(text .. separator, count - 1) .. text
end

-- LuaJIT words a missing argument of ipairs its own way, and tostring() of its functions is no business of ours.
local ipairs, sethook, traceback = raw.ipairs, raw.sethook, raw.traceback
function _G.ipairs(...)
    if select('#', ...) == 0 then
        return error("bad argument #1 to 'ipairs' (value expected)", 2)
    end
    if type((...)) ~= 'table' then
        return blame(ipairs, ...)
    end
    return ipairs((...))
end

-- Hash collisions aside, a collector is not a user's to stop: only what reads it, or runs it once, is left.
local collectgarbage = raw.collectgarbage
function _G.collectgarbage(option, ...)
    if option == 'count' then
        return collectgarbage('count')
    end
    if option == nil or option == 'collect' then
        collectgarbage('collect')
        return 0
    end
    if option == 'step' or option == 'stop' or option == 'restart' or option == 'setpause'
       or option == 'setstepmul' then
        return error("collectgarbage: only 'count' and 'collect' are allowed here", 2)
    end
    return blame(collectgarbage, option, ...)
end

_G.debug = {traceback = traceback}
_G.os = {clock = raw.clock, date = raw.date, time = raw.time, difftime = os.difftime}
for _, name in ipairs({'dofile', 'loadfile', 'io', 'module', 'package', 'newproxy', 'python', 'gcinfo'}) do
    _G[name] = nil
end
string.dump = nil
string.gfind = nil

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

local raw_type = raw.type
function _G.type(...)
    local name = raw_type(...)
    if name == 'userdata' and (...) == NULL then
        return 'cdata'
    end
    return name
end
