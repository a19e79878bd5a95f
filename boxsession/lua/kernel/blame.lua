-- Helpers of the Lua functions that replace C functions: errors that name the user's line, looks at the clock after long
-- C functions, and room for large results.
-- Needs: kernel/raw
local internal = ...
local raw = internal.raw
local error, gsub, match, pcall, type = raw.error, raw.gsub, raw.match, raw.pcall, raw.type

-- blame(func, ...) calls a C function. If it raises, the message is raised again with the position of the user's call,
-- not of this file. The call can succeed even if the caller expects an error (for example, C converts a string to a
-- number). So the arguments must be safe for the C function.
local BLAME_LEVEL = 4      -- blamed(), and the tail calls that led here from the replacing function
local byte, BUILTIN = raw.byte, raw.byte('builtin')
local function strip_position(message)
    if byte(message) ~= BUILTIN then
        return message
    end
    return (gsub(message, '^builtin/[%w_]+%.lua:%d+: ', ''))
end
internal.strip_position = strip_position

-- The message with `cdata` for an object that users see as such; `one` and `two` are the first arguments. (More
-- than three parameters in front of `...` would be unsafe: see compiler.lua.)
local function with_cdata(message, one, two)
    local number = match(message, "^bad argument #([12]) to '[^']*' %(.* got userdata%)$")
    local value = number == '1' and one or number == '2' and two
    return value and internal.cdata[value] and (gsub(message, 'userdata%)$', 'cdata)')) or message
end

local function blamed(one, two, ok, ...)
    if ok then
        return ...
    end
    local message = ...
    if message == internal.OUT_OF_MEMORY then
        return error(message, 0)
    elseif type(message) == 'string' then
        message = with_cdata(strip_position(message), one, two)
    end
    return error(message, BLAME_LEVEL)
end
local function blame(func, ...)
    local one, two = ...
    return blamed(one, two, pcall(func, ...))
end
internal.blame = blame

-- Wraps a C function or a table that another C function will call or index for each of many items. Without the Lua function
-- in between, no VM instruction is counted and the hook is never called.
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

-- looked(func(...)) reads the clock after a long C function, however few instructions have passed.
local function looked(...)
    internal.look()
    return ...
end

-- If a call ran out of memory, collects garbage and calls it again with the whole memory limit, since user code may
-- normally allocate only a part of it at once. Returns as pcall does.
local function given_room(func, ok, result, ...)
    if not ok and result == internal.OUT_OF_MEMORY then
        internal.task.collect()
        return internal.task.with_all_room(func, ...)
    end
    return ok, result
end
local function with_room(func, ...)
    local ok, result = pcall(func, ...)
    local one, two = ...
    return blamed(one, two, given_room(func, ok, result, ...))
end

local function text_or_nil(value)
    return type(value) == 'number' and value .. '' or value
end

internal.guard = {
    blame = blame, counted = counted, looked = looked, with_room = with_room, text_or_nil = text_or_nil,
    -- Bound of a C function's work, as the product of its arguments' sizes: some 5 ms. Above it, Lua does the work, where
    -- the hook is called.
    WORK_MAX = 2^20,
}
