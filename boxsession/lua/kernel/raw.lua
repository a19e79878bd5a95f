-- Keeps the original functions of Lua's library. It runs first, before functions are removed or replaced for users.
--
-- Invariant: trusted code takes library functions from here, into local variables. So changes that users make to the global
-- table or to library tables cannot affect trusted code.
local internal = ...

local raw = {
    collectgarbage = collectgarbage, error = error, getfenv = getfenv, getmetatable = getmetatable,
    loadstring = loadstring, next = next, newproxy = newproxy, pairs = pairs, ipairs = ipairs, pcall = pcall,
    rawequal = rawequal, rawget = rawget, rawset = rawset, select = select, setfenv = setfenv,
    setmetatable = setmetatable, tonumber = tonumber, tostring = tostring, type = type, unpack = unpack,
    xpcall = xpcall,
    byte = string.byte, char = string.char, dump = string.dump, find = string.find, format = string.format, gmatch = string.gmatch,
    gsub = string.gsub, lower = string.lower, match = string.match, rep = string.rep, reverse = string.reverse,
    sub = string.sub, upper = string.upper,
    concat = table.concat, insert = table.insert, remove = table.remove, sort = table.sort,
    floor = math.floor, frexp = math.frexp, huge = math.huge, ldexp = math.ldexp, max = math.max,
    co_create = coroutine.create, co_resume = coroutine.resume, co_running = coroutine.running,
    co_status = coroutine.status, co_yield = coroutine.yield,
    getregistry = debug.getregistry, getinfo = debug.getinfo, sethook = debug.sethook, traceback = debug.traceback, debug_getmetatable = debug.getmetatable,
    debug_getfenv = debug.getfenv, debug_setfenv = debug.setfenv,
    clock = os.clock, date = os.date, time = os.time,
}
internal.raw = raw
