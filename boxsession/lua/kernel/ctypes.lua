-- The names that LuaJIT has for objects of C types, and its errors for operations that they do not know.
-- Needs: kernel/guard
local internal = ...
local raw = internal.raw
local error, format, rawget, type = raw.error, raw.format, raw.rawget, raw.type
local cdata, NULL = internal.cdata, internal.NULL

local ctypes = {}
internal.ctypes = ctypes

-- By metatable: the name, or a function that gives the name of an object.
local names = raw.setmetatable({}, {__mode = 'k'})

-- The type of a value in an error message.
local function name_of(value)
    local kind = type(value)
    if kind ~= 'userdata' then
        return kind
    end
    local name = names[raw.debug_getmetatable(value)]
    if type(name) == 'function' then
        name = name(value)
    end
    return name or cdata[value] and 'cdata' or kind
end
ctypes.name_of = name_of

-- An error of arithmetic.
function ctypes.no_arithmetic(a, b)
    return format("attempt to perform arithmetic on '%s' and '%s'", name_of(a), name_of(b))
end

-- An error of a comparison.
function ctypes.no_comparison(a, b)
    return format("attempt to compare '%s' with '%s'", name_of(a), name_of(b))
end

local function no_arithmetic(a, b)
    return error(ctypes.no_arithmetic(a, b), 2)
end

local refusals = {
    __len = function(value)
        return error(format("attempt to get length of '%s'", name_of(value)), 2)
    end,
    __concat = function(a, b)
        return error(format("attempt to concatenate '%s' and '%s'", name_of(a), name_of(b)), 2)
    end,
    __lt = function(a, b)
        return error(ctypes.no_comparison(a, b), 2)
    end,
}
refusals.__le = refusals.__lt
for _, event in raw.ipairs({'__add', '__sub', '__mul', '__div', '__mod', '__pow', '__unm'}) do
    refusals[event] = no_arithmetic
end

-- Gives a metatable the errors of LuaJIT for what it does not define. `called`: the name if an object is called.
function ctypes.define(meta, name, called)
    names[meta] = name
    for event, refuse in raw.next, refusals do
        if rawget(meta, event) == nil then
            meta[event] = refuse
        end
    end
    if rawget(meta, '__call') == nil then
        function meta.__call(object)
            return error(format("'%s' is not callable", called or name_of(object)), 2)
        end
    end
end

-- The error for a field that an object does not have, for raw.error.
function ctypes.no_member(object, key)
    if type(key) == 'string' then
        return format("'%s' has no member named '%s'", name_of(object), key)
    end
    return format("'%s' cannot be indexed with '%s'", name_of(object), name_of(key))
end

-- box.NULL
local null_meta = raw.debug_getmetatable(NULL)
function null_meta.__index(object, key)
    return error(ctypes.no_member(object, key), 2)
end
null_meta.__newindex, null_meta.__metatable = null_meta.__index, 'ffi'
function null_meta.__lt()
    return false
end
function null_meta.__le()
    return true
end
ctypes.define(null_meta, 'void *', 'void')
