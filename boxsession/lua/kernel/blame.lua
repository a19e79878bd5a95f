-- What the functions that replace those of C share: whom an error blames, and what takes long in C.
-- Needs: kernel/raw
local internal = ...
local raw = internal.raw
local error, gsub, pcall, type = raw.error, raw.gsub, raw.pcall, raw.type

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

local function text_or_nil(value)
    return type(value) == 'number' and value .. '' or value
end

internal.guard = {
    blame = blame, counted = counted, looked = looked, with_room = with_room, text_or_nil = text_or_nil,
    -- What a function of C does is bounded by the product of its arguments. Where that is more than some 5 ms, it is done in
    -- Lua, where the clock is looked at.
    WORK_MAX = 2^20,
}
